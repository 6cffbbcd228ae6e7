"""Carrying an import out: where entries go, the plan, the question, one change, and what it leaves to be done."""

import argparse
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from zopp import sopsfile
from zopp.cli.context import Context
from zopp.cli.importing import shown
from zopp.errors import IntegrityError, UsageError
from zopp.exchange import plan as plans, provenance
from zopp.exchange.entry import Key, Plain, Reading
from zopp.exchange.mapfile import MapFile
from zopp.exchange.plan import Plan, Rules, Target
from zopp.exchange.provenance import Origin
from zopp.printable import printable
from zopp.repo import layout, values
from zopp.repo.draft import Draft
from zopp.repo.environment import Environment, open_environment, people_name, scope_of
from zopp.repo.series import Series
from zopp.sopsfile import DEFAULT_SELECTOR, Drop, Put, Selector
from zopp.sopsfile.tree import dotted

_FLAT = ("dotenv", "ini")


@dataclass(slots=True)
class _Drafted:
    """A plan and the environments that it is about, by people's name."""

    plan: Plan
    envs: dict[str, Environment]
    targets: list[Target]


@dataclass(slots=True)
class Importing:
    """One run of `zopp import`, after the source was read."""

    ctx: Context
    args: argparse.Namespace
    reading: Reading
    mapped: MapFile
    _made: dict[str, dict[str, Origin]] = field(default_factory=dict)
    """What this run wrote already, by environment: earlier versions of keys that are its own."""

    def run(self) -> int:
        """Plan, ask, write, and say what remains. The exit code: 1 if something was left out or nobody agreed."""
        args, ctx = self.args, self.ctx
        if self.reading.older and args.message is None and not args.dry_run:
            raise UsageError("earlier versions become earlier commits, which need a message", hint="say -m MSG")
        for warning in self.reading.warnings:
            ctx.warn(f"{self._place}: {warning}")
        with ctx.changing(on_old_base=args.on_old_base) as draft:
            drafted = self._draft(draft, self.reading)
            for part in self.mapped.unused():
                ctx.warn(f"{args.map}: {part} fits nothing")
            for name in drafted.plan.unused:
                ctx.warn(f"--exclude {printable(name)} fits nothing")
            if not self._agreed(drafted):
                return 0 if args.dry_run else 1
            earlier = self._earlier(drafted)
            if not earlier:
                commit = self._write(draft, drafted, args.message)
                return self._conclude(draft, drafted, commit)
            series = Series(draft.ws.checkout)
        try:
            draft, done, commit = self._with_versions(earlier, series)
        except BaseException:
            series.undo()
            raise
        # What was agreed to is what is told: some of it an earlier commit has written. From here on nothing is undone,
        # though nobody may listen any more.
        return self._conclude(draft, _Drafted(drafted.plan, done.envs, done.targets), commit)

    def _with_versions(self, earlier: list[Reading], series: Series) -> tuple[Draft, _Drafted, str | None]:
        """Commit earlier versions, oldest first, then the newest. Each is a change of its own, planned on what is there
        by then."""
        args, ctx = self.args, self.ctx
        for number, reading in enumerate(earlier):
            with ctx.changing(on_old_base=args.on_old_base) as draft:
                step = self._draft(draft, reading)
                self._require(step)
                series.add(draft.changes)
                self._write(draft, step, f"{args.message} (version {number + 1} of {len(earlier) + 1})", learn=False)
        with ctx.changing(on_old_base=args.on_old_base) as draft:
            drafted = self._draft(draft, self.reading)
            self._require(drafted)
            series.add(draft.changes)
            return draft, drafted, self._write(draft, drafted, args.message)

    @property
    def _place(self) -> str:
        return printable(self.reading.place)

    # --- the plan

    def _draft(self, draft: Draft, reading: Reading) -> _Drafted:
        args = self.args
        placed = [self.mapped.place(entry) for entry in reading.entries]
        envs: dict[str, Environment] = {}
        targets: dict[str, Target] = {}
        wanted = dict.fromkeys([place.env for place in placed if not place.out] or [""])
        if args.prune:
            # What is gone from the source may have been all that it had for an environment.
            wanted |= dict.fromkeys([typed for typed in ("", *self.mapped.envs()) if self._wrote(draft, typed)])
        for typed in wanted:
            scope = self._scope(draft, typed)
            people = people_name(scope)
            if people not in envs:
                env = open_environment(draft.ws, scope, history=True)
                values.check_writable(draft, env, on_old_base=args.on_old_base)
                envs[people] = env
                targets[typed] = self._target(draft, env)
            else:
                targets[typed] = next(target for target in targets.values() if target.name == people)
        some = next(iter(targets))
        placed = [replace(place, env=some) if place.out else place for place in placed]
        rules = Rules(
            on_conflict=args.on_conflict or ("overwrite" if reading.one_file else "fail"),
            excluded=tuple(dict.fromkeys(args.exclude)),
            left_out=frozenset([one.address for one in reading.left if self.mapped.leaves_out(one)]),
            prune=args.prune,
            partial=args.partial,
        )
        made = plans.plan(reading, placed, targets, rules)
        unique = list({target.name: target for target in targets.values()}.values())
        for env_name, key in [] if args.no_notes else plans.notes_with_values(made.writes, unique):
            raise IntegrityError(
                f"the comment of {dotted(key)} would lie in the clear, and it holds one of the values",
                code="import.note", place=env_name, hint="say --no-notes",
            )  # fmt: skip
        return _Drafted(made, envs, unique)

    def _scope(self, draft: Draft, typed: str) -> str:
        project, _, name = typed.rpartition("/")
        return scope_of(draft.ws, name or self.args.env, project or self.args.project)

    def _wrote(self, draft: Draft, typed: str) -> bool:
        """Whether anything that this source wrote is recorded in an environment; '' is the default one, if any."""
        try:
            recorded = draft.ws.read(f"{layout.PROVENANCE}/{self._scope(draft, typed)}.json")
        except UsageError as exc:
            if typed or exc.code != "env.missing":
                raise
            return False  # no environment is the default, and none was asked for
        covers = tuple(self.reading.covers)
        return recorded is not None and any(
            origin.kind == self.reading.kind and origin.id.startswith(covers)
            for origin in provenance.parse(recorded).values()
        )

    def _target(self, draft: Draft, env: Environment) -> Target:
        existing, files = _existing(self.ctx, draft, env)
        new_file = values.target_file(draft.ws, env, self.args.into)
        recorded = draft.ws.read(_record(env))
        name = f"{env.project}/{env.name}"
        origins = provenance.parse(recorded) if recorded is not None else {}

        def selector(key: Key) -> Selector:
            file = env.files.get(files.get(key, new_file))
            return file.sops.metadata.selector if file is not None and file.sops is not None else DEFAULT_SELECTOR

        def clear(key: Key) -> bool:
            return not self.args.clear and not selector(key).selects(key)

        def clear_note(key: Key, note: str) -> bool:
            return bool(note) and not selector(key).selects(key[:-1], (note,))

        return Target(
            name=name,
            existing=existing,
            provenance={**origins, **self._made.get(name, {})},
            flat=sopsfile.format_of(new_file) in _FLAT,
            clear=clear,
            clear_note=clear_note,
        )

    def _earlier(self, drafted: _Drafted) -> list[Reading]:
        """Readings of the earlier versions of what is new here. A key that is here already has its history."""
        new = {entry.id for writes in drafted.plan.writes.values() for entry, _ in writes.puts.values()}
        known = {origin.id for target in drafted.targets for origin in target.provenance.values()}
        steps = [tuple([entry for entry in step if entry.id in new - known]) for step in self.reading.older]
        # They are what was there of a few entries; of what is gone they say nothing.
        return [replace(self.reading, entries=step, left=(), older=(), covers=()) for step in steps if step]

    # --- the question

    def _agreed(self, drafted: _Drafted) -> bool:
        """Whether to go on. UsageError where somebody would have to be asked; IntegrityError if it cannot be done."""
        ctx, args, plan = self.ctx, self.args, drafted.plan
        if not plan.applicable:
            self._show(plan)
            self._require(drafted)
        if args.dry_run:
            self._show(plan)
            return False
        records = not args.no_provenance and any(
            dict(plan.writes[target.name].origins) != dict(target.provenance) for target in drafted.targets
        )
        if not plan.changes and not records:
            return True
        if ctx.interactive() and not ctx.yes:
            self._show(plan)
            return ctx.confirm(f"{_intention(plan)}, in {_listed(drafted.envs)}?", otherwise="")
        if not self.reading.one_file and not ctx.yes:
            self._show(plan)
            raise UsageError(
                f"this would {_intention(plan)} in {_listed(drafted.envs)}, and there is no terminal to ask on",
                code="no_terminal", hint="look at the plan, then say --yes", answer=_answer(plan),
            )  # fmt: skip
        return True

    def _show(self, plan: Plan) -> None:
        """The plan, for people; as JSON it is the answer of a dry run, and else part of whatever the answer is."""
        ctx = self.ctx
        if ctx.as_json and self.args.dry_run and plan.applicable:
            ctx.data(_answer(plan))
        elif not ctx.as_json or ctx.interactive():
            for line in shown.plan_lines(plan):
                (ctx.out if self.args.dry_run and not ctx.as_json else ctx.note)(line)

    def _require(self, drafted: _Drafted) -> None:
        if drafted.plan.applicable:
            return
        for left in drafted.plan.unreadable:
            if left.says:
                self.ctx.note(f"{self._place}: {left.says}")
        count = len(drafted.plan.refused)
        raise IntegrityError(
            f"{count} of {len(drafted.plan.lines)} cannot be imported as {'they are' if count > 1 else 'it is'}; "
            "nothing is imported",
            code="import.plan",
            place=self._place,
            hint=_hint(drafted.plan, self.reading),
            answer=_answer(drafted.plan),
        )

    # --- the change

    def _write(self, draft: Draft, drafted: _Drafted, message: str | None, *, learn: bool = True) -> str | None:
        args = self.args
        for name, writes in drafted.plan.writes.items():
            env = drafted.envs[name]
            changes: list[Put | Drop] = [
                Put(key, value, None if args.no_notes else entry.note or None)
                for key, (entry, value) in writes.puts.items()
            ]
            changes += [Drop(key, prune=True) for key in writes.drops]
            if changes:
                values.apply(
                    draft, env, self.ctx.keyring, changes, file=args.into, allow_clear=args.clear,
                    on_old_base=args.on_old_base,
                )  # fmt: skip
            target = next(target for target in drafted.targets if target.name == name)
            if dict(writes.origins) != dict(target.provenance) and not args.no_provenance:
                draft.put(_record(env), provenance.dump(writes.origins))
            self._made[name] = dict(writes.origins)
        return draft.commit(message, check=lambda: self._check(draft, drafted), learn=learn)

    def _check(self, draft: Draft, drafted: _Drafted) -> None:
        """Rule 13: read the files again from disk, decrypt, and compare in memory."""
        for name, writes in drafted.plan.writes.items():
            if not writes.puts and not writes.drops:
                continue
            found, _ = _existing(self.ctx, draft, open_environment(draft.ws, drafted.envs[name].scope))
            wrong = [key for key, (_, value) in writes.puts.items() if key not in found or found[key] != value]
            wrong += [key for key in writes.drops if key in found]
            if wrong:
                raise IntegrityError(
                    f"{', '.join(map(dotted, wrong[:8]))} did not read back as written; nothing is imported",
                    code="import.verify", place=name,
                )  # fmt: skip

    def _conclude(self, draft: Draft, drafted: _Drafted, commit: str | None) -> int:
        ctx, plan = self.ctx, drafted.plan
        remains = shown.remaining(self.reading, plan)
        for key in plan.placeholders:
            ctx.warn(f"{key} looks like a placeholder, not like a secret; it was imported as it is")
        if ctx.as_json:
            ctx.data(
                {
                    **_answer(plan),
                    "environments": list(drafted.envs),
                    "commit": commit,
                    "placeholders": list(plan.placeholders),
                    "remains": [{"todo": one.todo, "place": one.place, "why": one.why} for one in remains],
                }
            )
        for name, env in drafted.envs.items():
            writes = plan.writes[name]
            readers = len(draft.state.readers(env.scope))
            said = [line.status for line in plan.lines if line.env == name]
            counts = [f"{len(writes.puts)} imported"]
            counts += [f"{number} {status}" for status in ("removed", "unchanged") if (number := said.count(status))]
            out = len(said) - len(writes.puts) - len(writes.drops) - said.count("unchanged")
            counts += [f"{out} left out"] * bool(out)
            ctx.note(f"{name}: {', '.join(counts)} ({readers} reader{'s' * (readers != 1)})")
        if plan.changes and remains:
            ctx.note("what remains to be done:")
            for line in shown.remaining_lines(remains):
                ctx.note(line)
            self._offer_removal()
        for refused in plan.refused:
            ctx.warn(f"left out: {printable(refused.source)} ({printable(refused.reason)})")
        return 1 if plan.refused else 0

    def _offer_removal(self) -> None:
        ctx, path = self.ctx, self.reading.plaintext
        if not path or not ctx.interactive() or ctx.yes:
            return
        question = f"remove {path} now? what it held may stay on the disk"
        if ctx.confirm(question, otherwise=""):
            os.unlink(os.path.join(ctx.cwd, path))
            ctx.note(f"removed {path}")


def _answer(plan: Plan) -> dict[str, list[dict[str, str]]]:
    return {"plan": [line.as_json() for line in plan.lines]}


def _intention(plan: Plan) -> str:
    puts = sum([len(writes.puts) for writes in plan.writes.values()])
    drops = plan.changes - puts
    parts = [f"import {puts} key{'s' * (puts != 1)}"] * bool(puts) + [f"remove {drops} key{'s' * (drops != 1)}"] * bool(
        drops
    )
    return " and ".join(parts) or "record where keys come from"


def _listed(envs: Mapping[str, Environment]) -> str:
    return ", ".join(envs)


def _hint(plan: Plan, reading: Reading) -> str:
    """The next thing to type for the first kind of refusal there is."""
    reasons = {line.status for line in plan.refused}
    if reasons == {"conflict"}:
        return "say --on-conflict skip or overwrite, or leave keys out with --exclude"
    if reading.kind == "dotenv" and plan.unreadable:
        return "choose a reading with --dialect, or leave a key out with --exclude"
    return "leave keys out with --exclude, give them other names in a --map file, or say --partial"


def _record(env: Environment) -> str:
    return f"{layout.PROVENANCE}/{env.scope}.json"


def _existing(ctx: Context, draft: Draft, env: Environment) -> tuple[dict[Key, Plain], dict[Key, str]]:
    """The leaves of an environment, a list being one, and which file holds each."""
    found: dict[Key, Plain] = {}
    files: dict[Key, str] = {}

    def walk(path: str, key: Key, node: object) -> None:
        if isinstance(node, sopsfile.Mapping) and (node.items or not key):
            for name, below in node.items:
                if isinstance(name, str):
                    walk(path, (*key, name), below)
            return
        found[key] = sopsfile.to_plain(node)
        files[key] = path

    for opened in values.open_all(draft.ws, env, ctx.keyring, "edit", draft.keys):
        walk(opened.path, (), opened.tree.documents[0])
    return found, files
