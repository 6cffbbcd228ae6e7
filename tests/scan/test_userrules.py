"""Users' rules in gitleaks' format, RE2 for Python, allow comments and the ignore list."""

import re

import pytest
from hypothesis import given, settings, strategies as st

from tests.scan.repo import Repo, token
from zopp.errors import FormatError, Unknown
from zopp.scan import allow, regex, translate, userrules

RULE = """
title = "ours"
[[rules]]
id = "acme-token"
description = "a token of Acme"
regex = \'\'\'acme_([a-z0-9]{8})\'\'\'
keywords = ["ACME_"]
"""


def stage(repo: Repo, toml: str, text: str, path: str = "a.txt") -> None:
    repo.stage(".gitleaks.toml", toml)
    repo.stage(path, text)


def test_a_rule_of_ones_own(repo: Repo) -> None:
    stage(repo, RULE, "x acme_abcd1234 y\n")
    said = repo.guard()
    assert said.code == 1
    assert "a.txt:1:8: acme-token: a token of Acme" in said.err
    assert "abcd1234" not in said.err


def test_zopps_own_rules_run_beside_them(repo: Repo) -> None:
    stage(repo, RULE, token() + "\n")
    assert "github-token" in repo.guard().err


ALLOW = {
    "rule-regex": RULE + "[rules.allowlist]\nregexes = ['''abcd''']\n",
    "rule-plural": RULE + "[[rules.allowlists]]\nregexes = ['''zzz''', '''1234$''']\n",
    "rule-stopword": RULE + "[rules.allowlist]\nstopwords = ['BCD1']\n",
    "rule-path": RULE + "[rules.allowlist]\npaths = ['''^a\\.txt$''']\n",
    "rule-match": RULE + "[rules.allowlist]\nregexTarget = 'match'\nregexes = ['''^acme_''']\n",
    "rule-line": RULE + "[rules.allowlist]\nregexTarget = 'line'\nregexes = ['''^x ''']\n",
    "rule-and": RULE + "[rules.allowlist]\ncondition = 'AND'\nregexes = ['''abcd''']\npaths = ['''\\.txt$''']\n",
    "global": RULE + "[allowlist]\nregexes = ['''abcd''']\n",
    "global-target": RULE + "[[allowlists]]\ntargetRules = ['acme-token']\npaths = ['''txt''']\n",
    "path-of-rule": RULE + "path = '''\\.py$'''\n",
    "disabled": RULE + "[extend]\ndisabledRules = ['acme-token']\n",
    "entropy": RULE + "entropy = 5.0\n",
}
STILL = {
    "rule-and": RULE + "[rules.allowlist]\ncondition = 'AND'\nregexes = ['''abcd''']\npaths = ['''\\.py$''']\n",
    "target": RULE + "[[allowlists]]\ntargetRules = ['other']\npaths = ['''txt''']\n",
    "secret-not-match": RULE + "[rules.allowlist]\nregexes = ['''^acme_''']\n",
    "entropy": RULE + "entropy = 1.0\n",
    "usedefault": RULE + "[extend]\nuseDefault = true\n",
}


@pytest.mark.parametrize("how", ALLOW)
def test_excepted(repo: Repo, how: str) -> None:
    stage(repo, ALLOW[how], "x acme_abcd1234 y\n")
    said = repo.guard()
    assert said.code == 0, said.err


@pytest.mark.parametrize("how", STILL)
def test_not_excepted(repo: Repo, how: str) -> None:
    stage(repo, STILL[how], "x acme_abcd1234 y\n")
    assert repo.guard().code == 1


def test_an_allow_list_excepts_tokens_only(repo: Repo) -> None:
    repo.stage(".sops.yaml", "creation_rules:\n  - path_regex: ^secrets/\n")
    stage(repo, "[allowlist]\npaths = ['''.*''']\n", "x: y\n", "secrets/a.yaml")
    repo.stage("b.txt", token())
    repo.stage(".env", "PASSWORD=hunter2\n")
    said = repo.guard()
    assert said.code == 1
    assert "not-encrypted" in said.err and "env-file" in said.err
    assert "github-token: allowed by allow list" in said.err


FAULTS = {
    "unknown top field": ("rulez = 1\n", "rulez"),
    "unknown rule field": (RULE + "regexp = 'x'\n", "regexp"),
    "unknown allow field": ("[allowlist]\npath = ['x']\n", "path"),
    "lookahead": (RULE.replace("acme_([a-z0-9]{8})", "acme(?=x)"), "acme-token"),
    "no toml": ("[[", "TOML"),
    "condition": ("[allowlist]\ncondition = 'XOR'\n", "condition"),
    "missing extend": ("[extend]\npath = 'nowhere.toml'\n", "not there"),
    "url": ("[extend]\nurl = 'https://x'\n", "url"),
}


@pytest.mark.parametrize("how", FAULTS)
def test_a_faulty_file_stops_the_commit_and_is_named(repo: Repo, how: str) -> None:
    toml, word = FAULTS[how]
    stage(repo, toml, "x\n")
    said = repo.guard()
    assert said.code == 3
    assert ".gitleaks.toml" in said.err and word in said.err


def test_extend_path(repo: Repo) -> None:
    repo.stage("base.toml", RULE)
    stage(repo, "[extend]\npath = 'base.toml'\n", "x acme_abcd1234 y\n")
    assert repo.guard().code == 1


def test_config_option(repo: Repo) -> None:
    repo.write("own.toml", RULE)
    repo.stage("a.txt", "x acme_abcd1234 y\n")
    assert repo.zopp("scan", "--config", "own.toml").code == 1
    assert repo.zopp("scan", "--config", "nowhere.toml").code == 3


# --- Python's re in RE2's place

TRANSLATED = [
    ("a(?i)b|C", ["ab", "aB", "c", "C"], ["Ab", "x"]),
    ("(?i)key", ["KEY", "key"], ["ky"]),
    (r"x\z", ["x"], ["xy", "x\n"]),
    ("x$", ["x"], ["x\n"]),
    ("[[:alpha:]]+1", ["ab1"], ["121"]),
    ("[^[:space:]]x", ["ax"], [" x"]),
    (r"\Qa.b\E+", ["a.b"], ["axb"]),
    ("(?P<n>a)b", ["ab"], ["b"]),
    ("(?:a|b)c", ["ac", "bc"], ["c"]),
    ("((?i)a)b", ["ab", "Ab"], ["aB"]),
    (r"\x{41}", ["A"], ["a"]),
    (r"\s", [" ", "\t"], ["\v", "a"]),
    ("[[]", ["["], ["]"]),
    ("(?s:.)x", ["\nx"], ["x"]),
    ("(?i:a)b", ["Ab"], ["AB"]),
]


@pytest.mark.parametrize(("pattern", "yes", "no"), TRANSLATED)
def test_translated_as_re2_reads_it(pattern: str, yes: list[str], no: list[str]) -> None:
    import re2

    options = re2.Options()
    options.log_errors = False
    for text in (*yes, *no):
        mine = translate.compiled(pattern).search(text.encode()) is not None
        assert mine == (re2.search(pattern, text) is not None) == (text in yes), (pattern, text)


REFUSED = [r"(?U)a+", r"\pL", r"\p{Greek}", "(?=x)", "(?<!x)", r"\1", "a++", "[a", "(a", "a)", "a\\", "[[:foo:]]"]


@pytest.mark.parametrize("pattern", REFUSED)
def test_refused_by_name(pattern: str) -> None:
    with pytest.raises(FormatError):
        translate.compiled(pattern)


def test_the_time_guard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(translate, "_in_use", [True])
    with pytest.raises(Unknown, match="slow-rule"):
        userrules._timed("slow-rule", lambda: re.compile(rb"(a+)+$").match(b"a" * 40 + b"b"))
    assert userrules._timed("fast", lambda: 5) == 5


PATTERNS = st.lists(
    st.sampled_from(
        [
            "a",
            "b",
            ".",
            "\\.",
            "^",
            "$",
            "(",
            ")",
            "|",
            "*",
            "+",
            "?",
            "[ab]",
            "[^a]",
            "[a-c]",
            "\\d",
            "/",
            "(?:",
            "\\w",
            "-",
        ]
    ),
    max_size=7,
).map("".join)


@settings(max_examples=600, deadline=None)
@given(PATTERNS, st.text("ab.c1/-\n_", max_size=8))
def test_where_re_stands_in_for_re2_they_agree(pattern: str, text: str) -> None:
    mine = regex.agrees(pattern)
    if mine is None:
        return
    from zopp.sopsfile.selectors import compile_pattern

    try:
        theirs = compile_pattern(pattern)
    except FormatError:
        return
    assert (re.search(mine, text) is not None) == (theirs.search(text) is not None)


# --- the ignore list


def fingerprint(said: str) -> str:
    return said.partition("--except ")[2].split()[0]


def test_excepting_a_finding(repo: Repo) -> None:
    repo.stage("a.txt", f"x {token()}\n")
    found = fingerprint(repo.guard().err)
    assert len(found) == 32
    assert repo.zopp("scan", "--except", found).code == 2, "a reason is needed"
    assert repo.zopp("scan", "--except", "0" * 32, "--reason", "x").code == 2
    said = repo.zopp("scan", "--except", found, "--reason", "an example of the docs")
    assert said.code == 0, said.text
    assert repo.guard().code == 1, "the list counts once it is staged"
    repo.add()
    said = repo.guard()
    assert said.code == 0
    assert "github-token: allowed by ignore list" in said.err
    repo.stage("a.txt", f"x {token()} {token(2)}\n")
    assert repo.guard().code == 1, "another one on the same line is seen"
    text = (repo.path / ".zopp/guard-ignore").read_text()
    assert "an example of the docs" in text and token()[4:] not in text
    assert repo.zopp("scan", "--no-exceptions").code == 1


def test_the_list_in_two_repositories_has_other_hashes(tmp_path_factory: pytest.TempPathFactory) -> None:
    prints = []
    for _ in range(2):
        repo = Repo(tmp_path_factory.mktemp("r")).start()
        repo.stage("a.txt", token())
        prints.append(fingerprint(repo.guard().err))
        assert prints[-1] == fingerprint(repo.guard().err)
    assert prints[0] != prints[1]


@pytest.mark.parametrize(
    "text", ["", "x\n", "zopp-guard-ignore-v1 xyz\n", f"zopp-guard-ignore-v1 {'0' * 64}\nrule nohash # x\n"]
)
def test_a_damaged_list_stops_the_commit(repo: Repo, text: str) -> None:
    with pytest.raises(FormatError):
        allow.parse(text.encode())
    repo.stage(".zopp/guard-ignore", text)
    repo.stage("a.txt", token())
    said = repo.guard()
    assert said.code == 1 and ".zopp/guard-ignore: could not be told" in said.err


def test_the_list_round_trips() -> None:
    made = allow.IgnoreList(b"k" * 32, [("b", "1" * 32, "", "two"), ("a", "0" * 32, "x/*", "one # two")])
    again = allow.parse(made.render().encode())
    assert again.key == made.key and len(again.entries) == 2 and again.entries[0][0] == "a"


def test_an_exception_inside_an_encoded_text_covers_only_itself(repo: Repo) -> None:
    """Another token in the same base64 text, of another rule and shorter, is seen."""
    import base64

    from zopp.scan.catalogue import HEX, some

    other = "squ" + "_" + some(HEX, 40)
    text = base64.b64encode(f"a {token()} b {other} c".encode()).decode()
    repo.stage("a.txt", text + "\n")
    said = repo.guard().err
    assert "github-token" in said and "sonar-token" in said
    assert repo.zopp("scan", "--except", fingerprint(said), "--reason", "x").code == 0
    repo.add()
    said = repo.guard()
    assert said.code == 1 and "allowed by ignore list" in said.err
