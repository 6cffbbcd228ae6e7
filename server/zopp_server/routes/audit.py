"""The audit log for its admins and auditors; reading it is an entry too (policy-server.md §5.5)."""

from __future__ import annotations

from typing import Any

import asyncpg

from zopp.errors import FormatError
from zopp.policy import decisions
from zopp.policy.names import Scope
from zopp.policy.state import State
from zopp.protocol import messages
from zopp.protocol.messages import MAX_PAGE
from zopp.tlog import entry as entries
from zopp_server.auth import Caller
from zopp_server.batcher import Context, Decided, Recorded
from zopp_server.calls import Answer, Call, Refusal, enter, query, record
from zopp_server.entries import OUTCOMES, draft
from zopp_server.service import Service
from zopp_server.workspaces import Workspace

FILTERS = {
    "action": "text", "before": "int", "env": "text", "limit": "int", "outcome": "text", "principal": "text",
    "project": "text", "since": "int", "size": "int", "until": "int", "user": "text",
}  # fmt: skip
MAX_BYTES = 1 << 25
"""Of entries in one answer; what does not fit is the next page's."""
MAX_TIME = 253_402_300_800
"""Unix seconds: the end of the year 9999, beyond which Postgres may have no date."""


async def get(service: Service, call: Call) -> Answer:
    """`GET /v1/audit/WS`: entries that fit the filters, newest first."""
    caller = await enter(service, call, ("principal",))
    wanted = query(call.query, FILTERS)
    where, arguments = conditions(caller.workspace.state, wanted)
    limit = min(wanted.get("limit", 100), MAX_PAGE)
    await _allowed(service, caller, call.query, wanted.get("size", 0))
    async with service.reading() as connection:
        rows = await connection.fetch(
            f"SELECT seq, body FROM audit.entry WHERE log_id = $1 AND seq < $2{where} ORDER BY seq DESC LIMIT $3",  # noqa: S608
            *(caller.workspace.log, wanted.get("before", 2**53), limit + 1, *arguments),
        )
        return await _page(service, connection, caller, rows, limit, wanted.get("size", 0), ascending=False)


async def count(service: Service, call: Call) -> Answer:
    """`GET /v1/audit/WS/count`: how many entries fit the filters."""
    caller = await enter(service, call, ("principal",))
    wanted = query(
        call.query, {name: kind for name, kind in FILTERS.items() if name not in ("before", "limit", "size")}
    )
    where, arguments = conditions(caller.workspace.state, wanted)
    await _allowed(service, caller, call.query, 0)
    async with service.reading() as connection:
        found = await connection.fetchval(
            f"SELECT count(*) FROM audit.entry WHERE log_id = $1 AND $2 AND $3{where}",  # noqa: S608
            *(caller.workspace.log, True, True, *arguments),
        )
    body = messages.build_answer("count", count=found)
    return Answer(status=200, body=body, id=caller.id, caller=caller.name, outcome="read")


async def export(service: Service, call: Call) -> Answer:
    """`GET /v1/audit/WS/export?from=SEQ`: every entry from there on, in order."""
    caller = await enter(service, call, ("principal",))
    wanted = query(call.query, {"from": "int", "limit": "int", "size": "int"})
    begin, limit = wanted.get("from", 0), min(wanted.get("limit", MAX_PAGE), MAX_PAGE)
    await _allowed(service, caller, call.query, wanted.get("size", 0), (begin, begin + max(limit, 1) - 1))
    async with service.reading() as connection:
        rows = await connection.fetch(
            "SELECT seq, body FROM audit.entry WHERE log_id = $1 AND seq >= $2 ORDER BY seq LIMIT $3",
            *(caller.workspace.log, begin, limit + 1),
        )
        return await _page(service, connection, caller, rows, limit, wanted.get("size", 0), ascending=True)


async def _page(
    service: Service,
    connection: asyncpg.Connection,
    caller: Caller,
    rows: list[Any],
    limit: int,
    size: int,
    *,
    ascending: bool,
) -> Answer:
    page: list[dict[str, Any]] = []
    total = last_seq = 0
    for row in rows[:limit]:
        total += len(row["body"])
        if page and total > MAX_BYTES:
            break
        last_seq = row["seq"]
        page.append({"body": row["body"].decode(), "seq": row["seq"]})
    more = len(rows) > len(page)
    tree, head, note = await service.snapshot(connection, caller.workspace.log)
    consistency = await service.consistency(connection, tree, size, head.size)
    following = None
    if more and page:
        following = last_seq + 1 if ascending else last_seq
    body = messages.build_answer(
        "entries",
        checkpoint=note.serialise().decode(),
        consistency=messages.hashes(consistency),
        entries=page,
        next=following,
    )
    return Answer(status=200, body=body, id=caller.id, caller=caller.name, outcome="read")


async def _allowed(
    service: Service, caller: Caller, text: str, size: int, span: tuple[int, int] | None = None
) -> Recorded:
    """The record that the log was read; Refusal if the caller may not, which is recorded as well."""

    def decide(workspace: Workspace, context: Context) -> Decided:
        state = workspace.state
        decision = decisions.decide(state, caller.name, "audit.read", Scope("workspace", workspace.name))
        refused = isinstance(decision, decisions.Deny)
        if refused and not service.gate.denial(workspace.name, caller.principal, roleless=True):
            return Decided(value=decision)
        made = draft(
            "audit.read" if span is None else "audit.export",
            {"query": text or "all"} if span is None else {"first": span[0], "last": span[1]},
            ts=context.now,
            id=caller.id,
            outcome="deny" if refused else "allow",
            reason=decision.rule if isinstance(decision, decisions.Deny) else None,
            actor=caller.name,
            scope=Scope("workspace", workspace.name),
            role=str(state.role(caller.name, Scope("workspace", workspace.name))),
            policy_seq=state.seq,
            request=caller.presented.request,
            ip=caller.ip,
        )
        return Decided([made], value=decision)

    recorded = await record(service, caller, decide, size=size)
    decision = recorded.value
    if isinstance(decision, decisions.Deny):
        raise Refusal(
            "denied", decision.reason, {"rule": decision.rule}, caller.id,
            f"ask an admin of {caller.workspace.name} to run: zopp grant"
            f" {caller.workspace.state.principals[caller.principal].holder} auditor {caller.workspace.name}",
            caller.name,
        )  # fmt: skip
    return recorded


def conditions(state: State, wanted: dict[str, Any]) -> tuple[str, list[Any]]:
    """SQL behind ` AND` for the filters, numbered from $4, and its arguments. FormatError (`bad_request`) for a value
    that nothing can have: an unknown action, outcome, person or place is a mistake, not an empty answer."""
    sql, arguments = "", []

    def add(text: str, value: Any) -> None:
        nonlocal sql
        arguments.append(value)
        sql += " AND " + text.replace("?", f"${len(arguments) + 3}")

    if "action" in wanted:
        _known(wanted["action"] in entries.ACTIONS, "action")
        add("action = ?", wanted["action"])
    if "outcome" in wanted:
        _known(wanted["outcome"] in OUTCOMES, "outcome")
        add("outcome = ?::smallint", OUTCOMES[wanted["outcome"]])
    if "principal" in wanted:
        who = wanted["principal"]
        _known(who in state.principals or who.startswith(("ci/", "invite/")), "principal")
        add("(actor = ? OR on_behalf = ?)", who)
    if "user" in wanted:
        _known(wanted["user"] in state.users, "user")
        add("actor = ANY (?::text[])", list(state.devices(wanted["user"])))
    if "project" in wanted:
        projects = {env.partition("/")[0] for env in state.all_envs} | set(state.projects)
        _known(wanted["project"] in projects, "project")
        add("project = ?", wanted["project"])
    if "env" in wanted:
        _known(wanted["env"] in state.all_envs, "env")
        project, _, env = wanted["env"].partition("/")
        add("project = ?", project)
        add("env = ?", env)
    for name in ("since", "until"):
        _known(wanted.get(name, 0) < MAX_TIME, name)
    if "since" in wanted:
        add("ts >= to_timestamp(?::bigint)", wanted["since"])
    if "until" in wanted:
        add("ts < to_timestamp(?::bigint)", wanted["until"])
    return sql, arguments


def _known(good: bool, name: str) -> None:
    if not good:
        raise FormatError(f"the filter {name} has a value that nothing here can have", code="bad_request")
