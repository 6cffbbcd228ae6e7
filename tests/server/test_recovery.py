"""A database that was rolled back or changed: nothing is released on it (A23); and the way back to serving."""

import asyncio
import io
from dataclasses import replace
from pathlib import Path

import pytest

from tests.server.conftest import Database, code, prepared, url
from tests.server.live import Live, Office, live, stanza, team
from zopp.errors import Denied, IntegrityError, Unknown, UsageError, ZoppError
from zopp.policy import canonical
from zopp.tlog import checkpoint
from zopp_server import custody, embedded, operate
from zopp_server.config import Settings
from zopp_server.embedded import Embedded

PROD = "api/production"


def start(settings: Settings) -> None:
    """Start a server, which the test expects to fail."""
    with live(settings.database, settings.data, settings=settings):
        pass


def owner(database: Database, sql: str) -> None:
    """What the owner of the database can do: everything."""
    database.execute(embedded.SUPERUSER, sql)


def test_a23_rows_put_back_while_serving_release_nothing(office: Office, server: Live, database: Database) -> None:
    """The revocation is cut off the log, policy and all: the reader who was revoked gets nothing."""
    sealed = office.brokered("alice-laptop", PROD)
    office.release("carol-laptop", [stanza(sealed)[0]], PROD)
    ws = office.now.ws
    size, root, frontier, note = database.run(
        embedded.SUPERUSER,
        lambda c: c.fetchrow("SELECT size, root, frontier, checkpoint FROM audit.log WHERE log_id = $1", ws),
    )
    seq, head = office.now.seq, office.now.head
    office.do("alice-laptop", "binding.remove", scope={"env": PROD}, subject={"user": "carol"})

    async def back(connection: object) -> None:
        await connection.execute("SET session_replication_role = replica")  # type: ignore[attr-defined]
        for table in ("entry", "log", "tile"):
            await connection.execute(f"ALTER TABLE audit.{table} DISABLE TRIGGER ALL")  # type: ignore[attr-defined]
        await connection.execute("DELETE FROM audit.entry WHERE log_id = $1 AND seq >= $2", ws, size)  # type: ignore[attr-defined]
        await connection.execute(  # type: ignore[attr-defined]
            "UPDATE audit.log SET size = $2, root = $3, frontier = $4, checkpoint = $5 WHERE log_id = $1",
            *(ws, size, root, frontier, note),
        )
        await connection.execute("DELETE FROM policy.statement WHERE ws = 'acme' AND seq > $1", seq)  # type: ignore[attr-defined]
        await connection.execute(  # type: ignore[attr-defined]
            "UPDATE policy.workspace SET policy_seq = $1, policy_head = decode($2, 'hex')", seq, head
        )

    database.run(embedded.SUPERUSER, back)
    with pytest.raises(Unknown) as refused:
        office.release("carol-laptop", [stanza(sealed)[0]], PROD)
    assert refused.value.code == "recovery"
    with pytest.raises(Unknown) as refused:
        office.release("bob-laptop", [stanza(sealed)[0]], PROD)
    assert refused.value.code == "recovery"
    server.stop()
    with pytest.raises(IntegrityError):
        start(server.settings)


@pytest.mark.parametrize("how", ["body", "delete", "swap", "insert"])
def test_a_row_changed_by_the_owner_stops_the_next_start(
    office: Office, server: Live, database: Database, how: str
) -> None:
    """Near the right edge the self-check itself finds it; anywhere else `audit verify` does."""
    server.stop()
    change = {
        "body": "UPDATE audit.entry SET body = replace(encode(body, 'escape'), 'alice', 'elice')::bytea"
        " WHERE seq = 3 AND log_id <> 'system'",
        "delete": "DELETE FROM audit.entry WHERE seq = 2 AND log_id <> 'system'",
        "swap": "UPDATE audit.entry SET seq = CASE seq WHEN 2 THEN 1000003 ELSE 1000002 END"
        " WHERE seq IN (2, 3) AND log_id <> 'system';"
        " UPDATE audit.entry SET seq = seq - 1000000 WHERE seq > 1000000",
        "insert": "INSERT INTO audit.entry SELECT log_id, seq + 100000, ts, action, outcome, actor, on_behalf, project,"
        " env, req_id, leaf, body FROM audit.entry WHERE seq = 1 AND log_id <> 'system'",
    }[how]
    owner(
        database,
        f"ALTER TABLE audit.entry DISABLE TRIGGER ALL; {change}; ALTER TABLE audit.entry ENABLE TRIGGER ALL;"
        " ALTER TABLE audit.entry ENABLE ALWAYS TRIGGER entry_change;"
        " ALTER TABLE audit.entry ENABLE ALWAYS TRIGGER entry_truncate",
    )
    with pytest.raises(IntegrityError) as refused:
        start(server.settings)
    assert refused.value.code == "server.check"


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE policy.binding SET role = 3 WHERE subject = 'carol'",
        "DELETE FROM policy.statement WHERE seq = 4",
        "UPDATE policy.environment SET protected = false",
        "UPDATE keys.dek SET canary = wrapped",
        "INSERT INTO policy.auditor VALUES ('acme', 'carol')",
    ],
)
def test_policy_that_is_not_the_log_s_stops_the_next_start(
    office: Office, server: Live, database: Database, sql: str
) -> None:
    server.stop()
    owner(database, sql)
    with pytest.raises(IntegrityError) as refused:
        start(server.settings)
    assert refused.value.code == "server.check"


def test_a_binding_in_the_tables_grants_nothing(office: Office, database: Database) -> None:
    """Decisions come from the fold, never from SQL."""
    sealed = office.brokered("alice-laptop", PROD)
    office.do("alice-laptop", "binding.remove", scope={"env": PROD}, subject={"user": "carol"})
    owner(database, "INSERT INTO policy.binding VALUES ('acme', 'user', 'carol', 'env', 'api/production', 3)")
    with pytest.raises(Denied) as refused:
        office.release("carol-laptop", [stanza(sealed)[0]], PROD)
    assert refused.value.data["rule"] == "role"


def test_a_lost_high_water_file_stops_the_start(office: Office, server: Live) -> None:
    server.stop()
    (server.settings.data / "highwater").unlink()
    with pytest.raises(Unknown) as refused:
        start(server.settings)
    assert refused.value.code == "highwater.missing"


def note_of(office: Office) -> bytes:
    return office.members["alice-laptop"].server.get("/v1/log/acme/checkpoint").body


def test_a_new_host_starts_with_a_kept_checkpoint(office: Office, server: Live) -> None:
    sealed = office.brokered("alice-laptop", PROD)
    note = note_of(office)
    server.stop()
    (server.settings.data / "highwater").unlink()
    forged = checkpoint.read(note, office.log)
    from zopp.keys import signing

    other = checkpoint.sign(forged, signing.generate()).serialise()
    with pytest.raises(IntegrityError):
        asyncio.run(operate.restore(server.settings, other, None))
    ahead = checkpoint.sign(replace(forged, size=forged.size + 1), custody.load_log_key(server.settings.log_key))
    with pytest.raises(IntegrityError) as refused:
        asyncio.run(operate.restore(server.settings, ahead.serialise(), None))
    assert refused.value.code == "restore.behind"
    asyncio.run(operate.restore(server.settings, note, None))
    with live(server.settings.database, server.settings.data, settings=server.settings):
        office.release("carol-laptop", [stanza(sealed)[0]], PROD)


def test_a_backup_brings_back_identical_roots(
    office: Office, server: Live, postgres: Embedded, template: str, tmp_path: Path
) -> None:
    """Into an empty database: the same tree, so what clients witnessed still holds, and releases go on."""
    sealed = office.brokered("alice-laptop", PROD)
    office.release("carol-laptop", [stanza(sealed)[0]], PROD)
    out = io.BytesIO()
    asyncio.run(operate.backup(server.settings, out))
    file = tmp_path / "backup.jsonl"
    file.write_bytes(out.getvalue())
    note = note_of(office)
    server.stop()
    empty = prepared(postgres, template)
    settings: Settings = replace(server.settings, database=url(empty), data=tmp_path / "new")
    settings.data.mkdir()
    cut = tmp_path / "cut.jsonl"
    cut.write_bytes(out.getvalue()[:-200])
    with pytest.raises(ZoppError):
        asyncio.run(operate.restore(settings, note, cut))
    asyncio.run(operate.restore(settings, note, file))
    with live(settings.database, settings.data, settings=settings) as again:
        office.release("carol-laptop", [stanza(sealed)[0]], PROD)  # accepts only what extends the kept checkpoint
        assert not again.causes


def test_a_restore_that_fails_leaves_no_empty_high_water_file(
    office: Office, server: Live, database: Database, tmp_path: Path
) -> None:
    """Else the next start would hold the database to nothing."""
    note = note_of(office)
    server.stop()
    (server.settings.data / "highwater").unlink()
    owner(database, "UPDATE policy.binding SET role = 3 WHERE subject = 'carol'")
    with pytest.raises(IntegrityError):
        asyncio.run(operate.restore(server.settings, note, None))
    owner(database, "UPDATE policy.binding SET role = 1 WHERE subject = 'carol'")
    with pytest.raises(Unknown) as refused:
        start(server.settings)
    assert refused.value.code == "highwater.missing"


def test_a_backup_from_after_a_rotation_goes_over_a_database_from_before(
    office: Office, server: Live, postgres: Embedded, template: str, tmp_path: Path
) -> None:
    """The former KEK is gone: the data encryption key must be the backup's."""
    sealed = office.brokered("alice-laptop", PROD)
    before, after = io.BytesIO(), io.BytesIO()
    asyncio.run(operate.backup(server.settings, before))
    custody.make_kek(tmp_path / "kek2")
    asyncio.run(operate.rotate_kek(server.settings, tmp_path / "kek2"))
    asyncio.run(operate.backup(server.settings, after))
    note = note_of(office)
    server.stop()
    for name, made in (("before", before), ("after", after)):
        (tmp_path / name).write_bytes(made.getvalue())
    settings: Settings = replace(server.settings, database=url(prepared(postgres, template)), data=tmp_path / "new")
    settings.data.mkdir()
    with pytest.raises(IntegrityError, match="checkpoint"):  # ends before it, as a database that was put back does
        asyncio.run(operate.restore(settings, note, tmp_path / "before"))
    settings = replace(settings, kek=tmp_path / "kek2")
    asyncio.run(operate.restore(settings, note, tmp_path / "after"))
    with live(settings.database, settings.data, settings=settings):
        office.release("carol-laptop", [stanza(sealed)[0]], PROD)


def test_a_backup_does_not_go_over_another_log(
    office: Office, server: Live, postgres: Embedded, template: str, tmp_path: Path
) -> None:
    out = io.BytesIO()
    asyncio.run(operate.backup(server.settings, out))
    (tmp_path / "backup.jsonl").write_bytes(out.getvalue())
    note = note_of(office)
    office.do("alice-laptop", "group.create", group="later")
    server.stop()
    with pytest.raises(UsageError, match="ahead"):
        asyncio.run(operate.restore(server.settings, note, tmp_path / "backup.jsonl"))


def test_the_kek_is_rotated_beside_a_running_server(office: Office, server: Live, tmp_path: Path) -> None:
    sealed = office.brokered("alice-laptop", PROD)
    custody.make_kek(tmp_path / "kek2")
    assert asyncio.run(operate.rotate_kek(server.settings, tmp_path / "kek2")) == ["acme"]
    office.release("carol-laptop", [stanza(sealed)[0]], PROD)
    server.stop()
    with pytest.raises(IntegrityError, match="another key encryption key"):
        start(server.settings)
    settings = replace(server.settings, kek=tmp_path / "kek2")
    with live(settings.database, settings.data, settings=settings):
        office.release("carol-laptop", [stanza(sealed)[0]], PROD)
    assert asyncio.run(operate.rotate_kek(settings, tmp_path / "kek2")) == []


def test_swapped_server_keys_do_not_open(office: Office, server: Live, database: Database) -> None:
    """The additional data of a row names its environment."""
    office.brokered("alice-laptop", PROD)
    office.brokered("alice-laptop", "api/dev")
    server.stop()
    owner(
        database,
        "UPDATE keys.server_key a SET wrapped = b.wrapped FROM keys.server_key b WHERE a.env <> b.env",
    )
    with pytest.raises(IntegrityError):
        start(server.settings)


def test_the_log_key_changes_where_the_server_was_told(office: Office, server: Live, tmp_path: Path) -> None:
    """A6: the new key counts with a receipt of that very line under the old one, which stays available."""
    from zopp.protocol import messages, receipt as receipts

    following = custody.make_log_key(tmp_path / "next")
    old = office.log
    server.stop()
    settings = replace(server.settings, next_log_key=tmp_path / "next")
    with live(settings.database, settings.data, settings=settings):
        line = office.line(
            "alice-laptop", "server.set", {"log_key": canonical.b64(following.public), "origin": office.origin}
        )
        office.send(line)
    settings = replace(server.settings, log_key=tmp_path / "next")
    with live(settings.database, settings.data, settings=settings):
        office.log_key = following.public
        fields = messages.parse_answer("policy", office.members["carol-laptop"].server.get("/v1/policy/acme").body)
        assert len(fields["keys"]) == 1
        receipts.check_line(receipts.of_json(fields["keys"][0]), line, old)
        receipts.check_line(receipts.of_json(fields["receipt"]), line, office.log)


def test_a_start_on_a_foreign_origin_is_refused(server: Live, database: Database) -> None:
    office = Office(server.origin, server.log_key)
    team(office, code(database))
    office.close()
    server.stop()
    settings = replace(server.settings, origin="http://127.0.0.1:1")
    with pytest.raises(ZoppError), live(settings.database, settings.data, settings=settings):
        pass


def test_a23_a_log_written_anew_to_the_same_size_is_found(office: Office, server: Live) -> None:
    """Not its length alone: the high-water file knows the root."""
    sealed = office.brokered("alice-laptop", PROD)
    assert server.service is not None
    marks = server.service.batcher._marks.marks
    marks[office.now.ws] = replace(marks[office.now.ws], root=bytes(32))
    with pytest.raises(Unknown) as refused:
        office.release("carol-laptop", [stanza(sealed)[0]], PROD)
    assert refused.value.code == "recovery"


def test_a23_a_root_that_is_not_its_rows_is_found_while_serving(
    office: Office, server: Live, database: Database
) -> None:
    sealed = office.brokered("alice-laptop", PROD)
    owner(
        database,
        "ALTER TABLE audit.log DISABLE TRIGGER log_update; UPDATE audit.log SET root = sha256('x');"
        " ALTER TABLE audit.log ENABLE ALWAYS TRIGGER log_update",
    )
    with pytest.raises(Unknown) as refused:
        office.release("carol-laptop", [stanza(sealed)[0]], PROD)
    assert refused.value.code == "recovery"


def test_a24_a_clock_behind_the_newest_checkpoint_records_nothing(
    office: Office, server: Live, database: Database
) -> None:
    """Both clocks were set back together: the nonces of that time may be gone."""
    sealed = office.brokered("alice-laptop", PROD)
    office.members["carol-laptop"].server.pause = lambda seconds: None

    def signed(seconds: int) -> None:
        owner(
            database,
            "ALTER TABLE audit.log DISABLE TRIGGER log_update;"
            f" UPDATE audit.log SET signed_at = now() + interval '{seconds} s';"
            " ALTER TABLE audit.log ENABLE ALWAYS TRIGGER log_update",
        )

    signed(90)
    with pytest.raises(Unknown) as refused:
        office.release("carol-laptop", [stanza(sealed)[0]], PROD)
    assert refused.value.code == "audit_unavailable"
    signed(30)
    office.release("carol-laptop", [stanza(sealed)[0]], PROD)


@pytest.mark.parametrize("name", ["kek", "log_key"])
@pytest.mark.parametrize("how", ["mode", "link"])
def test_a_key_that_others_may_read_stops_the_start(office: Office, server: Live, name: str, how: str) -> None:
    server.stop()
    path = server.settings.data / name
    if how == "mode":
        path.chmod(0o604)
    else:
        path.rename(path.with_suffix(".real"))
        path.symlink_to(path.with_suffix(".real"))
    with pytest.raises(Unknown) as refused:
        start(server.settings)
    assert refused.value.code == "secret.file"
