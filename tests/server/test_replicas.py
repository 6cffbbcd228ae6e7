"""Two servers on one database: what one has made durable the other holds the database to (A23)."""

import asyncio
import http.client
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.server.conftest import Database, url
from tests.server.live import Live, Member, Office, live, settings_for, stanza
from tests.server.test_ci import ENVIRONMENT, Job, ci, keys_of_issuers, trust  # noqa: F401
from zopp.client.transport import Server, idem
from zopp.errors import Unknown, ZoppError
from zopp.policy import canonical, requests
from zopp.protocol import messages
from zopp.tlog import entry
from zopp_server import embedded, operate, startup
from zopp_server.config import Settings

PROD = "api/production"
Back = Callable[[Any], Awaitable[None]]


def beside(first: Settings, database: Database, folder: Path) -> Settings:
    """The settings of a second server with the keys and the origin of the first, on a disk of its own."""
    made = settings_for(url(database), folder)
    return replace(made, kek=first.kek, log_key=first.log_key, origin=first.origin)


@pytest.fixture
def idle(office: Office, server: Live, database: Database, tmp_path: Path) -> Iterator[Live]:
    """A second server that is only looked at, made from a checkpoint."""
    settings = beside(server.settings, database, tmp_path / "idle")
    note = office.members["alice-laptop"].server.get("/v1/log/acme/checkpoint").body
    asyncio.run(operate.restore(settings, note, None))
    with live(settings.database, settings.data, settings=settings) as running:
        yield running
        assert not running.causes


def revoked(office: Office, database: Database, *, log: bool) -> Back:
    """Revoke carol; gives what the owner of the database does to take it back, `log` or the policy alone."""
    ws, seq, head = office.now.ws, office.now.seq, office.now.head
    was = database.run(
        embedded.SUPERUSER,
        lambda c: c.fetchrow("SELECT size, root, frontier, checkpoint FROM audit.log WHERE log_id = $1", ws),
    )
    office.do("alice-laptop", "binding.remove", scope={"env": PROD}, subject={"user": "carol"})

    async def back(connection: Any) -> None:
        await connection.execute("SET session_replication_role = replica")
        for table in ("entry", "log", "tile") if log else ():
            await connection.execute(f"ALTER TABLE audit.{table} DISABLE TRIGGER ALL")
        if log:
            await connection.execute("DELETE FROM audit.entry WHERE log_id = $1 AND seq >= $2", ws, was["size"])
            await connection.execute(
                "UPDATE audit.log SET size = $2, root = $3, frontier = $4, checkpoint = $5 WHERE log_id = $1", ws, *was
            )
        await connection.execute("DELETE FROM policy.statement WHERE ws = 'acme' AND seq > $1", seq)
        await connection.execute(
            "UPDATE policy.workspace SET policy_seq = $1, policy_head = decode($2, 'hex')", seq, head
        )

    return back


@pytest.mark.parametrize("log", [True, False])
def test_a23_a_server_that_wrote_nothing_since_finds_a_rollback(
    office: Office, idle: Live, database: Database, log: bool
) -> None:
    """The other server saw the revocation, this one has not been asked anything: it looks by itself every second."""
    sealed = office.brokered("alice-laptop", PROD)
    back = revoked(office, database, log=log)
    idle.run(startup.probe(idle.service))  # type: ignore[arg-type]
    database.run(embedded.SUPERUSER, back)
    carol = office.members["carol-laptop"]
    carol.server.close()
    carol.server._connection = http.client.HTTPConnection("127.0.0.1", idle.settings.listen[1], timeout=20)
    with pytest.raises(Unknown) as refused:
        office.release("carol-laptop", [stanza(sealed)[0]], PROD)
    assert refused.value.code == "recovery"


def test_a23_a_rollback_is_found_without_a_request(office: Office, idle: Live, database: Database) -> None:
    back = revoked(office, database, log=True)
    idle.run(startup.probe(idle.service))  # type: ignore[arg-type]
    database.run(embedded.SUPERUSER, back)
    end = time.monotonic() + 10
    assert idle.service is not None
    while "recovery" not in startup.reasons(idle.service):
        assert time.monotonic() < end
        time.sleep(0.1)


def test_two_first_starts_at_once(database: Database, tmp_path: Path) -> None:
    """On an empty database, where there is no head yet to wait for."""
    first = settings_for(url(database), tmp_path / "a")
    errors: list[BaseException] = []

    def go(settings: Settings) -> None:
        try:
            with live(settings.database, settings.data, settings=settings):
                time.sleep(0.5)
        except BaseException as exc:
            errors.append(exc)

    each = (first, beside(first, database, tmp_path / "b"))
    threads = [threading.Thread(target=go, args=(settings,)) for settings in each]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert errors == []


class Held:
    """A connection whose answers to `which` (fetchrow, fetch) come late."""

    def __init__(self, connection: Any, which: str) -> None:
        self._connection, self._which = connection, which
        self.asked, self.free = asyncio.Event(), asyncio.Event()

    async def _late(self, which: str, made: Any) -> Any:
        found = await made
        if which == self._which:
            self.asked.set()
            await self.free.wait()
        return found

    async def fetchrow(self, *args: Any) -> Any:
        return await self._late("fetchrow", self._connection.fetchrow(*args))

    async def fetch(self, *args: Any) -> Any:
        return await self._late("fetch", self._connection.fetch(*args))


@pytest.mark.parametrize("which", ["fetchrow", "fetch"])
def test_two_that_bring_a_workspace_up_at_once(office: Office, idle: Live, which: str) -> None:
    """One has read the lines, or the head, while another goes further: neither fails, and nothing goes back."""

    async def race() -> tuple[int, int]:
        service = idle.service
        assert service is not None
        loop = asyncio.get_running_loop()
        async with service.reading() as one, service.reading() as two:
            await loop.run_in_executor(None, lambda: office.do("alice-laptop", "group.create", group="first"))
            held = Held(one, which)
            slow = asyncio.create_task(service.workspaces.get(held, "acme"))  # type: ignore[arg-type]
            await held.asked.wait()
            await loop.run_in_executor(None, lambda: office.do("alice-laptop", "group.create", group="second"))
            quick = await service.workspaces.get(two, "acme")
            held.free.set()
            late = await slow
        assert quick is not None
        assert late is not None
        return quick.state.seq, late.state.seq

    assert idle.run(race()) == (office.now.seq, office.now.seq)


def elsewhere(office: Office, who: str, server: Live) -> None:
    """Have the next requests of a member go to `server`."""
    connection = http.client.HTTPConnection("127.0.0.1", server.settings.listen[1], timeout=20)
    office.members[who].server.close()
    office.members[who].server._connection = connection


def test_a_server_key_made_by_one_is_named_at_the_other(office: Office, idle: Live) -> None:
    """Behind a load balancer the two requests of an admin come to different servers."""
    elsewhere(office, "alice-laptop", idle)
    office.pull("alice-laptop")  # the idle one has loaded the workspace, and knows no key
    office.members["alice-laptop"].server.close()
    recipient = office.server_key("alice-laptop", PROD)
    elsewhere(office, "alice-laptop", idle)
    office.do("alice-laptop", "env.serverkey", env=PROD, recipient=recipient)
    office.do("alice-laptop", "env.kind", env=PROD, kind="brokered")
    assert office.release("carol-laptop", [stanza(recipient)[0]], PROD).keys[0] is not None


def test_two_that_make_a_server_key_at_once_make_one(office: Office, server: Live, idle: Live) -> None:
    """What the log records is what was kept, and both admins are told that."""
    for round_ in range(5):
        office.do("alice-laptop", "env.create", env=f"api/e{round_}", kind="direct", protected=False)
        found: list[str] = []
        errors: list[BaseException] = []

        def ask(origin: str, env: str, found: list[str] = found, errors: list[BaseException] = errors) -> None:
            alice = office.members["alice-laptop"]
            own = Server(office.origin, office.log_key, alice.key)
            own._connection = http.client.HTTPConnection(origin, timeout=20)
            body = messages.build_request("key", env=env, idem=canonical.b64(idem()), size=0, ws=office.now.ws)
            try:
                fields = messages.parse_answer("key", own.post("/v1/keys/acme", body).body)
                recorded = entry.parse(fields["receipt"]["body"].encode())
                assert recorded.data["recipient"] == fields["recipient"]
                found.append(fields["recipient"])
            except (AssertionError, ZoppError) as exc:
                errors.append(exc)
            finally:
                own.close()

        hosts = [f"127.0.0.1:{each.settings.listen[1]}" for each in (server, idle)]
        threads = [threading.Thread(target=ask, args=(host, f"api/e{round_}")) for host in hosts]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert errors == []
        assert len(set(found)) == 1


def replaced(office: Office, principal: str, user: str) -> Member:
    """The device gets other keys: who still has the former ones."""
    former = office.members[principal]
    member = office.member(principal)
    body = requests.draft(
        ws=office.now.ws, name=principal, user=user, key=member.key.public, recipient=member.recipient, id=b"r" * 16,
        not_after=int(time.time()) + 3600,
    )  # fmt: skip
    proof = canonical.b64(member.key.sign(requests.to_sign(body)))
    office.do("alice-laptop", "principal.rekey", proof=proof, request=canonical.decode(body), vouch=None)
    return former


def denials(database: Database) -> list[tuple[str | None, str | None]]:
    rows = database.run("zopp_app", lambda c: c.fetch("SELECT body FROM audit.entry WHERE action = 'auth'"))
    return [(made.actor, made.reason) for made in (entry.parse(row["body"]) for row in rows)]


def test_a_replaced_key_opens_nothing_at_a_server_that_has_not_heard(
    office: Office, idle: Live, database: Database
) -> None:
    """It is let in by what this server knows, and refused under the lock."""
    sealed = office.brokered("alice-laptop", PROD)
    elsewhere(office, "carol-laptop", idle)
    office.release("carol-laptop", [stanza(sealed)[0]], PROD)
    former = replaced(office, "carol-laptop", "carol")
    fresh, office.members["carol-laptop"] = office.members["carol-laptop"], former
    with pytest.raises(ZoppError) as refused:
        office.release("carol-laptop", [stanza(sealed)[0]], PROD)
    assert refused.value.code == "bad_signature"
    assert denials(database) == [("carol-laptop", "unknown_principal")]
    former.server.close()
    office.members["carol-laptop"] = fresh
    elsewhere(office, "carol-laptop", idle)
    assert office.release("carol-laptop", [stanza(sealed)[0]], PROD).keys[0] is not None


def test_a_job_of_a_rule_that_was_changed_reads_nothing_at_a_server_that_has_not_heard(
    office: Office,
    ci: Member,  # noqa: F811
    idle: Live,
    database: Database,
) -> None:
    sealed = office.brokered("alice-laptop", PROD)
    job = Job(office, ci)
    member = job.register(job.token())
    elsewhere(office, member.principal, idle)
    assert office.release(member.principal, [stanza(sealed)[0]], PROD).keys[0] is not None
    trust(office, "deploy", {**ENVIRONMENT, "ref": "refs/heads/release"})
    with pytest.raises(ZoppError) as refused:
        office.release(member.principal, [stanza(sealed)[0]], PROD)
    assert refused.value.code == "bad_signature"
    assert denials(database) == [(member.principal, "rule")]
