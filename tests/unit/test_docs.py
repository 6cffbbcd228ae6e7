"""What the documents name exists, and what they say is tested is."""

import argparse
import importlib
import importlib.util
import re
import shlex
from pathlib import Path

import pytest

from tests.support import script
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


TYPED = [
    *DOCS,
    ROOT / "SECURITY.md",
    ROOT / "CHANGELOG.md",
    *sorted(path for folder in ("examples", "deploy", "actions") for path in (ROOT / folder).glob("**/*.md")),
]


def _name(page: Path) -> str:
    return str(page.relative_to(ROOT))


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


def anchors(text: str) -> set[str]:
    """The anchors that GitHub gives a page's headings: lower case, without marks, words joined by hyphens, and a number
    for one that was there before."""
    found: set[str] = set()
    for heading in re.findall(r"^#{1,6} +(.+?) *#*$", re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S), re.M):
        shown = re.sub(r"\[([^\]]*)\]\([^)]*\)|`", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", shown.lower()).replace(" ", "-")
        number = next(n for n in range(1000) if (f"{slug}-{n}" if n else slug) not in found)
        found.add(f"{slug}-{number}" if number else slug)
    return found


def test_anchors_are_githubs() -> None:
    text = "# The `set` verb, in [short](x.md#y)\n```\n# no heading\n```\n## A – B\n## Values\n## Values ##\n"
    assert anchors(text) == {"the-set-verb-in-short", "a--b", "values", "values-1"}


def astray(page: Path, text: str) -> list[str]:
    """The links of a page, inside the repository, that lead nowhere."""
    wrong = []
    outside = re.sub(r"^ *```.*?^ *```$|`[^`\n]+`", "`", text, flags=re.MULTILINE | re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", outside):
        target, _, anchor = link.partition("#")
        place = page.parent / target
        if "://" in link or link.startswith("mailto:"):
            continue
        there = text if not target else place.read_text() if place.is_file() else ""
        if (target and not place.exists()) or (anchor and anchor not in anchors(there)):
            wrong.append(link)
    return wrong


def test_a_link_that_leads_nowhere_is_found() -> None:
    links = "[a](README.md) [b](README.md#more) [c](#here) [d](gone.md) [e](README.md#gone) [f](#gone) `[g](x)`"
    assert astray(ROOT / "X.md", f"# Here\n{links}") == ["gone.md", "README.md#gone", "#gone"]


@pytest.mark.parametrize("page", TYPED, ids=_name)
def test_links_inside_the_repository_lead_somewhere(page: Path) -> None:
    assert astray(page, page.read_text()) == []


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
    commands = re.findall(r"^\$ zopp principal (.*)$", text, re.MULTILINE)
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


def test_the_reference_is_what_the_commands_say() -> None:
    assert script("docs/make_cli.py").page() == (ROOT / "docs/reference/cli.md").read_text(), "run: make docs"


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
    """The words behind `zopp VERB` wherever it stands in an example."""
    return [words[1:] for words in _all_calls(line) if words[0] == verb]


def _all_calls(line: str) -> list[list[str]]:
    """The words behind `zopp` wherever it stands in a line: in a pipe, in a substitution, before a remark."""
    line = re.sub(r"\$\((.*)\)", r"; \1 ;", re.split(r"  +(?=[^ ])", line)[0].strip('"'))
    lexer = shlex.shlex(line.replace('"; ', "; ").replace(' ;"', " ;"), posix=True, punctuation_chars="|><;&()")
    lexer.whitespace_split = True
    found: list[list[str]] = []
    open_ = False
    words = list(lexer)
    for at, word in enumerate(words):
        if word == "zopp" and at + 1 < len(words) and words[at + 1] in PARTS:
            found.append([])
            open_ = True
        elif set(word) <= set("|><;&()"):
            open_ = False
        elif open_:
            found[-1].append(word)
    return found


# --- what the pages say to type

PARTS = {verb: module for verb, module, _ in VERBS}


def _blocks(text: str) -> tuple[list[str], list[str], str]:
    """The commands of a page: lines of its plain blocks, fenced or indented; code within its text; the rest."""
    plain: list[str] = []

    def fenced(block: re.Match[str]) -> str:
        if block[1] != "console":
            plain.extend(block[2].replace("\\\n", "").split("\n"))
        return ""

    rest = re.sub(r"^ *```(\w*)\n(.*?)^ *```$", fenced, text, flags=re.MULTILINE | re.DOTALL)
    plain += re.findall(r"^(?:    |\t)(.*)$", rest.replace("\\\n", ""), re.MULTILINE)
    prose = re.sub(r"^(?:    |\t).*$", "", rest, flags=re.MULTILINE)
    inline = [" ".join(code.split()) for code in re.findall(r"(?<!`)`([^`]+)`(?!`)", prose)]
    return plain, inline, rest


def _parser(verb: str, words: list[str]) -> tuple[Parser, list[str]]:
    loaded = importlib.import_module(f"zopp.cli.{PARTS[verb]}")
    parser = Parser(prog=f"zopp {verb}", parents=[global_flags()])
    loaded.configure(parser)
    return parser, main._hoist(loaded.arguments(words) if hasattr(loaded, "arguments") else words)


def _flags(parser: argparse.ArgumentParser, words: list[str]) -> set[str]:
    """Every flag of a command and of the action that `words` name. UsageError if there is no such action."""
    found = set(parser._option_string_actions)
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            names = [word for word in words if re.fullmatch("[a-z][a-z-]*", word)]
            if names and names[0] not in action.choices:
                raise UsageError(f"no {names[0]}", code="usage")
            if names:
                found |= _flags(action.choices[names[0]], names[1:])
    return found


def _unknown(line: str, *, whole: bool) -> list[str]:
    """What zopp does not take of a line. Not `whole`: part of a sentence, of which only the flags are looked at."""
    if not re.search(r"(?<![\w./-])zopp [a-z]", line):
        return []
    wrong = []
    for verb, *words in _all_calls(line):
        if "--help" in words:
            continue
        parser, given = _parser(verb, words)
        if whole:
            try:
                parser.parse_args(given)
            except UsageError as exc:
                wrong.append(f"zopp {verb} {' '.join(words)}: {exc.message}")
        else:
            own = words[: words.index("--")] if "--" in words else words
            flags = {re.split("[=|/]", word)[0] for word in own if re.match("--?[a-z]", word)}
            try:
                missing = [f"no {flag}" for flag in sorted(flags - _flags(parser, given))]
            except UsageError as exc:
                missing = [exc.message]
            wrong += [f"zopp {verb} {' '.join(words)}: {each}" for each in missing]
    return wrong


@pytest.mark.parametrize("page", TYPED, ids=_name)
def test_what_a_page_says_to_type_is_taken(page: Path) -> None:
    """Blocks that no test runs parse as they stand; commands within sentences name verbs and flags that there are.
    Blocks that a test runs are `console` blocks: see `tests.pages`."""
    plain, inline, _ = _blocks(page.read_text())
    wrong = [found for line in plain for found in _unknown(line.strip(), whole=True)]
    wrong += [found for code in inline for found in _unknown(code, whole=False)]
    wrong += [
        f"{code}: no such command"
        for code in inline
        if (verb := re.match(r"zopp ([a-z-]+)", code)) and verb[1] not in PARTS
    ]
    assert wrong == []


def test_a_flag_that_is_not_there_is_found() -> None:
    assert _unknown("zopp get KEY --none  a remark", whole=True) == ["zopp get KEY --none: unknown option"]
    assert _unknown("echo x | zopp set", whole=True) != []
    assert _unknown("zopp invite create EMAIL --role write", whole=False) != []
    assert _unknown("zopp invite create … --expires 7d", whole=False) == []
    assert _unknown("zopp audit verified", whole=False) == ["zopp audit verified: no verified"]
    plain, inline, _ = _blocks("```console\n$ zopp a\n```\n```\n$ zopp b \\\n  --c\n```\n    zopp d\nsay `zopp\ne`")
    assert plain == ["$ zopp b   --c", "", "zopp d"]
    assert inline == ["zopp e"]


def test_every_console_block_is_run() -> None:
    """Whatever a page shows as typed and printed is run by the test that names the page."""
    tests = [*(ROOT / "tests").glob("**/test_page*.py"), ROOT / "tests/sources/test_onepassword.py"]
    text = "".join(path.read_text() for path in tests)
    shown = {_name(page) for page in TYPED if "```console\n" in page.read_text()}
    assert len(shown) > 15
    for name in shown:
        file = re.escape(name.rpartition("/")[2].removesuffix(".md"))
        assert f'"{name}"' in text or re.search(rf'\("{file}", of_', text), f"no test runs {name}"
