"""Show what this clone trusts, and pin it to the workspace that lies here.

A pin lives outside the repository: the workspace, its genesis, and the newest policy head seen on the default branch.
Compare the fingerprint with a colleague before you pin.
"""

import argparse
import contextlib
import os

from zopp.cli.context import Context
from zopp.cli.parser import add_yes, epilog
from zopp.errors import UsageError
from zopp.repo import attributes, drivers, layout, pins, userdirs
from zopp.repo.workspace import open_workspace

EXAMPLES = epilog(
    "zopp trust                        show the fingerprint; on an unpinned clone, ask and pin",
    "zopp trust --yes --genesis HASH   pin in a script, only if the log begins with HASH",
    "zopp trust --print                the text for ZOPP_TRUST in CI",
    "zopp trust --reset                let the pin go; the next `zopp trust` asks again",
)


def configure(parser: argparse.ArgumentParser) -> None:
    """The flags of `zopp trust`."""
    parser.add_argument("--genesis", metavar="HASH", help="pin only if the log begins with this hash")
    parser.add_argument("--print", dest="show", action="store_true", help="print the value of ZOPP_TRUST")
    parser.add_argument("--reset", action="store_true", help="forget this clone's pin")
    parser.add_argument("--accept", action="store_true", help="remember the policy and manifests here as the newest")
    add_yes(parser)


def run(ctx: Context, args: argparse.Namespace) -> int:
    """Do it."""
    checkout = layout.find_checkout(ctx.cwd)
    state_dir = userdirs.state(ctx.env)
    if args.reset:
        if not ctx.confirm("forget which workspace this clone belongs to?", otherwise="zopp trust --reset --yes"):
            return 1
        _forget_log(pins.find(state_dir, checkout, {}), state_dir)
        pins.forget(state_dir, checkout)
        ctx.note("the pin is gone; look at the fingerprint and pin again with: zopp trust")
        if ctx.as_json:
            ctx.data({"pinned": False})
        return 0
    ws = open_workspace(ctx.cwd, ctx.env, ci_needs_pin=False, new_project=True, needs_receipt=False)
    state = ws.state
    text = pins.format_trust(state.name, state.ws, state.seq, state.head)
    if args.show:
        if ws.place == "unpinned":
            raise UsageError("this clone is not pinned itself", code="unpinned", hint="zopp trust")
        if ctx.as_json:
            ctx.data({"trust": text})
        else:
            ctx.out(text)
        return 0
    if args.genesis and args.genesis != state.ws:
        raise UsageError(
            "the log here begins with another hash", code="trust.mismatch", place=layout.POLICY,
            hint="see with which: zopp workspace",
        )  # fmt: skip
    default = ws.settings.default_env or ""
    new_project = ws.pin is not None and ws.pin.projects.get(ws.folder) != ws.project
    new_default = ws.pin is not None and ws.pin.default_envs.get(ws.folder, default) != default
    pinned = ws.pin is not None and not new_project and not new_default and not args.accept
    if not pinned:
        shown = f"workspace {state.name}, project {ws.project}\nfingerprint {state.ws}\npolicy {state.seq} {state.head}"
        ctx.note(shown + (f"\ndefault environment {default or 'none'}" if new_default else ""))
        if not (args.genesis or ctx.confirm("trust it?", otherwise="zopp trust --genesis HASH")):
            return 1
        pin = ws.pin or pins.Pin(state.name, state.ws, state.seq, state.head, origin="clone")
        pin.origin = "clone"
        pin.projects[ws.folder] = ws.project
        pin.default_envs[ws.folder] = default
        pin.default_branch = pin.default_branch or checkout.default_branch() or checkout.head_branch()
        if args.accept:
            pin.seq, pin.head, pin.manifests = state.seq, state.head, {}
        pins.save(state_dir, checkout, pin)
        ws.pin, ws.place = pin, "current"
    assert ws.pin is not None
    if ws.pin.origin == "clone":
        drivers.set_up(checkout, attributes.managed(ws))
    if ctx.as_json:
        ctx.data(
            {"workspace": state.name, "genesis": state.ws, "seq": ws.pin.seq, "head": ws.pin.head, "place": ws.place,
             "default_branch": ws.pin.default_branch, "projects": ws.pin.projects}
        )  # fmt: skip
    else:
        ctx.out(f"workspace {state.name}, fingerprint {state.ws}")
        ctx.out(f"remembered policy head: {ws.pin.seq} {ws.pin.head}")
        ctx.out(f"here: {state.seq} {state.head} ({ws.place})")
    return 0 if ws.place in ("current", "ahead") else 1


def _forget_log(pin: pins.Pin | None, state_dir: str) -> None:
    """Also the server's checkpoint that this user keeps: a server that was set up anew has another log."""
    if pin is None:
        return
    from zopp.client import remembered  # no other form of this command has to do with a server

    with contextlib.suppress(FileNotFoundError):
        os.unlink(remembered.path_of(state_dir, pin.genesis))
