"""A stand-in server, and the team with its workspace adopted there."""

from collections.abc import Iterator

import pytest

from tests.client.standin import Standin
from tests.support import Team


@pytest.fixture
def standin() -> Iterator[Standin]:
    """An empty stand-in."""
    made = Standin()
    yield made
    made.stop()


class Served:
    """The team at a server: `server` is anything with `.origin`."""

    def __init__(self, team: Team, server: Standin) -> None:
        self.team, self.server = team, server
        self.alice, self.bob, self.carol, self.ci = team.alice, team.bob, team.carol, team.ci

    def adopt(self) -> None:
        self.alice.ok("server", "adopt", self.server.origin, "--code", "-", "--yes", stdin=self.server.code)
        self.team.sync("server")


@pytest.fixture
def served(team: Team, standin: Standin) -> Served:
    """acme at the stand-in; everybody has pulled that with git."""
    made = Served(team, standin)
    made.adopt()
    return made
