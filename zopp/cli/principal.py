"""Devices and services. A new one makes its own keys and prints a request; an admin adds it. No private key moves.

request   make keys on this machine (or use those there are) and print the request for an admin
add       let a requested device or service in; its user is added if new
list      who holds keys, in this workspace
current   which principals this machine is; `use NAME` switches between keys of this machine
recover   take the keys of a recovery file into use on this machine
disable   take one out: its files are rekeyed. enable: let it back in
cap       the most that a device may have, workspace-wide
rekey     let new keys of a device or service in, by its request; the old ones count no more
vouch     the word of a present device, which an admin's new device, new keys or lifted cap need
adopt     let in a bare age recipient, which can read at most
trust-ci  let CI jobs act for a service, by a rule for their OIDC tokens; ci-rules lists the rules, untrust-ci takes
          one away
"""

import argparse
import os
import shlex
import socket

from zopp.cli import citrust, vouch
from zopp.cli.context import Context, read_passphrase_file, table
from zopp.cli.init import slug
from zopp.cli.inputs import read_file
from zopp.cli.parser import add_action, add_change, add_yes, epilog
from zopp.cli.policychange import apply, conclude, nothing
from zopp.errors import FormatError, IntegrityError, NotFound, UsageError
from zopp.keys import agefile
from zopp.keys.store import Store
from zopp.policy import canonical, names, requests
from zopp.repo import create, git, layout, userdirs
from zopp.repo.clock import now
from zopp.repo.draft import Draft
from zopp.repo.signer import require

EXAMPLES = epilog(
    "zopp principal request > bob.request            on Bob's machine, in his clone",
    "zopp principal add bob.request --email bob@example.org -m 'bob joins'    on an admin's",
    "zopp principal request --service ci --out-keys ci-keys/   keys for a CI job",
    "zopp principal request --service ci --for-ci --out-keys ci-keys/   its jobs prove themselves by OIDC",
    "zopp principal trust-ci ci --github --repository-id 123 --owner-id 45 --ref main --environment production",
    "zopp principal cap bob-laptop read",
    "zopp principal disable bob-laptop --dry-run",
    "zopp principal vouch carol.request > carol.vouch    on a device that carol, an admin, has",
    "zopp principal add carol.request --vouch carol.vouch    on another admin's",
    "zopp principal recover zopp-recovery-acme.age",
)


def configure(parser: argparse.ArgumentParser) -> None:
    """The actions of `zopp principal`."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)

    def action(name: str, text: str, said: str) -> argparse.ArgumentParser:
        return add_action(actions, name, text, said)

    ask = action(
        "request", "make keys and print a request for an admin",
        "Make this device's keys if there are none, and print a request to be let in. Give it to an admin; no private "
        "key is in it.",
    )  # fmt: skip
    ask.add_argument("--user", metavar="HANDLE", help="your handle (default: from git's user.name)")
    ask.add_argument("--name", metavar="NAME", help="name of the device (default: HANDLE-HOST)")
    ask.add_argument("--service", metavar="NAME", help="a service instead of a person's device")
    ask.add_argument("--out-keys", metavar="DIR", help="with --service: write age.key and signing.key there")
    signs = ask.add_mutually_exclusive_group()
    signs.add_argument("--no-signing-key", action="store_true", help="a service that only reads")
    signs.add_argument(
        "--for-ci", action="store_true", help="a service whose jobs use OIDC tokens: its signing key is not kept"
    )
    add = action(
        "add", "let a requested device or service in",
        "Let in the device or service that a request asks for. Compare the fingerprint with whoever made it; roles are "
        "given by zopp grant.",
    )  # fmt: skip
    add.add_argument("file", metavar="FILE", help="the request; - reads standard input")
    add.add_argument("--email", metavar="ADDRESS", help="e-mail of a new user, kept as a keyed tag only")
    add.add_argument("--cap", choices=("read", "write", "admin"), help="the most this device may have")
    add.add_argument("--digest", metavar="HASH", help="refuse a request with another fingerprint")
    _add_vouch(add)
    add_change(add, yes=True)
    rekey = action(
        "rekey", "let new keys of a device or service in",
        "Let new keys of a device or service in, in place of the old ones, by its request.",
    )  # fmt: skip
    rekey.add_argument("file", metavar="FILE", help="the request; - reads standard input")
    rekey.add_argument("--digest", metavar="HASH", help="refuse a request with another fingerprint")
    _add_vouch(rekey)
    add_change(rekey, yes=True)
    word = action(
        "vouch", "give this device's word for a change of your own devices",
        "Give this device's word for a change of your own devices, and print it for an admin (--vouch).",
    )  # fmt: skip
    word.add_argument("file", metavar="FILE", nargs="?", help="a request, for a device or new keys; - reads it")
    word.add_argument("--enable", metavar="DEVICE", help="that this disabled device be let in again")
    word.add_argument(
        "--cap", dest="change_cap", nargs=2, metavar=("DEVICE", "ROLE"), help="that its cap be lifted to ROLE or clear"
    )
    word.add_argument("--at-most", choices=("read", "write", "admin"), help="with FILE: the cap it is to get")
    word.add_argument("--digest", metavar="HASH", help="vouch without asking if the request has this fingerprint")
    add_yes(word)
    adopt = action(
        "adopt", "let in an age recipient without a signing key",
        "Let in an age recipient without a signing key, as a reader.",
    )  # fmt: skip
    adopt.add_argument("recipient", metavar="RECIPIENT", help="age1… or 'ssh-ed25519 AAAA…'")
    adopt.add_argument("--user", metavar="HANDLE", help="whose device it is; none: a service")
    adopt.add_argument("--name", metavar="NAME", required=True, help="its name")
    add_change(adopt)
    action("list", "who holds keys", "List the devices and services that hold keys, and whose they are. Needs no key.")
    action(
        "current", "which principals this machine is",
        "Show which principals the keys of this machine are, and which key is in use. Exit 1 if none.",
    )  # fmt: skip
    use = action("use", "switch to another key of this machine", "Switch to another key of this machine.")
    use.add_argument("name", metavar="KEY", help="its name, as current shows it")
    recover = action(
        "recover", "take the keys of a recovery file into use",
        "Take the keys of a recovery file into use on this machine.",
    )  # fmt: skip
    recover.add_argument("file", metavar="FILE", help="what `zopp init` told you to store offline")
    recover.add_argument("--name", default="recovery", metavar="KEY", help="its name here (default: recovery)")
    recover.add_argument("--passphrase-file", metavar="FILE", help="read its passphrase from FILE")
    action(
        "remember", "keep the passphrase in the keychain (extra: keychain)",
        "Keep the passphrase of the key in use in the system's keychain. Needs the extra zopp[keychain].",
    )  # fmt: skip
    for verb, text, said, name in (
        (
            "disable", "take a device or service out",
            "Take a device or service out: what it could read gets new data keys, and the values are listed.",
            "PRINCIPAL",
        ),
        (
            "enable", "let it, or an offboarded user, back in",
            "Let a disabled device or service, or an offboarded user, back in.", "PRINCIPAL|USER",
        ),
    ):  # fmt: skip
        sub = action(verb, text, said)
        sub.add_argument("name", metavar=name, help="as zopp principal list shows it")
        if verb == "enable":
            _add_vouch(sub)
        add_change(sub)
    cap = action(
        "cap", "the most that a device may have",
        "Set the most that a device may have, whatever its user's roles are.",
    )  # fmt: skip
    cap.add_argument("name", metavar="DEVICE", help="as zopp principal list shows it")
    cap.add_argument("role", metavar="ROLE", choices=("none", "read", "write", "admin", "clear"), help="clear: no cap")
    _add_vouch(cap)
    add_change(cap)
    citrust.configure(actions)


def _add_vouch(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--vouch", metavar="FILE", help="what `zopp principal vouch` printed; - reads standard input")


def run(ctx: Context, args: argparse.Namespace) -> int:
    """Do it."""
    return {
        "request": _request, "add": _add, "adopt": _adopt, "list": _list, "current": _current, "use": _use,
        "remember": _remember, "recover": _recover, "disable": _switch, "enable": _switch, "cap": _cap,
        "rekey": _rekey, "vouch": vouch.run, **dict.fromkeys(citrust.ACTIONS, citrust.run),
    }[args.action](ctx, args)  # fmt: skip


def _request(ctx: Context, args: argparse.Namespace) -> int:
    ws = ctx.workspace()
    at = now()
    if args.service:
        return _service_request(ctx, args, ws.state.ws, at)
    user = args.user or slug(git.config(ws.root, "user.name") or ctx.env.get("USER", ""))
    if args.user:
        names.check_name(user)
    if not names.is_typed_name(user):
        raise UsageError("no handle for you could be found", hint="zopp principal request --user HANDLE")
    name = args.name or slug(f"{user}-{socket.gethostname().partition('.')[0]}")
    name = name if name != user else f"{user}-device"
    store = Store(userdirs.config(ctx.env))
    if store.current() is None:
        store.create(name)
        ctx.note(f"made this device's keys in {os.path.join(userdirs.config(ctx.env), 'keys')}")
    loaded = store.load(ask=ctx.passphrase)
    made = create.request(
        ws=ws.state.ws, name=name, user=user, recipient=loaded.identity.recipient, key=loaded.signing, now=at
    )
    _print_request(ctx, made)
    return 0


def _service_request(ctx: Context, args: argparse.Namespace, ws: str, at: int) -> int:
    from zopp.keys import identity, signing
    from zopp.repo import files

    if not args.out_keys:
        raise UsageError(
            "a service's private keys have to go somewhere", hint="zopp principal request --service NAME --out-keys DIR"
        )
    folder = os.path.abspath(os.path.expanduser(args.out_keys))
    root = layout.find_checkout(ctx.cwd).root
    if folder == root or folder.startswith(root + os.sep):
        done = git.run(root, "check-ignore", "-q", folder, check=False)
        if done.returncode != 0:
            raise UsageError(
                "lies in the repository and is not ignored", place=folder, hint="choose a folder outside it"
            )
    kept = ("age.key",) if args.no_signing_key or args.for_ci else ("age.key", "signing.key")
    for name in kept:
        if os.path.lexists(os.path.join(folder, name)):
            raise UsageError("exists already", code="exists", place=os.path.join(folder, name))
    secret, recipient = identity.generate()
    key = None if args.no_signing_key else signing.generate()
    files.replace_private(os.path.join(folder, "age.key"), f"# public key: {recipient}\n{secret}\n".encode())
    if key is not None and "signing.key" in kept:
        files.replace_private(os.path.join(folder, "signing.key"), signing.dump_openssh(key, f"zopp {args.service}"))
    _print_request(ctx, create.request(ws=ws, name=args.service, user=None, recipient=recipient, key=key, now=at))
    if args.for_ci:
        # It is in the policy for ever and nobody has it: brokered files are encrypted to who could sign (§5), and only
        # a job with a token can ask for the server's half.
        ctx.note("its signing key has signed this request and is gone: only jobs with a token can act for it")
        ctx.note(f"private key: {folder}: store it as ZOPP_AGE_KEY of the job's CI environment, then delete it here")
    else:
        ctx.note(
            f"private keys: {folder}: store them as ZOPP_AGE_KEY and ZOPP_SIGNING_KEY of the job, then delete them here"
        )
    return 0


def _print_request(ctx: Context, made: requests.Request) -> None:
    ctx.out(canonical.encode({"proof": made.proof, "request": dict(made.request)}).decode())
    ctx.note(f"request of {made.request['name']}, fingerprint {made.digest}")
    ctx.note("give it to an admin, who runs: zopp principal add FILE")


def _asked(ctx: Context, args: argparse.Namespace, question: str) -> requests.Request | None:
    """The request, shown and agreed to; None if the answer is no."""
    asked = vouch.read_request(ctx, args.file)
    if args.digest and args.digest != asked.digest:
        raise UsageError("the request has another fingerprint", code="digest", place=args.file)
    name, user = asked.request["name"], asked.request["user"]
    if not args.digest and not args.dry_run:
        ctx.note(
            f"{'device' if user else 'service'} {name}"
            + (f" of {user}" if user else "")
            + f", fingerprint {asked.digest}"
        )
        if ctx.interactive() and not ctx.confirm(question, otherwise=""):
            return None
    return asked


def _add(ctx: Context, args: argparse.Namespace) -> int:
    asked = _asked(ctx, args, "let it in?")
    if asked is None:
        return 1
    name, user = asked.request["name"], asked.request["user"]
    with ctx.changing(on_old_base=args.on_old_base, policy=True) as draft:
        require(draft.state, draft.signer.principal, "principal.enrol", draft.state.name)
        known = draft.state.principals.get(name)
        if known is not None and known.user == user and known.enabled:
            raise IntegrityError(
                f"{name} is here already",
                code="exists",
                hint=f"if these are its new keys: zopp principal rekey {shlex.quote(args.file)}",
            )
        _add_user(draft, user, args.email)
        data = {"request": dict(asked.request), "proof": asked.proof, "cap": args.cap}
        vouch.statement(ctx, args, draft, "principal.enrol", data)
        ctx.note(f"added {name}; give it a role with: zopp grant {user or name} read SCOPE")
        return conclude(ctx, args, draft, extra={"principal": name, "user": user})


def _rekey(ctx: Context, args: argparse.Namespace) -> int:
    asked = _asked(ctx, args, "give it these keys instead of those it has?")
    if asked is None:
        return 1
    name = asked.request["name"]
    with ctx.changing(on_old_base=args.on_old_base, policy=True) as draft:
        _known(draft, name)
        require(draft.state, draft.signer.principal, "principal.rekey", draft.state.name)
        if draft.signer.principal == name:
            # The statement ends the key that would have to sign the manifests that follow from it.
            raise UsageError(f"{name} cannot let its own new keys in", hint="run this on another admin device")
        data = {"request": dict(asked.request), "proof": asked.proof}
        vouch.statement(ctx, args, draft, "principal.rekey", data)
        return conclude(ctx, args, draft, extra={"principal": name, "user": asked.request["user"]})


def _add_user(draft: Draft, user: str | None, email: str | None) -> None:
    if user is not None and user not in draft.state.users:
        tag = names.email_tag(draft.state.salt, email) if email else None
        draft.statement("user.add", {"user": user, "email_tag": tag})


def _adopt(ctx: Context, args: argparse.Namespace) -> int:
    recipient = agefile.canonical_recipient(args.recipient)
    with ctx.changing(on_old_base=args.on_old_base, policy=True) as draft:
        require(draft.state, draft.signer.principal, "principal.enrol", draft.state.name)
        _add_user(draft, args.user, None)
        asked = create.request(
            ws=draft.state.ws, name=args.name, user=args.user, recipient=recipient, key=None, now=draft.now
        )
        try:
            draft.statement(
                "principal.enrol", {"request": dict(asked.request), "proof": None, "cap": None, "vouch": None}
            )
        except IntegrityError as exc:
            if exc.data.get("rule") == "A20":
                exc.hint = f"let {args.user} run this, or leave --user away: a service that reads"
            raise
        ctx.note(
            f"added {args.name}, which can read at most; give it a role with: "
            f"zopp grant {args.user or args.name} read SCOPE"
        )
        return conclude(ctx, args, draft, extra={"principal": args.name, "user": args.user})


def _list(ctx: Context, args: argparse.Namespace) -> int:
    state = ctx.workspace().state
    mine = ctx.keyring.recipients()
    rows = []
    for name, p in state.principals.items():
        on = p.enabled and (p.user is None or state.users[p.user].enabled)
        rows.append(
            {
                "principal": name, "kind": "device" if p.user else "service", "user": p.user, "enabled": on,
                "cap": None if p.cap is None else str(p.cap), "signs": p.key is not None, "recipient": p.recipient,
                "here": p.recipient in mine,
            }
        )  # fmt: skip
    if ctx.as_json:
        ctx.data(rows)
        return 0
    for line in table(
        (
            str(r["principal"]),
            f"device of {r['user']}" if r["user"] else "service",
            ("enabled" if r["enabled"] else "disabled")
            + (f", cap {r['cap']}" if r["cap"] else "")
            + ("" if r["signs"] else ", no signing key")
            + (", this machine" if r["here"] else ""),
        )
        for r in rows
    ):
        ctx.out(line)
    return 0


def _current(ctx: Context, args: argparse.Namespace) -> int:
    state = ctx.workspace().state
    mine = ctx.keyring.recipients()
    found = [name for name, p in state.principals.items() if p.recipient in mine]
    store = Store(userdirs.config(ctx.env))
    if ctx.as_json:
        ctx.data({"principals": found, "key": store.current(), "keys": store.names()})
    else:
        for name in found:
            ctx.out(name)
        ctx.note(f"key in use: {store.current() or 'none'} (of {', '.join(store.names()) or 'none'})")
    return 0 if found else 1


def _use(ctx: Context, args: argparse.Namespace) -> int:
    Store(userdirs.config(ctx.env)).use(args.name)
    ctx.note(f"key in use: {args.name}")
    if ctx.as_json:
        ctx.data({"key": args.name})
    return 0


def _recover(ctx: Context, args: argparse.Namespace) -> int:
    data = read_file(ctx.cwd, args.file, 1 << 16)

    def words() -> str:
        if args.passphrase_file:
            return read_passphrase_file(args.passphrase_file)
        return ctx.secret("passphrase of the recovery file")

    store = Store(userdirs.config(ctx.env))
    try:
        made = store.import_recovery(data, words, args.name)
    except FormatError as exc:
        if exc.place == "recovery file":
            exc.place = args.file
            exc.hint = exc.hint or "it is the file that zopp init made: zopp-recovery-WORKSPACE.age"
        raise
    store.use(made.name)
    state = ctx.workspace().state
    known = state.principal_by_recipient(made.recipient)
    if ctx.as_json:
        ctx.data({"key": made.name, "principal": None if known is None else known.name})
    ctx.note(
        f"the keys of the recovery file are this machine's now, as {made.name}: "
        + ("no principal of this workspace" if known is None else known.name)
    )
    ctx.note("next: enrol a device of its own with `zopp principal request`, and put the file back offline")
    return 0 if known is not None else 1


def _remember(ctx: Context, args: argparse.Namespace) -> int:
    from zopp.keys import keychain

    store = Store(userdirs.config(ctx.env))
    asked: dict[str, str] = {}

    def ask(path: str) -> str:
        asked[path] = ctx.secret(f"passphrase of {path}")
        return asked[path]

    loaded = store.load(ask=ask)  # a wrong passphrase ends here, before anything is kept
    for path, passphrase in asked.items():
        keychain.put(path, passphrase)
    ctx.note(f"kept for {loaded.name}" if asked else f"{loaded.name} has no passphrase; nothing to keep")
    return 0


def _known(draft: Draft, name: str) -> str:
    try:
        return draft.state.principal(name).name
    except NotFound:
        raise NotFound(
            f"there is no device or service {name}", code="principal.unknown", candidates=list(draft.state.principals)
        ) from None


def _switch(ctx: Context, args: argparse.Namespace) -> int:
    with ctx.changing(on_old_base=args.on_old_base, policy=True) as draft:
        if args.name in draft.state.users and args.action == "enable":
            return _enable_user(ctx, args, draft)
        name = _known(draft, args.name)
        me = draft.state.principals[draft.signer.principal]
        own = me.user is not None and me.user == draft.state.principals[name].user
        if not (own and args.action == "disable"):
            require(draft.state, draft.signer.principal, f"principal.{args.action}", draft.state.name)
        if draft.state.principals[name].enabled == (args.action == "enable"):
            return nothing(ctx, f"{name} is {args.action}d already")
        if args.action == "disable":
            return apply(ctx, args, draft, [("principal.disable", {"principal": name})])
        vouch.statement(ctx, args, draft, "principal.enable", {"principal": name})
        return conclude(ctx, args, draft)


def _enable_user(ctx: Context, args: argparse.Namespace, draft: Draft) -> int:
    require(draft.state, draft.signer.principal, "user.enable", draft.state.name)
    if draft.state.users[args.name].enabled:
        return nothing(ctx, f"{args.name} is enabled already")
    return apply(ctx, args, draft, [("user.enable", {"user": args.name})])


def _cap(ctx: Context, args: argparse.Namespace) -> int:
    with ctx.changing(on_old_base=args.on_old_base, policy=True) as draft:
        name = _known(draft, args.name)
        require(draft.state, draft.signer.principal, "cap.set", draft.state.name)
        cap = None if args.role == "clear" else args.role
        have = draft.state.principals[name].cap
        if (None if have is None else str(have)) == cap:
            return nothing(ctx, f"the cap of {name} is that already")
        vouch.statement(ctx, args, draft, "cap.set", {"principal": name, "cap": cap})
        return conclude(ctx, args, draft)
