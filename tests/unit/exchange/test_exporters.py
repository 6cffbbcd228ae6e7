"""Exporters: exact or refused by name, and read back by the importer, by bash, by JSON and YAML readers."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import tomllib

import kubernetes_validate
import pytest
import yaml
from hypothesis import given, settings, strategies as st

from zopp.errors import FormatError
from zopp.exchange import dotenv, exporters, scalars

CANARY = "kanarienvogel7"
NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True).filter(
    lambda name: not exporters.names.reason(name)
)
VALUES = st.one_of(
    st.text(max_size=40),
    st.text(alphabet="ab '\"`\\$#{}()=\n\t\r!n\u2028\ufeff-BEGIN", max_size=20),
    st.sampled_from(
        ["-----BEGIN TEST-----", "a\\", "'", "it's", "$(x)", "${x}", "~", "\u0085", "\ufeff", " ", "#", "=b"]
    ),
)
MAPS = st.dictionaries(NAMES, VALUES, max_size=6)


def exported(values: dict[str, str], form: str) -> tuple[bytes, dict[str, str]]:
    """What could be written, after leaving out what was refused by name."""
    try:
        return exporters.export(values, form), values
    except FormatError as exc:
        refused = {refusal.key for refusal in exc.data["refusals"]}
        assert refused
        assert refused <= values.keys()
        kept = {name: value for name, value in values.items() if name not in refused}
        return exporters.export(kept, form), kept


@given(MAPS, st.sampled_from([("env", "auto"), ("docker", "docker"), ("sops-env", "sops")]))
@settings(max_examples=1500, deadline=None)
def test_what_is_written_is_read_back(values: dict[str, str], pair: tuple[str, str]) -> None:
    form, dialect = pair
    data, kept = exported(values, form)
    parsed = dotenv.parse(data, dialect=dialect)
    assert parsed.problems == ()
    assert {a.name: a.value for a in parsed.assignments} == kept


@given(MAPS)
@settings(max_examples=500, deadline=None)
def test_every_dialect_reads_the_portable_subset_alike(values: dict[str, str]) -> None:
    data, kept = exported(values, "env")
    for dialect in ("python", "dotenv", "compose", "shell"):
        parsed = dotenv.parse(data, dialect=dialect)
        assert parsed.problems == ()
        assert {a.name: a.value for a in parsed.assignments} == kept


@given(MAPS)
@settings(max_examples=500, deadline=None)
def test_json_and_yaml_are_read_back_as_strings(values: dict[str, str]) -> None:
    data, kept = exported(values, "json")
    assert json.loads(data) == kept
    data, kept = exported(values, "yaml")
    assert yaml.safe_load(data) == kept
    data, kept = exported(values, "toml")
    assert tomllib.loads(data.decode()) == kept


@given(MAPS)
@settings(max_examples=300, deadline=None)
def test_a_secret_manifest_holds_the_bytes(values: dict[str, str]) -> None:
    kept = {name: value for name, value in values.items() if not any("\ud800" <= char <= "\udfff" for char in value)}
    data = exporters.export(kept, "k8s", secret="app.secrets-1", namespace="shop")
    document = yaml.safe_load(data)
    assert document["metadata"] == {"name": "app.secrets-1", "namespace": "shop"}
    assert {name: base64.b64decode(text, validate=True).decode() for name, text in document["data"].items()} == kept


def _runner(data: bytes) -> dict[str, str]:
    """The file in GITHUB_ENV as the runner's documentation has it: NAME<<END, lines, END."""
    found: dict[str, str] = {}
    lines = iter(data.decode().split("\n"))
    for line in lines:
        if not line:
            continue
        name, mark, end = line.partition("<<")
        assert mark
        value: list[str] = []
        for inner in lines:
            if inner == end:
                break
            value.append(inner)
        else:
            raise AssertionError("a value without an end")
        found[name] = "\n".join(value)
    return found


@given(MAPS)
@settings(max_examples=300, deadline=None)
def test_a_job_gets_the_same_values(values: dict[str, str]) -> None:
    data, kept = exported(values, "github-env")
    assert _runner(data) == kept


def test_a_value_cannot_end_itself_and_set_another() -> None:
    once, twice = (exporters.export({"A": "x"}, "github-env") for _ in range(2))
    end = once.partition(b"<<")[2].partition(b"\n")[0].decode()
    assert once != twice
    assert len(end) >= 32
    hostile = f"x\n{end}\nPATH<<EOF\n/evil\nEOF"
    assert _runner(exporters.export({"A": hostile}, "github-env")) == {"A": hostile}
    for name in ("GITHUB_TOKEN", "RUNNER_TEMP", "NODE_OPTIONS"):
        with pytest.raises(FormatError):
            exporters.export({name: "x"}, "github-env")


@given(st.binary(max_size=40))
def test_bytes_come_back_as_bytes(data: bytes) -> None:
    text = scalars.from_bytes(data)
    text.encode()
    assert "\0" not in text
    document = yaml.safe_load(exporters.export({"A": text}, "k8s", secret="a"))
    assert base64.b64decode(document["data"]["A"], validate=True) == data
    assert json.loads(exporters.export({"A": text}, "json")) == {"A": text}


@pytest.mark.parametrize("text", ["data:application/octet-stream;base64,AAAA", "data:;base64,AA", "AAAA", ""])
def test_what_no_importer_marked_stays_as_it_is(text: str) -> None:
    assert scalars.to_bytes(text) is None
    assert scalars.to_bytes(scalars.from_bytes(b"\0") + "!") is None
    assert scalars.from_bytes(text.encode()) == text


@pytest.mark.parametrize("values", [{}, {"A": "", "y": "it's\n"}])
def test_kubernetes_own_schema_takes_it(values: dict[str, str]) -> None:
    document = yaml.safe_load(exporters.export(values, "k8s", secret="app.secrets-1", namespace="shop"))
    kubernetes_validate.validate(document, "1.37", strict=True)
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(document | {"data": {"A": 1}}, "1.37", strict=True)


@pytest.mark.parametrize("name", ["0x10", "1.5", "true", "no", "1e3", "a" * 253, "a.b-c.d"])
def test_a_secrets_name_stays_a_name(name: str) -> None:
    document = yaml.safe_load(exporters.export({"y": "1"}, "k8s", secret=name))
    assert document["metadata"] == {"name": name}
    assert document["data"] == {"y": "MQ=="}


@pytest.mark.parametrize("name", ["", "A", "a_b", "-a", "a-", "a..b", ".a", "a.", "a\n", 'a"b', "a" * 254, "a: b", "ä"])
def test_what_is_no_name_of_a_secret(name: str) -> None:
    with pytest.raises(FormatError, match="no such name"):
        exporters.export({"A": "1"}, "k8s", secret=name)
    if name:
        with pytest.raises(FormatError, match="no such namespace"):
            exporters.export({"A": "1"}, "k8s", secret="a", namespace=name)


def test_a_secret_is_at_most_a_mebibyte() -> None:
    assert exporters.export({"A": "x" * (1 << 20)}, "k8s", secret="a")
    with pytest.raises(FormatError, match="1 MiB"):
        exporters.export({"A": "x" * (1 << 20), "B": "x"}, "k8s", secret="a")


@pytest.mark.parametrize("name", ["y", "No", "on", "NULL", "true", "_", "e1"])
def test_yaml_names_stay_names(name: str) -> None:
    assert yaml.safe_load(exporters.export({name: "1"}, "yaml")) == {name: "1"}


@given(VALUES)
@settings(max_examples=150, deadline=None)
def test_bash_reads_shell_and_env_exports(value: str) -> None:
    bash = shutil.which("bash")
    assert bash is not None
    for form in ("shell", "env"):
        data, kept = exported({"A": value}, form)
        if kept:
            script = data + b'printf "%s" "$A"'
            done = subprocess.run([bash, "-c", script], capture_output=True, check=True, env={"LC_ALL": "C.UTF-8"})
            assert done.stdout.decode() == value


# value, how env writes it (None: refused)
RULES = [
    ("", "A="),
    ("a/b:c@d%e+f,g=h-i.j_k", "A=a/b:c@d%e+f,g=h-i.j_k"),
    ("b c", "A='b c'"),
    ("$B", "A='$B'"),
    ('{"k": 1}', "A='{\"k\": 1}'"),
    ("l1\nl2", "A='l1\nl2'"),
    ("it's", 'A="it\'s"'),
    ("it's $x", None),
    ("it's `x`", None),
    ("it's a\\b", None),
    ("a\\", None),
    ("a\\\\b", None),
    ("a${b", None),
    ("a\rb", None),
    ("a\0b", None),
    ("a\ud800b", None),
]


@pytest.mark.parametrize(("value", "line"), RULES)
def test_the_portable_subset(value: str, line: str | None) -> None:
    if line is None:
        with pytest.raises(FormatError):
            exporters.export({"A": value}, "env")
    else:
        assert exporters.export({"A": value}, "env") == (line + "\n").encode()


def test_a_refusal_names_key_reason_and_formats_and_shows_no_value() -> None:
    with pytest.raises(FormatError) as caught:
        exporters.export({"GOOD": "1", "BAD": f"{CANARY}'$", "WORSE": f"{CANARY}\0", "LD_PRELOAD": CANARY}, "env")
    text = str(caught.value)
    assert "BAD needs both kinds of quotes" in text
    assert "docker, shell, json, yaml, toml, k8s, sops-env" in text
    assert CANARY not in text + repr(caught.value.data)
    assert [(r.key, r.rule) for r in caught.value.data["refusals"]] == [
        ("BAD", "no-common-quoting"),
        ("LD_PRELOAD", "code-name"),
        ("WORSE", "nul"),
    ]


@pytest.mark.parametrize(
    ("value", "rule"), [("a\nb", "newline"), ("a\rb", "carriage-return"), ("a\0", "nul"), ("x" * 60_000, "line-length")]
)
def test_docker_refuses_what_its_reader_cannot_carry(value: str, rule: str) -> None:
    with pytest.raises(FormatError) as caught:
        exporters.export({"A": value}, "docker")
    assert caught.value.data["refusals"][0].rule == rule


def test_docker_keeps_the_rest_as_it_is() -> None:
    assert exporters.export({"A": " '#\t\"$x\\n "}, "docker") == b"A= '#\t\"$x\\n \n"


def test_sops_env_refuses_backslash_n_and_sops_names() -> None:
    for values in ({"A": "a\\nb"}, {"sops_mac": "1"}):
        with pytest.raises(FormatError):
            exporters.export(values, "sops-env")
    assert exporters.export({"A": "a\nb"}, "sops-env") == b"A=a\\nb\n"


@pytest.mark.parametrize("form", exporters.FORMATS)
@pytest.mark.parametrize("name", ["A;touch x", "A\nB", "", "A=B", "BASH_ENV"])
def test_no_format_takes_a_name_that_could_run(form: str, name: str) -> None:
    with pytest.raises(FormatError):
        exporters.export({name: "1"}, form, secret="a")
    assert exporters.export({"BASH_ENV": "1"}, form, allowed=["BASH_ENV"], secret="a")


def test_an_unknown_format_is_refused_and_nothing_is_an_empty_file() -> None:
    with pytest.raises(FormatError):
        exporters.export({}, "xml")
    assert exporters.export({}, "env") == b""
    assert exporters.export({}, "json") == exporters.export({}, "yaml") == b"{}\n"
    assert exporters.export({}, "toml") == b""
    assert yaml.safe_load(exporters.export({}, "k8s", secret="a"))["data"] == {}


def test_an_example_has_names_and_notes_only() -> None:
    data = exporters.example([("A", "Used by\nthe app"), ("B", ""), ("C", "x\rA=1")])
    assert data == b"# Used by\n# the app\nA=\n\nB=\n\n# x A=1\nC=\n"
    assert [a.value for a in dotenv.parse(data).assignments] == ["", "", ""]
