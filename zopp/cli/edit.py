"""Edit an environment's file in your editor. Unchanged values keep their ciphertext; no change writes nothing.

The plaintext lies in a 0600 file in memory-backed storage where there is one, and goes when the editor ends. Your
editor's own swap and undo files are outside zopp's reach.
"""

import argparse
import os
import shlex
import shutil
import subprocess
import tempfile

from zopp import sopsfile
from zopp.cli.changing import Change, report_change
from zopp.cli.context import Context
from zopp.cli.parser import add_change, add_env, epilog
from zopp.errors import NotFound, UsageError, ZoppError
from zopp.exchange.names import check_name
from zopp.repo import exposure, values
from zopp.repo.clock import timestamp
from zopp.repo.environment import open_environment, require_changeable, scope_of
from zopp.repo.unlock import data_key
from zopp.repo.values import Edited, leaf_map
from zopp.sopsfile import Tree

EXAMPLES = epilog("zopp edit", "zopp edit -e production -m 'rotate the API keys'")


def configure(parser: argparse.ArgumentParser) -> None:
    """The flags of `zopp edit`."""
    parser.add_argument("--file", metavar="PATH", help="which file of the environment (default: the first)")
    parser.add_argument("--clear", action="store_true", help="allow values that the file leaves unencrypted")
    add_env(parser)
    add_change(parser)


def run(ctx: Context, args: argparse.Namespace) -> int:
    """Do it."""
    with ctx.changing(on_old_base=args.on_old_base) as draft:
        env = open_environment(draft.ws, scope_of(draft.ws, args.env, args.project), history=True)
        require_changeable(env, on_old_base=args.on_old_base)
        path = values.target_file(draft.ws, env, args.file)
        if path not in env.files:
            raise NotFound(
                f"{env.project}/{env.name} has no file yet", code="file.missing", hint="start it with: zopp set KEY"
            )
        listed = env.files[path]
        assert listed.sops is not None
        key = data_key(draft.ws, env, listed, ctx.keyring, "edit")
        before = listed.sops.decrypt(key)
        after = _edited(ctx, path, listed.sops.fmt, before)
        edited = Edited({})
        if after is not None and not sopsfile.same(after.documents, before.documents):
            then, now = leaf_map(before), leaf_map(after)
            changed = sorted({exposure.dotted(k[1]) for k in then.keys() | now.keys() if then.get(k) != now.get(k)})
            for _, leaf in now.keys() - then.keys():
                check_name("_".join(map(str, leaf)))
            data = sopsfile.replace_tree(
                listed.sops, key, after, lastmodified=timestamp(draft.now), allow_clear=args.clear
            )
            edited.changed[path] = changed or ["comments or order"]
            draft.secrets(env, path, data, key, made=False)
            for name, body in exposure.mark_changed(draft.ws, env.scope, {path: changed}).items():
                draft.put(name, body)
        return report_change(ctx, args, draft, env, edited, Change("edited", path))


def _editor(env: dict[str, str]) -> list[str]:
    for name in ("ZOPP_EDITOR", "SOPS_EDITOR", "VISUAL", "EDITOR"):
        if env.get(name):
            return shlex.split(env[name])
    for name in ("vim", "nano", "vi"):
        if found := shutil.which(name):
            return [found]
    raise UsageError("no editor found", code="editor", hint="set EDITOR")


def _private_folder() -> str:
    """A fresh 0700 folder, in memory where the system has such a place."""
    for base in (os.environ.get("XDG_RUNTIME_DIR", ""), "/dev/shm"):  # noqa: S108 - mkdtemp makes it 0700 and unguessable
        if base and os.path.isdir(base) and os.access(base, os.W_OK):
            return tempfile.mkdtemp(prefix="zopp-", dir=base)
    return tempfile.mkdtemp(prefix="zopp-")


def _edited(ctx: Context, path: str, fmt: str, before: Tree) -> Tree | None:
    """What the editor left, parsed; None if it left the text alone. Asks again while it does not parse."""
    command = _editor(dict(ctx.env))
    folder = _private_folder()
    file = os.path.join(folder, os.path.basename(path))
    text = sopsfile.dump_plain(before, fmt)
    try:
        fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(fd, "wb") as out:
            out.write(text)
        while True:
            try:
                done = subprocess.run([*command, file], check=False)
            except OSError as exc:
                raise UsageError(
                    f"the editor cannot be started ({exc.strerror})", code="editor", place=command[0]
                ) from None
            if done.returncode != 0:
                raise UsageError(f"the editor ended with code {done.returncode}; nothing written", code="editor")
            with open(file, "rb") as back:
                new = back.read()
            if new == text:
                return None
            try:
                return sopsfile.load_plain(new, fmt)
            except ZoppError as exc:
                # A loop that nobody answers would call the editor for ever.
                if not ctx.interactive():
                    raise
                ctx.warn(f"it does not parse: {exc}")
                if not ctx.confirm("edit again?", otherwise=""):
                    raise UsageError("nothing written", code="editor") from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)
