"""The chart: every document is valid for every supported Kubernetes, and holds what policy asks of it."""

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from tests.deploy.conftest import CHART, GOOD, ROOT, Document, Render, merged
from zopp_server.oidc import parse_issuers

VERSIONS = ("1.27", "1.37")
PEER = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}

GITLAB = {
    "issuer": "https://git.example.com",
    "kind": "gitlab",
    "jwks_url": "https://git.example.com/oauth/discovery/keys",
}
FROM_FILE = {"issuer": "https://gitlab.com", "kind": "gitlab", "jwks_file": "/run/zopp/jwks/gitlab.json"}

SETS: dict[str, Document] = {
    "the least": {},
    "everything": {
        "replicas": 3,
        "image": {"pullSecrets": ["pull"], "pullPolicy": "Always"},
        "database": {"adminUrlKey": "admin-url"},
        "tls": {"clientCA": {"existingSecret": "client-ca"}},
        "oidc": {"issuers": [GITLAB]},
        "proxies": ["10.1.0.0/16", "fd00::/8"],
        "logLevel": "debug",
        "settings": {"FUTURE": "10"},
        "highWater": {"storageClassName": "local-ssd", "size": "2Gi", "accessMode": "ReadWriteOncePod"},
        "service": {"type": "LoadBalancer", "annotations": {"x": "y"}},
        "ingress": {"enabled": True, "className": "nginx", "tlsSecret": "zopp-ingress", "annotations": {"a": "b"}},
        "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
        "networkPolicy": {"clients": [PEER], "metrics": [PEER], "dns": [PEER], "issuers": [PEER]},
        "serviceAccount": {"annotations": {"x": "y"}},
        "podAnnotations": {"x": "y"},
        "podLabels": {"team": "secrets"},
        "nodeSelector": {"disk": "ssd"},
        "tolerations": [{"key": "secrets", "operator": "Exists", "effect": "NoSchedule"}],
        "affinity": {"nodeAffinity": {}},
        "priorityClassName": "system-cluster-critical",
    },
    "TLS ends elsewhere": {"tls": {"existingSecret": "", "terminatedElsewhere": True}},
    "air-gapped": {"oidc": {"issuers": [FROM_FILE], "fetch": False, "jwksConfigMap": "jwks"}},
    "no network policy, no migration, no metrics": {
        "networkPolicy": {"enabled": False, "database": []},
        "migrate": {"enabled": False},
        "metrics": {"enabled": False},
    },
    "maintenance": {"maintenance": True, "replicas": 2},
    "no disruption budget": {"replicas": 2, "podDisruptionBudget": {"enabled": False}},
}


@pytest.fixture(params=SETS)
def documents(request: pytest.FixtureRequest, render: Render) -> list[Document]:
    return render(SETS[request.param])


def kinds(documents: list[Document], kind: str) -> list[Document]:
    return [each for each in documents if each["kind"] == kind]


def pods(documents: list[Document]) -> list[Document]:
    return [each["spec"]["template"] for each in documents if each["kind"] in ("StatefulSet", "Job")]


def server(documents: list[Document]) -> Document:
    (found,) = kinds(documents, "StatefulSet")
    container: Document = found["spec"]["template"]["spec"]["containers"][0]
    return container


def env(container: Document) -> dict[str, str]:
    return {each["name"]: each["value"] for each in container.get("env", [])}


def walk(value: Any) -> Iterator[Any]:
    yield value
    if isinstance(value, dict):
        for inner in value.values():
            yield from walk(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from walk(inner)


# --- valid


def test_lint(helm: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Any) -> None:
    values = tmp_path / "values.yaml"
    values.write_text(json.dumps(GOOD))
    done = helm("lint", "--strict", str(CHART), "--values", str(values))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "[WARNING]" not in done.stdout and "[ERROR]" not in done.stdout


@pytest.mark.parametrize("version", VERSIONS)
def test_every_document_is_valid(documents: list[Document], version: str) -> None:
    assert len(documents) >= 4
    for document in documents:
        if document["kind"] == "ServiceMonitor":  # a custom resource, without a schema in Kubernetes
            assert document["apiVersion"] == "monitoring.coreos.com/v1"
            continue
        kubernetes_validate.validate(document, version, strict=True)


def test_the_checker_refuses_what_is_wrong(render: Render) -> None:
    """Otherwise the test above would hold for anything."""
    (found,) = kinds(render(), "StatefulSet")
    found["spec"]["template"]["spec"]["containers"][0]["livenesProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(found, VERSIONS[-1], strict=True)


def test_names_are_one_a_kind(documents: list[Document]) -> None:
    names = [(each["apiVersion"], each["kind"], each["metadata"]["name"]) for each in documents]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("release", ["zopp", "zopp-eu", "secrets", "a" * 53])
def test_names_fit(render: Render, release: str) -> None:
    """Pod names and labels of StatefulSets end at 63 characters."""
    for document in render(release=release):
        assert len(document["metadata"]["name"]) <= 52
        assert all(len(str(value)) <= 63 for value in document["metadata"]["labels"].values())


# --- hardened


def test_pods_are_restricted(documents: list[Document]) -> None:
    """The Pod Security Standard 'restricted', a read-only root and no token; nothing of the host."""
    for pod in pods(documents):
        spec = pod["spec"]
        assert spec["automountServiceAccountToken"] is False
        assert spec["enableServiceLinks"] is False  # ZOPP_SERVER_… of a service named zopp-server stops the start
        assert not any(name in spec for name in ("hostNetwork", "hostPID", "hostIPC"))
        security = spec["securityContext"]
        assert security["runAsNonRoot"] is True and security["runAsUser"] > 0 and security["fsGroup"] > 0
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in spec["containers"] + spec.get("initContainers", []):
            own = container["securityContext"]
            assert own["allowPrivilegeEscalation"] is False and own["privileged"] is False
            assert own["readOnlyRootFilesystem"] is True and own["runAsNonRoot"] is True
            assert own["capabilities"] == {"drop": ["ALL"]}
            assert re.fullmatch(r"[^@]+@sha256:[0-9a-f]{64}", container["image"])
            assert container["resources"]["limits"]["memory"] and container["resources"]["requests"]["cpu"]
        for volume in spec["volumes"]:
            assert volume.keys() - {"name"} <= {"secret", "configMap", "emptyDir"}
    for account in kinds(documents, "ServiceAccount"):
        assert account["automountServiceAccountToken"] is False
    assert not any(each["kind"] in ("Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding") for each in documents)


def test_no_secret_is_rendered(documents: list[Document]) -> None:
    """Secrets are named, mounted read-only and readable by the server's group only; no variable holds one."""
    assert not kinds(documents, "Secret")
    assert all(each["data"].keys() == {"issuers.json"} for each in kinds(documents, "ConfigMap"))
    for pod in pods(documents):
        for container in pod["spec"]["containers"]:
            assert "envFrom" not in container
            for each in container["env"]:
                assert each.keys() == {"name", "value"}
                assert "://" not in each["value"] or each["name"] == "ZOPP_SERVER_ORIGIN"
                if re.search("KEY|KEK|URL|CERT|CA$", each["name"]):
                    assert each["value"].startswith("/run/zopp/")
            for mount in container["volumeMounts"]:
                assert mount.get("readOnly") is True or mount["name"] in ("high-water", "tmp")
        for volume in pod["spec"]["volumes"]:
            if "secret" in volume:
                assert volume["secret"]["defaultMode"] == 0o440
                assert volume["secret"]["items"]


def test_keys_are_files_and_no_links(render: Render) -> None:
    """The server follows no link to a key; a mount by subPath is the file itself."""
    mounts = {each["name"]: each for each in server(render())["volumeMounts"]}
    assert mounts["kek"]["subPath"] == "kek" and mounts["log-key"]["subPath"] == "log-key"


def test_the_three_secrets_are_three(render: Render) -> None:
    (found,) = kinds(render(SETS["everything"]), "StatefulSet")
    named = [each["secret"]["secretName"] for each in found["spec"]["template"]["spec"]["volumes"] if "secret" in each]
    assert sorted(named) == ["client-ca", "zopp-database", "zopp-kek", "zopp-log-key", "zopp-tls"]


# --- wired


def test_selectors_match_and_are_apart(documents: list[Document]) -> None:
    """What selects the server selects its pods and not the migration's."""
    (found,) = kinds(documents, "StatefulSet")
    labels = found["spec"]["template"]["metadata"]["labels"]
    jobs = [job["spec"]["template"]["metadata"]["labels"] for job in kinds(documents, "Job")]
    selectors = [found["spec"]["selector"]["matchLabels"]]
    selectors += [each["spec"]["selector"] for each in kinds(documents, "Service")]
    selectors += [each["spec"]["selector"]["matchLabels"] for each in kinds(documents, "PodDisruptionBudget")]
    for selector in selectors:
        assert selector.items() <= labels.items()
        assert not any(selector.items() <= job.items() for job in jobs)
    for policy in kinds(documents, "NetworkPolicy"):
        selector = policy["spec"]["podSelector"]["matchLabels"]
        assert sum(selector.items() <= each.items() for each in [labels, *jobs]) == 1
    for monitor in kinds(documents, "ServiceMonitor"):
        wanted = monitor["spec"]["selector"]["matchLabels"]
        hit = [each for each in kinds(documents, "Service") if wanted.items() <= each["metadata"]["labels"].items()]
        assert len(hit) == 1
        ports = {port["name"] for port in hit[0]["spec"]["ports"]}
        assert {endpoint["port"] for endpoint in monitor["spec"]["endpoints"]} <= ports


def test_ports_have_names_that_exist(documents: list[Document]) -> None:
    container = server(documents)
    names = {port["name"] for port in container["ports"]}
    for service in kinds(documents, "Service"):
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= names
    for policy in kinds(documents, "NetworkPolicy"):
        for rule in policy["spec"]["ingress"]:
            assert {port["port"] for port in rule["ports"]} <= names
    listen = env(container)["ZOPP_SERVER_LISTEN"].rpartition(":")[2]
    assert int(listen) in [port["containerPort"] for port in container["ports"]]


def test_the_stateful_set_names_a_headless_service(documents: list[Document]) -> None:
    (found,) = kinds(documents, "StatefulSet")
    hit = [each for each in kinds(documents, "Service") if each["metadata"]["name"] == found["spec"]["serviceName"]]
    assert [each["spec"]["clusterIP"] for each in hit] == ["None"]


def test_probes(render: Render) -> None:
    for scheme, changes in (("HTTPS", {}), ("HTTP", SETS["TLS ends elsewhere"])):
        container = server(render(changes))
        for name, path in (("startupProbe", "/livez"), ("livenessProbe", "/livez"), ("readinessProbe", "/readyz")):
            assert container[name]["httpGet"] == {"path": path, "port": "api", "scheme": scheme}
    guarded = server(render({"tls": {"clientCA": {"existingSecret": "ca"}}}))
    assert guarded["livenessProbe"]["tcpSocket"] == guarded["readinessProbe"]["tcpSocket"] == {"port": "api"}


def test_maintenance_serves_nothing(render: Render) -> None:
    container = server(render(SETS["maintenance"]))
    assert "args" not in container and container["readinessProbe"] == {"exec": {"command": ["false"]}}
    assert "livenessProbe" not in container


def test_shutdown_has_time(render: Render) -> None:
    (found,) = kinds(render({"drainSeconds": 30}), "StatefulSet")
    spec = found["spec"]["template"]["spec"]
    assert env(spec["containers"][0])["ZOPP_SERVER_DRAIN_SECONDS"] == "30"
    assert spec["terminationGracePeriodSeconds"] >= 30 + 20 + 5


def test_each_replica_has_its_own_volume_and_keeps_it(documents: list[Document]) -> None:
    (found,) = kinds(documents, "StatefulSet")
    assert found["spec"]["persistentVolumeClaimRetentionPolicy"] == {"whenDeleted": "Retain", "whenScaled": "Retain"}
    (claim,) = found["spec"]["volumeClaimTemplates"]
    assert claim["spec"]["accessModes"][0] in ("ReadWriteOnce", "ReadWriteOncePod")
    (mount,) = [each for each in server(documents)["volumeMounts"] if each["name"] == claim["metadata"]["name"]]
    assert mount["mountPath"] == env(server(documents))["ZOPP_SERVER_DATA"]
    keys = [each["mountPath"] for each in server(documents)["volumeMounts"] if each["name"] != "high-water"]
    assert not any(path.startswith(mount["mountPath"]) for path in keys)


def test_the_migration_is_a_hook_with_the_owners_url_only(render: Render) -> None:
    """The server's pods never see the owner's or a superuser's URL, nor the migration a key; the server's own URL only
    where the migration makes its role."""
    for changes in ({}, SETS["everything"]):
        documents = render(changes)
        (job,) = kinds(documents, "Job")
        assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
        container = job["spec"]["template"]["spec"]["containers"][0]
        assert container["args"] == ["migrate"] and server(documents)["args"] == ["serve"]
        assert not any(re.search("KEK|LOG_KEY|TLS", name) for name in env(container))
        assert not any(re.search("APP_URL|ADMIN", name) for name in env(server(documents)))
        (found,) = kinds(documents, "StatefulSet")
        assert not re.search("migrate-url|admin-url", json.dumps(found["spec"]["template"]))
        text = json.dumps(job["spec"]["template"])
        assert ('"database-url"' in text) == ("admin-url" in text) == bool(changes)


def test_hooks_come_in_order(render: Render) -> None:
    hooks = [each for each in render() if "helm.sh/hook" in each["metadata"].get("annotations", {})]
    weights = {each["kind"]: int(each["metadata"]["annotations"]["helm.sh/hook-weight"]) for each in hooks}
    assert weights["NetworkPolicy"] < weights["Job"]
    (job,) = kinds(hooks, "Job")
    assert "serviceAccountName" not in job["spec"]["template"]["spec"]  # the release's account does not exist yet


def test_network_policies_close_both_ways(render: Render) -> None:
    plain = {each["metadata"]["name"]: each["spec"] for each in kinds(render(), "NetworkPolicy")}
    assert plain.keys() == {"zopp", "zopp-migrate"}
    for spec in plain.values():
        assert spec["policyTypes"] == ["Ingress", "Egress"]
        assert [[port["port"] for port in rule["ports"]] for rule in spec["egress"]][:2] == [[53, 53], [5432]]
        assert spec["egress"][1]["to"] == [{"ipBlock": {"cidr": "10.0.0.5/32"}}]
    assert plain["zopp-migrate"]["ingress"] == [] and len(plain["zopp-migrate"]["egress"]) == 2
    assert [rule["ports"][0]["port"] for rule in plain["zopp"]["ingress"]] == ["api"]
    full = {each["metadata"]["name"]: each["spec"] for each in kinds(render(SETS["everything"]), "NetworkPolicy")}
    assert full["zopp"]["ingress"][1] == {"ports": [{"port": "metrics", "protocol": "TCP"}], "from": [PEER]}
    assert full["zopp"]["egress"][2] == {"ports": [{"port": 443, "protocol": "TCP"}], "to": [PEER]}
    closed = {each["metadata"]["name"]: each["spec"] for each in kinds(render(SETS["air-gapped"]), "NetworkPolicy")}
    assert len(closed["zopp"]["egress"]) == 2


def test_optional_parts(render: Render) -> None:
    assert not kinds(render(), "Ingress") and not kinds(render(), "PodDisruptionBudget")
    assert not kinds(render(), "ServiceMonitor")
    everything = render(SETS["everything"])
    (ingress,) = kinds(everything, "Ingress")
    assert ingress["spec"]["rules"][0]["host"] == "zopp.example.com"
    (budget,) = kinds(everything, "PodDisruptionBudget")
    assert budget["spec"]["maxUnavailable"] == 1
    assert not kinds(render(SETS["no disruption budget"]), "PodDisruptionBudget")
    without = render(SETS["no network policy, no migration, no metrics"])
    assert {each["kind"] for each in without} == {"StatefulSet", "Service", "ServiceAccount"}
    assert "ZOPP_SERVER_METRICS_LISTEN" not in env(server(without))


def test_settings_reach_the_server(render: Render) -> None:
    found = env(server(render(SETS["everything"])))
    assert found["ZOPP_SERVER_PROXIES"] == "10.1.0.0/16,fd00::/8" and found["ZOPP_SERVER_LOG_LEVEL"] == "debug"
    assert found["ZOPP_SERVER_FUTURE"] == "10"
    assert found["ZOPP_SERVER_ORIGIN"] == GOOD["origin"]


@pytest.mark.parametrize("name", ["everything", "air-gapped"])
def test_issuers_are_what_the_server_reads(render: Render, name: str) -> None:
    documents = render(SETS[name])
    (found,) = kinds(documents, "ConfigMap")
    issuers = parse_issuers(found["data"]["issuers.json"])
    assert list(issuers) == [SETS[name]["oidc"]["issuers"][0]["issuer"]]
    path = env(server(documents))["ZOPP_SERVER_OIDC_ISSUERS_FILE"]
    mounts = {each["name"]: each["mountPath"] for each in server(documents)["volumeMounts"]}
    assert path == mounts["oidc"] + "/issuers.json"
    assert all(each.jwks_file.startswith(mounts.get("jwks", "")) for each in issuers.values())


def test_no_issuer_and_the_usual_ones(render: Render) -> None:
    assert "ZOPP_SERVER_OIDC_ISSUERS_FILE" not in env(server(render()))
    none = render({"oidc": {"issuers": []}})
    assert parse_issuers(kinds(none, "ConfigMap")[0]["data"]["issuers.json"]) == {}
    annotations = [kinds(each, "StatefulSet")[0]["spec"]["template"]["metadata"] for each in (none, render())]
    assert annotations[0] != annotations[1]  # the pods are made anew


# --- values


REFUSED: dict[str, Document] = {
    "no image": {"image": None},
    "a tag instead of a digest": {"image": {"digest": "latest"}},
    "an image tag": {"image": {"tag": "1.0"}},
    "no origin": {"origin": ""},
    "origin by http": {"origin": "http://zopp.example.com"},
    "origin with a path": {"origin": "https://zopp.example.com/"},
    "no database": {"database": {"existingSecret": ""}},
    "a database URL by value": {"database": {"url": "postgresql://x:y@db/z"}},
    "no KEK": {"kek": {"existingSecret": ""}},
    "a KEK by value": {"kek": {"value": "AAAA"}},
    "no log key": {"logKey": {"existingSecret": ""}},
    "no TLS, and it does not end elsewhere": {"tls": {"existingSecret": ""}},
    "a client CA without TLS": {
        "tls": {"existingSecret": "", "terminatedElsewhere": True, "clientCA": {"existingSecret": "ca"}}
    },
    "no replicas": {"replicas": 0},
    "half a replica": {"replicas": 1.5},
    "a mistyped name": {"replica": 2},
    "a mistyped inner name": {"networkPolicy": {"enable": False}},
    "a network policy without the database": {"networkPolicy": {"database": []}},
    "an empty peer": {"networkPolicy": {"clients": [{}]}},
    "an ingress without TLS": {"ingress": {"enabled": True}},
    "a monitor without metrics": {"serviceMonitor": {"enabled": True}, "metrics": {"enabled": False}},
    "a URL among the settings": {"settings": {"DATABASE_URL": "postgresql://x:y@db/z"}},
    "a key among the settings": {"settings": {"KEK_FILE": "/x"}},
    "a number among the settings": {"settings": {"FUTURE": 1000000}},
    "a lower-case setting": {"settings": {"future": "1"}},
    "an issuer without keys": {"oidc": {"issuers": [{"issuer": "https://x.test", "kind": "gitlab"}]}},
    "an issuer by http": {"oidc": {"issuers": [{**GITLAB, "issuer": "http://x.test"}]}},
    "an issuer with keys from two places": {"oidc": {"issuers": [{**GITLAB, "jwks_file": "/run/zopp/jwks/x"}]}},
    "a proxy that is a name": {"proxies": ["ingress.local"]},
    "a level that there is not": {"logLevel": "trace"},
    "a shared volume": {"highWater": {"accessMode": "ReadWriteMany"}},
    "a negative drain": {"drainSeconds": -1},
}


@pytest.mark.parametrize("name", REFUSED)
def test_values_refused(helm: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Any, name: str) -> None:
    values = tmp_path / "values.yaml"
    values.write_text(json.dumps(merged(GOOD, REFUSED[name])))
    done = helm("template", "zopp", str(CHART), "--values", str(values))
    assert done.returncode != 0 and "Error" in done.stderr
    assert "y@db" not in done.stderr and "AAAA" not in done.stderr


def test_the_schema_is_a_schema_and_knows_every_value() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    jsonschema.Draft7Validator.check_schema(schema)
    defaults = yaml.safe_load((CHART / "values.yaml").read_text())

    def compare(value: Any, at: Document, place: str) -> None:
        if at.get("additionalProperties") is False:
            assert value.keys() == at["properties"].keys() - {"global"}, place
            for name, inner in value.items():
                compare(inner, at["properties"][name], f"{place}.{name}")

    compare(defaults, schema, "values")
    for changes in SETS.values():
        jsonschema.validate(merged(defaults, merged(GOOD, changes)), schema)


def test_the_readme_s_values_work(render: Render) -> None:
    text = (CHART / "README.md").read_text()
    block = re.search(r"values:\n\n((?:    .*\n)+)", text)
    assert block is not None
    values = yaml.safe_load(block[1].replace("sha256:…", "sha256:" + "b" * 64))
    jsonschema.validate(values, json.loads((CHART / "values.schema.json").read_text()))
    assert kinds(render(values), "StatefulSet")


def test_the_chart_bears_the_version() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    version = re.search(r'"(.+)"', (ROOT / "zopp/_version.py").read_text().rpartition("=")[2])
    assert version is not None and chart["appVersion"] == version[1]


def test_settings_are_those_of_the_reference(render: Render) -> None:
    page = (ROOT / "docs/reference/server.md").read_text()
    for changes in SETS.values():
        for pod in pods(render(merged(changes, {"settings": None}))):
            for name in env(pod["spec"]["containers"][0]):
                assert f"`{name}`" in page, name
