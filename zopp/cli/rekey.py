"""Bring files to what the policy wants: new readers are added; a new data key wherever someone lost read.

With no SCOPE the project's environments. Re-wrapping alone is never done after a removal. --all also makes new data
keys where nothing asks for one. A brokered file that lost its key groups to a foreign command, and nothing else, gets
them back.
"""

import argparse

from zopp.cli.context import Context
from zopp.cli.parser import add_change, epilog
from zopp.errors import UsageError, ZoppError
from zopp.policy.names import Scope
from zopp.repo import rekey, subjects
from zopp.repo.draft import Draft
from zopp.repo.environment import MENDED_BY_REKEY, Environment, open_environment, people_name, require_changeable
from zopp.repo.signer import require

EXAMPLES = epilog("zopp rekey --dry-run", "zopp rekey api/production -m 'rekey production'", "zopp rekey --all api")


def configure(parser: argparse.ArgumentParser) -> None:
    """The flags of `zopp rekey`."""
    parser.add_argument("scopes", nargs="*", metavar="SCOPE", help="WORKSPACE, PROJECT or PROJECT/ENV")
    parser.add_argument("--all", dest="force", action="store_true", help="a new data key in every file")
    add_change(parser)


def run(ctx: Context, args: argparse.Namespace) -> int:
    """Do it."""
    with ctx.changing(on_old_base=args.on_old_base) as draft:
        state = draft.state
        chosen: list[str] = []
        for typed in args.scopes or [draft.ws.project]:
            scope = subjects.scope(state, typed)
            chosen += [e for e in state.envs if _inside(e, scope)]
        if not chosen:
            raise UsageError("there is no environment in that scope", hint="zopp env list")
        done: dict[str, list[rekey.FileWork]] = {}
        failed: dict[str, ZoppError] = {}
        for scope_name in dict.fromkeys(chosen):
            env = open_environment(draft.ws, scope_name, history=True)
            work = rekey.work_for(draft, env, force=args.force)
            # What does not verify is named, also where no recipient has changed.
            if not work and all(f.severity == "warn" or f.code in MENDED_BY_REKEY for f in env.findings):
                continue
            ctx.progress(f"rekeying {people_name(scope_name)}")
            try:
                require(draft.state, draft.signer.principal, "write", scope_name)
                restored = _restored(ctx, args, draft, env)
                if restored is not None:
                    done[scope_name] = restored
                    continue
                require_changeable(env, on_old_base=args.on_old_base, rekeying=True)
                if not args.dry_run:
                    rekey.rekey_environment(draft, env, ctx.keyring, work)
                done[scope_name] = work
            except ZoppError as exc:
                failed[scope_name] = exc
        ctx.progress_done()
        draft.refresh_blocks()
        commit = None if args.dry_run or (failed and not done) else draft.commit(args.message)
    if ctx.as_json:
        ctx.data(
            {
                "rekeyed": {
                    people_name(s): [{"file": w.path, "new_data_key": w.rotate, "reason": w.reason} for w in work]
                    for s, work in done.items()
                },
                "open": {people_name(s): str(e) for s, e in failed.items()},
                "dry_run": args.dry_run,
                "commit": commit,
            }
        )
    for work in done.values():
        for item in work:
            what = "new data key" if item.rotate else "recipients added"
            ctx.note(f"{'would rekey' if args.dry_run else 'rekeyed'} {item.path}: {what} ({item.reason})")
    for error in failed.values():
        ctx.warn(str(error) + (f" ({error.hint})" if error.hint else ""))
    if not done and not failed:
        ctx.note("every file is as the policy wants it")
    return 1 if failed else 0


# What `sops updatekeys` leaves behind (A30): other bytes, other groups, and all that follows from them.
_REGROUPED = MENDED_BY_REKEY | {"file.changed", "groups", "recipients"}


def _restored(ctx: Context, args: argparse.Namespace, draft: Draft, env: Environment) -> list[rekey.FileWork] | None:
    """Whether this was a case for `rekey.restore`, and what it did. None: the usual way, which also refuses."""
    codes = {f.code for f in env.findings if f.severity == "error"}
    if env.kind != "brokered" or "groups" not in codes or codes - _REGROUPED or args.dry_run:
        return None
    return rekey.restore(draft, env, ctx.keyring)


def _inside(env: str, scope: Scope) -> bool:
    return scope.kind == "workspace" or env == scope.name or env.startswith(scope.name + "/")
