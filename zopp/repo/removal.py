"""What follows when someone loses read: new data keys here, and the list of what they could have read (D9).

One procedure for every way of losing it (S47): a binding, a membership, a group, a cap, a device, a user, protecting.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from zopp.errors import ZoppError
from zopp.policy.state import State
from zopp.repo import exposure, layout, rekey
from zopp.repo.draft import Draft
from zopp.repo.exposure import Exposure, Release, Released, Scan
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
        subject = sorted(devices)[0] if still else holder
        recipients = [before.principals[name].recipient for name in devices]
        found = exposure.scan(draft.ws, sorted(envs))

        def finish(
            subject: str = subject,
            devices: Collection[str] = frozenset(devices),
            recipients: Collection[str] = tuple(recipients),
            found: Scan = found,
        ) -> None:
            log, wider = ask(draft, released, found, devices)
            made = exposure.judge(found, devices, recipients, log, wider=wider)
            made.subject, made.seq = subject, draft.state.seq
            if made.keys or made.closed:
                draft.put(f"{layout.EXPOSURE}/{made.name}", made.dump())
                removal.exposures.append(made)

        if dry:
            finish()
        else:
            draft.accepted.append(finish)
    return removal


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
