"""Where a user's own data lies (XDG base directories). Lean.

Keys and pins' settings under config, remembered heads under state, verified prefixes and parsed settings under cache.
What stands under cache may be deleted at any time; what stands under state is trust and may not.
"""

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


def _base(env: "Mapping[str, str]", variable: str, below_home: str) -> str:
    value = env.get(variable, "")
    # The specification says that a relative path in these variables is invalid and is to be ignored.
    if value.startswith("/"):
        return os.path.join(value, "zopp")
    return os.path.join(home(env), below_home, "zopp")


def home(env: "Mapping[str, str]") -> str:
    """The user's home folder: HOME, else the password database."""
    return env.get("HOME") or os.path.expanduser("~")


def config(env: "Mapping[str, str]") -> str:
    """$XDG_CONFIG_HOME/zopp or ~/.config/zopp."""
    return _base(env, "XDG_CONFIG_HOME", ".config")


def state(env: "Mapping[str, str]") -> str:
    """$XDG_STATE_HOME/zopp or ~/.local/state/zopp."""
    return _base(env, "XDG_STATE_HOME", ".local/state")


def cache(env: "Mapping[str, str]") -> str:
    """$XDG_CACHE_HOME/zopp or ~/.cache/zopp."""
    return _base(env, "XDG_CACHE_HOME", ".cache")
