"""`zopp server adopt`: an existing log is uploaded, and its last line names the server (policy-server.md §3.2, §4.1).

The admin signs `server.set` after seeing origin and log key; whoever runs the server gave a one-time code, which lets
upload and admits nobody. A later change of the log key is an ordinary statement, accepted under the key it replaces.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from zopp.client import remembered
from zopp.client.policylog import Log
from zopp.client.transport import Server, Tls, server_info
from zopp.errors import Denied, FormatError, IntegrityError, Unknown, UsageError
from zopp.keys.signing import SigningKey
from zopp.policy import canonical, fields as f, log as policy_log, roles
from zopp.protocol import messages, mirror
from zopp.protocol.mirror import Mirror
from zopp.protocol.signing import fingerprint
from zopp.repo import userdirs
from zopp.repo.draft import Accepted, Draft
from zopp.repo.workspace import Workspace
from zopp.tlog import checkpoint, proof


@dataclass(frozen=True, slots=True)
class Offered:
    """What a server says of itself, unsigned: for a person to compare with whoever runs it. `log_key` has 32 bytes."""

    origin: str
    log_key: bytes

    @property
    def fingerprint(self) -> str:
        """`SHA256:…` of the log key, as `ssh-keygen -l` prints one."""
        return fingerprint(self.log_key)


def origin_of(typed: str) -> str:
    """The origin that a typed address means; UsageError for one that cannot be in a policy."""
    made = typed.strip().rstrip("/").lower()
    problems: list[f.Problem] = []
    f.ORIGIN.check(made, "URL", problems)
    if problems:
        raise UsageError("is " + problems[0][1], code="server.origin", place="URL")
    return made


def look(typed: str, tls: Tls) -> Offered:
    """What the server at this address offers. UsageError, Unknown (`server.unreachable`, `server.foreign`), and
    IntegrityError (`server.origin`) if it calls itself something else: requests to it would not verify there."""
    origin = origin_of(typed)
    try:
        fields = messages.parse_answer("server", server_info(origin, tls=tls))
    except FormatError:
        raise Unknown("there is no policy server at this address", code="server.foreign", place=origin) from None
    if fields["origin"] != origin:
        raise IntegrityError(
            f"the server calls itself {fields['origin']}",
            code="server.origin",
            place=origin,
            hint=f"zopp server adopt {fields['origin']}",
        )
    return Offered(origin, canonical.unb64(fields["log_key"], 32))


def key_of(text: str) -> bytes:
    """A log key as it is typed: base64url as in statements. UsageError otherwise."""
    try:
        return f.public_key(text.strip())
    except FormatError:
        raise UsageError("is no log key (43 characters of base64url)", code="log_key", place="--log-key") from None


def uploader(code: str, offered: Offered) -> Callable[[Draft], Accepted]:
    """The `submit` of a draft whose last line is the `server.set` of this server: the whole log is uploaded with the
    one-time code. Nothing is written unless the receipt of that line holds; IntegrityError (`policy.receipt`)."""

    def submit(draft: Draft) -> Accepted:
        state, lines = draft.state, [*draft.ws.log[:-1].split(b"\n"), *draft.lines]
        log = b"".join(line + b"\n" for line in lines)
        if len(log) > messages.MAX_LOG:
            raise UsageError("the policy log is longer than a server takes", code="too_large")
        body = messages.build_request("workspace", code=code, log=log.decode(), ws=state.ws)
        with Server(offered.origin, offered.log_key, draft.signer.key, tls=Tls.of(draft.ws.env)) as server:
            answer = server.post(f"/v1/workspaces/{state.name}", body)
        fields = messages.parse_answer("workspace", answer.body)
        done = messages.done(fields)
        try:
            checked = mirror.check_last(done.receipt, state, lines[-1], (mirror.verifier(state, state.servers[-1]),))
            checkpoint.consistent(None, checked.checkpoint, done.consistency)
        except (IntegrityError, FormatError) as exc:
            raise IntegrityError(
                f"the server does not prove that it took the log: {exc.message}",
                code="policy.receipt",
                place=offered.origin,
                hint="nothing is written here; ask whoever runs it",
            ) from None
        remembered.advance(userdirs.state(draft.ws.env), state.ws, proof.parse(done.receipt.proof).note)
        return Accepted(log, state, Mirror((), done.receipt).serialise())

    return submit


def there_already(ws: Workspace, key: SigningKey, offered: Offered) -> Log | None:
    """The log as the server has it, if it took it before and the answer was lost on the way; None if it does not know
    this workspace (or this key in it, which it does not tell apart). Errors as in `policylog.Log.fetch`."""
    lines = policy_log.split(ws.log)
    log = Log(
        Server(offered.origin, offered.log_key, key, tls=Tls.of(ws.env)),
        ws.state,
        lines,
        None,
        userdirs.state(ws.env),
        (mirror.verifier(ws.state, roles.Server(offered.origin, offered.log_key, 0)),),
    )
    try:
        log.fetch()
    except Denied as exc:
        if exc.code != "bad_signature":
            raise
        return None
    finally:
        log.server.close()
    return log
