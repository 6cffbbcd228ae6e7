"""Five of the eight .env parsers of importers.md §3.1, as programs: python-dotenv, npm dotenv, dotenvx, node, bash.

Each takes a file's bytes and gives names and values, or None where it fails. Their environment is empty but for PATH.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests import tools

Reading = dict[str, str] | None
EMPTY = {"PATH": os.environ["PATH"]}

# One answer a line: many files cost one start of node.
SERVER = """
const fs = require('fs'), util = require('util'), readline = require('readline')
const dotenv = require(process.argv[1] + '/dotenv'), dotenvx = require(process.argv[1] + '/@dotenvx/dotenvx')
const parsers = { dotenv: dotenv.parse, dotenvx: src => dotenvx.parse(src, { processEnv: {} }), node: util.parseEnv }
readline.createInterface({ input: process.stdin }).on('line', line => {
  const { parser, text } = JSON.parse(line)
  let answer = null
  try { answer = { ...parsers[parser](text) } } catch (error) { answer = null }
  process.stdout.write(JSON.stringify(answer) + '\\n')
})
"""


class Node:
    """The three that run in node, as one child."""

    def __init__(self) -> None:
        modules = tools.folder() / "node_modules"
        self.child = subprocess.Popen(
            [str(tools.node()), "-e", SERVER, str(modules)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=EMPTY
        )

    def ask(self, parser: str, data: bytes) -> Reading:
        assert self.child.stdin is not None and self.child.stdout is not None
        self.child.stdin.write(json.dumps({"parser": parser, "text": data.decode()}).encode() + b"\n")
        self.child.stdin.flush()
        answer: Reading = json.loads(self.child.stdout.readline())
        return answer

    def close(self) -> None:
        assert self.child.stdin is not None and self.child.stdout is not None
        self.child.stdin.close()
        self.child.wait(timeout=30)
        self.child.stdout.close()


PYTHON = """
import io, json, logging, sys
from dotenv import dotenv_values
logging.disable(logging.CRITICAL)
for line in sys.stdin:
    found = dotenv_values(stream=io.StringIO(json.loads(line), newline=""))
    print(json.dumps({name: value for name, value in found.items() if value is not None}), flush=True)
"""


class Python:
    """python-dotenv in a child whose environment is empty, as it expands names from there."""

    def __init__(self) -> None:
        self.child = subprocess.Popen(
            [sys.executable, "-c", PYTHON], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={}
        )

    def ask(self, data: bytes) -> Reading:
        assert self.child.stdin is not None and self.child.stdout is not None
        self.child.stdin.write(json.dumps(data.decode()).encode() + b"\n")
        self.child.stdin.flush()
        answer: Reading = json.loads(self.child.stdout.readline())
        return answer

    def close(self) -> None:
        assert self.child.stdin is not None and self.child.stdout is not None
        self.child.stdin.close()
        self.child.wait(timeout=30)
        self.child.stdout.close()


_OWN = {"PWD", "SHLVL", "_", "OLDPWD", "BASHOPTS"}


def bash(path: Path) -> Reading:
    """What a file that was sourced leaves in the environment; None if bash complains."""
    done = subprocess.run(
        ["bash", "--norc", "-c", 'set -aeu; . "$1"; env -0', "bash", str(path)], capture_output=True, env=EMPTY,
        check=False, timeout=30,
    )  # fmt: skip
    if done.returncode != 0 or done.stderr:
        return None
    pairs = [part.partition(b"=")[::2] for part in done.stdout.split(b"\0") if part]
    return {name.decode(): value.decode() for name, value in pairs if name.decode() not in _OWN | EMPTY.keys()}


def command(argv: list[str], parse: Callable[[bytes], Reading]) -> Reading:
    """One run of a command line that prints JSON."""
    done = subprocess.run(argv, capture_output=True, env={**EMPTY, "HOME": "/nonexistent"}, check=False, timeout=60)
    return parse(done.stdout) if done.returncode == 0 else None


def dotenvx(path: Path) -> Reading:
    """The dotenvx command line on one file."""
    return command([*tools.dotenvx(), "get", "-f", str(path)], json.loads)


def node(path: Path) -> Reading:
    """`node --env-file` on one file."""
    script = "process.stdout.write(JSON.stringify(process.env))"
    found = command([str(tools.node()), f"--env-file={path}", "-e", script], json.loads)
    return None if found is None else {name: value for name, value in found.items() if name not in ("PATH", "HOME")}
