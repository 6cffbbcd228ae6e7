"""sops files of elsewhere, written by the real sops: formats, groups, types, notes; and what is refused."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pytest

from tests.oracle.conftest import Oracle
from zopp.errors import FormatError, IntegrityError, Unknown, ZoppError
from zopp.exchange.entry import Reading
from zopp.exchange.scalars import to_bytes
from zopp.exchange.sources import sops as source
from zopp.keys import identity
from zopp.sopsfile import Timestamp

CANARY = "kanarienvogel7"


def matching(oracle: Oracle, *, only: int | None = None) -> source.Matching:
    """The oracle's keys, or one of them, as a keyring hands them out."""
    found = [one for key in oracle.identities for one in identity.parse(str(key), "test")]
    mine = found if only is None else [found[only]]

    def match(recipients: Iterable[str]) -> Iterator[identity.Identity]:
        wanted = set(recipients)
        return iter([one for one in mine if one.recipient in wanted])

    return match


def read(oracle: Oracle, plain: str | bytes, suffix: str, form: str, **options: bool) -> Reading:
    data = plain.encode() if isinstance(plain, str) else plain
    return source.read(oracle.encrypt(data, suffix, oracle.config(**options)), form, f"old{suffix}", matching(oracle))


def values(reading: Reading) -> dict[str, object]:
    return {".".join(entry.key): entry.value for entry in reading.entries}


YAML = """# heading
# the main one
A: x
db:
    # of the team
    port: 5432
    on: true
    ratio: 1.5
    none: null
    hosts:
        - a
        - n: 1
B_unencrypted: clear
empty: {}
"""


def test_yaml_keeps_types_and_comments(sops: Oracle) -> None:
    reading = read(sops, YAML, ".yaml", "yaml")
    assert values(reading) == {
        "A": "x", "db.port": 5432, "db.on": True, "db.ratio": 1.5, "db.none": None, "db.hosts": ["a", {"n": 1}],
        "B_unencrypted": "clear", "empty": {},
    }  # fmt: skip
    notes = {".".join(entry.key): entry.note for entry in reading.entries}
    assert notes["A"] == "heading\nthe main one" and notes["db.port"] == "of the team" and notes["db.on"] == ""
    assert reading.one_file and reading.covers == ("old.yaml#",)
    assert [entry.locator for entry in reading.entries][:2] == ["old.yaml:3", "old.yaml:6"]


def test_the_recipients_are_said_for_the_user_to_grant(sops: Oracle) -> None:
    (warning,) = read(sops, "A: x\n", ".yaml", "yaml", grouped=True).warnings
    assert all(recipient in warning for recipient in sops.recipients)
    assert "not taken over" in warning


@pytest.mark.parametrize(
    ("suffix", "form", "plain", "found"),
    [
        (".json", "json", '{"A": "x", "n": {"p": 1, "l": [1, "a"]}}', {"A": "x", "n.p": 1, "n.l": [1, "a"]}),
        (".env", "dotenv", "# note\nA=x\nB=a b\\nc\n", {"A": "x", "B": "a b\nc"}),
        (
            ".ini",
            "ini",
            "TOP = t\n[db]\n; note\nport = 5432\n[x]\nA = b\n",
            {"TOP": "t", "db.port": "5432", "x.A": "b"},
        ),
        (".bin", "binary", b"-----BEGIN X-----\nabc\n", {"data": "-----BEGIN X-----\nabc\n"}),
    ],
)
def test_the_other_formats(sops: Oracle, suffix: str, form: str, plain: str, found: dict[str, object]) -> None:
    reading = read(sops, plain, suffix, form)
    assert values(reading) == found
    notes = {entry.note for entry in reading.entries} - {""}
    assert notes == ({"note"} if form in ("dotenv", "ini") else set())


def test_bytes_in_a_binary_file_are_marked(sops: Oracle) -> None:
    raw = bytes(range(256))
    (entry,) = read(sops, raw, ".bin", "binary").entries
    assert to_bytes(entry.value) == raw


def test_times_are_times_but_text_in_a_list(sops: Oracle) -> None:
    reading = read(sops, "t: 2024-01-01T10:00:00Z\nl: [2024-01-01T10:00:00Z]\n", ".yaml", "yaml")
    assert values(reading) == {"t": Timestamp("2024-01-01T10:00:00Z"), "l": ["2024-01-01T10:00:00Z"]}


def test_key_groups_open_from_their_threshold_on(sops: Oracle) -> None:
    data = sops.encrypt(b"A: x\n", ".yaml", sops.config(grouped=True))
    assert values(source.read(data, "yaml", "old.yaml", matching(sops))) == {"A": "x"}
    with pytest.raises(Unknown) as raised:
        source.read(data, "yaml", "old.yaml", matching(sops, only=0))
    assert raised.value.code == "key.none" and "1 of its 3 key groups" in raised.value.message


def test_several_documents_are_read_and_their_keys_collide(sops: Oracle) -> None:
    reading = read(sops, "A: x\n---\nB: y\n", ".yaml", "yaml")
    assert values(reading) == {"A": "x", "B": "y"}


def test_no_key_is_told_from_a_changed_file(sops: Oracle) -> None:
    data = sops.encrypt(b"A: x\n", ".yaml", sops.config())
    with pytest.raises(Unknown) as raised:
        source.read(data, "yaml", "old.yaml", matching(sops, only=1))
    assert raised.value.code == "key.none"
    other = sops.encrypt(b"A: y\nB: x\n", ".yaml", sops.config())
    line = next(line for line in data.split(b"\n") if line.startswith(b"A:"))
    swapped = b"\n".join([line if old.startswith(b"A:") else old for old in other.split(b"\n")])
    with pytest.raises(IntegrityError):
        source.read(swapped, "yaml", "old.yaml", matching(sops))


def test_the_mac_must_verify(sops: Oracle) -> None:
    """A clear value that was changed is under no tag; only the MAC tells."""
    data = sops.encrypt(b"A: x\nB_unencrypted: clear\n", ".yaml", sops.config())
    assert b"B_unencrypted: clear" in data
    with pytest.raises(IntegrityError):
        source.read(data.replace(b": clear", b": other"), "yaml", "old.yaml", matching(sops))


FOREIGN = """A: ENC[AES256_GCM,data:YQ==,iv:YQ==,tag:YQ==,type:str]
sops:
    {kind}
    lastmodified: "2024-01-01T00:00:00Z"
    mac: ENC[AES256_GCM,data:YQ==,iv:YQ==,tag:YQ==,type:str]
    version: 3.11.0
"""
KMS = (
    'kms:\n        - arn: arn:aws:kms:eu-west-1:000000000000:key/x\n          created_at: "2024-01-01T00:00:00Z"\n'
    '          enc: eA==\n          aws_profile: ""'
)
PGP = 'pgp:\n        - created_at: "2024-01-01T00:00:00Z"\n          enc: x\n          fp: "00"'


@pytest.mark.parametrize(("kind", "text"), [("kms", KMS), ("pgp", PGP)])
def test_files_without_an_age_recipient_are_refused_with_the_way(kind: str, text: str) -> None:
    with pytest.raises(FormatError) as raised:
        source.read(FOREIGN.format(kind=text).encode(), "yaml", "old.yaml", lambda recipients: iter([]))
    assert raised.value.message == f"has no age recipient, only {kind}"
    assert raised.value.hint == "sops decrypt old.yaml | zopp import yaml -"


@pytest.mark.parametrize(
    ("data", "form"),
    [
        (b"A: x\n", "yaml"), (b'{"A": "x"}', "json"), (b"A=x\n", "dotenv"), (b"[a]\nA = x\n", "ini"),
        (b"", "yaml"), (b"\xff", "yaml"), (b"\xff", "binary"), (b"[" * 100_000, "yaml"), (b"[" * 100_000, "json"),
        (b"a: *b", "yaml"), (f"A: {CANARY}\nA: {CANARY}\n".encode(), "yaml"),
        (f"A: {CANARY}\nsops: {CANARY}\n".encode(), "yaml"), (f'{{"sops": {{"mac": "{CANARY}"}}}}'.encode(), "json"),
    ],
)  # fmt: skip
def test_what_is_no_sops_file_is_refused_and_not_quoted(data: bytes, form: str) -> None:
    with pytest.raises(ZoppError) as raised:
        source.read(data, form, "old", lambda recipients: iter([]))
    assert CANARY not in f"{raised.value} {raised.value.hint} {raised.value.data}"


def test_every_cut_and_flip_is_a_zopp_error_without_a_value(sops: Oracle) -> None:
    data = sops.encrypt(f"A: {CANARY}\nB: [1, 2]\n".encode(), ".yaml", sops.config())
    opener = matching(sops)
    assert values(source.read(data, "yaml", "old", opener)) == {"A": CANARY, "B": [1, 2]}
    changed = [data[:at] for at in range(0, len(data), 37)]
    changed += [data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :] for at in range(0, len(data), 29)]
    refused = 0
    for one in changed:
        try:
            reading = source.read(one, "yaml", "old", opener)
        except ZoppError as exc:
            refused += 1
            said = f"{exc} {exc.hint}"
        else:
            said = repr(reading)
        assert CANARY not in said
    assert refused > len(changed) // 2
