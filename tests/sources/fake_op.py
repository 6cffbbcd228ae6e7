"""A stand-in for `op`, put on PATH by the tests: it prints documented JSON, fails in the documented ways, and notes how
it was started. It reads `state.json` beside itself; nothing of it is 1Password's."""

import json
import os
import sys
import time

HERE = os.path.dirname(os.path.abspath(sys.argv[0]))


def fail(message: str) -> None:
    sys.stderr.write(f"[ERROR] 2026/01/01 00:00:00 {message}\n")
    sys.exit(1)


def main(words: list[str]) -> None:
    with open(os.path.join(HERE, "calls.jsonl"), "a", encoding="utf-8") as file:
        file.write(json.dumps({"argv": words, "env": dict(os.environ), "stdin": sys.stdin.read()}) + "\n")
    with open(os.path.join(HERE, "state.json"), encoding="utf-8") as file:
        state = json.load(file)
    for part, what in state.get("answers", {}).items():
        if part in " ".join(words):
            time.sleep(what.get("sleep", 0))
            sys.stdout.write(what.get("out", ""))
            sys.stderr.write(what.get("err", ""))
            sys.stdout.flush()
            sys.exit(what.get("code", 0))
    if words[0] == "read":
        sys.stdout.buffer.write(bytes.fromhex(state["files"][words[-1]]))
        return
    vault = words[words.index("--vault") + 1]
    if vault not in ("Shop", state["vault"]):
        fail(f'"{vault}" isn\'t a vault in this account. Specify the vault with its ID or name.')
    there = [one for one in state["items"] if one.get("state") != "ARCHIVED" or "--include-archive" in words]
    if words[:2] == ["item", "list"]:
        print(json.dumps([{name: one[name] for name in one if name != "fields"} for one in there]))
        return
    found = [one for one in there if words[2] in (one["id"], one["title"])]
    if not found:
        fail(f'"{words[2]}" isn\'t an item in the "Shop" vault. Specify the item with its UUID, name, or domain.')
    if len(found) > 1:
        fail(f'More than one item matches "{words[2]}". Try again and specify the item by its ID:')
    print(json.dumps(found[0], indent=2))


main(sys.argv[1:])
