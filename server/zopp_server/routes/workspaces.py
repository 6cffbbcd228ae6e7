"""A new workspace: a one-time code and a signed log (policy-server.md §3.2 Bootstrap).

The code lets upload; it admits nobody. Who is admin is in the genesis, which its own key signed, and the last line is
the admin's `server.set` that names this server.
"""

from __future__ import annotations

import asyncio
import os
import re
from typing import Any

from zopp import _fast
from zopp.errors import IntegrityError, ZoppError
from zopp.policy import canonical, log as policy_log, statement
from zopp.policy.state import State
from zopp.policy.statement import Statement
from zopp.protocol import messages, signing
from zopp.tlog import checkpoint
from zopp_server import custody
from zopp_server.auth import Caller, bad_signature
from zopp_server.batcher import Context, Decided, Job, bucket_of
from zopp_server.calls import DECISION_SECONDS, Answer, Call, Refusal
from zopp_server.entries import Draft
from zopp_server.routes.statements import MAX_SKEW, check_genesis_log, entry
from zopp_server.service import Service
from zopp_server.workspaces import Workspace


def code_hash(code: str) -> bytes:
    """What the database has of a one-time code."""
    return _fast.sha256(b"zopp-bootstrap-v1\0" + code.encode())


async def begun(service: Service, addr: str | None, body: bytes) -> bool:
    """Whether a body begins with a code that is good: nobody else's log is read, let alone parsed."""
    service.gate.stranger(addr)
    found = _BEGIN.match(body)
    if found is None:
        return False
    async with service.reading() as connection:
        good: bool = await connection.fetchval(
            "SELECT EXISTS (SELECT FROM rt.bootstrap b WHERE code_sha256 = $1 AND expires > now()"
            " AND NOT EXISTS (SELECT FROM rt.bootstrap_use u WHERE u.code_sha256 = b.code_sha256))",
            code_hash(found[1].decode()),
        )
    return good


async def post(service: Service, call: Call) -> Answer:
    """`POST /v1/workspaces/WS`."""
    if not await begun(service, call.addr, call.body):
        service.gate.failed(call.addr)
        raise Refusal("denied", "the one-time code is wrong, used or expired", {"rule": "code"}, None, _CODE)
    fields = messages.parse_request("workspace", call.body)
    digest = code_hash(fields["code"])
    target = signing.target_uri(service.origin, call.path, call.query)
    presented = signing.read(call.fields, method=call.method, target=target, body=call.body)
    lines = check_genesis_log(fields["log"])
    state, statements = await asyncio.to_thread(_fold, lines, fields["ws"])
    signer = next(
        (p for p in state.principals.values() if p.key is not None and signing.fingerprint(p.key) == presented.keyid),
        None,
    )
    try:
        signing.verify(presented, None if signer is None else signer.key)
        signing.check_fresh(presented, now=int(service.now()))
    except ZoppError:
        service.gate.failed(call.addr)
        raise Refusal("bad_signature", bad_signature().message) from None
    assert signer is not None
    assert signer.key is not None
    _check(service, call, state, statements, signer.name)
    origin = checkpoint.origin_of(service.origin, state.name, state.ws)
    dek = custody.new_dek(state.ws)
    made = Workspace(state.name, state.ws, origin, state, dek)
    caller = Caller("principal", signer.name, signer.key, made, presented, os.urandom(16), call.addr)
    now = int(service.now() * 1000)
    entries = await asyncio.to_thread(_entries, caller, statements, now)

    def decide(workspace: Workspace | None, context: Context) -> Decided:
        if workspace is not None:
            head = {"hash": workspace.state.head, "seq": workspace.state.seq}
            raise _exists(head)
        return Decided(
            entries,
            statements,
            None,
            [
                ("INSERT INTO rt.bootstrap_use VALUES ($1, $2)", (digest, state.name)),
                (
                    "INSERT INTO keys.dek VALUES ($1, $2, $3, $4)",
                    (state.name, service.workspaces.kek.id, dek.wrapped(service.workspaces.kek), dek.canary()),
                ),
            ],
            workspace=made,
        )

    job = Job(
        state.name,
        decide,
        nonces=((bucket_of(presented.created), presented.keyid, presented.nonce),),
        addr=call.addr,
        weight=len(entries),
        creates=True,
    )
    recorded = await service.within(DECISION_SECONDS * 4, service.batcher.do(job))
    body = messages.build_answer(
        "workspace",
        **messages.done_fields(caller.id, recorded.receipts[-1], recorded.consistency),
        hash=state.head,
        seq=state.seq,
    )
    return Answer(status=201, body=body, id=caller.id, caller=caller.name, outcome="accepted")


_BEGIN = re.compile(rb'\{"code":"([a-z2-7]{1,64})","')
_CODE = "ask whoever runs the server for a new code: zopp server bootstrap"


def _exists(head: dict[str, Any]) -> IntegrityError:
    return IntegrityError("the server has a workspace of this name already", code="stale_prev", head=head)


def _fold(lines: list[bytes], genesis: str) -> tuple[State, list[Statement]]:
    state = policy_log.fold(b"".join(line + b"\n" for line in lines), genesis=genesis)
    return state, [statement.parse(line) for line in lines]


def _entries(caller: Caller, statements: list[Statement], now: int) -> list[Draft]:
    context = Context(now)
    return [entry(caller, st, "allow", None, st.seq, context) for st in statements]


def _check(service: Service, call: Call, state: State, statements: list[Statement], signer: str) -> None:
    last = statements[-1]
    if state.name != call.ws:
        raise Refusal("bad_request", "the log is that of another workspace than the URL names")
    if last.type != "server.set" or last.by != signer:
        raise Refusal("refused", "the log's last line is no server.set of whoever sends it", {"rule": "server"})
    data = last.data
    if data["origin"] != service.origin or data["log_key"] != canonical.b64(service.log_key.public):
        raise Refusal("refused", "the log's last line names another server", {"rule": "server"})
    if abs(last.at - int(service.now())) > MAX_SKEW:
        raise Refusal("refused", "the log's last line is not dated now by this server's clock", {"rule": "at"})
    for env in state.envs.values():
        if env.kind == "brokered":
            raise Refusal("refused", "the log has a brokered environment of another server", {"rule": "server_key"})
