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

    words = iter(argv)
    # What follows -C is no verb, and `run` has exit codes of its own.
    verb = next((word for word in words if not (word == "-C" and next(words, "")) and not word.startswith("-")), "")
    as_json, debug = _flagged(argv, "--json"), _flagged(argv, "--debug")
    try:
        return _dispatch(argv)
    except ZoppError as exc:
        if debug:
            _traceback(exc)
        return _say(exc, as_json, run=verb == "run")
    except BrokenPipeError:
        raise
    except Exception as exc:
        # The text of a foreign exception may hold a value; its type and place do not.
        sys.stderr.write(f"zopp: error: unexpected {type(exc).__name__}; this is a fault of zopp\n")
        if debug:
            _traceback(exc)
        else:
            sys.stderr.write("zopp: hint: see where with --debug, which leaves values out\n")
        return 125 if verb == "run" else 3


def _flagged(argv: "list[str]", flag: str) -> bool:
    end = argv.index("--") if "--" in argv else len(argv)
    return flag in argv[:end]


def _traceback(exc: BaseException) -> None:
    import traceback

    for frame in traceback.extract_tb(exc.__traceback__):
        sys.stderr.write(f"  {frame.filename}:{frame.lineno} in {frame.name}\n")


def _say(exc: "ZoppError", as_json: bool, *, run: bool) -> int:
    hint = exc.hint or _suggest(exc)
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
    return 125 if run and exc.exit_code != 0 else exc.exit_code


def _suggest(exc: "ZoppError") -> str:
    """Near names for something that does not exist, else those there are."""
    candidates = exc.data.get("candidates")
    if not isinstance(candidates, (list, tuple)) or not candidates:
        return ""
    import difflib

    wanted = exc.message.rsplit(" ", 1)[-1]
    near = difflib.get_close_matches(wanted, [str(c) for c in candidates], n=1, cutoff=0.6)
    if near:
        return f"did you mean {near[0]}?"
    return "there is " + ", ".join(str(c) for c in candidates[:12]) + (" …" if len(candidates) > 12 else "")


def _dispatch(argv: "list[str]") -> int:
    from zopp._version import __version__
    from zopp.cli.parser import Parser, global_flags
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
        before.append(words.pop(0))
        if before[-1] == "-C" and words:
            before.append(words.pop(0))
    if not words:
        return overview()
    verb = words.pop(0)
    if verb == "help":
        if not words:
            return overview()
        verb, words = words[0], ["--help"]
    upstream = False
    if verb == "secret":
        if not words or words[0] not in SECRET:
            raise UsageError("secret: must be one of " + ", ".join(SECRET), hint="zopp --help")
        verb, upstream = SECRET[words.pop(0)], True
    elif verb in ALIASES:
        verb = ALIASES[verb][0]
    module_name = MODULES.get(verb) or HIDDEN.get(verb)
    if module_name is None:
        raise UsageError(f"there is no command {verb}", candidates=list(MODULES), hint=_suggest_verb(verb))
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
        raise UsageError(f"cannot be entered ({why})", code="folder", place=folder) from None


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


def _suggest_verb(verb: str) -> str:
    import difflib

    from zopp.cli.verbs import ALIASES, MODULES

    near = difflib.get_close_matches(verb, [*MODULES, *ALIASES], n=1)
    return f"did you mean zopp {near[0]}?" if near else "zopp --help"


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
