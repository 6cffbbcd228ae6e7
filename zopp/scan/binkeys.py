"""Key material in binary, told by its content, never by a name (spec guard 7). Lean.

DER private keys, PKCS#12, Java key stores with a private entry, OpenPGP secret-key packets. Certificates, public keys,
key stores that hold only certificates, age and PGP messages are none.
"""

_OID_RSA = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01"
_OID_EC = b"\x06\x07\x2a\x86\x48\xce\x3d\x02\x01"
_OID_EDWARDS = b"\x06\x03\x2b\x65"
_OID_DATA = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07"
_OID_PBES2 = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x05"
_OID_PKCS12_PBE = b"\x06\x0a\x2a\x86\x48\x86\xf7\x0d\x01\x0c\x01"
_OID_DSA = b"\x06\x07\x2a\x86\x48\xce\x38\x04\x01"


def what(data: bytes) -> "str | None":
    """What private key material the bytes are, None if none."""
    head = data[:1]
    if head == b"\x30":
        return _der(data)
    if data[:4] in (b"\xfe\xed\xfe\xed", b"\xce\xce\xce\xce"):
        return _java(data)
    if head and head[0] & 0x80:
        return _openpgp(data)
    return None


def _element(data: bytes, at: int) -> "tuple[int, int, int] | None":
    """(tag, start of the content, its end) of the DER element at `at`, None if it does not fit."""
    if at + 2 > len(data):
        return None
    tag, size = data[at], data[at + 1]
    start = at + 2
    if size & 0x80:
        count = size & 0x7F
        if not 1 <= count <= 4 or start + count > len(data):
            return None
        size = int.from_bytes(data[start : start + count], "big")
        start += count
    return tag, start, start + size


def _der(data: bytes) -> "str | None":
    outer = _element(data, 0)
    if outer is None or outer[2] > len(data) or outer[2] - outer[1] < 20:
        return None
    first = _element(data, outer[1])
    if first is None or first[2] > outer[2]:
        return None
    second = _element(data, first[2])
    if second is None or second[2] > outer[2]:
        return None
    number = data[first[1] : first[2]]
    if first[0] == 0x02:
        if number == b"\x03" and second[0] == 0x30 and data[second[1] :].startswith(_OID_DATA):
            return "a PKCS#12 store"
        if number in (b"\x00", b"\x01") and second[0] == 0x30:
            body = data[second[1] : second[2]]
            if body.startswith((_OID_RSA, _OID_EC, _OID_EDWARDS, _OID_DSA)):
                third = _element(data, second[2])
                if third is not None and third[0] == 0x04:
                    return "a private key (PKCS#8)"
        if number == b"\x01" and second[0] == 0x04 and second[2] - second[1] in range(16, 80):
            third = _element(data, second[2])
            if third is None or third[0] in (0xA0, 0xA1) or third[1] >= outer[2]:
                return "a private key (SEC 1)"
        if number == b"\x00" and second[0] == 0x02 and second[2] - second[1] >= 32:
            # RSA: version, modulus, exponent, private exponent, two primes, …
            at, count = second[2], 1
            while at < outer[2] and (item := _element(data, at)) is not None and item[0] == 0x02:
                at, count = item[2], count + 1
            if count >= 8 or (count == 5 and at == outer[2]):
                return "a private key (PKCS#1)"
    if first[0] == 0x30 and second[0] == 0x04 and second[2] == outer[2]:
        body = data[first[1] : first[2]]
        if body.startswith((_OID_PBES2, _OID_PKCS12_PBE)):
            return "an encrypted private key (PKCS#8)"
    return None


def _java(data: bytes) -> "str | None":
    """A JKS or JCEKS store with a private or secret entry: tags 1 and 3."""
    if len(data) < 16:
        return None
    version, count = int.from_bytes(data[4:8], "big"), int.from_bytes(data[8:12], "big")
    if version not in (1, 2) or not 0 < count < 100_000:
        return None
    at = 12
    for _ in range(count):
        if at + 6 > len(data):
            return None
        tag = int.from_bytes(data[at : at + 4], "big")
        if tag in (1, 3):
            return "a Java key store with a private entry"
        if tag != 2:
            return None
        size = int.from_bytes(data[at + 4 : at + 6], "big")
        at += 6 + size + 8
        if version == 2:
            size = int.from_bytes(data[at : at + 2], "big")
            at += 2 + size
        at += 4 + int.from_bytes(data[at : at + 4], "big")
    return None


def _openpgp(data: bytes) -> "str | None":
    """A first packet that is a secret key (tag 5) or secret subkey (tag 7), with a length and version that fit."""
    head = data[0]
    if head & 0x40:
        tag = head & 0x3F
        if len(data) < 8:
            return None
        first = data[1]
        at = 2 if first < 192 else 3 if first < 224 else 6 if first == 255 else 0
    else:
        tag = head >> 2 & 0x0F
        kind = head & 3
        at = 0 if kind == 3 else 1 + (1 << kind)
    if tag not in (5, 7) or not at or len(data) < at + 7:
        return None
    version, algorithm = data[at], data[at + 5]
    if version not in (3, 4, 5, 6) or algorithm not in (1, 2, 3, 16, 17, 18, 19, 22, 25, 26, 27, 28):
        return None
    created = int.from_bytes(data[at + 1 : at + 5], "big")
    return "an OpenPGP secret key" if 600_000_000 < created < 4_200_000_000 else None
