"""`zopp init --adopt`: the plan in sentences, the question, and what to do afterwards."""

import argparse
import os
from collections.abc import Collection
from typing import Any

from zopp.cli.context import Context
from zopp.errors import UsageError
from zopp.keys.store import Store
from zopp.policy import names
from zopp.policy.templates import Template
from zopp.repo import adopt, userdirs
from zopp.repo.adopt import Plan
from zopp.repo.layout import Checkout
from zopp.repo.unlock import Keyring
from zopp.repo.verify import verify


def prepare(
    ctx: Context, args: argparse.Namespace, checkout: Checkout, folder: str, *, taken: Collection[str]
) -> Plan | None:
    """The plan, printed; None where nothing is to be adopted. Needs a word where files lie here and none was said."""
    if not args.adopt and (args.map or args.leave or args.dry_run):
        raise UsageError("--map, --leave and --dry-run go with --adopt", hint="zopp init --adopt --dry-run")
    if args.adopt is False:
        return None
    found = adopt.find(checkout, folder)
    if args.adopt is None:
        if not found:
            return None
        if not ctx.interactive() or ctx.yes:
            some = ", ".join(found[:4]) + (" …" if len(found) > 4 else "")
            raise UsageError(
                f"sops files lie here already: {some}",
                code="adopt.unsaid",
                hint="see what taking them in means: zopp init --adopt --dry-run; or start beside them: --no-adopt",
            )
    if args.template:
        raise UsageError("the environments come from the files, not from a template", hint="leave --template away")
    store = Store(userdirs.config(ctx.env))
    own = store.load(ask=ctx.passphrase).identity.recipient if store.current() is not None else None
    plan = adopt.plan(
        checkout, folder, Keyring(ctx.env, ctx.passphrase), maps=_maps(ctx, args.map, checkout),
        leave=[_inside(ctx, path, checkout) for path in args.leave], own=own, taken=taken,
    )  # fmt: skip
    _show(ctx, plan)
    if args.dry_run and ctx.as_json:
        ctx.data({"dry_run": True, "adopted": as_json(plan)})
    return plan


def _maps(ctx: Context, given: list[str], checkout: Checkout) -> dict[str, str]:
    out: dict[str, str] = {}
    for text in given:
        env, equals, path = text.partition("=")
        if not equals or not path or not names.is_typed_name(env):
            raise UsageError("--map takes ENV=FILE, with a name of lower-case letters, digits and dashes", code="name")
        place = _inside(ctx, path, checkout)
        if out.setdefault(place, env) != env:
            raise UsageError("is mapped to two environments", code="adopt.env", place=place)
    return out


def _inside(ctx: Context, path: str, checkout: Checkout) -> str:
    full = os.path.join(os.path.realpath(ctx.cwd), path)
    return os.path.relpath(os.path.normpath(full), checkout.root)


def _show(ctx: Context, plan: Plan) -> None:
    for env, paths in plan.environments().items():
        ctx.note(f"environment {env}: {', '.join(paths)}")
        for name, recipient in plan.readers_of(env):
            ctx.note(f"  {name} reads it: {recipient}")
    for recipient in plan.surplus:
        ctx.warn(f".sops.yaml names {recipient}, which opens none of these files; it is not enrolled")
    ctx.note("every file gets a new data key; these readers can sign nothing, and you are the admin")


def agreed(ctx: Context, args: argparse.Namespace, plan: Plan) -> bool:
    """Ask on a terminal; elsewhere --adopt was the answer."""
    if args.adopt and not ctx.interactive():
        return True
    count = len(plan.files)
    return ctx.confirm(f"adopt {count} file{'s' * (count != 1)}?", otherwise="zopp init --adopt")


def template_of(plan: Plan) -> Template:
    """The environments of the files, direct and not protected: who reads them is said for each by itself."""
    envs = tuple((env, "direct", False) for env in plan.environments())
    return Template("adopted", "An adopted sops repository", 1, envs, (), (), (), (), ())


def default_of(plan: Plan) -> str | None:
    """The environment that is meant where none is said: the only one, or development; never one by chance."""
    envs = list(plan.environments())
    return envs[0] if len(envs) == 1 else next((env for env in ("development", "dev") if env in envs), None)


def as_json(plan: Plan) -> dict[str, Any]:
    """For `--json`."""
    return {
        "files": {file.path: file.env for file in plan.files},
        "readers": {name: recipient for recipient, name in plan.readers.items()},
        "not_enrolled": list(plan.surplus),
    }


def conclude(ctx: Context, plan: Plan, project: str, default_env: str | None, commit: str | None) -> int:
    """Verify what was written and say what comes next."""
    report = verify(ctx.cwd, ctx.env)
    for finding in report.findings:
        if finding.severity in ("error", "warn"):
            ctx.warn(f"{finding.place}: {finding.message}")
    if default_env is None:
        ctx.note("no environment is the default: say -e ENV, or set default_env in zopp.toml and run: zopp trust")
    ctx.note(
        "the values are the old ones: who could read them earlier still knows them, so change at their source "
        "those that a leaver held"
    )
    if plan.readers:
        ctx.note("when a reader's owner has enrolled a device (zopp principal request): zopp principal disable READER")
    ctx.note("next: zopp verify" + ("" if commit else "; then commit the new files with git"))
    return report.exit_code
