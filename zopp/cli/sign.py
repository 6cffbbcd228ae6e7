"""Look at changes that zopp did not make (stock sops, an editor, a merge, a revert) and sign them.

Decrypts the version that was signed and the one that is there, lists what differs in names, and asks. Nothing is
signed unseen: in scripts, --only says which keys may differ, and anything else refuses.
"""

import argparse

from zopp.cli.context import Context
from zopp.cli.parser import add_change, add_env, epilog
from zopp.errors import IntegrityError, UsageError
from zopp.repo import resign
from zopp.repo.environment import scope_of
from zopp.repo.signer import require

EXAMPLES = epilog("zopp sign", "zopp sign -e production --only DATABASE_URL -m 'new database'", "zopp sign --dry-run")


def configure(parser: argparse.ArgumentParser) -> None:
    """The flags of `zopp sign`."""
    parser.add_argument("--only", nargs="+", metavar="KEY", help="sign without asking if only these keys differ")
    parser.add_argument("--unchanged", action="store_true", help="sign without asking if no value differs")
    add_env(parser)
    add_change(parser)


def run(ctx: Context, args: argparse.Namespace) -> int:
    """Do it."""
    with ctx.changing(on_old_base=args.on_old_base) as draft:
        scope = scope_of(draft.ws, args.env, args.project)
        require(draft.state, draft.signer.principal, "write", scope)
        found = resign.review(draft.ws, scope, ctx.keyring)
        where = f"{found.env.project}/{found.env.name}"
        if not found.differences and not found.manifest_only:
            ctx.note(f"{where} is as it was signed; nothing written")
            if ctx.as_json:
                ctx.data({"environment": where, "keys": [], "rekeyed": [], "commit": None})
            return 0
        keys = sorted({key for difference in found.differences for key in difference.names()})
        for difference in found.differences:
            known = (
                "" if difference.known_before else " (git has no copy of what was signed: every key counts as changed)"
            )
            ctx.note(f"{difference.path}{known}:")
            lines = difference.lines()
            for line in lines or ["  comments, order or layout only"]:
                ctx.note(line)
        for path in found.misplaced:
            ctx.note(f"{path}: is not this environment's to list; the manifest leaves it out")
        if found.manifest_only and not found.misplaced:
            ctx.note(f"{where}: the files are those a writer signed before; the manifest gets your signature")
        if args.dry_run:
            if ctx.as_json:
                ctx.data({"environment": where, "keys": keys, "dry_run": True})
            return 1
        if args.only is not None or args.unchanged:
            weaker = [difference.path for difference in found.differences if difference.selector]
            if weaker:
                # No key differs, and the next value may lie in the clear: --only and --unchanged do not speak of that.
                raise IntegrityError(
                    "the selector, which says what is encrypted, was changed; nothing is signed",
                    code="sign.selector",
                    place=weaker[0],
                    hint="look at it with `zopp sign --dry-run`, and sign it on a terminal with: zopp sign",
                )
            surplus = [key for key in keys if key not in (args.only or [])]
            if surplus:
                raise IntegrityError(
                    f"{', '.join(surplus)} differ{'s' * (len(surplus) == 1)} too; nothing is signed",
                    code="sign.more",
                    place=where,
                    hint="look at it with: zopp sign --dry-run",
                )
        elif not ctx.interactive():
            raise UsageError(
                "this needs an answer, and there is no terminal",
                code="no_terminal",
                hint="say which keys may differ: zopp sign --only KEY…, or --unchanged",
            )
        elif not ctx.confirm(f"sign this as {draft.signer.principal}?", otherwise=""):
            ctx.note("nothing signed")
            return 1
        rekeyed = resign.sign(draft, found)
        commit = draft.commit(args.message)
    if ctx.as_json:
        ctx.data({"environment": where, "keys": keys, "rekeyed": rekeyed, "commit": commit})
    ctx.note(
        f"signed {where} as {draft.signer.principal}" + (f"; new data key in {', '.join(rekeyed)}" if rekeyed else "")
    )
    return 0
