"""Secrets in git: sops-compatible files, readable by exactly those whom a signed policy lets read.

    import zopp

    shop = zopp.open()
    shop.get("DATABASE_URL", env="production")

Nothing is imported until a name is used: the command line starts through this package too.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from zopp._version import __version__ as __version__
    from zopp.api import Workspace as Workspace, ZoppWarning as ZoppWarning, open as open
    from zopp.errors import (
        Denied as Denied,
        IntegrityError as IntegrityError,
        NotFound as NotFound,
        Unknown as Unknown,
        ZoppError as ZoppError,
    )

__all__ = [
    "Denied",
    "IntegrityError",
    "NotFound",
    "Unknown",
    "Workspace",
    "ZoppError",
    "ZoppWarning",
    "__version__",
    "open",
]

_MODULE_OF = {"Workspace": "api", "ZoppWarning": "api", "open": "api", "__version__": "_version"}


def __getattr__(name: str) -> object:
    """Import the module of a public name when it is first used."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = __import__(f"{__name__}.{_MODULE_OF.get(name, 'errors')}", fromlist=[name])
    value: object = getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> "list[str]":
    return sorted(__all__)
