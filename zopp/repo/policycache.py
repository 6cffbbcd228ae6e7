"""The verified head of a policy log, cached per user, so that signatures are checked once and not at every start.

What is cached is the *view* of a head (`zopp.policy.view`), under the genesis. Lines are hash-linked: a log whose line
`seq` has the cached head's hash has the same prefix, byte for byte, so its signatures need no second look. The cache
lies in the user's own folder and is rebuilt whenever it does not fit.
"""

import os

from zopp import _fast
from zopp.errors import ZoppError
from zopp.policy import log, view
from zopp.policy.state import State
from zopp.repo import files, layout


def cache_file(cache_dir: str, genesis: str) -> str:
    """Where the view of the workspace with this genesis is kept."""
    return os.path.join(cache_dir, "policy", genesis + ".view")


def load(cache_dir: str, genesis: str) -> view.View | None:
    """The cached view, None if there is none that can be read."""
    try:
        with open(cache_file(cache_dir, genesis), "rb") as file:
            return view.View(file.read())
    except (OSError, ZoppError):
        return None


def fold(data: bytes, *, genesis: str, cache_dir: str, receipt: bytes | None = None) -> State:
    """The state after the log `data`, signatures of a cached verified prefix not checked again. What is cached is taken
    as it is by the short way of `get` and `list`, so a head that names a server is kept only if the `receipt` file
    proves it (A6); whether to refuse it is the caller's."""
    cached = load(cache_dir, genesis)
    try:
        verified = None if cached is None else _common(cached, log.split(data))
        state = log.fold(data, genesis=genesis, verified=verified)
    except ZoppError as exc:
        exc.place = f"{layout.POLICY}: {exc.place}" if exc.place else layout.POLICY
        raise
    if (cached is None or (state.seq, state.head) != (cached.seq, cached.head)) and proven(state, data, receipt):
        store(state, data, cache_dir=cache_dir)
    return state


def proven(state: State, data: bytes, receipt: bytes | None) -> bool:
    """Whether the log names no server, or the receipt file proves its last line."""
    if state.server is None:
        return True
    from zopp.protocol import mirror  # where there is no server, its protocol is not loaded

    try:
        mirror.check(state, log.split(data), receipt)
    except ZoppError:
        return False
    return True


def _common(cached: view.View, lines: list[bytes]) -> tuple[int, str] | None:
    """(seq, hash) of the last statement that `lines` have in common with the verified log: on another branch, after a
    pull or a checkout, what was verified before the fork stays verified. Each line names the one before, so a line
    that is equal says that all before it are."""
    equal, differs = -1, min(cached.seq + 1, len(lines))
    while differs - equal > 1:
        at = (equal + differs) // 2
        if _fast.sha256(lines[at]).hex() == cached.hash_at(at):
            equal = at
        else:
            differs = at
    return None if equal < 0 else (equal, cached.hash_at(equal))


def store(state: State, data: bytes, *, cache_dir: str) -> None:
    """Keep the view of the verified head of `data`. A cache that cannot be written costs time, not correctness."""
    try:
        files.replace_private(cache_file(cache_dir, state.ws), view.dump(state, data))
    except OSError:
        return
