"""What the pages about the policy server show is what the commands print, at the real one. `tests.pages` says how."""

from __future__ import annotations

import re
from pathlib import Path

from tests.pages import Desk, check
from tests.scripts.test_pages import TEAM, TOUR
from tests.server.conftest import Database, code, url
from tests.server.live import Live, settings_for

ORIGIN = "http://127.0.0.1:8420"  # what the pages have for the server's


def test_the_tour_is_true(tmp_path: Path, server: Live, database: Database) -> None:
    """README.md, with a server for its second half. Carol sits at another desk."""
    alice = Desk(tmp_path)
    alice.run(TOUR[0])
    (tmp_path / "carol").mkdir()
    carol = Desk(tmp_path / "carol")
    invite = ""

    def run(command: str) -> str:
        nonlocal invite
        if command.startswith("zopp init"):
            return alice.typed(command, {"recovery file": "of the tests", "again": "of the tests"})
        if command.startswith("zopp server adopt"):
            return alice.typed(command, {"[y/N]": "y", "code": code(database)})
        if command.startswith("zopp join"):
            carol.run("git clone -q ../../shop .")
            return carol.typed(command, {"code": invite, "mail": "carol@example.org"})
        said = alice.run(command)
        if command.startswith("zopp invite"):
            invite = re.findall(r"zopp-invite-\S+", said)[0]
        return re.sub(r"(zopp-invite-\w{8})\w+", r"\1…", said)

    more = [(r"zopp-invite-\w+|invite[ /]\w+", "INVITE")]
    check("README.md", run, least=9, swap={ORIGIN: server.origin}, more=more, before={2: TOUR[1:]})


# Alice, and bob who reads production; robot reads it too and has no signing key.
SERVED = (
    *TEAM,
    "zopp principal request --service robot --no-signing-key --out-keys ../robot > ../robot.request",
    "zopp principal add ../robot.request -m robot && zopp grant robot read api/production -m robot",
)


def served(tmp_path: Path, server: Live, database: Database) -> Desk:
    """Alice's desk, whose workspace is at the server."""
    alice = Desk(tmp_path)
    for command in SERVED:
        alice.run(command)
    alice.run(f"printf '{code(database)}' | zopp server adopt {server.origin} --code - --yes -m server")
    return alice


def test_brokered_is_true(tmp_path: Path, server: Live, database: Database) -> None:
    alice = served(tmp_path, server, database)
    check("docs/brokered.md", alice.run, least=1, swap={ORIGIN: server.origin})


def test_ci_is_true(tmp_path: Path, server: Live, database: Database) -> None:
    alice = served(tmp_path, server, database)

    alice.run("zopp env kind production brokered -m brokered")

    def run(command: str) -> str:
        return alice.typed(command, {"[y/N]": "y"}) if "trust-ci" in command else alice.run(command)

    check("docs/reference/ci.md", run, least=1, swap={ORIGIN: server.origin})


def test_audit_is_true(tmp_path: Path, server: Live, database: Database) -> None:
    alice = served(tmp_path, server, database)
    alice.run("zopp env kind production brokered -m brokered && zopp get STRIPE_KEY -e production")
    check("docs/reference/audit.md", alice.run, least=1, swap={ORIGIN: server.origin})


def test_server_is_true(tmp_path: Path, empty: Database) -> None:
    """docs/reference/server.md, on a database with roles and nothing else."""
    settings = settings_for(url(empty), tmp_path / "server", origin="https://zopp.example.com")
    desk = Desk(
        tmp_path,
        env={
            "ZOPP_SERVER_DATABASE_URL": url(empty, "zopp_migrate"),
            "ZOPP_SERVER_ORIGIN": settings.origin,
            "ZOPP_SERVER_DATA": str(settings.data),
            "ZOPP_SERVER_KEK_FILE": str(settings.kek),
            "ZOPP_SERVER_LOG_KEY_FILE": str(settings.log_key),
        },
    )
    serving = f"export ZOPP_SERVER_DATABASE_URL={url(empty)}"
    check("docs/reference/server.md", desk.run, least=2, before={2: [serving]})
