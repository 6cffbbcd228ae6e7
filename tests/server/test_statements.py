"""The policy log on the real server: order, refusals, receipts, two admins at once (A6, A9, S24, S28, S30)."""

import time
from threading import Thread

import pytest

from tests.server.conftest import Database, code
from tests.server.live import Live, Office
from zopp.client.transport import idem
from zopp.errors import Denied, IntegrityError, ZoppError
from zopp.keys import identity, signing
from zopp.policy import canonical, statement
from zopp.protocol import messages, receipt as receipts
from zopp.tlog import entry, proof
from zopp.tlog.note import Verifier


def test_the_log_comes_back_as_it_was_accepted(office: Office) -> None:
    assert office.pull("carol-laptop").head == office.now.head


def test_a_stale_prev_is_refused_with_the_head_and_recorded(office: Office, database: Database) -> None:
    late = office.line("alice-laptop", "group.create", {"group": "late"})
    office.do("alice-laptop", "group.create", group="first")
    with pytest.raises(IntegrityError) as refused:
        office.send(late)
    assert refused.value.code == "stale_prev"
    assert refused.value.data["head"] == {"hash": office.now.head, "seq": office.now.seq}
    row = database.value("zopp_app", "SELECT body FROM audit.entry WHERE action = 'statement' AND outcome = 0")
    made = entry.parse(row)
    assert (made.line, made.reason) == (late, "stale_prev")


def test_a6_the_record_of_a_refused_line_proves_nothing(office: Office, server: Live, database: Database) -> None:
    """A6: its inclusion is true, and it is no receipt of acceptance."""
    late = office.line("alice-laptop", "group.create", {"group": "late"})
    office.do("alice-laptop", "group.create", group="first")
    with pytest.raises(IntegrityError):
        office.send(late)
    seq = database.value("zopp_app", "SELECT seq FROM audit.entry WHERE action = 'statement' AND outcome = 0")

    async def forge() -> receipts.Receipt:
        assert server.service is not None
        async with server.service.reading() as connection:
            made, _ = await server.service.receipt(connection, office.now.ws, seq, 0)
            return made

    made = server.run(forge())
    proof.parse(made.proof).verify(entry.leaf(made.body), office.log)
    with pytest.raises(IntegrityError, match="accepted"):
        receipts.check_line(made, late, office.log)


def test_the_same_line_again_has_the_same_receipt(office: Office) -> None:
    line = office.line("alice-laptop", "group.create", {"group": "ops"})
    first = office.send(line)
    body = messages.build_request("statement", idem=canonical.b64(idem()), line=line.decode(), size=0, ws=office.now.ws)
    again = messages.parse_answer("statement", office.members["alice-laptop"].server.post("/v1/policy/acme", body).body)
    assert again["receipt"]["body"] == first["receipt"]["body"]


@pytest.mark.parametrize("offset", [-3600, -62, 62, 3600])
def test_a9_a_statement_is_dated_now(office: Office, offset: int) -> None:
    """A9: expiries are judged by `at`, so the server holds it to its clock."""
    at = int(time.time()) + offset
    line = office.line("alice-laptop", "group.create", {"group": "ops"}, at=at)
    with pytest.raises(ZoppError) as refused:
        office.send(line)
    assert refused.value.code == "refused"
    assert refused.value.data["rule"] == "at"


def test_s24_without_the_role_a_statement_is_denied_and_recorded(office: Office, database: Database) -> None:
    """S24."""
    data = {"role": "read", "scope": {"env": "api/production"}, "subject": {"user": "carol"}}
    with pytest.raises(Denied, match="not admin") as refused:
        office.send(office.line("bob-laptop", "binding.set", data))
    assert refused.value.data["rule"] == "authority"
    assert (
        database.value(
            "zopp_app",
            "SELECT count(*) FROM audit.entry WHERE action = 'statement' AND outcome = 0 AND actor = 'bob-laptop'",
        )
        == 1
    )


def test_nobody_sends_another_s_statement(office: Office) -> None:
    line = office.line("alice-laptop", "group.create", {"group": "ops"})
    with pytest.raises(Denied, match="somebody else"):
        office.send(line, by="bob-laptop")


@pytest.mark.parametrize("how", ["signature", "field", "space", "order"])
def test_s28_a_line_that_is_not_its_one_form_is_refused(office: Office, how: str) -> None:
    """S28, A8."""
    line = office.line("alice-laptop", "group.create", {"group": "ops"})
    if how == "signature":
        at = line.index(b'"sigs":["') + 12
        line = line[:at] + (b"A" if line[at : at + 1] != b"A" else b"B") + line[at + 1 :]
    elif how == "field":
        line = line.replace(b'"group":"ops"', b'"group":"ops","more":1')
    elif how == "space":
        line = line.replace(b'"group":"ops"', b'"group": "ops"')
    else:
        line = line.replace(b'"at":', b'"zt":')
    body = messages.build_request("statement", idem=canonical.b64(idem()), line=line.decode(), size=0, ws=office.now.ws)
    with pytest.raises(ZoppError) as refused:
        office.members["alice-laptop"].server.post("/v1/policy/acme", body)
    assert refused.value.code in ("bad_request", "refused", "denied")
    assert office.pull("alice-laptop").head == office.now.head


def test_s30_two_admins_demote_each_other_and_one_remains(office: Office) -> None:
    """S30: both from the same starting point, at the same time."""
    workspace = {"workspace": "acme"}
    office.do("alice-laptop", "binding.set", role="admin", scope=workspace, subject={"user": "bob"})
    lines = [
        office.line("alice-laptop", "binding.remove", {"scope": workspace, "subject": {"user": "bob"}}),
        office.line("bob-laptop", "binding.remove", {"scope": workspace, "subject": {"user": "alice"}}),
    ]
    outcomes: list[str] = []

    def send(line: bytes) -> None:
        st = statement.parse(line)
        body = messages.build_request(
            "statement", idem=canonical.b64(idem()), line=line.decode(), size=0, ws=office.now.ws
        )
        try:
            office.members[st.by].server.post("/v1/policy/acme", body)
            outcomes.append("accepted")
        except ZoppError as exc:
            outcomes.append(exc.code)

    threads = [Thread(target=send, args=(line,)) for line in lines]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["accepted", "stale_prev"]
    state = office.pull("carol-laptop")
    admins = [str(state.role(f"{user}-laptop", "acme")) for user in ("alice", "bob")]
    assert sorted(admins) == ["admin", "none"]


def test_a_server_key_that_this_server_lacks_is_refused(office: Office) -> None:
    _, recipient = identity.generate()
    with pytest.raises(ZoppError) as refused:
        office.do("alice-laptop", "env.serverkey", env="api/production", recipient=recipient)
    assert refused.value.data["rule"] == "server_key"
    with pytest.raises(ZoppError) as refused:
        office.do("alice-laptop", "env.kind", env="api/production", kind="brokered")
    assert refused.value.data["rule"] == "server_key"


def test_another_server_cannot_be_set_behind_this_one_s_back(office: Office) -> None:
    """A6: the log key changes where the server was told of the next one, and only there."""
    data = {"log_key": canonical.b64(signing.generate().public), "origin": office.origin}
    line = office.line("alice-laptop", "server.set", data)
    with pytest.raises(ZoppError) as refused:
        office.send(line)
    assert refused.value.data["rule"] == "server"


def test_a_code_works_once(server: Live, database: Database) -> None:
    once = code(database)
    first = Office(server.origin, server.log_key, "first")
    first.genesis()
    first.take(first.server_set())
    first.upload(once)
    second = Office(server.origin, server.log_key, "second")
    second.genesis("zoe", "zoe-laptop")
    second.take(second.server_set("zoe-laptop"))
    for wrong in (once, "a" * 26, code(database)[:-1]):
        with pytest.raises(Denied, match="one-time code"):
            second.upload(wrong, "zoe-laptop")
    second.upload(code(database), "zoe-laptop")
    with pytest.raises(IntegrityError):
        second.upload(code(database), "zoe-laptop")
    assert first.pull("alice-laptop").head == first.now.head
    first.close()
    second.close()


def test_a_forged_genesis_is_refused(server: Live, database: Database) -> None:
    office = Office(server.origin, server.log_key)
    office.genesis()
    office.take(office.server_set())
    office.lines[0] = office.lines[0].replace(b'"workspace":"acme"', b'"workspace":"evil"')
    with pytest.raises(ZoppError) as refused:
        office.upload(code(database))
    assert refused.value.code in ("refused", "bad_request")
    office.close()


def test_a_log_of_another_server_is_refused(server: Live, database: Database) -> None:
    office = Office("http://127.0.0.1:1", server.log_key)
    office.genesis()
    office.take(office.server_set())
    office.members["alice-laptop"].server.origin = server.origin
    with pytest.raises(ZoppError) as refused:
        office.upload(code(database))
    assert refused.value.data["rule"] == "server"
    office.close()


def test_receipts_are_under_the_log_key_only(office: Office) -> None:
    line = office.line("alice-laptop", "group.create", {"group": "ops"})
    fields = office.send(line)
    made = receipts.of_json(fields["receipt"])
    other = Verifier(office.log.name, signing.generate().public)
    with pytest.raises(IntegrityError):
        receipts.check_line(made, line, other)
