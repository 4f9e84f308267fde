"""The sidecar's part of the chart without a cluster: what it renders, what Envoy and the filter say to it, what it refuses.

Pods with it are tested in a cluster (tests/cluster).
"""

import json
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


def objects(given: dict[str, Any], folder: Path, *versions: str) -> list[dict[str, Any]]:
    file = folder / "values.yaml"
    file.write_text(json.dumps(given))
    apis = [word for version in versions for word in ("--api-versions", POLICY.format(version))]
    command = [render.helm(), "template", "attache", str(render.CHART), "-n", "team", "-f", str(file), *apis]
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
], ids=["defaults", "every row", "keys", "passthrough", "refuse"])
def test_envoy_and_the_filter_take_the_configuration(given: dict[str, Any], tmp_path: Path) -> None:
    found = objects(given, tmp_path)
    assert validated(named(found, "ConfigMap", "attache-validation")["data"], tmp_path) == ""
    # Beside it every bootstrap as it is: nothing in them is fetched, so little is said against them.
    for mode in MODES:
        data = named(found, "ConfigMap", "attache")["data"]
        assert validated({**data, "envoy.json": data[f"envoy-{mode}.json"]}, tmp_path) == ""


def test_the_validation_reads_what_the_filter_reads(tmp_path: Path) -> None:
    """A fault that only the filter knows."""
    given = gateway([{"name": "openai"}], models=["a", "a"])
    given["gateway"]["routes"][0]["waitLimit"] = "25h"
    told = validated(named(objects(given, tmp_path), "ConfigMap", "attache-validation")["data"], tmp_path)
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
        own = {one["metadata"]["name"] for one in found if one["metadata"].get("namespace") == namespace}
        assert own == {"attache", "attache-trust", "attache-tls-1"}
    policy = named(found, "MutatingAdmissionPolicy", "attache-team-attache")
    (namespaces,) = policy["spec"]["matchConstraints"]["namespaceSelector"]["matchExpressions"]
    assert namespaces["values"] == ["a", "b"]


def test_the_image_by_digest(tmp_path: Path) -> None:
    digest = "sha256:" + "0" * 64
    found = objects({"sidecar": {"image": {"repository": "registry.example/attache", "digest": digest}}}, tmp_path, "v1")
    assert f"registry.example/attache@{digest}" in json.dumps(named(found, "MutatingAdmissionPolicy", "attache-team-attache"))


@pytest.mark.parametrize("given, told", [
    ({"interception": {"mode": "magic"}}, "interception.mode"),
    ({"interception": {"hosts": ["https://x"]}}, "interception.hosts"),
    ({"sidecar": {"image": {"digest": "latest"}}}, "sidecar.image.digest"),
    ({"sidecar": {"labels": ["a b"]}}, "sidecar.labels"),
    ({"trust": {"generation": 0}}, "trust.generation"),
    ({"trust": {"secret": "own"}}, "trust.authority: missing"),
    ({"injection": {"failurePolicy": "Maybe"}}, "injection.failurePolicy"),
    ({"sidecarr": {}}, "sidecarr"),
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
