"""Text, JSON and SARIF: the same findings, nothing of a value in any of them."""

import base64
import json
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

from tests.scan.repo import ROOT, Repo, password, sealed, token

CANARY = token(77)
PASSWORD = password(78)
WEAK = "hunter2weak"


@pytest.fixture
def planted(tmp_path: Path) -> Repo:
    """A canary in every check that needs no key."""
    repo = Repo(tmp_path).start()
    repo.stage(".sops.yaml", "creation_rules:\n  - path_regex: ^secrets/.*yaml$\n")
    repo.stage("secrets/a.yaml", f"db:\n  password: {WEAK}\n# {CANARY}\n")
    repo.stage("secrets/b.yaml", sealed("a: b\n").decode().replace("a: ENC", f"clear: {WEAK}\na: ENC"))
    repo.stage("secrets/c.yaml", f"a: [{CANARY}\n")
    repo.stage("x.dec.yaml", f"password: {WEAK}\n")
    repo.stage(".env", f"DB_PASSWORD={WEAK}\n")
    repo.stage("secrets/a.yaml.bak", f"password: {WEAK}\n")
    repo.stage("a.py", f"KEY = '{CANARY}'\npassword = '{PASSWORD}'\nu = 'https://me:{PASSWORD}@h'\n")
    repo.stage("b.yaml", f"kind: Secret\nstringData:\n  p: {PASSWORD}\n")
    repo.stage("c.txt", base64.b64encode(f"x {CANARY}".encode()).decode())
    repo.stage("d.py", f"KEY = '{CANARY}'  # zopp:allow an example\n")
    repo.stage(".gitleaks.toml", f"[[rules]]\nid = 'mine'\nregex = '''{WEAK}'''\n")
    return repo


def silent(text: str) -> None:
    for value in (CANARY, PASSWORD, WEAK):
        raw = value.encode()
        for form in (value, value[4:], value[-8:], raw.hex(), base64.b64encode(raw).decode()[:-4]):
            assert form not in text
    assert CANARY[4:12] not in text


def test_no_output_holds_a_value(planted: Repo) -> None:
    silent(planted.guard().text)
    for argv in (("scan",), ("scan", "--json"), ("scan", "--all"), ("scan", "--all", "--json"), ("scan", "--debug"),
                 ("scan", "."), ("scan", "--sarif", "out.sarif")):  # fmt: skip
        said = planted.zopp(*argv)
        assert said.code == 1, said.text
        silent(said.text)
    silent((planted.path / "out.sarif").read_text())
    planted.commit("all")
    said = planted.zopp("scan", "--range", "HEAD~1..HEAD", "--json")
    assert said.code == 1
    silent(said.text)
    kept = [p for p in planted.home.rglob("*") if p.is_file()] + list((planted.path / ".git/zopp").iterdir())
    for path in kept:
        if path.name.startswith("user-"):
            continue  # the user's own rules, as data: the pattern is what stands in the tracked file
        silent(path.read_bytes().decode("latin-1"))


def test_the_three_forms_name_the_same_findings(planted: Repo) -> None:
    text = planted.guard().err
    found = planted.zopp("scan", "--json")
    data = json.loads(found.out)
    assert planted.zopp("scan", "--sarif", "out.sarif").code == 1
    sarif = json.loads((planted.path / "out.sarif").read_text())
    rows = sarif["runs"][0]["results"]
    want = {(f["path"], f["line"], f["column"], f["rule"]) for f in data["findings"]}
    assert len(want) > 9
    assert {row["rule"] for row in data["findings"]} >= {
        "not-encrypted", "clear-value", "decrypted-copy", "env-file", "remains", "github-token", "generic-secret",
        "url-password", "kubernetes-secret", "mine",
    }  # fmt: skip
    for path, line, column, rule in want:
        assert f"{path}:{line}:{column}: {rule}: " in text
    open_rows = [row for row in rows if "suppressions" not in row]
    places = [row["locations"][0]["physicalLocation"] for row in open_rows]
    assert {
        (p["artifactLocation"]["uri"], p["region"]["startLine"], p["region"]["startColumn"], row["ruleId"])
        for p, row in zip(places, open_rows, strict=True)
    } == want
    assert [row["suppressions"][0]["kind"] for row in rows if "suppressions" in row] == ["inSource"]
    assert [e["path"] for e in data["errors"]] == ["secrets/c.yaml"]
    assert "secrets/c.yaml: could not be told" in text


def test_json_is_stable_and_deterministic(planted: Repo) -> None:
    first, second = planted.zopp("scan", "--json").out, planted.zopp("scan", "--json").out
    assert first == second
    data = json.loads(first)
    assert list(data) == [
        "schema", "mode", "commits", "files", "bytes", "in_blocks", "findings", "suppressed", "not_covered",
        "own_secrets", "errors",
    ]  # fmt: skip
    finding = {
        "type": "object",
        "required": ["check", "rule", "path", "line", "column", "what", "hint"],
        "additionalProperties": False,
        "properties": {
            "check": {"enum": ["unencrypted", "leftover", "token", "own"]},
            **{
                name: {"type": "string"}
                for name in ("rule", "path", "what", "hint", "shown", "fingerprint", "suppressed", "commit")
            },
            "line": {"type": "integer", "minimum": 1},
            "column": {"type": "integer", "minimum": 1},
        },
    }
    for row in [*data["findings"], *data["suppressed"]]:
        jsonschema.validate(row, finding)


def test_sarif_has_links_fingerprints_and_no_snippets(planted: Repo) -> None:
    planted.zopp("scan", "--sarif", "out.sarif")
    text = (planted.path / "out.sarif").read_text()
    sarif = json.loads(text)
    assert sarif["version"] == "2.1.0"
    run = sarif["runs"][0]
    assert "snippet" not in text and "endColumn" not in text and "endLine" not in text
    rules = {rule["id"]: rule for rule in run["tool"]["driver"]["rules"]}
    assert rules["github-token"]["helpUri"].startswith("https://docs.github.com/")
    assert all(rule["shortDescription"]["text"] for rule in rules.values())
    tokens = [row for row in run["results"] if row["ruleId"] == "github-token"]
    assert all(len(row["partialFingerprints"]["zoppKeyed/v1"]) == 32 for row in tokens)
    assert run["invocations"][0]["executionSuccessful"] is False


def test_colour_on_a_terminal_only(planted: Repo) -> None:
    from zopp.scan import report
    from zopp.scan.finding import Finding, Result

    result = Result("staged")
    result.findings.append(Finding("token", "r", "a", 1, 1, "x"))
    assert "\x1b" not in report.text(result)
    assert "\x1b" in report.text(result, color=True)
    assert "\x1b" not in planted.guard().err


def test_sweeps(planted: Repo) -> None:
    """Whole files, tracked ones of a folder; a missing name is usage; nothing is subtracted."""
    planted.commit("all")
    planted.write("untracked.txt", CANARY)
    said = planted.zopp("scan", "--all", "--json")
    paths = {row["path"] for row in json.loads(said.out)["findings"]}
    assert "a.py" in paths and "untracked.txt" not in paths
    assert planted.zopp("scan", "untracked.txt").code == 1
    assert planted.zopp("scan", "README").code == 0
    assert planted.zopp("scan", "nowhere.txt").code == 2
    assert planted.zopp("scan", "secrets", "--json").code == 1
    said = planted.zopp("scan", "--all", "README")
    assert said.code == 2


def test_a_large_sweep_by_several_processes_is_the_same(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    from zopp.scan import sweep

    for number in range(40):
        repo.write(f"f{number}.txt", "lorem ipsum\n" * 50 + f"k {token(number)}\n" * (number % 3))
    repo.write("latin\udcff.txt".encode("utf-8", "surrogateescape"), CANARY)
    repo.add()
    alone = json.loads(repo.zopp("scan", "--all", "--json").out)
    monkeypatch.setattr(sweep, "_FORK_FROM", 1)
    monkeypatch.setattr(sweep.os, "sched_getaffinity", lambda _: {0, 1, 2})
    shared = json.loads(repo.zopp("scan", "--all", "--json").out)
    assert alone == shared
    assert len(alone["findings"]) > 30


def test_help_has_examples(repo: Repo) -> None:
    for verb in ("scan", "hooks"):
        argv = [sys.executable, "-m", "zopp.cli.main", verb, "--help"]
        done = subprocess.run(argv, cwd=ROOT, env=repo.env, capture_output=True, check=False, text=True)
        assert done.returncode == 0 and f"zopp {verb}" in done.stdout and "examples:" in done.stdout
    assert repo.guard("--help").code == 0
