"""Releases: one file key a stanza, recorded before anything is sealed (brokered-grants.md §4.2).

Stanzas are opened before the lock, since only the environment that matched can be decided; the decision is made under
it. A file key is dropped where the decision is no. What is handed over is sealed to the recipient in the policy log.
"""

from __future__ import annotations

from dataclasses import dataclass

from zopp.errors import FormatError
from zopp.policy import canonical, decisions
from zopp.policy.names import Scope
from zopp.policy.roles import Role
from zopp.policy.state import State
from zopp.protocol import release
from zopp.protocol.release import Item, Released, Request, Response, Result
from zopp_server.auth import Caller
from zopp_server.batcher import Context, Decided
from zopp_server.calls import Answer, Call, Refusal, enter, record, same_workspace
from zopp_server.entries import Draft, draft
from zopp_server.service import Service
from zopp_server.workspaces import Workspace


@dataclass(slots=True)
class _Match:
    """A stanza that opened: under which environment's key, of which generation."""

    env: str
    generation: int
    key: bytes


@dataclass(slots=True)
class _Verdict:
    """What became of an item: `reason` None is yes. `entry` its place among the job's entries, None if it has none."""

    match: _Match | None
    reason: str | None
    entry: int | None


async def post(service: Service, call: Call) -> Answer:
    """`POST /v1/releases/WS`."""
    caller = await enter(service, call, ("principal", "ci"))
    request = release.parse_request(call.body)
    same_workspace(caller, request.ws)
    matches = [match(caller.workspace, item, request.env) for item in request.items]
    if None in matches:
        # Another replica may have made the key, and its statement may not have come here yet.
        async with service.reading() as connection:
            newest = await service.workspaces.get(connection, caller.workspace.name)
            assert newest is not None
            await service.workspaces.load_keys(connection, newest)
        matches = [
            found or match(newest, item, request.env) for found, item in zip(matches, request.items, strict=True)
        ]

    def decide(workspace: Workspace, context: Context) -> Decided:
        entries: list[Draft] = []
        verdicts: list[_Verdict] = []
        for number, (item, found) in enumerate(zip(request.items, matches, strict=True)):
            if found is None:
                verdicts.append(_Verdict(None, None, None))
                continue
            reason, role = judge(workspace.state, caller, found.env, context.now)
            if reason is not None and not service.gate.denial(
                workspace.name, caller.principal, roleless=role == Role.NONE
            ):
                verdicts.append(_Verdict(found, reason, None))
                continue
            verdicts.append(_Verdict(found, reason, len(entries)))
            body = canonical.b64(call.body) if not entries else None
            entries.append(_entry(caller, request, number, item, found, reason, role, body, workspace.state, context))
        return Decided(entries, value=verdicts)

    recorded = await record(
        service, caller, decide, size=request.size, idem=request.idem, body=call.body, weight=len(request.items)
    )
    verdicts: list[_Verdict] = recorded.value
    unmatched = sum(verdict.match is None for verdict in verdicts)
    if unmatched:
        service.gate.unmatched(caller.workspace.name, caller.principal, unmatched)
    for verdict in verdicts:
        if verdict.match is not None:
            service.gate.released("allow" if verdict.reason is None else "deny", verdict.reason or "role")
    released = [
        (item, verdict.match)
        for item, verdict in zip(request.items, verdicts, strict=True)
        if verdict.match is not None and verdict.reason is None
    ]
    if not released:
        raise _refused(caller, verdicts)
    state = caller.workspace.state
    principal = state.principals[caller.principal]
    sealed = release.seal(
        principal.recipient,
        id=caller.id,
        keys=[
            Released(env=found.env, generation=found.generation, stanza=item.stanza, key=found.key)
            for item, found in released
        ],
    )
    results = []
    for verdict in verdicts:
        if verdict.match is None:
            results.append(Result("unmatched"))
        elif verdict.reason is None:
            assert verdict.entry is not None
            results.append(Result("released", None, recorded.receipts[verdict.entry]))
        elif verdict.entry is None:
            # A denial that was counted and not recorded has no receipt to show; the client learns no more than that.
            results.append(Result("unmatched"))
        else:
            results.append(Result("denied", verdict.reason, recorded.receipts[verdict.entry]))
    body = release.build_response(
        Response(
            id=caller.id,
            policy_seq=recorded.policy_seq,
            policy_hash=recorded.policy_hash,
            results=tuple(results),
            consistency=recorded.consistency,
            sealed=sealed,
        )
    )
    return Answer(status=200, body=body, id=caller.id, caller=caller.name, outcome="released")


def match(workspace: Workspace, item: Item, env: str | None) -> _Match | None:
    """The key that opens the stanza: of `env` only, if it is named; else of any environment of the workspace (A28)."""
    for name in [env] if env is not None else sorted(workspace.keys):
        for key in workspace.server_keys(name):
            if key.private is None:
                continue
            try:
                opened = key.private.open(item.share, item.body)
            except FormatError:
                return None
            if opened is not None:
                return _Match(name, key.generation, opened)
    return None


def judge(state: State, caller: Caller, env: str, now: int) -> tuple[str | None, Role]:
    """(why not, or None; the role held there). `now` in milliseconds."""
    scope = Scope("env", env)
    if caller.ci is not None:
        role = decisions.oidc_role(state, caller.ci.rule, scope)
        if now >= caller.ci.not_after * 1000:
            return "expired", role
        if role < Role.READ:
            return "role", role
    else:
        decision = decisions.decide(state, caller.name, "release", scope)
        role = state.role(caller.name, scope)
        if isinstance(decision, decisions.Deny):
            return decision.rule, role
    principal = state.principals[caller.principal]
    if principal.key is None and caller.ci is None:
        return "keyless", role
    if not principal.recipient.startswith("age1"):
        return "recipient", role
    return None, role


def _entry(
    caller: Caller,
    request: Request,
    number: int,
    item: Item,
    found: _Match,
    reason: str | None,
    role: Role,
    body: str | None,
    state: State,
    context: Context,
) -> Draft:
    return draft(
        "release",
        {
            "again": context.again,
            "body": body,
            "generation": found.generation,
            "item": number,
            "path": item.path,
            "purpose": request.purpose,
            "stanza": item.stanza,
        },
        ts=context.now,
        id=caller.id,
        outcome="allow" if reason is None else "deny",
        reason=reason,
        actor=caller.name,
        on_behalf=caller.service,
        scope=Scope("env", found.env),
        role=str(role),
        policy_seq=state.seq,
        request=caller.presented.request,
        ip=caller.ip,
        checked=True,  # a parsed request, verified names and what this module made: it is the busiest entry
    )


def _refused(caller: Caller, verdicts: list[_Verdict]) -> Refusal:
    denied = next((verdict for verdict in verdicts if verdict.match is not None), None)
    if denied is None or denied.match is None:
        return Refusal("unmatched", "no key of this workspace opens the stanza", None, caller.id, "", caller.name)
    env, rule = denied.match.env, denied.reason or "role"
    shown = "/".join(part.partition("@")[0] for part in env.split("/"))
    return Refusal(
        "denied",
        f"{caller.principal} may not read {shown} ({rule})",
        {"env": env, "rule": rule},
        caller.id,
        f"ask an admin of {shown} to run: zopp grant {caller.workspace.state.principals[caller.principal].holder}"
        f" read {shown}"
        if rule in ("role", "protected_boundary", "no_such_scope")
        else "",
        caller.name,
    )
