"""The way into every change: lock, unfinished journal, trust, may this clone write, who signs."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from zopp.repo import journal, layout
from zopp.repo.clock import now
from zopp.repo.draft import Accepted, Draft
from zopp.repo.signer import signer
from zopp.repo.workspace import Workspace, open_workspace, require_receipt, require_writable, standing


@contextmanager
def changing(
    start: str,
    env: Mapping[str, str],
    ask: Callable[[str], str] | None = None,
    *,
    on_old_base: bool = False,
    opened: Callable[[Workspace], None] = lambda ws: None,
    newest: Callable[[Workspace], Accepted | None] | None = None,
    submit: Callable[[Draft], Accepted] | None = None,
) -> Iterator[Draft]:
    """A draft under the lock, in a clone that may write; the caller commits it. `opened` hears of the workspace before
    anything about it is refused.

    For changes of the policy: `newest` asks the server that the policy names for its log, verified, None if it has no
    more than is here; the draft stands on that, and `submit` is the draft's. Neither is called without a server, nor
    where this clone is pinned to nothing."""
    checkout = layout.find_checkout(start)
    with journal.lock(checkout):
        recovered = journal.recover(checkout) if journal.pending(checkout) else []
        ws = open_workspace(start, env, recover=False, needs_receipt=False)
        ws.recovered = recovered
        asked = newest is not None and ws.state.server is not None and ws.pin is not None
        if asked and newest is not None:
            found = newest(ws)
            if found is not None:
                ws.state, ws.log, ws.receipt = found.state, found.log, found.receipt
                ws.place = standing(ws.state, ws.pin)
        require_receipt(ws)
        opened(ws)
        require_writable(ws, on_old_base=on_old_base)
        yield Draft(ws, signer(ws, ask), now(), submit if ws.state.server is not None else None)
