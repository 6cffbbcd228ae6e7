"""`zopp hooks`: installed, chained, refused, taken out again; what doctor says; the pre-commit framework."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.scan.repo import ROOT, Repo, token

TOKEN = token(31)


def states(repo: Repo) -> dict[str, str]:
    import json

    said = repo.zopp("hooks", "status", "pre-commit", "pre-push", "--json")
    return {row["name"]: row["state"] for row in json.loads(said.out)}


def test_install_status_uninstall(repo: Repo) -> None:
    assert states(repo) == {"pre-commit": "missing", "pre-push": "missing"}
    assert repo.zopp("hooks", "status").code == 1
    said = repo.zopp("hooks", "install")
    assert said.code == 0 and "hook pre-commit is installed" in said.err
    assert states(repo) == {"pre-commit": "installed", "pre-push": "installed"}
    assert repo.zopp("hooks", "status").code == 0
    repo.stage("a.txt", TOKEN)
    repo.git("commit", "-q", "-m", "x", code=1)
    assert repo.zopp("hooks", "uninstall").code == 0
    assert states(repo) == {"pre-commit": "missing", "pre-push": "missing"}
    repo.git("commit", "-q", "-m", "x")


def foreign(repo: Repo, text: str = "#!/bin/sh\necho ran >> ran\n") -> Path:
    path = repo.path / ".git/hooks/pre-commit"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def test_a_foreign_hook_is_refused_with_words_and_kept(repo: Repo) -> None:
    path = foreign(repo)
    before = path.read_text()
    said = repo.zopp("hooks", "install")
    assert said.code == 2 and "did not write" in said.err and "--chain" in said.err
    assert path.read_text() == before
    assert states(repo) == {"pre-commit": "foreign", "pre-push": "missing"}
    assert repo.zopp("hooks", "uninstall").code == 0
    assert path.read_text() == before


def test_chained(repo: Repo) -> None:
    """The one from before runs first, stops where it stops, and comes back."""
    path = foreign(repo)
    before = path.read_text()
    assert repo.zopp("hooks", "install", "--chain").code == 0
    repo.stage("a.txt", "x\n")
    repo.git("commit", "-q", "-m", "x")
    assert (repo.path / "ran").read_text() == "ran\n"
    repo.stage("b.txt", TOKEN)
    repo.git("commit", "-q", "-m", "x", code=1)
    assert repo.zopp("hooks", "install", "--chain").code == 0, "again is the same"
    (path.parent / "pre-commit.before-zopp").write_text("#!/bin/sh\nexit 7\n")
    repo.git("reset", "-q", "--hard")
    repo.stage("c.txt", "x\n")
    repo.git("commit", "-q", "-m", "x", code=1)
    (path.parent / "pre-commit.before-zopp").write_text(before)
    assert repo.zopp("hooks", "uninstall").code == 0
    assert path.read_text() == before


@pytest.mark.parametrize("how", ["sh pre-commit", "./pre-commit", '"$PWD/pre-commit"'])
def test_the_one_from_before_is_found_however_the_hook_is_called(repo: Repo, how: str) -> None:
    """No process is started to find it."""
    path = foreign(repo)
    assert repo.zopp("hooks", "install", "--chain").code == 0
    assert "$(dirname" not in path.read_text()
    done = subprocess.run(["sh", "-c", how], cwd=path.parent, env=repo.env, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    assert (path.parent / "ran").read_text() == "ran\n"


def test_nothing_beside_zopp_takes_the_place_of_the_standard_library(repo: Repo) -> None:
    """A `json.py` or `stat.py` among installed packages is not loaded."""
    beside = repo.base / "beside"
    beside.mkdir()
    for name in ("stat", "json", "re", "tomllib", "binascii", "zlib"):
        (beside / f"{name}.py").write_text("raise SystemExit(0)\n")
    assert repo.zopp("hooks", "install", "pre-commit").code == 0
    path = repo.path / ".git/hooks/pre-commit"
    path.write_text(path.read_text().replace("sys.path += [", f"sys.path += ['\"'\"'{beside}'\"'\"', "))
    assert str(beside) in path.read_text()
    repo.stage("a.txt", f"password = '{TOKEN}'\n")
    assert subprocess.run([path], cwd=repo.path, env=repo.env, capture_output=True, check=False).returncode == 1


def test_a_chained_pre_push_gets_what_git_hands_it(repo: Repo, tmp_path: Path) -> None:
    path = repo.path / ".git/hooks/pre-push"
    path.parent.mkdir(exist_ok=True)
    path.write_text('#!/bin/sh\ncat > ../seen\necho "$@" >> ../seen\n')
    path.chmod(0o755)
    assert repo.zopp("hooks", "install", "pre-push", "--chain").code == 0
    repo.git("init", "-q", "--bare", str(tmp_path / "bare.git"))
    repo.git("remote", "add", "origin", str(tmp_path / "bare.git"))
    repo.stage("a.txt", TOKEN)
    repo.commit()
    repo.git("push", "-q", "origin", "HEAD:main", code=1)
    seen = (tmp_path / "seen").read_text()
    assert seen.startswith("HEAD ") and "refs/heads/main" in seen and "origin" in seen


def test_hooks_path_in_the_tree_is_refused(repo: Repo) -> None:
    repo.git("config", "core.hooksPath", "hooks")
    said = repo.zopp("hooks", "install")
    assert said.code == 3 and "work tree" in said.err
    assert not (repo.path / "hooks").exists()
    outside = repo.base / "my-hooks"
    repo.git("config", "core.hooksPath", str(outside))
    assert repo.zopp("hooks", "install").code == 0
    assert sorted(os.listdir(outside)) == ["post-merge", "pre-commit", "pre-merge-commit", "pre-push"]


def test_outdated_and_not_executable(repo: Repo) -> None:
    repo.hook()
    path = repo.path / ".git/hooks/pre-commit"
    path.chmod(0o644)
    assert states(repo)["pre-commit"] == "not-executable"
    path.chmod(0o755)
    path.write_text(path.read_text().replace(sys.executable, "/gone/python"))
    assert states(repo)["pre-commit"] == "outdated"
    repo.stage("a.txt", "x\n")
    repo.git("commit", "-q", "-m", "x", code=1)
    assert "zopp hooks install" in repo.said
    assert repo.zopp("hooks", "install").code == 0
    assert states(repo)["pre-commit"] == "installed"


def test_unknown_hook_is_an_error(repo: Repo) -> None:
    said = repo.zopp("hooks", "install", "pre-comit")
    assert said.code == 1 and "did you mean pre-commit?" in said.err


def test_doctor_says_how_they_stand(repo: Repo) -> None:
    said = repo.zopp("doctor")
    assert "hooks pre-commit, pre-push, pre-merge-commit, post-merge: not installed: zopp hooks install" in said.out
    repo.hook()
    said = repo.zopp("doctor").out
    assert "hooks pre-commit, pre-push" in said and "not installed" not in said
    repo.git("config", "core.hooksPath", "hooks")
    assert "work tree" in repo.zopp("doctor").out


def test_a_linked_work_tree_shares_them(repo: Repo) -> None:
    repo.git("worktree", "add", "-q", "../linked", "-b", "other")
    assert repo.zopp("hooks", "install", cwd=repo.base / "linked").code == 0
    assert states(repo) == {"pre-commit": "installed", "pre-push": "installed"}


def test_the_frameworks_definitions() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    assert [hook["id"] for hook in hooks] == ["zopp-guard", "zopp-verify"]
    assert hooks[0]["require_serial"] is True
    assert not any("sign" in hook["entry"] for hook in hooks)


@pytest.mark.parametrize("name", ["pre-commit", "pre-push"])
def test_the_script_is_a_shell_script(repo: Repo, name: str) -> None:
    import subprocess

    repo.hook()
    path = repo.path / ".git/hooks" / name
    assert subprocess.run(["sh", "-n", path], check=False).returncode == 0
    assert "-I -S" in path.read_text()


@pytest.fixture
def framework(repo: Repo) -> Repo:
    """The real pre-commit framework with our definitions, run from this environment instead of one that it installs."""
    bin_ = Path(sys.executable).parent
    hooks = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    for hook in hooks:
        hook["language"] = "system"
        hook["entry"] = f"{bin_}/{hook['entry']}"
    repo.write(".pre-commit-config.yaml", yaml.safe_dump({"repos": [{"repo": "local", "hooks": hooks[:1]}]}))
    repo.env["PATH"] = f"{bin_}:{repo.env['PATH']}"
    repo.env["PRE_COMMIT_HOME"] = str(repo.base / "pre-commit")
    repo.add()
    repo.commit()
    return repo


def pre_commit(repo: Repo, *argv: str) -> tuple[int, str]:
    import subprocess

    done = subprocess.run(["pre-commit", *argv], cwd=repo.path, env=repo.env, capture_output=True, check=False)
    return done.returncode, (done.stdout + done.stderr).decode()


def test_the_framework_judges_the_index_in_a_commit(framework: Repo) -> None:
    code, said = pre_commit(framework, "install")
    assert code == 0, said
    assert "the pre-commit framework's" in framework.zopp("doctor").out
    framework.stage("old.txt", TOKEN + "\n")
    framework.commit()
    framework.stage("a.txt", "x\n")
    framework.stage("old.txt", f"more\n{TOKEN}\n")
    framework.git("commit", "-q", "-m", "an old token in a touched file")
    framework.stage("b.txt", TOKEN + "\n")
    framework.write("b.txt", "cleaned\n")
    framework.git("commit", "-q", "-m", "x", code=1)
    assert "b.txt:1:1: github-token" in framework.said


def test_the_framework_sweeps_all_files(framework: Repo) -> None:
    """What other tools answer with 0 bytes and a pass."""
    framework.stage("old.txt", TOKEN + "\n")
    framework.commit()
    code, said = pre_commit(framework, "run", "zopp-guard", "--all-files")
    assert code == 1 and "old.txt:1:1: github-token" in said
    framework.git("rm", "-q", "-f", "old.txt")
    framework.commit()
    code, said = pre_commit(framework, "run", "zopp-guard", "--all-files", "--verbose")
    assert code == 0 and "2 files" in said, said


def test_the_framework_runs_for_a_deletion(framework: Repo) -> None:
    """Nothing is handed over then, and the hook runs all the same."""
    framework.stage("zopp.toml", "[guard]\n")
    framework.commit()
    framework.git("rm", "-q", "zopp.toml")
    code, said = pre_commit(framework, "run", "--verbose")
    assert code == 0 and "zopp guard" in said and "Passed" in said, said
