"""A new server key of an environment: made by the server, named in a statement by an admin (brokered-grants.md §9)."""

from __future__ import annotations

from zopp.client.connect import Log
from zopp.client.transport import Server, idem
from zopp.errors import IntegrityError
from zopp.keys import agefile
from zopp.policy import canonical, names
from zopp.policy.state import State
from zopp.protocol import messages, receipt as receipts
from zopp.tlog import checkpoint, proof


def new_key(server: Server, log: Log, state: State, scope: str) -> str:
    """The recipient of the environment's next server key, canonical and recorded in the log. Asked again before a
    statement names it, the server answers with the same. Denied unless the caller is admin there; IntegrityError where
    the record says something else than the answer, or the recipient is in use already.

    That the server holds the private half nobody can check but by a release; whoever asks should be the one who signs
    `env.serverkey` with the answer."""
    kept = log.kept()
    body = messages.build_request(
        "key", env=scope, idem=canonical.b64(idem()), size=kept.size if kept else 0, ws=state.ws
    )
    came = server.post(f"/v1/keys/{state.name}", body)
    answer = messages.parse_answer("key", came.body)
    done = messages.done(answer)
    checked = receipts.check(done.receipt, log.current)
    entry = checked.entry
    said = (answer["env"], answer["generation"], answer["recipient"])
    recorded = (entry.scope, entry.data.get("generation"), entry.data.get("recipient"))
    if entry.action != "key" or entry.request != came.sent or recorded != (names.Scope("env", scope), *said[1:]):
        raise IntegrityError("the receipt is not of this server key", code="receipt", place=server.origin)
    if answer["env"] != scope:
        raise IntegrityError("the server key is of another environment", code="answer", place=server.origin)
    checkpoint.consistent(kept, checked.checkpoint, done.consistency)
    log.advance(proof.parse(done.receipt.proof).note)
    recipient = agefile.canonical_recipient(str(answer["recipient"]))
    if state.recipient_owner(recipient) is not None:
        raise IntegrityError(
            "the server's new key is or was somebody's recipient already", code="key_reuse", place=server.origin
        )
    return recipient
