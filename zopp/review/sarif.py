"""A review as SARIF 2.1.0, for forges that show findings beside lines. Names and classes only, no snippets."""

from typing import Any
from urllib.parse import quote

from zopp._version import __version__
from zopp.review.model import Review
from zopp.review.text import safe

_LEVELS = {"blocker": "error", "unknown": "error", "warning": "warning", "note": "note"}


def render(review: Review) -> dict[str, Any]:
    """The log of one run. A remark about the whole is placed at `zopp.toml`, since SARIF viewers drop what has no
    place."""
    codes = sorted({remark.code for remark in review.remarks})
    return {
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "zopp review",
                        "version": __version__,
                        "rules": [{"id": code, "name": code} for code in codes],
                    }
                },
                "columnKind": "unicodeCodePoints",
                "results": [
                    {
                        "ruleId": remark.code,
                        "ruleIndex": codes.index(remark.code),
                        "level": _LEVELS[remark.severity],
                        "message": {
                            "text": safe(remark.message, 1000) + (f". {safe(remark.fix)}" if remark.fix else "")
                        },
                        "locations": [
                            {
                                "physicalLocation": {
                                    "artifactLocation": {"uri": _uri(remark.place)},
                                    "region": {"startLine": remark.line or 1},
                                }
                            }
                        ],
                        "baselineState": "unchanged" if remark.old else "new",
                    }
                    for remark in review.remarks
                ],
            }
        ],
    }


def _uri(place: str) -> str:
    path = place.partition(": ")[0] or "zopp.toml"
    plain = path.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace") if _lone(path) else path
    return quote(plain.encode("utf-8", "surrogateescape"), safe="/")


def _lone(text: str) -> bool:
    """Whether it holds surrogates that no byte of a path was escaped to."""
    return any("\ud800" <= ch <= "\udfff" and not "\udc80" <= ch <= "\udcff" for ch in text)
