"""Map files: what goes where, strict reading, and what fitted nothing."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, strategies as st

from zopp.errors import FormatError, ZoppError
from zopp.exchange import mapfile
from zopp.exchange.entry import Entry, Left
from zopp.exchange.mapfile import MapFile, Placed

CANARY = "kanarienvogel7"


def entry(path: str, name: str, *, env: str = "") -> Entry:
    label = path.rpartition("/")[2].upper()
    return Entry(
        locator=f"kv:{path}#{name}", id=f"{path}#{name}", path=path, name=name,
        key=(f"{label}_{name}" if label else name,), alone=(name,), value="x", env=env,
    )  # fmt: skip


def place(text: str, one: Entry) -> Placed:
    return mapfile.parse(text.encode()).place(one)


@pytest.mark.parametrize(
    ("text", "placed"),
    [
        ("", Placed(env="", key=("DB_URL",))),
        ('include = ["app/*"]', Placed(env="", key=("DB_URL",))),
        ('include = ["app/db/url"]', Placed(env="", key=("DB_URL",), out="left out by the map file")),
        ('exclude = ["*/URL"]', Placed(env="", key=("DB_URL",), out="left out by the map file")),
        ('strip_prefix = "DB_"\nadd_prefix = "X_"', Placed(env="", key=("X_URL",))),
        ('strip_prefix = "URL"', Placed(env="", key=("DB_URL",))),
        ('[[route]]\nfrom = "app/*"\nenv = "api/production"', Placed(env="api/production", key=("DB_URL",))),
        ('[[route]]\nfrom = "app/*"\nnames = "field"', Placed(env="", key=("URL",))),
        ('[[route]]\nfrom = "x"\nenv = "a"\n[[route]]\nfrom = "*"\nenv = "b"\n', Placed(env="b", key=("DB_URL",))),
        ('[[route]]\nfrom = "*"\nenv = "a"\n[[route]]\nfrom = "*"\nenv = "b"\n', Placed(env="a", key=("DB_URL",))),
        ('strip_prefix = "DB_"\n[[route]]\nfrom = "*"\nstrip_prefix = ""\n', Placed(env="", key=("DB_URL",))),
        ('add_prefix = "X_"\n[rename]\n"app/db/URL" = "DATABASE_URL"', Placed(env="", key=("DATABASE_URL",))),
        (
            '[[route]]\nfrom = "*"\nenv = "a"\n[rename]\n"app/db/URL" = "DATABASE_URL"',
            Placed(env="a", key=("DATABASE_URL",)),
        ),
    ],
)
def test_where_an_entry_goes(text: str, placed: Placed) -> None:
    assert place(text, entry("app/db", "URL")) == placed


def test_what_the_source_says_of_the_environment_counts_where_no_route_does() -> None:
    one = entry("app", "A", env="production")
    assert place("", one).env == "production"
    assert place('[[route]]\nfrom = "app/A"\nenv = "staging"', one).env == "staging"
    assert place('[[route]]\nfrom = "app/A"\nnames = "field"', one).env == "production"


def test_what_fitted_nothing_is_named() -> None:
    mapped = mapfile.parse(
        b'include = ["a/*", "b/*"]\nexclude = ["*/X"]\n[[route]]\nfrom = "c"\n'
        b'[rename]\nd = "D"\n[reading]\ne = "python"\n'
    )
    mapped.place(entry("a", "Y"))
    assert mapped.unused() == ['include "b/*"', 'exclude "*/X"', 'route "c"', 'rename "d"', 'reading "e"']
    mapped.read_as(["e"])
    mapped.place(entry("b", "X"))
    assert mapped.unused() == ['route "c"', 'rename "d"']


def test_what_gives_no_value_is_left_out_by_its_address() -> None:
    mapped = mapfile.parse(b'exclude = ["a/*"]\n')
    assert mapped.leaves_out(Left(locator="a#b", reason="denied", path="a", name="b"))
    assert not mapped.leaves_out(Left(locator="c", reason="denied", path="c", name="b"))
    assert not MapFile(include=mapped.exclude).leaves_out(Left(locator="a", reason="denied"))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("inclued = []", "inclued: no such field"),
        ("include = 'a'", "include: must be a list of patterns"),
        ("include = ['']", "include: must be a list of patterns"),
        ("add_prefix = 1", "add_prefix: must be a text"),
        ("route = 1", "route: must be [[route]] tables"),
        ("[[route]]\nenv = 'a'", "route[0].from: must be a pattern"),
        ("[[route]]\nfrom = 'a'\nto = 'b'", "route[0].to: no such field"),
        ("[[route]]\nfrom = 'a'\nnames = 'x'", "route[0].names: must be field or path"),
        ("[rename]\na = 1", "rename: must be a table of texts"),
        ("reading = []", "reading: must be a table of texts"),
        (f"a = {CANARY}", "not TOML, line 1"),
        ("\xff", "not UTF-8, line 1"),
        (
            "a = " + ".".join(["b"] * 2) + "\n" + ".".join(["c"] * 40) + " = 1",
            "a name of more than 32 parts with dots, line 2",
        ),
    ],
)
def test_a_fault_is_named_and_nothing_of_the_file_quoted(text: str, says: str) -> None:
    with pytest.raises(FormatError) as raised:
        mapfile.parse(text.encode("latin-1"))
    assert raised.value.message == says
    assert CANARY not in str(raised.value)


@given(st.binary(max_size=60))
def test_any_bytes_are_a_map_file_or_refused(data: bytes) -> None:
    with contextlib.suppress(ZoppError):
        assert isinstance(mapfile.parse(data), MapFile)


def test_a_file_that_is_nested_too_deeply_is_refused() -> None:
    with pytest.raises(FormatError):
        mapfile.parse(b"a = " + b"[" * 100_000)
