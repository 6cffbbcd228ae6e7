"""The plaintext layout, byte for byte: resolver, comment owners and emitter at once, against what sops prints.

sops encrypts with a selector that matches nothing, so it prints its own reading of a document in the clear.
"""

import re

import pytest

from zopp.errors import FormatError
from zopp.sopsfile import dump_plain, load_plain

from .conftest import Oracle
from .documents import COMMENTS, SCALARS, chunks

# Where zopp departs on purpose (spec 6.5): texts that other parsers misread, a key that would read back as a merge.
APART = {'"\\u2028"', '"\\tx\\ny"', "-0.0"}
ODD = {
    # sops lays these out so that only their comments move; zopp keeps the one in the list.
    "a: 1\n# c\n---\n# d\nb: 2\n---\n{}\n",
}


def printed(sops: Oracle, text: str) -> str:
    path = sops.path(".yaml")
    path.write_text(text)
    done = sops.run("encrypt", "--age", sops.recipients[0], "--encrypted-regex", "MATCHES_NOTHING", path)
    assert done.returncode == 0, done.stderr
    return re.sub(r"(?m)^sops:\n(    .*\n)*", "", done.stdout.decode())


@pytest.mark.parametrize("part", range(0, len(SCALARS), 16))
def test_scalars(sops: Oracle, part: int) -> None:
    """Each scalar at the top, in a map, in a list; and each as a key where it is text."""
    scalars = [text for text in SCALARS[part : part + 16] if text not in APART]
    text = "".join(f"k{at}: {scalar}\nm{at}:\n  k: {scalar}\n" for at, scalar in enumerate(scalars))
    assert dump_plain(load_plain(text.encode(), "yaml"), "yaml").decode() == printed(sops, text)
    plain = [scalar for scalar in scalars if "\\n" not in scalar and '" a' not in scalar]
    rows = "l:\n" + "".join(f"- {scalar}\n- j: {scalar}\n" for scalar in plain)
    assert dump_plain(load_plain(rows.encode(), "yaml"), "yaml").decode() == printed(sops, rows)


@pytest.mark.parametrize("text", [text for text in COMMENTS if text not in ODD])
def test_comment_owners(sops: Oracle, text: str) -> None:
    assert dump_plain(load_plain(text.encode(), "yaml"), "yaml").decode() == printed(sops, text)


@pytest.mark.parametrize(
    "scalar", [text for text in SCALARS if not text.startswith(("-", "!", '"')) and ":" not in text]
)
def test_keys(sops: Oracle, scalar: str) -> None:
    """A key must resolve to text, in zopp as in sops."""
    text = f"{scalar}: v\n"
    path = sops.path(".yaml")
    path.write_text(text)
    done = sops.run("encrypt", "--age", sops.recipients[0], path)
    if done.returncode == 0:
        assert load_plain(text.encode(), "yaml").documents[0].keys() == [scalar]
        return
    with pytest.raises(FormatError) as caught:
        load_plain(text.encode(), "yaml")
    assert caught.value.code in ("key_type", "int_range", "bad_yaml")


def test_nesting(sops: Oracle) -> None:
    """Indentation: list items at dash + 2, all else at the next multiple of four."""
    text = "l:\n- k:\n    m: 1\n  j:\n  - - v\n    - {a: [1, {b: 2}]}\n- - - x\nd: {e: {f: {g: []}}, h: {}}\n"
    assert dump_plain(load_plain(text.encode(), "yaml"), "yaml").decode() == printed(sops, text)


def test_first_encryption_is_laid_out_alike(sops: Oracle) -> None:
    """Beside ciphertext, time and the order of the metadata, zopp's new file is sops' new file."""
    from zopp.sopsfile import encrypt

    key = bytes(range(32))
    for part in chunks(SCALARS, 40):
        text = "".join(f"k{at}: {scalar}\nl{at}:\n- {scalar}\n" for at, scalar in enumerate(part))
        path = sops.path(".yaml")
        path.write_text(text)
        theirs = sops.run("encrypt", "--age", sops.recipients[0], path)
        if theirs.returncode:
            continue
        ours = encrypt(
            load_plain(text.encode(), "yaml"), "yaml", key, sops.wrap(key, False), lastmodified="2024-01-01T00:00:00Z"
        )
        cut = re.compile(rb"ENC\[[^]]*type:")
        bodies = [cut.sub(b"ENC[", data).split(b"\nsops:")[0] for data in (ours, theirs.stdout)]
        assert bodies[0] == bodies[1]
