"""What a server is started with: from the environment and the command line (docs/reference/server.md)."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from zopp.errors import UsageError
from zopp.policy import fields as f

PREFIX = "ZOPP_SERVER_"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """`origin` as clients and the policy log name the server; `listen` and `metrics` as (host, port); `data` the folder
    of the high-water file, outside the database's volume. The database URL is not in `repr`: it holds a password."""

    database: str = field(repr=False)
    origin: str
    data: Path
    kek: Path
    log_key: Path
    next_log_key: Path | None = None
    listen: tuple[str, int] = ("127.0.0.1", 8443)
    metrics: tuple[str, int] | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    tls_client_ca: Path | None = None
    drain: float = 0.0
    issuers: Path | None = None
    proxies: tuple[str, ...] = ()
    log_level: str = "info"
    concurrency: int = 1024


def of(env: Mapping[str, str]) -> Settings:
    """The settings of these variables. UsageError names what is missing or malformed; no value is quoted."""
    unknown = sorted(name for name in env if name.startswith(PREFIX) and name.removeprefix(PREFIX) not in _KNOWN)
    if unknown:
        raise UsageError(f"unknown setting {unknown[0]}", code="server.setting")
    return Settings(
        database=database_url(env),
        origin=_origin(env),
        data=Path(_need(env, "DATA")),
        kek=Path(_need(env, "KEK_FILE")),
        log_key=Path(_need(env, "LOG_KEY_FILE")),
        next_log_key=_path(env, "NEXT_LOG_KEY_FILE"),
        listen=address(env.get(PREFIX + "LISTEN") or "127.0.0.1:8443", PREFIX + "LISTEN"),
        metrics=_metrics(env),
        tls_cert=_path(env, "TLS_CERT"),
        tls_key=_path(env, "TLS_KEY"),
        tls_client_ca=_path(env, "TLS_CLIENT_CA"),
        drain=_seconds(env, "DRAIN_SECONDS"),
        issuers=_path(env, "OIDC_ISSUERS_FILE"),
        proxies=_networks(env),
        log_level=_level(env),
    )


_KNOWN = {
    "DATABASE_URL", "DATABASE_URL_FILE", "ORIGIN", "DATA", "KEK_FILE", "LOG_KEY_FILE", "NEXT_LOG_KEY_FILE", "LISTEN",
    "METRICS_LISTEN", "TLS_CERT", "TLS_KEY", "TLS_CLIENT_CA", "DRAIN_SECONDS", "OIDC_ISSUERS_FILE", "PROXIES",
    "LOG_LEVEL", "APP_URL", "APP_URL_FILE", "ADMIN_URL", "ADMIN_URL_FILE", "NEXT_KEK_FILE",
}  # fmt: skip


def database_url(env: Mapping[str, str], name: str = "DATABASE_URL") -> str:
    """A Postgres URL from its variable or from the file that NAME_FILE names. UsageError without one."""
    path = env.get(f"{PREFIX}{name}_FILE")
    url = env.get(PREFIX + name) or ""
    if path and not url:
        try:
            url = Path(path).read_text().strip()
        except (OSError, UnicodeDecodeError):
            raise UsageError("cannot be read", code="server.setting", place=f"{PREFIX}{name}_FILE") from None
    if not url.startswith(("postgres://", "postgresql://")):
        raise UsageError(
            f"{PREFIX}{name} is not set to a postgres:// or postgresql:// URL",
            code="server.setting",
            hint="docs/reference/server.md lists the settings",
        )
    return url


def address(text: str, place: str) -> tuple[str, int]:
    """(host, port) of `HOST:PORT` or `[IPV6]:PORT`; UsageError otherwise."""
    host, colon, port = text.rpartition(":")
    host = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not colon or not host or not port.isdigit() or int(port) > 65535:
        raise UsageError("is not HOST:PORT", code="server.setting", place=place)
    return host, int(port)


def _origin(env: Mapping[str, str]) -> str:
    value = _need(env, "ORIGIN")
    problems: list[f.Problem] = []
    f.ORIGIN.check(value, PREFIX + "ORIGIN", problems)
    if problems:
        raise UsageError(problems[0][1], code="server.setting", place=PREFIX + "ORIGIN")
    return value


def _need(env: Mapping[str, str], name: str) -> str:
    value = env.get(PREFIX + name)
    if not value:
        raise UsageError(
            f"{PREFIX}{name} is not set", code="server.setting", hint="docs/reference/server.md lists the settings"
        )
    return value


def _path(env: Mapping[str, str], name: str) -> Path | None:
    value = env.get(PREFIX + name)
    return Path(os.path.abspath(value)) if value else None


def _seconds(env: Mapping[str, str], name: str) -> float:
    text = env.get(PREFIX + name) or "5"
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 600:
        raise UsageError("is not a number of seconds from 0 to 600", code="server.setting", place=PREFIX + name)
    return value


def _metrics(env: Mapping[str, str]) -> tuple[str, int] | None:
    text = env.get(PREFIX + "METRICS_LISTEN", "127.0.0.1:9464")
    return address(text, PREFIX + "METRICS_LISTEN") if text else None


def _networks(env: Mapping[str, str]) -> tuple[str, ...]:
    found = tuple(filter(None, [part.strip() for part in (env.get(PREFIX + "PROXIES") or "").split(",")]))
    for text in found:
        try:
            ipaddress.ip_network(text)
        except ValueError:
            raise UsageError(
                "holds something that is no network", code="server.setting", place=PREFIX + "PROXIES"
            ) from None
    return found


def _level(env: Mapping[str, str]) -> str:
    level = env.get(PREFIX + "LOG_LEVEL") or "info"
    if level not in ("debug", "info", "warning", "error"):
        raise UsageError("is not debug, info, warning or error", code="server.setting", place=PREFIX + "LOG_LEVEL")
    return level
