"""`zopp verify`: every check that needs no key, as findings (brokered-grants §6, attacks A5-A19).

Nothing here uses the policy cache: the log is folded and every signature checked, so that a verifier trusts the pin and
its own code only.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from zopp import sopsfile
from zopp._fast import sha512
from zopp.errors import FormatError, NotFound, ZoppError
from zopp.policy import log, manifest as manifests
from zopp.policy.findings import Finding, ciphertexts
from zopp.repo import attributes, blocks, brokered, committed, foreign, git, layout, memory, settings as settings_module
from zopp.repo.environment import Environment, finding as make_finding, open_environment
from zopp.repo.trees import Tree, WorkTree
from zopp.repo.workspace import Workspace, find_anchor, in_ci, require_receipt

_SECRETS_SUFFIXES = (".yaml", ".yml", ".json", ".env", ".ini")


@dataclass(slots=True)
class Report:
    """`exit_code` is 1 with any error, else 3 if something could not be told, else 0."""

    findings: list[Finding] = field(default_factory=list)
    environments: int = 0
    files: int = 0
    statements: int = 0
    unknown: bool = False

    @property
    def exit_code(self) -> int:
        """As DESIGN.md's contract says."""
        if any(finding.severity == "error" for finding in self.findings):
            return 1
        return 3 if self.unknown else 0

    def add(self, code: str, severity: str, message: str, place: str = "") -> None:
        """One more finding."""
        self.findings.append(make_finding(code, severity, message, place))

    def add_error(self, exc: ZoppError) -> None:
        """The finding that an exception stands for."""
        if exc.exit_code == 3:
            self.unknown = True
        self.add(exc.code, "unknown" if exc.exit_code == 3 else "error", exc.message, exc.place)


def verify(start: str, env: Mapping[str, str], *, require_latest: bool = False) -> Report:
    """Check the working copy that holds `start`. Raises only where there is nothing to check at all."""
    report = Report()
    try:
        anchor = find_anchor(start, env)
    except ZoppError as exc:
        if exc.code in ("workspace.missing", "repository.missing"):
            raise  # nothing to check
        report.add_error(exc)
        return report
    if anchor.recovered:
        done = ", ".join(anchor.recovered)
        report.add("journal.finished", "note", "finished what an interrupted command had begun: " + done)
    projects = other_anchors(report, WorkTree(anchor.checkout.root), anchor.settings, anchor.place)
    try:
        ws = anchor.opened(env, lambda data, genesis: log.fold(data, genesis=genesis))
    except ZoppError as exc:
        report.add_error(exc)
        return report
    ws.folders = {project: place.rpartition("/")[0] for project, place in projects.items()}
    trust(report, ws, require_latest=require_latest)
    environments = judge(report, ws, require_latest=require_latest)
    if not any(f.severity == "error" for f in report.findings):
        memory.learn(ws, environments)
    return report


def judge(report: Report, ws: Workspace, *, require_latest: bool = False) -> list[Environment]:
    """Everything that is said of an opened workspace, a work tree's or a commit's, but what a pin has to say of it."""
    report.statements = ws.state.seq + 1
    ws.receipt = ws.read(layout.RECEIPT)
    try:
        require_receipt(ws)
    except ZoppError as exc:
        report.add_error(exc)
    committed.prepare(ws)
    environments = _environments(report, ws, require_latest=require_latest)
    _blocks(report, ws)
    return environments


def _must_be_latest(ws: Workspace, asked: bool) -> bool:
    """Whether a state older than what is known fails: on the default branch, and under ZOPP_TRUST on any, since a job's
    checkout is often detached and whoever set the variable said what is the least."""
    return asked or ws.on_default_branch() or (ws.pin is not None and ws.pin.origin == "environment")


def trust(report: Report, ws: Workspace, *, require_latest: bool) -> None:
    """What the pin has to say: none, or a newer or another log."""
    if ws.place == "unpinned":
        report.unknown = True
        why = "a CI job needs ZOPP_TRUST" if in_ci(ws.env) else "compare it with a colleague, then: zopp trust"
        report.add("unpinned", "unknown", f"this clone is not pinned; its log begins with {ws.state.ws}: {why}")
    elif ws.place in ("older", "beside"):
        hard = _must_be_latest(ws, require_latest)
        how = "is older than" if ws.place == "older" else "has parted from"
        report.add(
            f"policy.{ws.place}",
            "error" if hard else "warn",
            f"{how} the policy log that this clone has seen on the default branch",
            layout.POLICY,
        )


def _environments(report: Report, ws: Workspace, *, require_latest: bool) -> list[Environment]:
    opened: list[Environment] = []
    owners: dict[str, str] = {}
    hard = _must_be_latest(ws, require_latest)
    for scope in ws.state.envs:
        env = open_environment(ws, scope, history=True)
        opened.append(env)
        report.environments += 1
        for finding in env.findings:
            if finding.code in ("generation.older", "generation.beside") and hard:
                finding = replace(finding, severity="error")
            elif finding.code == "file.changed":
                finding = replace(finding, message=finding.message + _detail(ws, env, finding.place))
            report.findings.append(finding)
        if env.manifest is None:
            continue
        for path in env.files:
            report.files += 1
            owners.setdefault(path, scope)
        _same_data_keys(report, ws, env)
        _beside(report, ws, env, hard)
    _orphans(report, ws)
    _unlisted(report, ws, owners)
    _committed(report, ws, owners)
    return opened


def _detail(ws: Workspace, env: Environment, path: str) -> str:
    """What changed in a file that is not the listed one, in names."""
    file = env.files[path]
    if file.sops is None:
        return ""
    try:
        lines = foreign.without_keys(ws, env, path, file.sops).lines()
    except ZoppError:
        return ""
    shown = [line.strip() for line in lines[:6]] or ["comments, order or layout only"]
    return ": " + "; ".join(shown) + (" …" if len(lines) > 6 else "")


def _same_data_keys(report: Report, ws: Workspace, env: Environment) -> None:
    """Rule 10, last half, against HEAD or, for what is committed, its first parent: one ENC text in common with that
    version proves the same data key, so a changed commitment is a lie; and an unchanged one with another origin is."""
    assert env.manifest is not None
    at = ws.tree.revision
    previous = committed.show(ws, at, layout.manifest_path(env.scope))
    if previous == env.manifest_bytes:
        at += "^1"
        previous = committed.show(ws, at, layout.manifest_path(env.scope))
    if previous is None or previous == env.manifest_bytes:
        return
    try:
        before = manifests.parse(previous).files
    except ZoppError:
        return
    suspects = []
    for path, now in env.manifest.files.items():
        then = before.get(path)
        if then is None or not env.files[path].listed:
            continue
        if then.kc != now.kc:
            suspects.append(path)
        elif (then.dk_seq, then.dk_by) != (now.dk_seq, now.dk_by):
            report.add("not_rotated", "error", "claims a newer data key, but its commitment is the same", path)
    specs = {f"{at}:{path}": path for path in suspects}
    for spec, old in git.blobs(ws.root, specs):
        path = specs[spec]
        if sha512(old).hex() != before[path].sha512:
            continue
        try:
            texts = [
                ciphertexts(sopsfile.read(side, sopsfile.format_of(path), strict=False))
                for side in (old, env.files[path].data or b"")
            ]
        except ZoppError:
            continue
        if texts[0] & texts[1]:
            report.add("not_rotated", "error", "claims a new data key, but holds values under the old one", path)


def _beside(report: Report, ws: Workspace, env: Environment, hard: bool) -> None:
    """A newer generation that does not descend from the remembered manifest (D7)."""
    if ws.pin is None or ws.at or env.manifest is None or not ws.on_default_branch():
        return
    seen = ws.pin.manifests.get(env.scope)
    if seen is None or env.manifest.generation <= seen[0] or memory.descends(ws, env, seen[1]):
        return
    head = committed.show(ws, "HEAD", layout.manifest_path(env.scope))
    if head == env.manifest_bytes:
        report.add(
            "generation.beside",
            "error" if hard else "warn",
            "does not descend from the manifest that this clone has seen on the default branch",
            layout.manifest_path(env.scope),
        )


def _orphans(report: Report, ws: Workspace) -> None:
    known = {layout.manifest_path(scope) for scope in ws.state.all_envs}
    for path in ws.tree.below(layout.MANIFESTS):
        if path.endswith(".json") and path not in known:
            report.add("manifest.orphan", "error", "belongs to no environment of the policy", path)


def _unlisted(report: Report, ws: Workspace, owners: Mapping[str, str]) -> None:
    """Rule 6: a sops file that no manifest lists; an error under the folders of zopp.toml, else a warning."""
    configured = {path for paths in ws.settings.files.values() for path in paths}
    folders = {path.rpartition("/")[0] for path in (*configured, *owners) if "/" in path}
    for path in ws.tree.paths():
        if not path.endswith(_SECRETS_SUFFIXES) or path in owners or path.startswith(".zopp/"):
            continue
        managed = path in configured or any(path.startswith(folder + "/") for folder in folders)
        try:
            data = ws.read(path) or b""
        except ZoppError as exc:
            if managed:
                report.add(exc.code, "warn", "lies where secrets files do, and zopp would not read it", path)
            continue
        if b"ENC[AES256_GCM" not in data or b"lastmodified" not in data:
            continue
        try:
            sopsfile.read(data, sopsfile.format_of(path), strict=False)
        except FormatError:
            continue
        report.add(
            "file.unlisted",
            "error" if managed else "warn",
            "is a sops file that no manifest lists" + (": a writer can take it in with `zopp sign`" if managed else ""),
            path,
        )


def _committed(report: Report, ws: Workspace, owners: Mapping[str, str]) -> None:
    """What git stored must be what was signed: attributes or autocrlf can make the blob differ from the file (A15)."""
    specs = {} if ws.at else {f"HEAD:{path}": path for path in owners}
    for spec, blob in git.blobs(ws.root, specs):
        path = specs[spec]
        here = ws.read(path)
        if here is not None and here != blob and here.replace(b"\r\n", b"\n") == blob.replace(b"\r\n", b"\n"):
            report.add("git.converted", "error", "git stores it with other line ends than those signed", path)
    managed = [*owners, *(layout.manifest_path(scope) for scope in ws.state.envs), layout.POLICY, layout.RECEIPT]
    found = attributes.asked(ws, managed, ("text", "eol", "ident", "filter", "working-tree-encoding"))
    fields = found.decode("utf-8", "surrogateescape").split("\0")
    plain: set[str] = set()
    for path, name, value in zip(fields[::3], fields[1::3], fields[2::3], strict=False):
        if name == "text" and value == "unset":
            plain.add(path)
        elif name == "eol" and path in plain:
            continue  # git looks at it only where `text` is not unset
        if value not in ("unset", "unspecified") or (name == "text" and value != "unset"):
            text = f"git attribute {name} is {value}: git may change signed bytes"
            if not any(f.message == text and f.place == path for f in report.findings):
                report.add("git.attributes", "error", text, path)


def _blocks(report: Report, ws: Workspace) -> None:
    listed: dict[str, brokered.Groups] = {}
    for scope in ws.state.envs:
        data = ws.read(layout.manifest_path(scope))
        try:
            paths = [] if data is None else list(manifests.parse(data).files)
        except ZoppError:
            continue
        for path in paths:
            listed[path] = brokered.groups(ws.state, scope)
    config = ws.read(blocks.SOPS_CONFIG)
    fault = blocks.sops_config_fault(None if config is None else config.decode("utf-8", "surrogateescape"), listed)
    if fault:
        report.add("sops_config", "error", fault + "; mend it with: zopp rekey", blocks.SOPS_CONFIG)
    nested = set()
    for path in listed:
        folder = path.rpartition("/")[0]
        while folder:
            nested.add(f"{folder}/{blocks.SOPS_CONFIG}")
            folder = folder.rpartition("/")[0]
    for path in sorted(nested):
        if ws.tree.exists(path):
            report.add(
                "sops_config",
                "error",
                "stands nearer to managed files than zopp's rules: stock sops would obey it",
                path,
            )


def other_anchors(report: Report, tree: Tree, settings: settings_module.Settings, place: str) -> dict[str, str]:
    """Every zopp.toml of the tree must name this workspace, and a project of its own; a `.zopp` folder below the root
    is not read by anyone. The projects with their zopp.toml."""
    projects = {settings.project: place}
    for path in tree.paths():
        if "/.zopp/" in "/" + path and not path.startswith(".zopp/"):
            report.add("anchor.nested", "error", "a .zopp folder counts at the git root only", path)
        if path == place or path.rpartition("/")[2] != layout.SETTINGS:
            continue
        try:
            data = tree.read(path)
            if data is None:
                raise NotFound("no such file", code="file.missing", place=path)
            other = settings_module.parse(data, place=path)
        except ZoppError as exc:
            report.add_error(exc)
            continue
        if (other.genesis, other.workspace) != (settings.genesis, settings.workspace):
            report.add("anchor.nested", "error", "names another workspace or genesis", path)
        elif projects.setdefault(other.project, path) != path:
            where = projects[other.project]
            report.add("anchor.nested", "error", f"names project {other.project}, as {where} does", path)
    return projects
