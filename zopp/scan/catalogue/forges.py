"""Code forges, package registries, build services."""

from zopp.scan.catalogue import ALNUM, DIGITS, HEX, LOWER, URLSAFE, Rule, prefixed, some

_GITHUB = (
    "https://docs.github.com/en/authentication/keeping-your-account-and-data-secure/about-authentication-to-github"
)
_GITLAB = "https://docs.gitlab.com/security/tokens/#token-prefixes"
_ATLASSIAN = "https://support.atlassian.com/atlassian-account/docs/manage-api-tokens-for-your-atlassian-account/"


def _gitlab(id: str, title: str, prefix: str) -> Rule:
    """GitLab's tokens: a prefix and 20 or more characters, routable ones with dots."""
    return Rule(
        id=id,
        title=title,
        link=_GITLAB,
        keywords=(prefix,),
        body=rf"({prefix}[0-9A-Za-z_-]{{20,300}}+(?:\.[0-9a-z]{{2}}\.[0-9a-z]{{9}})?)(?![\w-])",
        shown=prefix,
        true=lambda: prefix + some(URLSAFE, 20),
        false=lambda: [prefix + "short", prefix + "x" * 20],
    )


RULES = (
    prefixed("github-token", "a GitHub personal access token", _GITHUB, "ghp_", ALNUM, 36),
    prefixed("github-oauth", "a GitHub OAuth token", _GITHUB, "gho_", ALNUM, 36),
    prefixed("github-user", "a GitHub App's user token", _GITHUB, "ghu_", ALNUM, 36),
    prefixed("github-server", "a GitHub App's installation token", _GITHUB, "ghs_", ALNUM, 36, most=0),
    prefixed("github-refresh", "a GitHub refresh token", _GITHUB, "ghr_", ALNUM, 36, most=0),
    Rule(
        id="github-fine-grained",
        title="a GitHub fine-grained token",
        link=_GITHUB,
        keywords=("github_pat_",),
        body=r"(github_pat_[0-9A-Za-z]{22}_[0-9A-Za-z]{59})",
        shown="github_pat_",
        true=lambda: f"github_pat_{some(ALNUM, 22)}_{some(ALNUM, 59)}",
        false=lambda: ["github_pat_" + some(ALNUM, 22), "github_pat_" + "A" * 22 + "_" + "A" * 59],
    ),
    _gitlab("gitlab-token", "a GitLab personal, project or group access token", "glpat-"),
    _gitlab("gitlab-deploy", "a GitLab deploy token", "gldt-"),
    _gitlab("gitlab-runner", "a GitLab runner token", "glrt-"),
    _gitlab("gitlab-trigger", "a GitLab pipeline trigger token", "glptt-"),
    _gitlab("gitlab-agent", "a GitLab agent token", "glagent-"),
    _gitlab("gitlab-feed", "a GitLab feed token", "glft-"),
    _gitlab("gitlab-scim", "a GitLab SCIM token", "glsoat-"),
    _gitlab("gitlab-oauth", "a GitLab application secret", "gloas-"),
    _gitlab("gitlab-job", "a GitLab job token", "glcbt-"),
    Rule(
        id="atlassian-token",
        title="an Atlassian API token",
        link=_ATLASSIAN,
        keywords=("atatt3x", "atctt3x"),
        body=r"(AT[AC]TT3x[0-9A-Za-z_=-]{100,300})",
        shown="ATATT3x",
        true=lambda: "ATATT3x" + some(URLSAFE, 180) + "=" + some(HEX, 8).upper(),
        false=lambda: ["ATATT3x" + some(ALNUM, 30), "ATATT3x" + "A" * 180],
    ),
    prefixed(
        "bitbucket-app-password",
        "a Bitbucket app password",
        "https://support.atlassian.com/bitbucket-cloud/docs/app-passwords/",
        "ATBB",
        ALNUM,
        32,
    ),
    prefixed(
        "npm-token",
        "an npm access token",
        "https://docs.npmjs.com/about-access-tokens",
        "npm_",
        ALNUM,
        36,
    ),
    Rule(
        id="pypi-token",
        title="a PyPI upload token",
        link="https://pypi.org/help/#apitoken",
        keywords=("pypi-ageichlwas5vcmc", "pypi-agendgvzdc5wexbplm9yz"),
        body=r"(pypi-Ag(?:EIcHlwaS5vcmc|ENdGVzdC5weXBpLm9yZ)[\w-]{50,500})",
        shown="pypi-",
        true=lambda: "pypi-AgEIcHlwaS5vcmc" + some(URLSAFE, 90),
        false=lambda: ["pypi-AgEIcHlwaS5vcmc", "pypi-AgEIcHlwaS5vcmc" + "A" * 90],
    ),
    prefixed("rubygems-key", "a RubyGems API key", "https://guides.rubygems.org/api-key-scopes/", "rubygems_", HEX, 48),
    prefixed(
        "docker-token",
        "a Docker Hub access token",
        "https://docs.docker.com/security/access-tokens/",
        "dckr_pat_",
        URLSAFE,
        27,
    ),
    prefixed(
        "nuget-key",
        "a NuGet API key",
        "https://learn.microsoft.com/nuget/nuget-org/publish-a-package",
        "oy2",
        LOWER + DIGITS,
        43,
        entropy=3.3,
    ),
    prefixed(
        "buildkite-token",
        "a Buildkite API token",
        "https://buildkite.com/docs/apis/managing-api-tokens",
        "bkua_",
        HEX,
        40,
    ),
    Rule(
        id="circleci-token",
        title="a CircleCI token",
        link="https://circleci.com/docs/managing-api-tokens/",
        keywords=("ccipat_", "cciprj_"),
        body=r"(CCIP(?:AT|RJ)_[0-9A-Za-z]{22}_[0-9a-f]{40})",
        shown="CCIPAT_",
        true=lambda: f"CCIPAT_{some(ALNUM, 22)}_{some(HEX, 40)}",
        false=lambda: ["CCIPAT_" + some(ALNUM, 22), "CCIPAT_" + "a" * 22 + "_" + "a" * 40],
    ),
    Rule(
        id="sonar-token",
        title="a SonarQube token",
        link="https://docs.sonarsource.com/sonarqube-server/user-guide/managing-tokens",
        keywords=("squ_", "sqp_", "sqa_"),
        body=r"(sq[upa]_[0-9a-f]{40})",
        shown="squ_",
        true=lambda: "squ_" + some(HEX, 40),
        false=lambda: ["squ_" + some(HEX, 20), "squ_" + "a" * 40],
    ),
)
