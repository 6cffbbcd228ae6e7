"""The short way says what the full path says, or nothing (DESIGN.md, decisions 3, 6, 7; A1, A2, A5, A7, A13, A16)."""

import json
import os
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyrage
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from tests.unit.repo.workshop import VALUES, Workshop
from zopp import sopsfile
from zopp._fast import sha256, sha512
from zopp.errors import ZoppError
from zopp.keys import agefile, find, identity
from zopp.policy import canonical, manifest as manifests
from zopp.repo import files, journal, layout, pins, quick, settings as full_settings, userdirs, values
from zopp.repo.draft import Draft
from zopp.repo.environment import open_environment, require_readable, scope_of
from zopp.repo.signer import signer
from zopp.repo.unlock import Keyring
from zopp.repo.workspace import open_workspace, require_writable
from zopp.sopsfile import Put

NOW = 1_800_000_000


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    return Workshop(tmp_path_factory.mktemp("quick"))


@pytest.fixture
def shop(made: Workshop) -> Iterator[Workshop]:
    """Put back after each test."""
    with made.snapshot():
        yield made


def full(shop: Workshop, name: str | None = None) -> list[tuple[Any, Any]] | None:
    """(path, value) by the full path; None if it refuses or has a warning to print."""
    try:
        ws = open_workspace(str(shop.repo), shop.env, recover=False)
        env = open_environment(ws, scope_of(ws, name))
        if ws.place in ("older", "beside", "unpinned") or require_readable(env):
            return None
        opened = values.open_all(ws, env, Keyring(shop.env))
    except ZoppError:
        return None
    return [(leaf, sopsfile.lookup(file.tree, leaf)) for file in opened for leaf in file.leaves]


def short(shop: Workshop, name: str | None = None) -> list[tuple[Any, Any]] | None:
    found = quick.open_quick(str(shop.repo), shop.env, None, name)
    return None if found is None else found.values()


def agree(shop: Workshop, name: str | None = None) -> list[tuple[Any, Any]] | None:
    """The short way's answer, after holding it to the full path's."""
    answer = short(shop, name)
    if answer is not None:
        assert answer == full(shop, name)
    return answer


def refused(shop: Workshop, name: str | None = None) -> None:
    """No short answer: the full path may have one, with its own words."""
    assert short(shop, name) is None


def test_both_ways_answer_the_same(shop: Workshop) -> None:
    assert agree(shop) == [((key,), value) for key, value in VALUES.items()]
    assert agree(shop, "staging") == [(("OTHER",), "x")]
    assert full(shop) is not None


def test_names_need_no_key(shop: Workshop) -> None:
    for path in Path(userdirs.config(shop.env), "keys").iterdir():
        path.unlink()
    found = quick.open_quick(str(shop.repo), shop.env, None, None)
    assert found is not None
    assert list(found.names_of) == [(key,) for key in VALUES]
    assert found.values() is None


def test_it_answers_below_the_root_and_in_another_project_folder(shop: Workshop) -> None:
    below = shop.repo / "src" / "deep"
    below.mkdir(parents=True)
    found = quick.open_quick(str(below), shop.env, None, "development")
    assert found is not None
    assert found.shown() == "api/development"


# --- every byte of every file that is read

TARGETS = (
    "zopp.toml",
    layout.POLICY,
    Workshop.MANIFEST,
    Workshop.MANIFEST + ".sig",
    Workshop.SECRETS,
    "@view",
    "@pin",
    "@key",
)


def target(shop: Workshop, name: str) -> Path:
    if name == "@view":
        return shop.cache
    if name == "@pin":
        return shop.pin
    if name == "@key":
        return Path(userdirs.config(shop.env), "keys", "ann-laptop.age")
    return shop.repo / name


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
@pytest.mark.parametrize("name", TARGETS)
def test_a_changed_byte_anywhere_changes_no_answer(made: Workshop, name: str, data: st.DataObject) -> None:
    """A flipped, dropped, doubled or inserted piece, or another file's bytes: the full path's answer or none."""
    path = target(made, name)
    with made.snapshot():
        old = path.read_bytes()
        at = data.draw(st.integers(0, len(old) - 1))
        how = data.draw(st.sampled_from(["flip", "drop", "double", "insert", "cut", "append"]))
        if how == "flip":
            new = old[:at] + bytes([old[at] ^ data.draw(st.integers(1, 255))]) + old[at + 1 :]
        elif how == "drop":
            new = old[:at] + old[at + data.draw(st.integers(1, 80)) :]
        elif how == "double":
            new = old[:at] + old[at : at + 200] + old[at:]
        elif how == "insert":
            new = (
                old[:at]
                + data.draw(st.sampled_from([b" ", b"\n", b"\r", b"#", b"\0", b"\xc2\xa0", b'"', b"=", b"[x]\n"]))
                + old[at:]
            )
        elif how == "cut":
            new = old[:at]
        else:
            new = old + data.draw(st.sampled_from([b"\n", b"x", b"\n\n", b"---\n", b"a: b\n"]))
        path.write_bytes(new)
        last = old[old.rfind(b"\n", 0, -1) :]
        if name == layout.POLICY and new[-len(last) :] == last:
            # The log's last line stands for the log: reads may go on from the verified head.
            assert short(made) in (None, [((key,), value) for key, value in VALUES.items()])
        else:
            agree(made)
        refuse_set_or_same(made)


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("how", ["gone", "empty", "link", "folder", "large"])
def test_a16_what_is_no_plain_file_is_not_read(shop: Workshop, name: str, how: str) -> None:
    path = target(shop, name)
    old = path.read_bytes()
    path.unlink()
    if how == "link":
        beside = shop.home / "beside"
        beside.write_bytes(old)
        beside.chmod(0o600)
        path.symlink_to(beside)
    elif how == "folder":
        path.mkdir()
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "large":
        with open(path, "wb") as file:
            file.truncate(files.MAX_BYTES + 1)
            file.seek(files.MAX_BYTES + 1)
            file.write(old)
    answer = agree(shop)
    assert answer is None or (how == "link" and name.startswith("@"))


def test_a16_a_linked_folder_is_not_entered(shop: Workshop) -> None:
    (shop.repo / "secrets").rename(shop.home / "secrets")
    (shop.repo / "secrets").symlink_to(shop.home / "secrets")
    refused(shop)


# --- what only a signed lie can do


def _set(key: str, value: Any) -> Callable[[Workshop, dict[str, Any]], None]:
    def change(shop: Workshop, body: dict[str, Any]) -> None:
        body[key] = value

    return change


def _entry(**fields: Any) -> Callable[[Workshop, dict[str, Any]], None]:
    def change(shop: Workshop, body: dict[str, Any]) -> None:
        body["files"][Workshop.SECRETS].update(fields)

    return change


def _stranger(shop: Workshop, body: dict[str, Any]) -> None:
    body["groups"]["1"] = sorted([*body["groups"]["1"], identity.generate()[1]])


def _other_head(shop: Workshop, body: dict[str, Any]) -> None:
    body["policy"]["hash"] = "0" * 64


def _ahead(shop: Workshop, body: dict[str, Any]) -> None:
    body["policy"]["seq"] += 1


SIGNED_LIES: dict[str, Callable[[Workshop, dict[str, Any]], None]] = {
    "another environment": _set("env", "api/staging"),
    "another workspace": _set("ws", "0" * 64),
    "another signer": _set("signer", "bob-laptop"),
    "a stranger among the recipients": _stranger,
    "a head that is not on the chain": _other_head,
    "a head to come": _ahead,
    "A1: the commitment of another key": _entry(kc="A" * 43),
    "unknown origin of the key": _entry(dk_seq=None, dk_by=None),
    "a key made by nobody": _entry(dk_by="mallory"),
    "a key made in the future": _entry(dk_seq=10_000),
}


@pytest.mark.parametrize("lie", SIGNED_LIES)
def test_a_signed_lie_is_not_believed(shop: Workshop, lie: str) -> None:
    shop.resign(lambda body: SIGNED_LIES[lie](shop, body))
    assert agree(shop) is None
    assert full(shop) is None


def test_a_manifest_signed_by_a_stranger_is_not_believed(shop: Workshop) -> None:
    other = Workshop.__new__(Workshop)
    other.repo, other.home = shop.repo, shop.home
    from zopp.keys.store import Store

    Store(str(shop.home / "elsewhere" / "zopp")).create("mallory")
    other.env = {**shop.env, "XDG_CONFIG_HOME": str(shop.home / "elsewhere")}
    other.resign(lambda body: None)
    assert agree(shop) is None


def test_a7_an_older_manifest_than_the_remembered_one_is_left_to_the_full_path(shop: Workshop) -> None:
    pin = json.loads(shop.pin.read_bytes())
    generation, digest = pin["manifests"]["api/development"]
    for seen in ([generation + 1, digest[::-1]], [generation, digest[::-1]]):
        pin["manifests"]["api/development"] = seen
        shop.pin.write_text(json.dumps(pin))
        refused(shop)


def test_a7_an_older_or_parted_policy_is_left_to_the_full_path(shop: Workshop) -> None:
    pin = json.loads(shop.pin.read_bytes())
    for seq, head in ((pin["seq"] + 1, "0" * 64), (pin["seq"], "0" * 64), (pin["seq"] - 1, "0" * 64)):
        shop.pin.write_text(json.dumps({**pin, "seq": seq, "head": head}))
        refused(shop)
    lines = (shop.repo / layout.POLICY).read_bytes().splitlines(keepends=True)
    (shop.repo / layout.POLICY).write_bytes(b"".join(lines[:-1]))
    refused(shop)


def test_the_end_of_the_log_stands_for_it_however_it_is_cut(shop: Workshop) -> None:
    """Only the tail is read: a last line of another log, a line without end, or junk before it give no answer."""
    log = shop.repo / layout.POLICY
    old = log.read_bytes()
    last = old.splitlines()[-1]
    for new in (old[:-1], old + b"\n", last, old.replace(b"\n", b"\r\n"), old + last + b"x\n"):
        log.write_bytes(new)
        refused(shop)


# --- the anchor


def test_a5_another_anchor_is_left_to_the_full_path(shop: Workshop) -> None:
    toml = shop.repo / "zopp.toml"
    text = toml.read_text()
    genesis = text.split('genesis = "')[1][:64]
    for new in (
        text.replace(genesis, genesis[::-1]),
        text.replace('"acme"', '"evil"'),
        text.replace('project = "api"', 'project = "web"'),
        text + "\n[server]\n",
        text + '\nproject = "api"\n',
        text.replace("version = 1", "version = 2"),
    ):
        toml.write_text(new)
        refused(shop)


def test_a5_a_nested_anchor_is_left_to_the_full_path(shop: Workshop) -> None:
    below = shop.repo / "sub"
    below.mkdir()
    (below / "zopp.toml").write_bytes((shop.repo / "zopp.toml").read_bytes())
    assert quick.open_quick(str(below), shop.env, None, "development") is None


def test_a5_a_project_folder_that_the_pin_does_not_know_is_left_to_the_full_path(shop: Workshop) -> None:
    pin = json.loads(shop.pin.read_bytes())
    shop.pin.write_text(json.dumps({**pin, "projects": {"elsewhere": "api"}}))
    refused(shop)


def test_a13_a_changed_default_is_left_to_the_full_path(shop: Workshop) -> None:
    """Naming the environment is enough for an answer."""
    toml = shop.repo / "zopp.toml"
    pin = json.loads(shop.pin.read_bytes())
    shop.pin.write_text(json.dumps({**pin, "default_envs": {"": "development"}}))
    assert agree(shop) is not None
    toml.write_text(toml.read_text().replace('default_env = "development"', 'default_env = "staging"'))
    refused(shop)
    assert agree(shop, "staging") is not None
    assert agree(shop, "development") is not None
    toml.write_text(toml.read_text().replace('default_env = "staging"\n', ""))
    refused(shop)


def test_an_unpinned_clone_is_left_to_the_full_path(shop: Workshop) -> None:
    shop.pin.unlink()
    refused(shop)


def test_a_pin_from_the_environment_counts(shop: Workshop) -> None:
    pin = json.loads(shop.pin.read_bytes())
    shop.pin.unlink()
    env = shop.env
    try:
        trust = pins.format_trust(pin["workspace"], pin["genesis"], pin["seq"], pin["head"])
        shop.env = {**env, pins.TRUST_VARIABLE: trust, "CI": "true"}
        assert agree(shop) is not None
        for bad in (
            "x",
            trust.replace("acme", "evil"),
            pins.format_trust("acme", pin["genesis"], pin["seq"] + 1, "0" * 64),
        ):
            shop.env = {**env, pins.TRUST_VARIABLE: bad}
            refused(shop)
    finally:
        shop.env = env


def test_an_interrupted_change_is_left_to_the_full_path(shop: Workshop) -> None:
    where = Path(journal.journal_file(layout.find_checkout(str(shop.repo))))
    where.parent.mkdir(exist_ok=True)
    where.write_bytes(b"")
    refused(shop)


# --- zopp.toml, line by line

_LINES = st.sampled_from(
    [
        "version = 1",
        "version = 01",
        "version = true",
        'workspace = "acme"',
        "workspace = 'acme'",
        'project = "api"',
        'project = "-api"',
        f'genesis = "{"ab" * 32}"',
        f'genesis = "{"AB" * 32}"',
        f'genesis = "{"zz" * 32}"',
        'default_env = "dev"',
        'default_env = ""',
        f'default_env = "{"a" * 63}"',
        f'default_env = "{"a" * 64}"',
        "[env.dev]",
        "[env.dev] # x",
        "[env.x-1]",
        "[ env.dev ]",
        "[env]",
        "[env.'q']",
        "[guard]",
        "[[env.dev]]",
        'files = ["a.yaml"]',
        'files = ["a.yaml", "b/c.json"]',
        "files = []",
        'files = ["a.yaml",]',
        'files = ["../x"]',
        'files = ["/x"]',
        'files = ["a" "b"]',
        'files = [ "a" , "b" ]',
        "files = ['a']",
        'files = ["a\\u0041"]',
        "files = [",
        '"a"]',
        'files = "a"',
        "# comment",
        "# \u00e4",
        "# \x0b",
        "\x0c",
        "\u00a0",
        "\ufeff",
        " ",
        "",
        "version=1",
        "\tversion = 1",
        "x = 1",
        'env.dev.files = ["a"]',
        'project = "api" # x',
        'project = "a"b"',
        "\r",
    ]
)  # fmt: skip


@settings(max_examples=600, deadline=None)
@given(st.lists(_LINES, max_size=8), st.booleans())
def test_the_plain_reader_of_settings_agrees_with_toml(lines: list[str], sound: bool) -> None:
    """What it reads, the full reader reads the same."""
    head = ["version = 1", 'workspace = "acme"', f'genesis = "{"ab" * 32}"', 'project = "api"'] if sound else []
    text = "\n".join([*head, *lines]) + "\n"
    plain = quick.parse_plain(text)
    if plain is None:
        return
    wanted = full_settings.parse(text.encode(), place="zopp.toml")
    assert (plain.workspace, plain.genesis, plain.project) == (wanted.workspace, wanted.genesis, wanted.project)
    assert plain.default_env == wanted.default_env
    assert {name: tuple(paths) for name, paths in plain.files.items()} == dict(wanted.files)


def test_what_init_writes_is_plain(shop: Workshop) -> None:
    text = (shop.repo / "zopp.toml").read_text()
    assert quick.parse_plain(text) is not None
    assert tomllib.loads(text)["project"] == "api"


# --- files that parse, are signed, and should not be believed


def _with_entry(text: str, wrap: Callable[[str], str]) -> str:
    """`text` with another armored file for its only recipient."""
    last = "            -----END AGE ENCRYPTED FILE-----\n"
    start, end = text.index("            -----BEGIN AGE"), text.index(last) + len(last)
    armored = wrap(text.split("recipient: ")[1].split("\n")[0])
    return text[:start] + "".join(f"            {line}\n" for line in armored.strip().split("\n")) + text[end:]


def _second_stanza(shop: Workshop, text: str) -> str:
    """A2: the reader's entry opens for somebody else too."""

    def wrap(recipient: str) -> str:
        both = [pyrage.x25519.Recipient.from_str(recipient), pyrage.x25519.Identity.generate().to_public()]
        return str(pyrage.encrypt(os.urandom(32), both, armored=True).decode())

    return _with_entry(text, wrap)


def _forged_entry(shop: Workshop, text: str) -> str:
    """A1: the entry holds a key of the attacker's choice."""
    return _with_entry(text, lambda recipient: agefile.wrap(recipient, os.urandom(32)))


FILE_LIES: dict[str, Callable[[Workshop, str], str]] = {
    "A2: a second stanza": _second_stanza,
    "A1: another data key": _forged_entry,
    "A4: an unknown field": lambda shop, text: text.replace("    lastmodified:", "    foo: bar\n    lastmodified:"),
    "A4: a second document": lambda shop, text: text + "---\n" + text,
    "A4: a key twice": lambda shop, text: text.replace("ALPHA:", "BETA:", 1),
    "another time": lambda shop, text: text.replace("lastmodified: \"20", "lastmodified: \"19"),
    "a value in the clear": lambda shop, text: "CLEAR: text\n" + text,
    "a value at another key": lambda shop, text: text.replace("ALPHA:", "DELTA:", 1),
    "a dropped value": lambda shop, text: text[text.index("\n") + 1 :],
    "a threshold": lambda shop, text: text.replace("    lastmodified:", "    shamir_threshold: 1\n    lastmodified:"),
    "no recipients": lambda shop, text: text.replace("    age:\n", "    pgp:\n"),
}  # fmt: skip


@pytest.mark.parametrize("lie", FILE_LIES)
def test_a_signed_file_that_lies_is_not_believed(shop: Workshop, lie: str) -> None:
    path = shop.repo / Workshop.SECRETS
    old = path.read_text()
    new = FILE_LIES[lie](shop, old)
    assert new != old
    path.write_text(new)
    shop.resign(lambda body: None)
    assert agree(shop) is None
    assert full(shop) is None
    refuse_set_or_same(shop)


def test_a1_a_transplanted_file_is_not_opened(shop: Workshop) -> None:
    """Staging's file with the reader's own entry under development's manifest, signed by a writer."""
    (shop.repo / Workshop.SECRETS).write_bytes((shop.repo / "secrets/staging.yaml").read_bytes())
    shop.resign(lambda body: None)
    assert agree(shop) is None
    assert full(shop) is None


def test_a_key_in_two_files_is_left_to_the_full_path(shop: Workshop) -> None:
    """Also where one holds the name and the other something below it."""
    staging = (shop.repo / "secrets/staging.yaml").read_bytes()
    key = quick.open_quick(str(shop.repo), shop.env, None, "staging")
    assert key is not None
    data_key = key.data_key("secrets/staging.yaml")
    assert data_key is not None
    text = sopsfile.edit(
        sopsfile.read(staging, "yaml"),
        data_key,
        [Put(("nest", "one"), "1"), Put(("ALPHA",), "2")],
        lastmodified="2026-01-01T00:00:00Z",
    )
    (shop.repo / "secrets/more.yaml").write_bytes(text)
    genesis = json.loads(shop.pin.read_bytes())["genesis"]

    def add(body: dict[str, Any]) -> None:
        entry = dict(body["files"][Workshop.SECRETS])
        entry["sha512"] = sha512(text).hex()
        entry["kc"] = manifests.commitment(data_key, genesis, "api/development", "secrets/more.yaml")
        body["files"]["secrets/more.yaml"] = entry

    shop.resign(add)
    refused(shop)


def test_a_name_above_another_files_leaf_is_not_answered() -> None:
    found = quick.Quick()
    found.names_of = {("a",): "1.yaml", ("b", 0): "1.yaml", ("a", "x"): "2.yaml", ("c", "y"): "2.yaml"}
    assert found.file_of(["a"]) is None
    assert found.file_of(["a", "x"]) == ("2.yaml", ("a", "x"))
    assert found.file_of(["b", "0"]) == ("1.yaml", ("b", 0))
    assert found.file_of(["c"]) is None
    assert found.file_of(["d"]) is None


# --- set


def full_set(shop: Workshop, key: str, value: str) -> tuple[bool, str] | None:
    """(whether written, the environment) by the full path, None if it refuses."""
    try:
        checkout = layout.find_checkout(str(shop.repo))
        with journal.lock(checkout):
            ws = open_workspace(str(shop.repo), shop.env, recover=False)
            require_writable(ws)
            draft = Draft(ws, signer(ws), NOW)
            env = open_environment(ws, scope_of(ws, None), history=True)
            edited = values.apply(draft, env, Keyring(shop.env), [Put((key,), value)])
            draft.commit(None)
            return bool(edited), env.scope
    except ZoppError:
        return None


def state_of(shop: Workshop) -> dict[str, Any]:
    """What a set leaves, without what is random in it."""
    body = json.loads((shop.repo / Workshop.MANIFEST).read_bytes())
    for entry in body["files"].values():
        del entry["sha512"]
    text = (shop.repo / Workshop.SECRETS).read_text()
    lines = [line for line in text.split("\n") if "ENC[" not in line]
    return {
        "manifest": body,
        "values": full(shop),
        "lines": lines,
        "sig": (shop.repo / (Workshop.MANIFEST + ".sig")).exists(),
    }


def tree(shop: Workshop) -> dict[str, bytes]:
    return {
        str(path): path.read_bytes()
        for path in sorted(shop.repo.rglob("*"))
        if path.is_file() and ".git/" not in str(path) and not path.is_symlink()
    }


def refuse_set_or_same(shop: Workshop, key: str = "BETA", value: str = "new") -> None:
    """The short set writes nothing, or what the full one writes."""
    before = tree(shop)
    with shop.snapshot():
        done = quick.set_text(str(shop.repo), shop.env, None, None, key, value, NOW)
        after = tree(shop)
        mine = state_of(shop) if done is not None else None
    if done is None:
        assert after == before
        return
    with shop.snapshot():
        theirs = full_set(shop, key, value)
        assert theirs is not None
        assert theirs[0] == (done[0] == quick.WRITTEN)
        assert state_of(shop) == mine


@pytest.mark.parametrize(
    ("key", "value"), [("BETA", "new"), ("NEW_ONE", "x"), ("BETA", "zwei"), ("GAMMA", "lines\nof\ntext")]
)
def test_set_does_what_the_full_path_does(shop: Workshop, key: str, value: str) -> None:
    with shop.snapshot():
        done = quick.set_text(str(shop.repo), shop.env, None, None, key, value, NOW)
        assert done is not None
        assert done[0] == (quick.UNCHANGED if value == VALUES.get(key) else quick.WRITTEN)
    refuse_set_or_same(shop, key, value)


def test_set_signs_and_verifies_again_and_again(shop: Workshop) -> None:
    for number in range(3):
        assert quick.set_text(str(shop.repo), shop.env, None, None, "BETA", str(number), NOW) is not None
        assert dict(agree(shop) or [])[("BETA",)] == str(number)
    shop.git("add", "-A")
    shop.git("commit", "-qm", "more")
    assert quick.set_text(str(shop.repo), shop.env, None, None, "BETA", "last", NOW) is not None
    assert shop.zopp("verify").stdout.startswith(b"ok")


@pytest.mark.parametrize("key", ["X_unencrypted", "sops"])
def test_set_leaves_clear_and_reserved_names_to_the_full_path(shop: Workshop, key: str) -> None:
    before = tree(shop)
    assert quick.set_text(str(shop.repo), shop.env, None, None, key, "v", NOW) is None
    assert tree(shop) == before


def _exposed(shop: Workshop) -> None:
    (shop.repo / layout.EXPOSURE).mkdir()


def _merging(shop: Workshop) -> None:
    (shop.repo / ".git" / "MERGE_HEAD").write_text("0" * 40 + "\n")


def _no_head(shop: Workshop) -> None:
    (shop.repo / ".git" / "HEAD").write_text("ref: refs/heads/none\n")


def _below_head(shop: Workshop) -> None:
    shop.resign(lambda body: body.update(generation=body["generation"] - 1))


def _wrong_prev(shop: Workshop) -> None:
    shop.resign(lambda body: body.update(generation=body["generation"] + 1, prev="0" * 64))


def _policy_lower(shop: Workshop) -> None:
    hashes = [sha256(line).hex() for line in (shop.repo / layout.POLICY).read_bytes().splitlines()]
    digest = sha256((shop.repo / Workshop.MANIFEST).read_bytes()).hex()

    def change(body: dict[str, Any]) -> None:
        seq = body["policy"]["seq"] - 1
        body.update(generation=body["generation"] + 1, prev=digest, policy={"seq": seq, "hash": hashes[seq]})

    shop.resign(change)


def _dk_changed(shop: Workshop) -> None:
    digest = sha256((shop.repo / Workshop.MANIFEST).read_bytes()).hex()

    def change(body: dict[str, Any]) -> None:
        body["files"][Workshop.SECRETS]["dk_seq"] -= 1
        body.update(generation=body["generation"] + 1, prev=digest)

    shop.resign(change)


def _no_signing_key(shop: Workshop) -> None:
    Path(userdirs.config(shop.env), "keys", "ann-laptop.ssh").unlink()


def _broken_git(shop: Workshop) -> None:
    (shop.repo / ".git" / "config").write_text("[core\n")


@pytest.mark.parametrize(
    "odd",
    [_exposed, _merging, _no_head, _below_head, _wrong_prev, _policy_lower, _dk_changed, _no_signing_key, _broken_git],
)
def test_set_leaves_what_is_odd_to_the_full_path(shop: Workshop, odd: Callable[[Workshop], None]) -> None:
    odd(shop)
    before = tree(shop)
    assert quick.set_text(str(shop.repo), shop.env, None, None, "BETA", "v", NOW) is None
    assert tree(shop) == before
    refuse_set_or_same(shop)


def test_a_writer_without_git_gets_no_short_answer(shop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(shop.home))
    before = tree(shop)
    assert quick.set_text(str(shop.repo), shop.env, None, None, "BETA", "v", NOW) is None
    assert tree(shop) == before
    assert canonical.decode((shop.repo / Workshop.MANIFEST).read_bytes())["signer"] == "ann-laptop"
    assert find.signing_key(shop.env, userdirs.config(shop.env)).key is not None
