"""Numbered scenarios that need the server: S12, S33, S34, S53, S60 (spec: scenarios), on real Postgres."""

import json
import time
from typing import Any

import pytest

from tests.server.conftest import Database, code
from tests.server.live import Live, Member, Office, stanza
from zopp import _fast
from zopp.client.transport import idem
from zopp.errors import Denied, Unknown, ZoppError
from zopp.policy import canonical
from zopp.protocol import messages, release
from zopp.tlog import entry
from zopp_server import embedded

PROD, DEV = "api/production", "api/dev"
COLUMNS = (
    "read secret", "write secret", "set role at env", "create env", "set role at project", "create project",
    "create group", "create invite", "set role at workspace", "P: read", "P: write",
)  # fmt: skip
MATRIX = """
none                | - - - - - - - - - - -
workspace read      | Y - - - - - - - - - -
workspace write     | Y Y - - - - - - - - -
workspace admin     | Y Y Y Y Y Y Y Y Y Y Y
project read        | Y - - - - - - - - - -
project write       | Y Y - - - - - - - - -
project admin       | Y Y Y Y Y - - - - Y Y
environment read    | Y - - - - - - - - Y -
environment write   | Y Y - - - - - - - Y Y
environment admin   | Y Y Y - - - - - - Y Y
"""
ROWS = {
    line.partition("|")[0].strip(): dict(zip(COLUMNS, line.partition("|")[2].split(), strict=True))
    for line in MATRIX.strip().splitlines()
}


def matrix_of(office: Office, keys: dict[str, str], member: Member, serial: int) -> dict[str, str]:
    """What the server lets this member do, each cell asked."""

    def statement(type: str, data: dict[str, Any]) -> None:
        office.send(office.line(member.principal, type, data))

    def role(scope: dict[str, str]) -> None:
        subject = {"user": "dummy"}
        if any(s.name == "dummy" and w.json() == scope for s, w, _ in office.now.bindings):
            statement("binding.remove", {"scope": scope, "subject": subject})
        else:
            statement("binding.set", {"role": "read", "scope": scope, "subject": subject})

    def read(env: str) -> None:
        office.release(member.principal, [stanza(keys[env])[0]], env)

    def write(env: str) -> None:
        body = messages.build_request(
            "manifest", env=env, generation=serial, hash="0" * 64, idem=canonical.b64(idem()), size=0, ws=office.now.ws
        )
        member.server.post("/v1/manifests/acme", body)

    invite = {
        "email_tag": None, "invite": f"i{serial}", "key": canonical.b64(office_key(serial)),
        "not_after": int(time.time()) + 600, "role": "read", "scope": {"project": "api"},
    }  # fmt: skip
    acts = {
        "read secret": lambda: read(DEV),
        "write secret": lambda: write(DEV),
        "set role at env": lambda: role({"env": DEV}),
        "create env": lambda: statement("env.create", {"env": f"api/e{serial}", "kind": "direct", "protected": False}),
        "set role at project": lambda: role({"project": "api"}),
        "create project": lambda: statement("project.create", {"project": f"p{serial}"}),
        "create group": lambda: statement("group.create", {"group": f"g{serial}"}),
        "create invite": lambda: statement("invite.create", invite),
        "set role at workspace": lambda: role({"workspace": "acme"}),
        "P: read": lambda: read(PROD),
        "P: write": lambda: write(PROD),
    }
    found = {}
    for column, act in acts.items():
        try:
            act()
            found[column] = "Y"
        except ZoppError as exc:
            found[column] = "-" if exc.code in ("denied", "refused") else exc.code
    return found


def office_key(serial: int) -> bytes:
    key: bytes = _fast.ed25519_private(_fast.sha256(b"invite %d" % serial)).public_key().public_bytes_raw()
    return key


@pytest.mark.parametrize("kind", ["user", "group", "service"])
def test_s12_the_matrix_through_the_api(office: Office, kind: str) -> None:
    """Every cell of scenarios §2, asked of the server: with the binding on the user, on a group of theirs, on a
    service, whose invite cell is DENY (S34)."""
    do = office.do
    keys = {env: office.brokered("alice-laptop", env) for env in (PROD, DEV)}
    do("alice-laptop", "user.add", email_tag=None, user="dummy")
    wrong = []
    for number, (name, row) in enumerate(ROWS.items(), 1):
        where, _, role = name.partition(" ")
        who = f"{kind}{number}"
        if kind == "service":
            member = office.enrol("alice-laptop", who, None)
            subject = {"service": who}
        else:
            do("alice-laptop", "user.add", email_tag=None, user=who)
            member = office.enrol("alice-laptop", f"{who}-laptop", who)
            subject = {"user": who}
        if kind == "group":
            do("alice-laptop", "group.create", group=f"team{number}")
            do("alice-laptop", "group.member.add", group=f"team{number}", member={"user": who})
            subject = {"group": f"team{number}"}
        # in a protected environment only its own bindings count: the row's environment is both
        scopes = {"workspace": [{"workspace": "acme"}], "project": [{"project": "api"}],
                  "environment": [{"env": DEV}, {"env": PROD}], "none": []}[where]  # fmt: skip
        for scope in scopes:
            do("alice-laptop", "binding.set", role=role, scope=scope, subject=subject)
        expected = dict(row)
        if kind == "service":
            expected["create invite"] = "-"
        found = matrix_of(office, keys, member, number)
        wrong += [f"{kind}, {name}: {c}: {found[c]}, not {expected[c]}" for c in COLUMNS if found[c] != expected[c]]
        for scope in scopes:
            do("alice-laptop", "binding.remove", scope=scope, subject=subject)
    assert not wrong, "\n".join(wrong)


def test_s33_a_role_in_one_workspace_is_none_in_another(office: Office, server: Live, database: Database) -> None:
    """Also where the very same key is enrolled in both: what it may do there is decided there."""
    sealed = office.brokered("alice-laptop", PROD)
    robot = office.enrol("alice-laptop", "robot", None)
    office.do("alice-laptop", "binding.set", role="read", scope={"env": PROD}, subject={"service": "robot"})
    office.release("robot", [stanza(sealed)[0]], PROD)
    other = Office(server.origin, server.log_key, "other")
    other.genesis("zoe", "zoe-laptop")
    other.take(other.line("zoe-laptop", "project.create", {"project": "api"}))
    data = {"env": PROD, "kind": "direct", "protected": False}
    other.take(other.line("zoe-laptop", "env.create", data))
    other.take(other.server_set("zoe-laptop"))
    other.upload(code(database), "zoe-laptop")
    theirs = other.brokered("zoe-laptop", PROD)
    other.members["robot"] = robot
    with pytest.raises(ZoppError) as refused:
        other.release("robot", [stanza(theirs)[0]], PROD)
    assert refused.value.code == "bad_signature"
    made = other.request(robot, None)
    other.do("zoe-laptop", "principal.enrol", **made, cap=None, vouch=None)
    with pytest.raises(Denied):
        other.release("robot", [stanza(theirs)[0]], PROD)
    other.close()


def test_s53_no_release_without_its_record(office: Office, server: Live, database: Database) -> None:
    """The audit store refuses writes, then takes them again: nothing is released meanwhile, and nothing is lost."""
    sealed = office.brokered("alice-laptop", PROD)
    office.members["carol-laptop"].server.pause = lambda seconds: None
    office.release("carol-laptop", [stanza(sealed)[0]], PROD)
    before = database.value("zopp_app", "SELECT count(*) FROM audit.entry")
    database.execute(embedded.SUPERUSER, "REVOKE EXECUTE ON FUNCTION audit.append FROM zopp_app")
    with pytest.raises(Unknown) as refused:
        office.release("carol-laptop", [stanza(sealed)[0]], PROD)
    assert refused.value.code == "audit_unavailable"
    assert {type(cause).__name__ for cause in server.causes} == {"InsufficientPrivilegeError"}
    server.causes.clear()
    assert database.value("zopp_app", "SELECT count(*) FROM audit.entry") == before
    database.execute(embedded.SUPERUSER, "GRANT EXECUTE ON FUNCTION audit.append TO zopp_app")
    office.release("carol-laptop", [stanza(sealed)[0]], PROD)
    made = entry.parse(
        database.value("zopp_app", "SELECT body FROM audit.entry WHERE action = 'release' ORDER BY seq DESC LIMIT 1")
    )
    assert (made.actor, str(made.scope), made.outcome) == ("carol-laptop", PROD, "allow")
    assert abs(made.ts - time.time() * 1000) < 60_000


def test_s53_the_commit_fails_midway(office: Office, server: Live, database: Database) -> None:
    """A deferred constraint fails at COMMIT, after every statement of the batch went through."""
    sealed = office.brokered("alice-laptop", PROD)
    office.members["carol-laptop"].server.pause = lambda seconds: None
    database.execute(
        embedded.SUPERUSER,
        "CREATE FUNCTION public.no() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION 'no'; END $$;"
        " CREATE CONSTRAINT TRIGGER no AFTER INSERT ON audit.entry DEFERRABLE INITIALLY DEFERRED FOR EACH ROW"
        " EXECUTE FUNCTION public.no()",
    )
    with pytest.raises(Unknown):
        office.release("carol-laptop", [stanza(sealed)[0]], PROD)
    assert {type(cause).__name__ for cause in server.causes} == {"RaiseError"}
    server.causes.clear()
    assert database.value("zopp_app", "SELECT count(*) FROM audit.entry WHERE action = 'release'") == 0
    database.execute(embedded.SUPERUSER, "DROP TRIGGER no ON audit.entry; DROP FUNCTION public.no()")
    office.release("carol-laptop", [stanza(sealed)[0]], PROD)


def test_s53_a_commit_with_a_warning_releases_nothing(office: Office, server: Live, database: Database) -> None:
    """A wait for a synchronous standby that was cancelled is a warning and a commit: not durable there."""
    sealed = office.brokered("alice-laptop", PROD)
    office.members["carol-laptop"].server.pause = lambda seconds: None
    database.execute(
        embedded.SUPERUSER,
        "CREATE FUNCTION public.warn() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE WARNING 'canceling wait for synchronous replication'; RETURN NULL; END $$;"
        " CREATE CONSTRAINT TRIGGER warn AFTER INSERT ON audit.entry DEFERRABLE INITIALLY DEFERRED FOR EACH ROW"
        " EXECUTE FUNCTION public.warn()",
    )
    with pytest.raises(Unknown) as refused:
        office.release("carol-laptop", [stanza(sealed)[0]], PROD)
    assert refused.value.code == "unknown_outcome"
    database.execute(embedded.SUPERUSER, "DROP TRIGGER warn ON audit.entry; DROP FUNCTION public.warn()")
    office.release("carol-laptop", [stanza(sealed)[0]], PROD)


def test_s60_everything_that_reaches_the_server_is_recorded(office: Office, database: Database) -> None:
    """One record each, allowed or denied: who, what, where, result, reason; the address as a keyed hash, and never a
    value."""
    sealed = office.brokered("alice-laptop", PROD)

    def records() -> list[entry.Entry]:
        rows = database.run(
            "zopp_app",
            lambda c: c.fetch("SELECT body FROM audit.entry WHERE log_id = $1 ORDER BY seq", office.now.ws),
        )
        return [entry.parse(row["body"]) for row in rows]

    def adds(act: Any, action: str, outcome: str, actor: str) -> entry.Entry:
        before = len(records())
        try:
            act()
            assert outcome != "deny"
        except ZoppError:
            assert outcome == "deny"
        new = records()[before:]
        assert [(e.action, e.outcome, e.actor) for e in new] == [(action, outcome, actor)]
        return new[0]

    alice, bob = "alice-laptop", "bob-laptop"
    scope = {"env": PROD}
    release_it = release.Item(*_parts(sealed))
    adds(lambda: office.do(alice, "group.create", group="ops"), "statement", "allow", alice)
    adds(lambda: office.do(bob, "group.create", group="mine"), "statement", "deny", bob)
    made = adds(lambda: office.release(bob, [release_it], PROD), "release", "allow", bob)
    assert made.ip is not None and len(made.ip) == 32
    assert made.request is not None
    data = {"role": "read", "scope": scope, "subject": {"user": "bob"}}
    adds(lambda: office.do(alice, "binding.set", **data), "statement", "allow", alice)
    adds(lambda: office.members[bob].server.get("/v1/audit/acme"), "audit.read", "deny", bob)
    adds(lambda: office.members[alice].server.get("/v1/audit/acme"), "audit.read", "allow", alice)
    office.do(alice, "binding.remove", scope=scope, subject={"user": "bob"})
    denied = adds(lambda: office.release(bob, [release_it], PROD), "release", "deny", bob)
    assert denied.reason in ("role", "protected_boundary")
    everything = json.dumps([canonical.thaw(e.data) for e in records()])
    assert "127.0.0.1:" not in everything.replace(office.origin, "")


def _parts(recipient: str) -> tuple[bytes, bytes]:
    item, _ = stanza(recipient)
    return item.share, item.body
