"""Who may do what: statements, their fold, decisions, manifests. Pure: no clock, no files, no network. Lean.

Import the submodules (`from zopp.policy import log, manifest`); the names below are loaded on first use, so that
importing this package costs nothing on the path of `zopp get`.
"""

_LAZY = {
    "State": "state",
    "Statement": "statement",
    "Role": "roles",
    "Scope": "names",
    "Subject": "names",
    "Allow": "decisions",
    "Deny": "decisions",
    "decide": "decisions",
    "effect": "decisions",
    "fold": "log",
    "Manifest": "manifest",
    "View": "view",
}


def __getattr__(name: str) -> object:
    module = _LAZY.get(name)
    if module is None:
        raise AttributeError(f"module 'zopp.policy' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"zopp.policy.{module}"), name)
