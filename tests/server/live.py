"""The real server in a thread, and members who talk to it: keys, statements, releases, by `zopp.client` and
`zopp.protocol` only. Test keys, made anew each time."""

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn

from zopp import _fast
from zopp.client.transport import Answer, Server, idem
from zopp.keys import agefile, identity, signing
from zopp.keys.filekey import stanza_of
from zopp.policy import apply as policy_apply, canonical, log as policy_log, requests, statement
from zopp.policy.state import State
from zopp.protocol import messages, receipt as receipts, release
from zopp.tlog import checkpoint
from zopp.tlog.checkpoint import Checkpoint
from zopp.tlog.note import Verifier
from zopp_server import app, custody, startup
from zopp_server.batcher import Observer
from zopp_server.config import Settings
from zopp_server.gate import Gate
from zopp_server.service import Service


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def settings_for(database_url: str, folder: Path, *, port: int = 0, origin: str = "") -> Settings:
    """Settings of a server in `folder`, whose keys are made if they are not there."""
    folder.mkdir(exist_ok=True)
    if not (folder / "kek").exists():
        custody.make_kek(folder / "kek")
        custody.make_log_key(folder / "log_key")
    port = port or free_port()
    return Settings(
        database=database_url,
        origin=origin or f"http://127.0.0.1:{port}",
        data=folder,
        kek=folder / "kek",
        log_key=folder / "log_key",
        listen=("127.0.0.1", port),
    )


class Live:
    """A running server."""

    def __init__(self, settings: Settings, gate: Gate | None, observer: Observer | None, now: Any) -> None:
        self.settings = settings
        self.causes: list[BaseException] = []
        """What the server did not foresee."""
        self._gate, self._observer, self._now = gate, observer, now
        self._thread = threading.Thread(target=self._main, name="server", daemon=True)
        self._up = threading.Event()
        self._error: BaseException | None = None
        self.loop: asyncio.AbstractEventLoop | None = None
        self.service: Service | None = None
        self._uvicorn: uvicorn.Server | None = None

    @property
    def origin(self) -> str:
        return self.settings.origin

    @property
    def log_key(self) -> bytes:
        return custody.load_log_key(self.settings.log_key).public

    def start(self) -> None:
        self._thread.start()
        self._up.wait(30)
        if self._error is not None:
            raise self._error
        assert self._uvicorn is not None
        deadline = time.monotonic() + 20
        while not self._uvicorn.started:
            assert time.monotonic() < deadline, "the server did not come up"
            time.sleep(0.01)

    def _main(self) -> None:
        try:
            asyncio.run(self._run())
        except BaseException as exc:
            self._error = exc
        finally:
            self._up.set()

    async def _run(self) -> None:
        kwargs: dict[str, Any] = {"gate": self._gate, "observer": self._observer}
        if self._now is not None:
            kwargs["now"] = self._now
        async with startup.opened(self.settings, **kwargs) as service:
            self.service, self.loop = service, asyncio.get_running_loop()
            made = app.build(
                service, failed=lambda route, cause: self.causes.append(cause), health=lambda: startup.reasons(service)
            )
            host, port = self.settings.listen
            config = uvicorn.Config(
                made,
                host=host,
                port=port,
                lifespan="off",
                access_log=False,
                log_config=None,
                timeout_graceful_shutdown=5,
            )
            self._uvicorn = uvicorn.Server(config)
            self._up.set()
            await self._uvicorn.serve()

    def stop(self) -> None:
        if self._uvicorn is not None:
            self._uvicorn.should_exit = True
        self._thread.join(30)
        assert not self._thread.is_alive(), "the server did not stop"

    def run(self, work: Any) -> Any:
        """Run a coroutine in the server's loop."""
        assert self.loop is not None
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(30)


@contextmanager
def live(
    database_url: str,
    folder: Path,
    *,
    gate: Gate | None = None,
    observer: Observer | None = None,
    now: Any = None,
    settings: Settings | None = None,
) -> Iterator[Live]:
    """The server on a migrated database, stopped at the end."""
    server = Live(settings or settings_for(database_url, folder), gate, observer, now)
    server.start()
    try:
        yield server
    finally:
        server.stop()


# --- members


@dataclass
class Member:
    """One key holder. `principal` as in the policy."""

    principal: str
    key: signing.SigningKey
    secret: str
    recipient: str
    server: Server
    kept: Checkpoint | None = None

    @property
    def identities(self) -> list[identity.Identity]:
        return [identity.from_secret(self.secret, "test key")]


@dataclass
class Office:
    """A workspace as its admin sees it: the log, the fold, and who talks to which server."""

    origin: str
    log_key: bytes
    name: str = "acme"
    lines: list[bytes] = field(default_factory=list)
    state: State | None = None
    members: dict[str, Member] = field(default_factory=dict)

    @property
    def now(self) -> State:
        assert self.state is not None
        return self.state

    @property
    def log(self) -> Verifier:
        return Verifier(checkpoint.origin_of(self.origin, self.name, self.now.ws), self.log_key)

    def member(self, principal: str, origin: str = "") -> Member:
        key = signing.generate()
        secret, recipient = identity.generate()
        made = Member(principal, key, secret, recipient, Server(origin or self.origin, self.log_key, key))
        self.members[principal] = made
        return made

    def close(self) -> None:
        for member in self.members.values():
            member.server.close()

    # --- making lines

    def line(self, by: str, type: str, data: dict[str, Any], *, at: int | None = None) -> bytes:
        state = self.state
        signer = self.members[by].key if by in self.members else None
        body = statement.draft(
            type,
            data,
            ws=None if state is None else state.ws,
            seq=0 if state is None else state.seq + 1,
            prev=None if state is None else state.head,
            at=int(time.time()) if at is None else at,
            by=by,
        )
        assert signer is not None
        return statement.seal(body, [signer.sign(statement.to_sign(body))])

    def take(self, line: bytes) -> None:
        self.state = policy_apply.apply(self.state, statement.parse(line))
        self.lines.append(line)

    def genesis(self, user: str = "alice", device: str = "alice-laptop") -> None:
        admin = self.member(device)
        self.take(
            self.line(
                device,
                "genesis",
                {
                    "email_tag": None,
                    "key": canonical.b64(admin.key.public),
                    "principal": device,
                    "recipient": admin.recipient,
                    "salt": canonical.b64(_fast.sha256(device.encode())),
                    "user": user,
                    "workspace": self.name,
                },
            )
        )

    def server_set(self, by: str = "alice-laptop") -> bytes:
        return self.line(by, "server.set", {"log_key": canonical.b64(self.log_key), "origin": self.origin})

    def request(self, member: Member, user: str | None) -> dict[str, Any]:
        body = requests.draft(
            ws=self.now.ws,
            name=member.principal,
            user=user,
            key=member.key.public,
            recipient=member.recipient,
            id=_fast.sha256(member.principal.encode())[:16],
            not_after=int(time.time()) + 3600,
        )
        proof = canonical.b64(member.key.sign(requests.to_sign(body)))
        return {"proof": proof, "request": canonical.decode(body)}

    # --- talking

    def upload(self, code: str, by: str = "alice-laptop") -> Answer:
        log = b"".join(line + b"\n" for line in self.lines).decode()
        body = messages.build_request("workspace", code=code, log=log, ws=self.now.ws)
        answer = self.members[by].server.post(f"/v1/workspaces/{self.name}", body)
        fields = messages.parse_answer("workspace", answer.body)
        done = messages.done(fields)
        receipts.check_line(done.receipt, self.lines[-1], self.log)
        return answer

    def send(self, line: bytes, by: str | None = None) -> dict[str, Any]:
        """Have a line accepted, the receipt checked, the fold brought up."""
        st = statement.parse(line)
        member = self.members[by or st.by]
        body = messages.build_request(
            "statement",
            idem=canonical.b64(idem()),
            line=line.decode(),
            size=member.kept.size if member.kept else 0,
            ws=self.now.ws,
        )
        answer = member.server.post(f"/v1/policy/{self.name}", body)
        fields = messages.parse_answer("statement", answer.body)
        done = messages.done(fields)
        checked = receipts.check_line(done.receipt, line, self.log)
        checkpoint.consistent(member.kept, checked.checkpoint, done.consistency)
        member.kept = checked.checkpoint
        self.take(line)
        return fields

    def do(self, by: str, type: str, **data: Any) -> None:
        """A statement, signed and accepted."""
        self.send(self.line(by, type, data))

    def enrol(self, by: str, principal: str, user: str | None) -> Member:
        member = self.member(principal)
        made = self.request(member, user)
        data: dict[str, Any] = {**made, "cap": None, "vouch": None}
        self.do(by, "principal.enrol", **data)
        return member

    def server_key(self, by: str, env: str) -> str:
        member = self.members[by]
        body = messages.build_request("key", env=env, idem=canonical.b64(idem()), size=0, ws=self.now.ws)
        fields = messages.parse_answer("key", member.server.post(f"/v1/keys/{self.name}", body).body)
        return str(fields["recipient"])

    def brokered(self, by: str, env: str) -> str:
        """Make `env` brokered; gives its server key."""
        recipient = self.server_key(by, env)
        self.do(by, "env.serverkey", env=env, recipient=recipient)
        self.do(by, "env.kind", env=env, kind="brokered")
        return recipient

    def release(
        self, principal: str, items: list[release.Item], env: str | None, *, purpose: str = "read", check: bool = True
    ) -> release.Accepted:
        member = self.members[principal]
        request = release.Request(
            ws=self.now.ws,
            env=env,
            purpose=purpose,
            size=member.kept.size if member.kept else 0,
            idem=idem(),
            items=tuple(items),
        )
        body = release.build_request(request)
        answer = member.server.post(f"/v1/releases/{self.name}", body)
        made = release.accept(
            release.parse_response(answer.body),
            request,
            self.log,
            sent=answer.sent,
            body=body,
            kept=member.kept,
            identities=member.identities,
        )
        member.kept = made.checkpoint or member.kept
        return made

    def pull(self, principal: str, begin: int = 0) -> State:
        """The whole log from the server, folded."""
        member = self.members[principal]
        fields = messages.parse_answer("policy", member.server.get(f"/v1/policy/{self.name}?from={begin}").body)
        return policy_log.fold("".join(line + "\n" for line in fields["lines"]).encode(), genesis=self.now.ws)


def stanza(recipient: str, payload: bytes = b"share") -> tuple[release.Item, bytes]:
    """(item, the binary age file it is from)."""
    armored = agefile.wrap(recipient, payload)
    data = agefile.dearmor(armored)
    share, body = stanza_of(data)
    return release.Item(share, body), data


def team(office: Office, code: str) -> None:
    """acme: alice admin, bob write and carol read on api/production, which is brokered, and api/dev, direct."""
    office.genesis()
    office.take(office.line("alice-laptop", "project.create", {"project": "api"}))
    for env in ("production", "dev"):
        data = {"env": f"api/{env}", "kind": "direct", "protected": env == "production"}
        office.take(office.line("alice-laptop", "env.create", data))
    office.take(office.server_set())
    office.upload(code)
    for user, role in (("bob", "write"), ("carol", "read")):
        office.do("alice-laptop", "user.add", email_tag=None, user=user)
        office.enrol("alice-laptop", f"{user}-laptop", user)
        scope = {"env": "api/production"}
        office.do("alice-laptop", "binding.set", role=role, scope=scope, subject={"user": user})
