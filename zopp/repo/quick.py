"""One environment opened on the short way of `zopp get`, `list`, `run` and `set`: every check, no detour. Lean.

What is checked: the anchor against the pin, the log's last line against the verified head in the cache, that head
against the remembered one, the manifest's signature, writer, data-key origins and recipients against the policy, its
generation against the remembered one, each file's hash, shape, recipients and stanzas, and on opening the key
commitment, every GCM tag and the MAC. Whatever is unusual is None, 'ask the full path', which decides and words it:
this module never says no, and never yes where the full path would not (a property test holds it to that), with one
exception: reading looks at the log's last line only. Earlier lines that were changed under it go unseen here; what
counts is the verified head, which they cannot alter. `verify`, the full path and `set_text` compare every line.
"""

import os

from zopp import _fast
from zopp.errors import ZoppError
from zopp.keys import agefile, find, sshsig
from zopp.policy import manifest as manifests, view as views
from zopp.repo import files, layout, pins, userdirs
from zopp.sopsfile import lines
from zopp.sopsfile.scan import COMMENT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from zopp.policy.manifest import Manifest
    from zopp.policy.view import EnvView, View
    from zopp.repo.catfile import CatFile
    from zopp.repo.layout import Checkout
    from zopp.repo.pins import Pin
    from zopp.sopsfile.scan import Scan


# More than any statement; a longer last line goes to the full path.
_TAIL = 1 << 16


class Plain:
    """A zopp.toml of the plain form that `zopp init` writes."""

    __slots__ = ("default_env", "files", "genesis", "project", "workspace")

    def __init__(self) -> None:
        self.workspace = self.genesis = self.project = ""
        self.default_env: str | None = None
        self.files: dict[str, list[str]] = {}


def parse_plain(text: str) -> "Plain | None":
    """The settings in `text` if each line is a comment, `key = "word"`, `version = 1`, `[env.NAME]` or a one-line
    `files = ["…"]`, each key once; None for any other TOML."""
    # No TOML either way: control characters, a BOM, and spaces that strip() knows and TOML does not.
    if not text.replace("\n", "").replace("\t", "").isprintable():
        return None
    out = Plain()
    seen: set[str] = set()
    table = ""
    for raw in text.split("\n"):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        if line.startswith("["):
            table = line[5:-1]
            if not line.startswith("[env.") or not line.endswith("]") or not _word(table) or table in out.files:
                return None
            out.files[table] = []
            continue
        key, equals, value = line.partition("=")
        key, value = key.strip(), value.strip()
        if not equals or f"{table}/{key}" in seen:
            return None
        seen.add(f"{table}/{key}")
        if table:
            if key != "files" or not value.startswith("[") or not value.endswith("]"):
                return None
            for item in value[1:-1].split(","):
                path = _string(item.strip())
                if path is None:
                    return None
                out.files[table].append(path)
        elif key == "version":
            if value != "1":
                return None
        elif key in ("workspace", "genesis", "project", "default_env"):
            word = _string(value)
            if word is None or not (_hash(word) if key == "genesis" else _word(word)):
                return None
            setattr(out, key, word)
        else:
            return None
    if "/version" not in seen or not (out.workspace and out.project and out.genesis):
        return None
    return out if all(out.files.values()) else None


def _word(text: str) -> bool:
    return bool(text) and not text.strip("abcdefghijklmnopqrstuvwxyz0123456789-") and text[0] != "-" and len(text) < 64


def _hash(text: str) -> bool:
    return len(text) == 64 and not text.strip("0123456789abcdef")


def _string(text: str) -> "str | None":
    if len(text) < 3 or text[0] != '"' or text[-1] != '"':
        return None
    inner = text[1:-1]
    good = inner.isascii() and inner.isprintable() and not {'"', "\\", ","} & set(inner)
    return inner if good and not inner.startswith("/") and ".." not in inner else None


class Quick:
    """An environment that may be read: every keyless check has passed. `scope` as statements name it."""

    __slots__ = (
        "checkout", "env", "environ", "folder", "manifest", "names_of", "pin", "project", "scans", "scope",
        "settings", "view",
    )  # fmt: skip

    checkout: "Checkout"
    environ: "Mapping[str, str]"
    folder: str
    settings: Plain
    pin: "Pin"
    view: "View"
    env: "EnvView"
    scope: str
    project: str
    manifest: "Manifest"
    scans: "dict[str, Scan]"
    names_of: "dict[tuple[Any, ...], str]"

    def readers(self) -> int:
        """How many principals may read."""
        return len(self.env.readers)

    def shown(self) -> str:
        """PROJECT/ENV as people type it."""
        project, _, env = self.scope.partition("/")
        return project.partition("@")[0] + "/" + env.partition("@")[0]

    def data_key(self, path: str) -> "bytes | None":
        """The data key of a listed file by our own entry, commitment checked; None if it does not open plainly."""
        found = find.identities(self.environ, userdirs.home(self.environ), userdirs.config(self.environ))
        return self._data_key(path, found)

    def _data_key(self, path: str, found: "find.Found") -> "bytes | None":
        for entry in self.scans[path].metadata.groups[0]:
            for identity in found.identities:
                if identity.recipient != entry.recipient:
                    continue
                try:
                    key = agefile.unwrap(entry.enc, [identity])
                except ZoppError:
                    return None
                wanted = self.manifest.files[path].kc
                made = manifests.commitment(key, self.view.ws, self.scope, path)
                return key if _fast.constant_time_equal(made.encode(), wanted.encode()) else None
        return None

    def file_of(self, parts: "list[str]") -> "tuple[str, tuple[Any, ...]] | None":
        """The file that holds the leaf with this path, and its exact path; None if there is none, if it is no leaf, or
        if another file has something of that name or below it."""
        exact = None
        holder = ""
        for leaf, path in self.names_of.items():
            if len(leaf) < len(parts) or [str(part) for part in leaf[: len(parts)]] != parts:
                continue
            if holder not in ("", path):
                return None
            holder = path
            if len(leaf) == len(parts):
                exact = leaf
        return None if exact is None else (holder, exact)

    def values(self, only: str = "") -> "list[tuple[tuple[Any, ...], Any]] | None":
        """(path, value) of every leaf of every file, or of the file `only`, each file checked whole; None if anything
        does not open."""
        found = find.identities(self.environ, userdirs.home(self.environ), userdirs.config(self.environ))
        out: list[tuple[tuple[Any, ...], Any]] = []
        for path, scan in self.scans.items():
            if only not in ("", path):
                continue
            key = self._data_key(path, found)
            if key is None:
                return None
            try:
                out += lines.decrypt(scan, key)
            except ZoppError:
                return None
        return out


def open_quick(start: str, environ: "Mapping[str, str]", project: "str | None", name: "str | None") -> "Quick | None":
    """The environment that `-p project -e name` mean in the folder `start`, or None: ask the full path."""
    try:
        return _open(start, environ, project, name)
    except (ZoppError, OSError, UnicodeError, ValueError):
        return None


def _open(
    start: str,
    environ: "Mapping[str, str]",
    project: "str | None",
    name: "str | None",
    git: "CatFile | None" = None,
) -> "Quick | None":
    """`git` is asked about the manifest's history as soon as its name is known."""
    checkout = layout.find_checkout(start)
    if os.path.exists(layout.journal_file(checkout)):
        return None
    pin = pins.find(userdirs.state(environ), checkout, environ)
    folder = layout.find_project(checkout, start)
    if pin is None or folder is None:
        return None
    place = f"{folder}/{layout.SETTINGS}" if folder else layout.SETTINGS
    settings = parse_plain(files.read(checkout.root, place).decode())
    if settings is None or (settings.genesis, settings.workspace) != (pin.genesis, pin.workspace):
        return None
    # As `workspace.check_anchor` and `check_outer`, and stricter: a folder that a pin with projects does not know, or a
    # zopp.toml above this one, is not for here.
    if pin.projects and pin.projects.get(folder) != settings.project:
        return None
    above = folder
    while above:
        above = above.rpartition("/")[0]
        if os.path.lexists(os.path.join(checkout.root, above, layout.SETTINGS)):
            return None
    view = _view(checkout, environ, settings, pin)
    project = project or environ.get("ZOPP_PROJECT") or settings.project
    name = name or environ.get("ZOPP_ENV")
    if not name:
        name = settings.default_env
        if pin.default_envs.get(folder, name or "") != (name or ""):
            return None  # A13: asked about once
    if view is None or name is None:
        return None
    scope = view.resolve(f"{project}/{name}")
    at = view.env(scope)
    if at.kind != "direct":
        return None
    path = layout.manifest_path(scope)
    if git is not None:
        git.ask([b"HEAD"] + [b"%s:%s" % (rev, path.encode()) for rev in (b"HEAD", b"HEAD^1", b"HEAD^2")])
    data = files.read(checkout.root, path)
    signature = sshsig.parse(files.read(checkout.root, path + ".sig").decode("ascii"))
    manifest = views.quick_manifest(view, data, signature, env=scope)
    if manifest is None or not _inside(manifest, folder if project == settings.project else _folder_of(project, pin)):
        return None
    seen = pin.manifests.get(scope)
    if seen is not None and manifest.generation <= seen[0] and manifest.hash != seen[1]:
        return None
    made = Quick()
    made.checkout, made.environ, made.folder, made.settings = checkout, environ, folder, settings
    made.pin, made.view, made.env, made.scope, made.project = pin, view, at, scope, project
    made.manifest, made.scans, made.names_of = manifest, {}, {}
    for listed, entry in manifest.files.items():
        scan = _listed(checkout.root, listed, entry.sha512, manifest.groups[0])
        if scan is None:
            return None
        made.scans[listed] = scan
        for leaf in scan.leaves:
            if not leaf[0] & COMMENT and made.names_of.setdefault(leaf[1], listed) != listed:
                return None
    return made


def _folder_of(project: str, pin: "Pin") -> str:
    """Where another project lies, as far as this clone knows it; '' if it does not."""
    return next((folder for folder, name in pin.projects.items() if name == project), "")


def _inside(manifest: "Manifest", folder: str) -> bool:
    """Rule 6 (brokered-grants §6): what is listed lies in the project's folder."""
    return not folder or all(path.startswith(folder + "/") for path in manifest.files)


def _view(checkout: "Checkout", environ: "Mapping[str, str]", settings: Plain, pin: "Pin") -> "View | None":
    """The verified head in the cache, if it is that of the log here and not behind what is remembered."""
    with open(os.path.join(userdirs.cache(environ), "policy", settings.genesis + ".view"), "rb") as file:
        view = views.View(file.read())
    if view.ws != settings.genesis or view.name != settings.workspace:
        return None
    # Lines are hash-linked, so the last one stands for all: however long the log is, this reads its end only. What
    # someone did to earlier lines is not used here, and `verify` and every full fold find it.
    tail = files.read_tail(checkout.root, layout.POLICY, _TAIL)
    start = tail.rfind(b"\n", 0, -1) + 1
    if tail[-1:] != b"\n" or not (start or view.seq == 0) or _fast.sha256(tail[start:-1]).hex() != view.head:
        return None
    return view if view.seq >= pin.seq and view.hash_at(pin.seq) == pin.head else None


def _listed(root: str, path: str, wanted: str, recipients: "tuple[str, ...]") -> "Scan | None":
    data = files.read(root, path)
    if _fast.sha512(data).hex() != wanted:
        return None
    scan = lines.scan(data, "yaml" if path.endswith((".yaml", ".yml")) else "json" if path.endswith(".json") else "")
    if scan is None or scan.documents != 1:
        return None
    meta = scan.metadata
    if not meta.flat or meta.mixed or meta.foreign or meta.unknown or meta.threshold is not None:
        return None
    have = [entry.recipient for entry in meta.groups[0]]
    if len(meta.groups) != 1 or sorted(have) != list(recipients):
        return None
    for entry in meta.groups[0]:
        agefile.check(entry.enc, entry.recipient)
    return scan


# --- writing one text

UNCHANGED, WRITTEN = 0, 1


def set_text(
    start: str, environ: "Mapping[str, str]", project: "str | None", name: "str | None", key: str, value: str, now: int
) -> "tuple[int, Quick] | None":
    """Set the top-level text `key` through lock and journal, signed: (UNCHANGED or WRITTEN, the environment). None
    before anything is written: ask the full path. `now` in Unix seconds."""
    from zopp.repo import catfile, journal

    git = None
    try:
        checkout = layout.find_checkout(start)
        git = catfile.CatFile(checkout.root, environ)
        with journal.lock(checkout):
            return _set(git, start, environ, project, name, key, value, now)
    except (ZoppError, OSError, UnicodeError, ValueError) as exc:
        if getattr(exc, "code", "") == "journal.foreign":
            raise
        return None
    finally:
        if git is not None:
            git.close()


def _set(
    git: "CatFile",
    start: str,
    environ: "Mapping[str, str]",
    project: "str | None",
    name: "str | None",
    key: str,
    value: str,
    now: int,
) -> "tuple[int, Quick] | None":
    found = _open(start, environ, project, name, git)
    if found is None or os.path.exists(os.path.join(found.checkout.root, layout.EXPOSURE)):
        return None
    if found.project != found.settings.project:
        return None  # a project elsewhere: which folder is its own is looked up for a write
    if os.path.exists(os.path.join(found.checkout.git_dir, "MERGE_HEAD")):
        return None
    # Who signs says that every line of the log is the one that was verified.
    if not found.view.is_of(files.read(found.checkout.root, layout.POLICY)) or not _listed_once(found):
        return None
    path = found.names_of.get((key,), next(iter(found.scans), ""))
    if not path or any(leaf[:1] == (key,) and leaf != (key,) for leaf in found.names_of):
        return None
    signer = find.signing_key(environ, userdirs.config(environ)).key
    if signer is None:
        return None
    who = [n for n, (public, _, _) in found.view.principals().items() if public == signer.public]
    if len(who) != 1 or who[0] not in found.env.writers or found.env.writers[who[0]][0] != signer.public:
        return None
    data_key = found.data_key(path)
    if data_key is None:
        return None
    scan = found.scans[path]
    stamp = _timestamp(now)
    old = scan.encode(scan.text)
    if (key,) in found.names_of:
        new = lines.replace(scan, data_key, (key,), value, stamp)
    else:
        new = lines.insert(scan, data_key, key, value, stamp)
    if new is None:
        return None
    where = layout.manifest_path(found.scope)
    if not _follows_history(git.answers(), found.manifest):
        return None
    if new == old:
        return UNCHANGED, found
    entry = found.manifest.files[path]
    entries = dict(found.manifest.files)
    entries[path] = manifests.FileEntry(_fast.sha512(new).hex(), entry.kc, entry.dk_seq, entry.dk_by)
    data = manifests.build(
        ws=found.view.ws,
        env=found.scope,
        generation=found.manifest.generation + 1,
        prev=found.manifest.hash,
        policy_seq=found.view.seq,
        policy_hash=found.view.head,
        signer=who[0],
        groups=found.manifest.groups,
        files=entries,
        meta=found.manifest.meta,
    )
    armored = sshsig.armor(signer.public, manifests.NAMESPACE, signer.sign(manifests.to_sign(data))).encode()
    root = found.checkout.root
    from zopp.repo import journal

    journal.write(
        found.checkout,
        {
            path: (old, new),
            where: (found.manifest.raw, data),
            where + ".sig": (files.read(root, where + ".sig"), armored),
        },
    )
    return WRITTEN, found


def _listed_once(found: Quick) -> bool:
    """Rule 6 before a write: no other manifest names a file of this one. By their bytes, which hold each path as it is
    between quotes; a forged manifest may make this say no, and the full path says why."""
    root = found.checkout.root
    own = layout.manifest_path(found.scope)
    names = [b'"%s"' % path.encode() for path in found.manifest.files]
    if any('"' in path or "\\" in path for path in found.manifest.files):
        return False
    for project in os.listdir(os.path.join(root, layout.MANIFESTS)):
        for name in os.listdir(os.path.join(root, layout.MANIFESTS, project)):
            place = f"{layout.MANIFESTS}/{project}/{name}"
            if name.endswith(".json") and place != own:
                data = files.read(root, place)
                if any(listed in data for listed in names):
                    return False
    return True


def _timestamp(now: int) -> str:
    from time import gmtime, strftime

    return strftime("%Y-%m-%dT%H:%M:%SZ", gmtime(now))


def _follows_history(answers: "list[bytes | None] | None", here: "Manifest") -> bool:
    """Whether git's history has nothing against the manifest here, as `environment._parents` and `manifests.check`
    judge it: for HEAD and its parents alike, accepted or not, which is stricter (a poisoned generation, A12, is the
    full path's to see through). False also if git did not answer as expected."""
    if not answers or answers[0] is None:
        return False
    commit = answers[0]
    if commit[: commit.find(b"\n\n")].count(b"\nparent ") > 2:
        return False
    for body in answers[1:]:
        if body is None or body == here.raw:
            continue
        before = manifests.parse(body)
        if before.generation >= here.generation or before.policy_seq > here.policy_seq:
            return False
        if before.generation == here.generation - 1 and before.hash != here.prev:
            return False
        for path, entry in here.files.items():
            was = before.files.get(path)
            same_key = was is not None and before.env == here.env and was.kc == entry.kc
            if was is not None and same_key and (was.dk_seq, was.dk_by) != (entry.dk_seq, entry.dk_by):
                return False
    return True
