"""The parts of `.sops.yaml` and `.gitattributes` that zopp owns: one marked block each, the rest is the user's.

The block in `.sops.yaml` stands first, because the first matching rule wins, and makes stock sops encrypt to the right
recipients. The one in `.gitattributes` keeps git from changing signed bytes (A14, A15).
"""

import re
from collections.abc import Iterable, Mapping

from zopp.errors import FormatError

SOPS_CONFIG = ".sops.yaml"
ATTRIBUTES = ".gitattributes"
_BEGIN = "# zopp:begin (written from the signed policy; your own lines go outside this block)"
_END = "# zopp:end"
_BLOCK = re.compile(r"^[ \t]*# zopp:begin\b[^\n]*\n(.*?)^[ \t]*# zopp:end[ \t]*(?:\n|\Z)", re.MULTILINE | re.DOTALL)
_PLAIN = "-text -ident -filter -working-tree-encoding"


def _regex(path: str) -> str:
    """A RE2 pattern that matches exactly `path`: sops searches unanchored."""
    return "^" + re.sub(r"([.+*?()|\[\]{}^$\\])", r"\\\1", path) + "$"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def sops_rules(files: Mapping[str, Iterable[str]], indent: str) -> str:
    """The block: a rule per path with its recipients, sorted by path."""
    lines = [indent + _BEGIN]
    for path, recipients in sorted(files.items()):
        lines.append(f"{indent}- path_regex: {_quoted(_regex(path))}")
        lines.append(f"{indent}  age: {_quoted(','.join(recipients))}")
    lines.append(indent + _END)
    return "\n".join(lines) + "\n"


def update_sops_config(text: str | None, files: Mapping[str, Iterable[str]]) -> str:
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


def sops_config_fault(text: str | None, files: Mapping[str, Iterable[str]]) -> str | None:
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
        rules = document["creation_rules"]
        first = [(rule["path_regex"], rule["age"]) for rule in rules[: len(files)]]
        plain = all(set(rule) == {"path_regex", "age"} for rule in rules[: len(files)])
    except (yaml.YAMLError, ValueError, TypeError, KeyError, RecursionError):
        return "stock sops would not find zopp's rules first in it"
    meant = [(_regex(path), ",".join(recipients)) for path, recipients in sorted(files.items())]
    return None if plain and first == meant else "stock sops would not find zopp's rules first in it"


def update_attributes(text: str | None, paths: Iterable[str]) -> str:
    """`text` of a `.gitattributes` with zopp's block last (the last match wins) and current."""
    lines = [_BEGIN, f"/.zopp/** {_PLAIN}", f"zopp.toml {_PLAIN}", f"/{SOPS_CONFIG} {_PLAIN}"]
    lines += [f"{_pattern(path)} {_PLAIN}" for path in sorted(paths)]
    lines.append(_END)
    without = _BLOCK.sub("", text or "")
    if without and not without.endswith("\n"):
        without += "\n"
    return without + "\n".join(lines) + "\n"


def has_block(text: str) -> bool:
    """Whether a block of zopp's stands in `text`."""
    return _BLOCK.search(text) is not None


def _pattern(path: str) -> str:
    escaped = re.sub(r"([*?\[\\])", r"\\\1", "/" + path)
    return '"' + escaped.replace("\\", "\\\\").replace('"', '\\"') + '"' if " " in path else escaped
