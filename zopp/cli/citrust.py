"""`zopp principal trust-ci`, `ci-rules` and `untrust-ci`: which CI jobs may act for a service (policy-server.md §3.3).

A rule matches ids, never names, and every claim exactly. Which claims an issuer's tokens must be told apart by is here
as in `zopp_server.oidc`, so that a rule that the server would never match is refused before it is signed.
"""

import argparse
from typing import Any

from zopp.cli.context import Context, table
from zopp.cli.parser import add_action, add_change
from zopp.cli.policychange import conclude, nothing
from zopp.errors import FormatError, IntegrityError, NotFound, UsageError
from zopp.policy import decisions, names
from zopp.policy.names import Scope
from zopp.policy.roles import OidcRule, Principal, Role
from zopp.policy.state import State
from zopp.repo.draft import Draft
from zopp.repo.environment import people_name
from zopp.repo.signer import require

ACTIONS = ("trust-ci", "ci-rules", "untrust-ci")
ISSUERS = {"github": "https://token.actions.githubusercontent.com", "gitlab": "https://gitlab.com"}
MAX_TTL = 900

# flag -> the claim it sets, per kind; of the first three none may be missing
_FLAGS = {
    "github": {
        "repository_id": "repository_id", "owner_id": "repository_owner_id", "ref": "ref",
        "environment": "environment", "workflow_ref": "job_workflow_ref", "event": "event_name",
    },
    "gitlab": {
        "project_id": "project_id", "namespace_id": "namespace_id", "ref": "ref",
        "environment": "environment", "config_ref": "ci_config_ref_uri",
    },
}  # fmt: skip
_FIND = {
    "repository_id": "gh api repos/OWNER/REPO --jq .id; in a job: $GITHUB_REPOSITORY_ID",
    "repository_owner_id": "gh api repos/OWNER/REPO --jq .owner.id; in a job: $GITHUB_REPOSITORY_OWNER_ID",
    "project_id": "glab api projects/GROUP%2FPROJECT, field id; in a job: $CI_PROJECT_ID",
    "namespace_id": "glab api projects/GROUP%2FPROJECT, field namespace.id; in a job: $CI_PROJECT_NAMESPACE_ID",
    "ref": "the one branch whose jobs may read: --ref refs/heads/main",
}
_IDS = ("repository_id", "repository_owner_id", "project_id", "namespace_id")
WHO_CAN = "who can run a job with the secret and a matching token reads the environment"


def configure(actions: Any) -> None:
    """Their parsers, below `zopp principal`."""
    sub = add_action(
        actions, "trust-ci", "let CI jobs act for a service",
        "Let CI jobs act for a service: a rule for their OIDC tokens. Every claim must match exactly.",
    )  # fmt: skip
    sub.add_argument("service", metavar="SERVICE", help="the service")
    kind = sub.add_mutually_exclusive_group(required=True)
    kind.add_argument("--github", dest="kind", action="store_const", const="github", help="jobs of GitHub Actions")
    kind.add_argument("--gitlab", dest="kind", action="store_const", const="gitlab", help="jobs of GitLab CI")
    sub.add_argument("--repository-id", metavar="ID", help="GitHub: the repository's number")
    sub.add_argument("--owner-id", metavar="ID", help="GitHub: its owner's number")
    sub.add_argument("--project-id", metavar="ID", help="GitLab: the project's number")
    sub.add_argument("--namespace-id", metavar="ID", help="GitLab: its namespace's number")
    sub.add_argument("--ref", metavar="REF", help="the one branch (main) or tag (refs/tags/v1)")
    sub.add_argument("--environment", metavar="NAME", help="the deployment environment of the job, as CI names it")
    sub.add_argument("--workflow-ref", metavar="REF", help="GitHub: the reusable workflow, OWNER/REPO/PATH@REF")
    sub.add_argument("--event", metavar="NAME", help="GitHub: the one event that starts the job (push)")
    sub.add_argument("--config-ref", metavar="URI", help="GitLab: the CI file, HOST/GROUP/PROJECT//PATH@REF")
    sub.add_argument("--claim", metavar="NAME=VALUE", action="append", default=[], help="any other claim; repeatable")
    sub.add_argument("--name", metavar="RULE", help="the rule's name (default: from service and id)")
    sub.add_argument("--replace", action="store_true", help="change the rule of that name")
    sub.add_argument("--issuer", metavar="URL", help="default: github.com's or gitlab.com's")
    sub.add_argument("--audience", metavar="TEXT", help="default: the policy server's origin")
    sub.add_argument(
        "--max-ttl", metavar="SECONDS", type=int, default=MAX_TTL, help=f"life of a job's key (default: {MAX_TTL})"
    )  # fmt: skip
    add_change(sub, yes=True)
    add_action(
        actions, "ci-rules", "the rules by which CI jobs act for services",
        "List the rules by which CI jobs act for services, and what each lets them read.",
    )  # fmt: skip
    sub = add_action(
        actions, "untrust-ci", "take such a rule away", "Take a rule away: its jobs are refused from then on."
    )
    sub.add_argument("rule", metavar="RULE", help="its name, as ci-rules shows it")
    add_change(sub)


def run(ctx: Context, args: argparse.Namespace) -> int:
    """Do it."""
    return {"trust-ci": _trust, "ci-rules": _list, "untrust-ci": _untrust}[args.action](ctx, args)


# --- trust-ci


def _trust(ctx: Context, args: argparse.Namespace) -> int:
    claims = _claims(ctx, args)
    if not 1 <= args.max_ttl <= MAX_TTL:
        raise UsageError(f"--max-ttl: from 1 to {MAX_TTL} seconds")
    with ctx.changing(on_old_base=args.on_old_base, policy=True) as draft:
        state = draft.state
        service = _service(state, args.service)
        _require(draft, service.name, "oidc_rule.set")
        if state.server is None:
            raise IntegrityError(
                f"the policy of workspace {state.name} names no policy server, which is who would judge a job's token",
                code="server.none",
                hint="an admin of the workspace has to run: zopp server adopt",
            )
        name = args.name or _name(service.name, args.kind, claims)
        data = {
            "rule": name,
            "service": service.name,
            "issuer": args.issuer or ISSUERS[args.kind],
            "audience": args.audience or state.server.origin,
            "claims": claims,
            "max_ttl": args.max_ttl,
        }
        known = state.oidc_rules.get(name)
        if known is not None and _data(known) == data:
            return nothing(ctx, f"rule {name} says that already")
        if known is not None and not args.replace:
            raise IntegrityError(
                f"there is a rule {name} already: {words(known)}",
                code="rule.exists",
                hint="another rule beside it: --name OTHER; another content for this one: --replace",
            )
        try:
            draft.statement("oidc_rule.set", data)
        except FormatError as exc:
            raise _malformed(exc) from None
        rule = draft.state.oidc_rules[name]
        _show(ctx, draft, known, rule, args.kind)
        if not args.dry_run and not ctx.confirm("trust such jobs?", otherwise="look at it with --dry-run, then --yes"):
            return 1
        found = {people_name(scope): how for scope, how in effects(draft.state, rule)}
        code = conclude(ctx, args, draft, extra={"rule": name, "claims": claims, "effects": found})
        ctx.note(
            f"a GitLab job asks for `aud: {rule.audience}`, and has a timeout of 15 minutes or less"
            if args.kind == "gitlab"
            else "a GitHub job needs `permissions: {id-token: write}`"
        )
        ctx.note(f"it needs the age key of {service.name} as ZOPP_AGE_KEY and no signing key")
        return code


def _claims(ctx: Context, args: argparse.Namespace) -> dict[str, str]:
    """What the flags say; UsageError names what is missing and how to find it."""
    kind, flags = args.kind, _FLAGS[args.kind]
    other = "gitlab" if kind == "github" else "github"
    for flag in _FLAGS[other].keys() - flags.keys():
        if getattr(args, flag) is not None:
            raise UsageError(f"--{flag.replace('_', '-')} is for --{other}")
    claims: dict[str, str] = {}
    for text in args.claim:
        name, equals, value = text.partition("=")
        if not (equals and name and value):
            raise UsageError("--claim: NAME=VALUE")
        if name in claims:
            raise UsageError(f"--claim: {name} is given twice")
        claims[name] = value
    for flag, claim in flags.items():
        value = getattr(args, flag)
        if value is None:
            continue
        if not value:
            raise UsageError(f"--{flag.replace('_', '-')} is empty", hint="leave it away, or give a value")
        if claim in claims:
            raise UsageError(f"--claim {claim} and --{flag.replace('_', '-')}: give one of them")
        claims[claim] = value
    missing = [(flag, claim) for flag, claim in list(flags.items())[:3] if claim not in claims]
    if missing:
        raise UsageError(
            "a rule has to name " + " and ".join(f"--{flag.replace('_', '-')}" for flag, _ in missing),
            code="claims",
            hint="; ".join(f"{claim}: {_FIND[claim]}" for _, claim in missing),
        )
    for claim in _IDS:
        if claim in claims and not (claims[claim].isascii() and claims[claim].isdigit()):
            raise UsageError(
                f"{claim} is a number: a name can be taken by someone else later", code="claims", hint=_FIND[claim]
            )
    typed = claims["ref"]
    if "*" in typed or typed.startswith("refs/pull/") or typed in ("refs/heads/", "refs/tags/"):
        raise UsageError("a rule names one branch or tag exactly", code="claims", hint=_FIND["ref"])
    _exact_ref(ctx, kind, claims)
    return claims


def _exact_ref(ctx: Context, kind: str, claims: dict[str, str]) -> None:
    """GitHub's claim is `refs/heads/main`, GitLab's is `main` with `ref_type` beside it."""
    typed = claims["ref"]
    if kind == "github" and not typed.startswith("refs/"):
        claims["ref"] = f"refs/heads/{typed}"
        ctx.note(f"the ref is taken as {claims['ref']}")
    if kind == "gitlab":
        for prefix, ref_type in (("refs/heads/", "branch"), ("refs/tags/", "tag")):
            if typed.startswith(prefix):
                claims["ref"] = typed.removeprefix(prefix)
                claims.setdefault("ref_type", ref_type)
        claims.setdefault("ref_type", "branch")


def _service(state: State, typed: str) -> Principal:
    """The service, if its files can be encrypted to it. A brokered environment's readers have a signing key in the
    policy, so that the state alone says who is one; its private half may have been thrown away."""
    try:
        found = state.principal(typed)
    except NotFound:
        services = [name for name, p in state.principals.items() if p.user is None]
        raise NotFound(f"there is no service {typed}", code="principal.unknown", candidates=services) from None
    if found.user is not None:
        raise UsageError(f"{typed} is a device of {found.user}; CI jobs act for a service", code="device")
    if not found.enabled:
        raise IntegrityError(
            f"{typed} is disabled", code="disabled", hint=f"zopp principal enable {typed}, if its keys are still safe"
        )
    why = "has no signing key" if found.key is None else ""
    if not found.recipient.startswith("age1"):
        why = "has no X25519 recipient (age1…)"
    if why:
        raise IntegrityError(
            f"{typed} {why}, so brokered files cannot be encrypted to it and its jobs would read nothing",
            code="recipient.left_out",
            hint=f"zopp principal request --service {typed} --for-ci --out-keys DIR, then: zopp principal rekey FILE",
        )
    return found


def _require(draft: Draft, service: str, action: str) -> None:
    """Denied unless the signer is admin wherever the service is bound: a rule hands out all of that."""
    state = draft.state
    subjects = {service, *state.groups_of(service)}
    scopes = {str(scope): scope for subject, scope, _ in state.bindings if subject.name in subjects}
    if not scopes or any(each.name in subjects for each in state.auditors):
        scopes[state.name] = Scope("workspace", state.name)
    for scope in sorted(scopes):
        require(state, draft.signer.principal, action, scope)


def _name(service: str, kind: str, claims: dict[str, str]) -> str:
    base, _ = names.split(service)
    number = claims[_FLAGS[kind]["repository_id" if kind == "github" else "project_id"]]
    return f"{base[: 63 - len(kind) - len(number) - 2]}-{kind}-{number}"


def _data(rule: OidcRule) -> dict[str, Any]:
    return {
        "rule": rule.name, "service": rule.service, "issuer": rule.issuer, "audience": rule.audience,
        "claims": dict(rule.claims), "max_ttl": rule.max_ttl,
    }  # fmt: skip


def _malformed(exc: FormatError) -> UsageError:
    problems = exc.data.get("problems")
    said = [f"{place.removeprefix('data.')}: {why}" for place, why in problems] if isinstance(problems, tuple) else []
    return UsageError("; ".join(said) or exc.message, code="rule", hint="zopp principal trust-ci --help")


# --- what it means


def effects(state: State, rule: OidcRule) -> list[tuple[str, str]]:
    """(environment, how it stands) of all that the service may read, sorted: `direct`, where its age key suffices and
    no rule is asked; `reads`; `protected`, where a job gets nothing as the rule names neither a deployment environment
    nor a workflow (A25)."""
    found = []
    for scope in sorted(state.envs):
        if state.role(rule.service, scope) == Role.NONE:
            continue
        if state.envs[scope].kind == "direct":
            found.append((scope, "direct"))
        else:
            found.append((scope, "reads" if decisions.oidc_role(state, rule.name, scope) else "protected"))
    return found


def words(rule: OidcRule) -> str:
    """A rule in one line."""
    claims = ", ".join(f"{name} {value}" for name, value in rule.claims)
    return f"jobs of {rule.issuer} with {claims} act for {rule.service}"


def _show(ctx: Context, draft: Draft, known: OidcRule | None, rule: OidcRule, kind: str) -> None:
    """What the rule lets in, before anybody agrees to it."""
    state = draft.state
    if known is not None:
        ctx.note(f"rule {rule.name} said: {words(known)}")
    ctx.note(f"rule {rule.name}: {words(rule)}")
    ctx.note(f"  audience {rule.audience}; a job's key lasts {rule.max_ttl} seconds at most")
    found = effects(state, rule)
    workflow = "--workflow-ref" if kind == "github" else "--config-ref"
    for scope, how in found:
        what = {
            "direct": f"is direct: the age key of {rule.service} alone opens it, without a token",
            "reads": "is brokered: a matching job reads it",
            "protected": f"is protected: this rule gives nothing there without --environment or {workflow}",
        }[how]
        ctx.note(f"  {people_name(scope)} {what}")
    if not found:
        ctx.note(f"  {rule.service} reaches no environment by it yet: zopp grant {rule.service} read SCOPE")
    ctx.note(f"  {WHO_CAN}")


def warnings(state: State) -> list[str]:
    """What `zopp doctor` says of the rules: only what follows from the policy (A25). Where a CI system keeps a secret
    is not known here."""
    found = []
    for _, rule in sorted(state.oidc_rules.items()):
        if not state.principals[rule.service].enabled:
            continue
        for scope, how in effects(state, rule):
            shown = people_name(scope)
            if how == "direct":
                found.append(
                    f"{shown} is direct: the age key of {rule.service} alone opens it, and no CI rule is asked; "
                    f"make it brokered with: zopp env kind {shown.partition('/')[2]} brokered"
                )
            elif how == "protected":
                found.append(
                    f"CI rule {rule.name} gives nothing in {shown}, which is protected: it names neither a deployment "
                    "environment nor a workflow; see zopp principal trust-ci --help"
                )
        if not any(name == "environment" for name, _ in rule.claims):
            found.append(
                f"CI rule {rule.name} names no deployment environment: if the age key of {rule.service} is a secret of "
                "the whole repository, a workflow on any branch gets it; keep it as a secret of one environment"
            )
    return list(dict.fromkeys(found))


# --- ci-rules, untrust-ci


def _list(ctx: Context, args: argparse.Namespace) -> int:
    state = ctx.workspace().state
    rules = [rule for _, rule in sorted(state.oidc_rules.items())]
    if ctx.as_json:
        ctx.data(
            [
                {
                    **_data(rule),
                    "enabled": state.principals[rule.service].enabled,
                    "effects": {people_name(scope): how for scope, how in effects(state, rule)},
                }
                for rule in rules
            ]
        )
        return 0
    for rule in rules:
        off = "" if state.principals[rule.service].enabled else " (disabled)"
        ctx.out(f"{rule.name}: service {rule.service}{off}")
        rows = [
            ("  issuer", rule.issuer),
            ("  audience", rule.audience),
            ("  lasts", f"{rule.max_ttl} seconds at most"),
        ]
        rows += [(f"  {name}", value) for name, value in rule.claims]
        shown = {"direct": "direct: the age key alone opens it", "reads": "read", "protected": "nothing: protected"}
        rows += [(f"  {people_name(scope)}", shown[how]) for scope, how in effects(state, rule)]
        for line in table(rows):
            ctx.out(line)
    if not rules:
        ctx.note("no rule: CI jobs need the signing key of their service")
    return 0


def _untrust(ctx: Context, args: argparse.Namespace) -> int:
    with ctx.changing(on_old_base=args.on_old_base, policy=True) as draft:
        rule = draft.state.oidc_rules.get(args.rule)
        if rule is None:
            raise NotFound(f"there is no rule {args.rule}", code="rule", candidates=list(draft.state.oidc_rules))
        _require(draft, rule.service, "oidc_rule.remove")
        draft.statement("oidc_rule.remove", {"rule": rule.name})
        code = conclude(ctx, args, draft, extra={"rule": rule.name})
        if not args.dry_run:
            ctx.note(f"jobs that registered by it are refused from now on; {rule.service} is a reader as before")
            ctx.note("what was released to them stays readable to whoever kept it, until: zopp rekey --all ENV")
        return code
