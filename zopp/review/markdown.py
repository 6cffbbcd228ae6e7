"""A review as the comment on a pull request. Everything that comes from the head is escaped for Markdown and HTML."""

import re
from collections.abc import Callable

from zopp.policy.statement import Statement
from zopp.review.model import EnvironmentReview, Review
from zopp.review.text import MARKS, data_key_words, key_lines, manifest_words, safe

MARKER = "<!-- zopp review -->"
"""Finds the comment again; only one by the same identity is edited."""

MAX_ROWS = 50
MAX_NAME = 100

_ENTITIES = {
    "&": "&amp;",
    "<": "&lt;",
    ">": "&gt;",
    "@": "&#64;",
    ":": "&#58;",
    "#": "&#35;",
    "`": "&#96;",
    "|": "&#124;",
}
_SPECIAL = re.compile(r"([\\`*_{}\[\]()#+\-.!|~<>&@:])")


def escaped(text: str, most: int = 500) -> str:
    """Text that means only itself in Markdown and HTML, on one line; no mention, link or issue number comes of it."""
    plain = safe(text, most)
    return _SPECIAL.sub(lambda found: _ENTITIES.get(found[1], "\\" + found[1]), plain)


def code(name: str) -> str:
    """A name as inline code that no back-tick in it can end, nor a `|` a table's cell."""
    plain = safe(name or '""', MAX_NAME).replace("|", "\\|")
    longest = max((len(run) for run in re.findall("`+", plain)), default=0)
    fence = "`" * (longest + 1)
    pad = " " if plain.startswith("`") or plain.endswith("`") or not plain.strip() else ""
    return f"{fence}{pad}{plain}{pad}{fence}"


def render(review: Review, words: Callable[[Statement], str]) -> str:
    """The whole comment, with its marker first."""
    tier = "tier 1, decrypted" if review.keyed else "tier 0, not decrypted"
    out = [MARKER, f"### zopp: secrets in this change ({tier}): {review.verdict.upper()}", ""]
    out += [f"{code(review.base[:12])} → {code(review.head[:12])}, workspace {code(review.workspace)}", ""]
    if review.environments:
        out += ["| environment | keys | recipients | data key | manifest |", "|---|---|---|---|---|"]
        out += [_row(env) for env in review.environments]
        out.append("")
        for env in review.environments:
            out += _details(env)
    if review.statements:
        out += ["**Policy**", ""]
        out += [
            f"- {each.seq}: {escaped(words(each))}, signed by {code(each.by)}" for each in review.statements[:MAX_ROWS]
        ]
        out += _more(len(review.statements), "statements")
        out.append("")
    for remark in review.remarks[: MAX_ROWS * 2]:
        where = remark.place or remark.environment
        line = f"- {MARKS[remark.severity]} **{remark.severity}** " + (f"{code(where)}: " if where else "")
        line += f"{escaped(remark.message)} ({code(remark.code)})" + (" (so in the base already)" if remark.old else "")
        out.append(line + (f"<br>{escaped(remark.fix)}" if remark.fix else ""))
    out += _more(len(review.remarks), "remarks", MAX_ROWS * 2)
    if not review.environments and not review.statements and not review.remarks:
        out.append("Nothing about secrets or policy changes.")
    return "\n".join(out).rstrip("\n") + "\n"


def _more(count: int, what: str, most: int = MAX_ROWS) -> list[str]:
    return [f"- … and {count - most} more {what}"] if count > most else []


def _row(env: EnvironmentReview) -> str:
    keys = key_lines(env)
    shown = [f"{sign} {code(key)}" for sign, key, _ in keys[:10]]
    if env.full_rewrap:
        shown.append("full rewrap")
    if len(keys) > 10:
        shown.append(f"… {len(keys) - 10} more")
    people = [f"+ {code(each.name)}" + (f" ({escaped(each.why)})" if each.why else "") for each in env.added]
    people += [f"− {code(each.name)}" + (f" ({escaped(each.why)})" if each.why else "") for each in env.removed]
    many = len(people) - 10
    people = people[:10] + ([f"… {many} more"] if many > 0 else [])
    cells = (
        code(env.name), " ".join(shown) or "unchanged", " ".join(people) or "unchanged",
        escaped(data_key_words(env)), escaped(manifest_words(env)),
    )  # fmt: skip
    return "| " + " | ".join(cells) + " |"


def _details(env: EnvironmentReview) -> list[str]:
    """The keys beyond the table's, and what a keyed review found of each."""
    keys = key_lines(env)
    if len(keys) <= 10 and not env.classes:
        return []
    out = [f"<details><summary>{escaped(env.name)}: {len(keys)} keys</summary>", ""]
    for sign, key, path in keys[:MAX_ROWS]:
        told = ", ".join(env.classes.get(path, {}).get(key, ()))
        out.append(f"- {sign} {code(key)}" + (f": {escaped(told)}" if told else ""))
    return [*out, *_more(len(keys), "keys"), "", "</details>", ""]
