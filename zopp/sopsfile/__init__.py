"""The sops file format: read, open, encrypt, edit, rotate. Bytes in, values out. Lean until a name is used.

Nothing here reads files, clocks or networks; randomness can be passed in as `iv`.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from zopp.sopsfile.changes import (
        Drop as Drop,
        Put as Put,
        edit as edit,
        replace_groups as replace_groups,
        replace_tree as replace_tree,
        rotate as rotate,
    )
    from zopp.sopsfile.encrypting import encrypt as encrypt
    from zopp.sopsfile.file import (
        Item as Item,
        SopsFile as SopsFile,
        dump_plain as dump_plain,
        load_plain as load_plain,
        read as read,
    )
    from zopp.sopsfile.formats import format_of as format_of
    from zopp.sopsfile.metadata import Entry as Entry, Metadata as Metadata
    from zopp.sopsfile.selectors import DEFAULT_SELECTOR as DEFAULT_SELECTOR, Selector as Selector
    from zopp.sopsfile.shamir import join_key as join_key, split_key as split_key
    from zopp.sopsfile.tree import (
        Comment as Comment,
        Mapping as Mapping,
        Sequence as Sequence,
        Timestamp as Timestamp,
        Tree as Tree,
        from_plain as from_plain,
        lookup as lookup,
        same as same,
        to_plain as to_plain,
    )

_HOME = {
    "changes": ("Drop", "Put", "edit", "replace_groups", "replace_tree", "rotate"),
    "encrypting": ("encrypt",),
    "file": ("Item", "SopsFile", "dump_plain", "load_plain", "read"),
    "formats": ("format_of",),
    "metadata": ("Entry", "Metadata"),
    "selectors": ("DEFAULT_SELECTOR", "Selector"),
    "shamir": ("join_key", "split_key"),
    "tree": ("Comment", "Mapping", "Sequence", "Timestamp", "Tree", "from_plain", "lookup", "same", "to_plain"),
}
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names}


def __getattr__(name: str) -> object:
    """Import the module of a public name when it is first used."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = __import__(f"{__name__}.{_MODULE_OF[name]}", fromlist=[name])
    value: object = getattr(module, name)
    globals()[name] = value
    return value
