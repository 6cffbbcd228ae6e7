"""Print a value, or with no KEY a table of all keys with their values hidden."""

import argparse
import sys

from zopp import sopsfile
from zopp.cli.context import Context, table
from zopp.cli.parser import add_env, epilog
from zopp.cli.reading import open_for_reading
from zopp.exchange.scalars import scalar_text, to_bytes
from zopp.repo import values
from zopp.repo.exposure import dotted
from zopp.repo.unlock import decrypt
from zopp.repo.values import plain

EXAMPLES = epilog(
    "zopp get DATABASE_URL -e production",
    "zopp get db.password                 a dotted path",
    "zopp get KEYSTORE --bytes > app.p12",
    "zopp get --json --reveal             all keys and values as JSON",
)


def configure(parser: argparse.ArgumentParser) -> None:
    """The flags of `zopp get`."""
    parser.add_argument("key", nargs="?", metavar="KEY", help="a name, or a dotted path")
    parser.add_argument("--reveal", action="store_true", help="show the values of all keys")
    parser.add_argument("--bytes", action="store_true", help="print the bytes of a file that import kept as base64")
    add_env(parser)


def run(ctx: Context, args: argparse.Namespace) -> int:
    """Do it."""
    ws, env = open_for_reading(ctx, args)
    if args.key is None:
        opened = values.open_all(ws, env, ctx.keyring) if args.reveal else []
        shown = {dotted(leaf): sopsfile.lookup(file.tree, leaf) for file in opened for leaf in file.leaves}
        names = [dotted(leaf) for file in env.files.values() if file.sops for leaf in file.sops.paths()]
        if ctx.as_json:
            keys = [{"key": n, **({"value": plain(shown[n])} if args.reveal else {})} for n in names]
            ctx.data({"environment": f"{env.project}/{env.name}", "keys": keys})
        else:
            for line in table((n, scalar_text(shown[n]) if args.reveal else "••••••") for n in names):
                ctx.out(line)
        return 0
    path = values.parse_key(args.key)
    place = values.locate(env, path)
    if place is None:
        raise values.missing(env, path)
    name, exact = place
    node = sopsfile.lookup(decrypt(ws, env, env.files[name], ctx.keyring), exact)
    if ctx.as_json:
        ctx.data({"environment": f"{env.project}/{env.name}", "key": dotted(exact), "value": plain(node)})
    elif isinstance(node, (sopsfile.Mapping, sopsfile.Sequence)):
        tree = sopsfile.Tree([node if isinstance(node, sopsfile.Mapping) else sopsfile.Mapping([(args.key, node)])])
        sys.stdout.write(sopsfile.dump_plain(tree, "yaml").decode())
    elif args.bytes:
        text = scalar_text(node)
        data = to_bytes(text)
        sys.stdout.flush()
        sys.stdout.buffer.write(text.encode("utf-8", "surrogateescape") if data is None else data)
        sys.stdout.buffer.flush()
    else:
        sys.stdout.write(scalar_text(node) + ("\n" if sys.stdout.isatty() else ""))
    return 0
