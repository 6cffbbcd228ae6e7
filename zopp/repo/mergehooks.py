"""The two hooks with which a plain `git merge` finishes by itself (review-and-ci.md §1.3, §2 rule 9).

`pre-merge-commit` signs what the driver merged from two verified sides, and nothing else, with a key that needs no
asking; but git wrote the commit's tree before it ran. So `post-merge` exchanges the fresh commit for one with the
staged tree, the same parents, author and message.
"""

from collections.abc import Mapping

from zopp.errors import IntegrityError, NotFound
from zopp.repo import git, journal, layout, mergerecord, mergework, revision
from zopp.repo.environment import people_name
from zopp.repo.layout import Checkout
from zopp.repo.mergerecord import Record
from zopp.repo.mergework import Work
from zopp.repo.operation import Operation
from zopp.repo.unlock import Keyring


def pre_merge_commit(checkout: Checkout, env: Mapping[str, str], keyring: Keyring) -> Work | None:
    """Sign and stage; None where there is nothing of zopp's to sign. A ZoppError stops git before it commits."""
    root = checkout.root
    head = git.resolve(root, "HEAD")
    named = [name.removeprefix("GITHEAD_") for name in env if name.startswith("GITHEAD_")]
    theirs = git.resolve(root, named[0]) if len(named) == 1 else next(iter(git.merge_heads(checkout.git_dir)), None)
    if head is None or git.show(root, "HEAD", layout.POLICY) is None:
        return None
    if theirs is None or len(named) > 1:
        raise IntegrityError("git merges several branches at once", code="merge.octopus", hint="merge them one by one")
    changed = git.run(root, "diff", "--name-only", "-z", head, theirs, "--", ".zopp").stdout
    if not changed:
        return None
    op = Operation("merge", head, theirs, revision.merge_base(root, head, theirs))
    with journal.settled(checkout):
        try:
            work = mergework.prepare(checkout, env, root, op, {}, keyring)
        except NotFound as exc:
            if exc.code == "workspace.missing":
                return None
            raise
        if work.conflicts():
            raise IntegrityError("is in conflict", code="merge.conflict", hint="zopp resolve")
        for plan in work.plans:
            if plan.mended:
                raise IntegrityError(
                    f"{people_name(plan.scope)} comes from one side as it is, and the policy of the other asks for "
                    "other readers or a new data key; no hook decides that",
                    code="merge.mend",
                    hint="zopp merge --continue",
                )
        mergework.check_untouched(work, journaled=True)
        # Also where no manifest is to be signed: zopp's block in .sops.yaml follows from both sides' files.
        paths = mergework.write(work)
        mergework.stage(work, paths, env)
        mergework.check_written(work, root, env)
        work.record.tree = git.run(root, "write-tree").stdout.decode().strip()
        mergerecord.save(checkout, work.record)
    return work


def exchange(checkout: Checkout, env: Mapping[str, str]) -> str | None:
    """After the merge: put the signed tree into the fresh commit; its new id, None where nothing is to be done."""
    record = mergerecord.load(checkout)
    if record is None:
        return None
    root = checkout.root
    head = git.resolve(root, "HEAD")
    if head is None or git.parents(root, head) != [record.ours, record.theirs]:
        return None  # another commit than the one that the hook signed for
    mergerecord.forget(checkout)
    if record.tree is None or git.run(root, "rev-parse", "HEAD^{tree}").stdout.decode().strip() == record.tree:
        return None
    made = _with_tree(root, head, record, env)
    git.run(root, "update-ref", "-m", "zopp: the merge with its signed manifests", "HEAD", made, head, environ=env)
    return made


def _with_tree(root: str, head: str, record: Record, env: Mapping[str, str]) -> str:
    """The same commit with another tree: byte for byte otherwise, or where it is signed, signed anew."""
    raw = git.run(root, "cat-file", "commit", head).stdout
    fields, _, message = raw.partition(b"\n\n")
    lines = fields.split(b"\n")
    assert record.tree is not None
    if not any(line.startswith((b"gpgsig ", b"gpgsig-sha256 ")) for line in lines):
        lines[0] = b"tree " + record.tree.encode()
        data = b"\n".join(lines) + b"\n\n" + message
        return git.run(root, "hash-object", "-t", "commit", "-w", "--stdin", data=data).stdout.decode().strip()
    author = next(line for line in lines if line.startswith(b"author ")).decode("utf-8", "surrogateescape")
    name, _, rest = author.removeprefix("author ").partition(" <")
    mail, _, when = rest.partition("> ")
    environ = {**env, "GIT_AUTHOR_NAME": name, "GIT_AUTHOR_EMAIL": mail, "GIT_AUTHOR_DATE": when}
    done = git.run(
        root, "commit-tree", "-S", "-p", record.ours, "-p", record.theirs, "-F", "-", record.tree,
        data=message, environ=environ,
    )  # fmt: skip
    return done.stdout.decode().strip()
