"""S10-S27: roles, protection, caps, groups; S12 is a sample of the matrix on real files."""

import pytest

from tests.support import Done, Team, User, refused

ACTS: dict[str, tuple[str, ...]] = {
    "get": ("get", "BASE", "-e", "dev"),
    "run": ("run", "-e", "dev", "--", "true"),
    "export": ("export", "-e", "dev"),
    "set": ("set", "K", "-e", "dev"),
    "unset": ("unset", "BASE", "-e", "dev"),
    "import": ("import", "-", "-e", "dev"),
    "edit": ("edit", "-e", "dev"),
    "rekey": ("rekey", "--all", "api/dev"),
    "grant": ("grant", "carol", "read", "api/dev"),
    "protect": ("env", "protect", "dev"),
    "env-add": ("env", "add", "later"),
    "group": ("group", "create", "g"),
    "project": ("project", "create", "p"),
}
READ = {"get", "run", "export"}
WRITE = READ | {"set", "unset", "import", "edit", "rekey"}
ADMIN = WRITE | {"grant", "protect"}
ROLES = {
    None: set(),
    ("read", "api/dev"): READ,
    ("write", "api/dev"): WRITE,
    ("admin", "api/dev"): ADMIN,
    ("admin", "api"): ADMIN | {"env-add"},
    ("admin", "acme"): set(ACTS),
}


def act(user: User, name: str) -> Done:
    """Try it, and put the clone back."""
    editor = {"EDITOR": "sed -i s/base-dev/edited/"}
    done = user.zopp(*ACTS[name], stdin="K=v\n", env=editor if name == "edit" else {})
    user.git("reset", "-q", "--hard")
    user.git("clean", "-qfd")
    return done


def check(user: User, allowed: set[str]) -> None:
    for name in ACTS:
        before = user.tree()
        done = act(user, name)
        if name in allowed:
            assert done.code == 0, (name, done.text)
        else:
            assert done.code in (1, 125), (name, done.text)
            error = done.err.split("\n")[0]
            assert user.principal in done.err and error.count("\n") == 0, (name, done.err)
            assert "write" in done.err or "read" in done.err or "admin" in done.err, (name, done.err)
        assert user.tree() == before


@pytest.mark.parametrize("how", ["user", "group", "service"])
@pytest.mark.parametrize("role", list(ROLES), ids=lambda role: "-".join(role).replace("/", ".") if role else "none")
def test_s11_s10_role_ladder(team: Team, role: tuple[str, str] | None, how: str) -> None:
    """Default deny, and each step of the ladder, on a user, a group and a service."""
    user = team.ci if how == "service" else team.bob
    subject = user.name
    if how == "group":
        team.alice.ok("group", "create", "ops")
        team.alice.ok("group", "add", "ops", "bob")
        subject = "ops"
        team.sync()
    if role is not None:
        team.grant(subject, *role)
    check(user, ROLES[role])


def test_s10_no_file_names_a_key_of_his(team: Team) -> None:
    assert not [p for p in (team.alice.repo / "secrets").iterdir() if team.bob.recipient.encode() in p.read_bytes()]
    assert all(team.bob.recipient not in team.alice.manifest(e).groups[0] for e in ("dev", "staging", "prod"))


MATRIX = """
none              - - - - - - - - -
acme:read         Y - - - - - - - -
acme:write        Y Y - - - - - - -
acme:admin        Y Y Y Y Y Y Y Y Y
api:read          Y - - - - - - - -
api:write         Y Y - - - - - - -
api:admin         Y Y Y Y - - - Y Y
api/dev:read      Y - - - - - - Y -
api/dev:write     Y Y - - - - - Y Y
api/dev:admin     Y Y Y - - - - Y Y
"""
COLUMNS = ("read", "write", "role-env", "create-env", "create-project", "create-group", "role-ws", "P-read", "P-write")
CELLS: dict[str, tuple[str, ...]] = {
    "read": ACTS["get"],
    "write": ACTS["set"],
    "role-env": ACTS["grant"],
    "create-env": ACTS["env-add"],
    "create-project": ACTS["project"],
    "create-group": ACTS["group"],
    "role-ws": ("grant", "carol", "read", "acme"),
    "P-read": ACTS["get"],
    "P-write": ACTS["set"],
}


@pytest.mark.parametrize("row", [line for line in MATRIX.splitlines() if line], ids=lambda row: row.split()[0])
def test_s12_s13_matrix(team: Team, row: str) -> None:
    """The matrix for a user's binding; `access` gives the same answer from the repository alone (S13)."""
    name, *cells = row.split()
    if name != "none":
        scope, role = name.split(":")
        team.grant("bob", role, scope)
    protected = False
    for column, wanted in zip(COLUMNS, cells, strict=True):
        if column.startswith("P-") and not protected:
            team.alice.ok("env", "protect", "dev")
            team.sync()
            protected = True
        before = team.bob.tree()
        done = team.bob.zopp(*CELLS[column], stdin="v")
        assert (done.code == 0) == (wanted == "Y"), (column, done.text)
        if wanted == "-":
            assert done.code == 1 and team.bob.tree() == before
        team.bob.git("reset", "-q", "--hard")
        team.bob.git("clean", "-qfd")
        if column in ("read", "write", "P-read", "P-write"):
            told = team.carol.zopp("access", "bob", "api/dev", "--json").json["role"]
            order = ("none", "read", "write", "admin")
            assert (order.index(told) >= order.index(column.removeprefix("P-"))) == (wanted == "Y"), column


def test_s14_inheritance(team: Team) -> None:
    team.grant("bob", "admin", "api")
    team.grant("carol", "admin", "api/dev")
    team.alice.ok("env", "add", "later", "--protect")
    team.alice.set("L", "1", "later")
    team.sync()
    assert team.bob.get("L", "later") == "1"
    refused(team.carol.zopp("get", "L", "-e", "later"), 1)
    for argv in (("env", "archive", "dev"), ("env", "add", "x"), ("grant", "ci", "read", "api")):
        refused(team.carol.zopp(*argv), 1, words=["carol-desktop", "admin"])
    team.carol.ok("grant", "ci", "read", "api/dev")


def test_s15_isolation(team: Team) -> None:
    team.alice.ok("project", "create", "web", "--folder", "web")
    team.alice.ok("env", "add", "dev", cwd="web")
    team.alice.ok("set", "W", "-e", "dev", stdin="1", cwd="web")
    team.grant("bob", "read", "api")
    team.grant("carol", "write", "api/dev")
    assert team.alice.ok("get", "W", "-e", "dev", cwd="web").out == "1"
    team.bob.ok("trust", "--yes", cwd="web")  # a project that is new to the clone is asked about once
    refused(team.bob.zopp("get", "W", "-e", "dev", cwd="web"), 1, words=["web/dev"])
    refused(team.bob.zopp("get", "W", "-e", "dev", "-p", "web"), 1, words=["web/dev"])
    for env in ("staging", "prod"):
        refused(team.carol.zopp("set", "K", "-e", env, stdin="v"), 1)
        refused(team.carol.zopp("get", "BASE", "-e", env), 1)
    team.carol.set("K", "v")


def test_s16_highest_level_wins(team: Team) -> None:
    for role, scope in (("read", "acme"), ("write", "api"), ("admin", "api/dev")):
        team.alice.ok("grant", "bob", role, scope)
    team.alice.ok("project", "create", "web", "--folder", "web")
    team.alice.ok("env", "add", "dev", cwd="web")
    team.alice.ok("set", "W", "-e", "dev", stdin="1", cwd="web")
    team.sync()
    team.bob.ok("trust", "--yes", cwd="web")
    team.bob.ok("grant", "carol", "read", "api/dev")
    team.bob.git("reset", "-q", "--hard")
    team.bob.set("K", "v", "staging")
    refused(team.bob.zopp("grant", "carol", "read", "api/staging"), 1)
    team.bob.git("reset", "-q", "--hard")
    assert team.bob.ok("get", "W", "-e", "dev", cwd="web").out == "1"
    refused(team.bob.zopp("set", "W", "-e", "dev", cwd="web", stdin="v"), 1)


def test_s17_groups(team: Team) -> None:
    alice = team.alice
    for group, role in (("one", "read"), ("two", "write")):
        alice.ok("group", "create", group)
        for member in ("bob", "ci"):
            alice.ok("group", "add", group, member)
        alice.ok("grant", group, role, "api/dev")
    team.sync()
    team.bob.set("K", "v")
    team.ci.set("K2", "v")
    for user in (team.bob, team.ci):
        user.git("reset", "-q", "--hard")
    alice.ok("group", "remove", "two", "bob")
    team.sync()
    refused(team.bob.zopp("set", "K", "-e", "dev", stdin="v"), 1)
    assert team.bob.get("BASE") == "base-dev"
    alice.ok("group", "delete", "one")
    team.sync()
    refused(team.bob.zopp("get", "BASE", "-e", "dev"), 1)
    assert team.ci.get("BASE") == "base-dev"


def test_s18_protected(team: Team) -> None:
    for who, role, scope in (("bob", "write", "api"), ("carol", "write", "api"), ("bob", "read", "api/prod")):
        team.alice.ok("grant", who, role, scope)
    team.alice.ok("env", "protect", "prod")
    team.sync()
    assert team.bob.get("BASE", "prod") == "base-prod"
    refused(team.bob.zopp("set", "K", "-e", "prod", stdin="v"), 1, words=["bob-laptop", "api/prod", "write"])
    team.bob.set("K", "v")
    refused(team.carol.zopp("get", "BASE", "-e", "prod"), 1, words=["carol-desktop", "api/prod"])
    said = team.alice.ok("access", "bob", "api/prod", "--explain").out
    assert "read on api/prod: counts" in said and "write on api: stops at the protected boundary" in said


def test_s19_unprotected_stays_a_maximum(team: Team) -> None:
    team.grant("bob", "write", "api")
    done = team.alice.ok("grant", "bob", "read", "api/prod")
    assert "write" in done.err and "highest" in done.err
    team.sync()
    team.bob.set("K", "v", "prod")


def test_s20_protecting_and_unprotecting(team: Team) -> None:
    team.grant("bob", "write", "api")
    team.grant("carol", "read", "api/prod")
    for argv in (("env", "protect", "prod"),):
        refused(team.bob.zopp(*argv), 1)
    body = team.alice.read("secrets/prod.yaml")
    done = team.alice.ok("env", "protect", "prod")
    assert "bob" in done.err and "new data key" in done.err and "api/prod BASE" in done.err
    assert team.alice.read("secrets/prod.yaml") != body
    team.sync()
    refused(team.bob.zopp("get", "BASE", "-e", "prod"), 1)
    assert team.carol.get("BASE", "prod") == "base-prod"
    refused(team.bob.zopp("env", "unprotect", "prod"), 1)
    said = team.alice.ok("env", "unprotect", "prod", "--dry-run").err
    assert "bob" in said and "write" in said
    refused(team.bob.zopp("get", "BASE", "-e", "prod"), 1)
    team.alice.ok("env", "unprotect", "prod")
    team.sync()
    assert team.bob.get("BASE", "prod") == "base-prod"


# --- S21-S23


def test_s21_s22_caps(team: Team) -> None:
    alice = team.alice
    team.grant("bob", "write", "api")
    alice.ok("principal", "cap", "bob-laptop", "read")
    team.sync()
    assert team.bob.get("BASE") == "base-dev"
    refused(team.bob.zopp("set", "K", "-e", "dev", stdin="v"), 1, words=["bob-laptop"])
    alice.ok("principal", "cap", "bob-laptop", "clear")
    team.sync()
    team.bob.set("K", "v")
    team.bob.git("reset", "-q", "--hard")
    # A cap gives nothing: cap admin and no role, cap admin and read.
    alice.ok("principal", "cap", "carol-desktop", "admin")
    team.sync()
    refused(team.carol.zopp("get", "BASE", "-e", "dev"), 1)
    team.grant("carol", "read", "api")
    assert team.carol.get("BASE") == "base-dev"
    refused(team.carol.zopp("set", "K", "-e", "dev", stdin="v"), 1)


@pytest.mark.parametrize("cap", ["read", "write"])
def test_s23_no_way_round_a_cap(team: Team, cap: str) -> None:
    """Bob is a workspace admin whose laptop is capped."""
    team.grant("bob", "admin", "acme")
    team.alice.ok("principal", "cap", "bob-laptop", cap)
    team.sync()
    bob = team.bob
    other = User("other", "bob-phone", team.base, {})
    other.home.mkdir()
    (other.home / ".gitconfig").write_text((bob.home / ".gitconfig").read_text())
    team._clone(other)
    asked = other.ok("principal", "request", "--user", "bob", "--name", "bob-phone").out
    keys = str(team.base / "keys2")
    service = bob.ok("principal", "request", "--service", "robot", "--out-keys", keys).out
    before = bob.tree()
    for argv, stdin in (
        (("principal", "cap", "bob-laptop", "clear"), ""),
        (("principal", "cap", "bob-laptop", "admin"), ""),
        (("principal", "add", "-"), asked),
        (("principal", "add", "-"), service),
        (("principal", "adopt", team.fresh(team.carol, "x").recipient, "--name", "y"), ""),
        (("principal", "enable", "bob-laptop"), ""),
        (("grant", "ci", "admin", "acme"), ""),
        (("group", "create", "g"), ""),
    ):
        refused(bob.zopp(*argv, stdin=stdin), 1, 2)
        assert bob.tree() == before, argv


# --- S24-S27


@pytest.mark.parametrize("role", ["read", "write"])
@pytest.mark.parametrize("subject", ["carol", "ops", "ci"])
@pytest.mark.parametrize("scope", ["acme", "api", "api/dev"])
def test_s24_s26_only_admins_grant(team: Team, role: str, subject: str, scope: str) -> None:
    team.alice.ok("group", "create", "ops")
    team.alice.ok("grant", subject, "read", scope)
    team.grant("bob", role, "acme")
    before = team.bob.tree()
    for argv in (
        ("grant", subject, "read", scope),
        ("grant", subject, "admin", scope),
        ("revoke", subject, scope),
        ("grant", "bob", "admin", scope),
        ("revoke", "alice", "acme"),
        ("group", "add", "ops", "bob"),
        ("group", "delete", "ops"),
        ("offboard", "carol"),
        ("principal", "disable", "carol-desktop"),
    ):
        refused(team.bob.zopp(*argv), 1, words=["bob-laptop"])
    assert team.bob.tree() == before


def test_s25_letting_in_is_granting(team: Team) -> None:
    """An admin of `api` adds nobody to a group that also reaches elsewhere."""
    alice = team.alice
    alice.ok("project", "create", "web")
    for group, scope in (("wide", "acme"), ("web-too", "web"), ("mine", "api")):
        alice.ok("group", "create", group)
        alice.ok("grant", group, "read", "api")
        if scope != "api":
            alice.ok("grant", group, "read", scope)
    team.grant("bob", "admin", "api")
    bob = team.bob
    for group in ("wide", "web-too"):
        refused(bob.zopp("group", "add", group, "carol"), 1)
    refused(bob.zopp("principal", "cap", "carol-desktop", "read"), 1)
    refused(bob.zopp("principal", "disable", "carol-desktop"), 1)
    bob.ok("group", "add", "mine", "carol")


def test_s26_superiors(team: Team) -> None:
    team.grant("bob", "admin", "api")
    before = team.bob.tree()
    refused(team.bob.zopp("revoke", "alice", "acme"), 1)
    refused(team.bob.zopp("grant", "carol", "read", "acme"), 1)
    assert team.bob.tree() == before
    team.bob.zopp("grant", "alice", "read", "api")
    team.bob.share()
    team.alice.pull()
    team.alice.ok("grant", "carol", "read", "api")  # still admin there from the workspace
    team.alice.set("K", "v")
