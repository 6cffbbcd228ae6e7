"""Faults under load at any size, with the oracle of the tests: acknowledged releases against the log.

    python benchmarks/faults.py [--seed N] [--seconds S | --faults N] [--clients N]

Each run starts a Postgres and a server of its own, kills, cuts, freezes and blackholes them while clients read, and
at the end compares everything that was acknowledged with the log, whose tree is made again and judged by the replay.
docs/reliability.md has the figures.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.server.faults import chaos


def main() -> int:
    """One run, one report."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=0)
    parser.add_argument("--faults", type=int, default=0)
    parser.add_argument("--clients", type=int, default=6)
    args = parser.parse_args()
    made = chaos(args.seed, faults=args.faults, seconds=args.seconds or 60, clients=args.clients)
    verdict = made.verdict
    print(f"seed {made.seed}: {sum(made.faults.values())} faults in {made.seconds:.0f} s: {dict(made.faults)}")
    print(f"acknowledged {verdict.acked}, entries that say yes {verdict.allowed}, log {verdict.size}")
    print(f"refused: {dict(made.refused)}; slowest request {made.slowest:.1f} s")
    print(f"findings: {verdict.findings or 'none'}")
    return 1 if verdict.findings else 0


if __name__ == "__main__":
    sys.exit(main())
