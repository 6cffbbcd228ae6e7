"""`action.yml` by `act` on this machine: each mode, what it masks, what it blocks, and what a hostile branch can do."""

from __future__ import annotations

import base64
import re
import subprocess
from typing import Any

import pytest

from tests.actions.conftest import BINARIES, SECRET, Forge, Job
from tests.support import ROOT

HEAD = """
on: [push, pull_request]
permissions:
  contents: read
jobs:
  one:
    runs-on: ubuntu-latest
    env:
      ZOPP_TRUST: ${{ vars.ZOPP_TRUST }}
    steps:
      - uses: actions/checkout@v4
        with: {fetch-depth: 0, persist-credentials: false}
"""
STEP = "      - uses: zopp/zopp@v1\n        with: "
KEY = "        env:\n          ZOPP_AGE_KEY: ${{ secrets.ZOPP_AGE_KEY }}\n"
FORMS = [
    SECRET.encode(),
    base64.b64encode(SECRET.encode()).rstrip(b"="),
    SECRET.encode().hex().encode(),
]


def silent(said: str) -> None:
    for form in FORMS:
        assert form.decode() not in said, said


def step(**given: str) -> str:
    return STEP + "{" + ", ".join([f"{name}: '{text}'" for name, text in given.items()]) + "}\n"


def test_run_and_export_hide_what_they_hand_over(job: Job) -> None:
    command = 'echo "is $TOKEN"; printf %s "$TOKEN" | base64; printf %s "$TOKEN" | od -An -w64 -tx1 | tr -d " "; '
    command += 'env | grep -c -e AGE_KEY -e ZOPP_IN_ || true; test -n "$TOKEN"'
    later = '      - run: |\n          test "${#TOKEN}" = 19\n          echo "later $TOKEN"\n          zopp --version\n'
    said = job.run(
        HEAD
        + step(mode="run", env="dev", command=command)
        + KEY
        + step(mode="export", env="dev", only="TOKEN")
        + KEY
        + later
    )
    silent(said)
    assert "is [redacted:TOKEN]" in said
    assert said.count("[redacted:TOKEN]") == 3
    assert "| 0\n" in said.replace("\r", ""), said
    assert "later ***" in said
    assert "| zopp 0" in said


def test_a_command_that_fails_fails_the_step_with_its_code(job: Job) -> None:
    job.run(HEAD + step(mode="run", env="dev", command="exit 7") + KEY, code=7)
    said = job.run(HEAD + step(mode="run", env="prod", command="echo never-shown") + KEY, code=125)
    assert "| never-shown" not in said
    job.run(HEAD + step(mode="run", env="dev") + KEY, code=2)
    assert "mode must be one of" in job.run(HEAD + step(mode="destroy"), code=2)


def test_inputs_are_no_scripts(job: Job) -> None:
    """Whatever stands in them is a name that is not there."""
    hostile = "$(touch pwned); `touch pwned` ${HOME} --debug"
    for given in ({"env": hostile}, {"only": hostile}, {"project": hostile}):
        said = job.run(HEAD + step(mode="export", **given) + KEY, code=1)
        assert "touch pwned" in said
    assert not (job.alice.repo / "pwned").exists()


def test_verify_and_scan_say_where(job: Job) -> None:
    alice = job.alice
    job.run(HEAD + step(mode="verify") + step(mode="scan"))
    before = alice.git("rev-parse", "HEAD")
    alice.write("secrets/dev.yaml", alice.read("secrets/dev.yaml") + b"\n")
    alice.commit("not signed")
    assert "::error file=secrets/dev.yaml,title=zopp::" in job.run(HEAD + step(mode="verify"), code=1).replace(
        "%2F", "/"
    )
    alice.git("reset", "-q", "--hard", before)
    token = "ghp_" + "aB3dE6gH9jK2mN5pQ8sT1vW4xY7zA0cD3fG6"  # a test token of nobody
    alice.write("notes.txt", f"token {token}\n")
    alice.commit("a token")
    said = job.run(
        HEAD + step(mode="scan"), payload={"before": before, "after": alice.git("rev-parse", "HEAD")}, code=1
    )
    assert "file=notes.txt,line=1" in said
    assert token not in said


def pull(job: Job, base: str, number: int = 5) -> dict[str, Any]:
    return {
        "pull_request": {
            "number": number,
            "base": {"sha": base, "ref": "main"},
            "head": {"sha": job.alice.git("rev-parse", "HEAD"), "ref": "topic"},
        }
    }


def review(job: Job, forge: Forge, base: str, code: int, **given: str) -> str:
    return job.run(
        HEAD + step(mode="review", comment="true", **given), event="pull_request", payload=pull(job, base), code=code,
        env={"GITHUB_API_URL": forge.url},
    )  # fmt: skip


def test_a_review_needs_no_key_and_keeps_one_comment(job: Job, forge: Forge) -> None:
    alice = job.alice
    base = alice.git("rev-parse", "HEAD")
    alice.git("checkout", "-q", "-b", "topic")
    alice.ok("set", "ADDED", "-e", "dev", "-m", "added", stdin="x")
    forge.comments[1] = ("someone", "<!-- zopp review -->\nnot ours")
    silent(review(job, forge, base, 0))
    assert len(forge.comments) == 2
    login, body = forge.comments[2]
    assert login == "github-actions[bot]"
    assert "`ADDED`" in body
    assert "CLEAN" in body
    review(job, forge, base, 0)
    assert sum(method != "GET" for method, _, _ in forge.asked) == 1
    alice.write("secrets/staging.yaml", f"PLAIN: {SECRET}\n")
    alice.commit("plaintext")
    said = review(job, forge, base, 1)
    silent(said)
    assert "::error file=secrets/staging.yaml" in said
    assert len(forge.comments) == 2
    assert "BLOCKED" in forge.comments[2][1]
    assert forge.comments[1][1].endswith("not ours")
    assert SECRET not in forge.comments[2][1]
    places = {re.sub(r"/repos/[^/]+/[^/]+", "", path.partition("?")[0]) for _, path, _ in forge.asked}
    assert places == {"/issues/5/comments", "/issues/comments/2"}
    assert {header for _, _, header in forge.asked} == {"Bearer test-token-of-no-forge"}


def test_a_review_that_cannot_tell_does_not_repeat_an_earlier_one(job: Job, forge: Forge) -> None:
    alice = job.alice
    base = alice.git("rev-parse", "HEAD")
    alice.git("checkout", "-q", "-b", "topic")
    alice.ok("set", "ADDED", "-e", "dev", "-m", "added", stdin="x")
    both = step(mode="review") + step(mode="review", comment="true", range="nowhere..HEAD")
    job.run(HEAD + both, event="pull_request", payload=pull(job, base), code=1, env={"GITHUB_API_URL": forge.url})
    assert forge.comments == {}


def test_a_fork_cannot_comment_and_is_judged_all_the_same(job: Job, forge: Forge) -> None:
    alice = job.alice
    base = alice.git("rev-parse", "HEAD")
    alice.git("checkout", "-q", "-b", "topic")
    alice.write("secrets/staging.yaml", "PLAIN: text\n")
    alice.commit("plaintext")
    forge.read_only = True
    said = review(job, forge, base, 1)
    assert "the comment could not be written%3A status 403" in said or "could not be written: status 403" in said
    silent(said)


def test_names_of_a_branch_are_no_commands(job: Job, forge: Forge) -> None:
    alice = job.alice
    base = alice.git("rev-parse", "HEAD")
    alice.git("checkout", "-q", "-b", "topic")
    name = "x\n::set-env name=PWNED::yes\n::add-mask::zopp,%0A.yaml"
    alice.write(f"secrets/{name}", alice.read("secrets/dev.yaml"))
    alice.commit("hostile")
    said = review(job, forge, base, 0)
    assert "::warning file=" in said, said
    assert "PWNED" in said
    assert "::set-env::" not in said
    assert "⚙  ::set-env" not in said


@pytest.mark.slow
def test_it_installs_itself_from_its_own_commit_by_hashes(job: Job) -> None:
    said = job.run(
        HEAD + step(mode="run", env="dev", command="which zopp; zopp --version; echo $TOKEN") + KEY, install=True
    )
    assert "zopp-venv/bin/zopp" in said
    assert "[redacted:TOKEN]" in said


def test_static_checks_of_the_action_and_the_examples() -> None:
    done = subprocess.run(
        [BINARIES / "zizmor", "--offline", "--persona", "pedantic", "--no-progress", "--color", "never", "action.yml"],
        cwd=ROOT, capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()
