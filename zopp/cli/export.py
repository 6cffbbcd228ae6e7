"""Write an environment's values in another format. `k8s` is a Secret manifest, `example` has the names only.

--github-env is for a step of a GitHub job: it appends the values to the file in GITHUB_ENV, for the steps that
follow, and first prints the commands that mask them in the log. `zopp run -- COMMAND` keeps them to one step, and is
better.

To a terminal only with --reveal. A file is made 0600, appears whole or not at all, and must be ignored by git.
A value that the format cannot carry is refused by name, never altered.
"""

import argparse
import sys

from zopp.cli import writing
from zopp.cli.context import Context
from zopp.cli.parser import add_env, epilog
from zopp.cli.reading import chosen, open_for_reading
from zopp.errors import UsageError
from zopp.exchange import exporters
from zopp.exchange.scalars import scalar_text
from zopp.repo import values

EXAMPLES = epilog(
    "zopp export --format env -o .env",
    "zopp export -e production --format json | jq .",
    'eval "$(zopp export --format shell)"',
    "zopp export -e production --format k8s --name app-secrets | kubectl apply -f -",
    "zopp export --format example -o .env.example --force",
    "zopp export --only NPM_TOKEN --github-env",
)
_ALIASES = {"dotenv": "env"}
_FORMATS = tuple([form for form in exporters.FORMATS if form != "github-env"])


def configure(parser: argparse.ArgumentParser) -> None:
    """The flags of `zopp export`."""
    parser.add_argument(
        "-f", "--format", choices=(*_FORMATS, "dotenv", "example"), help="default: env; with --json: json"
    )
    parser.add_argument("--only", metavar="NAMES", help="only these names, separated by commas")
    parser.add_argument("--name", metavar="NAME", help="k8s: what the Secret is called (default: PROJECT-ENV)")
    parser.add_argument("--namespace", default="", metavar="NAMESPACE", help="k8s: its namespace (default: none said)")
    parser.add_argument("--github-env", action="store_true", help="append to the file in GITHUB_ENV, and mask")
    writing.add_output(parser)
    add_env(parser)


def run(ctx: Context, args: argparse.Namespace) -> int:
    """Do it."""
    if args.github_env:
        return _github_env(ctx, args)
    asked = args.format or ("json" if ctx.as_json and args.output is None else "env")
    form = _ALIASES.get(asked, asked)
    if form != "k8s" and (args.name or args.namespace):
        raise UsageError("--name and --namespace are for --format k8s")
    if form == "gitlab-env" and not args.force:
        raise UsageError(
            "GitLab keeps dotenv artifacts on its server, for everybody who may download them",
            code="gitlab_env", hint="zopp run --redact -- COMMAND keeps values in the job; if you must, say --force",
        )  # fmt: skip
    if form != "example":
        writing.check_terminal(args)
    ws, env = open_for_reading(ctx, args)
    if form == "example":
        files = [file.sops for file in env.files.values() if file.sops]
        names = {"_".join(map(str, path)): None for file in files for path in file.paths()}
        data = exporters.example((name, "") for name in sorted(chosen(names, args.only, env)))
    else:
        flat = chosen(values.flatten(values.open_all(ws, env, ctx.keyring)), args.only, env)
        name = args.name or f"{env.project}-{env.name}".lower().replace("_", "-")
        texts = {key: scalar_text(value) for key, value in flat.items()}
        data = exporters.export(texts, form, secret=name, namespace=args.namespace)
    writing.write(ctx, args, ws, data, secret=form != "example")
    if ctx.as_json and args.output is not None:
        ctx.data({"file": args.output, "format": form})
    return 0


def _github_env(ctx: Context, args: argparse.Namespace) -> int:
    from zopp.exchange import masking

    target = ctx.env.get("GITHUB_ENV", "")
    if not target:
        raise UsageError("GITHUB_ENV is not set: this is no step of a GitHub job", code="github_env")
    if args.format or args.output or args.name or args.namespace or ctx.as_json:
        raise UsageError("--github-env takes no --format, --output, --name, --namespace or --json")
    if ctx.env.get("GITHUB_ACTIONS") != "true":  # runners may give a step a terminal; they show no mask command
        writing.check_terminal(args)
    ws, env = open_for_reading(ctx, args)
    flat = chosen(values.flatten(values.open_all(ws, env, ctx.keyring)), args.only, env)
    texts = {key: scalar_text(value) for key, value in flat.items()}
    data = exporters.export(texts, "github-env")
    left = masking.patterns(texts.items()).left_out
    if left:
        ctx.warn(f"too short or too common to be masked in the log: {', '.join(left)}")
    # A mask that comes after its value hides nothing.
    sys.stdout.buffer.write(masking.add_masks(texts.items()))
    sys.stdout.buffer.flush()
    try:
        with open(target, "ab") as file:
            file.write(data)
    except OSError as exc:
        raise UsageError(f"cannot be written ({exc.strerror})", code="file", place="GITHUB_ENV") from None
    count = f"{len(texts)} value{'s' * (len(texts) != 1)}"
    ctx.note(f"the steps that follow have {count} of {env.project}/{env.name} in their environment")
    return 0
