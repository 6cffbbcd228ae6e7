"""How many policy statements a second are parsed, verified and folded.

    python benchmarks/policy_fold.py [COUNT …]          default: 1000 10000

Makes a log of a plausible workspace (people with two devices, groups, projects of five environments, bindings set and
removed), then folds it from bytes. Prints statements/s: best of five, wall time. The same with signatures left out
shows what parsing and folding cost.
"""

import hashlib
import random
import sys
import time

from zopp import _fast
from zopp.policy import canonical, log, requests, statement
from zopp.policy.apply import step
from zopp.policy.tables import Tables

CHARSET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"


def polymod(values):
    check = 1
    for value in values:
        top = check >> 25
        check = (check & 0x1FFFFFF) << 5 ^ value
        for i, g in enumerate((0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)):
            check ^= g if top >> i & 1 else 0
    return check


def recipient(label):
    raw = bytearray(hashlib.sha256(label.encode()).digest())
    raw[31] &= 0x3F
    number = int.from_bytes(raw, "big") << 4
    data = [number >> 5 * i & 31 for i in range(51, -1, -1)]
    head = [ord(c) >> 5 for c in "age"] + [0] + [ord(c) & 31 for c in "age"]
    check = polymod([*head, *data, 0, 0, 0, 0, 0, 0]) ^ 1
    return "age1" + "".join(CHARSET[v] for v in [*data, *(check >> 5 * (5 - i) & 31 for i in range(6))])


class Maker:
    """Writes lines; folds without verifying, only to know the next header."""

    def __init__(self):
        self.t = Tables()
        self.lines = []
        self.keys = {}
        self.n = 0
        key = self.key("root")
        self.add(
            "genesis",
            {
                "workspace": "acme", "salt": canonical.b64(b"s" * 32), "user": "alice", "email_tag": None,
                "principal": "root", "key": canonical.b64(key.public_key().public_bytes_raw()),
                "recipient": recipient("root"),
            },
        )  # fmt: skip

    def key(self, name):
        if name not in self.keys:
            self.keys[name] = _fast.ed25519_private(hashlib.sha256(name.encode()).digest())
        return self.keys[name]

    def add(self, type, data):
        seq = len(self.t.hashes)
        prev = self.t.hashes[-1] if seq else None
        policy = statement.draft(type, data, ws=self.t.ws or None, seq=seq, prev=prev, at=1000 + seq, by="root")
        line = statement.seal(policy, [self.key("root").sign(statement.to_sign(policy))])
        step(self.t, statement.parse(line), [])
        self.lines.append(line)

    def enrol(self, name, user):
        self.n += 1
        key = self.key(name)
        public = key.public_key().public_bytes_raw()
        raw = requests.draft(
            ws=self.t.ws, name=name, user=user, key=public, recipient=recipient(name),
            id=hashlib.sha256(name.encode()).digest()[:16], not_after=10**9,
        )  # fmt: skip
        proof = canonical.b64(key.sign(requests.to_sign(raw)))
        data = {"cap": None, "proof": proof, "request": canonical.decode(raw), "vouch": None}
        self.add("principal.enrol", data)


def make(count):
    rng = random.Random(7)
    m = Maker()
    users = max(4, count // 20)
    projects = max(2, min(40, count // 60))
    for p in range(projects):
        m.add("project.create", {"project": f"project-{p}"})
        for e in range(5):
            m.add("env.create", {"env": f"project-{p}/env-{e}", "kind": "direct", "protected": e == 4})
    groups = [f"group-{g}" for g in range(max(2, users // 10))]
    for g in groups:
        m.add("group.create", {"group": g})
        m.add("binding.set", {"role": "write", "scope": {"project": f"project-{rng.randrange(projects)}"},
                              "subject": {"group": g}})  # fmt: skip
    for u in range(users):
        m.add("user.add", {"user": f"user-{u}", "email_tag": None})
        for d in range(2):
            m.enrol(f"user-{u}-{d}", f"user-{u}")
        m.add("group.member.add", {"group": rng.choice(groups), "member": {"user": f"user-{u}"}})
    roles = ("read", "write", "admin")
    while len(m.lines) < count:
        p = rng.randrange(projects)
        scope = {"project": f"project-{p}"} if rng.random() < 0.3 else {"env": f"project-{p}/env-{rng.randrange(5)}"}
        subject = f"user-{rng.randrange(users)}"
        have = m.t.bind.get(next(iter(scope.values())), {}).get(subject)
        if have and rng.random() < 0.5:
            m.add("binding.remove", {"scope": scope, "subject": {"user": subject}})
        else:
            role = rng.choice([r for i, r in enumerate(roles, 1) if i != have])
            m.add("binding.set", {"role": role, "scope": scope, "subject": {"user": subject}})
    return b"".join(line + b"\n" for line in m.lines[:count])


def best(work, times=5):
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return min(taken)


def dry(data):
    tables = Tables()
    for line in log.split(data):
        step(tables, statement.parse(line), [])


def main():
    for count in [int(arg) for arg in sys.argv[1:]] or [1000, 10000]:
        data = make(count)
        verified, plain = best(lambda: log.fold(data)), best(lambda: dry(data), 3)  # noqa: B023
        parse = best(lambda: [statement.parse(line) for line in log.split(data)], 3)  # noqa: B023
        print(f"{count:6d} statements: {count / verified:8.0f}/s verified ({verified * 1e3:.0f} ms), "
              f"{count / plain:8.0f}/s without signatures, {count / parse:8.0f}/s parsed only")  # fmt: skip


if __name__ == "__main__":
    main()
