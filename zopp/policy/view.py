"""What the quick path of `zopp get` and `zopp set` needs of a verified policy head, in one small file; lean.

`dump` writes it beside the remembered head after a full fold; `View` reads it without folding: one environment is
parsed, the hash of any statement is found by offset. The bytes are the user's own cache and trusted as such; the
checksum finds a torn or foreign file. The caller has compared the log's last line with `head`.

Layout: magic, SHA-256 of header and segments, 4-byte length of the header, header (JSON: chain, offsets), segments
(JSON, one per environment and one of principals), then 32 bytes a statement.
"""

from os import urandom

from zopp._fast import aesgcm, json_parse, sha256
from zopp.errors import FormatError, NotFound
from zopp.policy import canonical, manifest, names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from zopp.policy.manifest import Manifest, Signature
    from zopp.policy.state import State

MAGIC = b"zopp-view-3\n"
_START = len(MAGIC) + 32 + 4


def log_mac(key: bytes, log: bytes) -> str:
    """A GMAC (NIST SP 800-38D) of a log, hex, under a key that only this cache knows: says whether a log is still the
    one that was verified, several times faster than a hash that has to hold without a secret."""
    return aesgcm(key).encrypt(bytes(12), b"", log).hex()  # type: ignore[no-any-return]


def dump(state: "State", log: bytes = b"", *, key: "bytes | None" = None) -> bytes:
    """The view of a verified state. `log`: the bytes it is the fold of, of which it keeps `log_mac` under `key` (32
    random bytes); without them the view says of no log that it is this one."""
    key = urandom(32) if key is None else key
    segments: list[bytes] = []
    offset = 0
    where: dict[str, list[int]] = {}

    def add(value: "Any") -> "list[int]":
        nonlocal offset
        raw = canonical.encode(value)
        segments.append(raw)
        offset += len(raw)
        return [offset - len(raw), len(raw)]

    for name, env in state.envs.items():
        writers = {who: [canonical.b64(key), state.writer_since(who, name)] for who, key in state.writers(name).items()}
        where[name] = add(
            {
                "break_glass": env.break_glass,
                "kind": env.kind,
                "lost": state.read_lost_seq(name),
                "protected": env.protected,
                "readers": {recipient: who for who, recipient in state.readers(name).items()},
                "server_key": env.server_key,
                "writers": writers,
            }
        )
    people = {
        p.name: [None if p.key is None else canonical.b64(p.key), p.recipient, p.user]
        for p in state.principals.values()
        if p.enabled and (p.user is None or state.users[p.user].enabled)
    }
    header = canonical.encode(
        {
            "at": state.at,
            "envs": where,
            "head": state.head,
            "log": [key.hex(), log_mac(key, log)],
            "name": state.name,
            "principals": add(people),
            "seq": state.seq,
            "ws": state.ws,
        }
    )
    body = header + b"".join(segments)
    hashes = b"".join([bytes.fromhex(state.hash_at(seq)) for seq in range(state.seq + 1)])
    return MAGIC + sha256(len(header).to_bytes(4, "big") + body) + len(header).to_bytes(4, "big") + body + hashes


class EnvView:
    """One environment: `kind`, `protected`, `readers` recipient -> principal, `writers` principal -> (Ed25519 key,
    since which statement without a break), `read_lost_seq`, `server_key`, `break_glass`."""

    __slots__ = ("break_glass", "kind", "name", "protected", "read_lost_seq", "readers", "server_key", "writers")

    def __init__(self, name: str, value: "dict[str, Any]") -> None:
        self.name = name
        self.kind: str = value["kind"]
        self.protected: bool = value["protected"]
        self.readers: dict[str, str] = value["readers"]
        self.writers: dict[str, tuple[bytes, int]] = {
            who: (canonical.unb64(key, 32), since) for who, (key, since) in value["writers"].items()
        }
        self.read_lost_seq: int = value["lost"]
        self.server_key: str | None = value["server_key"]
        self.break_glass: str | None = value["break_glass"]

    def groups(self) -> "tuple[tuple[str, ...], ...]":
        """The recipients that a file of it must have, sorted: one group when direct, two when brokered."""
        first = tuple(sorted(self.readers))
        if self.kind == "direct":
            return (first,)
        return (first, tuple(sorted([r for r in (self.server_key, self.break_glass) if r is not None])))


class View:
    """A verified head. `ws` genesis hash, `name`, `seq`, `head` its hash, `at` its time, `envs` the environments'
    names. FormatError if the bytes are not a whole view: then fold the log again."""

    __slots__ = (
        "_data",
        "_envs",
        "_hashes",
        "_key",
        "_mac",
        "_people",
        "_segments",
        "_where",
        "at",
        "envs",
        "head",
        "name",
        "seq",
        "ws",
    )

    def __init__(self, data: bytes) -> None:
        if data[: len(MAGIC)] != MAGIC or len(data) < _START:
            raise FormatError("not a policy view", code="view")
        size = int.from_bytes(data[_START - 4 : _START], "big")
        try:
            header = json_parse(data[_START : _START + size].decode())
            self.seq: int = header["seq"]
            self._hashes = len(data) - 32 * (self.seq + 1)
            self._segments = _START + size
            if self._hashes < self._segments or sha256(data[_START - 4 : self._hashes]) != data[len(MAGIC) :][:32]:
                raise ValueError
            self.ws: str = header["ws"]
            self.name: str = header["name"]
            self.head: str = header["head"]
            secret, self._mac = header["log"]
            self._key = bytes.fromhex(secret)
            self.at: int = header["at"]
            self._where: dict[str, list[int]] = header["envs"]
            self._people: list[int] = header["principals"]
        except (ValueError, TypeError, KeyError):
            raise FormatError("a policy view is damaged", code="view") from None
        self._data = data
        self._envs: dict[str, EnvView] = {}
        self.envs = tuple(self._where)
        if self.hash_at(self.seq) != self.head or self.hash_at(0) != self.ws:
            raise FormatError("a policy view is damaged", code="view")

    def _segment(self, place: "list[int]") -> "Any":
        start = self._segments + place[0]
        return json_parse(self._data[start : start + place[1]].decode())

    def is_of(self, log: bytes) -> bool:
        """Whether `log` is byte for byte the log that this view was made from."""
        return bool(log_mac(self._key, log) == self._mac)

    def hash_at(self, seq: int) -> str:
        """The hash of statement `seq`, hex; NotFound outside the log."""
        if not 0 <= seq <= self.seq:
            raise NotFound("the policy log has no such statement", code="seq")
        start = self._hashes + 32 * seq
        return self._data[start : start + 32].hex()

    def env(self, name: str) -> EnvView:
        """The environment `PROJECT/ENV` as statements name it; NotFound if there is none."""
        made = self._envs.get(name)
        if made is None:
            place = self._where.get(name)
            if place is None:
                raise NotFound("there is no such environment", code="scope")
            made = self._envs[name] = EnvView(name, self._segment(place))
        return made

    def resolve(self, typed: str) -> str:
        """The name in statements of what a person types as `PROJECT/ENV`; NotFound, or FormatError for `staging@2`."""
        project, _, env = typed.partition("/")
        names.check_name(project)
        names.check_name(env)
        if typed in self._where:
            return typed
        for name in self._where:
            if "@" in name:
                first, _, last = name.partition("/")
                if names.split(first)[0] == project and names.split(last)[0] == env:
                    return name
        raise NotFound(f"there is no environment {typed}", code="scope")

    def principals(self) -> "dict[str, tuple[bytes | None, str, str | None]]":
        """name -> (Ed25519 key or None, recipient, user or None) of everyone enabled, to find one's own."""
        found: dict[str, tuple[bytes | None, str, str | None]] = {}
        for name, (key, recipient, user) in self._segment(self._people).items():
            found[name] = (None if key is None else canonical.unb64(key, 32), recipient, user)
        return found


def quick_manifest(view: View, data: bytes, sig: "Signature", *, env: str) -> "Manifest | None":
    """The manifest, if it is beyond doubt: well formed, of this workspace and environment, signed by one who has been
    writer since before its policy head, its recipients exactly the policy's and every data key made by a lasting
    writer after the last loss of read. None means 'ask `manifest.check`', not 'no'. Whatever this accepts, the full
    check without parents has nothing against (rules 1-4, 7-10; a property test)."""
    try:
        made = manifest.parse(data)
        at = view.env(env)
    except (FormatError, NotFound):
        return None
    seq = made.policy_seq
    if made.ws != view.ws or made.env != env or seq > view.seq or view.hash_at(seq) != made.policy_hash:
        return None
    writers = at.writers
    signer = writers.get(made.signer)
    if signer is None or signer[1] > seq or made.groups != at.groups() or (made.brokered and at.server_key is None):
        return None
    for entry in made.files.values():
        if entry.dk_seq is None or entry.dk_by is None or not at.read_lost_seq <= entry.dk_seq <= seq:
            return None
        maker = writers.get(entry.dk_by)
        if maker is None or maker[1] > entry.dk_seq:
            return None
    return made if manifest.signed_by(data, sig, signer[0]) else None
