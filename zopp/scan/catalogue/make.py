"""Write `zopp/scan/_table.py` anew from the catalogue: python -m zopp.scan.catalogue.make"""

import pathlib
import sys

from zopp.scan.catalogue import LEFT, NEAR, RUN, TEXT, Rule, clouds, forges, keys, messaging, services

# Texts that several keywords hold, or that are rare and of one character, which are found fastest: only where these
# are found are the keywords themselves looked for.
GATES = ("~", "$", "@", '"auth', ":_", "private", "pscale_")


def rules() -> list[Rule]:
    """Every rule, by id."""
    found = [*forges.RULES, *clouds.RULES, *messaging.RULES, *services.RULES, *keys.RULES]
    return sorted(found, key=lambda rule: rule.id)


def anchored(rule: Rule) -> bool:
    """Whether every match begins where a keyword stands: then the pattern is tried there and nowhere else."""
    if rule.first:
        return True
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
    places: dict[str, dict[str, list[int]]] = {RUN: {}, NEAR: {}, TEXT: {}}
    for number, rule in enumerate(every):
        fields = (
            rule.id, rule.title, rule.pattern, rule.entropy, rule.check, rule.shown, *rule.reach, rule.multiline,
            rule.needs.encode(), anchored(rule),
        )  # fmt: skip
        lines.append(f"    {fields!r},")
        for keyword in rule.keywords:
            places[rule.place].setdefault(keyword, []).append(number)
    texts: dict[str, list[str]] = {}
    for keyword in sorted(places[TEXT]):
        texts.setdefault(next((gate for gate in GATES if gate in keyword), keyword), []).append(keyword)
    lines += [
        ")",
        "# keyword -> rules, by where the keyword stands in every match: inside a run, in one or shortly before one",
    ]
    for name, place in (("RUNS", RUN), ("NEAR", NEAR)):
        lines.append(f"{name} = {{")
        lines += [f"    {keyword.encode()!r}: {tuple(found)!r}," for keyword, found in sorted(places[place].items())]
        lines.append("}")
    lines += ["# what is looked for in a whole text -> the keywords that hold it, each with its rules", "TEXTS = {"]
    for gate, keywords in sorted(texts.items()):
        inner = ", ".join(f"({keyword.encode()!r}, {tuple(places[TEXT][keyword])!r})" for keyword in keywords)
        lines.append(f"    {gate.encode()!r}: ({inner},),")
    return "\n".join([*lines, "}"]) + "\n"


if __name__ == "__main__":
    target = pathlib.Path(__file__).resolve().parent.parent / "_table.py"
    target.write_text(render(), encoding="utf-8")
    sys.stderr.write(f"{len(rules())} rules\n")
