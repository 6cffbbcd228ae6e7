"""`zopp principal vouch` and `--vouch`: the word of an admin's present device for one change of their devices (A20)."""

import argparse
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from zopp.cli.context import Context
from zopp.cli.inputs import read_file
from zopp.errors import Denied, FormatError, IntegrityError, NotFound, UsageError
from zopp.policy import requests, vouches
from zopp.policy.roles import Principal
from zopp.policy.state import State
from zopp.repo import workspace
from zopp.repo.clock import now, timestamp
from zopp.repo.draft import Draft
from zopp.repo.signer import signer

# Long enough to be sent by mail over a weekend, short enough not to be found lying about.
LIFETIME = 7 * 24 * 3600


def read_text(ctx: Context, path: str, limit: int = 1 << 16) -> bytes:
    """A request or vouch as a file, `-` for standard input."""
    return read_file(ctx.cwd, path, limit)


def read_request(ctx: Context, path: str) -> requests.Request:
    """The request in a file, `-` for standard input."""
    with sent(path, "a request is what this prints: zopp principal request > me.request"):
        return requests.parse(read_text(ctx, path))


@contextmanager
def sent(path: str, hint: str) -> Iterator[None]:
    """Name the file that somebody sent in what is wrong with it, and where one like it comes from."""
    try:
        yield
    except FormatError as exc:
        exc.place = "standard input" if path == "-" else path
        exc.hint = exc.hint or hint
        raise


def run(ctx: Context, args: argparse.Namespace) -> int:
    """Show what is vouched for, ask, print the text."""
    if [args.file, args.enable, args.change_cap].count(None) != 2:
        raise UsageError(
            "say one of a request's FILE, --enable DEVICE and --cap DEVICE ROLE", hint="zopp principal vouch --help"
        )
    if args.at_most and args.file is None:
        raise UsageError("--at-most goes with a request", hint="zopp principal vouch FILE --at-most ROLE")
    if args.digest and args.file is None:
        raise UsageError("--digest goes with a request", hint="zopp principal vouch FILE --digest HASH")
    ws = ctx.workspace()
    workspace.require_writable(ws)
    me = signer(ws, ctx.passphrase)
    state, at = ws.state, max(now(), ws.state.at)
    until = at + LIFETIME
    if args.file is not None:
        asked = read_request(ctx, args.file)
        if args.digest and args.digest != asked.digest:
            raise UsageError("the request has another fingerprint", code="digest", place=args.file)
        type_, data, lines = _of_request(state, asked, args.at_most, at)
        until = min(until, asked.request["not_after"])
        user, device = asked.request["user"], asked.request["name"]
    else:
        device = args.enable if args.enable is not None else args.change_cap[0]
        target = _device(state, device)
        user = target.user
        type_, data, lines = _of_enable(target) if args.enable is not None else _of_cap(target, args.change_cap[1])
    _own(state, me.principal, user, device, type_)
    for line in lines:
        ctx.note(line)
    ctx.note(f"an admin of workspace {state.name} may do this once, until {timestamp(until)}")
    again = f"zopp principal vouch {_typed(args)} --yes"
    if not (args.digest or ctx.confirm(f"vouch for it as {me.principal}?", otherwise=f"look at it, then: {again}")):
        return 1
    signature = me.key.sign(requests.vouch_to_sign(type_, data, ws=state.ws, device=me.principal, not_after=until))
    text = vouches.seal(
        ws=state.ws, type=type_, data=data, field=requests.vouch(me.principal, until, signature)
    ).decode()
    if ctx.as_json:
        ctx.data({"vouch": text, "type": type_, "device": device, "by": me.principal, "not_after": until})
    else:
        ctx.out(text)
    ctx.note(f"give it to an admin, who runs: {_next(type_, data, 'FILE', '--vouch VOUCH_FILE')}")
    return 0


def _typed(args: argparse.Namespace) -> str:
    if args.file is not None:
        return shlex.quote(args.file) + (f" --at-most {args.at_most}" if args.at_most else "")
    return shlex.join(["--enable", args.enable] if args.enable is not None else ["--cap", *args.change_cap])


Vouched = tuple[str, dict[str, Any], list[str]]


def _of_request(state: State, asked: requests.Request, cap: str | None, at: int) -> Vouched:
    request = dict(asked.request)
    if request["ws"] != state.ws:
        raise IntegrityError("the request is for another workspace", code="vouch.workspace")
    if request["not_after"] < at:
        raise IntegrityError("the request has expired", code="vouch.expired", hint="ask for a new one")
    name = request["name"]
    about = [
        f"  user {request['user']}, device {name}" + (f", at most {cap}" if cap else ""),
        f"  fingerprint {asked.digest}",
        f"  recipient {request['recipient']}",
        "  it signs with a key of its own" if request["key"] else "  it has no signing key and reads at most",
    ]
    old = state.principals.get(name)
    if old is None:
        data = {"request": request, "proof": asked.proof, "cap": cap}
        return "principal.enrol", data, ["this lets a new device in:", *about]
    if cap:
        raise UsageError(f"{name} is here already, and new keys keep its cap", hint="leave --at-most away")
    if old.user != request["user"]:
        raise IntegrityError(f"the request is for new keys of {name}, which is another's", code="vouch.user")
    data = {"request": request, "proof": asked.proof}
    return "principal.rekey", data, [f"this gives {name} new keys; those it has now count no more:", *about]


def _device(state: State, name: str) -> Principal:
    try:
        found = state.principal(name)
    except NotFound:
        found = None
    if found is None or found.user is None:
        raise NotFound(
            f"there is no device {name}",
            code="principal.unknown",
            candidates=[n for n, p in state.principals.items() if p.user is not None],
        )
    return found


def _of_enable(target: Principal) -> Vouched:
    if target.enabled:
        raise UsageError(f"{target.name} is enabled already", code="no_change")
    lines = [
        "this lets a disabled device in again:",
        f"  user {target.user}, device {target.name}",
        f"  recipient {target.recipient}",
    ]
    return "principal.enable", {"principal": target.name}, lines


def _of_cap(target: Principal, typed: str) -> Vouched:
    cap = None if typed == "clear" else typed
    have = None if target.cap is None else str(target.cap)
    order = ("none", "read", "write", "admin")
    if order.index(cap or "admin") <= order.index(have or "admin"):
        raise UsageError(f"that lifts no cap of {target.name}, so no vouch is needed", code="no_change")
    lines = [
        f"this lifts the cap of a device from {have} to {cap or 'no cap'}:",
        f"  user {target.user}, device {target.name}",
        f"  recipient {target.recipient}",
    ]
    return "cap.set", {"principal": target.name, "cap": cap}, lines


def _own(state: State, me: str, user: str | None, device: str, type_: str) -> None:
    """Denied unless this device's word would count, so that nobody sends a vouch that is refused."""
    mine = state.principals[me]
    if user is None:
        raise UsageError("a service needs no vouch", code="vouch.service")
    if mine.user != user:
        raise Denied(
            f"{me} is {'a service' if mine.user is None else f'a device of {mine.user}'}, "
            f"and only a device of {user} can vouch for {device}",
            code="vouch.user",
        )
    if not mine.enabled or not state.users[user].enabled:
        raise Denied(f"{me} is disabled and cannot vouch", code="vouch.disabled")
    if me == device and type_ != "principal.rekey":
        raise Denied(f"{device} cannot vouch for itself: another device of {user} has to", code="vouch.self")


# --- the admin's side


def statement(ctx: Context, args: argparse.Namespace, draft: Draft, type_: str, data: Mapping[str, Any]) -> None:
    """Draft a statement that may need a vouch, with the one of `--vouch`. A refusal by A20 says what to type."""
    if args.vouch is None:
        try:
            draft.statement(type_, {**data, "vouch": None})
        except IntegrityError as exc:
            if exc.data.get("rule") == "A20":
                exc.hint = _hint(draft.state, type_, data, getattr(args, "file", "-"))
            raise
        return
    if args.vouch == "-" and getattr(args, "file", "") == "-":
        raise UsageError("the request and the vouch cannot both come from standard input")
    with sent(args.vouch, "a vouch is what this prints: zopp principal vouch FILE"):
        given = vouches.parse(read_text(ctx, args.vouch))
    _fitting(draft.state, given, type_, data)
    try:
        draft.statement(type_, {**data, "vouch": dict(given.field)})
    except IntegrityError as exc:
        rule = exc.data.get("rule")
        if rule in ("expired", "used", "A20"):
            exc.hint = _hint(draft.state, type_, data, getattr(args, "file", "-"))
        raise


def _fitting(state: State, given: vouches.UnverifiedVouch, type_: str, data: Mapping[str, Any]) -> None:
    """Say in words what `apply` would call a signature that does not hold."""
    if given.ws != state.ws:
        raise IntegrityError("the vouch is for another workspace", code="vouch.workspace")
    if given.type != type_ or not given.fits(data):
        same = {key: value for key, value in data.items() if key not in ("cap", "vouch")}
        only_cap = given.type == type_ == "principal.enrol" and all(given.data[key] == same[key] for key in same)
        if only_cap:
            cap = given.data["cap"]
            hint = f"say it as it was vouched for: --cap {cap}" if cap else "say it as it was vouched for: no --cap"
            raise IntegrityError("the vouch is for another cap of this device", code="vouch.other", hint=hint)
        raise IntegrityError(f"the vouch is for something else: {_words(given)}", code="vouch.other")
    user = _whose(state, type_, data)
    by = state.principals.get(given.field["device"])
    if by is None:
        raise IntegrityError("the vouch is by a device that is not of this workspace", code="vouch.device")
    if user is not None and by.user != user:
        whose = "a service" if by.user is None else f"a device of {by.user}"
        raise IntegrityError(f"the vouch is by {by.name}, {whose}; it has to be by one of {user}", code="vouch.device")
    if not by.enabled or (by.user is not None and not state.users[by.user].enabled):
        raise IntegrityError(f"the vouch is by {by.name}, which is disabled", code="vouch.device")


def _words(given: vouches.UnverifiedVouch) -> str:
    data = given.data
    if given.type in ("principal.enrol", "principal.rekey"):
        digest = requests.Request(data["request"], data["proof"]).digest
        what = "device" if given.type.endswith("enrol") else "new keys of"
        return f"{what} {data['request']['name']}, fingerprint {digest}"
    if given.type == "principal.enable":
        return f"enabling {data['principal']}"
    return f"the cap of {data['principal']}, {data['cap'] or 'clear'}"


def _whose(state: State, type_: str, data: Mapping[str, Any]) -> str | None:
    if "request" in data:
        user: str | None = data["request"]["user"]
        return user
    return state.principals[data["principal"]].user


def _hint(state: State, type_: str, data: Mapping[str, Any], file: str) -> str:
    """The next two things to type."""
    user = _whose(state, type_, data)
    name = data["request"]["name"] if "request" in data else data["principal"]
    present = [d for d in state.devices(user) if d != name or type_ == "principal.rekey"] if user is not None else []
    if not any(state.principals[d].enabled and state.principals[d].key is not None for d in present):
        return (
            f"{user} has no other device left that could vouch: take the admin role away (zopp revoke {user} SCOPE), "
            f"run this again, then: zopp grant {user} admin SCOPE"
        )
    request = f"{name}.request" if file == "-" else file
    vouch = f"{name}.vouch"
    ask = {
        "principal.enable": ["--enable", name],
        "cap.set": ["--cap", name, data.get("cap") or "clear"],
        "principal.enrol": [request, *(["--at-most", data["cap"]] if data.get("cap") else [])],
        "principal.rekey": [request],
    }[type_]
    return (
        f"on a device of {user}: zopp principal vouch {shlex.join(ask)} > {shlex.quote(vouch)}; "
        f"then here: {_next(type_, data, request, '--vouch ' + shlex.quote(vouch))}"
    )


def _next(type_: str, data: Mapping[str, Any], file: str, vouch: str) -> str:
    words = {
        "principal.enrol": ["add", file, *(["--cap", data["cap"]] if data.get("cap") else [])],
        "principal.rekey": ["rekey", file],
        "principal.enable": ["enable", data.get("principal", "")],
        "cap.set": ["cap", data.get("principal", ""), data.get("cap") or "clear"],
    }[type_]
    return f"zopp principal {shlex.join(words)} {vouch}"
