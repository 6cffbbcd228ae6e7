"""A change of the policy where a server orders it: fetched before drafting, handed in before writing.

`Desk.newest` and `Desk.submit` are what `repo.changing` and `Draft` call, so that the working copy knows nothing of a
network (policy-server.md §4.1). Between acceptance and writing a crash loses nothing: `zopp policy pull`, or the next
change, fetches the lines.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from zopp.client import policylog
from zopp.client.policylog import Ask, Log
from zopp.errors import IntegrityError, ZoppError
from zopp.keys import find
from zopp.keys.signing import SigningKey
from zopp.policy import log as policy_log, statement
from zopp.repo import layout, rebase, userdirs
from zopp.repo.clock import now
from zopp.repo.draft import Accepted, Draft
from zopp.repo.signer import signer
from zopp.repo.workspace import Workspace, require_receipt


@dataclass(slots=True)
class Desk:
    """One command's dealings with the server. `passphrase` asks for that of a locked key, `ask` whether a statement is
    wanted although it means something else now (`policylog.Log.submit`)."""

    passphrase: Callable[[str], str] | None
    ask: Ask
    log: Log | None = field(default=None, init=False)

    def newest(self, ws: Workspace, key: SigningKey | None = None) -> Accepted | None:
        """The server's log, verified; None if it is exactly what lies here. Errors as in `Log.fetch`, and
        IntegrityError (`policy.ahead`, `policy.forked`) where the log here is not a part of it."""
        log = self.fetched(ws, key=key)
        here = policy_log.split(ws.log)
        if here != log.lines[: len(here)]:
            raise apart(here, log)
        if log.data == ws.log and proven(ws):
            return None  # another receipt of the same line is no news
        return accepted(log)

    def fetched(
        self, ws: Workspace, *, remember: bool = True, whole: bool = False, key: SigningKey | None = None
    ) -> Log:
        """The server's log, verified, whatever lies here; `whole` from its genesis on, asked by `key` (by default this
        user's). Errors as in `Log.fetch`."""
        log = policylog.of_workspace(ws, key or _key(ws, self.passphrase), whole=whole or not proven(ws))
        self.log = log
        log.fetch(remember=policylog.remembered_head(ws) if remember else None)
        return log

    def submit(self, draft: Draft) -> Accepted:
        """What the server made of the drafted lines; errors as in `Log.submit`."""
        log = self.log or self.fetched(draft.ws)
        before = log.state.seq
        try:
            log.submit(
                draft.lines,
                by=draft.signer.principal,
                sign=draft.signer.key.sign,
                now=lambda: now() + log.server.offset,
                effect=rebase.words,
                ask=self.ask,
            )
        except ZoppError as exc:
            mine = [st for st in map(statement.parse, log.lines[before + 1 :]) if st.by == draft.signer.principal]
            if mine:
                exc.hint = (
                    f"{len(mine)} of the {len(draft.lines)} statements were accepted before that, and nothing is "
                    "written here: zopp policy pull, then run the command again"
                )
            raise
        finally:
            log.server.close()
        return accepted(log)

    def close(self) -> None:
        """Close the connection."""
        if self.log is not None:
            self.log.server.close()


def accepted(log: Log) -> Accepted:
    """A fetched log as the working copy takes it."""
    assert log.mirror is not None
    return Accepted(log.data, log.state, log.mirror.serialise())


def _key(ws: Workspace, ask: Callable[[str], str] | None) -> SigningKey:
    """Who asks. Somebody whose enrolment has not come here yet is known to the server already."""
    found = find.signing_key(ws.env, userdirs.config(ws.env), ask)
    return found.key if found.key is not None else signer(ws, ask).key


def proven(ws: Workspace) -> bool:
    """Whether the receipt file here proves the log here."""
    try:
        require_receipt(ws)
    except IntegrityError:
        return False
    return ws.state.server is not None


def apart(here: list[bytes], log: Log) -> IntegrityError:
    """Why a log that lies here is not a part of the server's: it goes on where that ends, or parts from it."""
    common = next((n for n, (a, b) in enumerate(zip(here, log.lines, strict=False)) if a != b), None)
    if common is None:
        extra = [statement.parse(line) for line in here[len(log.lines) :]]
        who = ", ".join(dict.fromkeys(st.by for st in extra))
        return IntegrityError(
            f"the policy log here goes on with {len(extra)} statements (by {who}) that the server has not accepted",
            code="policy.ahead",
            place=layout.POLICY,
            hint="if they are yours: zopp policy push; else take them out: git checkout origin/main -- .zopp",
        )
    by = statement.parse(here[common]).by
    return IntegrityError(
        f"the policy log here parts from the server's at statement {common} (here by {by})",
        code="policy.forked",
        place=layout.POLICY,
        hint="see who changed it: git log -- .zopp/policy.jsonl; then: zopp policy pull --replace",
    )
