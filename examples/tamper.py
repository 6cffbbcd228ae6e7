"""The attacks of the demo, as somebody with write access to the git repository would make them."""

import json
import pathlib
import re
import subprocess
import sys

BOGUS = "age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj"  # the example recipient of age's README


def value(path: pathlib.Path) -> None:
    """Turn one character of the first ciphertext."""
    text = path.read_text()
    match = re.search(r"^\w+: ENC\[AES256_GCM,data:(.)", text, re.MULTILINE)
    assert match is not None
    other = "A" if match.group(1) != "A" else "B"
    path.write_text(text[: match.start(1)] + other + text[match.end(1) :])


def recipient(path: pathlib.Path) -> None:
    """Append a recipient with somebody else's entry, as an attacker without any key would, and wait for a rotation."""
    text = path.read_text()
    block = re.search(r"(        - enc: \|\n(?: {12}.*\n)+          )recipient: .*\n", text)
    if block is None:
        raise SystemExit("no recipient found")
    path.write_text(text[: block.end()] + block.group(1) + f"recipient: {BOGUS}\n" + text[block.end() :])


def manifest(path: pathlib.Path, key: str, signer: str) -> None:
    """A next generation, well formed, signed by a principal that may only read."""
    body = json.loads(path.read_text())
    body["generation"] += 1
    body["signer"] = signer
    path.write_text(json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False))
    signature = pathlib.Path(f"{path}.sig")
    signature.unlink()
    subprocess.run(
        ["ssh-keygen", "-q", "-Y", "sign", "-f", key, "-n", "zopp-secrets-v1", str(path)],
        check=True,
        capture_output=True,
    )


def older(path: pathlib.Path, revision: str) -> None:
    """The file as it was in an earlier commit, when the revoked reader was still among its recipients."""
    done = subprocess.run(["git", "show", f"{revision}:{path}"], check=True, capture_output=True)
    path.write_bytes(done.stdout)


def selector(path: pathlib.Path) -> None:
    """Narrow what stock sops would encrypt next; sops' own MAC does not cover this."""
    text = path.read_text()
    assert "unencrypted_suffix: _unencrypted" in text
    path.write_text(text.replace("unencrypted_suffix: _unencrypted", "encrypted_regex: ^APP_"))


def plain(path: pathlib.Path) -> None:
    """The first value written over by hand, in the clear."""
    text, count = re.subn(r"^(\w+): ENC\[.*\]$", r"\1: written-by-hand", path.read_text(), count=1, flags=re.MULTILINE)
    assert count == 1
    path.write_text(text)


if __name__ == "__main__":
    attack, target, *rest = sys.argv[1:]
    known = {each.__name__: each for each in (value, recipient, manifest, older, selector, plain)}
    known[attack](pathlib.Path(target), *rest)
