"""A CI job without a signing key: its OIDC token registers a key that it makes itself (policy-server.md §3.3).

Where the token is from: ZOPP_ID_TOKEN holds one (GitLab's `id_tokens`), or ACTIONS_ID_TOKEN_REQUEST_URL and
ACTIONS_ID_TOKEN_REQUEST_TOKEN say where GitHub gives one for the audience that names this very key
(`protocol.oidc.audience`). The server answers with a receipt; what it recorded is checked before the key is used.

GitLab's token serves once and a job runs several commands, so the registered key is kept until shortly before it ends:
a 0600 file in the user's state folder, named by the hash of the server's origin, the workspace's genesis, the service's
recipient and the source of the token. The file holds the job's key and no token. Whoever reads it can ask the server in
the job's name for minutes, and cannot open an answer: those are sealed to the service's age key, which is not in it. A
file that is not whole, not ours alone, of something else or over is no key; it is replaced, and what is stale removed.

No token, request token or address of the token service stands in an error or a file. Left to `releases`: which service
this job is, and that a job only reads.
"""

from __future__ import annotations

import fcntl
import http.client
import os
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

from zopp import _fast
from zopp.client.connect import Log
from zopp.client.transport import Server, Tls
from zopp.errors import Denied, IntegrityError, Unknown, ZoppError
from zopp.keys import find, signing, wire
from zopp.keys.signing import SigningKey
from zopp.policy import canonical, fields as f
from zopp.policy.roles import OidcRule
from zopp.protocol import messages, oidc, receipt as receipts
from zopp.repo import files
from zopp.tlog import checkpoint, proof
from zopp.tlog.entry import Entry

MARGIN = 10
"""Seconds before its end at which a kept key is used no more: a command may take a while."""

MAX_TOKEN = 16384
MAX_ANSWER = 65536
"""Bytes of the token service's answer."""

MAX_AUDIENCES = 4
"""For how many audiences of a service's rules a GitHub job asks for a token, one after the other."""

DEADLINE = 20.0
"""Seconds for one answer of the token service, however slowly it comes."""

PAUSES = (0.3, 1.0)
"""Between tries at the token service, which fails now and then."""

_SUFFIX = ".job"
_KEPT = f.record(
    {
        "binding": f.HEX32,
        "key": f.Field(lambda v, place, out: None if type(v) is str else out.append((place, "not a text")), {}),
        "not_after": f.TIME,
        "principal": f.TEXT,
        "v": f.integer(1, 1),
    }
)
_LONGEST = 900 + 60
"""Seconds that a registration can last, and what clocks may differ by."""


@dataclass(frozen=True, slots=True)
class Job:
    """A registered job: `principal` as the server's log names it (`ci/…`), its `key`, good until `not_after` (Unix
    seconds). `kept`: from the file, so the server may have ended it meanwhile."""

    principal: str
    key: SigningKey
    not_after: int
    kept: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Counter:
    """Where a job registers, and as what. `connect` makes a connection that a key signs on; `recipient` is that of the
    service; `service` its name, None where there is no policy at hand; `rules` those of it that are known here, for
    GitHub's audience and for saying what does not fit; `check` judges the record of the registration further."""

    origin: str
    workspace: str
    recipient: str
    service: str | None
    rules: tuple[OidcRule, ...]
    log: Log
    connect: Callable[[SigningKey], Server]
    check: Callable[[Entry, Server], None]


def job(env: Mapping[str, str], counter: Counter, *, spent: bytes | None = None) -> Job:
    """The job's key, registered: the kept one, or a new one. `spent` is the public half of a key that the server takes
    no more. Denied where the server refuses the token, Unknown where no token can be had or nobody answers,
    IntegrityError where the answer does not hold."""
    source = find.token_source(env)
    if source == "ZOPP_ID_TOKEN":
        origin_of_token = env["ZOPP_ID_TOKEN"]
    else:
        origin_of_token = env["ACTIONS_ID_TOKEN_REQUEST_URL"] + "\n" + env["ACTIONS_ID_TOKEN_REQUEST_TOKEN"]
    binding = _fast.sha256(
        canonical.encode(
            [
                counter.origin,
                counter.log.genesis,
                counter.recipient,
                _fast.sha256(origin_of_token.encode("utf-8", "surrogateescape")).hex(),
            ]
        )
    ).hex()
    folder = os.path.join(counter.log.state_dir, "jobs")
    path = os.path.join(folder, binding[:32] + _SUFFIX)
    try:
        with _locked(folder):  # of two commands at once the second finds the key of the first: a token may serve once
            kept = _load(path)
            if kept is not None and kept[0] == binding and kept[1].key.public != spent:
                return kept[1]
            made = _registered(env, source, counter)
            _keep(path, binding, made)
            _tidy(folder, path)
    except OSError as exc:  # of the folder: what is sent has errors of its own
        raise Unknown(
            f"the job's key cannot be kept ({exc.strerror})",
            code="ci.state",
            place=folder,
            hint="give the job a HOME, or XDG_STATE_HOME, that it may write",
        ) from None
    return made


# --- the kept key


@contextmanager
def _locked(folder: str) -> Iterator[None]:
    os.makedirs(folder, mode=0o700, exist_ok=True)
    lock = os.open(os.path.join(folder, "lock"), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _load(path: str) -> tuple[str, Job] | None:
    """(binding, job) of a file that is whole, ours alone and not over; None for anything else."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        info = os.fstat(fd)
        if not stat.S_ISREG(info.st_mode) or info.st_mode & 0o077 or info.st_uid != os.geteuid():
            return None
        data = os.read(fd, 8192)
    except OSError:
        return None
    finally:
        os.close(fd)
    try:
        value = canonical.decode(data)
        problems: list[f.Problem] = []
        _KEPT.check(value, "job", problems)
        if problems:
            return None
        key = signing.load_openssh(value["key"].encode())
    except (ZoppError, UnicodeEncodeError):
        return None
    if not MARGIN < value["not_after"] - time.time() <= _LONGEST:
        return None
    return value["binding"], Job(value["principal"], key, value["not_after"], True)


def _keep(path: str, binding: str, made: Job) -> None:
    value = {
        "binding": binding,
        "key": signing.dump_openssh(made.key).decode(),
        "not_after": made.not_after,
        "principal": made.principal,
        "v": 1,
    }
    files.replace_private(path, canonical.encode(value))


def _tidy(folder: str, keep: str) -> None:
    """Remove what is over, and what a crash left; under the lock, so nobody else is writing."""
    for name in os.listdir(folder):
        path = os.path.join(folder, name)
        if _SUFFIX in name and path != keep and _load(path) is None:
            with suppress(OSError):
                os.unlink(path)


# --- registering


def _registered(env: Mapping[str, str], source: str, counter: Counter) -> Job:
    if source == "ZOPP_ID_TOKEN":
        token = env["ZOPP_ID_TOKEN"].strip(" \r\n")
        if not _is_token(token):
            raise Unknown("ZOPP_ID_TOKEN holds no token", code="ci.token", hint=_HINTS["token"])
        return _register(counter, signing.generate(), token)
    # The audience has to be the rule's, and which of several rules it will be only the server knows.
    ours = [rule.audience for rule in counter.rules if any(name == "repository_id" for name, _ in rule.claims)]
    refusals: list[Denied] = []
    for base in list(dict.fromkeys(ours))[:MAX_AUDIENCES] or [counter.origin]:
        key = signing.generate()
        token = _ask_github(
            env["ACTIONS_ID_TOKEN_REQUEST_URL"],
            env["ACTIONS_ID_TOKEN_REQUEST_TOKEN"],
            oidc.audience(base, key.public, counter.recipient),
        )
        try:
            return _register(counter, key, token)
        except Denied as exc:
            if exc.data.get("rule") not in ("audience", "claims"):
                raise
            refusals.append(exc)
    raise next((exc for exc in refusals if exc.data.get("rule") == "claims"), refusals[-1])


def _register(counter: Counter, key: SigningKey, token: str) -> Job:
    kept = counter.log.kept()
    body = messages.build_request(
        "oidc", jwt=token, key=canonical.b64(key.public), recipient=counter.recipient, ws=counter.log.genesis
    )
    with counter.connect(key) as server:
        try:
            answer = server.post(f"/v1/oidc/{counter.workspace}", body)
        except ZoppError as exc:
            raise _explained(counter, token, exc) from None
        fields = messages.parse_answer("oidc", answer.body)
        done = messages.done(fields)
        checked = receipts.check(done.receipt, counter.log.current)
        made = checked.entry
        if (made.action, made.outcome, made.request, made.id) != ("oidc", "allow", answer.sent, done.id):
            raise _other(server, "the receipt is not of this job's registration")
        said = (fields["principal"], fields["not_after"], canonical.b64(key.public), _fast.sha256(token.encode()).hex())
        if said != (made.actor, made.data["not_after"], made.data["key"], made.data["token"]):
            raise _other(server, "the receipt says another registration than the answer")
        if counter.service is not None and made.on_behalf != counter.service:
            raise _other(server, f"the job was registered for another service than {counter.service}")
        head = checked.checkpoint
        hashes = done.consistency
        if kept is not None and 0 < kept.size < head.size:
            # The request names no tree size: whoever sends it is a stranger until it is accepted.
            path = f"/v1/log/{counter.workspace}/proof/consistency?from={kept.size}&size={head.size}"
            hashes = messages.hashes_of(messages.parse_answer("proof", server.get(path).body)["hashes"])
        checkpoint.consistent(kept, head, hashes)
        counter.check(made, server)
        counter.log.advance(proof.parse(done.receipt.proof).note)
    return Job(fields["principal"], key, fields["not_after"], False)


def _other(server: Server, text: str) -> IntegrityError:
    return IntegrityError(text, code="receipt", place=server.origin)


# --- refusals


_HINTS: Mapping[str, str] = {
    "token": "GitLab: id_tokens: {ZOPP_ID_TOKEN: {aud: …}}; GitHub: permissions: {id-token: write}",
    "no_rule": "an admin has to run: zopp principal trust-ci {service} …; the rules there are: zopp principal ci-rules",
    "issuer": "whoever runs the server adds issuers with ZOPP_SERVER_OIDC_ISSUERS_FILE",
    "expired": "a token is made when the job starts: read secrets early in the job, or run the job again",
    "lifetime": "give the GitLab job `timeout: 15 minutes` or less; its token lives as long",
    "audience": "the job's token has to be made for the audience that `zopp principal ci-rules` shows",
    "unprotected_ref": "protect the branch or tag in GitLab",
    "replayed": "let all zopp commands of a job have one HOME, where the job's key is kept until it ends; after that, "
    "run the job again",
    "bad_signature": "is this machine's clock right? It may be off by a minute",
    "": "compare the job with: zopp principal ci-rules",
}


def _explained(counter: Counter, token: str, exc: ZoppError) -> ZoppError:
    """A refusal of the registration with what a reader of the job's log can do about it."""
    if exc.code == "replayed":
        exc.message = "the CI token was used before, and serves once"
        exc.hint = _HINTS["replayed"]
    elif exc.code == "bad_signature":
        exc.message = "the policy server does not take the job's registration"
        exc.hint = _HINTS["bad_signature"]
    elif isinstance(exc, Denied) and exc.code == "denied":
        rule = str(exc.data.get("rule", ""))
        service = counter.service or "SERVICE"
        exc.hint = _HINTS.get(rule, _HINTS[""]).replace("{service}", service)
        differs = _differs(counter.rules, token) if rule == "claims" else ""
        if differs:
            exc.message = f"{exc.message}: {differs}"
    return exc


def _differs(rules: tuple[OidcRule, ...], token: str) -> str:
    """How the token misses the rule that it comes nearest to, as far as this clone knows the rules. Claims that the
    rule names are shown, and nothing else of a token."""
    try:
        claims = _fast.json_parse((wire.base64_decode(_padded(token.split(".")[1])) or b"").decode())
    except (ValueError, RecursionError, IndexError):
        return ""
    if type(claims) is not dict:
        return ""
    near: tuple[int, str] | None = None
    for rule in rules:
        wrong = [
            f"{name} is {_shown(claims.get(name))} and rule {rule.name} says {value}"
            for name, value in rule.claims
            if claims.get(name) != value
        ]
        if wrong and rule.issuer == claims.get("iss") and (near is None or len(wrong) < near[0]):
            near = len(wrong), "; ".join(wrong)
    return "" if near is None else near[1]


def _padded(text: str) -> str:
    return text.replace("-", "+").replace("_", "/") + "=" * (-len(text) % 4)


def _shown(value: Any) -> str:
    if value is None:
        return "not there"
    return value if type(value) is str and 0 < len(value) <= 100 and value.isprintable() else "something else"


# --- GitHub's token service


def _is_token(text: str) -> bool:
    return 0 < len(text) <= MAX_TOKEN and text.count(".") == 2 and all("!" <= c <= "~" for c in text)


def _refused(why: str, hint: str = "") -> Unknown:
    return Unknown(
        f"no OIDC token could be had for this job: {why}",
        code="ci.token",
        hint=hint or "run the job again; what a job needs: permissions: {id-token: write}",
    )


def _ask_github(url: str, bearer: str, audience: str) -> str:
    """A token for `audience`. Unknown (`ci.token`) for everything else; nothing of what was sent or came is quoted. No
    redirect is followed, since the bearer token would go along."""
    if not all("!" <= c <= "~" for c in url + bearer) or len(bearer) > MAX_TOKEN:
        raise _refused("ACTIONS_ID_TOKEN_REQUEST_URL or …_TOKEN is not of GitHub's form")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        host, port = "", None
    local = host in ("127.0.0.1", "::1", "localhost")
    if not host or "@" in parts.netloc or not (parts.scheme == "https" or (parts.scheme == "http" and local)):
        raise _refused("ACTIONS_ID_TOKEN_REQUEST_URL is no https address")
    target = (parts.path or "/") + "?" + (parts.query + "&" if parts.query else "") + "audience=" + quote(audience, "")
    why = ""
    for pause in (*PAUSES, None):
        why, status, body = _once(parts.scheme, host, port, target, bearer)
        if not why and status == 200:
            return _value(body)
        if not why:
            why = f"GitHub's token service answered with status {status}"
            if 300 <= status < 400:
                raise _refused(why + ", a redirect, which is not followed")
            if status != 429 and status < 500:
                raise _refused(why)
        if pause is not None:
            time.sleep(pause)
    raise _refused(why)


def _once(scheme: str, host: str, port: int | None, target: str, bearer: str) -> tuple[str, int, bytes]:
    """(why there was no answer or '', status, at most MAX_ANSWER + 1 bytes of the body)."""
    connection: http.client.HTTPConnection
    if scheme == "https":
        connection = http.client.HTTPSConnection(host, port, timeout=10.0, context=Tls().context())
    else:
        connection = http.client.HTTPConnection(host, port, timeout=10.0)
    timer: threading.Timer | None = None
    try:
        connection.connect()
        line = connection.sock
        assert line is not None

        def cut() -> None:
            with suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)

        timer = threading.Timer(DEADLINE, cut)
        timer.daemon = True
        timer.start()
        connection.request("GET", target, headers={"Authorization": f"Bearer {bearer}", "Accept": "application/json"})
        answer = connection.getresponse()
        body = answer.read(MAX_ANSWER + 1)
        if answer.length and len(body) <= MAX_ANSWER:
            return "GitHub's token service did not finish its answer", 0, b""
        return "", answer.status, body
    except (OSError, http.client.HTTPException, ValueError) as exc:
        # The text of some of these holds the address that was asked.
        return f"GitHub's token service does not answer ({type(exc).__name__})", 0, b""
    finally:
        if timer is not None:
            timer.cancel()
        connection.close()


def _value(body: bytes) -> str:
    token = None
    if len(body) <= MAX_ANSWER:
        try:
            answer = _fast.json_parse(body.decode())
        except (ValueError, RecursionError):
            answer = None
        token = answer.get("value") if type(answer) is dict else None
    if type(token) is not str or not _is_token(token):
        raise _refused("GitHub's token service answered with something else than a token")
    return token


__all__ = ["Counter", "Job", "job"]
