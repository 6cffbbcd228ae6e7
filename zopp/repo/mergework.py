"""The work of `zopp merge --continue`, `zopp resolve` and the merge hooks: make the merge, see that nobody else's hand
is in it, write it.

What is signed comes from the two commits alone (`merging.plan`). The work tree and the index are only looked at, so
that nothing of a person's own is written over: a file there has to be one of the two sides, git's marked version of
them, or what zopp made of them. Anything else stops with words (A19).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from zopp import _fast
from zopp._fast import sha512
from zopp.errors import IntegrityError, Unknown
from zopp.policy.statement import Statement
from zopp.repo import blocks, exposure, files, git, layout, mergerecord, merging, operation, rebase, revision
from zopp.repo.clock import now
from zopp.repo.draft import Draft
from zopp.repo.environment import open_environment, people_name
from zopp.repo.layout import Checkout
from zopp.repo.mergerecord import Record
from zopp.repo.merging import EnvPlan, Sides, Trio
from zopp.repo.operation import Operation, Stages
from zopp.repo.rebase import Rebase
from zopp.repo.signer import signer
from zopp.repo.unlock import Keyring
from zopp.repo.workspace import open_workspace
from zopp.sopsfile import cipher
from zopp.sopsfile.merging import WHOLE, Conflict
from zopp.sopsfile.threeway import Choice, Given, Place

Ask = Callable[[Statement, list[str], list[str]], bool]
MINE = (layout.POLICY, layout.RECEIPT, blocks.SOPS_CONFIG, blocks.ATTRIBUTES)
_SEALED = "zopp-merge-choice"


@dataclass(slots=True)
class Work:
    """A merge that was made and not written. `restated`: statements that are signed again; `warnings`: environments
    that somebody else has to bring to the policy."""

    op: Operation
    sides: Sides
    draft: Draft
    record: Record
    stages: Stages
    plans: list[EnvPlan]
    restated: Rebase | None = None
    warnings: list[str] = field(default_factory=list)
    keys: dict[str, merging.Keys] = field(default_factory=dict, repr=False)

    def conflicts(self) -> list[tuple[EnvPlan, str, Conflict]]:
        """Everything that is not settled: environment, path, conflict."""
        return [(plan, path, conflict) for plan in self.plans for path, conflict in plan.conflicts()]


def prepare(
    checkout: Checkout,
    env: Mapping[str, str],
    start: str,
    op: Operation,
    stages: Stages,
    keyring: Keyring,
    *,
    passphrase: Callable[[str], str] | None = None,
    ask: Ask | None = None,
    on_old_base: bool = False,
) -> Work:
    """Verify both sides and make the merge; the caller holds the lock. `ask` decides about statements of ours that
    would mean something else now (A11); None: a policy that both changed is refused."""
    for path in stages:
        if path.rpartition("/")[2] == layout.SETTINGS:
            raise IntegrityError(
                "is in conflict, and says which files there are",
                code="merge.settings",
                place=path,
                hint=f"settle it, git add {path}, then: zopp merge --continue",
            )
    sides = merging.settle(
        checkout, env, start, ours=op.ours, theirs=op.theirs, base=op.base, names=op.names,
        ours_stands=op.kind not in ("merge", "squash"),
    )  # fmt: skip
    merging.require_trust(sides, on_old_base=on_old_base)
    draft = Draft(sides.ws, signer(sides.ws, passphrase), now())
    record = mergerecord.about(checkout, op.ours, op.theirs, op.base)
    record.tip = operation.last(checkout, op)
    work = Work(op, sides, draft, record, stages, [])
    if sides.restate is not None:
        work.restated = _restate(sides, draft, ask)
    _check_stages(sides, stages, record)
    _follow_renames(work)
    make(work, keyring)
    return work


def left_behind(checkout: Checkout) -> tuple[str, str] | None:
    """HEAD and the last of the commits that it was made from, where a rebase or cherry-pick has ended on another policy
    log than theirs."""
    root, record = checkout.root, mergerecord.load(checkout)
    head = git.resolve(root, "HEAD")
    if record is None or record.tip is None or head is None or not git.is_ancestor(root, record.ours, head):
        return None
    here, there = (git.show(root, commit, layout.POLICY) for commit in (head, record.tip))
    return None if here is None or there is None or here.startswith(there) else (head, record.tip)


def follow(
    checkout: Checkout,
    env: Mapping[str, str],
    start: str,
    keyring: Keyring,
    *,
    passphrase: Callable[[str], str] | None = None,
    on_old_base: bool = False,
) -> Work | None:
    """What a rebase or cherry-pick that is over left behind: once our statements were signed again, git may have taken
    later commits as they are, with manifests signed under statements that stand nowhere now. The caller holds the lock.
    None where there is nothing of the kind."""
    found = left_behind(checkout)
    if found is None:
        return None
    head, tip = found
    names = "HEAD", f"the commits as they were ({tip[:9]})"
    sides = merging.settle(checkout, env, start, ours=head, theirs=tip, base=tip, names=names, ours_stands=True)
    merging.require_trust(sides, on_old_base=on_old_base)
    # What git took as it is has to be in order by the log of the commits that it comes from; what was signed on the way
    # is so by the log that stands, and is left alone.
    sides.ours.state = sides.theirs.state
    op, record = Operation("rebase", head, tip, tip), mergerecord.Record(head, tip, tip, tip=tip)
    work = Work(op, sides, Draft(sides.ws, signer(sides.ws, passphrase), now()), record, {}, [])
    make(work, keyring)
    return work if work.plans or work.warnings else None


def make(work: Work, keyring: Keyring) -> None:
    """Make the merge with what is settled by now; data keys that were opened are not asked for again."""
    record, draft = work.record, work.draft
    whole: dict[str, str] = {}
    for path, file in record.files.items():
        for _, where, choice in file.settled:
            if where == WHOLE[1] and choice in ("ours", "theirs"):
                whole[path] = choice
    work.plans, work.warnings = merging.plan(
        work.sides, draft.state, keyring, draft.now, writer=draft.signer.principal,
        settled=lambda trio, key: settled(record, trio, key), whole=whole, renamed=_renamed(record), opened=work.keys,
    )  # fmt: skip


def _restate(sides: Sides, draft: Draft, ask: Ask | None) -> Rebase:
    """Sign our own statements of the side whose policy does not stand again. IntegrityError, naming them, if others'
    are among them: only they can."""
    assert sides.restate is not None
    if ask is None:
        raise policy_parted()
    done = rebase.restate(draft, sides.restate, ask, skip=sides.after)
    if done.others:
        raise IntegrityError(
            "both sides changed the policy, and what stands on the other side only is not yours to sign: "
            + "; ".join(done.others),
            code="merge.others",
            place=layout.POLICY,
            hint="whoever is named merges on their own clone, or an admin makes the change anew after the merge",
        )
    return done


def policy_parted() -> IntegrityError:
    """Why a driver or a hook stops where both sides signed statements."""
    return IntegrityError(
        "both sides changed the policy; statements have to be signed again before files can be merged",
        code="merge.policy",
        place=layout.POLICY,
        hint="zopp merge --continue",
    )


def _check_stages(sides: Sides, stages: Stages, record: Record) -> None:
    """What git merges has to be what the two commits hold: else (a stash on top of staged changes, say) the merge of
    the commits would leave something out."""
    listing = {
        path: each
        for side in (sides.ours, sides.theirs)
        for scope in sides.scopes()
        if (found := side.signed(scope)) is not None
        for path, each in found.manifest.files.items()
    }
    wanted = {path: found[number] for path, found in stages.items() for number in (2,) if number in found}
    for path, blob in wanted.items():
        if path not in listing or path in record.files:
            continue
        ours = sides.ours.read([path]).get(path)
        staged = next((data for _, data in git.blobs(sides.ws.root, [blob])), None)
        if ours is not None and staged != ours:
            raise IntegrityError(
                "was staged with changes that are not committed, so it is not ours to merge",
                code="merge.stages",
                place=path,
                hint="undo this (git merge --abort, or git reset --merge), commit what is staged, and begin again",
            )


def _follow_renames(work: Work) -> None:
    """Note where git followed a rename in its index: a stage that its side lists under another name."""
    for path, stages in work.stages.items():
        if path in work.record.files or path.startswith(".zopp/") or path in MINE:
            continue
        found = dict(git.blobs(work.sides.ws.root, stages.values()))
        paths: list[str | None] = []
        for number, side in ((1, work.sides.base), (2, work.sides.ours), (3, work.sides.theirs)):
            data = found.get(stages.get(number, ""))
            there = None if side is None or data is None else revision.lists(side, work.sides.scopes(), data, path)
            paths.append(None if there is None else there[1])
        if any(each not in (None, path) for each in paths):
            work.record.files[path] = mergerecord.File((paths[0], paths[1], paths[2]))


def _renamed(record: Record) -> merging.Renamed:
    return {
        path: file.paths for path, file in record.files.items() if any(each not in (None, path) for each in file.paths)
    }


# --- what was settled


def settled(record: Record, trio: Trio, key: bytes) -> Mapping[Place, Choice]:
    """The choices for one file; typed values are opened with our side's data key, in memory."""
    file = record.files.get(trio.path)
    found: dict[Place, Choice] = {}
    for document, path, choice in file.settled if file is not None else ():
        if isinstance(choice, dict):
            kind, plain = cipher.open_text(_fast.aesgcm(key), str(choice["enc"]), _aad(trio.path, path))
            found[document, path] = Given(cipher.value_of(kind, plain) if plain else "")
        else:
            found[document, path] = str(choice)
    return found


def seal_choice(key: bytes, file: str, path: Sequence[str | int], value: Any) -> dict[str, str]:
    """A typed value as it lies in the record: ciphertext under our side's data key, bound to its place."""
    tag, plain = cipher.canonical(value)
    return {"enc": cipher.seal(_fast.aesgcm(key), tag, plain, _aad(file, path).decode())}


def _aad(file: str, path: Sequence[str | int]) -> bytes:
    return "\0".join([_SEALED, file, *map(str, path)]).encode()


# --- nobody else's hand


def check_untouched(work: Work, *, journaled: bool = False) -> None:
    """IntegrityError for a file of the plan that holds something of a person's own. `journaled` (a hook): a merged file
    has to be what the driver wrote, and that has to be the merge; nothing else is signed unseen."""
    ws = work.draft.ws
    for plan in work.plans:
        paths = [*plan.results, *plan.kept, *plan.removed]
        versions = [side.read(paths) for side in work.sides.all]
        for path in paths:
            here = ws.read(path)
            result = plan.results.get(path)
            if result is not None and here is not None and _made_here(work.record, path, here):
                same = merging.same_as(result, here)
                if same is False:
                    raise IntegrityError(
                        "is noted as merged by zopp and is not the merge of the two sides",
                        code="merge.forged",
                        place=path,
                        hint=_redo(path),
                    )
                if same:
                    result.data = here
                continue
            if journaled and result is not None and not plan.mended:
                raise IntegrityError(
                    "was merged without zopp's merge driver, so nothing is signed unseen",
                    code="merge.unjournaled",
                    place=path,
                    hint="zopp merge --continue",
                )
            wanted = result.data if result is not None else plan.kept[path].sops.data if path in plan.kept else None
            if here == wanted or any(here == version.get(path) for version in versions):
                continue
            if path in work.stages and here is not None and is_marked(here):
                continue
            raise _foreign(path)
    here = ws.read(layout.POLICY)
    logs = [side.log for side in work.sides.all]
    stopped = layout.POLICY in work.stages and here is not None and is_marked(here)
    if here not in logs and not stopped and not (here is not None and _made_here(work.record, layout.POLICY, here)):
        raise _foreign(layout.POLICY)


def _made_here(record: Record, path: str, data: bytes) -> bool:
    file = record.files.get(path)
    return file is not None and sha512(data).hex() in file.results


def _foreign(path: str) -> IntegrityError:
    return IntegrityError(
        "was changed since git began to merge; nothing is signed or written over",
        code="merge.foreign",
        place=path,
        hint=_redo(path),
    )


def _redo(path: str) -> str:
    return f"keep what you need of it, put it back with: git checkout HEAD -- {path}, then: zopp merge --continue"


def is_marked(data: bytes) -> bool:
    """Whether a file holds conflict markers."""
    lines = data.split(b"\n")
    return any(line.startswith(b"<<<<<<<") for line in lines) and any(line.startswith(b">>>>>>>") for line in lines)


def check_replaceable(work: Work, path: str) -> bytes | None:
    """What lies at a conflicting path now; IntegrityError if it is a person's own."""
    here = work.draft.ws.read(path)
    versions = [side.read([path]).get(path) for side in work.sides.all]
    known = here in versions or (here is not None and (_made_here(work.record, path, here) or is_marked(here)))
    if not known and here is not None:
        raise _foreign(path)
    return here


# --- writing


def write(work: Work) -> list[str]:
    """Draft and write the merge through the journal; the paths that belong to it. Nothing is open."""
    draft, ws = work.draft, work.draft.ws
    _texts(work)
    merging.carry_out(draft, work.plans)
    draft.put(layout.POLICY, ws.log)
    for plan in work.plans:
        for path, result in plan.results.items():
            note(work.record, path).results.append(sha512(result.data).hex())
    draft.refresh_blocks()
    if work.restated is not None:
        note(work.record, layout.POLICY).results.append(
            sha512(ws.log + b"".join(line + b"\n" for line in draft.lines)).hex()
        )
    # What is about to be written is known before it is written: a crash in between leaves nothing that looks foreign.
    mergerecord.save(ws.checkout, work.record)
    if work.restated is not None and work.sides.restate is not None:
        rebase.forget_own(ws, work.sides.restate, work.restated)
    draft.commit(None)
    paths = set(draft.changes)
    paths |= {path for path in work.stages if path in MINE or path.startswith(".zopp/")}
    return sorted(paths)


def note(record: Record, path: str) -> mergerecord.File:
    """The record's entry of a file, made if there is none."""
    return record.files.setdefault(path, mergerecord.File((path, path, path)))


def _texts(work: Work) -> None:
    """The files in which zopp owns a block, and lists of exposed values, where git could not merge them: the user's
    part by lines, zopp's anew. IntegrityError if a person's own lines are in conflict."""
    root, draft = work.sides.ws.root, work.draft
    for path, stages in work.stages.items():
        lists = path.startswith(layout.EXPOSURE + "/")
        if path not in (blocks.SOPS_CONFIG, blocks.ATTRIBUTES) and not lists:
            continue
        found = dict(git.blobs(root, stages.values()))
        base, ours, theirs = (found.get(stages.get(number, ""), b"") for number in (1, 2, 3))
        if lists:
            draft.put(path, exposure.merge(base, ours, theirs, path))
            continue
        merged, whole = merge_text(root, *map(blocks.without_block, (base, ours, theirs)))
        if not whole:
            here = draft.ws.read(path)
            if here == ours:
                # A driver that stopped left ours there, in which nobody would see that theirs is missing.
                files.replace(root, path, merged)
            if here is None or here == ours or is_marked(here):
                raise IntegrityError(
                    "has lines of your own that both sides changed",
                    code="merge.text",
                    place=path,
                    hint=f"settle them in your editor, git add {path}, then: zopp merge --continue",
                )
            continue
        draft.put(path, merged)


def merge_text(root: str, base: bytes, ours: bytes, theirs: bytes) -> tuple[bytes, bool]:
    """git's own merge of three texts, none of them secret; and whether it is whole: else the parts in conflict stand in
    it between markers."""
    import tempfile

    with tempfile.TemporaryDirectory(prefix="zopp-") as folder:
        names = []
        for name, data in (("ours", ours), ("base", base), ("theirs", theirs)):
            names.append(f"{folder}/{name}")
            with open(names[-1], "wb") as file:
                file.write(data)
        done = git.run(root, "merge-file", "-p", *names, check=False)
    if not 0 <= done.returncode <= 127:
        raise Unknown("git merge-file failed", code="git.failed")
    return done.stdout, done.returncode == 0


def stage(work: Work, paths: Sequence[str], environ: Mapping[str, str]) -> None:
    """Tell git that these are done."""
    operation.stage(work.sides.ws.root, paths, environ)
    if work.op.kind == "stash":
        operation.unstage(work.sides.ws.root, paths, environ)


def check_written(work: Work, start: str, env: Mapping[str, str]) -> None:
    """Before git commits: what was written verifies, by the same checks as any other change."""
    ws = open_workspace(start, env, recover=False)
    for plan in work.plans:
        bad = [f for f in open_environment(ws, plan.scope, history=True).findings if f.severity == "error"]
        if bad:
            raise IntegrityError(
                f"{people_name(plan.scope)} does not verify after the merge: {bad[0].message}",
                code=bad[0].code,
                place=bad[0].place,
                hint="see every finding with: zopp verify; give the merge up with: git merge --abort",
            )


def lines(work: Work) -> list[str]:
    """What is signed, for people: names only."""
    out = []
    for plan in work.plans:
        where = people_name(plan.scope)
        found = {path: result.changed for path, result in plan.results.items()} | plan.changed
        for path, changed in sorted(found.items()):
            names = ", ".join(changed) if len(changed) <= 12 else f"{len(changed)} keys"
            out.append(f"{where}: {path}: {names or 'nothing of ours changes'}")
        for path in plan.removed:
            out.append(f"{where}: {path}: removed")
        for path in plan.fresh:
            out.append(f"{where}: {path}: new data key")
        if plan.mended:
            out.append(f"{where}: brought to the policy that stands")
        for path, result in plan.results.items():
            for place in result.both:
                out.append(
                    f"{where}: {path}: both sides changed the comment above {merging.shown(place)}; both are kept"
                )
        out.append(f"{where}: signed by {work.draft.signer.principal}")
    return out
