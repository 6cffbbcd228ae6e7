"""HTTP to Vault or OpenBao: one question, one answer; time limits, patience, one redirect, and a token kept alive.

hvac builds the requests; what an answer means is not decided here, beyond whether to ask again. No message quotes an
answer, or an exception of the libraries below, whose texts do. Proxies, netrc and certificate bundles of the
environment are not used. Source: importers.md §1 (rules 10, 15) and §6.
"""

from __future__ import annotations

import ipaddress
import re
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

from zopp.errors import Denied, Unknown, UsageError, ZoppError
from zopp.exchange import jsontext

MAX_ANSWER = 1 << 24
TRIES = 6
TRIES_UNREACHABLE = 3
MAX_PAUSE = 8.0
MAX_RETRY_AFTER = 30
CONNECT_SECONDS = 10
# One whole answer, however slowly it drips, in units of the time limit for a piece of it.
_WHOLE = 2
_REDIRECTS = (301, 302, 307, 308)
# 412: a standby that does not have the token's state yet; 472, 473: standbys that answer no reads.
_AGAIN = (412, 429, 472, 473, 500, 502, 503, 504)


@dataclass(frozen=True, slots=True)
class Answer:
    """`body` is the JSON of the answer with numbers as `jsontext.Number`; None where there is none to be read."""

    status: int
    body: Any = field(default=None, repr=False)

    def at(self, *names: str) -> Any:
        """What stands below `names` in the body; None where nothing does."""
        node = self.body
        for name in names:
            node = node.get(name) if isinstance(node, dict) else None
        return node


@dataclass(frozen=True, slots=True)
class Login:
    """How to get a token: POST of `body` to `path` (`auth/approle/login`)."""

    path: str
    body: Mapping[str, str] = field(repr=False)


def check_address(address: str) -> str:
    """`address` without a slash at its end, lower-case host. UsageError unless it is https, or http to this machine."""
    try:
        parts = urlsplit(address)
        good = parts.scheme in ("https", "http") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        parts, good = urlsplit(""), False
    if not good or parts.username is not None or parts.query or parts.fragment:
        raise UsageError(
            "the server's address must be like https://vault.example.com:8200", code="vault.address",
            hint="set VAULT_ADDR or BAO_ADDR, or say --address",
        )  # fmt: skip
    if parts.scheme == "http" and not _here(parts.hostname or ""):
        raise UsageError(
            "over http the token and every secret would travel in the clear", code="vault.http",
            hint="use the server's https address, or a tunnel to 127.0.0.1",
        )  # fmt: skip
    return f"{parts.scheme}://{parts.netloc.lower()}{parts.path.rstrip('/')}"


def _here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_header(text: str, what: str) -> str:
    """`text` without blanks around it. UsageError if it cannot stand in a header of HTTP; it is not quoted."""
    text = text.strip()
    if not re.fullmatch(r"[!-~]{1,8192}", text):
        raise UsageError(f"{what} is empty, or holds what it cannot hold", code="vault.credential")
    return text


@dataclass(slots=True)
class Server:
    """A server at a checked `address`. `verify`: True, or a file or folder of certificates; TLS is always verified.
    `timeout`: seconds for a connection to be answered, and for each piece of an answer. `told` gets a line for people
    while a question waits to be asked again; `warned` what they should know afterwards."""

    address: str
    namespace: str = ""
    verify: str | bool = True
    cert: tuple[str, str] | None = None
    timeout: float = 30.0
    told: Callable[[str], None] = lambda text: None
    warned: Callable[[str], None] = lambda text: None
    now: Callable[[], float] = time.monotonic
    pause: Callable[[float], None] = time.sleep
    jitter: Callable[[], float] = secrets.SystemRandom().random
    _session: Any = field(default=None, init=False, repr=False)
    _token: str = field(default="", init=False, repr=False)
    _login: Login | None = field(default=None, init=False, repr=False)
    _expires: float | None = field(default=None, init=False)
    _renew_at: float | None = field(default=None, init=False)

    # --- tokens

    def use_token(self, token: str) -> None:
        """Send `token` from now on, and renew it when it has to be. Denied if the server says that it is none."""
        self._token = check_header(token, "the token")
        answer = self.ask("GET", "auth/token/lookup-self")
        if answer.status == 200:
            self._lease(answer.at("data", "ttl"), answer.at("data", "renewable") is True)

    def log_in(self, login: Login) -> None:
        """Get a token, and another one whenever that cannot be renewed. Denied if the server does not give one."""
        self._token = ""
        self._expires = self._renew_at = None
        answer = self.ask("POST", login.path, login.body)
        token = answer.at("auth", "client_token")
        if answer.status == 404:
            raise UsageError("no such login is enabled at the server", code="vault.login", place=login.path)
        if answer.status != 200 or not isinstance(token, str):
            raise Denied(
                f"the server refuses the login (HTTP {answer.status})", code="vault.login", place=login.path,
                hint="is the role, and the secret id or JWT, still good?",
            )  # fmt: skip
        self._token = check_header(token, "the token that the server gave")
        self._login = login
        self._lease(answer.at("auth", "lease_duration"), answer.at("auth", "renewable") is True)

    def _lease(self, seconds: object, renewable: bool) -> None:
        """The token lives for `seconds` from now; 0 is for ever."""
        lease = _whole(seconds)
        self._expires = self.now() + lease if lease > 0 else None
        again = lease > 0 and (renewable or self._login is not None)
        self._renew_at = self.now() + lease * 2 / 3 if again else None

    def _keep_alive(self) -> None:
        if self._renew_at is None or self.now() < self._renew_at:
            return
        self._renew_at = None
        answer = self._patiently("POST", "auth/token/renew-self", {}, None)
        lease = _whole(answer.at("auth", "lease_duration"))
        # Near its maximal life a token is renewed for less and less.
        if answer.status == 200 and (lease >= 2 or self._login is None):
            self._lease(answer.at("auth", "lease_duration"), answer.at("auth", "renewable") is True and lease >= 2)
        elif self._login is not None:
            self.log_in(self._login)
        else:
            self.warned(f"the token cannot be renewed (HTTP {answer.status}) and may run out before the end")

    def close(self) -> None:
        """Give back a token that was logged in for, and the connections."""
        try:
            if self._login is not None and self._token:
                self._once("POST", "auth/token/revoke-self", None, None)
        except ZoppError:
            pass  # it runs out by itself
        finally:
            self._token = ""
            if self._session is not None:
                self._session.close()
                self._session = None

    # --- questions

    def list(self, path: str) -> Answer:
        """LIST, sent as GET, since some proxies know no LIST."""
        return self.ask("GET", path, params={"list": "true"})

    def ask(
        self,
        method: str,
        path: str,
        body: Mapping[str, str] | None = None,
        *,
        params: Mapping[str, str] | None = None,
    ) -> Answer:
        """The answer to one question about `path` (unquoted, without `v1/`): 2xx, 400, 403, 404, 405, or 500 where
        that is all that comes. Asked again with growing pauses where the server is busy. Unknown (`vault.busy`,
        `vault.sealed`, `vault.unreachable`, `vault.answer`) if there is no answer; Denied (`vault.expired`) once the
        token has run out."""
        self._keep_alive()
        answer = self._patiently(method, path, body, params)
        if answer.status == 403 and self._expires is not None and self.now() >= self._expires:
            raise Denied(
                "the token ran out before everything was read", code="vault.expired", place=self.address,
                hint="get one that lives longer or can be renewed, or log in with --auth approle",
            )  # fmt: skip
        return answer

    def _patiently(
        self, method: str, path: str, body: Mapping[str, str] | None, params: Mapping[str, str] | None
    ) -> Answer:
        tries = 0
        while True:
            tries += 1
            answer, after = self._once(method, path, body, params)
            if answer is not None and answer.status not in _AGAIN:
                return answer
            if answer is not None and answer.status == 503 and path != "sys/seal-status":
                self._check_sealed()
            if tries >= (TRIES if answer is not None else TRIES_UNREACHABLE):
                break
            wait = max(min(MAX_PAUSE, 0.25 * 2**tries) * (0.5 + self.jitter() / 2), after)
            said = f"HTTP {answer.status}" if answer is not None else "no answer"
            self.told(f"{said}, asking again in {wait:.0f} s ({tries} of {TRIES})")
            self.pause(wait)
        if answer is None:
            raise Unknown("does not answer", code="vault.unreachable", place=self.address)
        if answer.status == 500:
            return answer
        raise Unknown(
            f"is busy or not ready (HTTP {answer.status}), also after {TRIES} tries", code="vault.busy",
            place=self.address, hint="try again later; nothing was imported",
        )  # fmt: skip

    def _check_sealed(self) -> None:
        answer, _ = self._once("GET", "sys/seal-status", None, None)
        if answer is not None and answer.at("sealed") is True:
            raise Unknown("is sealed", code="vault.sealed", place=self.address, hint="have it unsealed, then try again")

    def _once(
        self, method: str, path: str, body: Mapping[str, str] | None, params: Mapping[str, str] | None
    ) -> tuple[Answer | None, float]:
        """One try: the answer, or None if the connection failed, and how long the server asks to wait."""
        import requests
        import urllib3

        base, target = self.address, "v1/" + quote(path, safe="/")
        try:
            for redirected in (False, True):
                adapter = self._adapter(base)
                with adapter.request(
                    method, target, {"Accept-Encoding": "identity"}, raise_exception=False, stream=True, json=body,
                    params=params,
                ) as response:  # fmt: skip
                    if response.status_code not in _REDIRECTS:
                        after = response.headers.get("Retry-After", "")
                        wait = min(MAX_RETRY_AFTER, int(after)) if re.fullmatch("[0-9]{1,6}", after) else 0
                        return self._answer(response), wait
                    if redirected:
                        break
                    base, target = self._moved(response.url, response.headers.get("Location", ""))
                    params = None
        except requests.exceptions.SSLError:
            raise Unknown(
                "its TLS certificate does not verify", code="vault.tls", place=self.address,
                hint="name the certificate of its authority with VAULT_CACERT=FILE",
            ) from None  # fmt: skip
        except (requests.exceptions.RequestException, urllib3.exceptions.HTTPError, OSError):
            return None, 0.0
        except ValueError:  # requests looks into a Location that nobody asked it to follow
            raise Unknown("answers what is not HTTP", code="vault.answer", place=self.address) from None
        raise Unknown("redirects more than once", code="vault.redirect", place=self.address)

    def _moved(self, url: str, location: str) -> tuple[str, str]:
        """(address, rest) of where an answer of `url` points: another node of the cluster, by what a standby says."""
        try:
            parts = urlsplit(urljoin(url, location))
            down = urlsplit(url).scheme == "https" and parts.scheme != "https"
            base = "" if down or not location else check_address(f"{parts.scheme}://{parts.netloc}")
        except (ValueError, UsageError):
            parts, base = urlsplit(""), ""
        if not base:
            raise Unknown(
                "redirects to an address without TLS, which is not followed" if location else "redirects to nowhere",
                code="vault.redirect", place=self.address,
            )  # fmt: skip
        return base, parts.path.lstrip("/") + (f"?{parts.query}" if parts.query else "")

    def _adapter(self, base: str) -> Any:
        import hvac.adapters
        import requests

        if self._session is None:
            self._session = requests.Session()
            self._session.trust_env = False
            # the session's word counts, not the adapter's
            self._session.verify, self._session.cert = self.verify, self.cert
        return hvac.adapters.RawAdapter(
            base_uri=base, token=self._token or None, namespace=self.namespace or None, session=self._session,
            verify=self.verify, cert=self.cert, timeout=(min(CONNECT_SECONDS, self.timeout), self.timeout),
            allow_redirects=False,
        )  # fmt: skip

    def _answer(self, response: Any) -> Answer:
        data = bytearray()
        until = self.now() + _WHOLE * self.timeout
        # read1 gives what has come; the others wait for as much as they were asked for, or for the end.
        while piece := response.raw.read1(1 << 16):
            data += piece
            if len(data) > MAX_ANSWER or self.now() > until:
                raise Unknown("an answer is too long or too slow", code="vault.answer", place=self.address)
        status = response.status_code
        try:
            return Answer(status, jsontext.parse(data.decode()) if data else None)
        except ValueError:
            if status != 200:
                return Answer(status)
        raise Unknown(
            "an answer is not the JSON that Vault and OpenBao give", code="vault.answer", place=self.address,
            hint="is this the server's API address?",
        )  # fmt: skip


def _whole(number: object) -> int:
    return int(number) if isinstance(number, jsontext.Number) and re.fullmatch("[0-9]{1,10}", number) else 0
