"""Pod shapes through admission (shapes.yaml), and the same change by template and by patch: one source, three ways."""

import copy
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Iterator

import pytest
import yaml

from cluster import Cluster
from kube import CHART, HELM, Namespace, checked, pod, run, until

SHAPES = yaml.safe_load((Path(__file__).parent / "shapes.yaml").read_text())
CHANGED = [shape for shape in SHAPES if not shape.get("untouched") and not shape.get("refused")]
PROVIDERS = {"ip": "127.0.0.1", "hostnames": ["api.openai.com", "api.anthropic.com", "generativelanguage.googleapis.com", "socket.test"]}
PORTS = {"name": "net.ipv4.ip_unprivileged_port_start", "value": "0"}
BUNDLE, OWN = "/etc/attache-trust/bundle.pem", "/etc/attache-trust/authority.pem"
TRUST = {
    "SSL_CERT_FILE": BUNDLE, "REQUESTS_CA_BUNDLE": BUNDLE, "CURL_CA_BUNDLE": BUNDLE, "AWS_CA_BUNDLE": BUNDLE,
    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": BUNDLE, "NODE_EXTRA_CA_CERTS": OWN, "DENO_CERT": OWN,
    "JAVA_TOOL_OPTIONS": "-Djavax.net.ssl.trustStore=/etc/attache-trust/authorities.jks",
}
URLS = {
    "OPENAI_BASE_URL": "http://127.0.0.1:10000/v1", "ANTHROPIC_BASE_URL": "http://127.0.0.1:10000",
    "GOOGLE_GEMINI_BASE_URL": "http://127.0.0.1:10000", "GROQ_BASE_URL": "http://127.0.0.1:10000",
    "TOGETHER_BASE_URL": "http://127.0.0.1:10000/v1",
}
PLACEHOLDERS = dict.fromkeys(("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY"), "attache-puts-the-key")
VOLUMES = {"attache-config", "attache-keys", "attache-tls", "attache-trust", "attache-run", "attache-empty"}
OURS = ("attache", "attache-redirect")


def named(shapes: list[dict[str, Any]]) -> Any:
    return pytest.mark.parametrize("shape", shapes, ids=[shape["name"] for shape in shapes])


@dataclass
class Made:
    """What becomes of a shape: by admission, by admission of that once more, and by the template."""

    given: dict[str, Any]
    admitted: dict[str, Any]
    again: dict[str, Any]
    template: dict[str, Any]
    templated: dict[str, Any]


@pytest.fixture(scope="module")
def made(team: Namespace, values: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Made]:
    """All at once: a program started for each would take minutes."""
    given = [shaped(shape) for shape in CHANGED]
    first = admitted_all(team, given)
    second = admitted_all(team, [{**one, "metadata": {key: one["metadata"].get(key) for key in ("name", "generateName", "labels", "annotations")}}
                                 for one in first])
    done = templated(team, given, values, tmp_path_factory.mktemp("parent"))
    assert done.status == 0, done.error
    templates = [one for one in yaml.safe_load_all(done.out) if one and one["kind"] == "Pod"]
    for one in templates:
        one["metadata"].pop("namespace", None)
    by_template = admitted_all(team, templates)
    rows = zip(given, first, second, templates, by_template, strict=True)
    return {shape["name"]: Made(*row) for shape, row in zip(CHANGED, rows, strict=True)}


@named(CHANGED)
def test_admission(shape: dict[str, Any], made: dict[str, Made]) -> None:
    one = made[shape["name"]]
    check(shape, one.given, one.admitted)
    assert meant(one.again) == meant(one.admitted), "a second time changes something"


@named([shape for shape in SHAPES if shape.get("untouched")])
def test_untouched(shape: dict[str, Any], team: Namespace) -> None:
    """The same as a pod at which no policy looks."""
    given = shaped(shape)
    one, bare = admitted_all(team, [given, without_labels(given)])
    assert meant(one) == meant(bare) and "initContainers" not in one["spec"]


@named([shape for shape in SHAPES if shape.get("refused")])
def test_refused(shape: dict[str, Any], team: Namespace, values: dict[str, Any], tmp_path: Path) -> None:
    given = shaped(shape)
    assert shape["refused"] in team.refused("create", "--dry-run=server", "-f", "-", given=json.dumps(given))
    # What is a quantity only Kubernetes knows.
    if "quantities" not in shape["refused"]:
        done = templated(team, [given], values, tmp_path)
        assert done.status != 0 and shape["refused"] in done.error


@named(CHANGED)
def test_template_is_the_same_change(shape: dict[str, Any], made: dict[str, Made]) -> None:
    """`include "attache.pod"`, in a chart that has this one as a dependency."""
    one = made[shape["name"]]
    assert one.template["metadata"]["labels"]["attache/inject"] == "false"
    assert meant(one.templated) == meant(one.admitted)


@pytest.mark.parametrize("name", ["plain", "own init containers, which are served too", "own host aliases", "a security context of a container"])
def test_patch_is_the_same_change(name: str, team: Namespace, values: dict[str, Any]) -> None:
    """The strategic-merge patch, on a Deployment: all but the order of init containers, which a patch cannot give."""
    (shape,) = [shape for shape in SHAPES if shape["name"] == name]
    given = shaped(shape)
    template = {"metadata": {"labels": {"app": "patched"}}, "spec": {**given["spec"], "terminationGracePeriodSeconds": 30}}
    deployment = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "patched"},
                  "spec": {"replicas": 0, "selector": {"matchLabels": {"app": "patched"}}, "template": template}}
    patch = patch_file(team, values)
    team.apply(deployment)
    try:
        made = json.loads(team.kubectl("patch", "deployment", "patched", "--dry-run=server", "-o", "json", "--patch", patch))
    finally:
        team.kubectl("delete", "deployment", "patched")
    patched, by_policy = made["spec"]["template"]["spec"], admitted(team, {**given, "spec": template["spec"]})["spec"]
    assert patched["initContainers"][0]["name"] == "attache"
    containers = {one["name"]: one for one in by_policy["containers"]}
    for container in patched["containers"]:
        assert environment(container) == environment(containers[container["name"]])
        assert mounts(container) == mounts(containers[container["name"]])
    assert patched["initContainers"][0] == by_policy["initContainers"][0]
    for part in ("hostAliases", "securityContext"):
        key = (lambda one: one["ip"]) if part == "hostAliases" else None
        assert (sorted(patched[part], key=key), sorted(by_policy[part], key=key)) if key else patched[part] == by_policy[part]
    assert VOLUMES <= {volume["name"] for volume in patched["volumes"]}


def test_namespaces_opt_in_as_a_whole(team: Namespace) -> None:
    given = merged(pod("shape"), {"metadata": {"labels": {"attache/inject": None}}})
    checked(["kubectl", "label", "namespace", team.name, "attache/inject=true"])
    try:
        until(lambda: "initContainers" in admitted(team, given)["spec"], "the namespace's label is seen")
        assert meant(admitted(team, given)) == meant(admitted(team, pod("shape")))
        out = merged(given, {"metadata": {"labels": {"attache/inject": "false"}}})
        assert "initContainers" not in admitted(team, out)["spec"]
    finally:
        checked(["kubectl", "label", "namespace", team.name, "attache/inject-"])
    until(lambda: "initContainers" not in admitted(team, given)["spec"], "the label's end is seen")


@pytest.fixture
def older(cluster: Cluster) -> Iterator[Namespace]:
    namespace = Namespace("older")
    yield namespace
    checked(["kubectl", "delete", BETA_KINDS, "-l", "app.kubernetes.io/instance=older", "--ignore-not-found"])
    namespace.delete()


BETA_KINDS = "mutatingadmissionpolicies,mutatingadmissionpolicybindings,validatingadmissionpolicies,validatingadmissionpolicybindings"


def test_v1beta1_is_the_same_change(older: Namespace, team: Namespace, made: dict[str, Made], values: dict[str, Any]) -> None:
    """The policies as a cluster gets them that serves no `v1`, put into this one, which serves both."""
    version = "admissionregistration.k8s.io/v1beta1"
    if version not in checked(["kubectl", "api-versions"]).split():
        pytest.skip(f"the cluster that was given does not serve {version}")
    command = [*HELM, "template", "older", str(CHART), "-n", "older", "-f", "-", "--api-versions", f"{version}/MutatingAdmissionPolicy"]
    policies = [one for one in yaml.safe_load_all(checked(command, json.dumps(values))) if one and "AdmissionPolicy" in one["kind"]]
    assert [one["apiVersion"] for one in policies if one["kind"].startswith("Mutating")] == [version] * 3
    checked(["kubectl", "apply", "-f", "-"], yaml.safe_dump_all(policies))
    until(lambda: "initContainers" in admitted(older, pod("shape"))["spec"], "the policy is in force")
    # Its objects have the release's name, which is the other here.
    renamed = lambda spec: json.loads(re.sub(r'"(name|secretName)": "older', r'"\1": "attache', json.dumps(spec)))  # noqa: E731
    by_beta = admitted_all(older, [one.given for one in made.values()])
    for name, one in zip(made, by_beta, strict=True):
        assert renamed(meant(one)) == meant(made[name].admitted), name


def patch_file(team: Namespace, values: dict[str, Any]) -> str:
    rendered = checked([*HELM, "template", "attache", str(CHART), "-n", team.name, "-f", "-", "--set", "patch.containers={app}"], json.dumps(values))
    (found,) = [one for one in yaml.safe_load_all(rendered) if one and one["metadata"]["name"] == "attache-patch"]
    return found["data"]["patch.yaml"]


def templated(team: Namespace, given: list[dict[str, Any]], values: dict[str, Any], folder: Path) -> Any:
    chart = folder / "parent"
    (chart / "templates").mkdir(parents=True)
    (chart / "charts").mkdir()
    (chart / "charts/attache").symlink_to(CHART)
    (chart / "Chart.yaml").write_text(json.dumps({"apiVersion": "v2", "name": "parent", "version": "1.0.0"}))
    (chart / "templates/pods.yaml").write_text(
        "{{- range .Values.pods }}\n---\napiVersion: v1\nkind: Pod\n"
        '{{ include "attache.pod" (dict "context" $.Subcharts.attache "template" .) }}\n{{- end }}\n')
    file = folder / "values.yaml"
    pods = [{key: one[key] for key in ("metadata", "spec")} for one in given]
    file.write_text(json.dumps({"attache": values, "pods": pods}))
    return run([*HELM, "template", "attache", str(chart), "-n", team.name, "-f", str(file)])


def shaped(shape: dict[str, Any]) -> dict[str, Any]:
    return merged(pod("shape"), shape["pod"])


def merged(base: Any, over: Any) -> Any:
    """Mappings by member, `null` takes one away, everything else replaced."""
    if not (isinstance(base, dict) and isinstance(over, dict)):
        return over
    whole = {key: value for key, value in base.items() if over.get(key, "") is not None}
    return whole | {key: merged(base.get(key), value) for key, value in over.items() if value is not None}


def admitted(team: Namespace, given: dict[str, Any]) -> dict[str, Any]:
    return admitted_all(team, [given])[0]


def admitted_all(team: Namespace, given: list[dict[str, Any]]) -> list[dict[str, Any]]:
    asked = json.dumps({"apiVersion": "v1", "kind": "List", "items": given})
    told, made = team.kubectl("create", "--dry-run=server", "-o", "json", "-f", "-", given=asked), []
    # One object after the other, without anything between them.
    while told := told.strip():
        one, end = json.JSONDecoder().raw_decode(told)
        made.append(one)
        told = told[end:]
    return made


def without_labels(given: dict[str, Any]) -> dict[str, Any]:
    bare = copy.deepcopy(given)
    bare["metadata"].pop("labels", None)
    bare["metadata"].pop("annotations", None)
    return bare


def meant(made: dict[str, Any]) -> dict[str, Any]:
    """The pod's spec without what Kubernetes names at random."""
    spec = copy.deepcopy(made["spec"])
    spec["volumes"] = [volume for volume in spec.get("volumes", []) if not volume["name"].startswith("kube-api-access-")]
    for container in [*spec["containers"], *spec.get("initContainers", [])]:
        container["volumeMounts"] = [one for one in container.get("volumeMounts", []) if not one["name"].startswith("kube-api-access-")]
    return spec


def check(shape: dict[str, Any], given: dict[str, Any], made: dict[str, Any]) -> None:
    spec = meant(made)
    inits = spec["initContainers"]
    assert [one["name"] for one in inits] == shape.get("inits", ["attache"])
    own = given["spec"].get("imagePullSecrets", [])
    assert spec["imagePullSecrets"] == [*own, *({"name": "registry"} for _ in [1] if {"name": "registry"} not in own)]
    assert spec.get("hostAliases", []) == shape.get("aliases", [PROVIDERS])
    assert spec.get("securityContext", {}).get("sysctls", []) == shape.get("sysctls", [PORTS])
    assert {volume["name"] for volume in spec["volumes"]} >= VOLUMES
    mode = made["metadata"].get("annotations", {}).get("attache/mode", "hosts")
    before = {one["name"]: one for one in [*given["spec"]["containers"], *given["spec"].get("initContainers", [])]}
    for container in [*spec["containers"], *inits]:
        name = container["name"]
        if name in OURS:
            check_ours(container)
        elif name in shape.get("plain", []):
            assert "env" not in container and container["volumeMounts"] == []
        else:
            lacks = shape.get("lacks", {}).get(name, [])
            wanted = {**(URLS if mode == "baseUrl" else TRUST), **PLACEHOLDERS, **shape.get("env", {}).get(name, {})}
            assert environment(container) == {key: value for key, value in wanted.items() if key not in lacks}
            # What was there keeps its place, before ours.
            own = before[name].get("env", [])
            assert [one["name"] for one in container["env"]][: len(own)] == [one["name"] for one in own]
            assert mounts(container) == [*(m["mountPath"] for m in before[name].get("volumeMounts", [])), "/etc/attache-trust"]
    assert holds(made, shape.get("has", {})), f"{shape['has']}\nis not in\n{json.dumps(made['spec'], indent=1)}"


def check_ours(container: dict[str, Any]) -> None:
    """What must hold of the sidecar and its helper in every pod."""
    security = container["securityContext"]
    assert security["capabilities"]["drop"] == ["ALL"] and security["readOnlyRootFilesystem"] and not security["allowPrivilegeEscalation"]
    assert security["seccompProfile"] == {"type": "RuntimeDefault"} and "privileged" not in security
    token = [one for one in container["volumeMounts"] if one["mountPath"].endswith("serviceaccount")]
    assert [one["name"] for one in token] == ["attache-empty"], "a token of the pod's service account is mounted"
    if container["name"] == "attache":
        assert container["restartPolicy"] == "Always" and security["runAsUser"] == 1337 and security["runAsNonRoot"]


def environment(container: dict[str, Any]) -> dict[str, str | None]:
    return {one["name"]: one.get("value") for one in container.get("env", [])}


def mounts(container: dict[str, Any]) -> list[str]:
    return [one["mountPath"] for one in container.get("volumeMounts", []) if not one["name"].startswith("kube-api-access-")]


def holds(whole: Any, part: Any) -> bool:
    """Whether the part is in it: mappings by member, lists of things with names by name, everything else equal."""
    if isinstance(part, dict):
        # The order of variables counts, as one may use those before it.
        return isinstance(whole, dict) and all(
            key in whole and (whole[key] == value if key == "env" else holds(whole[key], value)) for key, value in part.items())
    if isinstance(part, list) and part and isinstance(part[0], dict) and "name" in part[0]:
        return all(any(one.get("name") == wanted["name"] and holds(one, wanted) for one in whole) for wanted in part)
    return whole == part
