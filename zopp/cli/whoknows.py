"""Show who can read a key or a scope: every principal its files are encrypted to, and since which commit.

Of a brokered environment also who had the present version released by the policy server or made its data key, and who
could have asked and has not; that needs the right to read the audit log.
"""

import argparse

from zopp.cli.context import Context, table
from zopp.cli.parser import add_env, epilog
from zopp.errors import FormatError, NotFound, ZoppError
from zopp.policy import manifest as manifests
from zopp.repo import brokered, exposure, git, layout, subjects, values
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
    told: dict[tuple[str, str], str] = {}
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
        if ws.state.envs[env_scope].kind == "brokered":
            located = None if key is None else values.locate(env, values.parse_key(key))
            here = [row[2] for row in rows if row[0] == people_name(env_scope)]
            told |= _told(ctx, ws, env_scope, here, None if located is None else located[0])
        for name, why in ws.state.left_out(env_scope).items():
            ctx.warn(f"{name} may read {people_name(env_scope)}, which is brokered, but {why}: it is no recipient")
    if ctx.as_json:
        ctx.data(
            [
                {"environment": e, "subject": s, "principal": p, "since": c, "knows": told.get((e, p))}
                for e, s, p, c in rows
            ]
        )
    else:
        for line in table(
            (e, s, p, f"since {c[:12]}" if c else "not committed yet", told.get((e, p), "")) for e, s, p, c in rows
        ):
            ctx.out(line)
        ctx.note("former readers keep what they could read; see: zopp exposure")
    return 0


def _told(ctx: Context, ws: Workspace, scope: str, names: list[str], path: str | None) -> dict[tuple[str, str], str]:
    """(environment, principal) → what the audit log and the manifests say of the present version (S50). Nothing, and a
    warning, where the log cannot be read."""
    from zopp.cli.served import released

    ask = released(ctx)
    versions = exposure.scan(ws, [scope]).versions[scope]
    current = {v for v in versions if v.current and v.brokered and path in (None, v.path)}
    found = {}
    for name in names:
        if name not in ws.state.principals:
            continue  # the server's own key, or break-glass
        try:
            log = [each for each in ask(ws, [name]) if each.scope == scope]
        except ZoppError as exc:
            ctx.warn(f"whom {people_name(scope)} was released to cannot be told: {exc.message}")
            return {}
        got = exposure.reached(versions, [name], log)
        if current & got[exposure.RELEASED]:
            words = "released to them"
        elif current & got[exposure.MADE]:
            words = "made by them"
        else:
            words = "could ask, and has not"
        found[people_name(scope), name] = words
    return found


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
