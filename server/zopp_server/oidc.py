"""CI tokens: is this JWT genuine, fresh and meant for this key here, and which trust rule does it match?

Pure: policy-server.md §3.3 without network, clock or database. In order: `peek` reads who claims to have issued a
token; the caller gets that issuer's keys (`jwks`); `validate` checks the signature, the times, the audience and the
rules. Everything a token may not be is a `Refused` with a stable reason; nothing of a token stands in its text.

Left to the caller: proof that the job holds its key (the request's own signature), inserting `Verified.replay` in the
transaction that registers the job, the log entry, and `policy.decisions.oidc_role` at every release (A25).
`sub` is logged and never parsed: it has two formats and organisations rewrite it.
"""

from __future__ import annotations

import warnings
from binascii import a2b_base64, b2a_base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, RSAKey

from zopp import _fast
from zopp.errors import Denied, FormatError, UsageError
from zopp.policy import canonical, fields as f
from zopp.policy.decisions import oidc_matches
from zopp.policy.roles import OidcRule
from zopp.policy.state import State
from zopp.protocol import oidc as binding

MAX_TOKEN = 16384
"""Characters, as `protocol.messages` allows; GitHub's and GitLab's tokens have about 1,500."""

MAX_LIFETIME = 900
"""Seconds from `iat` to `exp`. GitLab's tokens live as long as the job may: its job needs a `timeout` of 15 minutes."""

MAX_TTL = 900
SKEW = 60
"""Seconds that an issuer's clock may be ahead of ours (`iat`, `nbf`); `exp` gets none."""

MAX_JWKS = 49152
"""Bytes of a JWKS document: what a `jwks` entry of the log can hold."""

MAX_KEYS = 64
ALGORITHMS = ("RS256", "ES256")
KINDS = ("github", "gitlab")

_HEADER = frozenset({"alg", "kid", "typ", "x5t"})
_FORBIDDEN = ("crit", "jku", "jwk", "x5u", "x5c")
_BUCKETS, _BUCKET_SECONDS = 8, 300

# What a rule has to name, ids because names recycle; and the claims worth a place in the log, no person's name or
# address among them.
_NAMED = {
    "github": ("repository_id", "repository_owner_id", "ref"),
    "gitlab": ("project_id", "namespace_id", "ref"),
}
_LOGGED = {
    "github": (
        "actor_id", "aud", "environment", "event_name", "job_workflow_ref", "ref", "ref_type", "repository",
        "repository_id", "repository_owner", "repository_owner_id", "run_attempt", "run_id", "runner_environment",
        "sha", "sub", "workflow_ref",
    ),
    "gitlab": (
        "aud", "ci_config_ref_uri", "environment", "environment_protected", "job_id", "job_project_id",
        "job_project_path", "namespace_id", "namespace_path", "pipeline_id", "pipeline_source", "project_id",
        "project_path", "ref", "ref_protected", "ref_type", "runner_environment", "sha", "sub", "user_id",
    ),
}  # fmt: skip

REASONS: Mapping[str, str] = {
    "token_form": "it is no compact JWT of canonical base64url and JSON without a key twice",
    "header": "its header holds something other than alg, kid, typ and x5t, or a value of a wrong type",
    "forbidden_header": "its header names a key or an extension of its own (crit, jku, jwk, x5c, x5u)",
    "typ": "its header's typ is not JWT",
    "issuer": "its issuer is not one that this server was told to trust",
    "algorithm": "its algorithm is not the one that this server was told for its issuer",
    "kid": "its issuer publishes no key of its kid",
    "signature": "its signature does not hold",
    "claim_missing": "a claim that every token must have is missing",
    "claim_type": "a claim is not of its type",
    "expired": "it is expired",
    "not_yet": "it is not valid yet",
    "lifetime": "it lives longer than 15 minutes",
    "no_rule": "no rule of this workspace is for its issuer and this recipient",
    "rule_incomplete": "the rule does not name the ids that its issuer's tokens are told apart by",
    "audience": "its audience is not exactly the one that the rule and this job's key ask for",
    "claims": "a claim is not what the rule says",
    "event": "its event may be started by outsiders and the rule does not name it",
    "fork": "it ran in another project than the one it speaks for",
    "unprotected_ref": "its ref is not protected",
    "ref_type": "its ref is no branch and the rule does not name ref_type",
}
"""Every reason there is, as a sentence about the token. The further down, the more of the token was right."""

_ORDER = {reason: number for number, reason in enumerate(REASONS)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Issuer:
    """An issuer that an admin of the server listed. `origin` is its exact `iss`, which may have a path (GitHub
    Enterprise Server); `algorithm` the only one accepted; its keys come from `jwks_url` (https; http on loopback) or,
    where that is empty, from the file `jwks_file`."""

    origin: str
    kind: str
    algorithm: str = "RS256"
    jwks_url: str = ""
    jwks_file: str = ""

    def __post_init__(self) -> None:
        problems: list[f.Problem] = []
        f.ISSUER.check(self.origin, "issuer", problems)
        if problems or self.kind not in KINDS or self.algorithm not in ALGORITHMS:
            raise UsageError(
                "an OIDC issuer needs an address (https, no slash at its end), a kind and an algorithm that zopp knows",
                code="issuer",
            )
        if bool(self.jwks_url) == bool(self.jwks_file):
            raise UsageError("an OIDC issuer has either a JWKS URL or a JWKS file", code="issuer")
        if self.jwks_url:
            origin, slash, path = self.jwks_url.partition("//")[2].partition("/")
            scheme = self.jwks_url.partition("//")[0] + "//"
            f.ORIGIN.check(scheme + origin, "jwks_url", problems)
            if problems or not slash or not all("!" <= c <= "~" and c not in '"#<>\\' for c in path):
                raise UsageError("a JWKS URL is https://HOST[:PORT]/PATH; http only for localhost", code="issuer")


GITHUB = Issuer(
    origin="https://token.actions.githubusercontent.com",
    kind="github",
    jwks_url="https://token.actions.githubusercontent.com/.well-known/jwks",
)
GITLAB = Issuer(origin="https://gitlab.com", kind="gitlab", jwks_url="https://gitlab.com/oauth/discovery/keys")
KNOWN: Mapping[str, Issuer] = {issuer.origin: issuer for issuer in (GITHUB, GITLAB)}
"""What a server trusts that was told nothing else."""


_SETTINGS = {
    "issuer": "origin",
    "kind": "kind",
    "algorithm": "algorithm",
    "jwks_url": "jwks_url",
    "jwks_file": "jwks_file",
}


def parse_issuers(text: str) -> dict[str, Issuer]:
    """The issuers of a settings file: a JSON list of objects {issuer, kind, algorithm?, jwks_url | jwks_file}, by
    origin. It replaces KNOWN. UsageError for anything else, also for an issuer named twice."""
    try:
        value = _fast.json_parse(text.strip(" \t\r\n"))
    except ValueError:
        value = None
    if type(value) is not list:
        raise UsageError("the OIDC issuers are not a JSON list", code="issuer")
    found: dict[str, Issuer] = {}
    for number, each in enumerate(value):
        place = f"issuers[{number}]"
        if type(each) is not dict or each.keys() - _SETTINGS.keys() or not {"issuer", "kind"} <= each.keys():
            raise UsageError("not an object of issuer, kind, algorithm, jwks_url or jwks_file", place=place)
        if not all(type(setting) is str for setting in each.values()):
            raise UsageError("not all settings are texts", place=place)
        issuer = Issuer(**{_SETTINGS[name]: setting for name, setting in each.items()})
        if issuer.origin in found:
            raise UsageError("an issuer stands twice", place=place)
        found[issuer.origin] = issuer
    return found


@dataclass(frozen=True, slots=True)
class Keys:
    """An issuer and its public keys, by kid."""

    issuer: Issuer
    keys: Mapping[str, RSAKey | ECKey]


@dataclass(frozen=True, slots=True)
class Unverified:
    """Who a token says issued it, and with which key. Nothing is checked but its form."""

    issuer: str
    kid: str


@dataclass(frozen=True, slots=True)
class Replay:
    """The row of `rt.replay` that makes a token serve once; its bucket follows from the signed `iat`."""

    bucket: int
    keyid: str
    nonce: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A genuine token, whatever the rules say: what an entry of the log holds of it. `claims` are selected and safe
    for `tlog.entry`; `iat` and `exp` are Unix seconds; `token_sha256` 32 bytes."""

    issuer: str
    kid: str
    claims: Mapping[str, str]
    jti: str
    iat: int
    exp: int
    token_sha256: bytes

    @property
    def replay(self) -> Replay:
        """What makes it serve once."""
        digest = _fast.sha256(canonical.encode([self.issuer, self.jti]))
        return Replay(self.iat // _BUCKET_SECONDS % _BUCKETS, self.issuer, digest[:16])


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """A genuine token that matches `rule`. The job is good until `not_after` (Unix seconds)."""

    rule: OidcRule
    seen: Seen
    not_after: int

    @property
    def claims(self) -> Mapping[str, str]:
        """The claims to log."""
        return self.seen.claims

    @property
    def issuer(self) -> str:
        """The exact `iss`."""
        return self.seen.issuer

    @property
    def kid(self) -> str:
        """The key that signed it."""
        return self.seen.kid

    @property
    def jti(self) -> str:
        """The token's own id."""
        return self.seen.jti

    @property
    def token_sha256(self) -> bytes:
        """SHA-256 of the token, which is never kept."""
        return self.seen.token_sha256

    @property
    def replay(self) -> Replay:
        """What the registering transaction inserts; a conflict is 401 `replayed`."""
        return self.seen.replay


class Refused(Denied):
    """A token is refused. `reason` is a key of REASONS and fits the log's `reason`; `seen` is what to log of a genuine
    token, None for one that nobody vouches for (those are counted, not logged); `rule` the rule that came closest."""

    def __init__(self, reason: str, *, seen: Seen | None = None, rule: str | None = None) -> None:
        super().__init__(f"the CI token is refused: {REASONS[reason]}", code="denied", reason=reason)
        self.reason = reason
        self.seen = seen
        self.rule = rule


# --- the token's form


def _segment(text: str) -> bytes:
    """The bytes of a base64url segment in its one spelling; ValueError otherwise."""
    raw = text.encode("ascii")
    data = a2b_base64(raw.replace(b"-", b"+").replace(b"_", b"/") + b"=" * (-len(raw) % 4))
    if b2a_base64(data, newline=False).rstrip(b"=").replace(b"+", b"-").replace(b"/", b"_") != raw:
        raise ValueError("not canonical")
    return data


def _object(text: str) -> dict[str, Any]:
    try:
        value = _fast.json_parse(_segment(text).decode())
    except (ValueError, RecursionError):
        raise Refused("token_form") from None
    if type(value) is not dict:
        raise Refused("token_form")
    return value


def _read(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Header and claims; nothing is verified."""
    parts = token.split(".") if len(token) <= MAX_TOKEN and token.isascii() else []
    if len(parts) != 3 or not all(parts):
        raise Refused("token_form")
    header, claims = _object(parts[0]), _object(parts[1])
    try:
        _segment(parts[2])
    except ValueError:
        raise Refused("token_form") from None
    if any(name in header for name in _FORBIDDEN):
        raise Refused("forbidden_header")
    if header.keys() - _HEADER or not all(type(value) is str for value in header.values()):
        raise Refused("header")
    kid = header.get("kid", "")
    if not 0 < len(kid) <= 256 or not all(" " <= c <= "~" for c in kid) or "alg" not in header:
        raise Refused("header")
    if header.get("typ") != "JWT":
        raise Refused("typ")
    return header, claims


def peek(token: str) -> Unverified:
    """Who a token says it is from, so that the caller can get that issuer's keys. Refused for what is no token of the
    accepted form; nothing that it says is to be believed."""
    header, claims = _read(token)
    issuer = claims.get("iss")
    if type(issuer) is not str:
        raise Refused("claim_type" if "iss" in claims else "claim_missing")
    return Unverified(issuer, header["kid"])


# --- keys


def parse_jwks(document: bytes, algorithm: str) -> dict[str, RSAKey | ECKey]:
    """The signing keys of a JWKS document (RFC 7517) that can make `algorithm`, by kid; others are passed over: keys of
    another type, use or algorithm, without kid, RSA under 2,048 or over 8,192 bits, any with a private part.

    FormatError (`jwks`) for a document that is too long, no JWKS, holds one kid twice, or no such key at all: an
    answer without a usable key must not replace keys that work."""
    try:
        if len(document) > MAX_JWKS:
            raise ValueError("too long")
        value = _fast.json_parse(document.decode().strip(" \t\r\n"))
    except (ValueError, RecursionError):
        raise FormatError("not a JWKS document", code="jwks") from None
    listed = value.get("keys") if type(value) is dict else None
    if type(listed) is not list or len(listed) > MAX_KEYS or not all(type(each) is dict for each in listed):
        raise FormatError("not a JWKS document", code="jwks")
    found: dict[str, RSAKey | ECKey] = {}
    for each in listed:
        kid = each.get("kid")
        if type(kid) is not str or not 0 < len(kid) <= 256 or not _signs(each, algorithm):
            continue
        key = _key(each, algorithm)
        if key is None:
            continue
        if kid in found:
            raise FormatError("a JWKS document holds one kid twice", code="jwks")
        found[kid] = key
    if not found:
        raise FormatError("a JWKS document without a usable key", code="jwks")
    return found


def _signs(jwk: Mapping[str, Any], algorithm: str) -> bool:
    if jwk.get("use", "sig") != "sig" or jwk.get("alg", algorithm) != algorithm or "d" in jwk or "k" in jwk:
        return False
    operations = jwk.get("key_ops", ["verify"])
    return type(operations) is list and "verify" in operations


def _key(jwk: Mapping[str, Any], algorithm: str) -> RSAKey | ECKey | None:
    """Only the numbers are handed on, so that nothing else in a JWK can steer the library."""
    wanted = ("kty", "n", "e") if algorithm == "RS256" else ("kty", "crv", "x", "y")
    numbers = {name: jwk.get(name) for name in wanted}
    if not all(type(text) is str and len(text) <= 2048 and text.isascii() for text in numbers.values()):
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a short key warns before it is refused here
            if algorithm == "RS256":
                if numbers["kty"] != "RSA":
                    return None
                rsa = RSAKey.import_key(numbers)  # type: ignore[arg-type]
                size, exponent = rsa.public_key.key_size, rsa.public_key.public_numbers().e
                return rsa if 2048 <= size <= 8192 and 65537 <= exponent < 1 << 32 else None
            if (numbers["kty"], numbers["crv"]) != ("EC", "P-256"):
                return None
            return ECKey.import_key(numbers)  # type: ignore[arg-type]
    except (ValueError, TypeError, JoseError):
        return None


# --- genuine and fresh


def authenticate(token: str, keys: Keys, now: int) -> tuple[Seen, dict[str, Any]]:
    """A genuine, fresh token and all its claims. `keys` are those of the issuer that `peek` named, `now` Unix seconds.
    Refused otherwise; `seen` is set only where the signature held."""
    header, claims = _read(token)
    issuer = keys.issuer
    if claims.get("iss") != issuer.origin:
        raise Refused("issuer")
    if header["alg"] != issuer.algorithm:
        raise Refused("algorithm")
    key = keys.keys.get(header["kid"])
    if key is None:
        raise Refused("kid")
    registry = jws.JWSRegistry(algorithms=[issuer.algorithm])
    registry.max_header_length = registry.max_payload_length = registry.max_signature_length = MAX_TOKEN
    try:
        signed = jws.deserialize_compact(token, key, registry=registry)
    except (JoseError, ValueError, TypeError):
        raise Refused("signature") from None
    if signed.payload != _segment(token.split(".")[1]):
        raise Refused("signature")
    return _fresh(token, header["kid"], issuer, claims, now), claims


def _fresh(token: str, kid: str, issuer: Issuer, claims: dict[str, Any], now: int) -> Seen:
    times = [claims.get(name) for name in ("iat", "exp")]
    iat, exp = (time if type(time) is int and 0 <= time <= canonical.MAX_INT else 0 for time in times)
    jti = claims.get("jti")
    seen = Seen(
        issuer=issuer.origin,
        kid=kid,
        claims=_selected(claims, _LOGGED[issuer.kind]),
        jti=jti if type(jti) is str else "",
        iat=iat,
        exp=exp,
        token_sha256=_fast.sha256(token.encode()),
    )
    for name in ("aud", "exp", "iat", "jti", "nbf"):
        if name not in claims:
            raise Refused("claim_missing", seen=seen)
    nbf = claims["nbf"]
    for time in (*times, nbf):
        if type(time) is not int or not 0 <= time <= canonical.MAX_INT:
            raise Refused("claim_type", seen=seen)
    if type(jti) is not str or not 0 < len(jti) <= 256 or not all("!" <= c <= "~" for c in jti):
        raise Refused("claim_type", seen=seen)
    if type(claims["aud"]) is not str:  # a list of one is a list: whoever else is in it could use the token
        raise Refused("claim_type", seen=seen)
    if exp <= now:
        raise Refused("expired", seen=seen)
    if nbf > now + SKEW or iat > now + SKEW:
        raise Refused("not_yet", seen=seen)
    if not 0 < exp - iat <= MAX_LIFETIME:
        raise Refused("lifetime", seen=seen)
    return seen


def _selected(claims: Mapping[str, Any], names: Iterable[str]) -> dict[str, str]:
    """The claims to log. What the log's form would refuse is left out, so that a token cannot stop its own record."""
    found: dict[str, str] = {}
    for name in names:
        value = claims.get(name)
        if type(value) is str and len(value) <= 1024 and not any("\ud800" <= c <= "\udfff" for c in value):
            found[name] = value
    return found


# --- the rules


def rules_for(state: State, recipient: str) -> list[OidcRule]:
    """The rules of enabled services whose recipient this is, by name: answers are sealed to it, so a job may act for no
    other service."""
    return [
        rule
        for _, rule in sorted(state.oidc_rules.items())
        if (service := state.principals.get(rule.service)) is not None
        and service.enabled
        and service.recipient == recipient
    ]


def validate(
    token: str,
    rules: Iterable[OidcRule],
    keys: Keys,
    now: int,
    public_origin: str,
    job_key: bytes,
    recipient: str,
) -> Verified:
    """The rule that a token matches, of those that `rules_for` gave for `recipient`; none for a workspace that does not
    exist, so that a stranger gets the same answer (S43).

    `keys` are those of the issuer that `peek` named, `now` Unix seconds, `job_key` the raw Ed25519 key that signed the
    registration. Of several rules that match, the one naming the most claims counts, then the first by name. Refused
    with the reason of the rule that came closest. FormatError for a weak `job_key` or a bad recipient.
    """
    tie = binding.binding(job_key, recipient)
    seen, claims = authenticate(token, keys, now)
    kind = keys.issuer.kind
    closest, name = "no_rule", None
    for rule in sorted(rules, key=lambda each: (-len(each.claims), each.name)):
        if rule.issuer != seen.issuer:
            continue
        reason = _judge(rule, kind, claims, public_origin, tie)
        if reason is None:
            matched = _selected(claims, [claim for claim, _ in rule.claims])
            seen = replace(seen, claims={**seen.claims, **matched})
            return Verified(rule=rule, seen=seen, not_after=min(seen.exp, now + min(rule.max_ttl, MAX_TTL)))
        if _ORDER[reason] > _ORDER[closest]:
            closest, name = reason, rule.name
    raise Refused(closest, seen=seen, rule=name)


def _judge(rule: OidcRule, kind: str, claims: Mapping[str, Any], origin: str, tie: str) -> str | None:
    """Why a genuine token does not match `rule`; None if it does."""
    named = {name for name, _ in rule.claims}
    if not named.issuperset(_NAMED[kind]):
        return "rule_incomplete"
    base = rule.audience or origin
    if claims["aud"] != (f"{base}#{tie}" if kind == "github" else base):
        return "audience"
    if not oidc_matches(rule, rule.issuer, claims):
        return "claims"
    return _github(named, claims) if kind == "github" else _gitlab(named, claims)


def _github(named: set[str], claims: Mapping[str, Any]) -> str | None:
    event = claims.get("event_name")
    if type(event) is not str or not event:
        return "event"
    outsiders = event.startswith("pull_request") or event in ("issue_comment", "workflow_run")
    return "event" if outsiders and "event_name" not in named else None


def _gitlab(named: set[str], claims: Mapping[str, Any]) -> str | None:
    source = claims.get("pipeline_source")
    if type(source) is not str or not source or source in ("merge_request_event", "external_pull_request_event"):
        return "event"
    # In pipelines of a fork's merge request the project_* claims name the fork, job_project_* where it really ran.
    if "job_project_id" in claims and claims["job_project_id"] != claims["project_id"]:
        return "fork"
    if claims.get("ref_protected") != "true":  # a string, as all of GitLab's claims
        return "unprotected_ref"
    # GitLab's ref has no refs/heads/: a tag `main` looks like the branch
    if claims.get("ref_type") != "branch" and "ref_type" not in named:
        return "ref_type"
    return None
