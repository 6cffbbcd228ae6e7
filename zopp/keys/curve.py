"""Which 32 bytes are a sound public point on Curve25519: canonical, and of large order. Lean.

A low-order point lets everybody compute the shared secret, and makes one Ed25519 signature fit many messages (attacks
A3, A8). A second spelling of a point lets one key stand twice under two names. Neither library below refuses all of
these: pyrage panics on some X25519 points, and encrypts to low-order ssh-ed25519 keys without a word.

Not checked: whether a point lies in the prime-order subgroup. A point of mixed order has a private key behind it and
harms its holder only.
"""

P = 2**255 - 19
_D = -121665 * pow(121666, -1, P) % P

# The u-coordinates of order 1, 2, 4 and 8 on the curve and on its twist. The other encodings that X25519 reduces to
# these (p, p + 1 and those with the top bit set) are not canonical and fall to the test against P.
LOW_ORDER_U = (
    0,
    1,
    P - 1,
    325606250916557431795983626356110631294008115727848805560023387167927233504,
    39382357235489614581723060781553021112529911719440698176882885853963445705823,
)

# The y-coordinates of the eight points of small order on edwards25519 (two x for each but 1 and p - 1).
SMALL_ORDER_Y = (
    0,
    1,
    P - 1,
    2707385501144840649318225287225658788936804267575313519463743609750303402022,
    P - 2707385501144840649318225287225658788936804267575313519463743609750303402022,
)


def x25519_ok(point: bytes) -> bool:
    """Whether `point` is a canonical X25519 public key with which a shared secret can be secret."""
    if len(point) != 32:
        return False
    u = int.from_bytes(point, "little")
    return u < P and u not in LOW_ORDER_U


def ed25519_weak(point: bytes) -> bool:
    """Whether `point` is not canonical or of small order. Cheap; says nothing about whether it is on the curve, which a
    verification finds out by itself."""
    y = int.from_bytes(point, "little") & ~(1 << 255)
    return len(point) != 32 or y >= P or y in SMALL_ORDER_Y


def ed25519_ok(point: bytes) -> bool:
    """Whether `point` is the canonical encoding of a point on edwards25519 that is not of small order."""
    if ed25519_weak(point):
        return False
    y = int.from_bytes(point, "little") & ~(1 << 255)
    # On the curve: x^2 = (y^2 - 1) / (d y^2 + 1) is a square, tested as a product to save the inversion.
    yy = y * y % P
    return pow((yy - 1) * (_D * yy + 1), (P - 1) // 2, P) == 1
