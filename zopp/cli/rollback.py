"""Set a key, or with --all every key, to what it was: a new change, encrypted to the readers of today.

What came in between stays in the history. Old recipients do not come back; who was removed since and knew the value is
named, for then a new value would be better than the old one.
"""

import argparse

from zopp.cli.changing import Change, report_change
from zopp.cli.context import Context
from zopp.cli.parser import add_change, add_env, epilog
from zopp.errors import NotFound, UsageError
from zopp.printable import printable
from zopp.repo import git, history, rollback, values, versions
from zopp.repo.environment import open_environment, people_name, scope_of
from zopp.repo.values import Path
from zopp.sopsfile.comparing import name

EXAMPLES = epilog(
    "zopp rollback DATABASE_URL --steps 1 -e production -m 'back to the old database'",
    "zopp rollback DATABASE_URL --to HEAD~4 --dry-run",
    "zopp rollback --all --to v1.4 -e staging",
)


def configure(parser: argparse.ArgumentParser) -> None:
    """The flags of `zopp rollback`."""
    parser.add_argument("key", nargs="?", metavar="KEY", help="a name, or a dotted path")
    parser.add_argument("--all", action="store_true", help="every key of the environment")
    parser.add_argument("--to", metavar="REV", help="as this commit has it")
    parser.add_argument("--steps", type=int, metavar="N", help="so many changes back")
    add_env(parser)
    add_change(parser)


def run(ctx: Context, args: argparse.Namespace) -> int:
    """Do it."""
    if (args.key is None) != args.all:
        raise UsageError("say one KEY, or --all", hint="zopp rollback --help")
    if (args.to is None) == (args.steps is None):
        raise UsageError("say how far: --to REV or --steps N", hint="see the versions with: zopp history")
    if args.steps is not None and args.steps < 1:
        raise UsageError("--steps takes a number above 0", hint="zopp rollback --help")
    typed = None if args.key is None else values.parse_key(args.key)
    with ctx.changing(on_old_base=args.on_old_base) as draft:
        ws = draft.ws
        env = open_environment(ws, scope_of(ws, args.env, args.project), history=True)
        values.check_writable(draft, env, on_old_base=args.on_old_base)
        where = people_name(env.scope)
        listed = {*env.files, *(ws.settings.files.get(env.name, ()) if env.project == ws.project else ())}
        found = history.read(ws.root, env.scope, listed, work={path: ws.read(path) for path in listed})
        key, target = _target(ws.root, args, found, typed, where)
        with git.Batch(ws.root) as batch:
            version = versions.read(ws, env.scope, target.commit, batch, also=listed)
        if not version.exists:
            raise NotFound(f"{where} is not there in {target.commit[:12]}", code="version.none", hint="zopp history")
        then: Path | None = None
        if key is not None:
            then = _then(found, version, key, target)
        done = rollback.roll_back(draft, env, ctx.keyring, found, version, key, then, on_old_base=args.on_old_base)
        what = args.key or "every key"
        if then is not None and then != key:
            ctx.note(f"{args.key} was called {name((0, then))} in {target.commit[:12]}")
        verb = f"roll back to {target.commit[:12]}" if args.dry_run else f"rolled back to {target.commit[:12]}:"
        code = report_change(ctx, args, draft, env, done.edited, Change(verb, what))
    if done.removed:
        ctx.note("not there then, and removed: " + ", ".join(done.removed))
    if done.knew:
        how = "could have asked for that value, and may know it" if done.could else "knew that value"
        ctx.warn(f"{', '.join(done.knew)} {how}, and may not read {where} any more: a new value would be safer")
    if done.reopened:
        ctx.note("open again in: zopp exposure (" + ", ".join(done.reopened) + ")")
    return code


def _target(
    root: str, args: argparse.Namespace, found: history.History, typed: Path | None, where: str
) -> tuple[Path | None, rollback.Target]:
    """The exact key and how far back."""
    if typed is None:
        if args.to is not None:
            return None, rollback.Target(versions.commit_of(root, args.to))
        return None, rollback.all_steps_back(found, args.steps)
    places = found.matching(typed)
    if not places:
        raise NotFound(
            f"{where} never had a key {printable(args.key)}", code="key.missing",
            candidates=sorted(printable(name(place)) for place in found.heads),
        )  # fmt: skip
    if args.to is not None:
        exact = places[0][1] if len(places) == 1 else places[0][1][: len(typed)]
        return exact, rollback.Target(versions.commit_of(root, args.to))
    if len(places) > 1:
        raise UsageError(
            f"{args.key} is several keys, each with changes of its own", code="key.several",
            hint="say one of them, or: zopp rollback KEY --to REV",
        )  # fmt: skip
    target = rollback.steps_back(found, places[0], args.steps)
    if not target.commit:
        raise UsageError(
            "that version was never committed, so git does not have it", code="version.none", hint="zopp history"
        )
    return places[0][1], target


def _then(found: history.History, version: versions.Version, key: Path, target: rollback.Target) -> Path:
    """The key's name in the target version."""
    if target.place is not None:
        return target.place[1]
    wanted = [str(part) for part in key]
    for file in version.files.values():
        outline = file.outline
        for place in outline.leaves if outline is not None else ():
            if [str(part) for part in place[1][: len(wanted)]] == wanted:
                return place[1][: len(wanted)]
    return rollback.then_called(found, version, (0, key))[1]
