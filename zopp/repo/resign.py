"""Taking in changes that zopp did not make: what a signature would cover, and signing it (A19).

The baseline is the newest manifest that verifies under the policy of today: the work tree's own, or, where that one is
forged, back-dated or its signer has lost write, the newest such manifest in HEAD's history. Everything that differs
from the baseline is listed; nothing is signed that was not listed.
"""

import os
from dataclasses import dataclass, field, replace

from zopp import sopsfile
from zopp.errors import IntegrityError, ZoppError
from zopp.keys import sshsig
from zopp.policy import manifest as manifests
from zopp.policy.manifest import FileEntry, Manifest
from zopp.repo import brokered, exposure, foreign, git, layout
from zopp.repo.brokered import Key
from zopp.repo.clock import timestamp
from zopp.repo.draft import Draft
from zopp.repo.environment import MISPLACED, Environment, SecretsFile, open_environment
from zopp.repo.foreign import Difference
from zopp.repo.unlock import Keyring
from zopp.repo.workspace import Workspace

# With these a manifest is still what a writer of today said; only who may read, or when it was said, has moved on.
_SOUND = frozenset(
    {"stale", "not_rotated", "behind", "group2_stale", "kind", "generation", "prev", "selector", "policy_lower"}
)


@dataclass(slots=True)
class Review:
    """What signing an environment would cover: `differences` with something in them, and the data keys of those files.
    `manifest_only`: the files are those of the baseline and only the manifest needs a writer's name. `misplaced`:
    listed files that are not this environment's; the new manifest leaves them out."""

    env: Environment
    differences: list[Difference]
    keys: dict[str, Key] = field(repr=False)
    manifest_only: bool
    misplaced: list[str]


def review(ws: Workspace, scope: str, keyring: Keyring) -> Review:
    """Compare an environment with its baseline. IntegrityError where a signature cannot mend what is wrong."""
    env = open_environment(ws, scope, history=True)
    base = baseline(ws, env)
    compared = replace(env, manifest=base)
    pairs = []
    misplaced = _misplaced(ws, env)
    for path in _candidates(ws, env, base):
        if path in misplaced:
            continue
        data = ws.read(path)
        if data is None:
            if base is not None and path in base.files:
                raise IntegrityError(
                    "is listed and gone",
                    code="file.missing",
                    place=path,
                    hint=f"restore it with: git checkout HEAD -- {path}",
                )
            continue
        sops = sopsfile.read(data, sopsfile.format_of(path), strict=True)
        pairs.append(foreign.pair(ws, compared, path, sops))
        env.files[path] = SecretsFile(path, data, sops, True)
    differences, keys = [], {}
    compared_pairs = foreign.with_keys(ws, compared, pairs, keyring)
    for found, (difference, key) in zip(pairs, compared_pairs, strict=True):
        keys[found.path] = key
        if not found.listed or difference.new_data_key:
            differences.append(difference)
    other = base is not env.manifest or any(f.code in ("generation", "policy_lower", "prev") for f in env.findings)
    other = other or bool(misplaced)
    return Review(env, differences, keys, not differences and (other or env.manifest is None), misplaced)


def _misplaced(ws: Workspace, env: Environment) -> list[str]:
    """What rule 6 has against listing it here. Of a file that two list, zopp.toml says whose it is; IntegrityError
    where it does not say, or says it is this one's."""
    found = dict.fromkeys(f.place for f in env.findings if f.code in MISPLACED)
    outside = {f.place for f in env.findings if f.code == "path.outside"}
    twice = [f for f in env.findings if f.code == "path.shared" and f.place not in outside]
    own = ws.settings.files.get(env.name, ())
    others = {path for name, paths in ws.settings.files.items() if name != env.name for path in paths}
    for finding in twice:
        if env.project != ws.project or finding.place in own or finding.place not in others:
            raise IntegrityError(
                finding.message, code=finding.code, place=finding.place,
                hint="let zopp.toml name it under one environment, then sign the other one there: zopp sign -e ENV",
            )  # fmt: skip
    return list(found)


def _candidates(ws: Workspace, env: Environment, base: Manifest | None) -> list[str]:
    configured = ws.settings.files.get(env.name, ()) if env.project == ws.project else ()
    listed = [*(base.files if base else ()), *(env.manifest.files if env.manifest else ())]
    return list(dict.fromkeys([*listed, *configured]))


def baseline(ws: Workspace, env: Environment) -> Manifest | None:
    """The newest manifest (by generation) that a writer of today signed, of the work tree's and those in HEAD's
    history; None if there is none. After a plain revert that is the one that was reverted."""
    own = env.manifest if env.manifest is not None and env.signature is not None else None
    if own is not None and env.signature is not None and not _sound(ws, env.scope, own, env.signature):
        own = None
    if git.resolve(ws.root, "HEAD") is None:
        return own
    path = layout.manifest_path(env.scope)
    history = git.versions(ws.root, path, ["HEAD"])
    bodies = dict(git.blobs(ws.root, [blob for _, blob in history]))
    older: list[tuple[int, str, Manifest]] = []
    for commit, blob in history:
        try:
            manifest = manifests.parse(bodies[blob])
        except ZoppError:
            continue
        if own is None or manifest.generation > own.generation:
            older.append((manifest.generation, commit, manifest))
    for _, commit, manifest in sorted(older, key=lambda found: -found[0]):
        signature = git.show(ws.root, commit, path + ".sig")
        if signature is not None and _sound(ws, env.scope, manifest, signature):
            return manifest
    return own


def _sound(ws: Workspace, scope: str, manifest: Manifest, signature: bytes) -> bool:
    try:
        parsed = sshsig.parse(signature.decode("ascii", "replace"))
    except ZoppError:
        return False
    found = manifests.check(manifest, parsed, ws.state, ws=ws.state.ws, env=scope)
    return all(f.code in _SOUND for f in found if f.severity == "error")


def sign(draft: Draft, found: Review) -> list[str]:
    """Draft the signature of what was reviewed: files whose data key was made elsewhere, or that have recipients
    beyond the policy, get a new one. Returns the files that were rekeyed."""
    env, rekeyed = found.env, []
    changed: dict[str, list[str]] = {}
    base = baseline(draft.ws, env)
    if base is not env.manifest:
        # Nothing is taken over from a manifest that does not count: no generation, no entry, no `meta`.
        env = replace(env, manifest=base, manifest_bytes=base.raw if base else None)
    touched = draft.touch(env)
    for path in found.misplaced:
        touched.files.pop(path, None)
    for path, key in found.keys.items():
        file = env.files[path]
        assert file.sops is not None
        assert file.data is not None
        difference = next((d for d in found.differences if d.path == path), None)
        entry: FileEntry | None = touched.files.get(path)
        new_key = (difference is not None and difference.new_data_key) or entry is None
        meta = file.sops.metadata
        wanted = [set(group) for group in brokered.require_groups(draft.state, env.scope)]
        have = [{e.recipient for e in group} for group in meta.groups]
        fits = brokered.fits(meta, draft.state.envs[env.scope].kind)
        if new_key or not fits or any(there - due for there, due in zip(have, wanted, strict=True)):
            made = os.urandom(32)
            wrapped = draft.wrap(env, made)
            data = sopsfile.rotate(
                file.sops, key.data, made, wrapped.groups,
                threshold=wrapped.threshold, lastmodified=timestamp(draft.now),
            )  # fmt: skip
            draft.secrets(env, path, data, made, made=True, share=wrapped.share)
            rekeyed.append(path)
        elif have != wanted:
            payloads = key.shares or (key.data,)
            wrapped = brokered.rewrap(draft.state, env.scope, meta, payloads)
            data = sopsfile.replace_groups(file.sops, wrapped.groups, threshold=wrapped.threshold)
            draft.secrets(env, path, data, key.data, made=False, share=key.share)
        elif difference is not None:
            draft.secrets(env, path, file.data, key.data, made=False, share=key.share)
        if difference is not None:
            changed[path] = difference.names()
    for name, data in exposure.mark_changed(draft.ws, env.scope, changed).items():
        draft.put(name, data)
    draft.refresh_blocks()
    return rekeyed
