"""CI jobs on the real server and real Postgres: S41 through HTTP, A25, replays of tokens, and what strangers learn."""

import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.server.conftest import Database
from tests.server.issuer import GITHUB_RULE, GITLAB_RULE, HEADER, document, github, gitlab, jwk, rsa_key, token
from tests.server.live import Live, Member, Office, stanza
from zopp.client.transport import Server
from zopp.errors import Denied, Unknown, ZoppError
from zopp.keys import filekey, signing
from zopp.policy import canonical
from zopp.protocol import messages
from zopp.protocol.oidc import audience
from zopp.tlog import entry
from zopp_server import startup
from zopp_server.jwks import Jwks
from zopp_server.oidc import Issuer

PROD = "api/production"
DEV = "api/dev"
KINDS = ("github", "gitlab")
ENVIRONMENT = {**GITHUB_RULE, "environment": "production"}


@pytest.fixture
def keys_of_issuers(server: Live) -> None:
    """The server trusts two issuers."""
    issuers = {
        f"https://{kind}.test": Issuer(origin=f"https://{kind}.test", kind=kind, jwks_url=f"https://{kind}.test/jwks")
        for kind in KINDS
    }

    async def fetch(_: Issuer) -> bytes:
        return document(jwk(rsa_key(), "k1"))

    async def plug() -> None:
        assert server.service is not None
        server.service.jwks = Jwks(issuers, fetch=fetch)

    server.run(plug())


@pytest.fixture
def ci(office: Office, keys_of_issuers: None) -> Member:
    """The service `ci`, which reads production (protected) and dev, both brokered; rules for both issuers."""
    made = office.enrol("alice-laptop", "ci", None)
    for env in (PROD, DEV):
        scope, subject = {"env": env}, {"service": "ci"}
        office.do("alice-laptop", "binding.set", role="read", scope=scope, subject=subject)
    trust(office, "deploy", ENVIRONMENT)
    trust(office, "mirror", GITLAB_RULE, issuer="https://gitlab.test")
    return made


def trust(office: Office, name: str, claims: dict[str, str], issuer: str = "https://github.test") -> None:
    office.do(
        "alice-laptop", "oidc_rule.set", rule=name, service="ci", issuer=issuer, audience=office.origin,
        claims=claims, max_ttl=900,
    )  # fmt: skip


class Job:
    """A CI job with a key of its own; its other half is the service's secret."""

    def __init__(self, office: Office, ci: Member) -> None:
        self.office, self.ci = office, ci
        self.key = signing.generate()
        self.server = Server(office.origin, office.log_key, self.key)
        self._member("")

    def _member(self, principal: str) -> Member:
        """The job as a member, known to the office so that its connection is closed."""
        made = Member(principal, self.key, self.ci.secret, self.ci.recipient, self.server)
        self.office.members[principal or f"unregistered {len(self.office.members)}"] = made
        return made

    def token(self, kind: str = "github", **claims: Any) -> str:
        now = int(time.time())
        base = {"iat": now, "nbf": now - 5, "exp": now + 300, "jti": canonical.b64(self.key.public)}
        if kind == "gitlab":
            return token(HEADER, gitlab(**{**base, "aud": self.office.origin, **claims}))
        aud = audience(self.office.origin, self.key.public, self.ci.recipient)
        return token(HEADER, github(**{**base, "aud": aud, "environment": "production", **claims}))

    def register(self, jwt: str, *, ws: str = "", recipient: str = "", name: str = "acme") -> Member:
        body = messages.build_request(
            "oidc",
            jwt=jwt,
            key=canonical.b64(self.key.public),
            recipient=recipient or self.ci.recipient,
            ws=ws or self.office.now.ws,
        )
        fields = messages.parse_answer("oidc", self.server.post(f"/v1/oidc/{name}", body).body)
        return self._member(fields["principal"])


def entries(database: Database, action: str = "oidc") -> list[entry.Entry]:
    async def read(connection: Any) -> list[bytes]:
        rows = await connection.fetch("SELECT body FROM audit.entry WHERE action = $1 ORDER BY seq", action)
        return [row["body"] for row in rows]

    return [entry.parse(body) for body in database.run("zopp_app", read)]


def test_s41_a_job_reads_as_its_service(office: Office, ci: Member, database: Database) -> None:
    sealed = office.brokered("alice-laptop", PROD)
    job = Job(office, ci)
    member = job.register(job.token())
    item, data = stanza(sealed, b"share two")
    made = office.release(member.principal, [item], PROD)
    assert made.keys[0] is not None
    assert filekey.payload(data, made.keys[0].key) == b"share two"
    (registered,) = entries(database)
    assert (registered.outcome, registered.actor, registered.on_behalf) == ("allow", member.principal, "ci")
    assert registered.data["rule"] == "deploy" and registered.data["claims"]["ref"] == "refs/heads/main"
    (released,) = entries(database, "release")
    assert (released.actor, released.on_behalf, released.role) == (member.principal, "ci", "read")


def test_s41_a_job_has_no_more_than_its_role(office: Office, ci: Member) -> None:
    job = Job(office, ci)
    member = job.register(job.token())
    line = office.line("alice-laptop", "user.disable", {"user": "bob"})
    with pytest.raises(ZoppError) as refused:  # nor does it carry another's statement
        office.send(line, by=member.principal)
    assert refused.value.code in ("denied", "bad_signature")
    assert office.pull("alice-laptop").users["bob"].enabled


REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "another branch": ("github", {"ref": "refs/heads/feature"}, "claims"),
    "a fork": ("github", {"repository_id": "8", "repository_owner_id": "80"}, "claims"),
    "a wrong audience": ("github", {"aud": "https://elsewhere.test"}, "audience"),
    "an expired token": ("github", {"iat": 1, "nbf": 1, "exp": 300}, "expired"),
    "a missing claim": ("github", {"environment": ...}, "claims"),
    "a pull request": ("github", {"event_name": "pull_request_target"}, "event"),
    "gitlab: a fork": ("gitlab", {"project_id": "8", "job_project_id": "7"}, "claims"),
    "gitlab: an unprotected ref": ("gitlab", {"ref_protected": "false"}, "unprotected_ref"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_s41_others_are_denied_and_recorded(office: Office, ci: Member, database: Database, name: str) -> None:
    kind, claims, reason = REFUSED[name]
    job = Job(office, ci)
    with pytest.raises(Denied) as refused:
        job.register(job.token(kind, **claims))
    assert refused.value.data["rule"] == reason
    (recorded,) = entries(database)
    assert (recorded.outcome, recorded.reason) == ("deny", reason)


def test_a25_a_rule_without_environment_gives_nothing_in_a_protected_one(office: Office, ci: Member) -> None:
    prod, dev = office.brokered("alice-laptop", PROD), office.brokered("alice-laptop", DEV)
    trust(office, "deploy", GITHUB_RULE)
    job = Job(office, ci)
    member = job.register(job.token())
    assert office.release(member.principal, [stanza(dev)[0]], DEV).keys[0] is not None
    with pytest.raises(Denied):
        office.release(member.principal, [stanza(prod)[0]], PROD)


@pytest.mark.parametrize(
    "change",
    [
        lambda office: office.do("alice-laptop", "oidc_rule.remove", rule="deploy"),
        lambda office: trust(office, "deploy", {**ENVIRONMENT, "ref": "refs/heads/release"}),
        lambda office: office.do("alice-laptop", "principal.disable", principal="ci"),
        lambda office: office.do("alice-laptop", "binding.remove", scope={"env": PROD}, subject={"service": "ci"}),
    ],
    ids=["rule removed", "rule changed", "service disabled", "role taken"],
)
def test_a_registered_job_ends_with_what_let_it_in(
    office: Office, ci: Member, change: Callable[[Office], None]
) -> None:
    sealed = office.brokered("alice-laptop", PROD)
    job = Job(office, ci)
    member = job.register(job.token())
    change(office)
    with pytest.raises(ZoppError) as refused:
        office.release(member.principal, [stanza(sealed)[0]], PROD)
    assert refused.value.code in ("denied", "bad_signature")


def test_a_token_serves_once(office: Office, ci: Member) -> None:
    """A GitLab token fits any key; a thief who is second gets nothing."""
    job = Job(office, ci)
    jwt = job.token("gitlab")
    job.register(jwt)
    thief = Job(office, ci)
    with pytest.raises(ZoppError) as refused:
        thief.register(jwt)
    assert refused.value.code == "replayed"


def test_a_token_serves_once_for_all_its_life(office: Office, ci: Member, server: Live) -> None:
    """Emptying old buckets must not let in a token that is nearly 15 minutes old and still good."""
    if time.time() % 300 > 280:
        time.sleep(300 - time.time() % 300 + 1)
    iat = int(time.time()) // 300 * 300 - 601  # in the oldest bucket of which a token can still be good
    job = Job(office, ci)
    jwt = job.token("gitlab", iat=iat, nbf=iat, exp=iat + 900)
    job.register(jwt)
    assert server.service is not None
    server.run(startup.sweep(server.service))
    with pytest.raises(ZoppError) as refused:
        Job(office, ci).register(jwt)
    assert refused.value.code == "replayed"


def test_a_stolen_github_token_is_useless(office: Office, ci: Member) -> None:
    thief = Job(office, ci)
    with pytest.raises(Denied) as refused:
        thief.register(Job(office, ci).token())
    assert refused.value.data["rule"] == "audience"


STRANGERS: dict[str, Callable[[Job], str]] = {
    "a genuine token of someone else": lambda job: job.token(repository_id="8", repository_owner_id="80"),
    "a made-up token": lambda job: "x.y.z",
    "an issuer that is not listed": lambda job: job.token(iss="https://evil.test"),
    "a bad signature": lambda job: token(HEADER, github(iat=int(time.time())), rsa_key("evil")),
    "an expired token": lambda job: job.token(iat=1, nbf=1, exp=300),
    "a token without audience": lambda job: job.token(aud=...),
}


@pytest.mark.parametrize("name", STRANGERS)
def test_s43_strangers_learn_nothing(office: Office, ci: Member, name: str) -> None:
    """The same answer for a workspace that exists, for one that does not, and for another genesis, to someone who has a
    CI token of their own and knows no recipient of the workspace."""
    job = Job(office, ci)
    jwt = STRANGERS[name](job)
    stranger = office.members["bob-laptop"].recipient
    answers = []
    for where, ws in (("acme", office.now.ws), ("nowhere", office.now.ws), ("acme", "0" * 64)):
        with pytest.raises(ZoppError) as refused:
            job.register(jwt, name=where, ws=ws, recipient=stranger)
        error = refused.value
        answers.append((type(error), error.code, error.message, error.hint, {**error.data, "request": None}))
    assert answers[0] == answers[1] == answers[2]
    assert not isinstance(refused.value, Unknown)
