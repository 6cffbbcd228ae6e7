"""zopp.toml: strict, every fault at once with its line, and the short reader never says more than the full one."""

import pytest
from hypothesis import given, strategies as st

from zopp.errors import FormatError, ZoppError
from zopp.repo import quick, settings
from zopp.repo.settings import Settings

GENESIS = "ab" * 32
GOOD = f"""version = 1
workspace = "acme"
genesis = "{GENESIS}"
project = "api"
default_env = "dev"

[env.dev]
files = ["secrets/dev.yaml", "more/dev.json"]
"""


def parse(text: str, folder: str = "") -> Settings:
    return settings.parse(text.encode(), place="zopp.toml", folder=folder)


def test_a_good_file_is_read() -> None:
    found = parse(GOOD)
    assert (found.workspace, found.project, found.default_env) == ("acme", "api", "dev")
    assert found.files == {"dev": ("secrets/dev.yaml", "more/dev.json")}


def test_paths_are_relative_to_the_git_root() -> None:
    assert parse(GOOD, folder="web").files["dev"] == ("web/secrets/dev.yaml", "web/more/dev.json")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (GOOD + "\n[gurad]\nx = 1\n", "line 10: gurad: unknown key; did you mean guard?"),
        (GOOD.replace("version = 1", "version = 2"), "line 1: version: must be 1"),
        (GOOD.replace("version = 1", "version = true"), "line 1: version: must be 1"),
        (GOOD.replace('project = "api"', 'project = "API"'), "line 4: project: must be a project name"),
        (GOOD.replace(GENESIS, GENESIS[:-1]), "line 3: genesis: must be 64 hex digits"),
        (GOOD.replace('"secrets/dev.yaml"', '"../dev.yaml"'), "env.dev.files[0]: must be a path below this folder"),
        (GOOD.replace("files = [", "fils = ["), "env.dev.fils: unknown key"),
        (GOOD.replace('default_env = "dev"', "default_env = 3"), "default_env: must be an environment name"),
    ],
)
def test_s6_a_fault_is_named_with_its_line(text: str, said: str) -> None:
    with pytest.raises(FormatError) as caught:
        parse(text)
    assert said in str(caught.value)


def test_every_fault_is_reported_at_once() -> None:
    with pytest.raises(FormatError) as caught:
        parse(GOOD.replace('"acme"', '"A"').replace('"api"', '"B"'))
    assert "workspace:" in str(caught.value)
    assert "project:" in str(caught.value)


def test_broken_toml_is_placed_and_not_quoted() -> None:
    with pytest.raises(FormatError) as caught:
        parse(GOOD + "canary = sEcReT\n")
    assert caught.value.place == "zopp.toml:9"
    assert "sEcReT" not in str(caught.value)


@given(st.binary(max_size=300))
def test_any_bytes_are_settings_or_a_zopp_error(data: bytes) -> None:
    try:
        settings.parse(data, place="zopp.toml")
    except ZoppError:
        return


def test_what_is_rendered_is_read_back() -> None:
    made = Settings(
        workspace="acme",
        genesis=GENESIS,
        project="api",
        default_env="dev",
        files={"dev": ("web/a.yaml", "web/b c.yaml")},
    )
    assert parse(settings.render(made, folder="web"), folder="web") == made


def test_an_environment_is_added_without_touching_the_rest() -> None:
    text = settings.add_environment(GOOD + "# mine\n", "prod", ("secrets/prod.yaml",))
    assert text.startswith(GOOD + "# mine\n")
    assert parse(text).files["prod"] == ("secrets/prod.yaml",)
    assert settings.add_environment(text, "prod", ("other.yaml",)) == text


LINES = [
    *GOOD.split("\n"),
    "# c",
    "x = 1",
    "[env.prod]",
    "files = []",
    'files = ["a"]',
    '[env."q"]',
    "[guard]",
    "'",
    '"',
]


@given(st.lists(st.sampled_from(LINES), max_size=14).map("\n".join))
def test_the_short_reader_agrees_with_the_full_one(text: str) -> None:
    short = quick.parse_plain(text)
    if short is None:
        return
    full = parse(text)
    assert (short.workspace, short.genesis, short.project, short.default_env) == (
        full.workspace, full.genesis, full.project, full.default_env,
    )  # fmt: skip
    assert {k: tuple(v) for k, v in short.files.items()} == full.files


def test_the_short_reader_takes_what_init_writes() -> None:
    assert quick.parse_plain(GOOD) is not None
    made = Settings(workspace="acme", genesis=GENESIS, project="api", files={"dev": ("secrets/dev.yaml",)})
    assert quick.parse_plain(settings.render(made)) is not None
