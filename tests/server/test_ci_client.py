"""CI jobs by the command line on the real server: rules made by `principal trust-ci`, tokens of a local issuer, a
loopback host that stands in for GitHub's token service (S41, A25, A26). Nothing here has met the live services."""

import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.actions.conftest import Job, source as source
from tests.brokered.brokers import sops_of
from tests.client.test_invites import Party
from tests.server.conftest import Database
from tests.server.issuer import HEADER, document, github, gitlab, jwk, rsa_key, token
from tests.server.live import Live
from tests.server.test_client import Remote
from tests.support import Done, Team, User, refused
from zopp.client import ci, pinned
from zopp.client.pinned import Asker
from zopp.client.releases import Releases
from zopp.client.transport import Answer, Server
from zopp.errors import Denied, IntegrityError, Unknown
from zopp.keys import agefile, signing
from zopp.keys.filekey import stanza_of
from zopp.policy import canonical
from zopp.policy.names import Scope
from zopp.repo.unlock import Keyring
from zopp.repo.workspace import Workspace, open_workspace
from zopp.tlog import checkpoint, entry, merkle, proof
from zopp_server import custody
from zopp_server.jwks import Jwks
from zopp_server.oidc import Issuer

REQUEST_TOKEN = "canary-request-token"
GITHUB = ("--github", "--repository-id", "7", "--owner-id", "70", "--issuer", "https://github.test")
GITLAB = ("--gitlab", "--project-id", "7", "--namespace-id", "70", "--issuer", "https://gitlab.test")


class TokenService:
    """GitHub's token service on loopback: a token for whatever audience is asked for, or what it is told to answer."""

    def __init__(self) -> None:
        self.claims: dict[str, Any] = {}
        self.answer: Callable[[BaseHTTPRequestHandler], None] | None = None
        self.asked: list[str] = []
        self.tokens: list[str] = []
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                service.asked.append(self.path)
                if self.headers["Authorization"] != f"Bearer {REQUEST_TOKEN}":
                    self.send_error(401)
                elif service.answer is not None:
                    service.answer(self)
                else:
                    made = service.token(parse_qs(urlsplit(self.path).query)["audience"][0])
                    say(self, json.dumps({"value": made}).encode())

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._http.serve_forever, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_port}/token?api-version=2.0"

    @property
    def env(self) -> dict[str, str]:
        return {"ACTIONS_ID_TOKEN_REQUEST_URL": self.url, "ACTIONS_ID_TOKEN_REQUEST_TOKEN": REQUEST_TOKEN}

    def token(self, audience: str) -> str:
        now = int(time.time())
        times = {"iat": now, "nbf": now - 5, "exp": now + 300, "jti": os.urandom(8).hex(), "aud": audience}
        claims = {**times, "environment": "production", **self.claims}
        self.tokens.append(token(HEADER, github(**claims)))
        return self.tokens[-1]

    def stop(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join(5)


def say(handler: BaseHTTPRequestHandler, body: bytes, status: int = 200, **headers: str) -> None:
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name, value)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


@dataclass
class World:
    """acme at the real server; prod brokered and protected, dev brokered, staging direct; the service ci reads all.
    `job` is a job of it with its age key and no signing key."""

    party: Party
    server: Live
    tokens: TokenService
    job: User
    said: list[Done] = field(default_factory=list)

    @property
    def alice(self) -> User:
        return self.party.alice

    def trust(self, *argv: str, code: int = 0) -> Done:
        done = self.alice.zopp("principal", "trust-ci", "ci", *argv, "--yes", code=code)
        self.share()
        return done

    def share(self) -> None:
        self.alice.share("rules")
        self.job.pull()

    def run(self, *argv: str, code: int | None = None, **env: str) -> Done:
        """A command of the job, with GitHub's token service unless `env` holds a token."""
        more = env if "ZOPP_ID_TOKEN" in env else {**self.tokens.env, **env}
        done = self.job.zopp(*argv, env=more, code=code)
        self.said.append(done)
        return done

    def gitlab(self, **claims: Any) -> str:
        now = int(time.time())
        times = {"iat": now, "nbf": now - 5, "exp": now + 600, "jti": os.urandom(8).hex()}
        return token(HEADER, gitlab(**{**times, "aud": self.server.origin, **claims}))

    @property
    def folder(self) -> Path:
        return self.job.home / ".local/state/zopp/jobs"

    def kept(self) -> list[Path]:
        return sorted(self.folder.glob("*.job"))

    def registered(self) -> int:
        rows = self.alice.ok("audit", "list", "--action", "oidc", "--outcome", "allow", "--limit", "200", "--json").json
        return len(rows)


@pytest.fixture
def world(server: Live, database: Database, tmp_path: Path) -> Iterator[World]:
    issuers = {
        f"https://{kind}.test": Issuer(origin=f"https://{kind}.test", kind=kind, jwks_url=f"https://{kind}.test/jwks")
        for kind in ("github", "gitlab")
    }

    async def fetch(_: Issuer) -> bytes:
        return document(jwk(rsa_key(), "k1"))

    async def plug() -> None:
        assert server.service is not None
        server.service.jwks = Jwks(issuers, fetch=fetch)

    server.run(plug())
    party = Party(Team.make(tmp_path / "team"), Remote(server, database))  # type: ignore[arg-type]
    for env in ("prod", "dev", "staging"):
        party.alice.ok("grant", "ci", "read", f"api/{env}")
    party.alice.ok("env", "kind", "prod", "brokered")
    party.alice.ok("env", "protect", "prod")
    party.alice.ok("env", "kind", "dev", "brokered")
    party.team.sync("ready")
    job = party.team.job()
    (job.home / "keys/signing.key").unlink()
    del job.extra["ZOPP_SIGNING_KEY_FILE"]
    tokens = TokenService()
    yield World(party, server, tokens, job)
    tokens.stop()


@pytest.fixture
def trusted(world: World) -> World:
    """With a rule for main and the environment production of a GitHub repository."""
    world.trust(*GITHUB, "--ref", "main", "--environment", "production")
    return world


# --- S41


def test_s41_a_github_job_reads(trusted: World) -> None:
    """One rule by command; several commands of one job register once; the whole log is judged again."""
    world = trusted
    assert world.run("get", "BASE", "-e", "prod", code=0).out == "base-prod"
    assert world.run("get", "BASE", "-e", "dev", code=0).out == "base-dev"
    done = world.run("run", "--no-redact", "-e", "prod", "--", "sh", "-c", "true", code=0)
    assert done.exec is not None and done.exec[2]["BASE"] == "base-prod"
    assert "BASE=base-prod" in world.run("export", "-e", "prod", code=0).out.replace("'", "").replace('"', "")
    assert world.registered() == 1 and len(world.tokens.tokens) == 1
    assert "audience=http%3A%2F%2F127.0.0.1" in world.tokens.asked[0] and "api-version=2.0&" in world.tokens.asked[0]
    row = world.alice.ok("audit", "list", "--action", "release", "--limit", "1", "--json").json[0]
    assert row["actor"].startswith("ci/") and row["on_behalf"] == "ci"
    assert world.alice.ok("audit", "verify", "--replay", "--json").json["ok"]


def test_s41_the_deploy_example_reads_a_brokered_environment(trusted: World, tmp_path: Path, source: Path) -> None:
    """`examples/github/deploy.yml` by act: the job's token registers its key, the age key is the second factor, and
    what the release gave is taken out of the output."""
    world = trusted
    workflow = (Path(__file__).parents[2] / "examples/github/deploy.yml").read_text()
    workflow = workflow.replace("env: production", "env: prod")
    (world.job.repo / "deploy.sh").write_text('#!/bin/sh\necho "deploys with $BASE"\n')
    (world.job.repo / "deploy.sh").chmod(0o755)
    age = next(line for line in (world.job.home / "keys/age.key").read_text().split("\n") if line.startswith("AGE-"))

    def act(name: str, code: int = 0) -> str:
        """On a runner of its own: a key that another job left is of no use to this one."""
        (tmp_path / name / "runner").mkdir(parents=True)
        job = Job(world.job, tmp_path / name, world.job.extra["ZOPP_TRUST"], age, source, uses="zopp/zopp@" + "0" * 40)
        return job.run(workflow, env=world.tokens.env, code=code)

    assert "deploys with [redacted:BASE]" in act("first")
    assert world.registered() == 1
    world.tokens.claims = {"environment": "staging"}
    said = act("second", code=125)
    assert "deploys" not in said
    assert "environment" in said


def test_s41_a_gitlab_token_serves_a_whole_job(world: World) -> None:
    """It is good once at the server, and a job runs several commands."""
    world.trust(
        *GITLAB, "--ref", "refs/heads/main", "--config-ref", "gitlab.test/acme/api//.gitlab-ci.yml@refs/heads/main"
    )
    jwt = world.gitlab()
    assert world.run("get", "BASE", "-e", "prod", code=0, ZOPP_ID_TOKEN=jwt).out == "base-prod"
    done = world.run("run", "--no-redact", "-e", "prod", "--", "sh", "-c", "true", code=0, ZOPP_ID_TOKEN=jwt)
    assert done.exec is not None and done.exec[2]["BASE"] == "base-prod"
    assert not {"ZOPP_ID_TOKEN", "ZOPP_AGE_KEY_FILE"} & done.exec[2].keys()
    assert world.registered() == 1
    # the key is lost: the token does not serve again
    world.kept()[0].unlink()
    refused(
        world.run("get", "BASE", "-e", "prod", ZOPP_ID_TOKEN=jwt), 1, words=["was used before, and serves once", "HOME"]
    )


# --- S41: who is refused, and told why


def test_s41_a_feature_branch_is_refused(trusted: World) -> None:
    """With the right environment too (A25); the message says what differs, and nothing is kept."""
    trusted.tokens.claims = {"ref": "refs/heads/feature"}
    done = trusted.run("get", "BASE", "-e", "prod")
    refused(done, 1, words=["ref is refs/heads/feature", "refs/heads/main", "zopp principal ci-rules"])
    assert not trusted.kept()


REFUSED: dict[str, tuple[dict[str, Any], list[str]]] = {
    "a fork": ({"repository_id": "8", "repository_owner_id": "80"}, ["repository_id is 8"]),
    "another environment": ({"environment": "staging"}, ["environment is staging"]),
    "no environment": ({"environment": ...}, ["environment is not there"]),
    "a pull request": ({"event_name": "pull_request_target"}, ["may be started by outsiders"]),
    "an expired token": ({"iat": 1, "nbf": 1, "exp": 300}, ["expired", "run the job again"]),
    "a long token": ({"exp": int(time.time()) + 3600}, ["lives longer"]),
    "another audience": ({"aud": "https://elsewhere.test"}, ["audience", "zopp principal ci-rules"]),
    "an issuer that is not listed": ({"iss": "https://evil.test"}, ["issuer", "ZOPP_SERVER_OIDC_ISSUERS_FILE"]),
    "escape sequences in a claim": ({"ref": "\x1b[2Jrefs/heads/main"}, ["ref is something else"]),
    "a claim of another type": ({"ref": ["refs/heads/main"]}, ["something else"]),
}


def test_s41_others_are_refused(trusted: World) -> None:
    """By get, export and run; the log of it all is judged again."""
    for name, (claims, words) in REFUSED.items():
        trusted.tokens.claims = claims
        for argv in (("get", "BASE", "-e", "prod"), ("export", "-e", "dev")):
            done = trusted.run(*argv)
            refused(done, 1, words=words)
            assert "\x1b" not in done.text, name
        done = trusted.run("run", "--no-redact", "-e", "prod", "--", "true")
        assert done.code == 125 and done.exec is None, name
        assert not trusted.kept(), name
    assert trusted.alice.ok("audit", "verify", "--replay", "--json").json["ok"]


def test_s41_an_expired_gitlab_token_says_so(world: World) -> None:
    world.trust(*GITLAB, "--ref", "main")
    now = int(time.time())
    jwt = world.gitlab(iat=now - 700, nbf=now - 700, exp=now - 1)
    refused(world.run("get", "BASE", "-e", "dev", ZOPP_ID_TOKEN=jwt), 1, words=["expired", "early in the job"])


def test_s41_after_untrust_ci(trusted: World) -> None:
    """A job that registered before is refused as well, and its kept key does not stay."""
    world = trusted
    world.run("get", "BASE", "-e", "prod", code=0)
    rule = world.alice.ok("principal", "ci-rules", "--json").json[0]["rule"]
    assert "taken away" in world.alice.ok("principal", "untrust-ci", rule).err
    refused(world.run("get", "BASE", "-e", "prod"), 1, words=["trust-ci ci"])  # the job's clone knows the rule still
    world.share()
    refused(world.run("get", "BASE", "-e", "prod"), 1, words=["trust-ci ci"])
    assert world.alice.ok("principal", "ci-rules", "--json").json == []
    assert world.alice.ok("audit", "verify", "--replay", "--json").json["ok"]


def test_s41_after_the_service_is_disabled(trusted: World) -> None:
    """With the clone as it was and with the new files."""
    trusted.run("get", "BASE", "-e", "prod", code=0)
    trusted.alice.ok("principal", "disable", "ci")
    refused(trusted.run("get", "BASE", "-e", "prod"), 1)
    trusted.share()
    refused(trusted.run("get", "BASE", "-e", "prod"), 1, words=["disabled"])


def test_s41_after_the_role_is_taken(trusted: World) -> None:
    trusted.run("get", "BASE", "-e", "prod", code=0)
    rows = trusted.alice.zopp("revoke", "ci", "api/prod", "--json").json["exposed"]
    assert [row["why"] for row in rows if row["key"] == "BASE"] == [["released"]], (
        "what its jobs got counts as released"
    )
    refused(trusted.run("get", "BASE", "-e", "prod"), 1, words=["may not read api/prod"])
    assert trusted.run("get", "BASE", "-e", "dev", code=0).out == "base-dev"


def test_a25_a_protected_environment_needs_more_than_a_ref(world: World) -> None:
    done = world.trust(*GITHUB, "--ref", "refs/heads/main")
    assert "api/prod is protected: this rule gives nothing there" in done.err
    assert world.run("get", "BASE", "-e", "dev", code=0).out == "base-dev"
    refused(world.run("get", "BASE", "-e", "prod"), 1, words=["api/prod is protected", "ci-rules"])
    told = world.alice.zopp("doctor").out
    assert "gives nothing in api/prod" in told and "secret of the whole repository" in told


def test_s41_a_job_never_writes(trusted: World) -> None:
    """Neither values nor policy, also where the service's role would do; nothing is changed and no token asked for."""
    world = trusted
    world.alice.ok("grant", "ci", "admin", "acme")
    world.share()
    before = world.job.tree()
    for argv in (
        ("set", "NEW", "-e", "prod"), ("unset", "BASE", "-e", "dev"), ("edit", "-e", "dev"), ("rekey", "api/dev"),
        ("grant", "bob", "read", "api/prod"), ("env", "unprotect", "prod"), ("principal", "disable", "bob-laptop"),
        ("principal", "untrust-ci", "ci-github-7"), ("audit", "list"),
    ):  # fmt: skip
        done = world.run(*argv)
        refused(done, 1, words=["only reads", "ZOPP_SIGNING_KEY"])
    assert world.job.tree() == before
    assert not world.tokens.asked


# --- keys of both kinds


def test_a_signing_key_comes_first(trusted: World) -> None:
    """A service with its own key asks for no token."""
    own = trusted.party.team.ci
    own.pull()
    assert own.ok("get", "BASE", "-e", "prod", env=trusted.tokens.env).out == "base-prod"
    assert not trusted.tokens.asked


def test_a_broken_signing_key_is_not_passed_over(trusted: World) -> None:
    done = trusted.run("get", "BASE", "-e", "prod", ZOPP_SIGNING_KEY="rubbish")
    refused(done, 3, words=["no signing key"])
    assert not trusted.tokens.asked


def test_with_neither_the_job_is_told_what_it_needs(trusted: World) -> None:
    refused(
        trusted.job.zopp("get", "BASE", "-e", "prod"), 3, words=["ZOPP_SIGNING_KEY", "id-token: write", "ZOPP_ID_TOKEN"]
    )
    told = trusted.job.zopp("doctor").out
    assert "cannot read api/" in told and "id-token: write" in told
    told = trusted.run("doctor").out
    assert "ACTIONS_ID_TOKEN_REQUEST_URL lets this job read" in told and REQUEST_TOKEN not in told


def test_another_services_age_key_does_not_do(trusted: World) -> None:
    """Answers are sealed to the service's recipient; a key that is nobody's here gets no token at all."""
    bob = trusted.party.bob
    refused(trusted.run("get", "BASE", "-e", "prod", ZOPP_AGE_KEY_FILE=str(bob.age_file)), 1, words=["bob-laptop"])
    assert not trusted.tokens.asked


def test_a_service_without_signing_key_is_refused_by_trust_ci(world: World) -> None:
    """It would be no recipient of a brokered environment; `--for-ci` makes one whose key nobody has."""
    alice, keys = world.alice, str(world.party.team.base / "keys")
    asked = alice.ok("principal", "request", "--service", "deploy", "--no-signing-key", "--out-keys", keys)
    alice.ok("principal", "add", "-", stdin=asked.out)
    refused(
        alice.zopp("principal", "trust-ci", "deploy", *GITHUB, "--ref", "main", "--yes"), 1,
        words=["has no signing key", "--for-ci"],
    )  # fmt: skip
    keys += "-ci"
    asked = alice.ok("principal", "request", "--service", "deploy", "--for-ci", "--out-keys", keys)
    assert [path.name for path in Path(keys).iterdir()] == ["age.key"]
    alice.ok("principal", "rekey", "-", stdin=asked.out)
    alice.ok("grant", "deploy", "read", "api/prod")
    alice.ok(
        "principal", "trust-ci", "deploy", *GITHUB, "--ref", "main", "--workflow-ref",
        "acme/api/.github/workflows/deploy.yml@refs/heads/main", "--yes",
    )  # fmt: skip
    world.share()
    done = world.run("get", "BASE", "-e", "prod", code=0, ZOPP_AGE_KEY_FILE=f"{keys}/age.key")
    assert done.out == "base-prod"


# --- the token service


def _status(status: int, body: bytes = b"{}", **headers: str) -> Callable[[BaseHTTPRequestHandler], None]:
    return lambda handler: say(handler, body, status, **headers)


def _drip(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    try:
        for _ in range(100):
            handler.wfile.write(b" ")
            handler.wfile.flush()
            time.sleep(0.05)
    except OSError:
        pass


CANARY = "canary-in-the-answer"
FAILING: dict[str, tuple[Callable[[BaseHTTPRequestHandler], None], str]] = {
    "500": (_status(500, CANARY.encode()), "status 500"),
    "403": (_status(403, CANARY.encode()), "status 403"),
    "204": (_status(204, b""), "status 204"),
    "garbage": (_status(200, CANARY.encode()), "something else than a token"),
    "no JSON": (_status(200, b"\xff\xfe\0"), "something else than a token"),
    "deep JSON": (_status(200, b"[" * 50_000), "something else than a token"),
    "no value": (_status(200, b'{"count": 1}'), "something else than a token"),
    "a value that is no text": (_status(200, b'{"value": ["a.b.c"]}'), "something else than a token"),
    "a value of two lines": (_status(200, b'{"value": "a.b\\nX: y.c"}'), "something else than a token"),
    "huge": (_status(200, b'{"value": "' + b"a.b." + b"c" * 200_000 + b'"}'), "something else than a token"),
    "a token too long": (_status(200, b'{"value": "a.b.' + b"c" * 20_000 + b'"}'), "something else than a token"),
    "slow": (_drip, "did not finish its answer"),
}


def test_a_token_service_that_fails(trusted: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit 3 within the time, in a sentence that quotes nothing; other environments work."""
    monkeypatch.setattr(ci, "PAUSES", (0.01,))
    monkeypatch.setattr(ci, "DEADLINE", 0.3)
    for name, (answer, words) in FAILING.items():
        trusted.tokens.answer = answer
        trusted.tokens.asked.clear()
        began = time.monotonic()
        done = trusted.run("get", "BASE", "-e", "prod")
        refused(done, 3, words=["no OIDC token could be had", words])
        assert time.monotonic() - began < 5, name
        for canary in (CANARY, REQUEST_TOKEN, "api-version"):
            assert canary not in done.text, name
        assert len(trusted.tokens.asked) == (2 if name in ("500", "slow") else 1), name
        assert not trusted.kept(), name
    assert trusted.run("get", "BASE", "-e", "staging", code=0).out == "base-staging"


def test_a_token_service_that_recovers(trusted: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ci, "PAUSES", (0.01, 0.01))

    def once(handler: BaseHTTPRequestHandler) -> None:
        trusted.tokens.answer = None
        say(handler, b"", 503)

    trusted.tokens.answer = once
    assert trusted.run("get", "BASE", "-e", "prod", code=0).out == "base-prod"


def test_no_redirect_is_followed(trusted: World) -> None:
    """The bearer token would go to whoever the redirect names."""
    other = TokenService()
    trusted.tokens.answer = _status(302, b"", Location=other.url)
    refused(trusted.run("get", "BASE", "-e", "prod"), 3, words=["redirect, which is not followed"])
    assert not other.asked
    trusted.tokens.answer = _status(307, b"", Location=trusted.tokens.url)
    refused(trusted.run("get", "BASE", "-e", "prod"), 3, words=["redirect, which is not followed"])
    other.stop()


URLS = (
    "http://tokens.example/x", "http://127.0.0.1.example/x", "ftp://127.0.0.1/x", "https://a@b/x", "https:///x",
    "https://[::1/x", "http://127.0.0.1:99999/x", "https://a b/", "no address", "http://127.0.0.1:1/\u00e9",
)  # fmt: skip


def test_an_address_that_is_none(trusted: World) -> None:
    """Only https, or loopback; none of it is quoted."""
    for url in URLS:
        done = trusted.run("get", "BASE", "-e", "prod", ACTIONS_ID_TOKEN_REQUEST_URL=url)
        refused(done, 3, words=["no OIDC token could be had"])
        assert url not in done.text and REQUEST_TOKEN not in done.text


def test_nobody_there(trusted: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ci, "PAUSES", (0.01,))
    trusted.tokens.stop()
    refused(trusted.run("get", "BASE", "-e", "prod"), 3, words=["does not answer"])


def test_a_variable_that_holds_no_token(trusted: World) -> None:
    """Told before anybody is asked."""
    for text in ("no-token", "a.b", "a.b.c d", "a.b.\x1bc", "\u00e9.b.c", "a.b." + "c" * 20_000, " . . "):
        done = trusted.run("get", "BASE", "-e", "prod", ZOPP_ID_TOKEN=text)
        refused(done, 3, words=["ZOPP_ID_TOKEN holds no token"])
        assert text not in done.text


# --- the kept key


def _key(world: World) -> Path:
    world.run("get", "BASE", "-e", "prod", code=0)
    (found,) = world.kept()
    assert found.stat().st_mode & 0o777 == 0o600 and world.folder.stat().st_mode & 0o777 == 0o700
    return found


def _mode(path: Path) -> None:
    path.chmod(0o644)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _rubbish(path: Path) -> None:
    path.write_bytes(os.urandom(4096))


def _link(path: Path) -> None:
    target = path.with_name("elsewhere")
    target.write_bytes(path.read_bytes())
    target.chmod(0o600)
    path.unlink()
    path.symlink_to(target)


def _folder(path: Path) -> None:
    path.unlink()
    os.mkfifo(path, 0o600)


def _edit(**changes: Any) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        value = dict(canonical.decode(path.read_bytes()))
        path.write_bytes(canonical.encode({**value, **changes}))

    return change


SPOILED: dict[str, Callable[[Path], None]] = {
    "readable by others": _mode,
    "cut": _cut,
    "empty": _empty,
    "rubbish": _rubbish,
    "a link": _link,
    "a pipe": _folder,
    "of another binding": _edit(binding="0" * 64),
    "over": _edit(not_after=int(time.time()) - 1),
    "good for a year": _edit(not_after=int(time.time()) + 31_536_000),
    "without a key": _edit(key="-----BEGIN OPENSSH PRIVATE KEY-----\n"),
    "another field": _edit(more=1),
}


def test_a_spoiled_key_file_is_replaced(trusted: World) -> None:
    """It is ignored and the job registers again."""
    path = _key(trusted)
    for number, (name, spoil) in enumerate(SPOILED.items(), 2):
        spoil(path)
        assert trusted.run("get", "BASE", "-e", "prod", code=0).out == "base-prod"
        assert trusted.registered() == number, name
        assert trusted.kept() == [path] and path.stat().st_mode & 0o777 == 0o600 and not path.is_symlink(), name


def test_a_key_that_was_never_registered_is_replaced(trusted: World) -> None:
    """Whole, ours, in time, and nobody's: the server says so, and the job registers once more."""
    path = _key(trusted)
    _edit(key=signing.dump_openssh(signing.generate()).decode())(path)
    assert trusted.run("get", "BASE", "-e", "prod", code=0).out == "base-prod"
    assert trusted.registered() == 2


def test_the_key_of_another_token_workspace_or_service_is_not_used(trusted: World) -> None:
    """A second job on the same machine has a token of its own, and makes a key of its own."""
    first = _key(trusted)
    trusted.run("get", "BASE", "-e", "prod", code=0, ACTIONS_ID_TOKEN_REQUEST_URL=trusted.tokens.url + "&job=2")
    assert len(trusted.kept()) == 2 and trusted.registered() == 2
    other = next(path for path in trusted.kept() if path != first)
    other.write_bytes(first.read_bytes())  # put where another's belongs
    trusted.run("get", "BASE", "-e", "prod", code=0, ACTIONS_ID_TOKEN_REQUEST_URL=trusted.tokens.url + "&job=2")
    assert trusted.registered() == 3


def test_stale_files_go(trusted: World) -> None:
    """With the next registration; what is good stays."""
    first = _key(trusted)
    stale, left = trusted.folder / ("0" * 32 + ".job"), trusted.folder / ("1" * 32 + ".job.zopp-1")
    stale.write_bytes(first.read_bytes())
    _edit(not_after=int(time.time()) - 100)(stale)
    left.write_bytes(b"half")
    trusted.run("get", "BASE", "-e", "prod", code=0, ACTIONS_ID_TOKEN_REQUEST_URL=trusted.tokens.url + "&job=2")
    assert first in trusted.kept() and len(trusted.kept()) == 2
    assert not stale.exists() and not left.exists()


def test_a_key_near_its_end_is_not_used(world: World) -> None:
    """The rule lets it last 5 seconds: the next command makes another."""
    world.trust(*GITHUB, "--ref", "main", "--max-ttl", "5")
    world.run("get", "BASE", "-e", "dev", code=0)
    world.run("get", "BASE", "-e", "dev", code=0)
    assert world.registered() == 2


def test_two_commands_at_once_register_once(world: World) -> None:
    """As processes: the second waits for the key of the first, since the token serves once."""
    import subprocess
    import sys

    from tests.support import ROOT

    world.trust(*GITLAB, "--ref", "main")
    env = {**world.job.env, "ZOPP_ID_TOKEN": world.gitlab(), "PYTHONPATH": str(ROOT)}
    argv = [sys.executable, "-m", "zopp.cli.main", "get", "BASE", "-e", "dev"]
    both = [
        subprocess.Popen(argv, cwd=world.job.repo, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(3)
    ]
    said = [process.communicate(timeout=60) for process in both]
    assert [out for out, _ in said] == [b"base-dev"] * 3, said
    assert world.registered() == 1


# --- a server that lies about the registration (A22), and one that lost its log


def _lying(monkeypatch: pytest.MonkeyPatch, path: str, change: Callable[[dict[str, Any]], Any]) -> None:
    """Answers to requests of this path are changed on the way."""
    send = Server.send

    def lie(self: Server, method: str, asked: str, body: bytes) -> Answer:
        answer = send(self, method, asked, body)
        if not asked.startswith(path):
            return answer
        fields = canonical.thaw(canonical.decode(answer.body))
        change(fields)
        return replace(answer, body=canonical.encode(fields))

    monkeypatch.setattr(Server, "send", lie)


def test_a22_a_registration_that_is_not_what_was_recorded(trusted: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each refused, the key not kept and nothing read; the kept checkpoint stays."""
    seen: list[dict[str, Any]] = []
    with monkeypatch.context() as patch:
        _lying(patch, "/v1/oidc/", lambda fields: seen.append(dict(fields)))
        path = _key(trusted)
    note = next((trusted.job.home / ".local/state/zopp/logs").glob("*.note"))
    lies: dict[str, Callable[[dict[str, Any]], Any]] = {
        "another job's name": lambda f: f.update(principal="ci/other"),
        "longer": lambda f: f.update(not_after=f["not_after"] + 600),
        "another's receipt": lambda f: f.update(receipt=seen[0]["receipt"]),
        "another's receipt and id": lambda f: f.update(receipt=seen[0]["receipt"], id=seen[0]["id"]),
        "another answer": lambda f: f.update(seen[0]),
        "a changed record": lambda f: f["receipt"].update(body=f["receipt"]["body"].replace("refs/heads/main", "x")),
        "a record under no checkpoint": lambda f: f["receipt"].update(proof=seen[0]["receipt"]["proof"]),
        "no proof": lambda f: f["receipt"].update(proof="x"),
    }
    for name, lie in lies.items():
        path.unlink(missing_ok=True)
        kept = note.read_bytes()
        with monkeypatch.context() as patch:
            _lying(patch, "/v1/oidc/", lie)
            done = trusted.run("get", "BASE", "-e", "prod")
        assert done.code in (1, 3) and done.out == "", (name, done.text)
        assert not trusted.kept() and note.read_bytes() == kept, name
    with monkeypatch.context() as patch:
        _lying(patch, "/v1/log/", lambda fields: fields.update(hashes=fields["hashes"][:-1]))
        refused(trusted.run("get", "BASE", "-e", "prod"), 1)
    assert not trusted.kept()
    assert trusted.run("get", "BASE", "-e", "prod", code=0).out == "base-prod"


def test_a25_a_rule_that_the_policy_does_not_have(trusted: World) -> None:
    """A server that lets a job in by a rule, claims or a service of its own is found out from the signed policy."""
    job = trusted.job
    with _inside(job, {**trusted.tokens.env}) as ws:
        counter = Releases(Keyring(ws.env))._counter(ws, "api/prod")
        claims = {
            "environment": "production",
            "ref": "refs/heads/main",
            "repository_id": "7",
            "repository_owner_id": "70",
        }
        good = {
            "claims": claims, "issuer": "https://github.test", "key": canonical.b64(signing.generate().public),
            "kid": "k1", "not_after": 1, "rule": "ci-github-7", "token": "0" * 64,
        }  # fmt: skip
        for change, seq in (
            ({}, ws.state.seq), ({"rule": "mine"}, ws.state.seq), ({"rule": None}, ws.state.seq),
            ({"claims": {**claims, "ref": "refs/heads/feature"}}, ws.state.seq),
            ({"issuer": "https://evil.test"}, ws.state.seq), ({}, ws.state.seq - 1),
        ):  # fmt: skip
            body = entry.build(
                "oidc", {**good, **change}, ts=1, id=bytes(16), outcome="allow", actor="ci/x", on_behalf="ci",
                scope=Scope("workspace", "acme"), policy_seq=seq,
            )  # fmt: skip
            with counter.connect(signing.generate()) as server:
                if not change and seq == ws.state.seq:
                    counter.check(entry.parse(body), server)
                    continue
                with pytest.raises(IntegrityError):
                    counter.check(entry.parse(body), server)


def test_a22_a_forged_record_under_the_log_key(trusted: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that has the log key, to a client that remembers nothing: a record of something else than this accepted
    request is no receipt. One that says all of it goes through here, and the next answer's proof finds it out."""
    log_key = custody.load_log_key(trusted.server.settings.log_key)

    def forge(**changes: Any) -> Callable[[dict[str, Any]], None]:
        def lie(fields: dict[str, Any]) -> None:
            receipt = fields["receipt"]
            body = canonical.encode({**canonical.decode(receipt["body"].encode()), **changes})
            origin = checkpoint.parse_text(proof.parse(receipt["proof"].encode()).note.text).origin
            head = checkpoint.Checkpoint(origin, 1, merkle.root_of([merkle.leaf_hash(body)]))
            made = proof.Proof(0, (), checkpoint.sign(head, log_key), None)
            receipt.update(body=body.decode(), proof=made.serialise().decode())

        return lie

    def tried(lie: Callable[[dict[str, Any]], None]) -> str:
        shutil.rmtree(trusted.job.home / ".local/state/zopp/logs", ignore_errors=True)
        shutil.rmtree(trusted.folder, ignore_errors=True)
        with monkeypatch.context() as patch:
            _lying(patch, "/v1/oidc/", lie)
            done = trusted.run("get", "BASE", "-e", "prod", "--json", code=1)
        code: str = done.json["error"]["code"]
        return code

    seen: list[dict[str, Any]] = []
    with monkeypatch.context() as patch:
        _lying(patch, "/v1/oidc/", lambda fields: seen.append(dict(fields)))
        _key(trusted)
    earlier = canonical.decode(seen[0]["receipt"]["body"].encode())["req"]
    lies: list[dict[str, Any]] = [
        {"outcome": "deny", "reason": "claims"},
        {"id": canonical.b64(os.urandom(16))},
        {"on_behalf": "other"},
        {"on_behalf": None},
        {"req": earlier},
    ]
    for changes in lies:
        assert tried(forge(**changes)) == "receipt", changes
        assert not trusted.kept(), changes
    assert tried(forge()) not in ("receipt", "denied")


def test_a22_what_the_record_says_is_looked_at(trusted: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the command, too: the rule in the policy, and for whom the job was registered."""
    with monkeypatch.context() as patch:
        patch.setattr("zopp.client.releases.decisions.oidc_matches", lambda *_: False)
        refused(trusted.run("get", "BASE", "-e", "prod"), 1, words=["by a rule that the policy does not have"])
    assert not trusted.kept()
    env = {**trusted.tokens.env}
    with _inside(trusted.job, env) as ws:
        counter = Releases(Keyring(ws.env))._counter(ws, "api/prod")
        with pytest.raises(IntegrityError, match="another service"):
            ci.job(ws.env, replace(counter, service="other"))
    assert not trusted.kept()


@contextmanager
def _inside(user: User, env: dict[str, str]) -> Iterator[Workspace]:
    yield open_workspace(str(user.repo), {**user.env, **env}, recover=False)


# --- stock sops: the plugin and the agent


def _second(world: World) -> tuple[str, str]:
    """(recipient, armored entry) of the server's half of prod."""
    found = sops_of(world.job).metadata.groups[1][0]
    return found.recipient, found.enc


def test_age_plugin_zopp_in_a_job(trusted: World) -> None:
    """Outside a working copy, by the identity line; it and `zopp get` share the registration."""
    line = trusted.alice.ok("env", "plugin-identity", "prod").out.splitlines()[1]
    share, body = stanza_of(agefile.dearmor(_second(trusted)[1]))
    env = {**trusted.job.env, **trusted.tokens.env}
    for _ in range(2):
        (key,) = Asker(env).file_keys(pinned.parse(line), [(share, body)])
        assert key is not None and len(key) == 16
    trusted.run("get", "BASE", "-e", "prod", code=0)
    assert trusted.registered() == 1
    trusted.alice.ok("principal", "untrust-ci", "ci-github-7")
    with pytest.raises(Denied):
        Asker(env).file_keys(pinned.parse(line), [(share, body)])
    with pytest.raises(Unknown):
        Asker(trusted.job.env).file_keys(pinned.parse(line), [(share, body)])


def test_a_rule_with_an_audience_of_its_own(world: World) -> None:
    """The job asks for it, whichever of several rules it is; the plugin, which knows no policy, does not."""
    world.trust(*GITHUB, "--ref", "release", "--name", "first")
    world.trust(*GITHUB, "--ref", "main", "--environment", "production", "--audience", "zopp:acme", "--name", "second")
    assert world.run("get", "BASE", "-e", "prod", code=0).out == "base-prod"
    assert "audience=zopp%3Aacme%23" in world.tokens.asked[-1] and len(world.tokens.asked) == 2
    line = world.alice.ok("env", "plugin-identity", "prod").out.splitlines()[1]
    share, body = stanza_of(agefile.dearmor(_second(world)[1]))
    world.kept()[0].unlink()
    with pytest.raises(Denied):
        Asker({**world.job.env, **world.tokens.env}).file_keys(pinned.parse(line), [(share, body)])


def test_the_agent_in_a_job(trusted: World) -> None:
    pytest.importorskip("grpc")
    from zopp.client.agent import Agent

    made = Agent(str(trusted.job.repo), {**trusted.job.env, **trusted.tokens.env})
    made.warm()
    recipient, enc = _second(trusted)
    assert len(made.share(recipient, enc.encode())) == 33
    assert len(made.share(recipient, enc.encode())) == 33
    assert trusted.registered() == 1


# --- A26, and no token anywhere


def test_a26_no_token_reaches_the_child(world: World) -> None:
    """A real child, in the lean form (direct) and the full one (brokered)."""
    world.trust(*GITLAB, "--ref", "main")
    jwt = world.gitlab()
    for env in ("dev", "staging"):
        job_env = {"ZOPP_ID_TOKEN": jwt, **world.tokens.env}
        done = world.job.child("run", "--no-redact", "-e", env, "--", "env", env=job_env)
        assert done.returncode == 0, done.stderr
        assert f"BASE=base-{env}".encode() in done.stdout
        for canary in (jwt, REQUEST_TOKEN, world.tokens.url):
            assert canary.encode() not in done.stdout + done.stderr


def test_no_token_is_printed_or_kept(trusted: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over commands that go well, are refused, and fail: stdout, stderr, and every file of the job's home and clone."""
    monkeypatch.setattr(ci, "PAUSES", ())
    world = trusted
    jwt = world.gitlab()
    commands = (
        ("get", "BASE", "-e", "prod"), ("get", "NONE", "-e", "prod", "--debug"), ("export", "-e", "prod", "--json"),
        ("doctor",), ("doctor", "--json"), ("verify",), ("set", "X", "-e", "prod"), ("policy", "pull", "--debug"),
    )  # fmt: skip
    for claims in ({}, {"ref": "refs/heads/feature"}, {"iat": 1, "nbf": 1, "exp": 2}, {"jti": ""}):
        world.tokens.claims = claims
        for argv in commands:
            world.run(*argv)
            world.run(*argv, ZOPP_ID_TOKEN=jwt)
        for path in world.kept():
            path.unlink()
    for answer in (_status(500), _status(200, b"x")):
        world.tokens.answer = answer
        world.run("get", "BASE", "-e", "prod", "--debug")
    canaries = {jwt, jwt.rpartition(".")[2], REQUEST_TOKEN, world.tokens.url}
    canaries |= {part for each in world.tokens.tokens for part in (each, each.rpartition(".")[2], each.split(".")[1])}
    assert len(canaries) > 10
    texts = {f"output {number}": done.text.encode() for number, done in enumerate(world.said)}
    for folder in (world.job.home, world.job.repo):
        texts |= {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert len(texts) > 60
    for place, text in texts.items():
        for canary in canaries:
            assert canary.encode() not in text, place
