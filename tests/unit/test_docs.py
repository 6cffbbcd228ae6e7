"""What the documents name exists, and what they say is tested is."""

import importlib
import importlib.util
import re
import shlex
from pathlib import Path
from types import ModuleType

import pytest

from zopp.cli import main
from zopp.cli.parser import Parser, global_flags
from zopp.cli.verbs import VERBS
from zopp.errors import UsageError

ROOT = Path(__file__).resolve().parents[2]
DOCS = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "policies/README.md",
    *sorted((ROOT / "docs").glob("**/*.md")),
]


def numbers(text: str) -> list[str]:
    """`S2–S4, A7` → S2, S3, S4, A7."""
    found = []
    for first, last in re.findall(r"\b([SA]\d+)(?:–([SA]\d+))?", text):
        end = int((last or first)[1:])
        found += [f"{first[0]}{n}" for n in range(int(first[1:]), end + 1)]
    return found


ROWS = [
    (number, path)
    for row in re.findall(
        r"^\| ([SA]\d[^|]*) \| [^|]* \| (.*) \|$", (ROOT / "docs/scenarios.md").read_text(), re.MULTILINE
    )
    for number in numbers(row[0])
    for path in re.findall(r"`(tests/[^`]+\.py)`", row[1])[:1]
]
SECOND = [
    (number, path)
    for where, path in re.findall(
        r"at ((?:(?! at )[^`])*?) (?:is )?in `(tests/scenarios/\w+_more\.py)`",
        (ROOT / "docs/scenarios.md").read_text().replace("\n", " "),
    )
    for number in numbers(where)
]


def test_the_table_is_read() -> None:
    assert len(ROWS) > 60
    assert ("A16", "tests/attacks/test_a14_worktree.py") in ROWS
    assert ("S5", "tests/scenarios/test_s05_more.py") in SECOND
    assert ("S54", "tests/scenarios/test_s13_more.py") in SECOND


@pytest.mark.parametrize(("number", "path"), [*ROWS, *SECOND], ids=lambda value: value.rpartition("/")[2])
def test_every_number_has_a_test_of_its_name(number: str, path: str) -> None:
    names = re.findall(r"^ *def (test_\w+)", (ROOT / path).read_text(), re.MULTILINE)
    assert any(number.lower() in name.split("_") for name in names), f"no test in {path} bears {number}"


@pytest.mark.parametrize("page", DOCS, ids=lambda path: path.name)
def test_links_inside_the_repository_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_every_direct_dependency_has_its_line() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    text = (ROOT / "docs/dependencies.md").read_text().lower()
    wanted = [*project["dependencies"], *(d for extra in project["optional-dependencies"].values() for d in extra)]
    for requirement in wanted:
        assert re.split(r"[<>=\[ ]", requirement)[0].lower() in text, requirement


@pytest.mark.parametrize("page", ["threat-model.md", "reliability.md"])
def test_every_test_that_a_claim_names_exists(page: str) -> None:
    """`path::name` in the page is a test in the tree, `path` a file of tests."""
    path = ROOT / "docs" / page
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", path.read_text())
    assert len(named) > 3
    for file, name in named:
        text = (ROOT / file).read_text()
        assert not name or re.search(rf"^def {name}\(", text, re.MULTILINE), f"{file}::{name}"


def test_the_ci_page_is_what_the_programs_take() -> None:
    """Its workflows are YAML with the variables that zopp reads, its commands parse, its limits are the code's."""
    import shlex

    import yaml

    from zopp.cli import principal
    from zopp.cli.parser import Parser, global_flags
    from zopp.keys.find import KEY_VARIABLES
    from zopp_server import oidc

    text = (ROOT / "docs/reference/ci.md").read_text()
    on_github, on_gitlab = (yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL))
    job = on_github["jobs"]["deploy"]
    assert job["permissions"]["id-token"] == "write" and job["environment"] == "production"
    assert set(job["steps"][1]["env"]) | set(on_gitlab["deploy"]["id_tokens"]) == {"ZOPP_AGE_KEY", "ZOPP_ID_TOKEN"}
    assert {"ZOPP_AGE_KEY", "ZOPP_ID_TOKEN"} <= set(KEY_VARIABLES)
    assert on_gitlab["deploy"]["timeout"] == f"{oidc.MAX_LIFETIME // 60} minutes"
    parser = Parser(parents=[global_flags()])
    principal.configure(parser)
    commands = re.findall(r"^    zopp principal (.*)$", text, re.MULTILINE)
    assert len(commands) == 4
    for line in commands:
        parser.parse_args(shlex.split(line.partition(" > ")[0]))
    taken = set(re.findall(r"--[a-z-]+", parser_help(parser, "trust-ci")))
    named = set(re.findall(r"--[a-z][a-z-]+", text.partition("A rule names ids")[2].partition("## The action")[0])) - {
        "--jq"
    }
    assert named and named <= taken


def parser_help(parser: object, action: str) -> str:
    import argparse

    assert isinstance(parser, argparse.ArgumentParser)
    actions = next(each for each in parser._actions if isinstance(each, argparse._SubParsersAction))
    return str(actions.choices[action].format_help())


def _page() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_cli", ROOT / "docs/make_cli.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_reference_is_what_the_commands_say() -> None:
    assert _page().page() == (ROOT / "docs/reference/cli.md").read_text(), "run: make docs"


@pytest.mark.parametrize(("verb", "module"), [(verb, module) for verb, module, _ in VERBS])
def test_every_command_has_examples_that_its_parser_takes(verb: str, module: str) -> None:
    loaded = importlib.import_module(f"zopp.cli.{module}")
    texts = [loaded.EXAMPLES, *(getattr(source, "EXAMPLES", "") for source in getattr(loaded, "SOURCES", {}).values())]
    lines = [line.strip() for text in texts for line in text.split("\n")[1:]]
    calls = [call for line in lines for call in _calls(line, verb)]
    assert calls, "no example"
    parser = Parser(prog=f"zopp {verb}", parents=[global_flags()])
    loaded.configure(parser)
    for words in calls:
        if "--help" in words:
            continue
        try:
            parser.parse_args(main._hoist(loaded.arguments(words) if hasattr(loaded, "arguments") else words))
        except UsageError as exc:
            raise AssertionError(f"{' '.join(words)}: {exc.message}") from None


def _calls(line: str, verb: str) -> list[list[str]]:
    """The words behind `zopp VERB` wherever it stands in an example: in a pipe, in a substitution, before a remark."""
    line = re.sub(r"\$\((.*)\)", r"; \1 ;", re.split(r"  +(?=[^ ])", line)[0].strip('"'))
    lexer = shlex.shlex(line.replace('"; ', "; ").replace(' ;"', " ;"), posix=True, punctuation_chars="|><;&")
    lexer.whitespace_split = True
    found: list[list[str]] = []
    open_ = False
    words = list(lexer)
    for at, word in enumerate(words):
        if words[at : at + 2] == ["zopp", verb]:
            found.append([])
            open_ = True
        elif set(word) <= set("|><;&"):
            open_ = False
        elif open_ and not (words[at - 1] == "zopp" and word == verb):
            found[-1].append(word)
    return found
