"""What the changing commands share: committing a draft, or showing what it would do, and saying what was done."""

import argparse
from collections.abc import Mapping
from dataclasses import dataclass

from zopp.cli.context import Context
from zopp.repo.draft import Draft
from zopp.repo.environment import Environment
from zopp.repo.values import Edited


@dataclass(frozen=True, slots=True)
class Change:
    """The verb in the past (`set`, `unset`) and what it was about."""

    verb: str
    what: str


def finish(ctx: Context, args: argparse.Namespace, draft: Draft) -> str | None:
    """Commit the draft unless --dry-run; the id of the git commit, if one was made."""
    return None if args.dry_run else draft.commit(args.message)


def report_change(
    ctx: Context, args: argparse.Namespace, draft: Draft, env: Environment, edited: Edited, change: Change
) -> int:
    """Commit an edit and say so: environment, number of readers, never a value."""
    where = f"{env.project}/{env.name}"
    readers = len(draft.state.readers(env.scope))
    commit = finish(ctx, args, draft) if edited else None
    if ctx.as_json:
        ctx.data(
            {
                "environment": where,
                "changed": edited.changed,
                "readers": readers,
                "dry_run": args.dry_run,
                "commit": commit,
            }
        )
    if not edited:
        ctx.note(f"{change.what} in {where} is that already; nothing written")
    elif args.dry_run:
        ctx.note(f"would {change.verb} {_keys(edited.changed)} in {where} ({_readers(readers)})")
    else:
        ctx.note(f"{change.verb} {_keys(edited.changed)} in {where} ({_readers(readers)})")
    return 0


def _keys(changed: Mapping[str, list[str]]) -> str:
    keys = [key for keys in changed.values() for key in keys]
    return ", ".join(keys) if len(keys) <= 6 else f"{len(keys)} keys"


def _readers(count: int) -> str:
    return "1 reader" if count == 1 else f"{count} readers"
