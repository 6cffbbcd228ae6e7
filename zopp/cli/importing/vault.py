"""Import secrets from a KV engine of HashiCorp Vault or OpenBao.

PATH is a secret or a folder with everything below it. The token comes from BAO_TOKEN, VAULT_TOKEN or ~/.vault-token, or
from a login; the address from BAO_ADDR or VAULT_ADDR. Nothing is changed at the server.
"""

import argparse
import os

from zopp.cli.context import Context
from zopp.cli.importing.reading import extra_missing, progress, quiet_libraries
from zopp.cli.inputs import unreadable
from zopp.cli.parser import epilog
from zopp.errors import UsageError
from zopp.exchange.entry import Reading
from zopp.exchange.mapfile import MapFile
from zopp.exchange.sources import vault as source
from zopp.exchange.sources.vault_http import Login, Server, check_address, check_header

HELP = "a KV engine of HashiCorp Vault or OpenBao (needs the extra vault)"
EXAMPLES = epilog(
    "zopp import vault kv/api/production -e production --dry-run",
    "zopp import vault kv/api --layout path --yes",
    "zopp import vault -mount=kv api/production --versions 3 --yes -m 'import from Vault'",
    "zopp import vault kv/api --auth approle --role-id-file role-id --secret-id-file secret-id --yes",
)

MAX_VERSIONS = 100
_MAX_FILE = 1 << 16


def configure(parser: argparse.ArgumentParser) -> None:
    """The flags of `zopp import vault`."""
    parser.add_argument("path", metavar="PATH", help="MOUNT/PATH, MOUNT/data/PATH, or with -mount only PATH")
    parser.add_argument("-mount", "--mount", default="", metavar="MOUNT", help="where the engine is mounted")
    parser.add_argument("--kv", choices=("auto", "1", "2"), default="auto", help="its version (default: ask)")
    parser.add_argument(
        "--layout",
        choices=("flat", "path"),
        default="flat",
        help="paths below PATH become a part of the names (flat), or their first part is the environment (path)",
    )
    parser.add_argument("--versions", type=int, default=1, metavar="N", help="commit the newest N versions (needs -m)")
    group = parser.add_argument_group("the server")
    group.add_argument("--address", metavar="URL", help="its address (default: BAO_ADDR, VAULT_ADDR)")
    group.add_argument("--namespace", metavar="NS", help="namespace (default: BAO_NAMESPACE, VAULT_NAMESPACE)")
    group.add_argument("--timeout", type=int, default=30, metavar="SECONDS", help="for one answer (default: 30)")
    group.add_argument("--auth", choices=("token", "approle", "jwt"), default="token", help="how to log in")
    group.add_argument("--auth-mount", metavar="MOUNT", help="where that login is mounted (default: its name)")
    group.add_argument("--token-file", metavar="FILE", help="a token (default: BAO_TOKEN, VAULT_TOKEN, ~/.vault-token)")
    group.add_argument("--role-id-file", metavar="FILE", help="AppRole: role id (default: BAO_ROLE_ID, VAULT_ROLE_ID)")
    group.add_argument(
        "--secret-id-file", metavar="FILE", help="AppRole: secret id (default: BAO_SECRET_ID, VAULT_SECRET_ID)"
    )
    group.add_argument("--role", metavar="NAME", help="JWT: the role")
    group.add_argument("--jwt-file", metavar="FILE", help="JWT: the token (default: BAO_JWT, VAULT_JWT)")


def read(ctx: Context, args: argparse.Namespace, mapped: MapFile) -> Reading:
    """Ask the server."""
    if not 1 <= args.versions <= MAX_VERSIONS:
        raise UsageError(f"--versions is 1 to {MAX_VERSIONS}", code="vault.versions")
    if args.versions > 1 and args.message is None and not args.dry_run:
        raise UsageError("earlier versions become earlier commits, which need a message", hint="say -m MSG")
    server = _server(ctx, args)
    try:
        if args.auth == "token":
            server.use_token(_credential(ctx, args.token_file, "TOKEN", "token", "token-file"))
        else:
            server.log_in(_login(ctx, args))
        version = 0 if args.kv == "auto" else int(args.kv)
        engine, path = source.find_engine(server, args.mount, args.path, version)
        ctx.warn(f"{server.address}: reads are recorded in the server's audit log")
        return source.read(
            server, engine, path, layout=args.layout, versions=args.versions, progress=progress(ctx, "secret")
        )
    finally:
        server.close()


def _server(ctx: Context, args: argparse.Namespace) -> Server:
    try:
        import hvac.adapters  # noqa: F401
    except ImportError:
        raise extra_missing("vault") from None
    quiet_libraries()
    if not 1 <= args.timeout <= 600:
        raise UsageError("--timeout is 1 to 600 seconds", code="timeout")
    if _env(ctx, "SKIP_VERIFY").lower() in ("1", "t", "true"):
        ctx.warn("TLS is verified all the same: VAULT_SKIP_VERIFY and BAO_SKIP_VERIFY are not honoured")
    namespace = (args.namespace or _env(ctx, "NAMESPACE")).strip("/ ")
    authority = _file(ctx, _env(ctx, "CACERT") or _env(ctx, "CAPATH"))
    cert, key = _file(ctx, _env(ctx, "CLIENT_CERT")), _file(ctx, _env(ctx, "CLIENT_KEY"))
    return Server(
        check_address(args.address or _env(ctx, "ADDR")),
        namespace=check_header(namespace, "the namespace") if namespace else "",
        verify=authority or True, cert=(cert, key) if cert and key else None, timeout=float(args.timeout),
        told=ctx.progress, warned=ctx.warn,
    )  # fmt: skip


def _login(ctx: Context, args: argparse.Namespace) -> Login:
    path = f"auth/{(args.auth_mount or args.auth).strip('/')}/login"
    if args.auth == "approle":
        role = _credential(ctx, args.role_id_file, "ROLE_ID", "role id", "role-id-file")
        secret = _credential(ctx, args.secret_id_file, "SECRET_ID", "secret id", "secret-id-file")
        return Login(path, {"role_id": role, "secret_id": secret})
    if not args.role:
        raise UsageError("a login with a JWT needs the role", code="vault.role", hint="say --role NAME")
    return Login(path, {"role": args.role, "jwt": _credential(ctx, args.jwt_file, "JWT", "JWT", "jwt-file")})


def _env(ctx: Context, name: str) -> str:
    """OpenBao's variable before Vault's, as its own client has it."""
    return ctx.env.get(f"BAO_{name}") or ctx.env.get(f"VAULT_{name}") or ""


def _credential(ctx: Context, path: str | None, name: str, what: str, flag: str) -> str:
    """From the file that was named, else the environment, else (a token) where the clients keep it. Never from the
    command line, which other users of a machine can read."""
    found = "" if path else _env(ctx, name)
    if not found:
        home = ctx.env.get("HOME") if name == "TOKEN" else None
        at = path or (os.path.join(home, ".vault-token") if home else "")
        found = _first(ctx, at, required=path is not None) if at else ""
    if not found:
        raise UsageError(f"there is no {what}", code="vault.credential", hint=f"set VAULT_{name}, or say --{flag} FILE")
    return check_header(found, f"the {what}")


def _first(ctx: Context, path: str, *, required: bool) -> str:
    try:
        with open(os.path.join(ctx.cwd, path), "rb") as file:
            return file.read(_MAX_FILE).decode().strip()
    except UnicodeDecodeError:
        if required:
            raise UsageError("is not UTF-8 text", code="not_utf8", place=path) from None
    except OSError as exc:
        if required:
            raise unreadable(exc, path, ctx.cwd) from None
    return ""


def _file(ctx: Context, path: str) -> str:
    """`path` in full, if there is one. UsageError if nothing is there."""
    full = os.path.join(ctx.cwd, path) if path else ""
    if full and not os.path.exists(full):
        raise UsageError("a file of TLS that the environment names is not there", code="file", place=path)
    return full
