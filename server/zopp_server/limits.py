"""How much one address and one principal may ask for; what the log holds one by one (policy-server.md §5.2, §7; A28).

The log is fail-closed, so whoever fills it stops everybody. Hence: a bucket of requests for each address before and for
each principal after authentication, a quota of log bytes for each principal, and counts instead of entries where
nobody, or nobody with a role, is behind a refusal. All of it is in this process's memory and bounded; a replica has its
own. `now` is a monotonic clock in seconds, `ts` the wall clock in milliseconds; neither is read here.

Left to the caller: to ask in the right order, to answer 429, and to write `summaries()` once a minute.
"""

from __future__ import annotations

import ipaddress
import math
from collections import OrderedDict
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Literal

from zopp.policy import statement

What = Literal["unauthenticated", "denied", "unmatched", "quota"]
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

MINUTE = 60.0
MAX_WAIT = 86400
"""Seconds: the most that a `retry_after` says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The sizes. A rate of 0 switches a limit off, which only load tests should.

    `address_*` and `principal_*`: requests. `quota_*`: bytes of log entries. `denials`: refusals of one role-less
    principal that are logged one by one in a minute. `failure_cost`: what a failed authentication takes from its
    address beside the request itself. `keys`: how many addresses or principals a table remembers."""

    address_rate: float = 100.0
    address_burst: float = 500.0
    principal_rate: float = 50.0
    principal_burst: float = 250.0
    quota_rate: float = 16 * 1024 * 1024 / 3600
    quota_burst: float = 16 * 1024 * 1024
    denials: int = 10
    failure_cost: float = 9.0
    keys: int = 65536


class Buckets:
    """Token buckets by key: `burst` at once, `rate` a second. The least recently used one is forgotten when there are
    more than `keys`; forgetting fills a bucket, so `keys` is far above what is in use at a time."""

    __slots__ = ("_burst", "_keys", "_rate", "_table")

    def __init__(self, rate: float, burst: float, keys: int) -> None:
        self._rate, self._burst, self._keys = rate, burst, keys
        self._table: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()  # key -> (level, as of)

    def __len__(self) -> int:
        return len(self._table)

    def _level(self, key: Hashable, now: float) -> float:
        level, since = self._table.get(key, (self._burst, now))
        return min(self._burst, level + self._rate * max(0.0, now - since))

    def _keep(self, key: Hashable, level: float, now: float) -> None:
        since = self._table.get(key, (0.0, now))[1]
        self._table[key] = level, max(now, since)  # a clock that steps back gives nothing twice
        self._table.move_to_end(key)
        if len(self._table) > self._keys:
            self._table.popitem(last=False)

    def take(self, key: Hashable, cost: float, now: float) -> float:
        """0.0 if `cost` was taken, else the seconds until it could be; then nothing is taken. A cost above the burst
        counts as the burst, as it could never be paid."""
        if not self._rate:
            return 0.0
        cost = min(cost, self._burst)
        level = self._level(key, now)
        if level >= cost:
            self._keep(key, level - cost, now)
            return 0.0
        self._keep(key, level, now)
        return (cost - level) / self._rate

    def charge(self, key: Hashable, cost: float, now: float) -> None:
        """Take `cost` whether it is there or not; the level does not fall below nothing."""
        if self._rate:
            self._keep(key, max(0.0, self._level(key, now) - cost), now)


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """A `summary` entry to write in the log `log`: `count` refusals of `actor` (None: of nobody, or of too many to
    name), the first of them at `since` (Unix milliseconds)."""

    log: str
    what: What
    actor: str | None
    count: int
    since: int


class Counts:
    """What is counted instead of logged, until it is drained. At most `keys` actors are told apart; the others are
    counted together, so that no event is lost and nobody fills the memory."""

    __slots__ = ("_keys", "_table")

    def __init__(self, keys: int = 1024) -> None:
        self._keys = keys
        self._table: dict[tuple[str, What, str | None], tuple[int, int]] = {}

    def __len__(self) -> int:
        return len(self._table)

    def add(self, log: str, what: What, actor: str | None, ts: int, count: int = 1) -> None:
        """`count` more."""
        key = (log, what, actor)
        if key not in self._table and len(self._table) >= self._keys:
            key = (log, what, None)
        before, since = self._table.get(key, (0, ts))
        self._table[key] = before + count, min(since, ts)

    def drain(self) -> list[Summary]:
        """Everything counted since the last call, sorted."""
        table, self._table = self._table, {}
        return [
            Summary(log=log, what=what, actor=actor, count=count, since=since)
            for (log, what, actor), (count, since) in sorted(table.items(), key=lambda each: repr(each[0]))
        ]


class Limits:
    """All limits of one process. Not for use by several threads.

    The order of a request: `address` → authentication (`failed` if it fails) → `principal` → decision → `quota` with
    the bytes of the entries about to be written; a refusal of one without any role asks `one_by_one` first.
    """

    def __init__(self, settings: Settings = Settings()) -> None:
        s = settings
        self._address = Buckets(s.address_rate, s.address_burst, s.keys)
        self._principal = Buckets(s.principal_rate, s.principal_burst, s.keys)
        self._quota = Buckets(s.quota_rate, s.quota_burst, s.keys)
        self._denials = s.denials
        self._failure_cost = s.failure_cost
        self._windows: OrderedDict[tuple[str, str], tuple[float, int]] = OrderedDict()  # -> (begun, logged)
        self._keys = s.keys
        self._counts = Counts()
        self._drained = -math.inf

    def address(self, address: str, now: float) -> int:
        """Before authentication: 0, or the seconds to wait."""
        return _wait(self._address.take(address_key(address), 1.0, now))

    def failed(self, address: str, now: float, ts: int, log: str = "system") -> None:
        """An authentication failed: dearer than a request that does not, and counted for the summary of `log`."""
        self._address.charge(address_key(address), self._failure_cost, now)
        self._counts.add(log, "unauthenticated", None, ts)

    def principal(self, log: str, principal: str, now: float) -> int:
        """After authentication: 0, or the seconds to wait. `principal` is the CI job's service for a CI job."""
        return _wait(self._principal.take((log, principal), 1.0, now))

    def quota(self, log: str, principal: str, size: int, now: float, ts: int) -> int:
        """Room for `size` bytes of entries: 0, or the seconds until there is, for 429 `quota`. A refusal writes no
        entry, as that would use the room that is not there; it is counted."""
        wait = _wait(self._quota.take((log, principal), float(size), now))
        if wait:
            self._counts.add(log, "quota", principal, ts)
        return wait

    def one_by_one(self, log: str, principal: str, now: float, ts: int, what: What = "denied") -> bool:
        """Whether this refusal of a principal without any role gets an entry of its own; if not, it is counted.
        Genuine CI tokens that are refused come under their issuer, as anybody on earth can get one, and are counted
        without a name: an issuer is no actor of the log."""
        key = (log, principal)
        begun, logged = self._windows.get(key, (now, 0))
        if not 0 <= now - begun < MINUTE:
            begun, logged = now, 0
        alone = logged < self._denials
        self._windows[key] = begun, logged + alone
        self._windows.move_to_end(key)
        if len(self._windows) > self._keys:
            self._windows.popitem(last=False)
        if not alone:
            self._counts.add(log, what, principal if statement.is_by(principal) else None, ts)
        return alone

    def unmatched(self, log: str, principal: str, count: int, ts: int) -> None:
        """Stanzas that no key opened: counted, as plugins ask for foreign ones all day."""
        self._counts.add(log, "unmatched", principal, ts, count)

    def summaries(self, now: float, *, flush: bool = False) -> list[Summary]:
        """The summaries to write: once a minute what was counted since, else nothing. `flush` at shutdown. What the
        caller could not write it gives back with `restore`."""
        if not flush and now - self._drained < MINUTE:
            return []
        self._drained = now
        return self._counts.drain()

    def restore(self, summaries: Iterable[Summary]) -> None:
        """Count again what could not be written."""
        for each in summaries:
            self._counts.add(each.log, each.what, each.actor, each.since, each.count)


def _wait(seconds: float) -> int:
    return min(MAX_WAIT, math.ceil(seconds))


def address_key(address: str) -> str:
    """What counts as one address: an IPv4 address, or the /64 of an IPv6 one, which a single machine has to itself.
    Any other text (a Unix socket's peer) is one address of its own."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return "?"
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is not None:
            return str(found.ipv4_mapped)
        return str(ipaddress.ip_network((found, 64), strict=False))
    return str(found)


def client_address(peer: str, forwarded: str, proxies: Iterable[Network]) -> str:
    """The client behind a connection from `peer`: `forwarded` (X-Forwarded-For, repeated fields joined by commas) is
    read from the right and believed only as far as listed `proxies` wrote it. For limits and the log's keyed hash
    only; what a request is bound to never depends on it (§3.1)."""
    trusted = list(proxies)
    here = peer
    for said in reversed([part.strip() for part in forwarded.split(",")] if forwarded else []):
        if not _inside(here, trusted):
            return here
        try:
            here = str(ipaddress.ip_address(said))
        except ValueError:
            return here
    return here


def _inside(address: str, networks: list[Network]) -> bool:
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
        found = found.ipv4_mapped
    return any(found in network for network in networks)
