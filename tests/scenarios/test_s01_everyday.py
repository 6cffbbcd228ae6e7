"""S1: two people share an environment."""

from tests.support import Team


def test_s1_two_people_share(team: Team) -> None:
    team.grant("bob", "write", "api/dev")
    team.bob.set("K", "from bob \t\n")
    team.bob.share()
    team.alice.pull()
    assert team.alice.get("K") == "from bob \t\n"
    team.alice.set("K", "from alice")
    team.alice.share()
    team.bob.pull()
    assert team.bob.get("K") == "from alice"
