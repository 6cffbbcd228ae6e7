"""A20 on the command line: an admin's new device, new keys, re-enabled device or lifted cap need that admin's word."""

import json
import re
import shutil
import subprocess

import pytest

from tests.support import Done, Team, User, refused


class World:
    """Bob is an admin of project api and has two devices; `asked` is the request of a third."""

    def __init__(self, team: Team) -> None:
        self.team = team
        self.alice, self.bob = team.alice, team.bob
        self.phone = self.device("bob", "bob-phone")
        self.alice.ok("principal", "add", "-", stdin=self.request(self.phone))
        team.grant("bob", "admin", "api")
        self.phone.pull()
        self.tablet = self.device("bob", "bob-tablet")
        self.asked = self.request(self.tablet)

    def device(self, user: str, name: str) -> User:
        made = User(user, name, self.team.base / name)
        made.home.mkdir(parents=True)
        shutil.copy(self.bob.home / ".gitconfig", made.home)
        (made.base / "clone").mkdir()
        origin = str(self.team.base / "origin.git")
        subprocess.run(["git", "clone", "-q", origin, str(made.repo)], check=True, env=made.env, capture_output=True)
        made.git("symbolic-ref", "refs/remotes/origin/HEAD", "refs/remotes/origin/main")
        made.ok("trust", "--genesis", self.alice.state().ws)
        return made

    def request(self, device: User, name: str = "") -> str:
        return device.ok("principal", "request", "--user", device.name, "--name", name or device.principal).out

    def vouch(self, by: User, *argv: str, stdin: str = "", code: int = 0) -> str:
        return by.zopp("principal", "vouch", *argv, "--yes", stdin=stdin, code=code).out

    def file(self, name: str, text: str) -> str:
        path = self.team.base / name
        path.write_text(text)
        return str(path)

    def refuse(self, *argv: str, words: list[str], stdin: str = "") -> Done:
        before = self.alice.tree()
        done = self.alice.zopp(*argv, stdin=stdin)
        refused(done, 1, words=words)
        assert self.alice.tree() == before
        return done


@pytest.fixture
def world(team: Team) -> World:
    return World(team)


def test_a20_the_refusal_names_what_to_type_and_that_works(world: World) -> None:
    """As typed: the two commands of the hint, on bob's device and on alice's."""
    asked = world.file("bob-tablet.request", world.asked)
    done = world.refuse("principal", "add", asked, words=["bob-tablet", "one of bob's present devices"])
    found = re.search(r"on a device of bob: zopp (.*) > (\S+); then here: zopp (.*)", done.err)
    assert found is not None, done.err
    theirs, vouch, mine = found.groups()
    (world.alice.repo.parent / vouch).write_text(world.bob.ok(*theirs.split(), "--yes").out)
    words = [str(world.alice.repo.parent / w) if w == vouch else w for w in mine.split()]
    world.alice.ok(*words)
    assert "bob-tablet" in world.alice.state().principals
    world.alice.ok("verify")


def test_a20_for_another_device_request_or_change(world: World) -> None:
    good = world.vouch(world.bob, "-", stdin=world.asked)
    other = world.request(world.device("bob", "bob-watch"))
    asked = world.file("other.request", other)
    world.refuse("principal", "add", asked, "--vouch", "-", stdin=good, words=["something else", "device bob-tablet"])
    again = world.file("again.request", world.request(world.tablet))  # same device, another request
    world.refuse("principal", "add", again, "--vouch", "-", stdin=good, words=["something else"])
    asked = world.file("bob-tablet.request", world.asked)
    done = world.refuse("principal", "add", asked, "--cap", "read", "--vouch", "-", stdin=good, words=["another cap"])
    assert "no --cap" in done.err
    capped = world.vouch(world.bob, "-", "--at-most", "read", stdin=world.asked)
    done = world.refuse("principal", "add", asked, "--vouch", "-", stdin=capped, words=["another cap"])
    assert "--cap read" in done.err
    lift = world.file("x.vouch", good)
    world.alice.ok("principal", "cap", "bob-phone", "read")
    world.refuse("principal", "cap", "bob-phone", "clear", "--vouch", lift, words=["something else"])
    world.alice.ok("principal", "add", asked, "--cap", "read", "--vouch", "-", stdin=capped)
    assert str(world.alice.state().principals["bob-tablet"].cap) == "read"


def test_a20_not_by_another_user_or_a_disabled_device(world: World) -> None:
    """Neither made by zopp on such a device, nor, made by hand or earlier, taken."""
    for other in (world.team.carol, world.alice, world.team.ci):
        other.pull()
        done = other.zopp("principal", "vouch", "-", "--yes", stdin=world.asked)
        refused(done, 1, words=["only a device of bob can vouch"])
        assert done.out == ""
    asked = world.file("bob-tablet.request", world.asked)
    good = world.vouch(world.phone, "-", stdin=world.asked)
    for by in ("alice-laptop", "ci", "nobody"):
        forged = json.dumps(json.loads(good) | {"vouch": json.loads(good)["vouch"] | {"device": by}}, sort_keys=True)
        world.refuse("principal", "add", asked, "--vouch", "-", stdin=forged.replace(": ", ":").replace(", ", ","),
                     words=["the vouch is by"])  # fmt: skip
    moved = good.replace('"device":"bob-phone"', '"device":"bob-laptop"')
    world.refuse("principal", "add", asked, "--vouch", "-", stdin=moved, words=["its vouch does not verify"])
    world.alice.ok("principal", "disable", "bob-phone")
    world.team.sync()
    world.phone.pull()
    world.refuse("principal", "add", asked, "--vouch", "-", stdin=good, words=["by bob-phone, which is disabled"])
    refused(world.phone.zopp("principal", "vouch", "-", "--yes", stdin=world.asked), 1, words=["disabled"])
    refused(world.phone.zopp("principal", "vouch", "--enable", "bob-phone", "--yes"), 1, words=["disabled"])


def test_a20_not_expired_nor_used_nor_of_another_workspace(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = world.file("bob-tablet.request", world.asked)
    good = world.vouch(world.bob, "-", stdin=world.asked)
    elsewhere = good.replace(world.alice.state().ws, "0" * 64)
    world.refuse("principal", "add", asked, "--vouch", "-", stdin=elsewhere, words=["another workspace"])
    refused(
        world.bob.zopp("principal", "vouch", "-", "--yes", stdin=world.asked.replace(world.alice.state().ws, "0" * 64)),
        1,
    )
    later = json.loads(good)["vouch"]["not_after"] + 1
    with monkeypatch.context() as patch:
        patch.setattr("zopp.repo.changing.now", lambda: later)
        done = world.refuse("principal", "add", asked, "--vouch", "-", stdin=good, words=["the vouch has expired"])
        assert "zopp principal vouch" in done.err
    world.alice.ok("principal", "add", asked, "--vouch", "-", stdin=good)
    # Used once: what it let in, taken out and vouched for again, needs a new word.
    world.alice.ok("principal", "disable", "bob-tablet")
    world.team.sync()
    enable = world.vouch(world.bob, "--enable", "bob-tablet")
    world.alice.ok("principal", "enable", "bob-tablet", "--vouch", "-", stdin=enable)
    world.alice.ok("principal", "disable", "bob-tablet")
    world.refuse("principal", "enable", "bob-tablet", "--vouch", "-", stdin=enable, words=["used before"])


def test_a20_new_keys_a_cap_and_no_self_vouch(world: World) -> None:
    alice, bob, phone = world.alice, world.bob, world.phone
    lost = world.device("bob", "bob-laptop")  # bob's laptop was stolen; these are keys of its successor
    asked = world.file("bob-laptop.request", world.request(lost))
    done = alice.zopp("principal", "add", asked, code=1)
    assert "zopp principal rekey" in done.err
    done = world.refuse("principal", "rekey", asked, words=["present devices"])
    assert f"zopp principal vouch {asked} > bob-laptop.vouch; then here: zopp principal rekey {asked}" in done.err
    vouch = phone.zopp("principal", "vouch", asked, "--yes", code=0)
    assert "new keys" in vouch.err and lost.recipient in vouch.err
    alice.ok("principal", "rekey", asked, "--vouch", "-", stdin=vouch.out)
    alice.ok("verify")
    assert alice.state().principals["bob-laptop"].recipient == lost.recipient
    world.team.sync()
    lost.pull()
    phone.pull()
    assert lost.get("BASE") == "base-dev"
    assert bob.zopp("get", "BASE", "-e", "dev").code != 0

    alice.ok("principal", "cap", "bob-phone", "read")
    world.team.sync()
    phone.pull()
    lost.pull()
    done = world.refuse("principal", "cap", "bob-phone", "write", words=["vouch"])
    assert "zopp principal vouch --cap bob-phone write > bob-phone.vouch" in done.err
    refused(phone.zopp("principal", "vouch", "--cap", "bob-phone", "write", "--yes"), 1, words=["for itself"])
    refused(lost.zopp("principal", "vouch", "--cap", "bob-phone", "none", "--yes"), 2, words=["no vouch is needed"])
    word = world.vouch(lost, "--cap", "bob-phone", "write")
    world.refuse("principal", "cap", "bob-phone", "clear", "--vouch", "-", stdin=word, words=["something else"])
    alice.ok("principal", "cap", "bob-phone", "write", "--vouch", "-", stdin=word)
    assert str(alice.state().principals["bob-phone"].cap) == "write"


def test_a20_with_no_device_left_the_way_is_named(world: World) -> None:
    for name in ("bob-laptop", "bob-phone"):
        world.alice.ok("principal", "disable", name)
    done = world.refuse("principal", "add", "-", stdin=world.asked, words=["zopp revoke bob", "zopp grant bob admin"])
    assert "principal vouch" not in done.err


@pytest.mark.parametrize("junk", [b"", b"{}", b"\xff\xfe", b"[" * 100_000, b"A" * 100_000, b'{"v":1}'])
def test_a20_hostile_text(world: World, junk: bytes) -> None:
    asked = world.file("bob-tablet.request", world.asked)
    before = world.alice.tree()
    refused(world.alice.zopp("principal", "add", asked, "--vouch", "-", stdin=junk), 1)
    refused(world.alice.zopp("principal", "vouch", "-", "--yes", stdin=junk), 1)
    assert world.alice.tree() == before


def test_a20_it_asks_and_needs_a_pinned_clone(world: World) -> None:
    done = world.bob.zopp("principal", "vouch", "-", stdin=world.asked, code=2)
    assert "--yes" in done.err and done.out == ""
    for argv in (("--enable", "bob-phone"), ("--cap", "bob-phone", "clear"), ("-", "--enable", "bob-phone"), ()):
        done = world.bob.zopp("principal", "vouch", *argv, "--digest", "0" * 64, stdin=world.asked, code=2)
        assert done.out == ""
    done = world.bob.zopp("principal", "vouch", "-", "--digest", "0" * 64, stdin=world.asked, code=2)
    assert "another fingerprint" in done.err and done.out == ""
    shown = world.bob.zopp("principal", "vouch", "-", "--yes", stdin=world.asked, code=0)
    for word in ("user bob, device bob-tablet", world.tablet.recipient, "fingerprint", "once, until"):
        assert word in shown.err
    world.bob.ok("trust", "--reset", "--yes")
    refused(world.bob.zopp("principal", "vouch", "-", "--yes", stdin=world.asked), 3)
