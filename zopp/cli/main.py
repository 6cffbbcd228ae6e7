"""The command `zopp`: one verb to one module, loaded when it is called for. Lean until a verb needs more."""

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from zopp.errors import ZoppError


def main(argv: "list[str] | None" = None) -> int:
    """Run one command; the exit code of DESIGN.md's contract. No exception leaves here."""
    from zopp.cli import fast

    console = argv is None
    argv = sys.argv[1:] if argv is None else argv
    try:
        if console:
            # Nothing here makes cycles worth collecting; the collector costs a millisecond of thirty.
            import gc

            gc.disable()
            _undo_coercion()
            _fill_closed()
        quick = fast.try_fast(argv, os.environ)
        if quick is not None:
            sys.stdout.flush()
            sys.stderr.flush()
            if console:
                os._exit(quick)  # all is written and flushed; taking the interpreter down costs 3 ms
            return quick
        if console:
            # What a command reads stays until its end: a collection every 700 objects finds nothing.
            gc.set_threshold(100_000)
            gc.enable()
        code = _main(argv)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # The reader of our pipe went away; keep Python from complaining when it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 141
    except KeyboardInterrupt:
        sys.stderr.write("\n")
        return 130
    except Exception as exc:
        return _fault(exc, argv)


def _fill_closed() -> None:
    """A standard stream that was closed would be the next file that is opened, which may hold secrets. Using one fails
    instead; what goes to standard error is lost."""
    if sys.stdin is not None and sys.stdout is not None and sys.stderr is not None:
        return
    for fd, access in ((0, os.O_WRONLY), (1, os.O_RDONLY), (2, os.O_RDWR)):
        try:
            os.fstat(fd)
        except OSError:
            os.set_inheritable(os.open(os.devnull, access), True)  # the lowest number that is free: this one
    sys.stdin = sys.stdin or os.fdopen(0, closefd=False)
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False, errors="backslashreplace")


def _fault(exc: Exception, argv: "list[str]") -> int:
    """What nobody foresaw: a stream that takes nothing, or a fault of zopp."""
    run = _verb(argv) == "run"
    lost = False
    for stream, fd in ((sys.stdout, 1), (sys.stderr, 2)):
        try:
            stream.flush()
        except OSError:
            # What it could not take goes nowhere, so that Python has nothing to complain about at its end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), fd)
            stream.flush()
            lost = True
    from zopp.errors import Unknown

    if lost and isinstance(exc, OSError):
        return _say(
            Unknown(
                f"the answer cannot be written ({exc.strerror})", code="unwritable",
                hint="see whether there is room where it goes: df -h",
            ), False, run=run,
        )  # fmt: skip
    if isinstance(exc, OSError) and (refused := _refused(exc)) is not None:
        return _say(refused, _flagged(argv, "--json"), run=run)
    # The text of a foreign exception may hold a value; its type and place do not.
    debug = _flagged(argv, "--debug")
    if debug:
        _traceback(exc)
    hint = "" if debug else "see where with --debug, which leaves values out"
    fault = Unknown(f"unexpected {type(exc).__name__}; this is a fault of zopp", code="internal", hint=hint)
    return _say(fault, _flagged(argv, "--json"), run=run)


def _refused(exc: OSError) -> "ZoppError | None":
    """What the system does not let us do, wherever that was; None for what zopp should have expected."""
    import errno

    from zopp.errors import Unknown
    from zopp.printable import printable

    place = printable(os.fsdecode(exc.filename)) if isinstance(exc.filename, (str, bytes)) else ""
    if exc.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return Unknown(f"cannot be used ({exc.strerror})", code="file.unwritable", place=place)
    if exc.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EMFILE, errno.ENFILE):
        return Unknown(f"the system cannot go on ({exc.strerror})", code="system", place=place)
    return None


def _verb(argv: "list[str]") -> str:
    words = iter(argv)
    # What follows -C is no verb, and `run` has exit codes of its own.
    return next((word for word in words if not (word == "-C" and next(words, "")) and not word.startswith("-")), "")


def _undo_coercion() -> None:
    """Under the C locale Python puts LC_CTYPE into its own environment (PEP 538), where every child would find it.
    Linux still knows what the process was started with; elsewhere a value of one's own looks the same, and stays."""
    if os.environ.get("LC_CTYPE") not in ("C.UTF-8", "C.utf8", "UTF-8"):
        return
    try:
        with open("/proc/self/environ", "rb") as file:
            started = file.read().split(b"\0")
    except OSError:
        return
    own = [text[9:] for text in started if text.startswith(b"LC_CTYPE=")]
    if own:
        os.environ["LC_CTYPE"] = os.fsdecode(own[0])
    else:
        del os.environ["LC_CTYPE"]


def _main(argv: "list[str]") -> int:
    from zopp.errors import ZoppError

    try:
        return _dispatch(argv)
    except SystemExit:  # argparse printed its help
        return 0
    except ZoppError as exc:
        if _flagged(argv, "--debug"):
            _traceback(exc)
        return _say(exc, _flagged(argv, "--json"), run=_verb(argv) == "run")


def _flagged(argv: "list[str]", flag: str) -> bool:
    end = argv.index("--") if "--" in argv else len(argv)
    return flag in argv[:end]


def _traceback(exc: BaseException) -> None:
    import traceback

    for frame in traceback.extract_tb(exc.__traceback__):
        sys.stderr.write(f"  {frame.filename}:{frame.lineno} in {frame.name}\n")


def _say(exc: "ZoppError", as_json: bool, *, run: bool) -> int:
    hint = _hint(exc)
    if as_json:
        import json

        error = {"code": exc.code, "message": exc.message, "place": exc.place, "hint": hint}
        # What a command found before it refused stands beside the error: one answer is one document.
        answer = exc.data.get("answer")
        found = answer if isinstance(answer, dict) else {}
        sys.stdout.write(json.dumps({**found, "error": error}, ensure_ascii=False) + "\n")
    sys.stderr.write(f"zopp: error: {exc}\n")
    if hint:
        sys.stderr.write(f"zopp: hint: {hint}\n")
    own = exc.data.get("exit_code")  # what env(1) says of a command that cannot be run
    return own if isinstance(own, int) else 125 if run else exc.exit_code


def _hint(exc: "ZoppError") -> str:
    """The name that was meant where one does not exist, else what was to be said, else the names that there are, else
    what can be done about such an error at all."""
    from zopp.cli.hints import HINTS
    from zopp.cli.nearest import nearest

    candidates = exc.data.get("candidates")
    if not isinstance(candidates, (list, tuple)) or not candidates:
        import shlex

        hint = exc.hint or HINTS.get(exc.code, "")
        for word, path in (("PLACE", exc.place), ("FOLDER", os.path.dirname(exc.place))):
            hint = hint.replace(word, shlex.quote(path or "."))
        return hint
    names = [str(c) for c in candidates]
    near = nearest(str(exc.data.get("wanted") or exc.message.rsplit(" ", 1)[-1]), names)
    if near is not None:
        return f"did you mean {near}?"
    if exc.hint:
        return exc.hint
    return "there is " + ", ".join(names[:12]) + (" …" if len(names) > 12 else "")


def _dispatch(argv: "list[str]") -> int:
    from zopp._version import __version__
    from zopp.cli.nearest import nearest
    from zopp.cli.parser import GLOBAL_FLAGS, Parser, global_flags, near_flag
    from zopp.cli.verbs import ALIASES, HIDDEN, MODULES, SECRET
    from zopp.errors import UsageError

    words = list(argv)
    before: list[str] = []
    while words and words[0].startswith("-"):
        if words[0] in ("-h", "--help"):
            return overview()
        if words[0] in ("-V", "--version"):
            sys.stdout.write(f"zopp {__version__}\n")
            return 0
        if words[0] not in GLOBAL_FLAGS:
            near = near_flag(words[0].partition("=")[0], ("--help", "--version"))
            raise UsageError(
                "unknown option before the command" + (f"; did you mean {near}?" if near else ""),
                hint="options stand behind the command: zopp COMMAND -e ENV",
            )
        before.append(words.pop(0))
        if before[-1] == "-C":
            if not words:
                raise UsageError("needs a folder", place="-C", hint="zopp -C DIR COMMAND")
            before.append(words.pop(0))
    if not words and not before:
        return overview()
    if not words:
        raise UsageError("no command given", hint="zopp --help")
    verb = words.pop(0)
    if verb == "help":
        words = [word for word in words if not word.startswith("-")]
        if words[:1] in ([], ["help"]):
            return overview()
        verb, words = words[0], [*words[1:], "--help"]
    upstream = False
    if verb == "secret":
        known = ", ".join(SECRET)
        if not words or words[0] not in SECRET:
            near = nearest(words[0], SECRET) if words else None
            raise UsageError(
                f"must be followed by one of {known}", place="secret",
                hint=f"did you mean zopp secret {near}?" if near else "zopp --help",
            )  # fmt: skip
        verb, upstream = SECRET[words.pop(0)], True
    elif verb in ALIASES:
        verb = ALIASES[verb][0]
    module_name = MODULES.get(verb) or HIDDEN.get(verb)
    if module_name is None:
        near = nearest(verb, [*MODULES, *ALIASES, "secret", "help"])
        raise UsageError(f"there is no command {verb}", hint=f"did you mean zopp {near}?" if near else "zopp --help")
    import importlib

    module = importlib.import_module(f"zopp.cli.{module_name}")
    parser = Parser(prog=f"zopp {verb}", description=module.__doc__, epilog=module.EXAMPLES, parents=[global_flags()])
    module.configure(parser)
    if hasattr(module, "arguments"):
        words = module.arguments(words)
    if upstream and verb == "set":
        parser.set_defaults(value_on_argv=True)
    args = parser.parse_args(_hoist([*before, *words]))
    for folder in args.cwd:
        _enter(folder)
    started = module.start(os.environ, os.getcwd(), args) if hasattr(module, "start") else None
    try:
        from zopp.cli.context import Context

        context = Context(
            os.environ, os.getcwd(), as_json=args.as_json, quiet=args.quiet, yes=getattr(args, "yes", False),
            ahead=started,
        )  # fmt: skip
        code: int = module.run(context, args)
        return code
    finally:
        if started is not None:
            started.stop()


def _enter(folder: str) -> None:
    """-C as git, make and env have it: the process moves, so that everything typed and the child of `run` count from
    there. Each -C counts from the one before; an empty one stays."""
    from zopp.errors import UsageError

    try:
        if folder:
            os.chdir(folder)
    except (OSError, ValueError) as exc:
        why = exc.strerror if isinstance(exc, OSError) else "it holds a NUL byte"
        from zopp.cli.inputs import near_path

        raise UsageError(
            f"cannot be entered ({why})", code="folder", place=folder, hint=near_path(os.getcwd(), folder)
        ) from None


def _hoist(words: "list[str]") -> "list[str]":
    """The global flags first, so that they may stand anywhere before `--`, behind an action too."""
    end = words.index("--") if "--" in words else len(words)
    front: list[str] = []
    rest: list[str] = []
    at = 0
    while at < end:
        if words[at] in ("--json", "-q", "--quiet", "--debug"):
            front.append(words[at])
        elif words[at] == "-C" and at + 1 < end:
            front += words[at : at + 2]
            at += 1
        else:
            rest.append(words[at])
        at += 1
    return front + rest + words[end:]


def overview() -> int:
    """`zopp --help`."""
    from zopp.cli.verbs import VERBS

    lines = [
        "usage: zopp COMMAND [OPTION…]",
        "",
        "Secrets in git, readable by exactly those whom a signed policy lets read.",
        "",
    ]
    width = max(len(verb) for verb, _, _ in VERBS)
    lines += [f"  {verb.ljust(width)}  {text}" for verb, _, text in VERBS]
    lines += [
        "",
        "`zopp COMMAND --help` explains a command with examples; `zopp -C DIR COMMAND` runs it as if started in DIR:",
        "paths, and the command of `run`, count from there. KEY is a name or a dotted path;",
        "SCOPE is WORKSPACE, PROJECT or PROJECT/ENV; SUBJECT is a user, an e-mail, a group or a service.",
        "Exit codes: 0 yes, 1 no, 2 usage, 3 could not tell.",
    ]
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
