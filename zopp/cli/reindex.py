"""`zopp scan --reindex`: the index of this project's own secrets, from every environment that this user can open.

A brokered environment needs a release, which is recorded: it is asked for, once for all files of an environment, only
with `--brokered`. Also what `offboard` and `doctor` do about an index that is there.
"""

import argparse
import os
import stat
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from zopp.cli.context import Context
from zopp.errors import Unknown, UsageError, ZoppError
from zopp.repo import values
from zopp.repo.environment import people_name
from zopp.repo.exposure import dotted
from zopp.repo.unlock import open_readable
from zopp.repo.workspace import Workspace
from zopp.scan import own
from zopp.scan.demand import Rules, listed_hash
from zopp.scan.gitio import Git, Objects
from zopp.scan.trees import DiskTree
from zopp.sopsfile import Comment, Mapping as Map, Sequence


@dataclass(frozen=True, kw_only=True, slots=True)
class Made:
    """A new index. `environments`: covered; `left`: not covered, and why; `clear`: names of values that stand in clear
    in a committed file."""

    environments: tuple[str, ...]
    left: Mapping[str, str]
    count: int
    clear: tuple[str, ...]


def run(ctx: Context, args: argparse.Namespace) -> int:
    """Make it anew and say what it covers."""
    made = _make(ctx, ctx.workspace(), brokered=args.brokered)
    names = sorted(people_name(s) for s in made.environments)
    if ctx.as_json:
        ctx.data({"environments": names, "not_covered": dict(made.left), "values": made.count,
                  "in_clear": list(made.clear)})  # fmt: skip
    else:
        values = f"{made.count} value{'s' * (made.count != 1)}"
        ctx.note(f"the guard now looks for {values} of {', '.join(names) or 'no environment'}")
        for name, why in sorted(made.left.items()):
            ctx.warn(f"not covered: {name} ({why})")
        for name in made.clear:
            ctx.warn(f"not looked for, since it stands in clear in a committed file: {name}; weak, or leaked")
    return 0


def renew(ctx: Context, ws: Workspace) -> None:
    """After access or values changed: an index that is there is made anew, without a release; where that cannot be, it
    is deleted, so that none outlives the right to what it was made of."""
    common = ws.checkout.common_dir
    if not os.path.lexists(own.index_path(common)):
        return
    why = ""
    try:
        made = _make(ctx, ws, brokered=False)
    except ZoppError as exc:
        made, why = None, f" ({exc.message})"
    if made is None or not made.environments:
        own.drop(common, ctx.env)
        ctx.note(f"the index of own secrets is deleted{why}; make it anew with: zopp scan --reindex")
        return
    ctx.note("the index of own secrets is made anew")
    for name, reason in sorted(made.left.items()):
        ctx.warn(f"it no longer covers {name} ({reason})")


def faults(ctx: Context, ws: Workspace, mine: Collection[str]) -> list[tuple[str, str]]:
    """What `doctor` says of the index: (level, text). `mine`: the principals whose keys are here."""
    common = ws.checkout.common_dir
    path = own.index_path(common)
    rules = Rules(DiskTree(str(ws.root)), ctx.env)
    rules.listed()
    if not os.path.lexists(path):
        return [("info", "the guard looks for no own secrets, as it has no index of them: zopp scan --reindex")]
    index = own.load(common, ctx.env)
    if index is None:
        return [("warn", "the index of own secrets is damaged, or its key is gone: zopp scan --reindex, or --forget")]
    said: list[tuple[str, str]] = []
    for each in (path, own.key_path(ctx.env, index.head["repository"])):
        if stat.S_IMODE(os.stat(each).st_mode) & 0o077:
            said.append(
                ("fail", f"{each} is open to others, and with its other half tests guesses: zopp scan --forget")
            )
    made = index.environments
    readable = {scope for scope in ws.state.envs if any(name in ws.state.readers(scope) for name in mine)}
    gone = sorted(set(made) - readable)
    if gone:
        names = ", ".join(people_name(scope) for scope in gone)
        said.append(("warn", f"the index of own secrets holds {names}, which you may not read: zopp scan --reindex"))
    old = sorted(s for s in readable if s in rules.states and made.get(s) != rules.states[s])
    if old:
        names = ", ".join(people_name(scope) for scope in old)
        how = " --brokered" if any(ws.state.envs[scope].kind == "brokered" for scope in old) else ""
        said.append(("warn", f"the index of own secrets is older than {names}, or without: zopp scan --reindex{how}"))
    said += [("warn", f"{name} stands in clear in a committed file: weak, or leaked") for name in index.head["clear"]]
    return said or [("ok", f"own secrets are looked for: {', '.join(sorted(people_name(s) for s in made))}")]


def _make(ctx: Context, ws: Workspace, *, brokered: bool) -> Made:
    if not ctx.keyring.found.identities:
        raise UsageError(
            "the index needs an age identity without a passphrase on this machine: its key lies beside it",
            code="reindex.identity",
        )
    found: list[tuple[str, bytes]] = []
    environments: dict[str, str] = {}
    left: dict[str, str] = {}
    for scope, entry in ws.state.envs.items():
        if entry.kind == "brokered" and not brokered:
            left[people_name(scope)] = (
                "brokered; --reindex --brokered asks the policy server once for each such environment, on the record"
            )
            continue
        try:
            env, _ = open_readable(ws, scope, ctx.keyring)
            opened = values.open_all(ws, env, ctx.keyring)
        except ZoppError as exc:
            left[people_name(scope)] = exc.message
            continue
        if env.manifest is not None:
            environments[scope] = listed_hash(env.manifest)
        for file in opened:
            for document in file.tree.documents:
                found += _leaves(f"{people_name(scope)} ", (), document)
    kept = [(name, value) for name, value in found if own.is_kept(value)]
    common = ws.checkout.common_dir
    before = own.load(common, ctx.env)
    if before is None:
        own.drop(common, ctx.env)  # of one that cannot be read, the key shall not stay behind
    key = before.key if before is not None else os.urandom(32)
    clear = _in_clear(ws.root, ctx.env, own.read(own.build(key, kept, environments, []), key))
    data = own.build(key, [(name, value) for name, value in kept if name not in clear], environments, sorted(clear))
    try:
        own.save(common, ctx.env, key, data)
    except OSError as exc:
        raise Unknown(f"the index cannot be written ({exc.strerror})", code="reindex.unwritable") from None
    count = sum(1 for name, _ in kept if name not in clear)
    return Made(environments=tuple(environments), left=left, count=count, clear=tuple(sorted(clear)))


def _leaves(prefix: str, path: tuple[str | int, ...], node: object) -> list[tuple[str, bytes]]:
    found: list[tuple[str, bytes]] = []
    if isinstance(node, Map):
        for name, value in node.items:
            if isinstance(name, str):
                found += _leaves(prefix, (*path, name), value)
    elif isinstance(node, Sequence):
        for number, value in enumerate(node.nodes()):
            found += _leaves(prefix, (*path, number), value)
    elif isinstance(node, str):
        found.append((prefix + dotted(path), node.encode("utf-8", "surrogatepass")))
    elif isinstance(node, bytes):
        found.append((prefix + dotted(path), node))
    elif isinstance(node, int) and not isinstance(node, (bool, Comment)):
        found.append((prefix + dotted(path), str(node).encode()))
    return found


def _in_clear(root: str, environ: Mapping[str, str], index: own.Index) -> set[str]:
    """The names of values that stand in clear in a committed file. What is only staged or only in the work tree is
    what the guard is there to stop, so it takes no value out of the index."""
    runner = Git(root, environ)
    listing = runner.asked("ls-tree", "-r", "-z", "HEAD") or b""  # none before the first commit
    ids = [line.split(b"\t")[0].split(b" ")[2] for line in listing.split(b"\0") if line.startswith(b"100")]
    found: set[str] = set()

    def large(_index: int, _id: str, _size: int, blocks: Iterable[bytes]) -> None:
        watch = own.Stream(index)
        for _ in watch.through(blocks):
            pass
        found.update(name for _, _, name in watch.found)

    objects = Objects(runner)
    try:
        for at in range(0, len(ids), 64):
            for blob in objects.get(ids[at : at + 64], large):
                if blob is not None:
                    found.update(name for _, _, name in index.look(blob.data, set()))
    finally:
        objects.close()
    return found
