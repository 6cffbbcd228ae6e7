"""Write names and values in the formats of others: exactly, or not at all.

A value that a format cannot carry is refused by name, with the formats that can; nothing is then written. Text in,
bytes out: creating a file, `--reveal` and the question whether git ignores it are the caller's. Source: importers.md
§3.3 (env, measured on eight parsers), §3.4 (docker), §3.3 last list (the others).
"""

from __future__ import annotations

import base64
import json
import re
import secrets
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

from zopp.errors import FormatError
from zopp.exchange import names, scalars

_BARE = re.compile(r"[A-Za-z0-9_./:@%+,=-]*")
_DOCKER_LINE = 60_000  # bytes; docker's reader gives up at 64 KiB

REASONS = {
    "nul": "holds a NUL character",
    "not-utf8": "is not text in UTF-8",
    "carriage-return": "holds a carriage return",
    "newline": "holds a newline",
    "double-backslash": "holds two backslashes in a row",
    "dollar-brace": "holds ${, which some parsers expand even in single quotes",
    "no-common-quoting": "needs both kinds of quotes, for which .env parsers have no common spelling",
    "backslash-n": "holds a backslash followed by n, which sops reads back as a newline",
    "line-length": "is too long for a line that docker reads",
    "gitlab-value": "holds something that GitLab's dotenv reader is not documented to keep",
    "github-name": "has a name that GitHub's runner keeps to itself",
    "odd-name": "has a name that is not letters, digits and underscores",
    "sops-name": "has a name under which sops keeps its metadata",
    "code-name": "has a name by which programs run or trust something",
}


class _RefusedError(Exception):
    """One format cannot carry one entry; `args[0]` is the rule."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Refusal:
    """Why `key` cannot be written, and the formats that can carry it (none, if it is the name that is refused)."""

    key: str
    rule: str
    formats: tuple[str, ...]

    def __str__(self) -> str:
        text = f"{self.key} {REASONS[self.rule]} [{self.rule}]"
        return text + (f"; these can carry it: {', '.join(self.formats)}" if self.formats else "")


def _env(name: str, value: str) -> str:
    """The portable subset: what is written here all eight parsers read back alike."""
    if "\r" in value:
        raise _RefusedError("carriage-return")
    if "\\\\" in value:
        raise _RefusedError("double-backslash")
    if "${" in value:
        raise _RefusedError("dollar-brace")
    if _BARE.fullmatch(value):
        return f"{name}={value}\n"
    if "'" not in value and not value.endswith("\\"):
        return f"{name}='{value}'\n"
    if not any(char in value for char in '"\\$`'):
        return f'{name}="{value}"\n'
    raise _RefusedError("no-common-quoting")


def _docker(name: str, value: str) -> str:
    for char, rule in (("\n", "newline"), ("\r", "carriage-return")):
        if char in value:
            raise _RefusedError(rule)
    line = f"{name}={value}\n"
    if len(line.encode()) > _DOCKER_LINE:
        raise _RefusedError("line-length")
    return line


def _shell(name: str, value: str) -> str:
    quoted = value.replace("'", "'\\''")
    return f"export {name}='{quoted}'\n"


def _sops(name: str, value: str) -> str:
    if "\\n" in value:
        raise _RefusedError("backslash-n")
    if "\r" in value:  # at the end of a line sops' own reader and zopp's differ about it
        raise _RefusedError("carriage-return")
    escaped = value.replace("\n", "\\n")
    return f"{name}={escaped}\n"


# Words that YAML 1.1 reads as something else than the name that they are.
_YAML_WORDS = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null"})
# What a YAML reader refuses or folds if it stands raw, and JSON's escaping leaves.
_YAML_RAW = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")


def _yaml(name: str, value: str) -> str:
    text = json.dumps(value, ensure_ascii=False)
    text = _YAML_RAW.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
    key = f'"{name}"' if name.lower() in _YAML_WORDS else name
    return f"{key}: {text}\n"


def _json(name: str, value: str) -> str:
    return f"  {json.dumps(name)}: {json.dumps(value, ensure_ascii=False)}"


def _toml(name: str, value: str) -> str:
    # A basic string (TOML 1.0): as in JSON, but DEL is a control character, too.
    text = _YAML_RAW.sub(lambda found: f"\\u{ord(found[0]):04x}", json.dumps(value, ensure_ascii=False))
    return f"{name} = {text}\n"


def _kubernetes(name: str, value: str) -> str:
    key = f'"{name}"' if name.lower() in _YAML_WORDS else name
    data = scalars.to_bytes(value)
    return f'  {key}: "{base64.b64encode(value.encode() if data is None else data).decode()}"\n'


def _github(name: str, value: str) -> str:
    if name.startswith(("GITHUB_", "RUNNER_")):
        raise _RefusedError("github-name")
    # Random, or a value that knows it could end itself and set variables of its own.
    end = f"end_{secrets.token_hex(16)}"
    return f"{name}<<{end}\n{value}\n{end}\n"


def _gitlab(name: str, value: str) -> str:
    # Its reader takes no line ends and strips blanks; what it makes of quotes and escapes is not documented.
    if not _BARE.fullmatch(value):
        raise _RefusedError("gitlab-value")
    return f"{name}={value}\n"


_WRITERS: dict[str, Callable[[str, str], str]] = {
    "env": _env,
    "docker": _docker,
    "shell": _shell,
    "json": _json,
    "yaml": _yaml,
    "toml": _toml,
    "k8s": _kubernetes,
    "sops-env": _sops,
    "github-env": _github,
    "gitlab-env": _gitlab,
}
FORMATS = tuple(_WRITERS)
# What a refusal proposes instead: a job's environment is nobody's other format.
_FILES = tuple([form for form in FORMATS if form not in ("github-env", "gitlab-env")])
_NUL_FORMATS = ("json", "yaml", "toml", "k8s")


def _write(form: str, name: str, value: str) -> str:
    if "\0" in value and form not in _NUL_FORMATS:
        raise _RefusedError("nul")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise _RefusedError("not-utf8") from None
    return _WRITERS[form](name, value)


def _fitting(name: str, value: str) -> tuple[str, ...]:
    fitting = []
    for form in _FILES:
        try:
            _write(form, name, value)
        except _RefusedError:
            continue
        fitting.append(form)
    return tuple(fitting)


def export(
    values: Mapping[str, str], form: str, *, allowed: Collection[str] = (), secret: str = "", namespace: str = ""
) -> bytes:
    """`values` in `form` (one of `FORMATS`), names sorted, UTF-8, LF. What `env` writes `dotenv.parse` reads back.
    `k8s` is a Secret manifest called `secret`, in `namespace` if one is said; its values are at most 1 MiB together,
    and bytes that an importer kept as marked base64 are bytes in it. `github-env` is what a GitHub job appends to the
    file in GITHUB_ENV; it masks nothing. `gitlab-env` is a dotenv artifact, which GitLab keeps on its server.

    Raises FormatError (`export`) naming every key that cannot be written and what could carry it; `data['refusals']`
    holds them. Names that are code are refused unless in `allowed`, which is from this user's local settings.
    """
    if form not in _WRITERS:
        raise FormatError("unknown export format", code="format", candidates=FORMATS)
    written: list[str] = []
    refusals: list[Refusal] = []
    for name in sorted(values):
        rule = names.reason(name, allowed)
        if rule:
            shown = name if names.is_target(name) else "a key"
            refusals.append(Refusal(key=shown, rule=rule, formats=()))
            continue
        try:
            written.append(_write(form, name, values[name]))
        except _RefusedError as exc:
            fitting = _fitting(name, values[name])
            refusals.append(Refusal(key=name, rule=exc.args[0], formats=fitting))
    if refusals:
        lines = "\n".join([f"  {refusal}" for refusal in refusals])
        raise FormatError(f"cannot be written as {form}:\n{lines}", code="export", refusals=tuple(refusals))
    if form == "k8s":
        return _secret(secret, namespace, written, sum([len(value.encode()) for value in values.values()]))
    if form == "json":
        return ("{\n" + ",\n".join(written) + "\n}\n" if written else "{}\n").encode()
    if form == "yaml" and not written:
        return b"{}\n"
    return "".join(written).encode()


# RFC 1123 as Kubernetes reads it: a Secret's name is a subdomain, a namespace a label.
_PART = r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = re.compile(rf"(?=.{{1,253}}\Z){_PART}(?:\.{_PART})*")
_LABEL = re.compile(rf"(?=.{{1,63}}\Z){_PART}")
_NAMES = {
    "name": "lower-case letters, digits, - and ., at most 253",
    "namespace": "lower-case letters, digits and -, at most 63",
}
_SECRET_MOST = 1 << 20


def _secret(name: str, namespace: str, written: list[str], size: int) -> bytes:
    for what, text, form in (("name", name, _SUBDOMAIN), ("namespace", namespace or "default", _LABEL)):
        if not form.fullmatch(text):
            raise FormatError(f"Kubernetes takes no such {what}: {_NAMES[what]}", code="k8s.name")
    if size > _SECRET_MOST:
        raise FormatError("Kubernetes takes no Secret of more than 1 MiB", code="k8s.size")
    # Quoted: `0x10` or `true` would be no string to a YAML reader.
    head = f'apiVersion: v1\nkind: Secret\nmetadata:\n  name: "{name}"\n'
    head += f'  namespace: "{namespace}"\n' if namespace else ""
    return (head + "type: Opaque\n" + ("data:\n" + "".join(written) if written else "data: {}\n")).encode()


def example(entries: Iterable[tuple[str, str]]) -> bytes:
    """A `.env.example` of (name, note) pairs in their order: notes as comments, names without values. A note is
    written as it is, so the caller leaves out notes that hold a value."""
    blocks = []
    for name, note in entries:
        names.check_name(name)
        lines = ["# " + "".join([c if c.isprintable() else " " for c in line]) for line in note.split("\n") if line]
        blocks.append("\n".join([*lines, f"{name}=", ""]))
    return ("\n" if any("#" in block for block in blocks) else "").join(blocks).encode()
