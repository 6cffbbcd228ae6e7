"""What of a policy log is not verified again, and what always is."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from tests.unit.policy.world import World
from zopp import _fast
from zopp.errors import IntegrityError
from zopp.repo import policycache


def grown(world: World, names: list[str]) -> World:
    world = copy.copy(world)
    world.lines = list(world.lines)
    for name in names:
        world.do("alice-laptop", "group.create", {"group": name})
    return world


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The messages whose signatures were checked."""
    seen: list[bytes] = []
    real = _fast.ed25519_verify

    def verify(public: bytes, signature: bytes, message: bytes) -> bool:
        seen.append(message)
        return real(public, signature, message)

    monkeypatch.setattr(_fast, "ed25519_verify", verify)
    return seen


def fold(world: World, cache: Path, checked: list[bytes]) -> int:
    checked.clear()
    state = policycache.fold(world.data, genesis=world.state.ws, cache_dir=str(cache))
    assert (state.seq, state.head) == (world.state.seq, world.state.head)
    return len(checked)


def test_only_what_is_new_since_the_fork_is_verified(tmp_path: Path, checked: list[bytes]) -> None:
    base = grown(World(), ["one", "two"])
    ours, theirs = grown(base, ["three", "four", "five"]), grown(base, ["other"])
    assert fold(ours, tmp_path, checked) == 6
    assert fold(ours, tmp_path, checked) == 0
    assert fold(theirs, tmp_path, checked) == 1
    assert fold(base, tmp_path, checked) == 0  # a checkout of the commit before
    assert fold(ours, tmp_path, checked) == 3


@given(st.integers(0, 5), st.booleans())
def test_a_forged_line_is_found_wherever_it_stands(
    tmp_path_factory: pytest.TempPathFactory, at: int, torn: bool
) -> None:
    """The cache knows the honest log; a line with another signature is refused, alone and with what followed."""
    cache = tmp_path_factory.mktemp("cache")
    honest = grown(World(), ["one", "two", "three", "four", "five"])
    policycache.fold(honest.data, genesis=honest.state.ws, cache_dir=str(cache))
    lines = list(honest.lines)
    good = lines[at]
    sig = good.index(b'"sigs":["') + 9
    lines[at] = good[:sig] + (b"A" if good[sig : sig + 1] != b"A" else b"B") + good[sig + 1 :]
    data = b"".join(line + b"\n" for line in (lines[: at + 1] if torn else lines))
    with pytest.raises(IntegrityError):
        policycache.fold(data, genesis=honest.state.ws, cache_dir=str(cache))
