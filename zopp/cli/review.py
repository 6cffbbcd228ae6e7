"""Judge a range of commits for a pull request: secrets, recipients, policy, and what guards them. Needs no key.

Anchor, settings and policy are those of BASE; the branch's policy log counts if it verifiably extends it. Nothing is
checked out. Exit 0: clean. 1: blocked. 3: it could not be told, for example because history is missing or this clone is
not pinned.
"""

import argparse
import json
import os

from zopp.cli import sentences
from zopp.cli.context import Context
from zopp.cli.parser import epilog
from zopp.errors import Unknown, UsageError
from zopp.policy import canonical
from zopp.policy.statement import Statement
from zopp.repo import layout
from zopp.review.model import SCHEMA, Review

EXAMPLES = epilog(
    "zopp review                              this branch against origin's default branch",
    "zopp review origin/main..HEAD --markdown > comment.md",
    "zopp review main..topic --keyed          also what only a key tells",
    "zopp review BASE..HEAD --sarif out.sarif --json",
)


def configure(parser: argparse.ArgumentParser) -> None:
    """The flags of `zopp review`."""
    parser.add_argument(
        "range", nargs="?", metavar="BASE..HEAD", help="default: origin's default branch (or main) to HEAD"
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--markdown", action="store_true", help="as the comment on a pull request")
    parser.add_argument("--sarif", metavar="FILE", help="write SARIF 2.1.0 there as well")
    parser.add_argument("--comment", metavar="FILE", help="write the comment on a pull request there as well")
    parser.add_argument(
        "--strict-schema", action="store_true", help="a key that no example or schema file knows blocks"
    )
    parser.add_argument("--keyed", action="store_true", help="decrypt both sides and tell classes of change (a read)")


def run(ctx: Context, args: argparse.Namespace) -> int:
    """Do it."""
    if args.markdown and ctx.as_json:
        raise UsageError("--markdown and --json are two forms of one answer", code="usage", hint="choose one")
    from zopp.review import judging, sides

    checkout = layout.find_checkout(ctx.cwd)
    base, head = _range(args.range) if args.range else (sides.default_base(checkout.root), "HEAD")
    opened = sides.open_sides(ctx.cwd, ctx.env, (base, head))
    review = judging.review(opened, strict_schema=args.strict_schema)
    if args.keyed:
        from zopp.review import keyed

        keyed.add(opened, ctx.keyring)
    if args.sarif:
        from zopp.review import sarif

        _write(os.path.join(ctx.cwd, args.sarif), json.dumps(sarif.render(review), indent=1) + "\n")
    if args.comment:
        from zopp.review import markdown

        _write(os.path.join(ctx.cwd, args.comment), markdown.render(review, sentences.words))
    if ctx.as_json:
        ctx.data(as_json(review))
    elif args.markdown:
        from zopp.review import markdown

        ctx.out(markdown.render(review, sentences.words).rstrip("\n"))
    else:
        from zopp.review import text

        for line in text.lines(review, sentences.words):
            ctx.out(line)
    return review.exit_code


def as_json(review: Review) -> dict[str, object]:
    """The answer of --json: versioned, names and classes only."""
    return {
        "schema": SCHEMA,
        "verdict": review.verdict,
        "exit_code": review.exit_code,
        "tier": 1 if review.keyed else 0,
        "base": review.base,
        "head": review.head,
        "merge_base": review.fork,
        "behind": review.behind,
        "workspace": review.workspace,
        "statements": [_statement(each) for each in review.statements],
        "environments": [env.json() for env in review.environments],
        "remarks": [remark.json() for remark in review.remarks],
    }


def _statement(each: Statement) -> dict[str, object]:
    return {
        "seq": each.seq, "by": each.by, "at": each.at, "type": each.type, "words": sentences.words(each),
        "data": canonical.thaw(each.data),
    }  # fmt: skip


def _range(text: str) -> tuple[str, str]:
    base, dots, head = text.partition("...")
    if not dots:
        base, dots, head = text.partition("..")
    if not dots or not base:
        raise UsageError(f"{text} is no range", code="usage", hint="say BASE..HEAD, for example origin/main..HEAD")
    return base, head or "HEAD"


def _write(path: str, text: str) -> None:
    try:
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as exc:
        raise Unknown(f"cannot be written ({exc.strerror})", code="file.unwritable", place=path) from None
