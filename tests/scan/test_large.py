"""Files over 4 MB: searched in blocks; what only a whole file shows is said to be unknown, never skipped silently."""

import json

import pytest

from tests.scan.repo import Repo, sealed, token

FILL = "padding: one line of it\n" * 200_000  # 4.8 MB


def test_it_is_said_that_a_file_was_searched_in_blocks(repo: Repo) -> None:
    repo.stage("big.txt", FILL)
    repo.stage("small.txt", "x\n")
    said = repo.zopp("scan", "--json")
    assert said.code == 0 and json.loads(said.out)["in_blocks"] == 1
    for argv in (("scan",), ("scan", "--all"), ("scan", "big.txt")):
        said = repo.zopp(*argv)
        assert said.code == 0 and "1 of them over 4 MB, searched in blocks" in said.text, said.text
    repo.git("rm", "-q", "--cached", "big.txt")
    assert "blocks" not in repo.zopp("scan").text


def test_a_token_is_found_anywhere_in_it(repo: Repo) -> None:
    repo.stage("big.txt", FILL + f"k = '{token()}'\n")
    assert "big.txt:200001:6: github-token" in repo.zopp("scan").text


LARGE = {
    "a file with sops metadata": ("a.yaml", FILL + sealed("a: b\n").decode()),
    "one in JSON": ("a.json", "{" + '"x": "y",\n' * 500_000 + sealed('{"a": "b"}', "json").decode()[1:]),
    "metadata of a dotenv file": ("example.env", "A=b\n" * 1_200_000 + "sops_mac=ENC[x]\nsops_version=3\n"),
    "a file that a rule names": ("secrets/a.yaml", FILL),
    "an .env file": (".env", "A=1\n" * 1_200_000),
    "a decrypted copy": ("a.dec.yaml", FILL),
    "remains of a file under a rule": ("secrets/a.yaml.orig", FILL),
}


@pytest.mark.parametrize("what", LARGE)
def test_what_cannot_be_judged_is_said_and_stops_the_commit(repo: Repo, what: str) -> None:
    """Exit 3, named, in the index, on the disk, and in a commit of a range."""
    name, data = LARGE[what]
    repo.stage(".sops.yaml", "creation_rules:\n  - path_regex: ^secrets/.*\\.yaml$\n    age: x\n")
    base = repo.commit()
    repo.stage(name, data)
    for argv in (("scan",), ("scan", "--all"), ("scan", name)):
        said = repo.zopp(*argv)
        assert said.code == 3, said.text
        assert f"{name}: could not be told: is too large (" in said.text
    repo.commit()
    said = repo.zopp("scan", "--range", f"{base}..HEAD")
    assert said.code == 3 and f"{name}: could not be told: is too large (" in said.text


def test_a_large_leftover_may_be_let_stay(repo: Repo) -> None:
    repo.stage("zopp.toml", '[guard]\nleftovers = ["*.dec.yaml"]\n')
    repo.stage("a.dec.yaml", FILL)
    assert repo.zopp("scan").code == 0


@pytest.mark.parametrize("name", ["dump.csv", "notes.png", "x.json", "sops.txt"])
def test_innocent_large_files_pass(repo: Repo, name: str) -> None:
    repo.stage(name, "they said: sops, mac and lastmodified\n" * 150_000)
    assert repo.zopp("scan").code == 0
