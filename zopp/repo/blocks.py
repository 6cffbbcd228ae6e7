"""The parts of `.sops.yaml` and `.gitattributes` that zopp owns: one marked block each, the rest is the user's.

The block in `.sops.yaml` stands first, because the first matching rule wins, and makes stock sops encrypt to the right
recipients. The one in `.gitattributes` keeps git from changing signed bytes (A14, A15), and names the drivers by which
git shows and merges them; what those run, each clone says itself (`repo.drivers`).
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from zopp.errors import FormatError

Files = Mapping[str, Sequence[Sequence[str]]]
"""Path -> its key groups: one of a direct environment, two of a brokered one."""

SOPS_CONFIG = ".sops.yaml"
ATTRIBUTES = ".gitattributes"
_BEGIN = "# zopp:begin (written from the signed policy; your own lines go outside this block)"
_END = "# zopp:end"
_BLOCK = re.compile(r"^[ \t]*# zopp:begin\b[^\n]*\n(.*?)^[ \t]*# zopp:end[ \t]*(?:\n|\Z)", re.MULTILINE | re.DOTALL)
_WITH_POLICY = (".zopp/policy.jsonl", ".zopp/policy.receipt", ".zopp/exposure/*", SOPS_CONFIG, ATTRIBUTES)
"""What follows from the policy, and is merged with it."""

_PLAIN = "-text -ident -filter -working-tree-encoding"


def _regex(path: str) -> str:
    """A RE2 pattern that matches exactly `path`: sops searches unanchored."""
    return "^" + re.sub(r"([.+*?()|\[\]{}^$\\])", r"\\\1", path) + "$"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def sops_rules(files: Files, indent: str) -> str:
    """The block: a rule per path with its recipients, sorted by path. A rule of two groups has the threshold, too:
    without it stock `updatekeys` would join them to one (A30)."""
    lines = [indent + _BEGIN]
    for path, groups in sorted(files.items()):
        lines.append(f"{indent}- path_regex: {_quoted(_regex(path))}")
        if len(groups) == 1:
            lines.append(f"{indent}  age: {_quoted(','.join(groups[0]))}")
            continue
        lines += [f"{indent}  shamir_threshold: {len(groups)}", f"{indent}  key_groups:"]
        for group in groups:
            lines.append(f"{indent}    - age:")
            lines += [f"{indent}        - {_quoted(recipient)}" for recipient in group]
    lines.append(indent + _END)
    return "\n".join(lines) + "\n"


def _rule(path: str, groups: Sequence[Sequence[str]]) -> dict[str, Any]:
    """The same rule as sops reads it."""
    if len(groups) == 1:
        return {"path_regex": _regex(path), "age": ",".join(groups[0])}
    return {
        "path_regex": _regex(path),
        "shamir_threshold": len(groups),
        "key_groups": [{"age": list(group)} for group in groups],
    }


def update_sops_config(text: str | None, files: Files) -> str:
    """`text` of a `.sops.yaml` (None: there is none) with zopp's block first and current. FormatError if the file has
    `creation_rules` in a shape where a block cannot be put in front by text (a flow list)."""
    if text is None or not text.strip():
        return "creation_rules:\n" + sops_rules(files, "    ")
    without = _BLOCK.sub("", text)
    match = re.search(r"^creation_rules:[ \t]*(#[^\n]*)?(?:\n|\Z)", without, re.MULTILINE)
    if match is None:
        if re.search(r"^[\"']?creation_rules[\"']?[ \t]*:", without, re.MULTILINE):
            if re.search(r"^creation_rules:[ \t]*(\[\]|null|~)[ \t]*$", without, re.MULTILINE):
                without = re.sub(r"^creation_rules:[^\n]*$", "creation_rules:", without, flags=re.MULTILINE)
                return update_sops_config(without, files)
            raise FormatError("has creation_rules on one line", code="sops_config", place=SOPS_CONFIG)
        return "creation_rules:\n" + sops_rules(files, "    ") + without
    rest = without[match.end() :]
    first = re.search(r"^([ \t]*)- ", rest, re.MULTILINE)
    indent = first.group(1) if first else "    "
    head = without[: match.end()]
    if not head.endswith("\n"):
        head += "\n"
    return head + sops_rules(files, indent) + rest


def sops_config_fault(text: str | None, files: Files) -> str | None:
    """What is wrong with zopp's block in `.sops.yaml`, None if it is intact and first."""
    if not files:
        return None
    if text is None:
        return "is gone: stock sops would not know the recipients"
    try:
        wanted = update_sops_config(text, files)
    except FormatError as exc:
        return exc.message
    if wanted != text:
        return "zopp's block was edited, moved or is out of date"
    import yaml

    # The text may stand where it belongs and still not be what sops reads: in a second document, for example.
    try:
        (document,) = yaml.load_all(text, Loader=yaml.SafeLoader)
        first = document["creation_rules"][: len(files)]
    except (yaml.YAMLError, ValueError, TypeError, KeyError, RecursionError):
        return "stock sops would not find zopp's rules first in it"
    meant = [_rule(path, groups) for path, groups in sorted(files.items())]
    return None if first == meant else "stock sops would not find zopp's rules first in it"


def update_attributes(text: str | None, paths: Iterable[str]) -> str:
    """`text` of a `.gitattributes` with zopp's block last (the last match wins) and current."""
    lines = [_BEGIN, f"/.zopp/** {_PLAIN}", f"zopp.toml {_PLAIN}", f"/{SOPS_CONFIG} {_PLAIN}"]
    lines.append("/.zopp/manifest/** merge=zopp-manifest")
    lines += [f"/{path} merge=zopp-policy" for path in _WITH_POLICY]
    lines += [f"{pattern(path)} {_PLAIN} diff=zopp merge=zopp" for path in sorted(paths)]
    lines.append(_END)
    without = _BLOCK.sub("", text or "")
    if without and not without.endswith("\n"):
        without += "\n"
    return without + "\n".join(lines) + "\n"


def without_block(data: bytes) -> bytes:
    """What of a file is the user's own."""
    return _BLOCK.sub("", data.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")


def with_block_of(own: bytes, other: bytes) -> bytes | None:
    """A text without zopp's block with that of another version in its place, whatever it says; None if there is no
    place for it."""
    text, there = own.decode("utf-8", "surrogateescape"), _BLOCK.search(other.decode("utf-8", "surrogateescape"))
    if there is None:
        return own
    block = there.group(0)
    if "path_regex" in block or "creation_rules" in text:
        rules = re.search(r"^creation_rules:[ \t]*(#[^\n]*)?\n", text, re.MULTILINE)
        if rules is None:
            return None
        return (text[: rules.end()] + block + text[rules.end() :]).encode("utf-8", "surrogateescape")
    return (text + ("" if not text or text.endswith("\n") else "\n") + block).encode("utf-8", "surrogateescape")


def has_block(text: str) -> bool:
    """Whether a block of zopp's stands in `text`."""
    return _BLOCK.search(text) is not None


def pattern(path: str) -> str:
    escaped = re.sub(r"([*?\[\\])", r"\\\1", "/" + path)
    return '"' + escaped.replace("\\", "\\\\").replace('"', '\\"') + '"' if " " in path else escaped
