"""docs/merging.md: what it shows is what git and zopp print. `tests.pages` says how."""

from tests.merge.conftest import branch, clean
from tests.pages import SHORT_COMMIT, Desk, check
from tests.support import Team


def test_the_page_is_true(pair: Team) -> None:
    """One merge three times: without hooks, with them, and with a key that both sides changed."""
    bob = pair.bob
    branch(bob, "base", ("DATABASE_URL", "postgres://db/shop"))
    branch(bob, "feature", ("API_TOKEN", "example-token"), start="base")
    branch(bob, "both", ("DATABASE_URL", "postgres://db/theirs"), start="feature")
    for number in (1, 2, 3):
        branch(bob, f"mine-{number}", ("DATABASE_URL", "postgres://db/mine"), start="base")
    before = {
        1: ["git checkout -q mine-1"],
        2: ["git checkout -q mine-2 && zopp hooks install"],
        3: ["git checkout -q mine-3 && git branch -qf feature both"],
    }
    # how many lines git counts depends on whether a second passed between the changes
    more = [SHORT_COMMIT, (r"ENC\[.*?\]", "ENC"), (r" secrets/dev.yaml \| .*\n 1 file changed.*", "LINES")]
    check("docs/merging.md", Desk.of(bob).run, least=3, more=more, before=before)
    clean(bob)
