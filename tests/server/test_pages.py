"""What the pages about the policy server show is what the commands print, at the real one. `tests.pages` says how."""

from __future__ import annotations

import re
from pathlib import Path

from tests.pages import Desk, check
from tests.scripts.test_pages import TOUR
from tests.server.conftest import Database, code
from tests.server.live import Live

ORIGIN = "http://127.0.0.1:8420"  # what the pages have for the server's


def test_the_tour_is_true(tmp_path: Path, server: Live, database: Database) -> None:
    """README.md, with a server for its second half. Carol sits at another desk."""
    alice = Desk(tmp_path)
    for command in TOUR:
        alice.run(command)
    (tmp_path / "carol").mkdir()
    carol = Desk(tmp_path / "carol")
    invite = ""

    def run(command: str) -> str:
        nonlocal invite
        if command.startswith("zopp server adopt"):
            return alice.typed(command, {"[y/N]": "y", "code": code(database)})
        if command.startswith("zopp join"):
            carol.run("git clone -q ../../shop .")
            return carol.typed(command, {"code": invite, "mail": "carol@example.org"})
        said = alice.run(command)
        if command.startswith("zopp invite"):
            invite = re.findall(r"zopp-invite-\S+", said)[0]
        return re.sub(r"(zopp-invite-\w{8})\w+", r"\1…", said)

    check("README.md", run, least=8, swap={ORIGIN: server.origin}, more=[(r"zopp-invite-\w+|invite[ /]\w+", "INVITE")])
