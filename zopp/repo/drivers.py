"""git's drivers for secrets files, as this clone's configuration defines them (review-and-ci.md 1).

`.gitattributes` only names drivers; what they run stands in the configuration of each clone, where git asks nobody but
its owner. The commands find zopp where it was when they were set up, else on PATH; where it is gone, a diff shows the
ciphertext, since a converter that fails ends git's whole command, and a merge is a conflict.
"""

import os
import shutil
import sys
from collections.abc import Iterable
from dataclasses import dataclass

from zopp.errors import Unknown
from zopp.printable import printable
from zopp.repo import attributes, git
from zopp.repo.layout import Checkout

DIFF = "zopp"
NAMES = {
    "zopp": "secrets, merged by key",
    "zopp-manifest": "manifests, signed anew",
    "zopp-policy": "the signed policy and what follows from it",
}
"""Merge driver → what it merges. One program answers for all three, by %P; attributes name them (`blocks`)."""

MERGES = tuple(NAMES)

_PLAINTEXT = ("sops decrypt", "sops -d", "sops --decrypt", "zopp get", "zopp export", "ansible-vault view", "age -d")


@dataclass(frozen=True, slots=True)
class Fault:
    """Something wrong with a clone's drivers. `level` is fail or warn; `fix` is what to type."""

    level: str
    text: str
    fix: str


def program() -> list[str]:
    """How zopp is started from anywhere: its script beside this interpreter, or where it was started from; else this
    interpreter with -P, without which Python would import modules from whatever repository git is in."""
    beside = os.path.join(os.path.dirname(os.path.abspath(sys.executable)), "zopp")
    started = os.path.abspath(sys.argv[0]) if os.path.basename(sys.argv[0]) == "zopp" else ""
    for path in (started, beside):
        if path and os.access(path, os.X_OK) and os.path.isfile(path):
            return [path]
    found = shutil.which("zopp")
    if found is not None and os.path.isabs(found):
        return [found]
    return [os.path.abspath(sys.executable), "-P", "-m", "zopp.cli.main"]


def commands(start: list[str]) -> dict[str, str]:
    """Configuration name → value. git hands the commands to sh and adds a converter's file at the end itself."""
    call = " ".join(_quote(word) for word in start)
    test = _quote(start[0])
    find = f"if [ -x {test} ]; then exec {call} %s; elif command -v zopp >/dev/null; then exec zopp %s; "
    convert = find % (('textconv "$@"',) * 2) + 'else exec cat -- "$@"; fi'
    merge = (
        find % (('merge-driver "$@"',) * 2) + "else echo 'zopp is not where it was: zopp git enroll' >&2; exit 1; fi"
    )
    made = {f"diff.{DIFF}.textconv": f"f() {{ {convert}; }}; f"}
    for name, words in NAMES.items():
        made[f"merge.{name}.name"] = f"zopp: {words}"
        made[f"merge.{name}.driver"] = f"f() {{ {merge}; }}; f %O %A %B %L %P"
        # In a criss-cross history git then calls once, with the true common ancestor, not for a base of its own
        # making, which nobody signed.
        made[f"merge.{name}.recursive"] = "binary"
    return made


def _quote(word: str) -> str:
    return "'" + word.replace("'", "'\\''") + "'"


def enroll(checkout: Checkout, start: list[str] | None = None) -> list[str]:
    """Define the drivers in this clone; the names of what was set anew. Unknown `git.config` where git cannot write."""
    changed = []
    there = _config(checkout)
    for name, value in commands(start or program()).items():
        if there.get(name) == value:
            continue
        done = git.run(checkout.root, "config", "--local", "--replace-all", name, value, check=False)
        if done.returncode:
            said = done.stderr.decode("utf-8", "replace").strip().split("\n")[0]
            raise Unknown(f"git config: {said}", code="git.config", place=os.path.join(checkout.common_dir, "config"))
        changed.append(name)
    return changed


def set_up(checkout: Checkout, paths: Iterable[str]) -> None:
    """What a clone needs once: attributes that the tree cannot change, and the drivers that they name."""
    attributes.protect(checkout, paths)
    enroll(checkout)


def leave(checkout: Checkout) -> list[str]:
    """Take the definitions out of this clone again; the names of what there was."""
    gone = []
    for section in (f"diff.{DIFF}", *(f"merge.{name}" for name in MERGES)):
        if git.run(checkout.root, "config", "--local", "--remove-section", section, check=False).returncode == 0:
            gone.append(section)
    return gone


def is_enrolled(checkout: Checkout) -> bool:
    """Whether every driver is defined, whatever it runs."""
    wanted = [name for name in commands(["zopp"]) if not name.endswith(".name")]
    found = _config(checkout)
    return all(name in found for name in wanted)


def _config(checkout: Checkout) -> dict[str, str]:
    """Every diff and merge setting that git sees here: lower-case section and name → value."""
    done = git.run(checkout.root, "config", "-z", "--get-regexp", r"^(diff|merge)\.", check=False)
    pairs = [entry.partition("\n") for entry in done.stdout.decode("utf-8", "surrogateescape").split("\0") if entry]
    return {name: value for name, _, value in pairs}


def faults(checkout: Checkout, paths: list[str]) -> list[Fault]:
    """What is wrong with the drivers of this clone, for `doctor`. `paths`: the secrets files."""
    found: list[Fault] = []
    config = _config(checkout)
    enroll_it = "zopp git enroll"
    defined = [name for name in commands(["zopp"]) if name in config and not name.endswith(".name")]
    missing = [name for name in commands(["zopp"]) if name not in config and not name.endswith(".name")]
    attributes = _attributes(checkout, paths)
    if missing:
        named = any(value in MERGES for pair in attributes.values() for value in pair)
        why = ".gitattributes names drivers that" if named else "git's drivers for secrets files"
        text = f"{why} this clone does not define: diffs show ciphertext, merges of it break"
        if not named:
            text = f"{why} are not enrolled: diffs show ciphertext, merges of it break"
        found.append(Fault("fail" if named else "warn", text, enroll_it))
    elif any(_stale(config[name]) for name in defined if name.endswith((".textconv", ".driver"))):
        found.append(Fault("warn", "git's drivers start a zopp that is not there any more", enroll_it))
    bare = [path for path, pair in attributes.items() if pair != (DIFF, MERGES[0])]
    if bare and not missing:
        more = f" and {len(bare) - 1} more" if len(bare) > 1 else ""
        text = f"git's attributes give {printable(bare[0])}{more} to other drivers than zopp's, or to none"
        found.append(Fault("warn", text, enroll_it))
    drivers = {DIFF, *(diff for diff, _ in attributes.values() if diff not in ("", "set", "unset", "unspecified"))}
    for driver in sorted(drivers):
        if config.get(f"diff.{driver}.cachetextconv", "").lower() in ("true", "yes", "on", "1"):
            text = f"diff.{driver}.cachetextconv stores converted text in git for good"
            found.append(Fault("fail", text, f"git config --unset-all diff.{driver}.cachetextconv"))
        ref = f"refs/notes/textconv/{driver}"
        if git.run(checkout.root, "rev-parse", "--verify", "--quiet", ref, check=False).returncode == 0:
            text = f"{ref} holds converted text of secrets files"
            found.append(
                Fault("fail", text, f"git update-ref -d {ref} && git gc --prune=now, and rotate what it showed")
            )
        command = config.get(f"diff.{driver}.textconv", "")
        if driver != DIFF and any(plain in command for plain in _PLAINTEXT):
            text = f"diff.{driver}.textconv decrypts: `git diff` and `git log -p` print plaintext"
            found.append(Fault("warn", text, f"git config --unset-all diff.{driver}.textconv"))
        elif driver == DIFF and command and "textconv" not in command.partition("exec")[2]:
            text = f"diff.{DIFF}.textconv is another command than zopp's, and may print plaintext"
            found.append(Fault("warn", text, enroll_it))
    return found


def _stale(command: str) -> bool:
    """Whether a command of ours names a program that is gone."""
    start = command.find("[ -x '")
    end = command.find("' ]", start)
    if start < 0 or end < 0:
        return False
    return not os.access(command[start + 6 : end].replace("'\\''", "'"), os.X_OK)


def _attributes(checkout: Checkout, paths: list[str]) -> dict[str, tuple[str, str]]:
    """Path → its diff and merge attribute."""
    if not paths:
        return {}
    data = "\0".join(paths).encode("utf-8", "surrogateescape") + b"\0"
    done = git.run(checkout.root, "check-attr", "-z", "--stdin", "diff", "merge", data=data)
    fields = done.stdout.decode("utf-8", "surrogateescape").split("\0")
    out: dict[str, tuple[str, str]] = {}
    for path, name, value in zip(fields[::3], fields[1::3], fields[2::3], strict=False):
        diff, merge = out.get(path, ("", ""))
        out[path] = (value, merge) if name == "diff" else (diff, value)
    return out
