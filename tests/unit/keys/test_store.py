"""The key store (S40), the order in which keys are found, and what a child must not inherit (A26)."""

from __future__ import annotations

import os
import stat
import sys
import types
from pathlib import Path

import pytest

from zopp.errors import NotFound, Unknown, UsageError, ZoppError
from zopp.keys import agefile, find, identity, keychain, keyfiles, signing
from zopp.keys.store import Store

CANARY = "kanarienvogel7"


@pytest.fixture
def config(tmp_path: Path) -> str:
    return str(tmp_path / "config" / "zopp")


@pytest.fixture
def store(config: str) -> Store:
    return Store(config)


def modes(config: str) -> set[int]:
    return {stat.S_IMODE(path.stat().st_mode) for path in Path(config, "keys").iterdir()}


class TestStore:
    def test_created_files_are_private_whatever_the_umask(self, store: Store, config: str) -> None:
        before = os.umask(0)
        try:
            store.create("laptop")
        finally:
            os.umask(before)
        assert modes(config) == {0o600}
        assert stat.S_IMODE(Path(config, "keys").stat().st_mode) == 0o700
        assert sorted(os.listdir(Path(config, "keys"))) == [
            "current",
            "laptop.age",
            "laptop.age.pub",
            "laptop.ssh",
            "laptop.ssh.pub",
        ]

    def test_what_is_created_is_listed_and_loaded(self, store: Store) -> None:
        made = store.create("laptop")
        assert store.list() == [made]
        assert made.in_use
        loaded = store.load()
        assert loaded.identity.recipient == made.recipient
        assert loaded.signing is not None
        assert loaded.signing.public == made.signing_public

    def test_s40_several_keys_remain_and_one_is_in_use(self, store: Store, config: str) -> None:
        first, second = store.create("laptop"), store.create("work")
        assert (store.current(), first.in_use, second.in_use) == ("laptop", True, False)
        store.use("work")
        assert store.names() == ["laptop", "work"]
        assert find.identities({}, "/nowhere", config).identities[0].recipient == second.recipient
        key = find.signing_key({}, config).key
        assert key is not None
        assert key.public == second.signing_public

    @pytest.mark.parametrize("suffix", [".age", ".ssh"])
    @pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o660, 0o610])
    def test_s40_a_file_that_others_can_read_is_refused_with_the_fix(
        self, store: Store, config: str, suffix: str, mode: int
    ) -> None:
        store.create("laptop")
        path = Path(config, "keys", "laptop" + suffix)
        path.chmod(mode)
        with pytest.raises(Unknown) as caught:
            store.load()
        assert (caught.value.code, caught.value.hint) == ("key_mode", f"chmod 600 {path}")
        found = find.identities({}, "/nowhere", config) if suffix == ".age" else find.signing_key({}, config)
        assert [problem.code for problem in found.problems] == ["key_mode"]

    def test_an_open_folder_is_refused_with_the_fix(self, store: Store, config: str) -> None:
        store.create("laptop")
        Path(config, "keys").chmod(0o755)
        with pytest.raises(Unknown) as caught:
            store.create("other")
        assert caught.value.hint.startswith("chmod 700 ")

    def test_nothing_is_overwritten(self, store: Store, config: str) -> None:
        store.create("laptop")
        before = {path: path.read_bytes() for path in Path(config, "keys").iterdir()}
        with pytest.raises(UsageError):
            store.create("laptop")
        assert {path: path.read_bytes() for path in Path(config, "keys").iterdir()} == before

    def test_a_name_that_is_taken_meanwhile_is_not_overwritten(
        self, store: Store, config: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store.create("laptop")
        monkeypatch.setattr(Store, "_prepare", lambda self, name: None)
        before = Path(config, "keys", "laptop.ssh").read_bytes()
        with pytest.raises(UsageError):
            store.create("laptop")
        assert Path(config, "keys", "laptop.ssh").read_bytes() == before
        assert not [name for name in os.listdir(Path(config, "keys")) if name.startswith(".")]

    def test_a_dangling_link_is_in_the_way_too(self, store: Store, config: str, tmp_path: Path) -> None:
        store.create("laptop")
        Path(config, "keys", "other.ssh").symlink_to(tmp_path / "elsewhere")
        with pytest.raises(UsageError):
            store.create("other")
        assert not (tmp_path / "elsewhere").exists()

    def test_half_a_key_does_not_count(self, store: Store, config: str, monkeypatch: pytest.MonkeyPatch) -> None:
        store.create("laptop")
        real = Store._write_new

        def fail(self: Store, target: Path, data: bytes) -> None:
            if target.suffix == ".age":
                raise OSError
            real(self, target, data)

        monkeypatch.setattr(Store, "_write_new", fail)
        with pytest.raises(OSError):
            store.create("other")
        assert store.names() == ["laptop"]

    @pytest.mark.parametrize(
        "name", ["", "-a", "A", "a/b", "..", ".", "a.b", "a b", "ä", "a" * 64, "a\n", "current.age"]
    )
    def test_names(self, store: Store, name: str) -> None:
        for action in (store.create, store.use, store.load):
            with pytest.raises(UsageError):
                action(name)

    def test_protected_keys_ask_for_each_part(self, store: Store) -> None:
        store.create("laptop", "one", signing_passphrase="two")
        asked: list[str] = []

        def ask(path: str) -> str:
            asked.append(os.path.basename(path))
            return {"laptop.age": "one", "laptop.ssh": "two"}[asked[-1]]

        assert store.load("laptop", ask).signing is not None
        assert sorted(asked) == ["laptop.age", "laptop.ssh"]
        with pytest.raises(Unknown):
            store.load("laptop")
        assert [info.name for info in store.list()] == ["laptop"]

    def test_a_damaged_pointer_is_not_guessed_around(self, store: Store, config: str) -> None:
        store.create("laptop")
        for text in ("", "../../x", "laptop\n\n", "LAPTOP"):
            Path(config, "keys", "current").write_text(text)
            with pytest.raises(Unknown):
                store.load()
            assert find.identities({}, "/nowhere", config).problems
            assert find.signing_key({}, config).key is None

    def test_a_missing_key_names_those_there_are(self, store: Store) -> None:
        store.create("laptop")
        with pytest.raises(NotFound) as caught:
            store.use("lptop")
        assert caught.value.data["candidates"] == ["laptop"]

    def test_recovery_moves_both_keys(self, store: Store, tmp_path: Path) -> None:
        made = store.create("laptop", "one")
        data = store.export_recovery("laptop", "words", lambda path: "one")
        assert b"AGE-SECRET" not in data
        other = Store(str(tmp_path / "other"))
        back = other.import_recovery(data, lambda: "words", "recovery")
        assert (back.recipient, back.signing_public) == (made.recipient, made.signing_public)
        assert other.load().identity.recipient == made.recipient


class TestKeychain:
    def test_absent_it_says_what_to_install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "keyring", None)
        with pytest.raises(Unknown) as caught:
            keychain.get("k")
        assert "zopp[keychain]" in caught.value.hint

    def test_present_it_keeps_and_forgets(self, monkeypatch: pytest.MonkeyPatch) -> None:
        kept: dict[tuple[str, str], str] = {}
        fake = types.SimpleNamespace(
            get_password=lambda service, name: kept.get((service, name)),
            set_password=lambda service, name, text: kept.__setitem__((service, name), text),
            delete_password=lambda service, name: kept.pop((service, name)),
        )
        monkeypatch.setitem(sys.modules, "keyring", fake)
        keychain.put("k", "words")
        assert keychain.get("k") == "words"
        keychain.drop("k")
        keychain.drop("k")
        assert keychain.get("k") is None

    def test_its_errors_are_not_passed_on(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*_: str) -> None:
            raise RuntimeError(CANARY)

        fake = types.SimpleNamespace(get_password=fail, set_password=fail, delete_password=fail)
        monkeypatch.setitem(sys.modules, "keyring", fake)
        for action in (lambda: keychain.get("k"), lambda: keychain.put("k", CANARY), lambda: keychain.drop("k")):
            with pytest.raises(Unknown) as caught:
                action()
            assert CANARY not in str(caught.value)


class TestFind:
    """Every source of sops-compat §13.6 and zopp's own, in order."""

    @pytest.fixture
    def home(self, tmp_path: Path) -> Path:
        path = tmp_path / "home"
        (path / ".ssh").mkdir(parents=True)
        return path

    def key_file(self, path: Path) -> str:
        secret, recipient = identity.generate()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(secret + "\n")
        path.chmod(0o600)
        return recipient

    def test_all_sources_in_order(self, home: Path, config: str, tmp_path: Path, ssh_key: Path, rsa_key: Path) -> None:
        want, env = [], {}
        for variable in ("ZOPP_AGE_KEY",):
            env[variable], recipient = identity.generate()
            want.append(recipient)
        env["ZOPP_AGE_KEY_FILE"] = str(tmp_path / "one")
        want.append(self.key_file(tmp_path / "one"))
        want.append(Store(config).create("laptop").recipient)
        other = tmp_path / "ssh2"
        other.write_bytes(signing.dump_openssh(signing.generate()))
        env["SOPS_AGE_SSH_PRIVATE_KEY_FILE"] = str(other)
        want.append(identity.parse(other.read_bytes(), "")[0].recipient)
        third = tmp_path / "ssh3"
        third.write_bytes(signing.dump_openssh(signing.generate()))
        env["SOPS_AGE_SSH_PRIVATE_KEY_CMD"] = f"cat {third}"
        want.append(identity.parse(third.read_bytes(), "")[0].recipient)
        (home / ".ssh" / "id_ed25519").write_bytes(ssh_key.read_bytes())
        want.append(identity.parse(ssh_key.read_bytes(), "")[0].recipient)
        (home / ".ssh" / "id_rsa").write_bytes(rsa_key.read_bytes())
        env["SOPS_AGE_KEY"], recipient = identity.generate()
        want.append(recipient)
        env["SOPS_AGE_KEY_FILE"] = str(tmp_path / "two")
        want.append(self.key_file(tmp_path / "two"))
        command = tmp_path / "with blank"
        env["SOPS_AGE_KEY_CMD"] = f"cat '{command}'"
        want.append(self.key_file(command))
        want.append(self.key_file(home / ".config" / "sops" / "age" / "keys.txt"))
        env["PATH"] = os.environ["PATH"]
        found = find.identities(env, str(home), config, run_commands=True)
        assert [own.recipient for own in found.identities] == want
        assert not found.problems
        assert len(found.tried) == 11
        assert [own.recipient for own in found.more()] == ["ssh-rsa"]

    def test_commands_run_only_when_allowed_and_without_a_shell(self, home: Path, config: str, tmp_path: Path) -> None:
        made = tmp_path / "made"
        env = {"SOPS_AGE_KEY_CMD": f"touch {made}", "PATH": os.environ["PATH"]}
        assert ("SOPS_AGE_KEY_CMD", "a command, not run here") in find.identities(env, str(home), config).tried
        assert not made.exists()
        env["SOPS_AGE_KEY_CMD"] = f"echo x; touch {made}"
        find.identities(env, str(home), config, run_commands=True)
        assert not made.exists()

    @pytest.mark.parametrize(
        "command", ["false", "nonexistent-kanarienvogel7", "echo 'kanarienvogel7", "''", " ", "yes"]
    )
    def test_a_failing_command_is_a_problem_that_does_not_quote_it(self, home: Path, config: str, command: str) -> None:
        if command == "yes":
            command = "echo kanarienvogel7"
        env = {"SOPS_AGE_KEY_CMD": command, "PATH": os.environ["PATH"]}
        found = find.identities(env, str(home), config, run_commands=True)
        assert len(found.problems) == 1
        assert CANARY not in str(found.problems[0]) + str(found.tried)

    def test_garbage_beside_a_good_file_is_remembered_only(self, home: Path, config: str) -> None:
        recipient = self.key_file(home / ".config" / "sops" / "age" / "keys.txt")
        env = {"SOPS_AGE_KEY": CANARY, "ZOPP_AGE_KEY_FILE": "/nowhere/at/all", "SOPS_AGE_KEY_FILE": str(home)}
        found = find.identities(env, str(home), config)
        assert [own.recipient for own in found.identities] == [recipient]
        assert len(found.problems) == 3
        assert CANARY not in str(found.problems) + str(found.tried)

    def test_xdg_config_home_is_honoured(self, home: Path, config: str, tmp_path: Path) -> None:
        recipient = self.key_file(tmp_path / "xdg" / "sops" / "age" / "keys.txt")
        found = find.identities({"XDG_CONFIG_HOME": str(tmp_path / "xdg")}, str(home), config)
        assert [own.recipient for own in found.identities] == [recipient]

    def test_keys_are_never_looked_for_in_the_work_tree(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ssh_key: Path
    ) -> None:
        """Without HOME a path made from it would be relative, and a repository could hold the key."""
        self.key_file(tmp_path / ".config" / "sops" / "age" / "keys.txt")
        self.key_file(tmp_path / "xdg" / "sops" / "age" / "keys.txt")
        (tmp_path / ".ssh").mkdir()
        (tmp_path / ".ssh" / "id_ed25519").write_bytes(ssh_key.read_bytes())
        monkeypatch.chdir(tmp_path)
        for env in ({}, {"XDG_CONFIG_HOME": "xdg"}):
            for home in ("", "."):
                assert find.identities(env, home, str(tmp_path / "none")).identities == []
        Store(str(tmp_path / "zopp")).create("planted")
        assert find.identities({}, "", "zopp").identities == []
        assert find.signing_key({}, "zopp").key is None

    def test_macos_uses_its_own_folder(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "platform", "darwin")
        assert keyfiles.config_home({}, "/h") == "/h/Library/Application Support"
        assert keyfiles.config_home({"XDG_CONFIG_HOME": "/x"}, "/h") == "/x"

    def test_a_protected_key_waits_and_is_left_alone_for_files_of_others(self, home: Path, config: str) -> None:
        made = Store(config).create("laptop", "words")
        asked: list[str] = []

        def ask(source: str) -> str:
            asked.append(source)
            return "words"

        found = find.identities({}, str(home), config)
        assert not found.identities
        assert [lock.recipient for lock in found.locked] == [made.recipient]
        assert list(found.more()) == []
        _, stranger = identity.generate()
        assert list(found.more(ask, [stranger])) == []
        assert not asked
        assert [own.recipient for own in found.more(ask, [stranger, made.recipient])] == [made.recipient]
        assert len(asked) == 1
        assert agefile.unwrap(agefile.wrap(made.recipient, b"k"), found.identities) == b"k"
        assert list(found.more(ask)) == []

    def test_a_wrong_passphrase_is_a_problem(self, home: Path, config: str) -> None:
        Store(config).create("laptop", "words")
        found = find.identities({}, str(home), config)
        assert list(found.more(lambda source: CANARY)) == []
        assert [problem.code for problem in found.problems] == ["locked"]
        assert CANARY not in str(found.problems[0])

    def test_a_pipe_may_hold_a_key(self, home: Path, config: str) -> None:
        secret, recipient = identity.generate()
        reading, writing = os.pipe()
        os.write(writing, secret.encode())
        os.close(writing)
        found = find.identities({"ZOPP_AGE_KEY_FILE": f"/dev/fd/{reading}"}, str(home), config)
        os.close(reading)
        assert [own.recipient for own in found.identities] == [recipient]

    def test_a_key_file_that_others_can_read_is_refused_for_zopps_variables_only(
        self, home: Path, config: str, tmp_path: Path
    ) -> None:
        self.key_file(tmp_path / "k")
        (tmp_path / "k").chmod(0o644)
        found = find.identities({"ZOPP_AGE_KEY_FILE": str(tmp_path / "k")}, str(home), config)
        assert [problem.code for problem in found.problems] == ["key_mode"]
        # sops reads such a file, and a drop-in that does not would be none
        assert find.identities({"SOPS_AGE_KEY_FILE": str(tmp_path / "k")}, str(home), config).identities

    def test_no_folder_at_all_is_no_problem(self) -> None:
        found = find.identities({}, "/nowhere", "/nowhere/zopp")
        assert (found.identities, found.problems, len(found.tried)) == ([], [], 4)


class TestSigningKey:
    def test_the_variables_come_first(self, config: str, ssh_key: Path, tmp_path: Path) -> None:
        Store(config).create("laptop")
        public = signing.load_openssh(ssh_key.read_bytes()).public
        for env in ({"ZOPP_SIGNING_KEY": ssh_key.read_text()}, {"ZOPP_SIGNING_KEY_FILE": str(ssh_key)}):
            key = find.signing_key(env, config).key
            assert key is not None
            assert key.public == public

    def test_a_broken_choice_is_not_replaced_by_another_key(self, config: str) -> None:
        Store(config).create("laptop")
        for env in ({"ZOPP_SIGNING_KEY": CANARY}, {"ZOPP_SIGNING_KEY_FILE": "/nowhere"}):
            found = find.signing_key(env, config)
            assert found.key is None
            assert len(found.problems) == 1
            assert CANARY not in str(found.problems[0])

    def test_the_agent_holds_it(self, config: str, ssh_key: Path, agent: str) -> None:
        store = Store(config)
        store.create("laptop")
        public = ssh_key.with_suffix(".pub").read_bytes()
        keys = Path(config, "keys")
        (keys / "laptop.ssh").unlink()
        (keys / "laptop.ssh.pub").write_bytes(public)
        env = {"SSH_AUTH_SOCK": agent}
        for chosen in (
            env,
            {**env, "ZOPP_SIGNING_KEY": public.decode()},
            {**env, "ZOPP_SIGNING_KEY_FILE": f"{ssh_key}.pub"},
        ):
            key = find.signing_key(chosen, config).key
            assert key is not None
            assert key.sign(b"m") == signing.load_openssh(ssh_key.read_bytes()).sign(b"m")
        assert find.signing_key({}, config).key is None

    def test_a_protected_key_is_asked_of_the_agent_first(self, config: str, agent: str, ssh_key: Path) -> None:
        secret, _ = identity.generate()
        Store(config).add("laptop", secret, signing.load_openssh(ssh_key.read_bytes()), signing_passphrase="words")

        def ask(source: str) -> str:
            raise AssertionError

        assert find.signing_key({"SSH_AUTH_SOCK": agent}, config, ask).key is not None
        assert find.signing_key({}, config, lambda source: "words").key is not None
        assert [problem.code for problem in find.signing_key({}, config).problems] == ["locked"]

    def test_no_key_is_no_problem(self, config: str) -> None:
        found = find.signing_key({}, config)
        assert (found.key, found.problems) == (None, [])


def test_a26_key_variables_are_named_and_the_agents_socket_is_not() -> None:
    assert len(set(find.KEY_VARIABLES)) == len(find.KEY_VARIABLES)
    assert "SSH_AUTH_SOCK" not in find.KEY_VARIABLES
    source = Path(find.__file__).read_text()
    import re

    read = set(re.findall(r'env\.get\("([A-Z_]+)"', source)) - {"SSH_AUTH_SOCK"}
    read |= set(re.findall(r'_command\("([A-Z_]+)"', source))
    assert read <= set(find.KEY_VARIABLES)


def test_reading_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / "k"
    path.write_bytes(b"#" * (keyfiles.MAX_BYTES + 1))
    path.chmod(0o600)
    with pytest.raises(ZoppError):
        keyfiles.read_private(str(path))
    assert keyfiles.quote("a b'c") == "'a b'\\''c'"
