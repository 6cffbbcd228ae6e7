"""The keyless review: what differs, and what of it blocks (review-and-ci.md §3, §4 and §6)."""

import re
import shlex
from collections.abc import Iterable
from dataclasses import replace
from typing import Protocol

from zopp.errors import Unknown, ZoppError
from zopp.exchange import names as exchange_names
from zopp.policy import decisions, log
from zopp.policy.findings import Finding
from zopp.policy.manifest import Manifest, parse as parse_manifest
from zopp.policy.roles import Role
from zopp.policy.state import State
from zopp.policy.statement import Statement
from zopp.printable import printable
from zopp.repo import blocks, brokered, git, layout
from zopp.repo.environment import Environment, people_name
from zopp.repo.trees import CommitTree
from zopp.repo.verify import Report, judge, other_anchors, trust
from zopp.review import schema
from zopp.review.model import (
    BLOCKER,
    NOTE,
    UNKNOWN,
    WARNING,
    EnvironmentReview,
    FileReview,
    Recipient,
    Review,
    Severity,
)
from zopp.review.sides import Sides
from zopp.scan import branch
from zopp.sopsfile import format_of
from zopp.sopsfile.comparing import ADDED, Outline, Place, compare, name as place_name, selector_words

_SEVERITIES: dict[str, Severity] = {"error": BLOCKER, "unknown": UNKNOWN, "warn": WARNING, "note": NOTE}

WORKFLOWS = re.compile(
    r"\.github/(workflows|actions)/.+|(.*/)?\.gitlab-ci[^/]*\.ya?ml|(.*/)?action\.ya?ml|\.gitlab/ci/.+|Jenkinsfile"
)
"""Files that say what CI runs: whoever changes one can make any check green."""

_OWNED = "Whether an owner agreed only the forge knows; CODEOWNERS makes it a required review"

_MAX_FAULTS = 500
"""Of plaintext: a branch may hold any number, and each is compared with all that was said before."""

_VALUE = re.compile(r"(?=[^\s]*[0-9])(?=[^\s]*[A-Za-z])[A-Za-z0-9+/=_-]{24,}\Z")
_WORDS = re.compile(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)*\Z|[a-z][a-z0-9]*([-_][a-z0-9]+)*\Z|[A-Za-z]+[0-9]{0,4}\Z")


def review(sides: Sides, *, strict_schema: bool = False) -> Review:
    """The judged range, remarks sorted. `strict_schema`: a key that no example or schema file knows blocks."""
    found = sides.review
    report = Report()
    trust(report, sides.base, require_latest=False)
    _take(found, report.findings, "")
    environments = _verified(sides)
    for scope in sorted({*sides.base.state.envs, *sides.head.state.envs}):
        _environment(sides, environments.get(scope), scope)
    _missing_elsewhere(sides)
    _not_in_schema(sides, strict=strict_schema)
    _statements(sides)
    _plaintext(sides)
    _other_files(sides)
    if found.behind:
        found.say(
            NOTE, "behind", f"the base has {found.behind} more commit{'s' * (found.behind != 1)}; what a merge makes "
            "of both is judged only there", fix="merge or rebase the base first, or review the merge queue's commit",
        )  # fmt: skip
    found.sort()
    return found


class Say(Protocol):
    """Whoever takes remarks about the file at hand."""

    def __call__(self, severity: Severity, code: str, message: str, fix: str = "") -> None:
        """One more."""


# --- what `verify` says


def _verified(sides: Sides) -> dict[str, Environment]:
    """Everything that `verify` finds in the head; what it finds in the base as well is marked."""
    report = Report()
    projects = other_anchors(report, sides.head.tree, sides.base.settings, sides.place)
    sides.head.folders = {project: place.rpartition("/")[0] for project, place in projects.items()}
    opened = judge(report, sides.head)
    before: set[tuple[str, str, str]] = set()
    if any(finding.severity in ("error", "warn") for finding in report.findings):
        base = Report()
        known = other_anchors(base, sides.base.tree, sides.base.settings, sides.place)
        sides.base.folders = {project: place.rpartition("/")[0] for project, place in known.items()}
        judge(base, sides.base)
        before = {(f.code, f.place, f.message) for f in base.findings}
    owners = {path: env for env in opened for path in (*env.files, layout.manifest_path(env.scope))}
    left = {env.scope for env in opened if _is_left(sides, env)}
    block_holds = _own_block_holds(sides)
    for finding in report.findings:
        owner = owners.get(finding.place)
        if (owner is not None and owner.scope in left) or (block_holds and finding.place == blocks.SOPS_CONFIG):
            continue
        name = "" if owner is None else people_name(owner.scope)
        _take(sides.review, [finding], name, old=(finding.code, finding.place, finding.message) in before)
    return {env.scope: env for env in opened}


def _is_left(sides: Sides, env: Environment) -> bool:
    """Whether the branch leaves an environment as it was where it forked, and the base does not: then a merge takes the
    base's, and what newer policy says of the older files is no fault of the branch."""
    paths = [layout.manifest_path(env.scope), layout.manifest_path(env.scope) + ".sig", *env.files]
    at_fork, head, base = (
        [tree.entry(path) for path in paths] for tree in (sides.fork, sides.head_tree, sides.base_tree)
    )
    return at_fork == head != base


def _own_block_holds(sides: Sides) -> bool:
    """Whether zopp's block in the head's `.sops.yaml` is the one that the head's own, older policy wants."""
    try:
        data = sides.head_tree.read(layout.POLICY)
        if data is None or data == sides.head.log or not sides.head.log.startswith(data):
            return False
        report = Report()
        judge(report, replace(sides.head, state=log.fold(data, genesis=sides.head.settings.genesis), log=data))
    except ZoppError:
        return False
    return not any(finding.place == blocks.SOPS_CONFIG for finding in report.findings)


def _take(review: Review, findings: Iterable[Finding], environment: str, *, old: bool = False) -> None:
    for finding in findings:
        severity = _SEVERITIES[finding.severity]
        fix = ""
        if finding.code in ("stale", "not_rotated", "group2_stale", "kind"):
            fix = f"zopp rekey {environment}" if environment else "zopp rekey --all"
        elif finding.code == "file.changed" and environment:
            fix = f"a writer looks and signs: zopp sign -e {environment.partition('/')[2]}"
        review.say(severity, finding.code, finding.message, finding.place, environment=environment, fix=fix, old=old)


# --- one environment


def _manifest(tree: CommitTree, scope: str) -> Manifest | None:
    """As it stands, whoever signed it: `verify` judges that."""
    try:
        data = tree.read(layout.manifest_path(scope))
        return None if data is None else parse_manifest(data)
    except ZoppError:
        return None


def _outline(tree: CommitTree, path: str) -> Outline | None:
    """None for what is not there or no sops file: `verify` says so of a listed one."""
    try:
        data = tree.read(path)
        return None if data is None else Outline.read(data, format_of(path))
    except ZoppError:
        return None


def _environment(sides: Sides, opened: Environment | None, scope: str) -> None:
    head_tree = sides.head_tree
    before, after = _manifest(sides.fork, scope), _manifest(head_tree, scope)
    paths = sorted({*(before.files if before else ()), *(after.files if after else ())})
    changed = [path for path in paths if sides.fork.blob(path) != head_tree.blob(path)]
    same_manifest = (before.raw if before else None) == (after.raw if after else None)
    if not changed and same_manifest:
        return
    found = EnvironmentReview(scope, people_name(scope))
    found.generations = before.generation if before else None, after.generation if after else None
    found.signer = after.signer if after else ""
    found.holds = opened is not None and not any(f.severity == "error" for f in opened.findings)
    for path in changed:
        old, new = _outline(sides.fork, path), _outline(head_tree, path)
        found.files.append(FileReview(path, compare(old, new), (old is not None, new is not None)))
    sides.review.environments.append(found)
    _recipients(sides, found)
    kind_changed = _kind(sides.base.state, scope) != _kind(sides.head.state, scope)
    for each in found.files:
        _file(sides.review, found, each, kind_changed=kind_changed)


def _kind(state: State, scope: str) -> str:
    env = state.all_envs.get(scope)
    return "" if env is None else env.kind


def _recipients(sides: Sides, found: EnvironmentReview) -> None:
    state = sides.head.state if found.scope in sides.head.state.all_envs else sides.base.state
    known = brokered.describe(state, found.scope)
    compared = [each for each in found.files if all(each.there)]
    gained = sorted({who for each in compared for who in each.comparison.recipients.added})
    lost = sorted({who for each in compared for who in each.comparison.recipients.removed})
    if not compared:
        gained = sorted({who for each in found.files for who in each.comparison.recipients.added})
        lost = sorted({who for each in found.files for who in each.comparison.recipients.removed})
    why = _why(sides, found.scope)
    found.added = [Recipient(known.get(who, _short(who)), why.get(known.get(who, ""), "")) for who in gained]
    found.removed = [Recipient(known.get(who, _short(who)), why.get(known.get(who, ""), "")) for who in lost]
    for who in gained:
        if who not in known:
            sides.review.say(
                BLOCKER, "recipient.unknown", f"{_short(who)} can open it from now on, and policy knows nobody with "
                "this key", environment=found.name, fix=f"git checkout the files, or: zopp rekey {found.name}",
            )  # fmt: skip
    keys = {
        "same" if each.comparison.same_data_key else "new"
        for each in compared
        if each.comparison.same_data_key or each.comparison.full_rewrap
    }
    found.data_key = "mixed" if len(keys) > 1 else next(iter(keys), "none")


def _short(recipient: str) -> str:
    return recipient if len(recipient) <= 20 else f"{recipient[:12]}…{recipient[-6:]}"


def _why(sides: Sides, scope: str) -> dict[str, str]:
    """Principal → the statement of this range by which they got or lost read, with who signed it."""
    if not sides.review.statements:
        return {}
    state, out = sides.base.state, {}
    lines = log.split(sides.head.log)[sides.base.state.seq + 1 :]
    for each, line in zip(sides.review.statements, lines, strict=True):
        after = log.extend(state, [line])
        for change in decisions.effect(state, after):
            if change.scope.key == scope and (change.was >= Role.READ) != (change.now >= Role.READ):
                verb = "granted" if change.now >= Role.READ else "taken away"
                out[change.principal] = f"{verb} here by {each.by}, statement {each.seq}"
        state = after
    return out


def _file(review: Review, env: EnvironmentReview, each: FileReview, *, kind_changed: bool) -> None:
    found, path = each.comparison, each.path
    undo = f"git checkout {review.fork[:12]} -- {path}"

    def say(severity: Severity, code: str, message: str, fix: str = "") -> None:
        review.say(severity, code, message, path, environment=env.name, fix=fix)

    if all(each.there):
        if found.recipients.removed and found.same_data_key:
            count = len(found.recipients.removed)
            who = ", ".join(each.name for each in env.removed) or f"{count} recipients"
            say(
                BLOCKER, "not_rotated.removed", f"{who} {'was' if count == 1 else 'were'} removed but the data key is "
                "the same", f"zopp rekey {env.name}",
            )  # fmt: skip
        if found.selector is not None:
            was, now = (selector_words(side) if side else "none" for side in found.selector)
            say(BLOCKER, "selector.changed", f"what is encrypted is chosen by another rule: {was} → {now}", undo)
        if found.shape is not None and not kind_changed:
            was, now = (side.words() if side else "none" for side in found.shape)
            say(BLOCKER, "groups.changed", f"its key groups changed: {was} → {now}", undo)
        if found.mac == (True, False):
            say(BLOCKER, "mac.missing", "has no MAC any more: sops would refuse it, or not notice changes", undo)
        if found.full_rewrap:
            say(WARNING, "full_rewrap", "every value is under new ciphertext: which of them changed only a key tells")
    if found.foreign:
        say(BLOCKER, "recipient.foreign", f"recipients of other kinds changed: {', '.join(found.foreign)}")
    for place in found.repeated:
        say(BLOCKER, "key.repeated", f"{place_name(place)} stands in it twice")
    bared = [
        change.name for change in found.changes if change.was and change.now and change.now.clear > change.was.clear
    ]
    clear = [change.name for change in found.changes if change.now and change.now.clear and change.name not in bared]
    if bared:
        say(BLOCKER, "value.bared", f"encrypted before and now in the clear: {_few(bared)}", "change it at its source")
    if clear:
        say(WARNING, "value.clear", f"in the clear: {_few(clear)}")
    if other := [change.name for change in found.changes if change.other_type]:
        say(NOTE, "value.type", f"of another type than before: {_few(other)}")
    for change in found.of(ADDED):
        _new_name(say, change.name, change.place[1][-1])


def _few(names: list[str], most: int = 10) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _new_name(say: Say, name: str, last: str | int) -> None:
    if exchange_names.is_code(str(last)):
        say(
            WARNING, "name.code", f"{name} is a variable that makes programs run code; zopp run and export leave it out"
        )
    elif _VALUE.match(str(last)) and not _WORDS.match(str(last)):
        say(WARNING, "name.value", f"the name {name[:8]}… looks like a value; names are not encrypted")


def _missing_elsewhere(sides: Sides) -> None:
    """A new key that other environments of its project lack."""
    tree = sides.head_tree
    keys: dict[str, set[str]] = {}
    for found in sides.review.environments:
        new = {change.name for each in found.files if all(each.there) for change in each.comparison.of(ADDED)}
        project = found.name.partition("/")[0]
        for scope in sorted(sides.head.state.envs) if new else ():
            other = people_name(scope)
            if scope == found.scope or not other.startswith(project + "/"):
                continue
            if scope not in keys:
                manifest = _manifest(tree, scope)
                outlines = [_outline(tree, path) for path in (manifest.files if manifest else ())]
                keys[scope] = {name for outline in outlines if outline is not None for name in outline.names()}
            missing = sorted(new - keys[scope])
            if keys[scope] and missing:
                sides.review.say(
                    WARNING, "key.elsewhere", f"missing here, new in {found.name}: {_few(missing)}", environment=other
                )


def _not_in_schema(sides: Sides, *, strict: bool) -> None:
    """Keys that no example or schema file of the head knows, if the branch brought them or a file knew them before."""
    touched = {found.scope for found in sides.review.environments}
    top = sides.place.rpartition("/")[0]
    every, before = schema.every(sides.head_tree), schema.every(sides.fork)
    for scope in sorted(sides.head.state.envs):
        manifest = _manifest(sides.head_tree, scope)
        if manifest is None:
            continue
        folder = sides.head.folders.get(people_name(scope).partition("/")[0], top)
        folders = {path.rpartition("/")[0] for path in manifest.files}
        files = schema.of_project(every, folder, folders)
        were = schema.of_project(before, folder, folders)
        same = files == were and all(sides.fork.entry(path) == sides.head_tree.entry(path) for path in files)
        if scope not in touched and same:
            continue
        now, then = schema.read(sides.head_tree, files), schema.read(sides.fork, were)
        old = {place for place in _places(sides.fork, _manifest(sides.fork, scope)) if not then.knows(place)}
        fresh = [p for p in _places(sides.head_tree, manifest) if not now.knows(p) and p not in old]
        _say_unknown_keys(sides.review, people_name(scope), [place_name(place) for place in fresh], now, were, strict)


def _say_unknown_keys(
    review: Review, env: str, names: list[str], now: schema.Known, were: list[str], strict: bool
) -> None:
    if not names or not (now.files or were or strict):
        return
    if not now.files and not were:
        review.say(
            UNKNOWN, "schema.none", f"--strict-schema, and no example or schema file says which keys there are: "
            f"{_few(names)}", environment=env, fix="add one with the names of the keys, for example .env.example",
        )  # fmt: skip
        return
    where = ", ".join(now.files[:3]) or f"{were[0]}, which is gone"
    unread = f"; could not be read: {', '.join(now.unread[:3])}" if now.unread else ""
    review.say(
        BLOCKER if strict else WARNING, "key.schema", f"not in {where}: {_few(names)}{unread}", environment=env,
        fix=f"add the names, without values, to {(now.files or were)[0]}",
    )  # fmt: skip


def _places(tree: CommitTree, manifest: Manifest | None) -> list[Place]:
    outlines = [_outline(tree, path) for path in (manifest.files if manifest else ())]
    return [place for outline in outlines if outline is not None for place in outline.leaves]


# --- policy and the rest of the tree


def _statements(sides: Sides) -> None:
    for each in sides.review.statements:
        if _makes_admin(sides.head.state, each):
            sides.review.say(
                WARNING, "policy.admin", f"statement {each.seq} by {each.by} makes or extends an admin", layout.POLICY,
                fix=f"{_OWNED}: /.zopp/",
            )  # fmt: skip


def _makes_admin(state: State, each: Statement) -> bool:
    data = each.data
    if each.type in ("binding.set", "invite.create"):
        return bool(data["role"] == "admin")
    if each.type in ("principal.enrol", "principal.rekey", "invite.redeem"):
        name = str(data["request"]["name"])
        known = state.principals.get(name)
        return known is not None and any(
            state.role(name, scope) >= Role.ADMIN for scope in (state.name, *state.projects, *state.envs)
        )
    return False


def _plaintext(sides: Sides) -> None:
    """What a commit of the branch has in the clear though base or head say that it must be encrypted."""
    review, head = sides.review, sides.head_tree
    files = {path: entry for path in head.paths() if (entry := head.entry(path)) is not None}
    try:
        found = branch.judge(
            sides.head.root, git.environment(sides.base.env), review.base, review.head,
            base_paths=sides.base_tree.paths(), head_files=files,
        )  # fmt: skip
    except Unknown as exc:
        review.say(
            UNKNOWN, exc.code, f"the commits of the branch could not be read: {exc.message}", exc.place,
            fix="fetch them whole: no shallow or partial clone (fetch-depth: 0, GIT_DEPTH: 0, no filter)",
        )  # fmt: skip
        return
    if len(found.faults) > _MAX_FAULTS:
        review.say(BLOCKER, "guard.more", f"{len(found.faults) - _MAX_FAULTS} more places are not encrypted")
    for fault in found.faults[:_MAX_FAULTS]:
        where = f"line {fault.line}: " if fault.line > 1 else ""
        if head.entry(fault.path) == (fault.mode, fault.blob):
            since = f" (since {fault.commit[:12]})" if fault.commit else ""
            message, fix, line = f"{where}{fault.what}{since}", _encrypts(fault), fault.line
        else:
            message = f"in commit {fault.commit[:12]}, gone from the head but not from its history: {where}{fault.what}"
            fix = f"change it at its source, and take that commit out: git rebase -i {review.fork[:12]}"
            line = 0
        environment = people_name(fault.scope) if fault.scope else ""
        code = "guard." + fault.rule.replace("-", "_")
        review.say(BLOCKER, code, message, fault.path, environment=environment, fix=fix, line=line)
    blocked = {remark.place for remark in review.remarks if remark.severity == BLOCKER}
    if len(found.problems) > _MAX_FAULTS:
        review.say(UNKNOWN, "guard.unknown", f"{len(found.problems) - _MAX_FAULTS} more files cannot be judged")
    for problem in found.problems[:_MAX_FAULTS]:
        # What cannot be read for a reason that blocks anyway is said once.
        if problem.path not in blocked:
            inside = f" in commit {problem.commit[:12]}" if problem.commit else ""
            review.say(UNKNOWN, "guard.unknown", f"{problem.what}{inside}", problem.path)
    for problem in found.base_problems:
        mended = not any(problem.path == each.path for each in found.problems)
        review.say(WARNING if mended else UNKNOWN, "guard.unknown", problem.what, problem.path, old=True)


def _encrypts(fault: branch.Fault) -> str:
    path = shlex.quote(printable(fault.path))
    if fault.rule in ("link", "submodule", "lfs-pointer"):
        return f"put the encrypted file itself there, or first change the rule in a pull request of its own: {path}"
    if fault.scope:
        where = people_name(fault.scope).partition("/")[2]
        return f"change it at its source and set the new one: zopp set KEY -e {where}; the commit holds the old one"
    return f"change it at its source, encrypt the file (sops encrypt --in-place {path}) and rewrite the commit"


def _other_files(sides: Sides) -> None:
    """Files that are no secrets and change what guards them."""
    head = sides.head_tree
    changed = [
        path for path in sorted({*sides.fork.paths(), *head.paths()}) if sides.fork.entry(path) != head.entry(path)
    ]
    for path in changed:
        name = path.rpartition("/")[2]
        if WORKFLOWS.fullmatch(path):
            words, owner = "says what CI runs and was changed: no check of this branch proves anything by itself", path
        elif name == ".gitattributes":
            words, owner = "git attributes were changed", path
        elif path == ".zopp/guard-ignore":
            words, owner = "exceptions of the guard were changed", "/.zopp/"
        elif name == "CODEOWNERS":
            words, owner = "who must agree was changed", path
        elif path == blocks.SOPS_CONFIG and _own_rules(sides.fork.read(path)) != _own_rules(head.read(path)):
            words, owner = "rules outside zopp's block were changed", path
        elif name == ".gitmodules":
            words, owner = "submodules were changed; nothing in them is judged", path
        else:
            continue
        sides.review.say(WARNING, "guarding", words, path, fix=f"{_OWNED}: /{owner.lstrip('/')}")


def _own_rules(data: bytes | None) -> bytes:
    return b"" if data is None else blocks.without_block(data)
