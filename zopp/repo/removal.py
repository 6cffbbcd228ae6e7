"""What follows when someone loses read: new data keys here, and the list of what they could have read (D9).

One procedure for every way of losing it (S47): a binding, a membership, a group, a cap, a device, a user, protecting.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from zopp.policy.state import State
from zopp.repo import exposure, layout, rekey
from zopp.repo.draft import Draft
from zopp.repo.environment import people_name
from zopp.repo.exposure import Exposure
from zopp.repo.unlock import Keyring


@dataclass(slots=True)
class Removal:
    """`lost`: environment → principals who lost read. `exposures`: one list per user or service. `work`: what was
    rekeyed, and where someone else has to do it."""

    lost: dict[str, list[str]] = field(default_factory=dict)
    exposures: list[Exposure] = field(default_factory=list)
    work: rekey.Outcome = field(default_factory=rekey.Outcome)


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
) -> Removal:
    """Bring the files to the drafted policy and list what those who lost read could have read. `rotate` and `dry` as in
    `rekey.follow_policy`. Nothing is written yet: `draft.commit` does that."""
    before = draft.ws.state
    removal = Removal(lost=lost_read(before, draft.state))
    removal.work = rekey.follow_policy(
        draft, keyring, on_old_base=on_old_base, rotate=rotate, dry=dry, progress=progress
    )
    by_holder: dict[str, set[str]] = {}
    for names in removal.lost.values():
        for name in names:
            by_holder.setdefault(before.principals[name].holder, set()).add(name)
    for holder, devices in sorted(by_holder.items()):
        envs = {scope for scope, gone in removal.lost.items() if devices & set(gone)}
        # A device of someone who still reads by another is listed by its own name: it may be in other hands now.
        still = any(
            draft.state.principals[name].holder == holder
            for scope in envs
            if scope in draft.state.envs
            for name in draft.state.readers(scope)
        )
        subjects = sorted(devices) if still else [holder]
        recipients = [before.principals[name].recipient for name in devices]
        found = exposure.could_read(draft.ws, devices, recipients)
        wanted = {people_name(scope) for scope in envs}
        found.keys = {env: files for env, files in found.keys.items() if env in wanted and any(files.values())}
        found.subject, found.seq = subjects[0], draft.state.seq
        if found.keys:
            draft.put(f"{layout.EXPOSURE}/{found.name}", found.dump())
            removal.exposures.append(found)
    return removal
