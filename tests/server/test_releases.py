"""Releases on the real server and real Postgres: recorded first, sealed to the registered recipient, by role."""

import pytest

from tests.server.conftest import Database
from tests.server.live import Live, Office, stanza
from zopp.errors import Denied, NotFound
from zopp.keys import filekey
from zopp.tlog import entry

PROD = "api/production"


@pytest.fixture
def sealed(office: Office) -> str:
    """The server key of production, which is brokered now."""
    return office.brokered("alice-laptop", PROD)


def test_a_reader_gets_the_file_key_and_a_receipt(office: Office, sealed: str, database: Database) -> None:
    item, data = stanza(sealed, b"share two")
    made = office.release("carol-laptop", [item], PROD)
    assert made.keys[0] is not None
    assert filekey.payload(data, made.keys[0].key) == b"share two"
    body = database.value("zopp_app", "SELECT body FROM audit.entry WHERE action = 'release'")
    recorded = entry.parse(body)
    assert (recorded.actor, recorded.outcome, str(recorded.scope)) == ("carol-laptop", "allow", PROD)


def test_one_request_carries_many_stanzas(office: Office, sealed: str) -> None:
    items = [stanza(sealed, b"%d" % number) for number in range(100)]
    made = office.release("carol-laptop", [item for item, _ in items], PROD)
    for (_, data), key, number in zip(items, made.keys, range(100), strict=True):
        assert key is not None
        assert filekey.payload(data, key.key) == b"%d" % number


def test_a_denied_reader_is_told_where_and_recorded(office: Office, sealed: str, database: Database) -> None:
    office.do("alice-laptop", "binding.remove", scope={"env": PROD}, subject={"user": "carol"})
    item, _ = stanza(sealed)
    with pytest.raises(Denied, match="carol-laptop may not read api/production") as refused:
        office.release("carol-laptop", [item], PROD)
    assert refused.value.data["env"] == PROD
    assert database.value("zopp_app", "SELECT outcome FROM audit.entry WHERE action = 'release'") == 0


def test_a_foreign_stanza_is_unmatched_and_not_logged(office: Office, sealed: str, database: Database) -> None:
    item, _ = stanza(office.members["bob-laptop"].recipient)
    with pytest.raises(NotFound, match="no key of this workspace"):
        office.release("carol-laptop", [item], PROD)
    assert database.value("zopp_app", "SELECT count(*) FROM audit.entry WHERE action = 'release'") == 0


def test_another_environment_s_name_does_not_open(office: Office, sealed: str) -> None:
    dev = office.brokered("alice-laptop", "api/dev")
    item, _ = stanza(dev)
    with pytest.raises(NotFound):
        office.release("carol-laptop", [item], PROD)


def test_without_an_environment_two_stanzas_at_most(office: Office, sealed: str, server: Live) -> None:
    made = office.release("carol-laptop", [stanza(sealed)[0], stanza(sealed)[0]], None)
    assert all(key is not None for key in made.keys)
