"""Every source through `zopp import` in a real repository: values arrive, twice changes nothing, nothing is said."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from tests.oracle.conftest import Oracle
from tests.robustness.test_canary import CANARY, everywhere, leaks
from tests.scenarios.test_terminal import on_terminal
from tests.sources.made import AgeKey, DotenvxKey, dotenvx
from tests.support import Team, User, refused

DOTENVX, AGE = DotenvxKey(), AgeKey()


@dataclass
class Case:
    """`files` are written into the folder of the import, `argv` follows `zopp import`, `env` holds keys. `values` are
    what development holds afterwards. `direct`: a script needs no --yes."""

    argv: tuple[str, ...]
    files: Callable[[str], dict[str, str | bytes]]
    values: dict[str, object]
    direct: bool = True
    env: dict[str, str] = field(default_factory=dict)


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def manifest(value: str, name: str = "api", key: str = "A") -> str:
    head = f"apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}, namespace: prod}}\n"
    return f"{head}data:\n  {key}: {b64(value)}\nstringData:\n  B: z\n"


def fnox(value: str) -> dict[str, str | bytes]:
    provider = f'[providers.age]\ntype = "age"\nrecipients = ["{AGE.recipient}"]\nkey_file = "age.txt"\n'
    return {
        "in": f'[secrets]\nA = {{ value = "{AGE.seal(value)}" }}\n[profiles.prod.secrets]\nB = {{ default = "y" }}\n'
        + provider,
        "age.txt": AGE.secret + "\n",
    }


DIRECT: dict[str, Case] = {
    "json": Case(("json", "in"), lambda v: {"in": json.dumps({"A": v, "n": {"p": 5}})}, {"A": "", "n": {"p": 5}}),
    "yaml": Case(
        ("yaml", "in"), lambda v: {"in": f'# note\nA: "{v}"\nn:\n  l: [1, x]\n'}, {"A": "", "n": {"l": [1, "x"]}}
    ),
    "toml": Case(("toml", "in"), lambda v: {"in": f'A = "{v}"\n[n]\np = true\n'}, {"A": "", "n": {"p": True}}),
    "csv": Case(("csv", "in"), lambda v: {"in": f"key,value,note\nA,{v},said\nB,y,\n"}, {"A": "", "B": "y"}),
    "dotenvx": Case(
        ("dotenvx", ".env"),
        lambda v: {
            ".env": dotenvx(DOTENVX, {"A": v, "B": "y"}),
            ".env.keys": f"DOTENV_PRIVATE_KEY={DOTENVX.private}\n",
        },
        {"A": "", "B": "y"},
    ),
    "doppler": Case(
        ("doppler", "in"),
        lambda v: {"in": json.dumps({"A": v, "DOPPLER_PROJECT": "p", "DOPPLER_CONFIG": "c"})},
        {"A": ""},
    ),
    "infisical": Case(
        ("infisical", "in"),
        lambda v: {"in": json.dumps([{"key": "A", "value": v, "type": "shared", "_id": "1", "comment": "said"}])},
        {"A": ""},
    ),
    "chamber": Case(("chamber", "in"), lambda v: {"in": json.dumps({"a": v, "b-c": "y"})}, {"A": "", "B_C": "y"}),
    "fnox-export": Case(
        ("fnox", "in"), lambda v: {"in": json.dumps({"secrets": {"A": v}, "metadata": None})}, {"A": ""}
    ),
}
ASKING: dict[str, Case] = {
    "fnox": Case(("fnox", "in", "--profile", "default"), fnox, {"A": ""}, direct=False),
    "kubernetes": Case(("kubernetes", "in"), lambda v: {"in": manifest(v)}, {"A": "", "B": "z"}, direct=False),
}
CASES = {**DIRECT, **ASKING}


def prepare(team: Team, case: Case, value: str) -> User:
    alice = team.alice
    alice.write(".gitignore", "in/\n")
    for name, data in case.files(value).items():
        alice.write(f"in/{name}", data)
    alice.share("before")
    return alice


def argv(case: Case) -> tuple[str, ...]:
    source, path, *rest = case.argv
    return ("import", source, f"in/{path}", "-e", "staging", *rest)


def held(alice: User) -> dict[str, object]:
    found = alice.ok("export", "-e", "staging", "--format", "json").json
    del found["BASE"]
    return dict(found)


def flat(values: dict[str, object], value: str) -> dict[str, str]:
    """As `export` writes it, which joins names and counts what is in a list."""
    out: dict[str, str] = {}
    for key, found in values.items():
        pairs = found.items() if isinstance(found, dict) else enumerate(found) if isinstance(found, list) else None
        if pairs is not None:
            out |= flat({f"{key}_{name}": one for name, one in pairs}, value)
        else:
            out[key] = value if key == "A" else found if isinstance(found, str) else json.dumps(found)
    return out


@pytest.mark.parametrize("name", CASES)
def test_values_arrive_and_a_second_import_is_no_diff(team: Team, name: str) -> None:
    case = CASES[name]
    alice = prepare(team, case, CANARY)
    before = alice.tree()
    dry = alice.ok(*argv(case), "--dry-run")
    assert alice.tree() == before and "new" in dry.out and CANARY not in dry.text
    done = alice.ok(*argv(case), *(() if case.direct else ("--yes",)))
    assert CANARY not in done.text
    assert held(alice) == flat(case.values, CANARY)
    alice.ok("verify")
    after = alice.tree()
    again = alice.ok(*argv(case), *(() if case.direct else ("--yes",)))
    assert alice.tree() == after, again.text
    kept = [str(path) for path, data in everywhere(team) if leaks(data) and path.parent.name != "in"]
    assert not kept


@pytest.mark.parametrize("name", CASES)
def test_without_a_terminal_only_one_file_goes_in_unasked(team: Team, name: str) -> None:
    case = CASES[name]
    alice = prepare(team, case, "x")
    before = alice.tree()
    done = alice.zopp(*argv(case), code=0 if case.direct else 2)
    assert (alice.tree() == before) == (not case.direct)
    if not case.direct:
        assert "say --yes" in done.err and "new" in done.err


@pytest.mark.parametrize("name", CASES)
def test_a_changed_value_is_updated_and_one_that_is_gone_is_pruned(team: Team, name: str) -> None:
    case = CASES[name]
    alice = prepare(team, case, "first")
    alice.ok(*argv(case), "--yes")
    for path, data in case.files("second").items():
        alice.write(f"in/{path}", data)
    done = alice.ok(*argv(case), "--yes", "--on-conflict", "fail")
    assert held(alice) == flat(case.values, "second")
    assert "1 imported" in done.err
    record = json.loads(alice.read(".zopp/provenance/api/staging.json"))["keys"]
    assert {one["kind"] for one in record.values()} == {case.argv[0]}
    assert "second" not in str(record)


def test_fnox_profiles_go_to_the_environments_of_their_names(team: Team) -> None:
    case = Case(("fnox", "in"), fnox, {})
    alice = prepare(team, case, "x")
    alice.ok("import", "fnox", "in/in", "-e", "staging", "--yes")
    assert held(alice) == {"A": "x"}
    prod = alice.ok("export", "-e", "prod", "--format", "json").json
    assert (prod["A"], prod["B"]) == ("x", "y")


def test_a_profile_without_an_environment_is_named(team: Team) -> None:
    case = Case(("fnox", "in"), lambda v: {"in": '[profiles.nowhere.secrets]\nA = { default = "x" }\n'}, {})
    alice = prepare(team, case, "x")
    before = alice.tree()
    refused(alice.zopp("import", "fnox", "in/in", "--yes"), 1, words=("nowhere",))
    assert alice.tree() == before


def test_fnox_reads_its_imports_and_its_keys_where_fnox_does(team: Team) -> None:
    text = f'import = ["base.toml"]\n[secrets]\nA = {{ provider = "age", value = "{AGE.seal("x")}" }}\n'
    base = f'[providers.age]\ntype = "age"\nrecipients = ["{AGE.recipient}"]\n[secrets]\nB = {{ default = "y" }}\n'
    alice = prepare(team, Case((), lambda v: {"in": text, "base.toml": base}, {}), "x")
    run = ("import", "fnox", "in/in", "-e", "staging", "--yes")
    refused(alice.zopp(*run), 1, words=("no-identity",))
    (alice.home / "key.txt").write_text(AGE.secret + "\n")
    for env in ({"FNOX_AGE_KEY": AGE.secret}, {"FNOX_AGE_KEY_FILE": "~/key.txt"}, {"ZOPP_AGE_KEY": AGE.secret}):
        dry = alice.ok(*run, "--dry-run", env=env)
        assert "2 new" in dry.out
    (alice.home / ".config/fnox").mkdir(parents=True)
    (alice.home / "key.txt").rename(alice.home / ".config/fnox/age.txt")
    alice.ok(*run)
    assert held(alice) == {"A": "x", "B": "y"}
    alice.write("in/in", text.replace("base.toml", "none.toml"))
    refused(alice.zopp(*run), 2, words=("in/in: what it imports, number 1, cannot be read",))
    done = alice.zopp(*run, "--dry-run", env={"FNOX_AGE_KEY": f"AGE-SECRET-KEY-1{CANARY}"})
    assert CANARY not in done.text


def test_a_map_file_sends_each_kubernetes_secret_where_it_belongs(team: Team) -> None:
    text = manifest("x", "api-staging") + "---\n" + manifest("y", "api-prod")
    alice = prepare(team, Case((), lambda v: {"in": text}, {}), "x")
    routes = [f'[[route]]\nfrom = "prod/api-{env}/*"\nenv = "{env}"\nnames = "field"\n' for env in ("staging", "prod")]
    alice.write("map.toml", "".join(routes))
    alice.ok("import", "kubernetes", "in/in", "--map", "map.toml", "--yes")
    assert held(alice) == {"A": "x", "B": "z"}
    prod = alice.ok("export", "-e", "prod", "--format", "json").json
    assert (prod["A"], prod["B"]) == ("y", "z")


def test_bytes_go_back_into_a_manifest_as_they_came(team: Team) -> None:
    data = base64.b64encode(bytes(range(256))).decode()
    text = f"apiVersion: v1\nkind: Secret\nmetadata: {{name: api}}\ndata:\n  KEYSTORE: {data}\n"
    alice = prepare(team, Case((), lambda v: {"in": text}, {}), "x")
    alice.ok("import", "kubernetes", "in/in", "-e", "staging", "--yes")
    written = alice.ok("export", "-e", "staging", "--format", "k8s", "--name", "api").out
    assert f'  KEYSTORE: "{data}"\n' in written


class TestSops:
    def place(self, team: Team, sops: Oracle, text: str, name: str = "old.yaml", **options: bool) -> User:
        suffix = "." + name.partition(".")[2]
        data = sops.encrypt(text.encode(), suffix, sops.config(**options))
        alice = prepare(team, Case((), lambda v: {name: data}, {}), "x")
        alice.extra["SOPS_AGE_KEY"] = "\n".join(map(str, sops.identities))
        return alice

    def test_values_arrive_and_a_second_import_is_no_diff(self, team: Team, sops: Oracle) -> None:
        text = f"# the note\nA: {CANARY}\nn:\n  p: 5\n  t: 2024-01-01T10:00:00Z\n  l: [1, x]\n"
        alice = self.place(team, sops, text)
        done = alice.ok("import", "sops", "in/old.yaml", "-e", "staging")
        assert sops.recipients[0] in done.err and CANARY not in done.text
        values = {"A": CANARY, "n_p": "5", "n_t": "2024-01-01T10:00:00Z", "n_l_0": "1", "n_l_1": "x"}
        assert held(alice) == values
        after = alice.tree()
        alice.ok("import", "sops", "in/old.yaml", "-e", "staging")
        assert alice.tree() == after
        alice.ok("verify")
        kept = [str(path) for path, data in everywhere(team) if leaks(data)]
        assert not kept

    @pytest.mark.parametrize(
        ("name", "text"),
        [("old.json", '{"A": "x"}'), ("old.env", "A=x\n"), ("old.ini", "[DEFAULT]\nA = x\n"), ("old.yml", "A: x\n")],
    )
    def test_the_format_is_the_suffixs(self, team: Team, sops: Oracle, name: str, text: str) -> None:
        alice = self.place(team, sops, text, name)
        alice.ok("import", "sops", f"in/{name}", "-e", "staging")
        assert held(alice) == {"A": "x"}

    def test_standard_input_needs_a_type(self, team: Team, sops: Oracle) -> None:
        alice = self.place(team, sops, "A: x\n")
        data = alice.read("in/old.yaml")
        refused(alice.zopp("import", "sops", "-", "-e", "staging", stdin=data), 2, words=("--input-type",))
        alice.ok("import", "sops", "-", "--input-type", "yaml", "-e", "staging", stdin=data)
        assert held(alice) == {"A": "x"}

    def test_without_a_key_the_sources_that_were_tried_are_said(self, team: Team, sops: Oracle) -> None:
        alice = self.place(team, sops, f"A: {CANARY}\n")
        alice.extra.clear()
        done = alice.zopp("import", "sops", "in/old.yaml", "-e", "staging")
        refused(done, 3, words=("no key of yours opens it", "tried"))
        assert CANARY not in done.text

    def test_a_file_of_this_repository_is_refused(self, team: Team) -> None:
        alice = team.alice
        done = alice.zopp("import", "sops", "secrets/dev.yaml", "-e", "staging")
        refused(done, 2, words=("api/dev", "zopp export -e dev"))
        alice.git("mv", "secrets/dev.yaml", "copy.yaml")
        alice.write("secrets/dev.yaml", alice.read("copy.yaml"))
        alice.path("link.yaml").symlink_to("secrets/dev.yaml")
        refused(alice.zopp("import", "sops", "link.yaml", "-e", "staging"), 2, words=("api/dev",))

    def test_a_changed_file_is_refused(self, team: Team, sops: Oracle) -> None:
        alice = self.place(team, sops, "A: x\nB_unencrypted: clear\n")
        alice.replace("in/old.yaml", "clear", "other")
        before = alice.tree()
        refused(alice.zopp("import", "sops", "in/old.yaml", "-e", "staging"), 1)
        assert alice.tree() == before


def test_dotenvx_takes_keys_from_the_environment_and_another_file(team: Team) -> None:
    alice = prepare(team, Case((), lambda v: {".env.ci": dotenvx(DOTENVX, {"A": v}, suffix="_CI")}, {}), "x")
    run = ("import", "dotenvx", "in/.env.ci", "-e", "staging", "--dry-run")
    refused(alice.zopp(*run), 3, words=("DOTENV_PRIVATE_KEY_CI", "in/.env.ci"))
    assert "1 new" in alice.ok(*run, env={"DOTENV_PRIVATE_KEY_CI": DOTENVX.private}).out
    (team.base / "keys").write_text(f"DOTENV_PRIVATE_KEY_CI={DOTENVX.private}\n")
    assert "1 new" in alice.ok(*run, "--keys", str(team.base / "keys")).out
    refused(alice.zopp(*run, "--keys", "nowhere"), 2, words=("nowhere",))


def test_an_error_names_the_file_as_it_was_typed_and_the_line(team: Team) -> None:
    alice = prepare(team, Case((), lambda v: {"x y.json": '{"A": 1,\n"A": 2}'}, {}), "x")
    done = alice.zopp("import", "json", "in/x y.json", code=1)
    assert "in/x y.json:2: a key stands twice" in done.err
    done = alice.zopp("import", "yaml", "-", stdin="A=1\n", code=1)
    assert "hint: if it is a .env file: zopp import dotenv -" in done.err


def test_what_is_imported_from_outside_has_no_path_of_this_machine(team: Team) -> None:
    (team.base / "outside.json").write_text('{"A": "x"}')
    alice = team.alice
    alice.ok("import", "json", str(team.base / "outside.json"), "-e", "staging")
    assert str(team.base) not in alice.read(".zopp/provenance/api/staging.json").decode()


@pytest.mark.parametrize("source", ["json", "dotenv"])
def test_the_file_that_is_offered_for_removal_is_the_one_that_was_read(team: Team, source: str) -> None:
    """One outside the repository may have the name of one at its root."""
    text = '{"A": "x"}' if source == "json" else "A=x\n"
    alice = team.alice
    alice.write("plain.file", "kept")
    outside = team.base / "clone/plain.file"
    outside.write_text(text)
    typed = "../plain.file"
    code, screen = on_terminal(
        alice, "import", source, typed, "-e", "staging", question="import 1 key", answer=b"y\ny\n"
    )
    assert code == 0 and "remove ../plain.file now?" in screen
    assert not outside.exists() and alice.read("plain.file") == b"kept"
    assert held(alice) == {"A": "x"}


# Files that must not be read; @ is the secret, where a careless message would show it.
HOSTILE = (
    "@", '"@', "'@\n", "A: @: x\n", "A: [@", "A: *@", "A: !!python/object:@ x\n", "A: @\nA: @", "A: 'x\n@", "- @\n",
    '{"A": "@"', '{"A": "@", "A": "@"}', '{"A": @}', '{"A": "x"} @', '{"A": {"@": @', '{"A": "\\ud800@"}',
    '[{"key": "A", "value": @', '[{"key": "A", "value": {"@": 1}}]', '{"secrets": {"A": ["@"]}}',
    'A = "@', "A = @", "A = '''@", "[@\n", '[secrets]\nA = "@"\n', 'import = ["@\\u0000"]\n', 'import = ["@"]\n',
    '[secrets.A]\nvalue = "@"\n[providers.a]\ntype = "age"\n', '[secrets.A]\nvalue = "@"\nprovider = "@ x"\n',
    'key,value\nA,"@', 'key,value\nA,"@"x', "key,value\n@", "key,value\nA,@,\n", "key,@,value,key\n",
    "A=@ 'x\n", 'A="encrypted:@"\n', 'A="encrypted:QEBAQA@@"\n', "A=b\n@\n", "A=`@`\n",
    "kind: Secret\napiVersion: v1\nmetadata: {name: a}\ndata: {A: '@!'}\n",
    "kind: Secret\napiVersion: v1\nmetadata: {name: a}\ndata: @", "sops:\n  mac: @\nA: x\n",
    "A: ENC[AES256_GCM,data:@]\nsops: {mac: x, version: 3.9.0}\n", "sops: @\n", "\udcff@", "\0@", "A: \udcff@",
    "[" * 5000 + "@", '{"a":' * 5000 + "@", "a." * 5000 + "@ = 1", "@" * 1000, "9" * 5000 + "@",
    '{"A": ' + "9" * 5000 + ', "B": @',
)  # fmt: skip


SOURCES = ("json", "yaml", "toml", "csv", "sops", "dotenvx", "doppler", "infisical", "fnox", "kubernetes", "chamber")


@pytest.mark.parametrize("source", SOURCES)
def test_no_failing_path_shows_the_secret(team: Team, source: str) -> None:
    """With --debug, --json and a plan; whatever is read, nothing of it is printed, and a refusal writes nothing."""
    alice = team.alice
    before = alice.tree()
    types = ("--input-type", "yaml") if source == "sops" else ()
    failed = 0
    for pattern in HOSTILE:
        text = pattern.replace("@", CANARY).encode("utf-8", "surrogateescape")
        for more in (("--dry-run",), ("--dry-run", "--json", "--debug")):
            done = alice.zopp("import", source, "-", *types, *more, stdin=text, env={"DOTENV_PRIVATE_KEY": CANARY})
            assert not leaks(done.text.encode("utf-8", "surrogateescape")), (pattern[:80], done.text)
            assert done.code in (0, 1, 2, 3)
            failed += done.code != 0
    assert alice.tree() == before
    assert failed > 20
