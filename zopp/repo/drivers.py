"""git's configuration for the merge drivers: which program a clone calls. Attributes name the drivers, see `blocks`.

The definitions live in the clone's own configuration, never in the tree, so no commit decides what runs here.
"""

from collections.abc import Iterable

from zopp.repo import blocks, git, layout
from zopp.repo.layout import Checkout

SECRETS, MANIFEST, POLICY = "zopp", "zopp-manifest", "zopp-policy"
NAMES = {
    SECRETS: "zopp: secrets, merged by key",
    MANIFEST: "zopp: manifests, signed anew",
    POLICY: "zopp: the signed policy and what follows from it",
}
COMMAND = "zopp merge-driver %O %A %B %L %P"


def set_merge_drivers(checkout: Checkout) -> None:
    """Define the three drivers in this clone. In a criss-cross history git calls them once, with the true common
    ancestor (`recursive = binary`), and not for a base of its own making, which nobody signed."""
    for name, words in NAMES.items():
        for key, value in (("name", words), ("driver", COMMAND), ("recursive", "binary")):
            git.run(checkout.root, "config", "--local", f"merge.{name}.{key}", value)


def merge_attributes(paths: Iterable[str]) -> list[str]:
    """The lines that give each path its driver: `paths` are the secrets files."""
    lines = [f"/{layout.MANIFESTS}/** merge={MANIFEST}"]
    for path in (layout.POLICY, layout.RECEIPT, f"{layout.EXPOSURE}/*", blocks.SOPS_CONFIG, blocks.ATTRIBUTES):
        lines.append(f"/{path} merge={POLICY}")
    return lines + [f"{blocks.pattern(path)} merge={SECRETS}" for path in sorted(paths)]
