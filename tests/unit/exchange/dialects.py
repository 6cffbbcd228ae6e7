"""The 42 measured lines of importers.md §3.1 and what each dialect must make of them. Data only; used by test_dotenv.

A cell is the list of (name, value) read, or the rule id of the problem. Where a parser would expand or run something
the cell holds what zopp does instead: `$` stays as written (or is refused where bash would use a value of its own).
Byte order marks are dropped and CRLF is read as LF in every dialect, and an unterminated quote, a bare name and a line
that a parser would leave out without a word are problems in every dialect that knows them: importers.md §3.2.
"""

from __future__ import annotations

Cell = list[tuple[str, str]] | str
ALL = ("auto", "python", "dotenv", "compose", "shell", "docker", "sops")


def a(value: str) -> Cell:
    return [("A", value)]


def same(cell: Cell) -> tuple[Cell, ...]:
    return (cell,) * 7


def most(value: str, docker: Cell, sops: Cell) -> tuple[Cell, ...]:
    """The first eight agree."""
    return (a(value),) * 5 + (docker, sops)


# number, text, (auto, python, dotenv, compose, shell, docker, sops)
ROWS: list[tuple[int, str, tuple[Cell, ...]]] = [
    (1, "A=b", same(a("b"))),
    (2, 'A="b c"', most("b c", a('"b c"'), a('"b c"'))),
    (3, "A='b c'", most("b c", a("'b c'"), a("'b c'"))),
    (4, "export A=b", most("b", "odd-name", [("export A", "b")])),
    (5, "A=b # c", most("b", a("b # c"), a("b # c"))),
    (6, "A=b#c", ("hash-in-value", a("b#c"), a("b"), a("b#c"), a("b#c"), a("b#c"), a("b#c"))),
    (7, 'A="b" # c', most("b", a('"b" # c'), a('"b" # c'))),
    (
        8,
        'A="a\\nb"',
        ("escape-in-double-quotes", a("a\nb"), a("a\nb"), a("a\nb"), a("a\\nb"), a('"a\\nb"'), a('"a\nb"')),
    ),
    (9, "A='a\\nb'", most("a\\nb", a("'a\\nb'"), a("'a\nb'"))),
    (10, "A=a\\nb", ("backslash", a("a\\nb"), a("a\\nb"), a("a\\nb"), a("anb"), a("a\\nb"), a("a\nb"))),
    (11, 'A="l1\nl2=x\nl3"', most("l1\nl2=x\nl3", "no-equals", "no-equals")),
    (12, "A='l1\nl2=x\nl3'", most("l1\nl2=x\nl3", "no-equals", "no-equals")),
    (13, "B=x\nA=$B", ("dollar", *((([("B", "x"), ("A", "$B")]),) * 6))),
    (
        14,
        'B=x\nA="${B}"',
        ("dollar", *((([("B", "x"), ("A", "${B}")]),) * 4), *((([("B", "x"), ("A", '"${B}"')]),) * 2)),
    ),
    (15, "A='$B'", most("$B", a("'$B'"), a("'$B'"))),
    (16, "A=${NOPE:-d}", ("dollar", *((a("${NOPE:-d}"),) * 6))),
    (17, "A=pa$word", ("dollar", *((a("pa$word"),) * 6))),
    (18, "A=pa$$w0rd", ("dollar", a("pa$$w0rd"), a("pa$$w0rd"), a("pa$$w0rd"), "dollar", a("pa$$w0rd"), a("pa$$w0rd"))),
    (19, 'A="p$1abc"', ("dollar", a("p$1abc"), a("p$1abc"), a("p$1abc"), "dollar", a('"p$1abc"'), a('"p$1abc"'))),
    (20, "A=$(echo hi)", ("command", *((a("$(echo hi)"),) * 3), "command", a("$(echo hi)"), a("$(echo hi)"))),
    (21, "A = b", ("space-around-equals", *((a("b"),) * 3), "space-around-equals", "odd-name", [("A ", " b")])),
    (22, "A=b  ", most("b", a("b  "), a("b  "))),
    (23, "  A=b", most("b", a("b"), [("  A", "b")])),
    (
        24,
        "A='it\\'s'",
        ("escape-in-single-quotes", a("it's"), a("it\\'s"), a("it's"), "unterminated", a("'it\\'s'"), a("'it\\'s'")),
    ),
    (
        25,
        'A="a\\"b"',
        ("escape-in-double-quotes", a('a"b'), a('a\\"b'), a('a"b'), a('a"b'), a('"a\\"b"'), a('"a\\"b"')),
    ),
    (
        26,
        'A="a\\\\"',
        ("escape-in-double-quotes", a("a\\"), a("a\\\\"), a("a\\"), a("a\\"), a('"a\\\\"'), a('"a\\\\"')),
    ),
    (
        27,
        "A=`a \"b\" 'c'`",
        (
            "backtick",
            a("`a \"b\" 'c'`"),
            a("a \"b\" 'c'"),
            *((a("`a \"b\" 'c'`"),)),
            "backtick",
            *((a("`a \"b\" 'c'`"),) * 2),
        ),
    ),
    (28, "A=", same(a(""))),
    (29, "A\nB=1", same("no-equals")),
    (30, "A: b", ("colon", "colon", a("b"), a("b"), "colon", "no-equals", "no-equals")),
    (31, "A.B-c=1", ("odd-name", *(([("A.B-c", "1")],) * 3), "odd-name", *(([("A.B-c", "1")],) * 2))),
    (32, "A=1\nA=2", same(a("2"))),
    (33, "A=b\r\n", same(a("b"))),
    (34, "\ufeffA=b", same(a("b"))),
    (
        35,
        "A=C:\\new\\tab",
        ("backslash", *((a("C:\\new\\tab"),) * 3), a("C:newtab"), a("C:\\new\\tab"), a("C:\new\\tab")),
    ),
    (
        36,
        'A="C:\\new\\tab"',
        (
            "escape-in-double-quotes",
            a("C:\new\tab"),
            a("C:\new\\tab"),
            a("C:\new\tab"),
            a("C:\\new\\tab"),
            a('"C:\\new\\tab"'),
            a('"C:\new\\tab"'),
        ),
    ),
    (
        37,
        'A={"k":"v # x"}',
        ("mid-quote", *((a('{"k":"v'),) * 3), a("{k:v # x}"), a('{"k":"v # x"}'), a('{"k":"v # x"}')),
    ),
    (38, "A=b c", ("unquoted-space", *((a("b c"),) * 3), "unquoted-space", a("b c"), a("b c"))),
    (39, 'A="b\nB=1', ("unterminated",) * 5 + ([("A", '"b'), ("B", "1")],) * 2),
    (40, "A=b=c==", same(a("b=c=="))),
    (
        41,
        "A=-----BEGIN TEST KEY-----\nbm90IGEga2V5\n-----END TEST KEY-----",
        ("unquoted-space", *(("cut-pem",) * 3), "unquoted-space", "cut-pem", "cut-pem"),
    ),
    (42, 'A=a"b c"d', ("mid-quote", *((a('a"b c"d'),) * 3), a("ab cd"), a('a"b c"d'), a('a"b c"d'))),
]
