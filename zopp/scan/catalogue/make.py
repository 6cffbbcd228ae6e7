"""Write `zopp/scan/_table.py` anew from the catalogue: python -m zopp.scan.catalogue.make"""

import pathlib
import sys

from zopp.scan.catalogue import LEFT, Rule, clouds, forges, keys, messaging, services


def rules() -> list[Rule]:
    """Every rule, by id."""
    found = [*forges.RULES, *clouds.RULES, *messaging.RULES, *services.RULES, *keys.RULES]
    return sorted(found, key=lambda rule: rule.id)


def anchored(rule: Rule) -> bool:
    """Whether every match begins where a keyword stands: then the pattern is tried there and nowhere else."""
    body = rule.pattern.decode().removeprefix(LEFT).lstrip("(")
    prefix = ""
    while body:
        size = 2 if body[0] == "\\" else 1
        char, after = body[size - 1 : size], body[size : size + 1]
        literal = char.isalnum() or char in "_-" if size == 1 else char in ".-$"
        if not literal or after in "?{*+|":
            break
        prefix += char
        body = body[size:]
    return all(prefix.lower().startswith(word) for word in rule.keywords)


def render() -> str:
    """The text of the module."""
    every = rules()
    lines = [
        '"""Made by `python -m zopp.scan.catalogue.make` from the catalogue: do not edit. Lean."""',
        "",
        "# (id, title, pattern, least entropy, predicate, prefix, reach before, behind, dot-all, needs, anchored)",
        "RULES = (",
    ]
    words: dict[str, list[int]] = {}
    texts: dict[str, list[int]] = {}
    for number, rule in enumerate(every):
        fields = (
            rule.id, rule.title, rule.pattern, rule.entropy, rule.check, rule.shown, *rule.reach, rule.multiline,
            rule.needs.encode(), anchored(rule),
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
