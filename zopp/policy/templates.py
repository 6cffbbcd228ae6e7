"""Ready-made policies for `zopp init --template`: data -> statements to sign. Pure; the caller reads the file.

The format is described in `policies/README.md`. A template never names people: it makes environments, groups and
service slots of one project, binds groups, and says how many admins it asks for.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from zopp.errors import FormatError
from zopp.policy import fields as f

_ENVIRONMENT = f.record({"name": f.ID, "kind": f.KIND, "protected": f.BOOL})
_SERVICE = f.record({"name": f.ID, "environments": f.list_of(f.ID)})
# No workspace bindings in a template: one project's start must not hand out the others.
_BINDING = f.record({"group": f.ID, "role": f.ROLE, "environment": f.nullable(f.ID)})
_TEMPLATE = f.record(
    {
        "v": f.integer(1, 1),
        "name": f.ID,
        "title": f.TEXT,
        "admins": f.integer(1, 9),
        "environments": f.list_of(_ENVIRONMENT),
        "groups": f.list_of(f.ID),
        "services": f.list_of(_SERVICE),
        "bindings": f.list_of(_BINDING),
        "auditors": f.list_of(f.ID),
        "advice": f.list_of(f.TEXT),
    }
)


@dataclass(frozen=True, slots=True)
class Template:
    """A template. `environments`: (name, kind, protected); `services`: (slot, environments it is to read) — their keys
    come later by `principal.enrol`; `bindings`: (group, role, environment or None for the project)."""

    name: str
    title: str
    admins: int
    environments: tuple[tuple[str, str, bool], ...]
    groups: tuple[str, ...]
    services: tuple[tuple[str, tuple[str, ...]], ...]
    bindings: tuple[tuple[str, str, str | None], ...]
    auditors: tuple[str, ...]
    advice: tuple[str, ...]


def parse(data: bytes) -> Template:
    """A template; FormatError with every problem."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        raise FormatError("a template is JSON", code="template") from None
    problems: list[f.Problem] = []
    _TEMPLATE.check(value, "template", problems)
    if not problems:
        envs = {env["name"] for env in value["environments"]}
        groups = set(value["groups"])
        used = [b["environment"] for b in value["bindings"] if b["environment"] is not None]
        used += [env for service in value["services"] for env in service["environments"]]
        if not envs.issuperset(used):
            problems.append(("template", "a binding or service names an environment that it does not make"))
        if not groups.issuperset([b["group"] for b in value["bindings"]] + value["auditors"]):
            problems.append(("template", "a binding or auditor names a group that it does not make"))
    if problems:
        raise f.refuse(problems, "template")
    return Template(
        value["name"],
        value["title"],
        value["admins"],
        tuple((env["name"], env["kind"], env["protected"]) for env in value["environments"]),
        tuple(value["groups"]),
        tuple((service["name"], tuple(service["environments"])) for service in value["services"]),
        tuple((b["group"], b["role"], b["environment"]) for b in value["bindings"]),
        tuple(value["auditors"]),
        tuple(value["advice"]),
    )


def statements(template: Template, project: str) -> list[tuple[str, Mapping[str, Any]]]:
    """(type, data) of the statements that set up `project` in a workspace that has neither it nor the groups, in
    order. Service slots and their bindings are `service_statements`, once the service has a key."""
    made: list[tuple[str, Mapping[str, Any]]] = [("project.create", {"project": project})]
    for name, kind, protected in template.environments:
        made.append(("env.create", {"env": f"{project}/{name}", "kind": kind, "protected": protected}))
    made += [("group.create", {"group": group}) for group in template.groups]
    for group, role, env in template.bindings:
        scope = {"project": project} if env is None else {"env": f"{project}/{env}"}
        made.append(("binding.set", {"role": role, "scope": scope, "subject": {"group": group}}))
    made += [("flag.set", {"flag": "auditor", "subject": {"group": group}}) for group in template.auditors]
    return made


def service_statements(
    template: Template, project: str, slot: str, service: str
) -> list[tuple[str, Mapping[str, Any]]]:
    """The bindings of the enrolled `service` that takes the template's `slot`."""
    envs = dict(template.services).get(slot, ())
    return [
        ("binding.set", {"role": "read", "scope": {"env": f"{project}/{env}"}, "subject": {"service": service}})
        for env in envs
    ]
