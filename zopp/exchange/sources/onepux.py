"""A 1PUX file, 1Password's unencrypted export: a zip archive, read in memory; nothing of it is extracted.

The archive is judged before any of it is unpacked, and what is not well formed is refused whole; an item that is not is
refused alone, by its uuid. Source: importers.md §4.1, and the structure that 1Password publishes.
"""

from __future__ import annotations

import io
import lzma
import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Collection
from dataclasses import replace
from typing import Any, NoReturn

from zopp.errors import FormatError, NotFound
from zopp.exchange.entry import Left, Reading, Remaining
from zopp.exchange.plan import MAX_VALUE
from zopp.exchange.scalars import from_bytes
from zopp.exchange.sources import onepassword
from zopp.exchange.sources.onepassword import Bad, Field, Item, Kind, State, Take, id_text, table, tables, text

# An account with ten thousand items has about 30 MiB of `export.data`; attachments stand beside it.
MAX_BYTES = 256 << 20
MAX_MEMBERS = 20_000
MAX_DATA = 64 << 20
MAX_TOTAL = 1 << 30
# Deflate reaches 1032 on zeros and about 30 on such JSON. Below a mebibyte no ratio does harm.
MAX_RATIO = 200
_RATIO_FROM = 1 << 20

RULES = {
    "not-zip": "is no zip archive, or a damaged one",
    "member-count": f"has more than {MAX_MEMBERS} members",
    "member-name": "has a member whose name leads elsewhere",
    "duplicate-member": "has two members of one name",
    "encrypted-member": "has an encrypted member",
    "symlink": "has a member that is a link",
    "compression": "has a member that is compressed by another method than deflate",
    "ratio": f"has a member that unpacks to more than {MAX_RATIO} times its size",
    "total-size": f"unpacks to more than {MAX_TOTAL >> 20} MiB",
    "data-size": f"unpacks to more than {MAX_DATA >> 20} MiB",
    "no-member": "is missing",
    "damaged-member": "is damaged",
    "version": "does not say that the export is of version 2 or 3",
    "structure": "does not hold accounts, vaults and items in lists",
}


def _refuse(place: str, rule: str) -> NoReturn:
    raise FormatError(f"{RULES[rule]} [{rule}]", code="onepux", place=place, rule=rule) from None


def read(data: bytes, locator: str, *, take: Take, vault: str = "", items: Collection[str] = ()) -> Reading:
    """What a 1PUX file holds; with `vault` (name or uuid) and `items` (titles or uuids) only that. `locator`: the
    file's path below the git root, or its base name. FormatError (`onepux`, `json`) with the rule as `data['rule']` for
    a file that is none; NotFound (`onepux`) for a vault or item that it does not have."""
    archive = _Archive(data, locator)
    found, left, covers = _Export(archive, take, vault, items).read()
    why = f"lay in plaintext in {locator}"
    delete_file = Remaining(todo="delete", place=locator, why="it may stay on the disk and in git's history")

    def remains(place: str) -> tuple[Remaining, ...]:
        return (Remaining(todo="change", place=place, why=why), Remaining(todo="delete", place=place))

    entries, more = onepassword.entries(found, take, remains)
    return Reading(
        kind=onepassword.KIND, place=locator, entries=tuple(entries), left=(*left, *more), covers=covers,
        remains=(delete_file,) if locator != "-" else (),
    )  # fmt: skip


# --- the archive

_ZIP_ERRORS = (
    zipfile.BadZipFile, zipfile.LargeZipFile, ValueError, OSError, EOFError, RuntimeError, IndexError, KeyError,
    OverflowError, MemoryError, struct.error, zlib.error, lzma.LZMAError,
)  # fmt: skip
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENCRYPTED = 1 << 0 | 1 << 6 | 1 << 13
# Attachments may be archives themselves, whose members' marks stand in the file as well.
_MARKS = 10 * MAX_MEMBERS


class _Archive:
    """The members of an archive that was found harmless."""

    def __init__(self, data: bytes, place: str) -> None:
        self.place = place
        # The standard library makes an object of each entry of the directory, before anyone could count them.
        if data.count(b"PK\x01\x02") > _MARKS:
            _refuse(place, "member-count")
        try:
            self._zip = zipfile.ZipFile(io.BytesIO(data))
            infos = self._zip.infolist()
        except _ZIP_ERRORS:
            _refuse(place, "not-zip")
        self._check(infos)
        self.members = {info.filename: info for info in infos}
        self.files: dict[str, list[zipfile.ZipInfo]] = {}
        for info in infos:
            folder, _, name = info.filename.partition("/")
            if folder == "files" and name:
                self.files.setdefault(name.partition("__")[0], []).append(info)

    def _check(self, infos: list[zipfile.ZipInfo]) -> None:
        if len(infos) > MAX_MEMBERS:
            _refuse(self.place, "member-count")
        if len({info.filename for info in infos}) < len(infos):
            _refuse(self.place, "duplicate-member")
        for info in infos:
            name = info.orig_filename
            if not name or name[0] == "/" or re.match("[A-Za-z]:", name) or set(name) & set("\\\0"):
                _refuse(self.place, "member-name")
            if ".." in name.split("/"):
                _refuse(self.place, "member-name")
            if info.flag_bits & _ENCRYPTED:
                _refuse(self.place, "encrypted-member")
            if stat.S_ISLNK(info.external_attr >> 16):
                _refuse(self.place, "symlink")
            if info.compress_type not in _METHODS:
                _refuse(self.place, "compression")
            if info.file_size > max(_RATIO_FROM, MAX_RATIO * info.compress_size):
                _refuse(self.place, "ratio")
        if sum([info.file_size for info in infos]) > MAX_TOTAL:
            _refuse(self.place, "total-size")

    def document(self, name: str) -> Any:
        """The JSON value of a member."""
        place = f"{self.place}: {name}"
        if name not in self.members:
            _refuse(place, "no-member")
        data = self.bytes(self.members[name], MAX_DATA)
        if data is None:
            _refuse(place, "damaged-member")
        if len(data) > MAX_DATA:
            _refuse(place, "data-size")
        values = onepassword.documents(data, place)
        if len(values) != 1:
            raise FormatError("is not one JSON value [not-json]", code="json", place=place, rule="not-json")
        return values[0]

    def bytes(self, info: zipfile.ZipInfo, most: int) -> bytes | None:
        """The bytes of a member, one more than `most` where it has more; None if it is damaged. No more is unpacked
        than is asked for, whatever the member says of its size."""
        try:
            with self._zip.open(info) as file:
                return file.read(most + 1)  # where that is all of it, the checksum was compared
        except _ZIP_ERRORS:
            return None


# --- the export

# Union keys of a field's value that are text.
_KINDS: dict[str, Kind] = {
    "concealed": "secret",
    "url": "url",
    **dict.fromkeys(("string", "phone", "menu", "email", "gender", "creditCardNumber", "creditCardType"), "string"),
}
_NEVER = {
    "totp": "one-time password",
    "reference": "reference",
    "date": "date",
    "monthYear": "month and year",
    "address": "address",
}
# A login's fields that are neither user name nor password, by what the web form had: password, text, e-mail, number,
# URL. Others are its buttons and boxes.
_FORM: dict[str, Kind] = {"P": "secret", "T": "string", "E": "string", "N": "string", "U": "url"}
_API_CREDENTIAL, _PASSWORD = "112", "005"


class _Export:
    def __init__(self, archive: _Archive, take: Take, vault: str, items: Collection[str]) -> None:
        self.archive, self.take, self.vault = archive, take, vault
        self.wanted = dict.fromkeys(items, False)
        self.found: list[Item] = []
        self.left: list[Left] = []
        self.covers: list[str] = []

    def read(self) -> tuple[list[Item], list[Left], tuple[str, ...]]:
        place = f"{self.archive.place}: export.attributes"
        attributes = self.archive.document("export.attributes")
        version = attributes.get("version") if isinstance(attributes, dict) else None
        if version not in (2, 3):
            _refuse(place, "version")
        export = self.archive.document("export.data")
        there = False
        try:
            if not isinstance(export, dict) or "accounts" not in export:
                raise Bad("not-object")
            for number, account in enumerate(tables(export, "accounts")):
                for at, vault in enumerate(tables(account, "vaults")):
                    there = self._vault(vault, f"accounts[{number}].vaults[{at}]") or there
        except Bad:
            _refuse(f"{self.archive.place}: export.data", "structure")
        if self.vault and not there:
            raise NotFound("has no vault of that name or uuid", code="onepux", place=self.archive.place)
        if not all(self.wanted.values()):
            raise NotFound("does not have every item that is asked for", code="onepux", place=self.archive.place)
        return self.found, self.left, tuple(self.covers)

    def _vault(self, vault: dict[str, Any], place: str) -> bool:
        attrs = table(vault, "attrs")
        uuid, name = id_text(attrs, "uuid"), text(attrs, "name")
        if self.vault and self.vault not in (uuid, name):
            return False
        if not self.wanted:
            self.covers.append(onepassword.vault_ref(uuid, name))
        items = vault.get("items")
        if items is not None and not isinstance(items, list):
            raise Bad("not-list")
        for at, item in enumerate(items or ()):
            self._item(item, uuid, name, f"{place}.items[{at}]")
        return True

    def _item(self, node: Any, vault_id: str, vault: str, place: str) -> None:
        uuid = ""
        try:
            item = _unwrapped(node)
            uuid = id_text(item, "uuid")
            if not re.fullmatch("[A-Za-z0-9_-]*", uuid):
                uuid = ""
                raise Bad("odd-id")
            title = onepassword.title_text(table(item, "overview"), "title")
            asked = [one for one in self.wanted if one in (uuid, title) and one]
            if self.wanted and not asked:
                return
            self.wanted.update(dict.fromkeys(asked, True))
            state = _state(item)
            fields = self._fields(item) if state == "active" or (state == "archived" and self.take.archived) else ()
            made = Item(vault=vault, vault_id=vault_id, title=title, id=uuid, state=state, fields=fields)
            if self.wanted:
                self.covers.append(made.ref)
            self.found.append(made)
        except Bad as exc:
            self.left.append(onepassword.bad_item(exc.rule, vault_id=vault_id, item_id=uuid, place=place))

    def _fields(self, item: dict[str, Any]) -> tuple[Field, ...]:
        details, category = table(item, "details"), text(item, "categoryUuid")
        made = [_login(one) for one in tables(details, "loginFields")]
        if category == _PASSWORD:
            made.append(Field(id="password", label="password", kind="secret", value=text(details, "password")))
        overview = table(item, "overview")
        made.append(Field(id="overview.url", label="url", kind="url", value=text(overview, "url")))
        made.append(Field(id="notesPlain", label="notes", kind="note", value=text(details, "notesPlain")))
        for section in tables(details, "sections"):
            made += [self._section_field(one, section, category) for one in tables(section, "fields")]
        if document := table(details, "documentAttributes"):
            made.append(self._file(document, Field(id="", label="", kind="file")))
        if tables(details, "passwordHistory"):
            made.append(
                Field(id="passwordHistory", label="password history", kind="never", why="old passwords", filled=True)
            )
        # A form's field has a value even where it is no value of anybody's; what is empty and not asked for is nothing.
        return tuple([one for one in made if one.value or one.why or one.filled or self.take.wants(one.kind)])

    def _section_field(self, node: dict[str, Any], section: dict[str, Any], category: str) -> Field:
        id_, title = id_text(node, "id"), onepassword.title_text(node, "title")
        made = Field(
            id=id_, label=title or id_, kind="string", section=onepassword.title_text(section, "title"),
            section_id=id_text(section, "name"),
        )  # fmt: skip
        union = table(node, "value")
        if not union:
            return made
        if len(union) > 1:
            raise Bad("two-values")
        key, value = next(iter(union.items()))
        if key == "file":
            return self._file(table(union, "file"), replace(made, label=title))
        if key == "sshKey":
            return _ssh_key(replace(made, kind="secret"), table(union, "sshKey"))
        if key == "email" and isinstance(value, dict):
            return replace(made, value=text(value, "email_address"))
        if key not in _KINDS:
            return replace(made, kind="never", why=_unknown(key) if value else "")
        kind = onepassword.named(id_, _KINDS[key])
        if (category, id_) == (_API_CREDENTIAL, "credential"):
            kind = "secret"
        return replace(made, kind=kind, value=text(union, key))

    def _file(self, node: dict[str, Any], place: Field) -> Field:
        """The attachment that `node` describes, at the place of `place`."""
        id_, name = id_text(node, "documentId"), text(node, "fileName")
        made = replace(place, id=id_, label=place.label or name[:256] or id_, kind="file", filled=True)
        if not self.take.files:
            return made
        infos = self.archive.files.get(id_, [])
        if not id_ or len(infos) != 1:
            return _failed(made, "attachment", "the attachment is not in the archive, or more than once")
        return self._content(made, infos[0])

    def _content(self, made: Field, info: zipfile.ZipInfo) -> Field:
        data = self.archive.bytes(info, MAX_VALUE)
        if data is None:
            return _failed(made, "damaged-member", "the attachment is damaged")
        if len(data) > MAX_VALUE:
            return _failed(made, "value-size", f"the attachment has more than {MAX_VALUE >> 20} MiB")
        return replace(made, value=from_bytes(data))


def _unwrapped(node: Any) -> dict[str, Any]:
    """The item itself; older exports put each into an object of its own. A file that was an item of its own becomes a
    document with one attachment."""
    if not isinstance(node, dict):
        raise Bad("not-object")
    if "details" in node or "overview" in node:
        return node
    if "file" in node:
        file = table(node, "file")
        attrs = table(file, "attrs")
        member = text(file, "path").rpartition("/")[2]
        return {
            "uuid": attrs.get("uuid"),
            "overview": {"title": attrs.get("name")},
            "details": {
                "documentAttributes": {
                    "documentId": member.partition("__")[0] or attrs.get("uuid"), "fileName": attrs.get("name"),
                }
            },
        }  # fmt: skip
    return table(node, "item") if "item" in node else node


def _state(item: dict[str, Any]) -> State:
    if item.get("trashed"):
        return "trashed"
    state = text(item, "state")
    if state in ("", "active"):
        return "active"
    if state in ("archived", "trashed"):
        return "archived" if state == "archived" else "trashed"
    raise Bad("unknown-state")


def _login(node: dict[str, Any]) -> Field:
    """A field of a login. Its value may be an object, like those of sections."""
    designation, name = text(node, "designation"), onepassword.title_text(node, "name")
    value = node.get("value")
    if isinstance(value, dict):
        if len(value) > 1:
            raise Bad("two-values")
        key = next(iter(value), "string")
        if key not in _KINDS:
            why = _unknown(key) if value[key] else ""
            return Field(id=_form_id(node, name), label=name or designation, kind="never", why=why)
        content = text(value, key)
    else:
        content = text(node, "value")
    if designation in ("username", "password"):
        kind: Kind = "username" if designation == "username" else "secret"
        return Field(id=designation, label=designation, kind=kind, value=content)
    form = text(node, "fieldType")
    if form and form not in _FORM:
        return Field(
            id=_form_id(node, name), label=name, kind="never", why="button or box of a form" if content else ""
        )
    return Field(id=_form_id(node, name), label=name, kind=_FORM.get(form, "string"), value=content)


def _form_id(node: dict[str, Any], name: str) -> str:
    # the web site chose it, and it may be of any length
    return text(node, "id")[:128] or name[:128]


def _ssh_key(made: Field, node: dict[str, Any]) -> Field:
    """The key in PKCS#8: the plain `privateKey` is not always in one form."""
    if not node:
        return made
    key = text(table(node, "metadata"), "privateKey")
    return replace(made, value=key) if key else _failed(made, "ssh-key", "the SSH key has no metadata.privateKey")


def _failed(made: Field, rule: str, says: str) -> Field:
    return replace(made, why=rule, says=says, filled=True)


def _unknown(key: str) -> str:
    """What a value is that is not taken. A union key is shown if it looks like one: in a damaged export a value may
    stand where a key does."""
    named = f" {key}" if re.fullmatch("[a-z][A-Za-z]{0,23}", key) else ""
    return _NEVER.get(key) or f"unknown kind{named}"
