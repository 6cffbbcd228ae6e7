"""S10-S13, S23: every verb at every step of the ladder, the matrix row by row, and ways round a cap."""

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
