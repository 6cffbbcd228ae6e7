"""What this user remembers of a workspace, outside any repository (DESIGN.md, decision 3). Lean.

A pin ties a working copy to a workspace, its genesis and the newest policy head seen on the default branch, and keeps
per environment the newest manifest seen there. It is found by the git folder, else by the remote's address, so that a
second clone of a known remote is known too. Reading a pin never creates one.
"""

import os

from zopp import _fast
from zopp.errors import Unknown, UsageError
from zopp.repo import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from zopp.repo.layout import Checkout

TRUST_VARIABLE = "ZOPP_TRUST"


class Pin:
    """`workspace` and `genesis` (hex) are fixed; `seq` and `head` (hex) are the remembered policy head; `manifests`
    maps an environment to (generation, SHA-256 hex of the manifest's bytes); `projects` maps a folder below the root to
    the project its zopp.toml named, `default_envs` to its default environment ('' = none);
    `default_branch` is where heads are learned."""

    __slots__ = (
        "default_branch",
        "default_envs",
        "genesis",
        "head",
        "manifests",
        "origin",
        "projects",
        "seq",
        "workspace",
    )

    def __init__(
        self,
        workspace: str,
        genesis: str,
        seq: int,
        head: str,
        *,
        origin: str,
        default_branch: "str | None" = None,
        manifests: "dict[str, tuple[int, str]] | None" = None,
        projects: "dict[str, str] | None" = None,
        default_envs: "dict[str, str] | None" = None,
    ) -> None:
        self.workspace = workspace
        self.genesis = genesis
        self.seq = seq
        self.head = head
        self.origin = origin  # "clone", "remote" or "environment": where the pin was found
        self.default_branch = default_branch
        self.manifests = manifests or {}
        self.projects = projects or {}
        self.default_envs = default_envs or {}


def _key(text: str) -> str:
    return _fast.sha256(text.encode("utf-8", "surrogateescape")).hex()[:40]


def _clone_file(state_dir: str, checkout: "Checkout") -> str:
    return os.path.join(state_dir, "clones", _key(os.path.realpath(checkout.common_dir)) + ".json")


def _remote_file(state_dir: str, checkout: "Checkout") -> "str | None":
    address = remote_address(checkout)
    return None if address is None else os.path.join(state_dir, "remotes", _key(address) + ".json")


def remote_address(checkout: "Checkout") -> "str | None":
    """The URL of `origin` as .git/config has it, without its credentials and trailing `.git`."""
    try:
        with open(os.path.join(checkout.common_dir, "config"), encoding="utf-8", errors="surrogateescape") as file:
            lines = file.read(1 << 20).split("\n")
    except OSError:
        return None
    inside = False
    for line in lines:
        line = line.strip()
        if line.startswith("["):
            inside = line == '[remote "origin"]'
        elif inside and line.partition("=")[0].strip() == "url":
            url = line.partition("=")[2].strip()
            scheme, colon, rest = url.partition("://")
            if colon:
                host, slash, path = rest.partition("/")
                url = scheme + "://" + host.rpartition("@")[2] + slash + path
            return url.removesuffix("/").removesuffix(".git")
    return None


def _load(path: str, origin: str) -> "Pin | None":
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise Unknown(f"cannot be read ({exc.strerror})", code="file.unreadable", place=path) from None
    except UnicodeDecodeError:
        raise Unknown("is damaged", code="pin.unreadable", place=path, hint="zopp trust --reset") from None
    try:
        raw = _fast.json_parse(text)
        if raw["v"] != 1:
            raise ValueError
        return Pin(
            str(raw["workspace"]),
            str(raw["genesis"]),
            int(raw["seq"]),
            str(raw["head"]),
            origin=origin,
            default_branch=raw.get("default_branch"),
            manifests={env: (int(seen[0]), str(seen[1])) for env, seen in raw["manifests"].items()},
            projects=dict(raw["projects"]),
            default_envs=dict(raw["default_envs"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError, IndexError):
        # A damaged pin must not read as 'unpinned': that would be a way to strip trust.
        raise Unknown("is damaged; see `zopp trust --help`", code="pin.damaged", place=path) from None


def parse_trust(text: str) -> Pin:
    """A pin from ZOPP_TRUST: `zopp1:WORKSPACE:GENESIS:SEQ:HEAD`, hashes of 64 hex digits. UsageError otherwise."""
    parts = text.strip().split(":")
    hexdigits = set("0123456789abcdef")
    if (
        len(parts) != 5
        or parts[0] != "zopp1"
        or not parts[1]
        or any(len(h) != 64 or not hexdigits.issuperset(h) for h in (parts[2], parts[4]))
        or not (parts[3].isascii() and parts[3].isdigit())
    ):
        raise UsageError(
            "is not of the form zopp1:WORKSPACE:GENESIS:SEQ:HEAD",
            code="trust.malformed",
            place=TRUST_VARIABLE,
            hint="print it in a pinned clone with: zopp trust --print",
        )
    return Pin(parts[1], parts[2], int(parts[3]), parts[4], origin="environment")


def format_trust(workspace: str, genesis: str, seq: int, head: str) -> str:
    """The text that `parse_trust` reads."""
    return f"zopp1:{workspace}:{genesis}:{seq}:{head}"


def find(state_dir: str, checkout: "Checkout", env: "Mapping[str, str]") -> "Pin | None":
    """The pin of this working copy: ZOPP_TRUST if set, else the clone's own, else that of its remote."""
    if text := env.get(TRUST_VARIABLE):
        return parse_trust(text)
    pin = _load(_clone_file(state_dir, checkout), "clone")
    if pin is None and (remote := _remote_file(state_dir, checkout)) is not None:
        pin = _load(remote, "remote")
    return pin


def save(state_dir: str, checkout: "Checkout", pin: Pin) -> None:
    """Remember `pin` for this working copy and for its remote. A pin from ZOPP_TRUST is not remembered: the job that
    set the variable decides anew each time."""
    if pin.origin == "environment":
        return
    import json

    data = json.dumps(
        {
            "v": 1,
            "workspace": pin.workspace,
            "genesis": pin.genesis,
            "seq": pin.seq,
            "head": pin.head,
            "default_branch": pin.default_branch,
            "manifests": {env: list(seen) for env, seen in sorted(pin.manifests.items())},
            "projects": pin.projects,
            "default_envs": pin.default_envs,
            "where": checkout.root,
        },
        indent=1,
        sort_keys=True,
    ).encode()
    files.replace_private(_clone_file(state_dir, checkout), data)
    if (remote := _remote_file(state_dir, checkout)) is not None:
        files.replace_private(remote, data)


def forget(state_dir: str, checkout: "Checkout") -> None:
    """Drop the pin of this working copy and of its remote."""
    for path in (_clone_file(state_dir, checkout), _remote_file(state_dir, checkout)):
        if path is not None:
            try:
                os.unlink(path)
            except FileNotFoundError:
                pass
