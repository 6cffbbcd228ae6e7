"""What the pages show is what the commands print: `tests.pages` says how."""

from pathlib import Path

import pytest

from tests.pages import Desk, check
from tests.scan.repo import token

HISTORY = ("git init -q . && zopp init --no-recovery --project api --workspace acme --device alice-laptop -m start",)

KEY = "age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj"  # the example recipient of age's README
REVIEW = (
    "git init -q .",
    "zopp init --no-recovery --template team --project api --workspace acme --device alice-laptop -m start",
    "for e in production staging; do printf one | zopp set STRIPE_KEY -e $e -m stripe; done",
    f"printf '    - path_regex: ^conf/\\n      age: {KEY}\\n' >> .sops.yaml && git commit -qam rules",
    "mkdir -p ../bob && git clone -q . ../bob/shop",
    "export HOME=$PWD/../bob"
    "; zopp trust --genesis $(head -n1 .zopp/policy.jsonl | tr -d '\\n' | sha256sum | cut -c1-64)"
    " && zopp principal request --user bob --name bob-laptop > ../bob.request",
    "zopp principal add ../bob.request -m 'bob joins' && git checkout -q -b topic",
    "printf two | zopp set STRIPE_KEY -e production -m 'new key'; printf x | zopp set SMTP_PASS -e production -m smtp",
    "zopp grant bob read api/production -m 'bob reads production'",
)


DOTENV = (
    "git init -q .",
    "zopp init --no-recovery --template team --project api --workspace acme --device alice-laptop -m start",
    """cat > .env <<'END'
# the shop's own database
DATABASE_URL='postgres://db/shop'
SESSION_KEY=example-of-the-docs
SMTP_PASSWORD=pa$word
MAIL_FROM=Shop Team
STRIPE_KEY=changeme
END
cat > map.toml <<'END'
exclude = ["STRIPE_KEY"]

[rename]
SMTP_PASSWORD = "MAIL_PASSWORD"

[reading]
SMTP_PASSWORD = "docker"      # everything after the equals sign, as it stands
MAIL_FROM = "compose"
END
""",
)

# Bob, a user with one laptop, writes api and reads production.
TEAM = (
    "git init -q .",
    "zopp init --no-recovery --template team --project api --workspace acme --device alice-laptop -m start",
    "for k in DATABASE_URL STRIPE_KEY; do printf one | zopp set $k -e production -m $k; done",
    "printf dev | zopp set DATABASE_URL -m dev",
    "mkdir -p ../bob && git clone -q . ../bob/shop && cp ../home/.gitconfig ../bob/",
    "cd ../bob/shop && export HOME=$PWD/.."
    "; zopp trust --genesis $(head -n1 .zopp/policy.jsonl | tr -d '\\n' | sha256sum | cut -c1-64)"
    " && zopp principal request --user bob --name bob-laptop > ../../bob.request",
    "zopp principal add ../bob.request --yes -m bob && zopp grant bob write api -m 'bob writes'"
    " && zopp grant bob read api/production -m 'bob reads production'",
)

TOUR = (
    "git init -q .",
    "printf '%s\\n' '# issued by the mail team' SMTP_USER=shop SMTP_PASSWORD=hunter2-of-the-tour LOG_LEVEL=info > .env"
    "; printf '.env\\n' > .gitignore; git add .gitignore; git commit -qm ignore",
    "mkdir -p ../bob && git clone -q . ../bob/shop && cp ../home/.gitconfig ../bob/",
    "cd ../bob/shop && export HOME=$PWD/.."
    "; zopp trust --genesis $(head -n1 .zopp/policy.jsonl | tr -d '\\n' | sha256sum | cut -c1-64)"
    " && zopp principal request --user bob --name bob-laptop > ../../bob.request",
)

SHOP = (
    "git init -q .",
    "zopp init --no-recovery --project shop --workspace acme --device alice-laptop -m start",
    "printf hello | zopp set GREETING -m greeting; mkdir ../old",
)
DOPPLER = (
    *SHOP,
    """cat > ../old/doppler.json <<'END'
{
  "DATABASE_URL": "postgres://shop:example@db.internal/shop",
  "DOPPLER_CONFIG": "prd",
  "DOPPLER_ENVIRONMENT": "prd",
  "DOPPLER_PROJECT": "shop",
  "HOME": "/srv",
  "SESSION_KEY": "example-session"
}
END
echo '{"Database:Url": "x"}' > ../old/d.json""",
)
INFISICAL = (
    *SHOP,
    """cat > ../old/infisical.json <<'END'
[{"key": "DATABASE_URL", "workspace": "6512f0", "value": "postgres://shop:example@db.internal/shop", "type": "shared",
  "_id": "65a1", "secretPath": "/", "tags": [], "comment": "the main database"},
 {"key": "SESSION_KEY", "workspace": "6512f0", "value": "example-mine", "type": "personal", "_id": "65a2",
  "secretPath": "/", "tags": [], "comment": ""}]
END""",
)
KUBERNETES = (
    *SHOP,
    """cat > ../old/secrets.yaml <<'END'
apiVersion: v1
kind: Secret
metadata: {name: db-main, namespace: prod}
stringData: {password: example-password}
---
apiVersion: v1
kind: Secret
metadata: {name: api, namespace: prod}
data: {keystore.jks: /u3+7QAAAAI=}  # zopp:allow made up
stringData: {SESSION_KEY: example-session}  # zopp:allow made up
---
apiVersion: bitnami.com/v1alpha1
kind: SealedSecret
metadata: {name: mail}
END
cat > import.toml <<'END'
[[route]]
from = "prod/api/*"
env = "production"
names = "field"

[[route]]
from = "*"
env = "production"
END""",
)
FILES = (
    *SHOP,
    """cat > ../old/config.yaml <<'END'
# shop

# the main database
DATABASE_URL: postgres://shop:example@db.internal/shop
mail:
  password: example-mail
  port: 587
PIN: 0123
ENABLED: yes
SINCE: 2024-01-01
END
printf '{"A": 1,\n "A": 2}' > ../old/a.json; printf 'key,value\nA,"x\n' > ../old/a.csv""",
)

GUARD = (
    *HISTORY,
    "printf 'postgres://shop:example@db.internal/shop' | zopp set DATABASE_URL -e production -m database",
    "zopp hooks install",
    f"printf 'import os\\n\\nTOKEN = \"{token()}\"\\n' > app.py; printf 'DB_PASSWORD=hunter2-of-the-shop\\n' > .env",
    "printf 'db:\\n    password: example\\n' > secrets/development.yaml; git add --all",
)

CLUSTER = (*SHOP, "printf 'postgres://db/live' | zopp set DATABASE_URL -e production -m database")

# What is run unseen before a block of a page.
BETWEEN: dict[str, dict[int, list[str]]] = {
    "docs/guard.md": {2: ["git reset -q && rm .env app.py secrets/development.yaml"]},
}

# page, what goes before, how many blocks it has at least
PAGES = [
    ("examples/kubernetes/README.md", CLUSTER, 1),
    ("docs/history.md", HISTORY, 6),
    ("docs/guard.md", GUARD, 2),
    ("docs/review.md", REVIEW, 3),
    ("docs/migration/dotenv.md", DOTENV, 4),
    ("docs/guides/incidents.md", TEAM, 2),
    ("docs/guides/people.md", TEAM, 1),
    ("docs/migration/doppler.md", DOPPLER, 3),
    ("docs/migration/infisical.md", INFISICAL, 2),
    ("docs/migration/kubernetes.md", KUBERNETES, 3),
    ("docs/migration/files.md", FILES, 5),
]


@pytest.mark.parametrize(("page", "setup", "least"), PAGES)
def test_the_page_is_true(tmp_path: Path, page: str, setup: tuple[str, ...], least: int) -> None:
    desk = Desk(tmp_path)
    for command in setup:
        desk.run(command)
    check(page, desk.run, least=least, before=BETWEEN.get(page), without="jq")
