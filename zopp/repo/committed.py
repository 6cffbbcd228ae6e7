"""What commits hold of the policy and the manifests. A command that judges all environments asks git once for all of
it (`prepare`); what was not asked for then costs a git process each.
"""

from zopp.repo import git, layout
from zopp.repo.workspace import Workspace

_PARENTS = 2
"""Of an octopus merge the others are asked for one by one."""


def prepare(ws: Workspace) -> None:
    """Read the policy log and every environment's manifest with its signature in the commit that `ws` stands on, its
    parents and the other sides of a merge under way, by one git process. HEAD is taken for what it is now: whoever
    makes a commit calls `forget` before."""
    at = ws.tree.revision
    sides = [at, *(f"{at}^{number}" for number in range(1, _PARENTS + 1))]
    if not ws.at:
        sides += git.merge_heads(ws.checkout.git_dir)
    places = [layout.POLICY]
    for scope in ws.state.envs:
        path = layout.manifest_path(scope)
        places += [path, path + ".sig"]
    names = [f"{side}:{place}" for side in sides for place in places]
    commit, found = b"", {}
    for name, kind, data in git.objects(ws.root, [at, *names]):
        if name == at and kind == "commit":
            commit = data
        elif kind == "blob":
            found[name] = data
    if not commit:
        ws.parents[at] = []  # none yet
        return
    ws.committed.update((name, found.get(name)) for name in names)
    head = commit.partition(b"\n\n")[0].decode("utf-8", "replace")
    ids = [line[7:] for line in head.split("\n") if line.startswith("parent ")]
    ws.parents[at] = ids
    for number, parent in enumerate(ids[:_PARENTS], 1):
        ws.committed.update((f"{parent}:{place}", found.get(f"{at}^{number}:{place}")) for place in places)


def show(ws: Workspace, revision: str, path: str) -> bytes | None:
    """The bytes of `path` in `revision`; None if either does not exist."""
    name = f"{revision}:{path}"
    return ws.committed[name] if name in ws.committed else git.show(ws.root, revision, path)


def parents(ws: Workspace, revision: str) -> list[str]:
    """The parents' ids of a commit, [] where there is none yet; of those beyond a shallow clone's end nothing can be
    shown."""
    if revision in ws.parents:
        return ws.parents[revision]
    return [] if git.resolve(ws.root, revision) is None else git.parents(ws.root, revision)


def forget(ws: Workspace) -> None:
    """What was read before a commit is not read after it."""
    ws.committed.clear()
    ws.parents.clear()
