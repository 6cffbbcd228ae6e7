"""The engine: a batch of changed files, judged by the rules of the tree they belong to (spec guard 1, 2).

Works from blobs, never from diff text. The front ends say what a batch is; this module decides what is found, what of
it is new, and what is excepted.
"""

from zopp.errors import Unknown, ZoppError
from zopp.printable import printable
from zopp.scan import demand, encrypted, leftovers, search
from zopp.scan.finding import ENCRYPTED, LEFTOVER, OWN, TOKEN, Finding, Problem, Result

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

    from zopp.scan.own import Index
    from zopp.scan.search import Placed
    from zopp.scan.userrules import UserRules

LINK, SUBMODULE = "120000", "160000"
MESSAGE = "(message)"


class Item:
    """A file of a batch. `blob`: its id, or "" if `data` is at hand. `olds`: for each parent the id of the blob that it
    replaces there, None where the path is new, the same id as `blob` where it is unchanged."""

    __slots__ = ("blob", "data", "mode", "olds", "path")

    def __init__(
        self, path: str, mode: str, blob: str, olds: "tuple[str | None, ...]" = (), data: "bytes | None" = None
    ) -> None:
        self.path = path
        self.mode = mode
        self.blob = blob
        self.olds = olds
        self.data = data


class Batch:
    """What is judged together. `replaced`: for each parent the ids of the blobs that are replaced or deleted; empty:
    all is new (whole files). `rules`: those of the tree, on a server also those of the ref's old tip. `message`: a
    commit's or tag's, None if there is none to judge. `touched`: every changed path, deleted ones too."""

    __slots__ = ("commit", "items", "message", "replaced", "rules", "touched")

    def __init__(
        self,
        items: "list[Item]",
        rules: "list[demand.Rules]",
        replaced: "list[list[str]]",
        *,
        commit: str = "",
        message: "bytes | None" = None,
        touched: "Iterable[str]" = (),
    ) -> None:
        self.touched = touched
        self.items = items
        self.rules = rules
        self.replaced = replaced
        self.commit = commit
        self.message = message


class Guard:
    """Judges batches into one Result. `read(ids, large)` gives blobs as `gitio.Objects.get` does. `key`: makes the key
    of fingerprints where no ignore list has one. `own`: the index of the project's secrets, None: not looked for."""

    def __init__(
        self,
        result: Result,
        read: "Callable[[list[bytes], Any], list[Any]]",
        environ: "Mapping[str, str]",
        *,
        key: "Callable[[], bytes]",
        own: "Index | None" = None,
        user: "Callable[[demand.Rules], UserRules | None]" = lambda _: None,
        exceptions: bool = True,
    ) -> None:
        self.result = result
        self.environ = environ
        self._read = read
        self._key = key
        self._own = own
        self._user_of = user
        self._user: "UserRules | None" = None
        self._exceptions = exceptions
        self._searched: "dict[tuple[str, bool], list[Placed]]" = {}
        self._lines: "tuple[Batch, set[bytes]] | None" = None
        # Own secrets found in files that were streamed: what of it is new is asked when nothing streams any more.
        self._owned: "list[tuple[Item, list[tuple[int, int, str]]]]" = []

    def judge(self, batch: Batch) -> None:
        """Judge one batch. Raises nothing for what a file holds; Unknown if git fails."""
        paths = [item.path for item in batch.items]
        for rules in batch.rules:
            rules.prepare(paths)
        self._user = self._user_of(batch.rules[0]) if batch.rules else None
        candidates: "list[tuple[Item, Placed]]" = []
        self._fetch(batch, candidates)
        if any(not placed.suppressed for _, placed in candidates):
            candidates = self._new(batch, candidates)
        for item, placed in candidates:
            self._token(batch, item.path, placed)
        if batch.message is not None:
            for placed in search.placed(batch.message, self._user_for(MESSAGE, batch.commit)):
                self._token(batch, MESSAGE, placed)
        if batch.rules and batch.rules[0].listed() and any(map(_may_break_the_block, batch.touched)):
            self._block(batch)
        for rules in batch.rules:
            for problem in rules.problems.values():
                self._problem(problem.path, problem.what, batch.commit)

    def stream(self, batch: Batch, item: Item, size: int, blocks: "Iterable[bytes]") -> None:
        """Judge one file of a batch that is too large to be held whole, all of it as new. `blocks` are its bytes."""
        for rules in batch.rules:
            rules.prepare([item.path])
        self._user = self._user_of(batch.rules[0])
        self.result.files += 1
        candidates: "list[tuple[Item, Placed]]" = []
        self._large(batch, item, size, blocks, candidates)
        for _, placed in candidates:
            self._token(batch, item.path, placed)
        self._equal_large(batch)

    # --- what is read

    def _fetch(self, batch: Batch, candidates: "list[tuple[Item, Placed]]") -> None:
        wanted = [item for item in batch.items if item.mode != SUBMODULE and item.blob]
        self.result.files += sum(1 for item in batch.items if item.mode != SUBMODULE)
        for item in batch.items:
            if item.mode != SUBMODULE and item.data is not None:
                self._file(batch, item, item.data, candidates)
        for at in range(0, len(wanted), 64):
            part = wanted[at : at + 64]

            def large(index: int, _id: str, size: int, blocks: "Any", part: "list[Item]" = part) -> None:
                self._large(batch, part[index], size, blocks, candidates)

            done: "set[int]" = set()

            def seen(index: int, object_id: str, size: int, blocks: "Any", done: "set[int]" = done) -> None:
                done.add(index)
                large(index, object_id, size, blocks)

            for number, found in enumerate(self._read([item.blob.encode() for item in part], seen)):
                if found is not None:
                    self._file(batch, part[number], found.data, candidates)
                elif number not in done:
                    raise Unknown("a blob is missing", code="git.failed", place=printable(part[number].path))
        self._equal_large(batch)

    def _large(
        self, batch: Batch, item: Item, size: int, blocks: "Any", candidates: "list[tuple[Item, Placed]]"
    ) -> None:
        self.result.bytes += size
        self.result.streamed += 1
        ends = _Ends()
        blocks = ends.through(blocks)
        watch = None
        if self._own is not None:
            from zopp.scan import own

            watch = own.Stream(self._own)
            blocks = watch.through(blocks)
        candidates += [(item, placed) for placed in search.streamed(blocks, self._user_for(item.path, batch.commit))]
        if watch is not None:
            self.result.own_mode = "windows"
            if watch.found:
                self._owned.append((item, watch.found))
        self._unjudged(batch, item, size, ends)

    def _unjudged(self, batch: Batch, item: Item, size: int, ends: "_Ends") -> None:
        """What only a whole file shows is not known of one that was streamed: said, if it may be the case."""
        from zopp.sopsfile.formats import format_of

        path = item.path
        if any(rules.demands(path) for rules in batch.rules) or encrypted.carries_metadata(ends.data, format_of(path)):
            self._problem(path, f"is too large ({size >> 20} MB) to be judged as a sops file", batch.commit)
        elif self._leftover_kind(batch, path) is not None and not self._may_stay(batch, path):
            what = f"is too large ({size >> 20} MB) to be judged, and is named as leftovers are"
            self._problem(path, f"{what}; if it may stay: [guard] leftovers in zopp.toml", batch.commit)

    # --- one file

    def _file(self, batch: Batch, item: Item, data: bytes, candidates: "list[tuple[Item, Placed]]") -> None:
        self.result.bytes += len(data)
        path, link = item.path, item.mode == LINK
        try:
            demands = [found for rules in batch.rules for found in rules.demands(path)]
            verdict = encrypted.judge(path, data, demands, link=link)
            self._unencrypted(batch, item, verdict)
            if not link:
                self._leftover(batch, item, data, verdict)
        except ZoppError as exc:
            self._problem(path, exc.message, batch.commit)
            return
        masked = verdict.sops
        known = self._searched.get((item.blob, masked)) if item.blob and self._user is None else None
        if known is None:
            text = encrypted.mask(data) if masked else encrypted.mask_messages(data)
            text = _sealed(text)
            known = search.placed(text, self._user_for(path, batch.commit))
            if item.blob:
                self._searched[item.blob, masked] = known
        candidates += [(item, placed) for placed in known]
        if self._own is not None and not masked:
            self._equal(batch, item, data)

    def _user_for(self, path: str, commit: str = "") -> "Any":
        return None if self._user is None else self._user.bound(path, commit)

    def _unencrypted(self, batch: Batch, item: Item, verdict: encrypted.Verdict) -> None:
        path = item.path
        if verdict.unknown:
            self._problem(path, f"cannot be judged: {verdict.unknown}", batch.commit)
        for rule, line, what in verdict.faults:
            hint = _hint(rule, path)
            self._add(Finding(ENCRYPTED, rule, path, line, 1, what, hint=hint, commit=batch.commit))
        if verdict.carries and not verdict.unknown:
            self._unlisted(batch, path)

    def _block(self, batch: Batch) -> None:
        """zopp's rules for stock sops, where a change may break them."""
        from zopp.scan import ourblock  # with it the policy's code, which nothing else here needs

        try:
            found = ourblock.faults(batch.rules[0])
        except ZoppError as exc:
            self._problem(".zopp/policy.jsonl", exc.message, batch.commit)
            return
        for path, what in found:
            self._add(
                Finding(ENCRYPTED, "sops-rules", path, 1, 1, what, hint="mend it: zopp rekey", commit=batch.commit)
            )

    def _unlisted(self, batch: Batch, path: str) -> None:
        """A sops file that no manifest lists: a finding where secrets lie, a note elsewhere."""
        rules = batch.rules[0]
        if path in rules.listed() or not rules.listed():
            return
        if path.rpartition("/")[0] in rules.managed_folders():
            self._add(
                Finding(
                    ENCRYPTED, "unlisted", path, 1, 1, "is a sops file that no manifest lists",
                    hint="a writer takes it in with: zopp sign", commit=batch.commit,
                )
            )  # fmt: skip
        else:
            self.result.notes.append(f"{printable(path)}: is a sops file that no manifest lists")

    def _leftover(self, batch: Batch, item: Item, data: bytes, verdict: encrypted.Verdict) -> None:
        path = item.path
        kind = self._leftover_kind(batch, path)
        if kind is None or verdict.faults or verdict.sops or verdict.unknown:
            return
        from zopp.scan.text import views
        from zopp.sopsfile.formats import format_of

        if self._may_stay(batch, path):
            return
        text = views(data)[0]
        text = text[3:] if text[:3] == b"\xef\xbb\xbf" else text
        if kind == "env":
            for line, key in leftovers.env_credentials(text, self._known_keys(batch)):
                self._add(
                    Finding(
                        LEFTOVER, "env-file", path, line, 1, f"{printable(key)} has a value in a plain .env file",
                        hint=f"take it out: git rm --cached -- {_quoted(path)}; keep it: zopp import {_quoted(path)}",
                        commit=batch.commit,
                    )
                )  # fmt: skip
            return
        at = leftovers.clear_leaf(kind if kind != "copy" else path, text, format_of)
        if at is None:
            return
        what = "is a decrypted copy" if kind == "copy" else f"is what is left of {printable(kind)}, and not encrypted"
        self._add(
            Finding(
                LEFTOVER, "decrypted-copy" if kind == "copy" else "remains", path, at, 1, what,
                hint=f"take it out: git rm --cached -- {_quoted(path)}", commit=batch.commit,
            )
        )  # fmt: skip

    def _may_stay(self, batch: Batch, path: str) -> bool:
        """Whether zopp.toml lists a leftover."""
        return any(_matches(entry, path) for entry in batch.rules[0].guard(path, "leftovers"))

    def _leftover_kind(self, batch: Batch, path: str) -> "str | None":
        """`env`, `copy`, or the path under (a) that this is the remains of."""
        if leftovers.is_env_file(path):
            return "env"
        if leftovers.is_decrypted_copy(path):
            return "copy"
        for origin in leftovers.origins(path):
            if any(rules.demands(origin) for rules in batch.rules):
                return origin
        return None

    def _known_keys(self, batch: Batch) -> "set[str]":
        """Names of keys in the project's encrypted files, as far as their bytes are at hand."""
        found: "set[str]" = set()
        rules = batch.rules[0]
        listed = list(rules.listed())
        for blob in rules.tree.get(listed):
            if blob is not None:
                found.update(
                    line.split(b":", 1)[0].strip(b' "').decode("utf-8", "replace")
                    for line in blob[1].split(b"\n")
                    if b"ENC[" in line
                )
        return found

    def _equal(self, batch: Batch, item: Item, data: bytes) -> None:
        """(d): text equal to a value of the project's encrypted files, in what is new."""
        assert self._own is not None
        self.result.own_mode = "windows"
        self._owns(batch, item.path, self._own.look(data, self._old_lines(batch)))

    def _equal_large(self, batch: Batch) -> None:
        """(d) for what was streamed: of each value as many places as there are more than in what the batch replaces."""
        owned, self._owned = self._owned, []
        if not owned:
            return
        olds = [self._own_names(ids) for ids in batch.replaced]
        for item, found in owned:
            names: "dict[str, list[tuple[int, int, str]]]" = {}
            for place in found:
                names.setdefault(place[2], []).append(place)
            for name, places in names.items():
                more = len(places) - max([old.get(name, 0) for old in olds], default=0)
                self._owns(batch, item.path, places[len(places) - more :] if more > 0 else [])

    def _own_names(self, blobs: "list[str]") -> "dict[str, int]":
        """How often each own secret stands in some blobs."""
        from zopp.scan import own

        assert self._own is not None
        index = self._own
        found: "list[tuple[int, int, str]]" = []

        def large(_index: int, _id: str, _size: int, blocks: "Any") -> None:
            watch = own.Stream(index)
            for _ in watch.through(blocks):
                pass
            found.extend(watch.found)

        for blob in self._read([each.encode() for each in blobs], large):
            if blob is not None:
                found += index.look(blob.data, set())
        counts: "dict[str, int]" = {}
        for _, _, name in found:
            counts[name] = counts.get(name, 0) + 1
        return counts

    def _owns(self, batch: Batch, path: str, found: "list[tuple[int, int, str]]") -> None:
        allowed = batch.rules[0].public(path)
        for line, column, name in found:
            scope, _, key = name.partition(" ")
            if f"{scope.rpartition('/')[2]}/{key}" in allowed or f"{scope}/{key}" in allowed:
                continue
            self._add(
                Finding(
                    OWN, "own-secret", path, line, column, f"equals {key} of {scope}",
                    hint=f"take it out; if it has left this machine: zopp set {key} -e {scope.rpartition('/')[2]}",
                    commit=batch.commit,
                )
            )  # fmt: skip

    def _old_lines(self, batch: Batch) -> "set[bytes]":
        """The lines that stand in what the batch replaces, for every parent."""
        if self._lines is None or self._lines[0] is not batch:
            known: "set[bytes] | None" = None
            for ids in batch.replaced:
                lines: "set[bytes]" = set()
                for found in self._read([each.encode() for each in ids], lambda *_: None):
                    if found is not None:
                        lines.update(found.data.split(b"\n"))
                known = lines if known is None else known & lines
            self._lines = batch, known or set()
        return self._lines[1]

    # --- what is new

    def _new(self, batch: Batch, candidates: "list[tuple[Item, Placed]]") -> "list[tuple[Item, Placed]]":
        """Those that occur more often than in what is replaced, against every parent (spec guard 2, 'New'). Suppressed
        ones stay, to be counted."""
        if not batch.replaced:
            return candidates
        open_ones = [(item, placed) for item, placed in candidates if not placed.suppressed]
        keys = {(placed.hit.rule, placed.hit.secret) for _, placed in open_ones}
        counts: "dict[tuple[str, bytes], int]" = {}
        for _, placed in open_ones:
            key = placed.hit.rule, placed.hit.secret
            counts[key] = counts.get(key, 0) + 1
        excess = dict(counts)
        of_blob: "dict[str, dict[tuple[str, bytes], int]]" = {}
        for ids in batch.replaced:
            olds: "dict[tuple[str, bytes], int]" = {}
            for blob in ids:
                found = of_blob.get(blob)
                if found is None:
                    found = of_blob[blob] = self._old(blob, keys)
                for key, count in found.items():
                    olds[key] = olds.get(key, 0) + count
            for key, count in counts.items():
                excess[key] = min(excess[key], count - olds.get(key, 0))
        kept = [(item, placed) for item, placed in candidates if placed.suppressed]
        for key, count in excess.items():
            if count <= 0:
                continue
            mine = [(item, placed) for item, placed in open_ones if (placed.hit.rule, placed.hit.secret) == key]

            def gained(pair: "tuple[Item, Placed]", key: "tuple[str, bytes]" = key) -> "tuple[int, int]":
                item, placed = pair
                before = of_blob.get(item.olds[0] or "", {}).get(key, 0) if item.olds else 0
                return before, -placed.at

            kept += sorted(mine, key=gained)[:count]
        return kept

    def _old(self, blob: str, keys: "set[tuple[str, bytes]]") -> "dict[tuple[str, bytes], int]":
        """How often each key occurs in an old blob, allowed by no comment."""
        found = self._searched.get((blob, False))
        if found is None:
            big: "list[Placed]" = []

            def large(_index: int, _id: str, _size: int, blocks: "Any") -> None:
                big.extend(search.streamed(blocks, self._user_for("")))

            answer = self._read([blob.encode()], large)[0]
            if answer is None:
                found = big
            else:
                text = _sealed(encrypted.mask_messages(answer.data))
                found = search.placed(text, self._user_for(""))
            self._searched[blob, False] = found
        counts: "dict[tuple[str, bytes], int]" = {}
        for placed in found:
            key = placed.hit.rule, placed.hit.secret
            if key in keys and not placed.suppressed:
                counts[key] = counts.get(key, 0) + 1
        return counts

    # --- what is said

    def _token(self, batch: Batch, path: str, placed: "Placed") -> None:
        hit = placed.hit
        finding = Finding(
            TOKEN, hit.rule, path, placed.line, placed.column, hit.what, shown=hit.shown, secret=hit.secret,
            commit=batch.commit,
        )  # fmt: skip
        from zopp.scan import allow

        ignore = batch.rules[0].ignore if batch.rules else allow.IgnoreList(None)
        finding.fingerprint = allow.fingerprint(ignore.key or self._key(), hit.rule, hit.secret)
        if self._exceptions:
            if placed.suppressed:
                finding.suppressed = placed.suppressed
            elif ignore.allows(finding):
                finding.suppressed = "ignore list"
        how = f"zopp scan --except {finding.fingerprint} --reason …"
        finding.hint = f"take it out and change it where it is used, or except it: {how}"
        self._add(finding)

    def _add(self, finding: Finding) -> None:
        (self.result.suppressed if finding.suppressed else self.result.findings).append(finding)

    def _problem(self, path: str, what: str, commit: str) -> None:
        if not any((p.path, p.what) == (path, what) for p in self.result.problems):
            self.result.problems.append(Problem(path, what, commit))


class _Ends:
    """Begin and end of a file that comes in blocks, where sops metadata would stand."""

    __slots__ = ("_head", "_tail")
    SIZE = 1 << 20

    def __init__(self) -> None:
        self._head: "bytes | None" = None
        self._tail = b""

    def through(self, blocks: "Iterable[bytes]") -> "Iterable[bytes]":
        """The blocks, handed on."""
        for part in blocks:
            if self._head is None:
                self._head = part[: self.SIZE]
            self._tail = (self._tail + part)[-self.SIZE :]
            yield part

    @property
    def data(self) -> bytes:
        """Both, a line end between them."""
        return (self._head or b"") + b"\n" + self._tail


def _may_break_the_block(path: str) -> bool:
    return path == ".zopp/policy.jsonl" or path.rpartition("/")[2] == demand.SOPS_CONFIG


def _hint(rule: str, path: str) -> str:
    if rule in ("not-encrypted", "clear-value", "clear-comment"):
        return f"encrypt it and stage it again: sops encrypt --in-place {_quoted(path)} (or use zopp set)"
    if rule == "selector":
        return "make the file's selector that of the rule, or change the rule"
    return "encrypt the file again, or restore it: git restore --staged -- " + _quoted(path)


def _quoted(path: str) -> str:
    """A path as a shell takes it, control characters escaped."""
    shown = printable(path)
    if shown.replace("/", "").replace(".", "").replace("-", "").replace("_", "").isalnum() and shown[:1] != "-":
        return shown
    return "'" + shown.replace("'", "'\\''") + "'"


def _matches(pattern: str, path: str) -> bool:
    from fnmatch import fnmatchcase

    return fnmatchcase(path, pattern)


def _sealed(data: bytes) -> bytes:
    """The bytes with the `encryptedData` of SealedSecrets blotted out: only in documents of that kind."""
    if b"SealedSecret" not in data or b"encryptedData" not in data:
        return data
    import re

    out = []
    for document in re.split(rb"(?m)(?=^---)", data):
        if re.search(rb"(?m)^kind:[ \t]*[\"']?SealedSecret[\"']?[ \t\r]*$", document):
            document = re.sub(
                rb"(?m)^(?P<pad>[ ]*)encryptedData:[ \t\r]*\n(?:(?P=pad)[ ]+[^\n]*\n?)*",
                lambda match: re.sub(rb"[0-9A-Za-z+/=]{200,}", lambda run: b" " * len(run.group()), match.group()),
                document,
            )
        out.append(document)
    return b"".join(out)
