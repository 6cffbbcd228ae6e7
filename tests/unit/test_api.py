"""The public API: the same refusals as the command line, on real repositories; and importing it costs nothing."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import zopp
from tests.support import Team, User
from zopp.errors import UsageError

ROOT = Path(__file__).resolve().parents[2]


def opened(user: User, **more: str) -> zopp.Workspace:
    return zopp.open(user.repo, environ={**user.env, **more})


def test_importing_loads_nothing_else() -> None:
    program = (
        "import sys; before = set(sys.modules); import zopp; dir(zopp); "
        "print(sorted(set(sys.modules) - before)); zopp.ZoppError; print(sorted(set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-S", "-c", program], cwd=ROOT, capture_output=True, check=True)
    assert done.stdout.decode().split("\n")[:2] == ["['zopp']", "['zopp', 'zopp.errors']"]


def test_the_names() -> None:
    assert len(zopp.__all__) < 10 and sorted(zopp.__all__) == dir(zopp)
    for name in zopp.__all__:
        assert getattr(zopp, name) is not None
    with pytest.raises(AttributeError):
        zopp.cli_main  # type: ignore[attr-defined]  # noqa: B018


# --- what the commands refuse is refused

TAMPER = {
    "value": ("secrets/dev.yaml", "BASE: ENC[AES256_GCM,data:", "BASE: ENC[AES256_GCM,data:A"),
    "recipient": ("secrets/dev.yaml", "recipient: age1", "recipient: age1q"),
    "manifest": (".zopp/manifest/api/dev.json", '"generation":', '"generation":1'),
    "signature": (".zopp/manifest/api/dev.json.sig", "-----BEGIN SSH SIGNATURE-----\n", ""),
    "log": (".zopp/policy.jsonl", '"role":"', '"role":"x'),
    "settings": ("zopp.toml", 'genesis = "', 'genesis = "0'),
}


@pytest.mark.parametrize("what", TAMPER)
def test_tampered(team: Team, what: str) -> None:
    team.grant("bob", "read", "api/dev")
    alice = team.alice
    shop = opened(alice)
    assert shop.get("BASE", "dev") == "base-dev"
    path, old, new = TAMPER[what]
    alice.replace(path, old, new)
    before = alice.tree()
    says = alice.zopp("get", "BASE", "-e", "dev")
    for call in (
        lambda: shop.get("BASE", "dev"),
        lambda: shop.values("dev"),
        lambda: shop.keys("dev"),
        lambda: shop.set("BASE", "x", "dev"),
    ):
        with pytest.raises(zopp.ZoppError) as caught:
            call()
        assert caught.value.exit_code == says.code
        assert str(caught.value) in says.err
    assert alice.tree() == before


def test_no_role_no_value(team: Team) -> None:
    shop = opened(team.bob)
    with pytest.raises(zopp.Denied) as caught:
        shop.get("BASE", "dev")
    assert "zopp grant bob read api/dev" in caught.value.hint
    team.grant("bob", "read", "api/dev")
    assert shop.get("BASE", "dev") == "base-dev", "every call reads anew"
    with pytest.raises(zopp.Denied):
        shop.set("BASE", "x", "dev")
    with pytest.raises(zopp.Denied):
        shop.get("BASE", "prod")


def test_no_key_no_workspace_no_pin(team: Team, tmp_path: Path) -> None:
    with pytest.raises(zopp.NotFound):
        zopp.open(tmp_path)
    with pytest.raises(zopp.NotFound):
        zopp.open(tmp_path / "nowhere")
    stranger = User("stranger", "none", team.base)
    stranger.home.mkdir()
    team._clone(stranger)
    with pytest.warns(zopp.ZoppWarning, match="not pinned") as said:
        shop = opened(stranger)
    assert said[0].filename == __file__
    assert team.alice.state().ws in str(said[0].message)
    with pytest.warns(zopp.ZoppWarning), pytest.raises(zopp.Unknown):
        shop.get("BASE", "dev")
    with pytest.warns(zopp.ZoppWarning) as said, pytest.raises(zopp.Unknown):
        shop.set("BASE", "x", "dev")
    assert said[0].filename == __file__
    with pytest.raises(zopp.Unknown):
        opened(stranger, CI="true")


def test_an_old_base_warns_and_is_not_written(team: Team) -> None:
    alice = team.alice
    team.grant("bob", "read", "api/dev")
    alice.git("checkout", "-q", "-b", "old", "HEAD~1")
    with pytest.warns(zopp.ZoppWarning, match="older"):
        shop = opened(alice)
    with pytest.warns(zopp.ZoppWarning):
        assert shop.get("BASE", "dev") == "base-dev"
    with pytest.warns(zopp.ZoppWarning), pytest.raises(zopp.IntegrityError):
        shop.set("BASE", "x", "dev")


@pytest.mark.parametrize("value", [b"x", [1], {"a": 1}, "a\0b", 2**63, -(2**63) - 1, object()])
def test_values_that_no_file_holds(team: Team, value: object) -> None:
    before = team.alice.tree()
    with pytest.raises(UsageError) as caught:
        opened(team.alice).set("K", value, "dev")  # type: ignore[arg-type]
    assert repr(value) not in str(caught.value)
    assert team.alice.tree() == before


def test_names_that_are_refused(team: Team) -> None:
    shop, before = opened(team.alice), team.alice.tree()
    for name in ("LD_PRELOAD", "X_unencrypted", "", "a..b", "sops"):
        with pytest.raises(zopp.ZoppError):
            shop.set(name, "x", "dev")
    for name in ("NOPE", "", "a..b"):
        with pytest.raises(zopp.ZoppError):
            shop.get(name, "dev")
    with pytest.raises(zopp.NotFound):
        shop.get("BASE", "nope")
    with pytest.raises(zopp.NotFound):
        zopp.open(team.alice.repo, project="nope", environ=team.alice.env).get("BASE", "dev")
    assert team.alice.tree() == before


# --- what works


def test_round_trip(team: Team) -> None:
    alice = team.alice
    shop = opened(alice)
    assert shop.environments() == ["dev", "prod", "staging"]
    wanted = {"S": "ä\n'\"", "I": -7, "F": 1.5, "B": True, "N": None, "db.password": "p", "E": ""}
    for key, value in wanted.items():
        assert shop.set(key, value) is True  # the default environment is dev
        assert shop.set(key, value) is False, "nothing to write"
        found = shop.get(key)
        assert found == value and type(found) is type(value)
    assert shop.get("db") == {"password": "p"}
    assert shop.values() == {"BASE": "base-dev", **wanted}
    assert shop.keys() == list(shop.values())
    assert json.loads(alice.ok("get", "S", "-e", "dev", "--json").out)["value"] == wanted["S"]
    assert "base-dev" not in repr(shop)
    alice.ok("verify")
    head = alice.git("rev-parse", "HEAD")
    assert shop.set("S", "committed", message="from python")
    assert alice.git("log", "-1", "--format=%s %P") == f"from python {head}"


def test_environment_and_project_from_the_variables(team: Team) -> None:
    assert opened(team.alice, ZOPP_ENV="prod").get("BASE") == "base-prod"
    with pytest.raises(zopp.NotFound):
        opened(team.alice, ZOPP_PROJECT="nope").get("BASE", "dev")


def test_the_example_of_the_readme_runs(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    alice = team.alice
    example = example.replace("development", "dev")
    alice.set("DATABASE_URL", "db://x")
    monkeypatch.chdir(alice.repo)
    for name in ("CI", "ZOPP_ENV", "ZOPP_PROJECT", "ZOPP_TRUST", "SOPS_AGE_KEY", "SOPS_AGE_KEY_FILE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in alice.env.items():
        monkeypatch.setenv(name, value)
    names: dict[str, object] = {}
    exec(compile(example, "README.md", "exec"), names)
    assert names["url"] == "db://x"
    assert isinstance(names["everything"], dict) and names["everything"]["BASE"] == "base-dev"
    assert alice.get("SESSION_KEY") == "a new value"


def test_the_package_is_typed() -> None:
    assert (ROOT / "zopp/py.typed").exists()
