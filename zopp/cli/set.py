"""Set a value. It comes from standard input, a prompt, or a file, never from the command line.

On a terminal zopp asks twice without showing; in a pipe it reads standard input, exactly. Setting the value that is
there already writes nothing.
"""

import argparse

from zopp.cli.changing import Change, report_change
from zopp.cli.context import Context, decode, read_stdin
from zopp.cli.inputs import read_file
from zopp.cli.parser import add_change, add_env, epilog
from zopp.errors import UsageError
from zopp.exchange.names import check_name
from zopp.repo import values
from zopp.repo.environment import open_environment, scope_of
from zopp.sopsfile import Put

EXAMPLES = epilog(
    "zopp set DATABASE_URL                        asks for the value",
    "openssl rand -hex 32 | zopp set TOKEN --strip    without the final newline of the pipe",
    "zopp set TLS_KEY=@key.pem -e production -m 'new TLS key'",
    "zopp set db.port --type int < port.txt",
)
_FORMS = {
    "int": "digits, of at most 64 bits; any text is: --type str",
    "float": "a number like 0.5 or 1e3; any text is: --type str",
    "bool": "true or false; any text is: --type str",
}
TYPES = ("str", "int", "float", "bool", "null")


def configure(parser: argparse.ArgumentParser) -> None:
    """The flags of `zopp set`."""
    parser.add_argument("key", metavar="KEY", help="a name or dotted path; KEY=@FILE reads FILE")
    parser.add_argument("value", nargs="?", metavar="", help=argparse.SUPPRESS)
    parser.add_argument("--from-file", metavar="FILE", help="read the value from FILE")
    parser.add_argument("--strip", action="store_true", help="drop one newline at the end of the value")
    parser.add_argument("--type", choices=TYPES, default="str", help="type of the value (default: str)")
    parser.add_argument("--note", metavar="TEXT", help="a comment above a new key")
    parser.add_argument("--file", metavar="PATH", help="the file that a new key goes to")
    parser.add_argument("--clear", action="store_true", help="allow a name that the file leaves unencrypted")
    add_env(parser)
    add_change(parser)
    parser.set_defaults(value_on_argv=False)


def run(ctx: Context, args: argparse.Namespace) -> int:
    """Do it."""
    key, source = args.key, args.from_file
    if "=" in key:
        key, _, rest = key.partition("=")
        if not rest.startswith("@") or source:
            raise UsageError(
                "a value on the command line ends up in the shell's history",
                code="value_on_argv",
                hint=f"zopp set {key}, then type it; or: … | zopp set {key}; or: zopp set {key}=@FILE",
            )
        source = rest[1:]
    path = values.parse_key(key)
    if len(path) == 1 or args.type == "str":
        check_name("_".join(str(part) for part in path))
    value = _typed(_text(ctx, args, key, source), args.type)
    with ctx.changing(on_old_base=args.on_old_base) as draft:
        ws = draft.ws
        env = open_environment(ws, scope_of(ws, args.env, args.project), history=True)
        edited = values.apply(
            draft, env, ctx.keyring, [Put(path, value, args.note)],
            file=args.file, allow_clear=args.clear, on_old_base=args.on_old_base,
        )  # fmt: skip
        return report_change(ctx, args, draft, env, edited, Change("set", key))


def _text(ctx: Context, args: argparse.Namespace, key: str, source: str | None) -> str:
    if args.value is not None:
        if not args.value_on_argv:
            raise UsageError(
                "a value on the command line ends up in the shell's history",
                code="value_on_argv",
                hint=f"zopp set {key}, then type it; or: … | zopp set {key}",
            )
        ctx.warn("a value on the command line ends up in the shell's history and in the process list")
        return str(args.value)
    if source is not None:
        text = decode(read_file(ctx.cwd, source), source)
    elif args.type == "null":
        return ""
    elif ctx.interactive():
        # Nobody types a secret to be told afterwards that it cannot be kept.
        with ctx.changing(on_old_base=args.on_old_base) as draft:
            env = open_environment(draft.ws, scope_of(draft.ws, args.env, args.project), history=True)
            values.check_writable(draft, env, on_old_base=args.on_old_base)
        return ctx.secret(f"value of {key}", repeat=True)
    else:
        text = read_stdin()
    return text.removesuffix("\n").removesuffix("\r") if args.strip or args.type != "str" else text


def _typed(text: str, kind: str) -> object:
    """The value of `--type`; UsageError that does not quote it."""
    if "\0" in text:
        raise UsageError("a value cannot hold a NUL byte", code="nul")
    try:
        if kind == "int":
            number = int(text)
            if not -(2**63) <= number < 2**63:
                raise ValueError
            return number
        if kind == "float":
            return float(text)
        if kind == "bool":
            return {"true": True, "false": False}[text.lower()]
        if kind == "null":
            return None
    except (ValueError, KeyError):
        raise UsageError(f"the value is no {kind}", code="type", hint=_FORMS[kind]) from None
    return text
