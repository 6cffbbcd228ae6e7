from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.brokered.brokers import adopt
from tests.brokered.standin import StandIn
from tests.support import Team


@dataclass
class Brokered:
    """`team`, whose environment prod is brokered, and its `server`, a stand-in. Everyone is in sync."""

    team: Team
    server: StandIn


@pytest.fixture
def served(team: Team) -> Iterator[Brokered]:
    """A team with a server and no brokered environment yet; bob may write prod."""
    standin = StandIn()
    adopt(team, standin)
    team.alice.ok("grant", "bob", "write", "api/prod")
    team.sync("server")
    yield Brokered(team, standin)
    standin.stop()


@pytest.fixture
def world(served: Brokered) -> Brokered:
    """The same with prod brokered."""
    served.team.alice.ok("env", "kind", "prod", "brokered")
    served.team.sync("brokered")
    return served
