"""`zopp import vault` and `zopp import aws-sm` in a real repository, from the server to the commit."""

from __future__ import annotations

import builtins
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.robustness.test_canary import everywhere
from tests.sources.conftest import REGION
from tests.sources.servers import Asked, Bao, Fault, Front, Reply, Standin, aws_error, free_port
from tests.sources.test_vault_server import approle, jwt_login, rights
from tests.support import Done, Team, User

CANARY = "canary7Qz9hunter2"


@pytest.fixture
def alice(team: Team, bao: Bao) -> User:
    """Alice, with the token of the root at the real server."""
    team.alice.extra |= {"BAO_ADDR": bao.address, "BAO_TOKEN": bao.root}
    return team.alice


@pytest.fixture
def amazon(team: Team, front: Front) -> Iterator[User]:
    """Alice, with credentials for moto behind a front."""
    before = dict(team.alice.extra)
    team.alice.extra |= {
        "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_ENDPOINT_URL_SECRETS_MANAGER": front.address,
    }  # fmt: skip
    yield team.alice
    team.alice.extra = before


def silent(done: Done) -> Done:
    assert CANARY not in done.text
    return done


def subjects(user: User) -> list[str]:
    return user.git("log", "--format=%s").split("\n")


# --- Vault


def test_vault_plan_then_import_then_nothing_more(alice: User, bao: Bao, bao_kv: str) -> None:
    bao.put(bao_kv, "api/dev", {"DATABASE_URL": CANARY, "db-password": CANARY + "2"})
    bao.put(bao_kv, "api/dev/mail", {"key": CANARY + "3"})
    bao.note(bao_kv, "api/dev/mail", {"owner": "payments"})
    before = alice.tree()
    planned = silent(alice.zopp("import", "vault", f"{bao_kv}/api/dev", "-e", "dev", code=2))
    assert f"new  DATABASE_URL  {bao_kv}/api/dev/DATABASE_URL" in planned.err
    assert "look at the plan, then say --yes" in planned.err
    assert alice.tree() == before
    dry = silent(alice.ok("import", "vault", f"{bao_kv}/api/dev", "-e", "dev", "--dry-run"))
    assert dry.out.endswith("3 new\n") and alice.tree() == before
    done = silent(alice.ok("import", "vault", f"{bao_kv}/api/dev", "-e", "dev", "--yes", "-m", "from vault"))
    assert done.err.count("reads are recorded in the server's audit log") == 1
    assert f"delete at the source: {bao_kv}/api/dev, {bao_kv}/api/dev/mail (once nothing reads it there)" in done.err
    assert alice.get("DATABASE_URL").strip() == CANARY
    assert alice.get("DB_PASSWORD").strip() == CANARY + "2"
    assert alice.get("MAIL_KEY").strip() == CANARY + "3"
    record = json.loads(alice.read(".zopp/provenance/api/dev.json"))["keys"]
    assert record["MAIL_KEY"] == {
        "id": f"{bao.address}/{bao_kv}/api/dev/mail#key", "kind": "vault", "version": "1",
    }  # fmt: skip
    after = alice.tree()
    again = silent(alice.ok("import", "vault", f"{bao_kv}/api/dev", "-e", "dev", "--yes", "-m", "again"))
    assert "0 imported" in again.err
    assert alice.tree() == after and alice.git("status", "--short") == ""
    assert subjects(alice)[0] == "from vault"
    alice.ok("verify")


def test_vault_by_path_into_environments(alice: User, bao: Bao, bao_kv: str) -> None:
    bao.put(bao_kv, "api/dev", {"A": "1"})
    bao.put(bao_kv, "api/prod", {"A": "2"})
    bao.put(bao_kv, "api/prod/db", {"password": "3"})
    alice.ok("import", "vault", f"{bao_kv}/api", "--layout", "path", "--yes")
    assert [alice.get(key, env).strip() for key, env in (("A", "dev"), ("A", "prod"), ("DB_PASSWORD", "prod"))] == [
        "1", "2", "3",
    ]  # fmt: skip
    bao.put(bao_kv, "api/qa", {"A": "4"})
    refused = alice.zopp("import", "vault", f"{bao_kv}/api", "--layout", "path", "--yes", code=1)
    assert "has no environment qa" in refused.err


def test_vault_by_a_map_file(alice: User, bao: Bao, bao_kv: str) -> None:
    bao.put(bao_kv, "services/api/live", {"url": "1", "LEGACY_X": "2"})
    bao.put(bao_kv, "services/web/live", {"url": "3"})
    alice.write(
        "import.toml",
        f"""include = ["{bao_kv}/services/api/*"]
exclude = ["*/LEGACY_*"]
[[route]]
from = "{bao_kv}/services/api/live/*"
env = "prod"
names = "field"
[rename]
"{bao_kv}/services/api/live/url" = "DATABASE_URL"
""",
    )
    done = alice.ok("import", "vault", bao_kv, "--map", "import.toml", "--yes", "--json")
    assert {line["key"]: line["status"] for line in done.json["plan"]} == {
        "DATABASE_URL": "new", "SERVICES_API_LIVE_LEGACY_X": "skipped", "SERVICES_WEB_LIVE_URL": "skipped",
    }  # fmt: skip
    assert alice.get("DATABASE_URL", "prod").strip() == "1"
    # by now the key is known by where it came from, whatever it is called
    bao.put(bao_kv, "services/api/live", {"url": "9", "LEGACY_X": "2"})
    alice.ok("import", "vault", f"{bao_kv}/services/api", "-e", "prod", "--exclude", "LEGACY_X", "--yes")
    assert alice.get("DATABASE_URL", "prod").strip() == "9"
    assert "LIVE_URL" not in alice.ok("list", "-e", "prod").out


def test_vault_prune_removes_only_what_is_gone(alice: User, bao: Bao, bao_kv: str) -> None:
    alice.set("OWN", "mine")
    for name in ("kept", "gone", "soft", "closed"):
        bao.put(bao_kv, f"app/{name}", {"a": name, "b": name})
    bao.put(bao_kv, "apple", {"a": "beside"})
    imported = ("import", "vault", f"{bao_kv}/app", "-e", "dev", "--yes")
    alice.ok(*imported)
    alice.ok("import", "vault", f"{bao_kv}/apple", "-e", "dev", "--yes")
    bao.purge(bao_kv, "app/gone")
    bao.delete(bao_kv, "app/soft")
    bao.put(bao_kv, "app/kept", {"a": "kept", "c": "renamed"})
    bao.purge(bao_kv, "apple")
    # without --prune nothing goes
    assert "removed" not in alice.ok(*imported).err
    # what may not be seen is there all the same
    token = bao.token({**rights(bao_kv), f"{bao_kv}/data/app/closed": ["deny"]})
    refused = alice.zopp(*imported, "--prune", env={"BAO_TOKEN": token}, code=1)
    assert re.search(rf"^rejected +{bao_kv}/app/closed +denied$", refused.err, re.MULTILINE)
    done = alice.zopp(*imported, "--prune", "--partial", "--json", env={"BAO_TOKEN": token}, code=1)
    gone = {line["key"] for line in done.json["plan"] if line["status"] == "removed"}
    assert gone == {"KEPT_B", "GONE_A", "GONE_B", "SOFT_A", "SOFT_B"}
    left = set(alice.ok("list", "-e", "dev").out.split())
    assert {"OWN", "BASE", "KEPT_A", "KEPT_C", "CLOSED_A", "CLOSED_B", "a"} <= left
    assert not gone & left
    alice.ok("verify")


def test_vault_a_branch_that_is_denied_stops_all_unless_it_is_left_out(alice: User, bao: Bao, bao_kv: str) -> None:
    bao.put(bao_kv, "app/open", {"a": CANARY})
    bao.put(bao_kv, "app/team/x", {"a": CANARY})
    env = {"BAO_TOKEN": bao.token({**rights(bao_kv), f"{bao_kv}/metadata/app/team/*": ["deny"]})}
    words = ("import", "vault", f"{bao_kv}/app", "-e", "dev", "--yes")
    before = alice.tree()
    refused = silent(alice.zopp(*words, env=env, code=1))
    assert f"{bao_kv}/app/team/: the token may not list it" in refused.err
    assert "nothing is imported" in refused.err and alice.tree() == before
    assert alice.ok(*words, "--exclude", f"{bao_kv}/app/team/", env=env).code == 0
    partial = silent(alice.zopp(*words, "--partial", env=env, code=1))
    assert f"left out: {bao_kv}/app/team/ (denied)" in partial.err
    assert alice.get("OPEN_A").strip() == CANARY


def test_vault_versions_are_commits_oldest_first(alice: User, bao: Bao, bao_kv: str) -> None:
    for number in range(1, 5):
        bao.put(bao_kv, "app", {"KEY": f"{CANARY}{number}"})
    bao.put(bao_kv, "app/other", {"x": "1"})
    words = ("import", "vault", f"{bao_kv}/app", "-e", "dev", "--yes", "--versions", "3")
    assert "say -m MSG" in alice.zopp(*words, code=2).err
    silent(alice.ok(*words, "-m", "from vault"))
    assert subjects(alice)[:3] == ["from vault", "from vault (version 2 of 3)", "from vault (version 1 of 3)"]
    values = []
    for back in (2, 1, 0):
        done = alice.ok("show", f"HEAD~{back}", "KEY", "-e", "dev", "--reveal")
        values.append(next(word for word in done.out.split() if CANARY in word)[-1])
    assert values == ["2", "3", "4"]
    after = alice.tree()
    alice.ok(*words, "-m", "again")
    assert alice.tree() == after
    alice.ok("verify")


@pytest.mark.parametrize("spelling", ["-mount={}", "--mount={}"])
def test_vault_the_mount_as_its_own_client_has_it(alice: User, bao: Bao, bao_kv: str, spelling: str) -> None:
    bao.put(bao_kv, "app", {"KEY": "1"})
    alice.ok("import", "vault", spelling.format(bao_kv), "app", "-e", "dev", "--yes", "-m", "x")
    assert alice.get("KEY").strip() == "1" and subjects(alice)[0] == "x"


def test_vault_logins_from_files_and_environment(alice: User, bao: Bao, bao_kv: str, tmp_path: Path) -> None:
    bao.put(bao_kv, "app", {"KEY": "1"})
    role, secret = approle(bao, bao.policy(rights(bao_kv)))
    (tmp_path / "role").write_text(role + "\n")
    (tmp_path / "secret").write_text(secret + "\n")
    bare = {"BAO_TOKEN": ""}
    words = ("import", "vault", f"{bao_kv}/app", "-e", "dev", "--dry-run")
    files = ("--role-id-file", str(tmp_path / "role"), "--secret-id-file", str(tmp_path / "secret"))
    assert alice.ok(*words, "--auth", "approle", *files, env=bare).out.endswith("1 new\n")
    named = {"VAULT_ROLE_ID": role, "BAO_SECRET_ID": secret}
    assert alice.ok(*words, "--auth", "approle", env={**bare, **named}).out.endswith("1 new\n")
    (alice.home / ".vault-token").write_text(bao.root + "\n")
    assert alice.ok(*words, env=bare).out.endswith("1 new\n")
    (tmp_path / "token").write_text(bao.root)
    (alice.home / ".vault-token").unlink()
    assert alice.ok(*words, "--token-file", str(tmp_path / "token"), env=bare).out.endswith("1 new\n")
    # without a home there is no file of one's own: what lies in the repository is somebody's
    alice.write(".vault-token", bao.root)
    assert "there is no token" in alice.zopp(*words, env={**bare, "HOME": "", "XDG_CONFIG_HOME": str(tmp_path)}).err
    for more, env, hint in (
        ((), bare, "VAULT_TOKEN"),
        (("--auth", "approle"), bare, "VAULT_ROLE_ID"),
        (("--auth", "jwt"), bare, "--role NAME"),
        (("--auth", "jwt", "--role", "r"), bare, "VAULT_JWT"),
        (("--token-file", "nowhere"), bare, ""),
        (("--address", f"http://u:{CANARY}@127.0.0.1"), {}, "VAULT_ADDR"),
        (("--address", "http://vault.example.com"), {}, "https"),
        (("--versions", "0"), {}, ""),
        (("--timeout", "0"), {}, ""),
        ((), {"BAO_ADDR": "", "VAULT_ADDR": ""}, "VAULT_ADDR"),
        ((), {"VAULT_CACERT": "nowhere"}, ""),
    ):
        assert hint in silent(alice.zopp(*words, *more, env=env, code=2)).err


def test_vault_login_with_a_jwt(alice: User, bao: Bao, bao_kv: str, tmp_path: Path) -> None:
    bao.put(bao_kv, "app", {"KEY": "1"})
    signed = jwt_login(bao, bao.policy(rights(bao_kv)))
    words = ("import", "vault", f"{bao_kv}/app", "-e", "dev", "--dry-run", "--auth", "jwt", "--role", "importer")
    (tmp_path / "jwt").write_text(signed)
    assert alice.ok(*words, "--jwt-file", str(tmp_path / "jwt"), env={"BAO_TOKEN": ""}).out.endswith("1 new\n")
    assert alice.ok(*words, env={"BAO_TOKEN": "", "VAULT_JWT": signed}).out.endswith("1 new\n")
    wrong = alice.zopp(*words, "--auth-mount", "nowhere", env={"BAO_TOKEN": "", "VAULT_JWT": signed})
    assert wrong.code in (1, 2) and signed not in wrong.text


def test_vault_certificates_by_the_environment(alice: User, tmp_path: Path) -> None:
    (tmp_path / "server").mkdir()
    bao = Bao(tmp_path / "server", tls=True)
    try:
        env = {"BAO_ADDR": "", "VAULT_ADDR": bao.address, "BAO_TOKEN": "", "VAULT_TOKEN": bao.root}
        words = ("import", "vault", "secret/app", "-e", "dev", "--dry-run")
        refused = alice.zopp(*words, env={**env, "BAO_SKIP_VERIFY": "true"}, code=3)
        assert "does not verify" in refused.err and "not honoured" in refused.err
        empty = alice.zopp(*words, env={**env, "VAULT_CACERT": str(bao.ca)}, code=1)
        assert "nothing stands there" in empty.err
    finally:
        bao.stop()


def test_vault_namespaces_by_flag_and_environment(alice: User, bao: Bao) -> None:
    bao.call("POST", "sys/namespaces/crew", {})
    bao.mount("kv", 2, ns="crew")
    bao.put("kv", "app", {"KEY": "1"}, ns="crew")
    words = ("import", "vault", "kv/app", "-e", "dev")
    for flags, env in (
        (("--namespace", "crew"), {}),
        ((), {"VAULT_NAMESPACE": "crew/"}),
        ((), {"BAO_NAMESPACE": "crew", "VAULT_NAMESPACE": "no-such"}),
    ):
        assert alice.ok(*words, *flags, "--dry-run", env=env).out.endswith("1 new\n")
    wrong = alice.zopp(*words, "--namespace", "no-such", env={}, code=1)
    assert "no-such" not in wrong.out and "--namespace" in wrong.err
    alice.ok(*words, "--namespace", "crew", "--yes")
    record = json.loads(alice.read(".zopp/provenance/api/dev.json"))["keys"]
    assert record["KEY"]["id"] == f"{bao.address}/crew/kv/app#KEY"


def test_vault_that_fails_says_nothing_of_what_it_answers(alice: User, standin: Standin) -> None:
    standin.mount("kv", 2)
    standin.put("kv", "app", {"KEY": CANARY})
    env = {"BAO_ADDR": standin.address, "BAO_TOKEN": standin.root, "VAULT_SKIP_VERIFY": "1"}
    words = ("import", "vault", "kv/app", "-e", "dev", "--yes")
    before = alice.tree()
    body = json.dumps({"errors": [CANARY]}).encode()
    for fault, code in (
        (Fault(400, body, path="kv/data"), 1),
        (Fault(403, body), 2),
        (Fault(404, body, path="kv/metadata"), 1),
        (Fault(200, CANARY.encode()), 3),
        (Fault(307, body, {"Location": f"http://{CANARY}.example.com/"}), 3),
    ):
        standin.faults[:] = [fault]
        for flags in ((), ("--json",), ("--debug",)):
            done = silent(alice.zopp(*words, *flags, env=env, code=code))
            assert "VAULT_SKIP_VERIFY" in done.err
    assert alice.tree() == before


def test_nobody_answers(alice: User, team: Team) -> None:
    env = {"BAO_ADDR": f"http://127.0.0.1:{free_port()}"}
    done = alice.zopp("import", "vault", "kv/app", "--yes", env=env, code=3)
    assert "does not answer" in done.err


@pytest.mark.parametrize(("source", "library"), [("vault", "hvac"), ("aws-sm", "boto3")])
def test_without_the_extra_it_says_what_to_install(
    alice: User, monkeypatch: pytest.MonkeyPatch, source: str, library: str
) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.partition(".")[0] == library:
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    words = ("kv/app",) if source == "vault" else ("--region", REGION)
    done = alice.zopp("import", source, *words, "--yes", code=2)
    assert f"pip install 'zopp[{source.partition('-')[0]}]'" in done.err


def test_the_help_needs_neither_extra(alice: User) -> None:
    program = (
        "import sys\nfrom zopp.cli.main import main\n"
        "for name in ('vault', 'aws-sm'):\n"
        "    try:\n        main(['import', name, '--help'])\n    except SystemExit:\n        pass\n"
        "print(sorted({'hvac', 'boto3', 'botocore', 'requests', 'urllib3'} & set(sys.modules)))\n"
    )
    import subprocess
    import sys

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=alice.env, check=True)
    assert done.stdout.endswith("[]\n")


# --- AWS


def test_aws_plan_then_import_then_nothing_more(amazon: User, aws: Any, front: Front) -> None:
    aws.create_secret(Name="dev/stripe-key", SecretString=CANARY, Description="the key")
    arn = aws.create_secret(Name="dev/db", SecretString=json.dumps({"username": CANARY + "2", "port": 5432}))["ARN"]
    aws.create_secret(Name="dev/blob", SecretBinary=b"\xff\x00" + CANARY.encode())
    aws.create_secret(Name="prod/x", SecretString=CANARY)
    words = ("import", "aws-sm", "--region", REGION, "--filter", "name=dev/", "-e", "dev")
    before = amazon.tree()
    planned = silent(amazon.zopp(*words, code=2))
    assert "look at the plan, then say --yes" in planned.err and amazon.tree() == before
    assert planned.err.count("CloudTrail") == 1
    dry = silent(amazon.ok(*words, "--dry-run"))
    assert dry.out.endswith("4 new\n") and amazon.tree() == before
    silent(amazon.ok(*words, "--yes", "-m", "from aws"))
    assert amazon.get("DEV_STRIPE_KEY").strip() == CANARY
    assert amazon.get("DEV_DB_PORT").strip() == "5432"
    out = amazon.ok("get", "DEV_BLOB", "-e", "dev", "--bytes").out
    assert out.encode("utf-8", "surrogateescape") == b"\xff\x00" + CANARY.encode()
    record = json.loads(amazon.read(".zopp/provenance/api/dev.json"))["keys"]
    assert record["DEV_DB_PORT"]["id"] == f"{arn}#port" and record["DEV_DB_PORT"]["kind"] == "aws-sm"
    after = amazon.tree()
    again = silent(amazon.ok(*words, "--yes", "-m", "again"))
    assert "0 imported" in again.err and amazon.tree() == after and amazon.git("status", "--short") == ""
    assert subjects(amazon)[0] == "from aws"
    amazon.ok("verify")
    assert {asked.method for asked in front.asked} == {"POST"}
    assert set(front.actions()) == {"ListSecrets", "BatchGetSecretValue"}


def test_aws_a_secret_that_was_made_again_is_another_one(amazon: User, aws: Any) -> None:
    """Its ARN ends in other characters: what stands here is a conflict until it is settled."""
    aws.create_secret(Name="dev/a", SecretString="1")
    words = ("import", "aws-sm", "--region", REGION, "-e", "dev", "--yes")
    amazon.ok(*words)
    aws.put_secret_value(SecretId="dev/a", SecretString="2")
    amazon.ok(*words)
    assert amazon.get("DEV_A").strip() == "2"
    aws.delete_secret(SecretId="dev/a", ForceDeleteWithoutRecovery=True)
    aws.create_secret(Name="dev/a", SecretString="3")
    refused = amazon.zopp(*words, code=1)
    assert "conflict  DEV_A" in refused.err
    amazon.ok(*words, "--on-conflict", "overwrite")
    assert amazon.get("DEV_A").strip() == "3"


def test_aws_a_key_with_another_name_is_found_by_its_arn(amazon: User, aws: Any) -> None:
    aws.create_secret(Name="dev/db", SecretString='{"url": "1"}')
    amazon.write("import.toml", '[rename]\n"dev/db/url" = "DATABASE_URL"\n')
    words = ("import", "aws-sm", "--region", REGION, "-e", "dev", "--yes")
    amazon.ok(*words, "--map", "import.toml")
    aws.put_secret_value(SecretId="dev/db", SecretString='{"url": "2"}')
    amazon.ok(*words)
    assert amazon.get("DATABASE_URL").strip() == "2"
    assert "DEV_DB_URL" not in amazon.ok("list", "-e", "dev").out


def test_aws_prune_removes_only_what_is_gone(amazon: User, aws: Any, front: Front) -> None:
    amazon.set("OWN", "mine")
    for name in ("dev/kept", "dev/gone", "dev/leaving", "dev/denied", "prod/other"):
        aws.create_secret(Name=name, SecretString='{"a": "1", "b": "2"}')
    everything = ("import", "aws-sm", "--region", REGION, "-e", "dev", "--yes")
    amazon.ok(*everything)
    aws.put_secret_value(SecretId="dev/kept", SecretString='{"a": "1", "c": "3"}')
    aws.delete_secret(SecretId="dev/gone", ForceDeleteWithoutRecovery=True)
    aws.delete_secret(SecretId="dev/leaving", RecoveryWindowInDays=7)
    aws.delete_secret(SecretId="prod/other", ForceDeleteWithoutRecovery=True)

    def before(asked: Asked) -> Reply | None:
        if asked.action == "BatchGetSecretValue" or (asked.action == "GetSecretValue" and b"denied" in asked.body):
            return aws_error("AccessDeniedException", CANARY)
        return None

    front.before = before
    # named ones say nothing of the others
    named = amazon.ok(*everything, "--names", "-", "--prune", "--json", stdin="dev/kept\n")
    assert {line["key"] for line in named.json["plan"] if line["status"] == "removed"} == {"DEV_KEPT_B"}
    dev = silent(amazon.zopp(*everything, "--filter", "name=dev/", "--prune", "--partial", "--json", code=1))
    gone = {line["key"] for line in dev.json["plan"] if line["status"] == "removed"}
    assert gone == {"DEV_GONE_A", "DEV_GONE_B", "DEV_LEAVING_A", "DEV_LEAVING_B"}
    left = set(amazon.ok("list", "-e", "dev").out.split())
    assert {"OWN", "DEV_KEPT_A", "DEV_KEPT_C", "DEV_DENIED_A", "DEV_DENIED_B", "PROD_OTHER_A"} <= left
    all_of_it = amazon.zopp(*everything, "--prune", "--partial", "--json", code=1)
    gone = {line["key"] for line in all_of_it.json["plan"] if line["status"] == "removed"}
    assert gone == {"PROD_OTHER_A", "PROD_OTHER_B"}
    amazon.ok("verify")


def test_aws_what_is_denied_stops_all_unless_it_is_left_out(amazon: User, aws: Any, front: Front) -> None:
    for name in ("a", "b"):
        aws.create_secret(Name=name, SecretString=CANARY)

    def before(asked: Asked) -> Reply | None:
        if asked.action == "BatchGetSecretValue":
            return aws_error("AccessDeniedException", CANARY)
        if asked.action == "GetSecretValue" and asked.json["SecretId"].rpartition(":")[2].startswith("b-"):
            return aws_error("AccessDeniedException", CANARY)
        return None

    front.before = before
    words = ("import", "aws-sm", "--region", REGION, "-e", "dev", "--yes")
    tree = amazon.tree()
    refused = silent(amazon.zopp(*words, code=1))
    assert "b: secretsmanager:GetSecretValue, or kms:Decrypt of its key, is not allowed for it" in refused.err
    assert amazon.tree() == tree
    partial = silent(amazon.zopp(*words, "--partial", code=1))
    assert "left out: b (denied)" in partial.err
    assert amazon.get("A").strip() == CANARY
    amazon.ok(*words, "--exclude", "b")


def test_aws_previous_versions_are_a_commit_before(amazon: User, aws: Any) -> None:
    aws.create_secret(Name="a", SecretString=CANARY + "1")
    aws.put_secret_value(SecretId="a", SecretString=CANARY + "2")
    words = ("import", "aws-sm", "--region", REGION, "-e", "dev", "--yes", "--with-previous")
    assert "say -m MSG" in amazon.zopp(*words, code=2).err
    silent(amazon.ok(*words, "-m", "from aws"))
    assert subjects(amazon)[:2] == ["from aws", "from aws (version 1 of 2)"]
    assert CANARY + "1" in amazon.ok("show", "HEAD~1", "A", "-e", "dev", "--reveal").out
    assert amazon.get("A").strip() == CANARY + "2"


def test_aws_what_it_changes_itself_is_on_the_list(amazon: User, aws: Any) -> None:
    owner = {"Key": "aws:secretsmanager:owningService", "Value": "rds"}
    aws.create_secret(Name="a", SecretString=CANARY, Tags=[owner])
    done = silent(amazon.ok("import", "aws-sm", "--region", REGION, "-e", "dev", "--yes", "--json"))
    assert done.json["remains"] == [{"todo": "stale", "place": "a", "why": "owned by rds"}]
    assert "the copies here go stale: a" in done.err


def test_aws_twelve_hundred_secrets(amazon: User, aws: Any, front: Front) -> None:
    for number in range(1200):
        aws.create_secret(Name=f"app/s{number:04}", SecretString=f"{CANARY}-{number}")
    throttled: list[str] = []

    def before(asked: Asked) -> Reply | None:
        """Every 25th call is throttled, and one secret of every batch."""
        throttled.append(asked.action)
        return aws_error("ThrottlingException", CANARY) if len(throttled) % 25 == 0 else None

    def after(asked: Asked, status: int, body: bytes) -> Reply:
        if asked.action != "BatchGetSecretValue":
            return status, body
        page = json.loads(body)
        last = page["SecretValues"].pop()
        error = {"SecretId": last["ARN"], "ErrorCode": "ThrottlingException", "Message": CANARY}
        return status, json.dumps({**page, "Errors": [error]}).encode()

    front.before, front.after = before, after
    words = ("import", "aws-sm", "--region", REGION, "-e", "dev", "--yes")
    done = silent(amazon.ok(*words, "-m", "all"))
    assert "1200 imported" in done.err
    exported = json.loads(amazon.ok("export", "-f", "json", "-e", "dev").out)
    assert all(exported[f"APP_S{number:04}"] == f"{CANARY}-{number}" for number in range(1200))
    after_first = amazon.tree()
    silent(amazon.ok(*words, "-m", "again"))
    assert amazon.tree() == after_first


def test_aws_is_asked_eight_times_with_growing_pauses(
    amazon: User, front: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr("botocore.endpoint.time.sleep", waits.append)
    front.before = lambda asked: aws_error("ThrottlingException", CANARY)
    done = silent(amazon.zopp("import", "aws-sm", "--region", REGION, "--yes", code=3))
    assert "asks to wait" in done.err and front.actions() == {"ListSecrets": 8}
    pauses = [wait for wait in waits if wait]
    assert len(pauses) == 7 and max(pauses) <= 20 and len(set(pauses)) == 7
    assert all(wait <= 2**number for number, wait in enumerate(pauses))


def test_aws_usage(amazon: User, front: Front) -> None:
    words = ("import", "aws-sm", "--region", REGION, "--dry-run")
    for more, env in (
        (("--filter", f"color={CANARY}"), {}),
        (("--filter", "name"), {}),
        (("--names", "nowhere"), {}),
        (("--profile", CANARY), {}),
        (("--timeout", "601"), {}),
        ((), {"AWS_ENDPOINT_URL_SECRETS_MANAGER": "http://vault.example.com"}),
        ((), {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}),
    ):
        silent(amazon.zopp(*words, *more, env=env, code=2))
    silent(amazon.zopp(*words[:2], code=2))
    assert not front.asked


@pytest.mark.parametrize("debug", [False, True])
def test_no_value_anywhere_but_encrypted(
    team: Team, amazon: User, aws: Any, bao: Bao, bao_kv: str, debug: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """All of it with the libraries' logs at their loudest: outputs, logs, every file and every object of git."""
    import logging

    caplog.set_level(logging.DEBUG)
    for name in ("botocore", "urllib3", "boto3"):
        logging.getLogger(name).setLevel(logging.DEBUG)
    amazon.extra |= {"BAO_ADDR": bao.address, "BAO_TOKEN": bao.root}
    flags = ("--debug",) if debug else ()
    aws.create_secret(Name="a", SecretString=CANARY)
    aws.create_secret(Name="b", SecretString=json.dumps({"x": CANARY}))
    aws.create_secret(Name="c", SecretBinary=b"\xff" + CANARY.encode())
    bao.put(bao_kv, "app", {"KEY": CANARY, "n": [CANARY]})
    caplog.clear()  # filling moto is logged too
    silent(amazon.ok("import", "aws-sm", "--region", REGION, "-e", "dev", "--yes", "-m", "aws", *flags))
    silent(amazon.ok("import", "vault", f"{bao_kv}/app", "-e", "dev", "--yes", "-m", "vault", *flags))
    assert CANARY not in caplog.text and bao.root not in caplog.text
    kept = [str(path) for path, data in everywhere(team) if CANARY.encode() in data or bao.root.encode() in data]
    assert not kept
