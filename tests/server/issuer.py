"""An issuer of CI tokens for tests: real RSA and EC keys, tokens made by hand (not by the library under test), and a
loopback server for its JWKS document that can be told to misbehave."""

import asyncio
import json
from collections.abc import Mapping
from functools import cache
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from tests.unit.policy.world import key, recipient
from zopp.policy import canonical
from zopp.protocol.oidc import audience
from zopp_server.oidc import Issuer

NOW = 1_800_000_000
ORIGIN = "https://zopp.example.com"
JOB = key("job").public
RECIPIENT = recipient("ci")

ISSUERS = {
    "github": Issuer(origin="https://github.test", kind="github", jwks_url="https://github.test/jwks"),
    "gitlab": Issuer(origin="https://gitlab.test", kind="gitlab", jwks_url="https://gitlab.test/jwks"),
    "es": Issuer(origin="https://es.test", kind="github", algorithm="ES256", jwks_url="https://es.test/jwks"),
}


@cache
def rsa_key(name: str = "one", bits: int = 2048) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, bits)


@cache
def ec_key(name: str = "one", curve: type[ec.EllipticCurve] = ec.SECP256R1) -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(curve())


def _number(value: int, size: int | None = None) -> str:
    return canonical.b64(value.to_bytes(size or (value.bit_length() + 7) // 8, "big"))


def jwk(private: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, kid: str, **more: Any) -> dict[str, Any]:
    numbers = private.public_key().public_numbers()
    if isinstance(numbers, rsa.RSAPublicNumbers):
        found = {"kty": "RSA", "n": _number(numbers.n), "e": _number(numbers.e), "alg": "RS256"}
    else:
        size = (numbers.curve.key_size + 7) // 8
        name = {256: "P-256", 384: "P-384", 521: "P-521"}[numbers.curve.key_size]
        found = {"kty": "EC", "crv": name, "x": _number(numbers.x, size), "y": _number(numbers.y, size)}
    return {**found, "use": "sig", "kid": kid, **more}


def document(*keys: dict[str, Any]) -> bytes:
    return json.dumps({"keys": list(keys)}).encode()


def signature(algorithm: str, message: bytes, private: Any = None) -> bytes:
    if algorithm == "RS256":
        made = (private or rsa_key()).sign(message, padding.PKCS1v15(), hashes.SHA256())
        return bytes(made)
    r, s = decode_dss_signature((private or ec_key()).sign(message, ec.ECDSA(hashes.SHA256())))
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def encoded(value: Any) -> str:
    raw = value if isinstance(value, bytes) else json.dumps(value, separators=(",", ":")).encode()
    return canonical.b64(raw)


def token(header: Any, claims: Any, private: Any = None, algorithm: str = "RS256") -> str:
    """Signed with `algorithm` whatever the header says. Bytes stand for themselves."""
    head = f"{encoded(header)}.{encoded(claims)}"
    return f"{head}.{canonical.b64(signature(algorithm, head.encode(), private))}"


def changed(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`...` takes a member away."""
    return {name: value for name, value in {**base, **changes}.items() if value is not ...}


HEADER = {"alg": "RS256", "kid": "k1", "typ": "JWT"}

GITHUB_RULE = {"ref": "refs/heads/main", "repository_id": "7", "repository_owner_id": "70"}
GITLAB_RULE = {"ref": "main", "project_id": "7", "namespace_id": "70"}


def github(**changes: Any) -> dict[str, Any]:
    """The claims of a push to main, as GitHub's documentation shows them (nbf is ten minutes before iat)."""
    return changed(
        {
            "actor": "octocat",
            "actor_id": "12",
            "aud": audience(ORIGIN, JOB, RECIPIENT),
            "base_ref": "",
            "event_name": "push",
            "exp": NOW + 300,
            "head_ref": "",
            "iat": NOW,
            "iss": "https://github.test",
            "job_workflow_ref": "acme/api/.github/workflows/deploy.yml@refs/heads/main",
            "jti": "0d2f8c1e-9f5b-4a64-8f5a-1c2d3e4f5a6b",
            "nbf": NOW - 600,
            "ref": "refs/heads/main",
            "ref_type": "branch",
            "repository": "acme/api",
            "repository_id": "7",
            "repository_owner": "acme",
            "repository_owner_id": "70",
            "repository_visibility": "private",
            "run_attempt": "1",
            "run_id": "900",
            "run_number": "10",
            "runner_environment": "github-hosted",
            "sha": "0123456789abcdef0123456789abcdef01234567",
            "sub": "repo:acme/api:ref:refs/heads/main",
            "workflow": "deploy",
        },
        changes,
    )


def gitlab(**changes: Any) -> dict[str, Any]:
    """The claims of a pipeline on a protected main, as GitLab's documentation shows them."""
    return changed(
        {
            "aud": "https://zopp.example.com",
            "ci_config_ref_uri": "gitlab.test/acme/api//.gitlab-ci.yml@refs/heads/main",
            "exp": NOW + 600,
            "iat": NOW,
            "iss": "https://gitlab.test",
            "job_id": "5000",
            "jti": "5d3a2b1c-0f9e-4d8c-b7a6-594837261504",
            "namespace_id": "70",
            "namespace_path": "acme",
            "nbf": NOW - 5,
            "pipeline_id": "600",
            "pipeline_source": "push",
            "project_id": "7",
            "project_path": "acme/api",
            "ref": "main",
            "ref_protected": "true",
            "ref_type": "branch",
            "sub": "project_path:acme/api:ref_type:branch:ref:main",
            "user_email": "someone@example.com",
            "user_id": "12",
            "user_login": "someone",
        },
        changes,
    )


class Host:
    """A loopback host: answers with `head` and `body`, `pause` seconds before each of `pieces` equal pieces; keeps the
    request heads it was sent. `close` false holds the connection open after the answer."""

    def __init__(self, body: bytes = b"", head: str = "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n") -> None:
        self.body, self.head = body, head
        self.pause, self.pieces, self.close = 0.0, 1, True
        self.requests: list[str] = []

    async def __aenter__(self) -> "Host":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._server.wait_closed()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/jwks"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            self.requests.append((await reader.readuntil(b"\r\n\r\n")).decode())
            answer = self.head.format(len(self.body)).encode() + b"\r\n" + self.body
            size = -(-len(answer) // self.pieces)
            for at in range(0, len(answer), size):
                await asyncio.sleep(self.pause)
                writer.write(answer[at : at + size])
                await writer.drain()
            if not self.close:
                await reader.read()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
