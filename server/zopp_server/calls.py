"""One request: what came, who sent it, how it is answered. Shared by all routes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from zopp.errors import Denied, FormatError, NotFound, Unknown, UsageError, ZoppError
from zopp.policy import canonical
from zopp.policy.state import State
from zopp.protocol import clock, problem, signing
from zopp_server import auth
from zopp_server.auth import Caller, Refused
from zopp_server.batcher import Context, Decided, Job, Recorded, bucket_of
from zopp_server.entries import Draft, draft
from zopp_server.service import Service
from zopp_server.workspaces import Workspace

JSON = "application/json"
DECISION_SECONDS = 25.0
"""How long a caller waits for its answer; the job itself is not cut."""


@dataclass(slots=True, kw_only=True)
class Call:
    """A request as it came. `path` raw and undecoded, `query` without `?`, `ws` the workspace's name in the path."""

    method: str
    path: str
    query: str
    fields: list[tuple[str, str]]
    body: bytes
    addr: str | None
    ws: str = ""
    rest: str = ""


@dataclass(slots=True, kw_only=True)
class Answer:
    """What goes back. `caller` and `outcome` are for the server's own log and counters."""

    status: int
    body: bytes
    type: str = JSON
    id: bytes | None = None
    caller: str | None = None
    outcome: str = ""
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(slots=True)
class Refusal(Exception):
    """A refusal with what its problem carries. `id` the request's in the log."""

    code: str
    detail: str
    members: Mapping[str, Any] | None = None
    id: bytes | None = None
    next: str = ""
    caller: str | None = None


def answer_of(exc: Refusal) -> Answer:
    """The answer that a refusal is."""
    status = problem.CODES[exc.code].status
    headers: tuple[tuple[str, str], ...] = ()
    if status in (429, 503):
        wait = (exc.members or {}).get("retry_after", 1)
        headers = (("Retry-After", str(wait)),)
    body = problem.build(exc.code, exc.detail, next=exc.next, members=exc.members, request=exc.id)
    return Answer(
        status=status, body=body, type=problem.CONTENT_TYPE, id=exc.id, caller=exc.caller, outcome=exc.code,
        headers=headers,
    )  # fmt: skip


def refusal(exc: ZoppError, caller: Caller | None = None) -> Refusal:
    """An error of the library as a refusal: its own code where the protocol has it, else the nearest."""
    code = exc.code if exc.code in problem.CODES else _nearest(exc)
    members: dict[str, Any] = {}
    known = problem.CODES[code]
    if set(known.must) - set(exc.data):
        code, known = "refused", problem.CODES["refused"]
    for name in (*known.must, *known.may):
        if name in exc.data:
            members[name] = exc.data[name]
    detail = exc.message if exc.message.isprintable() and 0 < len(exc.message) <= 1024 else "the request is refused"
    return Refusal(
        code, detail, members, None if caller is None else caller.id, "", None if caller is None else caller.name
    )


def _nearest(exc: ZoppError) -> str:
    if isinstance(exc, (FormatError, UsageError)):
        return "bad_request"
    if isinstance(exc, NotFound):
        return "not_found"
    if isinstance(exc, Denied):
        return "denied"
    return "audit_unavailable" if isinstance(exc, Unknown) else "refused"


async def enter(service: Service, call: Call, kinds: tuple[str, ...]) -> Caller:
    """The verified caller of a request for a workspace. Refusal otherwise; the refusal of a valid signature is
    recorded first."""
    service.gate.stranger(call.addr)
    try:
        presented = signing.read(call.fields, method=call.method, target=_target(service, call), body=call.body)
    except ZoppError:
        service.gate.failed(call.addr)
        raise Refusal("bad_signature", auth.bad_signature().message) from None
    keyid = presented.keyid
    workspace = await service.workspace(call.ws, keyid)
    job = None
    if workspace is not None and "ci" in kinds and workspace.by_fingerprint(keyid) is None:
        job = await service.ci_jobs(workspace, keyid)
    try:
        caller = auth.identify(
            presented,
            workspace=workspace,
            ci=lambda _: job,
            now=int(service.now()),
            addr=call.addr,
            kinds=kinds,
        )
    except Refused as exc:
        if exc.caller is None:
            service.gate.failed(call.addr)
        else:
            await record_refused(service, exc.caller, exc.reason)
        if exc.error.code == "clock_skew" and exc.caller is not None:
            members = clock.attest(service.log_key, nonce=exc.caller.presented.nonce, time=int(service.now()))
            raise Refusal("clock_skew", exc.error.message, members, exc.caller.id) from None
        raise Refusal("bad_signature", auth.bad_signature().message) from None
    service.gate.member(call.ws, caller.principal)
    caller.ip = await service.ip(call.ws, caller)
    return caller


def _target(service: Service, call: Call) -> str:
    return signing.target_uri(service.origin, call.path, call.query)


async def record_refused(service: Service, caller: Caller, reason: str) -> None:
    """A valid signature that is refused gets an entry; that it cannot be written changes nothing for the caller."""
    if not service.gate.refused(caller.workspace.name, caller.principal):
        return

    def decide(workspace: Workspace | None, context: Context) -> Decided:
        assert workspace is not None
        return Decided([auth_entry(workspace, caller, reason, context)])

    try:
        await service.within(DECISION_SECONDS, service.batcher.do(Job(caller.workspace.name, decide)))
    except Unknown:
        return


def auth_entry(workspace: Workspace, caller: Caller, reason: str, context: Context) -> Draft:
    """The record of a valid signature that was refused."""
    return draft(
        "auth", {}, ts=context.now, id=caller.id, outcome="deny", reason=reason, actor=caller.name,
        on_behalf=caller.service, policy_seq=workspace.state.seq, request=caller.presented.request, ip=caller.ip,
    )  # fmt: skip


async def record(
    service: Service,
    caller: Caller,
    decide: Callable[[Workspace, Context], Decided],
    *,
    size: int = 0,
    idem: bytes | None = None,
    body: bytes = b"",
    weight: int = 1,
    extra: tuple[tuple[int, str, bytes], ...] = (),
) -> Recorded:
    """Have a decision recorded with this caller's nonce used up. `decide` is called under the lock, after the caller
    was found to be still what it was; `extra` are further nonces to be used up. Raises what it decides, a Refusal as
    its value too; Denied (`replayed`), with an entry, if a nonce was used before."""

    def checked(workspace: Workspace | None, context: Context) -> Decided:
        assert workspace is not None
        why = caller.still(workspace.state)
        if why is not None:
            return Decided([auth_entry(workspace, caller, why, context)], error=auth.bad_signature())
        if abs(context.now - caller.presented.created * 1000) > signing.WINDOW * 1000:
            # It waited; recorded now it would not be one that `audit verify` finds fresh. To be signed anew.
            raise Unknown("the request waited too long", code="busy")
        if context.again and not context.same:
            raise FormatError("the idempotency key was used with another request", code="bad_request")
        try:
            decided = decide(workspace, context)
        except Refusal as exc:
            return Decided(value=exc)
        if not decided.entries or decided.lines:
            return decided  # what was accepted is never kept out: it may take a role away
        refused = isinstance(decided.value, Refusal)
        if refused and not service.gate.denial(
            workspace.name, caller.principal, roleless=_roleless(workspace.state, caller.principal)
        ):
            return Decided(value=decided.value)
        service.gate.written(workspace.name, caller.principal, sum(len(each.body) for each in decided.entries))
        return decided

    def replayed(workspace: Workspace | None, context: Context) -> Decided:
        assert workspace is not None
        entries = []
        if service.gate.refused(workspace.name, caller.principal):
            entries.append(auth_entry(workspace, caller, "replayed", context))
        return Decided(entries, error=signing.replayed())

    keyid, nonce = caller.nonce
    job = Job(
        caller.workspace.name,
        checked,
        size=size,
        nonces=((bucket_of(caller.presented.created), keyid, nonce), *extra),
        idem=None if idem is None else (caller.name, canonical.b64(idem), _digest(body)),
        replayed=replayed,
        addr=caller.addr,
        weight=weight,
    )
    found: Recorded = await service.within(DECISION_SECONDS, service.batcher.do(job))
    if isinstance(found.value, Refusal):
        raise found.value
    return found


def _roleless(state: State, principal: str) -> bool:
    """Whether nothing gives this principal, or the invite, a role anywhere: its refusals are counted, not recorded."""
    found = state.principals.get(principal)
    if found is None:
        return True
    mine = {found.holder, *state.groups_of(found.holder)}
    return not any(subject.name in mine for subject, _, _ in state.bindings)


def _digest(body: bytes) -> bytes:
    from zopp import _fast

    return _fast.sha256(body)


def same_workspace(caller: Caller, ws: str) -> None:
    """`ws` of a body is the genesis of the workspace in the URL (A10). Refusal (`bad_request`) otherwise."""
    if ws != caller.workspace.log:
        raise Refusal("bad_request", "the body names another workspace than the URL", None, caller.id, "", caller.name)


def query(text: str, allowed: Mapping[str, str]) -> dict[str, Any]:
    """The parameters of a query string: `allowed` maps a name to `int` or `text`. FormatError (`bad_request`) for an
    unknown or repeated one, and for what is not of its kind; no value is quoted."""
    found: dict[str, Any] = {}
    for part in filter(None, text.split("&")):
        name, _, value = part.partition("=")
        if name not in allowed:
            raise FormatError("an unknown query parameter", code="bad_request")
        if name in found:
            raise FormatError(f"the query parameter {name} stands twice", code="bad_request")
        if allowed[name] == "int":
            if not (0 < len(value) <= 16 and value.isascii() and value.isdigit()) or int(value) > canonical.MAX_INT:
                raise FormatError(f"the query parameter {name} is not a number", code="bad_request")
            found[name] = int(value)
        else:
            # names, actions and roles have no character that would be escaped, but for the slash of an environment
            value = value.replace("%2F", "/").replace("%2f", "/")
            if not 0 < len(value) <= 256 or value.strip("abcdefghijklmnopqrstuvwxyz0123456789-_./@"):
                raise FormatError(f"the query parameter {name} is not a name", code="bad_request")
            found[name] = value
    return found
