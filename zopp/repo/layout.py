"""Where things lie in a git working copy, found without starting git. Lean."""

import os

from zopp.errors import NotFound, Unknown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

SETTINGS = "zopp.toml"
POLICY = ".zopp/policy.jsonl"
RECEIPT = ".zopp/policy.receipt"
CHECKPOINT = ".zopp/checkpoint"
PROVENANCE = ".zopp/provenance"
EXPOSURE = ".zopp/exposure"


MANIFESTS = ".zopp/manifest"


def manifest_path(env: str) -> str:
    """Of an environment as statements name it: `api/staging@2` → `.zopp/manifest/api/staging@2.json`."""
    return f"{MANIFESTS}/{env}.json"


def history_paths(scope: str, listed: "Iterable[str]") -> "list[str]":
    """What git is asked about an environment: the manifest, its signature, and the files that are known now."""
    place = manifest_path(scope)
    return [place, place + ".sig", *sorted(set(listed))]


def journal_file(checkout: "Checkout") -> str:
    """Where the journal of this work tree lies: below git's own folder, so it is never committed."""
    return os.path.join(checkout.git_dir, "zopp", "journal")


class Checkout:
    """One git working copy: `root` (its top folder, absolute), `git_dir`, `common_dir` (shared by linked trees)."""

    __slots__ = ("common_dir", "git_dir", "root")

    def __init__(self, root: str, git_dir: str, common_dir: str) -> None:
        self.root = root
        self.git_dir = git_dir
        self.common_dir = common_dir

    def head_branch(self) -> "str | None":
        """The branch that HEAD names (`main`), None when detached or unreadable."""
        try:
            with open(os.path.join(self.git_dir, "HEAD"), encoding="utf-8") as file:
                text = file.read(4096).strip()
        except (OSError, UnicodeDecodeError):
            return None
        prefix = "ref: refs/heads/"
        return text[len(prefix) :] if text.startswith(prefix) else None

    def default_branch(self) -> "str | None":
        """What `origin/HEAD` points to, if the clone recorded it."""
        try:
            with open(os.path.join(self.common_dir, "refs/remotes/origin/HEAD"), encoding="utf-8") as file:
                text = file.read(4096).strip()
        except (OSError, UnicodeDecodeError):
            return None
        prefix = "ref: refs/remotes/origin/"
        return text[len(prefix) :] if text.startswith(prefix) else None


def find_checkout(start: str) -> Checkout:
    """The working copy that holds the folder `start`. NotFound `repository.missing` outside one."""
    folder = os.path.realpath(start)
    while True:
        git = os.path.join(folder, ".git")
        if os.path.isdir(git):
            return Checkout(folder, git, git)
        if os.path.isfile(git):  # a linked work tree or a submodule: one line names the real folder
            with open(git, encoding="utf-8") as file:
                text = file.read(4096).strip()
            if not text.startswith("gitdir: "):
                raise Unknown("is no git folder and no pointer to one", code="git.broken", place=git)
            git_dir = os.path.normpath(os.path.join(folder, text[len("gitdir: ") :]))
            common = git_dir
            try:
                with open(os.path.join(git_dir, "commondir"), encoding="utf-8") as file:
                    common = os.path.normpath(os.path.join(git_dir, file.read(4096).strip()))
            except OSError:
                pass
            return Checkout(folder, git_dir, common)
        parent = os.path.dirname(folder)
        if parent == folder:
            raise NotFound("not inside a git working copy", code="repository.missing", place=start)
        folder = parent


def find_project(checkout: Checkout, start: str) -> "str | None":
    """The folder, relative to the root ('' = the root), of the nearest zopp.toml at or above `start`; never above the
    git root. None if there is none."""
    folder = os.path.realpath(start)
    while True:
        if os.path.lexists(os.path.join(folder, SETTINGS)):
            return "" if folder == checkout.root else os.path.relpath(folder, checkout.root)
        if folder == checkout.root:
            return None
        folder = os.path.dirname(folder)
