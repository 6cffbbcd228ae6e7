"""Settle what both sides of a merge changed differently, key by key. Values are not shown unless --reveal.

Without KEY it lists what is open, and on a terminal asks about each. In a rebase `ours` is the branch that is rebased
on, `theirs` your own commit. What is signed comes later, with: zopp merge --continue
"""

import argparse
import sys
from typing import Any

from zopp import sopsfile
from zopp._fast import sha512
from zopp.cli.context import Context, read_stdin, table
from zopp.cli.parser import epilog
from zopp.errors import NotFound, UsageError, ZoppError
from zopp.exchange.scalars import scalar_text
from zopp.policy.statement import Statement
from zopp.repo import journal, mergerecord, mergework, operation, values
from zopp.repo.environment import people_name
from zopp.repo.mergework import Work
from zopp.repo.merging import EnvPlan, Result, shown
from zopp.sopsfile.merging import WHOLE, Conflict
from zopp.sopsfile.threeway import BASE, OURS, THEIRS

EXAMPLES = epilog(
    "zopp resolve",
    "zopp resolve DATABASE_URL --theirs",
    "zopp resolve db.password --reveal",
    'printf %s "$NEW" | zopp resolve TOKEN --edit -e production',
)

Open = tuple[EnvPlan, str, Conflict]


def configure(parser: argparse.ArgumentParser) -> None:
    """The flags of `zopp resolve`."""
    parser.add_argument(
        "key", nargs="?", metavar="KEY", help="a name or dotted path, or the file where it is in conflict as a whole"
    )
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--ours", dest="choice", action="store_const", const=OURS, help="take this side's")
    how.add_argument("--theirs", dest="choice", action="store_const", const=THEIRS, help="take the other side's")
    how.add_argument("--base", dest="choice", action="store_const", const=BASE, help="take what was there before both")
    how.add_argument("--edit", dest="choice", action="store_const", const="edit", help="a new value: prompt, or stdin")
    parser.add_argument("--reveal", action="store_true", help="show the values of both sides")
    parser.add_argument("-e", "--env", metavar="ENV", help="environment, where a key is in conflict in several")
    parser.add_argument("--on-old-base", action="store_true", help=argparse.SUPPRESS)


def run(ctx: Context, args: argparse.Namespace) -> int:
    """Do it."""
    if args.choice and args.key is None:
        raise UsageError("say which key", hint="zopp resolve lists them")
    checkout = operation.checkout(ctx.cwd, ctx.env)
    typed = _typed_value(ctx, args) if args.choice == "edit" else None
    stages = operation.unmerged(checkout.root)
    op = operation.find(checkout, stages)
    if op is None:
        raise operation.nothing(stages)

    def ask(st: Statement, then: list[str], here: list[str]) -> bool:
        return True  # nothing is signed here; `zopp merge --continue` asks

    with journal.settled(checkout):
        work = mergework.prepare(
            checkout, ctx.env, ctx.cwd, op, stages, ctx.keyring, passphrase=ctx.passphrase, ask=ask,
            on_old_base=args.on_old_base,
        )  # fmt: skip
        found = work.conflicts()
        if args.key is not None:
            found = [_pick(found, args.key, args.env)]
        if args.choice is not None:
            _settle(ctx, work, found[0], args.choice, typed)
            found = work.conflicts()
        elif args.key is None and found and ctx.interactive() and not ctx.as_json:
            ctx.note(", ".join(work.op.names))
            for each in found:
                _ask(ctx, work, each, args.reveal)
            found = work.conflicts()
    return _report(ctx, work, found, args, settled=args.choice is not None)


def _pick(found: list[Open], key: str, env: str | None) -> Open:
    def fits(each: Open) -> bool:
        plan, path, conflict = each
        if env is not None and people_name(plan.scope).partition("/")[2] != env:
            return False
        if conflict.place == WHOLE:
            return key == path
        try:
            wanted = values.parse_key(key)
        except ZoppError:
            return shown(conflict.place) == key
        document, where = conflict.place
        return shown(conflict.place) == key or (not document and tuple(map(str, where)) == tuple(map(str, wanted)))

    fitting = [each for each in found if fits(each)]
    if not fitting:
        open_now = [path if c.place == WHOLE else shown(c.place) for _, path, c in found]
        raise NotFound(f"there is no open conflict {key}", code="resolve.key", candidates=open_now)
    if len(fitting) > 1:
        where = ", ".join(f"-e {people_name(plan.scope).partition('/')[2]}" for plan, _, _ in fitting)
        raise UsageError(
            f"{key} is in conflict in several environments", code="resolve.env", hint=f"say one of: {where}"
        )
    return fitting[0]


def _typed_value(ctx: Context, args: argparse.Namespace) -> str:
    text = ctx.secret(f"value of {args.key}", repeat=True) if ctx.interactive() else read_stdin()
    if "\0" in text:
        raise UsageError("a value cannot hold a NUL byte", code="nul")
    return text


def _settle(ctx: Context, work: Work, which: Open, choice: str, typed: str | None) -> None:
    """Note the choice, make the merge again, and write the file: with markers around what is left, or whole and
    staged."""
    plan, path, conflict = which
    document, where = conflict.place
    made: Any = choice
    if choice == "edit":
        if conflict.place == WHOLE or path not in plan.results:
            raise UsageError("a whole file is taken from ours or from theirs", code="resolve.whole")
        made = mergework.seal_choice(plan.results[path].ours_key, path, where, typed)
    elif choice == BASE and conflict.place == WHOLE:
        raise UsageError("a whole file is taken from ours or from theirs", code="resolve.whole")
    here = mergework.check_replaceable(work, path)
    file = mergework.note(work.record, path)
    file.settled = [each for each in file.settled if (each[0], each[1]) != conflict.place]
    file.settled.append((document, where, made))
    mergework.make(work, ctx.keyring)
    after = next(each for each in work.plans if each.scope == plan.scope)
    result = after.results.get(path)
    new = result.data if result is not None else after.kept[path].sops.data if path in after.kept else None
    if new is not None:
        file.results.append(sha512(new).hex())
    # Noted first: after a crash in between, what lies there is known for zopp's own.
    mergerecord.save(work.sides.ws.checkout, work.record)
    journal.write(work.sides.ws.checkout, {path: (here, new)})
    if result is None or not result.conflicts:
        operation.stage(work.sides.ws.root, [path], ctx.env)


def _ask(ctx: Context, work: Work, which: Open, reveal: bool) -> None:
    plan, path, conflict = which
    name = path if conflict.place == WHOLE else shown(conflict.place)
    for line in _sides(plan, path, conflict, reveal):
        ctx.note(line)
    choices = {"o": OURS, "t": THEIRS} | ({} if conflict.place == WHOLE else {"b": BASE, "e": "edit"})
    words = "[o]urs, [t]heirs" + ("" if conflict.place == WHOLE else ", [b]ase, [e]dit") + ", or leave it open?"
    sys.stderr.write(f"{people_name(plan.scope)} {name}: {words} ")
    sys.stderr.flush()
    choice = choices.get(sys.stdin.readline().strip().lower()[:1])
    if choice is None:
        return
    typed = ctx.secret(f"value of {name}", repeat=True) if choice == "edit" else None
    current = next(each for each in work.conflicts() if each[1:] == which[1:])
    _settle(ctx, work, current, choice, typed)


def _report(ctx: Context, work: Work, found: list[Open], args: argparse.Namespace, *, settled: bool) -> int:
    if ctx.as_json:
        ctx.data(
            {
                "operation": work.op.kind,
                "ours": work.op.ours,
                "theirs": work.op.theirs,
                "open": [
                    {
                        "environment": people_name(plan.scope),
                        "file": path,
                        "key": "" if c.place == WHOLE else shown(c.place),
                        "why": c.why,
                        **_states(plan, path, c),
                        **(_values(plan, path, c) if args.reveal else {}),
                    }
                    for plan, path, c in found
                ],
            }
        )
    elif not settled:
        for row in table(
            (people_name(plan.scope), path if c.place == WHOLE else shown(c.place), *_words(plan, path, c))
            for plan, path, c in found
        ):
            ctx.out(row)
        if args.reveal:
            for plan, path, c in found:
                for line in _sides(plan, path, c, True):
                    ctx.out(line)
    if not found:
        ctx.note("nothing is in conflict any more; go on with: zopp merge --continue")
        return 0
    if settled:
        ctx.note(f"settled; still open: {', '.join(p if c.place == WHOLE else shown(c.place) for _, p, c in found)}")
        return 0
    ctx.note(f"{work.op.names[0]}, {work.op.names[1]}; choose with: zopp resolve KEY --ours|--theirs|--edit")
    return 1


def _states(plan: EnvPlan, path: str, conflict: Conflict) -> dict[str, str]:
    """What each side did, without a value."""
    result = plan.results.get(path)
    if result is None or conflict.place == WHOLE:
        return {"ours": "changed", "theirs": "changed"}
    base, ours, theirs = (_leaf(tree, conflict) for tree in result.versions)
    return {
        side: "removed" if there is _NOTHING else "added" if base is _NOTHING else "changed"
        for side, there in (("ours", ours), ("theirs", theirs))
    }


def _words(plan: EnvPlan, path: str, conflict: Conflict) -> tuple[str, str]:
    if conflict.place == WHOLE:
        return conflict.why, ""
    states = _states(plan, path, conflict)
    return f"ours {states['ours']} it, theirs {states['theirs']} it", path


_NOTHING = object()


def _leaf(tree: sopsfile.Tree | None, conflict: Conflict) -> Any:
    document, path = conflict.place
    if tree is None or document >= len(tree.documents):
        return _NOTHING
    try:
        return sopsfile.lookup(tree.documents[document], path)
    except ZoppError:
        return _NOTHING


def _text(value: Any) -> str | None:
    if value is _NOTHING:
        return None
    if isinstance(value, (sopsfile.Mapping, sopsfile.Sequence)):
        import json

        return json.dumps(values.plain(value), ensure_ascii=False)
    return scalar_text(value)


def _values(plan: EnvPlan, path: str, conflict: Conflict) -> dict[str, str | None]:
    result: Result | None = plan.results.get(path)
    if result is None or conflict.place == WHOLE:
        return {}
    texts = [_text(_leaf(tree, conflict)) for tree in result.versions]
    return dict(zip(("base_value", "ours_value", "theirs_value"), texts, strict=True))


def _sides(plan: EnvPlan, path: str, conflict: Conflict, reveal: bool) -> list[str]:
    """What each side has: for people, values only if they asked."""
    where = f"{people_name(plan.scope)} {path if conflict.place == WHOLE else shown(conflict.place)}"
    if not reveal:
        return [f"{where}: {' '.join(_words(plan, path, conflict)).strip()}"]
    out = []
    for side, text in _values(plan, path, conflict).items():
        out.append(f"{where} {side.removesuffix('_value')}: {'(not there)' if text is None else text}")
    return out
