"""The newest manifest of each environment's default branch, as writers tell it: a hint (brokered-grants.md §6)."""

from __future__ import annotations

from zopp.policy import canonical, decisions
from zopp.policy.names import Scope
from zopp.policy.roles import Role
from zopp.policy.state import State
from zopp.protocol import messages
from zopp_server.batcher import Context, Decided
from zopp_server.calls import Answer, Call, Refusal, enter, query, record, same_workspace
from zopp_server.entries import draft
from zopp_server.service import Service
from zopp_server.workspaces import Workspace


async def post(service: Service, call: Call) -> Answer:
    """`POST /v1/manifests/WS`."""
    caller = await enter(service, call, ("principal",))
    fields = messages.parse_request("manifest", call.body)
    same_workspace(caller, fields["ws"])
    env, generation, digest = fields["env"], fields["generation"], fields["hash"]
    scope = Scope("env", env)
    project, _, name = env.partition("/")
    async with service.reading() as connection:
        known = await connection.fetchrow(
            "SELECT generation, encode(hash, 'hex') AS hash FROM rt.manifest_head"
            " WHERE (ws, project, env) = ($1, $2, $3)",
            *(call.ws, project, name),
        )

    def decide(workspace: Workspace, context: Context) -> Decided:
        state = workspace.state
        decision = decisions.decide(state, caller.name, "write", scope)
        refused: Refusal | None = None
        if isinstance(decision, decisions.Deny):
            members = {"env": env, "rule": decision.rule}
            refused = Refusal("denied", decision.reason, members, caller.id, "", caller.name)
        elif known is not None and (
            generation < known["generation"] or (generation == known["generation"] and digest != known["hash"])
        ):
            refused = Refusal(
                "refused",
                "a manifest of a later generation is known",
                {"rule": "generation"},
                caller.id,
                "",
                caller.name,
            )
        if env not in state.all_envs:
            raise Refusal(
                "denied", "there is no such environment", {"rule": "no_such_scope"}, caller.id, "", caller.name
            )
        entry = draft(
            "manifest",
            {"generation": generation, "hash": digest},
            ts=context.now,
            id=caller.id,
            outcome="allow" if refused is None else "deny",
            reason=None if refused is None else str((refused.members or {})["rule"]),
            actor=caller.name,
            scope=scope,
            role=str(state.role(caller.name, scope)),
            policy_seq=state.seq,
            request=caller.presented.request,
            ip=caller.ip,
        )
        if refused is not None:
            return Decided([entry], value=refused)
        # Of two at once the higher generation stays; the check above is for the message.
        write = (
            "INSERT INTO rt.manifest_head VALUES ($1, $2, $3, $4, decode($5, 'hex'), $6)"
            " ON CONFLICT (ws, project, env) DO UPDATE SET generation = excluded.generation, hash = excluded.hash,"
            " entry_seq = excluded.entry_seq WHERE manifest_head.generation < excluded.generation"
        )
        return Decided([entry], writes=[(write, (workspace.name, project, name, generation, digest, state.seq))])

    recorded = await record(
        service, caller, decide, size=fields["size"], idem=canonical.unb64(fields["idem"], 16), body=call.body
    )
    body = messages.build_answer(
        "manifest", **messages.done_fields(caller.id, recorded.receipts[0], recorded.consistency)
    )
    return Answer(status=200, body=body, id=caller.id, caller=caller.name, outcome="accepted")


async def get(service: Service, call: Call) -> Answer:
    """`GET /v1/manifests/WS`: of environments that the caller may read."""
    caller = await enter(service, call, ("principal", "ci"))
    query(call.query, {})
    state = caller.workspace.state
    async with service.reading() as connection:
        rows = await connection.fetch(
            "SELECT project || '/' || env AS env, generation, encode(hash, 'hex') AS hash, entry_seq"
            " FROM rt.manifest_head WHERE ws = $1 ORDER BY 1",
            call.ws,
        )
    heads = [
        {"env": row["env"], "generation": row["generation"], "hash": row["hash"], "seq": row["entry_seq"]}
        for row in rows
        if _role(None if caller.ci is None else caller.ci.rule, caller.name, row["env"], state) >= Role.READ
    ]
    body = messages.build_answer("manifests", heads=heads)
    return Answer(status=200, body=body, id=caller.id, caller=caller.name, outcome="read")


def _role(rule: str | None, principal: str, env: str, state: State) -> Role:
    scope = Scope("env", env)
    return state.role(principal, scope) if rule is None else decisions.oidc_role(state, rule, scope)
