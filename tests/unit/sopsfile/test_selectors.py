"""Which values are encrypted (sops-compat 5): key selectors, comment selectors, invalid patterns."""

import pytest
from hypothesis import given, settings, strategies as st

from zopp.errors import FormatError
from zopp.sopsfile import DEFAULT_SELECTOR, Selector, load_plain, read, selectors

from .samples import KEY, encrypted

YAML = b"# top\na: 1\nb_unencrypted: x\nmydata2:\n  # in\n  k: v\nm:\n  data: z\n  q: 2\n"


@pytest.mark.parametrize(
    ("kind", "pattern", "clear"),
    [
        ("unencrypted_suffix", "_unencrypted", {"b_unencrypted"}),
        ("unencrypted_suffix", "2", {"mydata2"}),
        ("encrypted_suffix", "data", {"a", "b_unencrypted", "mydata2", "q", "#"}),
        ("unencrypted_regex", "data", {"mydata2", "data"}),
        ("encrypted_regex", "data", {"a", "b_unencrypted", "q", "#"}),
        ("encrypted_regex", "^(a|q)$", {"b_unencrypted", "mydata2", "data", "#"}),
    ],
)
def test_key_selectors(kind: str, pattern: str, clear: set[str]) -> None:
    """Every component of the path counts, unanchored; a comment has the path of its container."""
    data = encrypted(load_plain(YAML, "yaml"), selector=Selector(kind, pattern))
    found = read(data, "yaml")
    got = {item.path[0] if item.path[0] == "mydata2" else item.path[-1] for item in found.items() if not item.encrypted}
    if data.startswith(b"# top"):
        got.add("#")
    assert got == clear
    assert found.decrypt(KEY) == load_plain(YAML, "yaml")


COMMENTED = b"""d:
  # sops:enc
  # second
  x: 1
  w: 2
l:
- 1
# sops:enc
# more
- 2
- 3
"""


def test_encrypted_comment_regex() -> None:
    """The match stays clear; what follows it, up to and with the next value, is encrypted (#2281 fixed reading)."""
    data = encrypted(load_plain(COMMENTED, "yaml"), selector=Selector("encrypted_comment_regex", "sops:enc"))
    lines = data.decode().split("sops:\n")[0].splitlines()
    assert lines[1] == "    # sops:enc"
    assert lines[2].startswith("    #ENC[")
    assert lines[3].startswith("    x: ENC[")
    assert lines[4] == "    w: 2"
    assert lines[6:8] == ["    - 1", "    # sops:enc"]
    assert lines[8].startswith("    - ENC[")
    assert lines[8].endswith(",type:comment]")
    assert lines[9].startswith("    - ENC[")
    assert lines[10] == "    - 3"
    assert read(data, "yaml").decrypt(KEY) == load_plain(COMMENTED, "yaml")


def test_unencrypted_comment_regex() -> None:
    data = encrypted(load_plain(COMMENTED, "yaml"), selector=Selector("unencrypted_comment_regex", "sops:enc"))
    lines = data.decode().split("sops:\n")[0].splitlines()
    assert lines[1:4] == ["    # sops:enc", "    # second", "    x: 1"]
    assert lines[4].startswith("    w: ENC[")
    assert read(data, "yaml").decrypt(KEY) == load_plain(COMMENTED, "yaml")


@pytest.mark.parametrize("pattern", ["[", "(?=a)", "(?<!a)", "a{2,1}", "\\"])
def test_invalid_pattern_is_an_error(pattern: str) -> None:
    """sops would write the file in the clear. The pattern is not quoted."""
    with pytest.raises(FormatError) as caught:
        encrypted({"a": "x"}, selector=Selector("encrypted_regex", pattern))
    assert caught.value.code == "bad_regex"
    data = encrypted({"a": "x"}, selector=Selector("encrypted_regex", "^a$"))
    bad = data.replace(b"^a$", b"'" + pattern.encode() + b"'")
    with pytest.raises(FormatError) as caught:
        read(bad, "yaml")
    assert caught.value.code == "bad_regex"


def test_selector_that_encrypts_nothing() -> None:
    selector = Selector("encrypted_regex", "nothing")
    with pytest.raises(FormatError) as caught:
        encrypted({"a": "x"}, selector=selector)
    assert caught.value.code == "nothing_encrypted"
    assert b"a: x\n" in encrypted({"a": "x"}, selector=selector, allow_clear=True)


def test_selects() -> None:
    """The public test takes keys, indices and comments."""
    assert DEFAULT_SELECTOR.selects(("a", 0, "b"))
    assert not DEFAULT_SELECTOR.selects(("a_unencrypted", 0))
    noted = Selector("encrypted_comment_regex", "secret")
    assert noted.selects(("a",), (" secret",))
    assert not noted.selects(("secret",), (" other",))
    with pytest.raises(FormatError):
        Selector("other", "x")
    with pytest.raises(FormatError):
        Selector("encrypted_regex", "")


@settings(max_examples=400, deadline=None)
@given(
    st.lists(st.sampled_from(["^", "$", "(", ")", "|", "a", "data", "-", "_", "1", "."]), max_size=8).map("".join),
    st.sampled_from(["", "a", "data", "1", "a1", "xa", "a\n", "-", "_", "adata", "dataa"]),
)
def test_plain_words_mean_what_re2_says(pattern: str, text: str) -> None:
    """`^(data|stringData)$` is decided without RE2, with its answers."""
    import re2

    words = selectors._words(pattern)
    if words is not None:
        assert (text in words) == (re2.search(pattern, text) is not None)


def test_plain_words_are_recognised() -> None:
    assert selectors._words("^(data|stringData)$") == {"data", "stringData"}
    assert selectors._words("^password$") == {"password"}
    for other in ("data", "^data", "^a|b$", "^(a|)$", "^(a.b)$", "^()$", "^$", "^((a))$", ""):
        assert selectors._words(other) is None, other
