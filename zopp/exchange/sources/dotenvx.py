"""A .env file with values encrypted by dotenvx, as a source.

A value is `encrypted:` and base64 of an ephemeral secp256k1 point (65 bytes, uncompressed), a nonce (16), a tag (16)
and the ciphertext. The key is HKDF-SHA256 without salt and info over that point and the shared point, both
uncompressed; AES-256-GCM without additional data (measured: files of the real CLI). No signature covers the file.

Private keys come in as text by name; where they are looked for is the caller's. Source: importers.md §7; dotenvx'
published source for the names of keys.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from zopp.errors import Unknown
from zopp.exchange import dotenv
from zopp.exchange.entry import Entry, Left, Reading, Remaining
from zopp.exchange.scalars import from_bytes
from zopp.exchange.sources import dotenv as plain, files

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ec

PUBLIC, PRIVATE = "DOTENV_PUBLIC_KEY", "DOTENV_PRIVATE_KEY"
_PREFIX = "encrypted:"
_POINT, _NONCE, _TAG = 65, 16, 16
_FIELD = 2**256 - 2**32 - 977
_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
_HEX = re.compile(r"[0-9a-fA-F]{64}")
_MAX_KEYS = 16
_LIVE = ("op://", "bw://")

SAYS = {
    "no-private-key": "none of the private keys at hand opens it",
    "damaged": "is not a value that dotenvx encrypted",
}


class PrivateKey:
    """A secp256k1 private key of dotenvx'. Its repr shows nothing."""

    __slots__ = ("_key",)

    def __init__(self, text: str) -> None:
        """`text`: 64 hexadecimal digits. ValueError for anything else, without quoting it."""
        from cryptography.hazmat.primitives.asymmetric import ec

        number = int(text, 16) if _HEX.fullmatch(text) else 0
        if not 0 < number < _ORDER:
            raise ValueError("not a private key of dotenvx")
        self._key: ec.EllipticCurvePrivateKey = ec.derive_private_key(number, ec.SECP256K1())

    def __repr__(self) -> str:
        return "PrivateKey(…)"

    def open(self, sealed: bytes) -> bytes | None:
        """The plaintext of what stands behind `encrypted:`, decoded; None if it is for another key or was changed.
        ValueError if it cannot be for any key."""
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
        from cryptography.hazmat.primitives.kdf.hkdf import HKDF

        point, nonce = sealed[:_POINT], sealed[_POINT : _POINT + _NONCE]
        tag, body = sealed[_POINT + _NONCE : _POINT + _NONCE + _TAG], sealed[_POINT + _NONCE + _TAG :]
        if len(tag) != _TAG or point[0] != 4:
            raise ValueError("cut")
        public = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256K1(), point)
        x = self._key.exchange(ec.ECDH(), public)
        # ECDH gives the shared point's x alone; the tag says which of its two y was meant.
        number = int.from_bytes(x, "big")
        root = pow(number * number * number + 7, (_FIELD + 1) // 4, _FIELD)
        for y in (root, _FIELD - root):
            derive = HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=None)
            key = derive.derive(point + b"\x04" + x + y.to_bytes(32, "big"))
            try:
                return AESGCM(key).decrypt(nonce, body + tag, None)
            except InvalidTag:
                continue
        return None


def read(data: bytes, locator: str, keys: Mapping[str, str], *, keys_place: str = "") -> Reading:
    """One file. `keys`: private keys by the names that dotenvx gives them, each one or several with commas between.
    `keys_place`: the file in which some of them lay. Values that do not open are rejected by name; Unknown
    (`key.none`) if there is no key at all for a file that needs one. FormatError as `dotenv.parse`."""
    parsed = plain.read(data, locator, dialect="dotenv")
    names = key_names(locator, [entry.name for entry in parsed.entries])
    sealed = [entry.name for entry in parsed.entries if str(entry.value).startswith(_PREFIX)]
    private, warnings = _private_keys(names, keys) if sealed else ([], [])
    if sealed and not private:
        raise Unknown(
            f"{len(sealed)} value{'s' * (len(sealed) != 1)} cannot be opened without a private key",
            code="key.none", place=locator, hint=f"put it into {names[0]}, or into .env.keys beside the file",
        )  # fmt: skip
    if sealed:
        warnings.append("no signature covers the file: whoever has its public key could have replaced any value")
    entries: list[Entry] = []
    # Only one dialect counts here, so no other is offered.
    left = [replace(one, says=one.says.partition("; could be read as")[0]) for one in parsed.left]
    for entry in parsed.entries:
        if entry.name.startswith(PUBLIC):
            continue
        made = _entry(entry, locator, private)
        (entries if isinstance(made, Entry) else left).append(made)  # type: ignore[arg-type]
    kept = [text for text in parsed.warnings if "[dollar-kept]" not in text]
    remains = [Remaining(todo="delete", place=keys_place, why="it opens every version of the file")] * bool(keys_place)
    return replace(
        parsed, kind="dotenvx", entries=tuple(entries), left=tuple(left), warnings=(*kept, *warnings),
        remains=(*remains, *parsed.remains),
    )  # fmt: skip


def _entry(entry: Entry, locator: str, private: Sequence[PrivateKey]) -> Entry | Left:
    text = str(entry.value)
    note = "\n".join([line for line in entry.note.split("\n") if line != locator.rpartition("/")[2]])
    if text.startswith(_LIVE):
        return Left(
            locator=entry.locator, reason=f"a live reference ({text[:2]}), which holds no value", name=entry.name,
            id=entry.id,
        )  # fmt: skip
    if not text.startswith(_PREFIX):
        return replace(entry, note=note, remarks=(*entry.remarks, *_dollar(text)))
    opened = _open(text[len(_PREFIX) :], private)
    if isinstance(opened, str):
        return Left(
            locator=entry.locator, reason=opened, status="rejected", name=entry.name, id=entry.id,
            says=f"{files.shown((entry.name,))}: {SAYS[opened]} [{opened}]",
        )  # fmt: skip
    value = from_bytes(opened)
    # A _PLAIN name says that others treat it as no secret, encrypted or not.
    remains = entry.remains if entry.name.endswith("_PLAIN") else ()
    return replace(entry, value=value, note=note, remains=remains, remarks=(*entry.remarks, *_dollar(value)))


def _dollar(value: str) -> tuple[str, ...]:
    """dotenvx expands names and runs $(…) after it decrypts; here the text stays as it is."""
    return ("dollar-kept",) if "$" in value else ()


def _open(text: str, private: Sequence[PrivateKey]) -> bytes | str:
    """The plaintext, or the rule by which there is none."""
    try:
        sealed = base64.b64decode(text.encode(), validate=True)
        for key in private:
            opened = key.open(sealed)
            if opened is not None:
                return opened
    except (binascii.Error, ValueError, UnicodeEncodeError):
        return "damaged"
    return "no-private-key"


def key_names(locator: str, names: Sequence[str]) -> list[str]:
    """The names of the private keys that a file may want: as its public keys are called, then as the file is."""
    found = [PRIVATE + name[len(PUBLIC) :] for name in names if name.startswith(PUBLIC)]
    base = locator.rpartition("/")[2].lower()
    base = base.removesuffix(".txt") if base.startswith(".env") else base
    parts = base.split(".")[2:4]
    suffix = "_".join(parts) if parts else base.replace(".env", "development")
    found.append(PRIVATE if base in (".env", "-") else f"{PRIVATE}_{suffix.upper()}")
    return list(dict.fromkeys([*found, PRIVATE]))


def _private_keys(names: Sequence[str], keys: Mapping[str, str]) -> tuple[list[PrivateKey], list[str]]:
    private: list[PrivateKey] = []
    warnings = []
    for name in names:
        for text in keys.get(name, "").split(",")[:_MAX_KEYS]:
            if not text.strip():
                continue
            try:
                private.append(PrivateKey(text.strip()))
            except ValueError:
                warnings.append(f"{files.shown((name,))} holds something that is no private key")
    return private, warnings


def keys_of(data: bytes) -> dict[str, str]:
    """The private keys in a `.env.keys` file; what else stands there is left alone. FormatError only for its size."""
    parsed = dotenv.parse(data, dialect="dotenv")
    return {one.name: one.value for one in parsed.assignments if one.name.startswith(PRIVATE)}
