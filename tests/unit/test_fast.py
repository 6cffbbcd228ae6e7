"""Both branches of `_fast`, the private reach and the public fallback, give the same answers on the same input."""

import builtins
import hashlib
import hmac
import importlib.util
import json
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from hypothesis import given, strategies as st

from zopp import _fast

PRIVATE = {"_sha2", "_sha3", "_sha256", "_sha512", "_json", "_operator", "cryptography.hazmat.bindings._rust"}


@pytest.fixture(scope="module")
def public() -> Iterator[ModuleType]:
    """A second copy of the module, loaded and run where no private module can be imported."""
    real = builtins.__import__

    def guarded(name: str, globals: Any = None, locals: Any = None, fromlist: Any = (), level: int = 0) -> Any:
        caller = (globals or {}).get("__name__", "")
        if name in PRIVATE and caller == "zopp_fast_public":
            raise ImportError(name)
        return real(name, globals, locals, fromlist, level)

    builtins.__import__ = guarded
    try:
        spec = importlib.util.spec_from_file_location("zopp_fast_public", _fast.__file__)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        yield module
    finally:
        builtins.__import__ = real


def outcome(call: Any, *args: Any) -> Any:
    """What a call gives: its value, or the name of what it raises."""
    try:
        return call(*args)
    except Exception as exc:
        return type(exc).__name__


def test_the_two_copies_differ(public: ModuleType) -> None:
    """Else the rest of this module would compare one branch with itself."""
    assert public._sha256 is hashlib.sha256
    assert _fast._sha256 is not hashlib.sha256


@given(st.binary(max_size=300))
def test_hashes(public: ModuleType, data: bytes) -> None:
    assert _fast.sha256(data) == public.sha256(data) == hashlib.sha256(data).digest()
    assert _fast.sha512(data) == public.sha512(data) == hashlib.sha512(data).digest()


@given(st.binary(max_size=300), st.integers(0, 300))
def test_shake(public: ModuleType, data: bytes, size: int) -> None:
    wanted = hashlib.shake_256(data).digest(size)
    assert _fast.shake256(data, size) == public.shake256(data, size) == wanted


def test_hashes_of_large_data() -> None:
    for size in (_fast._HASHLIB_FROM, _fast._HASHLIB_FROM + 1):
        data = b"x" * size
        assert _fast.sha256(data) == hashlib.sha256(data).digest()
        assert _fast.sha512(data) == hashlib.sha512(data).digest()


@given(st.binary(max_size=64), st.binary(max_size=200))
def test_hmac(public: ModuleType, key: bytes, message: bytes) -> None:
    assert _fast.hmac_sha256(key, message) == hmac.digest(key, message, "sha256")
    assert public.hmac_sha256(key, message) == hmac.digest(key, message, "sha256")


def test_hmac_refuses_long_keys() -> None:
    with pytest.raises(ValueError, match="one block"):
        _fast.hmac_sha256(b"x" * 65, b"")


@given(st.binary(max_size=20), st.binary(max_size=20))
def test_constant_time_equal(public: ModuleType, a: bytes, b: bytes) -> None:
    assert _fast.constant_time_equal(a, b) == public.constant_time_equal(a, b) == (a == b)
    assert _fast.constant_time_equal(a, bytes(a))
    assert public.constant_time_equal(a, bytes(a))


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32), st.binary(min_size=1), st.binary())
def test_aesgcm(public: ModuleType, key: bytes, nonce: bytes, plain: bytes, aad: bytes) -> None:
    mine, theirs = _fast.aesgcm(key), public.aesgcm(key)
    sealed = mine.encrypt(nonce, plain, aad)
    assert sealed == theirs.encrypt(nonce, plain, aad)
    assert theirs.decrypt(nonce, sealed, aad) == mine.decrypt(nonce, sealed, aad) == plain
    for box in (mine, theirs):
        with pytest.raises(InvalidTag):
            box.decrypt(nonce, sealed, aad + b"x")


@pytest.mark.parametrize("size", [0, 15, 31, 33])
def test_aesgcm_refuses_other_key_sizes(public: ModuleType, size: int) -> None:
    for module in (_fast, public):
        with pytest.raises(ValueError):
            module.aesgcm(b"k" * size)


@given(st.binary(min_size=32, max_size=32), st.binary(max_size=100), st.integers(0, 95), st.integers(0, 255))
def test_ed25519(public: ModuleType, seed: bytes, message: bytes, at: int, change: int) -> None:
    key = Ed25519PrivateKey.from_private_bytes(seed)
    point, signature = key.public_key().public_bytes_raw(), key.sign(message)
    for module in (_fast, public):
        private = module.ed25519_private(seed)
        assert private.sign(message) == signature
        assert private.public_key().public_bytes_raw() == point
        assert module.ed25519_verify(point, signature, message)
        assert not module.ed25519_verify(point, signature, message + b"x")
    both = bytearray(point + signature)
    both[at] ^= change
    point, signature = bytes(both[:32]), bytes(both[32:])
    assert _fast.ed25519_verify(point, signature, message) == public.ed25519_verify(point, signature, message)


@given(st.binary(max_size=70), st.binary(max_size=70))
def test_ed25519_takes_any_bytes(public: ModuleType, point: bytes, signature: bytes) -> None:
    assert _fast.ed25519_verify(point, signature, b"") is False
    assert public.ed25519_verify(point, signature, b"") is False


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=12,
)


@given(json_values)
def test_json_is_read(public: ModuleType, value: Any) -> None:
    text = json.dumps(value)
    assert _fast.json_parse(text) == public.json_parse(text) == value


WORDS = '{ } [ ] , : "a" "b" 1 -0 1.5e3 01 NaN Infinity -Infinity null tru true "\\u0061" "\\ud800" \' 1e999 /**/'
PIECES = st.sampled_from([*WORDS.split(" "), " ", "\n", "\t", '"\x01"', "\ufeff"])


@given(st.lists(PIECES, max_size=9).map("".join) | st.text(max_size=20))
def test_json_that_is_none_is_refused_alike(public: ModuleType, text: str) -> None:
    assert repr(outcome(_fast.json_parse, text)) == repr(outcome(public.json_parse, text))


@pytest.mark.parametrize(
    "text", ['{"a":1,"a":1}', '{"a":{"b":1,"b":2}}', "NaN", "[Infinity]", "1 2", "", "[" * 100_000]
)
def test_json_refuses(public: ModuleType, text: str) -> None:
    for module in (_fast, public):
        with pytest.raises(ValueError) as caught:
            module.json_parse(text)
        assert "a" not in str(caught.value).split('"')
        assert len(str(caught.value)) < 60


@pytest.mark.parametrize("text", [" 1", "1 ", "\n{}", "{}\n"])
def test_json_has_no_blanks_around_it(public: ModuleType, text: str) -> None:
    for module in (_fast, public):
        with pytest.raises(ValueError):
            module.json_parse(text)


def test_the_module_itself_is_lean() -> None:
    import subprocess

    code = "import sys; before = set(sys.modules); import zopp._fast; print(sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(json.loads(done.stdout.replace("'", '"')))
    assert loaded <= {"zopp", "zopp._fast", "_sha2", "_sha256", "_sha512", "types"}


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32))
def test_x25519(public: ModuleType, mine: bytes, theirs: bytes) -> None:
    """The same public key and shared secret, or the same refusal of a point without one."""

    def shared(module: ModuleType) -> tuple[bytes, Any]:
        private = module.x25519_private(mine)
        point = module.x25519_private(theirs).public_key().public_bytes_raw()
        return private.public_key().public_bytes_raw(), private.exchange(module.x25519_public(point))

    assert shared(_fast) == shared(public)
    for point in (bytes(32), b"\1" + bytes(31), theirs):
        assert outcome(lambda m, p=point: m.x25519_private(mine).exchange(m.x25519_public(p)), _fast) == outcome(
            lambda m, p=point: m.x25519_private(mine).exchange(m.x25519_public(p)), public
        )


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=12, max_size=12), st.binary(max_size=100))
def test_chacha20(public: ModuleType, key: bytes, nonce: bytes, plain: bytes) -> None:
    sealed = ChaCha20Poly1305(key).encrypt(nonce, plain, None)
    for module in (_fast, public):
        assert module.open_chacha20(key, nonce, sealed) == plain
        for bad in (sealed[:-1], sealed[:-1] + bytes([sealed[-1] ^ 1]), b""):
            with pytest.raises(ValueError, match="tag does not hold"):
                module.open_chacha20(key, nonce, bad)
