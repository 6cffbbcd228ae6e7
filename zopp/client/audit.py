"""The audit log from the client's side: reading, exporting, witnessing, and judging it again (policy-server.md §5).

The server is believed in nothing: pages come with a signed checkpoint that extends the one this user keeps, and
`verify` rebuilds the tree from the exported bodies. The judgement itself is `zopp.protocol.replay`, pure.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, BinaryIO, TextIO
from urllib.parse import urlencode

from zopp.client import policylog, remembered
from zopp.client.policylog import Log
from zopp.errors import FormatError, IntegrityError, NotFound, ZoppError
from zopp.keys.signing import SigningKey
from zopp.policy import canonical
from zopp.protocol import messages, mirror
from zopp.protocol.replay import Found, Replay
from zopp.repo.exposure import Release
from zopp.repo.workspace import Workspace
from zopp.tlog import checkpoint, entry, merkle, tiles
from zopp.tlog.checkpoint import Checkpoint
from zopp.tlog.entry import Entry
from zopp.tlog.note import Note, parse as parse_note

MAX_RELEASES = 1 << 40
"""All of them: pages end when the log does."""

MAX_LINE = 1 << 18
"""Bytes of one line of an export: an entry has at most 65,535, escaped once more."""


@dataclass(frozen=True, slots=True)
class Row:
    """One entry and its place in the log."""

    index: int
    body: bytes

    @property
    def entry(self) -> Entry:
        """Parsed; FormatError for what is none."""
        return entry.parse(self.body)


@dataclass(slots=True)
class Audit:
    """The audit log of a workspace at its server. `log` has been brought up to the server's policy, so that its
    verifiers are proven."""

    log: Log
    note: Note | None = field(default=None, init=False)

    @property
    def path(self) -> str:
        """The path of the audit log at the server."""
        return f"/v1/audit/{self.log.state.name}"

    def _page(self, path: str, query: Mapping[str, object]) -> tuple[list[Row], int | None]:
        kept = self.log.kept()
        asked = {**query, "size": kept.size if kept else 0}
        answer = self.log.server.get(f"{path}?{urlencode(asked, safe='/')}")
        fields = messages.parse_answer("entries", answer.body)
        self._take(kept, fields["checkpoint"].encode(), messages.hashes_of(fields["consistency"]))
        rows = [Row(each["seq"], each["body"].encode()) for each in fields["entries"]]
        return rows, fields["next"]

    def _take(self, kept: Checkpoint | None, data: bytes, hashes: Sequence[bytes]) -> Checkpoint:
        """Verify a newer checkpoint against the kept one, which advances. IntegrityError otherwise."""
        note = parse_note(data)
        head = checkpoint.verify(note, *mirror.in_force(self.log.state, self.log.logs))
        try:
            checkpoint.consistent(_moved(kept, head), head, hashes)
        except IntegrityError as exc:
            exc.place = exc.place or self.log.server.origin
            exc.hint = exc.hint or "keep both checkpoints: together they prove that the log was changed"
            raise
        remembered.advance(self.log.state_dir, self.log.state.ws, note)
        self.note = note
        return head

    def list(self, filters: Mapping[str, object], *, limit: int) -> Iterator[Row]:
        """Entries that fit, newest first. Errors of the server as they are; IntegrityError if a page does not keep its
        order. That an entry is in the tree is told by `verify`, or by `get`."""
        before: int | None = None
        left = limit
        while left > 0:
            query = {**filters, "limit": min(left, messages.MAX_PAGE)}
            if before is not None:
                query["before"] = before
            rows, following = self._page(self.path, query)
            for row in rows:
                if before is not None and row.index >= before:
                    raise _order(self.log.server.origin)
                before = row.index
                yield row
            left -= len(rows)
            if following is None or not rows:
                return

    def count(self, filters: Mapping[str, object]) -> int:
        """How many entries fit."""
        query = f"?{urlencode(dict(filters), safe='/')}" if filters else ""
        answer = self.log.server.get(f"{self.path}/count{query}")
        return int(messages.parse_answer("count", answer.body)["count"])

    def get(self, index: int) -> Row:
        """One entry, proven to be in the tree. NotFound if the log is shorter."""
        rows, _ = self._page(self.path + "/export", {"from": index, "limit": 1})
        if not rows:
            raise NotFound(f"the log has no record {index}", code="audit.index")
        (row,) = rows
        if row.index != index or self.note is None:
            raise _order(self.log.server.origin)
        head = checkpoint.verify(self.note, *mirror.in_force(self.log.state, self.log.logs))
        answer = self.log.server.get(f"/v1/log/{self.log.state.name}/proof/inclusion?index={index}&size={head.size}")
        hashes = messages.hashes_of(messages.parse_answer("proof", answer.body)["hashes"])
        merkle.verify_inclusion(merkle.leaf_hash(row.body), index, head.size, hashes, head.root)
        return row

    def export(self, begin: int = 0) -> Iterator[Row]:
        """Every entry from `begin` to the end as it was when this began: reading is recorded too, so the log grows as
        it is read. `note` is then the checkpoint that covers them."""
        end: int | None = None
        note: Note | None = None
        following: int | None = begin
        while following is not None and (end is None or following < end):
            rows, following = self._page(self.path + "/export", {"from": begin, "limit": messages.MAX_PAGE})
            if end is None:
                note = self.note
                assert note is not None
                end = checkpoint.parse_text(note.text).size
            for row in rows:
                if row.index != begin:
                    raise _order(self.log.server.origin)
                if row.index >= end:
                    break
                begin += 1
                yield row
            if not rows and begin < end:
                raise _order(self.log.server.origin)
        self.note = note

    def changed(self, head: Checkpoint, begin: int = 0) -> int | None:
        """The first record from `begin` on that is not the one that `head`, a verified checkpoint, covers: the server
        still has the hashes that lead there, and the record's own is another. None if it has not, or none differs."""
        name = self.log.state.name
        leaves: list[bytes] = []
        for n in range(0, head.size, tiles.WIDTH):
            width = min(tiles.WIDTH, head.size - n)
            part = self.log.server.get(f"/v1/log/{name}/{tiles.Tile(0, n // tiles.WIDTH, width).path()}").body
            leaves += [part[at : at + merkle.HASH] for at in range(0, len(part), merkle.HASH)]
        if len(leaves) != head.size or merkle.root_of(leaves) != head.root:
            return None
        for row in self.export(begin):
            if row.index >= head.size:
                break
            if merkle.leaf_hash(row.body) != leaves[row.index]:
                return row.index
        return None

    # --- witnessing

    def witness(self, others: Iterable[tuple[bytes, str]]) -> Note:
        """The newest checkpoint, verified to extend the kept one and every one of `others` (each a note, and a word
        where it is from), of which the newest may be it. The kept one advances. IntegrityError: two that are
        inconsistent prove a split view."""
        answer = self.log.server.get(f"/v1/log/{self.log.state.name}/checkpoint")
        note = parse_note(answer.body)
        head = checkpoint.verify(note, *mirror.in_force(self.log.state, self.log.logs))
        kept = self.log.kept()
        older = [(each, "this user's own") for each in (kept,) if each is not None]
        older += [(checkpoint.read(data, *self.log.logs), words) for data, words in others]
        for each, words in older:
            try:
                checkpoint.consistent(_moved(each, head), head, self._consistency(each.size, head.size))
            except IntegrityError as exc:
                raise IntegrityError(
                    f"the server's checkpoint does not extend one of {each.size} records ({words}): {exc.message}",
                    code=exc.code,
                    place=self.log.server.origin,
                    hint="keep both: together they prove that the log was changed or two were shown",
                ) from None
        remembered.advance(self.log.state_dir, self.log.state.ws, note)
        return note

    def _consistency(self, old: int, new: int) -> tuple[bytes, ...]:
        if not 0 < old < new:
            return ()
        answer = self.log.server.get(f"/v1/log/{self.log.state.name}/proof/consistency?from={old}&size={new}")
        return messages.hashes_of(messages.parse_answer("proof", answer.body)["hashes"])


def _moved(kept: Checkpoint | None, head: Checkpoint) -> Checkpoint | None:
    """The kept checkpoint under the name that the log has now; `log.logs` has verified both names."""
    return kept if kept is None or kept.origin == head.origin else replace(kept, origin=head.origin)


def _order(origin: str) -> IntegrityError:
    return IntegrityError(
        "the server's records are not in the order of the log, or some are missing", code="audit.order", place=origin
    )


# --- what was released


def released(ws: Workspace, key: SigningKey, principals: Collection[str]) -> list[Release]:
    """The releases to `principals`, and to CI jobs that acted for them, that the audit log of the workspace's server
    shows to the holder of `key`. Denied without the right, Unknown without an answer, IntegrityError or FormatError for
    one that does not hold. A server that leaves a record out is found by `zopp audit verify`, not here."""
    log = policylog.of_workspace(ws, key)
    try:
        log.fetch(remember=policylog.remembered_head(ws))
        read = Audit(log)
        found: dict[Release, None] = {}
        for name in sorted(principals):
            asked = {"action": "release", "outcome": "allow", "principal": name}
            for made in (row.entry for row in read.list(asked, limit=MAX_RELEASES)):
                if (made.action, made.outcome) != ("release", "allow") or name not in (made.actor, made.on_behalf):
                    raise FormatError("the records are not those that were asked for", place=log.server.origin)
                assert made.scope is not None
                found[Release(made.scope.name, made.data["stanza"], made.data["path"])] = None
        return list(found)
    finally:
        log.server.close()


# --- judging


def judge(rows: Iterable[Row], made: Replay) -> list[Found]:
    """Feed every row; the findings."""
    for row in rows:
        made.add(row.body, row.index)
    return made.end()


def read_export(file: BinaryIO, taken: Callable[[bytes], None]) -> Iterator[Row]:
    """The rows of a JSONL export, one at a time; `taken` gets the checkpoint that stands in it. FormatError with the
    line for anything else."""
    number = 0
    while line := file.readline(MAX_LINE + 1):
        number += 1
        try:
            value = canonical.decode(line.removesuffix(b"\n")) if len(line) <= MAX_LINE else None
        except FormatError:
            value = None
        if type(value) is dict and value.keys() == {"checkpoint"} and type(value["checkpoint"]) is str:
            taken(value["checkpoint"].encode())
        elif (
            type(value) is dict
            and value.keys() == {"body", "index"}
            and type(value["body"]) is str
            and type(value["index"]) is int
        ):
            yield Row(value["index"], value["body"].encode("utf-8", "surrogatepass"))
        else:
            raise FormatError("is not an export of the audit log", code="export", place=f"line {number}")


def write_jsonl(rows: Iterable[Row], out: BinaryIO, note: Callable[[], Note | None]) -> int:
    """The canonical export: a line `{"body","index"}` for each entry, its exact bytes as a string, and last the
    checkpoint. How many entries."""
    count = 0
    for row in rows:
        out.write(canonical.encode({"body": row.body.decode(), "index": row.index}) + b"\n")
        count += 1
    last = note()
    if last is not None:
        out.write(canonical.encode({"checkpoint": last.serialise().decode()}) + b"\n")
    return count


COLUMNS = (
    "index", "ts", "action", "outcome", "reason", "actor", "on_behalf", "scope_kind", "scope", "role", "policy_seq",
    "id", "method", "target", "created", "keyid", "detail",
)  # fmt: skip


def write_csv(rows: Iterable[Row], out: TextIO) -> int:
    """For spreadsheets and SIEMs: docs/reference/audit.md has the columns. It cannot be verified. How many rows."""
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    count = 0
    for row in rows:
        flat = flatten(row)
        writer.writerow([_safe(flat[name]) for name in COLUMNS])
        count += 1
    return count


def _safe(value: object) -> object:
    """A spreadsheet runs what begins like a formula."""
    return "'" + value if type(value) is str and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value


def flatten(row: Row) -> dict[str, Any]:
    """An entry as columns; None where there is nothing."""
    made = row.entry
    created = keyid = None
    if made.request is not None:
        from zopp.protocol import signing

        try:
            presented = signing.recorded(made.request)
            created, keyid = presented.created, presented.keyid
        except ZoppError:
            pass
    data = canonical.thaw(made.data)
    data.pop("body", None)
    if made.action == "statement":
        policy = data["line"]["policy"]
        data = {"type": policy["type"], "seq": policy["seq"], "by": policy["by"], "data": policy["data"]}
    return {
        "index": row.index,
        "ts": made.ts,
        "action": made.action,
        "outcome": made.outcome,
        "reason": made.reason,
        "actor": made.actor,
        "on_behalf": made.on_behalf,
        "scope_kind": None if made.scope is None else made.scope.kind,
        "scope": None if made.scope is None else made.scope.name,
        "role": made.role,
        "policy_seq": made.policy_seq,
        "id": canonical.b64(made.id),
        "method": None if made.request is None else made.request.method,
        "target": None if made.request is None else made.request.target,
        "created": created,
        "keyid": keyid,
        "detail": canonical.encode(data).decode(),
    }
