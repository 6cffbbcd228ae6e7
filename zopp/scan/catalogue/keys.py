"""Key material in text, credential files by their shape, addresses with a password, zopp's own secrets."""

import base64

from zopp.scan.catalogue import ALNUM, BASE64, NEAR, TEXT, UPPER, URLSAFE, Rule, some

_BECH32 = "02-9ac-hj-np-z"
_BECH32_TEXT = "023456789acdefghjklmnpqrstuvwxyz"
# Base64 that may be folded, quoted, joined by `+`, or hold `\n` escapes.
_BODY = r"[0-9A-Za-z+/=\\\s\"',>#|*;]"

_URL = (
    r"(?<![0-9A-Za-z+.-])[A-Za-z][0-9A-Za-z+.-]{1,30}://[^\s:@/\"'<>`\\(){}|^\x00-\x1f]{0,80}"
    r":([^\s@/\"'<>`\\\x00-\x1f]{3,200})@(?=[\[\w%${])"
)
_AUTH = base64.b64encode(b"me:" + some(ALNUM, 18).encode()).decode()

RULES = (
    Rule(
        id="private-key",
        title="a private key",
        link="https://www.rfc-editor.org/rfc/rfc7468",
        keywords=("private key",),
        body=(
            r"-----BEGIN (?:[A-Z0-9]{2,10} ){0,3}PRIVATE KEY(?: BLOCK)?-----"
            r"(?:[\\nr\s\"',>#|*]{0,60}(?:Proc-Type|DEK-Info|Version|Comment|Hash|Charset)[^\n\\]{0,100}){0,4}"
            rf"({_BODY}{{48,19000}})"
        ),
        raw=True,
        place=TEXT,
        multiline=True,
        shown="-----BEGIN … PRIVATE KEY-----",
        check="pem",
        entropy=0,
        needs="PRIVATE KEY",
        reach=(80, 20000),
        true=lambda: f"-----BEGIN {'EC'} PRIVATE KEY-----\n{some(BASE64, 64)}\n{some(BASE64, 64, 8)}\n-----END",
        false=lambda: [
            "-----BEGIN PRIVATE" + " KEY-----",
            "-----BEGIN PRIVATE" + " KEY-----\nMII...\n-----END PRIVATE KEY-----",
        ],
    ),
    Rule(
        id="putty-key",
        title="a PuTTY private key",
        link="https://the.earth.li/~sgtatham/putty/0.81/htmldoc/AppendixC.html",
        keywords=("private-lines:",),
        body=r"Private-Lines: [0-9]{1,4}\s{1,4}([0-9A-Za-z+/=\s]{20,8000})",
        raw=True,
        place=TEXT,
        check="putty",
        shown="PuTTY-User-Key-File",
        reach=(16, 9000),
        true=lambda: (
            f"PuTTY-User-Key-File-3: ssh-ed25519\nPublic-Lines: 1\nAAAA\nPrivate-Lines: 1\n{some(BASE64, 44)}\n"
        ),
        false=lambda: [
            "PuTTY-User-Key-File-3: ssh-ed25519",
            "PuTTY-User-Key-File-3: x\nPrivate-Lines: 1\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        ],
    ),
    Rule(
        id="age-identity",
        title="an age identity",
        link="https://age-encryption.org/v1",
        keywords=("age-secret-key-",),
        body=r"(AGE-SECRET-KEY-(?:PQ-)?1[02-9AC-HJ-NP-Z]{58,3000})",
        shown="AGE-SECRET-KEY-",
        true=lambda: "AGE-SECRET-" + "KEY-1" + some(_BECH32_TEXT.upper(), 58),
        false=lambda: ["AGE-SECRET-" + "KEY-1" + some(UPPER, 9), "AGE-SECRET-" + "KEY-1" + "Q" * 58],
    ),
    Rule(
        id="zopp-invite",
        title="an invite code of zopp",
        link="https://github.com/bitcoin/bips/blob/master/bip-0173.mediawiki",
        keywords=("zopp-invite-1",),
        body=rf"(zopp-invite-1[{_BECH32}]{{100,400}})",
        shown="zopp-invite-",
        true=lambda: "zopp-invite-1" + some(_BECH32_TEXT, 180),
        false=lambda: ["zopp-invite-1", "zopp-invite-1" + "q" * 180],
    ),
    Rule(
        id="wireguard-key",
        title="a WireGuard private or preshared key",
        link="https://www.wireguard.com/quickstart/",
        keywords=("privatekey", "presharedkey", "private_key", "preshared_key"),
        body=(
            r"(?i:Private_?Key|Preshared_?Key)[\"']?[ \t]{0,8}[=:][ \t]{0,8}[\"']?(?<![0-9A-Za-z+/])"
            r"([0-9A-Za-z+/]{42}[048AEIMQUYcgkosw]=)(?![0-9A-Za-z+/=])"
        ),
        raw=True,
        place=NEAR,
        entropy=4.0,
        true=lambda: "PrivateKey = " + some(ALNUM, 42) + "A=",
        false=lambda: ["PublicKey = " + some(ALNUM, 42) + "A=", "PrivateKey = " + "a" * 42 + "A="],
    ),
    Rule(
        id="minisign-key",
        title="a minisign secret key",
        link="https://jedisct1.github.io/minisign/",
        keywords=("rwrty0iy", "rwqaaeiy"),
        body=r"((?:RWRTY0Iy|RWQAAEIy)[0-9A-Za-z+/]{180,210}={0,2})",
        shown="RWR",
        true=lambda: "RWRTY" + "0Iy" + some(BASE64, 204),
        false=lambda: ["RWRTY" + "0Iy" + some(ALNUM, 9), "RWRTY" + "0Iy" + "A" * 204],
    ),
    Rule(
        id="jwk-private",
        title="a private JSON web key",
        link="https://www.rfc-editor.org/rfc/rfc7517",
        keywords=('"d"', "'d'", '"k"', "'k'"),
        body=r"(?:\"[dk]\"|'[dk]')\s{0,4}:\s{0,4}[\"']([\w-]{20,1400})[\"']",
        raw=True,
        place=NEAR,
        check="jwk",
        entropy=3.6,
        true=lambda: f'{{"kty":"OKP","crv":"Ed25519","x":"{some(URLSAFE, 43)}","d":"{some(URLSAFE, 43, 9)}"}}',
        false=lambda: ['{"kty":"OKP","x":"' + some(URLSAFE, 43) + '"}', '{"kty":"oct","k":"' + "a" * 43 + '"}'],
    ),
    Rule(
        id="url-password",
        title="an address with a password in it",
        link="https://www.rfc-editor.org/rfc/rfc3986#section-3.2.1",
        keywords=("://",),
        body=_URL,
        raw=True,
        place=TEXT,
        check="url_password",
        entropy=0,
        reach=(40, 330),
        needs="@",
        true=lambda: f"postgres://app:{some(ALNUM, 16)}@db.internal:5432/app",
        false=lambda: ["postgres://app:$" + "{PASSWORD}@db/app", "https://user:password@example.com/"],
    ),
    Rule(
        id="dsn-password",
        title="a database address with a password in it",
        link="https://github.com/go-sql-driver/mysql#dsn-data-source-name",
        keywords=("@tcp(", "@unix("),
        body=r"(?<![\w.-])[\w.-]{1,40}:([^\s@/\"'<>`]{3,150})@(?:tcp|unix)\(",
        raw=True,
        place=TEXT,
        check="url_password",
        entropy=0,
        true=lambda: f"app:{some(ALNUM, 16)}@tcp(db:3306)/app",
        false=lambda: ["app:$" + "{PW}@tcp(db:3306)/app", "user:password@tcp(localhost:3306)/db"],
    ),
    Rule(
        id="netrc-password",
        title="a password in a .netrc",
        link="https://www.gnu.org/software/inetutils/manual/html_node/The-_002enetrc-file.html",
        keywords=("machine",),
        body=(
            r"(?<![\w.-])machine[ \t\n]{1,8}\S{1,200}\s{1,8}(?:login\s{1,8}\S{1,200}\s{1,8})?"
            r"password\s{1,8}([^\s\"']{4,200})"
        ),
        raw=True,
        place=TEXT,
        check="value",
        entropy=0,
        needs="password",
        true=lambda: "machine git.example.org login me password " + some(ALNUM, 16),
        false=lambda: [
            "machine git.example.org login me",
            "machine git.example.org login me password $" + "{PASSWORD}",
        ],
    ),
    Rule(
        id="npmrc-auth",
        title="a registry's token in an .npmrc",
        link="https://docs.npmjs.com/cli/configuring-npm/npmrc",
        keywords=(":_authtoken", ":_auth", ":_password"),
        body=r"/?:_(?:authToken|auth|password)[ \t]{0,4}=[ \t]{0,4}[\"']?([^\s\"'#;]{8,300})",
        raw=True,
        place=TEXT,
        check="value",
        entropy=2.8,
        true=lambda: "//npm.example.org/:_authToken=" + some(ALNUM, 36),
        false=lambda: ["//npm.example.org/:_authToken=$" + "{NPM_TOKEN}", "//npm.example.org/:_authToken=" + "x" * 36],
    ),
    Rule(
        id="docker-auth",
        title="a registry's credentials in a docker configuration",
        link="https://docs.docker.com/reference/cli/docker/login/",
        keywords=('"auths"', '"auth"'),
        body=r"\"auth\"\s{0,8}:\s{0,8}\"([0-9A-Za-z+/]{8,2000}={0,2})\"",
        raw=True,
        place=TEXT,
        check="docker_auth",
        entropy=2.5,
        true=lambda: '{"auths":{"r.example.org":{"auth":"' + _AUTH + '"}}}',
        false=lambda: ['{"auths":{"r.example.org":{}}}', '{"auth":"' + "a" * 24 + '"}'],
    ),
    Rule(
        id="kubeconfig-key",
        title="a client key in a kubeconfig",
        link="https://kubernetes.io/docs/concepts/configuration/organize-cluster-access-kubeconfig/",
        keywords=("client-key-data",),
        body=r"client-key-data[\"']?\s{0,4}:\s{0,4}[\"']?([0-9A-Za-z+/=]{100,20000})",
        raw=True,
        place=NEAR,
        reach=(16, 20000),
        true=lambda: "client-key-data: " + some(BASE64, 400),
        false=lambda: ["client-key-data: DATA+OMITTED", "client-key-data: " + "A" * 400],
    ),
)
