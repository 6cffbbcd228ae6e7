"""The .env importer: the measured table, no expansion, no leaks, every finding in one run."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from dialects import ALL, ROWS, Cell
from hypothesis import given, settings, strategies as st

from zopp.errors import FormatError, ZoppError
from zopp.exchange import dotenv, exporters

CANARY = "kanarienvogel7"
SAMPLE = Path(__file__).parents[3] / "examples" / "acme.env"
CELLS = [
    pytest.param(text, dialect, cell, id=f"{number}-{dialect}")
    for number, text, cells in ROWS
    for dialect, cell in zip(ALL, cells, strict=True)
]
AGREED = {1, 2, 3, 4, 5, 7, 9, 11, 12, 15, 22, 23, 28, 40}  # marked 8 or 10 in the table
BY_RULE = {32, 33, 34}  # read by zopp's own rule, with a warning


@pytest.mark.parametrize(("text", "dialect", "cell"), CELLS)
def test_every_dialect_reads_every_measured_line(text: str, dialect: str, cell: Cell) -> None:
    parsed = dotenv.parse(text.encode(), dialect=dialect)
    if isinstance(cell, str):
        assert parsed.problems[0].rule == cell
    else:
        assert not parsed.problems
        assert [(a.name, a.value) for a in parsed.assignments] == cell


def test_auto_accepts_the_lines_on_which_parsers_agree_and_no_other() -> None:
    accepted = {number for number, text, _ in ROWS if not dotenv.parse(text.encode()).problems}
    assert len(ROWS) == 42
    assert accepted == AGREED | BY_RULE


@pytest.mark.parametrize("number", sorted(BY_RULE))
def test_what_zopp_decides_itself_is_said(number: int) -> None:
    text = next(text for row, text, _ in ROWS if row == number)
    assert {w.rule for w in dotenv.parse(text.encode()).warnings} == {
        {32: "duplicate", 33: "crlf", 34: "byte-order-mark"}[number]
    }


def test_choices_are_the_dialects_that_read_the_line() -> None:
    (problem,) = dotenv.parse(b"A=b#c").problems
    assert problem.choices == ("python", "dotenv", "compose", "shell", "docker", "sops")
    (problem,) = dotenv.parse(b"A=$(x)").problems
    assert "shell" not in problem.choices


def test_every_problem_is_listed_in_one_run_with_its_line() -> None:
    parsed = dotenv.parse(b"A=b c\nOK=1\n\nB='x\nC=d#e\nbare\nE: f\n")
    # the quote that opens on line 4 never closes, and the lines after it are still read
    assert [(p.line, p.key, p.rule) for p in parsed.problems] == [
        (1, "A", "unquoted-space"),
        (4, "B", "unterminated"),
        (5, "C", "hash-in-value"),
        (6, "", "no-equals"),
        (7, "E", "colon"),
    ]
    with pytest.raises(FormatError, match=r"^\.env: 5 lines") as caught:
        parsed.require(".env")
    assert caught.value.data["problems"] == parsed.problems


def test_a_choice_for_one_key_holds_for_that_key_only() -> None:
    parsed = dotenv.parse(b"A=b c\nB=d e\n", choices={"A": "compose"})
    assert [(a.name, a.value, a.dialect) for a in parsed.assignments] == [("A", "b c", "compose")]
    assert [p.key for p in parsed.problems] == ["B"]


def test_an_unquoted_pem_block_is_one_problem_and_its_base64_no_name() -> None:
    body = f"{CANARY}=\n"
    text = f"A=-----BEGIN TEST KEY-----\n{body}-----END TEST KEY-----\nB=1\n"
    for dialect in ALL:
        parsed = dotenv.parse(text.encode(), dialect=dialect)
        assert [p.line for p in parsed.problems] == [1]
        assert [a.name for a in parsed.assignments] == ["B"]


def test_the_last_duplicate_counts_and_both_lines_are_named() -> None:
    (warning,) = dotenv.parse(b"A=1\nB=2\nA=3\n").warnings
    assert (warning.line, warning.other_line, warning.rule) == (3, 1, "duplicate")


def test_comments_above_and_beside_become_the_note() -> None:
    text = b"# heading\n\n#####\n# Used by\n# two\n#####\nA=1 # beside\nB=2\n"
    assert [a.note for a in dotenv.parse(text).assignments] == ["Used by\ntwo\nbeside", ""]


@pytest.mark.parametrize(
    "value", ["changeme", "change-me", "xxx", "<your-key>", "TODO", "sk-proj-xxxxxxxx", "your-key"]
)
def test_placeholders_are_flagged(value: str) -> None:
    assert dotenv.is_placeholder(value)


@pytest.mark.parametrize("value", ["", "x", "hunter2", "postgres://u:p@h/db", "youth", "a<b>c"])
def test_values_are_no_placeholders(value: str) -> None:
    assert not dotenv.is_placeholder(value)


def test_example_files_are_known_by_name() -> None:
    assert dotenv.is_example_path("a/.env.example")
    assert dotenv.is_example_path(".env.sample.local")
    assert not dotenv.is_example_path(".env.production")


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("A='${B}'", "dollar-brace"),
        ("A='a\\\\b'", "double-backslash"),
        ("A='a\\'", "escape-in-single-quotes"),
        ('A="`x`"', "backtick"),
        ('A="$(x)"', "command"),
        ('A="b"#c', "after-quote"),
        ("A=#c", "hash-in-value"),
        ("A= # c", "comment-as-value"),
        ("A=a;b", "shell-special"),
        ("A=~/x", "shell-special"),
        ("A=é", "non-ascii-unquoted"),
        ("A='a\rb'", "carriage-return"),
        ("A='\0'", "nul"),
    ],
)
def test_auto_refuses_what_was_not_measured_alike(text: str, rule: str) -> None:
    assert [p.rule for p in dotenv.parse(text.encode()).problems] == [rule]


def test_text_that_is_not_utf8_is_a_problem_of_its_line() -> None:
    parsed = dotenv.parse(b"A=1\nB='\xff'\nC=2\n")
    assert [(p.line, p.key, p.rule) for p in parsed.problems] == [(2, "B", "not-utf8")]
    assert [a.name for a in parsed.assignments] == ["A", "C"]


# Found by running 40,000 accepted files through python-dotenv 1.2.4, npm dotenv, dotenvx and node 20: node differs.
@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("A=b\t", "tab"),
        ("A=b\t# c", "tab"),
        ("A=b \t", "tab"),
        ("\tA=b", "tab"),
        ("export\tA=b", "tab"),
        ("export  A=b", "export-blanks"),
    ],
)
def test_auto_refuses_what_node_reads_otherwise(text: str, rule: str) -> None:
    assert [p.rule for p in dotenv.parse(text.encode()).problems] == [rule]


@pytest.mark.parametrize("line", [" # c", "  ", "\t", "\t#"])
def test_indented_comments_are_said_once_since_node_garbles_the_next_name(line: str) -> None:
    parsed = dotenv.parse(f"A=1\n{line}\n{line}\nB=2\n".encode())
    assert not parsed.problems
    assert [(w.line, w.rule) for w in parsed.warnings] == [(2, "blank-before-comment")]


@pytest.mark.slow
class TestAgainstNode:
    """node --env-file is another of the eight: what is exported must come back from it. The slow tier needs node: its
    absence fails."""

    def test_node_reads_the_sample_environment_alike(self, tmp_path: Path) -> None:
        node = shutil.which("node")
        assert node is not None, "the slow tier needs node"
        values = {a.name: a.value for a in dotenv.parse(SAMPLE.read_bytes()).assignments}
        file = tmp_path / "written.env"
        file.write_bytes(exporters.export(values, "env"))
        for path in (SAMPLE, file):
            script = "process.stdout.write(JSON.stringify(process.env))"
            done = subprocess.run(
                [node, f"--env-file={path}", "-e", script], capture_output=True, check=True, env={}, text=True
            )
            assert json.loads(done.stdout) == values


class TestExpand:
    def values(self, text: str, dialect: str) -> dict[str, str] | str:
        parsed = dotenv.parse(text.encode(), dialect=dialect, expand=True)
        return parsed.problems[0].rule if parsed.problems else {a.name: a.value for a in parsed.assignments}

    @pytest.mark.parametrize("dialect", ["auto", "compose", "shell"])
    def test_names_defined_earlier_are_put_in(self, dialect: str) -> None:
        assert self.values('B=x\nA="$B-${B}"\n', dialect) == {"B": "x", "A": "x-x"}

    def test_python_knows_braces_only(self) -> None:
        assert self.values("B=x\nA=$B${B}\n", "python") == {"B": "x", "A": "$Bx"}

    @pytest.mark.parametrize("dialect", ["auto", "compose", "shell", "python"])
    def test_the_environment_is_never_read(self, dialect: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SECRET_ELSEWHERE", CANARY)
        assert self.values('A="${SECRET_ELSEWHERE}"\n', dialect) == "undefined-reference"

    def test_later_names_do_not_count(self) -> None:
        assert self.values('A="$B"\nB=x\n', "compose") == "undefined-reference"

    def test_a_default_is_used(self) -> None:
        assert self.values("A=${NOPE:-d}", "compose") == {"A": "d"}

    def test_single_quotes_hold(self) -> None:
        assert self.values("B=x\nA='$B'", "shell") == {"B": "x", "A": "$B"}

    def test_an_escaped_dollar_holds(self) -> None:
        assert self.values('B=x\nA="\\$B"', "shell") == {"B": "x", "A": "$B"}

    def test_uses_are_recorded(self) -> None:
        parsed = dotenv.parse(b'B=x\nA="$B"', expand=True)
        assert parsed.assignments[1].expanded == ("B",)

    @pytest.mark.parametrize("dialect", ["auto", "compose", "shell"])
    def test_nothing_is_run(self, dialect: str, tmp_path: Path) -> None:
        made = tmp_path / "made"
        self.values(f'A="$(touch {made})"\nB=`touch {made}`\n', dialect)
        assert not made.exists()

    def test_growth_is_bounded(self) -> None:
        lines = ["A0=" + "x" * 1000] + [f'A{i}="$A{i - 1}$A{i - 1}"' for i in range(1, 40)]
        assert self.values("\n".join(lines), "compose") == "undefined-reference"


def test_unknown_dialects_and_huge_files_are_refused() -> None:
    with pytest.raises(FormatError):
        dotenv.parse(b"", dialect="npm")
    with pytest.raises(FormatError):
        dotenv.parse(b"", choices={"A": "auto?"})
    with pytest.raises(FormatError):
        dotenv.parse(b"A=" + b"x" * dotenv.MAX_BYTES)


def test_findings_stop_at_a_bound() -> None:
    problems = dotenv.parse(b"a b\n" * 2000).problems
    assert len(problems) == dotenv.MAX_PROBLEMS + 1
    assert problems[-1].rule == "too-many"


@pytest.mark.parametrize("line", ['A="\\', "A=`x", 'A="\\"', "A=-----BEGIN x", "A=$A$A", "A='\\'", " ", "A b"])
@pytest.mark.parametrize("dialect", ALL)
def test_reading_costs_no_square(line: str, dialect: str) -> None:
    """A suggestion looks ahead a bounded way: this took minutes before it did."""
    text = f"{line}\n".encode()
    start = time.process_time()
    dotenv.parse(text * (100_000 // len(text)), dialect=dialect, expand=True)
    assert time.process_time() - start < 20


HOSTILE = st.text(alphabet="AB=\n\r\t '\"`\\$#{}()[]:-.~;&|é\0export\ufeff", max_size=60)


@given(HOSTILE, st.sampled_from(ALL), st.booleans())
@settings(max_examples=1500, deadline=None)
def test_any_text_gives_a_value_and_no_exception(text: str, dialect: str, expand: bool) -> None:
    parsed = dotenv.parse(text.encode(), dialect=dialect, expand=expand)
    for finding in (*parsed.warnings, *parsed.problems):
        assert str(finding)
        assert 1 <= finding.line <= text.count("\n") + 1


@given(st.binary(max_size=200), st.sampled_from(ALL))
@settings(max_examples=500, deadline=None)
def test_any_bytes_give_a_value_or_a_zopp_error(data: bytes, dialect: str) -> None:
    try:
        parsed = dotenv.parse(data, dialect=dialect)
    except ZoppError:
        return
    for assignment in parsed.assignments:
        assignment.value.encode()  # no surrogates leave


@given(st.sampled_from(ALL), st.sampled_from(["A=", 'A="', "A='", "A: ", "A = ", "", "export ", "A.b=", "é="]), HOSTILE)
@settings(max_examples=1500, deadline=None)
def test_no_finding_shows_a_value(dialect: str, before: str, after: str) -> None:
    parsed = dotenv.parse(f"{before}{CANARY}!{after}".encode(), dialect=dialect)
    said = [str(finding) for finding in (*parsed.warnings, *parsed.problems)]
    try:
        parsed.require("file")
    except FormatError as exc:
        said.append(str(exc))
    # what stands before an equals sign is a name in some dialects, and an assignment shows its name
    said += [repr(a).replace(repr(a.name), "") for a in parsed.assignments]
    assert CANARY not in "".join(said)


def test_the_sample_environment_is_read_without_a_word() -> None:
    parsed = dotenv.parse(SAMPLE.read_bytes())
    assert (parsed.problems, parsed.warnings) == ((), ())
    assert len(parsed.assignments) >= 60
    values = {a.name: a.value for a in parsed.assignments}
    assert values["DATABASE_CA"].count("\n") == 4
    assert values["PASSWORD_PATTERN"] == r"^(?=.*[A-Z])(?=.*\d).{12,}$"
    assert next(a.note for a in parsed.assignments if a.name == "DATABASE_URL") == (
        "Owner: team data\nRotated by hand in spring"
    )
    written = exporters.export(values, "env")
    assert {a.name: a.value for a in dotenv.parse(written).assignments} == values


class TestAgainstBash:
    """bash is one of the eight; what auto accepts it must read alike."""

    @given(st.text(alphabet="ab01=_./:@%+,^*?![]{}-'\" \\$`#~;\n", max_size=12))
    @settings(max_examples=300, deadline=None)
    def test_bash_reads_what_auto_accepts(self, value: str) -> None:
        bash = shutil.which("bash")
        assert bash is not None
        text = f"A={value}\n"
        parsed = dotenv.parse(text.encode())
        if parsed.problems or [a.name for a in parsed.assignments] != ["A"]:
            return
        done = subprocess.run([bash, "-c", f'{text}printf %s "$A"'], capture_output=True, check=True, env={})
        assert done.stdout.decode() == parsed.assignments[0].value
