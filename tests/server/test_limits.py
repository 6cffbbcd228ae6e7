"""Limits: what is let through is bounded, memory is bounded, and nothing that happened is lost (A28)."""

import ipaddress
import math

import pytest
from hypothesis import given, strategies as st

from zopp.tlog import entry
from zopp_server.limits import (
    MAX_WAIT,
    MINUTE,
    Buckets,
    Counts,
    Limits,
    Settings,
    Summary,
    address_key,
    client_address,
)

STEPS = st.lists(
    st.tuples(st.sampled_from("abc"), st.floats(0, 20, allow_nan=False), st.floats(-1, 5, allow_nan=False)), max_size=60
)


@given(steps=STEPS, rate=st.floats(0.1, 10), burst=st.floats(1, 20))
def test_never_more_than_burst_and_rate(steps: list[tuple[str, float, float]], rate: float, burst: float) -> None:
    """In every span of time a key gets at most burst + rate × span, whatever the order, also when the clock steps
    back; and a refusal takes nothing."""
    buckets = Buckets(rate, burst, 100)
    now = 0.0
    newest: dict[str, float] = {}
    taken: dict[str, list[tuple[float, float]]] = {}
    for key, cost, step in steps:
        now += step
        newest[key] = max(newest.get(key, now), now)
        wait = buckets.take(key, cost, now)
        assert wait >= 0 and math.isfinite(wait)
        if wait == 0:
            taken.setdefault(key, []).append((newest[key], min(cost, burst)))
    for spent in taken.values():
        for first in range(len(spent)):
            total = 0.0
            for at, cost in spent[first:]:
                total += cost
                assert total <= burst + rate * (at - spent[first][0]) + 1e-6


@given(rate=st.floats(0.1, 10), burst=st.floats(1, 20), cost=st.floats(0.5, 20), used=st.floats(0, 20))
def test_whoever_waits_as_long_as_told_gets_in(rate: float, burst: float, cost: float, used: float) -> None:
    buckets = Buckets(rate, burst, 10)
    buckets.charge("a", used, 0.0)
    wait = buckets.take("a", cost, 0.0)
    assert buckets.take("a", cost, wait + 1e-6) == 0 or wait == 0


@given(keys=st.lists(st.integers(0, 1000), max_size=300), room=st.integers(1, 20))
def test_memory_is_bounded_and_the_busy_are_remembered(keys: list[int], room: int) -> None:
    buckets = Buckets(1.0, 5.0, room)
    for number, key in enumerate(keys):
        buckets.take(key, 1.0, 0.0)
        assert len(buckets) <= room
        assert number < room or len(buckets) >= 1
    if keys:  # the last key is still there: its bucket is not full
        assert buckets.take(keys[-1], 5.0, 0.0) > 0


def test_keys_do_not_share() -> None:
    buckets = Buckets(1.0, 1.0, 10)
    assert [buckets.take(key, 1.0, 0.0) for key in "abab"] == [0, 0, 1, 1]


def test_rate_zero_is_off() -> None:
    assert all(Buckets(0.0, 1.0, 1).take("a", 99.0, 0.0) == 0 for _ in range(10))


@pytest.mark.parametrize(
    ("address", "wanted"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::/64"),
        ("2001:db8::ffff:1:2:3", "2001:db8::/64"),
        ("2001:db8:0:1::1", "2001:db8:0:1::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::1", "::/64"),
        ("", "?"),
        ("unix:", "?"),
        ("192.0.2.1.5", "?"),
        ("x" * 10000, "?"),
    ],
)
def test_address_key(address: str, wanted: str) -> None:
    """A machine with a /64 has 2^64 addresses; they count as one."""
    assert address_key(address) == wanted


@given(st.text(max_size=50))
def test_address_key_takes_any_text(text: str) -> None:
    assert address_key(text)


PROXIES = [ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("fd00::/8")]


@pytest.mark.parametrize(
    ("peer", "forwarded", "wanted"),
    [
        ("192.0.2.1", "", "192.0.2.1"),
        ("192.0.2.1", "198.51.100.7", "192.0.2.1"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", "198.51.100.7", "198.51.100.7"),
        ("10.0.0.1", "1.1.1.1, 198.51.100.7", "198.51.100.7"),
        ("10.0.0.1", "1.1.1.1, 198.51.100.7, 10.0.0.2", "198.51.100.7"),
        ("10.0.0.1", "10.0.0.3, 10.0.0.2", "10.0.0.3"),
        ("10.0.0.1", "1.1.1.1, garbage", "10.0.0.1"),
        ("10.0.0.1", "1.1.1.1, garbage, 10.0.0.2", "10.0.0.2"),
        ("10.0.0.1", ",,,", "10.0.0.1"),
        ("::ffff:10.0.0.1", "198.51.100.7", "198.51.100.7"),
        ("fd00::1", "2001:db8::5", "2001:db8::5"),
        ("unix:", "198.51.100.7", "unix:"),
        ("10.0.0.1", "198.51.100.7:443", "10.0.0.1"),
    ],
)
def test_client_address(peer: str, forwarded: str, wanted: str) -> None:
    """What a client writes itself stands left of what a listed proxy saw, and is not believed."""
    assert client_address(peer, forwarded, PROXIES) == wanted


@given(peer=st.text(max_size=20), forwarded=st.text(max_size=60))
def test_client_address_takes_any_text(peer: str, forwarded: str) -> None:
    assert client_address(peer, forwarded, []) == peer


# --- Limits


def test_one_address_does_not_stop_another() -> None:
    limits = Limits(Settings(address_rate=1, address_burst=3))
    assert [limits.address("192.0.2.1", 0.0) for _ in range(5)] == [0, 0, 0, 1, 1]
    assert limits.address("192.0.2.2", 0.0) == 0
    assert limits.address("192.0.2.1", 1.0) == 0


def test_failures_are_dear() -> None:
    """Guessing is ten times as dear as working, and ends as one entry a minute."""
    limits = Limits(Settings(address_rate=1, address_burst=100))
    tries = 0
    while limits.address("192.0.2.1", 0.0) == 0:
        limits.failed("192.0.2.1", 0.0, 5000)
        tries += 1
    assert tries == 10
    (summary,) = limits.summaries(0.0)
    assert summary == Summary(log="system", what="unauthenticated", actor=None, count=10, since=5000)


def test_principals_are_limited_by_workspace() -> None:
    limits = Limits(Settings(principal_rate=1, principal_burst=1))
    assert [limits.principal(log, "ci", 0.0) for log in ("a", "a", "b")] == [0, 1, 0]


def test_a28_a_flood_is_stopped_by_its_quota() -> None:
    """One principal that floods writes no more than its quota; another is not held up; the refusals are one entry."""
    limits = Limits(Settings(quota_rate=100, quota_burst=10_000))
    written = 0
    refused = 0
    for number in range(10_000):
        if limits.quota("acme", "weakest", 900, number / 1000, number):
            refused += 1
        else:
            written += 900
    assert written <= 10_000 + 100 * 10
    assert limits.quota("acme", "other", 900, 10.0, 0) == 0
    (summary,) = limits.summaries(10.0)
    assert (summary.what, summary.actor, summary.count) == ("quota", "weakest", refused)


def test_a28_role_less_denials_are_ten_a_minute() -> None:
    limits = Limits()
    alone = [limits.one_by_one("acme", "mallory", second, int(second * 1000)) for second in range(60)]
    assert alone == [True] * 10 + [False] * 50
    assert limits.one_by_one("acme", "bob", 59.0, 59_000)
    assert limits.one_by_one("acme", "mallory", MINUTE, 60_000)
    (summary,) = limits.summaries(61.0)
    assert summary == Summary(log="acme", what="denied", actor="mallory", count=50, since=10_000)


def test_a28_tokens_of_an_issuer_are_ten_a_minute_and_their_summary_fits_the_log() -> None:
    limits = Limits()
    alone = [limits.one_by_one("acme", "https://gitlab.com", 0.0, 5) for _ in range(1000)]
    assert sum(alone) == 10
    (summary,) = limits.summaries(0.0)
    assert summary == Summary(log="acme", what="denied", actor=None, count=990, since=5)


def test_summaries_come_once_a_minute() -> None:
    limits = Limits()
    assert limits.summaries(0.0) == []
    limits.failed("192.0.2.1", 1.0, 1)
    assert limits.summaries(59.9) == []
    assert len(limits.summaries(60.0)) == 1
    limits.failed("192.0.2.1", 61.0, 2)
    assert limits.summaries(62.0) == []
    assert len(limits.summaries(62.0, flush=True)) == 1
    assert limits.summaries(62.0, flush=True) == []


def test_what_could_not_be_written_is_not_lost() -> None:
    limits = Limits()
    for ts in (5, 6, 7):
        limits.failed("192.0.2.1", 0.0, ts)
    failed = limits.summaries(0.0)
    limits.failed("192.0.2.1", 1.0, 8)
    limits.restore(failed)
    (summary,) = limits.summaries(60.0)
    assert (summary.count, summary.since) == (4, 5)


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["denied", "unmatched", "quota", "unauthenticated"]), st.integers(0, 30), st.integers(0, 9)
    ),
    max_size=200,
)


@given(events=EVENTS, room=st.integers(1, 8))
def test_counts_lose_nothing(events: list[tuple[str, int, int]], room: int) -> None:
    """However many actors there are, each event is in one summary of its kind, and memory is bounded."""
    counts = Counts(room)
    for what, actor, ts in events:
        counts.add("acme", what, f"p{actor}", ts)  # type: ignore[arg-type]
        assert len(counts) <= room + 4
    drained = counts.drain()
    for what in {what for what, _, _ in events}:
        assert sum(each.count for each in drained if each.what == what) == sum(w == what for w, _, _ in events)
    if events:
        assert min(each.since for each in drained) == min(ts for _, _, ts in events)
    assert counts.drain() == []


@given(
    seconds=st.lists(st.floats(0, 30), max_size=100),
    who=st.lists(st.sampled_from(["a", "b", "c"]), min_size=100, max_size=100),
)
def test_denials_are_logged_or_counted(seconds: list[float], who: list[str]) -> None:
    """Each once, and at most ten of one principal in any window that begins with a logged one."""
    limits = Limits()
    now = 0.0
    logged: dict[str, list[float]] = {}
    counted = 0
    for step, actor in zip(seconds, who, strict=False):
        now += step
        if limits.one_by_one("acme", actor, now, int(now)):
            logged.setdefault(actor, []).append(now)
        counted += sum(each.count for each in limits.summaries(now))
    counted += sum(each.count for each in limits.summaries(now, flush=True))
    assert counted + sum(map(len, logged.values())) == len(seconds)
    for times in logged.values():
        for first, later in zip(times, times[20:], strict=False):
            assert later - first >= MINUTE


def test_windows_are_bounded() -> None:
    limits = Limits(Settings(keys=10))
    for number in range(1000):
        assert limits.one_by_one("acme", f"p{number}", 0.0, 0)
    assert len(limits._windows) == 10


@pytest.mark.parametrize("what", ["unauthenticated", "denied", "unmatched", "quota"])
@pytest.mark.parametrize("actor", [None, "mallory"])
def test_a_summary_fits_the_log(what: str, actor: str | None) -> None:
    counts = Counts()
    counts.add("acme", what, actor, 1_800_000_000_000)  # type: ignore[arg-type]
    (each,) = counts.drain()
    data = {"count": each.count, "since": each.since, "what": each.what}
    body = entry.build("summary", data, ts=1_800_000_060_000, id=bytes(16), outcome="fact", actor=each.actor)
    assert entry.parse(body).actor == actor


def test_waits_fit_the_answer() -> None:
    limits = Limits(Settings(quota_rate=1e-9, quota_burst=1))
    assert limits.quota("acme", "a", 1, 0.0, 0) == 0
    assert limits.quota("acme", "a", 1, 0.0, 0) == MAX_WAIT
