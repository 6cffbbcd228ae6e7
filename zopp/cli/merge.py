"""Merge a branch: secrets by key, the policy by statement, one signature a merged environment.

Git stops a plain merge, rebase, cherry-pick or stash pop at the signed manifests; --continue verifies both sides,
makes the merge, lists what it signs, signs and goes on through every commit. Only a key that both sides changed
differently is a conflict: zopp resolve.
"""

import argparse

from zopp.cli.context import Context
from zopp.cli.parser import add_change, epilog
from zopp.errors import IntegrityError, NotFound, Unknown, UsageError
from zopp.policy.statement import Statement
from zopp.printable import printable
from zopp.repo import git, journal, memory, mergehooks, mergerecord, mergework, operation
from zopp.repo.environment import open_environment, people_name
from zopp.repo.layout import Checkout
from zopp.repo.mergework import Work
from zopp.repo.merging import shown
from zopp.repo.operation import Operation
from zopp.repo.revision import merge_base
from zopp.repo.workspace import open_workspace
from zopp.sopsfile.merging import WHOLE

EXAMPLES = epilog("zopp merge feature", "zopp merge --dry-run feature", "zopp merge --continue", "zopp merge --abort")


def configure(parser: argparse.ArgumentParser) -> None:
    """The flags of `zopp merge`."""
    parser.add_argument("branch", nargs="?", metavar="BRANCH", help="what to merge into this branch")
    parser.add_argument("--continue", dest="go_on", action="store_true", help="go on with what git stopped in")
    parser.add_argument("--abort", action="store_true", help="give it up and go back to where it began")
    add_change(parser)


def run(ctx: Context, args: argparse.Namespace) -> int:
    """Do it."""
    if [bool(args.branch), args.go_on, args.abort].count(True) != 1:
        raise UsageError("say which branch, --continue or --abort", hint="zopp merge --help")
    if args.message and not args.branch:
        raise UsageError("-m is for a merge that begins", hint="zopp merge --continue")
    checkout = operation.checkout(ctx.cwd, ctx.env)
    told = _Told()
    if args.abort:
        return _abort(ctx, checkout, told)
    if args.branch and _start(ctx, args, checkout, told):
        return told.end(ctx, 0)
    return told.end(ctx, _go_on(ctx, args, checkout, told))


class _Told:
    """The answer for --json, gathered over all commits."""

    def __init__(self) -> None:
        self.operation: str | None = None
        self.done = False
        self.signed: list[dict[str, object]] = []
        self.conflicts: list[dict[str, str]] = []
        self.restated: list[int] = []
        self.warnings: list[str] = []

    def end(self, ctx: Context, code: int) -> int:
        if ctx.as_json:
            ctx.data(
                {
                    "operation": self.operation, "done": self.done, "signed": self.signed, "restated": self.restated,
                    "conflicts": self.conflicts, "warnings": self.warnings,
                }
            )  # fmt: skip
        return code


def _under_way(checkout: Checkout) -> tuple[Operation | None, operation.Stages]:
    stages = operation.unmerged(checkout.root)
    return operation.find(checkout, stages), stages


def _start(ctx: Context, args: argparse.Namespace, checkout: Checkout, told: _Told) -> bool:
    """Have git begin; whether that was all."""
    root = checkout.root
    op, _ = _under_way(checkout)
    if op is not None:
        raise UsageError(f"a {op.kind} is under way", code="merge.pending", hint="zopp merge --continue, or --abort")
    head, theirs = git.resolve(root, "HEAD"), git.resolve(root, args.branch)
    if head is None:
        raise NotFound("this branch has no commit yet", code="merge.root", hint=f"git checkout -b NAME {args.branch}")
    if theirs is None:
        names = [name.split("/", 2)[2] for _, name in git.branches(root)]
        raise NotFound(f"there is no branch {args.branch}", code="merge.branch", candidates=names)
    if args.dry_run:
        op = Operation("merge", head, theirs, merge_base(root, head, theirs))
        told.operation = op.kind
        if op.base in (theirs, head):
            ctx.note("nothing to merge: one side holds the other")
            return True
        _step(ctx, args, checkout, op, {}, told)
        return True
    mergerecord.forget(checkout)
    message = ("-m", args.message) if args.message else ()
    done = operation.run_git(root, "merge", "--no-commit", *message, args.branch, environ=ctx.env)
    if git.merge_heads(checkout.git_dir):
        return False
    said = done.stdout.decode("utf-8", "replace").strip()
    if done.returncode:
        raise Unknown("git merge: " + said.split("\n")[0], code="git.failed")
    told.operation, told.done = "merge", True
    ctx.note(said.split("\n")[-1].strip() or "merged")
    return True


def _go_on(ctx: Context, args: argparse.Namespace, checkout: Checkout, told: _Told) -> int:
    root = checkout.root
    while True:
        op, stages = _under_way(checkout)
        if op is None:
            made = mergehooks.exchange(checkout, ctx.env)
            if made is None and _follow(ctx, args, checkout, told):
                told.operation, told.done = "rebase", True
                return 0
            if made is None:
                mergerecord.forget(checkout)
                raise operation.nothing(stages)
            ctx.note(f"the merge commit is {made[:9]} now, with its signed manifests")
            told.operation, told.done = "merge", True
            return 0
        told.operation = op.kind
        work = _step(ctx, args, checkout, op, stages, told)
        if work is None:
            return 1 if told.conflicts else 0
        left = operation.unmerged(root)
        if left:
            names = ", ".join(map(printable, sorted(left)[:6])) + (" …" if len(left) > 6 else "")
            raise IntegrityError(
                f"signed and staged; git has other conflicts: {names}",
                code="merge.others",
                hint="settle those, git add them, then: zopp merge --continue",
            )
        if op.command is None:
            mergerecord.forget(checkout)
            told.done = True
            last = (
                "the stash is kept; drop it with: git stash drop" if op.kind == "stash" else "commit with: git commit"
            )
            ctx.note(f"merged; {last}")
            return 0
        done = operation.run_git(root, *op.command, environ=ctx.env)
        after, _ = _under_way(checkout)
        if after is None:
            _follow(ctx, args, checkout, told)
            told.done = True
            _learn(ctx, work)
            mergerecord.forget(checkout)
            ctx.note(f"{op.kind} done")
            return 0
        if (after.ours, after.theirs) == (op.ours, op.theirs):
            beside = operation.unstaged(root)
            if beside:
                names = ", ".join(map(printable, beside[:6])) + (" …" if len(beside) > 6 else "")
                raise IntegrityError(
                    f"all is signed and staged, and git does not go on while there are other changes: {names}",
                    code="merge.beside",
                    hint="see them with git diff, take them back with git restore, then: zopp merge --continue",
                )
            for line in done.stdout.decode("utf-8", "replace").strip().split("\n"):
                ctx.note(f"git: {line}")
            raise Unknown(
                f"all is signed and staged, and git {op.command[0]} did not go on", code="git.failed",
                hint="see what git says above, then: zopp merge --continue",
            )  # fmt: skip


def _follow(ctx: Context, args: argparse.Namespace, checkout: Checkout, told: _Told) -> bool:
    """Sign anew, into the last commit, what git took as it was behind statements that were signed again; whether there
    was any."""
    with journal.settled(checkout):
        work = mergework.follow(
            checkout, ctx.env, ctx.cwd, ctx.keyring, passphrase=ctx.passphrase, on_old_base=args.on_old_base
        )
        if work is None:
            return False
        for text in work.warnings:
            ctx.warn(text)
        told.warnings += work.warnings
        if not work.plans:
            return False
        mergework.check_untouched(work)
        _say(ctx, work, told, dry=False)
        mergework.stage(work, mergework.write(work), ctx.env)
        mergework.check_written(work, ctx.cwd, ctx.env)
    done = operation.run_git(checkout.root, "commit", "--quiet", "--amend", "--no-edit", environ=ctx.env)
    if done.returncode:
        said = done.stdout.decode("utf-8", "replace").strip().split("\n")[0]
        raise Unknown(f"git commit: {said}", code="git.failed", hint="then: zopp merge --continue")
    mergerecord.forget(checkout)
    return True


def _step(
    ctx: Context, args: argparse.Namespace, checkout: Checkout, op: Operation, stages: operation.Stages, told: _Told
) -> Work | None:
    """One merge of two commits: verified, made, said, written and staged. None: it stopped here."""

    def ask(st: Statement, then: list[str], here: list[str]) -> bool:
        from zopp.cli import served

        return served.still_wanted(ctx, st, then, here, "on the other side")

    with journal.settled(checkout):
        work = mergework.prepare(
            checkout, ctx.env, ctx.cwd, op, stages, ctx.keyring, passphrase=ctx.passphrase, ask=ask,
            on_old_base=args.on_old_base,
        )  # fmt: skip
        for text in work.warnings:
            ctx.warn(text)
        told.warnings += work.warnings
        told.conflicts = [
            {
                "environment": people_name(plan.scope), "file": path,
                "key": "" if conflict.place == WHOLE else shown(conflict.place), "why": conflict.why,
            }
            for plan, path, conflict in work.conflicts()
        ]  # fmt: skip
        if told.conflicts:
            for row in told.conflicts:
                ctx.note(
                    f"conflict: {row['environment']} {row['key'] or row['file']}"
                    + f" ({row['why']})" * bool(row["why"])
                )
            ctx.note("nothing is signed; choose with: zopp resolve KEY --ours|--theirs|--edit")
            return None
        if not args.dry_run:
            mergework.check_untouched(work)
        _say(ctx, work, told, dry=args.dry_run)
        if args.dry_run:
            return None
        paths = mergework.write(work)
        mergework.stage(work, paths, ctx.env)
        mergework.check_written(work, ctx.cwd, ctx.env)
    return work


def _say(ctx: Context, work: Work, told: _Told, *, dry: bool) -> None:
    from zopp.cli import sentences

    for st, _, _ in work.restated.mine if work.restated is not None else ():
        ctx.note(f"{'would sign' if dry else 'signed'} again: {sentences.words(st)}")
        told.restated.append(st.seq)
    for line in mergework.lines(work):
        ctx.note(f"would be: {line}" if dry else line)
    for plan in work.plans:
        changed = {path: result.changed for path, result in plan.results.items()} | plan.changed
        told.signed.append(
            {
                "environment": people_name(plan.scope),
                "changed": changed,
                "new_data_key": plan.fresh,
                "theirs": work.op.theirs,
            }
        )


def _learn(ctx: Context, work: Work) -> None:
    """Remember the heads of a merge into the default branch, as after any commit."""
    ws = open_workspace(ctx.cwd, ctx.env)
    envs = [open_environment(ws, scope) for scope in ws.state.envs]
    memory.learn(ws, [env for env in envs if not any(f.severity == "error" for f in env.findings)])


def _abort(ctx: Context, checkout: Checkout, told: _Told) -> int:
    """Undo what zopp wrote and staged, then let git undo its own part."""
    root = checkout.root
    with journal.settled(checkout):
        op, stages = _under_way(checkout)
        if op is None:
            if mergework.left_behind(checkout) is not None:
                raise UsageError(
                    "git has come to the end of it, and not all of it is signed",
                    code="merge.ended",
                    hint="zopp merge --continue",
                )
            mergerecord.forget(checkout)
            raise operation.nothing(stages)
        told.operation = op.kind
        record = mergerecord.load(checkout)
        # git gives up where a file differs from what is staged; what zopp wrote is ours to stage away.
        written = {path for path in (record.files if record is not None else ()) if path not in stages}
        written |= {path for path in _unstaged(root) if path in mergework.MINE or path.startswith(".zopp/")}
        operation.stage(root, written, ctx.env)
        command = {"squash": ("reset", "--merge"), "stash": ("reset", "--merge")}.get(
            op.kind,
            (op.kind if op.command is not None else "reset", "--abort" if op.command is not None else "--merge"),
        )
        done = operation.run_git(root, *command, environ=ctx.env)
        if done.returncode:
            said = done.stdout.decode("utf-8", "replace").strip().split("\n")[0]
            raise Unknown(f"git {command[0]}: {said}", code="git.failed")
        mergerecord.forget(checkout)
    told.done = True
    ctx.note(f"the {op.kind} is given up; everything is as before")
    return told.end(ctx, 0)


def _unstaged(root: str) -> list[str]:
    done = git.run(root, "diff-files", "--name-only", "-z")
    return [path for path in done.stdout.decode("utf-8", "surrogateescape").split("\0") if path]
