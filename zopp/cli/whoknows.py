"""Show who can read a key or a scope: every principal its files are encrypted to, and since which commit."""

import argparse

from zopp.cli.context import Context, table
from zopp.cli.parser import add_env, epilog
from zopp.errors import FormatError, NotFound, ZoppError
from zopp.policy import manifest as manifests
from zopp.repo import brokered, git, layout, subjects, values
from zopp.repo.environment import open_environment, people_name, require_readable, scope_of
from zopp.repo.workspace import Workspace

EXAMPLES = epilog("zopp whoknows DATABASE_URL -e production", "zopp whoknows api/production")


def configure(parser: argparse.ArgumentParser) -> None:
    """The flags of `zopp whoknows`."""
    parser.add_argument("what", metavar="KEY|SCOPE", help="a key of -e ENV, or PROJECT/ENV, PROJECT, WORKSPACE")
    add_env(parser)


def run(ctx: Context, args: argparse.Namespace) -> int:
    """Do it."""
    ws = ctx.workspace()
    inside, key = _meant(ws, args)
    rows = []
    for env_scope in inside:
        env = open_environment(ws, env_scope)
        require_readable(env)  # a forged manifest would hide a reader, or name a false one
        if env.manifest is None:
            continue
        if key is not None and values.locate(env, values.parse_key(key)) is None:
            raise values.missing(env, values.parse_key(key))
        names = brokered.describe(ws.state, env_scope)
        for recipient in sorted({r for group in env.manifest.groups for r in group}):
            name = names.get(recipient, recipient)
            user = ws.state.principals[name].user if name in ws.state.principals else None
            rows.append((people_name(env_scope), user or name, name, _since(ws, env_scope, recipient)))
        for name, why in ws.state.left_out(env_scope).items():
            ctx.warn(f"{name} may read {people_name(env_scope)}, which is brokered, but {why}: it is no recipient")
    if ctx.as_json:
        ctx.data([{"environment": e, "subject": s, "principal": p, "since": c} for e, s, p, c in rows])
    else:
        for line in table((e, s, p, f"since {c[:12]}" if c else "not committed yet") for e, s, p, c in rows):
            ctx.out(line)
        ctx.note("former readers keep what they could read; see: zopp exposure")
    return 0


def _meant(ws: Workspace, args: argparse.Namespace) -> tuple[list[str], str | None]:
    """The environments to look at, and the key if a key is meant: a scope wins over a key of the same name."""
    try:
        scope = subjects.scope(ws.state, args.what)
    except (NotFound, FormatError):
        if "/" in args.what:
            raise
        return [scope_of(ws, args.env, args.project)], args.what
    if scope.kind == "env":
        return [scope.name], None
    return list(ws.state.envs if scope.kind == "workspace" else ws.state.projects[scope.name]), None


def _since(ws: Workspace, scope: str, recipient: str) -> str:
    """The oldest commit of HEAD's unbroken last run in which the manifest lists `recipient`."""
    if git.resolve(ws.root, "HEAD") is None:
        return ""
    history = git.versions(ws.root, layout.manifest_path(scope), ["HEAD"])
    bodies = dict(git.blobs(ws.root, [blob for _, blob in history]))
    since = ""
    for commit, blob in history:
        try:
            listed = any(recipient in group for group in manifests.parse(bodies[blob]).groups)
        except ZoppError:
            break  # an unreadable version ends what can be told
        if not listed:
            break
        since = commit
    return since
