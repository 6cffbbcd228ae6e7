"""The one comment that is kept up to date, at a stand-in for the forges: whose it is, what fails, and what is sent."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.actions.conftest import SECRET, Forge
from tests.support import ROOT, script

BODY = "<!-- zopp review -->\n### zopp: CLEAN\n"


comment = script("actions/comment.py")


def gitlab(forge: Forge):
    return comment.GitLab(forge.url, "token", "a/b", 3)


def github(forge: Forge):
    return comment.GitHub(forge.url, "token", "a/b", 3)


@pytest.mark.parametrize("make", [github, gitlab])
def test_it_is_created_once_then_updated_and_never_somebody_elses(forge: Forge, make) -> None:
    forge.comments = {1: ("mallory", BODY), 2: ("github-actions[bot]", "another matter\n" + BODY)}
    assert comment.keep(make(forge), BODY) == "created"
    assert comment.keep(make(forge), BODY) == "unchanged"
    assert comment.keep(make(forge), BODY + "more\n") == "updated"
    assert forge.comments[1][1] == BODY
    assert forge.comments[2][1] == "another matter\n" + BODY
    assert forge.comments[3][1] == BODY + "more\n"
    assert len(forge.comments) == 3


@pytest.mark.parametrize("make", [github, gitlab])
def test_it_is_found_behind_many_others(forge: Forge, make) -> None:
    forge.comments = dict.fromkeys(range(1, 251), ("someone", "x"))
    forge.comments[230] = ("github-actions[bot]", BODY.replace("\n", "\r\n"))
    assert comment.keep(make(forge), BODY) == "unchanged"


@pytest.mark.parametrize("make", [github, gitlab])
def test_what_the_forge_says_is_not_repeated(forge: Forge, make) -> None:
    forge.read_only = True
    with pytest.raises(comment.Refused) as raised:
        comment.keep(make(forge), BODY)
    assert str(raised.value) == "status 403"
    assert SECRET not in str(raised.value)


def test_a_long_body_is_cut_at_a_line(forge: Forge) -> None:
    comment.keep(github(forge), BODY + "line of text\n" * 10_000)
    written = forge.comments[1][1]
    assert len(written) < comment.MOST + 100
    assert written.endswith("line of text\n\n… cut; the job's summary has all of it\n")


@pytest.mark.parametrize("url", ["http://example.com", "ftp://x", "", "http://127.0.0.1.example.com:1"])
def test_a_token_goes_nowhere_in_the_clear(url: str) -> None:
    with pytest.raises(comment.Refused, match="not https"):
        comment.keep(comment.GitHub(url, "token", "a/b", 3), BODY)


def test_without_a_token_or_merge_request_nothing_is_written(tmp_path: Path) -> None:
    path = tmp_path / "body.md"
    path.write_text(BODY)
    for env in ({}, {"ZOPP_GITLAB_TOKEN": "x"}, {"CI_MERGE_REQUEST_IID": "3"}):
        done = subprocess.run(
            [sys.executable, "-I", ROOT / "actions/comment.py", "gitlab", path],
            env=env,
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0
        assert b"no note is written" in done.stderr
    assert subprocess.run([sys.executable, "-I", ROOT / "actions/comment.py"], capture_output=True).returncode == 2


def test_a_gitlab_job_keeps_its_note(forge: Forge, tmp_path: Path) -> None:
    path = tmp_path / "body.md"
    path.write_text(BODY)
    env = {
        "ZOPP_GITLAB_TOKEN": "x", "CI_MERGE_REQUEST_IID": "3", "CI_PROJECT_ID": "12", "CI_API_V4_URL": forge.url,
    }  # fmt: skip
    words = [sys.executable, "-I", ROOT / "actions/comment.py", "gitlab", path]
    assert b"note created" in subprocess.run(words, env=env, capture_output=True, check=True).stderr
    assert ("POST", "/projects/12/merge_requests/3/notes") in [(method, path) for method, path, _ in forge.asked]
    forge.read_only = True
    path.write_text(BODY + "x")
    refused = subprocess.run(words, env=env, capture_output=True, check=True).stderr
    assert b"the note could not be written: status 403" in refused
