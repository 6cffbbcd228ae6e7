"""`zopp init --adopt`: repositories that stock sops made, taken in whole or not at all."""

import os
import subprocess
from pathlib import Path

import pyrage
import pytest

from tests.oracle.conftest import Oracle
from tests.robustness.test_crash import attempt
from tests.support import Done, User
from zopp import sopsfile
from zopp.keys import agefile
from zopp.repo import adopt

DEV, PROD = "secrets/dev.yaml", "secrets/prod.yaml"
PLAIN = b"# about A\nA: one # here\nB:\n    c: 2\n    list:\n        - x\n        - true\n"
RECIPIENT = "age1gadrj3jffyke25uve8ereppqf2cjxjf6q8hjytrywgn39xuhvfyq30w3gm"


class Shop:
    """Alice's repository: dev is readable by her sops key and a second one, prod by hers alone."""

    def __init__(self, base: Path, sops: Oracle) -> None:
        self.sops = sops
        self.mine, self.other, self.third = sops.recipients
        self.alice = User("alice", "alice-laptop", base, folder="shop")
        self.alice.home.mkdir(parents=True)
        self.alice.repo.mkdir()
        (self.alice.home / ".gitconfig").write_text(
            "[user]\n\tname = alice\n\temail = alice@example.org\n[init]\n\tdefaultBranch = main\n"
        )
        self.alice.git("init", "-q")
        keys = self.alice.home / ".config/sops/age/keys.txt"
        keys.parent.mkdir(parents=True)
        keys.write_text(f"{sops.identities[0]}\n")
        keys.chmod(0o600)
        self.keys, self.keys_before = keys, keys.read_bytes()
        self.rules(f"  - path_regex: .*\n    age: {self.mine},{self.other}\n")

    def rules(self, text: str) -> None:
        self.alice.write(".sops.yaml", "creation_rules:\n" + text)

    def encrypted(self, path: str, plain: bytes, *recipients: str, more: tuple[str, ...] = ()) -> None:
        self.alice.write(path, plain)
        done = self.sops.run("encrypt", "--age", ",".join(recipients), *more, "-i", self.alice.path(path))
        assert done.returncode == 0, done.stderr

    def usual(self) -> None:
        self.encrypted(DEV, PLAIN, self.mine, self.other)
        self.encrypted(PROD, b"A: secret\n", self.mine)
        self.alice.commit("sops")

    def init(self, *argv: str, code: int = 0) -> Done:
        names = ("--workspace", "acme", "--project", "api", "--device", "alice-laptop", "--no-recovery")
        return self.alice.zopp("init", *names, *argv, code=code)

    def refused(self, *argv: str, words: list[str], code: int = 2) -> Done:
        before = self.alice.tree()
        done = self.init(*argv, code=code)
        for word in words:
            assert word in done.err, (word, done.err)
        assert self.alice.tree() == before
        assert not (self.alice.home / ".config/zopp").exists() and not (self.alice.home / ".local").exists()
        return done

    def opens(self, path: str, at: int) -> bool:
        """Whether the identity `at` alone opens the file with stock sops."""
        env = {**os.environ, "SOPS_DISABLE_VERSION_CHECK": "1", "HOME": str(self.sops.folder / "nobody")}
        env |= {"SOPS_AGE_KEY": str(self.sops.identities[at])}
        argv = [str(self.sops.binary), "decrypt", str(self.alice.path(path))]
        return subprocess.run(argv, env=env, capture_output=True, check=False).returncode == 0


@pytest.fixture
def shop(tmp_path: Path, sops: Oracle) -> Shop:
    return Shop(tmp_path, sops)


# --- refused, and nothing made


def test_files_in_the_way_need_a_word(shop: Shop) -> None:
    shop.usual()
    shop.refused(words=["sops files lie here already", "--adopt", "--no-adopt"])
    shop.refused("--yes", words=["--adopt"])
    for flag in ("--dry-run", "--map", "--leave"):
        shop.refused(flag, *(["x=y"] if flag != "--dry-run" else []), words=["go with --adopt"])
    shop.refused("--adopt", "--template", "team", words=["leave --template away"])


def test_nothing_to_adopt(shop: Shop) -> None:
    shop.refused("--adopt", words=["no sops file"])


def test_recipients_that_are_not_age(shop: Shop) -> None:
    shop.usual()
    good = shop.alice.read(PROD).decode()
    entry = (
        '    pgp:\n        - created_at: "2024-01-01T00:00:00Z"\n          enc: |-\n            x\n          fp: AB\n'
    )
    shop.alice.write(PROD, good.replace("sops:\n", "sops:\n" + entry))
    done = shop.refused("--adopt", words=[PROD, "pgp", "nothing is adopted"], code=1)
    assert DEV not in done.err


def test_every_file_that_cannot_be_adopted_is_named_at_once(shop: Shop) -> None:
    shop.usual()
    shop.encrypted("secrets/qa.yaml", b"A: x\n", shop.third)  # no key of alice's
    shop.alice.replace(PROD, "A: ENC[AES256_GCM,data:", "A: ENC[AES256_GCM,data:AA")
    shop.alice.write("secrets/.sops.yaml", "creation_rules: []\n")
    shop.encrypted("secrets/plain.env", b"A=x\n", shop.mine)
    words = ["secrets/qa.yaml: no key of yours opens it", PROD, "secrets/.sops.yaml: stands nearer", "dotenv"]
    shop.refused("--adopt", words=words, code=1)
    shop.refused("--adopt", "--leave", "secrets/qa.yaml", words=["cannot be left out"], code=1)


@pytest.mark.parametrize("text", ["creation_rules: [{age: x}]\n", "a: 1\n---\ncreation_rules:\n  - age: x\n", "a: [\n"])
def test_a_sops_yaml_that_cannot_take_the_rules(shop: Shop, text: str) -> None:
    """Found before keys or a recovery file are made."""
    shop.usual()
    shop.alice.write(".sops.yaml", text)
    shop.refused("--adopt", words=[".sops.yaml: "], code=1)


def test_a_forged_value_is_not_signed(shop: Shop) -> None:
    """Two ciphertexts exchanged: every value is whole, the MAC or the place is not."""
    shop.encrypted(DEV, b"A: one\nB: two\n", shop.mine)
    lines = shop.alice.read(DEV).decode().split("\n")
    lines[0], lines[1] = "A" + lines[1][1:], "B" + lines[0][1:]
    shop.alice.write(DEV, "\n".join(lines))
    shop.alice.commit()
    shop.refused("--adopt", words=[DEV], code=1)
    shop.encrypted(DEV, b"A: one\nB: two\n", shop.mine)
    dropped = [line for line in shop.alice.read(DEV).decode().split("\n") if not line.startswith("B:")]
    shop.alice.write(DEV, "\n".join(dropped))
    shop.refused("--adopt", words=[DEV], code=1)


def test_two_key_groups_are_not_made_one(shop: Shop) -> None:
    config = shop.sops.config(grouped=True)
    shop.alice.write(DEV, shop.sops.encrypt(b"A: x\n", ".yaml", config))
    shop.refused("--adopt", words=[DEV, "several groups"], code=1)


def test_which_environment_is_never_guessed(shop: Shop) -> None:
    shop.encrypted("deploy/values.yaml", b"A: x\n", shop.mine)
    shop.encrypted("secrets/dev.json", b'{"J": "x"}\n', shop.mine)
    shop.encrypted(DEV, b"A: x\n", shop.mine)
    shop.alice.commit()
    done = shop.refused("--adopt", words=["deploy/values.yaml", "would be dev", "--map ENV="])
    assert "zopp init --adopt --map ENV=deploy/values.yaml" in done.err
    shop.refused("--adopt", "--map", "Prod=deploy/values.yaml", words=["ENV=FILE"])
    shop.refused("--adopt", "--map", "deploy/values.yaml", words=["ENV=FILE"])
    shop.refused("--adopt", "--map", "prod=nothing.yaml", words=["no sops file", "nothing.yaml"])
    shop.refused("--adopt", "--map", "prod=../elsewhere.yaml", words=["no sops file"])
    shop.refused("--adopt", "--map", f"a={DEV}", f"b={DEV}", words=["two environments"])
    mapped = ("--map", "prod=deploy/values.yaml", "dev=secrets/dev.json", f"dev={DEV}")
    shop.init("--adopt", *mapped, "-m", "adopted")
    assert shop.alice.get("J") == "x" == shop.alice.get("A") == shop.alice.get("A", "prod")
    shop.alice.ok("verify")


def test_two_files_are_joined_only_with_the_same_readers_and_other_keys(shop: Shop) -> None:
    shop.usual()
    shop.refused("--adopt", "--map", f"all={DEV}", f"all={PROD}", words=["different recipients", "--map"])
    shop.encrypted(PROD, b"A: twice\n", shop.other, shop.mine)
    shop.refused("--adopt", "--map", f"all={DEV}", f"all={PROD}", words=["A stands in"])


# --- done


def test_the_plan_changes_nothing(shop: Shop) -> None:
    shop.usual()
    before = shop.alice.tree()
    done = shop.init("--adopt", "--dry-run")
    assert f"environment dev: {DEV}" in done.err and f"reads it: {shop.other}" in done.err
    assert shop.alice.tree() == before and not (shop.alice.home / ".config/zopp").exists()
    plan = shop.init("--adopt", "--dry-run", "--json").json
    assert plan["adopted"]["files"] == {DEV: "dev", PROD: "prod"}
    assert set(plan["adopted"]["readers"].values()) == {shop.mine, shop.other}


def test_adopted(shop: Shop) -> None:
    shop.usual()
    old = {path: sopsfile.read(shop.alice.read(path), "yaml") for path in (DEV, PROD)}
    plain = shop.sops.run("decrypt", shop.alice.path(DEV)).stdout
    done = shop.init("--adopt", "-m", "adopted")
    alice, state = shop.alice, shop.alice.state()
    assert shop.keys.read_bytes() == shop.keys_before
    assert "zopp: warning: .sops.yaml names" not in done.err
    alice.ok("verify")
    assert alice.git("status", "--porcelain") == ""
    assert (alice.get("A"), alice.get("B.c"), alice.get("A", "prod")) == ("one", "2", "secret")
    # Who could read each file reads it, with stock sops and their old keys, and nobody else.
    assert [shop.opens(DEV, at) for at in range(3)] == [True, True, False]
    assert [shop.opens(PROD, at) for at in range(3)] == [True, False, False]
    assert shop.sops.run("decrypt", alice.path(DEV)).stdout == plain
    assert set(state.readers("api/dev").values()) == {shop.mine, shop.other, alice.recipient}
    assert set(state.readers("api/prod").values()) == {shop.mine, alice.recipient}
    assert set(state.writers("api/dev")) == {"alice-laptop"}
    assert list(state.users) == ["alice"], "nobody is invented"
    for name, principal in state.principals.items():
        assert name == "alice-laptop" or (principal.key is None and principal.user is None)
    # A new data key: what the old one opens is no longer there.
    for path, file in old.items():
        (identity,) = [i for i in alice.identities if i.recipient == shop.mine]
        keys = []
        for version in (file, sopsfile.read(alice.read(path), "yaml")):
            (entry,) = [e for e in version.metadata.groups[0] if e.recipient == shop.mine]
            keys.append(agefile.unwrap(entry.enc, [identity]))
        assert keys[0] != keys[1]
        assert {i.text for i in file.items() if i.encrypted} & {
            i.text for i in sopsfile.read(alice.read(path), "yaml").items()
        } == set()


def test_it_goes_on_from_there(shop: Shop) -> None:
    """Without the old key file, with the device's own keys; and a reader is taken out as any other."""
    shop.usual()
    shop.init("--adopt", "-m", "adopted")
    alice = shop.alice
    shop.keys.unlink()
    alice.ok("set", "NEW", "-e", "dev", "-m", "new", stdin="v")
    assert alice.get("NEW") == "v" and shop.opens(DEV, 1)
    (reader,) = [n for n, p in alice.state().principals.items() if p.recipient == shop.other]
    alice.ok("principal", "disable", reader, "-m", "out")
    assert not shop.opens(DEV, 1) and shop.opens(DEV, 0)
    alice.ok("verify")
    assert alice.zopp("exposure").code == 1


def test_a_recipient_that_is_this_device_is_not_enrolled_twice(shop: Shop) -> None:
    alice = shop.alice
    other = User("other", "other-laptop", alice.base, folder="other")  # makes the keys of this device, elsewhere
    other.repo.mkdir()
    other.extra = {"HOME": str(alice.home), "GIT_CONFIG_GLOBAL": str(alice.home / ".gitconfig")}
    other.git("init", "-q")
    other.ok("init", "--workspace", "w", "--project", "p", "--device", "alice-laptop", "--no-recovery")
    shop.encrypted(DEV, b"A: x\n", alice.recipient, shop.third)
    shop.keys.unlink()
    shop.init("--adopt", "-m", "adopted")
    found = {n: p.recipient for n, p in alice.state().principals.items()}
    assert found == {"alice-laptop": alice.recipient, "reader-1": shop.third}
    alice.ok("verify")


def test_names_come_from_sops_yaml_or_are_numbers(shop: Shop) -> None:
    a, b, c = shop.sops.recipients
    d = str(pyrage.x25519.Identity.generate().to_public())
    shop.alice.write(
        ".sops.yaml",
        f"keys:\n  - &bob_laptop {a}\n  # CI\n  - {b}\n  - {c}  # alice-laptop\n"
        f"  - {d} # left in 2019 and should be gone\ncreation_rules:\n  - age: {a},{b}\n",
    )
    shop.encrypted(DEV, b"A: x\n", a, b, c)
    done = shop.init("--adopt", "-m", "adopted")
    found = {p.recipient: n for n, p in shop.alice.state().principals.items()}
    assert (found[a], found[b], found[c]) == ("bob-laptop", "ci", "reader-1"), "a name in use is not taken"
    assert d not in found and f".sops.yaml names {d}" in done.err
    shop.alice.ok("verify")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (f"- {RECIPIENT} # Bob's phone", "bob-s-phone"),
        (f"- '{RECIPIENT}' # bob", "bob"),
        (f"# bob\n- {RECIPIENT}", "bob"),
        (f"- &bob {RECIPIENT} # not this", "bob"),
        (f"- {RECIPIENT}", None),
        (f"# the one that we made in spring\n- {RECIPIENT}", None),
        (f"- {RECIPIENT} #", None),
        (f"- {RECIPIENT} # \u00fc", None),
        (f"- {RECIPIENT} # " + "x" * 80, None),
        (f"age: {RECIPIENT},{RECIPIENT} # team", None),
    ],
)
def test_labels(text: str, name: str | None) -> None:
    assert adopt.labels(text) == ({} if name is None else {RECIPIENT: name})


@pytest.mark.parametrize(
    ("path", "folder", "env"),
    [
        ("secrets/dev.yaml", "", "dev"),
        ("secrets/dev.enc.yaml", "", "dev"),
        ("secrets/dev.sops.json", "", "dev"),
        ("web/secrets/dev.yaml", "web", "dev"),
        ("web/secrets/dev.yaml", "", None),
        ("secrets/a/dev.yaml", "", None),
        ("secrets/Dev.yaml", "", None),
        ("secrets/dev.local.yaml", "", None),
        ("secrets/.yaml", "", None),
        ("dev.yaml", "", None),
    ],
)
def test_environment_of(path: str, folder: str, env: str | None) -> None:
    assert adopt.environment_of(path, folder) == env


def test_leaving_a_file_out_and_starting_beside(shop: Shop) -> None:
    shop.usual()
    shop.encrypted("k8s/app.yaml", b"A: x\n", shop.third)
    shop.alice.commit()
    shop.init("--adopt", "--leave", "k8s/app.yaml", "-m", "adopted")
    done = shop.alice.ok("verify")
    assert "k8s/app.yaml" in done.text  # a warning: no manifest lists it
    assert shop.alice.state().all_envs.keys() == {"api/dev", "api/prod"}


def test_no_adopt(shop: Shop) -> None:
    shop.usual()
    shop.alice.git("mv", "secrets", "old")
    before = shop.alice.read("old/dev.yaml")
    shop.init("--no-adopt", "-m", "start")
    assert shop.alice.read("old/dev.yaml") == before
    assert "api/development" in shop.alice.state().all_envs


def test_every_write_may_be_the_last(
    tmp_path_factory: pytest.TempPathFactory, sops: Oracle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All old or, after the next command, all new; running it again finishes or says that it is done."""
    shop = Shop(tmp_path_factory.mktemp("crash"), sops)
    shop.usual()
    alice, outcomes = shop.alice, set()
    old = alice.tree()
    names = ("--workspace", "acme", "--project", "api", "--device", "alice-laptop", "--no-recovery")
    for number in range(1, 400):
        died = attempt(alice, number, monkeypatch, "init", *names, "--adopt")
        again = alice.zopp("init", *names, "--adopt")
        outcomes.add(again.code)
        assert again.code in (0, 2) and (again.code == 0 or "has a workspace already" in again.err), again.err
        assert alice.zopp("trust", "--genesis", alice.state().ws).code == 0
        report = alice.zopp("verify")
        assert report.code == 0, f"write {number}: {report.out}{report.err}"
        assert shop.opens(DEV, 0) and shop.opens(DEV, 1) and alice.get("A", "dev") == "one"
        alice.ok("trust", "--reset", "--yes")
        alice.git("checkout", "-q", "HEAD", "--", ".")
        alice.git("clean", "-fdq")
        assert alice.tree() == old
        if not died:
            break
    else:
        pytest.fail("the command never ran to its end")
    assert number > 20, "the writes were not seen"
    assert outcomes == {0, 2}
