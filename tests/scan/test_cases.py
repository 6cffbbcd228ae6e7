"""The case table of spec guard 3, in real repositories: what the hook decides, and what it says.

Each case stages something. The verdict is asked of `zopp-guard`, of a real `git commit` with the installed hook, and of
a push to a repository with the pre-receive hook where the case has a meaning there.
"""

import base64
import datetime
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization as ser
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from tests.scan.repo import RECIPIENT, SECRET, Repo, password, sealed, token
from zopp.scan.catalogue import HEX, some
from zopp.sopsfile import Selector

TOKEN = token()
BLOCK, PASS = 1, 0


@dataclass
class Case:
    make: Callable[[Repo], None]
    want: int
    rule: str = ""
    pushed: bool = True  # whether the verdict on a push of the same commit is the same
    commit: tuple[str, ...] = ()  # what stands behind `git commit -m x`


CASES: dict[str, Case] = {}


def case(name: str, want: int, rule: str = "", *, pushed: bool = True, commit: tuple[str, ...] = ()):  # type: ignore[no-untyped-def]
    def keep(make: Callable[[Repo], None]) -> Callable[[Repo], None]:
        CASES[name] = Case(make, want, rule, pushed, commit)
        return make

    return keep


def config(name: str, value: str) -> None:
    """A token must be found whatever git's configuration says."""

    # git itself stops where the order file is missing: nothing comes to a push.
    @case(f"config-{name}-{value}".replace("/", ""), BLOCK, "github-token", pushed=name != "diff.orderFile")
    def _(repo: Repo) -> None:
        repo.stage("old.txt", "a\nb\nc\n")
        repo.commit()
        repo.git("config", name, value)
        repo.stage("old.txt", f"a\nb\nkey {TOKEN}\nc\n")


for _name, _value in (
    ("diff.noprefix", "true"), ("diff.mnemonicPrefix", "true"), ("color.diff", "always"), ("color.ui", "always"),
    ("diff.external", "/bin/true"), ("diff.interHunkContext", "50"), ("diff.orderFile", "no-such-file"),
    ("diff.wordRegex", "."), ("diff.renames", "false"), ("diff.renames", "copies"), ("diff.submodule", "log"),
    ("diff.ignoreSubmodules", "all"), ("core.quotePath", "true"), ("core.bigFileThreshold", "1"),
    ("core.attributesFile", "/dev/null"), ("diff.relative", "true"), ("diff.context", "0"),
    ("diff.algorithm", "patience"),
):  # fmt: skip
    config(_name, _value)


@case("1-token-in-a-new-file", BLOCK, "github-token")
def _(repo: Repo) -> None:
    repo.stage("app.py", f'KEY = "{TOKEN}"\n')


@case("2-staged-and-cleaned-in-the-tree", BLOCK, "github-token")
def _(repo: Repo) -> None:
    repo.stage("app.py", f'KEY = "{TOKEN}"\n')
    repo.write("app.py", "KEY = read()\n")


@case("3-only-in-the-tree", PASS)
def _(repo: Repo) -> None:
    repo.stage("app.py", "KEY = read()\n")
    repo.write("app.py", f'KEY = "{TOKEN}"\n')


@case("4-old-token-unrelated-line", PASS)
def _(repo: Repo) -> None:
    repo.stage("app.py", f'KEY = "{TOKEN}"\nx = 1\n')
    repo.commit()
    repo.stage("app.py", f'KEY = "{TOKEN}"\nx = 2\n')


@case("5-hex-behind-a-keyword", BLOCK, "generic-secret")
def _(repo: Repo) -> None:
    repo.stage("notes.txt", f"SECRET_KEY_BASE: {some(HEX, 128)}\n")


@case("6-attributes-say-no-diff", BLOCK, "github-token")
def _(repo: Repo) -> None:
    repo.stage(".gitattributes", "*.yaml -diff\n")
    repo.commit()
    repo.stage("app.yaml", f"key: {TOKEN}\n")


@case("7-encrypted-with-a-decrypting-textconv", PASS)
def _(repo: Repo) -> None:
    repo.stage(".gitattributes", "*.yaml diff=dec\n")
    repo.git("config", "diff.dec.textconv", f"sh -c 'echo key: {TOKEN}'")
    repo.stage(".sops.yaml", f"creation_rules:\n  - path_regex: secrets/.*\n    age: {RECIPIENT}\n")
    repo.stage("secrets/prod.yaml", sealed(f"key: {TOKEN}\nother: x\n"))


@case("8-utf16-env", BLOCK, "github-token")
def _(repo: Repo) -> None:
    repo.stage("settings.env", f"HELLO={TOKEN}\r\n".encode("utf-16"))


SECRET_OLD = "apiVersion: v1\nkind: Secret\nmetadata:\n  name: a\n" + "  # filler\n" * 30 + "data:\n  a: {}\n"


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@case("9-value-added-to-an-existing-secret", BLOCK, "kubernetes-secret")
def _(repo: Repo) -> None:
    old = SECRET_OLD.format(b64(password(1, 12)))
    repo.stage("k8s.yaml", old)
    repo.commit()
    repo.stage("k8s.yaml", old + f"  b: {b64('blue-horse-42')}\n")


@case("9b-only-a-label-added-to-an-existing-secret", PASS)
def _(repo: Repo) -> None:
    old = SECRET_OLD.format(b64(password(1, 12)))
    repo.stage("k8s.yaml", old)
    repo.commit()
    repo.stage("k8s.yaml", old.replace("name: a\n", "name: a\n  labels: {x: y}\n"))


@case("9c-kind-secret-put-above-old-values", BLOCK, "kubernetes-secret")
def _(repo: Repo) -> None:
    old = SECRET_OLD.format(b64("blue-horse-42")).replace("kind: Secret", "kind: ConfigMap")
    repo.stage("k8s.yaml", old)
    repo.commit()
    repo.stage("k8s.yaml", old.replace("kind: ConfigMap", "kind: Secret"))


@case("10-new-secret-base64", BLOCK, "kubernetes-secret")
def _(repo: Repo) -> None:
    repo.stage(
        "k8s.yaml", f"apiVersion: v1\nkind: Secret\nmetadata:\n  name: a\ndata:\n  password: {b64('blue-horse-42')}\n"
    )


@case("10b-secret-in-a-list-json", BLOCK, "kubernetes-secret")
def _(repo: Repo) -> None:
    repo.stage(
        "k8s.json",
        '{"kind": "List", "items": [{"kind": "Secret", "stringData": {"password": "blue-horse-42"}}]}\n',
    )


@case("11-dec-yaml-with-a-weak-password", BLOCK, "decrypted-copy")
def _(repo: Repo) -> None:
    repo.stage("v.dec.yaml", "password: hunter2\n")


@case("12-env-with-a-weak-password", BLOCK, "env-file")
def _(repo: Repo) -> None:
    repo.stage(".env", "DB_PASSWORD=secret\nLOG=1\n")


@case("12b-env-without-credentials", PASS)
def _(repo: Repo) -> None:
    repo.stage(".env", "LOG=1\nPORT=8080\n")


@case("12c-env-example", PASS)
def _(repo: Repo) -> None:
    repo.stage(".env.example", "DB_PASSWORD=changeme\n")


@case("13-clear-file-under-a-rule", BLOCK, "not-encrypted")
def _(repo: Repo) -> None:
    repo.stage(".sops.yaml", f"creation_rules:\n  - path_regex: .*\\.enc\\.yaml$\n    age: {RECIPIENT}\n")
    repo.commit()
    repo.stage("secrets/prod.enc.yaml", "db:\n  password: hunter2\n")


@case("14-age-identity", BLOCK, "age-identity")
def _(repo: Repo) -> None:
    repo.stage("key.txt", f"# created\n# public key: {RECIPIENT}\n{SECRET}\n")


def openssh() -> bytes:
    key = ed25519.Ed25519PrivateKey.generate()
    return key.private_bytes(ser.Encoding.PEM, ser.PrivateFormat.OpenSSH, ser.NoEncryption())


@case("15-openssh-key", BLOCK, "private-key")
def _(repo: Repo) -> None:
    repo.stage("id", openssh())


def certificate(key: rsa.RSAPrivateKey) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "example.org")])
    now = datetime.datetime(2026, 1, 1)
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    made = made.serial_number(5).not_valid_before(now).not_valid_after(now + datetime.timedelta(days=9))
    return made.sign(key, hashes.SHA256())


RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
CERT = certificate(RSA)


@case("16-pkcs12", BLOCK, "binary-key")
def _(repo: Repo) -> None:
    from cryptography.hazmat.primitives.serialization import pkcs12

    repo.stage("s.bin", pkcs12.serialize_key_and_certificates(b"x", RSA, CERT, None, ser.BestAvailableEncryption(b"p")))


FORMATS = {
    "pkcs8": (ser.PrivateFormat.PKCS8, ser.NoEncryption()),
    "pkcs1": (ser.PrivateFormat.TraditionalOpenSSL, ser.NoEncryption()),
    "pkcs8-encrypted": (ser.PrivateFormat.PKCS8, ser.BestAvailableEncryption(b"pw")),
}
for _fmt, (_private, _encryption) in FORMATS.items():

    @case(f"17-der-{_fmt}", BLOCK, "binary-key")
    def _(repo: Repo, private: ser.PrivateFormat = _private, how: ser.KeySerializationEncryption = _encryption) -> None:
        repo.stage("k.bin", RSA.private_bytes(ser.Encoding.DER, private, how))

    @case(f"17-pem-{_fmt}", BLOCK, "private-key")
    def _(repo: Repo, private: ser.PrivateFormat = _private, how: ser.KeySerializationEncryption = _encryption) -> None:
        repo.stage("k.txt", RSA.private_bytes(ser.Encoding.PEM, private, how))


@case("17-der-sec1", BLOCK, "binary-key")
def _(repo: Repo) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    repo.stage("k.bin", key.private_bytes(ser.Encoding.DER, ser.PrivateFormat.TraditionalOpenSSL, ser.NoEncryption()))


@case("17-pem-in-json", BLOCK, "private-key")
def _(repo: Repo) -> None:
    repo.stage("sa.json", '{"private_key": "' + openssh().decode().replace("\n", "\\n") + '"}\n')


@case("17-pem-in-base64", BLOCK, "private-key")
def _(repo: Repo) -> None:
    repo.stage("a.yaml", f"tls: {base64.b64encode(openssh()).decode()}\n")


@case("18-token-in-base64", BLOCK, "github-token")
def _(repo: Repo) -> None:
    repo.stage("a.yaml", f"blob: {b64('x: ' + TOKEN + ' y')}\n")


@case("18b-token-in-base64-twice", BLOCK, "github-token")
def _(repo: Repo) -> None:
    repo.stage("a.yaml", f"blob: {b64(b64('x: ' + TOKEN + ' y'))}\n")


@case("18c-token-percent-encoded", BLOCK, "github-token")
def _(repo: Repo) -> None:
    repo.stage("a.txt", f"u=%3D%67hp%5F{TOKEN[4:]}%20\n")


@case("18d-token-escaped", BLOCK, "github-token")
def _(repo: Repo) -> None:
    repo.stage("a.json", f'{{"a": "x \\u0067hp\\u005f{TOKEN[4:]}"}}\n')


@case("19-url-with-password", BLOCK, "url-password")
def _(repo: Repo) -> None:
    repo.stage("a.txt", "connect to postgres://app:blue-horse-42@db.internal/app now\n")  # zopp:allow made up


@case("20-21-odd-names", BLOCK, "github-token")
def _(repo: Repo) -> None:
    repo.stage("ein Ordner/Schlüssel.txt", TOKEN + "\n")


@case("23-gitleaks-allow", PASS)
def _(repo: Repo) -> None:
    repo.stage("a.py", f'KEY = "{TOKEN}"  # gitleaks:allow\n')


@case("23b-zopp-allow-with-the-rule", PASS)
def _(repo: Repo) -> None:
    repo.stage("a.py", f'KEY = "{TOKEN}"  # zopp:allow github-token only an example\n')


@case("23c-zopp-allow-with-another-rule", BLOCK, "github-token")
def _(repo: Repo) -> None:
    repo.stage("a.py", f'KEY = "{TOKEN}"  # zopp:allow gitlab-token only an example\n')


@case("23d-nextline", PASS)
def _(repo: Repo) -> None:
    repo.stage("a.py", f'# pragma: allowlist nextline secret\nKEY = "{TOKEN}"\n')


# --- git configuration and replace refs


@case("replace-ref-shows-a-harmless-blob", BLOCK, "github-token", pushed=False)
def _(repo: Repo) -> None:
    repo.stage("a.txt", TOKEN + "\n")
    harmless = repo.git("hash-object", "-w", "--stdin", data=b"harmless\n")
    repo.git("replace", repo.git("rev-parse", ":a.txt"), harmless)


# --- history shapes


@case("commit-path-leaves-what-is-staged-elsewhere", PASS, commit=("--", "b.txt"), pushed=False)
def _(repo: Repo) -> None:
    repo.stage("b.txt", "one\n")
    repo.commit()
    repo.stage("a.txt", TOKEN + "\n")
    repo.write("b.txt", "two\n")
    if repo.git("diff", "--cached", "--name-only") != "a.txt":
        raise AssertionError


@case("amend", BLOCK, "github-token", commit=("--amend",), pushed=False)
def _(repo: Repo) -> None:
    repo.stage("a.txt", TOKEN + "\n")


@case("old-token-renamed", PASS)
def _(repo: Repo) -> None:
    repo.stage("a.txt", f"x\n{TOKEN}\ny\n")
    repo.commit()
    repo.git("mv", "a.txt", "b.txt")


@case("old-token-moved-between-files", PASS)
def _(repo: Repo) -> None:
    repo.stage("a.txt", f"x\n{TOKEN}\ny\n")
    repo.stage("b.txt", "z\n")
    repo.commit()
    repo.stage("a.txt", "x\ny\n")
    repo.stage("b.txt", f"z\n{TOKEN}\n")


@case("second-copy-of-an-old-token", BLOCK, "github-token")
def _(repo: Repo) -> None:
    repo.stage("a.txt", f"x\n{TOKEN}\ny\n")
    repo.commit()
    repo.stage("a.txt", f"x\n{TOKEN}\ny {TOKEN}\n")


@case("allow-comment-taken-away", BLOCK, "github-token")
def _(repo: Repo) -> None:
    repo.stage("a.txt", f"{TOKEN} # gitleaks:allow\n")
    repo.commit()
    repo.stage("a.txt", f"{TOKEN}\n")


@case("deleted", PASS)
def _(repo: Repo) -> None:
    repo.stage("a.txt", TOKEN + "\n")
    repo.commit()
    repo.git("rm", "-q", "a.txt")


# --- files


@case("plaintext-renamed-under-a-rule", BLOCK, "not-encrypted")
def _(repo: Repo) -> None:
    repo.stage(".sops.yaml", f"creation_rules:\n  - path_regex: ^secrets/\n    age: {RECIPIENT}\n")
    repo.stage("plain.yaml", "level: info\n")
    repo.commit()
    repo.write("secrets/x", "")
    repo.git("mv", "plain.yaml", "secrets/plain.yaml")


@case("gitmodules-credentials", BLOCK, "url-password")
def _(repo: Repo) -> None:
    url = "https://me:blue-horse-42@git.example.org/a.git"  # zopp:allow made up
    repo.stage(".gitmodules", f'[submodule "a"]\n\tpath = a\n\turl = {url}\n')


@case("submodule-entry", PASS)
def _(repo: Repo) -> None:
    repo.git("update-index", "--add", "--cacheinfo", f"160000,{'12' * 20},vendor/lib")


@case("symlink-target", BLOCK, "github-token")
def _(repo: Repo) -> None:
    (repo.path / "link").symlink_to(f"x/{TOKEN}".replace("/", "="))
    repo.add()


@case("symlink-under-a-rule", BLOCK, "link")
def _(repo: Repo) -> None:
    repo.stage(".sops.yaml", f"creation_rules:\n  - path_regex: ^secrets/\n    age: {RECIPIENT}\n")
    (repo.path / "secrets").mkdir()
    (repo.path / "secrets/a.yaml").symlink_to("../README")
    repo.add()


@case("lfs-pointer-under-a-rule", BLOCK, "lfs-pointer")
def _(repo: Repo) -> None:
    repo.stage(".sops.yaml", f"creation_rules:\n  - path_regex: ^secrets/\n    age: {RECIPIENT}\n")
    repo.stage("secrets/a.yaml", f"version https://git-lfs.github.com/spec/v1\noid sha256:{some(HEX, 64)}\nsize 12\n")


@case("filter-the-blob-counts", BLOCK, "github-token")
def _(repo: Repo) -> None:
    repo.stage(".gitattributes", "*.cfg filter=add\n")
    repo.git("config", "filter.add.clean", f"sed s/NOTHING/{TOKEN}/")
    repo.stage("a.cfg", "x NOTHING y\n")


for _bytes_name, _bytes in {
    "newline": b"a\nb.txt", "not-utf8": b"a\xff\xfe.txt", "dash": b"-rf", "colon": b":x", "quote": b"a'b\"c.txt",
    "escape": b"a\x1b[31m.txt",
}.items():  # fmt: skip

    @case(f"name-{_bytes_name}", BLOCK, "github-token")
    def _(repo: Repo, name: bytes = _bytes) -> None:
        repo.stage(name, TOKEN + "\n")


for _text_name, _text in {
    "utf16-le-bom": b"\xff\xfe" + f"k={TOKEN}\n".encode("utf-16-le"),
    "utf16-be-bom": b"\xfe\xff" + f"k={TOKEN}\n".encode("utf-16-be"),
    "utf16-le": f"key is {TOKEN}\n".encode("utf-16-le"),
    "utf16-be": f"key is {TOKEN}\n".encode("utf-16-be"),
    "utf32": f"key is {TOKEN}\n".encode("utf-32"),
    "utf32-le": f"key is {TOKEN}\n".encode("utf-32-le"),
    "bom-before-plain-bytes": b"\xff\xfe" + f"k={TOKEN}\n".encode(),
    "cr-only": f"a\rkey={TOKEN}\rb\r".encode(),
    "invalid-utf8": b"\xff\xfa\x80 " + f"key={TOKEN}\n".encode(),
    "nul-before": b"\0" + f"key={TOKEN}\n".encode(),
    "long-line": b"x" * 5_000_000 + f" {TOKEN} ".encode() + b"y" * 100,
    "at-a-block-border": b"a b " * ((4 << 20) // 4 - 5) + TOKEN.encode() + b" c d" * 100_000,
}.items():

    @case(f"bytes-{_text_name}", BLOCK, "github-token")
    def _(repo: Repo, data: bytes = _text) -> None:
        repo.stage("a.dat", data)


# --- innocent binaries


def age_message() -> bytes:
    import pyrage

    return pyrage.passphrase.encrypt(SECRET.encode(), "a b c d")


for _good_name, _good in {
    "certificate-pem": lambda: CERT.public_bytes(ser.Encoding.PEM),
    "certificate-der": lambda: CERT.public_bytes(ser.Encoding.DER),
    "public-key-pem": lambda: RSA.public_key().public_bytes(ser.Encoding.PEM, ser.PublicFormat.SubjectPublicKeyInfo),
    "public-key-der": lambda: RSA.public_key().public_bytes(ser.Encoding.DER, ser.PublicFormat.SubjectPublicKeyInfo),
    "public-key-pkcs1": lambda: RSA.public_key().public_bytes(ser.Encoding.DER, ser.PublicFormat.PKCS1),
    "age-recipient": lambda: f"{RECIPIENT}\n".encode(),
    "encrypted-identity": age_message,
    "jks-with-certificates": lambda: jks(2),
}.items():

    @case(f"innocent-{_good_name}", PASS)
    def _(repo: Repo, data: Callable[[], bytes] = _good) -> None:
        repo.stage("thing.bin", data())


def jks(tag: int) -> bytes:
    der = CERT.public_bytes(ser.Encoding.DER)
    entry = tag.to_bytes(4, "big") + b"\0\1a" + bytes(8) + b"\0\5X.509" + len(der).to_bytes(4, "big") + der
    return b"\xfe\xed\xfe\xed" + (2).to_bytes(4, "big") + (1).to_bytes(4, "big") + entry + bytes(20)


@case("jks-with-a-private-entry", BLOCK, "binary-key")
def _(repo: Repo) -> None:
    repo.stage("store", jks(1))


@case("openpgp-secret-key", BLOCK, "binary-key")
def _(repo: Repo) -> None:
    body = b"\x04" + (1_700_000_000).to_bytes(4, "big") + b"\x16" + bytes(range(90))
    repo.stage("secring.gpg", bytes((0x94, len(body))) + body)


# --- not fooled


@case("new-secret-on-a-line-with-an-ignored-one", BLOCK, "github-token")
def _(repo: Repo) -> None:
    repo.stage("a.txt", f"k {TOKEN}\n")
    repo.commit()
    repo.stage("a.txt", f"k {TOKEN} {token(2)}\n")


@case("stop-word-inside-a-long-password", BLOCK, "generic-secret")
def _(repo: Repo) -> None:
    repo.stage("a.yaml", f"password: {password(3, 30)}example{password(4, 23)}\n")


@case("enc-wrapper-is-no-bypass", BLOCK, "github-token")
def _(repo: Repo) -> None:
    repo.stage("a.yaml", f"x: ENC[AES256_GCM,data: {TOKEN} ,iv:x,tag:y,type:str]\n")


@case("age-armor-wrapper-is-no-bypass", BLOCK, "github-token")
def _(repo: Repo) -> None:
    repo.stage("a.txt", f"-----BEGIN AGE ENCRYPTED FILE-----\n{TOKEN}\n-----END AGE ENCRYPTED FILE-----\n")


@case("sealed-secret-name-is-no-bypass", BLOCK, "github-token")
def _(repo: Repo) -> None:
    repo.stage("a.yaml", f"kind: ConfigMap\nencryptedData:\n  a: {TOKEN}\n# SealedSecret\n")


@case("properly-encrypted-json", PASS)
def _(repo: Repo) -> None:
    repo.stage("a.json", sealed(f'{{"password": "{password()}", "n": 5, "l": [true, "x"]}}', "json"))


@case("properly-encrypted-binary", PASS)
def _(repo: Repo) -> None:
    repo.stage("id_rsa.enc", sealed(openssh().decode(), "binary"))


@case("properly-encrypted-kubernetes", PASS)
def _(repo: Repo) -> None:
    repo.stage(
        ".sops.yaml",
        "creation_rules:\n  - path_regex: .*\\.yaml$\n    encrypted_regex: ^(data|stringData)$\n"
        f"    age: {RECIPIENT}\n",
    )
    plain = "apiVersion: v1\nkind: Secret\nmetadata:\n    name: a\nstringData:\n    password: blue-horse-42\n"
    repo.stage("k/secret.yaml", sealed(plain, selector=Selector("encrypted_regex", "^(data|stringData)$")))
    repo.stage("k/map.yaml", "apiVersion: v1\nkind: ConfigMap\ndata:\n  level: info\n")


def judged(repo: Repo, want: Case, said: str, code: int) -> None:
    assert code == want.want, said
    assert TOKEN not in said and "blue-horse" not in said and TOKEN[4:] not in said
    if want.want == BLOCK:
        assert f" {want.rule}: " in said, said
        assert all(char.isprintable() for char in said.replace("\n", "")), "control characters are escaped"


@pytest.mark.parametrize("name", CASES)
def test_case(tmp_path: Path, name: str) -> None:
    """`zopp-guard` on what is staged, and the real hook in a real commit."""
    want = CASES[name]
    repo = Repo(tmp_path).start()
    want.make(repo)
    if not want.commit:
        said = repo.guard()
        judged(repo, want, said.err, said.code)
    repo.hook()
    before = repo.git("rev-parse", "HEAD")
    repo.git("commit", "-q", "-m", "x", *want.commit, code=None)
    said_by_git = repo.said
    assert (repo.git("rev-parse", "HEAD") != before) == (want.want == PASS), said_by_git
    judged(repo, want, said_by_git, want.want)


PUSHED = [name for name, want in CASES.items() if want.pushed]


@pytest.mark.parametrize("name", PUSHED)
def test_case_pushed(tmp_path: Path, name: str) -> None:
    """The same change in a commit made past the hook is refused, or taken, by the server. What was committed before the
    case's change is pushed first, with the hook away."""
    want = CASES[name]
    repo = Repo(tmp_path).start()
    bare = repo.server()
    hook = bare / "hooks/pre-receive"
    want.make(repo)
    hook.chmod(0o644)
    repo.git("push", "-q", "origin", "HEAD:main")
    hook.chmod(0o755)
    repo.commit("message")
    repo.git("push", "-q", "origin", "HEAD:main", code=None)
    said = repo.said
    taken = repo.git("ls-remote", "origin", "main").split("\t")[0] == repo.git("rev-parse", "HEAD")
    assert taken == (want.want == PASS), said
    if want.want == BLOCK:
        assert f" {want.rule}: " in said, said
        assert TOKEN not in said and "blue-horse" not in said


def test_a_module_in_the_repository_is_not_imported(repo: Repo) -> None:
    """`re.py`, `json.py`, `sitecustomize.py` in the repository's root do not run in the hook."""
    for name in ("re", "json", "sitecustomize", "usercustomize", "zopp", "yaml", "os"):
        repo.write(f"{name}.py", "open('ran', 'w').write('x')\nraise SystemExit(0)\n")
    repo.stage("a.txt", f"{TOKEN}\nx: {b64(TOKEN)}\n")
    repo.stage(".sops.yaml", "creation_rules: []\n")
    repo.hook()
    repo.git("commit", "-q", "-m", "x", code=1)
    assert not (repo.path / "ran").exists()
    assert "github-token" in repo.said


def test_first_commit_on_an_unborn_head(tmp_path: Path) -> None:
    repo = Repo(tmp_path)
    repo.stage("a.txt", TOKEN + "\n")
    assert repo.guard().code == 1
    repo.hook()
    repo.git("commit", "-q", "-m", "x", code=1)
    repo.stage("a.txt", "clean\n")
    repo.git("commit", "-q", "-m", "x")


def test_sha256_repository(tmp_path: Path) -> None:
    repo = Repo(tmp_path, "--object-format=sha256").start()
    bare = repo.server()
    assert bare.exists()
    repo.stage("a.txt", f"old {TOKEN}\n")
    assert repo.guard().code == 1
    repo.commit()
    repo.git("push", "-q", "origin", "HEAD:main", code=1)
    repo.stage("a.txt", f"old {TOKEN}\nmore\n")
    assert repo.guard().code == 0


def test_linked_work_tree_and_shallow_clone(repo: Repo, tmp_path: Path) -> None:
    repo.hook()
    repo.git("worktree", "add", "-q", "../linked", "-b", "other")
    linked = tmp_path / "linked"
    (linked / "a.txt").write_text(TOKEN + "\n")
    repo.git("add", "a.txt", cwd=linked)
    repo.git("commit", "-q", "-m", "x", cwd=linked, code=1)
    assert "github-token" in repo.said
    repo.commit("two")
    repo.git("clone", "-q", "--depth", "1", f"file://{repo.path}", "../shallow")
    shallow = tmp_path / "shallow"
    (shallow / "a.txt").write_text(TOKEN + "\n")
    repo.git("add", "a.txt", cwd=shallow)
    assert repo.guard(cwd=shallow).code == 1


def test_diff_relative_in_a_subfolder(repo: Repo) -> None:
    """With `diff.relative` git hides every file outside the folder it stands in."""
    repo.git("config", "diff.relative", "true")
    repo.stage("a.txt", TOKEN + "\n")
    (repo.path / "sub").mkdir()
    assert repo.guard(cwd=repo.path / "sub").code == 1
    assert repo.zopp("scan", "--staged", cwd=repo.path / "sub").code == 1


def test_external_diff_variable(repo: Repo) -> None:
    repo.stage("a.txt", TOKEN + "\n")
    assert repo.guard(env={"GIT_EXTERNAL_DIFF": "/bin/true", "GIT_DIFF_OPTS": "-u0"}).code == 1


# --- merges


def sides(repo: Repo) -> None:
    """main and `other`, where `other` has brought a token."""
    repo.stage("a.txt", "one\n\n\n\n\ntwo\n")
    repo.commit()
    repo.git("checkout", "-q", "-b", "other")
    repo.stage("b.txt", f"{TOKEN}\n")
    repo.stage("a.txt", "ONE\n\n\n\n\ntwo\n")
    repo.commit()
    repo.git("checkout", "-q", "main")


def test_a_token_from_the_other_side_of_a_merge_passes(repo: Repo) -> None:
    sides(repo)
    repo.stage("c.txt", "mine\n")
    repo.commit()
    repo.hook()
    repo.git("merge", "-q", "--no-commit", "--no-ff", "other")
    assert repo.guard().code == 0
    repo.git("commit", "-q", "-m", "merged")


def test_a_token_typed_while_resolving_is_stopped(repo: Repo) -> None:
    sides(repo)
    repo.stage("a.txt", "uno\n\n\n\n\ntwo\n")
    repo.commit()
    repo.git("merge", "-q", "other", code=None)
    assert repo.guard().code == 3, "an unmerged file cannot be told"
    repo.stage("a.txt", f"ONE {token(9)}\n\n\n\n\ntwo\n")
    said = repo.guard()
    assert said.code == 1
    assert "a.txt:1:5: github-token" in said.err
    assert "b.txt" not in said.err


def test_pre_merge_commit_knows_the_other_side_by_its_variable(repo: Repo) -> None:
    """In that hook MERGE_HEAD does not exist yet, but git sets GITHEAD_<id>."""
    sides(repo)
    other = repo.git("rev-parse", "other")
    repo.git("merge", "-q", "--no-commit", "--no-ff", "other")
    (repo.path / ".git/MERGE_HEAD").unlink()
    assert repo.guard().code == 1
    assert repo.guard(env={f"GITHEAD_{other}": "other"}).code == 0


# --- what was judged is said


def test_nothing_staged_is_said_aloud(repo: Repo) -> None:
    said = repo.guard()
    assert said.code == 0
    assert "nothing is staged" in said.err


def test_counts_are_said(repo: Repo) -> None:
    repo.stage("a.txt", "12345\n")
    repo.stage("b.txt", "1234\n")
    assert "2 files, 11 B: clean" in repo.guard().err


def test_outside_a_repository(tmp_path: Path) -> None:
    repo = Repo(tmp_path).start()
    said = repo.guard(cwd=tmp_path)
    assert said.code == 3
    assert "not inside a git repository" in said.err


def test_a_failing_git_stops_the_commit(repo: Repo) -> None:
    """Unknown is not clean."""
    repo.stage("a.txt", "x\n")
    blob = repo.git("rev-parse", ":a.txt")
    (repo.path / ".git/objects" / blob[:2] / blob[2:]).unlink()
    assert repo.guard().code == 3
    assert repo.guard(env={"PATH": "/nonexistent"}).code == 3


def test_the_framework_passes_names(repo: Repo) -> None:
    """All of them staged: the index is judged. Else it is a sweep over whole files."""
    repo.stage("old.txt", TOKEN + "\n")
    repo.commit()
    repo.stage("a.txt", "x\n")
    repo.write("a.txt", TOKEN + "\n")
    assert repo.guard("a.txt").code == 0
    assert repo.guard("a.txt", "old.txt").code == 1
    assert repo.guard("README", "a.txt").code == 1


def test_the_console_script_runs(repo: Repo) -> None:
    repo.stage("a.txt", TOKEN + "\n")
    script = Path(sys.executable).parent / "zopp-guard"
    done = subprocess.run([script], cwd=repo.path, env=repo.env, capture_output=True, check=False)
    assert done.returncode == 1
    assert b"github-token" in done.stderr
