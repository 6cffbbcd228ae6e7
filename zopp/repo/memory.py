"""What this clone learns: the newest policy head and manifests *committed on the default branch*, on no other (A12).

Only commands that run git anyway learn, so that an edit that is thrown away, or a hostile branch that was looked at,
leaves no trace.
"""

from zopp._fast import sha256
from zopp.repo import committed, git, layout, pins, userdirs
from zopp.repo.environment import Environment
from zopp.repo.workspace import Workspace, standing


def learn(ws: Workspace, environments: list[Environment]) -> bool:
    """Remember heads that HEAD of the default branch holds, if they verify and descend from what is remembered; whether
    anything new was learned. Callers pass environments without error findings only."""
    if ws.pin is None or ws.pin.origin == "environment" or not ws.on_default_branch():
        return False
    pin, learned = ws.pin, False
    if (
        ws.place in ("ahead", "current")
        and (ws.state.seq, ws.state.head) != (pin.seq, pin.head)
        and committed.show(ws, "HEAD", layout.POLICY) == ws.log
    ):
        pin.seq, pin.head = ws.state.seq, ws.state.head
        learned = True
    for env in environments:
        if env.manifest is None or env.manifest_bytes is None:
            continue
        path = layout.manifest_path(env.scope)
        digest = sha256(env.manifest_bytes).hex()
        seen = pin.manifests.get(env.scope)
        if seen == (env.manifest.generation, digest) or committed.show(ws, "HEAD", path) != env.manifest_bytes:
            continue
        if seen is None or (env.manifest.generation > seen[0] and descends(ws, env, seen[1])):
            pin.manifests[env.scope] = (env.manifest.generation, digest)
            learned = True
    if ws.folder not in pin.projects:
        pin.projects[ws.folder] = ws.project
        learned = True
    if ws.folder not in pin.default_envs:
        pin.default_envs[ws.folder] = ws.settings.default_env or ""
        learned = True
    if learned:
        pins.save(userdirs.state(ws.env), ws.checkout, pin)
        ws.place = standing(ws.state, pin)
    return learned


def descends(ws: Workspace, env: Environment, digest: str) -> bool:
    """Whether the manifest with SHA-256 `digest` is an ancestor of that in HEAD: by `prev`, else by git's history."""
    assert env.manifest is not None
    if env.manifest.prev == digest:
        return True
    history = git.versions(ws.root, layout.manifest_path(env.scope), ["HEAD"])
    return any(sha256(data).hex() == digest for _, data in git.blobs(ws.root, [blob for _, blob in history]))
