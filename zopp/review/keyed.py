"""What only plaintext tells of a range, as classes (review-and-ci.md §5). A read like any other: of brokered files the
server's halves are asked for with purpose `review`, and it records that.

Values are compared in memory. Nothing leaves but names of classes: no value, length, prefix or hash.
"""

from collections.abc import Mapping, Sequence

from zopp import sopsfile
from zopp.errors import Denied, ZoppError
from zopp.exchange.dotenv import is_placeholder
from zopp.repo import git
from zopp.repo.brokered import MAX_BATCH
from zopp.repo.environment import Environment, open_environment, people_name
from zopp.repo.trees import CommitTree
from zopp.repo.unlock import Keyring, open_keys
from zopp.repo.values import leaf_map
from zopp.repo.workspace import Workspace
from zopp.review import merged
from zopp.review.model import BLOCKER, NOTE, UNKNOWN, WARNING, EnvironmentReview
from zopp.review.sides import Sides
from zopp.sopsfile import SopsFile, format_of
from zopp.sopsfile.comparing import name as place_name

_EMPTY: tuple[object, ...] = ("", None, b"")

OLDER = 5
"""How many earlier versions of a changed file are looked into for a value that came back."""

CHANGED = "changed"
SAME = "same value, re-encrypted"
OTHER_TYPE = "type changed"
EMPTY = "empty"
PLACEHOLDER = "looks like a placeholder"
ELSEWHERE = "equal to the value in "
EARLIER = "equals an earlier value"
ROTATED = "data key rotated"
SAME_KEY = "data key not rotated"

Values = Mapping[tuple[int, tuple[str | int, ...]], tuple[str, object]]
"""(document, path) → (type name, value)."""


def add(sides: Sides, keyring: Keyring) -> None:
    """Open both sides of every environment that the review names and add classes and remarks. An environment that this
    user cannot open is an `unknown` remark; a MAC or commitment that does not hold is a blocker."""
    review = sides.review
    review.keyed = True
    values: dict[str, dict[str, Values]] = {}
    merges, more = merged.of_range(sides.head.root, review.base, review.head)
    if more and review.environments:
        review.say(NOTE, "review.merges", f"only the newest {len(merges)} merge commits were looked into")
    for found in review.environments:
        if found.scope not in sides.head.state.envs:
            continue
        try:
            values[found.scope] = _environment(sides, found, keyring)
            _merges(sides, found, merges, values[found.scope], keyring)
        except ZoppError as exc:
            severity = UNKNOWN if isinstance(exc, Denied) or exc.exit_code == 3 else BLOCKER
            review.say(
                severity, exc.code, f"was not decrypted: {exc.message}", exc.place, environment=found.name, fix=exc.hint
            )
    _elsewhere(sides, values, keyring)
    review.sort()


def _environment(sides: Sides, found: EnvironmentReview, keyring: Keyring) -> dict[str, Values]:
    head = open_environment(sides.head, found.scope)
    wanted: list[tuple[str, SopsFile, bool]] = []
    labels: list[tuple[str, str]] = []
    for each in found.files:
        now = _file(sides.head.at, each.path)
        listed = each.path in head.files and head.files[each.path].listed
        for label, file, is_listed in (
            ("now", now, listed),
            ("then", _file(sides.fork, each.path), False),
            *((f"older {number}", file, False) for number, file in enumerate(_older(sides, each.path))),
        ):
            if file is not None and len(wanted) < MAX_BATCH:
                wanted.append((each.path, file, is_listed))
                labels.append((each.path, label))
    opened = _opened(sides.head, head, wanted, [label == "now" for _, label in labels], keyring)
    out: dict[str, Values] = {}
    by_path: dict[str, dict[str, tuple[Values, bytes]]] = {}
    for (path, label), result in zip(labels, opened, strict=True):
        if result is not None:
            by_path.setdefault(path, {})[label] = result
    for path, versions in by_path.items():
        out[path] = versions["now"][0] if "now" in versions else {}
        found.classes[path] = _classes(sides, found, path, versions)
        if "now" in versions and sides.fork.blob(path) is not None and "then" not in versions:
            sides.review.say(
                NOTE, "review.base_closed", "the version before does not open with these keys, so what changed is not "
                "told", path, environment=found.name,
            )  # fmt: skip
        if "now" in versions and "then" in versions:
            rotated = versions["now"][1] != versions["then"][1]
            found.classes.setdefault("", {})[path] = [ROTATED if rotated else SAME_KEY]
    return out


def _file(tree: CommitTree | None, path: str) -> SopsFile | None:
    data = None if tree is None else tree.read(path)
    return None if data is None else sopsfile.read(data, format_of(path), strict=False)


def _older(sides: Sides, path: str) -> list[SopsFile]:
    """The versions before the one at the merge base, newest first, as far as they can be read."""
    history = git.versions(sides.head.root, path, [sides.fork.revision])
    current = sides.fork.blob(path)
    ids = [blob for _, blob in history if blob != current][:OLDER]
    out = []
    for _, data in git.blobs(sides.head.root, ids):
        try:
            out.append(sopsfile.read(data, format_of(path), strict=False))
        except ZoppError:
            continue  # an old version that no tool reads has no value to come back
    return out


def _opened(
    ws: Workspace, env: Environment, wanted: list[tuple[str, SopsFile, bool]], needed: list[bool], keyring: Keyring
) -> list[tuple[Values, bytes] | None]:
    """(values, data key) of each version; None for one that does not open with today's keys, or whose MAC does not
    hold, unless it is `needed`: then its error is raised."""
    try:
        keys = open_keys(ws, env, wanted, keyring, "review")
        return [(leaf_map(file.decrypt(key.data)), key.data) for (_, file, _), key in zip(wanted, keys, strict=True)]
    except ZoppError:
        out: list[tuple[Values, bytes] | None] = []
        for each, must in zip(wanted, needed, strict=True):
            try:
                (key,) = open_keys(ws, env, [each], keyring, "review")
                out.append((leaf_map(each[1].decrypt(key.data)), key.data))
            except ZoppError as exc:
                if must:
                    exc.place = exc.place or each[0]
                    raise
                out.append(None)
        return out


def _classes(
    sides: Sides, found: EnvironmentReview, path: str, versions: Mapping[str, tuple[Values, bytes]]
) -> dict[str, list[str]]:
    if "now" not in versions:
        return {}
    now = versions["now"][0]
    then: Values = versions["then"][0] if "then" in versions else {}
    older = [values for label, (values, _) in versions.items() if label.startswith("older")]
    each = next(each for each in found.files if each.path == path)
    out: dict[str, list[str]] = {}
    for change in each.comparison.changes:
        if change.place not in now:
            continue
        leaf = now[change.place]
        told = []
        if change.place in then:
            was = then[change.place]
            told.append(SAME if was == leaf else CHANGED)
            if was[0] != leaf[0]:
                told.append(OTHER_TYPE)
        if leaf[1] in _EMPTY:
            told.append(EMPTY)
        elif isinstance(leaf[1], str) and is_placeholder(leaf[1]):
            told.append(PLACEHOLDER)
            sides.review.say(
                WARNING, "value.placeholder", f"{place_name(change.place)} looks like a placeholder", path,
                environment=found.name,
            )  # fmt: skip
        if SAME not in told and leaf[1] not in _EMPTY and any(values.get(change.place) == leaf for values in older):
            told.append(EARLIER)
        if told:
            out[change.name] = told
    return out


def _merges(
    sides: Sides,
    found: EnvironmentReview,
    merges: Sequence[merged.Merge],
    now: Mapping[str, Values],
    keyring: Keyring,
) -> None:
    """Classes of what merge commits did by themselves, and a remark on each merge that did something."""
    env = open_environment(sides.head, found.scope) if merges and now else None
    for each in found.files if env is not None else ():
        if each.path not in now:
            continue
        assert env is not None
        work = merged.blobs(sides.head.root, merges, each.path)
        bodies = {blob: data for _, versions in work for blob, data in versions.values()}
        opened = _versions(sides.head, env, each.path, bodies, keyring)
        for merge, versions in work:
            values = {commit: opened[blob] for commit, (blob, _) in versions.items()}
            known = {commit: read for commit, read in values.items() if read is not None}
            if len(known) < len(values):
                sides.review.say(
                    NOTE, "review.merge_closed", f"a version of merge {merge.id[:12]} does not open with these keys, "
                    "so what the merge did by itself is not told", each.path, environment=found.name,
                )  # fmt: skip
                continue
            places = [change.place for change in each.comparison.changes]
            for place, told in merged.classes(merge, known, places, now[each.path]).items():
                classes = found.classes.setdefault(each.path, {}).setdefault(place_name(place), [])
                if told not in classes:
                    classes.append(told)
                sides.review.say(
                    WARNING, "value.merged", f"{place_name(place)}: {told} ({merge.id[:12]})", each.path,
                    environment=found.name, fix=f"who merged has to say why: git show --no-patch {merge.id[:12]}",
                )  # fmt: skip


def _versions(
    ws: Workspace, env: Environment, path: str, bodies: Mapping[str, bytes], keyring: Keyring
) -> dict[str, Values | None]:
    """Blob → its values; None for one that cannot be read or opened."""
    out: dict[str, Values | None] = dict.fromkeys(bodies)
    wanted: list[tuple[str, SopsFile, bool]] = []
    blobs: list[str] = []
    for blob, data in bodies.items():
        try:
            wanted.append((path, sopsfile.read(data, format_of(path), strict=False), False))
            blobs.append(blob)
        except ZoppError:
            continue  # stays None, which is said
    for at in range(0, len(wanted), MAX_BATCH):
        part = wanted[at : at + MAX_BATCH]
        opened = _opened(ws, env, part, [False] * len(part), keyring)
        out.update((blob, None if each is None else each[0]) for blob, each in zip(blobs[at:], opened, strict=False))
    return out


def _elsewhere(sides: Sides, values: Mapping[str, Mapping[str, Values]], keyring: Keyring) -> None:
    """New and changed values that another environment of the project has under the same key."""
    others: dict[str, dict[str, tuple[str, object]]] = {}
    for found in sides.review.environments:
        project = found.name.partition("/")[0]
        for each in found.files:
            changed = {change.place: change.name for change in each.comparison.changes if change.now is not None}
            for place, key in changed.items():
                leaf = values.get(found.scope, {}).get(each.path, {}).get(place)
                told = found.classes.get(each.path, {}).get(key, [])
                if leaf is None or leaf[1] in _EMPTY or isinstance(leaf[1], bool) or {SAME, PLACEHOLDER} & {*told}:
                    continue
                for scope in sorted(sides.head.state.envs):
                    if scope == found.scope or not people_name(scope).startswith(project + "/"):
                        continue
                    if scope not in others:
                        others[scope] = _all_values(sides, scope, keyring)
                    if others[scope].get(key) == leaf:
                        other = people_name(scope)
                        found.classes.setdefault(each.path, {}).setdefault(key, []).append(ELSEWHERE + other)
                        sides.review.say(
                            WARNING, "value.shared", f"{key} has the same value in {other}", each.path,
                            environment=found.name,
                        )  # fmt: skip


def _all_values(sides: Sides, scope: str, keyring: Keyring) -> dict[str, tuple[str, object]]:
    """Key name → value of an environment of the head; nothing where this user cannot open it, which is no fault."""
    env = open_environment(sides.head, scope)
    files = [
        (path, file.sops, file.listed) for path, file in env.files.items() if file.sops is not None and file.listed
    ]
    if not files or len(files) > MAX_BATCH or sides.head.state.envs[scope].kind != "direct":
        return {}
    try:
        keys = open_keys(sides.head, env, files, keyring, "review")
        return {
            place_name(place): value
            for (_, file, _), key in zip(files, keys, strict=True)
            for place, value in leaf_map(file.decrypt(key.data)).items()
        }
    except ZoppError:
        return {}
