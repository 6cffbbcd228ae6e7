"""Fixtures of the black-box tests."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

from tests.support import Team

# Properties without a number of their own try ten times as many examples in the slow tier.
settings.register_profile("slow", max_examples=1000, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


@pytest.fixture
def team(tmp_path: Path) -> Team:
    """A fresh team (see `tests.support`)."""
    return Team.make(tmp_path)
