"""Write `zopp/scan/_table.py` anew from the catalogue: python -m zopp.scan.catalogue.make"""

import pathlib
import sys

from zopp.scan.catalogue import Rule, clouds, forges, keys, messaging, services


def rules() -> list[Rule]:
    """Every rule, by id."""
    found = [*forges.RULES, *clouds.RULES, *messaging.RULES, *services.RULES, *keys.RULES]
    return sorted(found, key=lambda rule: rule.id)


def render() -> str:
    """The text of the module."""
    every = rules()
    lines = [
        '"""Made by `python -m zopp.scan.catalogue.make` from the catalogue: do not edit. Lean."""',
        "",
        "# (id, title, pattern, least entropy, predicate, public prefix, reach before, reach behind, dot-all)",
        "RULES = (",
    ]
    words: dict[str, list[int]] = {}
    texts: dict[str, list[int]] = {}
    for number, rule in enumerate(every):
        fields = (
            rule.id, rule.title, rule.pattern, rule.entropy, rule.check, rule.shown, *rule.reach, rule.multiline,
        )  # fmt: skip
        lines.append(f"    {fields!r},")
        for keyword in rule.keywords:
            (words if rule.word else texts).setdefault(keyword, []).append(number)
    lines += [
        ")",
        "# keyword -> rules: those that stand inside a run of 16 or more token characters, and all others",
        "WORDS = {",
    ]
    lines += [f"    {keyword.encode()!r}: {tuple(numbers)!r}," for keyword, numbers in sorted(words.items())]
    lines += ["}", "TEXTS = {"]
    lines += [f"    {keyword.encode()!r}: {tuple(numbers)!r}," for keyword, numbers in sorted(texts.items())]
    return "\n".join([*lines, "}"]) + "\n"


if __name__ == "__main__":
    target = pathlib.Path(__file__).resolve().parent.parent / "_table.py"
    target.write_text(render(), encoding="utf-8")
    sys.stderr.write(f"{len(rules())} rules\n")
