"""One step of a GitHub job: `zopp` in one of five modes. Run by `action.yml` with the interpreter zopp is installed in.

What it is told comes in variables (`ZOPP_MODE`, `ZOPP_IN_…`) and in GitHub's own; nothing of it becomes part of a
script. Exit codes are zopp's. Annotations and the job's summary name files, keys and rules, never values.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import comment

MODES = ("run", "export", "verify", "review", "scan")
# What this step was told is not the command's business, the token least of all.
OWN = ("ZOPP_ACTION", "ZOPP_MODE", "ZOPP_VENV", "ZOPP_PYTHON")
HIDDEN = ("ZOPP_IN_", "INPUT_")


class Step:
    """`given` are the variables of the step."""

    def __init__(self, given: Mapping[str, str]) -> None:
        self.given = given
        self.program = str(Path(sys.executable).with_name("zopp"))
        self.env = {name: text for name, text in given.items() if name not in OWN and not name.startswith(HIDDEN)}

    def asked(self, name: str) -> str:
        return self.given.get(f"ZOPP_IN_{name}", "")

    def flags(self, *names: str) -> list[str]:
        """-e, -p and --only as far as they were given."""
        known = {"ENV": "--env", "PROJECT": "--project", "ONLY": "--only"}
        return [f"{known[name]}={self.asked(name)}" for name in names if self.asked(name)]

    def zopp(self, *words: str) -> subprocess.CompletedProcess[bytes]:
        """Run it, its standard output kept."""
        return subprocess.run([self.program, *words], env=self.env, stdout=subprocess.PIPE, check=False)

    def output(self, name: str, text: str) -> None:
        _append(self.given.get("GITHUB_OUTPUT"), f"{name}={text}\n")

    def report(self, data: bytes) -> None:
        """Keep an answer as a file of the job."""
        path = os.path.join(self.given["RUNNER_TEMP"], f"zopp-{self.given['ZOPP_MODE']}.json")
        Path(path).write_bytes(data)
        self.output("report", path)

    def event(self) -> dict[str, object]:
        try:
            with open(self.given.get("GITHUB_EVENT_PATH", ""), "rb") as file:
                found = json.load(file)
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    # --- modes

    def run(self) -> int:
        command = self.asked("COMMAND")
        if not command.strip():
            return refuse("mode run needs the input command")
        words = ["run", "--redact", *self.flags("ENV", "PROJECT", "ONLY"), "--"]
        return subprocess.run([self.program, *words, "bash", "-eo", "pipefail", "-c", command], env=self.env).returncode

    def export(self) -> int:
        words = ["export", "--github-env", *self.flags("ENV", "PROJECT", "ONLY")]
        return subprocess.run([self.program, *words], env=self.env, check=False).returncode

    def verify(self) -> int:
        done = self.zopp("verify", "--json")
        self.report(done.stdout)
        for one in _listed(done.stdout, "findings"):
            level = "error" if one.get("severity") == "error" else "warning"
            annotate(level, f"{one.get('message')} [{one.get('code')}]", one)
        return done.returncode

    def scan(self) -> int:
        span = self.asked("RANGE") or self.span()
        done = self.zopp("scan", *(["--range", span] if span else ["--all"]), "--json")
        self.report(done.stdout)
        for one in _listed(done.stdout, "findings"):
            annotate("error", f"{one.get('what')} [{one.get('rule')}]", one)
        return done.returncode

    def review(self) -> int:
        span = self.asked("RANGE") or self.span()
        if not span:
            return refuse("mode review needs the input range outside of a pull request")
        strict = ["--strict-schema"] if self.asked("STRICT_SCHEMA") == "true" else []
        path = Path(self.given["RUNNER_TEMP"], "zopp-comment.md")
        path.unlink(missing_ok=True)  # of an earlier step, whose answer would be taken for this one's
        answer = self.zopp("review", span, "--json", "--comment", str(path), *strict)
        self.report(answer.stdout)
        body = path.read_text(encoding="utf-8") if path.exists() else ""
        _append(self.given.get("GITHUB_STEP_SUMMARY"), body)
        for one in _listed(answer.stdout, "remarks"):
            level = {"blocker": "error", "unknown": "error", "warning": "warning"}.get(str(one.get("severity")))
            if level is not None and not one.get("in_base"):
                fix = f"; {one['fix']}" if one.get("fix") else ""
                annotate(level, f"{one.get('message')} [{one.get('code')}]{fix}", one)
        if self.asked("COMMENT") == "true" and body:
            self._comment(body)
        return answer.returncode

    def _comment(self, body: str) -> None:
        pull = self.event().get("pull_request")
        number = pull.get("number") if isinstance(pull, dict) else None
        if not isinstance(number, int):
            annotate("notice", "this is no pull request, so there is nothing to comment on")
            return
        api, repository = self.given.get("GITHUB_API_URL", ""), self.given.get("GITHUB_REPOSITORY", "")
        forge = comment.GitHub(api, self.asked("TOKEN"), repository, number)
        try:
            said = comment.keep(forge, body)
        except comment.Refused as exc:
            # A fork's token may read only; the summary and the check say the same.
            annotate("notice", f"the comment could not be written: {exc}; the job's summary has it")
        else:
            print(f"comment {said}", file=sys.stderr)

    def span(self) -> str:
        """BASE..HEAD of the pull request or push, from the event and nothing else; '' if it is neither."""
        event = self.event()
        pull = event.get("pull_request")
        if isinstance(pull, dict):
            base, head = pull.get("base"), pull.get("head")
            ids = [side.get("sha") if isinstance(side, dict) else None for side in (base, head)]
        else:
            ids = [event.get("before"), event.get("after")]
        if not all(isinstance(one, str) and len(one) in (40, 64) and one.strip("0") for one in ids):
            return ""
        return "..".join(map(str, ids))


def _listed(data: bytes, name: str) -> list[dict[str, object]]:
    try:
        answer = json.loads(data)
    except ValueError:
        return []
    found = answer.get(name, []) if isinstance(answer, dict) else []
    return [one for one in found if isinstance(one, dict)]


def _append(path: str | None, text: str) -> None:
    if path:
        with open(path, "a", encoding="utf-8") as file:
            file.write(text)


def annotate(level: str, text: str, at: Mapping[str, object] | None = None) -> None:
    """An annotation, at the file and line of a finding. Names in it come from the branch that is judged: nothing of
    them may become a command of its own."""
    at = at or {}
    file, line = str(at.get("path") or at.get("place") or ""), at.get("line")
    properties = {"file": file, "line": str(line) if line else "", "title": "zopp"}
    shown = ",".join([f"{name}={_escaped(value, property=True)}" for name, value in properties.items() if value])
    print(f"::{level} {shown}::{_escaped(text)}", flush=True)


def _escaped(text: str, *, property: bool = False) -> str:
    plain = text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    return plain.replace(":", "%3A").replace(",", "%2C") if property else plain


def refuse(text: str) -> int:
    annotate("error", text)
    return 2


def main() -> int:
    step = Step(os.environ)
    mode = os.environ.get("ZOPP_MODE", "")
    known = mode in MODES
    code: int = getattr(step, mode)() if known else refuse("mode must be one of " + ", ".join(MODES))
    step.output("exit-code", str(code))
    return code


if __name__ == "__main__":
    sys.exit(main())
