"""What the guard found, and what it has to say about a run. Lean.

A finding names things; the text that was matched stays inside `secret`, which no output reads.
"""

ENCRYPTED, LEFTOVER, TOKEN, OWN = "unencrypted", "leftover", "token", "own"


class Finding:
    """One thing that must not enter git.

    check    one of the four constants: what kind of check found it, and so what may except it
    rule     stable id
    path     as git has it, undecoded bytes in it as surrogates; `commit`: the commit it was found in, "" in a hook
    line     from 1; `column` from 1, in characters; a tag or commit message has path "(message)"
    what     what it is, in words, never a value; `shown` at most a public prefix (`ghp_…`)
    hint     the next command to type
    secret   what was matched: for counting and hashing only
    fingerprint  keyed hash of it, for the ignore list; "" where the list does not apply
    """

    __slots__ = (
        "check", "column", "commit", "fingerprint", "hint", "line", "path", "rule", "secret", "shown", "suppressed",
        "what",
    )  # fmt: skip

    def __init__(
        self,
        check: str,
        rule: str,
        path: str,
        line: int,
        column: int,
        what: str,
        *,
        hint: str = "",
        shown: str = "",
        secret: bytes = b"",
        commit: str = "",
    ) -> None:
        self.check = check
        self.rule = rule
        self.path = path
        self.line = line
        self.column = column
        self.what = what
        self.hint = hint
        self.shown = shown
        self.secret = secret
        self.commit = commit
        self.fingerprint = ""
        # Why it is not counted: "comment" or "ignore list"; "" if it is.
        self.suppressed = ""

    def __repr__(self) -> str:
        return f"Finding({self.rule!r}, {self.path!r}, {self.line})"

    def order(self) -> "tuple[str, str, int, int, str]":
        """Findings of one commit in the order of path and place."""
        return self.commit, self.path, self.line, self.column, self.rule


class Problem:
    """Something that could not be told: exit 3 (spec guard 4.7)."""

    __slots__ = ("commit", "path", "what")

    def __init__(self, path: str, what: str, commit: str = "") -> None:
        self.path = path
        self.what = what
        self.commit = commit

    def __repr__(self) -> str:
        return f"Problem({self.path!r}, {self.what!r})"


class Result:
    """A whole run. `mode` is what was read; `notes` are for stderr and never change the exit code."""

    __slots__ = ("bytes", "commits", "files", "findings", "mode", "not_covered", "notes", "own_mode", "problems",
                 "streamed", "suppressed")  # fmt: skip

    def __init__(self, mode: str) -> None:
        self.mode = mode
        self.files = self.bytes = self.commits = 0
        # How many of the files were too large to be held, and so were searched in blocks.
        self.streamed = 0
        self.findings: "list[Finding]" = []
        self.suppressed: "list[Finding]" = []
        self.problems: "list[Problem]" = []
        self.notes: "list[str]" = []
        # Environments whose own secrets could not be looked for, and "windows" where some were.
        self.not_covered: "list[str]" = []
        self.own_mode = ""

    @property
    def exit_code(self) -> int:
        """0 clean, 1 findings, 3 could not tell."""
        return 1 if self.findings else 3 if self.problems else 0


class Hit:
    """A match in a text, before it is placed: `at` its offset, `secret` the matched bytes, `rule` id, `what`, `shown`
    as in Finding. `decoded`: the secret is what the text at this place decodes to, not the text itself."""

    __slots__ = ("at", "decoded", "rule", "secret", "shown", "what")

    def __init__(self, at: int, rule: str, what: str, secret: bytes, shown: str = "", decoded: bool = False) -> None:
        self.at = at
        self.rule = rule
        self.what = what
        self.secret = secret
        self.shown = shown
        self.decoded = decoded

    def __repr__(self) -> str:
        return f"Hit({self.rule!r}, {self.at})"
