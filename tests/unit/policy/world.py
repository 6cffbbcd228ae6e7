"""A small workspace to write tests in: named devices with real keys, and a log that grows statement by statement."""

from __future__ import annotations

import hashlib
from functools import cache
from typing import Any

import pytest

from zopp import _fast
from zopp.errors import IntegrityError
from zopp.policy import canonical, log, requests, statement
from zopp.policy.apply import apply
from zopp.policy.state import State

_CHARSET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"


class Key:
    """An Ed25519 key from a label."""

    def __init__(self, label: str) -> None:
        self._key = _fast.ed25519_private(hashlib.sha256(b"key " + label.encode()).digest())
        self.public: bytes = self._key.public_key().public_bytes_raw()
        self.text = canonical.b64(self.public)

    def sign(self, message: bytes) -> bytes:
        return bytes(self._key.sign(message))


@cache
def key(label: str) -> Key:
    return Key(label)


def _polymod(values: list[int]) -> int:
    check = 1
    for value in values:
        top = check >> 25
        check = (check & 0x1FFFFFF) << 5 ^ value
        for i, g in enumerate((0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)):
            check ^= g if top >> i & 1 else 0
    return check


def age_text(raw: bytes) -> str:
    """Bech32 of an X25519 point (BIP 173)."""
    number = int.from_bytes(raw, "big") << 4
    data = [number >> 5 * i & 31 for i in range(51, -1, -1)]
    expanded = [ord(c) >> 5 for c in "age"] + [0] + [ord(c) & 31 for c in "age"]
    check = _polymod([*expanded, *data, 0, 0, 0, 0, 0, 0]) ^ 1
    return "age1" + "".join(_CHARSET[v] for v in [*data, *(check >> 5 * (5 - i) & 31 for i in range(6))])


@cache
def recipient(label: str) -> str:
    raw = bytearray(hashlib.sha256(b"age " + label.encode()).digest())
    raw[31] &= 0x3F
    return age_text(bytes(raw))


def ssh_recipient(label: str) -> str:
    import base64

    blob = b"\0\0\0\x0bssh-ed25519\0\0\0 " + key(label).public
    return "ssh-ed25519 " + base64.b64encode(blob).decode()


def rid(label: str) -> bytes:
    return hashlib.sha256(b"id " + label.encode()).digest()[:16]


class World:
    """A growing log. `by` names the signing device; its key has the device's name as label unless rekeyed."""

    def __init__(self, admin: str = "alice", device: str = "alice-laptop", ws: str = "acme", at: int = 1000) -> None:
        self.at = at
        self.keys = {device: key(device)}
        data = {
            "workspace": ws,
            "salt": canonical.b64(b"s" * 32),
            "user": admin,
            "email_tag": None,
            "principal": device,
            "key": key(device).text,
            "recipient": recipient(device),
        }
        policy = statement.draft("genesis", data, ws=None, seq=0, prev=None, at=at, by=device)
        line = statement.seal(policy, [key(device).sign(statement.to_sign(policy))])
        self.lines = [line]
        self.state: State = apply(None, statement.parse(line))
        self.n = 0

    @property
    def data(self) -> bytes:
        return b"".join(line + b"\n" for line in self.lines)

    def line(
        self,
        by: str,
        type: str,
        data: dict[str, Any],
        *,
        at: int | None = None,
        signer: Key | None = None,
        **header: Any,
    ) -> bytes:
        s = self.state
        fields = {"ws": s.ws, "seq": s.seq + 1, "prev": s.head, "at": self.at if at is None else at, "by": by} | header
        policy = statement.draft(type, data, **fields)
        return statement.seal(policy, [(signer or self.keys[by]).sign(statement.to_sign(policy))])

    def do(self, by: str, type: str, data: dict[str, Any], *, at: int | None = None, **more: Any) -> State:
        line = self.line(by, type, data, at=at, **more)
        self.state = apply(self.state, statement.parse(line))
        self.lines.append(line)
        self.at = self.state.at
        return self.state

    def request(
        self,
        name: str,
        user: str | None,
        *,
        signing: bool = True,
        recip: str | None = None,
        not_after: int | None = None,
        label: str | None = None,
        ws: str | None = None,
    ) -> dict[str, Any]:
        """{"request", "proof"} of a fresh request."""
        self.n += 1
        own = key(label or name)
        raw = requests.draft(
            ws=ws or self.state.ws,
            name=name,
            user=user,
            key=own.public if signing else None,
            recipient=recip or recipient(label or name),
            id=rid(f"{name}{self.n}"),
            not_after=self.at + 100 if not_after is None else not_after,
        )
        proof = canonical.b64(own.sign(requests.to_sign(raw))) if signing else None
        return {"request": canonical.decode(raw), "proof": proof}

    def vouched(self, type: str, data: dict[str, Any], device: str, not_after: int | None = None) -> dict[str, Any]:
        end = self.at + 100 if not_after is None else not_after
        signed = requests.vouch_to_sign(type, data, ws=self.state.ws, device=device, not_after=end)
        return data | {"vouch": requests.vouch(device, end, self.keys[device].sign(signed))}

    def enrol_data(self, name: str, user: str | None, cap: str | None = None, **more: Any) -> dict[str, Any]:
        self.keys[name] = key(more.get("label") or name)
        return {**self.request(name, user, **more), "cap": cap, "vouch": None}

    def enrol(
        self, name: str, user: str | None, cap: str | None = None, by: str = "alice-laptop", **more: Any
    ) -> State:
        return self.do(by, "principal.enrol", self.enrol_data(name, user, cap, **more))

    def user(self, name: str, *devices: str, by: str = "alice-laptop") -> None:
        self.do(by, "user.add", {"user": name, "email_tag": None})
        for device in devices:
            self.enrol(device, name, by=by)

    def bind(self, subject: dict[str, str], role: str, scope: dict[str, str], by: str = "alice-laptop") -> State:
        return self.do(by, "binding.set", {"subject": subject, "role": role, "scope": scope})

    def unbind(self, subject: dict[str, str], scope: dict[str, str], by: str = "alice-laptop") -> State:
        return self.do(by, "binding.remove", {"subject": subject, "scope": scope})

    def env(self, name: str, kind: str = "direct", protected: bool = False, by: str = "alice-laptop") -> State:
        return self.do(by, "env.create", {"env": name, "kind": kind, "protected": protected})

    def project(self, name: str, *envs: str, by: str = "alice-laptop") -> None:
        self.do(by, "project.create", {"project": name})
        for env in envs:
            self.env(f"{name}/{env}", by=by)

    def fold(self) -> State:
        return log.fold(self.data, genesis=self.state.ws)


ACME = {"workspace": "acme"}
API = {"project": "api"}
DEV = {"env": "api/dev"}
PROD = {"env": "api/prod"}
BOB = {"user": "bob"}


def acme() -> World:
    """Alice (admin, one device), Bob (laptop, phone), Carol (desktop), ci; api: dev, staging, prod; web: dev."""
    w = World()
    w.user("bob", "bob-laptop", "bob-phone")
    w.user("carol", "carol-desktop")
    w.enrol("ci", None)
    w.project("api", "dev", "staging", "prod")
    w.project("web", "dev")
    return w


CANARY = "canary7secret"


def quotes_nothing(error: BaseException, text: str = CANARY) -> None:
    """No part of the error that anyone may print holds `text`."""
    parts = [str(error), repr(getattr(error, "__dict__", "")), str(error.__cause__)]
    assert not any(text in part for part in parts)


def refused(w: World, rule: str, by: str, type: str, data: dict[str, Any], **more: Any) -> None:
    """The statement is refused by this rule, named with its seq, and nothing changes."""
    before = w.state
    with pytest.raises(IntegrityError) as caught:
        w.do(by, type, data, **more)
    assert caught.value.data["rule"] == rule, caught.value
    assert caught.value.data["seq"] == before.seq + 1
    assert w.state is before


RULE = {
    "rule": "deploy",
    "service": "ci",
    "issuer": "https://ci.example.org",
    "audience": "zopp",
    "claims": {"ref": "main", "project_id": "1"},
    "max_ttl": 60,
}


def invite_data(name: str, role: str, tag: str | None = None, scope: dict[str, str] = DEV) -> dict[str, Any]:
    return {"invite": name, "key": key(name).text, "email_tag": tag, "scope": scope, "role": role, "not_after": 5000}


def redeem_data(
    w: World,
    invite: str,
    device: str,
    user: str,
    *,
    tag: str | None = None,
    countersigned: bool = False,
    signer: Key | None = None,
) -> dict[str, Any]:
    made = w.request(device, user)
    signed = requests.claim_to_sign(canonical.encode(made["request"]))
    claim = canonical.b64((signer or key(invite)).sign(signed)) if countersigned else None
    return {**made, "invite": invite, "email_tag": tag, "claim": claim}
