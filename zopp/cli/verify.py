"""Check everything that needs no key: policy log, manifests, files, recipients, data keys, git's settings.

One line a finding. Exit 0: all holds. 1: something does not. 3: it could not be told, for example because this
clone is not pinned.
"""

import argparse

from zopp.cli.context import Context
from zopp.cli.parser import epilog
from zopp.printable import printable
from zopp.repo.verify import verify

EXAMPLES = epilog("zopp verify", "zopp verify --json --require-latest     in CI on a side branch")


def configure(parser: argparse.ArgumentParser) -> None:
    """The flags of `zopp verify`."""
    parser.add_argument("--require-latest", action="store_true", help="fail on a state older than what was seen")


def run(ctx: Context, args: argparse.Namespace) -> int:
    """Do it."""
    report = verify(ctx.cwd, ctx.env, require_latest=args.require_latest)
    if ctx.as_json:
        ctx.data(
            {
                "ok": report.exit_code == 0,
                "exit_code": report.exit_code,
                "statements": report.statements,
                "environments": report.environments,
                "files": report.files,
                "findings": [
                    {
                        "severity": f.severity,
                        "code": f.code,
                        "rule": f.rule or None,
                        "place": f.place,
                        "message": f.message,
                    }
                    for f in report.findings
                ],
            }
        )
        return report.exit_code
    for finding in report.findings:
        place = f"{printable(finding.place)}: " if finding.place else ""
        ctx.out(f"{finding.severity}: {place}{finding.message} [{finding.code}]")
    found = {"statement": report.statements, "environment": report.environments, "file": report.files}
    counts = ", ".join(f"{count} {name}{'s' * (count != 1)}" for name, count in found.items())
    ctx.out({0: "ok: ", 1: "failed: ", 3: "could not tell: "}[report.exit_code] + counts)
    return report.exit_code
