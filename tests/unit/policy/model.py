"""A brute-force model of roles, written from policy-server.md §4.2 alone: no index, no shortcut, no shared code.

It holds plain facts and answers `matrix()`: the effective role of every principal on every scope, by going through all
bindings for each. What `apply` accepts is told to it with `told`.
"""

from __future__ import annotations

from typing import Any

ORDER = {"none": 0, "read": 1, "write": 2, "admin": 3}


class Model:
    def __init__(self, genesis: dict[str, Any]) -> None:
        self.users = {genesis["user"]: True}
        self.principals: dict[str, dict[str, Any]] = {
            genesis["principal"]: {"user": genesis["user"], "on": True, "key": True, "cap": 3}
        }
        self.groups: dict[str, set[str]] = {}
        self.projects: set[str] = set()
        self.envs: dict[str, bool] = {}
        self.bindings: dict[tuple[str, str], int] = {(genesis["user"], ""): 3}
        self.invites: dict[str, tuple[str, int]] = {}

    def scopes(self) -> list[str]:
        return ["", *self.projects, *self.envs]

    def eff(self, name: str, scope: str) -> int:
        p = self.principals[name]
        if not p["on"] or (p["user"] and not self.users[p["user"]]):
            return 0
        holder = p["user"] or name
        subjects = {holder} | {group for group, members in self.groups.items() if holder in members}
        best = 0
        for (subject, place), role in self.bindings.items():
            if subject not in subjects:
                continue
            above = place == "" or scope.startswith(place + "/")
            if place != scope and not above:
                continue
            if place != scope and self.envs.get(scope, False) and role != 3:
                continue
            best = max(best, role)
        best = min(best, p["cap"])
        return best if p["key"] else min(best, 1)

    def matrix(self) -> dict[tuple[str, str], int]:
        return {(p, s): self.eff(p, s) for p in self.principals for s in self.scopes()}

    def human_admin(self) -> bool:
        return any(p["user"] and self.eff(name, "") == 3 for name, p in self.principals.items())

    def told(self, type: str, d: dict[str, Any]) -> None:
        """An accepted statement."""

        def place(scope: dict[str, str]) -> str:
            ((kind, name),) = scope.items()
            return "" if kind == "workspace" else name

        def who(subject: dict[str, str]) -> str:
            return next(iter(subject.values()))

        if type == "binding.set":
            self.bindings[who(d["subject"]), place(d["scope"])] = ORDER[d["role"]]
        elif type == "binding.remove":
            del self.bindings[who(d["subject"]), place(d["scope"])]
        elif type == "group.create":
            self.groups[d["group"]] = set()
        elif type == "group.delete":
            del self.groups[d["group"]]
            self.bindings = {k: v for k, v in self.bindings.items() if k[0] != d["group"]}
        elif type == "group.member.add":
            self.groups[d["group"]].add(who(d["member"]))
        elif type == "group.member.remove":
            self.groups[d["group"]].remove(who(d["member"]))
        elif type == "project.create":
            self.projects.add(d["project"])
        elif type == "project.archive":
            self.projects.remove(d["project"])
            self.envs = {e: p for e, p in self.envs.items() if not e.startswith(d["project"] + "/")}
            self._forget()
        elif type == "env.create":
            self.envs[d["env"]] = d["protected"]
        elif type == "env.archive":
            del self.envs[d["env"]]
            self._forget()
        elif type == "env.protect":
            self.envs[d["env"]] = True
        elif type == "env.unprotect":
            self.envs[d["env"]] = False
        elif type == "user.add":
            self.users[d["user"]] = True
        elif type in ("user.disable", "user.enable"):
            self.users[d["user"]] = type == "user.enable"
        elif type == "principal.enrol":
            r = d["request"]
            cap = 3 if d["cap"] is None else ORDER[d["cap"]]
            self.principals[r["name"]] = {"user": r["user"], "on": True, "key": r["key"] is not None, "cap": cap}
        elif type == "principal.rekey":
            self.principals[d["request"]["name"]]["key"] = d["request"]["key"] is not None
        elif type == "principal.disable":
            self.principals[d["principal"]]["on"] = False
        elif type == "principal.enable":
            self.principals[d["principal"]]["on"] = True
        elif type == "cap.set":
            self.principals[d["principal"]]["cap"] = 3 if d["cap"] is None else ORDER[d["cap"]]
        elif type == "invite.create":
            self.invites[d["invite"]] = (place(d["scope"]), ORDER[d["role"]])
        elif type == "invite.redeem":
            r = d["request"]
            scope, role = self.invites[d["invite"]]
            self.users[r["user"]] = True
            self.principals[r["name"]] = {"user": r["user"], "on": True, "key": True, "cap": 3}
            if role:
                self.bindings[r["user"], scope] = role

    def _forget(self) -> None:
        alive = set(self.scopes())
        self.bindings = {k: v for k, v in self.bindings.items() if k[1] in alive}
