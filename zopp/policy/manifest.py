"""The signed manifest of an environment: exact bytes, parsing, building, key commitments (brokered-grants.md §6). Lean.

A manifest is canonical JSON, so one set of facts has one byte string. `parse` checks form only; who may have signed it
and whether it fits the policy is `check` and `check_file` (not lean, in `findings`) or, on the quick path, `view`.
"""

from zopp._fast import ed25519_verify, hmac_sha256, sha256
from zopp.errors import FormatError
from zopp.keys.sshsig import preimage
from zopp.policy import canonical
from zopp.policy.names import is_env, is_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from zopp.policy.findings import Finding, SopsFile, StanzaCheck
    from zopp.policy.state import State

    Signature = tuple[bytes, str, str, bytes]
    """An SSHSIG taken apart: (public key, namespace, hash algorithm, raw 64-byte signature)."""

NAMESPACE = "zopp-secrets-v1"
MAX_FILES = 100_000

_HEX = "0123456789abcdef"
_FIELDS = {"env", "files", "generation", "groups", "meta", "policy", "prev", "signer", "v", "ws"}
_BROKERED = _FIELDS | {"threshold"}
_FILE = {"dk_by", "dk_seq", "kc", "sha512"}
_ReadOnly = type(type.__dict__)  # types.MappingProxyType without its import
_set = object.__setattr__


class FileEntry:
    """One file of a manifest. `sha512` hex of the raw bytes; `kc`, `kc1` base64url commitments (`kc1` None when
    direct); `dk_seq`, `dk_by`: at which policy seq and by whom its data key was made, both None when unknown."""

    __slots__ = ("dk_by", "dk_seq", "kc", "kc1", "sha512")
    sha512: str
    kc: str
    kc1: "str | None"
    dk_seq: "int | None"
    dk_by: "str | None"

    def __init__(
        self, sha512: str, kc: str, dk_seq: "int | None", dk_by: "str | None", kc1: "str | None" = None
    ) -> None:
        _set(self, "sha512", sha512)
        _set(self, "kc", kc)
        _set(self, "kc1", kc1)
        _set(self, "dk_seq", dk_seq)
        _set(self, "dk_by", dk_by)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("a file entry does not change")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FileEntry) and self.json() == other.json()

    def __hash__(self) -> int:
        return hash((self.sha512, self.kc, self.kc1, self.dk_seq, self.dk_by))

    def json(self) -> "dict[str, Any]":
        """As it stands in the manifest."""
        made: dict[str, Any] = {"sha512": self.sha512, "kc": self.kc, "dk_seq": self.dk_seq, "dk_by": self.dk_by}
        if self.kc1 is not None:
            made["kc1"] = self.kc1
        return made


class Manifest:
    """A well-formed manifest. `raw` the exact signed bytes, `groups` one (direct) or two (brokered) tuples of
    recipients, `files` path -> FileEntry, `prev` the hex SHA-256 of the manifest before it or None, `meta` signed and
    not interpreted."""

    __slots__ = (
        "env", "files", "generation", "groups", "meta", "policy_hash", "policy_seq", "prev", "raw", "signer", "ws",
    )  # fmt: skip
    raw: bytes
    ws: str
    env: str
    generation: int
    prev: "str | None"
    policy_seq: int
    policy_hash: str
    signer: str
    groups: "tuple[tuple[str, ...], ...]"
    files: "Mapping[str, FileEntry]"
    meta: "Mapping[str, Any]"

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("a manifest does not change")

    @property
    def hash(self) -> str:
        """Hex SHA-256 of the bytes: what the next one's `prev` holds."""
        return sha256(self.raw).hex()

    @property
    def brokered(self) -> bool:
        """Whether it lists two key groups."""
        return len(self.groups) == 2

    def __repr__(self) -> str:
        return f"Manifest({self.env!r}, generation={self.generation})"


def is_path(path: str) -> bool:
    """Whether `path` may be listed: relative to the git root with `/`, in NFC, no empty, `.` or `..` part, nothing
    under `.git` or `.zopp`, no backslash, colon or control character (A16). Symlinks are the reader's to refuse."""
    if not 0 < len(path) <= 1024 or "\\" in path or ":" in path:
        return False
    if not path.isascii():
        from unicodedata import normalize

        if normalize("NFC", path) != path:
            return False
    if not path.replace(" ", "_").isprintable():
        return False
    parts = path.split("/")
    for part in parts:
        # Windows and HFS+ fold trailing dots, spaces and case into `.git`.
        if part.rstrip(". ") != part or part in ("", ".", "..") or part.casefold() == ".git":
            return False
    return parts[0].casefold() != ".zopp"


def _is_hex(value: "Any", size: int) -> bool:
    return type(value) is str and len(value) == size and not value.strip(_HEX)


def _is_b64(value: "Any") -> bool:
    if type(value) is not str:
        return False
    try:
        canonical.unb64(value, 32)
    except (FormatError, UnicodeError):
        return False
    return True


def _is_int(value: "Any", low: int) -> bool:
    return type(value) is int and value >= low


def _group(value: "Any", place: str, out: "list[tuple[str, str]]") -> "tuple[str, ...]":
    if type(value) is not list or not value or not all(type(text) is str for text in value):
        out.append((place, "not a list of recipients"))
        return ()
    if not all(text.startswith(("age1", "ssh-ed25519 ")) and text.isascii() and len(text) <= 128 for text in value):
        out.append((place, "not an age or ssh-ed25519 recipient"))
    if sorted(set(value)) != value:
        out.append((place, "recipients are sorted and distinct"))
    return tuple(value)


def _entry(value: "Any", place: str, brokered: bool, out: "list[tuple[str, str]]") -> "FileEntry | None":
    if type(value) is not dict or value.keys() != (_FILE | {"kc1"} if brokered else _FILE):
        out.append((place, "not exactly the fields of a file of this kind"))
        return None
    before = len(out)
    if not _is_hex(value["sha512"], 128):
        out.append((place + ".sha512", "not 128 lower-case hex digits"))
    if not _is_b64(value["kc"]):
        out.append((place + ".kc", "not base64url of 32 bytes"))
    if brokered and not _is_b64(value["kc1"]):
        out.append((place + ".kc1", "not base64url of 32 bytes"))
    seq, by = value["dk_seq"], value["dk_by"]
    if (seq is None) != (by is None):
        out.append((place, "dk_seq and dk_by are known or unknown together"))
    if seq is not None and not _is_int(seq, 0):
        out.append((place + ".dk_seq", "not a statement number"))
    if by is not None and not (type(by) is str and is_name(by)):
        out.append((place + ".dk_by", "not a principal"))
    if len(out) > before:
        return None
    return FileEntry(value["sha512"], value["kc"], seq, by, value.get("kc1"))


def parse(data: bytes) -> Manifest:
    """The manifest whose exact bytes are `data`; FormatError with every problem (`data["problems"]`) otherwise."""
    value = canonical.decode(data)
    if type(value) is not dict:
        raise FormatError("a manifest is an object", code="manifest")
    if value.get("v") != 1 or type(value["v"]) is not int:
        raise FormatError("this manifest is of an unknown version", code="manifest", place="v")
    groups = value.get("groups")
    brokered = type(groups) is dict and len(groups) == 2
    if value.keys() != (_BROKERED if brokered else _FIELDS):
        raise FormatError("a manifest has exactly the fields of its version and kind", code="manifest")
    out: list[tuple[str, str]] = []
    if not _is_hex(value["ws"], 64):
        out.append(("ws", "not 64 lower-case hex digits"))
    if type(value["env"]) is not str or not is_env(value["env"]):
        out.append(("env", "not PROJECT/ENV"))
    if not _is_int(value["generation"], 1):
        out.append(("generation", "not a positive integer"))
    if value["prev"] is not None and not _is_hex(value["prev"], 64):
        out.append(("prev", "not 64 lower-case hex digits"))
    head = value["policy"]
    if type(head) is not dict or head.keys() != {"hash", "seq"}:
        out.append(("policy", "not an object of seq and hash"))
    elif not _is_int(head["seq"], 0) or not _is_hex(head["hash"], 64):
        out.append(("policy", "not a statement number and hash"))
    if type(value["signer"]) is not str or not is_name(value["signer"]):
        out.append(("signer", "not a principal"))
    if brokered and (type(value["threshold"]) is not int or value["threshold"] != 2):
        out.append(("threshold", "is 2 with two groups"))
    lists: tuple[tuple[str, ...], ...] = ()
    if type(groups) is not dict or groups.keys() not in ({"1"}, {"1", "2"}):
        out.append(("groups", 'not an object of "1", or "1" and "2"'))
    else:
        lists = tuple([_group(groups[name], "groups." + name, out) for name in sorted(groups)])
        if len(lists) == 2 and not set(lists[0]).isdisjoint(lists[1]):
            out.append(("groups", "one recipient is in both groups"))
    files = _files(value["files"], brokered, out)
    if type(value["meta"]) is not dict:
        out.append(("meta", "not an object"))
    if out:
        place, reason = out[0]
        more = f" (and {len(out) - 1} more)" if len(out) > 1 else ""
        raise FormatError(f"manifest: {place}: {reason}{more}", code="manifest", problems=tuple(out))
    made = Manifest.__new__(Manifest)
    _set(made, "raw", data)
    for name in ("ws", "env", "generation", "prev", "signer"):
        _set(made, name, value[name])
    _set(made, "policy_seq", head["seq"])
    _set(made, "policy_hash", head["hash"])
    _set(made, "groups", lists)
    _set(made, "files", _ReadOnly(files))
    _set(made, "meta", _ReadOnly(value["meta"]))
    return made


def _files(value: "Any", brokered: bool, out: "list[tuple[str, str]]") -> "dict[str, FileEntry]":
    files: dict[str, FileEntry] = {}
    if type(value) is not dict or len(value) > MAX_FILES:
        out.append(("files", "not an object of files"))
        return files
    for number, (path, entry) in enumerate(value.items()):
        place = f"files[{number}]"  # in sorted order, as it stands; a path may be anything and is not repeated
        if not is_path(path):
            out.append((place, "not an acceptable path"))
        made = _entry(entry, place, brokered, out)
        if made is not None:
            files[path] = made
    if len({path.casefold() for path in value}) != len(value):
        out.append(("files", "two paths differ in case only"))
    return files


def build(
    *,
    ws: str,
    env: str,
    generation: int,
    prev: "str | None",
    policy_seq: int,
    policy_hash: str,
    signer: str,
    groups: "Sequence[Sequence[str]]",
    files: "Mapping[str, FileEntry]",
    meta: "Mapping[str, Any] | None" = None,
) -> bytes:
    """The exact bytes to sign (with `to_sign`) and to write. `groups`: one sequence of recipients (direct) or two
    (brokered), in any order. FormatError as for `parse`."""
    value: dict[str, Any] = {
        "v": 1,
        "ws": ws,
        "env": env,
        "generation": generation,
        "prev": prev,
        "policy": {"seq": policy_seq, "hash": policy_hash},
        "signer": signer,
        "groups": {str(number): sorted(group) for number, group in enumerate(groups, 1)},
        "files": {path: entry.json() for path, entry in files.items()},
        "meta": canonical.thaw(meta or {}),
    }
    if len(groups) == 2:
        value["threshold"] = 2
    data = canonical.encode(value)
    parse(data)
    return data


def to_sign(data: bytes) -> bytes:
    """What the signer's Ed25519 key signs: the SSHSIG preimage of NAMESPACE over the manifest's bytes."""
    return preimage(NAMESPACE, data)


def signed_by(data: bytes, sig: "Signature", key: bytes) -> bool:
    """Whether `sig` is an SSHSIG of NAMESPACE (sha512) over `data` by `key`, and by no other."""
    public, namespace, algorithm, raw = sig
    if namespace != NAMESPACE or algorithm != "sha512" or public != key or len(raw) != 64:
        return False
    return ed25519_verify(key, raw, preimage(NAMESPACE, data))


def commitment(data_key: bytes, genesis: str, env: str, path: str) -> str:
    """`kc`: what binds a data key to workspace, environment and path, so that a file cannot be transplanted (A1).
    Whoever opens a data key compares before use, with `_fast.constant_time_equal`."""
    return _commit(data_key, "zopp-kc-v1", genesis, env, path)


def share_commitment(share: bytes, genesis: str, env: str, path: str) -> str:
    """`kc1`: the same over the 33 bytes of share 1, for who adds a reader without opening the file."""
    if len(share) != 33:
        raise FormatError("a share has 33 bytes", code="share")
    return _commit(share, "zopp-kc1-v1", genesis, env, path)


def _commit(key: bytes, label: str, genesis: str, env: str, path: str) -> str:
    return canonical.b64(hmac_sha256(key, "\0".join((label, genesis, env, path)).encode()))


def check(
    manifest: Manifest,
    sig: "Signature",
    state: "State",
    *,
    ws: "str | None" = None,
    env: "str | None" = None,
    parents: "Sequence[Manifest]" = (),
    previous: "Manifest | None" = None,
) -> "list[Finding]":
    """What is wrong without any key: rules 1-5, 7-9 for its own lists, and 10. See `findings.check`."""
    from zopp.policy import findings

    return findings.check(manifest, sig, state, ws=ws, env=env, parents=parents, previous=previous)


def check_file(
    manifest: Manifest,
    path: str,
    sopsfile: "SopsFile",
    state: "State",
    *,
    before: "FileEntry | None" = None,
    previous: "SopsFile | None" = None,
    check_stanza: "StanzaCheck | None" = None,
) -> "list[Finding]":
    """What is wrong with one listed file: its bytes, rules 7-9, 11, the rest of 10. See `findings.check_file`."""
    from zopp.policy import findings

    return findings.check_file(
        manifest, path, sopsfile, state, before=before, previous=previous, check_stanza=check_stanza
    )
