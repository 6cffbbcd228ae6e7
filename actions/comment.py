"""One comment on a pull or merge request that is kept up to date: found by its first line, written by nobody else.

Standard library only. The body is made by `zopp review --markdown`; its first line is the marker. A comment that
somebody else wrote with the same first line is left alone. Source: review-and-ci.md §6, §7.
"""

import json
import sys
import urllib.error
import urllib.parse
import urllib.request
from typing import Any, Protocol

MOST = 60_000  # characters; GitHub takes 65,536
_PAGES = 10
_SECONDS = 20


class Refused(Exception):
    """The forge did not do it. The text is the status and nothing that the forge said."""


class Forge(Protocol):
    """Where comments live."""

    def mine(self) -> list[tuple[int, str]]:
        """(id, body) of the comments that this identity wrote."""

    def create(self, body: str) -> None: ...

    def replace(self, id: int, body: str) -> None: ...


def keep(forge: Forge, body: str) -> str:
    """Make the comment be `body`: `created`, `updated` or `unchanged`."""
    marker = body.partition("\n")[0]
    if len(body) > MOST:
        body = body[:MOST].rpartition("\n")[0] + "\n\n… cut; the job's summary has all of it\n"
    for id, text in forge.mine():
        if text.replace("\r\n", "\n").partition("\n")[0] == marker:
            if text.replace("\r\n", "\n").strip() == body.strip():
                return "unchanged"
            forge.replace(id, body)
            return "updated"
    forge.create(body)
    return "created"


class _Api:
    def __init__(self, base: str, header: tuple[str, str]) -> None:
        self.base, self.header = base.rstrip("/"), header

    def ask(self, method: str, path: str, body: dict[str, str] | None = None) -> Any:
        if not self.base.startswith(("https://", "http://127.0.0.1:", "http://localhost:")):
            raise Refused("the forge's address is not https")
        data = None if body is None else json.dumps(body).encode()
        name, text = self.header
        headers = {name: text, "Accept": "application/json", "Content-Type": "application/json", "User-Agent": "zopp"}
        request = urllib.request.Request(self.base + path, data, headers, method=method)
        try:
            with urllib.request.build_opener(_NoRedirects).open(request, timeout=_SECONDS) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as exc:
            exc.close()
            raise Refused(f"status {exc.code}") from None
        except (OSError, ValueError) as exc:
            raise Refused(type(exc).__name__) from None


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A token is for the host that it was given for."""

    def redirect_request(self, *args: Any) -> None:
        return None


class GitHub:
    """Comments of one pull request. `api`: GITHUB_API_URL; `repository`: OWNER/NAME."""

    def __init__(self, api: str, token: str, repository: str, number: int) -> None:
        self.api = _Api(api, ("Authorization", f"Bearer {token}"))
        self.repository = urllib.parse.quote(repository)
        self.number = number

    def mine(self) -> list[tuple[int, str]]:
        found = []
        for page in range(1, _PAGES + 1):
            comments = self.api.ask(
                "GET", f"/repos/{self.repository}/issues/{self.number}/comments?per_page=100&page={page}"
            )
            # The job's own token writes as this bot; a person can write the same marker.
            found += [
                (one["id"], one.get("body") or "")
                for one in comments
                if (one.get("user") or {}).get("login") == "github-actions[bot]"
            ]
            if len(comments) < 100:
                break
        return found

    def create(self, body: str) -> None:
        self.api.ask("POST", f"/repos/{self.repository}/issues/{self.number}/comments", {"body": body})

    def replace(self, id: int, body: str) -> None:
        self.api.ask("PATCH", f"/repos/{self.repository}/issues/comments/{int(id)}", {"body": body})


class GitLab:
    """Notes of one merge request. `api`: CI_API_V4_URL; `project`: its number."""

    def __init__(self, api: str, token: str, project: str, number: int) -> None:
        self.api = _Api(api, ("PRIVATE-TOKEN", token))
        self.path = f"/projects/{urllib.parse.quote(project, safe='')}/merge_requests/{number}/notes"

    def mine(self) -> list[tuple[int, str]]:
        me = self.api.ask("GET", "/user")["id"]
        found = []
        for page in range(1, _PAGES + 1):
            notes = self.api.ask("GET", f"{self.path}?per_page=100&page={page}")
            found += [(one["id"], one.get("body") or "") for one in notes if (one.get("author") or {}).get("id") == me]
            if len(notes) < 100:
                break
        return found

    def create(self, body: str) -> None:
        self.api.ask("POST", self.path, {"body": body})

    def replace(self, id: int, body: str) -> None:
        self.api.ask("PUT", f"{self.path}/{int(id)}", {"body": body})


def main(words: list[str]) -> int:
    """`comment.py gitlab FILE`: keep FILE as the note of the merge request of this GitLab job."""
    import os

    if len(words) != 2 or words[0] != "gitlab":
        print("usage: comment.py gitlab FILE", file=sys.stderr)
        return 2
    given = os.environ
    token, number = given.get("ZOPP_GITLAB_TOKEN", ""), given.get("CI_MERGE_REQUEST_IID", "")
    if not token or not number.isdigit():
        print("zopp: no ZOPP_GITLAB_TOKEN or no merge request: no note is written", file=sys.stderr)
        return 0
    with open(words[1], encoding="utf-8") as file:
        body = file.read()
    forge = GitLab(given.get("CI_API_V4_URL", ""), token, given.get("CI_PROJECT_ID", ""), int(number))
    try:
        print(f"zopp: note {keep(forge, body)}", file=sys.stderr)
    except Refused as exc:
        print(f"zopp: warning: the note could not be written: {exc}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
