"""Pages of the documentation as tests: what stands behind `$` in their `console` blocks is run, and has to print what
stands below it, but for what differs from run to run.

ZOPP_FILL_PAGES=1 writes what is printed into the pages instead; read the difference before you keep it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence

from tests.support import ROOT

FILL = os.environ.get("ZOPP_FILL_PAGES") == "1"
# What differs from run to run: commits, times, digests, recipients, free ports.
VARYING = (
    (r"\b[0-9a-f]{64}\b", "FINGERPRINT"),
    (r"\b[0-9a-f]{12}\b", "COMMIT"),
    (r"\d{4}-\d\d-\d\d \d\d:\d\d", "WHEN"),
    (r"age1\w+…\w+", "RECIPIENT"),
    (r"\b127\.0\.0\.1:\d+", "127.0.0.1:PORT"),
)


def check(page: str, run: Callable[[str], str], *, least: int, more: Sequence[tuple[str, str]] = ()) -> None:
    """Run every command of `page` (a path below the root) by `run`, which gives what it printed. `least`: how many
    blocks there are at least; `more`: patterns of what else differs, and what to call it."""

    def level(text: str) -> str:
        for pattern, word in (*VARYING, *more):
            text = re.sub(pattern, word, text)
        return text

    place = ROOT / page
    text = place.read_text()
    blocks = re.findall(r"^```console\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert len(blocks) >= least
    for block in blocks:
        made = []
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, expected = part.partition("\n")
            said = run(command).rstrip("\n")
            if FILL:
                made.append(f"$ {command}\n{said}\n" if said else f"$ {command}\n")
            else:
                assert level(said) == level(expected.rstrip("\n")), command
        text = text.replace(block, "".join(made)) if FILL else text
    if FILL:
        place.write_text(text)
