"""A new workspace: the genesis, the first statements, and the files that go with them."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from zopp.keys import agefile
from zopp.keys.signing import SigningKey
from zopp.policy import canonical, log, requests, statement
from zopp.repo import attributes, drivers, layout, pins, settings as settings_module, userdirs
from zopp.repo.draft import Draft
from zopp.repo.layout import Checkout
from zopp.repo.settings import Settings
from zopp.repo.signer import Signer
from zopp.repo.workspace import Workspace

# How long an enrolment request that zopp makes may be used, seconds.
REQUEST_LIFETIME = 14 * 24 * 3600


@dataclass(frozen=True, kw_only=True, slots=True)
class FirstAdmin:
    """The person and device that begin a workspace."""

    user: str
    device: str
    recipient: str
    key: SigningKey
    email_tag: str | None


def request(
    *, ws: str, name: str, user: str | None, recipient: str, key: SigningKey | None, now: int
) -> requests.Request:
    """A signed enrolment request for keys that we hold."""
    body = requests.draft(
        ws=ws,
        name=name,
        user=user,
        key=None if key is None else key.public,
        recipient=agefile.canonical_recipient(recipient),
        id=os.urandom(16),
        not_after=now + REQUEST_LIFETIME,
    )
    proof = None if key is None else key.sign(requests.to_sign(body))
    return requests.parse(requests.seal(body, proof))


def begin(
    checkout: Checkout,
    env: Mapping[str, str],
    *,
    workspace: str,
    project: str,
    folder: str,
    salt: bytes,
    admin: FirstAdmin,
    statements: Sequence[tuple[str, Mapping[str, Any]]],
    files: Mapping[str, tuple[str, ...]],
    default_env: str | None,
    now: int,
) -> tuple[Draft, pins.Pin]:
    """A draft that holds the whole start of a workspace, and the pin to save once it is committed."""
    body = statement.draft(
        "genesis",
        {
            "workspace": workspace,
            "salt": canonical.b64(salt),
            "user": admin.user,
            "email_tag": admin.email_tag,
            "principal": admin.device,
            "key": canonical.b64(admin.key.public),
            "recipient": admin.recipient,
        },
        ws=None,
        seq=0,
        prev=None,
        at=now,
        by=admin.device,
    )
    line = statement.seal(body, [admin.key.sign(statement.to_sign(body))]) + b"\n"
    state = log.fold(line)
    settings = Settings(workspace=workspace, genesis=state.ws, project=project, default_env=default_env, files=files)
    branch = checkout.default_branch() or checkout.head_branch()
    pin = pins.Pin(
        workspace, state.ws, state.seq, state.head, origin="clone", default_branch=branch, projects={folder: project},
        default_envs={folder: default_env or ""},
    )  # fmt: skip
    ws = Workspace(
        checkout=checkout, env=env, settings=settings, folder=folder, pin=pin, state=state, log=line, place="current"
    )
    draft = Draft(ws, Signer(admin.device, admin.key), now)
    for type_, data in statements:
        draft.statement(type_, data)
    place = f"{folder}/{layout.SETTINGS}" if folder else layout.SETTINGS
    draft.put(place, settings_module.render(settings, folder=folder).encode())
    return draft, pin


def remember(draft: Draft, pin: pins.Pin) -> None:
    """Pin the clone to what was just made here, and keep git off what will be signed in it."""
    pin.seq, pin.head = draft.state.seq, draft.state.head
    pins.save(userdirs.state(draft.ws.env), draft.ws.checkout, pin)
    drivers.set_up(draft.ws.checkout, attributes.managed(draft.ws))
