"""`zopp principal trust-ci`, `ci-rules`, `untrust-ci` at a stand-in server: flags, what is said before, refusals."""

import re

import pytest

from tests.brokered.brokers import adopt
from tests.brokered.standin import StandIn
from tests.client.conftest import Served
from tests.client.test_policylog import grant_line, line_by
from tests.support import Team, refused
from zopp.cli.citrust import WHO_CAN
from zopp.policy.roles import OidcRule
from zopp_server import oidc

GITHUB = ("--github", "--repository-id", "123", "--owner-id", "45", "--ref", "refs/heads/main")
GITLAB = ("--gitlab", "--project-id", "7", "--namespace-id", "70", "--ref", "main")
IDS = {"repository_id": "123", "repository_owner_id": "45"}


def rules(served: Served) -> dict[str, OidcRule]:
    return dict(served.alice.state().oidc_rules)


def trust(served: Served, *argv: str, code: int = 0) -> str:
    return served.alice.zopp("principal", "trust-ci", "ci", *argv, "--yes", code=code).err


def claims(served: Served, *argv: str) -> dict[str, str]:
    trust(served, *argv, "--name", "made", "--replace")
    return dict(rules(served)["made"].claims)


def test_the_flags_are_the_claims(served: Served) -> None:
    main = {**IDS, "ref": "refs/heads/main"}
    assert claims(served, *GITHUB) == main
    assert claims(served, *GITHUB, "--environment", "production", "--event", "push") == {
        **main, "environment": "production", "event_name": "push",
    }  # fmt: skip
    workflow = "acme/ci/.github/workflows/deploy.yml@refs/heads/main"
    assert claims(served, *GITHUB, "--workflow-ref", workflow) == {**main, "job_workflow_ref": workflow}
    more = ("--claim", "runner_environment=github-hosted", "--claim", "workflow_ref=a=b")
    assert claims(served, *GITHUB, *more) == {**main, "runner_environment": "github-hosted", "workflow_ref": "a=b"}
    project = {"project_id": "7", "namespace_id": "70"}
    assert claims(served, *GITLAB) == {**project, "ref": "main", "ref_type": "branch"}
    config = "gitlab.com/acme/api//.gitlab-ci.yml@refs/heads/main"
    assert claims(served, *GITLAB, "--config-ref", config)["ci_config_ref_uri"] == config
    rule = rules(served)["made"]
    assert (rule.issuer, rule.audience, rule.max_ttl) == ("https://gitlab.com", served.server.origin, 900)
    trust(served, *GITHUB, "--issuer", "https://github.acme.example", "--audience", "zopp", "--max-ttl", "60")
    rule = rules(served)["ci-github-123"]
    assert (rule.issuer, rule.audience, rule.max_ttl) == ("https://github.acme.example", "zopp", 60)


@pytest.mark.parametrize(
    ("kind", "typed", "ref", "ref_type"),
    [
        ("github", "main", "refs/heads/main", None),
        ("github", "refs/heads/main", "refs/heads/main", None),
        ("github", "refs/tags/v1", "refs/tags/v1", None),
        ("github", "feature/x", "refs/heads/feature/x", None),
        ("gitlab", "main", "main", "branch"),
        ("gitlab", "refs/heads/main", "main", "branch"),
        ("gitlab", "refs/tags/v1", "v1", "tag"),
    ],
)
def test_a_ref_is_exact(served: Served, kind: str, typed: str, ref: str, ref_type: str | None) -> None:
    """GitHub's claim has the full ref, GitLab's the plain name and its type; what it was taken as is shown."""
    flags = (GITHUB if kind == "github" else GITLAB)[:-1]
    said = trust(served, *flags, typed)
    (rule,) = rules(served).values()
    found = dict(rule.claims)
    assert (found["ref"], found.get("ref_type")) == (ref, ref_type)
    assert f"ref {ref}" in said


def test_the_claims_that_are_required_are_those_of_the_server(served: Served) -> None:
    """A rule that the server would not match is never signed."""
    for kind, flags in (("github", GITHUB), ("gitlab", GITLAB)):
        found = claims(served, *flags)
        assert set(found) - {"ref_type"} == set(oidc._NAMED[kind])
        assert oidc._judge(
            rules(served)["made"], kind, {**found, "aud": "x"}, served.server.origin, "tie"
        ) == "audience"  # fmt: skip


MISSING = {
    "repository id": ((*GITHUB[:1], *GITHUB[3:]), ["--repository-id", "gh api", "GITHUB_REPOSITORY_ID"]),
    "owner id": (("--github", "--repository-id", "1", "--ref", "main"), ["--owner-id", ".owner.id"]),
    "everything": (("--github",), ["--repository-id and --owner-id and --ref"]),
    "project id": (("--gitlab", "--namespace-id", "7", "--ref", "main"), ["--project-id", "CI_PROJECT_ID"]),
    "ref": (("--gitlab", "--namespace-id", "7", "--project-id", "1"), ["--ref", "refs/heads/main"]),
    "a name for an id": ((*GITHUB[:1], "--repository-id", "acme/api", *GITHUB[3:]), ["is a number"]),
    "a wildcard": ((*GITHUB[:-1], "refs/heads/*"), ["exactly"]),
    "a pull request": ((*GITHUB[:-1], "refs/pull/7/merge"), ["exactly"]),
    "a flag of the other": ((*GITHUB, "--config-ref", "x"), ["--config-ref is for --gitlab"]),
    "no kind": (GITHUB[1:], ["--github"]),
    "both kinds": ((*GITHUB, "--gitlab"), ["--gitlab"]),
    "an empty flag": ((*GITHUB, "--environment", ""), ["--environment is empty"]),
    "a claim without value": ((*GITHUB, "--claim", "actor"), ["NAME=VALUE"]),
    "a claim twice": ((*GITHUB, "--claim", "actor=1", "--claim", "actor=2"), ["twice"]),
    "a claim and its flag": ((*GITHUB, "--claim", "ref=x"), ["give one of them"]),
    "a bad claim": ((*GITHUB, "--claim", "Actor=1"), ["claim"]),
    "a glob in a claim": ((*GITHUB, "--claim", "actor=*"), ["claims.actor"]),
    "a bad issuer": ((*GITHUB, "--issuer", "github.com"), ["issuer"]),
    "a bad name": ((*GITHUB, "--name", "No Name"), ["rule"]),
    "too long": ((*GITHUB, "--max-ttl", "901"), ["from 1 to 900"]),
    "no time": ((*GITHUB, "--max-ttl", "0"), ["from 1 to 900"]),
}  # fmt: skip


def test_what_is_missing_is_named(served: Served) -> None:
    """Exit 2, how to find an id, and nothing signed."""
    before = served.alice.tree()
    for name, (flags, words) in MISSING.items():
        done = served.alice.zopp("principal", "trust-ci", "ci", *flags, "--yes")
        assert done.code == 2, (name, done.text)
        for word in words:
            assert word in done.err, (name, done.err)
    assert served.alice.tree() == before


def test_who_it_may_be_for(served: Served) -> None:
    alice = served.alice
    refused(alice.zopp("principal", "trust-ci", "bob-laptop", *GITHUB, "--yes"), 2, words=["a device of bob"])
    refused(alice.zopp("principal", "trust-ci", "nobody", *GITHUB, "--yes"), 1, words=["no service nobody"])
    alice.ok("principal", "disable", "ci")
    refused(alice.zopp("principal", "trust-ci", "ci", *GITHUB, "--yes"), 1, words=["disabled"])


def test_a25_it_says_what_it_means_before(team: Team) -> None:
    """Environments by their kind, protection, and who can read; without an answer nothing is signed."""
    alice, standin = team.alice, StandIn()
    adopt(team, standin)
    for env in ("dev", "prod"):
        alice.ok("grant", "ci", "read", f"api/{env}")
    alice.ok("env", "kind", "prod", "brokered")
    alice.ok("env", "protect", "prod")
    before = alice.tree()
    done = alice.zopp("principal", "trust-ci", "ci", *GITHUB)
    refused(done, 2, words=["no terminal"])
    for words in (
        "api/dev is direct: the age key of ci alone opens it",
        "api/prod is protected: this rule gives nothing there without --environment or --workflow-ref",
        WHO_CAN, "repository_id 123", "audience " + standin.origin,
    ):  # fmt: skip
        assert words in done.err, words
    alice.ok("principal", "trust-ci", "ci", *GITHUB, "--dry-run")
    assert alice.tree() == before
    said = alice.ok("principal", "trust-ci", "ci", *GITHUB, "--environment", "production", "--yes").err
    assert "api/prod is brokered: a matching job reads it" in said
    told = alice.zopp("doctor").out
    assert "api/dev is direct: the age key of ci alone opens it" in told and "secret of the whole" not in told
    alice.ok("principal", "trust-ci", "ci", *GITHUB, "--replace", "--yes")
    told = alice.zopp("doctor").out
    assert "CI rule ci-github-123 gives nothing in api/prod" in told
    assert "secret of the whole repository, a workflow on any branch gets it" in told
    alice.ok("principal", "disable", "ci")
    assert "CI rule" not in alice.zopp("doctor").out
    standin.stop()


def test_rules_are_listed_changed_and_taken_away(served: Served) -> None:
    alice = served.alice
    alice.ok("grant", "ci", "read", "api/dev")
    assert "no rule" in alice.ok("principal", "ci-rules").err
    trust(served, *GITHUB)
    assert "says that already" in trust(served, *GITHUB)
    refused(
        alice.zopp("principal", "trust-ci", "ci", *GITHUB, "--environment", "production", "--yes"), 1,
        words=["there is a rule ci-github-123 already", "--replace"],
    )  # fmt: skip
    said = trust(served, *GITHUB, "--environment", "production", "--replace")
    assert "rule ci-github-123 said: jobs of https://token.actions.githubusercontent.com" in said
    trust(served, *GITLAB)
    (first, second) = alice.ok("principal", "ci-rules", "--json").json
    assert (first["rule"], second["rule"]) == ("ci-github-123", "ci-gitlab-7")
    assert first["claims"]["environment"] == "production" and first["effects"] == {"api/dev": "direct"}
    text = alice.ok("principal", "ci-rules").out
    assert re.search(r"repository_id +123", text) and "direct: the age key alone opens it" in text
    refused(alice.zopp("principal", "untrust-ci", "ci-github-12"), 1, words=["did you mean ci-github-123?"])
    done = alice.ok("principal", "untrust-ci", "ci-gitlab-7", "--dry-run")
    assert len(rules(served)) == 2
    done = alice.ok("principal", "untrust-ci", "ci-gitlab-7", "-m", "no more GitLab")
    assert "CI rule ci-gitlab-7 is taken away" in done.err and "zopp rekey --all" in done.err
    assert set(rules(served)) == {"ci-github-123"}
    shown = served.bob.ok("policy", "pull").err
    assert "CI rule ci-gitlab-7: jobs of https://gitlab.com with namespace_id 70" in shown
    assert "CI rule ci-gitlab-7 is taken away" in shown
    alice.ok("verify")


def test_only_who_is_admin_where_the_service_is_bound(served: Served) -> None:
    """A rule hands out all that the service may: an admin of one project is none for it."""
    alice, bob = served.alice, served.bob
    alice.ok("grant", "bob", "admin", "api/dev")
    alice.ok("grant", "ci", "read", "api/dev")
    served.team.sync("roles")
    bob.ok("principal", "trust-ci", "ci", *GITHUB, "--yes")
    alice.ok("policy", "pull")
    alice.ok("grant", "ci", "read", "api/prod")
    served.team.sync("more")
    refused(bob.zopp("principal", "untrust-ci", "ci-github-123"), 1, words=["needed is admin"])
    refused(bob.zopp("principal", "trust-ci", "ci", *GITLAB, "--yes"), 1, words=["needed is admin"])
    assert set(rules(served)) == {"ci-github-123"}


def test_a11_a_service_that_got_more_meanwhile(served: Served) -> None:
    """A rule hands out what its service may: drafted while ci read dev, it is not signed again unasked once ci reads
    prod too; a change of something else makes no difference."""
    served.alice.ok("grant", "ci", "read", "api/dev")
    server = served.server

    def other() -> None:
        server.accept(grant_line(served.alice, server.the_state, "carol", "read", "api/staging"))

    def more() -> None:
        data = {"role": "read", "scope": {"env": "api/prod"}, "subject": {"service": "ci"}}
        server.accept(line_by(served.alice, server.the_state, "binding.set", data))

    server.before = other
    trust(served, *GITHUB)
    server.before = more
    before = served.alice.tree()
    done = served.alice.zopp("principal", "trust-ci", "ci", *GITLAB, "--yes")
    refused(done, 1, words=["means something else", "read on api/dev, read on api/prod"])
    assert served.alice.tree() == before
    assert set(server.the_state.oidc_rules) == {"ci-github-123"}


def test_without_a_server(team: Team) -> None:
    """Nobody would judge the token."""
    done = team.alice.zopp("principal", "trust-ci", "ci", *GITHUB, "--yes")
    refused(done, 1, words=["names no policy server", "zopp server adopt"])


def test_a_service_made_anew_has_a_rule_name(served: Served) -> None:
    """`ci@2` is no name of a rule; a long service name is cut."""
    from zopp.cli import citrust

    assert citrust._name("ci@2", "github", IDS) == "ci-github-123"
    assert len(citrust._name("c" * 63, "github", IDS)) == 63
