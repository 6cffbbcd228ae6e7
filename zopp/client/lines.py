"""The server's newer policy lines, for a decision that was made under them. Nothing is written to a working copy."""

from __future__ import annotations

from zopp.client.transport import Server
from zopp.errors import IntegrityError
from zopp.policy import log
from zopp.policy.state import State
from zopp.protocol import messages


def catch_up(server: Server, state: State, seq: int) -> State:
    """`state` extended by the server's lines up to `seq`, every signature and link verified. IntegrityError where they
    do not extend it, or the server does not have them."""
    while state.seq < seq:
        answer = messages.parse_answer("policy", server.get(f"/v1/policy/{state.name}?from={state.seq + 1}").body)
        lines = [line.encode() for line in answer["lines"]][: seq - state.seq]
        if not lines:
            raise IntegrityError(
                "the policy server decided under a statement that it does not show",
                code="policy.withheld",
                place=server.origin,
            )
        state = log.extend(state, lines)
    return state
