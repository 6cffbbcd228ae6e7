"""One environment of a work tree: its manifest and files, checked against the policy before anything is used.

`open_environment` collects findings and decides nothing; `require_readable` and `require_changeable` refuse. Data keys
come only from `repo.unlock`, which checks the key commitment.
"""

from dataclasses import dataclass, field, replace

from zopp import sopsfile
from zopp._fast import json_parse, sha256, sha512
from zopp.errors import IntegrityError, NotFound, Unknown, UsageError, ZoppError
from zopp.keys import sshsig
from zopp.policy import manifest as manifests
from zopp.policy.findings import Finding
from zopp.policy.manifest import Manifest
from zopp.repo import committed, git, layout
from zopp.repo.workspace import Workspace
from zopp.sopsfile import SopsFile


@dataclass(slots=True)
class SecretsFile:
    """A listed file as found: `data` are the bytes that were hashed and parsed; `sops` is None if they do not parse or
    are not those the manifest lists."""

    path: str
    data: bytes | None
    sops: SopsFile | None
    listed: bool


@dataclass(slots=True)
class Environment:
    """`scope` is the name in statements (`api/staging@2`), `name` what people type (`staging`)."""

    scope: str
    project: str
    name: str
    kind: str
    manifest: Manifest | None
    manifest_bytes: bytes | None
    signature: bytes | None
    files: dict[str, SecretsFile] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)


# What the policy no longer wants but what is authentic: reads warn, writes are refused.
READS_WARN = frozenset({"stale", "not_rotated", "group2_stale"})
# What a rekey by a writer mends. A file of the other kind is not read before: its groups are not those of policy.
MENDED_BY_REKEY = READS_WARN | {"kind"}
# Of brokered-grants §6, what says that a manifest is a writer's own word about this environment.
_AUTHENTIC = frozenset({1, 2, 3, 4})
# A file that is not this environment's to list (rule 6).
MISPLACED = frozenset({"path.outside", "path.shared"})
# What a look and a fresh signature by a writer mends.
MENDED_BY_SIGN = frozenset(
    {"not_writer_then", "not_writer_now", "signer_disabled", "signer_key", "generation", "policy_lower", "prev"}
)


def finding(code: str, severity: str, message: str, place: str = "", *, rule: int = 0) -> Finding:
    """A finding of this layer; `rule` is that of brokered-grants §6, 0 where none has a number."""
    return Finding(code, severity, message, place, rule)


def project_of(ws: Workspace, project: str | None) -> str:
    """The project that is meant (None: that of ZOPP_PROJECT, else of zopp.toml). NotFound with those there are."""
    from_env = "" if project or not ws.env.get("ZOPP_PROJECT") else "ZOPP_PROJECT"
    project = project or ws.env.get("ZOPP_PROJECT") or ws.project
    known = [name.partition("@")[0] for name in ws.state.projects]
    if project not in known:
        raise NotFound(
            f"workspace {ws.state.name} has no project {project}",
            code="project.unknown",
            place=from_env,
            candidates=known,
        )
    return project


def scope_of(ws: Workspace, name: str | None, project: str | None = None) -> str:
    """The environment in statements that people call `name` (None: the default of zopp.toml or ZOPP_ENV)."""
    project = project_of(ws, project)
    # Nobody looks for a mistake in the environment unless it is named.
    from_env = "" if name or not ws.env.get("ZOPP_ENV") else "ZOPP_ENV"
    name = name or ws.env.get("ZOPP_ENV") or _default(ws)
    if name is None:
        raise UsageError(
            "no environment given and none is the default",
            code="env.missing",
            hint="say -e ENV; environments: " + ", ".join(names(ws, project)),
        )
    found = [scope for scope in ws.state.envs if people_name(scope) == f"{project}/{name}"]
    if not found or "@" in name:
        raise NotFound(
            f"project {project} has no environment {name}",
            code="env.unknown",
            place=from_env,
            candidates=names(ws, project),
        )
    return found[0]


def _default(ws: Workspace) -> str | None:
    """The default of zopp.toml, refused where it is another than this clone knows: the file is unsigned, and what was
    meant for dev would go to prod (A13)."""
    name = ws.settings.default_env
    known = None if ws.pin is None else ws.pin.default_envs.get(ws.folder)
    if known is not None and known != (name or ""):
        raise IntegrityError(
            f"the default environment was {known or 'none'} and is now {name or 'none'}",
            code="default_env.changed",
            place=f"{ws.folder}/{layout.SETTINGS}" if ws.folder else layout.SETTINGS,
            hint="say which one with -e ENV, or take the new default with: zopp trust",
        )
    return name


def people_name(scope: str) -> str:
    """`api/staging@2` → `api/staging`."""
    project, _, env = scope.partition("/")
    return f"{project.partition('@')[0]}/{env.partition('@')[0]}"


def names(ws: Workspace, project: str | None = None) -> list[str]:
    """The environments of a project as people name them."""
    project = project or ws.project
    return sorted(
        people_name(scope).partition("/")[2] for scope in ws.state.envs if people_name(scope).startswith(project + "/")
    )


def open_environment(ws: Workspace, scope: str, *, history: bool = False) -> Environment:
    """Read and check one environment. Everything that does not hold is a finding; only unreadable files raise.

    `history` also asks git for the parents' manifests (generation and `prev`), and looks whether another environment
    lists one of the files, as `verify` and writes do."""
    project, _, name = people_name(scope).partition("/")
    env = Environment(
        scope=scope,
        project=project,
        name=name,
        kind=ws.state.envs[scope].kind,
        manifest=None,
        manifest_bytes=None,
        signature=None,
    )
    path = layout.manifest_path(scope)
    env.manifest_bytes = ws.read(path)
    env.signature = ws.read(path + ".sig")
    if env.manifest_bytes is None:
        if env.signature is not None or (history and _parents(ws, scope, None)):
            env.findings.append(finding("manifest.missing", "error", "the manifest is gone", path))
        elif _promised(ws, env):
            # Without this a command would run with none of the values that lie beside it.
            env.findings.append(
                finding("manifest.missing", "error", f"{people_name(scope)} has files but no manifest", path)
            )
        elif ws.pin is not None and scope in ws.pin.manifests:
            env.findings.append(
                finding("generation.older", "warn", "the manifest is gone, which this clone has seen", path)
            )
        return env
    if env.signature is None:
        env.findings.append(finding("manifest.unsigned", "error", "the manifest has no signature", path))
        return env
    try:
        env.manifest = manifests.parse(env.manifest_bytes)
        signature = sshsig.parse(env.signature.decode("ascii", "replace"))
    except ZoppError as exc:
        env.findings.append(finding(exc.code, "error", exc.message, path))
        return env
    parents = _parents(ws, scope, env.manifest_bytes) if history else []
    # `prev` is checked where the one before is at hand; several generations may have passed since the last commit.
    before = [parent for parent in parents if parent.generation == env.manifest.generation - 1]
    previous = next((p for p in before if p.hash == env.manifest.prev), before[0] if before else None)
    for found in manifests.check(
        env.manifest, signature, ws.state, ws=ws.state.ws, env=scope, previous=previous, parents=parents
    ):
        env.findings.append(found if found.place else replace(found, place=path))
    folded: dict[str, str] = {}
    for listed, entry in env.manifest.files.items():
        env.files[listed] = _read_listed(ws, env, listed, entry.sha512)
        twin = folded.setdefault(listed.casefold(), listed)
        if twin != listed:
            env.findings.append(finding("path.twin", "error", f"differs from {twin} by letter case only", listed))
    env.findings += _outside(ws, env)
    env.findings += _remembered(ws, env)
    if history:
        env.findings += shared(ws, env)
    return env


def _outside(ws: Workspace, env: Environment) -> list[Finding]:
    """Rule 6: what is listed lies in the project's folder. Of its form (`..`, `.zopp`) `manifest.parse` has judged."""
    folder = ws.folder_of(env.project)
    if not folder:
        return []
    return [
        finding("path.outside", "error", f"lies outside {folder}, the folder of project {env.project}", path, rule=6)
        for path in env.files
        if not path.startswith(folder + "/")
    ]


def shared(ws: Workspace, env: Environment) -> list[Finding]:
    """Rule 6: files that another environment lists too, whoever signed that: a rekey here would lock out there."""
    if ws.listed is None:
        ws.listed = _listed(ws)
    return [
        finding("path.shared", "error", f"is listed by {env.scope} and by {scope}", path, rule=6)
        for path in env.files
        for scope in ws.listed.get(path, ())
        if scope != env.scope
    ]


def _listed(ws: Workspace) -> dict[str, list[str]]:
    """Path -> the environments whose manifests name it, signed or not."""
    found: dict[str, list[str]] = {}
    for scope in ws.state.envs:
        data = ws.read(layout.manifest_path(scope))
        try:
            paths = [] if data is None else list(json_parse(data.decode("utf-8"))["files"])
        except (ValueError, TypeError, KeyError):
            continue  # no manifest at all, which is said of `scope`
        for path in paths:
            found.setdefault(path, []).append(scope)
    return found


def _promised(ws: Workspace, env: Environment) -> bool:
    """Whether zopp.toml's files of this environment exist."""
    if env.project != ws.project:
        return False
    return any(ws.tree.exists(path) for path in ws.settings.files.get(env.name, ()))


def _read_listed(ws: Workspace, env: Environment, path: str, wanted: str) -> SecretsFile:
    assert env.manifest is not None
    found = SecretsFile(path, None, None, False)
    try:
        found.data = ws.read(path)
        if found.data is None:
            raise NotFound("no such file", code="file.missing", place=path)
    except ZoppError as exc:
        env.findings.append(finding(exc.code, "error", exc.message, path))
        return found
    found.listed = sha512(found.data).hex() == wanted
    if not found.listed:
        env.findings.append(
            finding(
                "file.changed", "error", "is not the file that the manifest lists; a writer has to look at it", path
            )
        )
    try:
        found.sops = sopsfile.read(found.data, sopsfile.format_of(path), strict=True)
    except ZoppError as exc:
        env.findings.append(finding(exc.code, "error", exc.message, path))
        return found
    # Whether these are the signed bytes was said above, once.
    env.findings += [f for f in manifests.check_file(env.manifest, path, found.sops, ws.state) if f.code != "bytes"]
    return found


def _parents(ws: Workspace, scope: str, here: bytes | None) -> list[Manifest]:
    """The accepted manifests in every parent of what is to be committed next (HEAD, and MERGE_HEAD in a merge). A work
    tree equal to HEAD, and a commit, are judged against their own parents."""
    at = ws.tree.revision
    head = committed.show(ws, at, layout.manifest_path(scope))
    if head is None and (here is not None or git.resolve(ws.root, at) is None):
        return []
    merging = [] if ws.at else git.merge_heads(ws.checkout.git_dir)
    revisions = committed.parents(ws, at) if head == here and not merging else [at, *merging]
    return [made for revision in revisions if (made := accepted(ws, scope, revision)) is not None]


def accepted(ws: Workspace, scope: str, revision: str, *, but: bytes | None = None) -> Manifest | None:
    """The manifest of `scope` in a commit, unless its bytes are `but`, if a writer of today signed it there. One that
    nobody accepts proves nothing about what follows it: else whoever can push would end an environment with a
    generation of 2^53 (A12)."""
    path = layout.manifest_path(scope)
    data = committed.show(ws, revision, path)
    signature = None if data is None or data == but else committed.show(ws, revision, path + ".sig")
    if data is None or signature is None:
        return None
    try:
        manifest, parsed = manifests.parse(data), sshsig.parse(signature.decode("ascii", "replace"))
    except ZoppError:
        return None
    found = manifests.check(manifest, parsed, ws.state, ws=ws.state.ws, env=scope)
    return None if any(f.severity == "error" and f.rule in _AUTHENTIC for f in found) else manifest


def _remembered(ws: Workspace, env: Environment) -> list[Finding]:
    """Compare with the newest manifest seen on the default branch. By number it is only *older*; `beside` needs git's
    history and is found by `memory.ancestry`."""
    if ws.pin is None or env.manifest is None or env.manifest_bytes is None:
        return []
    seen = ws.pin.manifests.get(env.scope)
    if seen is None:
        return []
    generation, digest = seen
    place = layout.manifest_path(env.scope)
    if sha256(env.manifest_bytes).hex() == digest:
        return []
    if env.manifest.generation < generation:
        return [
            finding(
                "generation.older",
                "warn",
                f"generation {env.manifest.generation} is older than {generation}, which this clone has seen on the "
                "default branch",
                place,
            )
        ]
    if env.manifest.generation == generation:
        return [
            finding(
                "generation.beside",
                "warn",
                f"is another generation {generation} than the one this clone has seen on the default branch",
                place,
            )
        ]
    return []


def require_readable(env: Environment) -> list[Finding]:
    """Refuse an environment whose files may not be used; the findings that only warn otherwise. Where a manifest was
    seen and is gone with its files there is nothing to use, and a command would run without a value and without a
    word."""
    bad = [f for f in env.findings if f.severity == "error" and f.code not in READS_WARN]
    if env.manifest_bytes is None:
        bad += [f for f in env.findings if f.code == "generation.older"]
    if bad:
        raise refusal(env, bad)
    return env.findings


def require_changeable(env: Environment, *, on_old_base: bool = False, rekeying: bool = False) -> None:
    """Refuse to write to an environment that does not verify: a forged file steals what is added next."""
    older = [f for f in env.findings if f.code in ("generation.older", "generation.beside")]
    bad = [f for f in env.findings if f.severity == "error" and not (rekeying and f.code in MENDED_BY_REKEY)]
    if bad:
        raise refusal(env, bad)
    if older and not on_old_base:
        raise IntegrityError(
            older[0].message,
            code=older[0].code,
            place=older[0].place,
            hint="pull or merge the default branch first, or say --on-old-base",
        )


def refusal(env: Environment, findings: list[Finding]) -> ZoppError:
    """One error for the findings of an environment, with the command that mends the first of them."""
    first = findings[0]
    if first.code == "file.unreadable":  # nothing is known to be wrong
        return Unknown(first.message, code=first.code, place=first.place)
    more = f" (and {len(findings) - 1} more; see `zopp verify`)" if len(findings) > 1 else ""
    scope = f"{env.project}/{env.name}"
    if first.code == "file.changed":
        hint = (
            f"look at the change and sign it with: zopp sign -e {env.name}; or undo it with: git checkout {first.place}"
        )
    elif first.code == "manifest.missing":
        hint = f"restore it from git, or a writer takes the files in with: zopp sign -e {env.name}"
    elif first.code == "generation.older" and env.manifest_bytes is None:
        hint = f"see who removed it: git log -- {first.place}; if that was meant: zopp trust --accept"
    elif first.code in MISPLACED:
        hint = f"a writer can take it out of the manifest where zopp.toml does not have it: zopp sign -e {env.name}"
    elif first.code in MENDED_BY_REKEY:
        hint = f"a writer of {scope} can mend this with: zopp rekey {scope}"
    elif first.code in MENDED_BY_SIGN:
        hint = f"a writer of {scope} can look and sign again with: zopp sign -e {env.name}"
    else:
        hint = "see every finding with: zopp verify"
    return IntegrityError(
        first.message + more, code=first.code, place=first.place, hint=hint, findings=[f.code for f in findings]
    )
