"""What each statement about groups, bindings, projects, environments and the server needs and does.

Private to `apply`; people and their devices are in `people`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from zopp.policy import canonical
from zopp.policy.act import Act
from zopp.policy.roles import LEVEL, Env, OidcRule, Server
from zopp.policy.tables import Tables


def _binding(act: Act, scope: str, subject: str, role: int) -> None:
    t = act.t
    touched = [(holder, dict(t.direct(holder))) for holder in t.holders(subject)]
    t.set_binding(scope, subject, role)
    for holder, before in touched:
        after = t.direct(holder)
        if before.get(scope, 0) != after.get(scope, 0):
            act.compare(holder, scope, before, after)


def _binding_set(act: Act) -> None:
    d = act.st._data
    scope = act.scope(d["scope"])
    act.need(scope)
    subject, role = act.subject(d["subject"], enabled=True), LEVEL[d["role"]]
    if act.t.bind.get(scope, {}).get(subject) == role:
        raise act.no("no_change", f"{subject} has this binding already")
    _binding(act, scope, subject, role)


def _binding_remove(act: Act) -> None:
    d = act.st._data
    scope = act.scope(d["scope"])
    act.need(scope)
    subject = act.subject(d["subject"], enabled=False)
    if subject not in act.t.bind.get(scope, {}):
        raise act.no("no_change", f"{subject} has no binding there")
    _binding(act, scope, subject, 0)


def _group_create(act: Act) -> None:
    act.need("")
    group = act.st._data["group"]
    act.take_name(group, "group")
    act.t.groups[group] = frozenset()


def _group(act: Act) -> str:
    group: str = act.st._data["group"]
    if group not in act.t.groups:
        raise act.no("subject", f"there is no group {group}")
    return group


def _group_delete(act: Act) -> None:
    act.need("")
    t, group = act.t, _group(act)
    for member in t.groups[group]:
        _leave(act, group, member)
    for scope in list(t.by_subject.get(group, {})):
        t.set_binding(scope, group, 0)
    t.flags.pop(group, None)
    del t.groups[group]


def _join(act: Act, group: str, member: str, joins: bool) -> None:
    t = act.t
    before = dict(t.direct(member))
    one = frozenset((member,))
    t.groups[group] = t.groups[group] | one if joins else t.groups[group] - one
    of = t.member_of.get(member, frozenset())
    t.member_of[member] = of | {group} if joins else of - {group}
    after = t.direct(member)
    if before != after:
        act.compare(member, "", before, after)


def _leave(act: Act, group: str, member: str) -> None:
    _join(act, group, member, False)


def member_scopes(t: Tables, group: str) -> Iterable[str]:
    """Where a change of a group's members needs admin: everywhere it is bound; on the workspace if nowhere, or if it
    bears a flag, which counts as a role there."""
    bound = list(t.by_subject.get(group, ()))
    return [*bound, ""] if not bound or t.flags.get(group) else bound


def rule_scopes(t: Tables, service: str) -> Iterable[str]:
    """Where a CI trust rule for a service needs admin: wherever it is bound, directly or through a group (a rule hands
    out all of these); on the workspace if nowhere or if it bears a flag."""
    bound = list(t.direct(service))
    flagged = any(t.flags.get(x) for x in (service, *t.member_of.get(service, ())))
    return [*bound, ""] if not bound or flagged else bound


def _member(act: Act, joins: bool) -> None:
    group = _group(act)
    for scope in member_scopes(act.t, group):
        act.need(scope)
    member = act.subject(act.st._data["member"], enabled=joins)
    if (member in act.t.groups[group]) == joins:
        raise act.no("no_change", f"{member} is {'already' if joins else 'not'} a member")
    _join(act, group, member, joins)


def _flag(act: Act, on: bool) -> None:
    act.need("")
    d, t = act.st._data, act.t
    subject = act.subject(d["subject"], enabled=on)
    flags = t.flags.get(subject, frozenset())
    if (d["flag"] in flags) == on:
        raise act.no("no_change", f"{subject} has the flag already" if on else f"{subject} does not have the flag")
    t.flags[subject] = flags | {d["flag"]} if on else flags - {d["flag"]}


def _project_create(act: Act) -> None:
    act.need("")
    project = act.st._data["project"]
    act.take_name(project, "project")
    act.t.live[project] = ()
    # Bindings on the workspace flow into it at once; no environment yet, so this is only the project's own row.
    for name, role in act.t.principals_at(project):
        act.note(name, project, 0, role)


def _archive_env(act: Act, scope: str) -> None:
    t = act.t
    env = t.envs[scope]

    def change() -> None:
        t.envs[scope] = replace(env, archived=True)
        t.live[env.project] = tuple(name for name in t.live[env.project] if name != scope)

    act.at_env(scope, change)
    # No ghosts (S36): nothing bound here comes back, not even to `staging@2`, which has another key anyway.
    for subject in list(t.bind.get(scope, ())):
        t.set_binding(scope, subject, 0)


def _project_archive(act: Act) -> None:
    act.need("")
    t, project = act.t, act.st._data["project"]
    if project not in t.live:
        raise act.no("scope", f"there is no project {project}")
    for scope in t.live[project]:
        _archive_env(act, scope)
    for name, role in list(t.principals_at(project)):
        act.note(name, project, role, 0)
    for subject in list(t.bind.get(project, ())):
        t.set_binding(project, subject, 0)
    del t.live[project]


def _env_create(act: Act) -> None:
    d, t = act.st._data, act.t
    scope: str = d["env"]
    project = scope.partition("/")[0]
    if project not in t.live:
        raise act.no("scope", f"there is no project {project}")
    act.need(project)
    act.take_name(scope, "environment")

    def change() -> None:
        t.envs[scope] = Env(scope, d["kind"], d["protected"], None, None, act.st.seq)
        t.live[project] = (*t.live[project], scope)

    act.at_env(scope, change)


def _env_archive(act: Act) -> None:
    env = act.env(act.st._data["env"])
    act.need(env.project)
    _archive_env(act, env.name)


def _env_kind(act: Act) -> None:
    d = act.st._data
    env = act.env(d["env"])
    act.need(env.name)
    if env.kind == d["kind"]:
        raise act.no("no_change", f"{env.name} is {env.kind} already")
    act.t.envs[env.name] = replace(env, kind=d["kind"])
    act.lost.add(env.name)


def _protection(act: Act, on: bool) -> None:
    env = act.env(act.st._data["env"])
    act.need(env.name)
    if env.protected == on:
        raise act.no("no_change", f"{env.name} is {'already' if on else 'not'} protected")

    def change() -> None:
        act.t.envs[env.name] = replace(env, protected=on)

    act.at_env(env.name, change)


def _env_serverkey(act: Act) -> None:
    d, t = act.st._data, act.t
    env = act.env(d["env"])
    act.need(env.name)
    if d["recipient"] in t.recipients:
        raise act.no("key_reuse", "the recipient is or was in use")
    t.recipients[d["recipient"]] = f"server:{env.name}"
    t.envs[env.name] = replace(env, server_key=d["recipient"])


def _env_breakglass(act: Act) -> None:
    d, t = act.st._data, act.t
    env = act.env(d["env"])
    act.need(env.name)
    new = d["recipient"]
    if new == env.break_glass:
        raise act.no("no_change", "this is the break-glass recipient already")
    # One offline key may serve many environments; it never is anything else.
    if new is not None and t.recipients.setdefault(new, "break-glass:") != "break-glass:":
        raise act.no("key_reuse", "the recipient is or was in use")
    if env.break_glass is not None:
        act.lost.add(env.name)
    t.envs[env.name] = replace(env, break_glass=new)


def _oidc_set(act: Act) -> None:
    d, t = act.st._data, act.t
    service = act.subject({"service": d["service"]}, enabled=True)
    old = t.rules.get(d["rule"])
    for who in {service, old.service if old else service}:
        for scope in rule_scopes(t, who):
            act.need(scope)
    rule = OidcRule(
        d["rule"], service, d["issuer"], d["audience"], tuple(sorted(d["claims"].items())), d["max_ttl"], act.st.seq
    )
    t.rules[rule.name] = rule


def _oidc_remove(act: Act) -> None:
    t, rule = act.t, act.t.rules.get(act.st._data["rule"])
    if rule is None:
        raise act.no("no_change", "there is no such rule")
    for scope in rule_scopes(t, rule.service):
        act.need(scope)
    del t.rules[rule.name]


def _server_set(act: Act) -> None:
    act.need("")
    d, t = act.st._data, act.t
    key = canonical.unb64(d["log_key"], 32)
    if t.keys.setdefault(key, "server:log") != "server:log":
        raise act.no("key_reuse", "the log key is or was another key of this workspace")
    now = Server(d["origin"], key, act.st.seq)
    if t.servers and (t.servers[-1].origin, t.servers[-1].log_key) == (now.origin, now.log_key):
        raise act.no("no_change", "this server is set already")
    t.servers = (*t.servers, now)


HANDLERS: dict[str, Callable[[Act], Any]] = {
    "server.set": _server_set,
    "group.create": _group_create,
    "group.delete": _group_delete,
    "group.member.add": lambda act: _member(act, True),
    "group.member.remove": lambda act: _member(act, False),
    "binding.set": _binding_set,
    "binding.remove": _binding_remove,
    "flag.set": lambda act: _flag(act, True),
    "flag.remove": lambda act: _flag(act, False),
    "project.create": _project_create,
    "project.archive": _project_archive,
    "env.create": _env_create,
    "env.archive": _env_archive,
    "env.kind": _env_kind,
    "env.protect": lambda act: _protection(act, True),
    "env.unprotect": lambda act: _protection(act, False),
    "env.serverkey": _env_serverkey,
    "env.breakglass": _env_breakglass,
    "oidc_rule.set": _oidc_set,
    "oidc_rule.remove": _oidc_remove,
}


__all__ = ["HANDLERS", "Act", "member_scopes", "rule_scopes"]
