"""Secret manifests as a source: YAML with any number of documents, or JSON; single objects and Lists.

Only `v1` Secrets hold values. What is encrypted to a cluster (SealedSecret) or fetched by it (ExternalSecret) is
skipped by its kind, and so are secrets that the cluster or a tool makes for itself. Source: importers.md §7; the
Kubernetes API's `Secret` (`data` is base64, `stringData` wins over it).
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from zopp.errors import FormatError, ZoppError
from zopp.exchange import documents, labels, names
from zopp.exchange.documents import Node, Row, Table
from zopp.exchange.entry import Entry, Left, Reading, Remaining
from zopp.exchange.scalars import from_bytes
from zopp.exchange.sources import files

FORMATS = ("yaml", "json")
# Kubernetes' own rules for names and for keys of data.
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
_KEY = re.compile(r"[-._a-zA-Z0-9]{1,253}")
_KIND = re.compile(r"[A-Z][A-Za-z]{0,62}")

OTHERS = {
    "SealedSecret": "SealedSecret: encrypted to the controller of its cluster; read the Secret that it makes there",
    "ExternalSecret": "ExternalSecret: holds no value; import from the store that it names",
    "PushSecret": "PushSecret: holds no value",
    "SecretProviderClass": "SecretProviderClass: holds no value; import from the store that it names",
    "SopsSecret": "SopsSecret: encrypted with sops; decrypt it first",
}
MADE = {
    "kubernetes.io/service-account-token": "a service account's token, which the cluster makes",
    "bootstrap.kubernetes.io/token": "a bootstrap token, which the cluster makes",
    "helm.sh/release.v1": "helm's record of a release",
}
SAYS = {
    "not-base64": "is not base64",
    "not-text": "is not a text",
    "odd-key": "is no key that Kubernetes allows",
}


@dataclass(slots=True)
class _Secret:
    """One Secret. `place` is its namespace and name, as far as they are said."""

    place: str
    table: Table = field(repr=False)


def read(data: bytes, locator: str, *, form: str = "yaml") -> Reading:
    """One manifest. A key is called as in its Secret if that is a name, else as in importers.md §4.3; where there are
    several Secrets the Secret's name stands before it. FormatError if it is not YAML or JSON of Kubernetes' shape."""
    left: list[Left] = []
    secrets: list[_Secret] = []
    for number, node in enumerate(_objects(data, form)):
        found = _secret(node, f"{locator}[{number}]")
        if isinstance(found, _Secret):
            secrets.append(found)
        else:
            left.append(found)
    entries: list[Entry] = []
    for secret in secrets:
        for made in _entries(secret, locator, alone=len(secrets) == 1):
            (entries if isinstance(made, Entry) else left).append(made)  # type: ignore[arg-type]
    stale = [remaining for secret in secrets for remaining in _owned(secret)]
    return Reading(
        kind="kubernetes", place=locator, entries=tuple(entries), left=tuple(left),
        covers=tuple(dict.fromkeys([f"{secret.place}#" for secret in secrets])),
        remains=(*files.delete(locator), *stale),
    )  # fmt: skip


def _objects(data: bytes, form: str) -> Iterator[Node]:
    try:
        roots: list[Node] = [*documents.yaml(data)] if form == "yaml" else [documents.json(data)]
    except ZoppError as exc:
        exc.hint = exc.hint or "see what Kubernetes makes of it: kubectl create --dry-run=client -o json -f FILE"
        raise
    for root in roots:
        if not isinstance(root, Table):
            raise FormatError("the top level of the file is not an object", code="not_a_mapping")
        if "sops" in [name for name, _, _ in root.items]:
            raise FormatError(
                "is encrypted with sops", code="sops", hint="sops decrypt FILE | zopp import kubernetes -"
            )
        if not root.items:
            continue
        items = root.get("items")
        if root.text("kind").endswith("List") and isinstance(items, Row):
            yield from items.items
        else:
            yield root


def _secret(node: Node, place: str) -> _Secret | Left:
    if not isinstance(node, Table):
        return Left(locator=place, reason="not-an-object", status="rejected", says=f"{place} is no object")
    kind = node.text("kind")
    meta = node.get("metadata")
    name, space = (meta.text("name"), meta.text("namespace")) if isinstance(meta, Table) else ("", "")
    if kind != "Secret" or node.text("apiVersion") != "v1":
        said = kind if _KIND.fullmatch(kind) else "another kind"
        return Left(locator=place, reason=OTHERS.get(kind, f"not a Secret of v1 ({said})"))
    if not _NAME.fullmatch(name) or (space and not _NAME.fullmatch(space)):
        says = f"line {node.line}: the Secret has no name that Kubernetes allows [odd-name]"
        return Left(locator=place, reason="odd-name", status="rejected", says=says)
    where = f"{space}/{name}" if space else name
    if node.text("type") in MADE:
        return Left(locator=where, reason=MADE[node.text("type")], name=name, path=space, id=f"{where}#")
    return _Secret(where, node)


def _entries(secret: _Secret, locator: str, *, alone: bool) -> Iterator[Entry | Left]:
    found: dict[str, tuple[Node, str, bool]] = {}
    for part in ("data", "stringData"):
        table = secret.table.get(part)
        if isinstance(table, documents.Value) and table.value is None and not table.rule:
            continue
        if table is not None and (not isinstance(table, Table) or table.rule):
            says = f"{secret.place}: {part} is no map of texts [not-text]"
            yield Left(locator=secret.place, reason="not-text", status="rejected", id=f"{secret.place}#", says=says)
            continue
        for name, node, note in table.items if table is not None else ():
            found[name] = (node, note, part == "data")
    for name, (node, note, encoded) in found.items():
        value, rule = _value(node, encoded)
        if not _KEY.fullmatch(name):
            rule = "odd-key"
        id = f"{secret.place}#{name}"
        if rule:
            shown = name if _KEY.fullmatch(name) and len(name) <= 64 else "a key"
            says = f"line {node.line} ({secret.place}): {shown} {SAYS.get(rule) or documents.RULES[rule]} [{rule}]"
            yield Left(
                locator=f"{secret.place}#{shown}", reason=rule, status="rejected", name=name, path=secret.place, id=id,
                says=says,
            )  # fmt: skip
            continue
        field = name if names.is_target(name) else labels.label(name)
        base = secret.place.rpartition("/")[2]
        yield Entry(
            locator=f"{secret.place}#{name}", id=id, name=name, path=secret.place, value=value, note=note,
            key=(field,) if alone else (labels.label(f"{base}_{name}"),), alone=(field,),
            remarks=("bytes, as marked base64",) if value.startswith("data:application/octet-stream;by=zopp") else (),
            remains=(Remaining(todo="change", place=f"{secret.place}#{name}", why=f"lay in plaintext in {locator}"),),
        )  # fmt: skip


def _value(node: Node, encoded: bool) -> tuple[str, str]:
    """(value, rule)."""
    text = documents.as_text(node)
    if isinstance(node, documents.Value) and node.value is None and not node.rule:
        text = ""  # as the API server has it
    if text is None:
        return "", documents.rule_of(node) or "not-text"
    if not encoded:
        return text, ""
    try:
        return from_bytes(base64.b64decode("".join(text.split()).encode(), validate=True)), ""
    except (binascii.Error, ValueError):
        return "", "not-base64"


def _owned(secret: _Secret) -> Iterator[Remaining]:
    """A Secret that a controller writes goes stale here."""
    meta = secret.table.get("metadata")
    owners = meta.get("ownerReferences") if isinstance(meta, Table) else None
    if isinstance(owners, Row) and owners.items:
        kinds = [owner.text("kind") for owner in owners.items if isinstance(owner, Table)]
        said = next((kind for kind in kinds if _KIND.fullmatch(kind)), "another")
        yield Remaining(todo="stale", place=secret.place, why=f"its owner is of kind {said}")
