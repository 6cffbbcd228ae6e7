"""Read a .env file: every assignment, or every line that could be read in more than one way, in one run.

`auto` accepts only what eight parsers read alike; the other dialects read as their parser does. Whatever the dialect:
`$` stays as written unless `expand` asks, and then only names defined earlier in the same file count; nothing is run;
a byte order mark is dropped and CRLF read as LF, with a warning; an unterminated quote is an error where quotes mean
anything. No finding holds the text of a line: it says line, key and rule. Source: importers.md §3.2.

Left to the caller: whether a name may be a key (`names`, `plan`), and asking about placeholders.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from zopp.errors import FormatError
from zopp.exchange import dialects

MAX_BYTES = 1 << 20
MAX_PROBLEMS = 500
# How far a reading that is only suggested may look: a hostile file must not cost its square.
_SUGGEST_WITHIN = 1 << 12
DIALECTS = tuple(dialects.READERS)

RULES = {
    "after-quote": "something follows the closing quote",
    "backslash": "parsers read a backslash outside quotes in different ways",
    "backtick": "some parsers run what stands in backticks",
    "carriage-return": "a carriage return inside a line",
    "colon": "a colon where an equals sign is wanted",
    "command": "some parsers run $(…)",
    "comment-as-value": "some parsers read the comment as the value",
    "cut-pem": "the value is the first line of a block of several lines without quotes",
    "dollar": "parsers expand a dollar sign in different ways; --expand, or single quotes",
    "dollar-brace": "some parsers expand ${…} in single quotes too",
    "double-backslash": "parsers read two backslashes in different ways",
    "duplicate": "the key stands twice; the last one counts",
    "escape-in-double-quotes": "parsers read a backslash in double quotes in different ways",
    "escape-in-single-quotes": "parsers read a backslash before the closing quote in different ways",
    "export-blanks": "more than one blank after export, which node takes into the name",
    "hash-in-value": "some parsers begin a comment at the #",
    "mid-quote": "a quote inside an unquoted value",
    "no-equals": "no equals sign; a value is never taken from the environment",
    "non-ascii-unquoted": "a character outside ASCII without quotes",
    "not-utf8": "not UTF-8",
    "nul": "a NUL character",
    "odd-name": "not a name that all parsers know",
    "placeholder": "the value looks like a placeholder",
    "shell-special": "a character that a shell would act upon",
    "space-around-equals": "a blank beside the equals sign",
    "tab": "a tab outside quotes, which some parsers keep",
    "tilde": "a shell would put a home folder here",
    "undefined-reference": "expands a name that is not defined earlier in this file",
    "unquoted-space": "a blank in an unquoted value",
    "unterminated": "a quote that is not closed",
    "byte-order-mark": "a byte order mark, dropped",
    "crlf": "CRLF line ends, read as LF",
    "blank-before-comment": "node reads an indented comment or a line of blanks as part of the next name",
    "dollar-kept": "a dollar sign that this dialect would expand, kept as written",
    "too-many": "more problems than are listed",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Assignment:
    """One key of the file. `line` counts from 1, where the statement begins; `note` is the comment above and beside
    it; `dialect` is how it was read; `expanded` the names that were put in, with `expand` only."""

    name: str
    value: str = field(repr=False)
    line: int
    note: str = field(default="", repr=False)
    dialect: str = "auto"
    expanded: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """A warning or a problem. `key` is '' where showing it might show a secret. `choices`: the dialects that read the
    statement without a problem, to be chosen for the file or for this key. `other_line`: where a duplicate stood."""

    line: int
    key: str
    rule: str
    choices: tuple[str, ...] = ()
    other_line: int = 0

    def __str__(self) -> str:
        text = f"line {self.line}" + (f" ({self.key})" if self.key else "") + f": {RULES[self.rule]} [{self.rule}]"
        if self.other_line:
            text += f", also line {self.other_line}"
        return text + (f"; could be read as {', '.join(self.choices)}" if self.choices else "")


@dataclass(frozen=True, kw_only=True, slots=True)
class Parsed:
    """What the file says. With `problems` nothing may be imported; `assignments` are then those without one."""

    assignments: tuple[Assignment, ...]
    warnings: tuple[Finding, ...]
    problems: tuple[Finding, ...]

    def require(self, place: str) -> tuple[Assignment, ...]:
        """The assignments, or FormatError (`dotenv`) that lists every problem and holds them as `data['problems']`."""
        if self.problems:
            lines = "\n".join([f"  {problem}" for problem in self.problems])
            count = len(self.problems)
            raise FormatError(
                f"{count} line{'s' * (count > 1)} could be read in more than one way or not at all:\n{lines}",
                code="dotenv",
                place=place,
                problems=self.problems,
            )
        return self.assignments


def parse(
    data: bytes, *, dialect: str = "auto", choices: Mapping[str, str] | None = None, expand: bool = False
) -> Parsed:
    """Read `data` in `dialect`, or per key in that of `choices` (the map file's). Raises FormatError only for a file
    over 1 MiB and for an unknown dialect; all else is in `Parsed`."""
    choices = choices or {}
    for wanted in (dialect, *choices.values()):
        if wanted not in dialects.READERS:
            raise FormatError("unknown .env dialect", code="dialect", candidates=DIALECTS)
    if len(data) > MAX_BYTES:
        raise FormatError("a .env file of more than 1 MiB", code="dotenv_size")
    return _File(data, dialect, choices, expand).read()


class _File:
    """One run over one file."""

    def __init__(self, data: bytes, dialect: str, choices: Mapping[str, str], expand: bool) -> None:
        self.warnings: list[Finding] = []
        self.problems: list[Finding] = []
        self.found: dict[str, Assignment] = {}
        text = data.decode("utf-8", "surrogateescape")
        if text.startswith("\ufeff"):
            text = text[1:]
            self.warnings.append(Finding(line=1, key="", rule="byte-order-mark"))
        # Line ends are the file's only if all of them are alike: in a mixed file a CR belongs to a value, and a value
        # is refused by name rather than altered.
        if "\r\n" in text and text.count("\r\n") == text.count("\n"):
            self.warnings.append(Finding(line=text.count("\n", 0, text.index("\r\n")) + 1, key="", rule="crlf"))
            text = text.replace("\r\n", "\n")
        self.text, self.dialect, self.choices, self.expand = text, dialect, choices, expand

    def read(self) -> Parsed:
        at, line = 0, 1
        note: list[str] = []
        indented = False
        text = self.text
        while at < len(text):
            stop = dialects.line_end(text, at)
            raw = text[at:stop]
            if len(self.problems) == MAX_PROBLEMS:
                self.problems.append(Finding(line=line, key="", rule="too-many"))
                break
            # a comment of sops begins in the first column; an indented one is no statement of it, and no secret
            if not raw.strip(" \t") or raw.lstrip(" \t").startswith("#"):
                note = [*note, raw] if raw.strip(" \t") else []
                if raw[:1] in (" ", "\t") and not indented:
                    indented = True
                    self.warnings.append(Finding(line=line, key="", rule="blank-before-comment"))
                end = stop + 1
            else:
                end = self._statement(at, line, note)
                note = []
            line += text.count("\n", at, end)
            at = end
        order = sorted(self.found.values(), key=lambda assignment: assignment.line)
        return Parsed(assignments=tuple(order), warnings=tuple(self.warnings), problems=tuple(self.problems))

    def _statement(self, at: int, line: int, above: list[str]) -> int:
        name = _name_at(self.text, at)
        dialect = self.choices.get(name, self.dialect)
        read, value, expanded = self._value(dialect, at)
        key = _shown(read.name or name)
        if read.rule:
            others = [other for other in DIALECTS if other not in (dialect, "auto")]
            near = self.text[: at + _SUGGEST_WITHIN]
            fitting = tuple([other for other in others if not self._value(other, at, near)[0].rule])
            self.problems.append(Finding(line=line, key=key, rule=read.rule, choices=fitting))
            return read.end
        if not self.expand and any(expandable and "$" in text for text, expandable in read.pieces):
            self.warnings.append(Finding(line=line, key=key, rule="dollar-kept"))
        if is_placeholder(value):
            self.warnings.append(Finding(line=line, key=key, rule="placeholder"))
        if (before := self.found.get(read.name)) is not None:
            self.warnings.append(Finding(line=line, key=key, rule="duplicate", other_line=before.line))
        self.found[read.name] = Assignment(
            name=read.name,
            value=value,
            line=line,
            note=_note(above, read.comment),
            dialect=dialect,
            expanded=expanded,
        )
        return read.end

    def _value(self, dialect: str, at: int, text: str | None = None) -> tuple[dialects.Read, str, tuple[str, ...]]:
        """The statement at `at` in `dialect`; a problem that is common to all dialects stands in its `rule`."""
        text = self.text if text is None else text
        read = dialects.READERS[dialect](text, at)
        value = "".join([piece for piece, _ in read.pieces])
        expanded: tuple[str, ...] = ()
        rule = read.rule
        if self.expand and rule in ("", "dollar") and read.pieces:
            put = _expand(read.pieces, dialect, self.found)
            if put is not None:
                value, expanded = put
                rule = "" if rule == "" or expanded else rule
            else:
                rule = "undefined-reference"
        statement = text[at : read.end]
        if "\0" in statement:
            rule = "nul"
        elif not statement.isascii() and any("\ud800" <= char <= "\udfff" for char in statement):
            rule = "not-utf8"
        elif not rule and "\r" in statement and dialect not in ("docker", "sops"):
            rule = "carriage-return"
        elif not rule and _CUT_PEM.match(text, at) and dialects.skip_pem(text, at) > read.end:
            rule = "cut-pem"
            read = dialects.Read(dialects.skip_pem(text, at), read.name, rule=rule)
        if rule != read.rule:
            read = dialects.Read(read.end, read.name, () if rule else read.pieces, read.comment, rule)
        return read, value, expanded


# A value that begins a PEM block without quotes, of which every dialect would take the first line alone.
_CUT_PEM = re.compile(r"[^=:\n]*[=:][ \t]*-----BEGIN ")


def _name_at(text: str, at: int) -> str:
    """The name for which a per-key choice is looked up, before any dialect has had its say."""
    found = re.compile(r"[ \t]*(?:export[ \t]+)?([\w.-]+)[ \t]*[=:]", re.ASCII).match(text, at)
    return found[1] if found else ""


def _shown(name: str) -> str:
    """`name` if it can be shown: a line of base64 looks like a name, but a long one."""
    return name if len(name) <= 64 and re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.-]*", name) else ""


def _note(above: Iterable[str], beside: str) -> str:
    """Comments as the text of a note; rulers (`#####`, `# ----`) say nothing and are left out."""
    lines = [raw.strip(" \t").lstrip("#").strip() for raw in above]
    lines.append(beside.strip())
    return "\n".join([line for line in lines if line.strip("#=-*~_+ ")])


_BRACED = r"\$\{(?P<braced>[A-Za-z_][A-Za-z0-9_]*)(?::?-(?P<default>[^}$`]*))?\}"
_REFERENCE = {
    "python": re.compile(_BRACED + r"|(?P<odd>\$\{)"),
    "compose": re.compile(_BRACED + r"|\$(?P<plain>[A-Za-z_][A-Za-z0-9_]*)|(?P<two>\$\$)|(?P<odd>\$[{(])"),
    "shell": re.compile(_BRACED + r"|\$(?P<plain>[A-Za-z_][A-Za-z0-9_]*)|(?P<odd>\$[{(])"),
}
_REFERENCE["auto"] = re.compile(_BRACED + r"|\$(?P<plain>[A-Za-z_][A-Za-z0-9_]*)|(?P<odd>\$)")


def _expand(
    pieces: tuple[dialects.Piece, ...], dialect: str, defined: Mapping[str, Assignment]
) -> tuple[str, tuple[str, ...]] | None:
    """(value, names put in), or None where a name is not defined earlier in the file and has no default, or the
    reference has a form that is not known here. `dotenv`, `docker` and `sops` expand nothing."""
    pattern = _REFERENCE.get(dialect)
    used: list[str] = []
    made: list[str] = []
    for text, expandable in pieces:
        at = 0
        for found in pattern.finditer(text) if pattern is not None and expandable else ():
            groups = found.groupdict()
            made.append(text[at : found.start()])
            at = found.end()
            name = groups["braced"] or groups.get("plain")
            if groups.get("two"):
                made.append("$")
            elif name and name in defined:
                used.append(name)
                made.append(defined[name].value)
            elif groups["default"] is not None and not groups["odd"]:
                made.append(groups["default"])
            else:
                return None
        made.append(text[at:])
    value = "".join(made)
    return None if len(value) > MAX_BYTES else (value, tuple(used))


_PLACEHOLDER = re.compile(
    r"""(?ix) change[-_ ]?(me|this|it) .* | .* change[-_ ]?me | x{3,} | .* [-_]x{4,} | \*{3,} | \.{3} | <[^<>]*> |
    todo | fixme | tbd | (your|my|insert|enter|put|add) [-_ ] .* | replace[-_ ]?(me|this|with) .* | placeholder |
    secret | password | example """
)
_EXAMPLE_SUFFIXES = (".example", ".sample", ".template", ".dist")


def is_placeholder(value: str) -> bool:
    """Whether `value` looks like a text to be replaced (`changeme`, `xxx`, `<your-key>`, `TODO`), which an importer
    asks about instead of storing it."""
    return len(value) <= 200 and _PLACEHOLDER.fullmatch(value) is not None


def is_example_path(path: str) -> bool:
    """Whether a file of this name holds examples by custom: `.env.example`, `.env.sample`, `.env.template`, …"""
    name = path.replace("\\", "/").rsplit("/", 1)[-1].lower()
    return name.endswith(_EXAMPLE_SUFFIXES) or any(f"{suffix}." in name for suffix in _EXAMPLE_SUFFIXES)
