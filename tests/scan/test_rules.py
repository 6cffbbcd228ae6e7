"""The rules: their own examples, hostile input, no match in fresh ciphertext; the generated table is what the catalogue
says; any bytes give findings or an error; streamed and whole texts are judged alike."""

import random
import re
import time

import pytest
from hypothesis import HealthCheck, Phase, given, settings, strategies as st

from tests.scan.repo import password, sealed, token
from zopp.scan import _table, binkeys, encoded, encrypted, generic, kubernetes, match, predicates, search
from zopp.scan.catalogue import ALNUM, BASE64, HEX, NEAR, RUN, TEXT, URLSAFE, Rule, make, some

RULES = make.rules()


def found(text: str | bytes) -> list[str]:
    data = text.encode() if isinstance(text, str) else text
    return [hit.rule for hit in match.tokens(data, match.runs_of(data), data.lower())]


def test_the_table_is_what_the_catalogue_says() -> None:
    """Else: python -m zopp.scan.catalogue.make"""
    from pathlib import Path

    assert Path(_table.__file__).read_text() == make.render()


def test_ids_are_unique_and_there_are_as_many_as_meant() -> None:
    ids = [rule.id for rule in RULES]
    assert len(set(ids)) == len(ids)
    assert 100 <= len(ids) <= 125
    assert all(re.fullmatch(r"[a-z0-9-]+", each) for each in ids)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_examples(rule: Rule) -> None:
    """The true one is found in every surrounding, and named; the two false ones are not."""
    text = rule.true()
    for before, behind in (("", ""), ("x = ", "\n"), ('x: "', '"\n'), ("(", ")"), ("\n\n", "\n"), ("a\tb=", ";")):
        assert rule.id in found(before + text + behind), (before, behind)
    false = list(rule.false())
    assert len(false) == 2
    for each in false:
        assert rule.id not in found(f"x = {each}\n"), each


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_form(rule: Rule) -> None:
    assert rule.link.startswith("https://")
    assert rule.keywords and all(len(word) >= 3 and word == word.lower() for word in rule.keywords)
    # `}+` is possessive: bounded, and never given back.
    assert not re.search(r"[^\\}]\+|(?<!\\)\*", re.sub(r"\[[^\]]*\]", "", rule.body)), "bounded repeats only"
    assert re.compile(rule.pattern).groups >= 1
    true = rule.true()
    assert any(word in true.lower() for word in rule.keywords)
    assert rule.place in (RUN, NEAR, TEXT)
    if rule.place != TEXT:
        runs = match.runs_of(true.encode())[rule.place == NEAR].lower()
        assert any(word.encode() in runs for word in rule.keywords), "the keyword stands in a long run, or near one"
    if rule.shown:
        assert len(rule.shown) < 40


# A look ahead at the whole of what follows cannot be made up at random.
MADE_UP = [rule for rule in RULES if rule.place != TEXT and "(?=" not in rule.body]


@pytest.mark.parametrize("rule", MADE_UP, ids=lambda rule: rule.id)
def test_every_match_has_its_keyword_where_it_is_looked_for(rule: Rule) -> None:
    """Texts made from the pattern itself, its shortest and longest forms among them."""
    pattern = re.compile(rule.pattern, re.DOTALL if rule.multiline else 0)

    @settings(max_examples=4, deadline=None, database=None, derandomize=True, phases=[Phase.generate],
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(st.from_regex(pattern))
    def holds(data: bytes) -> None:
        number = [each[0] for each in _table.RULES].index(rule.id)
        places = match.places_of([word.encode() for word in rule.keywords], data.lower())
        for found in pattern.finditer(data):
            runs = match.runs_of(data)[rule.place == NEAR].lower()
            assert any(word.encode() in runs for word in rule.keywords)
            assert found.span() in [again.span() for again in match.matches(number, places, data)]

    holds()


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_hostile_input(rule: Rule) -> None:
    """100 KB built to make a pattern go back and forth, in under 100 ms (of processor time)."""
    number = [each[0] for each in _table.RULES].index(rule.id)
    word = rule.keywords[0]
    half = rule.true()[: len(rule.true()) // 2]
    for text in (word * (100_000 // len(word)), (word + "a" * 30) * (100_000 // (len(word) + 30)),
                 (half + " ") * (100_000 // (len(half) + 1)), word + "a" * 100_000, word + " \t" * 50_000,
                 half + "A1" * 50_000):  # fmt: skip
        data = text.encode()[:100_000]
        low = data.lower()
        start = time.process_time()
        places = match.places_of([each.encode() for each in rule.keywords], low)
        for _ in match.matches(number, places, data):
            pass
        assert time.process_time() - start < 0.1, text[:40]


def test_no_match_in_freshly_encrypted_files() -> None:
    """180 files, yaml, json and binary, random values."""
    source = random.Random(11)
    for number in range(180):
        fmt = ("yaml", "json", "binary")[number % 3]
        keys = {
            f"{source.choice(['password', 'token', 'api_key', 'x'])}_{i}": some(
                ALNUM, source.randint(1, 60), number * 50 + i
            )
            for i in range(9)
        }
        if fmt == "yaml":
            plain = "".join(f"{key}: {value}x\n" for key, value in keys.items())
        else:
            plain = "{" + ", ".join(f'"{key}": "{value}"' for key, value in keys.items()) + "}"
        data = sealed(plain, fmt)
        verdict = encrypted.judge("a." + fmt, data, [])
        assert verdict.sops or fmt == "binary"
        assert search.placed(encrypted.mask(data)) == []


@settings(max_examples=400, deadline=None)
@given(st.binary(max_size=400) | st.text(max_size=200).map(lambda t: t.encode("utf-8", "surrogatepass")))
def test_any_bytes_give_findings_or_nothing(data: bytes) -> None:
    for body in (data, b"kind: Secret\ndata:\n" + data, b"-----BEGIN PRIVATE " + b"KEY-----" + data, b"\x30\x82" + data,
                 b"password=" + data, b"\xfe\xed\xfe\xed\0\0\0\2\0\0\0\1" + data, b"\x95\x01" + data):  # fmt: skip
        for each in search.placed(body):
            assert each.line >= 1 and each.column >= 1


@pytest.mark.parametrize("seed", range(6))
def test_streamed_and_whole_texts_are_judged_alike(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """Blocks of 64 KB with an overlap of 16 KB instead of larger ones: the same findings at the same places."""
    monkeypatch.setattr(search, "BLOCK", 64 << 10)
    monkeypatch.setattr(search, "OVERLAP", 48 << 10)
    source = random.Random(seed)
    parts = []
    for number in range(60):
        parts.append("lorem ipsum dolor\n" * source.randint(10, 900))
        body = "\n".join(some(BASE64, 64, number * 9 + i) for i in range(20))
        parts.append(
            source.choice(
                [f"k {token(number)}\n", f"password: {password(number)}\n", f"{some(HEX, 64, number)}\n",
                 f"-----BEGIN PRIVATE {'KEY'}-----\n{body}\n-----END\n"]
            )
        )  # fmt: skip
    data = "".join(parts).encode()
    if seed % 2:
        data = data.decode().encode("utf-16")
    whole = [(p.line, p.column, p.hit.rule, p.hit.secret) for p in search.placed(data)]
    blocks = [data[at : at + 7777] for at in range(0, len(data), 7777)]
    streamed = [(p.line, p.column, p.hit.rule, p.hit.secret) for p in search.streamed(iter(blocks))]
    assert len(whole) > 10
    assert sorted(whole) == sorted(streamed)


# --- the generic rule

SECRETS = """
password = '{v}'
DB_PASSWORD="{v}"
api_key: {v}
apiKey: '{v}',
"clientSecret": "{v}",
SECRET_KEY={v}
export AUTH_TOKEN={v}
auth.token={v}
--password {v}
--api-key={v}
set_password("{v}")
<password>{v}</password>
<add key="DbPassword" value="{v}" />
X-Api-Key: {v}
Authorization: Bearer {v}
Authorization: Basic {v}
spring.datasource.password={v}
pwd := "{v}"
$config['password'] = '{v}';
:password => '{v}',
os.environ.get("API_TOKEN", "{v}")
secret_access_key = {v}
ENV["SECRET_TOKEN"] = "{v}"
const accessToken = `{v}`
private_key = b"{v}"
encryptionKey={v}
redis-password: {v}
Password={v};Server=x
credentials = '{v}'
std::string api_secret("{v}");
let password: String = "{v}";
""".strip().split("\n")
SECRETS += ["password: >-\n  {v}\n", "  - name: DB_PASSWORD\n    value: {v}\n"]


@pytest.mark.parametrize("form", SECRETS)
@pytest.mark.parametrize(
    "value",
    [
        password(5),
        password(6, 16),
        some(HEX, 32, 3),
        some(HEX, 40, 4),
        some(BASE64, 40, 5),
        some(URLSAFE, 43, 6),
        "Tr0ub4dor&3xYq!",
    ],
    ids=["alnum24", "alnum16", "hex32", "hex40", "base64", "urlsafe", "signs"],
)
def test_generic_finds(form: str, value: str) -> None:
    if any(char in value for char in "&!") and "'" not in form and '"' not in form and "`" not in form:
        value = value.replace("&", "_").replace("!", "")
    data = form.format(v=value).encode()
    hits = generic.hits(data, data.lower())
    assert [hit.rule for hit in hits] == ["generic-secret"], form
    assert hits[0].secret.startswith(value.rstrip("=").encode()[:12])


NOT_SECRETS = r"""
password = os.environ['DB_PASSWORD_2']
password = ${DB_PASSWORD}
password: "{{ vault_password_1 }}"
api_key = $(get-key 12345678)
password = "changeme123"
token = "your-token-here-123"
secret: <your-secret-1>
password: xxxxxxxxxxxxxxxx
password = "password123"
token_url = 'https://example.org/oauth2/token1'
secret_name: my-app-secret-v2
secretName: db-credentials-2024
tokenizer = AutoTokenizer2.from_pretrained
key = "a8f5f167f44f4964e6c998dee827110c"
public_key = 'a8f5f167f44f4964e6c998dee827110c'
passwordFile: "/run/secrets/db_password1"
password_length = 12345678
token = request.headers.get2('x')
self.password = hash_password(password1)
password: Optional[str] = None1234
def password(self, value1=None):
PASSWORD_REGEX = '^[a-z0-9]{8,}$'
secret = "aws:kms:alias/my-key-01"
secretKeyRef: {name: app1-secret2}
password=1234567
token: 00000000000000000000
# password: the one from 1Password
passphrase = "correct horse battery"
tokens = count_tokens2(text)
access_key: op://vault/item1/field2
pwd = /home/user1/project2
secret: "ENC[AES256_GCM,data:abc1,iv:x]"
api_key_id = 'my-key-id-0001'
assert password == 'test1234'
""".strip().split("\n")


@pytest.mark.parametrize("text", NOT_SECRETS)
def test_generic_leaves(text: str) -> None:
    data = text.encode()
    assert [hit.secret for hit in generic.hits(data, data.lower())] == []


def test_a_stop_word_clears_a_short_value_only_as_a_whole() -> None:
    assert predicates.stopped(b"my-example-password")
    assert not predicates.stopped(password(1).encode() + b"example")
    assert not predicates.placeholder(some(ALNUM, 60).encode() + b"changeme")


def test_entropy_is_shannons() -> None:
    import math

    for text in (b"aaaa", b"abcd", bytes(range(256)), some(ALNUM, 40).encode(), b"x" * 511 + b"y"):
        counts = [text.count(byte) for byte in set(text)]
        exact = -sum(c / len(text) * math.log2(c / len(text)) for c in counts)
        assert abs(predicates.entropy(text) - exact) < 0.1


# --- Kubernetes, encodings, binary keys


@pytest.mark.parametrize(
    "text",
    ["kind: Secret\nstringData:\n  a: |\n    {v}\n", "kind: Secret\nmetadata: {{}}\nstringData: {{a: {v}}}\n",
     "items:\n- kind: ConfigMap\n  data:\n    x: y\n- kind: Secret\n  stringData:\n    a: '{v}'\n",
     "stringData:\n  a: {v}\nkind: Secret\n", "kind: \"Secret\"\nstringData:\n  a: \"{v}\" # c\n",
     "a: 1\n---\nkind: Secret\nstringData:\n  a: {v}\n---\nb: 1\n"],
)  # fmt: skip
def test_kubernetes_finds(text: str) -> None:
    data = text.format(v="blue-horse-42").encode()
    hits = kubernetes.hits(data)
    assert [hit.secret for hit in hits] == [b"blue-horse-42"]
    assert data[hits[0].at :].lstrip(b"'\"|\n ").startswith((b"blue", b"string"))


@pytest.mark.parametrize(
    "text",
    ["kind: SealedSecret\nspec:\n  encryptedData:\n    a: blue-horse-42\n", "kind: Secret\nstringData:\n  a: ${V}\n",
     "kind: Secret\ndata:\n  a: \"{{ .Values.x | b64enc }}\"\n", "kind: Secret\ndata:\n  a: \"\"\n  b: dHJ1ZQ==\n",
     "kind: Secret\nstringData:\n  username: app\n  port: \"5432\"\n", "kind: Secret\ndata:\n  a: <path:x/y#z>\n",
     "- kind: Secret\n  name: x\n- kind: ConfigMap\n  data:\n    a: blue-horse-42\n"],
)  # fmt: skip
def test_kubernetes_leaves(text: str) -> None:
    assert kubernetes.hits(text.encode()) == []


def test_encoded_texts_are_found_at_every_place() -> None:
    import base64

    run = base64.b64encode(b"hello there, this is text").decode()
    data = f"a: {run}\nb: {run}\nc: {b'hello there, text again!'.hex()}\n".encode()
    texts = list(encoded.texts(data, match.runs_of(data)[0]))
    assert [data[at : at + 4] for at, _, how in texts if how == "base64"] == [run[:4].encode()] * 2
    assert sorted(how for _, _, how in texts) == ["base64", "base64", "hex"]


@pytest.mark.parametrize(
    "data", [b"", b"0", b"\x30\x80" + bytes(80), b"\x30\x03\x02\x01\x00", b"\xfe\xed\xfe\xed" + bytes(8), b"\xc5"]
)
def test_no_key_in_damaged_bytes(data: bytes) -> None:
    assert binkeys.what(data) is None


def test_known_examples_pass() -> None:
    text = (
        "aws_access_key_id = AKIAIOSFODNN7"
        + "EXAMPLE\naws_secret_access_key = wJalrXUtnFEMI/K7MDENG"
        + "/bPxRfiCYEXAMPLEKEY\n"
    )
    assert search.placed(text.encode()) == []


def test_windows_begin_inside_the_text_and_are_merged() -> None:
    assert match.windows([], 40, 100) == []
    assert match.windows([8], 40, 100) == [(0, 108)]
    assert match.windows([8, 20, 500], 40, 100) == [(0, 120), (460, 600)]


PIECES = [
    "password", "PASSWORD", "api_key", "token", "secret", "pass", "auth", "--", "s", "_file", "word", "Value", "value",
    "=", "==", "=>", ":", "::", ":=", "||=", "?=", ">", "</", "(", ")", "[", "]", ",", "|", "|-", "-", " ", "  ", "\t",
    "\n", "\r\n", '"', "'", "`", "\\", "b", "@", "str", "Optional<str>", "os.environ", "None", "bearer ", "Basic ",
    "Zk3pQ9vLm2xTr8", "hunter2hunter2", "aB3!xY9?qW", "x9", "{", "}", "$", "#", "zQvWxKpLmNbTr",
]  # fmt: skip


@settings(max_examples=1500, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=14), st.sampled_from(PIECES[:7]))
def test_what_is_dismissed_without_a_pattern_is_no_finding(pieces: list[str], word: str) -> None:
    """The fast way of the generic rule only leaves out what its pattern would not find either."""
    data = ("x " + word + "".join(pieces)).encode()
    fast = [(hit.at, hit.secret) for hit in generic.hits(data, data.lower())]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(generic, "nothing", lambda tail: False)
        slow = [(hit.at, hit.secret) for hit in generic.hits(data, data.lower())]
    assert fast == slow


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(["abcdefgh", "ABC123/+", "_-=x", " ", "\n", ".", "é", "aaaaaaaaaaaaaaa", "q"])))
def test_runs_are_those_that_a_pattern_finds(pieces: list[str]) -> None:
    """And each stands whole in what is near it."""
    data = "".join(pieces).encode()
    wanted = {found.group() for found in re.finditer(rb"[0-9A-Za-z_+/=-]{16,}", data)}
    runs, near = match.runs_of(data)
    assert set(runs.split(b"\n")) - {b""} == wanted
    for found in re.finditer(rb"[0-9A-Za-z_+/=-]{16,}", data):
        assert data[max(0, found.start() - 64) : found.end()] in near
