"""`zopp scan --reindex`: the index of this project's own secrets, from every environment that this user can open.

Direct environments only: a brokered one would ask the server for a release, which nobody here asked for.
"""

import argparse
import os

from zopp.cli.context import Context
from zopp.errors import Unknown, UsageError, ZoppError
from zopp.repo import git, values
from zopp.repo.environment import people_name
from zopp.repo.exposure import dotted
from zopp.repo.unlock import open_readable
from zopp.scan import own
from zopp.scan.demand import listed_hash
from zopp.sopsfile import Comment, Mapping, Sequence


def run(ctx: Context, args: argparse.Namespace) -> int:
    """Make it anew and say what it covers."""
    ws = ctx.workspace()
    if not ctx.keyring.found.identities:
        raise UsageError(
            "the index needs an age identity without a passphrase on this machine: its key lies beside it",
            code="reindex.identity",
        )
    found: list[tuple[str, bytes]] = []
    environments: dict[str, str] = {}
    left: dict[str, str] = {}
    for scope, entry in ws.state.envs.items():
        if entry.kind == "brokered":
            left[people_name(scope)] = "brokered"
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
    key = before.key if before is not None else os.urandom(32)
    clear = _in_clear(ws.root, own.read(own.build(key, kept, environments, []), key))
    data = own.build(key, [(name, value) for name, value in kept if name not in clear], environments, sorted(clear))
    try:
        own.save(common, ctx.env, key, data)
    except OSError as exc:
        raise Unknown(f"the index cannot be written ({exc.strerror})", code="reindex.unwritable") from None
    count = len(kept) - sum(1 for name, _ in kept if name in clear)
    if ctx.as_json:
        ctx.data(
            {"environments": sorted(people_name(s) for s in environments), "not_covered": left, "values": count,
             "in_clear": sorted(clear)}
        )  # fmt: skip
    else:
        names = ", ".join(sorted(people_name(s) for s in environments)) or "no environment"
        ctx.note(f"the guard now looks for {count} values of {names}")
        for name, why in sorted(left.items()):
            ctx.warn(f"not covered: {name} ({why})")
        for name in sorted(clear):
            ctx.warn(f"not looked for, since it stands in clear in a tracked file: {name}; weak, or leaked")
    return 0


def _leaves(prefix: str, path: tuple[str | int, ...], node: object) -> list[tuple[str, bytes]]:
    found: list[tuple[str, bytes]] = []
    if isinstance(node, Mapping):
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


def _in_clear(root: str, index: own.Index) -> set[str]:
    """The names of values that stand in clear in a tracked file."""
    listing = git.run(root, "ls-files", "-z").stdout
    found: set[str] = set()
    for path in listing.decode("utf-8", "surrogateescape").split("\0"):
        full = os.path.join(root, path)
        if not path or os.path.islink(full) or not os.path.isfile(full):
            continue
        with open(full, "rb") as file:
            found.update(name for _, _, name in index.look(file.read(), set()))
    return found
