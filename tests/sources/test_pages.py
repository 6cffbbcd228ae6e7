"""docs/migration: what the pages show is what the commands print, with the real sources. `tests.pages` says how.

The pages of files that anybody can make stand in tests/scripts/test_pages.py.
"""

from __future__ import annotations

import json
import shlex
import shutil
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests import tools
from tests.oracle.conftest import Oracle
from tests.pages import SHORT_COMMIT, Desk, check
from tests.scripts.test_pages import DOPPLER, INFISICAL
from tests.sources.made import AgeKey, DotenvxKey, dotenvx
from tests.sources.servers import Asked, Bao, Front, Reply
from tests.support import ROOT

START = "git init -q . && zopp init --no-recovery --project {} --workspace acme --device alice-laptop -m start"


def desk_of(base: Path, project: str = "shop", **env: str) -> Desk:
    made = Desk(base, env=env)
    made.run(START.format(project))
    (base / "old").mkdir()
    return made


def of_sops(desk: Desk, sops: Oracle) -> None:
    key = AgeKey()
    (desk.work / "../old/old.key").write_text(key.secret + "\n")
    plain = (
        "# the main database\nDATABASE_URL: postgres://shop:example@db.internal/shop\nmail:\n"
        "    password: example-mail\n    port: 587\n    hosts:\n        - a.example\n        - b.example\n"
    )
    (desk.work / "../old/secrets.enc.yaml").write_text(plain)
    desk.program("sops", f'SOPS_DISABLE_VERSION_CHECK=1 exec "{sops.binary}" "$@"')
    desk.run(f"cd ../old && sops encrypt --age {key.recipient} --in-place secrets.enc.yaml")


def of_dotenvx(desk: Desk, _: Oracle) -> None:
    key = DotenvxKey()
    values = {"DATABASE_URL": "postgres://shop:example@db.internal/shop", "PRICE": "pa$word"}
    data = dotenvx(key, values, suffix="_PRODUCTION", clear="REGION_PLAIN=eu-1\n").decode().partition("\n")[2]
    head = "#/---[DOTENV_PUBLIC_KEY]---/\n#/ public-key encryption /\n#/ how it works /\n#/---/\n"  # as long as its own
    (desk.work / "../old/.env.production").write_text(head + data)
    desk.env["KEY_OF_THE_TEST"] = key.private


def of_fnox(desk: Desk, _: Oracle) -> None:
    key = AgeKey()
    (desk.work / "../old/age.txt").write_text(key.secret + "\n")
    secret = '{} = {{ provider = "{}", value = "{}" }}\n'
    (desk.work / "../old/fnox.toml").write_text(
        'root = true\n[providers.age]\ntype = "age"\n'
        f'recipients = ["{key.recipient}"]\nkey_file = "age.txt"\n'
        '[providers.op]\ntype = "1password"\nvault = "Shop"\n'
        '[secrets]\nLOG_LEVEL = { default = "info" }\n'
        + secret.format("DATABASE_URL", "age", key.seal("postgres://shop:example@db.internal/shop"))
        + secret.format("STRIPE_KEY", "op", "Stripe/credential")
        + "[profiles.production.secrets]\n"
        + secret.format("DATABASE_URL", "age", key.seal("postgres://shop:example@db.internal/live"))
    )


def of_commands(*commands: str) -> Callable[[Desk, Oracle], None]:
    def made(desk: Desk, _: Oracle) -> None:
        for command in commands:
            desk.run(command)

    return made


# What is unseen: the key of the file lies nowhere in the first block, and beside it from then on.
KEYS = "printf 'DOTENV_PRIVATE_KEY_PRODUCTION=\"%s\"\\n' $KEY_OF_THE_TEST > ../old/.env.keys"
FILES = [
    ("sops", of_sops, 5, {1: ["printf hello | zopp set GREETING -m greeting"]}),
    ("dotenvx", of_dotenvx, 4, {2: [KEYS]}),
    ("fnox", of_fnox, 2, {}),
]


@pytest.mark.parametrize(("name", "make", "least", "before"), FILES, ids=[each[0] for each in FILES])
def test_the_page_of_a_file_is_true(
    tmp_path: Path, sops: Oracle, name: str, make: Any, least: int, before: dict[int, list[str]]
) -> None:
    desk = desk_of(tmp_path)
    make(desk, sops)
    check(f"docs/migration/{name}.md", desk.run, least=least, before=before, without="jq")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "make", "least", "before"),
    [
        *FILES,
        ("doppler", of_commands(*DOPPLER[1:2], "mkdir -p ../old", *DOPPLER[3:]), 4, {}),
        ("infisical", of_commands(*INFISICAL[1:2], "mkdir -p ../old", *INFISICAL[3:]), 3, {}),
    ],
)
def test_the_page_is_true_beside_the_real_tool(
    tmp_path: Path, sops: Oracle, name: str, make: Any, least: int, before: dict[int, list[str]]
) -> None:
    """With the blocks that compare by the tool itself and by jq."""
    assert shutil.which("jq") is not None, "jq is not installed, and the pages need it: apt-get install jq"
    desk = desk_of(tmp_path, NO_COLOR="1")
    make(desk, sops)
    desk.program("dotenvx", f'exec {shlex.join(tools.dotenvx())} "$@"')
    desk.program("fnox", f'exec {tools.fnox()} --no-daemon "$@"')
    check(f"docs/migration/{name}.md", desk.run, least=least, before=before)


def test_the_page_of_vault_is_true(tmp_path: Path, bao: Bao) -> None:
    bao.mount("kv", 2)
    for path, values in (
        ("api/production", {"DATABASE_URL": "postgres://shop:old@db.internal/shop", "stripe-key": "example-stripe"}),
        ("api/production", {"DATABASE_URL": "postgres://shop:new@db.internal/shop", "stripe-key": "example-stripe"}),
        ("api/production/mail", {"password": "example-mail", "port": 587}),
        ("api/production/old", {"a": "b"}),
        ("api/production/team/a", {"a": "b"}),
    ):
        bao.put("kv", path, values)
    bao.delete("kv", "api/production/old")
    rights = {
        "kv/data/api/*": ["read"], "kv/metadata/api/*": ["list"], "kv/metadata/api/production/team/*": ["deny"],
    }  # fmt: skip
    desk = desk_of(tmp_path, "api", VAULT_ADDR=bao.address, VAULT_TOKEN=bao.token(rights))
    swap = {"127.0.0.1:8200": f"127.0.0.1:{bao.port}"}
    check("docs/migration/vault.md", desk.run, least=4, more=[SHORT_COMMIT], swap=swap)


def test_the_page_of_aws_is_true(tmp_path: Path, aws: Any, front: Front) -> None:
    database = json.dumps({"username": "shop", "password": "example-db", "host": "db.internal", "port": 5432})
    secrets = {"prod/stripe-key": "old", "prod/db": database, "prod/leaving": "x", "dev/stripe-key": "x"}
    for name, value in secrets.items():
        aws.create_secret(Name=name, SecretString=value)
    aws.put_secret_value(SecretId="prod/stripe-key", SecretString="new")
    aws.create_secret(Name="prod/pending")
    aws.delete_secret(SecretId="prod/leaving", RecoveryWindowInDays=7)

    def after(asked: Asked, status: int, body: bytes) -> Reply:
        """moto knows no secret that a service owns."""
        if asked.action == "ListSecrets":
            page = json.loads(body)
            for row in page["SecretList"]:
                if row["Name"] == "prod/db":
                    row["OwningService"] = "rds"
            body = json.dumps(page).encode()
        return status, body

    front.after = after
    desk = desk_of(
        tmp_path, "api", AWS_ENDPOINT_URL_SECRETS_MANAGER=front.address, AWS_ACCESS_KEY_ID="test",
        AWS_SECRET_ACCESS_KEY="test", AWS_EC2_METADATA_DISABLED="true",
    )  # fmt: skip
    page = "docs/migration/aws-secrets-manager.md"
    map_file = (ROOT / page).read_text().partition("    [[route]]\n")
    (desk.work / "import.toml").write_text(textwrap.dedent("".join(map_file[1:]).partition("\n```")[0]))
    check(page, desk.run, least=3, more=[SHORT_COMMIT])
