"""dotenv, INI and binary files that sops wrote are read, opened and verified."""

from typing import Any

import pytest

from zopp.errors import FormatError, IntegrityError
from zopp.sopsfile import Put, dump_plain, edit, encrypt, load_plain, read, to_plain

from .conftest import Oracle


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize(
    ("suffix", "fmt", "plain", "wanted"),
    [
        (
            ".env",
            "dotenv",
            b'# c\nA=1\nB=two words\n D = x \nQ="q"\nE=\nN=a\\nb\n',
            {"A": "1", "B": "two words", " D ": " x ", "Q": '"q"', "E": "", "N": "a\nb"},
        ),
        (".env", "dotenv", b"A_unencrypted=clear\nB=x=y\n", {"A_unencrypted": "clear", "B": "x=y"}),
        (
            ".ini",
            "ini",
            b"top=0\n; sec\n[s]\n; key\na=1\nlonger = two words\n[t]\nb=x\n",
            {"DEFAULT": {"top": "0"}, "s": {"a": "1", "longer": "two words"}, "t": {"b": "x"}},
        ),
        (".ini", "ini", b"[s]\na_unencrypted=1\nb=2\n", {"s": {"a_unencrypted": "1", "b": "2"}}),
    ],
)
def test_flat_stores(sops: Oracle, grouped: bool, suffix: str, fmt: str, plain: bytes, wanted: dict[str, Any]) -> None:
    data = sops.encrypt(plain, suffix, sops.config(grouped=grouped))
    file = read(data, fmt)
    assert len(file.metadata.groups) == (3 if grouped else 1)
    key = sops.data_key(file)
    opened = to_plain(file.decrypt(key).documents[0])
    opened = {name: value for name, value in opened.items() if value != {}}
    assert opened == wanted
    secret = next(item.text for item in file.items() if item.encrypted and item.text.startswith("ENC["))
    with pytest.raises(IntegrityError):
        read(data.replace(secret.encode(), (secret[:30] + "AAAA" + secret[34:]).encode()), fmt).decrypt(key)
    with pytest.raises(FormatError) as caught:
        edit(file, key, [Put(("A",), "x")], lastmodified="2024-01-01T00:00:00Z")
    assert caught.value.code == "unsupported_write"


def test_ini_triple_quoted_metadata(sops: Oracle) -> None:
    """3.13.0 and 3.13.1 wrote `enc` over several lines."""
    data = sops.encrypt(b"[s]\na=1\n", ".ini", sops.config()).decode()
    line = next(line for line in data.splitlines() if "__map_enc" in line)
    name, _, value = line.partition("=")
    armor = value.strip().strip('`"').replace("\\n", "\n")
    file = read(data.replace(line, f'{name}= """{armor}"""').encode(), "ini")
    assert to_plain(file.decrypt(sops.data_key(file)).documents[0])["s"] == {"a": "1"}


@pytest.mark.parametrize("raw", [b"", b"text\n", bytes(range(256)) * 4])
def test_binary(sops: Oracle, raw: bytes) -> None:
    """All byte values pass in both directions."""
    data = sops.encrypt(raw, ".bin", sops.config())
    file = read(data, "binary")
    assert dump_plain(file.decrypt(sops.data_key(file)), "binary") == raw
    key = bytes(32)
    ours = encrypt(load_plain(raw, "binary"), "binary", key, sops.wrap(key, False), lastmodified="2024-01-01T00:00:00Z")
    assert sops.decrypt(ours, ".bin") == raw
