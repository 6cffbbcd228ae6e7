"""The token rules as their authors write them: each from the provider's public documentation, with examples.

`python -m zopp.scan.catalogue.make` turns them into `zopp/scan/_table.py`, which is all that a hook loads; a test holds
the two together. Ids never change. Examples are put together at run time, so that no file here holds a token.
"""

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

LOWER = "abcdefghijklmnopqrstuvwxyz"
UPPER = LOWER.upper()
DIGITS = "0123456789"
ALNUM = LOWER + UPPER + DIGITS
HEX = DIGITS + "abcdef"
BASE64 = ALNUM + "+/"
URLSAFE = ALNUM + "-_"

# Where the keyword of every match of a rule stands, and so where it is looked for. A run: 16 or more letters, digits
# and `_+/=-` in a row. RUN: inside one. NEAR: inside one or within 64 characters before it. TEXT: anywhere, which costs
# most.
RUN, NEAR, TEXT = "run", "near", "text"

# A token does not begin inside other text of the base64 alphabet, except behind `//` and behind an escape.
LEFT = r"(?:(?<![0-9A-Za-z+/])|(?<=://)|(?<=\\[nrt]))"
RIGHT = r"(?![0-9A-Za-z])"


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """One token format.

    keywords  lower case, at least three characters, one of them in every match; `place`: RUN, NEAR or TEXT, where
    body      the pattern between LEFT and RIGHT (`raw`: the whole pattern), ASCII, its one group the secret
    entropy   least bits a character of the secret; `check` the name of a function of `zopp.scan.predicates`
    shown     what may be shown: a prefix that is the same in every token
    reach     how far before and behind a keyword a match may extend
    first     every match begins with a keyword, though the pattern does not show it
    needs     a text that every match holds besides, which is looked for before the pattern runs; "" for none
    parts     an example, as parts to be joined; `false`: two texts that look alike and are not tokens
    """

    id: str
    title: str
    link: str
    keywords: tuple[str, ...]
    body: str
    true: Callable[[], str]
    false: Callable[[], Sequence[str]]
    shown: str = ""
    entropy: float = 3.0
    check: str = ""
    place: str = RUN
    raw: bool = False
    multiline: bool = False
    reach: tuple[int, int] = field(default=(160, 2048))
    needs: str = ""
    first: bool = False

    @property
    def pattern(self) -> bytes:
        """The whole pattern."""
        body = self.body if "(" in self.body.replace("(?", "") else f"({self.body})"
        return (body if self.raw else LEFT + body + RIGHT).encode("ascii")


def some(alphabet: str, count: int, seed: int = 7) -> str:
    """`count` characters of an alphabet, the same every time."""
    source = random.Random(seed + count * 31 + len(alphabet))  # noqa: S311 - examples, not secrets
    return "".join(source.choice(alphabet) for _ in range(count))


def prefixed(
    id: str,
    title: str,
    link: str,
    prefix: str,
    alphabet: str,
    count: int,
    *,
    most: int | None = None,
    tail: str = "",
    entropy: float = 3.0,
    keywords: tuple[str, ...] = (),
) -> Rule:
    """The usual shape: a fixed prefix, then `count` (to `most`; 0: any) characters of an alphabet, then `tail`."""
    classes = {ALNUM: "0-9A-Za-z", HEX: "0-9a-f", URLSAFE: r"\w-", LOWER + DIGITS: "0-9a-z", UPPER + DIGITS: "0-9A-Z",
               BASE64: "0-9A-Za-z+/", LOWER + UPPER: "A-Za-z"}  # fmt: skip
    times = f"{{{count}}}" if most is None else f"{{{count},{most or 2000}}}"
    right = RIGHT if alphabet != URLSAFE else r"(?![\w-])" if most is None else ""
    return Rule(
        id=id,
        title=title,
        link=link,
        keywords=keywords or (prefix.lower(),),
        body=f"{LEFT}({re.escape(prefix)}[{classes[alphabet]}]{times}{re.escape(tail)}){right}",
        raw=True,
        # What holds a dot or the like stands in no run of token characters, but right before one.
        place=RUN if all(word.replace("-", "").replace("_", "").isalnum() for word in keywords or (prefix,)) else NEAR,
        shown=prefix,
        entropy=entropy,
        true=lambda: prefix + some(alphabet, count) + tail,
        false=lambda: [prefix + some(alphabet, count // 3) + tail + " ", prefix + "x" * count + tail],
    )
