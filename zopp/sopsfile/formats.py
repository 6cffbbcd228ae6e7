"""Which store a file has. Lean."""


def format_of(path: str) -> str:
    """The store of a file by its suffix, case-sensitive, as sops chooses it."""
    name = path.rsplit("/", 1)[-1]
    for suffix, fmt in ((".yaml", "yaml"), (".yml", "yaml"), (".json", "json"), (".env", "dotenv"), (".ini", "ini")):
        if name.endswith(suffix):
            return fmt
    return "binary"
