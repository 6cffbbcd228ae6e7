"""Server keys: proposed here, in force by a signed statement (policy-server.md §4.1, brokered-grants.md §9)."""

from __future__ import annotations

from zopp.errors import Unknown
from zopp.policy import canonical, decisions
from zopp.policy.names import Scope
from zopp.protocol import messages
from zopp_server.batcher import Context, Decided
from zopp_server.calls import Answer, Call, Refusal, enter, record, same_workspace
from zopp_server.entries import draft
from zopp_server.service import Service
from zopp_server.workspaces import ServerKey, Workspace


async def post(service: Service, call: Call) -> Answer:
    """`POST /v1/keys/WS`: the key that the next `env.serverkey` may name, made if there is none waiting."""
    caller = await enter(service, call, ("principal",))
    fields = messages.parse_request("key", call.body)
    same_workspace(caller, fields["ws"])
    env = fields["env"]
    scope = Scope("env", env)
    async with service.reading() as connection:
        await service.workspaces.load_keys(connection, caller.workspace)
        if caller.workspace.dek is None:
            caller.workspace.dek = await service.workspaces.dek(connection, call.ws, caller.workspace.log)
        state = caller.workspace.state
        may = isinstance(decisions.decide(state, caller.name, "env.serverkey", scope), decisions.Allow)
        if may and env in state.envs and not _waiting(caller.workspace, env):
            # Kept before it is recorded: of two servers that make one at once the log must name the one that stays.
            generation, recipient, sealed = caller.workspace.propose(env)
            project, _, name = env.partition("/")
            await connection.execute(
                "INSERT INTO keys.server_key VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING",
                *(call.ws, project, name, generation, recipient, sealed),
            )
            await service.workspaces.load_keys(connection, caller.workspace)

    def decide(workspace: Workspace, context: Context) -> Decided:
        state = workspace.state
        decision = decisions.decide(state, caller.name, "env.serverkey", scope)
        known = env in state.envs
        allowed = isinstance(decision, decisions.Allow) and known
        generation, recipient = 0, None
        if allowed:
            waiting = _waiting(workspace, env)
            if not waiting:
                raise Unknown("the policy has moved on meanwhile", code="busy")
            generation, recipient = waiting[0].generation, waiting[0].recipient
        entry = draft(
            "key",
            {"event": "create", "generation": generation or None, "recipient": recipient},
            ts=context.now,
            id=caller.id,
            outcome="fact",
            reason=None if allowed else "role",
            actor=caller.name,
            scope=scope if known else Scope("workspace", workspace.name),
            role=str(state.role(caller.name, scope)),
            policy_seq=state.seq,
            request=caller.presented.request,
            ip=caller.ip,
        )
        if not known:
            return Decided([entry], value=Refusal("not_found", "there is no such environment", None, caller.id))
        if isinstance(decision, decisions.Deny):
            refused = Refusal(
                "denied", decision.reason, {"env": env, "rule": decision.rule}, caller.id, "", caller.name
            )
            return Decided([entry], value=refused)
        return Decided([entry], value=generation)

    recorded = await record(
        service, caller, decide, size=fields["size"], idem=canonical.unb64(fields["idem"], 16), body=call.body
    )
    async with service.reading() as connection:
        await service.workspaces.load_keys(connection, caller.workspace)
    found = next((key for key in caller.workspace.keys.get(env, ()) if key.generation == recorded.value), None)
    if found is None:
        raise Unknown("the key was not kept", code="unknown_outcome")
    body = messages.build_answer(
        "key",
        **messages.done_fields(caller.id, recorded.receipts[0], recorded.consistency),
        env=env,
        generation=found.generation,
        recipient=found.recipient,
    )
    return Answer(status=200, body=body, id=caller.id, caller=caller.name, outcome="accepted")


def _waiting(workspace: Workspace, env: str) -> list[ServerKey]:
    """The keys that were made and that no statement has named yet."""
    known = workspace.keys.get(env, ())
    return [key for key in known if workspace.state.recipient_owner(key.recipient) is None]
