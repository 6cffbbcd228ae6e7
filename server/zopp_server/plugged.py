"""The parts around the core: limits, metrics, the log of requests, the CI trust; made from the settings."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from zopp_server.app import Watcher
from zopp_server.batcher import Observer
from zopp_server.config import Settings
from zopp_server.gate import Gate, Open
from zopp_server.service import Service


@dataclass(slots=True)
class Parts:
    """What `serve` plugs in."""

    gate: Gate
    observer: Observer
    watcher: Watcher

    @asynccontextmanager
    async def running(self, service: Service) -> AsyncIterator[None]:
        """Whatever listens or fetches while the server runs."""
        yield


def parts(settings: Settings) -> Parts:
    """The parts for these settings."""
    return Parts(Open(), Observer(), Watcher())
