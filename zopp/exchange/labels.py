"""Labels that people wrote, as names of variables. Source: importers.md §4.3."""

from __future__ import annotations

import re
import unicodedata


def label(text: str) -> str:
    """`text` as a name: NFKD, upper case, every run outside `A-Z0-9` one `_`, none at the ends, and one before a digit
    that begins it. '' where nothing of it is left."""
    name = re.sub("[^A-Z0-9]+", "_", unicodedata.normalize("NFKD", text).upper()).strip("_")
    return "_" + name if name[:1].isdigit() else name
