"""Names that are code (A27) and the target name rule."""

from __future__ import annotations

import pytest

from zopp.errors import Denied, UsageError
from zopp.exchange import names

CODE = """LD_PRELOAD LD_AUDIT DYLD_INSERT_LIBRARIES BASH_ENV BASH_FUNC_ls ENV PATH IFS NODE_OPTIONS PYTHONPATH
PYTHONSTARTUP PERL5LIB PERL5OPT RUBYOPT JAVA_TOOL_OPTIONS GIT_CONFIG_COUNT GIT_SSH_COMMAND SOPS_AGE_KEY ZOPP_AGE_KEY
HTTP_PROXY https_proxy ALL_PROXY no_proxy npm_config_script_shell"""


@pytest.mark.parametrize("name", CODE.split())
def test_names_that_are_code_are_denied(name: str) -> None:
    with pytest.raises(Denied) as caught:
        names.check_name(name)
    assert caught.value.code == "code-name"
    names.check_name(name, allowed=[name])


@pytest.mark.parametrize("name", ["A", "_", "DATABASE_URL", "PATHS", "GITHUB_TOKEN", "NODE_ENV", "LDAP_URL", "a1"])
def test_ordinary_names_pass(name: str) -> None:
    names.check_name(name)


@pytest.mark.parametrize("name", ["", "1A", "A-B", "A.B", "A B", "A;B", "É", "A\n", "A" * 257, "BASH_FUNC_a%%", "²A"])
def test_odd_names_are_refused_and_not_quoted(name: str) -> None:
    with pytest.raises(UsageError) as caught:
        names.check_name(name, allowed=[name])
    assert not name or name not in str(caught.value) or len(name) == 1


@pytest.mark.parametrize("name", ["sops", "sops_mac", "sops_"])
def test_names_of_sops_are_refused_even_if_allowed(name: str) -> None:
    with pytest.raises(UsageError):
        names.check_name(name, allowed=[name])
