"""The one generic rule: a credential word, an assignment, and a value that looks like a secret (spec guard 7).

A value is quoted or bare, 8 to 150 characters. References, code, names, paths, words, repeats and placeholders are no
values. `re` is loaded when something like a value stands behind a credential word.
"""

from zopp.scan.finding import Hit
from zopp.scan.predicates import entropy, placeholder, turns, wordlike

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

RULE = "generic-secret"
_WORDS = (b"pass", b"secret", b"token", b"pwd", b"credential", b"key", b"authorization", b"auth", b"salt", b"cookie")
# `key` and its like count only behind one of these: `apiKey`, `signing_key`, `basic-auth`.
_BEFORE_KEY = tuple(
    word + sign
    for word in b"""
    api access account private encryption encrypt encrypted signing sign signature master auth app
    application service storage license shared client consumer integration webhook deploy session cipher
    crypto hmac jwt aes secret admin root write read server subscription host ingest security credential
    management personal bot sdk user db database backup restic django flask laravel rails stripe sendgrid
    mailgun datadog dd openai azure aws gcp google algolia maps
    """.split()
    for sign in (b"", b"_", b"-", b".", b" ")
)  # fmt: skip
_BEFORE_AUTH = (b"basic_", b"basic-", b"basic", b"http_", b"http-", b"redis_", b"redis", b"requirepass")
# A word that goes on like this is another one.
_AFTER = {
    b"pass": rb"(?:wor[dt]s?|wd|phrase|code|wrd)?",
    b"key": rb"s?",
    b"secret": rb"s?",
    b"token": rb"s?",
    b"credential": rb"s?",
}
_patterns: "dict[bytes, Any]" = {}
# Behind the word: the rest of the name, what closes it, the sign of assignment, then the value.
_TAIL = (
    rb"(?P<rest>[\w.-]{0,30})(?P<close>[\"'`]?\]?\)?)[ \t]{0,20}"
    rb"(?:(?P<colon>:)[ \t]{1,20}[|>][+-]?[ \t]{0,4}\r?\n[ \t]{1,20}(?P<block>[^\s\"']{8,150})[ \t]{0,4}(?:\r?\n|$)"
    rb"|(?P<op>=>|:=|={1,3}|:[ \t]{0,4}[A-Za-z][\w.<>|?]{0,30}[ \t]{0,4}=|:{1,2}|\?=|\|\|="
    rb"|,(?=[ \t]{0,4}[\"'`])|\((?=[ \t]{0,4}[\"'`])|>(?=[^\s<>=]{8,150}</)"
    rb"|[\"'][ \t]{0,4},?[ \t]{0,4}\r?\n?[ \t]{0,20}[\"']?[Vv]alue[\"']?[ \t]{0,4}[:=]"
    rb"|\r?\n[ \t]{0,20}(?:- )?value:|(?<=[ \t])(?=\S))"
    rb"[ \t]{0,20}"
    rb"(?:(?:[bBrRuU@L]{0,2}|\"?\\)(?P<quote>[\"'`])(?P<quoted>[^\"'`\n]{8,150})\\?(?P=quote)"
    rb"|(?i:(?P<scheme>bearer|basic|token|apikey|ssws)[ \t]{1,4})?"
    rb"(?P<bare>[^\s\"'`,;(){}<>\[\]]{8,150})(?P<end>[^\n]?)))"
)


def _pattern(word: bytes) -> "Any":
    after = _AFTER.get(word, b"")
    found = _patterns.get(after)
    if found is None:
        import re

        found = _patterns[after] = re.compile(after + _TAIL)
    return found


# What closes a name, and what may stand between it and the word `value` of `name: X, value: Y`.
_CLOSE = b"\"'`])"
_TO_VALUE = _CLOSE + b", \t\r\n-"
_QUOTES = (b'"', b"'", b"`")
_TYPE = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz.<>|?"
_REST = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz.-"
_ENDS = bytes(0x20 if byte in b" \t\n\r\f\v\"'`,;(){}<>[]" else byte for byte in range(256))
_SCHEMES = (b"bearer", b"basic", b"token", b"apikey", b"ssws")


def nothing(tail: bytes) -> bool:
    """Whether what stands behind a credential word is certainly no value, told without a pattern: nothing is assigned,
    or a bare word without a digit. Most words of code and prose are done here, and so most files need no `re`. False:
    ask the pattern (a property test holds that it then never finds what was dismissed here)."""
    after = tail.lstrip(_REST)
    if len(tail) - len(after) > 30 or after.lstrip(_TO_VALUE)[:5].lower() == b"value":
        return False
    sign = after.lstrip(_CLOSE).lstrip(b" \t")
    first = sign[:1]
    if first in (b"=", b":"):
        return _wordless(sign[1:])
    if first in (b",", b"("):
        return sign[1:6].lstrip(b" \t")[:1] not in _QUOTES
    if first == b">":
        return b"</" not in sign
    if first == b"?":
        return sign[1:2] != b"=" or _wordless(sign[2:])
    if first == b"|":
        return sign[:3] != b"||=" or _wordless(sign[3:])
    return True


def _wordless(text: bytes) -> bool:
    """Whether no value begins at `text`, which stands behind the first character of an assignment."""
    if text.lstrip(b" \t")[:1] in (b"|", b">"):
        return False  # a block of YAML, or `=>`
    text = text.lstrip(b"=>: \t")
    if any(quote in text[:4] for quote in _QUOTES):
        return False
    word = text[:160].translate(_ENDS).split(b" ", 1)[0]
    if word.translate(None, b"0123456789") != word or word.lower() in _SCHEMES:
        return False
    typed = text.lstrip(_TYPE).lstrip(b" \t")
    return typed[:1] != b"=" or _wordless(typed[1:])


def hits(data: bytes, low: bytes) -> "list[Hit]":
    """Every match of the generic rule."""
    # Two words of one name (`SECRET_KEY`) lead to the same value.
    out: "dict[int, Hit]" = {}
    for word in _WORDS:
        at = low.find(word)
        while at >= 0:
            end = at + len(word)
            if word == b"key":
                fits = low.endswith(_BEFORE_KEY, max(0, at - 14), at)
            elif word == b"auth":
                fits = low.endswith(_BEFORE_AUTH, max(0, at - 12), at) or low[end : end + 2] in (b'":', b"':")
            elif word in (b"salt", b"cookie"):
                fits = low[at - 1 : at] in (b"_", b"-") or low[end : end + 7] in (b"_secret", b"-secret")
            else:
                fits = True
            if fits:
                hit = _look(word, at, end, data, low)
                if hit is not None:
                    out.setdefault(hit.at, hit)
            at = low.find(word, end)
    return list(out.values())


_NAME = b"0123456789abcdefghijklmnopqrstuvwxyz_-."


def _look(word: bytes, at: int, end: int, data: bytes, low: bytes) -> "Hit | None":
    # A flag's value needs no sign of assignment.
    if b"--" not in low[max(0, at - 60) : at] and nothing(data[end : end + 420]):
        return None
    match = _pattern(word).match(data, end, end + 420)
    if match is None:
        return None
    rest = match.group("rest").lower()
    start = at
    while start > 0 and at - start < 60 and low[start - 1] in _NAME:
        start -= 1
    flag = low[start : start + 2] == b"--"
    op = match.group("op")
    if op == b"" and not flag:
        return None  # two words beside each other; only `--password VALUE` assigns so
    name = low[start:end].lstrip(b"-.") + rest
    if _not_a_secret(name, rest):
        return None
    quoted = match.group("quoted") or match.group("block")
    if quoted is not None:
        group = "quoted" if match.group("quoted") is not None else "block"
        value, place = quoted, match.start(group)
        if not is_value(value, name, quoted=True):
            return None
        return Hit(place, RULE, "a secret behind a credential word", value)
    if op in (b",", b"("):
        return None
    value, place = match.group("bare"), match.start("bare")
    after = match.group("end")
    if op == b">":
        value = value.split(b"</")[0]
    value = value.rstrip(b".,;:\\|")
    if after in (b"(", b"[", b"{") or (after == b"<" and op != b">") or not _bare(value, op, match, data, start):
        return None
    if not is_value(value, name, quoted=False):
        return None
    return Hit(place, RULE, "a secret behind a credential word", value)


_OTHER = tuple(
    b"""
    name file path dir folder url uri endpoint id ids type ref field label policy length len size count
    expiry expires expiration ttl age version algorithm alg format regex pattern header prefix suffix
    placeholder hint help title description message error class provider store manager arn hash digest
    fingerprint checksum sha256 sha1 md5 location mode key_name namespace mount volume env var variable icon
    selector validation rotation index usage limit address server host issuer audience scope types keyref
    public pub enabled required position offset line column kind test template
    """.split()
)


def _not_a_secret(name: bytes, rest: bytes) -> bool:
    """Names of things about a secret: `token_url`, `passwordFile`, `public_key`."""
    if b"public" in name or b"pubkey" in name or b"keyword" in name or b"tokenize" in name:
        return True
    tail = rest.strip(b"_-.\"'")
    return bool(tail) and tail.endswith(_OTHER)


def _bare(value: bytes, op: "bytes | None", match: "Any", data: bytes, start: int) -> bool:
    """Whether a bare value may be one: in code it would be a name."""
    if len(value) < 8:
        return False
    digits = any(byte in b"0123456789" for byte in value)
    if not digits:
        return False
    if match.group("scheme"):
        return True
    plain = value.replace(b"_", b"").replace(b".", b"")
    if plain.isalnum() and not plain.isdigit() and (b"." in value or value[:1].isupper()) and wordlike(value):
        return False
    # A function call, an index, an operator: an expression.
    return not any(sign in value for sign in (b"->", b"::", b"&&", b"||", b"==", b"!="))


_ENDINGS = tuple(
    b"""
    .py .js .ts .go .rs .rb .java .json .yaml .yml .xml .txt .md .pem .key .crt .cer .pub .html .com .org
    .net .io .local .svg .png .toml .sh .tf .conf .cfg .ini .env .sock .db .php .tpl .c .h .cpp .log .dll
    .exe .so .zip .gz .css .scss .vue .tsx .jsx .kt .swift .sql
    """.split()
)


def is_value(value: bytes, name: bytes, *, quoted: bool) -> bool:
    """Whether a text in the place of a value looks like a secret."""
    size = len(value)
    if size < 8 or placeholder(value):
        return False
    if b" " in value or b"\t" in value or b"\\n" in value or b"\\u" in value or b"\\x" in value:
        return False
    low = value.lower()
    if b"://" in value or low.endswith(_ENDINGS) or value[:1] in b"~.@\\" or value[:2] == b"--" or b"()" in value:
        return False
    if value[:1] == b"/" and (size < 20 or wordlike(value)):
        return False
    if value.count(b"/") > 1 and (wordlike(value) or not value.replace(b"/", b"").isalnum()) and size < 40:
        return False
    alnum = [byte for byte in value if chr(byte).isalnum() and byte < 128]
    digits = sum(1 for byte in value if byte in b"0123456789")
    signs = size - len(alnum) - sum(1 for byte in value if byte > 127)
    if digits == len(alnum):
        return size >= 16 and signs == 0 and entropy(value) > 2.6 and b"pass" in name
    if any(byte in b"<>{}()[]|;\"'`," for byte in value) and (not quoted or signs * 4 > size):
        return False
    if any(byte < 32 for byte in value):
        return False
    if digits == 0:
        return _letters(value, size, signs, name, quoted=quoted)
    bits = entropy(value)
    is_hex = all(byte in b"0123456789abcdefABCDEF-" for byte in value)
    if is_hex:
        dashes = value.count(b"-")
        if dashes not in (0, 4):
            return False
        return size >= 16 and bits >= 2.9
    upper = any(65 <= byte <= 90 for byte in value)
    lower = any(97 <= byte <= 122 for byte in value)
    special = any(byte in b"!@#$%^&*?~+=" for byte in value)
    words = wordlike(value)
    if words and not ((special and upper and lower and b"pass" in name) or (b"pwd" in name and special)):
        return False
    classes = upper + lower + special + 1
    if size < 12:
        return bits >= 2.7 and (classes >= 3 or turns(value) >= 3)
    if size < 20:
        return bits >= 2.9 and (classes >= 3 or turns(value) >= 3)
    return bits >= 3.2


def _letters(value: bytes, size: int, signs: int, name: bytes, *, quoted: bool) -> bool:
    """A value without a digit: random letters, or a password with signs."""
    if not quoted or wordlike(value):
        return False
    special = sum(1 for byte in value if byte in b"!@#$%^&*?~+=")
    mixed = any(65 <= byte <= 90 for byte in value) and any(97 <= byte <= 122 for byte in value)
    if special and mixed and b"pass" in name and signs == special:
        return size >= 10 and entropy(value) >= 3.0
    return size >= 16 and mixed and signs * 8 <= size and entropy(value) >= 3.5
