"""A review for a terminal. Names come from the head and are hostile: control characters are shown escaped."""

from collections.abc import Callable

from zopp.policy.statement import Statement
from zopp.printable import printable
from zopp.review.model import EnvironmentReview, Review

MARKS = {"blocker": "✗", "unknown": "?", "warning": "!", "note": "·"}
SIGNS = {"added": "+", "removed": "-", "changed": "~"}


def safe(text: str, most: int = 200) -> str:
    """One line without control or format characters (line ends, escapes, text-direction marks), cut at `most`."""
    shown = printable(text)
    return shown if len(shown) <= most else shown[: most - 1] + "…"


def key_lines(env: EnvironmentReview) -> list[tuple[str, str, str]]:
    """(sign, key, path) of every key that differs, file by file; the re-encrypted ones of a full rewrap aside."""
    out = []
    for each in env.files:
        for what, sign in SIGNS.items():
            if what == "changed" and each.comparison.full_rewrap:
                continue
            out += [(sign, change.name, each.path) for change in each.comparison.changes if change.what == what]
    return out


def lines(review: Review, words: Callable[[Statement], str]) -> list[str]:
    """The review; `words` tells a statement as a sentence."""
    how = "decrypted with this machine's keys" if review.keyed else "not decrypted"
    out = [f"{review.base[:12]}..{review.head[:12]} ({how}): {review.verdict.upper()}"]
    if review.statements:
        out += ["", "policy:"]
        out += [f"  {each.seq}  {safe(words(each))}, signed by {safe(each.by)}" for each in review.statements]
    for env in review.environments:
        out += ["", f"{safe(env.name)}: {manifest_words(env)}"]
        for sign, key, path in key_lines(env):
            told = ", ".join(env.classes.get(path, {}).get(key, ()))
            out.append(f"  {sign} {safe(key)}" + (f"  ({told})" if told else ""))
        if env.full_rewrap:
            count = sum(len(each.comparison.of("changed")) for each in env.files)
            out.append(f"  full rewrap of {count} value{'s' * (count != 1)}")
        out += [
            f"  recipient added: {safe(each.name)}" + (f" ({safe(each.why)})" if each.why else "") for each in env.added
        ]
        out += [
            f"  recipient removed: {safe(each.name)}" + (f" ({safe(each.why)})" if each.why else "")
            for each in env.removed
        ]
        out.append(f"  data key: {data_key_words(env)}")
    if review.remarks:
        out.append("")
    for remark in review.remarks:
        where = safe(remark.place) or safe(remark.environment)
        line = f"{MARKS[remark.severity]} {where + ': ' if where else ''}{safe(remark.message, 500)} [{remark.code}]"
        out.append(line + (" (so in the base already)" if remark.old else ""))
        if remark.fix:
            out.append(f"    {safe(remark.fix, 500)}")
    if not review.environments and not review.statements and not review.remarks:
        out.append("nothing about secrets or policy changes")
    return out


def manifest_words(env: EnvironmentReview) -> str:
    """Its manifest in a few words."""
    was, now = env.generations
    if now is None:
        return "no manifest any more" if was is not None else "no manifest"
    how = "holds" if env.holds else "does not hold"
    if was == now:
        return f"manifest unchanged (generation {now}), {how}"
    return f"manifest generation {'-' if was is None else was} → {now}, signed by {safe(env.signer)}, {how}"


def data_key_words(env: EnvironmentReview) -> str:
    """What is known of the data key."""
    if any("data key rotated" in each for each in env.classes.get("", {}).values()):
        return "rotated"
    return {
        "same": "not rotated (proven by an unchanged ciphertext)",
        "new": "rotated, it seems: no ciphertext in common",
        "mixed": "rotated in some files only",
        "none": "nothing to compare",
    }[env.data_key]
