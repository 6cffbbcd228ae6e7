"""What the policy logs of other branches let people read: each by its own log, and only where that verifies.

A branch that was never merged may give someone a role, a device or an environment that HEAD's log knows nothing of, and
its files are encrypted accordingly. Whoever fetched it could read them.
"""

from dataclasses import dataclass, field

from zopp._fast import sha256
from zopp.errors import ZoppError
from zopp.policy import log as policy_log
from zopp.policy.state import State
from zopp.repo import git, layout
from zopp.repo.workspace import Workspace


@dataclass(slots=True)
class Elsewhere:
    """`states`: branch → the policy after each statement of its log that HEAD's log has not; branches whose log is the
    beginning of it are left out. `refused`: branch → why its log does not verify."""

    states: dict[str, list[State]] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)


def look(ws: Workspace) -> Elsewhere:
    """The policy of every local and remote-tracking branch. One that has no policy log has nothing to say."""
    found = Elsewhere()
    read: dict[str, tuple[list[State], str]] = {}
    with git.Batch(ws.root) as batch:
        for commit, name in git.branches(ws.root):
            blob = batch.get(f"{commit}:{layout.POLICY}")
            if blob is None or (blob[1].endswith(b"\n") and ws.log.startswith(blob[1])):
                continue
            if blob[0] not in read:
                read[blob[0]] = _states(ws, blob[1])
            states, why = read[blob[0]]
            if why:
                found.refused[name] = why
            elif states:
                found.states[name] = states
    return found


def _states(ws: Workspace, data: bytes) -> tuple[list[State], str]:
    """The states after the lines that `ws` has not; or why there are none."""
    try:
        lines = policy_log.split(data)
        shared = _in_common(lines, ws.log.split(b"\n"))
        if not shared:
            return [], "it begins with another genesis"
        # What both have was verified when this workspace was opened.
        verified = shared - 1, sha256(lines[shared - 1]).hex()
        state = policy_log.fold(b"".join(line + b"\n" for line in lines[:shared]), verified=verified)
        states = []
        for line in lines[shared:]:
            state = policy_log.extend(state, [line])
            states.append(state)
    except ZoppError as exc:
        return [], exc.message
    return states, ""


def _in_common(lines: list[bytes], ours: list[bytes]) -> int:
    return next((n for n, pair in enumerate(zip(lines, ours, strict=False)) if pair[0] != pair[1]), len(lines))
