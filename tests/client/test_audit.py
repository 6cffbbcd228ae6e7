"""The audit log on the command line: reading, exporting, witnessing, verifying (S60-S63, A22, A29)."""

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.client.conftest import Served
from tests.client.standin import Standin
from tests.support import ROOT, refused
from zopp.policy import canonical
from zopp.policy.names import Scope
from zopp.tlog import checkpoint, entry, merkle

NOTE = ".zopp/checkpoint"


@pytest.fixture
def busy(served: Served) -> Served:
    """A few changes, allowed and refused."""
    served.alice.ok("grant", "bob", "write", "api")
    served.team.sync("bob writes")
    served.bob.zopp("grant", "carol", "admin", "acme")
    served.alice.ok("env", "protect", "prod")
    served.alice.ok("grant", "carol", "auditor", "acme")
    served.team.sync("more")
    return served


def export(served: Served, name: str = "export.jsonl") -> Path:
    path = served.team.base / name
    served.alice.ok("audit", "export", "--out", str(path))
    return path


# --- reading


def test_s61_list_get_and_count_agree(busy: Served) -> None:
    rows = busy.alice.ok("audit", "list", "--action", "statement", "--limit", "500", "--json").json
    assert [row["index"] for row in rows] == sorted((row["index"] for row in rows), reverse=True)
    count = busy.alice.ok("audit", "count", "--action", "statement", "--json").json["count"]
    assert count == len(rows) > 10
    one = busy.alice.ok("audit", "get", str(rows[0]["index"]), "--json").json
    assert one["proven"]
    assert {**one, "proven": None} == {**rows[0], "proven": None}
    assert "flag.set" in busy.alice.ok("audit", "list", "--limit", "30").out


def test_s60_s61_who_may_read(busy: Served) -> None:
    """Admins and auditors; nobody else, and the refusal is recorded too (S60)."""
    assert busy.carol.ok("audit", "count").out.strip().isdigit()
    for user in (busy.bob, busy.ci):
        refused(user.zopp("audit", "list"), 1)
        refused(user.zopp("audit", "export"), 1)
    rows = busy.alice.ok("audit", "list", "--outcome", "deny", "--user", "bob", "--json").json
    assert {row["action"] for row in rows} == {"audit.read", "audit.export"}


def test_s62_filters(busy: Served) -> None:
    """Each is honoured, alone and combined."""
    alice = busy.alice
    for argv, wanted in (
        (("--action", "audit.read"), lambda row: row["action"] == "audit.read"),
        (("--outcome", "allow"), lambda row: row["outcome"] == "allow"),
        (("--principal", "bob-laptop"), lambda row: row["actor"] == "bob-laptop"),
        (("--user", "BOB@example.org"), lambda row: row["actor"] == "bob-laptop"),
        (("--until", "2020-01-01"), lambda row: False),
        (("--since", "1h", "--action", "statement"), lambda row: row["action"] == "statement"),
    ):
        rows = alice.ok("audit", "list", *argv, "--limit", "500", "--json").json
        assert all(wanted(row) for row in rows), argv


@pytest.mark.parametrize(
    "argv",
    [
        ("--action", "read"),
        ("--outcome", "yes"),
        ("--principal", "nobody"),
        ("--user", "nobody"),
        ("--user", "nobody@example.org"),
        ("--project", "web"),
        ("--env", "api/test"),
        ("--since", "yesterday"),
        ("--until", "2026-13-01"),
    ],
)
def test_s62_an_unknown_value_is_an_error(busy: Served, argv: tuple[str, ...]) -> None:
    for action in ("list", "count"):
        assert busy.alice.zopp("audit", action, *argv).code in (1, 2)
    assert not any("/audit/" in seen for seen in busy.server.seen)


def test_no_server_no_log(team: Any) -> None:
    done = team.alice.zopp("audit", "list")
    assert done.code == 2
    assert "zopp server adopt" in done.err


def test_export_formats(busy: Served) -> None:
    lines = busy.alice.ok("audit", "export").out.splitlines()
    assert [json.loads(line)["index"] for line in lines[:-1]] == list(range(len(lines) - 1))
    assert "checkpoint" in json.loads(lines[-1])
    table = list(csv.DictReader(io.StringIO(busy.alice.ok("audit", "export", "--format", "csv").out)))
    assert table[0]["action"] == "statement"
    assert table[0]["actor"] == "alice-laptop"
    assert all(row["ts"].isdigit() for row in table)
    done = busy.alice.ok("audit", "export", "--from", "3", "--out", "part.jsonl", "--json")
    assert done.json["records"] >= 1
    assert json.loads((busy.alice.repo / "part.jsonl").read_text().splitlines()[0])["index"] == 3


def test_a_cell_never_begins_a_formula() -> None:
    from zopp.client.audit import _safe

    assert _safe("=1+1") == "'=1+1"
    assert _safe("alice") == "alice"
    assert _safe(5) == 5


# --- verify


def test_verify_online_and_from_an_export(busy: Served) -> None:
    done = busy.alice.ok("audit", "verify", "--replay", "--json")
    assert done.json["ok"]
    assert done.json["covered"] == done.json["records"] > 10
    path = export(busy)
    busy.server.stop()
    done = busy.alice.ok("audit", "verify", "--replay", "--from-export", str(path))
    assert done.out.startswith("ok: ")
    assert "decided rightly" in done.out


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_bytes(b"".join(canonical.encode(row) + b"\n" for row in rows))


def test_s63_every_kind_of_tampering_is_found(busy: Served) -> None:
    """Edited, deleted, inserted, reordered, cut, by the export alone; the first bad record is named where it can be."""
    path = export(busy)
    rows = rows_of(path)
    last = len(rows) - 1
    alice = busy.alice

    def check(changed: list[dict[str, Any]], *words: str, renumber: bool = False) -> None:
        if renumber:
            number = 0
            for row in changed:
                if "index" in row:
                    row["index"] = number
                    number += 1
        write_rows(path, changed)
        for flags in ((), ("--replay",)):
            done = alice.zopp("audit", "verify", "--from-export", str(path), *flags)
            assert done.code == 1, (words, done.text)
        for word in words:
            assert word in done.out, (word, done.out)

    def copy() -> list[dict[str, Any]]:
        return [dict(row) for row in rows]

    changed = copy()
    body = json.loads(changed[4]["body"])
    body["ts"] += 1
    changed[4]["body"] = canonical.encode(body).decode()
    check(changed, "root")
    check(copy()[:3] + copy()[4:], "gap")
    check(copy()[:3] + copy()[4:], "statement", renumber=True)
    check([*copy()[:5], dict(rows[4]), *copy()[5:]], renumber=True)
    swapped = copy()
    swapped[last - 2], swapped[last - 1] = swapped[last - 1], swapped[last - 2]
    check(swapped, renumber=True)
    check(copy()[: last - 2] + copy()[last:], "rollback")
    check(copy()[: last - 2], "rollback")
    foreign = copy()
    a, b = json.loads(rows[last - 1]["body"]), json.loads(rows[last - 2]["body"])
    a["req"], b["req"] = b["req"], a["req"]
    foreign[last - 1]["body"] = canonical.encode(a).decode()
    foreign[last - 2]["body"] = canonical.encode(b).decode()
    check(foreign, "root")


def test_a_log_written_anew_with_the_log_key_is_found(busy: Served) -> None:
    """The server's own key signs a changed tree: what users keep and what git keeps tells."""
    busy.alice.ok("audit", "witness", "-m", "witness")
    server = busy.server
    book = server.the_book
    body = json.loads(book.bodies[5])
    body["ts"] += 1
    book.bodies[5] = canonical.encode(body)
    book.leaves[5] = merkle.leaf_hash(book.bodies[5])
    refused(busy.alice.zopp("audit", "verify"), 1)
    # somebody who has never talked to the server, but has git
    fresh = busy.team.fresh(busy.carol)
    busy.alice.push()
    fresh.pull()
    fresh.ok("trust", "--genesis", busy.alice.state().ws)
    done = fresh.zopp("audit", "verify")
    assert done.code == 1
    assert NOTE in done.out


def test_a29_a_rolled_back_witness_is_found(busy: Served) -> None:
    """An older or forged note put back in the work tree: all versions in git count."""
    alice, server = busy.alice, busy.server
    alice.ok("audit", "witness", "-m", "one")
    first = alice.read(NOTE)
    alice.ok("grant", "bob", "read", "acme")
    alice.ok("audit", "witness", "-m", "two")
    alice.write(NOTE, first)
    alice.ok("audit", "verify")  # an older one is true as well, and is no harm while the newer is in git
    forged = checkpoint.sign(
        checkpoint.Checkpoint(server.the_book.origin, 3, merkle.leaf_hash(b"other")), server.the_book.key
    )
    alice.write(NOTE, forged.serialise())
    alice.commit("forged")
    done = alice.zopp("audit", "verify")
    assert done.code == 1
    assert "root" in done.out
    refused(alice.zopp("audit", "witness"), 1, words=["does not extend"])
    alice.write(NOTE, first)
    alice.commit("back")
    assert alice.zopp("audit", "verify").code == 1, "its version is still in git"


def test_a29_the_log_cut_back_behind_a_note_in_git_is_found(busy: Served) -> None:
    alice, server = busy.alice, busy.server
    alice.ok("audit", "witness", "-m", "one")
    path = export(busy)
    rows = rows_of(path)
    write_rows(path, rows[:6])
    fresh = busy.team.fresh(busy.alice)
    alice.push()
    fresh.pull()
    fresh.ok("trust", "--genesis", alice.state().ws)
    done = fresh.zopp("audit", "verify", "--from-export", str(path))
    assert done.code == 1
    assert "rollback" in done.out
    assert server.lines


def test_a29_one_request_recorded_twice_is_found(busy: Served) -> None:
    """A server that logs a signed request again, with a fresh id, in a tree that it signs."""
    server = busy.server
    busy.alice.ok("audit", "list")
    old = entry.parse(server.the_book.bodies[-1])
    assert old.request is not None
    again = server.record(
        old.action, old.data, ts=old.ts, outcome=old.outcome, reason=old.reason, actor=old.actor, scope=old.scope,
        role=old.role, policy_seq=old.policy_seq, request=old.request,
    )  # fmt: skip
    busy.alice.ok("audit", "verify")
    done = busy.alice.zopp("audit", "verify", "--replay")
    assert done.code == 1
    assert "[nonce]" in done.out
    assert f"record {again}:" in done.out


def test_i4_a_lie_in_a_decision_is_found(busy: Served) -> None:
    """The log says that bob may read the audit log: the fold says no."""
    server = busy.server
    busy.bob.zopp("audit", "list")
    body = json.loads(server.the_book.bodies[-1])
    assert body["outcome"] == "deny"
    body["outcome"], body["reason"] = "allow", None
    server.the_book.bodies[-1] = canonical.encode(body)
    server.the_book.leaves[-1] = merkle.leaf_hash(server.the_book.bodies[-1])
    done = busy.alice.zopp("audit", "verify", "--replay")
    assert done.code == 1
    assert "policy says no" in done.out


def test_a_request_made_up_by_the_server_is_found(busy: Served) -> None:
    """An entry in somebody's name without that person's signature."""
    server = busy.server
    state = server.the_state
    other = entry.parse(server.the_book.bodies[-1]).request
    server.record(
        "audit.read", {"query": "all"}, outcome="allow", actor="carol-desktop", scope=Scope("workspace", "acme"),
        role="none", policy_seq=state.seq, request=other,
    )  # fmt: skip
    done = busy.alice.zopp("audit", "verify", "--replay")
    assert done.code == 1
    assert "[request]" in done.out


def test_git_with_another_policy_is_found(busy: Served) -> None:
    """The log in git has a statement that the audit log has not."""
    path = export(busy)
    busy.alice.ok("grant", "bob", "read", "acme")
    done = busy.alice.zopp("audit", "verify", "--from-export", str(path))
    assert done.code == 1
    assert "[policy]" in done.out


def test_what_no_checkpoint_covers_is_not_told(busy: Served) -> None:
    """Exit 3: records behind the last checkpoint."""
    path = export(busy)
    rows = rows_of(path)
    write_rows(path, rows[:-1])
    kept = busy.alice.home / ".local/state/zopp/logs"
    note = checkpoint.sign(
        checkpoint.Checkpoint(busy.server.the_book.origin, 5, merkle.root_of(busy.server.the_book.leaves[:5])),
        busy.server.the_book.key,
    )
    next(kept.glob("*.note")).write_bytes(note.serialise())
    done = busy.alice.zopp("audit", "verify", "--from-export", str(path))
    assert done.code == 3
    assert "from 5 on" in done.out


def test_verify_is_unknown_without_the_server(busy: Served) -> None:
    busy.server.stop()
    assert busy.alice.zopp("audit", "verify").code == 3
    assert busy.alice.zopp("audit", "verify", "--from-export", "nothing.jsonl").code == 3


def test_not_an_export(busy: Served) -> None:
    busy.alice.write("bad.jsonl", '{"x":1}\n')
    refused(busy.alice.zopp("audit", "verify", "--from-export", "bad.jsonl"), 1, words=["line 1"])


def test_a_page_out_of_order_is_refused(busy: Served) -> None:
    busy.server.tamper["entries"] = lambda fields: {**fields, "entries": fields["entries"][::-1]}
    refused(busy.alice.zopp("audit", "list"), 1, words=["order"])
    refused(busy.alice.zopp("audit", "export"), 1, words=["order"])
    busy.server.tamper["entries"] = lambda fields: {**fields, "entries": fields["entries"][1:]}
    refused(busy.alice.zopp("audit", "export"), 1, words=["order"])


def test_a22_another_entry_is_not_proven(busy: Served) -> None:
    """get: the body is hashed here, and must be in the tree at that index."""

    def lie(fields: dict[str, Any]) -> dict[str, Any]:
        return {**fields, "entries": [{"body": busy.server.the_book.bodies[1].decode(), "seq": 2}]}

    busy.server.tamper["entries"] = lie
    refused(busy.alice.zopp("audit", "get", "2"), 1, words=["proof"])


def test_witness_in_a_merge(busy: Served) -> None:
    """A conflict is settled by witnessing: both sides are extended."""
    alice = busy.alice
    alice.ok("audit", "witness", "-m", "base")
    alice.git("branch", "side")
    alice.ok("audit", "list")
    alice.ok("audit", "witness", "-m", "one")
    alice.git("checkout", "-q", "side")
    alice.ok("audit", "list")
    alice.ok("audit", "witness", "-m", "two")
    alice.git("merge", "main", check=False)
    assert b"<<<<<<<" in alice.read(NOTE)
    alice.ok("audit", "witness")
    alice.git("add", NOTE)
    alice.git("commit", "-q", "-m", "merged")
    alice.ok("audit", "verify", "--replay")


# --- the independent verifier


def mini(*argv: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples/verify_log.py"), *argv],
        capture_output=True, text=True, check=False, env={"PATH": os.environ["PATH"]},
    )  # fmt: skip
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout


def test_the_independent_verifier(busy: Served) -> None:
    """It imports nothing of zopp and agrees, on the whole and on tampered exports."""
    text = (ROOT / "examples/verify_log.py").read_text()
    assert len(text.splitlines()) < 150
    assert "import zopp" not in text
    assert "from zopp" not in text
    path = export(busy)
    busy.alice.ok("audit", "witness")
    server: Standin = busy.server
    known = (server.the_book.origin, canonical.b64(server.log_key.public), server.the_state.ws)
    code, out = mini(str(path), "-", *known)
    assert code == 0, out
    code, out = mini(str(path), str(busy.alice.path(NOTE)), *known)
    assert code == 0, out
    rows = rows_of(path)
    body = json.loads(rows[2]["body"])
    body["ts"] += 1
    rows[2]["body"] = canonical.encode(body).decode()
    write_rows(path, rows)
    code, out = mini(str(path), "-", *known)
    assert code == 1
    assert "changed" in out
    assert mini(str(path))[0] == 2
    assert mini(str(path), "-", known[0] + "x", *known[1:])[0] == 1
