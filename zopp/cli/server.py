"""The policy server: run one, and bring a workspace to it.

dev        serve on this machine with a Postgres of its own; nothing to install
serve      serve with a Postgres of yours (settings: ZOPP_SERVER_…, see docs/reference/server.md)
migrate    bring the database to this version's schema
bootstrap  print a one-time code that lets upload one workspace
check      is the database as it must be? the check that serving begins with
backup     write everything to a file
restore    bring a database up to a backup, against a checkpoint that somebody kept
kek        rotate the key encryption key
adopt      upload this workspace's log to a server, which orders its policy from then on; or change its log key
"""

import argparse
import asyncio
import os
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

from zopp.cli.context import Context
from zopp.cli.inputs import read_file
from zopp.cli.parser import Parser, add_action, add_change, epilog
from zopp.errors import Unknown, UsageError

EXAMPLES = epilog(
    "zopp server dev",
    "zopp server adopt https://zopp.example.org                   the one-time code is asked for",
    "zopp server adopt https://zopp.example.org --code - < code   or read from standard input",
    "zopp server adopt https://zopp.example.org --log-key KEY     a new log key, as the server's operator says it",
    "zopp server migrate && zopp server serve",
    "zopp server backup > backup.jsonl",
    "zopp server restore backup.jsonl --checkpoint .zopp/checkpoint",
)

_T = TypeVar("_T")


def configure(parser: argparse.ArgumentParser) -> None:
    """The actions of `zopp server`."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True, parser_class=Parser)

    def add(name: str, text: str) -> argparse.ArgumentParser:
        return add_action(actions, name, text, f"{text[:1].upper()}{text[1:]}.")

    sub = add("dev", "serve on this machine with a Postgres of its own")
    sub.add_argument("--port", type=int, metavar="N", help="port of 127.0.0.1 (default: 8420, then what it was before)")
    sub.add_argument("--data", metavar="DIR", help="where everything is kept (default: zopp/server in XDG_DATA_HOME)")
    add("serve", "serve with a Postgres of yours; settings come from ZOPP_SERVER_…")
    add("migrate", "bring the database to this version's schema")
    add("bootstrap", "print a one-time code that lets upload one workspace")
    add("check", "print what the self-check finds; exit 1 if anything")
    add("backup", "write everything to standard output, which is not a terminal")
    sub = add("restore", "bring the database up to a backup, and make the high-water file where it is missing")
    sub.add_argument("file", metavar="FILE", nargs="?", help="a backup; without it the database is taken as it is")
    sub.add_argument(
        "--checkpoint", required=True, metavar="NOTE", help="a signed checkpoint that somebody kept (.zopp/checkpoint)"
    )
    configure_adopt(add("adopt", "have a server order this workspace's policy"))
    sub = add("kek", "rotate the key encryption key")
    sub.add_argument(
        "what",
        metavar="WHAT",
        choices=("rotate",),
        help="rotate: from ZOPP_SERVER_KEK_FILE to ZOPP_SERVER_NEXT_KEK_FILE",
    )


def configure_adopt(parser: argparse.ArgumentParser) -> None:
    """The flags of `zopp server adopt`."""
    parser.add_argument("url", metavar="URL", help="https://HOST[:PORT]")
    parser.add_argument("--code", choices=("-",), help="- reads the one-time code from standard input")
    parser.add_argument("--log-key", metavar="KEY", help="change to this log key, which the server has prepared")
    add_change(parser, yes=True)


def run(ctx: Context, args: argparse.Namespace) -> int:
    """Do it."""
    if args.action == "adopt":
        from zopp.cli import serveradopt

        return serveradopt.run(ctx, args)
    try:
        import zopp_server  # noqa: F401
    except ImportError:
        raise Unknown(
            "the policy server is not installed here", code="server.missing", hint="pip install 'zopp[server]'"
        ) from None
    action = {
        "dev": _dev, "serve": _serve, "migrate": _migrate, "bootstrap": _bootstrap, "check": _check,
        "backup": _backup, "restore": _restore, "kek": _kek,
    }[args.action]  # fmt: skip
    return action(ctx, args)


def _await(work: Coroutine[Any, Any, _T]) -> _T:
    return asyncio.run(work)


def _dev(ctx: Context, args: argparse.Namespace) -> int:
    from zopp_server import dev

    if args.port is not None and not 1 <= args.port <= 65535:
        raise UsageError("a port is a number from 1 to 65535", code="server.port")
    base = ctx.env.get("XDG_DATA_HOME", "")
    home = base if base.startswith("/") else os.path.join(os.path.expanduser("~"), ".local/share")
    data = Path(ctx.cwd, args.data) if args.data else Path(home, "zopp", "server")

    def tell(code: str) -> None:
        sys.stdout.write(code + "\n")
        sys.stdout.flush()

    dev.run(data, args.port, lambda text: ctx.note(f"zopp: {text}"), tell)
    return 0


def _serve(ctx: Context, args: argparse.Namespace) -> int:
    from zopp_server import config, serve

    settings = config.of(ctx.env)
    serve.main(settings, lambda service: ctx.note(f"zopp: serving {settings.origin}"))
    return 0


def _migrate(ctx: Context, args: argparse.Namespace) -> int:
    from zopp_server import config, operate

    owner = config.database_url(ctx.env)
    admin = config.database_url(ctx.env, "ADMIN_URL") if _set(ctx, "ADMIN_URL") else None
    passwords = {}
    if admin is not None:
        for name, role in (("DATABASE_URL", "zopp_migrate"), ("APP_URL", "zopp_app")):
            url = urlsplit(config.database_url(ctx.env, name))
            if url.username != role or not url.password:
                raise UsageError(
                    f"the URL must name the role {role} and its password",
                    code="server.setting",
                    place=f"ZOPP_SERVER_{name}",
                )
            passwords[role] = unquote(url.password)
    applied = _await(operate.migrate(admin, owner, passwords))
    if ctx.as_json:
        ctx.data({"applied": applied})
    for name in applied:
        ctx.note(f"applied {name}")
    if not applied:
        ctx.note("the schema is this version's already")
    return 0


def _set(ctx: Context, name: str) -> bool:
    return bool(ctx.env.get(f"ZOPP_SERVER_{name}") or ctx.env.get(f"ZOPP_SERVER_{name}_FILE"))


def _bootstrap(ctx: Context, args: argparse.Namespace) -> int:
    from zopp_server import bootstrap, config, startup

    async def work() -> str:
        connection = await startup.connect(config.database_url(ctx.env))
        try:
            return await bootstrap.new_code(connection)
        finally:
            await connection.close(timeout=20)

    code = _await(work())
    if ctx.as_json:
        ctx.data({"code": code, "hours": bootstrap.HOURS})
        return 0
    ctx.out(code)
    ctx.note("good for one workspace and 24 hours; in its repository: zopp server adopt URL")
    return 0


def _check(ctx: Context, args: argparse.Namespace) -> int:
    from zopp_server import config, operate

    found = _await(operate.check(config.of(ctx.env)))
    if ctx.as_json:
        ctx.data({"findings": found})
    else:
        for line in found:
            ctx.out(line)
    if not found:
        ctx.note("the database is as it must be")
    return 1 if found else 0


def _backup(ctx: Context, args: argparse.Namespace) -> int:
    from zopp_server import config, operate

    if sys.stdout.isatty():
        raise UsageError("a backup is not shown on a terminal", code="backup", hint="zopp server backup > FILE")
    count = _await(operate.backup(config.of(ctx.env), sys.stdout.buffer))
    ctx.note(f"{count} entries written")
    return 0


def _restore(ctx: Context, args: argparse.Namespace) -> int:
    from zopp_server import config, operate

    note = read_file(ctx.cwd, args.checkpoint)
    source = None if args.file is None else Path(ctx.cwd, args.file)
    if args.file is not None:
        read_file(ctx.cwd, args.file, 1)  # what cannot be read is said before the database is touched
    sizes = _await(operate.restore(config.of(ctx.env), note, source))
    if ctx.as_json:
        ctx.data({"logs": sizes})
    for log, size in sizes.items():
        ctx.note(f"log {log[:16]}: {size} entries")
    ctx.note("serve again with: zopp server serve")
    return 0


def _kek(ctx: Context, args: argparse.Namespace) -> int:
    from zopp_server import config, operate

    following = ctx.env.get("ZOPP_SERVER_NEXT_KEK_FILE")
    if not following:
        raise UsageError("ZOPP_SERVER_NEXT_KEK_FILE is not set", code="server.setting")
    done = _await(operate.rotate_kek(config.of(ctx.env), Path(following)))
    if ctx.as_json:
        ctx.data({"workspaces": done})
    for name in done:
        ctx.note(f"{name}: under the new key")
    ctx.note("start the servers with the new key file now; the old one opens old backups only")
    return 0
