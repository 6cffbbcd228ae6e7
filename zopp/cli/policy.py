"""The policy log.

show             the state in words: who is there, which roles
log              every statement in words, newest last; --raw as it stands
pull             what the server has beyond this log, verified, with its receipt
push             hand in statements that were signed here and are not at the server yet
rebase           two branches changed the policy: sign yours again on top of theirs, if it means the same
allowed-signers  the writers' keys as `ssh-keygen -Y verify` wants them
"""

import argparse
import sys
import time

from zopp.cli import sentences
from zopp.cli.context import Context, table
from zopp.cli.parser import Parser, add_action, add_change, add_env, epilog
from zopp.errors import IntegrityError
from zopp.keys import signing
from zopp.policy import canonical, log, manifest as manifests, statement
from zopp.policy.statement import Statement
from zopp.repo import journal, layout, rebase, subjects
from zopp.repo.clock import now
from zopp.repo.draft import Draft
from zopp.repo.environment import scope_of
from zopp.repo.signer import signer

EXAMPLES = epilog(
    "zopp policy show",
    "zopp policy log --json",
    "zopp policy pull -m 'policy of today'",
    "zopp policy rebase --onto origin/main",
    "zopp policy allowed-signers -e production > allowed",
)


def configure(parser: argparse.ArgumentParser) -> None:
    """The actions of `zopp policy`."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True, parser_class=Parser)
    add_action(
        actions, "show", "the state in words",
        "Show the policy in words: people and devices, groups, roles, environments. Needs no key.",
    )  # fmt: skip
    sub = add_action(
        actions,
        "log",
        "every statement in words",
        "List every statement of the log in words, with its signer and time.",
    )
    sub.add_argument("--raw", action="store_true", help="the lines as they stand")
    sub = add_action(
        actions, "pull", "fetch the server's log",
        "Fetch the statements that the policy server has and this clone lacks; each is verified before it is written.",
    )  # fmt: skip
    sub.add_argument("--replace", action="store_true", help="also where the log here parts from the server's")
    add_change(sub, yes=True)
    sub = add_action(
        actions, "push", "hand in what the server lacks",
        "Hand in the statements here that the policy server lacks, after showing what they would do.",
    )  # fmt: skip
    add_change(sub, yes=True)
    sub = add_action(
        actions, "rebase", "sign yours on top of theirs",
        "Sign the statements of this branch again on top of another branch's, where both added some.",
    )  # fmt: skip
    sub.add_argument("--onto", metavar="REV", help="the other side (default: what is being merged)")
    add_change(sub, yes=True)
    sub = add_action(
        actions, "allowed-signers", "for ssh-keygen -Y verify",
        "Print the keys of an environment's writers as ssh-keygen -Y verify reads them. Needs no key.",
    )  # fmt: skip
    add_env(sub)


def run(ctx: Context, args: argparse.Namespace) -> int:
    """Do it."""
    if args.action in ("pull", "push"):
        from zopp.cli import policyserver  # only here the network is needed

        return policyserver.run(ctx, args)
    return {"show": _show, "log": _log, "rebase": _rebase, "allowed-signers": _signers}[args.action](ctx, args)


def _show(ctx: Context, args: argparse.Namespace) -> int:
    state = ctx.workspace(needs_receipt=False).state
    bindings = [(subjects.shown(where), who.kind, who.name, str(role)) for who, where, role in state.bindings]
    if ctx.as_json:
        ctx.data(
            {
                "workspace": state.name, "genesis": state.ws, "seq": state.seq, "head": state.head,
                "bindings": [dict(zip(("scope", "kind", "subject", "role"), row, strict=True)) for row in bindings],
                "groups": {name: sorted(members) for name, members in state.groups.items()},
                "auditors": sorted(s.name for s in state.auditors),
                "environments": {
                    subjects.shown(e): {"kind": env.kind, "protected": env.protected} for e, env in state.envs.items()
                },
            }
        )  # fmt: skip
        return 0
    ctx.out(f"workspace {state.name}, {state.seq + 1} statements, head {state.head}")
    for line in table(bindings):
        ctx.out("  " + line)
    return 0


def _log(ctx: Context, args: argparse.Namespace) -> int:
    ws = ctx.workspace(needs_receipt=False)
    if args.raw:
        sys.stdout.buffer.write(ws.log)
        return 0
    statements = [statement.parse(line) for line in log.split(ws.log)]
    if ctx.as_json:
        ctx.data(
            [
                {"seq": s.seq, "at": s.at, "by": s.by, "type": s.type, "hash": s.hash, "data": canonical.thaw(s.data)}
                for s in statements
            ]
        )
        return 0
    for line in table(
        (str(s.seq), time.strftime("%Y-%m-%d %H:%M", time.gmtime(s.at)), s.by, sentences.words(s)) for s in statements
    ):
        ctx.out(line)
    return 0


def _signers(ctx: Context, args: argparse.Namespace) -> int:
    ws = ctx.workspace()
    scope = scope_of(ws, args.env, args.project)
    keys = {name: signing.public_line(public) for name, public in ws.state.writers(scope).items()}
    if ctx.as_json:
        ctx.data({"namespace": manifests.NAMESPACE, "signers": keys})
        return 0
    for name, public in keys.items():
        ctx.out(f'{name} namespaces="{manifests.NAMESPACE}" {public}')
    path = layout.manifest_path(scope)
    ctx.note(f"check with: ssh-keygen -Y verify -f ALLOWED -I SIGNER -n {manifests.NAMESPACE} -s {path}.sig < {path}")
    return 0


def _rebase(ctx: Context, args: argparse.Namespace) -> int:
    checkout = layout.find_checkout(ctx.cwd)

    from zopp.cli import served

    def ask(st: Statement, then: list[str], here: list[str]) -> bool:
        return served.still_wanted(ctx, st, then, here, "on the other side")

    with journal.settled(checkout):
        ours, theirs, revision = rebase.sides(checkout, args.onto)
        ws = rebase.open_on(checkout, ctx.cwd, ctx.env, theirs)
        if ws.pin is None:
            raise IntegrityError("this clone is not pinned", code="unpinned", hint="zopp trust")
        draft = Draft(ws, signer(ws, ctx.passphrase), now())
        done = rebase.rebase(draft, ours, ask)
        for st, _, _ in done.mine:
            ctx.note(f"signed again: {sentences.words(st)}")
        for scope in done.manifests:
            ctx.note(f"manifest of {scope} signed again")
        for line in done.others:
            ctx.warn(line)
        draft.put(layout.POLICY, ws.log)
        if not args.dry_run:
            rebase.forget_own(ws, ours, done)
            draft.commit(args.message)
    if ctx.as_json:
        ctx.data(
            {
                "onto": revision,
                "signed": [s.seq for s, _, _ in done.mine],
                "manifests": done.manifests,
                "others": done.others,
            }
        )
    if not done.mine and not done.others:
        ctx.note("nothing of yours to sign again")
    return 1 if done.others else 0
