"""A1-A4: transplanted files, hidden stanzas, bad recipients, metadata differentials."""

import json
from collections.abc import Callable

import pyrage
import pytest

from tests.support import Team, User, refused
from zopp import sopsfile
from zopp._fast import sha512
from zopp.keys import agefile, bech32, signing, sshsig
from zopp.policy import manifest as manifests
from zopp.policy.manifest import FileEntry
from zopp.sopsfile import Entry, SopsFile


def sops_of(user: User, env: str) -> SopsFile:
    return sopsfile.read(user.read(f"secrets/{env}.yaml"), "yaml")


def data_key(user: User, env: str) -> bytes:
    entries = {e.recipient: e for group in sops_of(user, env).metadata.groups for e in group}
    return agefile.unwrap(entries[user.recipient].enc, user.identities)


def list_file(attacker: User, env: str, data: bytes, key: bytes | None = None) -> None:
    """Write `data` as the environment's file and sign a manifest for it, commitment by `key` (None: as it was)."""
    path = f"secrets/{env}.yaml"
    attacker.write(path, data)
    old = attacker.manifest(env).files[path]
    kc = old.kc if key is None else manifests.commitment(key, attacker.state().ws, f"api/{env}", path)
    attacker.sign_manifest(env, files={path: FileEntry(sha512(data).hex(), kc, old.dk_seq, old.dk_by)})


# --- A1

USES = {
    "get": ("get", "BASE", "-e", "dev"),
    "get-all": ("get", "--reveal", "-e", "dev"),
    "run": ("run", "-e", "dev", "--", "true"),
    "export": ("export", "-e", "dev"),
    "set": ("set", "NEW", "-e", "dev"),
    "unset": ("unset", "BASE", "-e", "dev"),
    "import": ("import", "-", "-e", "dev"),
    "rekey": ("rekey", "--all", "api/dev"),
}


@pytest.fixture
def transplanted(team: Team) -> Team:
    """Bob writes dev and has nothing in prod. He put prod's body with alice's own entry into dev and signed it."""
    team.grant("bob", "write", "api/dev")
    bob, path = team.bob, "secrets/dev.yaml"
    prod = sops_of(bob, "prod")
    mine = [e for group in prod.metadata.groups for e in group]
    # Bob cannot open prod: his own entry is any age file with his name on it.
    forged = sopsfile.replace_groups(
        prod, ((*mine, Entry(bob.recipient, agefile.wrap(bob.recipient, b"x" * 32))),), threshold=None
    )
    bob.write(path, forged)
    old = bob.manifest("dev").files[path]
    bob.sign_manifest("dev", files={path: FileEntry(sha512(forged).hex(), old.kc, old.dk_seq, old.dk_by)})
    bob.share("innocent")
    team.alice.pull()
    return team


@pytest.mark.parametrize("use", USES)
def test_a1_transplant_is_refused_before_use(transplanted: Team, use: str) -> None:
    alice = transplanted.alice
    before = alice.tree()
    done = alice.zopp(*USES[use], stdin="K=v\n")
    assert done.code in (1, 3, 125), done.text
    assert "commitment" in done.text or "transplanted" in done.text, done.text
    assert "base-prod" not in done.text and done.exec is None
    assert alice.tree() == before


@pytest.mark.parametrize("change", [("grant", "carol", "read", "api/dev"), ("revoke", "bob", "api/dev")])
def test_a1_transplant_is_not_wrapped_for_anyone(transplanted: Team, change: tuple[str, ...]) -> None:
    """The policy may change; the transplanted file is left alone and named."""
    alice = transplanted.alice
    body = alice.read("secrets/dev.yaml")
    done = alice.zopp(*change)
    assert done.code == 1 and "transplanted" in done.text, done.text
    assert alice.read("secrets/dev.yaml") == body


@pytest.mark.parametrize("use", USES)
def test_a1_twin_the_honest_file_is_used(team: Team, use: str) -> None:
    team.grant("bob", "write", "api/dev")
    team.bob.set("MINE", "1")
    team.bob.share()
    team.alice.pull()
    team.alice.ok(*USES[use], stdin="K=v\n")


def test_a1_sign_rotates_what_was_brought_in(transplanted: Team) -> None:
    """`sign` may not keep prod's data key in dev: who signs knowingly gets a new one."""
    alice = transplanted.alice
    alice.zopp("sign", "-e", "dev", "--only", "BASE")
    if alice.zopp("get", "BASE", "-e", "dev").code == 0:
        assert data_key(alice, "dev") != data_key(alice, "prod")


# --- A2


def hidden(recipient: str, key: bytes, outsider: str) -> str:
    """An age file for `recipient` with a second stanza for `outsider`."""
    ssh = outsider.startswith("ssh-")
    both = [
        pyrage.x25519.Recipient.from_str(recipient),
        pyrage.ssh.Recipient.from_str(outsider) if ssh else pyrage.x25519.Recipient.from_str(outsider),
    ]
    return pyrage.encrypt(key, both, armored=True).decode()


@pytest.mark.parametrize("kind", ["ssh", "x25519"])
@pytest.mark.parametrize("moment", ["before", "after"])
def test_a2_hidden_stanza(team: Team, kind: str, moment: str) -> None:
    team.grant("bob", "write", "api/dev")
    bob, alice = team.bob, team.alice
    if moment == "after":
        bob.set("MORE", "1")
    ssh = signing.public_line(signing.generate().public)
    outsider = ssh if kind == "ssh" else str(pyrage.x25519.Identity.generate().to_public())
    key = data_key(bob, "dev")
    entries = [
        Entry(e.recipient, hidden(e.recipient, key, outsider)) if e.recipient == bob.recipient else e
        for group in sops_of(bob, "dev").metadata.groups
        for e in group
    ]
    list_file(bob, "dev", sopsfile.replace_groups(sops_of(bob, "dev"), (tuple(entries),), threshold=None), key)
    bob.share()
    alice.pull()
    refused(alice.zopp("verify"), 1, words=["stanza"])
    before = alice.tree()
    for argv in (("get", "BASE", "-e", "dev"), ("set", "K", "-e", "dev"), ("rekey", "api/dev", "--all")):
        refused(alice.zopp(*argv, stdin="v"), 1)
    assert alice.tree() == before


def test_a2_twin_an_honest_rewrap_verifies(team: Team) -> None:
    team.grant("bob", "write", "api/dev")
    bob = team.bob
    key = data_key(bob, "dev")
    entries = [
        Entry(e.recipient, agefile.wrap(e.recipient, key)) for g in sops_of(bob, "dev").metadata.groups for e in g
    ]
    list_file(bob, "dev", sopsfile.replace_groups(sops_of(bob, "dev"), (tuple(entries),), threshold=None), key)
    bob.share()
    team.alice.pull()
    team.alice.ok("verify")
    assert team.alice.get("BASE") == "base-dev"


# --- A3


@pytest.mark.parametrize("how", ["upper", "short", "low-order", "spaced", "post-quantum", "garbage"])
def test_a3_recipients_that_are_none(team: Team, how: str) -> None:
    good = str(pyrage.x25519.Identity.generate().to_public())
    bad = {
        "upper": good.upper(),
        "short": good[:-1],
        "low-order": bech32.encode("age", bytes(32)),
        "spaced": good + " ",
        "post-quantum": "age1pq1" + good[4:],
        "garbage": "age1" + "q" * 58,
    }[how]
    before = team.alice.tree()
    refused(team.alice.zopp("principal", "adopt", bad, "--name", "old-reader"), 1, 2)
    assert team.alice.tree() == before
    team.alice.ok("principal", "adopt", good, "--name", "old-reader")


def test_a3_a_recipient_is_somebodys_for_ever(team: Team) -> None:
    refused(team.alice.zopp("principal", "adopt", team.bob.recipient, "--name", "twin"), 1)
    team.alice.ok("principal", "disable", "bob-laptop")
    refused(team.alice.zopp("principal", "adopt", team.bob.recipient, "--name", "twin"), 1)


# --- A4


def _flat_and_grouped(text: str) -> str:
    return text.replace("sops:\n", "sops:\n    key_groups:\n        - age: []\n", 1)


DIFFERENTIALS: dict[str, Callable[[str], str]] = {
    "unknown-field": lambda t: t.replace("sops:\n", "sops:\n    surprise: 1\n", 1),
    "flat-and-grouped": _flat_and_grouped,
    "duplicate-key": lambda t: t.replace("sops:\n", t.split("\n")[0] + "\nsops:\n", 1),
    "duplicate-in-sops": lambda t: t.replace("sops:\n", "sops:\n    mac: ENC[x]\n", 1),
    "two-documents-disagree": lambda t: t + "---\nX: 1\nsops:\n    version: 3.0.0\n",
    "lone-surrogate": lambda t: '"\\ud800": x\n' + t,
    "line-separator": lambda t: t.replace("sops:\n", "K\u2028: 1\nsops:\n", 1),
    "other-key-type": lambda t: t.replace("sops:\n", "sops:\n    pgp:\n        - fp: AAAA\n          enc: x\n", 1),
}


@pytest.mark.parametrize("what", DIFFERENTIALS)
def test_a4_metadata_differentials(team: Team, what: str) -> None:
    """A writer lists such a file himself: hash, commitment and signature hold, and it is refused all the same."""
    team.grant("bob", "write", "api/dev")
    bob, alice = team.bob, team.alice
    text = bob.read("secrets/dev.yaml").decode()
    data = DIFFERENTIALS[what](text).encode()
    assert data != text.encode()
    list_file(bob, "dev", data)
    bob.share()
    alice.pull()
    refused(alice.zopp("verify"), 1)
    before = alice.tree()
    for argv in (("get", "BASE", "-e", "dev"), ("set", "K", "-e", "dev"), ("list", "-e", "dev")):
        refused(alice.zopp(*argv, stdin="v"), 1)
    assert alice.tree() == before


def test_a4_logs_are_split_on_newline_only(team: Team) -> None:
    alice = team.alice
    log = alice.read(".zopp/policy.jsonl")
    for separator in ("\u2028", "\u0085", "\x0b", "\x0c", "\r\n", "\n\n", "\r"):
        alice.write(".zopp/policy.jsonl", log.replace(b"\n", separator.encode(), 1))
        refused(alice.zopp("verify"), 1)
        # The short way of a plain `get` rests on the last line alone, whose hash covers all before it.
        for argv in (("get", "BASE", "--json"), ("access",), ("set", "K", "--type", "int"), ("policy", "log")):
            refused(alice.zopp(*argv, stdin="1"), 1)
    alice.write(".zopp/policy.jsonl", log)
    alice.ok("verify")


def test_a4_a_clear_value_among_encrypted_ones(team: Team) -> None:
    """A writer lists a file in which one value lies in the clear though the selector wants it encrypted."""
    team.grant("bob", "write", "api/dev")
    bob, alice = team.bob, team.alice
    list_file(bob, "dev", b"PLAIN: visible\n" + bob.read("secrets/dev.yaml"))
    bob.share()
    alice.pull()
    before = alice.tree()
    for argv in (("get", "BASE", "-e", "dev"), ("get", "PLAIN", "-e", "dev"), ("set", "K", "-e", "dev")):
        refused(alice.zopp(*argv, stdin="v"), 1)
    assert alice.tree() == before


@pytest.mark.parametrize("change", ["duplicate", "space", "unknown", "float", "version"])
def test_a4_manifest_has_one_form(team: Team, change: str) -> None:
    team.grant("bob", "write", "api/dev")
    bob = team.bob
    path = ".zopp/manifest/api/dev.json"
    text = bob.read(path).decode()
    body = json.loads(text)
    forms = {
        "duplicate": text.replace('"v":1', '"v":1,"v":1'),
        "space": text.replace('"v":1', '"v": 1'),
        "unknown": json.dumps({**body, "extra": 1}, sort_keys=True, separators=(",", ":")),
        "float": text.replace('"v":1', '"v":1.0'),
        "version": text.replace('"v":1', '"v":2'),
    }
    data = forms[change].encode()
    assert data != text.encode()
    bob.write(path, data)
    signature = bob.key.sign(sshsig.preimage(manifests.NAMESPACE, data))
    bob.write(path + ".sig", sshsig.armor(bob.key.public, manifests.NAMESPACE, signature))
    refused(bob.zopp("verify"), 1)
    refused(bob.zopp("get", "BASE", "-e", "dev"), 1)
