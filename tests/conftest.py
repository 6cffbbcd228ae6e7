"""Fixtures of the black-box tests."""

from pathlib import Path

import pytest

from tests.support import Team


@pytest.fixture
def team(tmp_path: Path) -> Team:
    """A fresh team (see `tests.support`)."""
    return Team.make(tmp_path)
