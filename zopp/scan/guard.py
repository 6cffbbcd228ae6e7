"""The entry point of the hooks and of the pre-commit framework: `zopp-guard`. Lean (spec guard 4.2).

    zopp-guard                     what is staged
    zopp-guard FILE…               the pre-commit framework: what is staged if all of them are, else the whole files
    zopp-guard --pre-push REMOTE URL    the commits about to leave, from standard input as git gives them
    zopp-guard --pre-receive       the commits of a push, from standard input; on a server

Exit codes: 0 clean, 1 findings, 2 wrong usage, 3 could not tell. git stops on any but 0.
"""

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from zopp.scan.finding import Result


def main(argv: "list[str] | None" = None) -> int:
    """Run it. No exception leaves here."""
    console = argv is None
    argv = sys.argv[1:] if argv is None else argv
    if console:
        import gc

        gc.disable()
    try:
        code = _run(argv)
    except KeyboardInterrupt:
        sys.stderr.write("\n")
        code = 130
    except Exception as exc:  # the text of a foreign exception may hold a value; its type does not
        from zopp.errors import ZoppError

        if isinstance(exc, ZoppError):
            sys.stderr.write(f"zopp-guard: error: {exc}\n")
            code = exc.exit_code if exc.exit_code in (2, 3) else 3
        else:
            sys.stderr.write(f"zopp-guard: error: unexpected {type(exc).__name__}; this is a fault of zopp\n")
            code = 3
    if console:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


def _run(argv: "list[str]") -> int:
    flag = argv[0] if argv else ""
    if flag in ("-h", "--help"):
        sys.stdout.write(__doc__ or "")
        return 0
    if flag == "--pre-push":
        from zopp.scan import receive

        return _say(receive.push(os.environ, sys.stdin.buffer.read(), argv[1] if len(argv) > 1 else ""))
    if flag == "--pre-receive":
        from zopp.scan import receive

        return _say(receive.receive(os.environ, sys.stdin.buffer.read()))
    files = argv[1:] if flag == "--" else argv
    if flag.startswith("-") and flag != "--":
        sys.stderr.write("zopp-guard: error: unknown option\nzopp-guard: hint: zopp-guard --help\n")
        return 2
    from zopp.scan import staged

    if files:
        from zopp.scan import sweep

        if not sweep.all_staged(os.environ, files):
            return _say(sweep.paths(os.environ, files))
    return _say(staged.scan(os.environ))


def _say(result: "Result") -> int:
    from zopp.scan import report

    for note in result.notes:
        sys.stderr.write(f"zopp-guard: note: {note}\n")
    code = result.exit_code
    quiet = not (result.findings or result.problems or result.suppressed) and os.environ.get("ZOPP_GUARD_QUIET")
    if not quiet:
        color = sys.stderr.isatty() and not os.environ.get("NO_COLOR")
        sys.stderr.write(report.text(result, color=color))
    return code


if __name__ == "__main__":
    main()
