"""git's drivers: enrolled by init, in this clone's configuration only; `git diff` shows names and no values."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import Team, User
from zopp.repo import drivers
from zopp.repo.layout import Checkout


def rows(user: User) -> list[tuple[str, str]]:
    return [(row["level"], row["text"]) for row in user.zopp("doctor", "--json").json]


def driver_rows(user: User) -> list[tuple[str, str]]:
    words = ("driver", "converted text", "decrypts", "textconv")
    return [(level, text) for level, text in rows(user) if any(word in text for word in words)]


def test_init_and_trust_enrol(team: Team) -> None:
    for user in (team.alice, team.bob):
        assert "textconv" in user.git("config", "diff.zopp.textconv")
        assert user.git("config", "merge.zopp.recursive") == "binary"
        for name in ("zopp", "zopp-manifest", "zopp-policy"):
            assert user.git("config", f"merge.{name}.driver").endswith("f %O %A %B %L %P")
            assert "merge-driver" in user.git("config", f"merge.{name}.driver")
        assert driver_rows(user) == [("ok", "git's drivers for secrets files are set up")]
    ask = ("check-attr", "diff", "merge", "text", "--")
    assert team.alice.git(*ask, "secrets/dev.yaml").split("\n") == [
        "secrets/dev.yaml: diff: zopp", "secrets/dev.yaml: merge: zopp", "secrets/dev.yaml: text: unset",
    ]  # fmt: skip
    assert "merge: zopp-manifest" in team.alice.git(*ask, ".zopp/manifest/api/dev.json")
    assert "merge: zopp-policy" in team.alice.git(*ask, ".zopp/policy.jsonl")
    assert not team.alice.git("config", "--get-all", "include.path", check=False)
    assert not team.alice.git("config", "--get-all", "core.hooksPath", check=False)


def test_git_diff_log_and_show(team: Team) -> None:
    """What people type every day: names, types and digests, in every form that git converts."""
    alice = team.alice
    alice.set("NEW", "canary-value")
    alice.set("BASE", "other-value")
    for argv in (("diff",), ("diff", "HEAD", "--", "secrets")):
        said = alice.git(*argv)
        assert "+NEW: str " in said
        assert "-BASE: str " in said
        assert "+BASE: str " in said
    lines = [
        x
        for x in alice.git("diff", "--", "secrets/dev.yaml").split("\n")
        if x[:1] in "+-" and x[:3] not in ("+++", "---")
    ]
    assert sorted(line[:5] for line in lines) == ["+BASE", "+NEW:", "-BASE"]
    alice.commit("values")
    for argv in (("log", "-p", "-1", "--", "secrets/dev.yaml"), ("show", "HEAD", "--", "secrets/dev.yaml"),
                 ("blame", "--textconv", "secrets/dev.yaml")):  # fmt: skip
        said = alice.git(*argv)
        assert "NEW: str " in said
        assert "ENC[" not in said
        assert "canary-value" not in said


def test_git_diff_in_a_conflict(team: Team) -> None:
    alice = team.alice
    text = alice.read("secrets/dev.yaml")
    alice.write("secrets/dev.yaml", b"<<<<<<< ours\n" + text + b"=======\n" + text + b">>>>>>> theirs\n")
    said = alice.git("diff")
    assert "+<<<<<<< ours" in said
    assert "ENC[" not in said


def test_a_converter_that_is_gone_does_not_stop_git(team: Team, tmp_path: Path) -> None:
    """A virtual environment that was removed: git shows the ciphertext, and doctor says what to type."""
    alice = team.alice
    checkout = Checkout(str(alice.repo), str(alice.repo / ".git"), str(alice.repo / ".git"))
    drivers.enroll(checkout, [str(tmp_path / "gone/zopp")])
    alice.set("BASE", "v2")
    path = {"PATH": "/usr/bin:/bin"}
    done = subprocess.run(["git", "diff"], cwd=alice.repo, env={**alice.env, **path}, capture_output=True, check=True)
    assert b"ENC[AES256_GCM" in done.stdout
    assert ("warn", "git's drivers start a zopp that is not there any more: zopp git enroll") in driver_rows(alice)
    # Where there is another zopp on PATH, that one is asked.
    binaries = tmp_path / "bin"
    binaries.mkdir()
    (binaries / "zopp").write_text("#!/bin/sh\necho converted by $1\n")
    (binaries / "zopp").chmod(0o755)
    path = {"PATH": f"{binaries}:/usr/bin:/bin"}
    alice.commit("v2")
    done = subprocess.run(
        ["git", "show", "HEAD", "--", "secrets"],
        cwd=alice.repo,
        env={**alice.env, **path},
        capture_output=True,
        check=True,
    )
    assert b"ENC[" not in done.stdout
    alice.ok("git", "enroll")
    assert driver_rows(alice) == [("ok", "git's drivers for secrets files are set up")]


def test_a_program_with_odd_characters_in_its_path(team: Team, tmp_path: Path) -> None:
    alice = team.alice
    folder = tmp_path / 'it\'s a $HOME `id` "folder"'
    folder.mkdir()
    program = folder / "zopp"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m zopp.cli.main "$@"\n')
    program.chmod(0o755)
    checkout = Checkout(str(alice.repo), str(alice.repo / ".git"), str(alice.repo / ".git"))
    drivers.enroll(checkout, [str(program)])
    alice.set("BASE", "v2")
    env = {**alice.env, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(["git", "diff"], cwd=alice.repo, env=env, capture_output=True, check=True)
    assert b"+BASE: str " in done.stdout


def test_the_work_tree_gives_no_modules(team: Team) -> None:
    """git starts converters in the top of the work tree: a module there is not imported, however zopp is started."""
    alice = team.alice
    for name in ("zopp", "os", "re", "json"):
        alice.write(f"{name}.py", f"open({str(alice.home / 'pwned')!r}, 'w')\n")
    alice.set("BASE", "v2")
    assert "+BASE: str " in alice.git("diff", "--", "secrets")
    checkout = Checkout(str(alice.repo), str(alice.repo / ".git"), str(alice.repo / ".git"))
    drivers.enroll(checkout, [sys.executable, "-P", "-m", "zopp.cli.main"])
    assert "+BASE: str " in alice.git("diff", "--", "secrets")
    assert not (alice.home / "pwned").exists()


@pytest.mark.parametrize(
    ("arrange", "level", "words"),
    [
        ([("config", "diff.zopp.cachetextconv", "true")], "fail", "cachetextconv stores converted text"),
        ([("update-ref", "refs/notes/textconv/zopp", "HEAD")], "fail", "refs/notes/textconv/zopp holds converted text"),
        ([("config", "--remove-section", "diff.zopp")], "fail", "names drivers that this clone does not define"),
        (
            [("config", "--remove-section", "merge.zopp-policy")],
            "fail",
            "names drivers that this clone does not define",
        ),
        ([("config", "diff.zopp.textconv", "sops decrypt")], "warn", "is another command than zopp's"),
    ],
)
def test_doctor(team: Team, arrange: list[tuple[str, ...]], level: str, words: str) -> None:
    alice = team.alice
    for argv in arrange:
        alice.git(*argv)
    assert any(found == level and words in text for found, text in driver_rows(alice)), driver_rows(alice)
    assert alice.zopp("doctor").code == (1 if level == "fail" else 0)
    assert alice.zopp("git", "status").code == (1 if level == "fail" else 0)


def test_doctor_on_a_plaintext_converter_of_ones_own(team: Team) -> None:
    alice = team.alice
    text = alice.read(".git/info/attributes").decode()
    alice.write(".git/info/attributes", text + "secrets/*.yaml diff=sopsdiffer\n")
    alice.git("config", "diff.sopsdiffer.textconv", "sops decrypt")
    alice.git("config", "diff.sopsdiffer.cachetextconv", "true")
    found = driver_rows(alice)
    assert any("sopsdiffer.textconv decrypts" in text for _, text in found), found
    assert any(level == "fail" and "diff.sopsdiffer.cachetextconv" in text for level, text in found)


def test_leave_and_enrol_again(team: Team) -> None:
    alice = team.alice
    alice.ok("git", "leave")
    assert alice.git("config", "diff.zopp.textconv", check=False) == ""
    assert alice.zopp("git", "status").code == 1
    assert alice.ok("git", "enroll", "--json").json["set"]
    assert alice.ok("git", "enroll", "--json").json["set"] == []
    assert alice.zopp("git", "status").out.startswith("ok")
