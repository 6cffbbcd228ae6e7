"""Write an environment's values in another format: env, docker, shell, json, yaml, sops-env, or example (names only).

To a terminal only with --reveal. A file is made 0600, appears whole or not at all, and must be ignored by git.
A value that the format cannot carry is refused by name, never altered.
"""

import argparse
import os
import sys

from zopp.cli.context import Context
from zopp.cli.parser import add_env, epilog
from zopp.cli.reading import open_for_reading, scalar_text
from zopp.errors import UsageError
from zopp.exchange import exporters
from zopp.repo import files, git, values

EXAMPLES = epilog(
    "zopp export --format env -o .env",
    "zopp export -e production --format json | jq .",
    'eval "$(zopp export --format shell)"',
    "zopp export --format example -o .env.example --force",
)
FORMATS = {"dotenv": "env"}


def configure(parser: argparse.ArgumentParser) -> None:
    """The flags of `zopp export`."""
    parser.add_argument(
        "-f", "--format", choices=(*exporters.FORMATS, "dotenv", "example"), help="default: env; with --json: json"
    )
    parser.add_argument("-o", "--output", metavar="FILE", help="write FILE instead of standard output")
    parser.add_argument("--reveal", action="store_true", help="print to a terminal")
    parser.add_argument("--force", action="store_true", help="write a file that git does not ignore")
    add_env(parser)


def run(ctx: Context, args: argparse.Namespace) -> int:
    """Do it."""
    asked = args.format or ("json" if ctx.as_json and args.output is None else "env")
    form = FORMATS.get(asked, asked)
    if args.output is None and sys.stdout.isatty() and not args.reveal and form != "example":
        raise UsageError("this would print secrets on a terminal", code="terminal", hint="say --reveal, or -o FILE")
    ws, env = open_for_reading(ctx, args)
    if form == "example":
        names = sorted(
            name
            for file in env.files.values()
            if file.sops
            for name in ("_".join(map(str, p)) for p in file.sops.paths())
        )
        data = exporters.example((name, "") for name in names)
    else:
        flat = values.flatten(values.open_all(ws, env, ctx.keyring))
        data = exporters.export({name: scalar_text(value) for name, value in flat.items()}, form)
    if args.output is None:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return 0
    target = os.path.abspath(os.path.join(ctx.cwd, args.output))
    inside = form != "example" and not args.force and target.startswith(ws.root + os.sep)
    if inside and git.run(ws.root, "check-ignore", "-q", target, check=False).returncode != 0:
        raise UsageError(
            "would lie in the repository, not ignored by git",
            code="not_ignored",
            place=args.output,
            hint="add it to .gitignore, or say --force",
        )
    if os.path.islink(target):
        raise UsageError("is a symlink", code="path.link", place=args.output)
    files.replace_private(target, data)
    ctx.note(f"wrote {args.output} (0600)")
    if ctx.as_json:
        ctx.data({"file": args.output, "format": form})
    return 0
