"""A1-A4, A17-A19, A22 and A30 on brokered files, and the wrong answers of brokered-grants.md §11.1."""

import os
from collections.abc import Callable
from dataclasses import replace

import pyrage
import pytest

from tests.brokered.brokers import data_key, shares_of, sops_of
from tests.brokered.conftest import Brokered
from tests.support import User, refused
from zopp import sopsfile
from zopp._fast import sha512
from zopp.errors import FormatError, IntegrityError, ZoppError
from zopp.keys import agefile, bech32, signing
from zopp.policy import apply as policy_apply, log, manifest as manifests, statement
from zopp.policy.manifest import FileEntry
from zopp.protocol.release import Response
from zopp.repo.brokered import Stanza
from zopp.repo.clock import now
from zopp.repo.environment import open_environment
from zopp.repo.unlock import Keyring, decrypt
from zopp.repo.workspace import Workspace, open_workspace
from zopp.sopsfile import Entry
from zopp.tlog import merkle

PATH = "secrets/prod.yaml"
USES = {
    "get": ("get", "BASE", "-e", "prod"),
    "get-all": ("get", "--reveal", "-e", "prod"),
    "run": ("run", "-e", "prod", "--", "true"),
    "export": ("export", "-e", "prod"),
    "set": ("set", "NEW", "-e", "prod"),
    "unset": ("unset", "BASE", "-e", "prod"),
    "import": ("import", "-", "-e", "prod"),
    "rekey": ("rekey", "--all", "api/prod"),
    "sign": ("sign", "-e", "prod", "--unchanged"),
}
FOLLOW = {
    "revoke": ("revoke", "bob", "api/prod"),
    "grant": ("grant", "carol", "read", "api/prod"),
}


def list_file(attacker: User, data: bytes, **changes: object) -> None:
    """Write `data` as prod's file and sign a manifest that lists it."""
    attacker.write(PATH, data)
    old = attacker.manifest("prod").files[PATH]
    fields = {"kc": old.kc, "dk_seq": old.dk_seq, "dk_by": old.dk_by, "kc1": old.kc1} | changes
    entry = FileEntry(sha512(data).hex(), fields["kc"], fields["dk_seq"], fields["dk_by"], fields["kc1"])  # type: ignore[arg-type]
    attacker.sign_manifest("prod", files={PATH: entry})


def regroup(user: User, change: Callable[[int, Entry], Entry]) -> bytes:
    """Prod's file with entries changed; `change` gets the group's number."""
    file = sops_of(user)
    groups = tuple(tuple(change(number, e) for e in group) for number, group in enumerate(file.metadata.groups, 1))
    return sopsfile.replace_groups(file, groups, threshold=2)


def handed_on(world: Brokered) -> None:
    world.team.bob.share("innocent")
    world.team.alice.pull()
    world.server.requests.clear()


def commit(user: User, key: bytes) -> str:
    return manifests.commitment(key, user.state().ws, "api/prod", PATH)


def commit1(user: User, share: bytes) -> str:
    return manifests.share_commitment(share, user.state().ws, "api/prod", PATH)


# --- A1


@pytest.fixture
def transplanted(world: Brokered) -> Brokered:
    """Both dev and prod are brokered. Carol reads nothing; bob writes prod and put dev's body there, with alice's own
    entry for dev in group 1 and a share of his making in group 2."""
    alice, bob = world.team.alice, world.team.bob
    alice.ok("env", "kind", "dev", "brokered")
    world.team.sync()
    dev = sops_of(bob, "dev")
    server = bob.state().envs["api/prod"].server_key
    assert server is not None
    first = (*dev.metadata.groups[0], Entry(bob.recipient, agefile.wrap(bob.recipient, b"x" * 32 + b"\1")))
    second = (Entry(server, agefile.wrap(server, b"y" * 32 + b"\2")),)
    list_file(bob, sopsfile.replace_groups(dev, (first, second), threshold=2))
    handed_on(world)
    return world


@pytest.mark.parametrize("use", USES)
def test_a1_a_transplanted_file_is_refused_before_anybody_is_asked(transplanted: Brokered, use: str) -> None:
    alice = transplanted.team.alice
    before = alice.tree()
    done = alice.zopp(*USES[use], stdin="K=v\n")
    assert done.code in (1, 3, 125), done.text
    assert "transplanted" in done.text, done.text
    assert "base-dev" not in done.text and done.exec is None
    assert alice.tree() == before
    assert not transplanted.server.requests


@pytest.mark.parametrize("change", FOLLOW)
def test_a1_a_transplanted_file_is_not_wrapped_for_anyone(transplanted: Brokered, change: str) -> None:
    alice = transplanted.team.alice
    body = alice.read(PATH)
    done = alice.zopp(*FOLLOW[change])
    assert done.code == 1 and "transplanted" in done.text, done.text
    assert alice.read(PATH) == body
    assert not transplanted.server.requests


@pytest.mark.parametrize("use", USES)
def test_a1_a_wrong_kc_is_refused_after_the_release(world: Brokered, use: str) -> None:
    """kc1 holds, so the server is asked; what comes of it is not the committed key."""
    bob, alice = world.team.bob, world.team.alice
    list_file(bob, bob.read(PATH) + b"\n", kc=commit(bob, b"k" * 32))
    handed_on(world)
    before = alice.tree()
    done = alice.zopp(*USES[use], stdin="K=v\n")
    assert done.code in (1, 3, 125) and "transplanted" in done.text, done.text
    assert alice.tree() == before and done.exec is None
    assert world.server.requests


@pytest.mark.parametrize("use", USES)
def test_a1_twin_the_honest_file_is_used(world: Brokered, use: str) -> None:
    bob, alice = world.team.bob, world.team.alice
    bob.set("MINE", "1", "prod")
    handed_on(world)
    alice.ok(*USES[use], stdin="K=v\n")


def test_a1_a_stanza_of_another_environment_is_not_released_under_this_one(world: Brokered) -> None:
    """Bob puts dev's server entry under the name of prod's server key. The request names prod, so dev's key is not
    tried."""
    alice, bob = world.team.alice, world.team.bob
    alice.ok("env", "kind", "dev", "brokered")
    world.team.sync()
    foreign = sops_of(bob, "dev").metadata.groups[1][0]
    list_file(bob, regroup(bob, lambda n, e: Entry(e.recipient, foreign.enc) if n == 2 else e))
    handed_on(world)
    done = alice.zopp("get", "BASE", "-e", "prod")
    refused(done, words=["no key that the policy server has", "api/prod"])
    assert [request.env for _, request in world.server.requests] == ["api/prod"]


# --- §11.1: wrong answers


WRONG: dict[str, Callable[[bytes], bytes]] = {
    "flipped": lambda key: bytes([key[0] ^ 1]) + key[1:],
    "zero": lambda key: bytes(16),
    "foreign": lambda key: os.urandom(16),
    "short": lambda key: key[:8],
    "empty": lambda key: b"",
}


@pytest.mark.parametrize("how", WRONG)
@pytest.mark.parametrize("use", ["get", "set", "rekey"])
def test_wrong_answers_change_nothing(world: Brokered, how: str, use: str) -> None:
    alice = world.team.alice
    before = alice.tree()
    world.server.wrong = WRONG[how]
    done = alice.zopp(*USES[use], stdin="v")
    refused(done, 1)
    assert "base-prod" not in done.text
    assert alice.tree() == before


@pytest.mark.parametrize("how", WRONG)
def test_wrong_file_keys_of_any_releaser_are_refused(world: Brokered, how: str) -> None:
    """The same where no protocol stands before it: `unlock` takes nothing on trust from a `Releaser`."""
    alice = world.team.alice
    ws = open_workspace(str(alice.repo), alice.env)
    env = open_environment(ws, "api/prod")

    def releaser(ws: Workspace, scope: str, purpose: str, items: object) -> list[bytes]:
        stanza = items[0]  # type: ignore[index]
        assert isinstance(stanza, Stanza) and (scope, purpose) == ("api/prod", "read")
        opened = world.server.server_keys[scope][0][1].open(stanza.share, stanza.body)
        assert opened is not None
        return [WRONG[how](opened)]

    with pytest.raises((IntegrityError, FormatError)):
        decrypt(ws, env, env.files[PATH], Keyring(alice.env, releaser=releaser))
    with pytest.raises(IntegrityError):
        decrypt(ws, env, env.files[PATH], Keyring(alice.env, releaser=lambda *_: []))


@pytest.mark.parametrize("x", [b"\0", b"\1", b"\3", b""])
@pytest.mark.parametrize("group", [1, 2])
def test_a_share_of_another_point_is_refused(world: Brokered, x: bytes, group: int) -> None:
    """x = 0 would let whoever made the share choose the key; length 33 and the group's own x are required."""
    if (group, x) == (1, b"\1"):
        x = b"\2"
    bob, alice = world.team.bob, world.team.alice
    share = shares_of(bob, world.server)[group - 1][:32] + x
    list_file(
        bob,
        regroup(bob, lambda n, e: Entry(e.recipient, agefile.wrap(e.recipient, share)) if n == group else e),
        **({"kc1": commit1(bob, share)} if group == 1 and len(share) == 33 else {}),
    )
    handed_on(world)
    before = alice.tree()
    for use in ("get", "set", "rekey"):
        refused(alice.zopp(*USES[use], stdin="v"), 1, words=[f"not share {group}"])
    assert alice.tree() == before
    assert bool(world.server.requests) == (group == 2)


# --- A22: receipts


def swapped_receipts(response: Response) -> Response:
    first, *rest = response.results
    return replace(response, results=(replace(first, receipt=rest[0].receipt), replace(rest[0], receipt=first.receipt)))


def test_a22_the_receipt_of_another_item(world: Brokered) -> None:
    alice = world.team.alice
    second_file(world)
    world.server.lie = swapped_receipts
    refused(alice.zopp("get", "--reveal", "-e", "prod"), 1, words=["receipt"])
    world.server.lie = lambda response: response
    alice.ok("get", "--reveal", "-e", "prod")


def test_a22_the_receipt_of_an_earlier_request(world: Brokered) -> None:
    alice = world.team.alice
    seen: list[Response] = []

    def again(response: Response) -> Response:
        seen.append(response)
        return replace(response, results=seen[0].results)

    world.server.lie = again
    alice.ok("get", "BASE", "-e", "prod")
    refused(alice.zopp("get", "BASE", "-e", "prod"), 1)


def test_a_log_that_was_rolled_back_is_refused(world: Brokered) -> None:
    alice = world.team.alice
    alice.ok("get", "BASE", "-e", "prod")
    book = world.server.the_book
    book.bodies[0], book.leaves[0] = b"{}", merkle.leaf_hash(b"{}")
    before = alice.tree()
    refused(alice.zopp("set", "K", "-e", "prod", stdin="v"), 1)
    assert alice.tree() == before


def test_a_server_under_an_older_policy_is_refused(world: Brokered, tmp_path: object) -> None:
    """Its decision would be one from before a removal."""
    alice = world.team.alice
    old = alice.path(".zopp/policy.jsonl").read_bytes()
    world.server.state = log.fold(b"".join(line + b"\n" for line in old.split(b"\n")[:-2]))
    refused(alice.zopp("get", "BASE", "-e", "prod"), 1, words=["decided under statement"])


def test_a_server_beside_our_policy_is_refused(world: Brokered) -> None:
    """Another head at the same place, a statement that it does not show, and a log that forks from ours."""
    alice, bob = world.team.alice, world.team.bob
    world.server.lie = lambda response: replace(response, policy_hash="0" * 64)
    refused(bob.zopp(*USES["get"]), 1, words=["another policy log"])
    world.server.lie = lambda response: replace(response, policy_seq=response.policy_seq + 1)
    refused(bob.zopp(*USES["get"]), 1, words=["does not show"])
    world.server.lie = lambda response: response
    # Alice signs two statements for one place; bob has seen the first, the server goes by the second and one more.
    fork = world.server.the_state
    alice.ok("grant", "carol", "read", "api/staging")
    world.team.sync()
    for user in ("carol", "bob"):
        data = {"role": "read", "scope": {"env": "api/dev"}, "subject": {"user": user}}
        body = statement.draft(
            "binding.set", data, ws=fork.ws, seq=fork.seq + 1, prev=fork.head, at=now(), by="alice-laptop"
        )
        line = statement.seal(body, [alice.key.sign(statement.to_sign(body))])
        fork = policy_apply.apply(fork, statement.parse(line))
    world.server.state = fork
    before = bob.tree()
    refused(bob.zopp(*USES["set"], stdin="v"), 1)
    assert bob.tree() == before


def test_a_server_ahead_of_git_is_followed(world: Brokered) -> None:
    alice, bob = world.team.alice, world.team.bob
    alice.ok("grant", "carol", "read", "api/dev")
    assert bob.state().seq < alice.state().seq
    log = bob.read(".zopp/policy.jsonl")
    assert bob.get("BASE", "prod") == "base-prod"
    assert bob.read(".zopp/policy.jsonl") == log


def test_who_lost_read_is_denied_by_name(world: Brokered) -> None:
    """Bob's clone is from before; the server decides by what it knows."""
    alice, bob = world.team.alice, world.team.bob
    alice.ok("revoke", "bob", "api/prod")
    refused(bob.zopp("get", "BASE", "-e", "prod"), 1, words=["api/prod", "zopp grant bob read api/prod"])


# --- A2-A4


@pytest.mark.parametrize("group", [1, 2])
@pytest.mark.parametrize("kind", ["ssh", "x25519"])
def test_a2_a_hidden_stanza(world: Brokered, group: int, kind: str) -> None:
    bob, alice = world.team.bob, world.team.alice
    outsider: pyrage.ssh.Recipient | pyrage.x25519.Recipient
    if kind == "ssh":
        outsider = pyrage.ssh.Recipient.from_str(signing.public_line(signing.generate().public))
    else:
        outsider = pyrage.x25519.Identity.generate().to_public()
    share = shares_of(bob, world.server)[group - 1]

    def hidden(number: int, entry: Entry) -> Entry:
        if number != group:
            return entry
        both = [pyrage.x25519.Recipient.from_str(entry.recipient), outsider]
        return Entry(entry.recipient, pyrage.encrypt(share, both, armored=True).decode())

    list_file(bob, regroup(bob, hidden))
    handed_on(world)
    refused(alice.zopp("verify"), 1, words=["stanza"])
    before = alice.tree()
    for use in ("get", "set", "rekey"):
        refused(alice.zopp(*USES[use], stdin="v"), 1)
    assert alice.tree() == before and not world.server.requests


@pytest.mark.parametrize("how", ["upper", "low-order", "ssh", "reader", "garbage"])
def test_a3_break_glass_recipients_that_are_none(world: Brokered, how: str) -> None:
    good = str(pyrage.x25519.Identity.generate().to_public())
    bad = {
        "upper": good.upper(),
        "low-order": bech32.encode("age", bytes(32)),
        "ssh": signing.public_line(signing.generate().public),
        "reader": world.team.bob.recipient,
        "garbage": "age1" + "q" * 58,
    }[how]
    alice = world.team.alice
    before = alice.tree()
    refused(alice.zopp("env", "breakglass", "prod", bad), 1, 2)
    assert alice.tree() == before
    alice.ok("env", "breakglass", "prod", good)
    alice.ok("verify")


FLAT = "age:\n        - recipient: age1x\n          enc: x"
PGP = "pgp:\n            - fp: A\n              enc: x"
DIFFERENTIALS: dict[str, Callable[[str], str]] = {
    "unknown-field": lambda t: t.replace("sops:\n", "sops:\n    surprise: 1\n", 1),
    "flat-and-grouped": lambda t: t.replace("sops:\n", f"sops:\n    {FLAT}\n", 1),
    "threshold-1": lambda t: t.replace("shamir_threshold: 2", "shamir_threshold: 1"),
    "threshold-3": lambda t: t.replace("shamir_threshold: 2", "shamir_threshold: 3"),
    "no-threshold": lambda t: t.replace("    shamir_threshold: 2\n", ""),
    "third-group": lambda t: t.replace("    lastmodified:", "        - age: []\n    lastmodified:"),
    "other-key-type": lambda t: t.replace("        - age:\n", f"        - {PGP}\n          age:\n", 1),
}  # fmt: skip


@pytest.mark.parametrize("what", DIFFERENTIALS)
def test_a4_metadata_differentials(world: Brokered, what: str) -> None:
    bob, alice = world.team.bob, world.team.alice
    text = bob.read(PATH).decode()
    data = DIFFERENTIALS[what](text).encode()
    assert data != text.encode()
    list_file(bob, data)
    handed_on(world)
    refused(alice.zopp("verify"), 1)
    before = alice.tree()
    for use in ("get", "set", "rekey"):
        refused(alice.zopp(*USES[use], stdin="v"), 1)
    assert alice.tree() == before and not world.server.requests


def test_a_manifest_of_the_other_kind_is_refused_and_rekeyed_away(world: Brokered) -> None:
    """Bob, a writer, turns prod's file into a direct one: `verify` and reading refuse, rekey gives the groups back."""
    bob, alice = world.team.bob, world.team.alice
    key = data_key(bob, world.server)
    readers = sorted(bob.state().readers("api/prod").values())
    file = sops_of(bob)
    flat = sopsfile.replace_groups(file, (tuple(Entry(r, agefile.wrap(r, key)) for r in readers),), threshold=None)
    bob.write(PATH, flat)
    old = bob.manifest("prod").files[PATH]
    entry = FileEntry(sha512(flat).hex(), old.kc, old.dk_seq, old.dk_by)
    bob.sign_manifest("prod", files={PATH: entry}, groups=[readers])
    handed_on(world)
    refused(alice.zopp("verify"), 1, words=["brokered"])
    for use in ("get", "set"):
        refused(alice.zopp(*USES[use], stdin="v"), 1, words=["zopp rekey api/prod"])
    alice.ok("rekey", "api/prod")
    alice.ok("verify")
    assert data_key(alice, world.server) != key


# --- A17-A19


def second_file(world: Brokered) -> None:
    alice = world.team.alice
    alice.replace("zopp.toml", 'files = ["secrets/prod.yaml"]', 'files = ["secrets/prod.yaml", "secrets/more.yaml"]')
    alice.ok("set", "MORE", "-e", "prod", "--file", "secrets/more.yaml", stdin="more")
    world.team.sync("second file")


def test_a17_made_not_released(world: Brokered) -> None:
    """Bob makes a data key, which needs no release, and leaves: what he made is listed and made anew."""
    bob, alice = world.team.bob, world.team.alice
    alice.replace("zopp.toml", 'files = ["secrets/prod.yaml"]', 'files = ["secrets/prod.yaml", "secrets/more.yaml"]')
    world.team.sync()
    world.server.requests.clear()
    bob.ok("set", "MORE", "-e", "prod", "--file", "secrets/more.yaml", stdin="more")
    assert not world.server.requests
    handed_on(world)
    assert alice.manifest("prod").files["secrets/more.yaml"].dk_by == "bob-laptop"
    done = alice.ok("revoke", "bob", "api/prod")
    assert "MORE" in done.text and "BASE" in done.text
    assert alice.manifest("prod").files["secrets/more.yaml"].dk_by == "alice-laptop"
    alice.ok("verify")


@pytest.mark.parametrize("loss", ["revoke", "kind", "breakglass"])
def test_a18_what_did_not_rotate_is_found_without_a_key(world: Brokered, loss: str) -> None:
    alice = world.team.alice
    holder = str(pyrage.x25519.Identity.generate().to_public())
    if loss == "breakglass":
        alice.ok("env", "breakglass", "prod", holder)
    old, path = alice.manifest("prod"), ".zopp/manifest/api/prod.json"
    kept = {name: alice.read(name) for name in (path, path + ".sig", PATH)}
    argv = {
        "revoke": ("revoke", "bob", "api/prod"),
        "kind": ("env", "kind", "prod", "direct"),
        "breakglass": ("env", "breakglass", "prod", "--remove"),
    }[loss]
    alice.ok(*argv)
    new = alice.manifest("prod").files[PATH]
    assert new.dk_seq == alice.state().read_lost_seq("api/prod") > (old.files[PATH].dk_seq or 0)
    assert new.kc != old.files[PATH].kc
    alice.ok("verify")
    for name, data in kept.items():
        alice.write(name, data)
    refused(alice.zopp("verify"), 1, words=["older than statement"])


def test_a19_a_foreign_edit_is_signed_after_a_look_only(world: Brokered) -> None:
    alice = world.team.alice
    key = data_key(alice, world.server)
    file = sops_of(alice)
    edited = sopsfile.edit(file, key, [sopsfile.Put(("EVIL",), "1", None)], lastmodified="2026-01-01T00:00:00Z")
    alice.write(PATH, edited)
    before = alice.tree()
    for use in ("get", "set", "rekey", "sign"):
        refused(alice.zopp(*USES[use], stdin="v"), 1)
    assert alice.tree() == before
    world.server.requests.clear()
    alice.ok("sign", "-e", "prod", "--only", "EVIL")
    assert [(r.purpose, len(r.items)) for _, r in world.server.requests] == [("review", 1)]
    alice.ok("verify")
    assert alice.get("EVIL", "prod") == "1"


def test_the_error_types_are_ours(world: Brokered) -> None:
    ws = open_workspace(str(world.team.alice.repo), world.team.alice.env)
    env = open_environment(ws, "api/prod")
    with pytest.raises(ZoppError) as raised:
        decrypt(ws, env, env.files[PATH], Keyring(world.team.alice.env))
    assert raised.value.exit_code == 3 and "policy server" in str(raised.value)
