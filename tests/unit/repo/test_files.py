"""Files below a root: one spelling, no links, whole or not at all (attack A16)."""

import os
import stat
from pathlib import Path

import pytest

from zopp.errors import IntegrityError, NotFound, Unknown
from zopp.repo import files


@pytest.mark.parametrize(
    "path",
    [
        "", "/etc/passwd", "a//b", "./a", "a/../b", "..", "a/.", "a\\b", ".git/config", "a/.GIT/x", ".git./x",
        "GIT~1/x",
        "a\nb", "e\u0301.yaml", "a\x00b", "a/\x7f",
    ],
)  # fmt: skip
def test_a16_other_spellings_are_refused(path: str, tmp_path: Path) -> None:
    with pytest.raises(IntegrityError) as caught:
        files.read(str(tmp_path), path)
    assert caught.value.code == "path.unsafe"


def test_plain_paths_are_read(tmp_path: Path) -> None:
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "é dev.yaml").write_bytes(b"x")
    assert files.read(str(tmp_path), "secrets/é dev.yaml") == b"x"
    assert files.read_if_there(str(tmp_path), "secrets/none.yaml") is None


def test_a16_a_link_is_not_followed_anywhere(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "f").write_bytes(b"x")
    root = tmp_path / "root"
    root.mkdir()
    (root / "link").symlink_to(outside)
    (root / "f").symlink_to(outside / "f")
    for path in ("link/f", "f"):
        with pytest.raises(IntegrityError) as caught:
            files.read(str(root), path)
        assert caught.value.code == "path.link"
        with pytest.raises(IntegrityError):
            files.replace(str(root), path, b"y")
    assert (outside / "f").read_bytes() == b"x"


def test_what_is_no_file_is_refused_without_hanging(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for path in ("pipe", "folder"):
        with pytest.raises((IntegrityError, Unknown)):
            files.read(str(tmp_path), path)


def test_replace_keeps_the_mode_and_leaves_nothing_beside(tmp_path: Path) -> None:
    target = tmp_path / "a" / "b.yaml"
    files.replace(str(tmp_path), "a/b.yaml", b"1")
    target.chmod(0o640)
    files.replace(str(tmp_path), "a/b.yaml", b"2")
    assert target.read_bytes() == b"2"
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    assert os.listdir(tmp_path / "a") == ["b.yaml"]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "f").write_bytes(b"old")

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(Unknown):
        files.replace(str(tmp_path), "f", b"new")
    monkeypatch.undo()
    assert (tmp_path / "f").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["f"]


def test_a_leftover_of_a_crash_is_taken_away(tmp_path: Path) -> None:
    (tmp_path / ".f.zopp-new").symlink_to(tmp_path / "elsewhere")
    files.replace(str(tmp_path), "f", b"x")
    assert os.listdir(tmp_path) == ["f"]


def test_private_files_are_private(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er" / "f"
    files.replace_private(str(path), b"x")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_remove_is_idempotent(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"x")
    files.remove(str(tmp_path), "f")
    files.remove(str(tmp_path), "f")
    files.remove(str(tmp_path), "no/such")
    with pytest.raises(NotFound):
        files.read(str(tmp_path), "f")
