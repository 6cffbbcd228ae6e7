"""Fill the repository in the current folder for benchmarks: `fill.py statements N` or `fill.py files N`."""

import os
import sys

from zopp import sopsfile
from zopp.cli.context import Context
from zopp.repo.clock import timestamp
from zopp.repo.environment import open_environment


def statements(ctx: Context, count: int) -> None:
    """Make and delete groups until the log has about `count` lines."""
    with ctx.changing() as draft:
        number = 0
        while draft.state.seq < count - 1:
            draft.statement("group.create", {"group": f"group-{number}"})
            number += 1
        draft.commit()


def files(ctx: Context, count: int) -> None:
    """`count` files of ten keys in staging."""
    names = [f"secrets/many-{number:04}.yaml" for number in range(count)]
    with ctx.changing() as draft:
        env = open_environment(draft.ws, "api/staging")
        for number, name in enumerate(names):
            key = os.urandom(32)
            tree = sopsfile.Tree([sopsfile.from_plain({f"F{number}_K{k}": f"value {k}" for k in range(10)})])
            groups = draft.wrap(env, key).groups
            data = sopsfile.encrypt(tree, "yaml", key, groups, lastmodified=timestamp(draft.now))
            draft.secrets(env, name, data, key, made=True)
        draft.commit()


if __name__ == "__main__":
    what, how_many = sys.argv[1], int(sys.argv[2])
    {"statements": statements, "files": files}[what](Context(os.environ, os.getcwd()), how_many)
