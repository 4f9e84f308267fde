"""README's quick start as a new user types it, and every object of the chart against the API's own schemas."""

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

import fetch
import schemas
from cluster import Cluster
from kube import APPS, CHART, HELM, OURS, checked, delete, remove, resolver, run
from provider import Provider

POLICIES = "admissionregistration.k8s.io/{}/MutatingAdmissionPolicy"


def test_the_quick_start_of_readme(cluster: Cluster, values: dict[str, Any], quiet: Provider, tmp_path: Path) -> None:
    """As it is printed, but for the image (there is no kind and no registry here), the test's authority, and other names."""
    text = (fetch.ROOT / "README.md").read_text().partition("\n## Kubernetes\n")[2]
    commands = re.search(r"```sh\n(.*?)```", text, re.DOTALL)[1]
    first, rest = commands.split("\n", 1)
    assert first == "make image && kind load image-archive .attache/image.tar"
    extra = tmp_path / "values.yaml"
    extra.write_text(json.dumps({"sidecar": {"authorities": values["sidecar"]["authorities"]}}))
    put = {
        "helm install attache helm/": f"{HELM[0]} install attache helm/ -f {extra}",
        "docker.io/curlimages/curl:8.17.0": f"{APPS} --image-pull-policy=Never --overrides='{json.dumps({'spec': resolver()})}'",
        "-n team": "-n quick", "--namespace team": "--namespace quick",
    }
    for word, other in put.items():
        assert word in rest, word
        rest = rest.replace(word, other)
    # The one wait that the text tells of: a policy takes a moment to be in force.
    trial = f"kubectl -n quick run trial --image={APPS} --labels=attache/inject=true --dry-run=server -o json"
    rest = rest.replace("kubectl -n quick run shell", f"until {trial} | grep -q attache-config; do sleep 0.2; done\nkubectl -n quick run shell")
    remove("quick")
    # The tests' mark, so that the namespace can be told from anybody's.
    rest = rest.replace("kubectl -n quick create", f"kubectl label namespace quick {OURS}=true\nkubectl -n quick create")
    try:
        done = subprocess.run(["sh", "-euc", rest], capture_output=True, text=True, cwd=fetch.ROOT, timeout=120,
                              env={**os.environ, "OPENAI_API_KEY": "the-users-key"})
    finally:
        run(["kubectl", "-n", "quick", "delete", "pod", "shell", "--grace-period=1", "--wait=false"])
        delete("quick")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Hello from the OpenAI demo provider" in done.stdout
    assert re.search(r'^attache_attempts\{provider="openai",.*class="ok"\} 1$', done.stdout, re.MULTILINE), done.stdout
    (seen,) = quiet.requests()
    assert seen.header("authorization") == "Bearer the-users-key"


@pytest.fixture(scope="module")
def api_schemas(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("schemas")
    schemas.write(json.loads(checked(["kubectl", "get", "--raw", "/openapi/v2"])), folder)
    return folder


@pytest.mark.parametrize("given, version", [
    ({}, "v1"),
    ({}, "v1beta1"),
    ({"interception": {"mode": "iptables", "ipv6": True, "hosts": ["*.example.com"]}}, "v1"),
    ({"patch": {"containers": ["app"]}, "injection": {"namespaces": ["a", "b"]}}, "v1"),
    ({"trust": {"secret": "own", "authority": "PEM"}, "sidecar": {"pullSecrets": [{"name": "registry"}]}}, "v1"),
    ({"sidecar": {"enabled": False}}, "v1"),
], ids=["defaults", "v1beta1", "iptables", "several namespaces", "own certificate", "own Envoy"])
def test_kubeconform(given: dict[str, Any], version: str, api_schemas: Path) -> None:
    rendered = checked([*HELM, "template", "attache", str(CHART), "-n", "team", "-f", "-", "--api-versions", POLICIES.format(version)], json.dumps(given))
    where = f"{api_schemas}/{{{{.ResourceKind}}}}{{{{.KindSuffix}}}}.json"
    command = [str(fetch.ROOT / ".attache/kubeconform"), "-strict", "-summary", "-output", "json", "-schema-location", where]
    told = json.loads(run(command, rendered).out)
    summary = told["summary"]
    assert summary["valid"] > 0 and summary["invalid"] == summary["errors"] == summary["skipped"] == 0, told
    # It would have told: a member that no schema names.
    spoilt = rendered.replace("\nmetadata:", "\nmetadatum: {}\nmetadata:", 1)
    assert json.loads(run(command, spoilt).out)["summary"]["invalid"] == 1
