"""`zopp import 1password` in a real repository: a 1PUX file, and an `op` on PATH that notes how it was started."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.pages import Desk, check
from tests.sources.onepassword_data import (
    CANARY,
    EVERY,
    PKCS8,
    VAULT,
    archive,
    export,
    field,
    item,
    login,
    login_field,
    op_field,
    op_item,
    section,
    shop,
    uuid,
    vault,
)
from tests.support import Done, Team, User
from zopp.cli.context import Context
from zopp.cli.importing import onepassword as flags, opcommand
from zopp.exchange.sources import onepassword, onepux


@pytest.fixture
def alice(tmp_path: Path) -> User:
    return Team.make(tmp_path).alice


def values(user: User, env: str = "dev") -> dict[str, str]:
    found: dict[str, str] = json.loads(user.ok("export", "--format", "json", "-e", env).out)
    del found["BASE"]
    return found


def silent(done: Done) -> Done:
    for text in (CANARY, PKCS8.splitlines()[1]):
        assert text not in done.text
    return done


# --- 1PUX


def test_a_1pux_file_needs_a_yes_and_a_second_import_changes_nothing(alice: User) -> None:
    alice.write("e.1pux", shop(login(uuid(1), "Shop DB"), login(uuid(2), "Mail", "m")))
    before = alice.tree()
    words = ("import", "1password", "e.1pux", "-e", "dev")
    plan = silent(alice.zopp(*words, code=2))
    assert "new      SHOP_DB  op://Shop/Shop DB/password" in plan.err
    assert "2 new, 4 skipped" in plan.err
    assert "this would import 2 keys in api/dev" in plan.err
    assert alice.tree() == before
    assert "new      MAIL" in silent(alice.ok(*words, "--dry-run")).out
    assert alice.tree() == before

    done = silent(alice.ok(*words, "--yes", "-m", "import"))
    assert "api/dev: 2 imported" in done.err
    assert "delete at the source: e.1pux (it may stay on the disk and in git's history)" in done.err
    assert "op://Shop/Shop DB/password, op://Shop/Mail/password (lay in plaintext in e.1pux)" in done.err
    assert values(alice) == {"SHOP_DB": CANARY, "MAIL": "m"}
    alice.ok("verify")

    here = alice.tree()
    again = silent(alice.ok(*words, "--yes", "-m", "again"))
    assert "api/dev: 0 imported, 2 unchanged (1 reader)" in again.err
    assert alice.tree() == here


def test_a_renamed_item_updates_the_key_that_it_made(alice: User) -> None:
    words = ("import", "1password", "e.1pux", "-e", "dev", "--yes")
    alice.write("e.1pux", shop(login(uuid(1), "Shop DB")))
    alice.ok(*words)
    alice.write("e.1pux", shop(login(uuid(1), "Storefront", "new")))
    plan = alice.ok(*words, "--dry-run").out
    assert "changed  SHOP_DB  op://Shop/Storefront/password" in plan
    alice.ok(*words)
    assert values(alice) == {"SHOP_DB": "new"}
    record = json.loads(alice.read(".zopp/provenance/api/dev.json"))
    assert record["keys"]["SHOP_DB"] == {"id": f"op://{VAULT}/{uuid(1)}/password", "kind": "1password", "version": ""}


def test_what_is_gone_is_pruned_and_what_is_left_out_is_not(alice: User) -> None:
    words = ("import", "1password", "e.1pux", "-e", "dev", "--yes")
    alice.write("e.1pux", shop(*[login(uuid(n), f"item {n}", f"v{n}") for n in range(1, 6)]))
    alice.ok(*words, "--with", "username")
    assert len(values(alice)) == 10
    alice.write(
        "e.1pux",
        shop(
            login(uuid(1), "item 1", "v1"),
            {**login(uuid(2), "item 2", "v2"), "state": "archived"},
            {**login(uuid(3), "item 3", "v3"), "trashed": True},
            login(uuid(4), "item 4", ""),
        ),
    )
    done = alice.ok(*words, "--prune")
    assert "0 imported, 2 removed" in done.err
    assert sorted(values(alice)) == [f"ITEM_{n}_{name}" for n in range(1, 5) for name in ("PASSWORD", "USERNAME")]
    alice.write("e.1pux", shop({"uuid": uuid(1), "details": CANARY}))
    silent(alice.zopp(*words, "--prune", "--partial", code=1))
    assert sorted({key[:6] for key in values(alice)}) == ["ITEM_1"]
    alice.write("e.1pux", shop({"details": CANARY}))
    done = silent(alice.zopp(*words, "--prune", "--partial", code=1))
    assert "not all of the source could be read" in done.err
    assert len(values(alice)) == 2


def test_one_bad_item_stops_everything_unless_it_is_left_out(alice: User) -> None:
    bad = {**login(uuid(1), "bad"), "details": {"sections": CANARY}}
    alice.write("e.1pux", shop(bad, login(uuid(2), "good")))
    words = ("import", "1password", "e.1pux", "-e", "dev", "--yes")
    before = alice.tree()
    done = silent(alice.zopp(*words, code=1))
    assert re.search(rf"^rejected +op://{VAULT}/{uuid(1)}  not-list$", done.err, re.MULTILINE)
    assert alice.tree() == before
    done = silent(alice.zopp(*words, "--partial", code=1))
    assert f"left out: op://{VAULT}/{uuid(1)} (not-list)" in done.err
    assert values(alice) == {"GOOD": CANARY}
    alice.ok(*words, "--exclude", f"{VAULT}/{uuid(1)}")


def test_an_item_may_be_a_whole_environment(alice: User) -> None:
    fields = (field("a", "Database URL", {"concealed": "x"}), field("b", "Key", {"concealed": "y"}))
    made = item(uuid(1), "live", section("", *fields))
    alice.write("e.1pux", shop(made, login(uuid(2), "Mail", "m")))
    alice.write(
        "map.toml",
        '[[route]]\nfrom = "Shop/live/*"\nenv = "prod"\nnames = "field"\n[rename]\n"Shop/Mail/password" = "SMTP"\n',
    )
    alice.ok("import", "1password", "e.1pux", "-e", "dev", "--map", "map.toml", "--yes")
    assert values(alice, "prod") == {"DATABASE_URL": "x", "KEY": "y"}
    assert values(alice) == {"SMTP": "m"}


def test_everything_may_be_taken_and_attachments_come_out_as_they_went_in(alice: User) -> None:
    content = bytes(range(256))
    made = item(uuid(1), "db", section("main", *[one for one, _ in EVERY]), notesPlain="a note")
    alice.write("e.1pux", shop(made, files={"doc1__scan.png": content}))
    done = alice.ok(
        "import", "1password", "e.1pux", "-e", "dev", "--with", "url,username", "--with", "string, note", "--files",
        "--yes",
    )  # fmt: skip
    silent(done)
    assert alice.child("get", "DB_SCAN", "-e", "dev", "--bytes").stdout == content
    assert values(alice)["DB_PRIVATE_KEY"] == PKCS8
    assert values(alice)["DB_NOTES"] == "a note"


def test_one_vault_of_a_file(alice: User) -> None:
    private = vault(login(uuid(2), "bank"), name="Private", id_="private")
    alice.write("e.1pux", archive(export(vault(login(uuid(1), "db", "x")), private)))
    words = ("import", "1password", "e.1pux", "-e", "dev", "--yes")
    done = silent(alice.ok(*words, "--vault", "Shop"))
    assert "bank" not in done.text
    assert values(alice) == {"DB": "x"}
    assert "has no vault of that name" in alice.zopp(*words, "--vault", "Shopp", code=1).err


@pytest.mark.parametrize(
    ("data", "rule"),
    [
        (CANARY.encode(), "not-zip"),
        (archive(f'{{"{CANARY}'.encode()), "not-json"),
        (archive([CANARY]), "structure"),
        (shop(login(uuid(1), "x"))[:-1], "not-zip"),
    ],
)
def test_a_file_that_is_none_is_refused_without_a_word_of_it(alice: User, data: bytes, rule: str) -> None:
    alice.write("e.1pux", data)
    before = alice.tree()
    for more in ((), ("--json",), ("--debug",), ("--partial",)):
        done = silent(alice.zopp("import", "1password", "e.1pux", "-e", "dev", "--yes", *more, code=1))
        assert f"[{rule}]" in done.text
    assert alice.tree() == before
    done = silent(alice.zopp("import", "1password", "-", "-e", "dev", "--yes", stdin=data, code=1))
    assert f"[{rule}]" in done.err


def test_a_value_is_in_nothing_that_is_said(alice: User) -> None:
    """Every flag, every outcome: a secret in each field, in an archived item, in the history, in a bad item."""
    full = item(
        uuid(1), "db", section("main", *[one for one, _ in EVERY]), notesPlain=CANARY, overview={"url": CANARY},
        passwordHistory=[{"value": CANARY, "time": 1}],
    )  # fmt: skip
    bad = item(uuid(2), "bad", section("", field("x", "x", {"concealed": [CANARY]})))
    old = {**login(uuid(3), "old"), "state": "archived"}
    alice.write(
        "e.1pux", shop(full, bad, old, login(uuid(4), "web", CANARY, CANARY), files={"doc1__a": CANARY.encode()})
    )
    every = ("--with", "url,username,string,note", "--files", "--archived")
    for more in ((), every, ("--json",), ("--debug", "--yes"), (*every, "--partial", "--yes", "--json")):
        silent(alice.zopp("import", "1password", "e.1pux", "-e", "dev", *more))
    alice.ok("verify")
    (alice.repo / "e.1pux").unlink()
    assert not [name for name, data in alice.tree().items() if CANARY.encode() in data]


def test_what_is_asked_for_wrongly_is_a_usage_error(alice: User) -> None:
    for words in ((), ("--with", "password", "e.1pux"), ("nowhere.1pux",), ("e.1pux", "more")):
        done = alice.zopp("import", "1password", *words, "-e", "dev", code=2)
        assert done.err.startswith("zopp: error: ")
    assert flags.EXTRA == onepassword.EXTRA


def test_the_file_that_was_read_is_offered_for_removal_and_no_other(
    alice: User, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export_file = tmp_path / "e.1pux"
    export_file.write_bytes(shop(login(uuid(1), "db")))
    alice.write("e.1pux", b"another")
    asked: list[str] = []

    def confirm(self: Context, question: str, *, otherwise: str) -> bool:
        asked.append(question)
        return True

    monkeypatch.setattr(Context, "interactive", lambda self: True)
    monkeypatch.setattr(Context, "confirm", confirm)
    done = silent(alice.ok("import", "1password", str(export_file), "-e", "dev"))
    assert asked == [
        "import 1 key, in api/dev?",
        f"remove {export_file} now? what it held may stay on the disk",
    ]
    assert not export_file.exists()
    assert alice.read("e.1pux") == b"another"
    # a path of this machine has no business in the repository
    assert str(tmp_path) not in done.err.replace(f"removed {export_file}", "")
    asked.clear()
    alice.ok("import", "1password", "-", "-e", "prod", stdin=shop(login(uuid(1), "db")))
    assert asked == ["import 1 key, in api/prod?"]


# --- op


@dataclass
class FakeOp:
    """The stand-in on PATH, what it answers, and how it was started."""

    folder: Path
    user: User

    def holds(self, *items: dict[str, Any], **more: Any) -> None:
        state = {"vault": VAULT, "items": items, **more}
        (self.folder / "state.json").write_text(json.dumps(state))

    def zopp(self, *words: str, env: dict[str, str] | None = None, code: int = 0) -> Done:
        path = f"{self.folder}{os.pathsep}{os.environ['PATH']}"
        return self.user.zopp(
            "import", "1password", *words, "-e", "dev", env={"PATH": path, **(env or {})}, code=code, stdin=CANARY
        )  # fmt: skip

    @property
    def calls(self) -> list[dict[str, Any]]:
        log = self.folder / "calls.jsonl"
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


@pytest.fixture
def op(alice: User, tmp_path: Path) -> FakeOp:
    folder = tmp_path / "op-bin"
    folder.mkdir()
    program = folder / "op"
    program.write_text(f"#!{sys.executable} -I\n" + (Path(__file__).parent / "fake_op.py").read_text())
    program.chmod(0o755)
    made = FakeOp(folder, alice)
    made.holds(DB, WEB)
    return made


DB = op_item(1, "Shop DB", op_field("password", "password", purpose="PASSWORD"), op_field("u", "user", "u", "STRING"))
WEB = op_item(2, "web", op_field("password", "password", "other", purpose="PASSWORD"))
ARCHIVED = {**op_item(3, "old", op_field("password", "password", "x")), "state": "ARCHIVED"}
# The password of an account, a service token and a session: what op needs, and what nobody else may see.
TOKEN = "ops_" + CANARY * 4


def test_a_vault_needs_a_yes_and_a_second_import_changes_nothing(op: FakeOp) -> None:
    alice = op.user
    before = alice.tree()
    plan = silent(op.zopp("--vault", "Shop", code=2))
    assert "new      SHOP_DB  op://Shop/Shop DB/password" in plan.err
    assert "1Password records what is read" in plan.err
    assert alice.tree() == before
    done = silent(op.zopp("--vault", "Shop", "--yes", "-m", "import"))
    assert "api/dev: 2 imported" in done.err
    assert "delete at the source: op://Shop/Shop DB/password, op://Shop/web/password" in done.err
    assert "plaintext" not in done.err
    assert values(alice) == {"SHOP_DB": CANARY, "WEB": "other"}
    here = alice.tree()
    silent(op.zopp("--vault", "Shop", "--yes", "-m", "again"))
    assert alice.tree() == here
    op.holds({**DB, "title": "Storefront", "fields": [op_field("password", "pass", "new")], "version": 4}, WEB)
    op.zopp("--vault", "Shop", "--yes")
    assert values(alice) == {"SHOP_DB": "new", "WEB": "other"}


def test_a_file_and_op_know_a_field_by_one_id(op: FakeOp) -> None:
    op.user.write("e.1pux", shop(login(uuid(1), "Shop DB"), login(uuid(2), "web", "other")))
    op.user.ok("import", "1password", "e.1pux", "-e", "dev", "--yes")
    here = op.user.tree()
    assert "0 imported" in op.zopp("--vault", "Shop", "--yes").err
    assert op.user.tree() == here


def test_op_is_started_with_no_value_and_no_variable_that_it_does_not_need(op: FakeOp) -> None:
    op.holds(DB, WEB, ARCHIVED, op_item(4, "doc", files=[{"id": "f1", "name": "a", "size": 2}]), files={
        f"op://{VAULT}/{uuid(4)}/f1": "00ff"
    })  # fmt: skip
    needed = {
        "OP_SERVICE_ACCOUNT_TOKEN": TOKEN, "XDG_DATA_HOME": "/x", "XDG_RUNTIME_DIR": "/y", "LC_ALL": "C.UTF-8",
        "HTTPS_PROXY": "http://127.0.0.1:1",
    }  # fmt: skip
    unneeded = {
        "AWS_SECRET_ACCESS_KEY": CANARY, "ZOPP_AGE_KEY": "", "GITHUB_TOKEN": CANARY, "LD_PRELOAD": "", "OP_DEBUG": "1",
        "OP_FORMAT": "human", "OP_INCLUDE_ARCHIVE": "true", "PYTHONPATH": "/z", "SOPS_AGE_KEY": "", "OPX": "x",
    }  # fmt: skip
    done = op.zopp("--vault", "Shop", "--files", "--with", "string", "--yes", env=needed | unneeded)
    assert values(op.user).keys() == {"SHOP_DB_PASSWORD", "SHOP_DB_USER", "WEB", "DOC"}
    silent(done)
    assert [call["argv"] for call in op.calls] == [
        ["item", "list", "--vault", "Shop", "--format", "json"],
        ["item", "list", "--vault", "Shop", "--format", "json", "--include-archive"],
        *[["item", "get", uuid(n), "--vault", "Shop", "--format", "json"] for n in (1, 2, 4)],
        ["read", "--no-newline", f"op://{VAULT}/{uuid(4)}/f1"],
    ]
    for call in op.calls:
        assert call["stdin"] == ""
        assert call["env"].items() >= needed.items()
        added = {"LC_CTYPE"}  # by the interpreter of the stand-in
        assert call["env"].keys() - added == needed.keys() | {"PATH", "HOME", "NO_COLOR"}
        rest = json.dumps({**call, "env": {**call["env"], "OP_SERVICE_ACCOUNT_TOKEN": ""}})
        assert CANARY not in rest
        assert "other" not in rest


# Where the standard error is cut off, in the middle of a value.
CUT = opcommand._MAX_ERRORS
FAILURES: list[tuple[str, dict[str, Any], int, str]] = [
    ("item list", {"err": "[ERROR] 2026/01/01 00:00:00 You are not currently signed in.\n"}, 3, "not signed in"),
    ("item list", {"err": "error initializing client: authorization prompt dismissed\n"}, 3, "op is locked"),
    ("item list", {"err": "[ERROR] x (429) Too Many Requests: retry in 58 minutes\n"}, 3, "no more requests"),
    ("item get " + uuid(2), {"err": "[ERROR] x (429) Too Many Requests: retry\n"}, 3, "no more requests"),
    ("item list", {"err": "[ERROR] x a vault query must be provided when called by a service account\n"}, 2, "--vault"),
    ("item list", {"code": 0, "out": f"Signed in. {CANARY}\n"}, 1, "[not-json]"),
    ("item get " + uuid(2), {"code": 0, "out": f"{{{CANARY}"}, 1, "not-json"),
    ("item get " + uuid(2), {"err": f'[ERROR] x "{uuid(2)}" isn\'t an item in the vault\n'}, 1, "gone"),
    ("item get " + uuid(2), {"err": f"[ERROR] x unexpected: {CANARY}, {TOKEN}\n"}, 3, "unexpected: […], […]"),
    ("item get " + uuid(2), {"err": "x\n" * (CUT // 2 - 4) + CANARY + "\n" * CUT}, 3, "op failed: x"),
]


@pytest.mark.parametrize(("at", "answer", "code", "words"), FAILURES)
def test_where_op_fails_nothing_is_written_and_nothing_is_shown(
    op: FakeOp, at: str, answer: dict[str, Any], code: int, words: str
) -> None:
    op.holds(DB, WEB, answers={at: {"code": 1, **answer}})
    before = op.user.tree()
    for more in ((), ("--json",), ("--debug",)):
        done = silent(
            op.zopp("--vault", "Shop", "--yes", *more, env={"OP_SERVICE_ACCOUNT_TOKEN": TOKEN}, code=code)
        )  # fmt: skip
        assert words in done.text
        assert CANARY[:8] not in done.text
    assert op.user.tree() == before


def test_what_is_denied_may_be_left_out(op: FakeOp) -> None:
    op.holds(DB, WEB, answers={"item get " + uuid(2): {"code": 1, "err": "[ERROR] x (403) Forbidden\n"}})
    done = silent(op.zopp("--vault", "Shop", "--yes", "--partial", code=1))
    assert f"left out: op://{VAULT}/{uuid(2)} (denied)" in done.err
    assert values(op.user) == {"SHOP_DB": CANARY}


def test_archived_items_are_not_pruned_and_deleted_ones_are(op: FakeOp) -> None:
    op.holds(DB, WEB, ARCHIVED)
    op.zopp("--vault", "Shop", "--archived", "--yes")
    assert values(op.user).keys() == {"SHOP_DB", "WEB", "OLD"}
    op.holds(DB, ARCHIVED)
    assert "1 removed" in op.zopp("--vault", "Shop", "--yes", "--prune").err
    assert values(op.user).keys() == {"SHOP_DB", "OLD"}
    op.holds({**DB, "fields": []})
    assert "1 removed" in op.zopp("--vault", "Shop", "--item", "Shop DB", "--yes", "--prune").err
    assert values(op.user).keys() == {"OLD"}


def test_an_unknown_vault_and_an_unknown_item_are_said(op: FakeOp) -> None:
    done = op.zopp("--vault", "Shopp", "--yes", code=1)
    assert "1password vault Shopp: op knows no such vault" in done.err
    assert "hint: op vault list" in done.err
    assert "does not have an item" in op.zopp("--vault", "Shop", "--item", "nope", "--yes", code=1).err
    op.holds(DB, {**WEB, "title": "Shop DB"})
    assert "say its id" in op.zopp("--vault", "Shop", "--item", "Shop DB", "--yes", code=2).err
    calls = len(op.calls)
    assert op.zopp("--vault", "--account", code=2).err.startswith("zopp: error: ")
    assert "op would read a name like this as an option" in op.zopp("--vault=--account", code=2).err
    assert len(op.calls) == calls


def test_an_op_that_does_not_answer_is_given_up(op: FakeOp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opcommand, "SECONDS", 0.5)
    op.holds(DB, answers={"item list": {"sleep": 60}})
    before = op.user.tree()
    assert "op did not answer within" in op.zopp("--vault", "Shop", "--yes", code=3).err
    assert op.user.tree() == before


def test_an_op_that_closes_its_outputs_and_does_not_end_is_given_up(
    op: FakeOp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opcommand, "SECONDS", 0.5)
    (op.folder / "op").write_text("#!/bin/sh\nexec >&- 2>&-\nexec sleep 60\n")
    assert "op did not answer within" in op.zopp("--vault", "Shop", "--yes", code=3).err


def test_an_op_that_says_too_much_is_given_up(op: FakeOp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opcommand, "_MAX_OUTPUT", 1000)
    op.holds(DB, answers={"item list": {"out": "[" + " " * 200_000}})
    assert "op says more than" in op.zopp("--vault", "Shop", "--yes", code=3).err
    monkeypatch.undo()
    op.holds(DB, answers={"item list": {"out": "[]", "err": "x" * 300_000}})
    assert "nothing to import" in op.zopp("--vault", "Shop", "--dry-run").out


def test_without_op_it_is_said_what_to_do(alice: User, tmp_path: Path) -> None:
    folder = tmp_path / "only-git"
    folder.mkdir()
    git = shutil.which("git")
    assert git is not None
    (folder / "git").symlink_to(git)
    # An op in the folder at hand is nobody's that PATH means, whatever PATH says of the folder at hand.
    for place in ("op", "bin/op"):
        alice.write(place, "#!/bin/sh\ntouch was-run\n")
        alice.path(place).chmod(0o755)
    for path in (f"{folder}", f".:{folder}", f":{folder}:", f"bin:{folder}"):
        done = alice.zopp("import", "1password", "--vault", "Shop", "-e", "dev", "--yes", env={"PATH": path}, code=3)
        assert "op, 1Password's command, is not on PATH" in done.err
        assert "hint: install it" in done.err
    assert not alice.path("was-run").exists()


def test_an_op_that_cannot_be_started_is_said(op: FakeOp) -> None:
    (op.folder / "op").write_text("#!/nowhere/at/all\n")
    assert "op cannot be started" in op.zopp("--vault", "Shop", "--yes", code=3).err


# --- docs/migration/1password.md

PAGE = Path(__file__).parents[2] / "docs/migration/1password.md"


def page_items() -> list[dict[str, Any]]:
    """The vault of the page."""
    database = (
        field("username", "username", {"string": "shop"}),
        field("password", "password", {"concealed": CANARY}),
        field("hostname", "server", {"string": "db.example"}),
    )
    key = field("private_key", "private key", {"sshKey": {"metadata": {"privateKey": PKCS8}}})
    return [
        item(uuid(1), "Shop DB", section("", *database), category="102"),
        item(
            uuid(2), "Payments", section("Live", field("k1", "key", {"concealed": "1"})),
            section("Test", field("k2", "key", {"concealed": "2"})), category="112",
        ),
        item(uuid(3), "Deploy key", section("", key), category="114"),
        login(uuid(4), "Mail", "mail"),
        item(
            uuid(5), "Admin", section("", field("otp", "one-time password", {"totp": "x"})),
            loginFields=[login_field("password", "y", kind="P")],
        ),
        {**login(uuid(6), "Old mail"), "state": "archived"},
    ]  # fmt: skip


def page_op_items() -> list[dict[str, Any]]:
    return [
        op_item(
            1, "Shop DB", op_field("username", "username", "shop", "STRING"), op_field("password", "password"),
            op_field("hostname", "server", "db.example", "STRING"),
        ),
        op_item(
            2, "Payments", op_field("k1", "key", "1", section={"id": "s", "label": "Live"}),
            op_field("k2", "key", "changed", section={"id": "t", "label": "Test"}),
        ),
        op_item(3, "Deploy key", op_field("private_key", "private key", PKCS8, "SSHKEY")),
        op_item(4, "SMTP", op_field("password", "password", "mail")),
        op_item(5, "Admin", op_field("password", "password", "y"), op_field("otp", "one-time password", "x", "OTP")),
    ]  # fmt: skip


def test_the_page_shows_what_the_commands_print(op: FakeOp) -> None:
    text = PAGE.read_text()
    alice = op.user
    alice.write(".gitignore", "*.1pux\nonepassword.toml\n")
    alice.write("onepassword.toml", text.partition("```toml\n")[2].partition("```")[0])
    private = vault(login(uuid(9), "bank"), name="Private", id_="private")
    alice.write("export.1pux", archive(export(vault(*page_items()), private)))
    op.holds(*page_op_items())
    desk = Desk.of(alice)
    desk.env["PATH"] = f"{op.folder}:{desk.env['PATH']}"

    def run(command: str) -> str:
        said = desk.run(command)
        silent(Done(0, said, ""))
        return said

    check("docs/migration/1password.md", run, least=7)
    alice.ok("verify")


def test_the_page_names_the_caps_and_kinds_that_there_are() -> None:
    text = " ".join(PAGE.read_text().split())
    assert f"more than {onepux.MAX_RATIO} times" in text
    assert f"more than {onepux.MAX_MEMBERS:,} members" in text
    assert f"more than {onepux.MAX_DATA >> 20} MiB" in text
    assert f"nested more than {onepassword.MAX_DEPTH} deep" in text
    assert f"within {opcommand.SECONDS:.0f} s" in text
    assert all(f"`--with {kind}`" in text for kind in onepassword.EXTRA)
