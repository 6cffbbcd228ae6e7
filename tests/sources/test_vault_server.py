"""What only the real OpenBao can show: logins, renewal, namespaces, TLS, a seal."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.sources.servers import Bao, Front
from tests.sources.test_vault import keys, read
from zopp.errors import Denied, NotFound, Unknown, UsageError
from zopp.exchange.sources.vault_http import Login, Server


@pytest.fixture
def slow(bao: Bao) -> Iterator[Front]:
    """The server at the end of a long line: every answer takes 100 ms."""
    made = Front(bao.port)

    def before(asked: object) -> None:
        time.sleep(0.1)

    made.before = before  # type: ignore[assignment]
    yield made
    made.stop()


def fill(bao: Bao, mount: str, count: int) -> None:
    for number in range(count):
        bao.put(mount, f"app/s{number:03}", {"value": str(number)})


def rights(mount: str) -> dict[str, list[str]]:
    return {f"{mount}/metadata/*": ["list"], f"{mount}/data/*": ["read"]}


# --- logins


def approle(bao: Bao, policy: str, *, ttl: str = "1h", uses: int = 0, max_ttl: str = "0") -> tuple[str, str]:
    if "approle/" not in bao.call("GET", "sys/auth")[1]["data"]:
        bao.call("POST", "sys/auth/approle", {"type": "approle"})
    name = policy.replace("policy", "role")
    body = {"token_policies": [policy], "token_ttl": ttl, "token_max_ttl": max_ttl, "secret_id_num_uses": uses}
    bao.call("POST", f"auth/approle/role/{name}", body)
    role = bao.call("GET", f"auth/approle/role/{name}/role-id")[1]["data"]["role_id"]
    return role, bao.call("POST", f"auth/approle/role/{name}/secret-id", {})[1]["data"]["secret_id"]


def test_login_with_approle(bao: Bao, bao_kv: str) -> None:
    fill(bao, bao_kv, 2)
    role, secret = approle(bao, bao.policy(rights(bao_kv)))
    server = Server(bao.address)
    server.log_in(Login("auth/approle/login", {"role_id": role, "secret_id": secret}))
    token = server._token
    assert keys(read(server, f"{bao_kv}/app")) == {"S000_VALUE": "0", "S001_VALUE": "1"}
    assert bao.call("GET", "auth/token/lookup-self", token=token)[0] == 200
    server.close()
    # what was logged in for is given back
    assert bao.call("GET", "auth/token/lookup-self", token=token, ok=False)[0] == 403


def test_a_login_that_is_refused(bao: Bao) -> None:
    approle(bao, bao.policy({}))
    server = Server(bao.address)
    with pytest.raises(Denied) as raised:
        server.log_in(Login("auth/approle/login", {"role_id": "canary7", "secret_id": "canary7"}))
    assert raised.value.code == "vault.login" and "canary7" not in str(raised.value) + raised.value.hint
    with pytest.raises((UsageError, Denied)):
        server.log_in(Login("auth/no-such/login", {"role_id": "a", "secret_id": "b"}))
    server.close()


def jwt_login(bao: Bao, policy: str) -> str:
    """A JWT that logs in as the role `importer`, which gives `policy`."""
    from joserfc import jwt
    from joserfc.jwk import RSAKey

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    if "jwt/" not in bao.call("GET", "sys/auth")[1]["data"]:
        bao.call("POST", "sys/auth/jwt", {"type": "jwt"})
    bao.call("POST", "auth/jwt/config", {"jwt_validation_pubkeys": [public.decode()], "bound_issuer": "tests"})
    role = {"role_type": "jwt", "user_claim": "sub", "bound_audiences": ["zopp"], "token_policies": [policy]}
    bao.call("POST", "auth/jwt/role/importer", role)
    claims = {"iss": "tests", "sub": "job", "aud": "zopp", "exp": int(time.time()) + 300, "iat": int(time.time())}
    return jwt.encode({"alg": "RS256"}, claims, RSAKey.import_key(private))


def test_login_with_a_jwt(bao: Bao, bao_kv: str) -> None:
    fill(bao, bao_kv, 1)
    signed = jwt_login(bao, bao.policy(rights(bao_kv)))
    server = Server(bao.address)
    server.log_in(Login("auth/jwt/login", {"role": "importer", "jwt": signed}))
    assert keys(read(server, f"{bao_kv}/app")) == {"S000_VALUE": "0"}
    server.close()
    head, body, signature = signed.split(".")
    with pytest.raises(Denied) as raised:
        server.log_in(Login("auth/jwt/login", {"role": "importer", "jwt": f"{head}.{body}.{signature[::-1]}"}))
    assert raised.value.code == "vault.login"
    server.close()


def test_least_rights_on_version_1(bao: Bao) -> None:
    bao.mount("kv1-least", 1)
    bao.put("kv1-least", "api/a", {"x": "1"}, version=1)
    bao.put("kv1-least", "api/b/c", {"x": "2"}, version=1)
    server = Server(bao.address)
    server.use_token(bao.token({"kv1-least/api/*": ["read", "list"]}))
    assert keys(read(server, "kv1-least/api")) == {"A_X": "1", "B_C_X": "2"}
    server.close()


def test_a_token_that_may_not_look_itself_up_is_used_as_it_is(bao: Bao, bao_kv: str) -> None:
    fill(bao, bao_kv, 1)
    server = Server(bao.address)
    server.use_token(bao.token(rights(bao_kv), default=False))
    assert keys(read(server, f"{bao_kv}/app")) == {"S000_VALUE": "0"}
    server.close()


# --- renewal


def test_a_token_is_renewed_while_it_is_used(bao: Bao, bao_kv: str, slow: Front) -> None:
    """50 secrets at 100 ms each with a token that lives for 3 s; without renewal the rest is denied."""
    fill(bao, bao_kv, 50)
    server = Server(slow.address)
    server.use_token(bao.token(rights(bao_kv), ttl="3s"))
    began = time.monotonic()
    reading = read(server, f"{bao_kv}/app")
    assert time.monotonic() - began > 4
    assert len(reading.entries) == 50 and not reading.left
    assert sum(asked.path.endswith("renew-self") for asked in slow.asked) >= 2
    server.close()


def test_a_token_that_cannot_be_renewed_ends_the_import(bao: Bao, bao_kv: str, slow: Front) -> None:
    """What is denied because the token ran out is not said to be denied by policy."""
    fill(bao, bao_kv, 50)
    said: list[str] = []
    server = Server(slow.address, warned=said.append)
    server.use_token(bao.token(rights(bao_kv), ttl="2s", explicit_max="2s"))
    with pytest.raises(Denied) as raised:
        read(server, f"{bao_kv}/app")
    assert raised.value.code == "vault.expired"
    server.close()


def test_a_login_is_made_again_where_its_token_cannot_be_renewed(bao: Bao, bao_kv: str, slow: Front) -> None:
    fill(bao, bao_kv, 50)
    role, secret = approle(bao, bao.policy(rights(bao_kv)), ttl="2s", max_ttl="3s")
    server = Server(slow.address)
    server.log_in(Login("auth/approle/login", {"role_id": role, "secret_id": secret}))
    reading = read(server, f"{bao_kv}/app")
    assert len(reading.entries) == 50 and not reading.left
    assert sum(asked.path.endswith("approle/login") for asked in slow.asked) >= 2
    server.close()


# --- namespaces, TLS, seal


def test_namespaces(bao: Bao) -> None:
    bao.call("POST", "sys/namespaces/team", {})
    bao.mount("kv", 2, ns="team")
    bao.put("kv", "app", {"a": "1"}, ns="team")
    server = Server(bao.address, namespace="team")
    server.use_token(bao.root)
    (entry,) = read(server, "kv/app").entries
    assert (entry.value, entry.id, entry.address) == ("1", f"{bao.address}/team/kv/app#a", "kv/app/a")
    server.close()
    # a namespace is a part of the path, and so the same secret is the same secret
    bare = Server(bao.address)
    bare.use_token(bao.root)
    (again,) = read(bare, "app", mount="team/kv").entries
    assert again.id == entry.id
    for namespace, kv in (("", 2), ("no-such", 2), ("no-such", 0)):
        wrong = Server(bao.address, namespace=namespace)
        wrong._token = bao.root
        with pytest.raises((NotFound, UsageError)) as raised:
            read(wrong, "kv/app", kv=kv)
        assert "--namespace" in raised.value.hint or "--kv" in raised.value.hint
        wrong.close()
    bare.close()


def test_other_engines_are_refused(bao: Bao) -> None:
    bao.call("POST", "sys/mounts/transit", {"type": "transit"})
    server = Server(bao.address)
    server.use_token(bao.root)
    for path in ("transit/keys", "cubbyhole/a", "sys/mounts"):
        with pytest.raises(UsageError) as raised:
            read(server, path)
        assert raised.value.code == "vault.kind"
    server.close()


def test_a_token_that_is_none(bao: Bao, bao_kv: str) -> None:
    """OpenBao says 403 for what it does not know, as for what it denies."""
    server = Server(bao.address)
    server.use_token("s.canary7")
    with pytest.raises((UsageError, Denied)) as raised:
        read(server, f"{bao_kv}/app")
    assert "canary7" not in str(raised.value) + raised.value.hint
    server.close()


def test_certificates_are_verified(tmp_path: Path) -> None:
    bao = Bao(tmp_path, tls=True)
    try:
        until = time.monotonic() + 30
        while not bao.ca.exists():
            assert time.monotonic() < until
            time.sleep(0.05)
        server = Server(bao.address, pause=lambda seconds: None)
        with pytest.raises(Unknown) as raised:
            server.use_token(bao.root)
        assert raised.value.code == "vault.tls" and "VAULT_CACERT" in raised.value.hint
        server.close()
        verified = Server(bao.address, verify=str(bao.ca))
        verified.use_token(bao.root)
        assert verified.ask("GET", "sys/seal-status").at("sealed") is False
        verified.close()
    finally:
        bao.stop()


def test_a_sealed_server_says_so_at_once(tmp_path: Path) -> None:
    bao = Bao(tmp_path)
    try:
        bao.call("POST", "sys/seal", {})
        server = Server(bao.address)
        began = time.monotonic()
        with pytest.raises(Unknown) as raised:
            server.use_token(bao.root)
        assert raised.value.code == "vault.sealed" and time.monotonic() - began < 5
        server.close()
    finally:
        bao.stop()


def test_three_hundred_secrets_in_time(bao: Bao, bao_kv: str) -> None:
    """One connection is kept: a read is a millisecond or few, not a handshake."""
    fill(bao, bao_kv, 300)
    server = Server(bao.address)
    server.use_token(bao.root)
    seen: list[tuple[int, int]] = []
    began = time.monotonic()
    from zopp.exchange.sources import vault as source

    engine, below = source.find_engine(server, "", f"{bao_kv}/app", 0)
    reading = source.read(server, engine, below, progress=lambda done, of: seen.append((done, of)))
    assert time.monotonic() - began < 20
    assert len(reading.entries) == 300 and seen[-1] == (300, 301)
    assert json.dumps([entry.key for entry in reading.entries]).count("_VALUE") == 300
    server.close()
