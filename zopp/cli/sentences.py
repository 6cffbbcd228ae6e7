"""Policy statements in words, for people who read a log or a diff."""

from typing import Any

from zopp.policy.statement import Statement
from zopp.repo import subjects


def words(st: Statement) -> str:
    """A statement as a sentence."""
    data: Any = st.data

    def scope() -> str:
        return subjects.shown(next(iter(data["scope"].values())))

    def who(field: str = "subject") -> str:
        kind, name = next(iter(data[field].items()))
        return name if kind == "user" else f"{kind} {name}"

    match st.type:
        case "genesis":
            return f"workspace {data['workspace']} begins; {data['user']} is its admin, on {data['principal']}"
        case "binding.set":
            return f"{who()} may {data['role']} {scope()}"
        case "binding.remove":
            return f"{who()} has no role on {scope()} any more"
        case "group.member.add":
            return f"{who('member')} joins group {data['group']}"
        case "group.member.remove":
            return f"{who('member')} leaves group {data['group']}"
        case "principal.enrol" | "principal.rekey":
            asked = data["request"]
            whose = f"device {asked['name']} of {asked['user']}" if asked["user"] else f"service {asked['name']}"
            return f"{whose} " + ("is let in" if st.type.endswith("enrol") else "has new keys")
        case "cap.set":
            return (
                f"{data['principal']} may at most {data['cap']}" if data["cap"] else f"{data['principal']} has no cap"
            )
        case "flag.set" | "flag.remove":
            return f"{who()} is {'' if st.type == 'flag.set' else 'not '}{data['flag']}"
        case "env.create":
            how = ", protected" if data["protected"] else ""
            return f"environment {subjects.shown(data['env'])} ({data['kind']}{how})"
        case "env.kind":
            return f"environment {subjects.shown(data['env'])} is {data['kind']}"
        case "env.serverkey":
            return f"environment {subjects.shown(data['env'])} has the server key {data['recipient']}"
        case "env.breakglass":
            key = data["recipient"]
            return f"environment {subjects.shown(data['env'])} has " + (
                f"the break-glass key {key}" if key else "no break-glass key any more"
            )
        case "server.set":
            return f"{data['origin']} orders the policy, with log key {data['log_key'][:11]}…"
        case "oidc_rule.set":
            claims = ", ".join(f"{name} {value}" for name, value in sorted(data["claims"].items()))
            return f"CI rule {data['rule']}: jobs of {data['issuer']} with {claims} act for service {data['service']}"
        case "oidc_rule.remove":
            return f"CI rule {data['rule']} is taken away"
        case "invite.create":
            return f"invite {data['invite']} lets a person {data['role']} {scope()}"
        case "invite.redeem":
            asked = data["request"]
            return f"{asked['user']} joins by invite {data['invite']}, on {asked['name']}"
        case _:
            subject = next(
                (
                    str(data[key])
                    for key in ("env", "project", "group", "user", "principal", "invite", "rule")
                    if key in data
                ),
                "",
            )
            verb = st.type.rpartition(".")[2]
            past = {"set": "set", "create": "made"}.get(verb, verb + ("d" if verb.endswith("e") else "ed"))
            return f"{st.type.partition('.')[0]} {subjects.shown(subject)} {past}"
