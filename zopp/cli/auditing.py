"""What `zopp audit` does; the flags are in `audit`."""

import argparse
import calendar
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import BinaryIO

from zopp.cli.context import Context, table
from zopp.cli.inputs import read_file, unreadable
from zopp.cli.nearest import nearest
from zopp.client import audit, policylog, remembered
from zopp.client.audit import Audit, Row
from zopp.client.changing import apart, proven
from zopp.errors import Denied, NotFound, Unknown, UsageError, ZoppError
from zopp.policy import canonical, log as policy_log, names
from zopp.policy.state import State
from zopp.protocol import mirror, replay
from zopp.protocol.receipt import Receipt
from zopp.protocol.replay import Found, Replay
from zopp.repo import git, journal, layout, subjects
from zopp.repo.clock import now
from zopp.repo.environment import people_name
from zopp.repo.signer import signer
from zopp.repo.userdirs import state as state_of
from zopp.repo.workspace import Workspace, require_writable
from zopp.tlog import checkpoint, entry
from zopp.tlog.note import Note, Verifier

_AGO = {"m": 60, "h": 3600, "d": 86400}


def run(ctx: Context, args: argparse.Namespace) -> int:
    """Do it."""
    return {
        "list": _list, "get": _get, "count": _count, "export": _export, "witness": _witness, "verify": _verify,
    }[args.action_](ctx, args)  # fmt: skip


@contextmanager
def _opened(ctx: Context, *, needs_receipt: bool = True) -> Iterator[tuple[Workspace, Audit]]:
    """The workspace, and its audit log at the server with the policy brought up to the server's, in memory only."""
    ws = ctx.workspace(needs_receipt=needs_receipt)
    if ws.place == "unpinned":
        require_writable(ws)
    log = policylog.of_workspace(ws, signer(ws, ctx.passphrase).key, whole=not proven(ws))
    try:
        log.fetch(remember=policylog.remembered_head(ws))
        here = policy_log.split(ws.log)
        if here != log.lines[: len(here)]:
            raise apart(here, log)
        yield ws, Audit(log)
    except Denied as exc:
        if exc.code == "denied" and not exc.hint:
            exc.hint = f"ask an admin of {ws.state.name} to run: zopp grant USER auditor {ws.state.name}"
        raise
    finally:
        log.server.close()


ALARM_DAYS = 30
_ALARMS = {
    "invite_used": "was presented again after it had been used",
    "invite_revoked": "was presented after it had been revoked",
    "invite_dead": "was presented after the device that made it was none any more",
    "replayed": "sent a request a second time",
    "disabled": "was used although it is disabled",
}


def alarms(ctx: Context) -> list[str]:
    """What an admin should hear of from the last ALARM_DAYS days of the audit log: invites and keys in wrong hands
    (A21). A sentence each; Denied for who may not read the log, Unknown where the server does not answer."""
    seen: dict[tuple[str, str], int] = {}
    with _opened(ctx, needs_receipt=False) as (_, log):
        since = now() - ALARM_DAYS * 86400
        for action in ("auth", "statement"):
            for row in log.list({"action": action, "outcome": "deny", "since": since}, limit=500):
                made = row.entry
                if made.reason in _ALARMS and made.actor is not None:
                    seen[made.actor, made.reason] = seen.get((made.actor, made.reason), 0) + 1
    return [
        f"{who.replace('/', ' ')} {_ALARMS[why]}" + (f" ({count} times)" if count > 1 else "")
        for (who, why), count in sorted(seen.items())
    ]


# --- filters


def _filters(args: argparse.Namespace, ws: Workspace, state: State) -> dict[str, object]:
    """As the route takes them. UsageError or NotFound for a value that nothing can have: a mistake, not an empty
    answer (S62)."""
    found: dict[str, object] = {}
    for name, known in (("action", entry.ACTIONS), ("outcome", entry.OUTCOMES)):
        value = getattr(args, name)
        if value is not None:
            if value not in known:
                near = nearest(value, known)
                raise UsageError(
                    f"must be one of {', '.join(known)}", code="audit.filter", place=f"--{name}",
                    hint=f"did you mean {near}?" if near else "zopp audit list --help",
                )  # fmt: skip
            found[name] = value
    if args.principal is not None:
        found["principal"] = _principal(state, args.principal)
    if args.user is not None:
        found["user"] = _user(state, args.user)
    if args.project is not None:
        found["project"] = subjects.scope(state, args.project).name
    if args.env is not None:
        typed = args.env if "/" in args.env else f"{args.project or ws.project}/{args.env}"
        found["env"] = subjects.scope(state, typed).name
    for name in ("since", "until"):
        value = getattr(args, name)
        if value is not None:
            found[name] = moment(value, name, now())
    return found


def _principal(state: State, typed: str) -> str:
    if typed.startswith(("invite/", "ci/")):
        return typed
    try:
        return state.principal(typed).name
    except NotFound:
        raise NotFound(
            f"there is no device or service {typed}", code="principal.unknown", candidates=list(state.principals)
        ) from None


def _user(state: State, typed: str) -> str:
    if typed in state.users:
        return typed  # disabled ones too: what they did stays
    tag = names.email_tag(state.salt, typed) if "@" in typed else ""
    found = next((name for name, user in state.users.items() if tag and user.email_tag == tag), None)
    if found is None:
        raise NotFound(f"there is no user {typed}", code="subject.unknown", candidates=list(state.users))
    return found


def moment(text: str, place: str, at: int) -> int:
    """Unix seconds of a typed time; UsageError."""
    if text.isascii() and text.isdigit() and len(text) <= 12:
        return int(text)
    if text[-1:] in _AGO and text[:-1].isascii() and text[:-1].isdigit() and len(text) <= 7:
        return at - int(text[:-1]) * _AGO[text[-1]]
    for form in ("%Y-%m-%d", "%Y-%m-%dT%H:%M:%SZ"):
        try:
            return calendar.timegm(time.strptime(text, form))
        except ValueError:
            continue
    raise UsageError("is no time like 2026-11-24, 2026-11-24T08:00:00Z or 7d", code="audit.filter", place=f"--{place}")


# --- reading


def _shown(row: Row) -> dict[str, object]:
    made = audit.flatten(row)
    made["detail"] = canonical.decode(made["detail"].encode())
    return made


def _words(row: Row) -> tuple[str, ...]:
    made = row.entry
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(made.ts // 1000))
    where = "" if made.scope is None else people_name(made.scope.name) if "/" in made.scope.name else made.scope.name
    who = (made.actor or "-") + (f" for {made.on_behalf}" if made.on_behalf else "")
    what = made.action
    if made.action == "statement":
        line = made.data["line"]["policy"]
        what = f"{line['type']} (statement {line['seq']})"
    reason = f" ({made.reason})" if made.reason else ""
    return str(row.index), when, made.outcome + reason, who, where, what


def _list(ctx: Context, args: argparse.Namespace) -> int:
    if args.limit < 1:
        raise UsageError("--limit: at least 1", code="audit.filter")
    with _opened(ctx) as (ws, log):
        rows = list(log.list(_filters(args, ws, log.log.state), limit=args.limit))
    if ctx.as_json:
        ctx.data([_shown(row) for row in rows])
        return 0
    for line in table(_words(row) for row in rows):
        ctx.out(line)
    return 0


def _count(ctx: Context, args: argparse.Namespace) -> int:
    with _opened(ctx) as (ws, log):
        found = log.count(_filters(args, ws, log.log.state))
    if ctx.as_json:
        ctx.data({"count": found})
    else:
        ctx.out(str(found))
    return 0


def _get(ctx: Context, args: argparse.Namespace) -> int:
    if args.index < 0:
        raise UsageError("must be 0 or more", code="audit.index", place="INDEX", hint="zopp audit list shows them")
    with _opened(ctx) as (_, log):
        row = log.get(args.index)
    if ctx.as_json:
        ctx.data({**_shown(row), "proven": True})
    else:
        ctx.out(row.body.decode())
        ctx.note("  ".join(part for part in _words(row) if part))
    return 0


def _export(ctx: Context, args: argparse.Namespace) -> int:
    if args.begin < 0:
        raise UsageError("must be 0 or more", code="audit.index", place="--from", hint="zopp audit list shows them")
    with _opened(ctx) as (_, log):
        rows = _progress(ctx, log.export(args.begin))
        if args.out is None:
            count = _write(args.format, rows, sys.stdout.buffer, log)
        else:
            count = _whole(os.path.join(ctx.cwd, args.out), lambda out: _write(args.format, rows, out, log))
    ctx.progress_done()
    if ctx.as_json and args.out is not None:
        ctx.data({"records": count, "file": args.out, "format": args.format})
    ctx.note(f"{count} records" + (f" in {args.out}" if args.out else ""))
    return 0


def _write(form: str, rows: Iterator[Row], out: BinaryIO, log: Audit) -> int:
    if form == "jsonl":
        return audit.write_jsonl(rows, out, lambda: log.note)
    import io

    text = io.TextIOWrapper(out, encoding="utf-8", newline="", write_through=True)
    try:
        return audit.write_csv(rows, text)
    finally:
        text.detach()


def _whole(path: str, write: Callable[[BinaryIO], int]) -> int:
    """A file that appears whole or not at all."""
    try:
        made, staged = tempfile.mkstemp(prefix=".zopp-", dir=os.path.dirname(path))
    except OSError as exc:
        raise UsageError(f"cannot be written ({exc.strerror})", code="file", place=path) from None
    try:
        with os.fdopen(made, "wb") as out:
            count = write(out)
        os.replace(staged, path)
    except BaseException:
        os.unlink(staged)
        raise
    return count


def _progress(ctx: Context, rows: Iterator[Row]) -> Iterator[Row]:
    for row in rows:
        if row.index % 1000 == 0:
            ctx.progress(f"record {row.index}")
        yield row


# --- witness


def _witness(ctx: Context, args: argparse.Namespace) -> int:
    commit = None
    with _opened(ctx) as (ws, log), journal.lock(ws.checkout):
        note = log.witness(_committed(ws))
        data = note.serialise()
        old = ws.read(layout.CHECKPOINT)
        journal.write(ws.checkout, {layout.CHECKPOINT: (old, data)})
        if args.message is not None and old != data:
            commit = git.commit(ws.root, [layout.CHECKPOINT], args.message, ctx.env)
    size = int(note.text.split("\n")[1])
    if ctx.as_json:
        ctx.data({"size": size, "note": data.decode(), "commit": commit})
    ctx.note(f"checkpoint of {size} records in {layout.CHECKPOINT}" + ("" if commit else "; commit it with git"))
    return 0


def _committed(ws: Workspace) -> list[tuple[bytes, str]]:
    """What has to be extended: the work tree's note, or in a conflict both sides'."""
    data = ws.read(layout.CHECKPOINT)
    found = [(data, "the work tree's")] if data is not None and b"<<<<<<<" not in data else []
    for revision in ("HEAD", *git.merge_heads(ws.checkout.git_dir)):
        side = git.show(ws.root, revision, layout.CHECKPOINT)
        if side is not None:
            found.append((side, f"of {revision[:12]}"))
    return found


# --- verify


def _verify(ctx: Context, args: argparse.Namespace) -> int:
    if args.from_export is None:
        with _opened(ctx) as (ws, log):
            return _judge(ctx, args, ws, log.log.logs, log.export(), lambda: log.note, online=log)
    ws = ctx.workspace(needs_receipt=False)
    if ws.place == "unpinned":
        require_writable(ws)
    logs = _offline_logs(ws)
    taken: list[bytes] = []
    try:
        with open(os.path.join(ctx.cwd, args.from_export), "rb") as file:
            # The checkpoint stands at the end, and the tree is compared at its size: a first look finds it.
            last = _last_line(file)
            return _judge(ctx, args, ws, logs, audit.read_export(file, taken.append), lambda: None, extra=last)
    except OSError as exc:
        why = unreadable(exc, args.from_export, ctx.cwd)
        raise Unknown(why.message, code=why.code, place=why.place, hint=why.hint) from None


def _last_line(file: BinaryIO) -> list[tuple[bytes, str]]:
    file.seek(0, os.SEEK_END)
    file.seek(max(0, file.tell() - audit.MAX_LINE))
    tail = file.read().rstrip(b"\n").rpartition(b"\n")[2]
    file.seek(0)
    try:
        value = canonical.decode(tail)
        if type(value) is dict and value.keys() == {"checkpoint"} and type(value["checkpoint"]) is str:
            return [(value["checkpoint"].encode(), "in the export")]
    except ZoppError:
        pass
    return []


def _offline_logs(ws: Workspace) -> tuple[Verifier, ...]:
    """The verifiers that the policy here proves."""
    if ws.state.server is None:
        raise UsageError(
            "the policy of this workspace names no server, so there is no audit log",
            code="server.none",
            hint="make one known with: zopp server adopt URL",
        )
    keys: tuple[Receipt, ...] = ()
    try:
        if ws.receipt is not None:
            found = mirror.parse(ws.receipt)
            keys = (*found.keys, found.last)
    except ZoppError:
        keys = ()
    return mirror.proven(ws.state, policy_log.split(ws.log).__getitem__, keys)


def _notes(ctx: Context, args: argparse.Namespace, ws: Workspace) -> list[tuple[bytes, str]]:
    """Every checkpoint that somebody kept: this user's, the work tree's, all versions in git, those given."""
    found: list[tuple[bytes, str]] = []
    try:
        with open(remembered.path_of(state_of(ctx.env), ws.state.ws), "rb") as file:
            found.append((file.read(), "kept by this user"))
    except FileNotFoundError:
        pass
    here = ws.read(layout.CHECKPOINT)
    if here is not None:
        found.append((here, layout.CHECKPOINT))
    versions = git.versions(ws.root, layout.CHECKPOINT, ["--all"])
    commits = {blob: commit for commit, blob in reversed(versions)}
    for blob, data in git.blobs(ws.root, list(commits)):
        found.append((data, f"{layout.CHECKPOINT} of commit {commits[blob][:12]}"))
    for path in args.checkpoint:
        found.append((read_file(ctx.cwd, path, 1 << 20), path))
    return list(dict.fromkeys(found))


def _judge(
    ctx: Context,
    args: argparse.Namespace,
    ws: Workspace,
    logs: tuple[Verifier, ...],
    rows: Iterator[Row],
    note: Callable[[], Note | None],
    extra: list[tuple[bytes, str]] | None = None,
    online: Audit | None = None,
) -> int:
    # Online the first page brings the checkpoint that the rest is compared with.
    head = next(rows, None)
    current = note()
    notes = [*_notes(ctx, args, ws), *(extra or [])]
    if current is not None:
        notes.append((current.serialise(), "of the server now"))
    good, bad = replay.check_notes(notes, logs)
    made = Replay(ws.state.ws, policy_log.split(ws.log), good, decide=args.replay)
    made.found += bad

    def every() -> Iterator[Row]:
        if head is not None:
            yield head
        yield from rows

    found = audit.judge(_progress(ctx, every()), made)
    ctx.progress_done()
    if online is not None and current is not None and any((f.code, f.index) == ("root", None) for f in found):
        # The tree says that one of them is not what it was; its own hashes, if the server still has them, say which.
        at = online.changed(checkpoint.verify(current, *logs))
        if at is not None:
            found.insert(0, Found(at, "leaf", "is not the record that the checkpoint covers"))
    return _answer(ctx, args, made, found, len(good))


def _answer(ctx: Context, args: argparse.Namespace, made: Replay, found: list[Found], checkpoints: int) -> int:
    unknown = not found and made.covered < made.size
    code = 1 if found else 3 if unknown or not made.size else 0
    first = replay.first(found)
    if ctx.as_json:
        ctx.data(
            {
                "ok": code == 0, "exit_code": code, "records": made.size, "statements": made.statements,
                "checkpoints": checkpoints, "covered": made.covered, "root": made.root.hex(), "first_bad": first,
                "replay": args.replay, "findings": [
                    {"index": each.index, "code": each.code, "message": each.message} for each in found
                ],
            }
        )  # fmt: skip
        return code
    for each in found:
        ctx.out(f"error: {'the log' if each.index is None else f'record {each.index}'}: {each.message} [{each.code}]")
    counts = f"{made.size} records, {made.statements} statements, {checkpoints} checkpoints"
    if code == 0:
        ctx.out(
            f"ok: {counts}; every record is as the checkpoints say" + (", and decided rightly" if args.replay else "")
        )
    elif code == 3:
        ctx.out(f"could not tell: {counts}; no checkpoint covers the records from {made.covered} on")
    else:
        ctx.out(f"failed: {counts}" + ("" if first is None else f"; the first bad record is {first}"))
    return code
