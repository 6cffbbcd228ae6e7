"""`zopp review` in real repositories: what it says of a branch, and what it refuses, without any key."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import Team, User

CANARY = "canary-7f3a91c2"
MALLORY = "age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj"  # the example recipient of age's README
FILE = "secrets/dev.yaml"


@pytest.fixture
def alice(team: Team) -> User:
    """alice on branch `topic`, dev holding BASE, OLD and a canary; main is the base."""
    alice = team.alice
    alice.set("OLD", CANARY)
    alice.share("before")
    alice.git("checkout", "-q", "-b", "topic")
    return alice


def review(user: User, *argv: str, code: int, span: str = "main..topic") -> dict[str, object]:
    """The JSON of a review, which holds no canary in any form; the work tree stays as it is."""
    before = user.tree()
    done = user.zopp("review", span, "--json", *argv, code=code)
    for form in ((), ("--markdown",), ("--sarif", str(user.home / "r.sarif"))):
        said = user.zopp("review", span, *argv, *form, code=code)
        assert CANARY not in said.text
    assert CANARY not in done.text + (user.home / "r.sarif").read_text()
    assert user.tree() == before
    found: dict[str, object] = done.json
    assert found["exit_code"] == code
    return found


def codes(found: dict[str, object], severity: str = "blocker") -> set[str]:
    return {r["code"] for r in found["remarks"] if r["severity"] == severity}  # type: ignore[attr-defined]


def test_keys_by_name(alice: User) -> None:
    alice.set("NEW_KEY", CANARY + "n")
    alice.set("BASE", CANARY + "b")
    alice.ok("unset", "OLD", "-e", "dev", "--yes")
    alice.commit()
    found = review(alice, code=0)
    (env,) = found["environments"]  # type: ignore[misc]
    assert env["environment"] == "api/dev"
    (file,) = env["files"]
    assert file["path"] == FILE
    assert file["keys"] == {"added": ["NEW_KEY"], "removed": ["OLD"], "changed": ["BASE"]}
    assert env["recipients"] == {"added": [], "removed": []}
    assert (env["manifest"]["ok"], env["manifest"]["signer"]) == (True, "alice-laptop")
    assert codes(found, "warning") == {"key.elsewhere"}
    shown = alice.zopp("review", "main..topic").out
    assert "+ NEW_KEY" in shown and "- OLD" in shown and "~ BASE" in shown and "CLEAN" in shown


def test_nothing_changes(alice: User) -> None:
    alice.write("README.md", "words\n")
    alice.commit()
    found = review(alice, code=0)
    assert (found["environments"], found["remarks"], found["statements"]) == ([], [], [])
    assert "nothing about secrets or policy changes" in alice.ok("review", "main..topic").out


def test_a_stranger_without_keys(alice: User, tmp_path: Path) -> None:
    """A job on a fork: a clone, no key, no memory, the pin in a variable."""
    alice.set("NEW", "x")
    alice.commit()
    trust = alice.ok("trust", "--print").out.strip()
    stranger = User("stranger", "nobody", tmp_path / "far", folder="clone")
    stranger.home.mkdir(parents=True)
    subprocess.run(["git", "clone", "-q", str(alice.repo), str(stranger.repo)], check=True)
    stranger.git("checkout", "-q", "--detach", "origin/main")
    span = "origin/main..origin/topic"
    done = stranger.zopp("review", span, env={"CI": "true"}, code=3)
    assert "ZOPP_TRUST" in done.text
    found = review(stranger, code=3, span=span)
    assert codes(found, "unknown") == {"unpinned"}
    stranger.extra = {"ZOPP_TRUST": trust, "CI": "true"}
    found = review(stranger, code=0, span=span)
    assert [env["environment"] for env in found["environments"]] == ["api/dev"]  # type: ignore[attr-defined]
    stranger.extra = {"ZOPP_TRUST": trust.replace(alice.state().ws[:8], "00000000"), "CI": "true"}
    assert stranger.zopp("review", span).code == 1


def test_policy_in_words_and_why_someone_may_read(alice: User) -> None:
    alice.ok("grant", "bob", "read", "api/dev")
    alice.commit()
    found = review(alice, code=0)
    (statement,) = found["statements"]  # type: ignore[misc]
    assert (statement["words"], statement["by"]) == ("bob may read api/dev", "alice-laptop")
    (env,) = found["environments"]  # type: ignore[misc]
    (who,) = env["recipients"]["added"]
    assert who == {"name": "bob-laptop", "why": f"granted here by alice-laptop, statement {statement['seq']}"}
    assert "bob may read api/dev, signed by alice-laptop" in alice.ok("review", "main..topic").out
    alice.git("checkout", "-q", "main")
    alice.git("merge", "-q", "--ff-only", "topic")
    alice.git("checkout", "-q", "-b", "away")
    alice.ok("revoke", "bob", "api/dev")
    alice.commit()
    found = review(alice, code=0, span="main..away")
    (env,) = found["environments"]  # type: ignore[misc]
    assert [who["name"] for who in env["recipients"]["removed"]] == ["bob-laptop"]
    assert env["data_key"] == "new"
    assert env["full_rewrap"] is True


def test_a_new_admin_is_a_warning(alice: User) -> None:
    alice.ok("grant", "bob", "admin", "api")
    alice.commit()
    assert "policy.admin" in codes(review(alice, code=0), "warning")


# --- what blocks


def text(change: Callable[[str], str], path: str = FILE) -> Callable[[User], None]:
    def do(user: User) -> None:
        before = user.read(path).decode()
        after = change(before)
        assert after != before
        user.write(path, after)

    return do


def _line(text: str, key: str) -> str:
    return next(line for line in text.split("\n") if line.startswith(key + ":"))


def older(user: User) -> None:
    old = user.read(FILE)
    user.set("BASE", "newer")
    user.commit()
    user.git("checkout", "-q", "main")
    user.git("merge", "-q", "--ff-only", "topic")
    user.git("checkout", "-q", "topic")
    user.write(FILE, old)


def link(user: User) -> None:
    user.path(FILE).rename(user.path("secrets/real.yaml"))
    user.path(FILE).symlink_to("real.yaml")


def nested(user: User) -> None:
    user.write("secrets/zopp.toml", user.read("zopp.toml").decode().replace('project = "api"', 'project = "api2"')
               .replace("workspace = \"acme\"", "workspace = \"evil\""))  # fmt: skip


def foreign_statement(user: User) -> None:
    line = user.read(".zopp/policy.jsonl").split(b"\n")[-2]
    user.write(".zopp/policy.jsonl", user.read(".zopp/policy.jsonl") + line + b"\n")


def parted(user: User) -> None:
    user.ok("group", "create", "here")
    user.commit()
    user.git("checkout", "-q", "main")
    user.ok("group", "create", "there")
    user.commit()
    user.git("checkout", "-q", "topic")


def unlisted(user: User) -> None:
    user.write("secrets/more.yaml", user.read(FILE))


ENTRY = "        - enc: |\n"


def entry_gone(text: str) -> str:
    """The last recipient of the block is taken away by hand."""
    assert text.count(ENTRY) > 1
    return text[: text.rindex(ENTRY)] + text[text.index("    lastmodified:") :]


def entry_added(text: str) -> str:
    """A stranger's recipient with somebody else's wrapped key."""
    entry = text[text.index(ENTRY) : text.index("    lastmodified:")]
    ours = entry.rpartition("recipient: ")[2].strip()
    return text.replace(entry, entry + entry.replace(ours, MALLORY))


def mac_gone(text: str) -> str:
    return "".join(line for line in text.splitlines(keepends=True) if not line.startswith("    mac:"))


BLOCKED: dict[str, tuple[Callable[[User], None], str]] = {
    "plaintext": (text(lambda t: t.replace(_line(t, "OLD"), f"OLD: {CANARY}")), "value.bared"),
    "clear key": (text(lambda t: f"MORE: {CANARY}\n" + t), "file.changed"),
    "recipient added": (text(entry_added), "recipient.unknown"),
    "selector": (text(lambda t: t.replace("    unencrypted_suffix: _unencrypted\n", "    encrypted_regex: ^X$\n")),
                 "selector.changed"),
    "mac gone": (text(mac_gone), "mac.missing"),
    "mac of a part": (text(lambda t: t.replace("    unenc", "    mac_only_encrypted: true\n    unenc")), "selector."),
    "markers": (text(lambda t: "<<<<<<< a\n" + t.replace("sops:", "=======\n>>>>>>> b\nsops:", 1)), "file.changed"),
    "truncated": (text(lambda t: t[: len(t) // 2]), "file.changed"),
    "renamed by hand": (text(lambda t: t.replace("OLD:", "SOLD:", 1)), "file.changed"),
    "older": (older, "file.changed"),
    "link": (link, "path.link"),
    "manifest gone": (lambda u: u.path(".zopp/manifest/api/dev.json").unlink(), "manifest.missing"),
    "signature gone": (lambda u: u.path(".zopp/manifest/api/dev.json.sig").unlink(), "manifest.unsigned"),
    "policy gone": (lambda u: u.path(".zopp/policy.jsonl").unlink(), "policy.lost"),
    "policy foreign": (foreign_statement, "policy."),
    "policy parted": (parted, "policy.parted"),
    "anchor gone": (lambda u: u.path("zopp.toml").unlink(), "anchor.lost"),
    "anchor changed": (text(lambda t: t.replace('genesis = "', 'genesis = "0'), "zopp.toml"), "anchor.broken"),
    "anchor nested": (nested, "anchor.nested"),
    "sops rules": (text(lambda t: t.replace("age: '", f"age: '{MALLORY},", 1), ".sops.yaml"), "sops_config"),
    "sops rules nested": (lambda u: u.write("secrets/.sops.yaml", "creation_rules: []\n"), "sops_config"),
    "attributes": (lambda u: u.write("secrets/.gitattributes", "*.yaml text eol=crlf\n"), "git.attributes"),
    "unlisted": (unlisted, "file.unlisted"),
}  # fmt: skip


@pytest.mark.parametrize("what", BLOCKED)
def test_blocked(alice: User, what: str) -> None:
    """From a checkout of main, with no key: nothing of the branch is checked out or used."""
    do, code = BLOCKED[what]
    do(alice)
    alice.git("add", "--all", "--force")
    alice.git("commit", "-qm", "innocent", "--allow-empty")
    alice.git("checkout", "-q", "--force", "main")
    alice.git("clean", "-qfd")
    keys = alice.home / ".config/zopp/keys"
    shutil.move(keys, alice.home / "away")
    found = review(alice, code=1)
    assert any(each.startswith(code) for each in codes(found)), found["remarks"]


def test_a_reader_removed_under_the_same_data_key_blocks(team: Team) -> None:
    """What `sops updatekeys` does after somebody left (spec §3)."""
    alice = team.alice
    team.grant("bob", "read", "api/dev")
    alice.git("checkout", "-q", "-b", "topic")
    alice.write(FILE, entry_gone(alice.read(FILE).decode()))
    alice.commit()
    found = review(alice, code=1)
    assert "not_rotated.removed" in codes(found)
    (env,) = found["environments"]  # type: ignore[misc]
    assert env["data_key"] == "same" and len(env["recipients"]["removed"]) == 1


def test_a_manifest_by_a_reader_blocks(team: Team) -> None:
    team.grant("bob", "read", "api/dev")
    bob = team.bob
    bob.pull()
    bob.git("checkout", "-q", "-b", "topic")
    bob.sign_manifest("dev")
    bob.commit()
    assert codes(review(bob, code=1)) & {"not_writer_now", "not_writer_then"}


def test_what_the_base_has_already_is_marked(alice: User) -> None:
    alice.git("checkout", "-q", "main")
    alice.write("secrets/more.yaml", alice.read(FILE))
    alice.commit()
    alice.git("checkout", "-q", "-B", "topic")
    alice.set("BASE", "x")
    alice.commit()
    found = review(alice, code=1)
    assert [r["in_base"] for r in found["remarks"] if r["code"] == "file.unlisted"] == [True]  # type: ignore[attr-defined]


# --- warnings


@pytest.mark.parametrize(
    ("path", "data", "code"),
    [
        (".github/workflows/ci.yml", "on: push\n", "guarding"),
        (".gitlab-ci.yml", "a: 1\n", "guarding"),
        ("CODEOWNERS", "* @x\n", "guarding"),
        ("app/.gitattributes", "*.py diff=python\n", "guarding"),
    ],
)
def test_what_guards_is_a_warning(alice: User, path: str, data: str, code: str) -> None:
    alice.write(path, data)
    alice.commit()
    found = review(alice, code=0)
    assert [(r["code"], r["place"]) for r in found["remarks"]] == [(code, path)]  # type: ignore[attr-defined]


def test_default_environment_and_own_rules(alice: User) -> None:
    alice.replace("zopp.toml", 'default_env = "dev"', 'default_env = "prod"')
    alice.write(
        ".sops.yaml", alice.read(".sops.yaml").decode() + "    - path_regex: other\n      age: " + MALLORY + "\n"
    )
    alice.commit()
    assert codes(review(alice, code=0), "warning") == {"default_env.changed", "guarding"}


def test_a_base_that_moved_on_is_said(alice: User) -> None:
    alice.set("BASE", "here")
    alice.commit()
    alice.git("checkout", "-q", "main")
    alice.set("BASE", "there", env="prod")
    alice.ok("grant", "bob", "read", "api/staging")
    alice.commit()
    found = review(alice, code=0)
    assert found["behind"] == 1
    assert codes(found, "note") >= {"behind", "policy.behind"}
    assert [env["environment"] for env in found["environments"]] == ["api/dev"]  # type: ignore[attr-defined]


# --- what cannot be told


def test_no_common_commit(alice: User) -> None:
    alice.git("checkout", "-q", "--orphan", "topic2")
    alice.commit()
    assert "review.no_base" in alice.zopp("review", "main..topic2", "--json", code=3).out


def test_no_workspace_in_the_base(alice: User) -> None:
    empty = alice.git("commit-tree", "-m", "x", "4b825dc642cb6eb9a060e54bf8d69288fbee4904")
    child = alice.git("commit-tree", "-m", "y", "-p", empty, "HEAD^{tree}")
    done = alice.zopp("review", f"{empty}..{child}", code=3)
    assert "no zopp.toml" in done.err


def test_a_shallow_clone_says_what_to_fetch(alice: User, tmp_path: Path) -> None:
    alice.set("BASE", "x")
    alice.commit()
    alice.set("BASE", "y")
    alice.share()
    shallow = tmp_path / "shallow"
    subprocess.run(
        ["git", "clone", "-q", "--depth", "1", "--no-single-branch", f"file://{alice.repo}", shallow], check=True
    )
    clone = User("alice", alice.principal, alice.base, folder=str(shallow))
    done = clone.zopp("review", "origin/main..origin/topic", code=3)
    assert "fetch" in done.err


@pytest.mark.parametrize("span", ["main", "..", "nowhere..HEAD", "main..nowhere", "--upload-pack=x..HEAD", "main..-x"])
def test_ranges_that_are_none(alice: User, span: str) -> None:
    done = alice.zopp("review", span)
    assert done.code in (1, 2) and done.err.startswith("zopp: ")


def test_outside_a_work_tree(alice: User, tmp_path: Path) -> None:
    subprocess.run(["git", "clone", "-q", "--bare", str(alice.repo), tmp_path / "bare.git"], check=True)
    done = alice.zopp("review", "main..topic", cwd=tmp_path / "bare.git")
    assert done.code == 1 and "not inside a git working copy" in done.err


# --- hostile repositories


def test_replacements_and_other_folders_of_git_do_not_count(alice: User, tmp_path: Path) -> None:
    """`git replace` shows a harmless file, GIT_DIR points elsewhere: the objects of the commits are judged."""
    good = alice.git("rev-parse", f"main:{FILE}")
    alice.write(FILE, alice.read(FILE) + b"MORE: x\n")
    alice.commit()
    alice.git("replace", alice.git("rev-parse", f"topic:{FILE}"), good)
    elsewhere = tmp_path / "elsewhere"
    subprocess.run(["git", "init", "-q", elsewhere], check=True)
    done = alice.zopp("review", "main..topic", env={"GIT_DIR": str(elsewhere / ".git")})
    assert done.code == 1 and "file.changed" in done.out


def test_submodule_and_newline(alice: User) -> None:
    commit = alice.git("rev-parse", "HEAD")
    alice.git("update-index", "--add", "--cacheinfo", f"160000,{commit},secrets/sub")
    alice.path("a\nb.yaml").write_text("x: 1\n")
    alice.git("add", "a\nb.yaml")
    alice.git("commit", "-qm", "odd")
    assert alice.zopp("review", "main..topic", "--json", code=0).json["verdict"] == "clean"
    alice.git("rm", "-q", "--cached", FILE)
    alice.git("update-index", "--add", "--cacheinfo", f"160000,{commit},{FILE}")
    alice.git("commit", "-qm", "odder")
    done = alice.zopp("review", "main..topic", code=1)
    assert "is a submodule" in done.out


def test_sarif(alice: User) -> None:
    alice.write(FILE, alice.read(FILE) + b"MORE: x\n")
    alice.commit()
    alice.zopp("review", "main..topic", "--sarif", "out.sarif", code=1)
    log = json.loads(alice.read("out.sarif"))
    (run,) = log["runs"]
    rules = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
    assert log["version"] == "2.1.0" and len(set(rules)) == len(rules)
    for result in run["results"]:
        assert rules[result["ruleIndex"]] == result["ruleId"]
        assert result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
    assert any(r["level"] == "error" for r in run["results"])
