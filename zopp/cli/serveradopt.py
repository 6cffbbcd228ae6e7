"""`zopp server adopt`: what the server says of itself, the admin's word, the upload, the receipt."""

import argparse

from zopp.cli.context import Context, read_stdin
from zopp.cli.policychange import nothing
from zopp.client import adopting
from zopp.client.adopting import Offered
from zopp.client.changing import accepted
from zopp.client.transport import Tls
from zopp.errors import IntegrityError, UsageError
from zopp.policy import canonical
from zopp.protocol.signing import fingerprint
from zopp.repo.clock import now
from zopp.repo.draft import Draft
from zopp.repo.signer import require


def run(ctx: Context, args: argparse.Namespace) -> int:
    """Do it."""
    offered = adopting.look(args.url, Tls.of(ctx.env))
    with ctx.changing(on_old_base=args.on_old_base, policy=True) as draft:
        require(draft.state, draft.signer.principal, "server.set", draft.state.name)
        server = draft.state.server
        if server is None:
            return _first(ctx, args, draft, offered)
        if offered.origin != server.origin:
            raise UsageError(
                f"this workspace is at {server.origin}, and there is no way to move it to another address yet",
                code="server.other",
                hint="a lost server is brought back from its backup and keys: zopp server restore",
            )
        if args.log_key is None:
            if offered.log_key == server.log_key:
                return nothing(ctx, f"{server.origin} orders this policy already")
            raise IntegrityError(
                f"the server has log key {offered.fingerprint}, and the policy says {fingerprint(server.log_key)}",
                code="server.log_key",
                place=server.origin,
                hint="a new key counts by a receipt under the old one: while that is in use, zopp server adopt URL "
                "--log-key KEY",
            )
        return _change_key(ctx, args, draft, adopting.key_of(args.log_key))


def _show(ctx: Context, origin: str, key: bytes) -> None:
    ctx.note(f"server {origin}")
    ctx.note(f"log key {fingerprint(key)}")


def _first(ctx: Context, args: argparse.Namespace, draft: Draft, offered: Offered) -> int:
    if args.log_key is not None and adopting.key_of(args.log_key) != offered.log_key:
        raise IntegrityError("the server has another log key", code="server.log_key", place=offered.origin)
    _show(ctx, offered.origin, offered.log_key)
    ctx.note(f"it gets the whole policy log of {draft.state.name} ({draft.state.seq + 1} statements), no secret")
    if args.dry_run:
        return _done(ctx, args, offered.origin, offered.log_key, draft.state.seq + 1, None)
    question = "compare the log key with whoever runs the server. Let it order this policy?"
    if not ctx.confirm(question, otherwise="compare the log key, then say --yes"):
        return 1
    found = adopting.there_already(draft.ws, draft.signer.key, offered)
    if found is not None and found.state.server is not None:
        # It was uploaded before and the answer was lost: what the server has is verified and taken.
        ws, made = draft.ws, accepted(found)
        ws.state, ws.log, ws.receipt = made.state, made.log, made.receipt
        draft.state = made.state
        ctx.note("the server has this log already")
    else:
        code = _code(ctx, args)
        draft.now = now()  # the server takes only what is dated now, and the questions took their time
        draft.statement("server.set", {"log_key": canonical.b64(offered.log_key), "origin": offered.origin})
        draft.submit = adopting.uploader(code, offered)
    commit = draft.commit(args.message)
    ctx.note(f"{offered.origin} orders this policy from now on; commit and push .zopp with git")
    return _done(ctx, args, offered.origin, offered.log_key, draft.state.seq, commit)


def _code(ctx: Context, args: argparse.Namespace) -> str:
    text = read_stdin() if args.code == "-" else ctx.secret("one-time code of the server")
    code = "".join(text.split())
    if not 0 < len(code) <= 64:
        raise UsageError("that is no one-time code", code="server.code", hint="whoever runs the server makes one")
    return code


def _change_key(ctx: Context, args: argparse.Namespace, draft: Draft, key: bytes) -> int:
    server = draft.state.server
    assert server is not None
    if key == server.log_key:
        return nothing(ctx, "this is the log key already")
    _show(ctx, server.origin, key)
    ctx.note(f"instead of {fingerprint(server.log_key)}")
    draft.statement("server.set", {"log_key": canonical.b64(key), "origin": server.origin})
    if args.dry_run:
        return _done(ctx, args, server.origin, key, draft.state.seq, None)
    if not ctx.confirm("change to it?", otherwise="compare it with whoever runs the server, then say --yes"):
        return 1
    commit = draft.commit(args.message)
    ctx.note("accepted under the old log key; the server may use the new one from now on")
    return _done(ctx, args, server.origin, key, draft.state.seq, commit)


def _done(ctx: Context, args: argparse.Namespace, origin: str, key: bytes, seq: int, commit: str | None) -> int:
    if ctx.as_json:
        ctx.data(
            {
                "origin": origin, "log_key": canonical.b64(key), "fingerprint": fingerprint(key), "seq": seq,
                "dry_run": args.dry_run, "commit": commit,
            }
        )  # fmt: skip
    return 0
