"""Findings as text, JSON and SARIF (spec guard 10). No form holds a value, a length, a suffix or an unkeyed hash.

All three are deterministic: the same findings in the same order, and no time.
"""

from zopp.printable import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from zopp.scan.finding import Finding, Problem, Result

SCHEMA = 1
_RED, _BOLD, _PLAIN = "\x1b[31m", "\x1b[1m", "\x1b[0m"


def ordered(findings: "list[Finding]") -> "list[Finding]":
    """By commit in the order of discovery, then by place."""
    rank: "dict[str, int]" = {}
    for finding in findings:
        rank.setdefault(finding.commit, len(rank))
    return sorted(findings, key=lambda f: (rank[f.commit], f.path, f.line, f.column, f.rule, f.what))


def _where(finding: "Finding") -> str:
    place = f"{printable(finding.path)}:{finding.line}:{finding.column}"
    return f"{finding.commit[:12]}:{place}" if finding.commit else place


def text(result: "Result", *, color: bool = False) -> str:
    """For people: a finding a line, its hint below; problems; one line that sums up. Findings of the same file and hint
    share the hint."""
    bold, red, plain = (_BOLD, _RED, _PLAIN) if color else ("", "", "")
    lines = []
    findings = ordered(result.findings)
    for number, finding in enumerate(findings):
        shown = f" ({finding.shown})" if finding.shown else ""
        lines.append(f"{bold}{_where(finding)}:{plain} {red}{finding.rule}{plain}: {finding.what}{shown}")
        after = findings[number + 1] if number + 1 < len(findings) else None
        if finding.hint and (after is None or (after.hint, after.path) != (finding.hint, finding.path)):
            lines.append(f"    {finding.hint}")
    for problem in result.problems:
        lines.append(f"{bold}{_problem_place(problem)}:{plain} could not be told: {problem.what}")
    for finding in ordered(result.suppressed):
        lines.append(f"{_where(finding)}: {finding.rule}: allowed by {finding.suppressed}")
    return "\n".join([*lines, summary(result)]) + "\n"


def _problem_place(problem: "Problem") -> str:
    path = printable(problem.path)
    return f"{problem.commit[:12]}:{path}" if problem.commit else path


def summary(result: "Result") -> str:
    """What was judged, and what came of it."""
    found, odd, out = len(result.findings), len(result.problems), len(result.suppressed)
    judged = f"{result.files} file{'s' * (result.files != 1)}, {_size(result.bytes)}"
    if result.streamed:
        judged += f" ({result.streamed} of them over 4 MB, searched in blocks)"
    if result.commits:
        judged = f"{result.commits} commit{'s' * (result.commits != 1)}, {judged}"
    if not result.files and not result.commits:
        judged = "nothing to judge: " + {"staged": "nothing is staged", "paths": "no file"}.get(
            result.mode, "no change"
        )
    parts = [f"{found} finding{'s' * (found != 1)}" if found else "clean" if not odd else ""]
    parts += [f"{odd} could not be told" if odd else "", f"{out} allowed" if out else ""]
    return f"zopp-guard: {judged}: " + ", ".join(part for part in parts if part)


def _size(count: int) -> str:
    return (
        f"{count} B" if count < 10_000 else f"{count // 1000} kB" if count < 10_000_000 else f"{count // 1_000_000} MB"
    )


def _plain(finding: "Finding") -> "dict[str, Any]":
    found: "dict[str, Any]" = {
        "check": finding.check,
        "rule": finding.rule,
        "path": printable(finding.path),
        "line": finding.line,
        "column": finding.column,
        "what": finding.what,
        "hint": finding.hint,
    }
    if finding.commit:
        found["commit"] = finding.commit
    if finding.shown:
        found["shown"] = finding.shown
    if finding.fingerprint:
        found["fingerprint"] = finding.fingerprint
    if finding.suppressed:
        found["suppressed"] = finding.suppressed
    return found


def plain(result: "Result") -> "dict[str, Any]":
    """The object that `--json` prints."""
    return {
        "schema": SCHEMA,
        "mode": result.mode,
        "commits": result.commits,
        "files": result.files,
        "bytes": result.bytes,
        "in_blocks": result.streamed,
        "findings": [_plain(finding) for finding in ordered(result.findings)],
        "suppressed": [_plain(finding) for finding in ordered(result.suppressed)],
        "not_covered": result.not_covered,
        "own_secrets": result.own_mode,
        "errors": [{"path": printable(p.path), "what": p.what, "commit": p.commit} for p in result.problems],
    }


def sarif(result: "Result", version: str) -> "dict[str, Any]":
    """SARIF 2.1.0: no snippets, start positions only, keyed fingerprints."""
    from zopp.scan import about

    every = [*ordered(result.findings), *ordered(result.suppressed)]
    ids = sorted({finding.rule for finding in every})
    rules = []
    for rule in ids:
        title, link = about.of(rule)
        described: "dict[str, Any]" = {"id": rule, "shortDescription": {"text": title}}
        if link:
            described["helpUri"] = link
        rules.append(described)
    rows = []
    for finding in every:
        row: "dict[str, Any]" = {
            "ruleId": finding.rule,
            "ruleIndex": ids.index(finding.rule),
            "level": "error",
            "message": {"text": finding.what + (f" ({finding.shown})" if finding.shown else "")},
            "locations": [
                {
                    "physicalLocation": {
                        "artifactLocation": {"uri": _uri(finding.path)},
                        "region": {"startLine": finding.line, "startColumn": finding.column},
                    }
                }
            ],
        }
        if finding.fingerprint:
            row["partialFingerprints"] = {"zoppKeyed/v1": finding.fingerprint}
        if finding.suppressed:
            kind = "inSource" if finding.suppressed == "comment" else "external"
            row["suppressions"] = [{"kind": kind, "status": "accepted"}]
        if finding.commit:
            row["properties"] = {"commit": finding.commit}
        rows.append(row)
    notes = [{"level": "error", "message": {"text": f"{printable(p.path)}: {p.what}"}} for p in result.problems]
    return {
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [
            {
                "tool": {"driver": {"name": "zopp-guard", "version": version, "rules": rules}},
                "invocations": [{"executionSuccessful": not notes, "toolExecutionNotifications": notes}],
                "columnKind": "unicodeCodePoints",
                "results": rows,
            }
        ],
    }


def _uri(path: str) -> str:
    from urllib.parse import quote

    return quote(path.encode("utf-8", "surrogateescape"), safe="/")
