"""Who may come how often, and what of it the log gets one by one: the interface to `limits`."""

from __future__ import annotations

from typing import Protocol


class Gate(Protocol):
    """Asked before and after a caller is known. The refusals are Unknown or Denied errors with their codes."""

    def stranger(self, addr: str | None) -> None:
        """Before anything is verified. Denied (`quota`) if this address has asked too often."""

    def failed(self, addr: str | None) -> None:
        """A request that did not verify: counted, to be summarised."""

    def member(self, ws: str, principal: str) -> None:
        """A verified principal asks. Denied (`quota`) if it has asked too often."""

    def refused(self, ws: str, principal: str) -> bool:
        """Whether the refusal of a valid signature gets an entry of its own; else it is counted."""

    def denial(self, ws: str, principal: str, *, roleless: bool) -> bool:
        """Whether a denial gets an entry of its own; else it is counted."""

    def written(self, ws: str, principal: str, size: int) -> None:
        """So many bytes of entries are about to be written for this principal. Denied (`quota`) beyond its share."""

    def unmatched(self, ws: str, count: int) -> None:
        """Stanzas that no key opened: counted."""

    def summaries(self) -> list[tuple[str | None, str, int]]:
        """What was counted since the last call: (workspace or None for the system log, what, how many)."""


class Open:
    """No limits: for tests of other things."""

    def stranger(self, addr: str | None) -> None:
        """See `Gate`."""

    def failed(self, addr: str | None) -> None:
        """See `Gate`."""

    def member(self, ws: str, principal: str) -> None:
        """See `Gate`."""

    def refused(self, ws: str, principal: str) -> bool:
        """See `Gate`."""
        return True

    def denial(self, ws: str, principal: str, *, roleless: bool) -> bool:
        """See `Gate`."""
        return True

    def written(self, ws: str, principal: str, size: int) -> None:
        """See `Gate`."""

    def unmatched(self, ws: str, count: int) -> None:
        """See `Gate`."""

    def summaries(self) -> list[tuple[str | None, str, int]]:
        """See `Gate`."""
        return []
