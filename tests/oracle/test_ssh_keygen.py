"""`ssh-keygen` and zopp on each other's manifest signatures."""

import subprocess

import pytest

from tests.support import Team, User
from zopp.policy import manifest as manifests

PATH = ".zopp/manifest/api/dev.json"


def keygen(user: User, *argv: str, data: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        ["ssh-keygen", *argv], cwd=user.repo, input=data, capture_output=True, env=user.env, check=False
    )


def verified(user: User, signer: str, namespace: str = manifests.NAMESPACE) -> bool:
    """What `ssh-keygen -Y verify` says of dev's manifest with the list that zopp prints."""
    user.path("allowed").write_text(user.ok("policy", "allowed-signers", "-e", "dev").out)
    argv = ("-Y", "verify", "-f", "allowed", "-I", signer, "-n", namespace, "-s", PATH + ".sig")
    done = keygen(user, *argv, data=user.read(PATH))
    user.path("allowed").unlink()
    return done.returncode == 0


def test_ssh_keygen_accepts_a_manifest_of_zopps(team: Team) -> None:
    """And refuses it as somebody else's, for another purpose, or changed."""
    team.grant("bob", "write", "api/dev")
    team.alice.set("A", "1")
    assert verified(team.alice, "alice-laptop")
    assert not verified(team.alice, "bob-laptop")
    assert not verified(team.alice, "alice-laptop", "git")
    team.alice.replace(PATH, '"v":1', '"v":1 ')
    assert not verified(team.alice, "alice-laptop")


@pytest.mark.parametrize("writer", [True, False])
def test_zopp_accepts_a_manifest_signed_by_ssh_keygen(team: Team, writer: bool) -> None:
    """If the key is a writer's; a reader's is refused."""
    team.grant("bob", "write" if writer else "read", "api/dev")
    bob = team.bob
    bob.sign_manifest("dev")
    bob.path(PATH + ".sig").unlink()
    key = bob.home / ".config/zopp/keys" / "bob-laptop.ssh"
    if not key.exists():
        key = next((bob.home / ".config/zopp/keys").glob("*.ssh"))
    assert keygen(bob, "-q", "-Y", "sign", "-f", str(key), "-n", manifests.NAMESPACE, PATH).returncode == 0
    assert bob.zopp("verify").code == (0 if writer else 1)
    assert bob.zopp("list", "-e", "dev").code == (0 if writer else 1)
