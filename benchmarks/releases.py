"""Releases a second on the real server: signed, checked, logged, fsynced, sealed; beside a raw one-row insert.

    python benchmarks/releases.py [--seconds 10] [--clients 64] [--rate N] [--batch N] [--replicas 2]

The server (`zopp server dev`, its own Postgres) is a process of its own; this one is the load: requests are signed
before the clock starts, and each client sends its next one when the answer to the last is there. With --rate the
clients keep to that rate together and latencies count from when a request was due. The ceiling is a one-row insert
with a commit on the same Postgres by pgbench.
"""

import argparse
import asyncio
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.server.live import Office, free_port, stanza, team
from zopp._fast import ed25519_verify
from zopp.keys import signing as keys
from zopp.protocol import messages, release, signing
from zopp_server import dev, embedded, limits, serve as server
from zopp_server.config import Settings

ENV = "api/production"


class Client(asyncio.Protocol):
    """One connection: sends prepared requests one after the other."""

    def __init__(self, work, done) -> None:
        self.work, self.done, self.buffer = work, done, b""
        self.sent, self.wanted = 0.0, -1

    def connection_made(self, transport) -> None:
        self.transport = transport

    def send(self, raw, due) -> None:
        self.sent = due
        self.transport.write(raw)

    def data_received(self, data) -> None:
        self.buffer += data
        while True:
            if self.wanted < 0:
                end = self.buffer.find(b"\r\n\r\n")
                if end < 0:
                    return
                head = self.buffer[:end].lower()
                length = int(re.search(rb"content-length: (\d+)", head).group(1))
                self.status = int(self.buffer[9:12])
                self.wanted = end + 4 + length
            if len(self.buffer) < self.wanted:
                return
            self.buffer, self.wanted = self.buffer[self.wanted :], -1
            self.done(self, self.status, time.perf_counter() - self.sent)

    def connection_lost(self, exc) -> None:
        pass


def prepare(office, member, item_sets, count, path, host):
    """`count` raw HTTP requests, each with a nonce and an idempotency key of its own."""
    raws = []
    for number in range(count):
        request = release.Request(
            ws=office.now.ws, env=ENV, purpose="read", size=0, idem=os.urandom(16),
            items=tuple(item_sets[number % len(item_sets)]),
        )  # fmt: skip
        body = release.build_request(request)
        sent = signing.sign(
            member.key, method="POST", target=office.origin + path, body=body, created=int(time.time()) + 20,
            nonce=os.urandom(16),
        )  # fmt: skip
        head = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in signing.headers(sent))
        raws.append(head.encode() + b"\r\n" + body)
    return raws


async def load(host, ports, raws, clients, rate):
    """(seconds, latencies, statuses)."""
    loop = asyncio.get_running_loop()
    latencies, statuses = [], {}
    finished = loop.create_future()
    queue = iter(raws)
    open_clients = clients
    start = 0.0
    count = 0

    def due_time():
        return start + count / rate if rate else time.perf_counter()

    def following(client):
        nonlocal open_clients, count
        raw = next(queue, None)
        if raw is None:
            open_clients -= 1
            if not open_clients and not finished.done():
                finished.set_result(None)
            return
        due = due_time()
        count += 1
        wait = due - time.perf_counter()
        if wait > 0:
            loop.call_later(wait, client.send, raw, due)
        else:
            client.send(raw, due)

    def done(client, status, seconds):
        latencies.append(seconds)
        statuses[status] = statuses.get(status, 0) + 1
        following(client)

    made = [
        await loop.create_connection(lambda: Client(None, done), host, ports[n % len(ports)]) for n in range(clients)
    ]
    start = time.perf_counter()
    for _, client in made:
        following(client)
    await finished
    seconds = time.perf_counter() - start
    for transport, _ in made:
        transport.close()
    return seconds, latencies, statuses


def cpu(pid):
    """Seconds of CPU a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rss(pid):
    """Resident megabytes of a process."""
    text = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", text).group(1)) / 1024


def ceiling(data, seconds, clients):
    """One-row inserts a second, each committed, on the same Postgres."""
    folder = data / "embedded"
    port = (folder / "postgres" / "postmaster.pid").read_text().splitlines()[3]
    password = json.loads((folder / "passwords.json").read_text())["zopp"]
    bench = embedded.binaries() / "pgbench"
    env = {**os.environ, "PGPASSWORD": password}
    psql = [str(embedded.binaries() / "psql"), "-q", "-h", "127.0.0.1", "-p", port, "-U", "zopp", "zopp"]
    subprocess.run(
        [*psql, "-c", "CREATE TABLE IF NOT EXISTS public.raw (id bigserial, body bytea)"], env=env, check=True
    )
    with tempfile.NamedTemporaryFile("w", suffix=".sql") as script:
        script.write("INSERT INTO public.raw (body) VALUES (decode(repeat('ab', 900), 'hex'));\n")
        script.flush()
        out = subprocess.run(
            [str(bench), "-n", "-h", "127.0.0.1", "-p", port, "-U", "zopp", "-c", str(clients), "-j", "1", "-M",
             "prepared", "-T", str(seconds), "-f", script.name, "zopp"],
            env=env, check=True, capture_output=True, text=True,
        ).stdout  # fmt: skip
    subprocess.run([*psql, "-c", "DROP TABLE public.raw"], env=env, check=True)
    return float(re.search(r"tps = ([\d.]+)", out).group(1))


def verifications():
    """Ed25519 verifications a second on one core: how fast this machine is today."""
    key = keys.generate()
    message = bytes(300)
    signature = key.sign(message)
    begin, count = time.process_time(), 4000
    for _ in range(count):
        assert ed25519_verify(key.public, signature, message)
    return count / (time.process_time() - begin)


def serve(data, port):
    """The server as `zopp server dev` runs it, but for the limits: the load comes from one address and one device."""
    dev.run(data, port, lambda text: None, lambda code: print(code, flush=True), OFF)


OFF = limits.Settings(address_rate=0, principal_rate=0, quota_rate=0)
"""The load comes from one address and one device."""


def beside(data, port):
    """A second server on the database of the one in `data`, with its keys and origin, on a disk folder of its own."""
    folder = data / "embedded"
    database = (folder / "postgres" / "postmaster.pid").read_text().splitlines()[3]
    password = json.loads((folder / "passwords.json").read_text())["zopp_app"]
    own = data / "beside"
    own.mkdir()
    (own / "highwater").write_bytes((data / "highwater").read_bytes())
    settings = Settings(
        database=f"postgresql://zopp_app:{password}@127.0.0.1:{database}/zopp",
        origin=f"http://127.0.0.1:{(data / 'port').read_text().strip()}",
        data=own, kek=data / "kek", log_key=data / "log_key", listen=("127.0.0.1", port), log_level="info",
    )  # fmt: skip
    server.main(settings, limits=OFF)


async def fill(data, office, entries):
    """Bring the workspace's log to so many entries, beside the running server and by its own batcher."""
    from zopp_server import batcher as batching, custody, operate, startup
    from zopp_server.entries import draft
    from zopp_server.workspaces import Workspaces

    folder = data / "embedded"
    port = (folder / "postgres" / "postmaster.pid").read_text().splitlines()[3]
    password = json.loads((folder / "passwords.json").read_text())["zopp_app"]
    url = f"postgresql://zopp_app:{password}@127.0.0.1:{port}/zopp"
    made = batching.Batcher(
        Workspaces(office.origin, custody.load_kek(data / "kek")), custody.load_log_key(data / "log_key"),
        operate._NoMarks(), lambda: startup.connect(url),
    )  # fmt: skip
    made.start()
    size, begin = 4096, time.perf_counter()

    def decide(workspace, context):
        data = {"detail": "filling the log", "event": "load_test"}
        return batching.Decided([
            draft("operator", data, ts=context.now, id=os.urandom(16), outcome="fact", checked=True)
            for _ in range(size)
        ])  # fmt: skip

    for _ in range(entries // size + 1):
        await made.do(batching.Job(office.name, decide, weight=size))
    await made.stop()
    print(f"filled with {(entries // size + 1) * size} entries in {time.perf_counter() - begin:.0f} s", flush=True)


def main():
    """Print one line a figure."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--rate", type=float, default=0)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--guess", type=int, default=1500, help="requests a second to prepare for")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--fill", type=int, default=0, metavar="N", help="entries in the log before the clock starts")
    parser.add_argument("--replicas", type=int, choices=(1, 2), default=1, help="server processes on the one database")
    parser.add_argument("--beside", metavar="DATA", help=argparse.SUPPRESS)
    parser.add_argument("--serve", metavar="DATA", help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        serve(Path(args.serve), args.port)
        return
    if args.beside:
        beside(Path(args.beside), args.port)
        return
    with tempfile.TemporaryDirectory(prefix="zopp-bench-") as folder:
        os.chmod(folder, 0o711)
        data, port = Path(folder, "data"), free_port()
        child = subprocess.Popen(
            [sys.executable, __file__, "--serve", str(data), "--port", str(port)], stdout=subprocess.PIPE, text=True
        )
        children, ports = [child], [port]
        try:
            code = child.stdout.readline().strip()
            time.sleep(2)
            origin = f"http://127.0.0.1:{port}"
            from zopp_server import custody

            office = Office(origin, custody.load_log_key(data / "log_key").public)
            team(office, code)
            recipient = office.brokered("alice-laptop", ENV)
            member = office.members["bob-laptop"]
            if args.replicas == 2:
                ports.append(free_port())
                command = [sys.executable, __file__, "--beside", str(data), "--port", str(ports[1])]
                children.append(subprocess.Popen(command))
                time.sleep(5)
            if args.fill:
                asyncio.run(fill(data, office, args.fill))
            sets = [[stanza(recipient)[0] for _ in range(args.batch)] for _ in range(16)]
            path = f"/v1/releases/{office.name}"
            rates = []
            print(f"server rss before: {rss(child.pid):.0f} MB")
            for _ in range(args.rounds):
                count = int(args.seconds * (args.rate or args.guess / args.batch))
                raws = prepare(office, member, sets, count, path, f"127.0.0.1:{port}")
                before, own = sum(cpu(each.pid) for each in children), time.process_time()
                seconds, latencies, statuses = asyncio.run(load("127.0.0.1", ports, raws, args.clients, args.rate))
                latencies.sort()
                rates.append(count / seconds)
                server_cpu = (sum(cpu(each.pid) for each in children) - before) / count * 1e3
                own_cpu = (time.process_time() - own) / count * 1e3
                print(
                    f"{args.replicas} server{'s' * (args.replicas > 1)}, {args.clients} clients, batch {args.batch}:"
                    f" {count / seconds:.0f} requests/s"
                    f" ({count * args.batch / seconds:.0f} releases/s),"
                    f" p50 {latencies[len(latencies) // 2] * 1e3:.1f} ms,"
                    f" p99 {latencies[int(len(latencies) * 0.99)] * 1e3:.1f} ms, answers {statuses},"
                    f" server rss {rss(child.pid):.0f} MB,"
                    f" CPU a request: server {server_cpu:.2f} ms, load {own_cpu:.2f} ms"
                )
            raw = ceiling(data, max(3, int(args.seconds / 3)), min(args.clients, 64))
            share = statistics.median(rates) * args.batch / raw
            print(f"raw one-row insert: {raw:.0f}/s; releases are {share:.2f} of it")
            speed = verifications()
            share = statistics.median(rates) * args.batch / speed
            print(f"Ed25519 verifications: {speed:.0f}/s on one core; releases are {share:.2f} of it")
            counted = office.members["alice-laptop"].server.get(f"/v1/audit/{office.name}/count")
            print(f"entries in the log: {messages.parse_answer('count', counted.body)['count']}")
            office.close()
        finally:
            for each in children[::-1]:
                each.send_signal(signal.SIGINT)
                each.wait(30)


if __name__ == "__main__":
    main()
