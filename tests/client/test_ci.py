"""What a CI job reads from others: any bytes are taken or refused in a sentence that quotes nothing, never a fault."""

import os
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from zopp.client import ci
from zopp.client.connect import Log
from zopp.errors import Unknown, ZoppError
from zopp.keys import find, signing
from zopp.policy import canonical
from zopp.policy.roles import OidcRule

MARK = "canary0canary"
RULE = OidcRule(
    "deploy", "ci", "https://github.test", "x", (("ref", "refs/heads/main"), ("repository_id", "7")), 900, 3
)


@given(st.binary(max_size=300) | st.text(max_size=100).map(lambda s: f'{{"value": "{s}"}}'.encode()))
@settings(max_examples=300, deadline=None)
def test_any_answer_is_a_token_or_refused(body: bytes) -> None:
    try:
        token = ci._value(body)
    except Unknown as exc:
        token, said = "", f"{exc.code} {exc}"
    assert ci._is_token(token) if token else (said.startswith("ci.token ") and "{" not in said)


@given(st.text(max_size=60), st.text(max_size=60))
@settings(max_examples=300, deadline=None)
def test_any_address_and_bearer_is_refused_in_words(url: str, bearer: str) -> None:
    """No request leaves: none of these is an address of https, or of loopback with somebody there."""
    with pytest.raises(Unknown) as refused:
        ci._ask_github("x" + url, MARK + bearer, "audience")
    assert refused.value.code == "ci.token" and MARK not in str(refused.value)


def claims(value: object) -> str:
    return f"e30.{canonical.b64(canonical.encode(value))}.e30"


@given(st.dictionaries(st.sampled_from(["iss", "ref", "repository_id", MARK]), st.text(max_size=20) | st.integers()))
@settings(max_examples=200, deadline=None)
def test_only_claims_that_a_rule_names_are_shown(value: dict[str, object]) -> None:
    try:
        text = claims({**value, "actor": MARK})
    except ZoppError:
        return
    said = ci._differs((RULE,), text)
    assert MARK not in said and said.isprintable()
    assert bool(said) == (value.get("iss") == RULE.issuer and dict(RULE.claims).items() - value.items() != set())


@given(st.text(max_size=80))
@settings(max_examples=200, deadline=None)
def test_any_text_instead_of_a_token_tells_nothing(text: str) -> None:
    assert ci._differs((RULE,), text) == "" and ci._differs((RULE,), f"a.{text}.c") == ""


def kept(folder: Path) -> Path:
    path = folder / "x.job"
    ci._keep(str(path), "0" * 64, ci.Job("ci/x", signing.generate(), int(time.time()) + 600, False))
    return path


@given(at=st.integers(0, 10_000), flip=st.integers(1, 255))
@settings(max_examples=150, deadline=None)
def test_a_changed_byte_of_a_kept_key_is_none_or_the_same_key(
    tmp_path_factory: pytest.TempPathFactory, at: int, flip: int
) -> None:
    """Or another principal, binding or end, which the caller and the server look at; never an exception, nor a key
    whose halves differ."""
    path = kept(tmp_path_factory.mktemp("kept"))
    before = ci._load(str(path))
    assert before is not None
    data = bytearray(path.read_bytes())
    data[at % len(data)] ^= flip
    path.write_bytes(data)
    path.chmod(0o600)
    after = ci._load(str(path))
    assert after is None or after[1].key.public == before[1].key.public


@given(st.binary(max_size=200))
@settings(max_examples=100, deadline=None)
def test_any_file_is_no_key(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.mktemp("any") / "x.job"
    path.write_bytes(data)
    path.chmod(0o600)
    assert ci._load(str(path)) is None


def test_the_file_holds_no_more_than_the_jobs_key(tmp_path: Path) -> None:
    value = canonical.decode(kept(tmp_path).read_bytes())
    assert set(value) == {"binding", "key", "not_after", "principal", "v"}


def counter(folder: Path, **changes: Any) -> ci.Counter:
    fields = {
        "origin": "https://zopp.example", "workspace": "acme", "recipient": "age1one", "service": "ci", "rules": (),
        "log": Log("0" * 64, str(folder), ()), "connect": None, "check": None,
    }  # fmt: skip
    return ci.Counter(**{**fields, **changes})


@pytest.fixture
def registrations(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Registering is counted and works; nothing is sent."""
    made: list[str] = []

    def register(env: object, source: str, where: ci.Counter) -> ci.Job:
        made.append(source)
        return ci.Job(f"ci/{len(made)}", signing.generate(), int(time.time()) + 600, False)

    monkeypatch.setattr(ci, "_registered", register)
    return made


def test_a_kept_key_is_bound(tmp_path: Path, registrations: list[str]) -> None:
    """To the server, the workspace, the service's recipient and the source of the token, all of them."""
    jwt = {"ZOPP_ID_TOKEN": "a.b.c"}
    asks = {"ACTIONS_ID_TOKEN_REQUEST_URL": "https://x", "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "one"}
    here = counter(tmp_path)
    others: list[tuple[dict[str, str], ci.Counter]] = [
        (jwt, here),
        ({"ZOPP_ID_TOKEN": "a.b.d"}, here),
        (asks, here),
        ({**asks, "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "two"}, here),
        ({**asks, "ACTIONS_ID_TOKEN_REQUEST_URL": "https://y"}, here),
        (jwt, counter(tmp_path, origin="https://other.example")),
        (jwt, counter(tmp_path, log=Log("1" * 64, str(tmp_path), ()))),
        (jwt, counter(tmp_path, recipient="age1two")),
    ]
    first = [ci.job(env, where) for env, where in others]
    assert len(registrations) == len(others) and len({job.key.public for job in first}) == len(others)
    again = [ci.job(env, where) for env, where in others]
    assert len(registrations) == len(others)
    assert [job.key.public for job in again] == [job.key.public for job in first]
    assert all(job.kept for job in again) and not any(job.kept for job in first)
    spent = ci.job(jwt, here, spent=again[0].key.public)
    assert spent.key.public != again[0].key.public and not spent.kept
    assert ci.job(jwt, here).key.public == spent.key.public


def test_a_state_folder_that_cannot_be_written(tmp_path: Path, registrations: list[str]) -> None:
    """Said before a token is used, which may serve once."""
    (tmp_path / "state").write_bytes(b"")
    with pytest.raises(Unknown) as refused:
        ci.job({"ZOPP_ID_TOKEN": "a.b.c"}, counter(tmp_path / "state"))
    assert refused.value.code == "ci.state" and "XDG_STATE_HOME" in refused.value.hint
    assert not registrations


def test_another_users_file_is_no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = kept(tmp_path)
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    assert ci._load(str(path)) is None


def test_a26_every_variable_that_a_token_is_read_from_is_a_key_variable() -> None:
    source = Path(ci.__file__).read_text() + Path(find.__file__).read_text()
    import re

    read = set(re.findall(r'env(?:\.get\(|\[)"([A-Z_]+)"', source)) - {"SSH_AUTH_SOCK"}
    assert {"ZOPP_ID_TOKEN", "ACTIONS_ID_TOKEN_REQUEST_URL", "ACTIONS_ID_TOKEN_REQUEST_TOKEN"} <= read
    assert read <= set(find.KEY_VARIABLES)
