"""What commands share that ask the policy server."""

from collections.abc import Collection

from zopp.cli import sentences
from zopp.cli.context import Context
from zopp.client.changing import Desk
from zopp.policy.statement import Statement
from zopp.repo.exposure import Release, Released
from zopp.repo.signer import signer
from zopp.repo.workspace import Workspace


def desk(ctx: Context) -> Desk:
    """A desk that asks at this terminal."""

    def ask(st: Statement, then: list[str], here: list[str]) -> bool:
        return still_wanted(ctx, st, then, here, "as the policy has moved on meanwhile")

    return Desk(ctx.passphrase, ask)


def still_wanted(ctx: Context, st: Statement, then: list[str], here: list[str], why: str) -> bool:
    """Show what a statement meant when it was signed and what it means now; whether a person wants it all the same.
    No without a terminal (A11)."""
    ctx.note(f"{sentences.words(st)}: means something else {why}")
    for title, lines in (("then", then), ("now", here)):
        for line in lines or ["nothing"]:
            ctx.note(f"  {title}: {line}")
    return ctx.interactive() and ctx.confirm("sign it all the same?", otherwise="")


def released(ctx: Context) -> Released:
    """Reads the audit log by this user's signing key."""

    def read(ws: Workspace, principals: Collection[str], /) -> list[Release]:
        from zopp.client import audit

        return audit.released(ws, signer(ws, ctx.passphrase).key, principals)

    return read
