"""What the commands that sign statements share: effects in words, removals, dry runs."""

import argparse
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from zopp.cli import sentences
from zopp.cli.context import Context
from zopp.errors import ZoppError
from zopp.policy import decisions, manifest as manifests, statement
from zopp.repo import layout, removal
from zopp.repo.draft import Draft
from zopp.repo.environment import people_name
from zopp.repo.exposure import Exposure, Released
from zopp.repo.removal import Removal
from zopp.repo.subjects import shown

Statement = tuple[str, Mapping[str, Any]]


def apply(ctx: Context, args: argparse.Namespace, draft: Draft, statements: Iterable[Statement]) -> int:
    """Sign `statements`, bring the files to what they mean, write, and say who gained and lost what."""
    for type_, data in statements:
        draft.statement(type_, data)
    return conclude(ctx, args, draft)


def nothing(ctx: Context, text: str) -> int:
    """The answer of a command that had nothing to do."""
    ctx.note(f"{text}; nothing written")
    if ctx.as_json:
        ctx.data(
            {"statements": [], "effect": [], "rekeyed": {}, "exposed": [], "open": {}, "dry_run": False, "commit": None}
        )
    return 0


def conclude(
    ctx: Context,
    args: argparse.Namespace,
    draft: Draft,
    *,
    extra: Mapping[str, Any] | None = None,
    whole: str | None = None,
    rotate: Collection[str] = (),
) -> int:
    """The second half of `apply`, for commands that drafted by themselves. `whole`: an environment without whose files
    nothing is written; `rotate`: environments that get new data keys whatever the statements mean."""
    before = draft.ws.state
    done = removal.carry_out(
        draft,
        ctx.keyring,
        on_old_base=args.on_old_base,
        rotate=rotate,
        dry=args.dry_run,
        progress=lambda s: ctx.progress(f"rekeying {s}"),
        released=_released(ctx, draft),
    )
    ctx.progress_done()
    if whole in done.work.errors:
        raise done.work.errors[whole]
    changes = decisions.effect(before, draft.state)
    commit = None if args.dry_run else draft.commit(args.message)
    if ctx.as_json:
        ctx.data({**report(draft, changes, done), "dry_run": args.dry_run, "commit": commit, **(extra or {})})
        return 1 if done.work.open else 0
    if args.dry_run:
        ctx.note("dry run, nothing is changed:")
    for line in effect_lines(draft, changes):
        ctx.note(line)
    if not changes:
        for raw in draft.lines:
            ctx.note("signed: " + sentences.words(statement.parse(raw)))
    say_removal(ctx, draft, done)
    return 1 if done.work.open else 0


def effect_lines(draft: Draft, changes: Iterable[decisions.Change]) -> list[str]:
    """One line per user or service and scope: what it may do now."""
    lines: dict[str, None] = {}
    for change in changes:
        principal = draft.state.principals.get(change.principal) or draft.ws.state.principals[change.principal]
        who = principal.user or change.principal
        device = f" on {change.principal}" if principal.user else ""
        where = shown(change.scope)
        if change.rekeyed and change.was == change.now:
            lines[f"{who}{device}: other keys on {where}"] = None
        elif change.now > change.was:
            how = "is now admin of" if str(change.now) == "admin" else f"may now {change.now}"
            lines[f"{who}{device} {how} {where}"] = None
        else:
            now = f"may only {change.now}" if change.now else "may no longer read"
            lines[f"{who}{device} {now} {where}"] = None
    return list(lines)


def say_removal(ctx: Context, draft: Draft, done: Removal) -> None:
    """Which files got new data keys, what is exposed, and where someone else has to act."""
    for scope, work in done.work.done.items():
        rotated = [item.path for item in work if item.rotate]
        wrapped = [item for item in work if not item.rotate]
        if rotated:
            ctx.note(f"{people_name(scope)}: new data key in {_some(rotated)}")
        for added in sorted({", ".join(item.added) for item in wrapped}):
            paths = [item.path for item in wrapped if ", ".join(item.added) == added]
            ctx.note(f"{people_name(scope)}: {_some(paths)} now also for {added}")
    for exposure in done.exposures:
        say_exposure(ctx, exposure)
    for branch, why in done.unverified.items():
        ctx.warn(
            f"{branch}: its policy log does not verify ({why}), so what it let anybody read is not known; "
            "look at it, or delete the branch"
        )
    if done.exposures:
        ctx.note(
            "other branches and repositories are not rekeyed by this; "
            "`zopp verify` fails there until a writer runs: zopp rekey"
        )
    for scope, why in done.work.open.items():
        ctx.warn(f"{people_name(scope)} is not done: {why}; a writer there has to run: {_mends(draft, scope)}")


def _released(ctx: Context, draft: Draft) -> Released | None:
    if draft.ws.state.server is None:
        return None
    from zopp.cli import served

    return served.released(ctx)


REASONS = {"released": "released to {}", "made": "{} made its data key", "recipient": "{} was a recipient"}


def say_exposure(ctx: Context, exposure: Exposure) -> None:
    """What has to change at its source and why, and what stays closed (S50)."""
    keys, who = exposure.open_keys(), exposure.subject
    reasons = {reason for each in keys for reason in exposure.reasons(*each)}
    if keys:
        ctx.note(f"{who} could have read {len(keys)} value{'s' * (len(keys) != 1)}; change each at its source:")
    for env, path, key in keys:
        why = [REASONS[r].format(who) for r in exposure.reasons(env, path, key) if r in REASONS]
        why += commit_words(exposure.commits_of(env, path, key))
        ctx.note(f"  {env} {key}" + (f"   ({', '.join(why)})" if why else ""))
    if exposure.branches:
        ctx.note(f"  (also counted: {', '.join(exposure.branches)})")
    if exposure.wider:
        ctx.warn(
            f"what was released to {who} is not known ({exposure.wider}), so every brokered value that {who} was a "
            "recipient of is listed; an admin or auditor can read the audit log"
        )
    if exposure.unplaced:
        ctx.warn(
            f"{exposure.unplaced} of the releases to {who} fit no version that git knows here; they are counted for "
            "the file that was claimed. Look in other clones and repositories too"
        )
    closed = exposure.closed_keys()
    if closed:
        ctx.note(
            f"{who} could have asked the server for {len(closed)} more and did not; "
            f"{'they stay' if len(closed) != 1 else 'it stays'} closed, older commits included:"
        )
        for env, _, key in closed:
            ctx.note(f"  {env} {key}")
    if reasons & {"released", "made", "recipient"}:
        ctx.note("what was released to or made by someone stays readable to them in every commit under that data key")
    if not reasons or "direct" in reasons:
        ctx.note("older commits stay readable to whoever held a key; see what is left with: zopp exposure")
    else:
        ctx.note("see what is left with: zopp exposure")


def commit_words(commits: Sequence[str]) -> list[str]:
    """In which commits a value stands that someone could have read; nothing of one that was never committed."""
    if not commits:
        return []
    return [f"in {commits[0][:12]}" + (f" and {len(commits) - 1} older" if len(commits) > 1 else "")]


def _mends(draft: Draft, scope: str) -> str:
    """The command that mends an open environment: what was signed by one who may no longer write is looked at first."""
    project, _, name = people_name(scope).partition("/")
    data = draft.ws.read(layout.manifest_path(scope))
    try:
        signer = "" if data is None else manifests.parse(data).signer
    except ZoppError:
        signer = ""
    if signer in draft.state.writers(scope):
        return f"zopp rekey {project}/{name}"
    where = f"-e {name}" + (f" -p {project}" if project != draft.ws.project else "")
    return f"zopp sign {where} --only KEY… (the keys: zopp sign {where} --dry-run)"


def _some(paths: list[str]) -> str:
    return ", ".join(paths) if len(paths) <= 4 else f"{len(paths)} files"


def report(draft: Draft, changes: Iterable[decisions.Change], done: Removal) -> dict[str, Any]:
    """The same for `--json`."""
    return {
        "statements": list(range(draft.state.seq - len(draft.lines) + 1, draft.state.seq + 1)),
        "effect": [
            {"principal": c.principal, "scope": shown(c.scope), "was": str(c.was), "now": str(c.now)} for c in changes
        ],
        "rekeyed": {
            people_name(scope): [{"file": w.path, "new_data_key": w.rotate, "reason": w.reason} for w in work]
            for scope, work in done.work.done.items()
        },
        "exposed": [
            {
                "subject": e.subject,
                "environment": env,
                "file": path,
                "key": key,
                "why": e.reasons(env, path, key),
                "commits": e.commits_of(env, path, key),
            }
            for e in done.exposures
            for env, path, key in e.open_keys()
        ],
        "closed": [
            {"subject": e.subject, "environment": env, "file": path, "key": key}
            for e in done.exposures
            for env, path, key in e.closed_keys()
        ],
        "log_unread": {e.subject: e.wider for e in done.exposures if e.wider},
        "branches_unverified": done.unverified,
        "releases_unplaced": {e.subject: e.unplaced for e in done.exposures if e.unplaced},
        "open": {people_name(scope): why for scope, why in done.work.open.items()},
    }
