"""The `sops` block of a file: recipients, MAC, selector, version (spec sops-compat 8 and 9). Lean.

From and to plain dicts; the stores turn those into text. Nothing here is authenticated by sops' own MAC.
"""

from zopp.errors import FormatError
from zopp.sopsfile.selectors import KINDS, Selector
from zopp.sopsfile.tree import Timestamp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

DEFAULT_VERSION = "3.13.3"
# Key types that zopp cannot wrap for; their entries are kept as they stand.
FOREIGN = ("kms", "gcp_kms", "azure_kv", "hc_vault", "hckms", "pgp")
RECIPIENT_FIELDS = ("shamir_threshold", "key_groups", "age", *FOREIGN)
_KNOWN = frozenset((*RECIPIENT_FIELDS, *KINDS, "lastmodified", "mac", "mac_only_encrypted", "version"))


class Entry:
    """One age recipient and the armored age file (`enc`, trailing newline kept) that holds the data key or a share."""

    __slots__ = ("enc", "recipient")

    def __init__(self, recipient: str, enc: str) -> None:
        self.recipient = recipient
        self.enc = enc

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Entry) and (self.recipient, self.enc) == (other.recipient, other.enc)

    def __hash__(self) -> int:
        return hash((self.recipient, self.enc))

    def __repr__(self) -> str:
        return f"Entry({self.recipient!r}, …)"


class Metadata:
    """A parsed `sops` block. `groups` holds one tuple of entries per key group; `flat` says that the file has no
    groups.

    `foreign`: (group index, key type, entries as plain values) of other key types. `unknown`: names of fields that sops
    does not know (`age[].name` for those of an entry). `mac` is the ENC text, `lastmodified` the text as it stands."""

    __slots__ = (
        "flat", "foreign", "groups", "lastmodified", "mac", "mixed", "plain", "selector",
        "threshold", "unknown", "version",
    )  # fmt: skip

    def __init__(self, plain: "dict[str, Any]") -> None:
        self.plain = plain
        unknown = [name for name in plain if name not in _KNOWN]
        foreign: "list[tuple[int, str, Any]]" = []
        groups: "list[tuple[Entry, ...]]" = []
        grouped = plain.get("key_groups")
        flat_part = [name for name in ("age", *FOREIGN) if plain.get(name)]
        self.mixed = bool(grouped) and bool(flat_part)
        # Flat wins where both stand, as in sops; a strict reader refuses the file before this matters.
        self.flat = bool(flat_part) or not grouped
        sources = [plain] if self.flat else grouped
        if not isinstance(sources, list):
            raise _bad("key_groups")
        for index, source in enumerate(sources):
            if not isinstance(source, dict):
                raise _bad("key_groups")
            if not self.flat:
                unknown += [f"key_groups[].{name}" for name in source if name != "age" and name not in FOREIGN]
            groups.append(_entries(source.get("age"), unknown))
            foreign += [(index, name, source[name]) for name in FOREIGN if source.get(name)]
        self.groups = tuple(groups)
        self.foreign = tuple(foreign)
        self.threshold = None if "shamir_threshold" not in plain else _integer(plain["shamir_threshold"])
        self.lastmodified = _text(plain.get("lastmodified"), "lastmodified")
        self.mac = _text(plain.get("mac", ""), "mac")
        self.version = _text(plain.get("version"), "version")
        _check_version(self.version)
        self.selector = _selector(plain)
        self.unknown = tuple(unknown)
        if not any(groups) and not foreign:
            raise FormatError("the file has no recipients", code="no_keys")

    def __repr__(self) -> str:
        return f"Metadata({len(self.groups)} groups, version {self.version})"


def check_strict(metadata: Metadata) -> None:
    """FormatError for what a listed file may not have in one block (attack A4): flat beside grouped, unknown fields."""
    if metadata.mixed:
        raise FormatError("recipients stand flat and in groups", code="flat_and_grouped")
    if metadata.unknown:
        raise FormatError("the sops block has a field that sops does not know", code="unknown_field")
    metadata.selector.check()


def _bad(name: str) -> FormatError:
    return FormatError(f"the sops field {name} is missing or malformed", code="bad_metadata", field=name)


def _text(value: object, name: str) -> str:
    if isinstance(value, Timestamp):
        return value.text
    if not isinstance(value, str):
        raise _bad(name)
    return value


def _integer(value: object) -> "int | None":
    if value is None:
        return None
    if isinstance(value, str):
        # Flattened stores hold text; ancient files a float's.
        whole, _, fraction = value.partition(".")
        if whole.isdecimal() and whole.isascii() and len(whole) < 10 and not fraction.strip("0"):
            return int(whole)
        raise _bad("shamir_threshold")
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value // 1 or not 0 <= value < 1e9:
        raise _bad("shamir_threshold")
    return int(value)


def _entries(value: object, unknown: "list[str]") -> "tuple[Entry, ...]":
    if value is None:
        return ()
    if not isinstance(value, list):
        raise _bad("age")
    entries = []
    for item in value:
        if (
            not isinstance(item, dict)
            or not isinstance(item.get("recipient"), str)
            or not isinstance(item.get("enc"), str)
        ):
            raise _bad("age")
        if len(item) != 2:
            unknown += [f"age[].{name}" for name in item if name not in ("recipient", "enc")]
        entries.append(Entry(item["recipient"], item["enc"]))
    return tuple(entries)


def _selector(plain: "dict[str, Any]") -> Selector:
    only = plain.get("mac_only_encrypted", False)
    if only in ("true", "false"):
        only = only == "true"
    if only is None:
        only = False
    if not isinstance(only, bool):
        raise _bad("mac_only_encrypted")
    given = [(kind, plain[kind]) for kind in KINDS if plain.get(kind)]
    if not given:
        return Selector(mac_only_encrypted=only)
    if len(given) > 1:
        raise FormatError("the sops block has several selectors", code="several_selectors")
    kind, pattern = given[0]
    return Selector(kind, _text(pattern, kind), only)


def _check_version(version: str) -> None:
    """sops wants a semantic version (a leading v is fine) and refuses the file otherwise."""
    core = version.removeprefix("v")
    for mark in ("+", "-"):
        core = core.partition(mark)[0]
    parts = core.split(".")
    if version.startswith("1."):
        return
    if len(parts) != 3 or not all(part.isdecimal() and part.isascii() for part in parts):
        raise FormatError("the sops field version is not a semantic version", code="bad_version")


def recipients_plain(
    groups: "tuple[tuple[Entry, ...], ...]",
    threshold: "int | None",
    *,
    alphabetical: bool = True,
    foreign: "tuple[tuple[int, str, Any], ...]" = (),
    null: "Any" = None,
) -> "dict[str, Any]":
    """The recipient fields of a `sops` block in order. One group is written flat. `null` stands for the empty hc_vault
    list that sops writes in each group: [] in YAML, None in JSON. FormatError for a threshold no group set can have."""
    if not groups or not all(groups):
        raise FormatError("a file needs at least one recipient in every group", code="no_keys")

    def entry(item: Entry) -> "dict[str, str]":
        if alphabetical:
            return {"enc": item.enc, "recipient": item.recipient}
        return {"recipient": item.recipient, "enc": item.enc}

    if len(groups) == 1:
        if threshold not in (None, 1):
            raise FormatError("a threshold needs more than one group", code="threshold")
        return {"age": [entry(item) for item in groups[0]]}
    if threshold is None:
        threshold = len(groups)
    if not 2 <= threshold <= len(groups):
        raise FormatError("the threshold must be at least 2 and at most the number of groups", code="threshold")
    made = []
    for index, group in enumerate(groups):
        fields: "dict[str, Any]" = {"hc_vault": null}
        fields.update((name, value) for at, name, value in foreign if at == index)
        fields["age"] = [entry(item) for item in group]
        made.append(dict(sorted(fields.items())) if alphabetical else fields)
    if alphabetical:
        return {"key_groups": made, "shamir_threshold": threshold}
    return {"shamir_threshold": threshold, "key_groups": made}


def block_plain(
    recipients: "dict[str, Any]", lastmodified: str, mac: str, selector: "Selector | None", version: str
) -> "dict[str, Any]":
    """A whole new `sops` block, alphabetical as sops 3.13 writes it. `selector` None: the binary store has none."""
    _check_version(version)
    fields = {**recipients, "lastmodified": lastmodified, "mac": mac, "version": version}
    if selector is not None:
        fields[selector.kind] = selector.pattern
        if selector.mac_only_encrypted:
            fields["mac_only_encrypted"] = True
    return dict(sorted(fields.items()))


def yaml_lines(value: "dict[str, Any]", column: int, unit: int) -> "list[str]":
    """The lines of a block mapping at `column`, laid out as sops does: what a list item holds starts two behind the
    dash, every other nested block at the next multiple of `unit`."""
    lines: "list[str]" = []
    pad = " " * column
    deeper = (column // unit + 1) * unit
    for key, item in value.items():
        if isinstance(item, dict) and item:
            lines.append(f"{pad}{key}:")
            lines += yaml_lines(item, deeper, unit)
        elif isinstance(item, list) and item:
            lines.append(f"{pad}{key}:")
            for part in item:
                if isinstance(part, dict) and part:
                    inner = yaml_lines(part, deeper + 2, unit)
                    inner[0] = f"{' ' * deeper}- {inner[0][deeper + 2 :]}"
                    lines += inner
                else:
                    lines.append(f"{' ' * deeper}- {_yaml_scalar(part, False)}")
        elif isinstance(item, str) and item.endswith("\n") and _literal(item):
            lines.append(f"{pad}{key}: |")
            lines += [" " * deeper + line for line in item[:-1].split("\n")]
        else:
            lines.append(f"{pad}{key}: {_yaml_scalar(item, key == 'lastmodified')}")
    return lines


def _literal(text: str) -> bool:
    return text.isascii() and all(line and line[0] != " " and line.isprintable() for line in text[:-1].split("\n"))


def _yaml_scalar(value: "Any", quoted: bool) -> str:
    if isinstance(value, str):
        if not quoted:
            from zopp.sopsfile import plainscalar

            if plainscalar.is_plain(value):
                return value
        return quote(value, True)
    return json_text(value)


def quote(text: str, ascii_only: bool = False) -> str:
    """`text` as a JSON string with Go's escapes, which is a YAML double-quoted scalar too."""
    if text.isascii() and text.isprintable() and not any(char in text for char in '"\\<>&'):
        return f'"{text}"'
    out = []
    for char in text:
        code = ord(char)
        if char in '"\\':
            out.append("\\" + char)
        elif char == "\n":
            out.append("\\n")
        elif char == "\r":
            out.append("\\r")
        elif char == "\t":
            out.append("\\t")
        elif char == "\b" and not ascii_only:
            out.append("\\b")
        elif char == "\f" and not ascii_only:
            out.append("\\f")
        elif code < 0x20 or code in (0x2028, 0x2029) or (char in "<>&" and not ascii_only):
            out.append(f"\\u{code:04x}")
        elif ascii_only and code > 0x7E:
            out.append(f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}")
        elif 0xD800 <= code < 0xE000:
            raise FormatError("a value holds half of a surrogate pair", code="lone_surrogate")
        else:
            out.append(char)
    return '"' + "".join(out) + '"'


def json_text(value: "Any", unit: "str | None" = None, level: int = 0) -> str:
    """A plain value as JSON; `unit` is the indentation (None: on one line), `level` that of the line it starts on."""
    if isinstance(value, str):
        return quote(value)
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, Timestamp):
        return quote(value.text)
    opened, closed = ("{", "}") if isinstance(value, dict) else ("[", "]")
    if not value:
        return opened + closed
    colon = ": " if unit is not None else ":"
    if isinstance(value, dict):
        parts = [quote(key) + colon + json_text(item, unit, level + 1) for key, item in value.items()]
    else:
        parts = [json_text(item, unit, level + 1) for item in value]
    if unit is None:
        return opened + ",".join(parts) + closed
    joint = ",\n" + unit * (level + 1)
    return f"{opened}\n{unit * (level + 1)}{joint.join(parts)}\n{unit * level}{closed}"
