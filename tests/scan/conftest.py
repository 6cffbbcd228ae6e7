"""Fixtures of the guard's tests."""

from pathlib import Path

import pytest

from tests.scan.repo import Repo


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    """A repository with one commit."""
    return Repo(tmp_path).start()
