"""What a branch has in the clear and base or head say must be encrypted: in any of its commits, whatever it does to the
rules, and without its value ever being shown."""

import json
from collections.abc import Callable

import pytest

from tests.review.test_review import CANARY, FILE, MALLORY, codes, review
from tests.support import Team, User

CONF = "conf/app.enc.yaml"
PLAIN = f"password: {CANARY}\nother: {CANARY}\n"


@pytest.fixture
def alice(team: Team) -> User:
    """alice on branch `topic`; the base's `.sops.yaml` has a rule of hers for conf/*.enc.yaml."""
    alice = team.alice
    alice.write("conf/keep.txt", "x\n")
    alice.write(".sops.yaml", alice.read(".sops.yaml").decode() + rule("conf/.*\\.enc\\.yaml$"))
    alice.share("rules")
    alice.git("checkout", "-q", "-b", "topic")
    return alice


def rule(pattern: str) -> str:
    return f"    - path_regex: {pattern}\n      age: {MALLORY}\n"


def blockers(found: dict[str, object], place: str) -> list[dict[str, str]]:
    return [r for r in found["remarks"] if r["place"] == place and r["severity"] == "blocker"]  # type: ignore[attr-defined]


def test_plaintext_under_a_rule_of_the_base(alice: User) -> None:
    alice.write(CONF, "# words\n" + PLAIN)
    commit = alice.commit()
    (remark,) = blockers(review(alice, code=1), CONF)
    assert remark["code"] == "guard.not_encrypted"
    assert remark["message"].startswith("line 2: password and 1 more are not encrypted, and rule ")
    assert commit[:12] in remark["message"] and f"sops encrypt --in-place {CONF}" in remark["fix"]
    assert remark["line"] == 2
    (run,) = json.loads((alice.home / "r.sarif").read_text())["runs"]
    (at,) = run["results"][0]["locations"]
    assert (at["physicalLocation"]["artifactLocation"]["uri"], at["physicalLocation"]["region"]) == (
        CONF,
        {"startLine": 2},
    )
    assert f"✗ {CONF}: line 2: password" in alice.zopp("review", "main..topic", code=1).out


def test_what_a_later_commit_takes_away_stays_in_history(alice: User) -> None:
    alice.write(CONF, PLAIN)
    commit = alice.commit()
    alice.path(CONF).unlink()
    alice.commit()
    (remark,) = blockers(review(alice, code=1), CONF)
    assert remark["message"].startswith(f"in commit {commit[:12]}, gone from the head but not from its history: pass")
    assert "git rebase -i" in remark["fix"]


def test_a_managed_file_that_is_plain_for_one_commit(alice: User) -> None:
    """Nothing in the head tells: the file there is the signed one."""
    good = alice.read(FILE)
    alice.write(FILE, f"BASE: {CANARY}\n")
    alice.commit()
    alice.write(FILE, good)
    alice.commit()
    (remark,) = blockers(review(alice, code=1), FILE)
    assert (remark["code"], remark["environment"]) == ("guard.not_encrypted", "api/dev")


def drop_rule(user: User) -> None:
    text = user.read(".sops.yaml").decode()
    user.write(".sops.yaml", text.replace(rule("conf/.*\\.enc\\.yaml$"), ""))


def call_it_plain(user: User) -> None:
    user.write("zopp.toml", user.read("zopp.toml").decode() + f'\n[guard]\nplain = ["{CONF}", "conf/*", "*"]\n')


def nearer_rules(user: User) -> None:
    user.write("conf/.sops.yaml", "creation_rules:\n" + rule("nothing"))


def except_it(user: User) -> None:
    user.write(".gitleaks.toml", "[allowlist]\npaths = ['''.*''']\n")
    user.write(CONF, f"password: {CANARY} # zopp:allow not-encrypted it is fine\n")


def attribute(user: User) -> None:
    user.write(".gitattributes", "* -diff\n*.yaml filter=lfs diff=lfs binary\n")


@pytest.mark.parametrize("hide", [drop_rule, call_it_plain, nearer_rules, except_it, attribute])
@pytest.mark.parametrize("first", [True, False])
def test_no_rule_of_the_head_takes_away_what_the_base_demands(
    alice: User, hide: Callable[[User], None], first: bool
) -> None:
    for step in (hide, lambda user: user.write(CONF, PLAIN)) if first else (lambda u: u.write(CONF, PLAIN), hide):
        step(alice)
        alice.commit()
    found = review(alice, code=1)
    assert "guard.not_encrypted" in {remark["code"] for remark in blockers(found, CONF)}


def test_a_wide_rule_and_what_the_base_calls_plain(alice: User) -> None:
    """`plain` of the base lets the path pass the base's rule; `plain` that the head adds does not."""
    alice.git("checkout", "-q", "main")
    alice.write(".sops.yaml", alice.read(".sops.yaml").decode() + rule(".*\\.json$"))
    alice.write("zopp.toml", alice.read("zopp.toml").decode() + '\n[guard]\nplain = ["ok/*"]\n')
    alice.commit()
    alice.git("checkout", "-q", "-B", "topic")
    alice.write("ok/a.json", '{"a": "b"}\n')
    alice.commit()
    review(alice, code=0)
    alice.replace("zopp.toml", '"ok/*"', '"*"')
    alice.write("other/a.json", f'{{"a": "{CANARY}"}}\n')
    alice.commit()
    assert blockers(review(alice, code=1), "other/a.json")


def test_a_rule_that_the_head_brings_for_a_file_that_is_there(alice: User) -> None:
    alice.git("checkout", "-q", "main")
    alice.write("late/x.yaml", PLAIN)
    alice.commit()
    alice.git("checkout", "-q", "-B", "topic")
    alice.write(".sops.yaml", alice.read(".sops.yaml").decode() + rule("late/x"))
    alice.commit()
    (remark,) = blockers(review(alice, code=1), "late/x.yaml")
    assert "since" not in remark["message"]


def test_what_the_base_has_in_the_clear_is_no_fault_of_a_branch(alice: User) -> None:
    """Not even of one that merges the base in; of one that touches the file it is."""
    alice.write("README", "x\n")
    alice.commit()
    alice.git("checkout", "-q", "main")
    alice.write(CONF, PLAIN)
    alice.commit()
    alice.git("checkout", "-q", "topic")
    alice.git("merge", "-q", "-m", "catch up", "main")
    review(alice, code=0)
    alice.write(CONF, PLAIN + "# a word\n")
    alice.commit()
    assert blockers(review(alice, code=1), CONF)


def test_a_merge_that_slips_plaintext_in(alice: User) -> None:
    alice.write("README", "x\n")
    alice.commit()
    alice.git("checkout", "-q", "main")
    alice.write("NEWS", "x\n")
    alice.commit()
    alice.git("checkout", "-q", "topic")
    alice.git("merge", "-q", "--no-commit", "main")
    alice.write(CONF, PLAIN)
    alice.commit("merge")
    alice.path(CONF).unlink()
    alice.commit()
    assert blockers(review(alice, code=1), CONF)


def link_to_file(user: User) -> str:
    user.write("plain.yaml", PLAIN)
    user.path(CONF).symlink_to("../plain.yaml")
    return CONF


def link_for_folder(user: User) -> str:
    user.git("rm", "-rq", "secrets")
    user.path("secrets").symlink_to("elsewhere")
    user.write("elsewhere/dev.yaml", PLAIN)
    return "secrets"


def pointer(user: User) -> str:
    user.write(CONF, "version https://git-lfs.github.com/spec/v1\noid sha256:" + "a" * 64 + "\nsize 9\n")
    return CONF


def left_clear(user: User) -> str:
    """A sops file whose own selector leaves clear what the rule wants encrypted."""
    text = user.read(FILE).decode().replace("unencrypted_suffix: _unencrypted", "encrypted_regex: ^BASE$")
    user.write(CONF, f"MORE: {CANARY}\n" + text)
    return CONF


@pytest.mark.parametrize(
    ("do", "code"),
    [(link_to_file, "link"), (link_for_folder, "link"), (pointer, "lfs_pointer"), (left_clear, "selector")],
)
def test_forms_of_no_encrypted_file(alice: User, do: Callable[[User], str], code: str) -> None:
    place = do(alice)
    alice.commit()
    found = review(alice, code=1)
    assert f"guard.{code}" in {remark["code"] for remark in blockers(found, place)}


@pytest.mark.parametrize("place", [FILE, "secrets"])
def test_a_submodule_where_secrets_belong(alice: User, place: str) -> None:
    commit = alice.git("rev-parse", "HEAD")
    alice.git("rm", "-rq", "--cached", place)
    alice.git("update-index", "--add", "--cacheinfo", f"160000,{commit},{place}")
    alice.git("commit", "-qm", "odd")
    done = alice.zopp("review", "main..topic", "--json", code=1)
    assert "guard.submodule" in {remark["code"] for remark in blockers(done.json, place)}


def test_too_large_to_be_judged(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    from zopp.repo import files

    alice.write("conf/huge.txt", "x" * (5 << 20))
    alice.commit()
    review(alice, code=0)
    alice.write(CONF, "a: " + "x" * (5 << 20) + "\n")
    alice.commit()
    assert blockers(alice.zopp("review", "main..topic", "--json", code=1).json, CONF)
    monkeypatch.setattr(files, "MAX_BYTES", 4 << 20)
    found = alice.zopp("review", "main..topic", "--json", code=3).json
    assert "guard.unknown" in codes(found, "unknown")


def test_what_cannot_be_read_is_not_clean(alice: User) -> None:
    alice.write(CONF, f"a: [{CANARY}\n")
    alice.commit()
    assert "guard.unknown" in codes(review(alice, code=3), "unknown")


def test_rules_that_cannot_be_read(alice: User) -> None:
    """Of the head: it could not be told. Of the base, where the head mends them: a warning."""
    good = alice.read(".sops.yaml")
    alice.write("conf/.sops.yaml", f"creation_rules: {CANARY}\n")
    alice.write(CONF.replace("enc", "x"), "a: 1\n")
    alice.commit()
    assert "guard.unknown" in codes(review(alice, code=3), "unknown")
    alice.git("checkout", "-q", "main")
    alice.git("merge", "-q", "--ff-only", "topic")
    alice.git("checkout", "-q", "topic")
    alice.path("conf/.sops.yaml").unlink()
    alice.write(CONF.replace("enc", "x"), "a: 2\n")
    alice.commit()
    found = review(alice, code=0)
    assert [r["in_base"] for r in found["remarks"] if r["code"] == "guard.unknown"] == [True]  # type: ignore[attr-defined]
    assert alice.read(".sops.yaml") == good


def test_encrypted_renamed_and_deleted_pass(alice: User) -> None:
    alice.write("conf/data.yaml", PLAIN)
    alice.git("checkout", "-q", "main")
    alice.commit()
    alice.git("checkout", "-q", "-B", "topic")
    alice.write(CONF, alice.read(FILE))
    alice.commit()
    assert not blockers(review(alice, code=0), CONF)
    alice.path(CONF).unlink()
    alice.commit()
    review(alice, code=0)
    alice.git("mv", "conf/data.yaml", CONF)
    alice.commit()
    assert blockers(review(alice, code=1), CONF)


def test_names_are_hostile_and_other_gits_do_not_count(alice: User) -> None:
    path = "conf/a`b\x1b[31m$(id).enc.yaml"
    alice.write(path, PLAIN)
    alice.commit()
    found = review(alice, code=1)
    assert blockers(found, path)
    shown = alice.zopp("review", "main..topic", code=1, env={"GIT_DIR": "/nowhere", "GIT_EXTERNAL_DIFF": "false"}).out
    assert "\x1b" not in shown and "guard.not_encrypted" in shown


@pytest.mark.parametrize("gone", [True, False])
def test_a_commit_whose_files_are_not_here(alice: User, gone: bool) -> None:
    """A partial clone may lack what only an inner commit has, or a file of the head that nobody reads: not clean, and
    the rest of the review is said."""
    alice.write("inner.txt", "only here\n")
    alice.commit()
    blob = alice.git("rev-parse", "HEAD:inner.txt")
    if gone:
        alice.path("inner.txt").unlink()
    alice.write("CODEOWNERS", "* @x\n")
    alice.commit()
    alice.path(f".git/objects/{blob[:2]}/{blob[2:]}").unlink()
    found = review(alice, code=3)
    assert codes(found, "unknown") == {"git.failed"} and codes(found, "warning") == {"guarding"}


def test_any_number_of_them(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zopp.review.judging._MAX_FAULTS", 3)
    for number in range(5):
        alice.write(f"conf/{number}.enc.yaml", PLAIN)
        alice.write(f"conf/{number}.y.enc.yaml", "a: [\n")
    alice.commit()
    found = review(alice, code=1)
    messages = [remark["message"] for remark in found["remarks"]]  # type: ignore[attr-defined]
    assert sum("password" in message for message in messages) == 3 and len(messages) == 8
    assert {"2 more places are not encrypted", "2 more files cannot be judged"} <= set(messages)
