"""Several files changed as one: old, new, or finished by `recover`, at whichever system call it is cut (A16, A19)."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from zopp._fast import sha256
from zopp.errors import IntegrityError, Unknown, ZoppError
from zopp.repo import files, journal, layout
from zopp.repo.layout import Checkout

CHANGES: dict[str, tuple[bytes | None, bytes | None]] = {
    "secrets/dev.yaml": (b"old one\n", b"new one, longer\n"),
    ".zopp/manifest/api/dev.json": (b"old manifest", b"new manifest"),
    "made/here/new.yaml": (None, b"made"),
    "gone.yaml": (b"gone", None),
    "same.yaml": (b"same", b"same"),
}
OLD = {path: old for path, (old, _) in CHANGES.items() if old is not None}
NEW = {path: new for path, (_, new) in CHANGES.items() if new is not None}
WRITING = ("open", "write", "fsync", "rename", "unlink", "mkdir", "fchmod")


def make(folder: Path) -> Checkout:
    (folder / ".git").mkdir(parents=True)
    for path, data in OLD.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    return layout.find_checkout(str(folder))


def state(folder: Path) -> dict[str, bytes]:
    found = {}
    for path in folder.rglob("*"):
        if path.is_file() and ".git" not in path.relative_to(folder).parts:
            found[str(path.relative_to(folder))] = path.read_bytes()
    return found


class Cut(BaseException):
    """The moment the power goes: nothing after it happens, clean-up included."""


@pytest.fixture
def cutter(monkeypatch: pytest.MonkeyPatch) -> Iterator["Cutter"]:
    made = Cutter()
    for name in WRITING:
        monkeypatch.setattr(os, name, made.wrapped(name, getattr(os, name)))
    yield made
    made.left = -1


class Cutter:
    """Lets `left` system calls happen and raises `Cut` at every one after them; -1: all happen."""

    def __init__(self) -> None:
        self.left = -1
        self.count = 0
        self.torn = False

    def wrapped(self, name: str, call):  # type: ignore[no-untyped-def]
        def wrapper(*args, **kwargs):  # type: ignore[no-untyped-def]
            if name == "open" and not (args[1] if len(args) > 1 else 0) & (os.O_CREAT | os.O_TRUNC):
                return call(*args, **kwargs)
            self.count += 1
            if self.left == 0:
                if self.torn and name == "write":
                    self.torn = False
                    call(args[0], bytes(args[1])[: len(args[1]) // 2])
                raise Cut
            if self.left > 0:
                self.left -= 1
            return call(*args, **kwargs)

        return wrapper


def calls(folder: Path, cutter: Cutter) -> int:
    checkout = make(folder)
    cutter.count = 0
    with journal.lock(checkout):
        journal.write(checkout, CHANGES)
    assert state(folder) == NEW
    return cutter.count


@pytest.mark.parametrize("torn", [False, True])
def test_a_cut_at_any_call_leaves_old_or_new_or_what_recover_finishes(
    tmp_path: Path, cutter: Cutter, torn: bool
) -> None:
    """Also when a second cut hits the recovery, at each of its calls."""
    total = calls(tmp_path / "whole", cutter)
    assert total > 20
    outcomes = set()
    for k in range(total):
        folder = tmp_path / f"cut{k}"
        checkout = make(folder)
        cutter.left, cutter.torn = k, torn
        with pytest.raises(Cut), journal.lock(checkout):
            journal.write(checkout, CHANGES)
        cutter.left = -1
        decided = journal.pending(checkout)
        for path, data in state(folder).items():
            if not path.endswith(".zopp-new"):
                assert data in (OLD.get(path), NEW.get(path))
        if not decided:
            visible = {p: d for p, d in state(folder).items() if not p.endswith(".zopp-new")}
            assert visible in (OLD, NEW)
        # recover, cut after j calls, until it comes through
        j = 0
        while True:
            cutter.left = j
            try:
                with journal.lock(checkout):
                    done = journal.recover(checkout)
                break
            except Cut:
                j += 3
            finally:
                cutter.left = -1
        assert not journal.pending(checkout)
        assert state(folder) == (NEW if decided or state(folder) == NEW else OLD)
        outcomes.add((decided, bool(done)))
        if decided:
            assert state(folder) == NEW
    assert outcomes >= {(False, False), (True, True)}


def test_a_killed_process_leaves_what_recover_finishes(tmp_path: Path) -> None:
    """The same with a real process that ends without clean-up."""
    program = """
import os, sys
from tests.unit.repo import test_journal as t
from zopp.repo import journal, layout
checkout = layout.find_checkout(sys.argv[1])
left = int(sys.argv[2])
for name in t.WRITING:
    def wrap(call):
        def wrapper(*args, **kwargs):
            global left
            if left == 0:
                os._exit(9)
            left -= 1
            return call(*args, **kwargs)
        return wrapper
    setattr(os, name, wrap(getattr(os, name)))
with journal.lock(checkout):
    journal.write(checkout, t.CHANGES)
os._exit(0)
"""
    root = str(Path(__file__).resolve().parents[3])
    finished = False
    for k in range(4, 90, 9):
        folder = tmp_path / f"k{k}"
        checkout = make(folder)
        env = {**os.environ, "PYTHONPATH": root}
        argv = [sys.executable, "-c", program, str(folder), str(k)]
        code = subprocess.run(argv, env=env, check=False).returncode
        assert code in (0, 9)
        with journal.lock(checkout):
            journal.recover(checkout)
        assert state(folder) in (OLD, NEW)
        finished = finished or code == 0
    assert finished


def test_a_torn_journal_changes_nothing_and_is_not_deleted(tmp_path: Path) -> None:
    whole = journal._encode(CHANGES)
    for cut in [*range(0, len(whole), 7), len(whole) - 1]:
        folder = tmp_path / str(cut)
        checkout = make(folder)
        with journal.lock(checkout):
            Path(journal.journal_file(checkout)).write_bytes(whole[:cut])
            with pytest.raises(Unknown) as caught:
                journal.recover(checkout)
        assert caught.value.code == "journal.damaged"
        assert state(folder) == OLD
        assert journal.pending(checkout)


def test_any_bytes_are_a_journal_or_an_error(tmp_path: Path) -> None:
    checkout = make(tmp_path)
    for body in (b"", b"x", b"zopp-journal-v1\n", b"zopp-journal-v1\n1 - 5\nx\nab\n", b"zopp-journal-v1\n\xff\n"):
        for data in (body, body + b"end " + sha256(body).hex().encode() + b"\n"):
            with journal.lock(checkout):
                Path(journal.journal_file(checkout)).write_bytes(data)
                try:
                    journal.recover(checkout)
                except ZoppError:
                    continue
            assert state(tmp_path) == OLD


def test_a19_a_foreign_change_in_between_is_not_overwritten(tmp_path: Path, cutter: Cutter) -> None:
    """Whatever was touched stays, and nothing else is written either."""
    for path in CHANGES:
        if path == "same.yaml":
            continue
        folder = tmp_path / path.replace("/", "_")
        checkout = make(folder)
        with journal.lock(checkout):
            Path(journal.journal_file(checkout)).write_bytes(journal._encode(CHANGES))
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(b"foreign")
        before = state(folder)
        with journal.lock(checkout), pytest.raises(IntegrityError) as caught:
            journal.recover(checkout)
        assert caught.value.code == "journal.foreign"
        assert caught.value.place == path
        assert state(folder) == before
        assert journal.pending(checkout)


def test_a_file_changed_before_the_decision_is_not_overwritten(tmp_path: Path) -> None:
    checkout = make(tmp_path)
    (tmp_path / "secrets/dev.yaml").write_bytes(b"by an editor")
    before = state(tmp_path)
    with journal.lock(checkout), pytest.raises(IntegrityError) as caught:
        journal.write(checkout, CHANGES)
    assert caught.value.code == "journal.raced"
    assert state(tmp_path) == before
    assert not journal.pending(checkout)


@pytest.mark.parametrize("where", ["secrets", "secrets/dev.yaml", ".zopp", ".zopp/manifest/api/dev.json", "made"])
@pytest.mark.parametrize("when", ["before", "between"])
def test_a16_a_link_on_the_way_is_not_followed(tmp_path: Path, where: str, when: str) -> None:
    folder, outside = tmp_path / "repo", tmp_path / "outside"
    checkout = make(folder)
    with journal.lock(checkout):
        if when == "between":
            Path(journal.journal_file(checkout)).write_bytes(journal._encode(CHANGES))
        if (folder / where).exists():
            (folder / where).rename(outside)
        else:
            outside.mkdir()
        (folder / where).symlink_to(outside)
        kept = outside.read_bytes() if outside.is_file() else state(outside)
        with pytest.raises(IntegrityError) as caught:
            journal.recover(checkout) if when == "between" else journal.write(checkout, CHANGES)
    assert caught.value.code == "path.link"
    assert kept == (outside.read_bytes() if outside.is_file() else state(outside))
    assert journal.pending(checkout) == (when == "between")


@pytest.mark.parametrize("path", ["../x", "/x", "a//b", ".git/hooks/x", "a\\b", ".GIT/config", "e\u0301"])
def test_a16_paths_that_lead_elsewhere_are_refused(tmp_path: Path, path: str) -> None:
    checkout = make(tmp_path)
    with journal.lock(checkout), pytest.raises(IntegrityError) as caught:
        journal.write(checkout, {path: (None, b"x")})
    assert caught.value.code == "path.unsafe"
    with journal.lock(checkout):
        Path(journal.journal_file(checkout)).write_bytes(journal._encode({path: (None, b"x")}))
        with pytest.raises(IntegrityError):
            journal.recover(checkout)


def test_a_pending_change_is_not_written_over(tmp_path: Path) -> None:
    checkout = make(tmp_path)
    with journal.lock(checkout):
        Path(journal.journal_file(checkout)).write_bytes(journal._encode(CHANGES))
        with pytest.raises(Unknown) as caught:
            journal.write(checkout, {"other.yaml": (None, b"x")})
        assert caught.value.code == "journal.pending"
        assert journal.recover(checkout) == list(CHANGES)
    assert state(tmp_path) == NEW


def test_what_cannot_be_written_is_finished_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk in the middle: an error, nothing half, and the next command finishes."""
    checkout = make(tmp_path)
    real = os.fsync
    count = 0

    def full(fd: int) -> None:
        nonlocal count
        count += 1
        if count > 3:
            raise OSError(28, "No space left on device")
        real(fd)

    monkeypatch.setattr(os, "fsync", full)
    with journal.lock(checkout), pytest.raises(Unknown) as caught:
        journal.write(checkout, CHANGES)
    assert caught.value.code == "file.unwritable"
    assert not [path for path in state(tmp_path) if path.endswith(".zopp-new")]
    monkeypatch.setattr(os, "fsync", real)
    with journal.lock(checkout):
        journal.recover(checkout)
    assert state(tmp_path) == NEW


def test_each_file_is_durable_before_its_name_points_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A power cut may keep a rename and lose unsynced bytes; then neither old nor new would be there."""
    checkout = make(tmp_path)
    synced: set[int] = set()
    real_fsync, real_rename = os.fsync, os.rename

    def fsync(fd: int) -> None:
        synced.add(os.fstat(fd).st_ino)
        real_fsync(fd)

    def rename(source: str, target: str, *, src_dir_fd: int | None = None, dst_dir_fd: int | None = None) -> None:
        assert os.stat(source, dir_fd=src_dir_fd).st_ino in synced
        real_rename(source, target, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "rename", rename)
    with journal.lock(checkout):
        journal.write(checkout, CHANGES)
    for folder in ("secrets", ".zopp/manifest/api", "made/here", "made", "", ".git", ".git/zopp"):
        assert (tmp_path / folder).stat().st_ino in synced


def test_many_files_go_in_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of them synced once; a failure in any worker is a failure of the whole."""
    checkout = make(tmp_path)
    synced: list[int] = []
    real = os.fsync

    def fsync(fd: int) -> None:
        synced.append(os.fstat(fd).st_ino)
        real(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    many: dict[str, tuple[bytes | None, bytes | None]] = {f"many/{n}.yaml": (None, b"%d" % n) for n in range(150)}
    with journal.lock(checkout):
        journal.write(checkout, many)
    assert len([path for path in state(tmp_path) if path.startswith("many/")]) == 150
    assert {path.stat().st_ino for path in (tmp_path / "many").iterdir()} <= set(synced)
    assert len(synced) == 150 + 5  # the journal, its folder, .git, many, the root
    assert len(os.listdir("/proc/self/fd" if os.path.exists("/proc/self/fd") else "/dev/fd")) < 64


@pytest.mark.parametrize("at", [0, 7, 40, 63])
def test_a_sync_that_fails_in_a_worker_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    real = os.fsync
    number = iter(range(1000))

    def fsync(fd: int) -> None:
        if next(number) == at:
            raise OSError(5, "Input/output error")
        real(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(Unknown) as caught:
        files.replace_all(str(tmp_path), {f"f{n}.yaml": b"x" for n in range(64)})
    assert caught.value.code == "file.unwritable"
    assert not list(tmp_path.iterdir())


def test_one_at_a_time(tmp_path: Path) -> None:
    checkout = make(tmp_path)
    with journal.lock(checkout):
        with pytest.raises(Unknown) as caught, journal.lock(checkout, wait=False):
            pass
        assert caught.value.code == "locked"
    with journal.lock(checkout, wait=False):
        pass


def test_the_mode_of_a_file_stays(tmp_path: Path) -> None:
    checkout = make(tmp_path)
    (tmp_path / "secrets/dev.yaml").chmod(0o640)
    with journal.lock(checkout):
        journal.write(checkout, CHANGES)
    assert (tmp_path / "secrets/dev.yaml").stat().st_mode & 0o777 == 0o640
    assert files.read(str(tmp_path), "made/here/new.yaml") == b"made"
