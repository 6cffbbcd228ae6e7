"""Keys that no example or schema file knows: a warning, and with --strict-schema a blocker."""

import json

import pytest

from tests.review.test_review import CANARY, codes, review
from tests.support import Team, User
from zopp.review import schema


@pytest.fixture
def alice(team: Team) -> User:
    """alice on branch `topic`; the base's .env.example knows BASE and db_user."""
    alice = team.alice
    alice.write(".env.example", f"# words\nBASE=\nexport db_user={CANARY}\n")
    alice.write("app.template.json", '{"x": 1}\n')  # of something else
    alice.share("example")
    alice.git("checkout", "-q", "-b", "topic")
    return alice


def told(found: dict[str, object]) -> list[tuple[str, str]]:
    return [(r["severity"], r["message"]) for r in found["remarks"] if r["code"] == "key.schema"]  # type: ignore[attr-defined]


def test_a_key_that_the_example_does_not_know(alice: User) -> None:
    alice.set("db.user", "u")
    alice.commit()
    assert told(review(alice, "--strict-schema", code=0)) == []
    alice.set("NEW", CANARY)
    alice.set("db.port", "1")
    alice.commit()
    assert told(review(alice, code=0)) == [("warning", "not in .env.example: db.port, NEW")]
    found = review(alice, "--strict-schema", code=1)
    assert told(found) == [("blocker", "not in .env.example: db.port, NEW")]
    alice.write(".env.example", alice.read(".env.example").decode() + "NEW=\ndb_port=\n")
    alice.commit()
    assert told(review(alice, "--strict-schema", code=0)) == []


def test_what_was_unknown_before_is_no_fault_of_the_branch(alice: User) -> None:
    alice.git("checkout", "-q", "main")
    alice.set("OLD", "x")
    alice.commit()
    alice.git("checkout", "-q", "-B", "topic")
    alice.set("BASE", "y")
    alice.commit()
    assert told(review(alice, "--strict-schema", code=0)) == []


@pytest.mark.parametrize("how", ["gone", "shrunk", "broken", "large", "link"])
def test_an_example_that_the_branch_takes_away(alice: User, how: str) -> None:
    """What the base's example knew and the head's does not is told, though no key changed."""
    alice.path(".env.example").unlink()
    if how == "shrunk":
        alice.write(".env.example", "db_user=\n")
    elif how == "broken":
        alice.write(".env.example", b"\x00\xff" + CANARY.encode() + b"\n=\n")
    elif how == "large":
        alice.write(".env.example", "BASE=\n" + "#" * (1 << 20))
    elif how == "link":
        alice.path(".env.example").symlink_to("/etc/hostname")
    alice.commit()
    found = review(alice, "--strict-schema", code=1)
    assert len(told(found)) == 3 and all("BASE" in message for _, message in told(found))  # one per environment


def test_strict_without_any_file_is_not_clean(team: Team) -> None:
    alice = team.alice
    alice.git("checkout", "-q", "-b", "topic")
    alice.set("NEW", CANARY)
    alice.commit()
    assert "key.schema" not in codes(review(alice, code=0), "warning")
    assert codes(review(alice, "--strict-schema", code=3), "unknown") == {"schema.none"}


SCHEMA = {"type": "object", "properties": {"NEW": {"type": "string"}, "db": {"properties": {"user": {}, "tags": {}}}}}


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("secrets/schema.json", json.dumps(SCHEMA)),
        ("secrets/dev.schema.json", json.dumps(SCHEMA)),
        ("secrets/dev.example.yaml", "NEW: changeme\ndb:\n  user: changeme\n  tags: [a]\n"),
        ("secrets/dev.yaml.template", "NEW: changeme\ndb:\n  user: changeme\n  tags: []\n"),
        ("secrets/example.dist.json", '{"NEW": "", "db": {"user": "", "tags": [1]}}'),
        ("secrets/.env.sample", "NEW=\ndb_user=\ndb_tags=\n"),
    ],
)
def test_every_form(alice: User, path: str, text: str) -> None:
    alice.write(path, text)
    alice.set("NEW", "x")
    alice.set("db.user", "x")
    alice.commit()
    assert told(review(alice, "--strict-schema", code=0)) == []
    alice.set("db.other", "x")
    alice.commit()
    assert [message.partition(": ")[2] for _, message in told(review(alice, "--strict-schema", code=1))] == ["db.other"]


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"properties":' * 2000 + "1" + "}" * 2000, '{"properties": [1]}', "null", CANARY]
)
def test_hostile_schemas_know_nothing(alice: User, text: str) -> None:
    alice.write("secrets/schema.json", text)
    alice.set("NEW", "x")
    alice.commit()
    ((severity, message),) = told(review(alice, code=0))
    assert severity == "warning" and message.startswith("not in .env.example, secrets/schema.json: NEW")


def test_a_list_is_known_as_a_whole() -> None:
    known = schema.Known(paths={("db", "tags")})
    assert known.knows((0, ("db", "tags", 0))) and known.knows((1, ("db", "tags", 3, "x")))
    assert not known.knows((0, ("db", "others", 0))) and not known.knows((0, ("db",)))
