"""1Password's data as its published structure has it: 1PUX archives, and what `op` prints. All values are made up."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from collections.abc import Iterable, Mapping
from typing import Any

CANARY = "kanarienvogel7"
PKCS8 = "-----BEGIN PRIVATE KEY-----\nbWFkZSB1cCBmb3IgYSB0ZXN0\n-----END PRIVATE KEY-----\n"
VAULT = "vaultaaaaaaaaaaaaaaaaaaaaa"


def uuid(number: int) -> str:
    """A made-up uuid in the form that 1Password has: 26 small letters and digits."""
    return f"item{number:022d}"


# --- 1PUX


def field(id_: str, title: str, value: Any) -> dict[str, Any]:
    """One field of a section, with all that the app writes around it."""
    return {
        "title": title,
        "id": id_,
        "value": value,
        "indexAtSource": 0,
        "guarded": False,
        "multiline": False,
        "dontGenerate": False,
        "inputTraits": {"keyboard": "default", "correction": "default", "capitalization": "default"},
    }


def section(title: str, *fields: dict[str, Any], name: str = "") -> dict[str, Any]:
    return {"title": title, "name": name or f"Section_{title}", "fields": list(fields)}


def login_field(designation: str, value: Any, *, name: str = "", kind: str = "T", id_: str = "") -> dict[str, Any]:
    return {"value": value, "id": id_, "name": name or designation, "fieldType": kind, "designation": designation}


def item(
    id_: str | None,
    title: str | None,
    *sections: dict[str, Any],
    category: str = "001",
    state: str | None = "active",
    overview: Mapping[str, Any] | None = None,
    **details: Any,
) -> dict[str, Any]:
    """One item; None leaves a field out, as some exports do."""
    made: dict[str, Any] = {
        "favIndex": 0,
        "createdAt": 1700000000,
        "updatedAt": 1700000001,
        "categoryUuid": category,
        "details": {"loginFields": [], "notesPlain": "", "sections": list(sections), "passwordHistory": [], **details},
        "overview": {"subtitle": "", "url": "", "ps": 0, "pbe": 0, "tags": [], **(overview or {})},
    }
    if id_ is not None:
        made["uuid"] = id_
    if state is not None:
        made["state"] = state
    if title is not None:
        made["overview"]["title"] = title
    return made


def login(id_: str, title: str, password: Any = CANARY, username: Any = "shop") -> dict[str, Any]:
    fields = [login_field("username", username), login_field("password", password, kind="P")]
    return item(id_, title, loginFields=fields, overview={"url": "https://shop.example"})


def vault(*items: Any, name: str = "Shop", id_: str = VAULT) -> dict[str, Any]:
    return {"attrs": {"uuid": id_, "desc": "", "avatar": "", "name": name, "type": "U"}, "items": list(items)}


def export(*vaults: Any) -> dict[str, Any]:
    attrs = {"accountName": "Shop", "name": "Shop", "email": "shop@example.org", "uuid": "ACCOUNT", "domain": "x"}
    return {"accounts": [{"attrs": attrs, "vaults": list(vaults)}]}


ATTRIBUTES = {"version": 3, "description": "1Password Unencrypted Export", "createdAt": 1700000000}


def archive(
    data: Any,
    files: Mapping[str, bytes] | None = None,
    *,
    attributes: Any = ATTRIBUTES,
    more: Iterable[tuple[str | zipfile.ZipInfo, bytes]] = (),
    method: int = zipfile.ZIP_DEFLATED,
) -> bytes:
    """A 1PUX file; `data` and `attributes` may be bytes, or None to leave the member out."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", method) as out:
        for name, value in (("export.attributes", attributes), ("export.data", data)):
            if value is not None:
                out.writestr(name, value if isinstance(value, bytes) else json.dumps(value))
        for name, content in (files or {}).items():
            out.writestr(f"files/{name}", content)
        for member, content in more:
            out.writestr(member, content)
    return made.getvalue()


def shop(*items: Any, **options: Any) -> bytes:
    """An archive of one vault."""
    return archive(export(vault(*items)), **options)


def patched(data: bytes, *, flags: int | None = None, size: int | None = None, method: int | None = None) -> bytes:
    """The archive with a field of its last directory entry changed: what a writer of ours would not write."""
    at = data.rindex(b"PK\x01\x02")
    made = bytearray(data)
    for offset, form, value in ((8, "<H", flags), (24, "<I", size), (10, "<H", method)):
        if value is not None:
            struct.pack_into(form, made, at + offset, value)
    return bytes(made)


# Every kind of value that the published structure names, with what `--with` takes it.
EVERY = [
    (field("pin", "pin", {"concealed": CANARY}), "secret"),
    (field("host", "host", {"string": "db.example"}), "string"),
    (field("otp", "one-time password", {"totp": "otpauth://totp/x?secret=" + CANARY}), "one-time password"),
    (field("site", "site", {"url": "https://db.example"}), "url"),
    (field("tel", "tel", {"phone": "000"}), "string"),
    (field("type", "type", {"menu": "postgresql"}), "string"),
    (field("linked", "linked", {"reference": uuid(99)}), "reference"),
    (field("mail", "mail", {"email": {"email_address": "db@example.org", "provider": None}}), "string"),
    (field("oldmail", "oldmail", {"email": "old@example.org"}), "string"),
    (field("home", "home", {"address": {"street": "x", "city": "y", "zip": "1"}}), "address"),
    (field("ccnum", "ccnum", {"creditCardNumber": "0000"}), "string"),
    (field("cctype", "cctype", {"creditCardType": "mc"}), "string"),
    (field("sex", "sex", {"gender": "x"}), "string"),
    (field("since", "since", {"date": 1700000000}), "date"),
    (field("expires", "expires", {"monthYear": 202512}), "month and year"),
    (
        field("private_key", "private key", {"sshKey": {"privateKey": "no", "metadata": {"privateKey": PKCS8}}}),
        "secret",
    ),
    (field("future", "future", {"passkey": {"x": CANARY}}), "unknown kind passkey"),
    (field("odd", "odd", {f"{CANARY} x": 1}), "unknown kind"),
    (field("scan", "scan", {"file": {"fileName": "scan.png", "documentId": "doc1", "decryptedSize": 4}}), "file"),
]


# --- op


def op_field(id_: str, label: str, value: Any = CANARY, kind: str = "CONCEALED", **more: Any) -> dict[str, Any]:
    made = {"id": id_, "type": kind, "label": label, "reference": f"op://Shop/x/{label}", **more}
    return made if value is None else {**made, "value": value}


def op_item(number: int, title: str, *fields: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "id": uuid(number),
        "title": title,
        "version": 3,
        "vault": {"id": VAULT, "name": "Shop"},
        "category": "LOGIN",
        "fields": list(fields),
        **more,
    }
