"""The corpus: plaintext documents for every row of the scalar, comment and selector tables of the specification."""

import json

# Spec 6.1, every row, and what an emitter must quote (6.5). Each is the text of one YAML value.
_WORDS = """~ null Null NULL nULL true True TRUE tRUE false FALSE y n yes no on off Y Off +1 -5 0
-0 -0x10 0X1f 0b101 -0b11
0o17 0O17 017 0_7 1__0 1_ 0x_f 0x 0o8 _1 1. .5 +.5 1e3 1_0.5 08 09.5 .inf -.Inf +.INF .nan .NaN
.iNF -0.0 1e400 Infinity nan
1e 1e+ 1:30 190:20:30 0.1.2 + . .. = 1e21 1e22 1e-7 100000 1000000 1234567.5 0.0001 0.00001 1.0
5e-324 9223372036854775807
-9223372036854775808 123456789012345678901234567890 0x1ffffffffffffffffff 2024-01-01 2024-1-1 2024-01-01T00:00:00Z
2024-01-01t1:2:3+02:00 2024-01-01T00:00:00 2024-01-01T00:00:00+0100 2024-01-01T00:00:00.123456789012Z 2024-02-30
2024-01-01T00:00:60Z 2024-01-01T24:00:00Z a#b a,b a] -a ?x :x ~a é a'b a:b 1a ._5"""
SCALARS = [
    *_WORDS.split(),
    "2024-01-01 00:00:00",
    "2024-01-01 1:2:3.5",
    "2024-01-01 00:00:00 +02:00",
    "2024-01-01 00:00",
    "-- x",
    "a - b",
    "!!str 5",
    '!!int "5"',
    "!!float 5",
    '!!bool "true"',
    '!!timestamp "2001-01-01"',
    '!!null ""',
    "!!binary aGVsbG8=",
    "!!binary gIGC",
    "! 5",
    "!foo 5",
    '"1"',
    '"null"',
    '"~"',
    '"yes"',
    '"1:30"',
    '"2024-01-01"',
    '""',
    '" x"',
    '"x "',
    '"a: b"',
    '"a:"',
    '"- a"',
    '"-"',
    '"?"',
    '"#a"',
    '"*a"',
    '"&a"',
    '"!"',
    '"%a"',
    '"@a"',
    '"[a"',
    '"{a"',
    '",a"',
    '"|a"',
    '"\'a"',
    '"---"',
    '"..."',
    '"a\\tb"',
    '"\\tx\\ny"',
    '"a\\nb"',
    '"a\\nb\\n"',
    '"a\\n\\n"',
    '" a\\nb"',
    '"\\na"',
    '"a \\nb"',
    '" #\\n"',
    '"\\U0001F600"',
    '"\\N"',
    '"\\uFEFF"',
    '"\\u2028"',
    '"\\x7f"',
    '"a\\rb"',
    '"ENC[AES256_GCM,data:YQ==,iv:YQ==,tag:YQ==,type:str]"',
]

# Spec 6.4, every row and its neighbours.
COMMENTS = [
    "a:\n  x: 1\n  # c\nb: 1\n",
    "a:\n  x: 1\n# c\nb: 1\n",
    "a: 1\n    # c\nb: 1\n",
    "a: # c\n  x: 1\n",
    "# above\na: 1 # c\n",
    "a: # c\nb: 1\n",
    "a:\n  # c\n  x: 1\n",
    "a: {x: 1, # c\n y: 2}\n",
    "--- # c\na: 1\n",
    "l: # c\n- 1\n",
    "l:\n# c1\n- 1\n# c2\n- 2\n# c3\n",
    "l:\n- 1 # c\n- 2\n",
    "l:\n- 1\n# c\n",
    "l:\n- 1\n# c\nb: 1\n",
    "l:\n  - x: 1\n    # c\n    y: 2\n",
    "l:\n  - # c\n    x: 1\n",
    "l: [] # c\nb: 1\n",
    "a: |\n  foo\n# c\nb: 1\n",
    "a: | # c\n  foo\nb: 1\n",
    "#\na: 1\n##y\nb: 2\n# z\n",
    "# head\n\n# head2\na: 1\n\n# foot\n\nb: 2\n",
    "a:\n    b:\n        c: 1\n        # c8\n    # c4\n# c0\nd: 1\n",
    "l: [\n 1,\n # c\n 2, # d\n 3]\n",
    "a: &x 1 # c\nb: *x\nc: &y\n  # in\n  k: v\nd: *y\n",
    "l:\n- {a: 1} # c\n- [1] # d\n- x: 1 # e\n- - 1 # f\n  - 2\n",
    "<<: &z {k: 1}\nd: *z\n",
    "a: 1\n# c\n---\n# d\nb: 2\n---\n{}\n",
]

# Spec 5: (selector, document). A comment regex marks what follows the comment.
_BODY = "# top\na: 1\nb_unencrypted: x\nmydata2:\n  # in\n  k: v\n  l: [1, y]\nm:\n  data: z\n  q: 2.5\n"
_NOTED = "# top\na: 1\n# sops:enc\n# second\nb: 2\nc: 3\nd:\n  # sops:enc\n  # more\n  x: 1\n  y: [2, 3]\nl:\n- 1\n"
_NOTED += "# sops:enc\n- 2\n- 3\n"
SELECTORS: list[tuple[tuple[str, str] | None, str]] = [
    (None, _BODY),
    (("unencrypted_suffix", "_unencrypted"), _BODY),
    (("unencrypted_suffix", "2"), _BODY),
    (("encrypted_suffix", "data"), _BODY),
    (("unencrypted_regex", "data"), _BODY),
    (("encrypted_regex", "data"), _BODY),
    (("encrypted_regex", "^(a|q)$"), _BODY),
    (("unencrypted_comment_regex", "sops:enc"), _NOTED),
    (("encrypted_comment_regex", "sops:enc"), _NOTED),
]


def chunks(items: list[str], size: int) -> list[list[str]]:
    return [items[at : at + size] for at in range(0, len(items), size)]


def yaml_documents() -> list[tuple[tuple[str, str] | None, str]]:
    """(selector, text): scalars at top, in a map, in a list and in a map in a list; then comments; then selectors."""
    made: list[tuple[tuple[str, str] | None, str]] = []
    for part in chunks(SCALARS, 4):
        top = "".join(f"k{at}: {text}\n" for at, text in enumerate(part))
        # In the clear sops turns "\tx\ny" into null (spec 6.5a), and with mac_only_encrypted its MAC does not notice.
        kept = [text for text in part if text != '"\\tx\\ny"']
        clear = "".join(f"c{at}_unencrypted: {text}\n" for at, text in enumerate(kept))
        rows = "l:\n" + "".join(f"- {text}\n- m{at}: {text}\n" for at, text in enumerate(part))
        inner = "m:\n" + "".join(f"  k{at}: {text}\n" for at, text in enumerate(part))
        made += [(None, top + clear), (None, rows + inner)]
    made += [(None, text) for text in COMMENTS]
    made += [(None, text.replace("a:", "a_unencrypted:").replace("l:", "l_unencrypted:")) for text in COMMENTS]
    return made + SELECTORS


def json_documents() -> list[tuple[tuple[str, str] | None, str]]:
    values = [
        "x",
        "",
        " ",
        "a\nb",
        "\t",
        "é",
        "\U0001f600",
        "<&>",
        "\u2028",
        '"',
        "\\",
        1,
        -5,
        0,
        1.5,
        1e30,
        1e-9,
        True,
    ]
    values += [False, None, [], {}, [1, ["x", {"k": 2}]], {"a": {"b": "c"}, "z": []}, "1", "true", "\x7f"]
    made: list[tuple[tuple[str, str] | None, str]] = []
    for at in range(0, len(values), 2):
        pair = values[at : at + 2]
        document = {
            "k": pair[0],
            "l": [*pair, {"m": pair[-1]}],
            "m": {"n": pair[-1]},
            "c_unencrypted": pair,
            "s": 2**53 + 1,
        }
        made.append((None, json.dumps(document, ensure_ascii=at % 4 == 0)))
        made.append((("encrypted_regex", "^[ks]$"), json.dumps(document, indent=2)))
    body = json.dumps(
        {"a": 1, "b_unencrypted": "x", "mydata2": {"k": "v", "l": [1, "y"]}, "m": {"data": "z", "q": 2.5}}
    )
    made += [(selector, body) for selector, _ in SELECTORS if selector is None or "comment" not in selector[0]]
    return made
