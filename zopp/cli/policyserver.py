"""`zopp policy pull` and `zopp policy push`: the log here and the server's (policy-server.md §4.1)."""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager

from zopp.cli import sentences, served
from zopp.cli.context import Context
from zopp.client.changing import Desk, accepted, apart, proven
from zopp.errors import IntegrityError, NotFound
from zopp.policy import decisions, log as policy_log, statement
from zopp.policy.names import Scope
from zopp.policy.state import State
from zopp.policy.statement import Statement
from zopp.repo import files, git, journal, layout, rebase
from zopp.repo.clock import now
from zopp.repo.draft import Draft
from zopp.repo.environment import people_name
from zopp.repo.layout import Checkout
from zopp.repo.signer import Signer, signer
from zopp.repo.workspace import Workspace, open_workspace, require_writable, standing


def run(ctx: Context, args: argparse.Namespace) -> int:
    """Do it."""
    return (_pull if args.action == "pull" else _push)(ctx, args)


@contextmanager
def _opened(ctx: Context) -> Iterator[tuple[Workspace, Desk]]:
    """The workspace under its lock, proven or not, and a desk. Unknown where the clone is not pinned."""
    checkout = layout.find_checkout(ctx.cwd)
    desk = served.desk(ctx)
    with journal.settled(checkout):
        ws = _workspace(ctx, checkout)
        if ws.place == "unpinned":
            require_writable(ws)
        try:
            yield ws, desk
        finally:
            desk.close()


def _workspace(ctx: Context, checkout: Checkout) -> Workspace:
    """As it lies here; where a merge left both sides' marks in the log, as HEAD has it."""
    here = files.read_if_there(checkout.root, layout.POLICY)
    if here is None or b"\n<<<<<<< " not in b"\n" + here:
        return open_workspace(ctx.cwd, ctx.env, recover=False, needs_receipt=False)
    ours = git.show(checkout.root, "HEAD", layout.POLICY)
    if ours is None:
        raise NotFound("HEAD has no policy log", code="workspace.missing", place=layout.POLICY)
    ws = rebase.open_on(checkout, ctx.cwd, ctx.env, ours)
    ws.receipt = git.show(checkout.root, "HEAD", layout.RECEIPT)
    return ws


def _pull(ctx: Context, args: argparse.Namespace) -> int:
    with _opened(ctx) as (ws, desk):
        before, here = ws.state, policy_log.split(ws.log)
        log = desk.fetched(ws, whole=args.replace)
        common = next((n for n, (a, b) in enumerate(zip(here, log.lines, strict=False)) if a != b), len(log.lines))
        dropped = [statement.parse(line) for line in here[common:]]
        if dropped and not args.replace:
            raise apart(here, log)
        came = [statement.parse(line) for line in log.lines[min(common, len(here)) :]]
        same = ws.read(layout.POLICY) == ws.log  # not where a merge left its marks
        found = None if not dropped and not came and same and proven(ws) else accepted(log)
        for st in dropped:
            ctx.note(f"{st.seq}  not at the server, and let go: {sentences.words(st)} (by {st.by})")
        for st in came:
            ctx.note(f"{st.seq}  {sentences.words(st)} (by {st.by})")
        if dropped and not args.dry_run and not ctx.confirm("take the server's log?", otherwise="say --yes"):
            return 1
        commit = None
        after = log.state
        if found is not None and not args.dry_run:
            ws.state, ws.log, ws.receipt = found.state, found.log, found.receipt
            ws.place = standing(ws.state, ws.pin)
            draft = Draft(ws, Signer("", log.server.key), now())
            commit = draft.commit(args.message)
    todo = _todo(ws, before, after, log.server.key.public)
    if ctx.as_json:
        ctx.data(
            {
                "seq": after.seq, "head": after.head, "came": [_json(st) for st in came],
                "dropped": [_json(st) for st in dropped], "rekey": todo, "dry_run": args.dry_run, "commit": commit,
            }
        )  # fmt: skip
        return 0
    if found is None:
        ctx.note(f"the log here is the server's, up to statement {after.seq}; nothing written")
    elif not came:
        ctx.note(f"the receipt of statement {after.seq} is here again")
    if todo:
        ctx.note(f"readers have changed; bring the files along with: zopp rekey {' '.join(todo)}")
    return 0


def _json(st: Statement) -> dict[str, object]:
    return {"seq": st.seq, "type": st.type, "by": st.by, "at": st.at, "words": sentences.words(st)}


def _todo(ws: Workspace, before: State, after: State, public: bytes) -> list[str]:
    """Environments with files whose readers have changed and in which this user may write."""
    me = after.principal_by_key(public)
    scopes = {str(c.scope) for c in decisions.effect(before, after) if c.scope.kind == "env"}
    return [
        people_name(scope)
        for scope in sorted(scopes)
        if me is not None
        and scope in after.envs
        and after.role(me.name, Scope("env", scope)) >= 2
        and dict(before.readers(scope)) != dict(after.readers(scope))
        and ws.read(layout.manifest_path(scope)) is not None
    ]


def _push(ctx: Context, args: argparse.Namespace) -> int:
    with _opened(ctx) as (ws, desk):
        me = signer(ws, ctx.passphrase)
        ours, here = ws.log, policy_log.split(ws.log)
        log = desk.fetched(ws, remember=False, whole=True)
        common = next(
            (n for n, (a, b) in enumerate(zip(here, log.lines, strict=False)) if a != b), min(len(here), len(log.lines))
        )
        extra = [statement.parse(line) for line in here[common:]]
        _remembered(ws, log.state, common)
        others = list(dict.fromkeys(st.by for st in extra if st.by != me.principal))
        if others:
            raise IntegrityError(
                f"the log here has statements that the server has not accepted, and some are by {', '.join(others)}",
                code="policy.others",
                place=layout.POLICY,
                hint="each signer hands in their own; else take them out: git checkout origin/main -- .zopp",
            )
        if not extra:
            ctx.note("the server has everything that is here; nothing sent")
            if ctx.as_json:
                ctx.data({"sent": [], "manifests": [], "seq": log.state.seq, "dry_run": args.dry_run, "commit": None})
            return 0
        found = accepted(log)
        ws.state, ws.log, ws.receipt, ws.place = found.state, found.log, found.receipt, "current"
        draft = Draft(ws, me, now(), desk.submit)

        def ask(st: Statement, then: list[str], effect: list[str]) -> bool:
            return served.still_wanted(ctx, st, then, effect, "at the server")

        # They are dated anew and so signed again: the server takes only what is dated now.
        done = rebase.rebase(draft, ours, ask)
        for st, _, _ in done.mine:
            ctx.note(f"{'would hand in' if args.dry_run else 'handing in'}: {sentences.words(st)}")
        commit = None
        if not args.dry_run:
            if not ctx.confirm("hand these in?", otherwise="look at them, then say --yes"):
                return 1
            commit = draft.commit(args.message)
            rebase.forget_own(ws, ours, done)
    for text in done.others:
        ctx.warn(text)
    if ctx.as_json:
        ctx.data(
            {
                "sent": [st.seq for st, _, _ in done.mine], "manifests": done.manifests, "seq": draft.state.seq,
                "dry_run": args.dry_run, "commit": commit,
            }
        )  # fmt: skip
    return 0


def _remembered(ws: Workspace, state: State, common: int) -> None:
    """What this clone remembers must be at the server, or be among what is handed in now."""
    pin = ws.pin
    if pin is None or (pin.seq >= common and pin.seq <= ws.state.seq and ws.state.hash_at(pin.seq) == pin.head):
        return
    if pin.seq > state.seq or state.hash_at(pin.seq) != pin.head:
        raise IntegrityError(
            f"the server does not show statement {pin.seq} that this clone has seen on the default branch",
            code="policy.withheld",
            hint="do not go on with this server; ask whoever runs it whether a backup was restored",
        )
