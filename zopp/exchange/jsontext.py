"""JSON in which a secret stands: numbers keep their spelling, and every part of it can be had as one text.

A port that reads 5432, an account number of 20 digits and a version 1.10 stay what they are, which floats would not.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NoReturn

# None, bool, str, Number, list or dict of these
Node = Any
MAX_DEPTH = 100
_EXACT = 2.0**53


class Number(str):
    """A number as it is spelled."""

    __slots__ = ()


class Duplicate(ValueError):
    """A name that stands twice in one object, so that one of the values would be lost."""


def parse(text: str) -> Node:
    """One JSON value. Duplicate for a name that stands twice, ValueError for everything else, nesting that the
    interpreter cannot follow included; neither quotes the text."""
    try:
        return json.loads(text, parse_int=Number, parse_float=Number, parse_constant=_refuse, object_pairs_hook=_unique)
    except Duplicate:
        raise
    except (ValueError, RecursionError):
        raise ValueError("not a JSON value") from None


def _refuse(_: str) -> NoReturn:
    raise ValueError("not a number of JSON")


def _unique(pairs: list[tuple[str, Node]]) -> dict[str, Node]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise Duplicate("a name stands twice")
    return made


def dump(node: Node) -> str:
    """`node` as JSON: names sorted, no blanks, numbers as they were spelled. ValueError beyond MAX_DEPTH."""
    return "".join(_pieces(node, 0))


def _pieces(node: Node, depth: int) -> Iterator[str]:
    if depth > MAX_DEPTH:
        raise ValueError("nested too deeply")
    if isinstance(node, dict):
        for number, name in enumerate(sorted(node)):
            yield ("," if number else "{") + json.dumps(name, ensure_ascii=False) + ":"
            yield from _pieces(node[name], depth + 1)
        yield "}" if node else "{}"
    elif isinstance(node, list):
        for number, below in enumerate(node):
            yield "," if number else "["
            yield from _pieces(below, depth + 1)
        yield "]" if node else "[]"
    elif isinstance(node, Number):
        yield str(node)
    else:
        yield json.dumps(node, ensure_ascii=False)


def text(node: Node) -> str:
    """What a variable holds: a text as it is, everything else as `dump`."""
    return node if isinstance(node, str) and not isinstance(node, Number) else dump(node)


def kind(node: Node) -> str:
    """What `node` is, for people; '' for a text."""
    if isinstance(node, Number):
        return "a number"
    if isinstance(node, bool):
        return "true or false"
    return {dict: "a map", list: "a list", str: "", type(None): "null"}[type(node)]


def inexact(node: Node) -> bool:
    """Whether a number in it is 2**53 or more, which servers that hold numbers as floats may have changed already."""
    stack = [node]
    while stack:
        one = stack.pop()
        if isinstance(one, Number) and abs(float(one)) >= _EXACT:
            return True
        stack += one.values() if isinstance(one, dict) else one if isinstance(one, list) else ()
    return False
