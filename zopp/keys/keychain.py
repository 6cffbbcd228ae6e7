"""A passphrase in the operating system's keychain, by the `keyring` package (extra `keychain`), if the user wants."""

from __future__ import annotations

from typing import Any

from zopp.errors import Unknown

_SERVICE = "zopp"


def _keyring() -> Any:
    try:
        import keyring
    except ImportError:
        raise Unknown(
            "the operating system's keychain needs the package keyring",
            code="keychain",
            hint="pip install 'zopp[keychain]'",
        ) from None
    return keyring


def get(path: str) -> str | None:
    """The passphrase kept for the key file `path`, None if there is none. Raises Unknown if there is no keychain."""
    keyring = _keyring()
    try:
        found = keyring.get_password(_SERVICE, path)
    except Exception:  # its back ends raise what they like, some with the item in the text
        raise Unknown("the operating system's keychain does not answer", code="keychain") from None
    return None if found is None else str(found)


def put(path: str, passphrase: str) -> None:
    """Keep `passphrase` for the key file `path`."""
    keyring = _keyring()
    try:
        keyring.set_password(_SERVICE, path, passphrase)
    except Exception:
        raise Unknown("the operating system's keychain does not take the passphrase", code="keychain") from None


def drop(path: str) -> None:
    """Forget the passphrase of the key file `path`; nothing happens if there is none."""
    keyring = _keyring()
    if get(path) is None:
        return
    try:
        keyring.delete_password(_SERVICE, path)
    except Exception:
        raise Unknown("the operating system's keychain does not forget the passphrase", code="keychain") from None
