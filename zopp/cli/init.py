"""Start a workspace in this git repository: keys, the first policy statements, zopp.toml.

Makes this device's keys if there are none, a signed policy log with you as admin, the environments of the
template, and a second admin device 'recovery' as a passphrase-encrypted file to be stored offline.

Where sops files lie already, --adopt takes them in: whoever can open a file today is enrolled as a reader without a
signing key, each file gets a new data key and is signed. It needs a key that opens them, found where sops finds it.
"""

import argparse
import os
import re
import secrets
import socket
import sys

from zopp.cli import adopting
from zopp.cli.context import Context, read_passphrase_file
from zopp.cli.parser import add_yes, epilog
from zopp.errors import IntegrityError, UsageError
from zopp.keys import identity, recovery, signing
from zopp.keys.store import Store
from zopp.policy import names, templates
from zopp.repo import adopt, create, files, git, journal, layout, pins, userdirs
from zopp.repo.clock import now

EXAMPLES = epilog(
    "zopp init                                        a workspace named after the folder, for one person",
    "zopp init --template team --project api          development, staging, protected production",
    "zopp init --adopt --dry-run                      what taking the sops files here in would mean",
    "zopp init --adopt --map production=deploy/prod.yaml",
    "zopp init --no-recovery                          without the recovery file (then keep a second device)",
)
TEMPLATES = ("solo", "team", "regulated")


def configure(parser: argparse.ArgumentParser) -> None:
    """The flags of `zopp init`."""
    parser.add_argument("--workspace", metavar="NAME", help="name of the organisation (default: the folder's)")
    parser.add_argument("--project", metavar="NAME", help="name of this repository's project (default: app)")
    parser.add_argument("--user", metavar="HANDLE", help="your handle, kept for ever (default: from git's user.name)")
    parser.add_argument("--email", metavar="ADDRESS", help="kept as a keyed tag only, so that commands take it too")
    parser.add_argument("--device", metavar="NAME", help="name of this device (default: HANDLE-HOST)")
    parser.add_argument("--template", choices=TEMPLATES, help="ready-made policy (default: solo)")
    parser.add_argument("--no-recovery", action="store_true", help="make no recovery device")
    parser.add_argument(
        "--recovery-file", metavar="FILE", help="where the recovery keys go (default: your home folder)"
    )
    parser.add_argument("--recovery-passphrase-file", metavar="FILE", help="read its passphrase from FILE")
    parser.add_argument("--passphrase", action="store_true", help="protect this device's keys with a passphrase")
    parser.add_argument("--adopt", action=argparse.BooleanOptionalAction, help="take in the sops files that lie here")
    parser.add_argument(
        "--map", nargs="+", action="extend", default=[], metavar="ENV=FILE", help="with --adopt: which environment"
    )
    parser.add_argument(
        "--leave", nargs="+", action="extend", default=[], metavar="FILE", help="with --adopt: not this sops file"
    )
    parser.add_argument("--dry-run", action="store_true", help="with --adopt: show the plan and change nothing")
    add_yes(parser)
    parser.add_argument("-m", "--message", metavar="MSG", help="make a git commit of the start")


def slug(text: str) -> str:
    """`text` as a name: lower case, runs of other characters as one dash."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:40].strip("-")


def run(ctx: Context, args: argparse.Namespace) -> int:
    """Do it."""
    checkout = layout.find_checkout(ctx.cwd)
    state_dir = userdirs.state(ctx.env)
    folder = (
        "" if os.path.realpath(ctx.cwd) == checkout.root else os.path.relpath(os.path.realpath(ctx.cwd), checkout.root)
    )
    if journal.pending(checkout):
        with journal.lock(checkout):
            done = journal.recover(checkout)
        ctx.note("zopp: finished what an interrupted command had begun: " + ", ".join(done))
    if files.read_if_there(checkout.root, layout.POLICY) is not None:
        raise UsageError(
            "this repository has a workspace already",
            code="exists",
            place=layout.POLICY,
            hint="add a project to it with: zopp project create NAME",
        )
    if pins.find(state_dir, checkout, {}) is not None:
        raise IntegrityError(
            "this clone is pinned to a workspace that is not here",
            code="anchor.lost",
            place=checkout.root,
            hint="restore it with git, or let the pin go with: zopp trust --reset",
        )
    workspace = slug(args.workspace or os.path.basename(checkout.root))
    project = args.project or ("app" if workspace != "app" else "main")
    user = args.user or slug(git.config(checkout.root, "user.name") or ctx.env.get("USER", ""))
    if not user:
        raise UsageError("no handle for you could be found", hint="say one with: zopp init --user HANDLE")
    device = args.device or slug(f"{user}-{socket.gethostname().partition('.')[0]}")
    if device == user:
        device = f"{user}-device"
    for what, name in (("workspace", workspace), ("project", project), ("handle", user), ("device", device)):
        if not names.is_typed_name(name):
            raise UsageError(f"the {what} is no name: lower-case letters, digits and dashes", code="name")
    if len({workspace, project, user, device}) != 4:
        raise UsageError("workspace, project, handle and device must have different names", code="name")

    adopted = adopting.prepare(
        ctx, args, checkout, folder, taken=(workspace, project, user, device, f"{user}-recovery")
    )
    if args.dry_run or (adopted is not None and not adopting.agreed(ctx, args, adopted)):
        return 0 if args.dry_run else 1
    secret_words = None
    recovery_path = ""
    if not args.no_recovery:
        recovery_path = os.path.abspath(
            os.path.expanduser(
                args.recovery_file or os.path.join(userdirs.home(ctx.env), f"zopp-recovery-{workspace}.age")
            )
        )
        if os.path.lexists(recovery_path):
            raise UsageError(
                "exists already", code="exists", place=recovery_path, hint="choose another with --recovery-file"
            )
        if recovery_path.startswith(checkout.root + os.sep):
            raise UsageError("would lie in the repository", place=recovery_path, hint="choose a place outside it")
        secret_words = _recovery_passphrase(ctx, args)

    store = Store(userdirs.config(ctx.env))
    if store.current() is None:
        protection = ctx.secret("new passphrase for this device's keys", repeat=True) if args.passphrase else None
        store.create(device, protection, signing_passphrase=protection)
        ctx.note(f"made this device's keys: {os.path.join(userdirs.config(ctx.env), 'keys', device)}.age, .ssh")
    loaded = store.load(ask=ctx.passphrase)
    if loaded.signing is None:
        raise UsageError(
            f"key {loaded.name} has no signing key", hint=f"zopp init --device NEW, after: mv {loaded.name}.*"
        )
    salt = os.urandom(32)
    at = now()
    template = templates.parse(read_policy_data(f"templates/{args.template or 'solo'}.json"))
    if adopted is not None:
        template = adopting.template_of(adopted)
    statements = list(templates.statements(template, project))
    paths: dict[str, tuple[str, ...]] = {
        name: (f"{folder}/secrets/{name}.yaml" if folder else f"secrets/{name}.yaml",)
        for name, _, _ in template.environments
    }
    if adopted is not None:
        paths = adopted.environments()
    default_env = template.environments[0][0] if adopted is None else adopting.default_of(adopted)
    admin = create.FirstAdmin(
        user=user,
        device=device,
        recipient=loaded.identity.recipient,
        key=loaded.signing,
        email_tag=names.email_tag(salt, args.email) if args.email else None,
    )
    with journal.lock(checkout):
        draft, pin = create.begin(
            checkout, ctx.env, workspace=workspace, project=project, folder=folder, salt=salt, admin=admin,
            statements=statements, files=paths, default_env=default_env, now=at,
        )  # fmt: skip
        if secret_words is not None:
            secret, recipient = identity.generate()
            key = signing.generate()
            name = f"{user}-recovery"
            asked = create.request(ws=draft.state.ws, name=name, user=user, recipient=recipient, key=key, now=at)
            draft.statement(
                "principal.enrol", {"request": dict(asked.request), "proof": asked.proof, "cap": None, "vouch": None}
            )
            # Before the log that names it: an enrolled device that nobody holds would be worse than a stray file.
            files.replace_private(recovery_path, recovery.seal(secret, key, name, secret_words))
        if adopted is not None:
            adopt.carry_out(draft, project, adopted)
        commit = draft.commit(args.message)
        create.remember(draft, pin)
    envs = ", ".join(name + (" (protected)" if closed else "") for name, _, closed in template.environments)
    if ctx.as_json:
        ctx.data(
            {"workspace": workspace, "project": project, "genesis": draft.state.ws, "user": user, "device": device,
             "environments": [n for n, _, _ in template.environments], "recovery_file": recovery_path or None,
             "commit": commit, **({} if adopted is None else {"adopted": adopting.as_json(adopted)})}
        )  # fmt: skip
    ctx.note(f"workspace {workspace}, project {project}: {envs}")
    ctx.note(f"you are {user}, this device is {device}, an admin")
    ctx.note(f"fingerprint (compare it with colleagues): {draft.state.ws}")
    if recovery_path:
        ctx.note(f"recovery keys: {recovery_path}: move this file offline and keep its passphrase apart from it")
    else:
        ctx.warn("no recovery device: if this device is lost, so is the workspace's only admin")
    if template.admins > 1:
        ctx.warn(f"this template asks for {template.admins} people as admins; so far there is you")
    for slot, _ in template.services:
        for _, data in templates.service_statements(template, project, slot, slot):
            ctx.note(f"for the service {slot}, once it is added: zopp grant {slot} read {data['scope']['env']}")
    for advice in template.advice:
        ctx.note(f"advice: {advice}")
    if adopted is not None:
        return adopting.conclude(ctx, adopted, project, default_env, commit)
    ctx.note("next: zopp set KEY, or zopp import .env" + ("" if commit else "; then commit the new files with git"))
    return 0


def _recovery_passphrase(ctx: Context, args: argparse.Namespace) -> str:
    if args.recovery_passphrase_file:
        return read_passphrase_file(args.recovery_passphrase_file)
    if not ctx.interactive():
        raise UsageError(
            "the recovery file needs a passphrase, and there is no terminal",
            code="no_terminal",
            hint="say --recovery-passphrase-file FILE, or --no-recovery",
        )
    typed = ctx.secret("passphrase for the recovery file (empty: zopp makes one)")
    if typed:
        if ctx.secret("passphrase again") != typed:
            raise UsageError("the two are not the same", code="mistyped")
        return typed
    made = "-".join("".join(secrets.choice("abcdefghjkmnpqrstuvwxyz23456789") for _ in range(5)) for _ in range(5))
    sys.stderr.write(f"recovery passphrase, shown once: {made}\n")
    return made


def read_policy_data(path: str) -> bytes:
    """A file of `policies/`: in the wheel beside this package, in a checkout at its root."""
    here = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    for base in (os.path.join(here, "_policies"), os.path.join(os.path.dirname(here), "policies")):
        full = os.path.join(base, path)
        if os.path.exists(full):
            with open(full, "rb") as file:
                return file.read()
    raise UsageError("the policy templates are missing from this installation", code="installation", place=path)
