"""Whether what a pattern matched is a secret: entropy, placeholders, references, published examples. Lean.

A stop word clears a short value only as a whole: a 60-character password with `example` in it is one.
"""

from binascii import Error as _Base64Error, a2b_base64
from itertools import pairwise

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

# Logarithms without `math`: log2 of 1 to 512, exact enough for a threshold.
_LOG2 = [0.0] * 513
for _n in range(2, 513):
    _LOG2[_n] = _LOG2[_n // 2] + 1 if _n % 2 == 0 else (
        _n.bit_length() - 1 + (_n / (1 << (_n.bit_length() - 1)) - 1) * 1.16
        - 0.16 * (_n / (1 << (_n.bit_length() - 1)) - 1) ** 2
    )  # fmt: skip


def entropy(text: bytes) -> float:
    """Shannon's bits a character, of at most the first 512."""
    text = text[:512]
    size = len(text)
    if not size:
        return 0.0
    total = 0.0
    for byte in set(text):
        count = text.count(byte)
        total += count * _LOG2[count]
    return _LOG2[size] - total / size


_LETTERS = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_DIGITS = b"0123456789"
_HEX = b"0123456789abcdefABCDEF"
_WORDS = frozenset(
    b"""
    a an the my your our some any this that here is to be of in for and or no not none null nil true false undefined
    empty blank default example examples sample samples demo dummy fake mock test tests testing tester placeholder
    template todo fixme tbd redacted removed hidden masked censored change changeme changeit replace replaceme
    replacewith insert enter put set fill add edit update use value values string text data content input var
    variable secret secrets password passwords passwd passphrase pass pwd pw token tokens key keys apikey api access
    private public auth authorization bearer basic credential credentials cred creds login user users username name
    admin administrator root guest postgres postgresql mysql mariadb redis mongo mongodb rabbitmq database db sql
    server client host localhost domain com org net io local dev devel development stage staging prod production
    foo bar baz qux foobar lorem ipsum xxx abc abcd abcde abcdef qwerty letmein welcome hello world hunter secure
    super strong safe long random generated generate uuid guid hash hex base64 encoded encrypted encryption
    environment env config configuration settings option options required optional new old current previous first
    second one two github gitlab bitbucket aws gcp azure google slack stripe docker npm id ids from with at by on as
    """.split()
)
_EXAMPLES = frozenset(
    (
        b"AKIAIOSFODNN7" + b"EXAMPLE",
        b"AKIAI44QH8DHB" + b"EXAMPLE",
        b"wJalrXUtnFEMI/K7MDENG" + b"/bPxRfiCYEXAMPLEKEY",
        b"je7MtGbClwBF/2Zp9Utk" + b"/h3yCo8nvbEXAMPLEKEY",
        b"sk_test_4eC39HqLyj" + b"WDarjtT1zdp7dc",
        b"sk_test_BQokikJOvB" + b"iI2HlWgH4olfQ2",
        # The examples of RFC 7519 and of jwt.io.
        b"eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9",
        b"SflKxwRJSMeKKF2QT4fwpMeJf36POk6yJV_adQssw5c",
        b"dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk",
        b"TJVA95OrM7E2cBab30RMHrHDcEfxjoYZgeFONFh7HgQ",
    )
)
_SEQUENCES = (b"0123456789", b"1234567890", b"abcdefghijklmnopqrstuvwxyz", b"qwertyuiop", b"9876543210")


def published(secret: bytes) -> bool:
    """Whether a provider publishes this as an example."""
    return secret in _EXAMPLES or any(part in _EXAMPLES for part in secret.split(b"."))


def dull(text: bytes) -> bool:
    """Repeats, runs and sequences: nobody's secret."""
    size = len(text)
    if len(set(text)) * 4 < min(size, 24):
        return True
    low = text.lower()
    if size >= 6 and any(low in sequence * 3 for sequence in _SEQUENCES):
        return True
    if size >= 10 and sum(1 for a, b in pairwise(text) if 0 <= b - a <= 2) * 10 > size * 7:
        return True  # an alphabet, or a part of one
    for period in (1, 2, 3, 4, 5, 6, 8, 10, 16):
        if size >= 3 * period and text == (text[:period] * (size // period + 1))[:size]:
            return True
    return low.strip(b"x*.-_#?=0") == b""


def parts_of(text: bytes) -> "list[bytes]":
    """The words of a text: split at signs and digits and where a capital follows a small letter; lower case."""
    words: "list[bytes]" = []
    start = 0
    for at in range(len(text) + 1):
        char = text[at : at + 1]
        turn = at > start and char.isupper() and text[at - 1 : at].islower()
        if turn or not char.isalpha():
            if at > start:
                words.append(text[start:at].lower())
            start = at if turn else at + 1
    return words


def stopped(text: bytes) -> bool:
    """Whether every word of a short text is a stop word."""
    if len(text) > 48:
        return False
    low = text.lower()
    if low in _WORDS:
        return True
    words = parts_of(text)
    if not words:
        return False
    digits = sum(1 for byte in text if byte in _DIGITS)
    return digits <= 4 and all(word in _WORDS or len(word) == 1 or _glued(word) for word in words)


def _glued(word: bytes) -> bool:
    """`yourpassword`, `mysecretkey`: stop words without a sign between them."""
    if len(word) > 32:
        return False
    reach = {0}
    for end in range(2, len(word) + 1):
        if any(word[start:end] in _WORDS for start in reach if end - start > 1):
            reach.add(end)
    return len(word) in reach


_OPENERS = (b"${", b"{{", b"}}", b"$(", b"<%", b"#{", b"%(", b"@@", b"%{", b"[[", b"${{", b"<<", b"{%", b"...", b"***")


def reference(text: bytes) -> bool:
    """Whether the text stands for a value that is somewhere else: a variable, a template, a path of a manager."""
    head = text[:1]
    if any(mark in text for mark in _OPENERS) or text[:4] == b"ENC[":
        return True
    if head == b"$":
        name = text[1:].replace(b"_", b"").replace(b".", b"").replace(b":", b"").replace(b"-", b"")
        return name.isalnum()
    if head == b"<" and text[-1:] == b">":
        return True
    if head == b"[" and text[-1:] == b"]":
        return True
    if head == b"%" and text[-1:] == b"%":
        return True
    if head == b"{" and text[-1:] == b"}":
        return True
    low = text.lower()
    return low.startswith(
        (b"op://", b"vault:", b"ref+", b"arn:", b"projects/", b"file:", b"env:", b"secretref", b"ssm:", b"keyvault",
         b"akeyless:", b"doppler:", b"bao:", b"secret:", b"secrets/", b"age1", b"enc:", b"sops:", b"ref:", b"!vault",
         b"kms:", b"aws:", b"sha256:", b"sha512:", b"sha1:", b"md5:", b"bcrypt", b"$2a$", b"$2b$", b"$2y$", b"$argon2",
         b"$6$", b"$5$", b"$1$", b"pbkdf2", b"scram-sha", b"process.env", b"os.environ", b"os.getenv")
    )  # fmt: skip


def placeholder(text: bytes) -> bool:
    """Whether the text says that a value is to be put here."""
    return not text or dull(text) or stopped(text) or reference(text)


# How likely one letter follows another in names and prose, a row for each first letter: 5 as in random text, each step
# a factor of two. Counted once over the words of a Python installation and its documentation.
_FOLLOWS = (
    b"45663352504767050767433241",
    b"75546432641733640663611252",
    b"73437316516532730546521030",
    b"64458433711534631554532131",
    b"63664542312557343776343530",
    b"64456622700623730655502040",
    b"62438246601545530664532133",
    b"82238222702443721545513030",
    b"54655450102658640566040314",
    b"72338334635223732361713020",
    b"63448445713525541464524141",
    b"63358322702622630255531060",
    b"75348220703452660253512030",
    b"62666472614334531267442031",
    b"34562442314667560755645221",
    b"72337224602632650756523040",
    b"51443213413333334543923100",
    b"72548341704454630565432040",
    b"52527326603433552367623050",
    b"62437326701433640665423151",
    b"55546441502667360667210210",
    b"72319331700333520343211120",
    b"73347326702426630763323210",
    b"53646423601452470468322542",
    b"64546333501567570466434133",
    b"72328305710633530333413044",
)


def likeness(text: bytes) -> float:
    """How much a text is like words, per character: names and prose lie above -0.4, random text below -0.6.

    Letters by what follows what, less for turns between cases and between letters and digits."""
    total = 0.0
    before = -1
    kind = ""
    for byte in text:
        if 97 <= byte <= 122:
            at, now = byte - 97, "a"
        elif 65 <= byte <= 90:
            at, now = byte - 65, "A"
        else:
            at, now = -1, "0" if 48 <= byte <= 57 else ""
        if at >= 0 and before >= 0:
            total += _FOLLOWS[before][at] - 53
            if kind == "a" and now == "A":
                total -= 0.5
        if now and kind and (now == "0") != (kind == "0"):
            total -= 1.5
        before, kind = at, now
    return total / max(1, len(text))


def wordlike(text: bytes) -> bool:
    """Whether the text is made of words: names of things, types, files, keys in other formats."""
    size = len(text)
    return likeness(text) >= (-0.35 if size < 12 else -0.5 if size < 20 else -0.6)


def turns(text: bytes) -> int:
    """How often letters and digits take turns."""
    count = 0
    before = None
    for byte in text:
        now = byte in _DIGITS
        count += before is not None and now != before
        before = now
    return count


# --- predicates that rules name: (secret, match, data, start of the secret) -> whether it is one


def aws_id(secret: bytes, whole: bytes, data: bytes, at: int) -> bool:
    """AWS marks its examples."""
    return not secret.endswith(b"EXAMPLE") and any(byte in b"234567" for byte in secret)


def discord(secret: bytes, whole: bytes, data: bytes, at: int) -> bool:
    """The first part is a user id in base64."""
    first = secret.split(b".")[0]
    try:
        return a2b_base64(first + b"=" * (-len(first) % 4)).isdigit()
    except _Base64Error:
        return False


def jwt(secret: bytes, whole: bytes, data: bytes, at: int) -> bool:
    """Header and payload are JSON objects."""
    for part in secret.split(b".")[:2]:
        text = part.replace(b"-", b"+").replace(b"_", b"/")
        try:
            plain = a2b_base64(text + b"=" * (-len(text) % 4))
        except _Base64Error:
            return False
        if plain[:1] != b"{":
            return False
    return True


def sk(secret: bytes, whole: bytes, data: bytes, at: int) -> bool:
    """No name with dashes."""
    body = secret[3:]
    return (
        not wordlike(body) and body.count(b"-") * 8 < len(body) and b"T3BlbkFJ" not in body and secret[:7] != b"sk-ant-"
    )


def pem(secret: bytes, whole: bytes, data: bytes, at: int) -> bool:
    """Enough of a key, and not a sketch of one."""
    body = secret.replace(b"\\n", b"").replace(b"\\r", b"")
    body = bytes(byte for byte in body if byte in _BASE64)
    return len(body) >= 40 and len(set(body)) > 12 and entropy(body) > 3.4


_BASE64 = _LETTERS + _DIGITS + b"+/="


def putty(secret: bytes, whole: bytes, data: bytes, at: int) -> bool:
    """The rest of the file stands before it."""
    return data.rfind(b"PuTTY-User-Key-File-", max(0, at - 16_000), at) >= 0


def jwk(secret: bytes, whole: bytes, data: bytes, at: int) -> bool:
    """Inside one object with a key type."""
    start = data.rfind(b"{", max(0, at - 8000), at)
    end = data.find(b"}", at, at + 8000)
    return start >= 0 and b"kty" in data[start : end if end >= 0 else at + 8000]


def url_password(secret: bytes, whole: bytes, data: bytes, at: int) -> bool:
    """Not a placeholder, a port, or the user's name again."""
    user = whole[whole.find(b"://") + 3 if b"://" in whole else 0 :].split(b":")[0]
    if secret == user or (secret.isdigit() and len(secret) <= 5):
        return False
    return not placeholder(secret) and not secret.startswith((b"$", b"%", b"<", b"{", b"[")) and len(secret) >= 4


def value(secret: bytes, whole: bytes, data: bytes, at: int) -> bool:
    """Not a placeholder."""
    return not placeholder(secret)


def docker_auth(secret: bytes, whole: bytes, data: bytes, at: int) -> bool:
    """`user:password` in base64, and the password no placeholder."""
    try:
        plain = a2b_base64(secret + b"=" * (-len(secret) % 4))
    except _Base64Error:
        return False
    user, colon, password = plain.partition(b":")
    return bool(user and colon) and not placeholder(password)


CHECKS: "dict[str, Callable[[bytes, bytes, bytes, int], bool]]" = {
    "aws_id": aws_id,
    "discord": discord,
    "jwt": jwt,
    "sk": sk,
    "pem": pem,
    "putty": putty,
    "jwk": jwk,
    "url_password": url_password,
    "value": value,
    "docker_auth": docker_auth,
}
