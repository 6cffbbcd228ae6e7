"""Brokered environments: key groups, the two shares of a data key, and whoever releases the server's half.

A file of a brokered environment has its readers in group 1 and the server key (and a declared break-glass key) in
group 2, Shamir 2 of 2 (brokered-grants.md §3). A `Releaser` gives the age *file key* of a group-2 stanza and never a
share (R1); what it gives is checked here against the stanza's own header before anything is made of it. Which files
may be asked for, and the commitments, are `unlock`'s; who the server is, `client.releases`'.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from zopp import sopsfile
from zopp.errors import IntegrityError, ZoppError
from zopp.keys import agefile, filekey
from zopp.policy.state import State
from zopp.sopsfile import Entry, Metadata

if TYPE_CHECKING:
    from zopp.repo.workspace import Workspace

MAX_BATCH = 100
"""Files in one request (brokered-grants.md §4.1)."""

Groups = tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Stanza:
    """What a release is asked for: `path` as a claim for the log, `share` and `body` (32 bytes each) of the X25519
    stanza of the server's entry. Public data from git."""

    path: str
    share: bytes
    body: bytes


class Releaser(Protocol):
    """Whoever asks the policy server of a workspace."""

    def __call__(self, ws: Workspace, scope: str, purpose: str, items: Sequence[Stanza], /) -> Sequence[bytes]:
        """The age file keys (16 bytes each) of 1 to MAX_BATCH different stanzas of the environment `scope`, in their
        order. `purpose` is read, edit, rotate or review. All or nothing: Denied naming the environment and the missing
        role, Unknown if nobody answers, IntegrityError if an answer does not hold."""


@dataclass(frozen=True, slots=True)
class Key:
    """An opened data key (32 bytes) and, of a file with two groups, its two shares (33 bytes each)."""

    data: bytes = field(repr=False)
    shares: tuple[bytes, bytes] | None = field(default=None, repr=False)

    @property
    def share(self) -> bytes | None:
        """Share 1, which `kc1` commits to."""
        return None if self.shares is None else self.shares[0]


@dataclass(frozen=True, slots=True)
class Wrapped:
    """A data key wrapped for an environment: what the sops block gets, and share 1 for the manifest's `kc1`."""

    groups: tuple[tuple[Entry, ...], ...]
    threshold: int | None
    share: bytes | None = field(default=None, repr=False)


def groups(state: State, scope: str) -> Groups:
    """The recipients that files of `scope` should have: one group (direct), or the readers and {server key,
    break-glass} (brokered; the second is empty while the policy names no server key)."""
    env = state.envs[scope]
    readers = tuple(recipient for _, recipient in sorted(state.readers(scope).items()))
    if env.kind == "direct":
        return (readers,)
    return readers, tuple(recipient for recipient in (env.server_key, env.break_glass) if recipient is not None)


def describe(state: State, scope: str) -> Mapping[str, str]:
    """Recipient -> what it is called, of everything in the workspace and of the keys of this environment."""
    known = {principal.recipient: name for name, principal in state.principals.items()}
    env = state.all_envs[scope]
    if env.server_key is not None:
        known[env.server_key] = "the server key"
    if env.break_glass is not None:
        known[env.break_glass] = "break-glass"
    return known


def fits(meta: Metadata, kind: str) -> bool:
    """Whether a file's recipients stand in the shape of this kind (§3): one flat list, or two groups of threshold 2."""
    if kind == "direct":
        return meta.flat and len(meta.groups) == 1 and meta.threshold is None
    return not meta.flat and len(meta.groups) == 2 and meta.threshold == 2


def is_server_key(state: State, scope: str, recipient: str) -> bool:
    """Whether the recipient is, or was, the server key of this environment and of no other (R7)."""
    return state.recipient_owner(recipient) == f"server:{scope}"


def wrap(state: State, scope: str, data_key: bytes) -> Wrapped:
    """A new data key for everyone who should have it. IntegrityError `no_server_key`, `no_reader` where a brokered
    environment cannot hold a file yet."""
    wanted = require_groups(state, scope)
    payloads = [data_key] if len(wanted) == 1 else sopsfile.split_key(data_key, 2, 2)
    made = tuple(
        tuple(Entry(recipient, agefile.wrap(recipient, payload)) for recipient in group)
        for group, payload in zip(wanted, payloads, strict=True)
    )
    return Wrapped(made, None, None) if len(wanted) == 1 else Wrapped(made, 2, payloads[0])


def rewrap(state: State, scope: str, meta: Metadata, payloads: Sequence[bytes | None]) -> Wrapped:
    """The same data key for those who should have it: entries that are there stay byte for byte, the others hold the
    payload of their group (the data key, or share 1 and share 2). The file has the shape of its environment; a payload
    may be None where its group lacks nobody."""
    wanted = require_groups(state, scope)
    made = []
    for group, have, payload in zip(wanted, meta.groups, payloads, strict=True):
        kept = {entry.recipient: entry for entry in have}
        entries = []
        for recipient in group:
            if recipient not in kept:
                assert payload is not None, "a share that was not opened cannot be wrapped"
                kept[recipient] = Entry(recipient, agefile.wrap(recipient, payload))
            entries.append(kept[recipient])
        made.append(tuple(entries))
    return Wrapped(tuple(made), 2 if len(wanted) == 2 else None, payloads[0] if len(wanted) == 2 else None)


def require_groups(state: State, scope: str) -> Groups:
    """`groups`, refused where they cannot hold a file."""
    wanted = groups(state, scope)
    shown = scope.partition("@")[0]
    if len(wanted) == 2 and state.envs[scope].server_key is None:
        raise IntegrityError(
            f"{shown} is brokered, and the policy names no server key of it yet",
            code="no_server_key",
            hint=f"an admin of {shown} has to run: zopp env serverkey {shown.partition('/')[2]}",
        )
    if len(wanted) == 2 and not wanted[0]:
        raise IntegrityError(
            f"nobody could open a file of {shown}: its readers have no signing key or no age1… recipient",
            code="no_reader",
            hint="see who is left out with: zopp doctor",
        )
    return wanted


def stanza(path: str, entry: Entry) -> Stanza:
    """The stanza of the server's entry. FormatError unless it is exactly one of X25519."""
    try:
        share, body = filekey.stanza_of(agefile.dearmor(entry.enc))
    except ZoppError as exc:
        exc.place = exc.place or path
        raise
    return Stanza(path, share, body)


def check_share(share: bytes, x: int, path: str) -> bytes:
    """The share itself; IntegrityError unless it has 33 bytes and stands for group `x` (§3): sops would also take x = 0
    and let whoever gave it choose the key."""
    if len(share) != 33 or share[-1] != x:
        raise IntegrityError(
            f"what group {x} holds is not share {x} of a data key",
            code="share",
            place=path,
            hint="restore the file from git, and ask who changed it: git log -- " + path,
        )
    return share


def second_share(path: str, entry: Entry, file_key: bytes) -> bytes:
    """Share 2 by a released file key. IntegrityError if the key does not fit the entry (a wrong answer fails the age
    header's MAC, R1), FormatError if it has not 16 bytes."""
    try:
        return check_share(filekey.payload(agefile.dearmor(entry.enc), file_key), 2, path)
    except ZoppError as exc:
        exc.place = exc.place or path
        raise


def join(first: bytes, second: bytes) -> Key:
    """The data key of two checked shares."""
    return Key(sopsfile.join_key([first, second]), (first, second))
