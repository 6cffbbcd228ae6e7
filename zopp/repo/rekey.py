"""Bringing files to what the policy wants: wrap for new readers, a new data key whenever someone lost read.

Re-wrapping alone is never offered after a removal: it would keep the data key that the leaver holds (A18).
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, field

from zopp import sopsfile
from zopp.errors import Denied, IntegrityError, Unknown, ZoppError
from zopp.repo.draft import Draft, timestamp
from zopp.repo.environment import Environment, open_environment, people_name, require_changeable, shared
from zopp.repo.unlock import Keyring, data_key


@dataclass(slots=True)
class FileWork:
    """What a rekey does to one file: `rotate` (new data key), or `add` recipients only."""

    path: str
    rotate: bool
    reason: str
    added: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Outcome:
    """What a rekey did and what it had to leave: `open` maps an environment to why it could not be done here."""

    done: dict[str, list[FileWork]] = field(default_factory=dict)
    open: dict[str, str] = field(default_factory=dict)


def work_for(draft: Draft, env: Environment, *, force: bool = False) -> list[FileWork]:
    """What each file of `env` needs under the drafted policy."""
    names = {recipient: name for name, recipient in draft.state.readers(env.scope).items()}
    known = {p.recipient: name for name, p in draft.state.principals.items()}
    needed: list[FileWork] = []
    for path, file in env.files.items():
        if file.sops is None or env.manifest is None:
            continue
        entry = env.manifest.files[path]
        have = [e.recipient for group in file.sops.metadata.groups for e in group]
        added = [name for recipient, name in names.items() if recipient not in have]
        removed = [known.get(recipient, recipient) for recipient in have if recipient not in names]
        lost = draft.state.read_lost_seq(env.scope)
        if force:
            reason = "asked for"
        elif removed:
            reason = "no longer a reader: " + ", ".join(removed)
        elif entry.dk_seq is None:
            reason = "it is not known who made its data key"
        elif entry.dk_seq < lost:
            reason = f"someone lost read at statement {lost}, its data key is from {entry.dk_seq}"
        else:
            reason = ""
        if reason or added:
            needed.append(FileWork(path, bool(reason), reason or "new reader: " + ", ".join(added), added, removed))
    return needed


def rekey_environment(draft: Draft, env: Environment, keyring: Keyring, work: list[FileWork]) -> None:
    """Carry out `work`; the environment has been found changeable."""
    for item in work:
        file = env.files[item.path]
        assert file.sops is not None
        old = data_key(draft.ws, env, file, keyring)
        entries = [entry for group in file.sops.metadata.groups for entry in group]
        try:
            if item.rotate:
                new = os.urandom(32)
                data = sopsfile.rotate(file.sops, old, new, (draft.wrap(env, new),), lastmodified=timestamp(draft.now))
                draft.secrets(env, item.path, data, new, made=True)
            else:
                data = sopsfile.replace_groups(file.sops, (draft.wrap(env, old, keep=entries),))
                draft.secrets(env, item.path, data, old, made=False)
        except ZoppError as exc:
            exc.place = exc.place or item.path
            raise


def follow_policy(
    draft: Draft, keyring: Keyring, *, on_old_base: bool = False, progress: Callable[[str], None] = lambda _: None
) -> Outcome:
    """After statements were drafted: bring every environment whose readers changed to the new policy, and sign again
    what was last signed by someone who can no longer write (brokered-grants §8). What the signer cannot do, because
    they may not write there or hold no key, stays open and is named."""
    outcome = Outcome()
    for scope in draft.state.envs:
        if scope not in draft.ws.state.envs:
            continue  # made by this draft: nothing lies there yet
        before = draft.ws.state.readers(scope)
        after = draft.state.readers(scope)
        env = open_environment(draft.ws, scope)
        if env.manifest is None and not env.findings:
            continue  # no file yet
        # Lost write, or signs with another key since: what stands under that signature has to be signed again.
        signed_by = env.manifest.signer if env.manifest else ""
        orphaned = draft.state.writers(scope).get(signed_by) != draft.ws.state.writers(scope).get(signed_by)
        lost_anew = draft.state.read_lost_seq(scope) != draft.ws.state.read_lost_seq(scope)
        if before == after and not orphaned and not lost_anew:
            continue
        progress(people_name(scope))
        try:
            if draft.signer.principal not in draft.state.writers(scope):
                raise Denied(f"{draft.signer.principal} may not write {people_name(scope)}")
            env.findings += shared(draft.ws, env)
            require_changeable(env, on_old_base=on_old_base, rekeying=True)
            work = work_for(draft, env)
            rekey_environment(draft, env, keyring, work)
            if work:
                outcome.done[scope] = work
            if orphaned or work:
                draft.touch(env)
        except (Denied, Unknown, IntegrityError) as exc:
            outcome.open[scope] = str(exc)
    return outcome
