"""The sidecar's part of the chart without a cluster: what it renders, what Envoy and the filter say to it, what it refuses.

Pods with it are tested in a cluster (tests/cluster).
"""

import base64
import json
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests/tools"))

import render  # noqa: E402
from test_chart import ENVOY, WASM, authority, gateway  # noqa: E402

POLICY = "admissionregistration.k8s.io/{}/MutatingAdmissionPolicy"
MODES = ("hosts", "iptables", "baseUrl")
TLS = {"name": "envoy.transport_sockets.tls", "typed_config": {"common_tls_context": {}}}


def objects(given: dict[str, Any], folder: Path, *versions: str, release: str = "attache", namespace: str = "team") -> list[dict[str, Any]]:
    file = folder / "values.yaml"
    file.write_text(json.dumps(given))
    apis = [word for version in versions for word in ("--api-versions", POLICY.format(version))]
    command = [render.helm(), "template", release, str(render.CHART), "-n", namespace, "-f", str(file), *apis]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise render.Refused(render.plain(done.stderr))
    return [one for one in yaml.safe_load_all(done.stdout) if one]


def named(found: list[dict[str, Any]], kind: str, name: str) -> dict[str, Any]:
    (one,) = [one for one in found if (one["kind"], one["metadata"]["name"]) == (kind, name)]
    return one


@pytest.mark.parametrize("given", [
    {},
    gateway([{"name": name} for name in json.loads((ROOT / "helm/files/providers.json").read_text())]),
    gateway([{"name": "openai", "keys": [{"name": "a"}, {"name": "b"}]}, {"name": "own", "provider": "openai", "credentials": "passthrough"}]),
    {"interception": {"otherPaths": "passthrough", "hosts": ["*.example.com"], "ipv6": True}},
    {"interception": {"otherPaths": "refuse"}},
    gateway([{"name": "openai"}], models=["DEL \x7f", "next line \x85", "another \x9f", "no character \ufffe"]),
], ids=["defaults", "every row", "keys", "passthrough", "refuse", "control characters"])
def test_envoy_and_the_filter_take_the_configuration(given: dict[str, Any], tmp_path: Path) -> None:
    found = objects(given, tmp_path, "v1")
    assert validated(named(found, "ConfigMap", "attache-validate")["data"], tmp_path) == ""
    # Beside it every bootstrap as it is: nothing in them is fetched, so little is said against them.
    for mode in MODES:
        data = named(found, "ConfigMap", "attache")["data"]
        assert validated({**data, "envoy.json": data[f"envoy-{mode}.json"]}, tmp_path) == ""


def test_the_validation_reads_what_the_filter_reads(tmp_path: Path) -> None:
    """A fault that only the filter knows."""
    given = gateway([{"name": "openai"}], models=["a", "a"])
    given["gateway"]["routes"][0]["waitLimit"] = "25h"
    told = validated(named(objects(given, tmp_path), "ConfigMap", "attache-validate")["data"], tmp_path)
    assert "config: 2 faults" in told and "routes[0].waitLimit: expected a duration" in told and "routes[0].models[1]" in told


def test_each_version_of_the_policy_and_none(tmp_path: Path) -> None:
    for versions, served in ((("v1", "v1beta1"), "v1"), (("v1beta1",), "v1beta1")):
        kinds = {one["kind"]: one["apiVersion"] for one in objects({}, tmp_path, *versions)}
        assert kinds["MutatingAdmissionPolicy"] == kinds["MutatingAdmissionPolicyBinding"] == f"admissionregistration.k8s.io/{served}"
    off = {one["kind"] for one in objects({"injection": {"enabled": False}}, tmp_path, "v1")}
    assert not [kind for kind in off if "Policy" in kind] and "ConfigMap" in off


def test_nothing_private_is_in_a_configmap(tmp_path: Path) -> None:
    found = objects({}, tmp_path, "v1")
    assert not [one["metadata"]["name"] for one in found if one["kind"] == "ConfigMap" and "PRIVATE" in json.dumps(one)]
    secrets = {one["metadata"]["name"] for one in found if one["kind"] == "Secret"}
    assert secrets == {"attache-ca-1", "attache-tls-1"}
    # The authority's key is in no volume.
    assert "attache-ca" not in json.dumps([one for one in found if one["kind"] in ("MutatingAdmissionPolicy", "Job")])


def test_each_namespace_has_what_its_pods_mount(tmp_path: Path) -> None:
    found = objects({"injection": {"namespaces": ["a", "b"]}}, tmp_path, "v1")
    for namespace in ("a", "b"):
        own = {one["metadata"]["name"] for one in found if one["metadata"].get("namespace") == namespace and one["kind"] != "Job"}
        assert own == {"attache", "attache-trust", "attache-tls-1"}
    policy = named(found, "MutatingAdmissionPolicy", "attache-team.attache")
    (namespaces,) = policy["spec"]["matchConstraints"]["namespaceSelector"]["matchExpressions"]
    assert namespaces["values"] == ["a", "b"]


@pytest.mark.parametrize("release", ["1234", "true", "null", "off", "1e3", "a.b-c", "x" * 53])
def test_names_that_yaml_reads_otherwise_or_that_are_long(release: str, tmp_path: Path) -> None:
    """Helm takes them, and so does Kubernetes, as long as they are strings and no longer than the objects' kinds allow."""
    given = {"patch": {"containers": ["app"]}, "sidecar": {"logLevel": "off"}}
    for found in (objects(given, tmp_path, "v1", release=release, namespace="007"),
                  objects({"sidecar": {"enabled": False}}, tmp_path, release=release, namespace="007")):
        for one in found:
            metadata = one["metadata"]
            texts = [metadata["name"], metadata.get("namespace", "007"), *metadata["labels"].values(), *metadata["labels"]]
            assert all(isinstance(text, str) for text in texts), metadata
            assert metadata["labels"]["app.kubernetes.io/instance"] == release and metadata.get("namespace", "007") == "007"
            assert len(metadata["name"]) <= (63 if one["kind"] == "Job" else 253), metadata
    patch = yaml.safe_load(named(objects(given, tmp_path, release=release), "ConfigMap", f"{release}-patch")["data"]["patch.yaml"])
    (sidecar,) = patch["spec"]["template"]["spec"]["initContainers"]
    assert all(isinstance(word, str) for word in sidecar["args"]) and "off" in sidecar["args"]


def test_no_two_releases_share_a_policy(tmp_path: Path) -> None:
    names = set()
    for namespace, release in (("a-b", "c"), ("a", "b-c"), ("a", "b.c"), ("a-b", "c-pods")):
        found = objects({}, tmp_path, "v1", release=release, namespace=namespace)
        own = {(one["kind"], one["metadata"]["name"]) for one in found if "Policy" in one["kind"]}
        assert len(own) == 6 and not own & names
        names |= own


def test_helm_test_makes_a_pod_that_has_the_sidecar(tmp_path: Path) -> None:
    """In a namespace that the release serves: by its policy, and where there is none, by the template."""
    for given, versions, namespace in (({}, ["v1"], "team"), ({"injection": {"namespaces": ["a", "b"]}}, ["v1"], "a"),
                                       ({"injection": {"namespaces": ["a", "team"]}}, ["v1"], "team"),
                                       ({"injection": {"enabled": False}}, ["v1"], "team"), ({}, [], "team")):
        job = named(objects(given, tmp_path, *versions), "Job", "attache-test")
        template = job["spec"]["template"]
        by_policy = bool(versions) and given.get("injection", {}).get("enabled", True)
        assert job["metadata"]["namespace"] == namespace
        assert template["metadata"]["labels"]["attache/inject"] == ("true" if by_policy else "false")
        assert [one["name"] for one in template["spec"].get("initContainers", [])] == ([] if by_policy else ["attache"])


@pytest.mark.parametrize("row", json.loads((ROOT / "helm/files/providers.json").read_text()))
def test_every_provider_alone(row: str, tmp_path: Path) -> None:
    """With the policy, the patch and the notes: some have no variable for a key, some no TLS."""
    given = {"gateway": {"providers": [{"name": row}], "routes": []}, "patch": {"containers": ["app"]}}
    kinds = {one["kind"] for one in objects(given, tmp_path, "v1")}
    assert "MutatingAdmissionPolicy" in kinds
    file = tmp_path / "values.yaml"
    install = [render.helm(), "install", "attache", str(render.CHART), "--dry-run=client", "-f", str(file)]
    done = subprocess.run(install, capture_output=True, text=True)
    assert done.returncode == 0 and f"--from-literal={row}=KEY" in done.stdout, done.stderr


def test_eighty_keys_fit_into_configmaps(tmp_path: Path) -> None:
    """Kubernetes takes 1 MiB in each, and so much in one request."""
    providers = [{"name": name, "keys": [{"name": f"key-{i}"} for i in range(8)]} for name in json.loads((ROOT / "helm/files/providers.json").read_text())]
    for one in objects(gateway(providers), tmp_path, "v1"):
        if one["kind"] == "ConfigMap":
            assert sum(len(text.encode()) for text in [*one["data"].values(), *one.get("binaryData", {}).values()]) < 1048576, one["metadata"]["name"]


def test_jobs_end_in_a_mesh(tmp_path: Path) -> None:
    for one in (one for one in objects({}, tmp_path, "v1") if one["kind"] == "Job"):
        metadata = one["spec"]["template"]["metadata"]
        assert metadata["labels"]["sidecar.istio.io/inject"] == "false" and metadata["annotations"] == {"linkerd.io/inject": "disabled"}


def test_hosts_are_what_kubernetes_takes_for_names(tmp_path: Path) -> None:
    """An alias that is none would have every new pod refused."""
    origins = ["https://API.Example.com/v1", "https://api.example.com.", "https://a_b.example.com", "https://-x.example.com"]
    providers = [{"name": f"p{i}", "provider": "openai", "origin": origin} for i, origin in enumerate(origins)]
    found = objects({**gateway(providers), "patch": {"containers": ["app"]}}, tmp_path, "v1")
    pod = yaml.safe_load(named(found, "ConfigMap", "attache-patch")["data"]["patch.yaml"])["spec"]["template"]["spec"]
    assert pod["hostAliases"] == [{"ip": "127.0.0.1", "hostnames": ["api.example.com"]}]
    (names,) = [one["expression"] for one in named(found, "MutatingAdmissionPolicy", "attache-team.attache")["spec"]["variables"] if one["name"] == "hosts"]
    assert names.startswith('["api.example.com"].filter(')
    assert validated(named(found, "ConfigMap", "attache-validate")["data"], tmp_path) == ""


def test_authorities_that_applications_trust_beside_ours(tmp_path: Path) -> None:
    """What the variables name replaces what is in an image, so a network's own authority must be in it too."""
    first = authority().partition("-----END CERTIFICATE-----")
    one = first[0][first[0].index("-----BEGIN"):] + first[1]
    plain, found = (named(objects(given, tmp_path), "ConfigMap", "attache-trust") for given in ({}, {"trust": {"additional": one}}))
    for file in ("bundle.pem", "authority.pem"):
        assert found["data"][file].count(one) == plain["data"][file].count(one) + 1
    lengths = [len(base64.b64decode(of["binaryData"]["authorities.jks"])) for of in (plain, found)]
    assert lengths[1] - lengths[0] > len(ssl.PEM_cert_to_DER_cert(one))


def test_a_file_of_authorities_as_it_comes(tmp_path: Path) -> None:
    """Indented, or from Windows: it is an entry of a ConfigMap all the same."""
    found = objects({"sidecar": {"authorities": "\r\n  -----BEGIN CERTIFICATE-----\r\nAA==\r\n-----END CERTIFICATE-----\r\n"}}, tmp_path)
    for name in ("attache", "attache-validate"):
        told = named(found, "ConfigMap", name)["data"]["authorities.pem"]
        assert told.split() == ["-----BEGIN", "CERTIFICATE-----", "AA==", "-----END", "CERTIFICATE-----"]


def test_resources_of_all_forms(tmp_path: Path) -> None:
    given = {"requests": {"cpu": 0.5, "memory": "1e8"}, "limits": {"cpu": 2, "memory": "1.5Gi", "ephemeral-storage": "1G"}}
    found = objects({"sidecar": {"resources": given}, "patch": {"containers": ["app"]}}, tmp_path)
    pod = yaml.safe_load(named(found, "ConfigMap", "attache-patch")["data"]["patch.yaml"])["spec"]["template"]["spec"]
    assert pod["initContainers"][0]["resources"] == {"requests": {"cpu": "0.5", "memory": "1e8"}, "limits": {"cpu": 2, "memory": "1.5Gi", "ephemeral-storage": "1G"}}


@pytest.mark.parametrize("limit, heap", [("1Gi", 1 << 30), ("1.5Gi", 1 << 30), ("2G", 1 << 30), ("1e9", 10**9), (2 << 30, 1 << 30), ("512Mi", 1 << 29)])
def test_memory_that_is_enough_for_the_heap(limit: str | int, heap: int, tmp_path: Path) -> None:
    objects({"sidecar": {"resources": {"limits": {"memory": limit}}}, "overload": {"heapBytes": heap}}, tmp_path)
    with pytest.raises(render.Refused):
        objects({"sidecar": {"resources": {"limits": {"memory": limit}}}, "overload": {"heapBytes": heap * 4}}, tmp_path)


def test_a_listener_with_tls_takes_no_pod_by_base_url(tmp_path: Path) -> None:
    """Its variables say `http://`."""
    for given, modes in (({}, "`hosts`, `iptables`, `baseUrl`"), ({"listener": {"transportSocket": TLS}}, "`hosts`, `iptables`")):
        policy = named(objects(given, tmp_path, "v1"), "ValidatingAdmissionPolicy", "attache-team.attache")
        assert f"annotation attache/mode: expected {modes}" in [one["message"] for one in policy["spec"]["validations"]]


def test_what_a_quota_asks_for(tmp_path: Path) -> None:
    """A limit of the sidecar's processor time is every other container's of ours, and where there is none no other has one."""
    for limits, wanted in ({"cpu": "2", "memory": "2Gi"}, "2"), ({"cpu": "5m", "memory": "2Gi"}, "5m"), ({"memory": "2Gi"}, None):
        found = objects({"sidecar": {"resources": {"limits": limits}}, "interception": {"mode": "iptables"}, "patch": {"containers": ["app"]}}, tmp_path)
        patch = yaml.safe_load(named(found, "ConfigMap", "attache-patch")["data"]["patch.yaml"])["spec"]["template"]["spec"]
        jobs = [named(found, "Job", f"attache-{name}")["spec"]["template"]["spec"]["containers"][0] for name in ("validate", "test")]
        for one in [*patch["initContainers"], *jobs]:
            assert one["resources"]["limits"].get("cpu") == wanted and {"cpu", "memory"} <= one["resources"]["requests"].keys(), one["name"]
            # The API refuses a request beyond the limit. The sidecar's own is the values' affair.
            assert wanted != "5m" or one["name"] == "attache" or one["resources"]["requests"]["cpu"] == "5m", one["name"]


def test_the_image_by_digest(tmp_path: Path) -> None:
    digest = "sha256:" + "0" * 64
    found = objects({"sidecar": {"image": {"repository": "registry.example/attache", "digest": digest}}}, tmp_path, "v1")
    assert f"registry.example/attache@{digest}" in json.dumps(named(found, "MutatingAdmissionPolicy", "attache-team.attache"))


@pytest.mark.parametrize("given, told", [
    ({"interception": {"mode": "magic"}}, "interception.mode"),
    ({"interception": {"hosts": ["https://x"]}}, "interception.hosts"),
    ({"sidecar": {"image": {"digest": "latest"}}}, "sidecar.image.digest"),
    ({"sidecar": {"labels": ["a b"]}}, "sidecar.labels"),
    ({"trust": {"generation": 0}}, "trust.generation"),
    ({"trust": {"additional": "mine.pem"}}, "trust.additional"),
    ({"trust": {"secret": "My Own", "authority": "PEM"}}, "trust.secret"),
    ({"keys": {"secret": "a\n    b: c"}}, "keys.secret"),
    ({"sidecar": {"pullSecrets": [{"name": "a/b"}]}}, "sidecar.pullSecrets"),
    ({"sidecar": {"image": {"repository": "a b"}}}, "sidecar.image.repository"),
    ({"sidecar": {"image": {"tag": "1\"2"}}}, "sidecar.image.tag"),
    ({"sidecar": {"status": {"address": "everywhere"}}}, "sidecar.status.address"),
    ({"sidecar": {"resources": {"limits": {"memory": "much"}}}}, "sidecar.resources.limits.memory"),
    ({"patch": {"containers": ["a b"]}}, "patch.containers"),
    ({"test": {"image": "a\nb: c"}}, "test.image"),
    ({"interception": {"hosts": None}}, "interception.hosts"),
    ({"sidecar": {"resources": None}}, "sidecar.resources"),
    ({"injection": None}, "injection"),
    ({"injection": {"namespaces": ["A"]}}, "injection.namespaces"),
    ({"trust": {"secret": "own"}}, "trust.authority: missing"),
    ({"injection": {"failurePolicy": "Maybe"}}, "injection.failurePolicy"),
    ({"sidecarr": {}}, "sidecarr"),
    ({"sidecar": {"resources": {"limits": {"memory": "1023Mi"}}}}, "sidecar.resources.limits.memory: 1023Mi is less than `overload.heapBytes`"),
    ({"sidecar": {"resources": {"limits": {"memory": 1e9}}}}, "sidecar.resources.limits.memory: 1e+09 is less than"),
    ({"interception": {"mode": "baseUrl"}, "listener": {"transportSocket": TLS}}, "interception.mode: `baseUrl` leads applications to `http://`"),
    ({"injection": {"namespaces": ["a", "b", "c"]}}, "injection.namespaces: Helm's record"),
])
def test_refused(given: dict[str, Any], told: str, tmp_path: Path) -> None:
    with pytest.raises(render.Refused) as refused:
        objects(given, tmp_path, "v1")
    assert told in str(refused.value)


def validated(data: dict[str, str], folder: Path) -> str:
    """What Envoy's validation mode says against these files, put where this machine has the image's paths."""
    config, keys, tls = (folder / name for name in ("config", "keys", "tls"))
    for one in (config, keys, tls):
        one.mkdir(exist_ok=True)
    bundle = folder / "authorities.pem"
    bundle.write_text(authority())
    places = {"/etc/attache-keys": keys, "/etc/attache-tls": tls, "/etc/attache": config, "/attache.wasm": WASM,
              "/etc/ssl/certs/ca-certificates.crt": bundle, "/run/attache": folder}
    for name, text in data.items():
        for path, place in places.items():
            text = text.replace(f'"{path}', f'"{place}')
        (config / name).write_text(text)
    command = [ENVOY, "--mode", "validate", "--log-level", "error", "--log-format", "%v", "-c", str(config / "envoy.json")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    return done.stderr if done.returncode != 0 else ""
