"""zopp's .env dialects and exports beside five of the eight parsers that were measured (importers.md §3.1).

The slow tier. compose-go, godotenv and dotenvy are Go and Rust libraries and are not asked here.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from tests.sources import parsers
from tests.unit.exchange.dialects import ROWS
from zopp.errors import FormatError
from zopp.exchange import dotenv, exporters

pytestmark = pytest.mark.slow
# What zopp decides itself, and says: CRLF, a byte order mark.
BY_RULE = {33, 34}
IDS = [f"row{number}" for number, _, _ in ROWS]


class Parsers:
    def __init__(self, node: parsers.Node, python: parsers.Python, folder: Path) -> None:
        self.node, self.python, self.path = node, python, folder / ".env"

    def ask(self, name: str, data: bytes) -> parsers.Reading:
        if name == "python":
            return self.python.ask(data)
        if name == "bash":
            self.path.write_bytes(data)
            return parsers.bash(self.path)
        return self.node.ask(name, data)

    def all(self, data: bytes) -> dict[str, parsers.Reading]:
        return {name: self.ask(name, data) for name in ("python", "dotenv", "dotenvx", "node", "bash")}


@pytest.fixture(scope="module")
def foreign(in_node: parsers.Node, python_dotenv: parsers.Python, tmp_path_factory: pytest.TempPathFactory) -> Parsers:
    return Parsers(in_node, python_dotenv, tmp_path_factory.mktemp("parsers"))


def ours(data: bytes, dialect: str, *, expand: bool) -> dict[str, str] | None:
    """zopp's reading, None where it wants to be told more."""
    parsed = dotenv.parse(data, dialect=dialect, expand=expand)
    return None if parsed.problems else {one.name: one.value for one in parsed.assignments}


@pytest.mark.parametrize(("number", "text", "cells"), ROWS, ids=IDS)
def test_each_dialect_reads_as_its_parser_does(foreign: Parsers, number: int, text: str, cells: object) -> None:
    """With --expand where the parser expands; what zopp refuses has no reading to compare."""
    for dialect, parser, expand in (("python", "python", True), ("dotenv", "dotenv", False), ("shell", "bash", True)):
        if number in BY_RULE and parser == "bash":
            continue
        reading = ours(text.encode(), dialect, expand=expand)
        if reading is not None:
            assert foreign.ask(parser, text.encode()) == reading, (dialect, text)


@pytest.mark.parametrize(("number", "text", "cells"), ROWS, ids=IDS)
def test_auto_accepts_only_what_all_of_them_read_alike(foreign: Parsers, number: int, text: str, cells: object) -> None:
    reading = ours(text.encode(), "auto", expand=False)
    if reading is not None and number not in BY_RULE:
        assert foreign.all(text.encode()) == dict.fromkeys(("python", "dotenv", "dotenvx", "node", "bash"), reading)


def test_what_the_table_says_of_those_that_differ_is_still_so(foreign: Parsers) -> None:
    """Rows of importers.md §3.1 by parser, so that a new version that reads otherwise is noticed."""
    text = {number: text.encode() for number, text, _ in ROWS}
    assert foreign.ask("node", text[6]) == foreign.ask("dotenvx", text[6]) == {"A": "b"}
    assert foreign.ask("python", text[6]) == foreign.ask("bash", text[6]) == {"A": "b#c"}
    assert foreign.ask("dotenvx", text[20]) == foreign.ask("bash", text[20]) == {"A": "hi"}
    assert foreign.ask("dotenvx", text[17]) == {"A": "pa"}
    assert foreign.ask("node", text[24]) == {"A": "it\\"}
    assert foreign.ask("node", text[34]) == {"\ufeffA": "b"}
    assert foreign.ask("bash", text[41]) is None


@pytest.mark.parametrize("number", [1, 5, 6, 11, 15, 20, 36])
def test_the_command_lines_read_as_their_libraries_do(foreign: Parsers, number: int) -> None:
    """The other tests ask the libraries, which start once."""
    data = next(text.encode() for row, text, _ in ROWS if row == number)
    foreign.path.write_bytes(data)
    assert parsers.dotenvx(foreign.path) == foreign.ask("dotenvx", data)
    assert parsers.node(foreign.path) == foreign.ask("node", data)


NAMES = st.from_regex(r"K_[A-Za-z0-9_]{0,8}", fullmatch=True)
TEXTS = st.one_of(
    st.text(alphabet="ab01=_./:@%+,-'\" \\$`#~;{}()!?*&|<>^[]\n\té→", max_size=24),
    st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=12),
)


def written(values: dict[str, str], form: str) -> tuple[dict[str, str], bytes]:
    """(what the format can carry, the file)."""
    carried = {}
    for name, value in values.items():
        try:
            exporters.export({name: value}, form)
        except FormatError:
            continue
        carried[name] = value
    return carried, exporters.export(carried, form)


@given(st.dictionaries(NAMES, TEXTS, max_size=8))
@settings(max_examples=300, deadline=None)
def test_an_exported_env_file_is_read_back_by_all(foreign: Parsers, values: dict[str, str]) -> None:
    carried, data = written(values, "env")
    assert foreign.all(data) == dict.fromkeys(("python", "dotenv", "dotenvx", "node", "bash"), carried)


@given(st.dictionaries(NAMES, TEXTS, max_size=8))
@settings(max_examples=300, deadline=None)
def test_an_exported_shell_file_is_read_back_by_bash(foreign: Parsers, values: dict[str, str]) -> None:
    carried, data = written(values, "shell")
    assert carried == values
    assert foreign.ask("bash", data) == carried


def test_the_canary_of_this_file_can_fail(foreign: Parsers) -> None:
    """The comparison is one: a file that they read differently is seen."""
    assert len({repr(reading) for reading in foreign.all(b"A=b#c\n").values()}) == 2
