"""Every route for every kind of caller: the table is complete by the routes themselves, and each cell is asked."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.server.conftest import Database, code
from tests.server.live import Live, Member, Office, stanza
from zopp.client.transport import Server, idem
from zopp.errors import ZoppError
from zopp.keys import signing
from zopp.policy import canonical
from zopp.protocol import messages, release
from zopp_server.app import ROUTES

PROD = "api/production"


@dataclass
class World:
    """acme with one caller of each kind; production is brokered."""

    office: Office
    callers: dict[str, Server]
    server_key: str
    code: str


@pytest.fixture
def world(office: Office, server: Live, database: Database) -> Iterator[World]:
    """nobody: enrolled, no role. auditor: the flag and no role. capped: admin by role, read by cap. disabled: was
    admin. foreign: admin of another workspace of this server. stranger: a key that nobody knows. service: read."""
    do = office.do
    sealed = office.brokered("alice-laptop", PROD)
    for user in ("nobody", "auditor", "capped", "disabled"):
        do("alice-laptop", "user.add", email_tag=None, user=user)
        office.enrol("alice-laptop", f"{user}-laptop", user)
    office.enrol("alice-laptop", "robot", None)
    do("alice-laptop", "binding.set", role="read", scope={"env": PROD}, subject={"service": "robot"})
    do("alice-laptop", "flag.set", flag="auditor", subject={"user": "auditor"})
    for user in ("capped", "disabled"):
        do("alice-laptop", "binding.set", role="admin", scope={"workspace": "acme"}, subject={"user": user})
    do("alice-laptop", "cap.set", principal="capped-laptop", cap="read", vouch=None)
    do("alice-laptop", "principal.disable", principal="disabled-laptop")
    other = Office(server.origin, server.log_key, "other")
    other.genesis("zoe", "zoe-laptop")
    other.take(other.server_set("zoe-laptop"))
    other.upload(code(database), "zoe-laptop")
    members = office.members
    callers = {
        "admin": members["alice-laptop"].server,
        "write": members["bob-laptop"].server,
        "read": members["carol-laptop"].server,
        "service": members["robot"].server,
        "nobody": members["nobody-laptop"].server,
        "auditor": members["auditor-laptop"].server,
        "capped": members["capped-laptop"].server,
        "disabled": members["disabled-laptop"].server,
        "foreign": other.members["zoe-laptop"].server,
        "stranger": Server(server.origin, server.log_key, signing.generate()),
    }
    yield World(office, callers, sealed, code(database))
    other.close()
    callers["stranger"].close()


MEMBERS = ("admin", "write", "read", "service", "nobody", "auditor", "capped")
OUTSIDE = dict.fromkeys(("disabled", "foreign", "stranger"), "bad_signature")


def row(**cells: str) -> dict[str, str]:
    """A row from what members get; outsiders get the one answer to everybody who is not let in."""
    assert set(cells) == set(MEMBERS)
    return cells | OUTSIDE


ALL = row(**dict.fromkeys(MEMBERS, "ok"))
READERS = row(admin="ok", write="ok", read="ok", service="ok", nobody="denied", auditor="denied", capped="ok")
WRITERS = row(
    admin="ok", write="ok", read="denied", service="denied", nobody="denied", auditor="denied", capped="denied"
)
ADMINS = row(**dict.fromkeys(MEMBERS, "denied")) | {"admin": "ok"}
AUDIT = ADMINS | {"auditor": "ok"}

# A statement is judged by who signs it: the caller signs it here, so this is who may make a group.
TABLE: dict[tuple[str, str], dict[str, str]] = {
    ("GET", "/v1/server"): dict.fromkeys((*MEMBERS, *OUTSIDE), "ok"),
    # who may upload is whoever has a code; a code that is none says no to everybody, and a workspace is made once
    ("POST", "/v1/workspaces/{ws}"): dict.fromkeys((*MEMBERS, *OUTSIDE), "denied"),
    ("GET", "/v1/policy/{ws}"): ALL,
    ("POST", "/v1/policy/{ws}"): ADMINS,
    ("POST", "/v1/releases/{ws}"): READERS,
    ("POST", "/v1/keys/{ws}"): ADMINS,
    ("POST", "/v1/manifests/{ws}"): WRITERS,
    ("GET", "/v1/manifests/{ws}"): ALL,
    # a registration is signed by a new key: a principal's own is refused, as is everything without a token
    ("POST", "/v1/oidc/{ws}"): dict.fromkeys((*MEMBERS, *OUTSIDE), "denied"),
    ("GET", "/v1/audit/{ws}"): AUDIT,
    ("GET", "/v1/audit/{ws}/count"): AUDIT,
    ("GET", "/v1/audit/{ws}/export"): AUDIT,
    ("GET", "/v1/log/{ws}/checkpoint"): ALL,
    ("GET", "/v1/log/{ws}/proof/inclusion"): ALL,
    ("GET", "/v1/log/{ws}/proof/consistency"): ALL,
    ("GET", "/v1/log/{ws}/tile/{rest:path}"): ALL,
}


def statement(world: World, who: str) -> bytes:
    office = world.office
    server = world.callers[who]
    name = next((m.principal for m in office.members.values() if m.server is server), "zoe-laptop")
    if name not in office.members:
        office.members[name] = Member(name, server.key, "", "", server)
    line = office.line(name, "group.create", {"group": f"by-{who}"})
    if name == "zoe-laptop":
        del office.members[name]
    return messages.build_request("statement", idem=canonical.b64(idem()), line=line.decode(), size=0, ws=office.now.ws)


def body(world: World, who: str, path: str) -> bytes:
    ws, key = world.office.now.ws, canonical.b64(idem())
    if "policy" in path:
        return statement(world, who)
    if "releases" in path:
        item = stanza(world.server_key)[0]
        made = release.Request(ws=ws, env=PROD, purpose="read", size=0, idem=idem(), items=(item,))
        return release.build_request(made)
    if "keys" in path:
        return messages.build_request("key", env=PROD, idem=key, size=0, ws=ws)
    if "manifests" in path:
        generation = int(time.time() * 1000) % 10**9 + list(world.callers).index(who)
        return messages.build_request(
            "manifest", env=PROD, generation=generation, hash="0" * 64, idem=key, size=0, ws=ws
        )
    if "oidc" in path:
        return messages.build_request(
            "oidc",
            jwt="e30.e30.e30",
            key=canonical.b64(world.callers[who].key.public),
            recipient=world.office.members["robot"].recipient,
            ws=ws,
        )
    return messages.build_request("workspace", code="a" * 26, log="{}\n", ws=ws)


QUERIES = {"/v1/policy/{ws}": "?from=0", "/v1/log/{ws}/proof/inclusion": "?index=1",
           "/v1/log/{ws}/proof/consistency": "?from=2"}  # fmt: skip


def ask(world: World, who: str, method: str, path: str) -> str:
    server = world.callers[who]
    target = path.replace("{ws}", "acme").replace("{rest:path}", "0/000.p/2")
    try:
        if method == "GET":
            server.get(target + QUERIES.get(path, ""))
        else:
            server.post(target, body(world, who, path))
    except ZoppError as exc:
        return exc.code
    return "ok"


def test_the_table_has_a_row_for_every_route_and_a_cell_for_every_caller() -> None:
    assert set(TABLE) == {(route.method, route.path) for route in ROUTES}
    assert all(set(cells) == {*MEMBERS, *OUTSIDE} for cells in TABLE.values())


def test_every_cell(world: World) -> None:
    wrong = []
    for (method, path), cells in TABLE.items():
        for who, expected in cells.items():
            found = ask(world, who, method, path)
            if who == "admin" and path == "/v1/policy/{ws}" and method == "POST" and found == "ok":
                world.office.state = world.office.pull("alice-laptop")
            if found != expected:
                wrong.append(f"{who}: {method} {path}: {found}, not {expected}")
    assert not wrong, "\n".join(wrong)


def test_entries_of_the_log_are_for_admins_and_auditors(world: World) -> None:
    """The one route whose answer depends on what is asked for."""
    for who in MEMBERS:
        try:
            world.callers[who].get("/v1/log/acme/tile/entries/000.p/2")
            found = "ok"
        except ZoppError as exc:
            found = exc.code
        assert found == AUDIT[who], who
