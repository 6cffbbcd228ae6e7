"""The `op` command as a source: the items of one vault, each asked for by its id.

`run` starts it: a list of arguments in, standard output out, `Failed` for an exit code. No argument is ever a value.
Source: importers.md §4.2. The forms of its errors and of `files` are read from what others report, not measured.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, NoReturn

from zopp.errors import FormatError, NotFound, Unknown, UsageError, ZoppError
from zopp.exchange.entry import Left, Progress, Reading, Remaining
from zopp.exchange.plan import MAX_VALUE
from zopp.exchange.scalars import from_bytes
from zopp.exchange.sources import onepassword
from zopp.exchange.sources.onepassword import Bad, Field, Item, Kind, State, Take, id_text, table, tables, text
from zopp.printable import printable

Run = Callable[[Sequence[str]], bytes]


class Failed(Exception):
    """`op` ended with an error. `said`: its standard error, which is not to be shown as it is."""

    def __init__(self, said: str) -> None:
        super().__init__("op failed")
        self.said = said


def read(
    run: Run,
    *,
    vault: str,
    take: Take,
    items: Sequence[str] = (),
    reveal: bool = False,
    progress: Progress = lambda done, of: None,
) -> Reading:
    """The items of `vault` (name or id), or only `items` of it (titles or ids). `reveal`: pass --reveal, which some
    versions of `op` want before they give concealed values.

    Unknown (`op.*`) where `op` cannot answer now: nobody is signed in, it is locked, it asked too often. NotFound
    (`op.vault`, `op.item`) for what does not exist, UsageError for what names more than one thing, FormatError (`json`)
    for a list that is none. What fails for one item of a list is `rejected`."""
    return _Vault(run, vault, take, reveal, progress).read(items)


class _Vault:
    def __init__(self, run: Run, vault: str, take: Take, reveal: bool, progress: Progress) -> None:
        self._run, self.vault, self.take, self.progress = run, vault, take, progress
        self._get = ["--reveal"] if reveal else []
        self.reveal = reveal
        self.place = f"1password vault {printable(vault)}"
        self.found: list[Item] = []
        self.left: list[Left] = []
        self._read: set[str] = set()

    def read(self, items: Sequence[str]) -> Reading:
        for name in (self.vault, *items):
            if not name or name.startswith("-"):
                raise UsageError("op would read a name like this as an option", code="op.name", hint="say its id")
        if items:
            covers = self._asked(items)
        else:
            covers = self._all()

        def remains(place: str) -> tuple[Remaining, ...]:
            return (Remaining(todo="delete", place=place),)

        entries, more = onepassword.entries(self.found, self.take, remains)
        return Reading(
            kind=onepassword.KIND, place=self.place, entries=tuple(entries), left=(*self.left, *more),
            covers=tuple(dict.fromkeys(covers)),
        )  # fmt: skip

    # --- which items

    def _asked(self, items: Sequence[str]) -> list[str]:
        covers: list[str] = []
        for number, name in enumerate(dict.fromkeys(items)):
            self.progress(number, len(items))
            try:
                data = self._op("item", "get", name, *self._flags(archived=self.take.archived), *self._get)
            except Failed as exc:
                self._stop(exc, "item")
            made = self._item(data, "", "", archived=False, place=f"item {number + 1}")
            if made is not None and made.ref in covers:
                self.found.pop()  # by its title and by its id
            elif made is not None:
                covers.append(made.ref)
        return covers

    def _all(self) -> list[str]:
        """Every item of the vault. Archived ones are listed as well, so that they are not taken for gone; which they
        are is told by the list without them, as not every version of `op` says it."""
        active = self._list(archived=False)
        every = self._list(archived=True)
        known = {one.get("id") for one in active if isinstance(one.get("id"), str)}
        listed = [(one, False) for one in active]
        listed += [(one, True) for one in every if not _is_among(one, known, active)]
        covers = []
        for number, (one, archived) in enumerate(listed):
            self.progress(number, len(listed))
            vault, uuid = "", ""
            try:
                vault = id_text(table(one, "vault"), "id")
                uuid = _plain_id(one)
                title, name = onepassword.title_text(one, "title"), text(table(one, "vault"), "name") or self.vault
            except Bad as exc:
                self.left.append(self._bad(exc.rule, vault, uuid, f"item {number + 1} of {self.place}"))
                continue
            covers.append(onepassword.vault_ref(vault, name))
            if archived and not self.take.archived:
                self.found.append(Item(vault=name, vault_id=vault, title=title, id=uuid, state="archived"))
                continue
            self._listed(uuid, vault, archived)
        return covers

    def _list(self, *, archived: bool) -> list[dict[str, Any]]:
        try:
            data = self._op("item", "list", *self._flags(archived=archived))
        except Failed as exc:
            self._stop(exc, "vault")
        found = _objects(onepassword.documents(data, f"{self.place}: op item list"))
        if found is None:
            raise FormatError("is not a list of items [not-list]", code="json", place=f"{self.place}: op item list")
        return found

    def _flags(self, *, archived: bool) -> list[str]:
        return ["--vault", self.vault, "--format", "json", *(["--include-archive"] if archived else [])]

    def _listed(self, uuid: str, vault: str, archived: bool) -> None:
        try:
            data = self._op("item", "get", uuid, *self._flags(archived=archived), *self._get)
        except Failed as exc:
            rule = _of_item(exc.said)
            if not rule:
                self._stop(exc, "item")
            self.left.append(self._bad(rule, vault, uuid, "", says=f"{uuid}: {_ITEM[rule][1]}"))
            return
        self._item(data, uuid, vault, archived=archived, place="")

    # --- one item

    def _item(self, data: bytes, uuid: str, vault: str, *, archived: bool, place: str) -> Item | None:
        """The item that `op item get` printed; with `uuid` it must be that one. None if it is rejected."""
        try:
            found = _objects(onepassword.documents(data, self.place))
            if found is None or len(found) != 1:
                raise Bad("not-one-item")
            node = found[0]
            self._remember(node)
            vault_id, id_ = id_text(table(node, "vault"), "id") or vault, _plain_id(node)
            if uuid and (id_, vault_id) != (uuid, vault):
                raise Bad("other-item")
            uuid, vault = id_, vault_id
            made = Item(
                vault=text(table(node, "vault"), "name") or self.vault, vault_id=vault_id, id=id_,
                title=onepassword.title_text(node, "title"), version=_version(node),
                state="archived" if archived else _state(node), fields=self._fields(node, f"op://{vault_id}/{id_}"),
            )  # fmt: skip
        except FormatError as exc:
            self.left.append(self._bad(str(exc.data["rule"]), vault, uuid, place))
            return None
        except Bad as exc:
            self.left.append(self._bad(exc.rule, vault, uuid, place))
            return None
        self.found.append(made)
        return made

    def _fields(self, node: dict[str, Any], ref: str) -> tuple[Field, ...]:
        made, history = [], False
        for one in tables(node, "fields"):
            section = table(one, "section")
            id_, title = id_text(one, "id"), onepassword.title_text(one, "label")
            made.append(
                self._field(
                    one,
                    Field(
                        id=id_, label=title or id_, kind=_kind(one),
                        section=onepassword.title_text(section, "label"), section_id=id_text(section, "id"),
                    ),
                )
            )  # fmt: skip
            history = history or bool(table(one, "password_details").get("history"))
        for url in tables(node, "urls"):
            if url.get("primary") is True or len(tables(node, "urls")) == 1:
                made.append(Field(id="overview.url", label="url", kind="url", value=text(url, "href")))
                break
        made += [self._file(one, node, ref) for one in tables(node, "files")]
        if history:
            made.append(
                Field(id="passwordHistory", label="password history", kind="never", why="old passwords", filled=True)
            )
        return tuple([one for one in made if one.value or one.why or one.filled or self.take.wants(one.kind)])

    def _field(self, node: dict[str, Any], made: Field) -> Field:
        value = text(node, "value")
        if made.kind == "never":
            kind = text(node, "type")
            why = _NEVER.get(kind) or f"unknown kind {kind if re.fullmatch('[A-Z_]{1,24}', kind) else ''}".rstrip()
            return _with(made, why=why if value else "")
        hidden = re.fullmatch(r"\[use 'op .* to reveal\]", value) is not None
        if made.kind == "secret" and (hidden or ("value" not in node and not self.reveal)):
            return _with(
                made, why="no-value",
                says="op gave no value for a concealed field: it is empty, or this op wants --reveal; say --reveal",
            )  # fmt: skip
        return _with(made, value=value)

    def _file(self, node: dict[str, Any], item: dict[str, Any], ref: str) -> Field:
        section = table(node, "section")
        made = Field(
            id=_plain_id(node), label=onepassword.title_text(node, "name") or "file", kind="file", filled=True,
            section=onepassword.title_text(section, "label"), section_id=id_text(section, "id"),
        )  # fmt: skip
        if not self.take.files:
            return made
        size = node.get("size")
        if not isinstance(size, int) or not 0 <= size <= MAX_VALUE:
            return _with(made, why="value-size", says=f"the attachment has more than {MAX_VALUE >> 20} MiB")
        try:
            data = self._op("read", "--no-newline", f"{ref}/{made.id}")
        except Failed as exc:
            rule = _of_item(exc.said)
            if not rule:
                self._stop(exc, "item")
            return _with(made, why=rule, says=f"the attachment {made.id} cannot be read")
        # Whether `op` gives the bytes as they are is not documented; the size says it.
        if len(data) != size:
            return _with(made, why="attachment-size", says="op gave an attachment of another size than it says")
        return _with(made, value=from_bytes(data))

    # --- calls

    def _op(self, *arguments: str) -> bytes:
        return self._run(arguments)

    def _remember(self, node: dict[str, Any]) -> None:
        """Every text that stands where a value may, so that no error of a later call shows it."""

        def walk(found: Any) -> None:
            if isinstance(found, dict):
                for name, one in found.items():
                    if name in _VALUES or isinstance(one, (dict, list)):
                        walk(one)
            elif isinstance(found, list):
                for one in found:
                    walk(one)
            elif isinstance(found, str):
                self._read.add(found)

        walk(node.get("fields"))
        walk(node.get("urls"))

    def _bad(self, rule: str, vault: str, uuid: str, place: str, says: str = "") -> Left:
        return onepassword.bad_item(rule, vault_id=vault, item_id=uuid, place=place or self.place, says=says)

    def _stop(self, failed: Failed, what: str) -> NoReturn:
        raise _error(failed.said, what, self._read, self.place) from None


_VALUES = frozenset({"value", "totp", "history", "href"})
_KINDS: dict[str, Kind] = {
    "CONCEALED": "secret",
    "SSHKEY": "secret",
    "URL": "url",
    **dict.fromkeys(("STRING", "EMAIL", "PHONE", "MENU", "GENDER", "CREDIT_CARD_NUMBER", "CREDIT_CARD_TYPE"), "string"),
}
_PURPOSES: dict[str, Kind] = {"USERNAME": "username", "PASSWORD": "secret", "NOTES": "note"}
_NEVER = {
    "OTP": "one-time password",
    "REFERENCE": "reference",
    "DATE": "date",
    "MONTH_YEAR": "month and year",
    "ADDRESS": "address",
}


def _kind(node: dict[str, Any]) -> Kind:
    by_type = _KINDS.get(text(node, "type"), "never")
    return _PURPOSES.get(text(node, "purpose")) or onepassword.named(text(node, "id"), by_type)


def _with(made: Field, *, value: str = "", why: str = "", says: str = "") -> Field:
    return Field(
        id=made.id, label=made.label, kind=made.kind, section=made.section, section_id=made.section_id, value=value,
        why=why, says=says, filled=made.filled,
    )  # fmt: skip


def _is_among(one: dict[str, Any], known: Collection[Any], active: Collection[dict[str, Any]]) -> bool:
    id_ = one.get("id")
    return id_ in known if isinstance(id_, str) else one in active


def _state(node: dict[str, Any]) -> State:
    state = text(node, "state").lower()
    if state in ("", "active"):
        return "active"
    if state == "archived":
        return "archived"
    if state in ("deleted", "trashed"):
        return "trashed"
    raise Bad("unknown-state")


def _version(node: dict[str, Any]) -> str:
    version = node.get("version")
    return str(version) if isinstance(version, int) and 0 <= version < 1 << 53 else ""


def _plain_id(node: dict[str, Any]) -> str:
    """An id that is an argument of `op` and part of a reference."""
    found = id_text(node, "id")
    if not re.fullmatch("[A-Za-z0-9_-]+", found):
        raise Bad("odd-id")
    return found


def _objects(values: Iterable[Any]) -> list[dict[str, Any]] | None:
    """One list of objects, or objects one after another; None for anything else."""
    found = [one for value in values for one in (value if isinstance(value, list) else [value])]
    return found if all(isinstance(one, dict) for one in found) else None


# --- what it says when it fails, in lower case with plain quotes

_RATE = ("(429)", "too many requests", "rate limit")
_SIGNED_OUT = ("signed in", "no accounts configured", "session expired", "invalid session", "signed out")
_LOCKED = ("authorization prompt", "authorization timeout", "authorization was denied", "desktop app", "is locked")
_MANY = ("more than one item matches", "more than one vault matches")
_ACCOUNT = ("a vault query must be provided",)
_VAULT = ("isn't a vault", "no vault")
# What is said of one item, and the import may go on with the others if it is left out.
_ITEM: dict[str, tuple[tuple[str, ...], str]] = {
    "gone": (("isn't an item", "no item", "could not find item"), "was listed, and is there no more; try again"),
    "denied": (("(403)", "forbidden", "permission", "not authorized"), "may not be read by this account"),
}


def _says(said: str, signs: Sequence[str]) -> bool:
    return any(sign in said for sign in signs)


def _plain(said: str) -> str:
    return said.lower().replace("\u2019", "'")


def _of_item(said: str) -> str:
    """The rule if `op` speaks of the one item; '' if it cannot answer at all, or for another reason."""
    plain = _plain(said)
    if _says(plain, (*_RATE, *_SIGNED_OUT, *_LOCKED, *_ACCOUNT, *_VAULT)):
        return ""
    return next((rule for rule, (signs, _) in _ITEM.items() if _says(plain, signs)), "")


def _error(said: str, what: str, read: Iterable[str], place: str) -> ZoppError:
    plain = _plain(said)
    if _says(plain, _RATE):
        return Unknown(
            "1Password answers no more requests of this account for now; nothing is imported", code="op.rate",
            place=place, hint="wait, or import fewer items with --item",
        )  # fmt: skip
    if _says(plain, _ACCOUNT):
        return UsageError("a service account must name its vault", code="op.vault", place=place, hint="say --vault")
    if _says(plain, _LOCKED):
        return Unknown(
            "op is locked, or was not allowed in", code="op.locked", place=place,
            hint="unlock 1Password and allow the access",
        )  # fmt: skip
    if _says(plain, _SIGNED_OUT):
        return Unknown("op is not signed in", code="op.signed_out", place=place, hint="eval $(op signin)")
    if _says(plain, _MANY):
        return UsageError("names more than one", code="op.name", place=place, hint="say its id")
    if _says(plain, _VAULT):
        return NotFound("op knows no such vault", code="op.vault", place=place, hint="op vault list")
    if what == "item" and _says(plain, _ITEM["gone"][0]):
        return NotFound("does not have an item that is asked for", code="op.item", place=place, hint="op item list")
    if what == "item" and _says(plain, _ITEM["denied"][0]):
        return Unknown("an item may not be read by this account", code="op.denied", place=place)
    shown = filtered(said, read)
    return Unknown("op failed" + (f": {shown}" if shown else ""), code="op.failed", place=place)


_SHOWN = 200


def filtered(said: str, values: Iterable[str]) -> str:
    """The last line of an error, without its time and without any of `values`, however they may be spelled in it."""
    found = said
    for form in sorted({form for value in values for form in _forms(value)}, key=len, reverse=True):
        if len(form) >= 4:
            found = found.replace(form, "[…]")
        elif re.search(rf"(?<!\w){re.escape(form)}(?!\w)", found):
            return "[…]"  # it stands everywhere
    lines = [line for line in found.splitlines() if line.strip()]
    line = re.sub(r"^\[ERROR\] [\d/]+ [\d:]+ ", "", lines[-1].strip()) if lines else ""
    return printable(line if len(line) <= _SHOWN else line[:_SHOWN] + "…")


def _forms(value: str) -> list[str]:
    """A value as it is, its lines, and as JSON and Go would quote it."""
    quoted = [json.dumps(value, ensure_ascii=ascii_)[1:-1] for ascii_ in (False, True)]
    return [form for form in (value, value.strip(), *value.splitlines(), *quoted) if form.strip()]
