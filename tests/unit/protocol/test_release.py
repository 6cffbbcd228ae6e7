"""The release protocol between a small honest server and a client, and every answer that the client must not take."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, strategies as st

from tests.unit.policy.world import World
from zopp import _fast
from zopp.errors import FormatError, IntegrityError, Unknown, ZoppError
from zopp.keys import agefile, bech32, curve, filekey, identity, signing as keys
from zopp.policy import canonical, names
from zopp.protocol import receipt as receipts, release, signing
from zopp.protocol.receipt import Receipt
from zopp.protocol.release import Item, Released, Request, Response, Result
from zopp.tlog import checkpoint, entry, merkle, proof
from zopp.tlog.checkpoint import Checkpoint
from zopp.tlog.note import Verifier

GENESIS = "ab" * 32
ORIGIN = checkpoint.origin_of("https://zopp.example.test", "acme", GENESIS)
TARGET = "https://zopp.example.test/v1/releases/acme"
LOG_KEY = keys.from_seed(b"\5" * 32)
LOG = Verifier(ORIGIN, LOG_KEY.public)
DEVICE = keys.from_seed(b"\6" * 32)
NOW = 1795305600
ENV = "api/production"

READER_SECRET, READER = identity.generate()
IDENTITY = identity.from_secret(READER_SECRET, "test")
SERVER_SECRET, SERVER_RECIPIENT = identity.generate()
SERVER = filekey.PrivateKey(bech32.decode("age-secret-key-", SERVER_SECRET.lower()) or b"")

SHARES = [agefile.wrap(SERVER_RECIPIENT, b"share %d" % number) for number in range(3)]
PATHS = ("api/secrets/production.yaml", None, "api/secrets/ü.json")
ITEMS = tuple(Item(*filekey.stanza_of(agefile.dearmor(text)), path) for text, path in zip(SHARES, PATHS, strict=True))


class Server:
    """An honest policy server in 60 lines: one log, one environment key."""

    def __init__(self) -> None:
        self.leaves: list[bytes] = []
        self.frontier = merkle.EMPTY
        self.append([b"genesis %d" % number for number in range(5)])

    def append(self, bodies: list[bytes]) -> merkle.Appended:
        new = [entry.leaf(body) for body in bodies]
        made = merkle.append(self.frontier, new)
        self.leaves += new
        self.frontier = made.after
        return made

    def head(self) -> Checkpoint:
        return Checkpoint(ORIGIN, self.frontier.size, self.frontier.root)

    def read(self, level: int, index: int) -> bytes:
        return merkle.root_of(self.leaves[index << level : (index + 1) << level])

    def receipts(self, bodies: list[bytes]) -> list[Receipt]:
        first = self.frontier.size
        made = self.append(bodies)
        note = checkpoint.sign(self.head(), LOG_KEY)
        return [
            Receipt(body, proof.Proof(first + n, tuple(made.inclusion(first + n)), note).serialise())
            for n, body in enumerate(bodies)
        ]

    def answer(self, sent: Any, body: bytes, deny: frozenset[int] = frozenset(), **change: Any) -> Response:
        request = release.parse_request(body)
        found = [SERVER.open(item.share, item.body) for item in request.items]
        bodies, first = [], True
        for number, (item, key) in enumerate(zip(request.items, found, strict=True)):
            if key is None:
                continue
            data = {
                "again": False, "body": canonical.b64(body) if first else None, "generation": 3, "item": number,
                "path": item.path, "purpose": request.purpose, "stanza": item.stanza,
            }  # fmt: skip
            first = False
            options = {
                "ts": NOW * 1000, "id": b"\7" * 16, "outcome": "deny" if number in deny else "allow",
                "reason": "role" if number in deny else None, "actor": "bob-laptop", "role": "read", "policy_seq": 118,
                "scope": names.Scope("env", ENV), "request": sent,
            } | change  # fmt: skip
            bodies.append(entry.build("release", data, **options))
        made = iter(self.receipts(bodies))
        results, released = [], []
        for number, (item, key) in enumerate(zip(request.items, found, strict=True)):
            if key is None:
                results.append(Result("unmatched"))
            elif number in deny:
                results.append(Result("denied", "role", next(made)))
            else:
                results.append(Result("released", None, next(made)))
                released.append(Released(env=ENV, generation=3, stanza=item.stanza, key=key))
        size = self.frontier.size
        return Response(
            id=b"\7" * 16,
            policy_seq=118,
            policy_hash="cd" * 32,
            results=tuple(results),
            consistency=tuple(merkle.consistency(self.read, request.size, size)),
            sealed=release.seal(READER, id=b"\7" * 16, keys=released) if released else None,
        )


class Client:
    """A request, signed."""

    def __init__(self, kept: Checkpoint | None, items: tuple[Item, ...] = ITEMS, env: str | None = ENV) -> None:
        self.kept = kept
        self.request = Request(
            ws=GENESIS, env=env, purpose="read", size=kept.size if kept else 0, idem=b"\1" * 16, items=items
        )
        self.body = release.build_request(self.request)
        self.sent = signing.sign(
            DEVICE, method="POST", target=TARGET, body=self.body, created=NOW, nonce=_fast.sha256(self.body)[:16]
        )

    def accept(self, response: Response, **change: Any) -> release.Accepted:
        log = change.pop("log", LOG)
        options: dict[str, Any] = {
            "sent": self.sent, "body": self.body, "kept": self.kept, "identities": [IDENTITY], "recipient": READER,
        }  # fmt: skip
        response = release.parse_response(release.build_response(response))
        return release.accept(response, self.request, log, **(options | change))


def test_a_release_from_request_to_share() -> None:
    """All of §4: three stanzas out, one checkpoint kept, three shares opened with the released file keys."""
    server = Server()
    client = Client(server.head())
    done = client.accept(server.answer(client.sent, client.body))
    assert done.checkpoint == server.head()
    assert done.reasons == (None, None, None)
    for number, key in enumerate(done.keys):
        assert key is not None
        assert (key.env, key.generation, key.stanza) == (ENV, 3, ITEMS[number].stanza)
        assert filekey.payload(agefile.dearmor(SHARES[number]), key.key) == b"share %d" % number
        assert key.key.hex() not in repr(key)
        assert repr(key.key) not in repr(key)
    again = Client(done.checkpoint)
    assert again.accept(server.answer(again.sent, again.body)).checkpoint == server.head()


def test_nothing_remembered_and_partial_answers() -> None:
    server = Server()
    client = Client(None)
    done = client.accept(server.answer(client.sent, client.body, frozenset({0, 2})))
    assert done.reasons == ("role", None, "role")
    assert [key is not None for key in done.keys] == [False, True, False]
    client = Client(server.head())
    done = client.accept(server.answer(client.sent, client.body, frozenset({0, 1, 2})))
    assert done.keys == (None, None, None)
    _, other = identity.generate()
    foreign = Item(*filekey.stanza_of(agefile.dearmor(agefile.wrap(other, b"x"))))
    client = Client(server.head(), (foreign, ITEMS[1]), None)
    done = client.accept(server.answer(client.sent, client.body))
    assert done.keys[0] is None
    assert done.keys[1] is not None
    client = Client(server.head(), (foreign,))
    unmatched = server.answer(client.sent, client.body)
    assert client.accept(unmatched) == release.Accepted((None,), (None,), None)


def refuse(client: Client, response: Response, code: str = "", **change: Any) -> None:
    with pytest.raises((IntegrityError, FormatError, Unknown)) as caught:
        client.accept(response, **change)
    assert not code or caught.value.code == code, caught.value


def test_a22_the_receipt_of_another_entry() -> None:
    """An unlogged release with receipts of another request, another item, another decision, or one for two."""
    server = Server()
    client = Client(server.head())
    kept = server.head()
    earlier = Client(kept, ITEMS)
    earlier.sent = signing.sign(
        DEVICE, method="POST", target=TARGET, body=earlier.body, created=NOW - 1, nonce=bytes(16)
    )
    old = server.answer(earlier.sent, earlier.body)
    refuse(client, old, "receipt")

    def fresh(**change: Any) -> tuple[Client, Response]:
        one = Client(server.head())
        return one, server.answer(one.sent, one.body, **change)

    one, good = fresh()
    a, b, c = good.results
    refuse(one, replace(good, results=(b, a, c)), "receipt")
    refuse(one, replace(good, results=(a, a, c)), "receipt")
    refuse(one, replace(good, results=(Result("denied", "role", a.receipt), b, c)), "receipt")
    refuse(one, replace(good, results=(a, b)), "answer")
    refuse(one, replace(good, results=(a, b, c, c)), "answer")
    refuse(one, replace(good, policy_seq=119), "receipt")
    refuse(one, replace(good, id=bytes(16)), "receipt")
    refuse(one, good, "receipt", sent=replace(one.sent, signature=client.sent.signature[:10] + "A" * 78 + "==:"))
    refuse(one, good, "receipt", body=one.body + b" ")
    one, denied = fresh(deny=frozenset({0}))
    lie = replace(denied, results=(Result("released", None, denied.results[0].receipt), *denied.results[1:]))
    refuse(one, lie, "receipt")
    other = replace(denied, results=(Result("denied", "quota", denied.results[0].receipt), *denied.results[1:]))
    refuse(one, other, "receipt")
    for change in (
        {"scope": names.Scope("env", "api/staging")}, {"policy_seq": 117}, {"id": bytes(16)},
        {"outcome": "deny", "reason": "role"},
    ):  # fmt: skip
        one, wrong = fresh(**change)
        refuse(one, wrong, "receipt")


def test_claims_and_places_are_compared() -> None:
    server = Server()
    client = Client(server.head())
    response = server.answer(client.sent, client.body)
    assert response.results[0].receipt is not None
    good: dict[str, Any] = {
        "sent": client.sent, "item": 0, "stanza": ITEMS[0].stanza, "env": ENV, "purpose": "read", "path": PATHS[0],
        "outcome": "allow", "policy_seq": 118, "id": b"\7" * 16,
    }  # fmt: skip
    receipt = response.results[0].receipt
    assert receipts.check_release(receipt, LOG, **good).index == 5
    for change in (
        {"item": 1}, {"stanza": ITEMS[1].stanza}, {"env": "api/staging"}, {"purpose": "edit"}, {"path": None},
        {"path": "x.yaml"}, {"outcome": "deny"}, {"policy_seq": 0}, {"id": bytes(16)},
        {"sent": replace(client.sent, method="PUT")}, {"sent": replace(client.sent, target=TARGET + "x")},
        {"sent": replace(client.sent, content_digest=signing.content_digest(b""))},
    ):  # fmt: skip
        with pytest.raises(IntegrityError):
            receipts.check_release(receipt, LOG, **(good | change))


def test_forged_and_foreign_logs() -> None:
    """Another log key, another origin, a consistency proof cut or lengthened, a tree that forgot what was kept."""
    server = Server()
    client = Client(server.head())
    good = server.answer(client.sent, client.body)
    refuse(client, good, log=Verifier(ORIGIN, keys.from_seed(b"\x08" * 32).public))
    refuse(client, good, log=Verifier(ORIGIN.replace("acme", "other"), LOG_KEY.public), code="origin")
    refuse(client, replace(good, consistency=good.consistency[:-1]), "proof")
    refuse(client, replace(good, consistency=(*good.consistency, bytes(32))), "proof")
    refuse(client, replace(good, consistency=()), "proof")
    refuse(client, good, "size", kept=None)
    # The same size as remembered, but the tree below it is another (a split view).
    refuse(client, good, "proof", kept=replace(Server().head(), root=bytes(32)))


def test_a_rolled_back_log_is_found() -> None:
    """Receipts that are right in every other way under a checkpoint smaller than, or beside, the kept one."""
    server = Server()
    client = Client(server.head())
    good = server.answer(client.sent, client.body)
    big = Checkpoint(ORIGIN, 4000, bytes(32))
    client.request = replace(client.request, size=4000)
    refuse(client, good, "rollback", kept=big)
    same = Checkpoint(ORIGIN, server.frontier.size, bytes(32))
    client.request = replace(client.request, size=same.size)
    refuse(client, good, "split_view", kept=same)


def test_all_receipts_are_under_the_one_checkpoint_that_is_proven() -> None:
    """The log key also signed a fork: its receipt would hold, and only the first one's checkpoint is compared."""
    server, fork = Server(), Server()
    client = Client(server.head())
    good = server.answer(client.sent, client.body)
    fork.append([b"aside"])
    aside = fork.answer(client.sent, client.body)
    mixed = (good.results[0], aside.results[1], good.results[2])
    assert mixed[1].receipt is not None
    assert receipts.check(mixed[1].receipt, LOG).index == 7
    refuse(client, replace(good, results=mixed), "receipt")


def test_a_record_older_than_the_request_is_no_record_of_it() -> None:
    server = Server()
    client = Client(server.head())
    good = server.answer(client.sent, client.body)
    client.request = replace(client.request, size=server.frontier.size)
    refuse(client, replace(good, consistency=()), "receipt", kept=server.head())


def test_sealed_keys_must_be_those_released() -> None:
    """Swapped, missing, surplus or relabelled keys; sealed to another; of another request; not age at all."""
    server = Server()
    client = Client(server.head())
    good = server.answer(client.sent, client.body)
    assert good.sealed is not None
    whole = list(release.unseal(good.sealed, [IDENTITY], id=good.id).values())
    _, stranger = identity.generate()
    for sealed in (
        release.seal(READER, id=good.id, keys=whole[:2]),
        release.seal(READER, id=good.id, keys=[]),
        release.seal(READER, id=good.id, keys=[*whole, replace(whole[0], stanza="00" * 32)]),
        release.seal(READER, id=good.id, keys=[replace(whole[0], env="api/staging"), *whole[1:]]),
        release.seal(READER, id=good.id, keys=[replace(whole[0], generation=4), *whole[1:]]),
        release.seal(READER, id=bytes(16), keys=whole),
        release.seal(stranger, id=good.id, keys=whole),
        agefile.wrap(READER, b"{}"),
        agefile.wrap(READER, b"\xff"),
        "x",
        good.sealed[:-40],
    ):
        refuse(client, replace(good, sealed=sealed))
    with pytest.raises(FormatError):
        release.seal(READER, id=good.id, keys=[whole[0], whole[0]])
    with pytest.raises(FormatError):
        release.seal(READER, id=good.id, keys=[replace(whole[0], key=bytes(15))])
    # A key under another's stanza hash is found by age's header MAC, the last check (R1).
    swapped = [replace(whole[0], key=whole[1].key), *whole[1:]]
    done = client.accept(replace(good, sealed=release.seal(READER, id=good.id, keys=swapped)))
    assert done.keys[0] is not None
    with pytest.raises(IntegrityError):
        filekey.payload(agefile.dearmor(SHARES[0]), done.keys[0].key)


# --- the request


VALUE = json.loads(release.build_request(Client(None).request))


def test_the_request_s_form() -> None:
    body = release.build_request(Client(None).request)
    assert VALUE["v"] == 1
    assert VALUE["env"] == ENV
    assert list(VALUE["items"][1]) == ["b", "e"]
    assert release.parse_request(body) == Client(None).request
    assert release.parse_request(json.dumps(VALUE, indent=1).encode().strip()) == Client(None).request
    without = replace(Client(None).request, env=None, items=ITEMS[:2])
    assert release.parse_request(release.build_request(without)) == without
    assert b'"env"' not in release.build_request(without)


def items(count: int) -> list[dict[str, str]]:
    return [{"b": canonical.b64(number.to_bytes(32, "big")), "e": VALUE["items"][0]["e"]} for number in range(count)]


@pytest.mark.parametrize(
    "change",
    [
        {"v": 2}, {"v": "1"}, {"v": True}, {"v": 1.0}, {"ws": "AB" * 32}, {"ws": ""}, {"env": None}, {"env": "api"},
        {"env": "api/Prod"}, {"env": ["a/b"]}, {"purpose": "steal"}, {"purpose": None}, {"size": -1}, {"size": "0"},
        {"size": 2**53}, {"size": 1.5}, {"size": False}, {"idem": "AA"}, {"idem": "B" * 22}, {"more": 1}, {"items": []},
        {"items": {}}, {"items": None}, {"items": [None]}, {"items": [[]]}, {"items": items(1) + items(1)},
        {"items": items(101)}, {"items": [items(1)[0] | {"path": "../x"}]}, {"items": [items(1)[0] | {"path": None}]},
        {"items": [items(1)[0] | {"path": "\ud800"}]}, {"items": [items(1)[0] | {"more": 1}]},
        {"items": [{"b": "A" * 43}]}, {"items": [items(1)[0] | {"b": "A" * 42}]},
        {"items": [items(1)[0] | {"e": canonical.b64(bytes(32))}]},
        {"items": [items(1)[0] | {"e": canonical.b64(curve.LOW_ORDER_U[3].to_bytes(32, "little"))}]},
        {"items": [items(1)[0] | {"e": canonical.b64(b"\xff" * 32)}]},
    ],
    ids=lambda change: repr(change)[:40],
)  # fmt: skip
def test_other_requests_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(FormatError) as caught:
        release.parse_request(json.dumps(VALUE | change).encode())
    assert caught.value.code in ("bad_request", "too_large")


def test_limits_and_doubled_keys() -> None:
    """100 items and 32 KiB; 2 items without an environment (A28); no key twice at any depth."""
    assert len(release.parse_request(json.dumps(VALUE | {"items": items(100)}).encode()).items) == 100
    whole = json.dumps(VALUE).encode()
    bare = {key: value for key, value in VALUE.items() if key != "env"}
    assert len(release.parse_request(json.dumps(bare | {"items": items(2)}).encode()).items) == 2
    for body in (
        whole[:-1] + b',"v":1}', whole.replace(b'"e":', b'"b":"x","e":', 1), whole + b" " * 33000,
        json.dumps(bare | {"items": items(3)}).encode(), b"", b"\xff", b"[" * 5000, b"null", b"NaN", whole + b"{}",
        *[json.dumps({key: value for key, value in VALUE.items() if key != name}).encode()
          for name in VALUE if name != "env"],
    ):  # fmt: skip
        with pytest.raises(FormatError):
            release.parse_request(body)
    with pytest.raises(FormatError) as caught:
        release.parse_request(whole + b" " * 33000)
    assert caught.value.code == "too_large"


# --- the answer's form


def an_answer() -> bytes:
    server = Server()
    client = Client(server.head())
    return release.build_response(server.answer(client.sent, client.body, frozenset({1})))


ANSWER = an_answer()


@pytest.mark.parametrize(
    "change",
    [
        {"v": 2}, {"id": "AA"}, {"items": []}, {"items": None}, {"policy": {"seq": 1}}, {"sealed": None},
        {"sealed": 1}, {"consistency": ["A"]}, {"consistency": ["A" * 43] * 129}, {"more": 1},
        {"items": [{"reason": None, "receipt": None, "result": "unmatched"}]},
        {"items": [{"reason": None, "receipt": None, "result": "released"}]},
        {"items": [{"reason": "x", "receipt": None, "result": "unmatched"}]},
        {"items": [{"reason": None, "receipt": {"body": "", "proof": ""}, "result": "denied"}]},
        {"items": [{"reason": None, "receipt": {"body": "", "proof": ""}, "result": "unmatched"}]},
        {"items": [{"reason": None, "receipt": {"body": ""}, "result": "released"}]},
        {"items": [{"reason": None, "receipt": {"body": 1, "proof": ""}, "result": "released"}]},
        {"items": [{"reason": None, "receipt": {"body": "", "proof": ""}, "result": "given"}]},
        {"items": [{"reason": None, "receipt": {"body": "", "proof": ""}, "result": "released"}] * 101},
    ],
    ids=lambda change: repr(change)[:40],
)  # fmt: skip
def test_other_answers_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(FormatError):
        release.parse_response(canonical.encode(canonical.decode(ANSWER) | change))


def test_answers_have_one_spelling() -> None:
    assert release.build_response(release.parse_response(ANSWER)) == ANSWER
    for body in (b"", b"{}", ANSWER + b"\n", json.dumps(canonical.decode(ANSWER)).encode(), b" " * (1 << 24)):
        with pytest.raises(FormatError):
            release.parse_response(body)


@given(st.integers(0, len(ANSWER)), st.binary(max_size=3), st.integers(0, 5))
def test_damaged_answers_give_a_value_or_a_zopp_error(at: int, junk: bytes, cut: int) -> None:
    data = ANSWER[:at] + junk + ANSWER[at + cut :]
    try:
        made = release.parse_response(data)
    except ZoppError:
        return
    assert release.build_response(made) == data


@given(st.integers(0, 600), st.binary(max_size=3), st.integers(0, 5))
def test_damaged_requests_give_a_value_or_a_zopp_error(at: int, junk: bytes, cut: int) -> None:
    whole = release.build_request(Client(None).request)
    data = whole[:at] + junk + whole[at + cut :]
    try:
        made = release.parse_request(data)
    except ZoppError:
        return
    assert release.parse_request(release.build_request(made)) == made


# --- receipts of policy lines


def test_a6_the_receipt_of_a_line() -> None:
    """Only the record of that very line as accepted: not a refused one, another line, another action or log."""
    server = Server()
    world = World()
    world.project("api")
    line = world.lines[1]
    request = signing.sign(DEVICE, method="POST", target=TARGET, body=b"", created=NOW, nonce=bytes(16))

    def body(text: bytes, outcome: str, reason: str | None, seq: int) -> bytes:
        return entry.build(
            "statement", {"line": canonical.decode(text)}, ts=NOW * 1000, id=bytes(16), outcome=outcome, reason=reason,
            actor="alice-laptop", policy_seq=seq, request=request,
        )  # fmt: skip

    accepted, refused, other = server.receipts(
        [body(line, "allow", None, 1), body(line, "deny", "stale_prev", 1), body(world.lines[0], "allow", None, 0)]
    )
    made = receipts.check_line(accepted, line, LOG)
    assert made.entry.line == line
    assert made.checkpoint == server.head()
    assert receipts.parse(accepted.serialise()) == accepted
    fact = server.receipts([entry.build("operator", {"detail": "x", "event": "x"}, ts=0, id=bytes(16), outcome="fact")])
    for bad in (refused, other, fact[0], Receipt(accepted.body, other.proof), Receipt(refused.body, accepted.proof)):
        with pytest.raises(IntegrityError):
            receipts.check_line(bad, line, LOG)
    with pytest.raises(IntegrityError):
        receipts.check_line(accepted, line, Verifier(ORIGIN, DEVICE.public))
    own = Verifier("attacker.test/acme/0123456789abcdef", LOG_KEY.public)
    with pytest.raises(IntegrityError):
        receipts.check_line(accepted, line, own)


@pytest.mark.parametrize(
    "data",
    [b"", b"{}", b'{"body":"a"}', b'{"body":1,"proof":"x"}', b'{"body":"a","proof":"b","x":1}', b"[]",
     b'{"proof":"b","body":"a"}', b'{"body":"a","proof":"b"}\n', b" " * (1 << 19)],
)  # fmt: skip
def test_malformed_receipts(data: bytes) -> None:
    with pytest.raises(FormatError):
        receipts.parse(data)
    with pytest.raises(FormatError):
        Receipt(b"\xff", b"").serialise()
    with pytest.raises(ZoppError):
        receipts.check(Receipt(b"a", b"b"), LOG)
