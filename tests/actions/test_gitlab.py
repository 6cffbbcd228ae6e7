"""`actions/gitlab.yml` and the example pipeline by gitlab-ci-local's shell executor: each mode, and what it hides."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import yaml

from tests import tools
from tests.actions.conftest import SECRET, Forge, Job
from tests.actions.test_github import silent
from tests.support import ROOT

pytestmark = pytest.mark.slow


@pytest.fixture(scope="session")
def mirror(source: Path) -> tuple[str, str]:
    """A repository of what is at hand, as a mirror would have it: (its path, the commit)."""

    def git(*words: str) -> str:
        done = subprocess.run(
            ["git", "-c", "user.name=mirror", "-c", "user.email=mirror@example.org", *words], cwd=source,
            capture_output=True, check=True,
        )  # fmt: skip
        return done.stdout.decode().strip()

    git("init", "-q", ".")
    git("add", "--all", "--force")
    git("commit", "-q", "-m", "mirror")
    return str(source), git("rev-parse", "HEAD")


def pipeline(job: Job, source: tuple[str, str], text: str, *names: str, code: int = 0, **variables: str) -> str:
    """Run jobs of a pipeline in alice's repository; all that they print."""
    alice = job.alice
    alice.write("zopp-gitlab.yml", (ROOT / "actions/gitlab.yml").read_bytes())
    alice.write(
        ".gitlab-ci.yml",
        text.replace("https://gitlab.example.com/platform/zopp.git", source[0]).replace("0" * 40, source[1]),
    )
    alice.commit("pipeline")  # what is not tracked is not included
    alice.git("remote", "add", "origin", "https://gitlab.example.com/acme/api.git", check=False)
    given = {"ZOPP_TRUST": job.trust, "ZOPP_AGE_KEY": job.key, **variables}
    words = [*tools.gitlab_ci_local(), "--force-shell-executor", "--no-color"]
    for name, value in given.items():
        words += ["--variable", f"{name}={value}"]
    done = subprocess.run(
        [*words, *names], cwd=alice.repo, env={**alice.env, "HOME": str(job.base / "runner")},
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=300, check=False,
    )  # fmt: skip
    said = done.stdout.decode("utf-8", "replace")
    assert done.returncode == code, said
    return said


EXAMPLE = (ROOT / "examples/gitlab/.gitlab-ci.yml").read_text().replace("-e production", "-e dev")


def test_the_example_verifies_scans_and_deploys(job: Job, mirror: tuple[str, str]) -> None:
    alice = job.alice
    alice.write("deploy.sh", '#!/bin/sh\necho "deploys with $TOKEN"\n')
    (alice.repo / "deploy.sh").chmod(0o755)
    assert yaml.safe_load(EXAMPLE)["deploy"]["environment"] == "production"
    said = pipeline(job, mirror, EXAMPLE, "verify", "scan", "deploy")
    silent(said)
    assert "deploys with [redacted:TOKEN]" in said
    assert "ok: " in said


def test_a_merge_request_is_judged_and_the_note_kept(job: Job, mirror: tuple[str, str], forge: Forge) -> None:
    alice = job.alice
    base = alice.git("rev-parse", "HEAD")
    alice.git("checkout", "-q", "-b", "topic")
    alice.write("secrets/staging.yaml", f"PLAIN: {SECRET}\n")
    alice.commit("plaintext")
    # The local runner imitates no merge request: its rule and variables are GitLab's.
    text = EXAMPLE + "\nlocal-review:\n  extends: .zopp-review\n  rules: [{when: always}]\n"
    request = {
        "CI_MERGE_REQUEST_DIFF_BASE_SHA": base, "CI_MERGE_REQUEST_IID": "3", "CI_API_V4_URL": forge.url,
        "CI_PROJECT_ID": "12", "ZOPP_GITLAB_TOKEN": "test-token-of-no-forge",
    }  # fmt: skip
    said = pipeline(job, mirror, text, "local-review", code=1, **request)
    silent(said)
    assert "BLOCKED" in said
    assert "BLOCKED" in forge.comments[1][1]
    assert SECRET not in forge.comments[1][1]


def test_a_command_of_the_template_is_redacted(job: Job, mirror: tuple[str, str]) -> None:
    text = EXAMPLE + (
        "\nrun:\n  extends: .zopp-run\n  variables: {ZOPP_ENV: dev, ZOPP_COMMAND: 'echo \"is $$TOKEN\"; exit 4'}\n"
    )
    said = pipeline(job, mirror, text, "run", code=1)
    silent(said)
    assert "is [redacted:TOKEN]" in said
    assert "FAIL 4" in said
