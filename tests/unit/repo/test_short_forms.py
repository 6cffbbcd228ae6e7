"""Which command lines the short way takes, and that it prints what the full path prints."""

import os

import pytest
from hypothesis import given, strategies as st

from tests.unit.repo.workshop import Workshop
from zopp.cli import fast
from zopp.exchange.scalars import scalar_text
from zopp.repo import quick


class Opened(Exception):
    """The short way went as far as opening the environment."""


@pytest.fixture
def forms(monkeypatch: pytest.MonkeyPatch) -> None:
    def opened(*args: object) -> None:
        raise Opened(*args[2:4])

    monkeypatch.setattr(quick, "open_quick", opened)
    monkeypatch.setattr(quick, "set_text", opened)
    monkeypatch.setattr(fast, "_stdin", lambda: b"value")
    monkeypatch.setattr(os, "isatty", lambda fd: False)


@pytest.mark.parametrize(
    ("argv", "project", "env"),
    [
        ("get A", None, None),
        ("get a.b.0 -e dev", None, "dev"),
        ("get -e dev A --project api", "api", "dev"),
        ("get --env dev -p api A", "api", "dev"),
        ("list", None, None),
        ("list -e dev", None, "dev"),
        ("run -- true", None, None),
        ("run -e dev -- sh -c x -e y -- z", None, "dev"),
        ("set A -e dev", None, "dev"),
    ],
)
def test_plain_forms_are_taken(forms: None, argv: str, project: str | None, env: str | None) -> None:
    with pytest.raises(Opened) as caught:
        fast.try_fast(argv.split(), {})
    assert caught.value.args == (project, env)


@pytest.mark.parametrize(
    "argv",
    [
        "", "get", "get A B", "get A -e", "get A -e -p", "get A -e x -e y", "get A --json", "get -q A",
        "get A --env=dev", "get A -edev", "get -- A", "get A -- b", "get --help", "run", "run --", "run true",
        "run x -- true", "list A", "list --json", "set", "set A B", "set A=b", "set A.b", 'set a"b', "set LD_PRELOAD",
        "set PATH", "set sops", "set 1A", "set A -m message", "set A --strip", "set A --note x", "unset A",
        "secret get A", "-C . get A", "--debug get A", "set ZOPP_X", "set sops_a", "set -- A",
    ],
)  # fmt: skip
def test_everything_else_is_left_to_the_full_path(forms: None, argv: str) -> None:
    assert fast.try_fast(argv.split(), {}) is None


def test_a_terminal_is_asked_by_the_full_path(forms: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "isatty", lambda fd: True)
    assert fast.try_fast(["set", "A"], {}) is None


@pytest.mark.parametrize("data", [b"", b"\xff", b"a\0b"])
def test_what_is_no_text_is_refused_by_the_full_path(forms: None, monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(fast, "_stdin", lambda: data)
    assert fast.try_fast(["set", "A"], {}) is None


values = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary()
    | st.sampled_from([1e22, 1e-7, -0.0, 1.0, 123456789.123, 5e-324, 1.7976931348623157e308])
)  # fmt: skip


@given(values)
def test_values_are_printed_alike(value: object) -> None:
    text = fast._text(value)
    assert text is None or text == scalar_text(value)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    made = Workshop(tmp_path_factory.mktemp("forms"))
    for key, kind, text in (("N", "int", "7"), ("F", "float", "1.5"), ("B", "bool", "true"), ("Z", "null", "")):
        made.zopp("set", key, "--type", kind, data=text.encode())
    made.zopp("set", "nest.deep", data=b"inner")
    return made


def test_both_ways_print_the_same(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--quiet` sends the same question on the full path."""
    monkeypatch.chdir(shop.repo)
    for key, short in {
        "ALPHA": 0,
        "N": 0,
        "F": 0,
        "B": 0,
        "nest.deep": 0,
        "Z": None,
        "nest": None,
        "none": None,
    }.items():
        assert fast.try_fast(["get", key], shop.env) == short
        if short == 0:
            assert capsys.readouterr().out.encode() == shop.zopp("get", key, "--quiet").stdout
    assert fast.try_fast(["list"], shop.env) == 0
    assert capsys.readouterr().out.encode() == shop.zopp("list", "--quiet").stdout


def test_run_gives_the_child_the_same_environment(shop: Workshop) -> None:
    """Key variables are gone in both; a null has no variable, so this one goes to the full path."""
    shop.env["ZOPP_AGE_KEY"] = ""
    shop.env["CI_JOB_TOKEN"] = "canary"
    try:
        assert (
            shop.zopp("run", "-e", "staging", "--", "env").stdout
            == shop.zopp("run", "-e", "staging", "--quiet", "--", "env").stdout
        )
        assert b"canary" not in shop.zopp("run", "-e", "staging", "--", "env").stdout
        assert b"nest_deep=inner" in shop.zopp("run", "--", "env").stdout
    finally:
        del shop.env["ZOPP_AGE_KEY"], shop.env["CI_JOB_TOKEN"]


def test_a_command_that_is_not_there_is_127(shop: Workshop) -> None:
    done = shop.zopp("run", "-e", "staging", "--", "no-such-command", code=127)
    assert done.stderr.startswith(b"zopp: error: no-such-command: command not found\nzopp: hint: ")


def test_set_says_where_and_how_many_read_it(shop: Workshop) -> None:
    done = shop.zopp("set", "ALPHA", data=b"two\n")
    assert (done.stdout, done.stderr) == (b"", b"set ALPHA in api/development (1 reader)\n")
    assert shop.zopp("get", "ALPHA").stdout == b"two\n"
    again = shop.zopp("set", "ALPHA", data=b"two\n")
    assert again.stderr == b"ALPHA in api/development is that already; nothing written\n"
