"""The tree itself: checkpoint, tiles (c2sp.org/tlog-tiles) and proofs, for whoever verifies without trusting us."""

from __future__ import annotations

from zopp.errors import FormatError, NotFound, UsageError
from zopp.protocol import messages
from zopp.tlog import merkle, tiles
from zopp_server.calls import Answer, Call, Refusal, enter, query
from zopp_server.routes.audit import _allowed
from zopp_server.service import Service


async def checkpoint(service: Service, call: Call) -> Answer:
    """`GET /v1/log/WS/checkpoint`."""
    caller = await enter(service, call, ("principal", "ci"))
    query(call.query, {})
    async with service.reading() as connection:
        _, _, note = await service.snapshot(connection, caller.workspace.log)
    return Answer(
        status=200, body=note.serialise(), type="text/plain; charset=utf-8", id=caller.id, caller=caller.name,
        outcome="read",
    )  # fmt: skip


async def inclusion(service: Service, call: Call) -> Answer:
    """`GET /v1/log/WS/proof/inclusion?index=I&size=N`."""
    return await _proof(service, call, "index")


async def consistency(service: Service, call: Call) -> Answer:
    """`GET /v1/log/WS/proof/consistency?from=N&size=M`."""
    return await _proof(service, call, "from")


async def _proof(service: Service, call: Call, kind: str) -> Answer:
    caller = await enter(service, call, ("principal", "ci"))
    wanted = query(call.query, {kind: "int", "size": "int"})
    if kind not in wanted:
        raise FormatError(f"the query parameter {kind} is missing", code="bad_request")
    first = wanted[kind]
    async with service.reading() as connection:
        tree, head, note = await service.snapshot(connection, caller.workspace.log)
        size = wanted.get("size", 0) or head.size
        if size > head.size or (first >= size if kind == "index" else first > size):
            raise Refusal("not_found", "the log is not so long", None, caller.id, "", caller.name)
        make = merkle.inclusion if kind == "index" else merkle.consistency
        hashes = await tree.prove(connection, lambda read: make(read, first, size), size)
    body = messages.build_answer("proof", checkpoint=note.serialise().decode(), hashes=messages.hashes(hashes))
    return Answer(status=200, body=body, id=caller.id, caller=caller.name, outcome="read")


async def tile(service: Service, call: Call) -> Answer:
    """`GET /v1/log/WS/tile/…`: a tile of hashes, or for admins and auditors a bundle of entries."""
    caller = await enter(service, call, ("principal", "ci"))
    query(call.query, {})
    try:
        wanted, bundle = tiles.parse_path("tile/" + call.rest)
    except (FormatError, UsageError):
        raise Refusal("not_found", "not the path of a tile", None, caller.id, "", caller.name) from None
    begin = wanted.n * tiles.WIDTH
    if bundle:
        if caller.kind != "principal":
            raise Refusal(
                "denied", "the entries are for admins and auditors", {"rule": "role"}, caller.id, "", caller.name
            )
        await _allowed(service, caller, "", 0, (begin, begin + wanted.width - 1))
    async with service.reading() as connection:
        tree, head, _ = await service.snapshot(connection, caller.workspace.log)
        if begin + wanted.width > head.size >> 8 * wanted.level:
            raise Refusal("not_found", "the log has no such tile yet", None, caller.id, "", caller.name)
        if bundle:
            rows = await connection.fetch(
                "SELECT body FROM audit.entry WHERE log_id = $1 AND seq >= $2 AND seq < $3 ORDER BY seq",
                *(caller.workspace.log, begin, begin + wanted.width),
            )
            body = tiles.pack_entries([row["body"] for row in rows])
        else:
            try:
                body = await tree.tile(connection, wanted)
            except NotFound:
                raise Refusal("not_found", "the log has no such tile yet", None, caller.id, "", caller.name) from None
    return Answer(
        status=200, body=body, type="application/octet-stream", id=caller.id, caller=caller.name, outcome="read"
    )
