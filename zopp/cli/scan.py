"""Look for what must not enter git: unencrypted files, leftovers, tokens and keys, the project's own secrets.

Without PATH and mode it judges what is staged, as the pre-commit hook does. Needs no key; opens no network connection.
Exit codes: 0 clean, 1 findings, 3 could not tell.
"""

import argparse
import json
import os
import sys

from zopp._version import __version__
from zopp.cli.context import Context
from zopp.cli.parser import epilog
from zopp.errors import Unknown, UsageError
from zopp.scan import report, running
from zopp.scan.finding import Result

EXAMPLES = epilog(
    "zopp scan                                  what is staged, as the pre-commit hook does",
    "zopp scan --all --sarif zopp.sarif         every tracked file",
    "zopp scan --range origin/main..HEAD        in CI",
    "zopp scan src config/app.yaml --json",
    "zopp scan --except FINGERPRINT --reason 'example of the docs'",
    "zopp scan --reindex                        look for this project's own secrets from now on",
)


def configure(parser: argparse.ArgumentParser) -> None:
    """The flags of `zopp scan`."""
    parser.add_argument("paths", nargs="*", metavar="PATH", help="files and folders (tracked files in them), whole")
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--staged", action="store_true", help="what is staged (the default without PATH)")
    mode.add_argument("--all", action="store_true", help="every tracked file, as it stands on the disk")
    mode.add_argument("--range", metavar="A..B", help="the commits of a range, each by itself")
    mode.add_argument(
        "--reindex", action="store_true", help="make the index of this project's own secrets anew (needs your key)"
    )
    parser.add_argument(
        "--brokered", action="store_true",
        help="--reindex: brokered environments too; asks the policy server once for each, which is recorded",
    )  # fmt: skip
    mode.add_argument("--forget", action="store_true", help="delete that index and its key")
    parser.add_argument("--sarif", metavar="FILE", help="write the findings there too, as SARIF 2.1.0")
    parser.add_argument("--config", metavar="FILE", help="rules in gitleaks' format (default: .gitleaks.toml)")
    parser.add_argument("--no-exceptions", action="store_true", help="honour no allow comment and no ignore list")
    parser.add_argument(
        "--except", dest="excepted", metavar="FINGERPRINT", action="append", default=[],
        help="put this finding on .zopp/guard-ignore",
    )  # fmt: skip
    parser.add_argument("--reason", metavar="TEXT", help="why it is no secret; goes into the list")


def run(ctx: Context, args: argparse.Namespace) -> int:
    """Do it."""
    if args.paths and (args.staged or args.all or args.range is not None or args.reindex or args.forget):
        raise UsageError("PATH and a mode exclude each other", hint="zopp scan --help")
    if args.brokered and not args.reindex:
        raise UsageError("--brokered belongs to --reindex", hint="zopp scan --help")
    if args.forget:
        from zopp.scan import own, staged

        gone = own.drop(staged.git_folders(ctx.env)[1], ctx.env)
        ctx.note("the index of own secrets and its key are deleted" if gone else "there was no index of own secrets")
        return 0
    if args.reindex:
        from zopp.cli import reindex

        return reindex.run(ctx, args)
    options = running.Options(config=args.config, exceptions=not args.no_exceptions)
    result = _scan(args, options, ctx)
    if args.excepted:
        return _except(ctx, args, result)
    for note in result.notes:
        ctx.warn(note)
    if args.sarif:
        _write(args.sarif, json.dumps(report.sarif(result, __version__), indent=2, ensure_ascii=True) + "\n")
    if ctx.as_json:
        ctx.data(report.plain(result))
    else:
        color = sys.stdout.isatty() and not ctx.env.get("NO_COLOR")
        body = report.text(result, color=color)
        summary = report.summary(result) + "\n"
        if len(body) > len(summary):
            ctx.out(body[: -len(summary)].rstrip("\n"))
        ctx.note(summary.rstrip("\n"))
    return result.exit_code


def _scan(args: argparse.Namespace, options: running.Options, ctx: Context) -> Result:
    if args.range is not None:
        from zopp.scan import receive

        return receive.commits(ctx.env, args.range, options=options)
    if args.all or args.paths:
        from zopp.scan import sweep

        return (
            sweep.tracked(ctx.env, options=options) if args.all else sweep.paths(ctx.env, args.paths, options=options)
        )
    from zopp.scan import staged

    return staged.scan(ctx.env, options=options)


def _write(path: str, text: str) -> None:
    """An output file appears whole or not at all."""
    temporary = f"{path}.{os.getpid()}"
    try:
        with open(temporary, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(temporary, path)
    except OSError as exc:
        raise Unknown(f"cannot be written ({exc.strerror})", code="scan.unwritable", place=path) from None
    finally:
        if os.path.lexists(temporary):
            os.unlink(temporary)


def _except(ctx: Context, args: argparse.Namespace, result: Result) -> int:
    """Put findings on the ignore list."""
    from zopp.repo import layout
    from zopp.scan import allow, staged

    if not args.reason or not args.reason.strip() or not args.reason.isprintable():
        raise UsageError("an exception needs a reason", hint="zopp scan --except FINGERPRINT --reason 'why it is none'")
    by_print = {f.fingerprint: f for f in [*result.findings, *result.suppressed] if f.fingerprint}
    missing = [text for text in args.excepted if text not in by_print]
    if missing:
        raise UsageError(
            "there is no such finding in what was judged (unencrypted files, leftovers and own secrets cannot "
            "be excepted so)",
            code="scan.fingerprint",
            hint="name the file or mode in which it is found: zopp scan PATH --except FINGERPRINT --reason …",
        )
    checkout = layout.find_checkout(os.getcwd())
    path = os.path.join(checkout.root, allow.LIST)
    try:
        with open(path, "rb") as file:
            known = allow.parse(file.read())
    except FileNotFoundError:
        known = allow.IgnoreList(running.local_key(staged.git_folders(ctx.env)[1]))
    entries = set(known.entries) | {
        (by_print[text].rule, text, "", args.reason.strip().replace(" # ", " - ")) for text in args.excepted
    }
    os.makedirs(os.path.dirname(path), exist_ok=True)
    _write(path, allow.IgnoreList(known.key, sorted(entries)).render())
    ctx.note(f"{len(args.excepted)} on {allow.LIST}; commit it: git add -f {allow.LIST}")
    return 0
