"""S57 for files of several documents: they pair up by position, and a typed key is one of the first."""

import pytest

from tests.attacks.test_a01_files import data_key, list_file
from tests.support import Team, User, refused
from zopp import sopsfile

FILE = "secrets/dev.yaml"
FIRST = "BASE: one\nshared: a1\n---\n# above\nshared: b1\nnested:\n    x: x1\n    y: y1\nlist: [1, 2]\n"
SECOND = "BASE: two\nshared: a2\nnew: n\n---\n# above\nshared: b2\nnested:\n    y: y1\n    z: z2\nlist: [1]\nmore: m\n"


def write(user: User, text: str) -> str:
    """The file under its data key, signed and committed."""
    old, key = sopsfile.read(user.read(FILE), "yaml"), data_key(user, "dev")
    tree = sopsfile.load_plain(text.encode(), "yaml")
    list_file(
        user, "dev", sopsfile.encrypt(tree, "yaml", key, old.metadata.groups, lastmodified="2026-01-01T00:00:00Z")
    )
    user.ok("verify")
    return user.commit("by hand")


def plain(user: User) -> list[object]:
    tree = sopsfile.read(user.read(FILE), "yaml").decrypt(data_key(user, "dev"))
    return [sopsfile.to_plain(document) for document in tree.documents]


@pytest.fixture
def alice(team: Team) -> User:
    return team.alice


def test_s57_all_documents(alice: User) -> None:
    first = write(alice, FIRST)
    then = plain(alice)
    write(alice, SECOND)
    before = sopsfile.read(alice.read(FILE), "yaml")
    kept = next(leaf[3] for leaf in before.scan.leaves if leaf[1] == ("nested", "y"))
    done = alice.ok("rollback", "--all", "--to", first, "-m", "back")
    assert plain(alice) == then
    assert "[document 1] nested.z" in done.err and "[document 1] more" in done.err
    after = sopsfile.read(alice.read(FILE), "yaml")
    assert next(leaf[3] for leaf in after.scan.leaves if leaf[1] == ("nested", "y")) == kept
    assert alice.read(FILE).count(b"#ENC[") == 1  # the comment
    alice.ok("verify")
    assert "nothing written" in alice.ok("rollback", "--all", "--to", first).err


def test_s57_a_change_in_a_later_document_only(alice: User) -> None:
    """A value of the second document that bears the name of one in the first is not taken for it."""
    first = write(alice, FIRST)
    write(alice, FIRST.replace("shared: b1", "shared: a1"))
    alice.ok("rollback", "--all", "--steps", "1", "-m", "back")
    assert plain(alice)[0]["shared"] == "a1" and plain(alice)[1]["shared"] == "b1"  # type: ignore[index]
    assert alice.git("diff", "--stat", first, "HEAD", "--", FILE)  # a new change, with its own time and MAC


def test_s57_a_typed_key_is_one_of_the_first_document(alice: User) -> None:
    first = write(alice, FIRST)
    write(alice, SECOND)
    alice.ok("rollback", "shared", "--to", first)
    (one, two) = plain(alice)
    assert one["shared"] == "a1" and one["BASE"] == "two" and two["shared"] == "b2"  # type: ignore[index]
    before = alice.tree()
    for key in ("nested", "nested.x", "list"):
        refused(alice.zopp("rollback", key, "--to", first), 1, 2, words=["document", "--all"])
    assert alice.tree() == before
    alice.ok("verify")


@pytest.mark.parametrize("text", ["BASE: two\n", FIRST + "---\nthird: 1\n"])
def test_s57_another_number_of_documents_is_refused(alice: User, text: str) -> None:
    first = write(alice, FIRST)
    write(alice, text)
    before = alice.tree()
    refused(alice.zopp("rollback", "--all", "--to", first), 2, words=["documents", "belong together", FILE])
    assert alice.tree() == before
    alice.ok("rollback", "BASE", "--to", first)
    assert plain(alice)[0]["BASE"] == "one"  # type: ignore[index]


def test_s57_a_file_that_is_gone_or_was_not_there(alice: User) -> None:
    alice.replace("zopp.toml", 'files = ["secrets/dev.yaml"]', 'files = ["secrets/dev.yaml", "secrets/more.yaml"]')
    alice.ok("trust", "--yes")
    old = alice.commit("before")
    write(alice, FIRST)
    refused(alice.zopp("rollback", "--all", "--to", old), 2, words=["had one then", "2 documents now"])
