"""Every action of the command line in every ordinary kind of mistake: the exit code is of the contract, standard error
says what is wrong and what to type next, nothing that was typed as a value is said, and --json gives one document."""

import argparse
import importlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from tests.client.standin import Standin
from tests.support import Done, Team, User
from zopp.cli.parser import Parser, global_flags
from zopp.cli.verbs import VERBS

# How each is called; what is named need not be there. A new action has to be put here, or `test_all_are_here` fails.
CALLS = {
    "init": "",
    "join": "--code -",
    "trust": "",
    "set": "BASE",
    "get": "BASE",
    "list": "",
    "unset": "BASE --yes",
    "edit": "",
    "run": "-- true",
    "export": "",
    "inject": "t.tmpl",
    "import dotenv": "missing.env",
    "import json": "missing.json",
    "import yaml": "missing.yaml",
    "import toml": "missing.toml",
    "import csv": "missing.csv",
    "import sops": "missing.yaml",
    "import dotenvx": "missing.env",
    "import 1password": "missing.1pux",
    "import aws-sm": "--region eu-central-1 --names missing.txt",
    "import vault": "kv/a",
    "import doppler": "missing.json",
    "import infisical": "missing.json",
    "import fnox": "missing.toml",
    "import kubernetes": "missing.yaml",
    "import chamber": "missing.json",
    "history": "BASE",
    "blame": "",
    "show": "HEAD",
    "diff": "",
    "rollback": "BASE --steps 1",
    "textconv": "secrets/dev.yaml",
    "git": "status",
    "sign": "",
    "merge": "other",
    "resolve": "",
    "verify": "",
    "review": "HEAD~1..HEAD",
    "grant": "bob read api/dev",
    "revoke": "bob api/dev",
    "access": "",
    "whoknows": "BASE",
    "offboard": "carol --yes",
    "exposure": "",
    "rekey": "",
    "env list": "",
    "env add": "qa",
    "env show": "dev",
    "env kind": "dev brokered",
    "env serverkey": "dev",
    "env breakglass": "dev --remove",
    "env plugin-identity": "dev",
    "env protect": "dev --yes",
    "env unprotect": "dev --yes",
    "env archive": "dev --yes",
    "principal request": "",
    "principal add": "missing.request --yes",
    "principal rekey": "missing.request --yes",
    "principal vouch": "missing.request --yes",
    "principal adopt": "age1x --name x",
    "principal list": "",
    "principal current": "",
    "principal use": "another",
    "principal recover": "missing.age",
    "principal remember": "",
    "principal disable": "bob-laptop",
    "principal enable": "bob-laptop",
    "principal cap": "bob-laptop read",
    "principal trust-ci": "ci --github --repository-id 1 --owner-id 2 --ref main",
    "principal ci-rules": "",
    "principal untrust-ci": "deploy",
    "group create": "devs",
    "group delete": "devs",
    "group add": "devs bob",
    "group remove": "devs bob",
    "group list": "",
    "invite create": "dave@example.org read api/dev",
    "invite list": "",
    "invite revoke": "i1",
    "invite countersign": "missing.join --yes",
    "project list": "",
    "project create": "web",
    "project archive": "api",
    "workspace": "",
    "policy show": "",
    "policy log": "",
    "policy pull": "",
    "policy push": "--yes",
    "policy rebase": "--yes",
    "policy allowed-signers": "",
    "server dev": "--port 0",
    "server serve": "",
    "server migrate": "",
    "server bootstrap": "",
    "server check": "",
    "server backup": "",
    "server restore": "--checkpoint missing.note",
    "server adopt": "http://127.0.0.1:9 --code - --yes",
    "server kek": "rotate",
    "agent": "--socket missing/agent.sock",
    "audit list": "",
    "audit get": "1",
    "audit count": "",
    "audit export": "",
    "audit witness": "",
    "audit verify": "",
    "scan": "--all",
    "hooks": "status",
    "doctor": "",
    "completion": "bash",
}
# Their answer is what is asked for, not data about it.
NO_JSON = ("textconv", "completion", "run", "inject", "principal remember")
# Their exit code is a verdict, with findings on standard output instead of an error.
VERDICTS = ("verify", "review", "scan", "doctor", "diff", "exposure", "hooks", "git", "principal current", "access")
CANARY = "hunter2-canary"


def leaves() -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Every command, or every action of one that has some, with its parser."""

    def below(name: str, parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.ArgumentParser]]:
        subs = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
        if not subs:
            yield name, parser
        for action in subs:
            for choice in action._choices_actions:
                yield from below(f"{name} {choice.dest}", action.choices[choice.dest])

    for verb, module_name, _ in VERBS:
        module = importlib.import_module(f"zopp.cli.{module_name}")
        parser = Parser(prog=f"zopp {verb}", description=module.__doc__, parents=[global_flags()])
        module.configure(parser)
        yield from below(verb, parser)


LEAVES = dict(leaves())


def test_all_are_here() -> None:
    assert CALLS.keys() == LEAVES.keys()


def words(name: str, *more: str) -> list[str]:
    """The call of an action; for `run`, its own words come before `--`."""
    call = CALLS[name].split()
    return [*name.split(), *more, *call] if name == "run" else [*name.split(), *call, *more]


def conduct(name: str, done: Done, *, usage: bool = False) -> dict[str, Any] | None:
    """What holds of every answer under --json; the error, if it is one. `usage`: it has to be one of usage."""
    told = f"zopp {name}: exit {done.code}\n{done.out}{done.err}"
    allowed = (0, 1, 125, 126, 127) if name == "run" else (0, 1, 2, 3)
    assert done.code in allowed, told
    assert "Traceback" not in done.text, told
    assert CANARY not in done.text and "base-dev" not in done.err, told
    lines = done.err.splitlines()
    said = [line for line in lines if line.startswith("zopp: error: ")]
    assert len(said) <= 1, told
    if usage:
        assert done.code == (125 if name == "run" else 2), told
        assert lines[0] == said[0], told
    if not said:
        answer = None if name in NO_JSON else json.loads(done.out)
        others = isinstance(answer, dict) and bool(answer.get("open"))  # done, but for what somebody else has to do
        assert done.code == 0 or name in VERDICTS or (done.code == 1 and others), told
        return None
    document = json.loads(done.out)  # one document, or this fails
    error = document["error"]
    assert error.keys() == {"code", "message", "place", "hint"}, told
    assert error["code"] and error["code"] not in ("error", "internal"), told
    assert said == [f"zopp: error: {error['place']}{': ' if error['place'] else ''}{error['message']}"], told
    assert not error["message"].endswith(".") and not error["message"].startswith("argument "), told
    assert error["hint"] and f"zopp: hint: {error['hint']}" in lines, told
    return dict(error)


@pytest.fixture(scope="module")
def still(tmp_path_factory: pytest.TempPathFactory) -> Team:
    """A team for what changes nothing."""
    return Team.make(tmp_path_factory.mktemp("still"))


# --- mistakes on the line


@pytest.mark.parametrize("name", CALLS)
def test_a_line_that_is_wrong(name: str, still: Team) -> None:
    """Nothing is begun, and a secret that was typed in the wrong place is not repeated."""
    alice, parser = still.alice, LEAVES[name]
    before = alice.tree()
    conduct(name, alice.zopp(*words(name, f"--{CANARY}", "--json")), usage=True)
    near = alice.zopp(*words(name, "--jsno", "--json"))
    assert "did you mean --json?" in conduct(name, near, usage=True)["message"]  # type: ignore[index]
    places = [a for a in parser._actions if not a.option_strings]
    if not any(a.nargs in ("*", "+") for a in places):
        conduct(name, alice.zopp(*words(name, *[CANARY] * 3, "--json")), usage=True)
    if any(a.required for a in places if a.nargs != "*"):
        missing = conduct(name, alice.zopp(*name.split(), "--json"), usage=True)
        assert missing is not None
        assert "missing" in missing["message"]
    for action in parser._actions:
        if action.nargs is None and action.option_strings and action.option_strings[-1] != "-C":
            flag = action.option_strings[-1]
            done = alice.zopp(*name.split(), flag, "--json")
            error = conduct(name, done, usage=True)
            assert error is not None and "needs a value" in error["message"], (flag, done.text)
            if action.choices is not None:
                error = conduct(name, alice.zopp(*words(name, flag, CANARY, "--json")), usage=True)
                assert error is not None and "must be " in error["message"]
        if action.option_strings and action.option_strings[-1].startswith("--") and len(action.option_strings[-1]) > 5:
            flag = action.option_strings[-1]
            error = conduct(name, alice.zopp(*words(name, f"{flag[:-2]}{flag[-1]}", "--json")), usage=True)
            assert error is not None and "did you mean --" in error["message"], flag
    assert alice.tree() == before


@pytest.mark.parametrize("verb", sorted({name.split()[0] for name in CALLS if " " in name}))
def test_a_mistyped_action(verb: str, still: Team) -> None:
    """It is named by its nearest; without one, all are."""
    actions = [name.split()[1] for name in CALLS if name.startswith(f"{verb} ")]
    if verb == "import":  # there a word may be a file
        error = conduct(verb, still.alice.zopp(verb, "vualt", "kv/a", "--json"), usage=True)
        assert error is not None and error["hint"] == "did you mean zopp import vault?"
        return
    error = conduct(verb, still.alice.zopp(verb, "--json"), usage=True)
    assert error is not None and all(action in error["message"] for action in actions)
    for action in actions:
        error = conduct(verb, still.alice.zopp(verb, action[:-1] + "qz"[len(action) % 2], "--json"), usage=True)
        assert error is not None and all(each in error["message"] for each in actions)
    swapped = actions[0][1] + actions[0][0] + actions[0][2:]
    error = conduct(verb, still.alice.zopp(verb, swapped, "--json"), usage=True)
    assert error is not None and error["hint"] == f"did you mean zopp {verb} {actions[0]}?"


@pytest.mark.parametrize("name", CALLS)
def test_help_says_what_it_does(name: str, still: Team) -> None:
    """A sentence, and what each word and flag is; `zopp help VERB ACTION` is the same as --help."""
    parser = LEAVES[name]
    text = (parser.description or "").strip()
    first = text.split("\n\n")[0]
    assert (first[:1].isupper() or first.startswith("git's")) and first.endswith("."), text
    assert [a.dest for a in parser._actions if a.help is None] == []
    said = still.alice.ok(*name.split(), "--help").out
    assert said == still.alice.ok("help", *name.split()).out
    assert text.split(".")[0][:40].split("\n")[0] in said


# --- situations


def outside(team: Team) -> tuple[User, Path]:
    folder = team.base / "nowhere"
    folder.mkdir()
    return team.alice, folder


def no_project(team: Team) -> tuple[User, Path]:
    folder = team.base / "plain"
    subprocess.run(["git", "init", "-q", str(folder)], check=True, env=team.alice.env)
    return team.alice, folder


def bare(team: Team) -> tuple[User, Path]:
    return team.alice, team.base / "origin.git"


def no_key(team: Team) -> tuple[User, Path]:
    shutil.rmtree(team.alice.home / ".config/zopp")
    return team.alice, team.alice.repo


def locked(team: Team) -> tuple[User, Path]:
    """A key with a passphrase, and nobody to ask."""
    from zopp.keys.store import Store

    store = Store(team.alice.home / ".config/zopp")
    made = store.load()
    assert made.signing is not None
    secret = team.alice.age_file.read_text().split("\n")[1]
    shutil.rmtree(team.alice.home / ".config/zopp/keys")
    store.add("alice-laptop", secret, made.signing, "pass phrase", signing_passphrase="pass phrase")
    return team.alice, team.alice.repo


def reader(team: Team) -> tuple[User, Path]:
    team.grant("bob", "read", "api/dev")
    return team.bob, team.bob.repo


def stranger(team: Team) -> tuple[User, Path]:
    """A key that nobody has let in, in a clone that trusts the workspace."""
    user = team.fresh(team.alice, "dave")
    shutil.rmtree(user.home / ".config/zopp")
    user.ok("trust", "--genesis", team.alice.state().ws)
    user.ok("principal", "request", "--user", "dave")
    return user, user.repo


def unpinned(team: Team) -> tuple[User, Path]:
    user = team.fresh(team.alice)
    return user, user.repo


def detached(team: Team) -> tuple[User, Path]:
    team.alice.git("checkout", "-q", "--detach")
    return team.alice, team.alice.repo


def broken_settings(team: Team) -> tuple[User, Path]:
    team.alice.write("zopp.toml", "[[[")
    return team.alice, team.alice.repo


def no_log(team: Team) -> tuple[User, Path]:
    team.alice.path(".zopp/policy.jsonl").unlink()
    return team.alice, team.alice.repo


def other_environment(team: Team) -> tuple[User, Path]:
    team.alice.extra["ZOPP_ENV"] = "prdo"
    return team.alice, team.alice.repo


def server_down(team: Team) -> tuple[User, Path]:
    server = Standin()
    team.alice.ok("server", "adopt", server.origin, "--code", "-", "--yes", stdin=server.code)
    team.alice.share("server")
    server.stop()
    return team.alice, team.alice.repo


def empty_files(team: Team) -> tuple[User, Path]:
    for call in CALLS.values():
        for word in call.split():
            if word.startswith(("missing.", "t.tmpl")):
                team.alice.write(word, "")
    return team.alice, team.alice.repo


SITUATIONS: list[Callable[[Team], tuple[User, Path]]] = [
    outside, no_project, bare, no_key, locked, reader, stranger, unpinned, detached, broken_settings, no_log,
    other_environment, empty_files, server_down,
]  # fmt: skip


@pytest.mark.parametrize("situation", SITUATIONS, ids=lambda each: str(each.__name__))
def test_in_a_situation(situation: Callable[[Team], tuple[User, Path]], team: Team) -> None:
    """Whatever can be called is called: it works, or says what is the matter."""
    user, folder = situation(team)
    user.extra["EDITOR"] = "true"
    for name in CALLS:
        if name in ("server dev", "server serve", "agent"):  # they go on until they are stopped
            continue
        conduct(name, user.zopp(*words(name, "--json"), cwd=folder))


def test_a_variable_is_named(team: Team) -> None:
    """Who mistyped in the environment looks for it on the line."""
    done = team.alice.zopp("get", "BASE", env={"ZOPP_ENV": "prdo"})
    assert done.err == "zopp: error: ZOPP_ENV: project api has no environment prdo\nzopp: hint: did you mean prod?\n"
    done = team.alice.zopp("get", "BASE", env={"ZOPP_PROJECT": "apii"})
    assert done.err == "zopp: error: ZOPP_PROJECT: workspace acme has no project apii\nzopp: hint: did you mean api?\n"


def test_a_key_that_others_may_read(team: Team) -> None:
    """The next thing to type mends the mode; a newcomer's way in is none here."""
    signing = team.alice.age_file.with_suffix(".ssh")
    signing.chmod(0o644)
    done = team.alice.set("NEW", "value", code=3)
    assert done.err.splitlines()[1] == f"zopp: hint: chmod 600 {signing}"


def test_a_newcomer_who_writes_is_told_the_way_in(team: Team) -> None:
    """As one who reads is."""
    shutil.rmtree(team.alice.home / ".config/zopp")
    assert "zopp principal request" in team.alice.set("NEW", "value", code=3).err.splitlines()[1]


def test_a_refusal_names_the_role_that_would_do(team: Team) -> None:
    """In words, and where the action is judged: a role further in would change nothing."""
    team.grant("bob", "admin", "api/dev")
    archived = team.bob.zopp("env", "archive", "dev", "--yes", code=1).err
    assert archived.endswith("hint: ask an admin of api to run: zopp grant bob admin api\n"), archived
    for argv, said in (
        (("env", "kind", "prod", "direct"), "may not change the kind of api/prod"),
        (("project", "archive", "api"), "may not archive projects of acme"),
        (("principal", "enable", "carol-desktop"), "may not let devices back into acme"),
        (("invite", "revoke", "x"), "may not end invites to acme"),
    ):
        assert said in team.bob.zopp(*argv, code=1).err


# --- what the system refuses


def denied(name: str) -> Any:
    """`os.open` and `os.mkdir` as for one who may not touch what is called `name`."""
    real = {"open": os.open, "mkdir": os.mkdir}

    def made(what: str) -> Callable[..., Any]:
        def call(path: Any, *args: Any, **kwargs: Any) -> Any:
            if os.path.basename(os.fsdecode(path)) == name:
                raise PermissionError(13, "Permission denied", path)
            return real[what](path, *args, **kwargs)

        return call

    return mock.patch.multiple(os, open=made("open"), mkdir=made("mkdir"))


def test_a_folder_of_zopp_that_cannot_be_written(team: Team) -> None:
    """It is no fault of zopp's, and named."""
    before = team.alice.tree()
    with denied("lock"):
        error = conduct("set", team.alice.zopp("set", "NEW", "--json", stdin="value"))
    assert error is not None and error["code"] == "file.unwritable"
    assert error["place"].endswith(".git/zopp/lock") and error["hint"].endswith("clone/alice/.git/zopp")
    assert team.alice.tree() == before


@pytest.mark.parametrize("name", ["dev.yaml", "secrets"])
@pytest.mark.parametrize("argv", [["get", "BASE"], ["list"], ["verify"], ["diff"], ["show", "HEAD", "BASE"]])
def test_a_file_that_cannot_be_read(argv: list[str], name: str, team: Team) -> None:
    """Could not tell: it is not wrong, and it is not gone."""
    with denied(name):
        done = team.alice.zopp(*argv)
    if argv[0] == "show":  # of a commit
        assert done.code == 0
        return
    assert done.code == 3 and done.out == ""
    assert done.err.startswith("zopp: error: secrets/dev.yaml: ") and "(Permission denied)\nzopp: hint: " in done.err


# --- streams


def test_an_answer_that_cannot_be_written(team: Team) -> None:
    """A full disk and a closed stream are said, also on the short way, and Python says nothing."""
    calls = ("list", "get BASE", "verify", "verify --json", "export", "--help", "set --help", "run --json -- nope")
    for argv in [call.split() for call in calls]:
        for redirection in (">/dev/full", ">&-"):
            done = team.alice.child(*argv, launcher=("sh", "-c", f'exec "$@" {redirection}', "sh"))
            said = done.stderr.decode().splitlines()
            assert done.returncode == (125 if argv[0] == "run" else 3), (argv, redirection, said)
            assert said[-2].startswith("zopp: error: the answer cannot be written ("), said
            assert all(line.startswith("zopp: ") for line in said), said


def test_nothing_to_read_from(team: Team) -> None:
    """A closed standard input is no empty value, and the next file that is opened is not taken for it."""
    closed = ("sh", "-c", 'exec "$@" <&-', "sh")
    for argv in (["set", "NEW"], ["join"], ["principal", "add", "-"], ["import", "-"], ["inject", "-"]):
        done = team.alice.child(*argv, launcher=closed)
        said = done.stderr.decode().splitlines()
        assert done.returncode == 2 and said[0] == "zopp: error: standard input: cannot be read (Bad file descriptor)"
    for argv in (["list"], ["unset", "BASE", "--yes"], ["env", "archive", "staging", "--yes"], ["verify"]):
        done = team.alice.child(*argv, launcher=closed)
        assert done.returncode == 0, done.stderr


def test_nowhere_to_complain(team: Team) -> None:
    """Without standard error the answer still comes, and a failure still fails."""
    for redirection in ("2>&-", "2>/dev/full"):
        launcher = ("sh", "-c", f'exec "$@" {redirection}', "sh")
        assert team.alice.child("verify", "--json", launcher=launcher).returncode == 0
        done = team.alice.child("get", "NOPE", "--json", launcher=launcher)
        assert done.returncode in (1, 3) and json.loads(done.stdout)["error"]["code"] == "key.missing"
