"""Import values from a .env file into an environment, as one change.

The reading is strict: lines that tools read in different ways stop the import, with line, key and rule, and the
dialects to choose from. $NAME is never expanded, nothing is run. Existing keys are updated, none is deleted.
"""

import argparse
import os
import sys

from zopp import sopsfile
from zopp.cli.changing import finish
from zopp.cli.context import Context
from zopp.cli.parser import add_change, add_env, epilog
from zopp.cli.reading import scalar_text
from zopp.errors import IntegrityError, UsageError
from zopp.exchange import dotenv, plan as plans
from zopp.repo import layout, values
from zopp.repo.draft import Draft
from zopp.repo.environment import Environment, open_environment, scope_of
from zopp.sopsfile import Put

EXAMPLES = epilog(
    "zopp import .env",
    "zopp import .env.production -e production --dry-run",
    "zopp import legacy.env --dialect compose --exclude OLD_KEY -m 'import legacy.env'",
)


def configure(parser: argparse.ArgumentParser) -> None:
    """The flags of `zopp import`."""
    parser.add_argument("source", metavar="FILE", help="a .env file; - reads standard input")
    parser.add_argument(
        "--dialect", choices=dotenv.DIALECTS, default="auto", help="whose reading counts (default: auto)"
    )
    parser.add_argument("--expand", action="store_true", help="resolve $NAME from names earlier in the same file")
    parser.add_argument("--exclude", action="append", default=[], metavar="NAME", help="leave NAME out (repeatable)")
    parser.add_argument(
        "--on-conflict", choices=("fail", "skip", "overwrite"), default="overwrite", help="default: overwrite"
    )
    parser.add_argument("--no-notes", action="store_true", help="do not keep comments")
    parser.add_argument("--no-provenance", action="store_true", help="do not record where keys came from")
    parser.add_argument("--file", metavar="PATH", help="the file that new keys go to")
    parser.add_argument("--clear", action="store_true", help="allow names that the file leaves unencrypted")
    add_env(parser)
    add_change(parser, yes=True)


def run(ctx: Context, args: argparse.Namespace) -> int:
    """Do it."""
    data, locator = _read(ctx, args.source)
    if dotenv.is_example_path(locator):
        ctx.warn(f"{locator} looks like an example file; its values may be placeholders")
    parsed = dotenv.parse(data, dialect=args.dialect, expand=args.expand)
    kept = [problem for problem in parsed.problems if problem.key not in args.exclude or not problem.key]
    if kept:
        for problem in kept:
            ctx.note(f"{locator}: {problem}")
        raise IntegrityError(
            f"{len(kept)} line{'s' * (len(kept) > 1)} could be read in more than one way or not at all; "
            "nothing is imported",
            code="dotenv", place=locator, hint="choose a reading with --dialect, or leave a key out with --exclude",
        )  # fmt: skip
    for warning in parsed.warnings:
        ctx.warn(f"{locator}: {warning}")
    assignments = {a.name: a for a in parsed.assignments}  # of duplicates the last one counts, and was warned of
    with ctx.changing(on_old_base=args.on_old_base) as draft:
        env = open_environment(draft.ws, scope_of(draft.ws, args.env, args.project), history=True)
        existing = _existing(ctx, draft, env)
        where = f"{layout.PROVENANCE}/{env.scope}.json"
        recorded = draft.ws.read(where)
        provenance = plans.parse_provenance(recorded) if recorded is not None else {}
        source = plans.Source(kind="dotenv", locator=locator, env=f"{env.project}/{env.name}")
        plan = plans.plan(assignments.values(), existing, provenance, args.on_conflict, source, exclude=args.exclude)
        if not plan.applicable or args.dry_run:
            _show(ctx, plan)
            if not plan.applicable:
                raise IntegrityError(
                    "the plan cannot be carried out; nothing is imported", code="import.plan", place=locator
                )
            return 0
        if ctx.interactive() and plan.writes:
            _show(ctx, plan)
            if not ctx.confirm(f"import {len(plan.writes)} keys into {env.project}/{env.name}?", otherwise=""):
                return 1
        changes = [
            Put((target,), assignments[name].value, None if args.no_notes else assignments[name].note or None)
            for target, name in plan.writes.items()
        ]
        edited = values.apply(
            draft, env, ctx.keyring, changes, file=args.file, allow_clear=args.clear, on_old_base=args.on_old_base
        )
        if not args.no_provenance and plan.origins:
            draft.put(where, plans.dump_provenance({**provenance, **plan.origins}))
        commit = finish(ctx, args, draft)
        _check_written(ctx, draft, env.scope, {t: assignments[n].value for t, n in plan.writes.items()})
    counts = f"{len(plan.writes)} imported, {len(assignments) - len(plan.writes)} unchanged or left out"
    if ctx.as_json:
        ctx.data({"environment": source.env, "plan": plan.as_json(), "changed": edited.changed, "commit": commit})
    readers = len(draft.state.readers(env.scope))
    ctx.note(f"{source.env}: {counts} ({readers} reader{'s' * (readers != 1)})")
    if plan.writes and args.source != "-":
        ctx.note(
            f"these values lay in plaintext in {locator}: delete the file (it may stay on the disk and in git's "
            "history) and change at their source those that others could read"
        )
    return 0


def _read(ctx: Context, source: str) -> tuple[bytes, str]:
    if source == "-":
        return sys.stdin.buffer.read(), "-"
    path = os.path.join(ctx.cwd, source)
    try:
        with open(path, "rb") as file:
            data = file.read(dotenv.MAX_BYTES + 1)
    except OSError as exc:
        raise UsageError(f"cannot be read ({exc.strerror})", code="file", place=source) from None
    root = layout.find_checkout(ctx.cwd).root
    real = os.path.realpath(path)
    # A path of this machine has no business in the repository; beside it, the base name says enough.
    return data, os.path.relpath(real, root) if real.startswith(root + os.sep) else os.path.basename(real)


def _existing(ctx: Context, draft: Draft, env: Environment) -> dict[str, str]:
    found: dict[str, str] = {}
    for opened in values.open_all(draft.ws, env, ctx.keyring, "edit", draft.keys):
        for leaf in opened.leaves:
            value = sopsfile.lookup(opened.tree, leaf)
            if len(leaf) == 1:
                found[str(leaf[0])] = value if isinstance(value, str) else scalar_text(value)
    return found


def _show(ctx: Context, plan: plans.Plan) -> None:
    if ctx.as_json:
        ctx.data({"plan": plan.as_json()})
        return
    for line in plan.table().splitlines():
        ctx.note(line)


def _check_written(ctx: Context, draft: Draft, scope: str, wanted: dict[str, str]) -> None:
    """Rule 13: read the files again from disk, decrypt, and compare in memory."""
    env = open_environment(draft.ws, scope)
    found = _existing(ctx, draft, env)
    wrong = [name for name, value in wanted.items() if found.get(name) != value]
    if wrong:
        raise IntegrityError(f"{', '.join(wrong)} did not read back as written", code="import.verify")
