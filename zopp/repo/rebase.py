"""Two branches that both changed the policy: yours is signed again on top of theirs, if it still means the same (A11).

Without a server git orders statements. The other side's log stands; of ours the lines beyond the common prefix are
signed again, only if each gains or loses exactly what it did before. What others signed they have to sign again.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from zopp.errors import IntegrityError, NotFound, UsageError, ZoppError
from zopp.policy import apply as policy_apply, decisions, log, manifest as manifests, statement
from zopp.policy.names import Scope
from zopp.policy.state import State
from zopp.policy.statement import Statement
from zopp.repo import git, layout, pins, settings as settings_module, userdirs
from zopp.repo.draft import Draft
from zopp.repo.environment import open_environment, people_name
from zopp.repo.layout import Checkout
from zopp.repo.workspace import Workspace, check_anchor, standing


@dataclass(slots=True)
class Rebase:
    """`mine`: statements to sign again, with whether their effect is the same; `others`: who has to sign what again;
    `draft`: signed so far, not written."""

    draft: Draft
    mine: list[tuple[Statement, bool, list[str]]] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    manifests: list[str] = field(default_factory=list)


def sides(checkout: Checkout, onto: str | None) -> tuple[bytes, bytes, str]:
    """(our log, their log, their revision): HEAD against `onto`, or against MERGE_HEAD in a merge that stopped."""
    heads = git.merge_heads(checkout.git_dir)
    theirs = onto or (heads[0] if len(heads) == 1 else None)
    if theirs is None:
        raise UsageError("no merge is under way", code="rebase.none", hint="zopp policy rebase --onto BRANCH")
    if onto and git.resolve(checkout.root, onto) is None:
        known = [name.split("/", 2)[2] for _, name in git.branches(checkout.root)]
        raise NotFound(f"there is no branch {onto}", code="rebase.branch", candidates=known)
    ours, other = git.show(checkout.root, "HEAD", layout.POLICY), git.show(checkout.root, theirs, layout.POLICY)
    if ours is None or other is None:
        raise NotFound(f"{theirs} and HEAD do not both have a policy log", code="rebase.none", place=layout.POLICY)
    return ours, other, theirs


def open_on(checkout: Checkout, start: str, env: Mapping[str, str], theirs: bytes) -> Workspace:
    """The workspace with the other side's log, settings as HEAD has them: the work tree's may hold conflict markers."""
    folder = layout.find_project(checkout, start) or ""
    place = f"{folder}/{layout.SETTINGS}" if folder else layout.SETTINGS
    data = git.show(checkout.root, "HEAD", place)
    if data is None:
        raise NotFound("HEAD has no zopp.toml here", code="workspace.missing", place=place)
    settings = settings_module.parse(data, place=place, folder=folder)
    pin = pins.find(userdirs.state(env), checkout, env)
    check_anchor(settings, pin, place, folder)
    state = log.fold(theirs, genesis=settings.genesis)
    return Workspace(
        checkout=checkout, env=env, settings=settings, folder=folder, pin=pin, state=state, log=theirs,
        place=standing(state, pin),
    )  # fmt: skip


def rebase(draft: Draft, ours: bytes, ask: Callable[[Statement, list[str], list[str]], bool]) -> Rebase:
    """Sign our own statements again on top of `draft.ws`, and manifests that name a head which is now off the chain.
    Errors as `restate`."""
    out = restate(draft, ours, ask)
    _manifests(draft, log.fold(ours), out)
    return out


def restate(
    draft: Draft, ours: bytes, ask: Callable[[Statement, list[str], list[str]], bool], *, skip: int = 0
) -> Rebase:
    """Sign the statements of the log `ours` again on top of `draft.ws`: those of this signer beyond what the two have
    in common, and beyond the first `skip`. `ask` is called where the effect is another (statement, effect then,
    effect now) and decides. IntegrityError if a statement does not hold there at all."""
    out = Rebase(draft)
    mine, theirs = log.split(ours), log.split(draft.ws.log)
    common = next(
        (n for n, (a, b) in enumerate(zip(mine, theirs, strict=False)) if a != b), min(len(mine), len(theirs))
    )
    if common == 0:
        raise IntegrityError("the two logs have no statement in common", code="rebase.foreign", place=layout.POLICY)
    common = max(common, skip)
    before = log.fold(b"\n".join(mine[:common]) + b"\n")
    for line in mine[common:]:
        old = statement.parse(line)
        after = policy_apply.apply(before, old)
        then = words(before, after)
        before = after
        if old.by != draft.signer.principal:
            out.others.append(f"{old.by} has to do again: {old.type} (was statement {old.seq})")
            continue
        here = draft.state
        try:
            draft.statement(old.type, old.data)
        except ZoppError as exc:
            raise IntegrityError(
                f"{old.type} (was statement {old.seq}) does not hold on the other side: {exc.message}",
                code="rebase.refused",
            ) from None
        now = words(here, draft.state)
        same = then == now
        if not same and not ask(old, then, now):
            raise IntegrityError(
                f"{old.type} (was statement {old.seq}) means something else now; nothing is signed",
                code="rebase.effect",
            )
        out.mine.append((old, same, now))
    return out


def forget_own(ws: Workspace, ours: bytes, done: Rebase) -> bool:
    """After a rebase whose every statement was ours and is signed again: what this clone remembers of the old order is
    taken back to the last common statement. A statement of somebody else that is not there any more stays remembered,
    so a branch that leaves out a removal is still found. Whether anything was taken back."""
    pin = ws.pin
    if pin is None or pin.origin == "environment" or done.others:
        return False
    old = log.fold(ours)
    common = common_seq(old, done.draft.state)
    if not common < pin.seq <= old.seq or old.hash_at(pin.seq) != pin.head:
        return False
    pin.seq, pin.head = common, old.hash_at(common)
    pins.save(userdirs.state(ws.env), ws.checkout, pin)
    return True


def words(before: State, after: State) -> list[str]:
    """An effect as sorted sentences, for comparing and for showing."""
    changes = [
        f"{c.principal}: {c.was} → {c.now} on {c.scope}" + (" (other keys)" if c.rekeyed else "")
        for c in decisions.effect(before, after)
    ]
    bindings = {f"{who} {role} on {where}" for who, where, role in after.bindings}
    had = {f"{who} {role} on {where}" for who, where, role in before.bindings}
    changes += [f"jobs by {line}" for line in _rules(after) - _rules(before)]
    changes += [f"jobs no longer by {line}" for line in _rules(before) - _rules(after)]
    return sorted(changes) + sorted(f"+ {b}" for b in bindings - had) + sorted(f"- {b}" for b in had - bindings)


def _rules(state: State) -> set[str]:
    """What jobs may read by each CI rule: a rule hands out what its service may at that time, so the same statement
    means something else once the service got another role."""
    found = set()
    for rule in state.oidc_rules.values():
        where = [f"{role} on {e}" for e in sorted(state.envs) if (role := decisions.oidc_role(state, rule.name, e))]
        claims = ", ".join(f"{name} {value}" for name, value in rule.claims)
        found.add(f"rule {rule.name} for {rule.service} ({rule.issuer}, {claims}): {', '.join(where) or 'nothing'}")
    return found


def _manifests(draft: Draft, ours: State, out: Rebase) -> None:
    """Manifests that name a head which is now off the chain are signed again, where HEAD's files are exactly those that
    a writer had signed under our own log."""
    for scope in draft.state.envs:
        path = layout.manifest_path(scope)
        data = git.show(draft.ws.root, "HEAD", path)
        signature = git.show(draft.ws.root, "HEAD", path + ".sig")
        if data is None or signature is None or draft.ws.read(path) != data:
            continue
        manifest = manifests.parse(data)
        on_chain = (
            manifest.policy_seq <= draft.state.seq and draft.state.hash_at(manifest.policy_seq) == manifest.policy_hash
        )
        if on_chain:
            continue
        own = Workspace(
            checkout=draft.ws.checkout, env=draft.ws.env, settings=draft.ws.settings, folder=draft.ws.folder,
            pin=None, state=ours, log=b"", place="current",
        )  # fmt: skip
        env = open_environment(own, scope)
        sound = not [f for f in env.findings if f.severity == "error"]
        may = draft.state.role(draft.signer.principal, Scope("env", scope)) >= 2
        if not sound or not may:
            out.others.append(f"a writer of {people_name(scope)} has to sign again: zopp sign -e {env.name}")
            continue
        # dk_seq names a statement of the old chain; what was made after the fork is as old as the new head.
        touched = draft.touch(env)
        for listed, entry in list(touched.files.items()):
            if entry.dk_seq is not None and (
                entry.dk_seq > draft.state.seq or draft.state.hash_at(entry.dk_seq) != ours.hash_at(entry.dk_seq)
            ):
                touched.files[listed] = manifests.FileEntry(
                    entry.sha512, entry.kc, common_seq(draft.state, ours), entry.dk_by, entry.kc1
                )
        out.manifests.append(people_name(scope))


def common_seq(a: State, b: State) -> int:
    """The last statement that two chains share."""
    low, high = 0, min(a.seq, b.seq)
    while low < high:
        middle = (low + high + 1) // 2
        if a.hash_at(middle) == b.hash_at(middle):
            low = middle
        else:
            high = middle - 1
    return low
