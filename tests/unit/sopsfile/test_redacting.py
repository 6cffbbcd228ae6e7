"""A sops file as text without values: any bytes, one line a key, and never a value."""

from hypothesis import given, settings, strategies as st

from zopp.sopsfile import Drop, Put, edit, read, redacting, replace_groups

from .samples import GROUPED, KEY, LATER, encrypted, entry

VALUE = {"a": "hello", "m": {"x": "1", "y": 2}, "l": ["p"], "c_unencrypted": "clear-canary", "z": None, "e": ""}
CANARY = "hunter2-canary"


def text(data: bytes, fmt: str = "yaml") -> list[str]:
    return list(redacting.redacted(data, fmt))


def test_one_line_a_key() -> None:
    for fmt in ("yaml", "json"):
        said = text(encrypted(VALUE, fmt), fmt)
        names = [line.partition(": ")[0] for line in said[: said.index("---")]]
        assert names == ["a", "m.x", "m.y", "l.0", "c_unencrypted", "z", "e"]
        assert said[0].startswith("a: str ")
        assert said[2].startswith("m.y: int ")
        assert said[4].startswith("c_unencrypted: str in the clear ")
        assert said[5:7] == ["z: null", "e: str empty"]
        assert said[said.index("---") :] == ["---", "recipient: age1test", "selector: unencrypted_suffix _unencrypted"]
        assert "clear-canary" not in "\n".join(said)


def test_only_what_changed_is_another_line() -> None:
    """The MAC and the time, which differ with every write, are no lines."""
    before = encrypted(VALUE)
    after = edit(read(before, "yaml"), KEY, [Put(("a",), "other"), Drop(("l", 0))], lastmodified=LATER)
    one, other = text(before), text(after)
    assert [line.partition(":")[0] for line in one if line not in other] == ["a", "l.0"]
    assert [line.partition(":")[0] for line in other if line not in one] == ["a", "l"]
    clear = edit(read(before, "yaml"), KEY, [Put(("c_unencrypted",), CANARY)], lastmodified=LATER, allow_clear=True)
    assert [line.partition(":")[0] for line in text(clear) if line not in one] == ["c_unencrypted"]
    assert CANARY not in "\n".join(text(clear))


def test_the_digest_of_a_clear_value_is_not_a_plain_hash() -> None:
    """Output is read where files are not: whoever guesses the value must not see that the guess is right."""
    from zopp._fast import sha256

    said = text(encrypted(VALUE))[4]
    assert not any(sha256(guess).hex()[:12] in said for guess in (b"clear-canary", b"'clear-canary'"))


def test_groups_recipients_and_other_metadata() -> None:
    grouped = text(replace_groups(read(encrypted({"a": "x"}), "yaml"), GROUPED, threshold=2))
    assert "recipient: age1b (group 2)" in grouped
    assert "key groups: 3, threshold 2" in grouped
    long = "age1" + "q" * 58
    said = text(replace_groups(read(encrypted({"a": "x"}), "yaml"), ((entry(), entry(long)),), threshold=None))
    assert "recipient: age1qqqqqqqq…qqqqqqqq" in said
    no_mac = b"\n".join(line for line in encrypted({"a": "x"}).split(b"\n") if b"mac:" not in line)
    assert "there is no MAC" in text(no_mac)


def test_conflict_markers() -> None:
    """What git feeds a converter during a conflict: both sides by their digests."""
    data = encrypted({"a": "one", "b": "two"}).decode().split("\n")
    data[0:1] = ["<<<<<<< ours", data[0], "=======", data[0].replace("data:", "data:X"), ">>>>>>> theirs"]
    said = text("\n".join(data).encode())
    assert said[0] == "<<<<<<< ours"
    assert said[1].startswith("a: str ")
    assert said[2] == "======="
    assert said[3].startswith("a: str ")
    assert said[3] != said[1]
    assert said[4] == ">>>>>>> theirs"
    assert any("recipient: age1test" in line for line in said)
    assert not any("mac" in line or "lastmodified" in line for line in said)


def test_broken_files_show_no_value() -> None:
    good = encrypted({"a": "one"}).decode()
    broken = good + f"\n\tPASSWORD: {CANARY}\n{CANARY}\n- '{CANARY}'\nx={CANARY}\n"
    said = "\n".join(text(broken.encode()))
    assert CANARY not in said
    assert "PASSWORD: (not encrypted)" in said
    assert "not shown" in said


def test_files_without_ciphertext_show_nothing_at_all() -> None:
    """A key or a password may look like a name: of a file that is not sops' nothing is shown."""
    pem = b"-----BEGIN PRIVATE KEY-----\nMIIEvQ/abcDEF\nabcdefgh==\nhunter2: x\n-----END PRIVATE KEY-----\n"
    assert text(pem) == ["(5 lines not shown)"]
    assert text(b"PASSWORD=hunter2\n", "dotenv") == ["(1 line not shown)"]
    assert text(b"") == []
    assert text(b"\0\xff\xfe", "binary") == ["(1 line not shown)"]


def test_names_are_printable() -> None:
    data = encrypted({"plain": "x"}).replace(b"plain:", b'"\\e[31m\\u202e":')
    assert all(line.isprintable() for line in text(data))
    marks = b"<<<<<<< \x1b[31m\n" + data
    assert all(line.isprintable() for line in text(marks))


def test_large_files_go_line_by_line() -> None:
    body = encrypted({"a": "x"}).decode()
    line = body.split("\n")[0]
    many = "".join(line.replace("a:", f"k{n}:") + "\n" for n in range(3)) + body
    whole = text(many.encode())
    limit, redacting.LARGE = redacting.LARGE, 10
    try:
        raw = text(many.encode())
    finally:
        redacting.LARGE = limit
    assert [row for row in raw if row.startswith(("k", "a"))] == [row for row in whole if row.startswith(("k", "a"))]


@settings(max_examples=200, deadline=None)
@given(data=st.binary(max_size=400), fmt=st.sampled_from(["yaml", "json", "dotenv", "ini", "binary"]))
def test_any_bytes(data: bytes, fmt: str) -> None:
    good = encrypted({"a": "x"})
    for mixed in (data, data + good, good[: len(good) // 2] + data, good.replace(b"mac", data[:4])):
        assert all(isinstance(line, str) and line.isprintable() for line in text(mixed, fmt))
