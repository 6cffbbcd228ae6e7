"""Objects of git by name, one process for all."""

import subprocess
from pathlib import Path

from zopp.repo import git


def test_what_is_missing_may_have_spaces_in_its_name(tmp_path: Path) -> None:
    env = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "GIT_CONFIG_NOSYSTEM": "1"}
    (tmp_path / "a b.yaml").write_bytes(b"one\n")
    who = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    for argv in (("init", "-q"), ("add", "."), (*who, "commit", "-q", "-m", "x")):
        subprocess.run(["git", *argv], cwd=tmp_path, env=env, check=True)
    names = ["HEAD:c d.yaml", "HEAD:a b.yaml", "HEAD:e f g", "HEAD:h", "nowhere: x", "HEAD"]
    assert dict(git.blobs(str(tmp_path), names)) == {"HEAD:a b.yaml": b"one\n"}
    assert [kind for _, kind, _ in git.objects(str(tmp_path), names)] == ["blob", "commit"]
