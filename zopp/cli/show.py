"""Show the keys of an environment as a commit has it, and who signed that version; --reveal prints the values.

Needs no key without --reveal. REV is anything that git takes for a commit.
"""

import argparse
from collections.abc import Mapping

from zopp import sopsfile
from zopp.cli import timeline
from zopp.cli.context import Context, table
from zopp.cli.parser import add_env, epilog
from zopp.errors import FormatError, NotFound
from zopp.printable import printable
from zopp.repo import brokered, git, values, versions
from zopp.repo.environment import scope_of
from zopp.repo.values import plain
from zopp.repo.versions import Version
from zopp.sopsfile.comparing import Kind, Place, kind_of, name

EXAMPLES = epilog(
    "zopp show HEAD~3 -e production",
    "zopp show v1.4 DATABASE_URL --reveal",
    "zopp show main@{yesterday} --json",
)


def configure(parser: argparse.ArgumentParser) -> None:
    """The flags of `zopp show`."""
    parser.add_argument("revision", metavar="REV", help="a commit, branch or tag")
    parser.add_argument("key", nargs="?", metavar="KEY", help="only this key, or those below it")
    parser.add_argument("--reveal", action="store_true", help="show the values")
    add_env(parser)


def run(ctx: Context, args: argparse.Namespace) -> int:
    """Do it."""
    ws = ctx.workspace(needs_receipt=False)
    scope = scope_of(ws, args.env, args.project)
    commit = versions.commit_of(ws.root, args.revision)
    configured = ws.settings.files.get(versions.named(ws, scope).name, ())
    with git.Batch(ws.root) as batch:
        found = versions.read(ws, scope, commit, batch, also=configured)
    env = versions.named(ws, scope)
    where = f"{env.project}/{env.name}"
    if not found.exists:
        raise NotFound(f"{where} is not there in {commit[:12]}", code="version.none", hint="zopp history")
    rows = _rows(found)
    if args.key is not None:
        wanted = [str(part) for part in values.parse_key(args.key)]
        rows = [row for row in rows if [str(part) for part in row[1][1][: len(wanted)]] == wanted]
        if not rows:
            candidates = [printable(name(row[1])) for row in _rows(found)]
            raise NotFound(
                f"{where} has no key {printable(args.key)} in {commit[:12]}",
                code="key.missing", candidates=candidates, wanted=args.key,
            )  # fmt: skip
    for file in found.files.values():
        if file.sops is None:
            ctx.warn(f"{printable(file.path)}: is no sops file that can be read in this version")
    shown: dict[tuple[str, Place], object] = {}
    if args.reveal:
        needed = [f for f in found.files.values() if f.sops is not None and any(row[0] == f.path for row in rows)]
        wanted_files = [(f.path, f.sops, f.author.entry) for f in needed if f.sops is not None]
        trees = versions.open_all(ws, scope, wanted_files, ctx.keyring)
        by_path = {file.path: tree for file, tree in zip(needed, trees, strict=True)}
        shown = {(p, at): sopsfile.lookup(by_path[p].documents[at[0]], at[1]) for p, at, _ in rows}
    names = brokered.describe(ws.state, scope)
    if ctx.as_json:
        ctx.data(
            {
                "environment": where,
                "commit": commit,
                "generation": found.manifest.generation if found.manifest else None,
                "files": [
                    {
                        "file": f.path,
                        "signer": f.author.principal,
                        "signature": f.author.status,
                        "why": f.author.why or None,
                        "recipients": _recipients(f, names),
                    }
                    for f in found.files.values()
                ],
                "keys": [
                    {
                        "key": name(at),
                        "file": path,
                        "type": kind.type,
                        "clear": kind.clear,
                        **({"value": plain(shown[path, at])} if args.reveal else {}),
                    }
                    for path, at, kind in rows
                ],
            }
        )
        return 0
    for file in found.files.values():
        ctx.note(f"{printable(file.path)} in {commit[:12]}: {file.author.words()}")
        ctx.note("  recipients: " + ", ".join(printable(r) for r in _recipients(file, names)))
    if not args.reveal:
        for line in table((printable(name(at)), kind.type + (", clear" if kind.clear else "")) for _, at, kind in rows):
            ctx.out(line)
        return 0
    for path, at, _ in rows:
        lines = timeline.value_lines(shown[path, at])
        if args.key is not None and len(rows) == 1:
            ctx.out("\n".join(lines))
        else:
            ctx.out(f"{printable(name(at))}  {lines[0]}")
            for line in lines[1:]:
                ctx.out(f"    {line}")
    return 0


def _rows(found: Version) -> list[tuple[str, Place, Kind]]:
    out = []
    for path, file in found.files.items():
        try:
            outline = file.outline
        except FormatError:
            continue
        if outline is not None:
            out += [(path, at, kind_of(leaf)) for at, leaf in outline.leaves.items()]
    return out


def _recipients(file: versions.File, names: Mapping[str, str]) -> list[str]:
    if file.sops is None:
        return []
    return [names.get(e.recipient, e.recipient) for group in file.sops.metadata.groups for e in group]
