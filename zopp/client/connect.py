"""Which server a workspace has, and the log it keeps: from the signed policy log, never from a settings file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from zopp.client import remembered
from zopp.client.transport import Server, Tls
from zopp.errors import IntegrityError
from zopp.keys.signing import SigningKey
from zopp.policy.state import State
from zopp.tlog import checkpoint
from zopp.tlog.checkpoint import Checkpoint
from zopp.tlog.note import Note, Verifier


@dataclass(frozen=True, slots=True)
class Log:
    """The audit log of one workspace as this user keeps it. `verifiers`: that of the server in force first; those of
    earlier ones may still stand under the kept checkpoint."""

    genesis: str
    state_dir: str
    verifiers: tuple[Verifier, ...]

    @property
    def current(self) -> Verifier:
        """The server's in force."""
        return self.verifiers[0]

    def kept(self) -> Checkpoint | None:
        """The newest checkpoint this user has verified; IntegrityError as `remembered.load`."""
        return remembered.load(self.state_dir, self.genesis, *self.verifiers)

    def advance(self, note: Note) -> None:
        """Keep a note whose checkpoint was proven to extend the kept one."""
        remembered.advance(self.state_dir, self.genesis, note)


def server_of(state: State, key: SigningKey, env: Mapping[str, str]) -> Server:
    """The server in force, as `key` talks to it. IntegrityError `server.none` where the policy names none."""
    found = state.server
    if found is None:
        raise IntegrityError(
            f"the policy of workspace {state.name} names no policy server",
            code="server.none",
            hint="an admin of the workspace has to run: zopp server adopt URL",
        )
    return Server(found.origin, found.log_key, key, tls=Tls.of(env))


def log_of(state: State, state_dir: str) -> Log:
    """The log of the server in force. A server that was replaced with an origin of its own had another log."""
    assert state.server is not None
    origin = checkpoint.origin_of(state.server.origin, state.name, state.ws)
    keys = dict.fromkeys(server.log_key for server in reversed(state.servers) if server.origin == state.server.origin)
    return Log(state.ws, state_dir, tuple(Verifier(origin, key) for key in keys))
