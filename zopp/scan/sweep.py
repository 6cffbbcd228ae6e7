"""Whole files: `zopp scan PATH…`, `--all`, and the pre-commit framework's `--all-files` (spec guard 2). Lean.

Files are read from the disk. Nothing is subtracted: what stands in them is found, old or new. Large sets go to one
worker process a core.
"""

import os
import stat

from zopp.errors import NotFound, UsageError, ZoppError
from zopp.printable import printable
from zopp.scan import staged
from zopp.scan.demand import Rules
from zopp.scan.engine import LINK, SUBMODULE, Batch, Item
from zopp.scan.finding import Problem, Result
from zopp.scan.gitio import WHOLE, Git, Objects
from zopp.scan.trees import DiskTree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

# From how many bytes a second process pays for itself.
_FORK_FROM = 3_000_000
_READ = 1 << 20


def all_staged(environ: "Mapping[str, str]", files: "list[str]") -> bool:
    """Whether every named file is staged: then the framework runs for a commit, and the index is judged."""
    git = Git(None, environ)
    listing = git.asked("diff", "--cached", *staged.DIFF)
    if listing is None:
        return False
    names = {entry.path for entry in staged.parse_raw(listing)}
    top = (git.asked("rev-parse", "--show-prefix") or b"").decode("utf-8", "surrogateescape").rstrip("\n")
    return all(os.path.normpath(top + name) in names for name in files)


def _root(start: str) -> str:
    """The top of the work tree that holds a folder, or the folder itself outside git."""
    from zopp.repo import layout

    try:
        return layout.find_checkout(start).root
    except ZoppError:
        return os.path.realpath(start)


def paths(environ: "Mapping[str, str]", names: "list[str]", *, options: "Any" = None) -> Result:
    """The named files; of folders the tracked files, and outside git all of them."""
    root = _root(os.getcwd())
    found: "dict[str, None]" = {}
    result = Result("paths")
    for name in names:
        full = os.path.join(
            os.path.realpath(os.path.dirname(os.path.abspath(name))), os.path.basename(name.rstrip("/"))
        )
        if name in (".", "..", "") or (os.path.isdir(full) and not os.path.islink(full)):
            found.update(dict.fromkeys(_folder(environ, os.path.realpath(name or "."), root, result)))
        elif os.path.lexists(full):
            inner = os.path.relpath(full, root)
            found[full if inner.startswith("../") else inner] = None
        else:
            raise UsageError("there is no such file", code="scan.missing", place=printable(name), hint="git ls-files")
    return _judge(root, list(found), environ, result, options)


def tracked(environ: "Mapping[str, str]", *, options: "Any" = None) -> Result:
    """`--all`: every tracked file, as it stands on the disk."""
    root = _root(os.getcwd())
    result = Result("all")
    git = Git(root, environ)
    listing = git.asked("ls-files", "-s", "-z")
    if listing is None:
        raise NotFound("not inside a git repository", code="repository.missing", hint="zopp scan PATH…")
    return _judge(root, _listed(listing), environ, result, options)


def _listed(listing: bytes) -> "list[str]":
    found: "dict[str, None]" = {}
    for line in listing.split(b"\0"):
        head, tab, path = line.partition(b"\t")
        if tab and head[:6] != SUBMODULE.encode():
            found[path.decode("utf-8", "surrogateescape")] = None
    return list(found)


def _folder(environ: "Mapping[str, str]", folder: str, root: str, result: Result) -> "Iterator[str]":
    inner = os.path.relpath(folder, root)
    git = Git(root, environ)
    listing = None
    if not inner.startswith(".."):
        spec = "." if inner == "." else f":(top,literal){inner}"
        listing = git.asked("ls-files", "-s", "-z", "--", spec)
    if listing:
        yield from _listed(listing)
        return

    def failed(exc: OSError) -> None:
        result.problems.append(Problem(str(exc.filename), f"cannot be read ({exc.strerror})"))

    for place, folders, names in os.walk(folder, onerror=failed):
        folders[:] = sorted(name for name in folders if name != ".git")
        for name in sorted(names):
            full = os.path.join(place, name)
            below = os.path.relpath(full, root)
            yield full if below.startswith("../") else below


def _judge(root: str, names: "list[str]", environ: "Mapping[str, str]", result: Result, options: "Any") -> Result:
    sized: "list[tuple[int, str, str]]" = []
    for name in names:
        try:
            seen = os.lstat(os.path.join(root, name))
        except FileNotFoundError:
            continue  # tracked, and removed from the disk
        except OSError as exc:
            result.problems.append(Problem(name, f"cannot be read ({exc.strerror})"))
            continue
        if stat.S_ISLNK(seen.st_mode):
            sized.append((0, name, LINK))
        elif stat.S_ISREG(seen.st_mode):
            sized.append((seen.st_size, name, "100644"))
        elif not stat.S_ISDIR(seen.st_mode):
            result.problems.append(Problem(name, "is no file"))
    workers = min(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1, 16)
    if workers > 1 and sum(size for size, _, _ in sized) >= _FORK_FROM and len(sized) >= workers:
        _shared(root, sized, environ, result, options, workers)
    else:
        _part(root, sized, environ, result, options)
    return result


def _part(
    root: str, sized: "list[tuple[int, str, str]]", environ: "Mapping[str, str]", result: Result, options: "Any"
) -> None:
    """Judge some files in this process."""
    from zopp.scan import running

    try:
        common = staged.git_folders(environ)[1]
    except ZoppError:
        common = ""
    rules = Rules(DiskTree(root), environ)
    objects = Objects(Git(root, environ))
    guard = running.guard(result, objects, environ, common, rules, options)
    try:
        batch: "list[Item]" = []
        size = 0
        for number, (length, name, mode) in enumerate(sized):
            full = os.path.join(root, name)
            try:
                if mode == LINK:
                    batch.append(Item(name, mode, "", data=os.fsencode(os.readlink(full))))
                elif length > WHOLE:
                    guard.stream(Batch([], [rules], []), Item(name, mode, ""), length, _blocks(full))
                else:
                    with open(full, "rb") as file:
                        batch.append(Item(name, mode, "", data=file.read()))
                    size += length
            except OSError as exc:
                result.problems.append(Problem(name, f"cannot be read ({exc.strerror})"))
            if batch and (size > WHOLE or len(batch) >= 200 or number == len(sized) - 1):
                guard.judge(Batch(batch, [rules], []))
                batch, size = [], 0
        if batch:
            guard.judge(Batch(batch, [rules], []))
    finally:
        objects.close()


def _blocks(path: str) -> "Iterator[bytes]":
    with open(path, "rb") as file:
        while part := file.read(_READ):
            yield part


def _shared(
    root: str,
    sized: "list[tuple[int, str, str]]",
    environ: "Mapping[str, str]",
    result: Result,
    options: "Any",
    workers: int,
) -> None:
    """One forked process a core, each with files of about the same size in all; they answer in JSON."""
    import json

    from zopp.scan.finding import Finding

    parts: "list[list[tuple[int, str, str]]]" = [[] for _ in range(workers)]
    loads = [0] * workers
    for entry in sorted(sized, reverse=True):
        least = loads.index(min(loads))
        parts[least].append(entry)
        loads[least] += entry[0] + 2000
    children: "list[tuple[int, int]]" = []
    for part in parts:
        out_read, out_write = os.pipe()
        child = os.fork()
        if child == 0:
            code = 3
            try:
                os.close(out_read)
                mine = Result(result.mode)
                _part(root, sorted(part, key=lambda entry: entry[1]), environ, mine, options)
                with open(out_write, "wb") as file:
                    file.write(json.dumps(_packed(mine)).encode())
                code = 0
            finally:
                os._exit(code)
        os.close(out_write)
        children.append((child, out_read))
    for child, out in children:
        with open(out, "rb") as file:
            said = file.read()
        status = os.waitpid(child, 0)[1]
        if status != 0 or not said:
            result.problems.append(Problem("(a worker process)", "ended early: the scan is not complete"))
            continue
        found = json.loads(said)
        result.files += found["files"]
        result.bytes += found["bytes"]
        result.streamed += found["streamed"]
        result.own_mode = result.own_mode or found["own_mode"]
        for kind in ("findings", "suppressed"):
            for fields in found[kind]:
                made = Finding(*fields[:6], hint=fields[6], shown=fields[7], commit="")
                made.fingerprint, made.suppressed = fields[8], fields[9]
                getattr(result, kind).append(made)
        result.problems += [Problem(*fields) for fields in found["problems"]]
        result.notes += [note for note in found["notes"] if note not in result.notes]
        result.not_covered += [name for name in found["not_covered"] if name not in result.not_covered]
    unique = {(p.path, p.what): p for p in result.problems}
    result.problems = [unique[key] for key in sorted(unique)]
    result.notes.sort()


def _packed(result: Result) -> "dict[str, Any]":
    """A worker's result as plain data; secrets stay in it."""

    def rows(findings: "list[Any]") -> "list[list[Any]]":
        return [
            [f.check, f.rule, f.path, f.line, f.column, f.what, f.hint, f.shown, f.fingerprint, f.suppressed]
            for f in findings
        ]

    return {
        "files": result.files,
        "bytes": result.bytes,
        "streamed": result.streamed,
        "own_mode": result.own_mode,
        "findings": rows(result.findings),
        "suppressed": rows(result.suppressed),
        "problems": [[p.path, p.what, p.commit] for p in result.problems],
        "notes": result.notes,
        "not_covered": result.not_covered,
    }
