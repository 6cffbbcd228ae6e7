"""The way into every change: lock, unfinished journal, trust, may this clone write, who signs."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from zopp.repo import journal, layout
from zopp.repo.draft import Draft, now
from zopp.repo.signer import signer
from zopp.repo.workspace import Workspace, open_workspace, require_writable


@contextmanager
def changing(
    start: str,
    env: Mapping[str, str],
    ask: Callable[[str], str] | None = None,
    *,
    on_old_base: bool = False,
    opened: Callable[[Workspace], None] = lambda ws: None,
) -> Iterator[Draft]:
    """A draft under the lock, in a clone that may write; the caller commits it. `opened` hears of the workspace before
    anything about it is refused."""
    checkout = layout.find_checkout(start)
    with journal.lock(checkout):
        recovered = journal.recover(checkout) if journal.pending(checkout) else []
        ws = open_workspace(start, env, recover=False)
        ws.recovered = recovered
        opened(ws)
        require_writable(ws, on_old_base=on_old_base)
        yield Draft(ws, signer(ws, ask), now())
