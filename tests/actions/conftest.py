"""A repository with a CI service, `act` to run its workflows on this machine, and a stand-in for GitHub's API."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.support import ROOT, Team, User

BINARIES = Path(sys.executable).parent
SECRET = "canary7Qz9/hunter+2"


@dataclass
class Forge:
    """What the stand-in was asked, and the comments that it has: id → (login, body)."""

    port: int = 0
    comments: dict[int, tuple[str, str]] = field(default_factory=dict)
    asked: list[tuple[str, str, str]] = field(default_factory=list)
    read_only: bool = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


def _handler(forge: Forge) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def _answer(self, status: int, body: Any) -> None:
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def _any(self) -> None:
            size = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(size) or b"{}")
            forge.asked.append((self.command, self.path, self.headers.get("Authorization", "")))
            if self.command != "GET" and forge.read_only:
                self._answer(403, {"message": f"not for {SECRET}"})
                return
            one = re.search(r"/comments/(\d+)$|/notes/(\d+)$", self.path)
            if self.path == "/user":
                self._answer(200, {"id": 7})
            elif self.command == "GET":
                page = int((re.search(r"[?&]page=(\d+)", self.path) or ["", "1"])[1])
                rows = [
                    {"id": id, "body": text, "user": {"login": login}, "author": {"id": 7 if "bot" in login else 8}}
                    for id, (login, text) in sorted(forge.comments.items())
                ]
                self._answer(200, rows[(page - 1) * 100 : page * 100])
            elif one is not None:
                id = int(one[1] or one[2])
                forge.comments[id] = (forge.comments[id][0], body["body"])
                self._answer(200, {})
            else:
                forge.comments[max(forge.comments, default=0) + 1] = ("github-actions[bot]", body["body"])
                self._answer(201, {})

        do_GET = do_POST = do_PATCH = do_PUT = _any

        def log_message(self, *args: Any) -> None:
            pass

    return Handler


@pytest.fixture
def forge() -> Iterator[Forge]:
    made = Forge()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(made))
    made.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield made
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """zopp's own files without what builds and tests leave beside them, which runners would copy each time."""
    place = tmp_path_factory.mktemp("source")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    archive = place.parent / "source.tar"
    subprocess.run(["tar", "-C", ROOT, "--null", "-T", "-", "-cf", archive], input=listed, check=True)
    subprocess.run(["tar", "-C", place, "-xf", archive], check=True)
    archive.unlink()
    return place


@dataclass
class Job:
    """Where a workflow of alice's repository runs: `run(workflow, …) -> its output`."""

    alice: User
    base: Path
    trust: str
    key: str
    source: Path
    uses: str = "zopp/zopp@v1"

    def run(
        self, workflow: str, *, event: str = "push", payload: dict[str, Any] | None = None, code: int = 0,
        env: dict[str, str] | None = None, install: bool = False,
    ) -> str:  # fmt: skip
        """One workflow by `act` on this machine. With `install` the action installs zopp as on GitHub; else it finds
        the one that runs the tests."""
        folder = self.alice.repo / ".github/workflows"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "x.yml").write_text(workflow)
        path = self.base / "event.json"
        path.write_text(json.dumps(payload or {}))
        words = [
            str(BINARIES / "act"), event, "-P", "ubuntu-latest=-self-hosted", "--no-cache-server", "-e", str(path),
            "--local-repository", f"{self.uses}={self.source}", "--var", f"ZOPP_TRUST={self.trust}",
            "-s", f"ZOPP_AGE_KEY={self.key}", "-s", "GITHUB_TOKEN=test-token-of-no-forge",
        ]  # fmt: skip
        given = {} if install else {"ZOPP_VENV": str(BINARIES.parent)}
        for name, text in {**given, **(env or {})}.items():
            words += ["--env", f"{name}={text}"]
        done = subprocess.run(
            words, cwd=self.alice.repo, env={**self.alice.env, "HOME": str(self.base / "runner")},
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=240, check=False,
        )  # fmt: skip
        said = done.stdout.decode("utf-8", "replace")
        assert (done.returncode == 0) == (code == 0), said
        if code:
            assert f"::set-output:: exit-code={code}" in said, said
        return said


@pytest.fixture
def job(tmp_path: Path, source: Path) -> Job:
    alice = Team.make(tmp_path).alice
    alice.ok("set", "TOKEN", "-e", "dev", "-m", "token", stdin=SECRET)
    keys = tmp_path / "ci-keys"
    request = alice.ok("principal", "request", "--service", "robot", "--out-keys", str(keys))
    (tmp_path / "robot.request").write_text(request.out)
    alice.ok("principal", "add", str(tmp_path / "robot.request"), "-y", "-m", "robot")
    alice.ok("grant", "robot", "read", "api/dev", "-m", "robot reads dev")
    (tmp_path / "runner").mkdir()
    alice.git("remote", "remove", "origin", check=False)
    key = (keys / "age.key").read_text().strip().split("\n")[-1]
    return Job(alice, tmp_path, alice.ok("trust", "--print").out.strip(), key, source)
