"""A working copy with its trust decided: settings, pin, and the verified policy, opened in that order.

Everything that reads or changes secrets starts here. Opening verifies the policy log from the pinned genesis and
compares it with what this user remembers; it never learns (`memory.learn` does, from what is committed).
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from zopp.errors import IntegrityError, NotFound, Unknown, ZoppError
from zopp.policy import log
from zopp.policy.state import State
from zopp.repo import files, journal, layout, pins, policycache, settings as settings_module, userdirs
from zopp.repo.layout import Checkout
from zopp.repo.settings import Settings
from zopp.repo.trees import CommitTree, Tree, WorkTree


@dataclass(slots=True)
class Workspace:
    """`place` is where the log stands against the remembered head: `current`, `ahead`, `older`, `beside`, or
    `unpinned`. `recovered` names paths that an interrupted command had left to be finished. `folders`: where other
    projects lie, for those who looked (project -> folder below the root). `listed`: the environments whose manifests
    here name a path, once somebody asked. `receipt`: the file that goes with `log`, which with a
    server proves it. `at`: the commit whose files these are, None for the work tree. `committed` and
    `parents` are those of `repo.committed`."""

    checkout: Checkout
    env: Mapping[str, str]
    settings: Settings
    folder: str
    pin: pins.Pin | None
    state: State
    log: bytes
    place: str
    recovered: list[str] = field(default_factory=list)
    receipt: bytes | None = None
    folders: dict[str, str] = field(default_factory=dict)
    listed: dict[str, list[str]] | None = None
    at: CommitTree | None = None
    committed: dict[str, bytes | None] = field(default_factory=dict)
    parents: dict[str, list[str]] = field(default_factory=dict)

    @property
    def root(self) -> str:
        """The git root, absolute."""
        return self.checkout.root

    @property
    def tree(self) -> Tree:
        """Where its files are read from."""
        return self.at or WorkTree(self.checkout.root)

    @property
    def project(self) -> str:
        """The project of the nearest zopp.toml."""
        return self.settings.project

    def folder_of(self, project: str) -> str | None:
        """Where a project lies ('' = the root) by its zopp.toml here or by what the clone remembers; None: unknown."""
        if project == self.project:
            return self.folder
        known = {} if self.pin is None else {name: folder for folder, name in self.pin.projects.items()}
        return known.get(project, self.folders.get(project))

    def on_default_branch(self) -> bool:
        """Whether HEAD is on the branch where heads are remembered."""
        branch = self.checkout.head_branch()
        if branch is None:
            return False
        known = (self.pin.default_branch if self.pin else None) or self.checkout.default_branch()
        return branch == known if known else branch in ("main", "master")

    def read(self, path: str) -> bytes | None:
        """The bytes of a file, None if absent, never through a link."""
        return self.tree.read(path)


def in_ci(env: Mapping[str, str]) -> bool:
    """Whether this is a CI job by the variable that GitHub, GitLab and others set."""
    return env.get("CI", "").lower() in ("1", "true")


def open_workspace(
    start: str,
    env: Mapping[str, str],
    *,
    recover: bool = True,
    ci_needs_pin: bool = True,
    new_project: bool = False,
    needs_receipt: bool = True,
) -> Workspace:
    """Open the workspace that holds the folder `start`. `new_project`: its project may be one that this clone has not
    seen yet, as for `zopp trust`, which asks. `needs_receipt` False: for what asks the server itself, or only looks.

    NotFound outside git or where no zopp.toml is (and no pin says there was one). IntegrityError when the anchor was
    changed, lost or nested, the log does not verify, or it names a server that has not accepted its last line
    (`policy.receipt`). Unknown in CI without a pin."""
    anchor = find_anchor(start, env, recover=recover, new_project=new_project)
    check_outer(anchor.checkout, anchor.settings, anchor.place, anchor.folder)
    if anchor.pin is None and ci_needs_pin and in_ci(env):
        raise Unknown(
            "this clone is not pinned, and a CI job has no memory of its own",
            code="unpinned.ci",
            hint=f"set {pins.TRUST_VARIABLE} to what `zopp trust --print` says in a trusted clone",
        )
    receipt = files.read_if_there(anchor.checkout.root, layout.RECEIPT)
    ws = anchor.opened(
        env,
        lambda data, genesis: policycache.fold(data, genesis=genesis, cache_dir=userdirs.cache(env), receipt=receipt),
    )
    ws.receipt = receipt
    if needs_receipt:
        require_receipt(ws)
    return ws


def require_receipt(ws: Workspace) -> None:
    """IntegrityError (`policy.receipt`, `policy.log_key`) if the policy names a server and `.zopp/policy.receipt` does
    not prove that it accepted the log's last line, offline too (brokered-grants.md §5, A6)."""
    if ws.state.server is None:
        return
    from zopp.protocol import mirror  # where there is no server, its protocol is not loaded

    try:
        mirror.check(ws.state, log.split(ws.log), ws.receipt)
    except IntegrityError as exc:
        exc.place = layout.RECEIPT
        exc.hint = "ask the server with: zopp policy pull; see who changed it: git log -- .zopp/policy.jsonl"
        raise


@dataclass(frozen=True, slots=True)
class Anchor:
    """A zopp.toml found and held against the pin, no policy read yet. `place` is its path below the root; `recovered`
    names what an interrupted command had left to be finished."""

    checkout: Checkout
    pin: pins.Pin | None
    folder: str
    place: str
    settings: Settings
    recovered: list[str]

    def opened(self, env: Mapping[str, str], fold: Callable[[bytes, str], State]) -> Workspace:
        """The workspace with its log folded by `fold` (bytes, genesis), which decides what may be taken as verified."""
        try:
            data = files.read(self.checkout.root, layout.POLICY)
        except NotFound:
            raise IntegrityError(
                "the policy log is gone", code="anchor.lost", place=layout.POLICY, hint="git checkout HEAD -- .zopp"
            ) from None
        try:
            state = fold(data, self.settings.genesis)
        except ZoppError as exc:
            exc.place = f"{layout.POLICY}: {exc.place}" if exc.place else layout.POLICY
            raise
        if state.name != self.settings.workspace:
            raise IntegrityError(
                f"names workspace {self.settings.workspace}, but the policy log is that of {state.name}",
                code="anchor.changed",
                place=self.place,
            )
        return Workspace(
            checkout=self.checkout,
            env=env,
            settings=self.settings,
            folder=self.folder,
            pin=self.pin,
            state=state,
            log=data,
            place=standing(state, self.pin),
            recovered=self.recovered,
        )


def find_anchor(start: str, env: Mapping[str, str], *, recover: bool = True, new_project: bool = False) -> Anchor:
    """The first half of opening, for `open_workspace` and `verify` alike: find, finish what was interrupted, parse, and
    hold against the pin. Errors as in `open_workspace`."""
    checkout = layout.find_checkout(start)
    pin = pins.find(userdirs.state(env), checkout, env)
    recovered: list[str] = []
    if recover and journal.pending(checkout):
        with journal.lock(checkout):
            recovered = journal.recover(checkout)
    folder = layout.find_project(checkout, start)
    if folder is None:
        if pin is not None:
            raise IntegrityError(
                f"zopp.toml is gone; this clone is pinned to workspace {pin.workspace}",
                code="anchor.lost",
                place=layout.SETTINGS,
                hint="restore it with: git checkout HEAD -- zopp.toml",
            )
        raise NotFound(
            "no zopp.toml here or above", code="workspace.missing", place=start, hint="start one with: zopp init"
        )
    place = f"{folder}/{layout.SETTINGS}" if folder else layout.SETTINGS
    settings = settings_module.parse(files.read(checkout.root, place), place=place, folder=folder)
    check_anchor(settings, pin, place, folder, new_project=new_project)
    return Anchor(checkout, pin, folder, place, settings, recovered)


def check_anchor(
    settings: Settings, pin: pins.Pin | None, place: str, folder: str, *, new_project: bool = False
) -> None:
    """Refuse a zopp.toml that names another workspace, genesis or project than this clone is pinned to (A5, A13)."""
    if pin is None:
        return
    if settings.genesis != pin.genesis or settings.workspace != pin.workspace:
        raise IntegrityError(
            f"names workspace {settings.workspace} with genesis {settings.genesis[:16]}…, but this clone is pinned to "
            f"{pin.workspace} with {pin.genesis[:16]}…",
            code="anchor.changed",
            place=place,
            hint="if you meant to change it, compare the fingerprint with a colleague, then: zopp trust --reset",
        )
    known = pin.projects.get(folder)
    if known is not None and known != settings.project:
        raise IntegrityError(
            f"names project {settings.project}, but this folder was {known} when the clone was pinned",
            code="anchor.changed",
            place=place,
            hint="if you meant to change it: zopp trust --reset",
        )
    elsewhere = [where for where, project in pin.projects.items() if project == settings.project]
    if known is None and elsewhere:
        raise IntegrityError(
            f"names project {settings.project}, which this clone knows in {describe_project(elsewhere[0])}",
            code="anchor.nested",
            place=place,
            hint=f"see who added it: git log -- {place}; if the project moved: zopp trust --reset",
        )
    if known is None and pin.projects and settings.project not in pin.projects.values() and pin.origin == "clone":
        outer = [path for path in pin.projects if path == "" or folder.startswith(path + "/")]
        if outer and folder not in pin.projects and not new_project:
            raise IntegrityError(
                f"is new to this clone and lies inside project {pin.projects[max(outer, key=len)]}",
                code="anchor.nested",
                place=place,
                hint=f"if a colleague added this project, look at `git log -- {place}`, then: zopp trust",
            )


def check_outer(checkout: Checkout, settings: Settings, place: str, folder: str) -> None:
    """Refuse a zopp.toml below another one that names the same project or another workspace: it would give commands run
    there other defaults, without any key (A5)."""
    while folder:
        folder = folder.rpartition("/")[0]
        above = f"{folder}/{layout.SETTINGS}" if folder else layout.SETTINGS
        data = files.read_if_there(checkout.root, above)
        if data is None:
            continue
        outer = settings_module.parse(data, place=above, folder=folder)
        if outer.project == settings.project or (outer.workspace, outer.genesis) != (
            settings.workspace,
            settings.genesis,
        ):
            raise IntegrityError(
                f"lies below {above}, which names "
                + (f"project {outer.project} too" if outer.project == settings.project else "another workspace"),
                code="anchor.nested",
                place=place,
                hint=f"see who added it: git log -- {place}",
            )


def standing(state: State, pin: pins.Pin | None) -> str:
    """Where a verified log stands against the remembered head."""
    if pin is None:
        return "unpinned"
    if state.seq < pin.seq:
        return "older"
    if state.hash_at(pin.seq) != pin.head:
        return "beside"
    return "current" if state.seq == pin.seq else "ahead"


def require_writable(ws: Workspace, *, on_old_base: bool = False) -> None:
    """Refuse a change in a clone that cannot know whether the policy here is the newest (A7). Unknown `unpinned`,
    IntegrityError `policy.old_base`."""
    if ws.place == "unpinned":
        raise Unknown(
            f"this clone is not pinned to a workspace yet; its log begins with {ws.settings.genesis}",
            code="unpinned",
            hint="compare that with a colleague or the invite, then: zopp trust",
        )
    if ws.place in ("older", "beside") and not on_old_base:
        how = "is older than" if ws.place == "older" else "has parted from"
        raise IntegrityError(
            f"the policy log here {how} the one this clone has seen on the default branch "
            f"(here {ws.state.seq}, seen {ws.pin.seq if ws.pin else 0})",
            code=f"policy.{ws.place}",
            place=layout.POLICY,
            hint="pull or merge the default branch first, or say --on-old-base",
        )


def describe_project(folder: str) -> str:
    """A project's folder for people: '.' for the root."""
    return folder or os.curdir
