"""The policy log: statements are ordered here and made elsewhere (policy-server.md §4.1).

A statement is applied under the lock by `zopp.policy.apply`, the same function that clients and auditors run. What is
refused is recorded as refused, with the exact line; its inclusion proves nothing (A6).
"""

from __future__ import annotations

from typing import Any

from zopp.errors import FormatError, IntegrityError, ZoppError
from zopp.policy import apply as policy_apply, canonical, statement
from zopp.policy.names import Scope
from zopp.policy.statement import Statement
from zopp.protocol import messages
from zopp.protocol.messages import MAX_LINES
from zopp_server.auth import Caller
from zopp_server.batcher import Context, Decided
from zopp_server.calls import JSON, Answer, Call, Refusal, enter, query, record, record_refused, same_workspace
from zopp_server.entries import MAX_LINE, Draft, draft
from zopp_server.service import Service
from zopp_server.workspaces import Workspace

MAX_SKEW = 60
"""Seconds between a statement's `at` and the server's clock."""

_DENIED = ("authority", "I1", "I2", "A20", "not_human", "signer")


async def post(service: Service, call: Call) -> Answer:
    """`POST /v1/policy/WS`."""
    caller = await enter(service, call, ("principal", "invite"))
    fields = messages.parse_request("statement", call.body)
    same_workspace(caller, fields["ws"])
    line = fields["line"].encode()
    if len(line) > MAX_LINE:
        raise Refusal("too_large", "the statement is too long to be recorded", None, caller.id, "", caller.name)
    st = statement.parse(line)
    if st.by != caller.name:
        raise Refusal("denied", "the statement is by somebody else than who sends it", None, caller.id, "", caller.name)

    if st.type == "env.serverkey":
        async with service.reading() as connection:  # it may have been made at another replica
            await service.workspaces.load_keys(connection, caller.workspace)

    def decide(workspace: Workspace, context: Context) -> Decided:
        state = workspace.state
        if st.seq <= state.seq and state.hash_at(st.seq) == st.hash:
            return Decided(value=st.seq)  # accepted before: the same receipt
        refused = _refuse(service, workspace, st, context)
        if refused is None:
            try:
                after = policy_apply.apply(state, st)
            except IntegrityError as exc:
                rule = str(exc.data.get("rule", "policy"))
                code = "denied" if rule in _DENIED else "refused"
                refused = Refusal(code, exc.message[:1024], {"rule": rule}, caller.id, "", caller.name)
        if refused is not None:
            rule = str((refused.members or {}).get("rule", refused.code)).lower()
            return Decided([entry(caller, st, "deny", rule, state.seq, context)], value=refused)
        accepted = entry(caller, st, "allow", None, st.seq, context)
        return Decided([accepted], [st], after)

    try:
        recorded = await record(
            service, caller, decide, size=fields["size"], idem=canonical.unb64(fields["idem"], 16), body=call.body
        )
    except Refusal as exc:
        if exc.code == "stale_prev":
            service.gate.stale()
        raise
    if recorded.value is not None:
        async with service.reading() as connection:
            found = await connection.fetchval(
                "SELECT entry_seq FROM policy.statement WHERE ws = $1 AND seq = $2", call.ws, st.seq
            )
            receipt, consistency = await service.receipt(connection, caller.workspace.log, found, fields["size"])
    else:
        receipt, consistency = recorded.receipts[0], recorded.consistency
    body = messages.build_answer(
        "statement", **messages.done_fields(caller.id, receipt, consistency), hash=st.hash, seq=st.seq
    )
    return Answer(status=200, body=body, id=caller.id, caller=caller.name, outcome="accepted")


def _head(workspace: Workspace) -> dict[str, Any]:
    return {"hash": workspace.state.head, "seq": workspace.state.seq}


def _refuse(service: Service, workspace: Workspace, st: Statement, context: Context) -> Refusal | None:
    """What this server asks of a statement beside policy: it may refuse more, never less."""
    state = workspace.state
    if st.prev != state.head:
        return Refusal("stale_prev", "the policy has moved on", {"head": _head(workspace)})
    if abs(st.at - context.now // 1000) > MAX_SKEW:
        return Refusal("refused", "the statement is not dated now by this server's clock", {"rule": "at"})
    data = st.data
    if st.type == "env.serverkey":
        held = [key.recipient for key in workspace.keys.get(data["env"], ()) if key.private is not None]
        if data["recipient"] not in held:
            return Refusal("refused", "this server does not hold that key", {"rule": "server_key"})
    if st.type == "env.kind" and data["kind"] == "brokered":
        env = state.all_envs.get(data["env"])
        if env is not None and env.server_key is None:
            return Refusal("refused", "the environment has no server key yet", {"rule": "server_key"})
    if st.type == "env.create" and data["kind"] == "brokered":
        return Refusal(
            "refused", "an environment is made direct, and brokered once it has a server key", {"rule": "server_key"}
        )
    if st.type == "server.set":
        next_key = service.next_log_key
        mine = next_key is not None and data["log_key"] == canonical.b64(next_key)
        if data["origin"] != service.origin or not mine:
            return Refusal("refused", "this server is not the one that the statement names", {"rule": "server"})
    return None


def scope_of(st: Statement, name: str) -> Scope:
    """What a statement is about, as the log's columns have it."""
    data = st.data
    if "env" in data:
        return Scope("env", data["env"])
    if "project" in data:
        return Scope("project", data["project"])
    scope = data.get("scope")
    return Scope.of_json(canonical.thaw(scope)) if scope is not None else Scope("workspace", name)


def entry(caller: Caller, st: Statement, outcome: str, reason: str | None, seq: int, context: Context) -> Draft:
    """The record of a statement, accepted or refused."""
    return draft(
        "statement",
        {"line": canonical.decode(st.line)},
        ts=context.now,
        id=caller.id,
        outcome=outcome,
        reason=reason,
        actor=caller.name,
        scope=scope_of(st, caller.workspace.name),
        policy_seq=seq,
        request=caller.presented.request,
        ip=caller.ip,
    )


async def get(service: Service, call: Call) -> Answer:
    """`GET /v1/policy/WS?from=SEQ&size=N`."""
    caller = await enter(service, call, ("principal", "invite", "ci"))
    if caller.kind == "invite":
        # Whoever holds the code of an invite that was used may find out what became of it, and the admins hear of it.
        status = caller.workspace.state.invites[caller.name.removeprefix("invite/")].status
        if status != "open":
            await record_refused(service, caller, f"invite_{status}")
    wanted = query(call.query, {"from": "int", "size": "int"})
    begin, size = wanted.get("from", 0), wanted.get("size", 0)
    log = caller.workspace.log
    async with service.reading() as connection:
        rows = await connection.fetch(
            "SELECT seq, hash, line, entry_seq FROM policy.statement WHERE ws = $1 AND seq >= $2 ORDER BY seq LIMIT $3",
            *(call.ws, begin, MAX_LINES),
        )
        last = await connection.fetchrow(
            "SELECT seq, encode(hash, 'hex') AS hash, entry_seq FROM policy.statement WHERE ws = $1"
            " ORDER BY seq DESC LIMIT 1",
            call.ws,
        )
        if begin > last["seq"] + 1:
            raise Refusal("not_found", "the policy log is not so long", None, caller.id, "", caller.name)
        receipt, consistency = await service.receipt(connection, log, last["entry_seq"], size)
        keys = []
        for server in caller.workspace.state.servers[1:]:
            # accepted here, under the key it replaced; of a log that was uploaded the client has the receipts
            row = await connection.fetchrow(
                "SELECT entry_seq, note FROM policy.statement WHERE ws = $1 AND seq = $2", call.ws, server.since
            )
            keys += [made.json() for made in await service.kept_receipt(connection, log, row["entry_seq"], row["note"])]
    body = messages.build_answer(
        "policy",
        consistency=messages.hashes(consistency),
        head={"hash": last["hash"], "seq": last["seq"]},
        keys=keys,
        lines=[row["line"].decode() for row in rows],
        receipt=receipt.json(),
    )
    return Answer(status=200, body=body, type=JSON, id=caller.id, caller=caller.name, outcome="read")


def check_genesis_log(data: str) -> list[bytes]:
    """The lines of an uploaded log. FormatError for anything else, and for a line too long to be recorded."""
    from zopp.policy.log import split

    lines = split(data.encode())
    if any(len(line) > MAX_LINE for line in lines):
        raise FormatError("a line of the log is too long to be recorded", code="too_large")
    return lines


__all__ = ["ZoppError", "check_genesis_log", "entry", "get", "post", "scope_of"]
