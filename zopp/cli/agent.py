"""Answer stock sops on a socket of your own: a key service that opens the server's half of brokered files.

Runs in the foreground. Put the printed address into SOPS_KEYSERVICE, or after `sops VERB --keyservice`. Faster than
age-plugin-zopp where many readers stand before you. Needs the extra zopp[agent].
"""

import argparse
import os
import signal
import threading

from zopp.cli.context import Context
from zopp.cli.parser import epilog

EXAMPLES = epilog(
    "zopp agent", "SOPS_KEYSERVICE=unix:///run/user/1000/zopp/agent.sock sops decrypt secrets/production.yaml"
)


def configure(parser: argparse.ArgumentParser) -> None:
    """The flags of `zopp agent`."""
    parser.add_argument("--socket", metavar="PATH", help="where to listen, in a folder that is yours alone")


def run(ctx: Context, args: argparse.Namespace) -> int:
    """Serve until interrupted."""
    from zopp.client import agent

    path = os.path.join(ctx.cwd, args.socket) if args.socket else agent.socket_path(ctx.env)
    agent.prepare(path)
    serving = agent.Agent(ctx.cwd, ctx.env, ctx.passphrase)
    serving.warm()
    serving.start(path)
    over = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: over.set())
    address = f"unix://{path}"
    if ctx.as_json:
        ctx.data({"keyservice": address, "pid": os.getpid()})
    else:
        ctx.out(address)
        ctx.note("set SOPS_KEYSERVICE to this; ctrl-C ends it")
    ctx.flush()
    over.wait()
    serving.stop()
    return 0
