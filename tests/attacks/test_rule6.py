"""brokered-grants §6, rule 6: which files a manifest may list, whoever signed it."""

import pytest

from tests.support import Team, User, refused
from zopp.keys import sshsig
from zopp.policy import manifest as manifests
from zopp.policy.manifest import FileEntry
from zopp.repo.environment import open_environment
from zopp.repo.unlock import Keyring, data_key
from zopp.repo.workspace import open_workspace

WRITES = (("set", "BASE"), ("unset", "BASE", "--yes"), ("import", "-"), ("rekey", "--all", "api/dev"))
INPUT = {"import": "NEW=v\n"}


def all_refused(user: User, verbs: tuple[tuple[str, ...], ...], *words: str, cwd: str = "", env: str = "dev") -> None:
    before = user.tree()
    for argv in verbs:
        named = () if argv[0] == "rekey" else ("-e", env)
        done = user.zopp(argv[0], *named, *argv[1:], stdin=INPUT.get(argv[0], "v"), cwd=cwd)
        refused(done, 1, 125, words=words)
        assert done.exec is None
        assert user.tree() == before, argv


@pytest.fixture
def web(team: Team) -> Team:
    """A second project in a folder, with one environment and one value; bob writes there and knows the folder."""
    alice = team.alice
    alice.ok("project", "create", "web", "--folder", "web")
    alice.ok("env", "add", "live", cwd="web")
    alice.ok("grant", "bob", "write", "web")
    alice.ok("set", "PAGE", "-e", "live", stdin="p", cwd="web")
    team.sync("web")
    team.bob.ok("trust", "--yes", cwd="web")
    return team


def listed_elsewhere(user: User, path: str) -> None:
    """`web/live` as its writer would sign it with the file at another place: every hash and commitment right."""
    ws = open_workspace(str(user.repo / "web"), user.env)
    env = open_environment(ws, "web/live")
    assert env.manifest is not None
    (old,) = env.manifest.files
    file = env.files[old]
    key = data_key(ws, env, file, Keyring(user.env, lambda source: ""))
    entry = env.manifest.files[old]
    moved = FileEntry(entry.sha512, manifests.commitment(key, ws.state.ws, "web/live", path), entry.dk_seq, entry.dk_by)
    assert file.data is not None
    user.write(path, file.data)
    user.path(old).unlink()
    data = manifests.build(
        ws=ws.state.ws, env="web/live", generation=env.manifest.generation + 1, prev=env.manifest.hash,
        policy_seq=ws.state.seq, policy_hash=ws.state.head, signer=user.principal,
        groups=[list(group) for group in env.manifest.groups], files={path: moved}, meta={},
    )  # fmt: skip
    user.write(".zopp/manifest/web/live.json", data)
    armored = sshsig.armor(user.key.public, manifests.NAMESPACE, user.key.sign(manifests.to_sign(data)))
    user.write(".zopp/manifest/web/live.json.sig", armored)


def test_outside_the_projects_folder(web: Team) -> None:
    """A file beside the folder, in a folder whose name only begins like it, or another project's: refused in the
    project's folder and from outside it, by reads and writes, also on the short way."""
    bob = web.bob
    reads = (("get", "PAGE"), ("list",), ("run", "--", "true"), ("export", "-f", "json"))
    writes = (("set", "PAGE"), ("set", "PAGE", "--note", "full path"), ("unset", "PAGE", "--yes"), ("import", "-"))
    for path in ("secrets/live.yaml", "web2/live.yaml", "live.yaml"):
        listed_elsewhere(bob, path)
        done = bob.zopp("verify")
        assert (
            done.code == 1 and f"error: {path}: lies outside web, the folder of project web [path.outside]" in done.out
        )
        all_refused(bob, (*reads, *writes), "lies outside web", cwd="web", env="live")
        all_refused(
            bob, tuple((*a[:1], "-p", "web", *a[1:]) for a in (*reads, *writes)), "lies outside web", env="live"
        )
        job = bob.zopp("verify", env={"CI": "true", "ZOPP_TRUST": web.trust()})
        assert job.code == 1 and "path.outside" in job.out
        bob.git("reset", "-q", "--hard")
        bob.git("clean", "-qfd")
    assert bob.ok("get", "PAGE", "-e", "live", cwd="web").out == "p"
    bob.ok("set", "PAGE", "-e", "live", stdin="new", cwd="web")
    assert bob.ok("get", "PAGE", "-e", "live", "-p", "web").out == "new"


def test_another_projects_file_is_taken_out_by_sign(web: Team) -> None:
    bob = web.bob
    listed_elsewhere(bob, "secrets/live.yaml")
    refused(bob.zopp("get", "PAGE", "-e", "live", cwd="web"), words=["zopp sign -e live"])
    bob.write("web/secrets/live.yaml", bob.read("secrets/live.yaml"))
    bob.path("secrets/live.yaml").unlink()
    done = bob.ok("sign", "-e", "live", "--only", "PAGE", cwd="web")
    assert "secrets/live.yaml: is not this environment's to list" in done.err
    assert bob.ok("get", "PAGE", "-e", "live", cwd="web").out == "p"
    bob.ok("verify")


def shared(team: Team) -> User:
    """dev's manifest lists staging's file, signed by one who writes both."""
    bob = team.bob
    team.grant("bob", "write")
    entry = bob.manifest("staging").files["secrets/staging.yaml"]
    bob.sign_manifest("dev", files={**bob.manifest("dev").files, "secrets/staging.yaml": entry})
    return bob


def test_one_file_in_two_manifests(team: Team) -> None:
    """Writes of both environments are refused and `verify` fails; a read looks at its own manifest only."""
    bob = shared(team)
    done = bob.zopp("verify")
    assert done.code == 1 and "secrets/staging.yaml: is listed by api/dev and by api/staging [path.shared]" in done.out
    writes = (("set", "BASE"), ("set", "NEW", "--note", "full path"), *WRITES[1:])
    all_refused(bob, writes, "is listed by", env="dev")
    all_refused(bob, (*writes[:4], ("rekey", "--all", "api/staging")), "is listed by", env="staging")
    assert bob.get("BASE", "staging") == "base-staging"


def test_taking_a_file_out_again(team: Team) -> None:
    """`zopp sign` leaves out what zopp.toml gives to the other environment; there it is no one's to take out."""
    bob = shared(team)
    refused(bob.zopp("sign", "-e", "staging", "--unchanged"), words=["is listed by"])
    done = bob.ok("sign", "-e", "dev", "--unchanged")
    assert "secrets/staging.yaml: is not this environment's to list; the manifest leaves it out" in done.err
    bob.ok("verify")
    assert list(bob.manifest("dev").files) == ["secrets/dev.yaml"]
    bob.set("BASE", "again")
    bob.set("BASE", "again", "staging")
    bob.ok("verify")


def test_removal_names_what_stays_open(team: Team) -> None:
    """A revocation is signed; the environment whose file another one lists stays open and is named."""
    bob = shared(team)
    bob.share("shared")
    team.alice.pull()
    done = team.alice.zopp("revoke", "bob", "api", code=1)
    assert "api/dev is not done: secrets/staging.yaml: is listed by api/dev and by api/staging" in done.err
    assert "bob-laptop" not in team.alice.state().writers("api/dev")
