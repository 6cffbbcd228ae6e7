"""CI tokens: what is refused and why, one row a line (policy-server.md §3.3, S41, A25).

The tokens are made by hand with real RSA and EC keys, so that the library that validates is not the one that made
them. Far more rows must be refused than accepted."""

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding
from hypothesis import given, strategies as st

from tests.server.issuer import (
    GITHUB_RULE,
    GITLAB_RULE,
    HEADER,
    ISSUERS,
    JOB,
    NOW,
    ORIGIN,
    RECIPIENT,
    changed,
    document,
    ec_key,
    encoded,
    github,
    gitlab,
    jwk,
    rsa_key,
    signature,
    token,
)
from tests.unit.policy.world import PROD, acme, key, recipient, ssh_recipient
from zopp.errors import FormatError, UsageError
from zopp.policy import canonical
from zopp.policy.decisions import oidc_role
from zopp.policy.roles import OidcRule, Role
from zopp.protocol.oidc import audience, binding
from zopp.tlog import entry
from zopp_server import oidc
from zopp_server.oidc import Issuer, Keys, Refused, Seen, Verified, parse_jwks

CANARY = "canary7secret"
TIE = binding(JOB, RECIPIENT)


def keys(kind: str) -> Keys:
    issuer = ISSUERS[kind]
    private = ec_key() if issuer.algorithm == "ES256" else rsa_key()
    return Keys(issuer, parse_jwks(document(jwk(private, "k1")), issuer.algorithm))


def rule(kind: str = "github", **changes: Any) -> OidcRule:
    claims = changes.pop("claims", GITLAB_RULE if kind == "gitlab" else GITHUB_RULE)
    values = {
        "name": "deploy",
        "service": "ci",
        "issuer": ISSUERS[kind].origin,
        "audience": ORIGIN,
        "max_ttl": 900,
        "since": 5,
        **changes,
    }
    return OidcRule(claims=tuple(sorted(claims.items())), **values)


def judged(made: str, *rules: OidcRule, kind: str = "github", now: int = NOW, **more: Any) -> Verified:
    # as the server calls: keys only of the issuer that the token names, and only a listed one's
    oidc.peek(made)
    values = {"public_origin": ORIGIN, "job_key": JOB, "recipient": RECIPIENT, **more}
    return oidc.validate(made, rules or (rule(kind),), keys(kind), now, **values)


def refused(made: str, *rules: OidcRule, **more: Any) -> Refused:
    with pytest.raises(Refused) as caught:
        judged(made, *rules, **more)
    assert caught.value.code == "denied" and caught.value.data["reason"] == caught.value.reason
    return caught.value


def made(kind: str = "github", header: dict[str, Any] | None = None, /, **claims: Any) -> str:
    base = gitlab(**claims) if kind == "gitlab" else github(**claims)
    if kind == "es":
        base = {**base, "iss": claims.get("iss", "https://es.test")}
        return token(changed({**HEADER, "alg": "ES256"}, header or {}), base, algorithm="ES256")
    return token(changed(HEADER, header or {}), base)


# --- positive


GOOD: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    # name: (kind, claims, rule)
    "github push to main": ("github", {}, {}),
    "github ES256": ("es", {"iss": "https://es.test"}, {}),
    "github sub with names": ("github", {"sub": "repo:acme/api:ref:refs/heads/main"}, {}),
    "github sub with ids": ("github", {"sub": "repo:acme@70/api@7:ref:refs/heads/main"}, {}),
    "github sub that an organisation rewrote": ("github", {"sub": "repository_id:7:context:x%3Ay"}, {}),
    "github without sub": ("github", {"sub": ...}, {}),
    "github sub of another type": ("github", {"sub": ["repo:acme/api"]}, {}),
    "github repository renamed": ("github", {"repository": "acme/new-name", "sub": "repo:acme@70/new-name@7:x"}, {}),
    "github owner renamed": ("github", {"repository_owner": "acme-inc", "repository": "acme-inc/api"}, {}),
    "github manual run": ("github", {"event_name": "workflow_dispatch"}, {}),
    "github schedule": ("github", {"event_name": "schedule"}, {}),
    "github release": ("github", {"event_name": "release"}, {}),
    "github tag named by the rule": (
        "github",
        {"ref": "refs/tags/v1", "ref_type": "tag"},
        {"claims": {**GITHUB_RULE, "ref": "refs/tags/v1"}},
    ),
    "github pull_request named by the rule": (
        "github",
        {"event_name": "pull_request", "ref": "refs/pull/1/merge"},
        {"claims": {**GITHUB_RULE, "event_name": "pull_request", "ref": "refs/pull/1/merge"}},
    ),
    "github workflow_run named by the rule": (
        "github",
        {"event_name": "workflow_run"},
        {"claims": {**GITHUB_RULE, "event_name": "workflow_run"}},
    ),
    "github environment": (
        "github",
        {"environment": "production"},
        {"claims": {**GITHUB_RULE, "environment": "production"}},
    ),
    "github job_workflow_ref with ids": (
        "github",
        {},
        {"claims": {**GITHUB_RULE, "job_workflow_ref": "acme/api/.github/workflows/deploy.yml@refs/heads/main"}},
    ),
    "github audience of the rule": (
        "github",
        {"aud": f"acme-secrets#{TIE}"},
        {"audience": "acme-secrets"},
    ),
    "github rule without audience: the origin": ("github", {}, {"audience": ""}),
    "github x5t in the header": ("github", {}, {}),
    "github exactly 15 minutes": ("github", {"exp": NOW + 900}, {}),
    "github expires in a second": ("github", {"iat": NOW - 299, "exp": NOW + 1}, {}),
    "issuer's clock a minute ahead": ("github", {"iat": NOW + 60, "nbf": NOW + 60, "exp": NOW + 360}, {}),
    "github extra claims of any type": ("github", {"enterprise_id": 5, "x": {"y": [1.5, None]}}, {}),
    "github claims not ASCII": ("github", {"environment": "produção", "workflow": "部署"}, {}),
    "gitlab push to protected main": ("gitlab", {}, {}),
    "gitlab job_project_id equal": ("gitlab", {"job_project_id": "7"}, {}),
    "gitlab project renamed": ("gitlab", {"project_path": "acme/new", "sub": "project_path:acme/new:x"}, {}),
    "gitlab web": ("gitlab", {"pipeline_source": "web"}, {}),
    "gitlab schedule": ("gitlab", {"pipeline_source": "schedule"}, {}),
    "gitlab environment": (
        "gitlab",
        {"environment": "production", "environment_protected": "true"},
        {"claims": {**GITLAB_RULE, "environment": "production"}},
    ),
    "gitlab ci_config_ref_uri": (
        "gitlab",
        {},
        {"claims": {**GITLAB_RULE, "ci_config_ref_uri": "gitlab.test/acme/api//.gitlab-ci.yml@refs/heads/main"}},
    ),
    "gitlab protected tag named by the rule": (
        "gitlab",
        {"ref": "v1", "ref_type": "tag"},
        {"claims": {**GITLAB_RULE, "ref": "v1", "ref_type": "tag"}},
    ),
    "gitlab audience of the rule": ("gitlab", {"aud": "acme-secrets"}, {"audience": "acme-secrets"}),
}


@pytest.mark.parametrize("name", GOOD)
def test_accepted(name: str) -> None:
    kind, claims, changes = GOOD[name]
    header = {"x5t": "abc"} if "x5t" in name else {}
    found = judged(made(kind, header, **claims), rule(kind, **changes), kind=kind)
    assert found.rule.name == "deploy" and found.kid == "k1" and found.issuer == ISSUERS[kind].origin
    assert NOW < found.not_after <= NOW + 900
    assert "user_email" not in found.claims and "user_login" not in found.claims and "actor" not in found.claims


# --- the form of the token and its header


def _alg_none() -> str:
    return f"{encoded({**HEADER, 'alg': 'none'})}.{encoded(github())}."


def _alg_none_signed() -> str:
    return token({**HEADER, "alg": "none"}, github())


def _hmac(secret: bytes, alg: str = "HS256") -> str:
    head = f"{encoded({**HEADER, 'alg': alg})}.{encoded(github())}"
    return f"{head}.{canonical.b64(hmac.new(secret, head.encode(), hashlib.sha256).digest())}"


def _pem() -> bytes:
    public = rsa_key().public_key()
    return public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def _pss() -> str:
    head = f"{encoded({**HEADER, 'alg': 'PS256'})}.{encoded(github())}"
    made = rsa_key().sign(head.encode(), padding.PSS(padding.MGF1(hashes.SHA256()), 32), hashes.SHA256())
    return f"{head}.{canonical.b64(made)}"


def _pss_as_rs256() -> str:
    head = f"{encoded(HEADER)}.{encoded(github())}"
    made = rsa_key().sign(head.encode(), padding.PSS(padding.MGF1(hashes.SHA256()), 32), hashes.SHA256())
    return f"{head}.{canonical.b64(made)}"


def _der_es256() -> str:
    head = f"{encoded({**HEADER, 'alg': 'ES256'})}.{encoded(github(iss='https://es.test'))}"
    return f"{head}.{canonical.b64(ec_key().sign(head.encode(), ec.ECDSA(hashes.SHA256())))}"


def _payload_swapped() -> str:
    head, _, sig = made().split(".")
    return f"{head}.{encoded(github(repository_id='8'))}.{sig}"


def _flip(part: int, at: int) -> str:
    parts = made().split(".")
    raw = bytearray(base64.urlsafe_b64decode(parts[part] + "=" * (-len(parts[part]) % 4)))
    raw[at] ^= 1
    parts[part] = canonical.b64(bytes(raw))
    return ".".join(parts)


def _resized(by: int) -> str:
    """The signature one byte longer or shorter."""
    head, _, text = made().rpartition(".")
    raw = canonical.unb64(text, 256)
    return f"{head}.{canonical.b64(raw + bytes(by) if by > 0 else raw[:by])}"


def _raw(header: bytes = b"", claims: bytes = b"") -> str:
    return token(header or HEADER, claims or github())


def _text(changes: str) -> bytes:
    """The claims as JSON text with `changes` before the first of them."""
    return ("{" + changes + json.dumps(github())[1:]).encode()


FORM: dict[str, tuple[Callable[[], str], str]] = {
    "alg none, no signature": (_alg_none, "token_form"),
    "alg none, signed": (_alg_none_signed, "algorithm"),
    "alg None": (lambda: made("github", {"alg": "None"}), "algorithm"),
    "alg empty": (lambda: made("github", {"alg": ""}), "algorithm"),
    "alg missing": (lambda: made("github", {"alg": ...}), "header"),
    "alg a list": (lambda: made("github", {"alg": ["RS256"]}), "header"),
    "alg null": (lambda: made("github", {"alg": None}), "header"),
    "alg lower case": (lambda: made("github", {"alg": "rs256"}), "algorithm"),
    "alg RS384": (lambda: made("github", {"alg": "RS384"}), "algorithm"),
    "alg RS512": (lambda: made("github", {"alg": "RS512"}), "algorithm"),
    "alg EdDSA": (lambda: made("github", {"alg": "EdDSA"}), "algorithm"),
    "alg ES256 where RS256 is pinned": (lambda: made("github", {"alg": "ES256"}), "algorithm"),
    "alg dir": (lambda: made("github", {"alg": "dir"}), "algorithm"),
    "HS256 with the RSA key's PEM as secret": (lambda: _hmac(_pem()), "algorithm"),
    "HS256 with the RSA modulus as secret": (lambda: _hmac(jwk(rsa_key(), "k1")["n"].encode()), "algorithm"),
    "HS256 with an empty secret": (lambda: _hmac(b""), "algorithm"),
    "HS256's MAC under the name RS256": (lambda: _hmac(_pem(), "RS256"), "signature"),
    "PS256": (_pss, "algorithm"),
    "a PSS signature under the name RS256": (_pss_as_rs256, "signature"),
    "crit": (lambda: made("github", {"crit": ["exp"]}), "forbidden_header"),
    "crit empty": (lambda: made("github", {"crit": []}), "forbidden_header"),
    "crit b64": (lambda: made("github", {"crit": ["b64"], "b64": False}), "forbidden_header"),
    "b64 false": (lambda: made("github", {"b64": False}), "header"),
    "jwk": (lambda: made("github", {"jwk": jwk(rsa_key("evil"), "k1")}), "forbidden_header"),
    "jwk, signed by it": (
        lambda: token({**HEADER, "jwk": jwk(rsa_key("evil"), "k1")}, github(), rsa_key("evil")),
        "forbidden_header",
    ),
    "jwk null": (lambda: made("github", {"jwk": None}), "forbidden_header"),
    "jku": (lambda: made("github", {"jku": "https://evil.test/jwks"}), "forbidden_header"),
    "jku empty": (lambda: made("github", {"jku": ""}), "forbidden_header"),
    "x5u": (lambda: made("github", {"x5u": "https://evil.test/cert"}), "forbidden_header"),
    "x5c": (lambda: made("github", {"x5c": ["AAAA"]}), "forbidden_header"),
    "zip": (lambda: made("github", {"zip": "DEF"}), "header"),
    "enc": (lambda: made("github", {"enc": "A256GCM"}), "header"),
    "cty": (lambda: made("github", {"cty": "JWT"}), "header"),
    "an unknown header member": (lambda: made("github", {"foo": "bar"}), "header"),
    "JKU in upper case": (lambda: made("github", {"JKU": "https://evil.test"}), "header"),
    "iss in the header": (lambda: made("github", {"iss": "https://github.test"}), "header"),
    "x5t not a text": (lambda: made("github", {"x5t": 5}), "header"),
    "typ missing": (lambda: made("github", {"typ": ...}), "typ"),
    "typ at+jwt": (lambda: made("github", {"typ": "at+jwt"}), "typ"),
    "typ lower case": (lambda: made("github", {"typ": "jwt"}), "typ"),
    "typ application/jwt": (lambda: made("github", {"typ": "application/jwt"}), "typ"),
    "typ logout+jwt": (lambda: made("github", {"typ": "logout+jwt"}), "typ"),
    "typ empty": (lambda: made("github", {"typ": ""}), "typ"),
    "typ a list": (lambda: made("github", {"typ": ["JWT"]}), "header"),
    "kid missing": (lambda: made("github", {"kid": ...}), "header"),
    "kid empty": (lambda: made("github", {"kid": ""}), "header"),
    "kid a number": (lambda: made("github", {"kid": 1}), "header"),
    "kid null": (lambda: made("github", {"kid": None}), "header"),
    "kid too long": (lambda: made("github", {"kid": "k" * 257}), "header"),
    "kid not ASCII": (lambda: made("github", {"kid": "k1é"}), "header"),
    "kid with a newline": (lambda: made("github", {"kid": "k1\n"}), "header"),
    "kid with a NUL": (lambda: made("github", {"kid": "k1\0"}), "header"),
    "kid unknown": (lambda: made("github", {"kid": "k2"}), "kid"),
    "kid a path": (lambda: made("github", {"kid": "../../dev/null"}), "kid"),
    "kid in upper case": (lambda: made("github", {"kid": "K1"}), "kid"),
    "kid with a blank": (lambda: made("github", {"kid": "k1 "}), "kid"),
    "another's key under a good kid": (lambda: token(HEADER, github(), rsa_key("evil")), "signature"),
    "an EC signature under RS256": (lambda: token(HEADER, github(), algorithm="ES256"), "signature"),
    "payload exchanged": (_payload_swapped, "signature"),
    "a bit of the header flipped": (lambda: _flip(0, -2), "token_form"),
    "first byte of the signature flipped": (lambda: _flip(2, 0), "signature"),
    "last byte of the signature flipped": (lambda: _flip(2, -1), "signature"),
    "signature of another token": (
        lambda: ".".join([*made().split(".")[:2], made("github", {}, jti="x").split(".")[2]]),
        "signature",
    ),
    "signature cut": (lambda: _resized(-1), "signature"),
    "signature longer": (lambda: _resized(1), "signature"),
    "signature all zero": (lambda: ".".join([*made().split(".")[:2], "A" * 342]), "signature"),
    "signature empty": (lambda: ".".join(made().split(".")[:2]) + ".", "token_form"),
    "payload empty": (lambda: f"{encoded(HEADER)}..AAAA", "token_form"),
    "header empty": (lambda: "." + made().split(".", 1)[1], "token_form"),
    "nothing": (lambda: "", "token_form"),
    "two dots": (lambda: "..", "token_form"),
    "two parts": (lambda: ".".join(made().split(".")[:2]), "token_form"),
    "four parts": (lambda: made() + ".AAAA", "token_form"),
    "five parts, as a JWE": (lambda: "a.b.c.d.e", "token_form"),
    "padded": (lambda: made().replace(".", "=.", 1), "token_form"),
    "standard base64": (lambda: "+/" + made()[2:], "token_form"),
    "a blank in front": (lambda: " " + made(), "token_form"),
    "a newline behind": (lambda: made() + "\n", "token_form"),
    "a NUL behind": (lambda: made() + "\0", "token_form"),
    "a newline inside": (lambda: made()[:5] + "\n" + made()[5:], "token_form"),
    "Bearer in front": (lambda: "Bearer " + made(), "token_form"),
    "spare bits set": (lambda: _spare(made()), "token_form"),
    "not ASCII": (lambda: made() + "é", "token_form"),
    "full-width dots": (lambda: made().replace(".", "\uff0e"), "token_form"),
    "JSON serialisation": (lambda: json.dumps({"payload": encoded(github()), "signatures": []}), "token_form"),
    "header a list": (lambda: token([HEADER], github()), "token_form"),
    "header no JSON": (lambda: _raw(b"{'alg':'RS256'}"), "token_form"),
    "header UTF-16": (lambda: _raw(json.dumps(HEADER).encode("utf-16")), "token_form"),
    "header with a BOM": (lambda: _raw(b"\xef\xbb\xbf" + json.dumps(HEADER).encode()), "token_form"),
    "header invalid UTF-8": (lambda: _raw(b'{"alg":"RS256","kid":"\xff","typ":"JWT"}'), "token_form"),
    "header nested deeply": (lambda: _raw(b'{"x":' + b"[" * 5000 + b"]" * 5000 + b"}"), "token_form"),
    "alg twice": (lambda: _raw(b'{"alg":"none","alg":"RS256","kid":"k1","typ":"JWT"}'), "token_form"),
    "kid twice": (lambda: _raw(b'{"alg":"RS256","kid":"k2","kid":"k1","typ":"JWT"}'), "token_form"),
    "alg twice, once escaped": (
        lambda: _raw(b'{"\\u0061lg":"none","alg":"RS256","kid":"k1","typ":"JWT"}'),
        "token_form",
    ),
    "claims a list": (lambda: token(HEADER, [github()]), "token_form"),
    "claims a text": (lambda: token(HEADER, "x"), "token_form"),
    "claims null": (lambda: token(HEADER, None), "token_form"),
    "claims nested deeply": (lambda: _raw(claims=b'{"a":' * 3000 + b"1" + b"}" * 3000), "token_form"),
    "claims with text behind": (lambda: _raw(claims=json.dumps(github()).encode() + b"x"), "token_form"),
    "ref twice": (lambda: _raw(claims=_text('"ref":"refs/heads/x",')), "token_form"),
    "iss twice": (lambda: _raw(claims=_text('"iss":"https://evil.test",')), "token_form"),
    "aud twice": (lambda: _raw(claims=_text('"aud":"x",')), "token_form"),
    "a key twice deep inside": (lambda: _raw(claims=_text('"x":{"a":1,"a":2},')), "token_form"),
    "NaN": (lambda: _raw(claims=_text('"x":NaN,')), "token_form"),
    "a number of 5,000 digits": (lambda: _raw(claims=_text('"x":' + "9" * 5000 + ",")), "token_form"),
    "longer than 16 KiB": (lambda: made("github", {}, x="y" * 16384), "token_form"),
    "a megabyte of dots": (lambda: "." * 1_000_000, "token_form"),
}


def _spare(text: str) -> str:
    """The same bytes, another spelling: a bit set that base64 ignores in the last character of the header."""
    head, rest = text.split(".", 1)
    while len(head) % 4 not in (2, 3):
        head, rest = token({**HEADER, "x5t": "x" * (4 - len(head) % 4)}, github()).split(".", 1)
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return head[:-1] + alphabet[alphabet.index(head[-1]) | 1] + "." + rest


@pytest.mark.parametrize("name", FORM)
def test_form_refused(name: str) -> None:
    """Nobody vouches for such a token: nothing of it may be logged as seen."""
    make, reason = FORM[name]
    error = refused(make())
    assert (error.reason, error.seen) == (reason, None)


def test_es256_refusals() -> None:
    assert refused(_der_es256(), kind="es").reason == "signature"
    assert refused(token({**HEADER, "alg": "ES256"}, github(iss="https://es.test")), kind="es").reason == "signature"
    assert refused(token(HEADER, github(iss="https://es.test")), kind="es").reason == "algorithm"
    zero = f"{encoded({**HEADER, 'alg': 'ES256'})}.{encoded(github(iss='https://es.test'))}.{'A' * 86}"
    assert refused(zero, kind="es").reason == "signature"


# --- claims that every token must have

EVERY: dict[str, tuple[dict[str, Any], str]] = {
    "iss of another": ({"iss": "https://evil.test"}, "issuer"),
    "iss with a slash": ({"iss": "https://github.test/"}, "issuer"),
    "iss with a path": ({"iss": "https://github.test/acme"}, "issuer"),
    "iss in upper case": ({"iss": "https://GitHub.test"}, "issuer"),
    "iss with a port": ({"iss": "https://github.test:443"}, "issuer"),
    "iss by http": ({"iss": "http://github.test"}, "issuer"),
    "iss with a user": ({"iss": "https://github.test@evil.test"}, "issuer"),
    "iss as suffix": ({"iss": "https://evil-github.test"}, "issuer"),
    "iss as prefix": ({"iss": "https://github.test.evil.test"}, "issuer"),
    "iss with a blank": ({"iss": "https://github.test "}, "issuer"),
    "iss with a trailing dot": ({"iss": "https://github.test."}, "issuer"),
    "iss empty": ({"iss": ""}, "issuer"),
    "iss missing": ({"iss": ...}, "claim_missing"),
    "iss a list": ({"iss": ["https://github.test"]}, "claim_type"),
    "iss null": ({"iss": None}, "claim_type"),
    "iss of another listed issuer": ({"iss": "https://gitlab.test"}, "issuer"),
    "exp missing": ({"exp": ...}, "claim_missing"),
    "nbf missing": ({"nbf": ...}, "claim_missing"),
    "iat missing": ({"iat": ...}, "claim_missing"),
    "jti missing": ({"jti": ...}, "claim_missing"),
    "aud missing": ({"aud": ...}, "claim_missing"),
    "exp a text": ({"exp": str(NOW + 300)}, "claim_type"),
    "exp a float": ({"exp": NOW + 300.5}, "claim_type"),
    "exp a boolean": ({"exp": True}, "claim_type"),
    "exp null": ({"exp": None}, "claim_type"),
    "exp negative": ({"exp": -1}, "claim_type"),
    "exp beyond 53 bits": ({"exp": 2**53}, "claim_type"),
    "exp a list": ({"exp": [NOW + 300]}, "claim_type"),
    "nbf a text": ({"nbf": str(NOW)}, "claim_type"),
    "nbf a float": ({"nbf": NOW + 0.5}, "claim_type"),
    "nbf null": ({"nbf": None}, "claim_type"),
    "nbf a boolean": ({"nbf": False}, "claim_type"),
    "iat a text": ({"iat": str(NOW)}, "claim_type"),
    "iat a float": ({"iat": NOW + 0.5}, "claim_type"),
    "iat null": ({"iat": None}, "claim_type"),
    "iat a boolean": ({"iat": True}, "claim_type"),
    "iat huge": ({"iat": 10**30}, "claim_type"),
    "jti a number": ({"jti": 5}, "claim_type"),
    "jti empty": ({"jti": ""}, "claim_type"),
    "jti null": ({"jti": None}, "claim_type"),
    "jti too long": ({"jti": "j" * 257}, "claim_type"),
    "jti not ASCII": ({"jti": "é"}, "claim_type"),
    "jti with a blank": ({"jti": "a b"}, "claim_type"),
    "aud a list of one": ({"aud": [f"{ORIGIN}#{TIE}"]}, "claim_type"),
    "aud a list of two": ({"aud": [f"{ORIGIN}#{TIE}", "sts.amazonaws.com"]}, "claim_type"),
    "aud an empty list": ({"aud": []}, "claim_type"),
    "aud null": ({"aud": None}, "claim_type"),
    "aud a number": ({"aud": 1}, "claim_type"),
    "aud an object": ({"aud": {"x": 1}}, "claim_type"),
    "expired this second": ({"exp": NOW}, "expired"),
    "expired a second ago": ({"exp": NOW - 1, "iat": NOW - 300}, "expired"),
    "expired long ago": ({"iat": 1, "nbf": 1, "exp": 300}, "expired"),
    "exp zero": ({"exp": 0}, "expired"),
    "nbf in 61 s": ({"nbf": NOW + 61}, "not_yet"),
    "nbf in a year": ({"nbf": NOW + 31_536_000}, "not_yet"),
    "iat in 61 s": ({"iat": NOW + 61, "exp": NOW + 300}, "not_yet"),
    "lives 901 s": ({"exp": NOW + 901}, "lifetime"),
    "lives an hour, GitLab's default": ({"exp": NOW + 3600}, "lifetime"),
    "lives a year": ({"exp": NOW + 31_536_000}, "lifetime"),
    "old and long": ({"iat": NOW - 3000, "exp": NOW + 10}, "lifetime"),
    "exp before iat": ({"iat": NOW + 50, "exp": NOW + 40}, "lifetime"),
    "exp at iat": ({"iat": NOW + 50, "exp": NOW + 50}, "lifetime"),
}


@pytest.mark.parametrize("name", EVERY)
def test_every_token(name: str) -> None:
    changes, reason = EVERY[name]
    error = refused(made("github", {}, **changes))
    assert error.reason == reason
    # genuine but for its issuer: to be logged
    assert (error.seen is None) == ("iss" in changes)


# --- what the rules ask of GitHub and GitLab

FEATURE = "refs/heads/feature"
ENVIRONMENT = {**GITHUB_RULE, "environment": "production"}
OTHER_TIE = binding(key("other job").public, RECIPIENT)
OTHER_RECIPIENT = binding(JOB, recipient("other"))

RULES: dict[str, tuple[str, dict[str, Any], dict[str, Any], str]] = {
    # name: (kind, claims, rule, reason)
    "aud without the key": ("github", {"aud": ORIGIN}, {}, "audience"),
    "aud bound to another job's key": ("github", {"aud": f"{ORIGIN}#{OTHER_TIE}"}, {}, "audience"),
    "aud bound to another recipient": ("github", {"aud": f"{ORIGIN}#{OTHER_RECIPIENT}"}, {}, "audience"),
    "aud of another server": ("github", {"aud": f"https://evil.example.com#{TIE}"}, {}, "audience"),
    "aud with a prefix": ("github", {"aud": f"x{ORIGIN}#{TIE}"}, {}, "audience"),
    "aud with a suffix": ("github", {"aud": f"{ORIGIN}#{TIE}x"}, {}, "audience"),
    "aud cut": ("github", {"aud": f"{ORIGIN}#{TIE}"[:-1]}, {}, "audience"),
    "aud padded": ("github", {"aud": f"{ORIGIN}#{TIE}="}, {}, "audience"),
    "aud with a blank": ("github", {"aud": f"{ORIGIN}#{TIE} "}, {}, "audience"),
    "aud in upper case": ("github", {"aud": f"{ORIGIN}#{TIE}".upper()}, {}, "audience"),
    "aud with a slash": ("github", {"aud": f"{ORIGIN}/#{TIE}"}, {}, "audience"),
    "aud two in one text": ("github", {"aud": f"{ORIGIN}#{TIE},{ORIGIN}"}, {}, "audience"),
    "aud two by a blank": ("github", {"aud": f"{ORIGIN}#{TIE} {ORIGIN}"}, {}, "audience"),
    "aud a glob": ("github", {"aud": "*"}, {}, "audience"),
    "aud empty": ("github", {"aud": ""}, {}, "audience"),
    "aud GitHub's default": ("github", {"aud": "https://github.com/acme"}, {}, "audience"),
    "aud the binding alone": ("github", {"aud": f"#{TIE}"}, {}, "audience"),
    "aud the origin where the rule says another": ("github", {}, {"audience": "acme-secrets"}, "audience"),
    "aud the rule's without the key": ("github", {"aud": "acme-secrets"}, {"audience": "acme-secrets"}, "audience"),
    "another repository": ("github", {"repository_id": "8"}, {}, "claims"),
    "repository id a number": ("github", {"repository_id": 7}, {}, "claims"),
    "repository id a list": ("github", {"repository_id": ["7"]}, {}, "claims"),
    "repository id with a zero": ("github", {"repository_id": "07"}, {}, "claims"),
    "repository id with a blank": ("github", {"repository_id": "7 "}, {}, "claims"),
    "repository id in other digits": ("github", {"repository_id": "７"}, {}, "claims"),
    "repository id missing": ("github", {"repository_id": ...}, {}, "claims"),
    "repository id null": ("github", {"repository_id": None}, {}, "claims"),
    "repository of the same name made again": ("github", {"repository_id": "99"}, {}, "claims"),
    "repository given to another owner": ("github", {"repository_owner_id": "71"}, {}, "claims"),
    "owner id a number": ("github", {"repository_owner_id": 70}, {}, "claims"),
    "owner id missing": ("github", {"repository_owner_id": ...}, {}, "claims"),
    "fork: another repository and owner": (
        "github",
        {"repository_id": "8", "repository_owner_id": "80", "repository": "evil/api"},
        {},
        "claims",
    ),
    "ref of a feature branch": ("github", {"ref": FEATURE}, {}, "claims"),
    "ref of a tag with the branch's name": ("github", {"ref": "refs/tags/main", "ref_type": "tag"}, {}, "claims"),
    "ref short": ("github", {"ref": "main"}, {}, "claims"),
    "ref as prefix": ("github", {"ref": "refs/heads/main2"}, {}, "claims"),
    "ref below": ("github", {"ref": "refs/heads/main/x"}, {}, "claims"),
    "ref in upper case": ("github", {"ref": "refs/heads/Main"}, {}, "claims"),
    "ref with a NUL": ("github", {"ref": "refs/heads/main\0"}, {}, "claims"),
    "ref with a newline": ("github", {"ref": "refs/heads/main\n"}, {}, "claims"),
    "ref of look-alikes": ("github", {"ref": "refs/heads/mаin"}, {}, "claims"),
    "ref decomposed": ("github", {"ref": "refs/heads/mai\u0301n"}, {}, "claims"),
    "ref missing": ("github", {"ref": ...}, {}, "claims"),
    "ref a list": ("github", {"ref": ["refs/heads/main"]}, {}, "claims"),
    "ref of a pull request": ("github", {"ref": "refs/pull/1/merge", "event_name": "pull_request"}, {}, "claims"),
    "feature ref with the right environment": (
        "github",
        {"ref": FEATURE, "environment": "production"},
        {"claims": ENVIRONMENT},
        "claims",
    ),
    "right ref, environment missing": ("github", {}, {"claims": ENVIRONMENT}, "claims"),
    "right ref, another environment": ("github", {"environment": "staging"}, {"claims": ENVIRONMENT}, "claims"),
    "environment in upper case": ("github", {"environment": "Production"}, {"claims": ENVIRONMENT}, "claims"),
    "environment a list": ("github", {"environment": ["production"]}, {"claims": ENVIRONMENT}, "claims"),
    "another reusable workflow": (
        "github",
        {"job_workflow_ref": "evil/x/.github/workflows/deploy.yml@refs/heads/main"},
        {"claims": {**GITHUB_RULE, "job_workflow_ref": "acme/api/.github/workflows/deploy.yml@refs/heads/main"}},
        "claims",
    ),
    "the reusable workflow at another ref": (
        "github",
        {"job_workflow_ref": "acme/api/.github/workflows/deploy.yml@refs/heads/x"},
        {"claims": {**GITHUB_RULE, "job_workflow_ref": "acme/api/.github/workflows/deploy.yml@refs/heads/main"}},
        "claims",
    ),
    "the reusable workflow called by a stranger": (
        "github",
        {"repository_id": "8"},
        {"claims": {**GITHUB_RULE, "job_workflow_ref": "acme/api/.github/workflows/deploy.yml@refs/heads/main"}},
        "claims",
    ),
    "pull_request": ("github", {"event_name": "pull_request"}, {}, "event"),
    "pull_request_target": ("github", {"event_name": "pull_request_target"}, {}, "event"),
    "pull_request_review": ("github", {"event_name": "pull_request_review"}, {}, "event"),
    "pull_request_review_comment": ("github", {"event_name": "pull_request_review_comment"}, {}, "event"),
    "issue_comment": ("github", {"event_name": "issue_comment"}, {}, "event"),
    "workflow_run": ("github", {"event_name": "workflow_run"}, {}, "event"),
    "event missing": ("github", {"event_name": ...}, {}, "event"),
    "event empty": ("github", {"event_name": ""}, {}, "event"),
    "event a list": ("github", {"event_name": ["push"]}, {}, "event"),
    "event null": ("github", {"event_name": None}, {}, "event"),
    "another event than the rule names": (
        "github",
        {"event_name": "pull_request_target"},
        {"claims": {**GITHUB_RULE, "event_name": "pull_request"}},
        "claims",
    ),
    "push where the rule names another": (
        "github",
        {},
        {"claims": {**GITHUB_RULE, "event_name": "workflow_dispatch"}},
        "claims",
    ),
    "sub that a rule names, in the other format": (
        "github",
        {"sub": "repo:acme@70/api@7:ref:refs/heads/main"},
        {"claims": {**GITHUB_RULE, "sub": "repo:acme/api:ref:refs/heads/main"}},
        "claims",
    ),
    "rule without owner id": (
        "github",
        {},
        {"claims": {"ref": "refs/heads/main", "repository_id": "7"}},
        "rule_incomplete",
    ),
    "rule without repository id": (
        "github",
        {},
        {"claims": {"ref": "refs/heads/main", "repository_owner_id": "70", "project_id": "7"}},
        "rule_incomplete",
    ),
    "rule without ref": (
        "github",
        {},
        {"claims": {"repository_id": "7", "repository_owner_id": "70"}},
        "rule_incomplete",
    ),
    "rule without claims": ("github", {}, {"claims": {}}, "rule_incomplete"),
    "GitLab's rule at GitHub": ("github", {}, {"claims": GITLAB_RULE}, "rule_incomplete"),
    "rule of another issuer": ("github", {}, {"issuer": "https://gitlab.test"}, "no_rule"),
    "gitlab: another project": ("gitlab", {"project_id": "8"}, {}, "claims"),
    "gitlab: project id a number": ("gitlab", {"project_id": 7}, {}, "claims"),
    "gitlab: project id missing": ("gitlab", {"project_id": ...}, {}, "claims"),
    "gitlab: another namespace": ("gitlab", {"namespace_id": "71"}, {}, "claims"),
    "gitlab: namespace id missing": ("gitlab", {"namespace_id": ...}, {}, "claims"),
    "gitlab: fork MR, the project claims name the fork": (
        "gitlab",
        {"project_id": "8", "namespace_id": "80", "job_project_id": "7", "pipeline_source": "merge_request_event"},
        {},
        "claims",
    ),
    "gitlab: the fork's rule, job in another project": ("gitlab", {"job_project_id": "9"}, {}, "fork"),
    "gitlab: job project id a number": ("gitlab", {"job_project_id": 7}, {}, "fork"),
    "gitlab: job project id null": ("gitlab", {"job_project_id": None}, {}, "fork"),
    "gitlab: merge request": ("gitlab", {"pipeline_source": "merge_request_event"}, {}, "event"),
    "gitlab: merge request, though the rule names it": (
        "gitlab",
        {"pipeline_source": "merge_request_event"},
        {"claims": {**GITLAB_RULE, "pipeline_source": "merge_request_event"}},
        "event",
    ),
    "gitlab: external pull request": ("gitlab", {"pipeline_source": "external_pull_request_event"}, {}, "event"),
    "gitlab: pipeline source missing": ("gitlab", {"pipeline_source": ...}, {}, "event"),
    "gitlab: pipeline source a list": ("gitlab", {"pipeline_source": ["push"]}, {}, "event"),
    "gitlab: ref not protected": ("gitlab", {"ref_protected": "false"}, {}, "unprotected_ref"),
    "gitlab: ref_protected a boolean": ("gitlab", {"ref_protected": True}, {}, "unprotected_ref"),
    "gitlab: ref_protected missing": ("gitlab", {"ref_protected": ...}, {}, "unprotected_ref"),
    "gitlab: ref_protected in upper case": ("gitlab", {"ref_protected": "True"}, {}, "unprotected_ref"),
    "gitlab: ref of a feature branch": ("gitlab", {"ref": "feature"}, {}, "claims"),
    "gitlab: feature ref with the right environment": (
        "gitlab",
        {"ref": "feature", "environment": "production", "ref_protected": "false"},
        {"claims": {**GITLAB_RULE, "environment": "production"}},
        "claims",
    ),
    "gitlab: a tag with the branch's name": ("gitlab", {"ref_type": "tag"}, {}, "ref_type"),
    "gitlab: ref_type missing": ("gitlab", {"ref_type": ...}, {}, "ref_type"),
    "gitlab: environment missing": (
        "gitlab",
        {},
        {"claims": {**GITLAB_RULE, "environment": "production"}},
        "claims",
    ),
    "gitlab: ci_config_ref_uri of another": (
        "gitlab",
        {"ci_config_ref_uri": "gitlab.test/evil/x//.gitlab-ci.yml@refs/heads/main"},
        {"claims": {**GITLAB_RULE, "ci_config_ref_uri": "gitlab.test/acme/api//.gitlab-ci.yml@refs/heads/main"}},
        "claims",
    ),
    "gitlab: aud of another": ("gitlab", {"aud": "https://vault.example.com"}, {}, "audience"),
    "gitlab: aud with a slash": ("gitlab", {"aud": ORIGIN + "/"}, {}, "audience"),
    "gitlab: aud as prefix": ("gitlab", {"aud": ORIGIN + ".evil.test"}, {}, "audience"),
    "gitlab: aud in GitHub's form": ("gitlab", {"aud": f"{ORIGIN}#{TIE}"}, {}, "audience"),
    "gitlab: rule without namespace id": (
        "gitlab",
        {},
        {"claims": {"ref": "main", "project_id": "7"}},
        "rule_incomplete",
    ),
    "gitlab: GitHub's rule": ("gitlab", {}, {"claims": GITHUB_RULE}, "rule_incomplete"),
}


@pytest.mark.parametrize("name", RULES)
def test_rules_refuse(name: str) -> None:
    """Genuine tokens: each refusal is to be logged with what was seen and the rule that came closest."""
    kind, claims, changes, reason = RULES[name]
    error = refused(made(kind, {}, **claims), rule(kind, **changes), kind=kind)
    assert error.reason == reason and error.seen is not None
    assert error.rule == (None if reason == "no_rule" else "deploy")


def test_there_are_enough_cases() -> None:
    assert len(FORM) + len(EVERY) + len(RULES) + len(GOOD) >= 200
    assert len(FORM) + len(EVERY) + len(RULES) > 5 * len(GOOD)


def test_reasons_are_all_met() -> None:
    """A reason that no row meets is not tested."""
    met = {reason for _, reason in FORM.values()} | {reason for _, reason in EVERY.values()}
    met |= {reason for *_, reason in RULES.values()}
    assert met == oidc.REASONS.keys()
    assert all(reason.replace("_", "").isalpha() and len(reason) <= 64 for reason in oidc.REASONS)


# --- several rules, the service, the binding


def test_the_rule_with_most_claims_counts() -> None:
    """A job that also matches the rule for a protected environment is registered under that one."""
    wide, narrow = rule(name="a-wide"), rule(name="b-narrow", claims=ENVIRONMENT, max_ttl=60)
    found = judged(made("github", {}, environment="production"), wide, narrow)
    assert found.rule is narrow and found.not_after == NOW + 60
    assert judged(made(), wide, narrow).rule is wide
    assert judged(made(), replace(wide, name="c"), wide).rule is wide


def test_the_closest_rule_is_named() -> None:
    far, near = rule(name="far", audience="x"), rule(name="near", claims={**GITHUB_RULE, "ref": "refs/heads/x"})
    for rules in ((far, near), (near, far)):
        error = refused(made(), *rules)
        assert (error.reason, error.rule) == ("claims", "near")


def test_no_rule_for_the_recipient() -> None:
    with pytest.raises(Refused) as caught:
        oidc.validate(made(), (), keys("github"), NOW, ORIGIN, JOB, RECIPIENT)
    assert caught.value.reason == "no_rule" and caught.value.seen is not None


@pytest.mark.parametrize(("exp", "ttl", "wanted"), [(300, 900, 300), (900, 900, 900), (900, 60, 60), (10, 60, 10)])
def test_not_after(exp: int, ttl: int, wanted: int) -> None:
    assert judged(made("github", {}, exp=NOW + exp), rule(max_ttl=ttl)).not_after == NOW + wanted


def test_not_after_is_never_over_15_minutes() -> None:
    """Whatever stands in a rule, and however far ahead the issuer's clock is."""
    ahead = made("github", {}, iat=NOW + 60, exp=NOW + 960)
    assert judged(ahead, rule(max_ttl=10**6)).not_after == NOW + 900


def test_a25_feature_ref_with_the_right_environment() -> None:
    """A25: whoever pushes a branch and edits its workflow has the CI secret and a token that names the environment."""
    w = acme()
    w.bind({"service": "ci"}, "read", PROD)
    w.do("alice-laptop", "env.protect", {"env": "api/prod"})
    data = {"rule": "deploy", "service": "ci", "issuer": "https://github.test", "audience": ORIGIN, "max_ttl": 900}
    w.do("alice-laptop", "oidc_rule.set", {**data, "claims": ENVIRONMENT})
    rules = oidc.rules_for(w.state, RECIPIENT)
    good = judged(made("github", {}, environment="production"), *rules)
    assert oidc_role(w.state, good.rule.name, "api/prod") == Role.READ
    assert refused(made("github", {}, environment="production", ref=FEATURE), *rules).reason == "claims"
    w.do("alice-laptop", "oidc_rule.set", {**data, "claims": GITHUB_RULE})
    matched = judged(made("github", {}, environment="production"), *oidc.rules_for(w.state, RECIPIENT))
    assert oidc_role(w.state, matched.rule.name, "api/prod") == Role.NONE


def test_rules_for() -> None:
    w = acme()
    w.enrol("other", None)
    w.bind({"service": "ci"}, "read", PROD)
    data = {"issuer": "https://github.test", "audience": "zopp", "claims": GITHUB_RULE, "max_ttl": 60}
    for name, service in (("b", "ci"), ("a", "ci"), ("c", "other")):
        w.do("alice-laptop", "oidc_rule.set", {**data, "rule": name, "service": service})
    assert [each.name for each in oidc.rules_for(w.state, RECIPIENT)] == ["a", "b"]
    assert [each.name for each in oidc.rules_for(w.state, recipient("other"))] == ["c"]
    assert oidc.rules_for(w.state, recipient("alice-laptop")) == []
    w.do("alice-laptop", "principal.disable", {"principal": "ci"})
    assert oidc.rules_for(w.state, RECIPIENT) == []


def test_the_binding_is_what_the_specification_says() -> None:
    from tests.unit.policy.world import recipient as text

    raw = bytearray(hashlib.sha256(b"age ci").digest())
    raw[31] &= 0x3F
    digest = hashlib.sha256(JOB + bytes(raw)).digest()
    assert binding(JOB, text("ci")) == base64.urlsafe_b64encode(digest).decode().rstrip("=")
    assert audience("x", JOB, text("ci")) == f"x#{binding(JOB, text('ci'))}"


@pytest.mark.parametrize(
    ("job", "to"),
    [(bytes(32), RECIPIENT), (JOB[:31], RECIPIENT), (JOB, ssh_recipient("ci")), (JOB, RECIPIENT.upper()), (JOB, "")],
)
def test_the_binding_refuses(job: bytes, to: str) -> None:
    with pytest.raises(FormatError):
        binding(job, to)


# --- replay and the record


def test_jti_is_flagged_for_one_use() -> None:
    """The same jti gives the same row whatever else the token says, and the bucket follows from `iat` alone."""
    first = judged(made())
    again = judged(made("github", {}, run_id="901"), now=NOW + 200)
    assert first.token_sha256 != again.token_sha256
    assert first.replay == again.replay
    assert first.replay.bucket == NOW // 300 % 8 and len(first.replay.nonce) == 16
    assert first.replay.keyid == "https://github.test"
    assert judged(made("github", {}, jti="other")).replay.nonce != first.replay.nonce


@given(iat=st.integers(NOW - 840, NOW + 60), wait=st.integers(0, 959))
def test_a24_a_bucket_holds_a_token_for_its_whole_life(iat: int, wait: int) -> None:
    """A bucket is used again 2,400 s after it began; a token is accepted for at most 960 s from its `iat`."""
    seen = Seen(
        issuer="https://github.test", kid="k1", claims={}, jti="j", iat=iat, exp=iat + 900, token_sha256=bytes(32)
    )
    began = iat // 300 * 300
    assert iat + 900 < began + 2400 - 300
    assert seen.replay.bucket == began // 300 % 8


def recorded(seen: Seen, outcome: str, reason: str | None, rule: str | None) -> entry.Entry:
    body = entry.build(
        "oidc",
        {
            "claims": dict(seen.claims),
            "issuer": seen.issuer,
            "key": key("job").text,
            "kid": seen.kid,
            "not_after": seen.exp,
            "rule": rule,
            "token": seen.token_sha256.hex(),
        },
        ts=NOW * 1000,
        id=bytes(16),
        outcome=outcome,
        reason=reason,
    )
    return entry.parse(body)


@pytest.mark.parametrize("name", GOOD)
def test_what_was_seen_fits_the_log(name: str) -> None:
    kind, claims, changes = GOOD[name]
    found = judged(made(kind, {}, **claims), rule(kind, **changes), kind=kind)
    made_entry = recorded(found.seen, "allow", None, found.rule.name)
    for claim, value in found.rule.claims:
        assert made_entry.data["claims"][claim] == value


@pytest.mark.parametrize("name", [name for name in EVERY if "iss" not in EVERY[name][0]])
def test_what_was_refused_fits_the_log(name: str) -> None:
    error = refused(made("github", {}, **EVERY[name][0]))
    assert error.seen is not None
    recorded(error.seen, "deny", error.reason, error.rule)


@pytest.mark.parametrize("value", ["\ud800", "x" * 1025, "x" * 1024, "\0", 5, None, ["x"], {"x": "y"}, "\u202e"])
def test_a_token_cannot_stop_its_own_record(value: object) -> None:
    found = judged(made("github", {}, sub=value, sha=value, run_id=value))
    recorded(found.seen, "allow", None, "deploy")


def test_the_token_stands_nowhere() -> None:
    text = made("github", {}, canary=CANARY)
    for shown in (repr(judged(text)), repr(oidc.peek(text)), repr(refused(made("github", {}, exp=1, canary=CANARY)))):
        assert CANARY not in shown and text not in shown
    for make, _ in FORM.values():
        error = refused(make())
        assert error.__cause__ is None and (error.__suppress_context__ or error.__context__ is None)
        assert "eyJ" not in str(error)


# --- keys


DOCUMENTS: dict[str, Callable[[], bytes]] = {
    "nothing": lambda: b"",
    "no JSON": lambda: b"<html>",
    "a list": lambda: b"[]",
    "no keys": lambda: b"{}",
    "keys an object": lambda: b'{"keys":{}}',
    "keys empty": lambda: document(),
    "a key that is a text": lambda: b'{"keys":["x"]}',
    "one kid twice": lambda: document(jwk(rsa_key(), "k1"), jwk(rsa_key("two"), "k1")),
    "a member twice": lambda: b'{"keys":[],"keys":[]}',
    "too many keys": lambda: document(*[jwk(rsa_key(), f"k{n}") for n in range(65)]),
    "too long": lambda: document(jwk(rsa_key(), "k1", x="y" * 49152)),
    "invalid UTF-8": lambda: b'{"keys":["\xff"]}',
    "nested deeply": lambda: b"[" * 10000,
    "only an EC key": lambda: document(jwk(ec_key(), "k1")),
    "only a symmetric key": lambda: document({"kty": "oct", "k": "AAAA", "kid": "k1"}),
    "only a key for encryption": lambda: document(jwk(rsa_key(), "k1", use="enc")),
    "only a key of another algorithm": lambda: document(jwk(rsa_key(), "k1", alg="RS512")),
    "only a key for signing by others": lambda: document(jwk(rsa_key(), "k1", key_ops=["sign"])),
    "key_ops a text": lambda: document(jwk(rsa_key(), "k1", key_ops="verify")),
    "only a key with a private part": lambda: document(jwk(rsa_key(), "k1", d="AAAA")),
    "an RSA key with a secret": lambda: document(jwk(rsa_key(), "k1", k="AAAA")),
    "no kid": lambda: document({k: v for k, v in jwk(rsa_key(), "k1").items() if k != "kid"}),
    "kid a number": lambda: document({**jwk(rsa_key(), "k1"), "kid": 1}),
    "RSA of 1,024 bits": lambda: document(jwk(rsa_key("short", 1024), "k1")),
    "RSA of 16,384 bits": lambda: document(jwk(rsa_key(), "k1", n=canonical.b64(b"\xff" * 2048))),
    "exponent 3": lambda: document(jwk(rsa_key(), "k1", e="Aw")),
    "exponent 1": lambda: document(jwk(rsa_key(), "k1", e="AQ")),
    "modulus empty": lambda: document(jwk(rsa_key(), "k1", n="")),
    "modulus no base64": lambda: document(jwk(rsa_key(), "k1", n="é")),
    "modulus a number": lambda: document(jwk(rsa_key(), "k1", n=5)),
    "modulus missing": lambda: document({k: v for k, v in jwk(rsa_key(), "k1").items() if k != "n"}),
}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_jwks_refused(name: str) -> None:
    with pytest.raises(FormatError) as caught:
        parse_jwks(DOCUMENTS[name](), "RS256")
    assert caught.value.code == "jwks"


def test_jwks_passes_over_what_it_cannot_use() -> None:
    found = parse_jwks(
        document(
            jwk(ec_key(), "e1"),
            {"kty": "oct", "k": "AAAA", "kid": "o1"},
            jwk(rsa_key(), "k1"),
            jwk(rsa_key("two"), "k2", x5c=["AAAA"], x5t="x", jku="https://evil.test", foo={"bar": 1}),
        ),
        "RS256",
    )
    assert found.keys() == {"k1", "k2"}
    assert parse_jwks(document(jwk(rsa_key(), "k1"), jwk(ec_key(), "e1")), "ES256").keys() == {"e1"}
    with pytest.raises(FormatError):
        parse_jwks(document(jwk(ec_key("p384", ec.SECP384R1), "e1")), "ES256")
    with pytest.raises(FormatError):  # not on the curve
        parse_jwks(document(jwk(ec_key(), "e1", x=canonical.b64(b"\1" * 32))), "ES256")


# --- settings


@pytest.mark.parametrize(
    "text",
    [
        "", "{}", "[1]", "[{}]", '[{"issuer":"https://x.test","kind":"github"}]',
        '[{"issuer":"https://x.test","kind":"circleci","jwks_url":"https://x.test/j"}]',
        '[{"issuer":"https://x.test","kind":"github","jwks_url":"https://x.test/j","jwks_file":"/x"}]',
        '[{"issuer":"https://x.test","kind":"github","jwks_url":"http://x.test/j"}]',
        '[{"issuer":"https://x.test","kind":"github","jwks_url":"file:///etc/passwd"}]',
        '[{"issuer":"https://x.test","kind":"github","jwks_url":"https://x.test"}]',
        '[{"issuer":"https://x.test","kind":"github","jwks_url":"https://u:p@x.test/j"}]',
        '[{"issuer":"https://x.test","kind":"github","jwks_url":"https://x.test/j\\r\\nHost: y"}]',
        '[{"issuer":"https://x.test","kind":"github","jwks_url":"https://x.test/j#f"}]',
        '[{"issuer":"https://x.test","kind":"github","jwks_url":"https://x.test/é"}]',
        '[{"issuer":"http://x.test","kind":"github","jwks_url":"https://x.test/j"}]',
        *(
            f'[{{"issuer":"https://x.test{path}","kind":"github","jwks_url":"https://x.test/j"}}]'
            for path in ("/", "/y/", "//y", "/..", "/y/../z", "/.y", "/y?z", "/y#z", "/%79", "/y z", "/é", "/a/b/c/d/e")
        ),
        '[{"issuer":"https://x.test","kind":"github","jwks_url":"https://x.test/j","algorithm":"HS256"}]',
        '[{"issuer":"https://x.test","kind":"github","jwks_url":"https://x.test/j","algorithm":"none"}]',
        '[{"issuer":"https://x.test","kind":"github","jwks_url":"https://x.test/j","surplus":"x"}]',
        '[{"issuer":"https://x.test","kind":"github","jwks_url":5}]',
        '[{"issuer":"https://x.test","kind":"github","jwks_file":"/j"},'
        '{"issuer":"https://x.test","kind":"gitlab","jwks_file":"/k"}]',
    ],
)  # fmt: skip
def test_issuers_refused(text: str) -> None:
    """A mistyped setting stops; it never falls back to another."""
    with pytest.raises(UsageError):
        oidc.parse_issuers(text)


def test_issuers() -> None:
    text = """[{"issuer": "https://git.corp.example", "kind": "gitlab",
                "jwks_url": "https://git.corp.example/oauth/discovery/keys?x=1"},
               {"issuer": "https://ci.corp.example", "kind": "github", "algorithm": "ES256", "jwks_file": "/etc/j"}]
           """
    found = oidc.parse_issuers(text)
    assert [each.algorithm for each in found.values()] == ["RS256", "ES256"]
    assert found["https://ci.corp.example"].jwks_file == "/etc/j"
    Issuer(origin="http://localhost:8080", kind="github", jwks_url="http://127.0.0.1:8080/jwks")
    Issuer(
        origin="https://ghes.corp.example/_services/token", kind="github",
        jwks_url="https://ghes.corp.example/_services/token/.well-known/jwks",
    )  # fmt: skip
    assert set(oidc.KNOWN) == {"https://token.actions.githubusercontent.com", "https://gitlab.com"}


@pytest.mark.parametrize(
    "changes",
    [
        {"jwks_url": ""},
        {"jwks_file": "/x"},
        {"kind": "circleci"},
        {"algorithm": "HS256"},
        *({"jwks_url": url} for url in (
            "http://x.test/j", "file:///etc/passwd", "https://x.test", "https://u:p@x.test/j",
            "https://x.test/j\r\nY: z",
            "https://x.test/j#f", "https://x.test/é", "https://x.test/ j", "//x.test/j", "ftp://x.test/j",
        )),
    ],
)  # fmt: skip
def test_an_issuer_refused(changes: dict[str, str]) -> None:
    good = {"origin": "https://x.test", "kind": "github", "algorithm": "RS256", "jwks_url": "https://x.test/j?a=b"}
    Issuer(**good)
    Issuer(**{**good, "origin": "http://localhost:8080", "jwks_url": "http://127.0.0.1:8080/jwks"})
    with pytest.raises(UsageError):
        Issuer(**{**good, **changes})


# --- properties


@given(st.binary(max_size=200))
def test_any_text_is_refused(data: bytes) -> None:
    with pytest.raises(Refused):
        judged(data.decode("latin-1"))


@given(st.data())
def test_any_changed_character_is_refused(data: st.DataObject) -> None:
    text = _ONE()
    at = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.sampled_from("AZaz09-_.=+/ \n"))
    if text[at] != other:
        with pytest.raises(Refused):
            judged(text[:at] + other + text[at + 1 :])


def _once() -> Callable[[], str]:
    kept: list[str] = []

    def one() -> str:
        if not kept:
            kept.append(made())
        return kept[0]

    return one


_ONE = _once()

_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(name=st.sampled_from(sorted(github())), value=_VALUES)
def test_any_claim_of_any_type_is_judged(name: str, value: object) -> None:
    """Whatever an issuer signs: a decision whose record fits the log, and no other error."""
    claims = {**github(), name: value}
    head = f"{encoded(HEADER)}.{encoded(claims)}"
    text = f"{head}.{canonical.b64(signature('RS256', head.encode()))}"
    try:
        seen: Seen | None = judged(text).seen
    except Refused as error:
        seen = error.seen
    if seen is not None:
        recorded(seen, "deny", "claims", None)
