"""What follows when someone loses read: new data keys here, and the list of what they could have read (D9).

One procedure for every way of losing it (S47): a binding, a membership, a group, a cap, a device, a user, protecting.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from zopp.errors import ZoppError
from zopp.policy import apply as policy_apply, canonical, statement
from zopp.policy.state import State
from zopp.repo import elsewhere, exposure, layout, rekey
from zopp.repo.draft import Draft
from zopp.repo.exposure import Exposure, Release, Released, Scan
from zopp.repo.unlock import Keyring


@dataclass(slots=True)
class Removal:
    """`lost`: environment → principals who lost read. `exposures`: one list per user or service. `work`: what was
    rekeyed, and where someone else has to do it. `unverified`: branch → why its policy log does not verify, so that
    nobody knows what it let them read."""

    lost: dict[str, list[str]] = field(default_factory=dict)
    exposures: list[Exposure] = field(default_factory=list)
    work: rekey.Outcome = field(default_factory=rekey.Outcome)
    unverified: dict[str, str] = field(default_factory=dict)


def lost_read(before: State, after: State) -> dict[str, list[str]]:
    """Environment → principals who were readers and are not, or are under another recipient now."""
    lost: dict[str, list[str]] = {}
    for scope in before.envs:
        then = before.readers(scope)
        now: Mapping[str, str] = after.readers(scope) if scope in after.envs else {}
        gone = [name for name, recipient in then.items() if now.get(name) != recipient]
        if gone:
            lost[scope] = gone
    return lost


def carry_out(
    draft: Draft,
    keyring: Keyring,
    *,
    on_old_base: bool = False,
    rotate: Collection[str] = (),
    dry: bool = False,
    progress: Callable[[str], None] = lambda _: None,
    released: Released | None = None,
) -> Removal:
    """Bring the files to the drafted policy and list what those who lost read could have read. `rotate` and `dry` as in
    `rekey.follow_policy`; `released` reads the audit log, None where there is nobody to ask. Nothing is written yet:
    `draft.commit` does that, and has the lists made once the server has accepted the statements, since until then
    something may still be released. A dry run lists what there is now."""
    before = draft.ws.state
    removal = Removal(lost=lost_read(before, draft.state))
    removal.work = rekey.follow_policy(
        draft, keyring, on_old_base=on_old_base, rotate=rotate, dry=dry, progress=progress
    )
    by_holder: dict[str, _Loss] = {}
    for scope, names in removal.lost.items():
        for name in names:
            principal = before.principals[name]
            by_holder.setdefault(principal.holder, _Loss()).add(scope, name, principal.recipient)
    if by_holder or _disabled(before, draft.state):
        _on_branches(draft, by_holder, removal)
    for holder, loss in sorted(by_holder.items()):
        # A device of someone who still reads by another is listed by its own name: it may be in other hands now.
        still = any(
            draft.state.principals[name].holder == holder
            for scope in loss.envs
            if scope in draft.state.envs
            for name in draft.state.readers(scope)
        )
        subject = sorted(loss.devices)[0] if still else holder
        found = exposure.scan(draft.ws, sorted(loss.envs))

        def finish(
            subject: str = subject,
            devices: Collection[str] = frozenset(loss.devices),
            recipients: Collection[str] = frozenset(loss.recipients),
            found: Scan = found,
        ) -> None:
            log, wider = ask(draft, released, found, [name for name in devices if name in before.principals])
            made = exposure.judge(found, devices, recipients, log, wider=wider)
            made.subject, made.seq = subject, draft.state.seq
            made.unverified = dict(removal.unverified)
            if made.keys or made.closed:
                draft.put(f"{layout.EXPOSURE}/{made.name}", made.dump())
                removal.exposures.append(made)

        if dry:
            finish()
        else:
            draft.accepted.append(finish)
    return removal


@dataclass(slots=True)
class _Loss:
    """What one user or service lost: environments, by which devices, under which recipients."""

    envs: set[str] = field(default_factory=set)
    devices: set[str] = field(default_factory=set)
    recipients: set[str] = field(default_factory=set)

    def add(self, scope: str, device: str, recipient: str) -> None:
        self.envs.add(scope)
        self.devices.add(device)
        self.recipients.add(recipient)


def _disabled(before: State, after: State) -> set[str]:
    """Principals that were there and enabled, and are not."""
    return {name for name in before.principals if _enabled(before, name) and not _enabled(after, name)}


def _enabled(state: State, name: str) -> bool:
    principal = state.principals.get(name)
    if principal is None or not principal.enabled:
        return False
    return principal.user is None or state.users[principal.user].enabled


def _on_branches(draft: Draft, by_holder: dict[str, _Loss], removal: Removal) -> None:
    """Add what the logs of unmerged branches let someone read and the drafted statements would take there, too; and all
    that they let someone read whom the draft disables."""
    said = [(each.type, canonical.thaw(each.data)) for each in map(statement.parse, draft.lines)]
    there = elsewhere.look(draft.ws)
    removal.unverified = there.refused
    gone = _disabled(draft.ws.state, draft.state)
    users = {
        name for name, user in draft.ws.state.users.items() if user.enabled and not draft.state.users[name].enabled
    }
    for states in there.states.values():
        for state in states:
            lost = lost_read(state, policy_apply.supposed(state, said, draft.signer.principal))
            for scope in state.envs:
                for name, recipient in state.readers(scope).items():
                    holder = state.principals[name].holder
                    if name in lost.get(scope, ()) or name in gone or holder in users:
                        by_holder.setdefault(holder, _Loss()).add(scope, name, recipient)


def ask(
    draft: Draft, released: Released | None, found: Scan, principals: Collection[str]
) -> tuple[Sequence[Release] | None, str]:
    """What was released to `principals`; (None, why) if that cannot be told. Nobody is asked where nothing is
    brokered."""
    if not found.brokered():
        return (), ""
    if released is None or draft.ws.state.server is None:
        return None, "there is no policy server to ask for its log"
    try:
        return released(draft.ws, principals), ""
    except ZoppError as exc:
        return None, exc.message
