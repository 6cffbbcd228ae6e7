"""Every example is run: the workflows by act, the local ones by make, bash and compose's own rules, the manifests by
real sops, helm and the Kubernetes schemas."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from tests import tools
from tests.actions.conftest import BINARIES, SECRET, Forge, Job
from tests.actions.test_github import pull, silent
from tests.deploy.conftest import helm as helm
from tests.oracle.conftest import Oracle, sops as sops
from tests.support import ROOT, Team, User
from zopp.keys import identity

EXAMPLES = ROOT / "examples"
WORKFLOWS = sorted((EXAMPLES / "github").glob("*.yml"))
USES = "zopp/zopp@" + "0" * 40


def test_the_workflows_pass_the_linters() -> None:
    done = subprocess.run([BINARIES / "actionlint", *WORKFLOWS], capture_output=True, check=False)
    assert done.returncode == 0, done.stdout.decode()
    words = ["--offline", "--persona", "pedantic", "--no-progress", "--color", "never", *WORKFLOWS]
    done = subprocess.run([BINARIES / "zizmor", *words], capture_output=True, check=False)
    assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()


def test_every_workflow_pins_by_commit_and_asks_for_little() -> None:
    assert len(WORKFLOWS) == 3
    for path in WORKFLOWS:
        text = path.read_text()
        assert "pull_request_target" not in text
        assert all(re.fullmatch(r"[0-9a-f]{40}", ref) for ref in re.findall(r"uses: [^@\s]+@(\S+)", text))
        assert yaml.safe_load(text)["permissions"] == {}


def test_secrets_yml_blocks_a_pull_request(job: Job) -> None:
    job.uses = USES
    alice, workflow = job.alice, (EXAMPLES / "github/secrets.yml").read_text()
    base = alice.git("rev-parse", "HEAD")
    job.run(workflow)
    alice.git("checkout", "-q", "-b", "topic")
    alice.ok("set", "ADDED", "-e", "dev", "-m", "added", stdin="x")
    job.run(workflow, event="pull_request", payload=pull(job, base))
    alice.write("secrets/staging.yaml", f"PLAIN: {SECRET}\n")
    alice.commit("plaintext")
    said = job.run(workflow, event="pull_request", payload=pull(job, base), code=1)
    silent(said)


def test_comment_yml_keeps_the_comment(job: Job, forge: Forge) -> None:
    job.uses = USES
    alice, workflow = job.alice, (EXAMPLES / "github/comment.yml").read_text()
    base = alice.git("rev-parse", "HEAD")
    alice.git("checkout", "-q", "-b", "topic")
    alice.ok("set", "ADDED", "-e", "dev", "-m", "added", stdin="x")
    event = pull(job, base)
    event["pull_request"]["head"]["repo"] = {"full_name": "someone/else"}
    job.run(workflow, event="pull_request", payload=event, env={"GITHUB_API_URL": forge.url})
    assert forge.comments == {}
    # act takes the repository's name from nowhere but git; the condition itself is GitHub's to judge
    mine = workflow.replace("github.event.pull_request.head.repo.full_name == github.repository", "true")
    assert mine != workflow
    job.run(mine, event="pull_request", payload=event, env={"GITHUB_API_URL": forge.url})
    assert "ADDED" in forge.comments[1][1]


@pytest.fixture
def shop(tmp_path: Path) -> User:
    """A working copy with the environments of the examples, and `zopp` and stand-ins on PATH."""
    alice = Team.make(tmp_path).alice
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, text in {
        "zopp": f'PYTHONPATH={ROOT} exec {sys.executable} -m zopp.cli.main "$@"',
        "npm": 'echo "npm $1 sees ${DATABASE_URL-nothing} and ${TEST_DATABASE_URL-no test}"',
    }.items():
        path = folder / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
    alice.extra = {**alice.extra, "PATH": f"{folder}:{os.environ['PATH']}", "ZOPP_ENV": "dev"}
    for name in ("DATABASE_URL", "TEST_DATABASE_URL", "SESSION_KEY"):
        alice.ok("set", name, "-e", "dev", stdin=f"{name.lower()} it's $HOME")
    alice.ok("set", "DATABASE_URL", "-e", "staging", stdin="staging")
    return alice


def make(shop: User, target: str) -> subprocess.CompletedProcess[bytes]:
    shutil.copy(EXAMPLES / "local/Makefile", shop.repo / "Makefile")
    return subprocess.run(["make", "-s", target], cwd=shop.repo, env=shop.env, capture_output=True, check=False)


def test_the_makefile_gives_each_target_what_it_asks_for(shop: User) -> None:
    assert make(shop, "dev").stdout == b"npm start sees database_url it's $HOME and test_database_url it's $HOME\n"
    assert make(shop, "test").stdout == b"npm test sees nothing and test_database_url it's $HOME\n"
    (shop.repo / "migrate").write_text('#!/bin/sh\necho "migrates $DATABASE_URL"\n')
    (shop.repo / "migrate").chmod(0o755)
    assert make(shop, "migrate").stdout == b"migrates staging\n"
    shop.ok("export", "--format", "example", "-o", ".env.example", "--force")
    assert make(shop, "secrets").returncode == 0
    shop.ok("set", "ANOTHER", "-e", "dev", stdin="x")
    assert make(shop, "secrets").returncode != 0


def test_direnv_gets_the_values_and_says_so_if_not(shop: User) -> None:
    shutil.copy(EXAMPLES / "local/.envrc", shop.repo / ".envrc")
    script = (
        'watch_file() { :; }; log_error() { echo "direnv: $1"; }; . ./.envrc; printf "%s|" "$DATABASE_URL" "${values-}"'
    )

    def run(env: dict[str, str]) -> str:
        done = subprocess.run(["bash", "-euc", script], cwd=shop.repo, env=env, capture_output=True, check=False)
        return done.stdout.decode()

    assert run(shop.env) == "database_url it's $HOME||"
    assert "direnv: zopp could not read" in run({**shop.env, "ZOPP_ENV": "none", "DATABASE_URL": ""})


@pytest.mark.slow
def test_direnv_itself_takes_it(shop: User) -> None:
    """The real one, of Debian's package direnv."""
    direnv = shutil.which("direnv")
    assert direnv is not None, "direnv is not installed: apt-get install direnv"
    shutil.copy(EXAMPLES / "local/.envrc", shop.repo / ".envrc")
    subprocess.run([direnv, "allow", "."], cwd=shop.repo, env=shop.env, check=True, capture_output=True)
    words = [direnv, "exec", ".", "sh", "-c", 'printf %s "$DATABASE_URL"']
    done = subprocess.run(words, cwd=shop.repo, env=shop.env, check=True, capture_output=True)
    assert done.stdout == b"database_url it's $HOME"


def test_the_editor_tasks_run(shop: User) -> None:
    tasks = json.loads((EXAMPLES / "local/tasks.json").read_text())["tasks"]
    for task in tasks:
        words = [task["command"], *task["args"]]
        subprocess.run(words, cwd=shop.repo, env=shop.env, capture_output=True, check=True)


def test_compose_takes_names_and_no_values() -> None:
    """By compose's rules for interpolation, which it documents; no engine is here to start it."""
    text = (EXAMPLES / "local/compose.yaml").read_text()
    services = yaml.safe_load(text)
    asked = services["services"]["app"]["environment"]
    assert {name: f"${{{name}:?start this with zopp run}}" for name in asked} == asked
    assert services["secrets"] == {"smtp_password": {"environment": "SMTP_PASSWORD"}}


def documents(name: str) -> list[dict[str, object]]:
    return list(yaml.safe_load_all((EXAMPLES / "kubernetes" / name).read_text()))


def test_a_manifest_becomes_an_environment_that_a_controller_reads(shop: User, sops: Oracle, tmp_path: Path) -> None:
    """As the page says: encrypted by stock sops, adopted, changed by zopp, read by the controller's key with sops."""
    [plain] = documents("app-secret.yaml")
    kubernetes_validate.validate(plain, "1.37", strict=True)
    repo = tmp_path / "shop"
    repo.mkdir()
    shop.folder = "shop"
    shop.git("init", "-q", ".")
    keys = {}
    for name in ("mine", "flux"):
        secret, keys[name] = identity.generate()
        (tmp_path / f"{name}.txt").write_text(secret + "\n")
        (tmp_path / f"{name}.txt").chmod(0o600)
    shop.write(
        ".sops.yaml",
        "creation_rules:\n  - path_regex: ^clusters/\n    encrypted_regex: ^(data|stringData)$\n"
        f"    age: {keys['mine']},{keys['flux']}\n",
    )
    target = "clusters/production/app-secret.yaml"
    shop.write(target, (EXAMPLES / "kubernetes/app-secret.yaml").read_bytes())
    env = {**shop.env, "SOPS_AGE_KEY_FILE": str(tmp_path / "mine.txt"), "SOPS_DISABLE_VERSION_CHECK": "1"}
    subprocess.run([sops.binary, "-e", "-i", target], cwd=repo, env=env, check=True, capture_output=True)
    shop.commit("stock sops")
    shop.ok(
        "init", "--adopt", "--map", f"production={target}", "--no-recovery", "--project", "shop",
        "--workspace", "acme2", "--device", "laptop", "-m", "adopt",
        env={"SOPS_AGE_KEY_FILE": str(tmp_path / "mine.txt")},
    )  # fmt: skip
    shop.ok("set", "stringData.TOKEN", "-e", "production", "-m", "token", stdin=SECRET)
    shop.ok("verify")
    env["SOPS_AGE_KEY_FILE"] = str(tmp_path / "flux.txt")
    read = subprocess.run([sops.binary, "-d", target], cwd=repo, env=env, check=True, capture_output=True).stdout
    opened = yaml.safe_load(read)
    kubernetes_validate.validate(opened, "1.37", strict=True)
    assert opened["stringData"] == {"DATABASE_URL": "postgres://example", "TOKEN": SECRET}
    assert opened["metadata"] == plain["metadata"]


def test_helm_reads_an_environment_through_sops(
    shop: User, sops: Oracle, helm: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    chart = tmp_path / "chart"
    (chart / "templates").mkdir(parents=True)
    (chart / "Chart.yaml").write_text("apiVersion: v2\nname: shop\nversion: 0.1.0\n")
    (chart / "templates/secret.yaml").write_text(
        "apiVersion: v1\nkind: Secret\nmetadata: {name: app}\nstringData:\n  URL: {{ .Values.DATABASE_URL | quote }}\n"
        "  TAG: {{ .Values.image.tag | quote }}\n"
    )
    key = next((shop.home / ".config/zopp/keys").glob("*.age"))
    env = {**shop.env, "SOPS_AGE_KEY_FILE": str(key), "SOPS_DISABLE_VERSION_CHECK": "1"}
    words = [sops.binary, "-d", "secrets/dev.yaml"]
    plain = subprocess.run(words, cwd=shop.repo, env=env, check=True, capture_output=True)
    (tmp_path / "plain.yaml").write_bytes(plain.stdout)
    values = str(EXAMPLES / "kubernetes/values.yaml")
    made = helm("template", "shop", str(chart), "-f", values, "-f", str(tmp_path / "plain.yaml"))
    assert made.returncode == 0, made.stderr
    secret = yaml.safe_load(made.stdout)
    assert secret["stringData"] == {"URL": "database_url it's $HOME", "TAG": "1.4.2"}
    kubernetes_validate.validate(secret, "1.37", strict=True)


def test_the_controllers_manifests_say_what_they_should() -> None:
    source, kustomization = documents("flux.yaml")
    assert kustomization["spec"]["decryption"] == {"provider": "sops", "secretRef": {"name": "sops-age"}}  # type: ignore[index]
    assert kustomization["spec"]["sourceRef"]["name"] == source["metadata"]["name"]  # type: ignore[index]
    [generator] = documents("ksops.yaml")
    assert [(EXAMPLES / "kubernetes" / path).exists() for path in generator["files"]] == [True]  # type: ignore[attr-defined]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "model", "kind", "number"),
    [
        ("flux.yaml", "flux-cd/source.toolkit.fluxcd.io/v1", "GitRepository", 0),
        ("flux.yaml", "flux-cd/kustomize.toolkit.fluxcd.io/v1", "Kustomization", 1),
        ("argocd.yaml", "argo-cd/argoproj.io/v1alpha1", "Application", 0),
    ],
)
def test_the_controllers_own_schemas_take_them(name: str, model: str, kind: str, number: int) -> None:
    """The published schemas, as an npm package carries them, by its own validator."""
    script = f"""
import {{ readFileSync }} from "node:fs";
import {{ {kind} }} from "@kubernetes-models/{model}";
try {{
  new {kind}(JSON.parse(readFileSync(0, "utf8"))).validate();
  console.log("valid");
}} catch (error) {{ console.log(error.message); }}
"""

    def said(document: dict[str, object]) -> str:
        words = [tools.node(), "--input-type=module", "-e", script]
        data = json.dumps(document).encode()
        done = subprocess.run(words, input=data, cwd=tools.folder(), capture_output=True, check=False)
        return done.stdout.decode() + done.stderr.decode()

    document = documents(name)[number]
    assert document["kind"] == kind
    assert said(document) == "valid\n"
    assert said({**document, "spec": {}}) != "valid\n"
