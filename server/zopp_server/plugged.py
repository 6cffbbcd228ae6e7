"""The parts around the core, made from the settings: limits, metrics and log lines, CI trust."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from zopp._version import __version__
from zopp.errors import Unknown
from zopp_server import limits, oidc
from zopp_server.batcher import SYSTEM, Context, Decided, Job, Observer
from zopp_server.config import Settings
from zopp_server.entries import draft
from zopp_server.jwks import Jwks
from zopp_server.limits import Limits, Network
from zopp_server.observability import Metrics, listen, logger
from zopp_server.service import Service
from zopp_server.workspaces import Workspace


class Limited:
    """`Gate` over the process' limits. `log` of a workspace's counts is its name here, `SYSTEM` where there is none."""

    def __init__(
        self,
        found: Limits,
        metrics: Metrics,
        now: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limits, self._metrics, self._now, self._clock = found, metrics, now, clock

    def _ts(self) -> int:
        return int(self._now() * 1000)

    def stranger(self, addr: str | None) -> None:
        """See `gate.Gate`."""
        self._wait(self._limits.address(addr or "", self._clock()), "this address asks too often")

    def failed(self, addr: str | None) -> None:
        """See `gate.Gate`."""
        self._metrics.auth_failures.labels("bad_signature").inc()
        self._limits.failed(addr or "", self._clock(), self._ts())

    def member(self, ws: str, principal: str) -> None:
        """See `gate.Gate`."""
        self._wait(self._limits.principal(ws, principal, self._clock()), "this principal asks too often")

    def refused(self, ws: str, principal: str) -> bool:
        """See `gate.Gate`."""
        self._metrics.auth_failures.labels("refused").inc()
        return self._limits.one_by_one(ws, principal, self._clock(), self._ts())

    def denial(self, ws: str, principal: str, *, roleless: bool) -> bool:
        """See `gate.Gate`."""
        return not roleless or self._limits.one_by_one(ws, principal, self._clock(), self._ts())

    def written(self, ws: str, principal: str, size: int) -> None:
        """See `gate.Gate`."""
        wait = self._limits.quota(ws, principal, size, self._clock(), self._ts())
        self._wait(wait, "this principal's share of the log is used up for now")

    def unmatched(self, ws: str, principal: str, count: int) -> None:
        """See `gate.Gate`."""
        self._metrics.releases.labels("unmatched", "unmatched").inc(count)
        self._limits.unmatched(ws, principal, count, self._ts())

    def released(self, outcome: str, reason: str) -> None:
        """See `gate.Gate`."""
        self._metrics.releases.labels(outcome, reason).inc()

    def stale(self) -> None:
        """See `gate.Gate`."""
        self._metrics.policy_stale_prev.inc()

    def summaries(self) -> list[limits.Summary]:
        """See `gate.Gate`."""
        return self._limits.summaries(self._clock(), flush=True)

    def restore(self, summaries: list[limits.Summary]) -> None:
        """See `gate.Gate`."""
        self._limits.restore(summaries)

    @staticmethod
    def _wait(seconds: int, text: str) -> None:
        if seconds:
            raise Unknown(text, code="quota", retry_after=seconds)


class Measured(Observer):
    """What the batcher tells, as metrics."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def batch(self, entries: int, seconds: float) -> None:
        """See `batcher.Observer`."""
        self._metrics.audit_append_duration_seconds.observe(seconds)
        self._metrics.audit_batch_size.observe(entries)
        self._metrics.log_checkpoint_timestamp_seconds.set(time.time())

    def failed(self) -> None:
        """See `batcher.Observer`."""
        self._metrics.audit_append_failures.inc()

    def policy_retry(self) -> None:
        """See `batcher.Observer`."""
        self._metrics.policy_head_retries.inc()

    def replay(self) -> None:
        """See `batcher.Observer`."""
        self._metrics.replay_rejected.inc()


@dataclass(slots=True)
class Parts:
    """What `serve` plugs in."""

    settings: Settings
    gate: Limited
    observer: Measured
    metrics: Metrics
    proxies: list[Network]

    def failed(self, route: str, cause: BaseException) -> None:
        """What no answer says goes to the server's own log, without its text."""
        logger().error("failure", route=route, exc_info=cause)

    @asynccontextmanager
    async def running(self, service: Service) -> AsyncIterator[None]:
        """Keys of CI issuers and the metrics' listener, while the server runs."""
        service.proxies = self.proxies
        issuers = oidc.KNOWN
        if self.settings.issuers is not None:
            issuers = oidc.parse_issuers(self.settings.issuers.read_text("utf-8"))

        async def archive(issuer: str, document: str) -> None:
            await service.batcher.do(Job(None, _jwks(issuer, document)))

        def observe(issuer: str, result: str) -> None:
            self.metrics.jwks_refresh.labels(issuer, result).inc()

        service.jwks = Jwks(issuers, archive=archive, observe=observe)
        batcher, pool = service.batcher, service.pool
        self.metrics.audit_queue_depth.set_function(lambda: batcher.depth)
        self.metrics.recovery.set_function(lambda: float(batcher.recovery is not None))
        self.metrics.db_pool_in_use.set_function(lambda: pool.get_size() - pool.get_idle_size())
        service.timed = self.metrics.db_read_duration_seconds.observe
        tiles = service.workspaces.cache
        self.metrics.caches["tile"] = lambda: (tiles.hits, tiles.misses)
        self.metrics.caches["workspace"] = lambda: (service.hits, service.misses)
        trees = service.workspaces.trees
        self.metrics.log_size.labels("system").set_function(lambda: trees[SYSTEM].size if SYSTEM in trees else 0)
        self.metrics.log_size.labels("sum").set_function(lambda: sum(tree.size for tree in trees.values()))
        listener = None
        if self.settings.metrics is not None:
            listener = await listen(self.metrics, *self.settings.metrics)
        try:
            yield
        finally:
            if listener is not None:
                listener.close()
            await service.jwks.aclose()


def _jwks(issuer: str, document: str) -> Callable[[Workspace | None, Context], Decided]:
    def decide(workspace: Workspace | None, context: Context) -> Decided:
        import os

        made = draft(
            "jwks", {"document": document, "issuer": issuer}, ts=context.now, id=os.urandom(16), outcome="fact"
        )
        return Decided([made])

    return decide


def parts(settings: Settings, found: limits.Settings | None = None) -> Parts:
    """The parts for these settings; `found` replaces the sizes of the limits (load tests)."""
    metrics = Metrics(__version__)
    proxies = [ipaddress.ip_network(text) for text in settings.proxies]
    return Parts(settings, Limited(Limits(found or limits.Settings()), metrics), Measured(metrics), metrics, proxies)
