"""What every command gets: environment, folder, streams, and how to ask.

stdout is data, everything else is stderr with the prefix `zopp:`; prompts go to the terminal.
"""

from __future__ import annotations

import getpass
import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from zopp.cli import fast
from zopp.cli.inputs import unreadable
from zopp.errors import Unknown, UsageError
from zopp.repo.brokered import Releaser, Stanza
from zopp.repo.environment import people_name
from zopp.repo.unlock import Keyring
from zopp.repo.workspace import Workspace, open_workspace

if TYPE_CHECKING:
    from zopp.cli.ahead import Started
    from zopp.repo.draft import Draft


@dataclass(slots=True)
class Context:
    """One run of the command line. `as_json`, `quiet` and `yes` are the global flags. `ahead`: what the command had git
    begin before all was loaded."""

    env: Mapping[str, str]
    cwd: str
    as_json: bool = False
    quiet: bool = False
    yes: bool = False
    ahead: Started | None = None
    _keyring: Keyring | None = field(default=None, init=False)
    _releases: Releaser | None = field(default=None, init=False)
    _asked: dict[str, str] = field(default_factory=dict, init=False, repr=False)

    # --- streams

    def out(self, text: str) -> None:
        """A line of the answer."""
        sys.stdout.write(text + "\n")

    def data(self, value: Any) -> None:
        """The answer as JSON."""
        json.dump(value, sys.stdout, indent=2, sort_keys=False, ensure_ascii=False)
        sys.stdout.write("\n")

    def note(self, text: str) -> None:
        """What was done, for people; silent with --quiet."""
        if not self.quiet:
            sys.stdout.flush()  # what was said before stands before, also where both go to one place
            sys.stderr.write(f"{text}\n")

    def warn(self, text: str) -> None:
        """Something to know; --quiet does not silence it."""
        sys.stderr.write(f"zopp: warning: {text}\n")

    def progress(self, text: str) -> None:
        """A step of long work: shown on a terminal, silent in a pipe."""
        if sys.stderr.isatty() and not self.quiet:
            sys.stderr.write(f"\r\x1b[K{text}")
            sys.stderr.flush()

    def progress_done(self) -> None:
        """Take the progress line away."""
        if sys.stderr.isatty() and not self.quiet:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()

    def flush(self) -> None:
        """Send the answer off now, for a command that goes on."""
        sys.stdout.flush()

    # --- asking

    def interactive(self) -> bool:
        """Whether a person can answer."""
        return sys.stdin.isatty() and sys.stderr.isatty()

    def confirm(self, question: str, *, otherwise: str) -> bool:
        """Ask yes or no; with --yes no question. Without a terminal UsageError that says `otherwise` what to type."""
        if self.yes:
            return True
        if not self.interactive():
            raise UsageError("this needs an answer, and there is no terminal", code="no_terminal", hint=otherwise)
        sys.stderr.write(f"{question} [y/N] ")
        sys.stderr.flush()
        answer = sys.stdin.readline()
        if not answer.endswith("\n"):
            sys.stderr.write("\n")  # ctrl-D: the next line is not the question's
        return answer.strip().lower() in ("y", "yes")

    def secret(self, prompt: str, *, repeat: bool = False) -> str:
        """Ask for a value without showing it. UsageError without a terminal, or if the repetition differs."""
        if not self.interactive():
            raise UsageError(
                f"{prompt}: there is no terminal to ask on", code="no_terminal",
                hint="run this on a terminal; --help says what scripts do",
            )  # fmt: skip
        value = getpass.getpass(f"{prompt}: ", stream=sys.stderr)
        if repeat and getpass.getpass(f"{prompt} again: ", stream=sys.stderr) != value:
            raise UsageError("the two are not the same", code="mistyped")
        return value

    def passphrase(self, source: str) -> str:
        """The passphrase of a locked key; `source` says which. The system's keychain is asked first where the extra
        `keychain` is installed; `zopp principal remember` puts it there. Nobody is asked twice in one command, which
        may need a signing key for its statement and for a release."""
        if source not in self._asked:
            self._asked[source] = self._passphrase(source)
        return self._asked[source]

    def _passphrase(self, source: str) -> str:
        from importlib.util import find_spec

        if find_spec("keyring") is not None:
            from zopp.keys import keychain

            try:
                kept = keychain.get(source)
            except Unknown as exc:
                self.warn(exc.message)
                kept = None
            if kept is not None:
                return kept
        try:
            return self.secret(f"passphrase of {source}")
        except UsageError as exc:
            if exc.code != "no_terminal":
                raise
            raise UsageError(
                "the key is locked, and there is no terminal to ask for its passphrase on", code="no_terminal",
                place=source, hint="run this on a terminal, or once there: zopp principal remember",
            ) from None  # fmt: skip

    # --- repository

    @property
    def keyring(self) -> Keyring:
        """This user's identities."""
        if self._keyring is None:
            self._keyring = Keyring(self.env, self.passphrase, releaser=self._release, tell=self.warn)
        return self._keyring

    def unasked(self) -> Keyring:
        """This user's identities for what git calls, which asks nobody: a locked key is as good as none."""
        keyring: Keyring

        def release(ws: Workspace, scope: str, purpose: str, items: Sequence[Stanza], /) -> Sequence[bytes]:
            from zopp.client.releases import Releases

            return Releases(keyring, None)(ws, scope, purpose, items)

        keyring = Keyring(self.env, None, releaser=release, tell=self.warn)
        return keyring

    def _release(self, ws: Workspace, scope: str, purpose: str, items: Sequence[Stanza], /) -> Sequence[bytes]:
        """Ask the policy server; its client is loaded when a brokered file is opened and not before."""
        if self._releases is None:
            from zopp.client.releases import Releases

            self._releases = Releases(self.keyring, self.passphrase)
        return self._releases(ws, scope, purpose, items)

    def workspace(self, *, needs_receipt: bool = True) -> Workspace:
        """The workspace of the current folder, for reading; what is odd about it is said once."""
        ws = open_workspace(self.cwd, self.env, needs_receipt=needs_receipt)
        self._say_trust(ws)
        return ws

    def _say_trust(self, ws: Workspace) -> None:
        if ws.recovered:
            self.note("zopp: finished what an interrupted command had begun: " + ", ".join(ws.recovered))
        if ws.place == "unpinned":
            self.warn(
                f"this clone is not pinned to a workspace; its log begins with {ws.state.ws} "
                "(compare with a colleague, then: zopp trust)"
            )
        elif ws.place in ("older", "beside"):
            how = "older than" if ws.place == "older" else "beside"
            self.warn(f"the policy here is {how} the one this clone has seen on the default branch")

    @contextmanager
    def changing(self, *, on_old_base: bool = False, policy: bool = False) -> Iterator[Draft]:
        """A draft under the lock, in a clone that may write. The caller commits it. `policy`: it may draft statements,
        so where a server orders them it is asked first, and again before anything is written."""
        from zopp.repo.changing import changing  # what only reads does not wait for it

        def opened(ws: Workspace) -> None:
            if ws.place != "unpinned":
                self._say_trust(ws)

        if not policy:
            with changing(self.cwd, self.env, self.passphrase, on_old_base=on_old_base, opened=opened) as draft:
                yield draft
            return
        from zopp.cli import served  # where only secrets change, no network code is loaded

        desk = served.desk(self)
        try:
            with changing(
                self.cwd, self.env, self.passphrase, on_old_base=on_old_base, opened=opened, newest=desk.newest,
                submit=desk.submit,
            ) as draft:  # fmt: skip
                yield draft
        finally:
            desk.close()
        for scope in draft.left:
            self.warn(
                f"others changed who reads {people_name(scope)} meanwhile, so its files are not done: "
                f"zopp rekey {people_name(scope)}"
            )


def read_stdin() -> str:
    """All of standard input as text. UsageError if it is not UTF-8."""
    return decode(fast.stdin_bytes(), "standard input")


def decode(data: bytes, place: str) -> str:
    """UTF-8 text; UsageError without quoting it."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise UsageError("is not UTF-8 text", code="not_utf8", place=place) from None


def table(rows: Iterable[Sequence[str]]) -> list[str]:
    """Rows with aligned columns, the last one ragged."""
    rows = [list(row) for row in rows]
    widths = [max((len(row[i]) for row in rows), default=0) for i in range(max(map(len, rows), default=0) - 1)]
    return ["  ".join([*(c.ljust(w) for c, w in zip(row, widths, strict=False)), row[-1]]).rstrip() for row in rows]


def read_passphrase_file(path: str) -> str:
    """The first line of a file that holds a passphrase."""
    try:
        with open(os.path.expanduser(path), encoding="utf-8") as file:
            text = file.readline().rstrip("\r\n")
    except UnicodeDecodeError:
        raise UsageError("is not UTF-8 text", code="passphrase_file", place=path) from None
    except OSError as exc:
        raise unreadable(exc, path, code="passphrase_file") from None
    if not text:
        raise UsageError("its first line is empty", code="passphrase_file", place=path)
    return text
