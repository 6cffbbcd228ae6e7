"""Fixtures of the black-box tests."""

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings

from tests.support import Team


def _in_memory() -> str | None:
    """A folder in memory with room and leave to run programs: most of these tests make repositories, and making files
    is what takes their time. Without one the tests run on the disk, slower."""
    try:
        room = os.statvfs("/dev/shm")
    except OSError:
        return None
    fits = (
        room.f_bavail * room.f_frsize >= 6 << 30 and not room.f_flag & os.ST_NOEXEC and os.access("/dev/shm", os.W_OK)
    )
    return "/dev/shm" if fits else None


if "TMPDIR" not in os.environ and (_found := _in_memory()) is not None:
    os.environ["TMPDIR"], tempfile.tempdir = _found, None

# Properties without a number of their own try ten times as many examples in the slow tier.
settings.register_profile("slow", max_examples=1000, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


@pytest.fixture
def team(tmp_path: Path) -> Team:
    """A fresh team (see `tests.support`)."""
    return Team.make(tmp_path)
