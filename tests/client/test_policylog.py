"""Policy where a server orders it: pull, push, server first, and a server that lies (A6, A7, A9-A11, S28, S30)."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.client.conftest import Served
from tests.client.standin import Standin
from tests.support import Team, User, refused
from zopp.keys import signing as keys
from zopp.policy import canonical, log as policy_log, statement
from zopp.policy.state import State
from zopp.protocol import receipt as receipts
from zopp.repo import draft as draft_module, journal
from zopp.tlog import checkpoint

POLICY, RECEIPT = ".zopp/policy.jsonl", ".zopp/policy.receipt"


def line_by(user: User, state: State, type_: str, data: dict[str, Any], *, at: int | None = None) -> bytes:
    """A statement signed by `user` on top of `state`, by the library alone."""
    body = statement.draft(
        type_,
        data,
        ws=state.ws,
        seq=state.seq + 1,
        prev=state.head,
        at=state.at if at is None else at,
        by=user.principal,
    )
    return statement.seal(body, [user.key.sign(statement.to_sign(body))])


def grant_line(user: User, state: State, who: str, role: str, env: str = "api/dev") -> bytes:
    return line_by(user, state, "binding.set", {"role": role, "scope": {"env": env}, "subject": {"user": who}})


def lines(user: User) -> list[bytes]:
    return policy_log.split(user.read(POLICY))


# --- the everyday


def test_adopt_then_grant(served: Served) -> None:
    """Statements are accepted by the server and then written, with the receipt of the last."""
    alice, server = served.alice, served.server
    assert alice.state().server is not None
    alice.ok("verify")
    alice.ok("grant", "bob", "read", "api/dev")
    assert server.lines == lines(alice)
    alice.ok("verify")
    served.team.sync("bob reads")
    assert served.bob.get("BASE") == "base-dev"


def test_every_command_that_drafts_goes_to_the_server_first(served: Served) -> None:
    """Groups, projects, environments, caps, devices and offboarding."""
    alice, server = served.alice, served.server
    for argv in (
        ("group", "create", "ops"),
        ("group", "add", "ops", "bob"),
        ("grant", "ops", "write", "api"),
        ("env", "add", "extra"),
        ("env", "protect", "prod"),
        ("principal", "cap", "bob-laptop", "read"),
        ("principal", "disable", "ci"),
        ("revoke", "ops", "api"),
        ("env", "archive", "extra", "--yes"),
        ("offboard", "bob", "--yes"),
    ):
        alice.ok(*argv)
        assert server.lines == lines(alice), argv
        alice.ok("verify")


def test_pull_tells_in_words_and_names_the_rekey(served: Served) -> None:
    """Another writer fetches what the server has; files are brought along by rekey."""
    served.alice.ok("grant", "bob", "write", "api")
    served.team.sync("bob writes")
    server = served.server
    server.accept(grant_line(served.alice, server.the_state, "carol", "read"))
    done = served.bob.ok("policy", "pull")
    assert "carol may read api/dev" in done.err
    assert "zopp rekey api/dev" in done.err
    served.bob.ok("rekey", "api/dev")
    served.bob.ok("verify")
    again = served.bob.ok("policy", "pull", "--json")
    assert again.json["came"] == []
    assert again.json["rekey"] == []


def test_pull_dry_run_writes_nothing(served: Served) -> None:
    server = served.server
    server.accept(grant_line(served.alice, server.the_state, "carol", "read"))
    before = served.alice.tree()
    done = served.alice.ok("policy", "pull", "--dry-run")
    assert "carol may read" in done.err
    assert served.alice.tree() == before


def test_a_change_stands_on_what_the_server_has(served: Served) -> None:
    """A clone behind the server fetches silently before it drafts."""
    server = served.server
    server.accept(grant_line(served.alice, server.the_state, "carol", "read"))
    served.alice.ok("grant", "bob", "read", "api/dev")
    assert lines(served.alice) == server.lines
    served.alice.ok("rekey")
    served.alice.ok("verify")


def test_secrets_of_direct_environments_need_no_server(served: Served) -> None:
    served.server.stop()
    served.alice.set("OFFLINE", "yes")
    assert served.alice.get("OFFLINE") == "yes"
    served.alice.ok("verify")


def test_without_the_server_no_policy_changes(served: Served) -> None:
    """Exit 3, the reason, nothing written."""
    served.server.stop()
    before = served.alice.tree()
    done = served.alice.zopp("grant", "bob", "read", "api/dev")
    assert done.code == 3
    assert "does not answer" in done.err
    assert served.alice.tree() == before
    assert served.alice.zopp("grant", "bob", "read", "api/dev", "--dry-run").code == 3


def test_a_dry_run_sends_nothing(served: Served) -> None:
    server = served.server
    count = len(server.lines)
    served.alice.ok("grant", "bob", "read", "api/dev", "--dry-run")
    assert len(server.lines) == count
    assert not any(seen.startswith("POST /v1/policy") for seen in server.seen)


def test_what_the_server_refuses_is_not_written(served: Served) -> None:
    """The server may refuse more than policy does."""
    served.server._judge = lambda st: "hold"  # type: ignore[method-assign]
    before = served.alice.tree()
    done = served.alice.zopp("grant", "bob", "read", "api/dev")
    refused(done, 1)
    assert served.alice.tree() == before


# --- lost answers and crashes


def test_a_lost_answer_is_asked_again(served: Served) -> None:
    """The same line, the same idem; accepted once."""
    served.server.lose = 1
    served.alice.ok("grant", "bob", "read", "api/dev")
    assert served.server.lines == lines(served.alice)
    served.alice.ok("verify")


def test_an_answer_lost_for_good_is_found_out_by_fetching(served: Served) -> None:
    served.server.lose = 99
    served.alice.ok("grant", "bob", "read", "api/dev")
    assert served.server.lines == lines(served.alice)


def test_a_request_lost_on_the_way_in_is_sent_again(served: Served) -> None:
    server = served.server
    real = server._statement
    lost = [2]

    def losing(*args: Any) -> Any:
        if lost[0]:
            lost[0] -= 1
            from tests.client.standin import LostAnswer

            raise LostAnswer
        return real(*args)

    server._statement = losing  # type: ignore[method-assign]
    served.alice.ok("grant", "bob", "read", "api/dev")
    assert server.lines == lines(served.alice)


def test_unknown_outcome_says_so(served: Served) -> None:
    """Server gone after the act: exit 3, nothing written; pull repairs when it is back."""
    server = served.server
    real = server._policy

    def gone(begin: int, size: int) -> Any:
        if len(server.lines) > begin:
            from tests.client.standin import LostAnswer

            raise LostAnswer
        return real(begin, size)

    server.lose = 99
    server._policy = gone  # type: ignore[method-assign]
    before = served.alice.tree()
    done = served.alice.zopp("grant", "bob", "read", "api/dev")
    assert done.code == 3
    assert "zopp policy pull" in done.err
    assert served.alice.tree() == before
    server._policy = real  # type: ignore[method-assign]
    served.alice.ok("policy", "pull")
    assert lines(served.alice) == server.lines


def test_a_crash_between_acceptance_and_writing_is_repaired(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next pull fetches the lines; rekey does the files."""

    class Crash(BaseException):
        pass

    def crash(*args: Any) -> None:
        raise Crash

    before = served.alice.tree()
    monkeypatch.setattr(draft_module.journal, "write", crash)
    with pytest.raises(Crash):
        served.alice.zopp("grant", "bob", "read", "api/dev")
    monkeypatch.undo()
    assert served.alice.tree() == before
    assert len(served.server.lines) == len(lines(served.alice)) + 1
    done = served.alice.ok("policy", "pull")
    assert "bob may read api/dev" in done.err
    served.alice.ok("rekey", "api/dev")
    served.alice.ok("verify")
    served.team.sync("repaired")
    assert served.bob.get("BASE") == "base-dev"


def test_a_crash_between_acceptance_and_writing_is_repaired_by_the_next_change(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Crash(BaseException):
        pass

    def crash(*args: Any) -> None:
        raise Crash

    monkeypatch.setattr(journal, "write", crash)
    with pytest.raises(Crash):
        served.alice.zopp("grant", "bob", "read", "api/dev")
    monkeypatch.undo()
    served.alice.ok("grant", "carol", "read", "api/dev")
    assert served.server.lines == lines(served.alice)
    served.alice.ok("rekey", "api/dev")
    served.alice.ok("verify")


# --- somebody else was first (A11)


def test_a11_the_same_effect_is_signed_again_unasked(served: Served) -> None:
    server = served.server

    def first() -> None:
        server.accept(grant_line(served.alice, server.the_state, "carol", "read", "api/staging"))

    server.before = first
    served.alice.ok("grant", "bob", "read", "api/dev")
    assert server.lines == lines(served.alice)
    assert b"carol" in lines(served.alice)[-2]
    served.alice.ok("rekey")
    served.alice.ok("verify")


def test_a11_another_effect_is_shown_and_not_signed_without_a_person(served: Served) -> None:
    """A member is added to the group before the pending grant to it gets in."""
    served.alice.ok("group", "create", "ops")
    served.alice.ok("group", "add", "ops", "bob")
    server = served.server

    def first() -> None:
        data = {"group": "ops", "member": {"user": "carol"}}
        server.accept(line_by(served.alice, server.the_state, "group.member.add", data))

    server.before = first
    before, count = served.alice.tree(), len(server.lines)
    done = served.alice.zopp("grant", "ops", "write", "api/prod")
    refused(done, 1, words=["means something else"])
    assert "now: carol-desktop" in done.err
    assert served.alice.tree() == before
    assert len(server.lines) == count + 1


def test_a11_files_made_for_other_readers_are_left_out(served: Served) -> None:
    """Others changed who reads the same environment meanwhile: lines go in, files wait for rekey."""
    server = served.server

    def first() -> None:
        server.accept(grant_line(served.alice, server.the_state, "carol", "read", "api/dev"))

    server.before = first
    done = served.alice.ok("grant", "bob", "read", "api/dev")
    assert "zopp rekey api/dev" in done.err
    assert server.lines == lines(served.alice)
    served.alice.ok("rekey", "api/dev")
    served.alice.ok("verify")


def test_s30_two_admins_at_once(served: Served) -> None:
    """Each demotes the other from one starting point: one statement counts, the other is refused (I5)."""
    served.alice.ok("grant", "bob", "admin", "acme")
    served.team.sync("two admins")
    server = served.server

    def first() -> None:
        data = {"scope": {"workspace": "acme"}, "subject": {"user": "alice"}}
        server.accept(line_by(served.bob, server.the_state, "binding.remove", data))

    server.before = first
    done = served.alice.zopp("revoke", "bob", "acme")
    refused(done, 1, words=["moved on"])
    assert [u for u, _, _ in server.the_state.bindings if u.name == "alice"] == []


def test_parts_accepted_before_a_refusal_are_said(served: Served) -> None:
    """offboard signs several statements; the second is refused."""
    server = served.server
    served.alice.ok("grant", "bob", "read", "api/dev")
    served.alice.ok("grant", "bob", "read", "api/staging")
    real = server._judge
    count = [0]

    def once(st: statement.Statement) -> str | None:
        count[0] += 1
        return real(st) if count[0] == 1 else "hold"

    server._judge = once  # type: ignore[method-assign]
    done = served.alice.zopp("offboard", "bob", "--yes")
    refused(done, 1, words=["1 of the", "zopp policy pull"])
    served.alice.ok("policy", "pull")
    assert lines(served.alice) == server.lines


# --- a server that lies


def policy_lie(server: Standin, change: Any) -> None:
    server.tamper["policy"] = change


def test_withheld_lines_are_found(served: Served) -> None:
    """The server shows a log that ends before what lies here."""
    served.alice.ok("grant", "bob", "read", "api/dev")
    server = served.server
    kept = server.the_state
    server.state = policy_log.fold(b"".join(line + b"\n" for line in server.lines[:-1]))
    done = served.alice.zopp("policy", "pull")
    refused(done, 1, words=["ends before statement"])
    server.state = kept
    policy_lie(
        server,
        lambda fields: {**fields, "head": {"hash": kept.hash_at(kept.seq - 1), "seq": kept.seq - 1}},
    )
    refused(served.alice.zopp("policy", "pull"), 1, words=["withholds"])


def test_withheld_lines_are_found_from_memory(served: Served) -> None:
    """Also where git was put back to before them (A7): this clone remembers the head."""
    served.alice.ok("grant", "bob", "read", "api/dev")
    served.alice.share("grant")
    served.alice.ok("verify")
    server = served.server
    older = server.lines[:-1]
    served.alice.git("reset", "--hard", "HEAD~1")
    server.lines, server.where = older, server.where[:-1]
    server.state = policy_log.fold(b"".join(line + b"\n" for line in older))
    done = served.alice.zopp("grant", "carol", "read", "api/dev")
    refused(done, 1, words=["withholds"])


def test_missing_lines_of_the_said_head_are_found(served: Served) -> None:
    server = served.server
    server.accept(grant_line(served.alice, server.the_state, "carol", "read"))
    policy_lie(server, lambda fields: {**fields, "lines": []})
    refused(served.alice.zopp("policy", "pull"), 1)


def test_reordered_lines_are_found(served: Served) -> None:
    server = served.server
    for who in ("bob", "carol"):
        server.accept(grant_line(served.alice, server.the_state, who, "read"))
    policy_lie(server, lambda fields: {**fields, "lines": fields["lines"][::-1]})
    refused(served.alice.zopp("policy", "pull"), 1)


def test_an_invented_line_is_found(served: Served) -> None:
    """A line that no admin signed, with a true receipt of a tree that holds it."""
    server = served.server
    stranger = keys.generate()
    state = server.the_state
    body = statement.draft(
        "binding.set",
        {"role": "admin", "scope": {"workspace": "acme"}, "subject": {"user": "bob"}},
        ws=state.ws,
        seq=state.seq + 1,
        prev=state.head,
        at=state.at,
        by="alice-laptop",
    )
    forged = statement.seal(body, [stranger.sign(statement.to_sign(body))])
    index = server.record(
        "statement",
        {"line": canonical.decode(forged)},
        outcome="allow",
        actor="alice-laptop",
        policy_seq=state.seq + 1,
        request=_some_request(server),
    )

    def lie(fields: dict[str, Any]) -> dict[str, Any]:
        return {
            **fields,
            "lines": [forged.decode()],
            "head": {"hash": statement.parse(forged).hash, "seq": state.seq + 1},
            "receipt": server.the_book.receipt(index).json(),
        }

    policy_lie(server, lie)
    before = served.alice.tree()
    refused(served.alice.zopp("policy", "pull"), 1, words=["does not verify"])
    assert served.alice.tree() == before


def _some_request(server: Standin) -> Any:
    from zopp.tlog import entry

    return entry.parse(server.the_book.bodies[0]).request


def test_a_receipt_of_another_line_is_found(served: Served) -> None:
    server = served.server
    server.accept(grant_line(served.alice, server.the_state, "carol", "read"))
    other = server.where[-2]
    policy_lie(server, lambda fields: {**fields, "receipt": server.the_book.receipt(other).json()})
    refused(served.alice.zopp("policy", "pull"), 1, words=["does not prove"])


def test_a6_the_proof_of_a_refused_line_is_no_receipt(served: Served) -> None:
    """The line stands in the log as refused; its inclusion proves nothing."""
    server = served.server
    line = grant_line(served.alice, server.the_state, "carol", "read")
    index = server._record_line("alice-laptop", _some_request(server), line, "deny", "authority")

    def lie(fields: dict[str, Any]) -> dict[str, Any]:
        st = statement.parse(line)
        return {
            **fields,
            "lines": [line.decode()],
            "head": {"hash": st.hash, "seq": st.seq},
            "receipt": server.the_book.receipt(index).json(),
        }

    policy_lie(server, lie)
    refused(served.alice.zopp("policy", "pull"), 1, words=["does not prove", "accepted"])


def test_a_rolled_back_checkpoint_is_found(served: Served) -> None:
    """The tree is smaller than the one this user has seen."""
    served.alice.ok("grant", "bob", "read", "api/dev")
    server = served.server
    book = server.the_book
    served.alice.ok("policy", "pull")
    size = len(book.leaves)
    server.record("auth", {}, outcome="deny", reason="replayed", actor="bob-laptop", request=_some_request(server))
    served.alice.ok("policy", "pull")
    policy_lie(
        server, lambda fields: {**fields, "receipt": book.receipt(server.where[-1], size).json(), "consistency": []}
    )
    refused(served.alice.zopp("policy", "pull"), 1, words=["smaller"])


def test_a_split_view_is_found(served: Served) -> None:
    """Another tree of the same size, signed by the true log key."""
    server = served.server
    book = server.the_book
    served.alice.ok("policy", "pull")
    original = (book.bodies[0], book.leaves[0])
    body = book.bodies[0]
    changed = json.loads(body)
    changed["ts"] += 1
    book.bodies[0] = canonical.encode(changed)
    from zopp.tlog import merkle

    book.leaves[0] = merkle.leaf_hash(book.bodies[0])
    refused(served.alice.zopp("policy", "pull"), 1, words=["different roots"])
    book.bodies[0], book.leaves[0] = original
    served.alice.ok("policy", "pull")


def test_another_log_key_is_not_believed(served: Served) -> None:
    """Receipts signed by a key that the policy does not name."""
    server = served.server
    server.the_book.key = keys.generate()
    refused(served.alice.zopp("policy", "pull"), 1, words=["does not prove"])


def test_an_answer_to_another_statement_is_found(served: Served) -> None:
    """The server says yes and shows the receipt of an older line."""
    server = served.server

    def lie(fields: dict[str, Any]) -> dict[str, Any]:
        return {**fields, "receipt": server.the_book.receipt(server.where[0]).json()}

    server.tamper["statement"] = lie
    before = served.alice.tree()
    refused(served.alice.zopp("grant", "bob", "read", "api/dev"), 1, words=["does not prove"])
    assert served.alice.tree() == before


def test_a_stale_answer_without_newer_lines_is_found(served: Served) -> None:
    server = served.server
    server._judge = lambda st: "stale_prev"  # type: ignore[method-assign]
    refused(served.alice.zopp("grant", "bob", "read", "api/dev"), 1, words=["no newer"])


# --- offline: verify, CI, forks in git (A6, A7)


def test_a6_a_last_line_without_receipt_is_refused_offline(served: Served) -> None:
    """A former admin goes on with the log in git; nobody else accepts it, without any network."""
    alice, bob = served.alice, served.bob
    alice.ok("grant", "bob", "admin", "acme")
    served.team.sync("bob is admin")
    state = bob.state()
    fork = grant_line(bob, state, "carol", "admin", "api/prod")
    alice.ok("revoke", "bob", "acme")
    served.server.stop()
    bob.write(POLICY, bob.read(POLICY) + fork + b"\n")
    bob.share("fork")
    fresh = served.team.fresh(served.carol)
    fresh.ok("trust", "--genesis", state.ws)
    done = fresh.zopp("verify")
    assert done.code == 1
    assert "policy.receipt" in done.out
    refused(fresh.zopp("list", "-e", "dev"), 1, words=["accepted"])
    refused(fresh.zopp("set", "X", "-e", "dev", stdin="1"), 1)
    job = User("carol", fresh.principal, fresh.base, {"CI": "true", "ZOPP_TRUST": _trust(state)}, fresh.folder)
    done = User("fresh", fresh.principal, fresh.base, job.extra).zopp("verify")
    assert done.code == 1


def _trust(state: State) -> str:
    return f"zopp1:{state.name}:{state.ws}:{state.seq}:{state.head}"


def test_a6_an_own_log_key_needs_a_receipt_under_the_old_one(served: Served) -> None:
    """The former admin names his own server and log key, with a receipt under that."""
    alice, bob = served.alice, served.bob
    alice.ok("grant", "bob", "admin", "acme")
    served.team.sync("bob is admin")
    mine = Standin()
    try:
        state = bob.state()
        data = {"log_key": canonical.b64(mine.log_key.public), "origin": mine.origin}
        fork = line_by(bob, state, "server.set", data)
        from tests.client.standin import Book

        mine.state, mine.lines = state, list(served.server.lines)
        mine.book = Book(checkpoint.origin_of(mine.origin, state.name, state.ws), mine.log_key)
        mine.where = [0] * len(mine.lines)
        mine.accept(fork)
        mine.key_receipts.clear()
        receipt = mine.the_book.receipt(mine.where[-1])
        old = bob.read(RECEIPT)
        for text in (receipt.serialise() + b"\n", receipt.serialise() + b"\n" + receipt.serialise() + b"\n", old):
            bob.write(POLICY, b"".join(line + b"\n" for line in (*served.server.lines, fork)))
            bob.write(RECEIPT, text)
            bob.share("fork")
            alice.pull()
            done = alice.zopp("verify")
            assert done.code == 1
            assert "policy." in done.out
            refused(alice.zopp("policy", "pull"), 1)
            refused(alice.zopp("grant", "carol", "read", "api/dev"), 1)
            # the true server was asked, not the one that the fork names
            assert not mine.seen
    finally:
        mine.stop()


def test_a_changed_log_key_counts_with_its_receipt(served: Served) -> None:
    """`server adopt --log-key`: accepted under the old key, used after it; offline verifiers walk the keys."""
    server = served.server
    server.next_log_key = keys.generate()
    new = canonical.b64(server.next_log_key.public)
    served.alice.ok("server", "adopt", server.origin, "--log-key", new, "--yes")
    served.alice.ok("verify")
    assert len(served.alice.read(RECEIPT).splitlines()) == 2
    served.alice.ok("grant", "bob", "read", "api/dev")
    served.alice.ok("verify")
    served.team.sync("new key")
    for user in (served.bob, served.carol):
        user.ok("verify")
        user.ok("policy", "pull")
    text = served.bob.read(RECEIPT).splitlines(keepends=True)
    served.bob.write(RECEIPT, text[-1])
    assert "policy.log_key" in served.bob.zopp("verify").out
    served.bob.ok("policy", "pull")
    assert served.bob.read(RECEIPT).splitlines(keepends=True)[0] == text[0]
    served.bob.ok("verify")


def test_a7_a_policy_put_back_is_not_written_upon(served: Served) -> None:
    """Git goes back to before a removal: with the server's word the removal is there again."""
    alice = served.alice
    alice.ok("grant", "bob", "write", "api/dev")
    alice.share("bob in")
    before = alice.git("rev-parse", "HEAD")
    alice.ok("revoke", "bob", "api/dev")
    alice.share("bob out")
    alice.ok("verify")
    alice.git("checkout", before, "--", ".zopp", ".sops.yaml")
    fresh = served.team.fresh(served.alice)
    fresh.git("reset", "--hard", before)
    fresh.ok("trust", "--genesis", alice.state().ws)
    fresh.ok("grant", "carol", "read", "api/staging")
    assert b"binding.remove" in fresh.read(POLICY)
    assert fresh.state().role("bob-laptop", "api/dev") == 0


def test_the_receipt_is_mended_by_pull(served: Served) -> None:
    alice = served.alice
    alice.path(RECEIPT).unlink()
    refused(alice.zopp("access"), 1, words=["zopp policy pull"])
    assert alice.zopp("verify").code == 1
    done = alice.ok("policy", "pull")
    assert "receipt" in done.err
    alice.ok("verify")
    alice.write(RECEIPT, b"garbage\n")
    assert alice.zopp("verify").code == 1
    alice.ok("policy", "pull")
    alice.ok("verify")


def test_git_ahead_with_somebody_elses_line_is_refused(served: Served) -> None:
    """push sends only what its own signer signed; pull --replace takes the server's."""
    served.alice.ok("grant", "bob", "admin", "acme")
    served.team.sync("bob is admin")
    fork = grant_line(served.bob, served.bob.state(), "carol", "read")
    served.alice.write(POLICY, served.alice.read(POLICY) + fork + b"\n")
    refused(served.alice.zopp("policy", "pull"), 1, words=["bob-laptop"])
    refused(served.alice.zopp("policy", "push", "--yes"), 1, words=["bob-laptop"])
    count = len(served.server.lines)
    served.alice.ok("policy", "pull", "--replace", "--yes")
    assert len(served.server.lines) == count
    assert lines(served.alice) == served.server.lines
    served.alice.ok("verify")


def test_push_hands_in_own_lines(served: Served) -> None:
    """Signed offline, dated long ago: signed again and accepted."""
    alice = served.alice
    line = grant_line(alice, alice.state(), "carol", "read")
    alice.write(POLICY, alice.read(POLICY) + line + b"\n")
    alice.ok("policy", "push", "--dry-run")
    assert lines(alice)[-1] == line
    done = alice.ok("policy", "push", "--yes", "--json")
    assert done.json["sent"] == [alice.state().seq]
    assert lines(alice) == served.server.lines
    alice.ok("rekey")
    alice.ok("verify")
    assert "nothing sent" in alice.ok("policy", "push", "--yes").err


def test_a9_a_back_dated_statement_is_refused_by_the_server(served: Served) -> None:
    """The client dates anew; the server takes nothing dated otherwise."""
    server = served.server
    line = line_by(
        served.alice,
        server.the_state,
        "binding.set",
        {"role": "read", "scope": {"env": "api/dev"}, "subject": {"user": "bob"}},
        at=server.the_state.at + 3600,
    )
    assert server._judge(statement.parse(line)) == "at"


def test_a10_a_log_of_another_workspace_is_refused(served: Served, tmp_path: Path) -> None:
    """The server answers for another workspace of the same name."""
    other = Team.make(tmp_path / "other")
    del other
    server = served.server
    stranger = served.alice.state()
    assert stranger.ws == server.the_state.ws
    # lines whose `ws` is another genesis do not extend ours
    body = statement.draft(
        "group.create",
        {"group": "x"},
        ws="0" * 64,
        seq=stranger.seq + 1,
        prev=stranger.head,
        at=stranger.at,
        by="alice-laptop",
    )
    line = statement.seal(body, [served.alice.key.sign(statement.to_sign(body))])
    policy_lie(
        server,
        lambda fields: {
            **fields,
            "lines": [line.decode()],
            "head": {"hash": statement.parse(line).hash, "seq": stranger.seq + 1},
        },
    )
    refused(served.alice.zopp("policy", "pull"), 1, words=["another workspace"])


def test_receipt_is_of_the_last_line(served: Served) -> None:
    """Reading `.zopp/policy.receipt` alone: the entry holds the very line, accepted, its own seq."""
    served.alice.ok("grant", "bob", "read", "api/dev")
    made = receipts.parse(served.alice.read(RECEIPT).splitlines()[-1])
    state = served.alice.state()
    from zopp.protocol import mirror

    assert state.server is not None
    receipts.check_line(made, lines(served.alice)[-1], mirror.verifier(state, state.server))


def test_a_merge_conflict_in_the_log_is_solved_by_pull(served: Served) -> None:
    """Two branches each with a line that the server accepted: its order counts."""
    alice = served.alice
    alice.git("branch", "side")
    alice.ok("grant", "bob", "read", "api/dev", "-m", "one")
    alice.git("checkout", "-q", "side")
    alice.ok("grant", "carol", "read", "api/staging", "-m", "two")
    alice.git("merge", "main", check=False)
    assert "UU .zopp/policy.receipt" in alice.git("status", "--porcelain")
    for path in (POLICY, RECEIPT):
        if b"<<<<<<<" not in alice.read(path):
            continue
        alice.git("checkout", "--ours", path, check=False)
    alice.write(POLICY, b"<<<<<<< ours\n" + alice.read(POLICY) + b"=======\n>>>>>>> theirs\n")
    alice.ok("policy", "pull")
    assert lines(alice) == served.server.lines


def test_rebase_says_what_to_do_at_a_server(served: Served) -> None:
    alice = served.alice
    alice.git("branch", "side")
    line = grant_line(alice, alice.state(), "carol", "read")
    alice.write(POLICY, alice.read(POLICY) + line + b"\n")
    alice.commit("mine")
    done = alice.zopp("policy", "rebase", "--onto", "side")
    assert done.code in (1, 3)
    assert "zopp policy pull" in done.err or "zopp policy push" in done.err


def test_what_was_accepted_and_cannot_be_written_says_so(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another program changes a file between the server's word and the writing."""
    alice, server = served.alice, served.server
    real = server._statement

    def racing(*args: Any) -> Any:
        answer = real(*args)
        alice.write(".sops.yaml", alice.read(".sops.yaml") + b"# mine\n")
        alice.write("secrets/dev.yaml", alice.read("secrets/dev.yaml") + b"# mine\n")
        return answer

    monkeypatch.setattr(server, "_statement", racing)
    done = alice.zopp("grant", "bob", "read", "api/dev")
    refused(done, 1, words=["zopp policy pull"])
    monkeypatch.undo()
    alice.git("checkout", "--", ".sops.yaml", "secrets/dev.yaml")
    alice.ok("policy", "pull")
    alice.ok("rekey", "api/dev")
    alice.ok("verify")


def test_a_protected_key_is_asked_for_once() -> None:
    """One command asks the server and signs: the passphrase is typed once."""
    from zopp.cli.context import Context

    ctx = Context({}, "/")
    asked: list[str] = []
    ctx_secret = "zopp.cli.context.Context.secret"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ctx_secret, lambda self, prompt, repeat=False: asked.append(prompt) or "words")
        patch.setattr("importlib.util.find_spec", lambda name: None)
        assert ctx.passphrase("key") == ctx.passphrase("key") == "words"
    assert len(asked) == 1
    assert "words" not in repr(ctx)


def test_long_logs_come_in_pages(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zopp.protocol.messages.MAX_LINES", 2)
    alice = served.alice
    alice.path(RECEIPT).unlink()
    alice.ok("policy", "pull")
    assert served.server.seen.count("GET /v1/policy/acme") > 3
    alice.ok("verify")


def test_a_ci_job_verifies_and_a_service_that_is_admin_changes(served: Served) -> None:
    """ZOPP_TRUST is memory enough; what a job fetches is not remembered."""
    served.alice.ok("grant", "ci", "admin", "api")
    served.team.sync("ci is admin")
    job = served.team.job()
    job.ok("verify")
    job.ok("grant", "bob", "read", "api/dev")
    assert lines(job) == served.server.lines
    served.alice.ok("policy", "pull")
    assert "CI" in job.env


def test_doctor_names_the_server(served: Served) -> None:
    assert served.server.origin in served.alice.ok("doctor").out
    served.alice.path(RECEIPT).unlink()
    done = served.alice.zopp("doctor")
    assert done.code == 1
    assert "zopp policy pull" in done.out


def test_reset_forgets_the_servers_log_too(served: Served) -> None:
    notes = served.alice.home / ".local/state/zopp/logs"
    assert list(notes.glob("*.note"))
    served.alice.ok("trust", "--reset", "--yes")
    assert not list(notes.glob("*.note"))


def test_adopt_shows_and_asks(team: Team, standin: Standin) -> None:
    """Without --yes and a terminal nothing is sent; a dry run neither; another key of the server is refused."""
    before = team.alice.tree()
    refused(team.alice.zopp("server", "adopt", standin.origin), 2, words=["--yes"])
    done = team.alice.ok("server", "adopt", standin.origin, "--dry-run", "--json")
    assert done.json["fingerprint"].startswith("SHA256:")
    assert team.alice.tree() == before
    assert not any(seen.startswith("POST") for seen in standin.seen)
    refused(team.bob.zopp("server", "adopt", standin.origin, "--yes"), 1)
    refused(team.alice.zopp("server", "adopt", "http://zopp.example.org"), 2)
    refused(team.alice.zopp("server", "adopt", "http://127.0.0.1:9", "--yes"), 3)
    refused(team.alice.zopp("server", "adopt", standin.origin, "--yes", "--code", "-", stdin="wrong"), 1)
    assert team.alice.tree() == before


def test_adopt_after_a_lost_answer(team: Team, standin: Standin) -> None:
    """The server took the log; the same command again takes it from there."""
    standin.lose = 1
    before = team.alice.tree()
    done = team.alice.zopp("server", "adopt", standin.origin, "--yes", "--code", "-", stdin=standin.code)
    if done.code != 0:
        assert team.alice.tree() == before
        team.alice.ok("server", "adopt", standin.origin, "--yes")
    assert lines(team.alice) == standin.lines
    team.alice.ok("verify")


def test_a_server_that_changed_its_key_without_a_statement(served: Served) -> None:
    """A lost log key is another server; nothing here believes it."""
    server = served.server
    server.log_key = keys.generate()
    refused(served.alice.zopp("server", "adopt", server.origin, "--yes"), 1, words=["log key"])
