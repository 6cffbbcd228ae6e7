"""What a source calls something, as the name of a variable. Source: importers.md §4.3."""

from __future__ import annotations

import re
import unicodedata


def label(text: str) -> str:
    """`text` in NFKD without its combining marks, upper-case, every run outside A-Z0-9 one `_`, trimmed, `_` before a
    leading digit; '' if nothing of it can stand in a name."""
    letters = "".join([char for char in unicodedata.normalize("NFKD", text) if not unicodedata.combining(char)])
    made = re.sub("[^A-Z0-9]+", "_", letters.upper()).strip("_")
    return "_" + made if made[:1].isdigit() else made
