"""Bringing files to what the policy wants: wrap for new readers, a new data key whenever someone lost read.

Re-wrapping alone is never offered after a removal: it would keep the data key that the leaver holds (A18). A new
reader of a brokered file gets share 1, which its writer opens alone; for everything else there the server has to
release its half, once a file and in one batch (brokered-grants §8).
"""

import os
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from zopp import sopsfile
from zopp.errors import Denied, IntegrityError, NotFound, Unknown, ZoppError
from zopp.policy.state import State
from zopp.repo import brokered, resign
from zopp.repo.clock import timestamp
from zopp.repo.draft import Draft
from zopp.repo.environment import Environment, open_environment, people_name, require_changeable, shared
from zopp.repo.unlock import Keyring, data_keys, first_share


@dataclass(slots=True)
class FileWork:
    """What a rekey does to one file: `rotate` (new data key), or add recipients only; `opened`: among them a key of
    group 2, so that the server's half has to be opened."""

    path: str
    rotate: bool
    reason: str
    added: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    opened: bool = False


@dataclass(slots=True)
class Outcome:
    """What a rekey did and what it had to leave: `open` maps an environment to why it could not be done here, `errors`
    to the same as an error."""

    done: dict[str, list[FileWork]] = field(default_factory=dict)
    open: dict[str, str] = field(default_factory=dict)
    errors: dict[str, ZoppError] = field(default_factory=dict)


def work_for(draft: Draft, env: Environment, *, force: bool = False) -> list[FileWork]:
    """What each file of `env` needs under the drafted policy."""
    state, scope = draft.state, env.scope
    known = brokered.describe(state, scope)
    wanted = brokered.groups(state, scope)
    kind = state.envs[scope].kind
    needed: list[FileWork] = []
    for path, file in env.files.items():
        if file.sops is None or env.manifest is None:
            continue
        entry = env.manifest.files[path]
        have = [[e.recipient for e in group] for group in file.sops.metadata.groups]
        added = [known[r] for r in wanted[0] if r not in have[0]]
        removed = [known.get(r, r) for r in have[0] if r not in wanted[0]]
        fits = brokered.fits(file.sops.metadata, kind)
        second: list[str] = []
        moved: list[str] = []
        if fits and len(wanted) == 2:
            second = [known[r] for r in wanted[1] if r not in have[1]]
            moved = [r for r in have[1] if r not in wanted[1]]
        lost = state.read_lost_seq(scope)
        if force:
            reason = "asked for"
        elif not fits:
            reason = f"the environment is {kind}"
        elif any(not brokered.is_server_key(state, scope, r) for r in moved):
            reason = "no longer of the second group: " + ", ".join(known.get(r, r) for r in moved)
        elif removed:
            reason = "no longer a reader: " + ", ".join(removed)
        elif entry.dk_seq is None:
            reason = "it is not known who made its data key"
        elif entry.dk_seq < lost:
            reason = f"someone lost read at statement {lost}, its data key is from {entry.dk_seq}"
        else:
            reason = ""
        if reason or added or second or moved:
            why = [f"new reader: {', '.join(added)}"] * bool(added)
            why += [f"new in the second group: {', '.join(second)}"] * bool(second)
            why += ["an old server key goes"] * (bool(moved) and not second)
            needed.append(
                FileWork(path, bool(reason), reason or "; ".join(why), [*added, *second], removed, bool(second))
            )
    return needed


def rekey_environment(draft: Draft, env: Environment, keyring: Keyring, work: list[FileWork]) -> None:
    """Carry out `work`; the environment has been found changeable."""
    brokered.require_groups(draft.state, env.scope)
    # What needs the whole data key is opened at once: of a brokered environment that is one release.
    whole = [item for item in work if item.rotate or item.opened]
    files = [env.files[item.path] for item in whole]
    opened = data_keys(draft.ws, env, files, keyring, "rotate")
    keys = {item.path: key for item, key in zip(whole, opened, strict=True)}
    for item in work:
        file = env.files[item.path]
        assert file.sops is not None
        try:
            if item.rotate:
                new = os.urandom(32)
                wrapped = draft.wrap(env, new)
                data = sopsfile.rotate(
                    file.sops, keys[item.path].data, new, wrapped.groups,
                    threshold=wrapped.threshold, lastmodified=timestamp(draft.now),
                )  # fmt: skip
                draft.secrets(env, item.path, data, new, made=True, share=wrapped.share)
                continue
            meta = file.sops.metadata
            if item.opened:
                file.sops.decrypt(keys[item.path].data)  # the MAC, before share 2 is given to another key
                payloads: tuple[bytes | None, ...] = keys[item.path].shares or ()
            else:
                payloads = (first_share(draft.ws, env, file, keyring), None)[: len(meta.groups)]
            wrapped = brokered.rewrap(draft.state, env.scope, meta, payloads)
            data = sopsfile.replace_groups(file.sops, wrapped.groups, threshold=wrapped.threshold)
            draft.secrets(env, item.path, data, None, made=False)
        except ZoppError as exc:
            exc.place = exc.place or item.path
            raise


def restore(draft: Draft, env: Environment, keyring: Keyring) -> list[FileWork] | None:
    """Give files back the key groups that a foreign command took from them (`sops updatekeys` under a flat rule drops
    the server's group with exit 0, A30): new data keys, for nothing but what was signed before. None where anything
    else differs from what was signed: that is for somebody to look at (`resign`)."""
    found = resign.review(draft.ws, env.scope, keyring)
    if not found.differences or found.misplaced:
        return None
    for difference in found.differences:
        if difference.names() or difference.selector or difference.new_data_key or not difference.known_before:
            return None
    rekeyed = resign.sign(draft, found)
    return [FileWork(path, True, "its key groups were not those of the policy") for path in rekeyed]


def _recipients(state: State, scope: str) -> tuple[str, brokered.Groups]:
    return state.envs[scope].kind, brokered.groups(state, scope)


def follow_policy(
    draft: Draft,
    keyring: Keyring,
    *,
    on_old_base: bool = False,
    rotate: Collection[str] = (),
    dry: bool = False,
    progress: Callable[[str], None] = lambda _: None,
) -> Outcome:
    """After statements were drafted: bring every environment whose readers, kind or second group changed to the new
    policy, and sign again what was last signed by someone who can no longer write (brokered-grants §8). Environments in
    `rotate` get new data keys in any case. What the signer cannot do, because they may not write there or hold no key,
    or nobody releases the server's half, stays open and is named. `dry`: nobody is asked for the server's half, since
    a release is recorded; what would be done in brokered environments is said unseen."""
    outcome = Outcome()
    for scope in draft.state.envs:
        if scope not in draft.ws.state.envs:
            continue  # made by this draft: nothing lies there yet
        changed = _recipients(draft.ws.state, scope) != _recipients(draft.state, scope)
        env = open_environment(draft.ws, scope)
        if env.manifest is None and not env.findings:
            continue  # no file yet
        # Lost write, or signs with another key since: what stands under that signature has to be signed again.
        signed_by = env.manifest.signer if env.manifest else ""
        orphaned = draft.state.writers(scope).get(signed_by) != draft.ws.state.writers(scope).get(signed_by)
        lost_anew = draft.state.read_lost_seq(scope) != draft.ws.state.read_lost_seq(scope)
        if not (changed or orphaned or lost_anew or scope in rotate):
            continue
        progress(people_name(scope))
        try:
            if draft.signer.principal not in draft.state.writers(scope):
                raise Denied(f"{draft.signer.principal} may not write {people_name(scope)}")
            env.findings += shared(draft.ws, env)
            require_changeable(env, on_old_base=on_old_base, rekeying=True)
            work = work_for(draft, env, force=scope in rotate)
            if not (dry and env.kind == "brokered"):
                rekey_environment(draft, env, keyring, work)
            if work:
                outcome.done[scope] = work
            if orphaned or changed or work:
                draft.touch(env)
        except (Denied, Unknown, IntegrityError, NotFound) as exc:
            outcome.open[scope] = str(exc)
            outcome.errors[scope] = exc
    return outcome
