"""An encrypted sops file as a source, read by zopp's own reader: every value and the MAC must hold.

Types are kept where the target keeps them. Neither the data key nor the recipients are taken over: who reads the
values here is said by the policy of this workspace. Not done here: finding keys, and refusing a file that this
repository lists itself. Source: importers.md §7.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from zopp import sopsfile
from zopp.errors import FormatError, Unknown, ZoppError
from zopp.exchange import documents
from zopp.exchange.documents import Leaf
from zopp.exchange.entry import Entry, Key, Reading, Remaining
from zopp.exchange.sources import files
from zopp.keys import agefile
from zopp.keys.identity import Identity
from zopp.sopsfile import Entry as Recipient, SopsFile

FORMATS = ("yaml", "json", "dotenv", "ini", "binary")
_SHOWN = 12
_RSA = "ssh-rsa"
# recipients -> our identities for them, as a keyring has them
Matching = Callable[[Iterable[str]], Iterator[Identity]]


def read(data: bytes, form: str, locator: str, matching: Matching) -> Reading:
    """One file. `form` as `sopsfile.format_of` says it. FormatError if it is no sops file or has no age recipient,
    Unknown (`key.none`) if none of our identities opens it, IntegrityError if it was changed."""
    try:
        file = sopsfile.read(data, form)
    except ZoppError as exc:
        if exc.code in ("no_metadata", "no_sops", "missing_metadata"):
            exc.hint = f"if it is not encrypted: zopp import {'json' if form == 'json' else 'yaml'} FILE"
        raise
    tree = file.decrypt(_data_key(file, form, locator, matching))
    leaves = [leaf for number in range(len(tree.documents)) for leaf in _leaves(file, tree, number)]
    entries, left = files.of_leaves(leaves, locator, rename=lambda key: _without_default(key, form))
    why = "who holds its old keys reads it in git's history"
    return Reading(
        kind="sops", place=locator, entries=tuple(map(_with_remarks, entries)), left=left, covers=(f"{locator}#",),
        one_file=True, warnings=_recipients(file),
        remains=(Remaining(todo="delete", place=locator, why=why),) if locator != "-" else (),
    )  # fmt: skip


def _leaves(file: SopsFile, tree: sopsfile.Tree, number: int) -> list[Leaf]:
    lines: dict[Key, int] = {}
    for item in file.items():
        if item.document == number:
            # a list is one value, at the line of its first
            path = tuple(_until_index(item.path))
            lines.setdefault(path, item.line)
    table = documents.of_tree(tree.documents[number], lines, note_below=file.fmt == "ini")
    return list(documents.leaves(table))


def _until_index(path: tuple[str | int, ...]) -> Iterator[str]:
    for part in path:
        if not isinstance(part, str):
            return
        yield part


def _without_default(key: Key, form: str) -> Key:
    """INI keys before the first section stand in one that nobody named."""
    return key[1:] if form == "ini" and len(key) > 1 and key[0] == "DEFAULT" else key


def _with_remarks(entry: Entry) -> Entry:
    if isinstance(entry.value, sopsfile.Timestamp):
        return replace(entry, remarks=("a time",))
    return entry


def _data_key(file: SopsFile, form: str, locator: str, matching: Matching) -> bytes:
    meta = file.metadata
    foreign = ", ".join(sorted({kind for _, kind, _ in meta.foreign}))
    by_sops = _by_sops(form, locator)
    if not any(meta.groups):
        raise FormatError(f"has no age recipient, only {foreign}", code="foreign_keys", hint=by_sops)
    opened = [share for group in meta.groups if (share := _open(group, matching)) is not None]
    if len(meta.groups) == 1 and opened:
        return opened[0]
    needed = meta.threshold or len(meta.groups)
    if len(meta.groups) > 1 and len(opened) >= needed:
        return sopsfile.join_key(opened)
    raise Unknown(
        f"your keys open {len(opened)} of its {len(meta.groups)} key groups, and {needed} are needed"
        if len(meta.groups) > 1
        else "no key of yours opens it",
        code="key.none",
        hint=f"with the keys that you have for its recipients of kind {foreign}: {by_sops}" if foreign else "",
    )


def _by_sops(form: str, locator: str) -> str:
    path = "FILE" if locator == "-" else locator
    if form == "dotenv":
        return f"sops decrypt {path} | zopp import dotenv - --dialect sops"
    other = "" if form in ("yaml", "json") else " --output-type yaml"
    return f"sops decrypt{other} {path} | zopp import {'json' if form == 'json' else 'yaml'} -"


def _open(group: tuple[Recipient, ...], matching: Matching) -> bytes | None:
    """What the first entry that one of our identities opens holds: the data key, or a share of it."""
    entries: dict[str, list[Recipient]] = {}
    for entry in group:
        entries.setdefault(_canonical(entry.recipient), []).append(entry)
    for identity in matching(entries):
        for entry in entries[identity.recipient]:
            try:
                return agefile.unwrap(entry.enc, [identity])
            except Unknown:
                continue
    return None


def _canonical(recipient: str) -> str:
    """As identities call themselves; old files have RSA keys, whose identities bear no recipient of their own."""
    if recipient.startswith(_RSA + " "):
        return _RSA
    try:
        return agefile.canonical_recipient(recipient)
    except ZoppError:
        return ""


def _recipients(file: SopsFile) -> tuple[str, ...]:
    found = [_canonical(entry.recipient) for group in file.metadata.groups for entry in group]
    known = list(dict.fromkeys([recipient for recipient in found if recipient and recipient != _RSA]))
    named = ", ".join(known[:_SHOWN]) + (f" and {len(known) - _SHOWN} more" if len(known) > _SHOWN else "")
    return (f"its recipients are not taken over; let in whom you know with zopp grant: {named}",)
