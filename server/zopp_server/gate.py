"""Who may come how often, and what of it the log gets one by one: what the routes ask (`plugged.Limited` answers)."""

from __future__ import annotations

from typing import Protocol

from zopp_server.limits import Summary


class Gate(Protocol):
    """Asked before and after a caller is known. Refusals are Unknown (`quota`) with `retry_after`."""

    def stranger(self, addr: str | None) -> None:
        """Before anything is verified: refuses an address that asks too often."""

    def failed(self, addr: str | None) -> None:
        """A request that did not verify: counted, to be summarised."""

    def member(self, ws: str, principal: str) -> None:
        """A verified principal asks: refuses one that asks too often."""

    def refused(self, ws: str, principal: str) -> bool:
        """Whether the refusal of a valid signature gets an entry of its own; else it is counted."""

    def denial(self, ws: str, principal: str, *, roleless: bool) -> bool:
        """Whether a denial gets an entry of its own; else it is counted."""

    def written(self, ws: str, principal: str, size: int) -> None:
        """So many bytes of entries are about to be written for this principal: refuses beyond its share."""

    def unmatched(self, ws: str, principal: str, count: int) -> None:
        """Stanzas that no key opened: counted."""

    def released(self, outcome: str, reason: str) -> None:
        """A stanza was decided: for the metrics."""

    def stale(self) -> None:
        """A statement was refused as stale: for the metrics."""

    def summaries(self) -> list[Summary]:
        """What was counted since the last call. `log` is a workspace's name, or `system`."""

    def restore(self, summaries: list[Summary]) -> None:
        """Count again what could not be recorded."""


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

    def unmatched(self, ws: str, principal: str, count: int) -> None:
        """See `Gate`."""

    def released(self, outcome: str, reason: str) -> None:
        """See `Gate`."""

    def stale(self) -> None:
        """See `Gate`."""

    def summaries(self) -> list[Summary]:
        """See `Gate`."""
        return []

    def restore(self, summaries: list[Summary]) -> None:
        """See `Gate`."""
