"""This repository itself: whoever tries the guard on it first must find it quiet."""

import os
from pathlib import Path

import pytest

from tests.scan.repo import ROOT
from zopp.scan import running, sweep


def test_every_tracked_file_is_clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Made-up examples are marked as any user would: allow comments, the ignore list, [guard] in a zopp.toml."""
    monkeypatch.chdir(ROOT)
    environ = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    result = sweep.tracked(environ, options=running.Options(own=False))
    assert result.files > 500
    assert [(f.rule, f.path, f.line) for f in result.findings] == []
    assert [(p.path, p.what) for p in result.problems] == []
    assert result.notes == []
    marked = {f.path for f in result.suppressed}
    assert all(path.startswith(("examples/", "tests/")) for path in marked), marked
