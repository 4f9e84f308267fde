"""The cluster as a test uses it: kubectl, Helm, programs in pods; each in one call that says what went wrong."""

import json
import os
import subprocess
import time
from dataclasses import dataclass
from typing import Any, Callable

import yaml

import fetch
from parts import dns_of

CHART = fetch.ROOT / "helm"
# `make cluster-test`'s own cluster, or one that was given by $KUBECONFIG.
OWN = os.environ.get("ATTACHE_CLUSTER") != "given"
# A kubelet as shipped brings a change of a ConfigMap within a minute and a half.
PATIENCE_SECONDS = 60 if OWN else 180
APPS = "local/apps:1"
# A label of the tests' namespaces.
OURS = "attache/tests"
# A container that Pod Security's profile `restricted` takes.
MODEST = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "runAsNonRoot": True, "runAsUser": 1000,
          "seccompProfile": {"type": "RuntimeDefault"}}
# Resources that a quota counts.
FEW = {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"cpu": "1", "memory": "256Mi"}}
# Which of the tests that run side by side these are (conftest.py).
LANE = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
HELM = [os.environ.get("HELM") or str(fetch.ROOT / ".attache/helm")]
HELM_3 = subprocess.run([*HELM, "version", "--short"], capture_output=True, text=True).stdout.startswith("v3.")


class Failed(AssertionError):
    """A command ended with another status than the test expects; the message has its words."""


@dataclass
class Done:
    status: int
    out: str
    error: str


def run(command: list[str], given: str | None = None, timeout: float = 120) -> Done:
    done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=timeout)
    return Done(done.returncode, done.stdout, done.stderr)


def checked(command: list[str], given: str | None = None, timeout: float = 120) -> str:
    done = run(command, given, timeout)
    if done.status != 0:
        raise Failed(f"{' '.join(command)}: status {done.status}\n{done.out}{done.error}")
    return done.out


def until(condition: Callable[[], Any], what: str, timeout: float = PATIENCE_SECONDS) -> Any:
    deadline = time.monotonic() + timeout
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout} s: {what}")
        time.sleep(0.1)
    return found


def remove(name: str) -> None:
    """A namespace that an earlier run in this cluster left, or that is not quite gone."""
    done = run(["kubectl", "get", "namespace", name, "-o", "json"])
    if done.status != 0:
        return
    metadata = json.loads(done.out)["metadata"]
    if OURS not in metadata["labels"]:
        raise Failed(f"namespace {name}: it is not of these tests, which need one of that name")
    if "deletionTimestamp" not in metadata:
        delete(name)
    until(lambda: run(["kubectl", "get", "namespace", name]).status != 0, f"{name} of before is gone")


def delete(name: str) -> None:
    # The policies are the cluster's, and would stay.
    for release in json.loads(checked([*HELM, "list", "-n", name, "-o", "json"])):
        checked([*HELM, "uninstall", release["name"], "-n", name])
    checked(["kubectl", "delete", "namespace", name, "--wait=false"])


class Namespace:
    """One namespace, and everything that a test does in it."""

    def __init__(self, name: str, labels: dict[str, str] | None = None):
        self.name = name
        metadata = {"name": name, "labels": {OURS: "true", **(labels or {})}}
        remove(name)
        checked(["kubectl", "apply", "-f", "-"], json.dumps({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}))
        until(lambda: run(["kubectl", "-n", name, "get", "serviceaccount", "default"]).status == 0, f"{name}: a service account")

    def delete(self) -> None:
        delete(self.name)

    def kubectl(self, *words: str, given: str | None = None, timeout: float = 120) -> str:
        return checked(["kubectl", "-n", self.name, *words], given, timeout)

    def refused(self, *words: str, given: str | None = None) -> str:
        done = run(["kubectl", "-n", self.name, *words], given)
        assert done.status != 0, f"kubectl {' '.join(words)}: expected a refusal\n{done.out}"
        return done.error

    def get(self, kind: str, name: str) -> dict[str, Any]:
        return json.loads(self.kubectl("get", kind, name, "-o", "json"))

    def apply(self, *objects: dict[str, Any]) -> None:
        self.kubectl("apply", "-f", "-", given=yaml.safe_dump_all(objects))

    def create(self, thing: dict[str, Any], *words: str) -> dict[str, Any]:
        return json.loads(self.kubectl("create", "-f", "-", "-o", "json", *words, given=json.dumps(thing)))

    # ---- the chart ----

    def install(self, values: dict[str, Any], *words: str, release: str = "attache") -> Done:
        """`helm upgrade --install`, which is also an upgrade; the caller looks at the status."""
        command = [*HELM, "upgrade", "--install", release, str(CHART), "-n", self.name, "-f", "-", *words]
        return run(command, json.dumps(values), timeout=180)

    def helm(self, *words: str) -> Done:
        return run([*HELM, *words, "-n", self.name], timeout=180)

    def await_policy(self) -> None:
        """A policy takes a moment to be in force."""
        trial = json.dumps(pod("trial", container={"securityContext": MODEST, "resources": FEW}))
        until(lambda: '"name": "attache"' in self.kubectl("create", "--dry-run=server", "-o", "json", "-f", "-", given=trial), "the policy is in force")

    def installed(self, values: dict[str, Any], *words: str) -> None:
        done = self.install(values, *words)
        if done.status != 0:
            raise Failed(f"helm upgrade --install: status {done.status}\n{done.out}{done.error}")

    def keys(self, **keys: str) -> None:
        """The Secret with the providers' keys, new or changed."""
        self.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "attache-keys"}, "stringData": keys})

    # ---- pods ----

    def start(self, name: str, **more: Any) -> "Pod":
        """An ordinary pod, labelled for the sidecar, ready."""
        self.create(pod(name, **more))
        return Pod(self, name).await_ready()


def pod(name: str, annotations: dict[str, str] | None = None, labels: dict[str, str] | None = None, environment: dict[str, str] | None = None,
        spec: dict[str, Any] | None = None, container: dict[str, Any] | None = None) -> dict[str, Any]:
    variables = [{"name": key, "value": value} for key, value in (environment or {}).items()]
    app = {"name": "app", "image": APPS, "imagePullPolicy": "Never", **({"env": variables} if variables else {}), **(container or {})}
    metadata = {"name": name, "labels": {"attache/inject": "true", **(labels or {})}, "annotations": annotations or {}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata,
            "spec": {"terminationGracePeriodSeconds": 1, **resolver(), "containers": [app], **(spec or {})}}


def resolver() -> dict[str, Any]:
    """Of a pod's specification. The first lane's DNS is what the kubelet gives every pod; the others' is the same but for the server."""
    if LANE == 0 and OWN:
        return {}
    searches = ["svc.cluster.local", "cluster.local"]
    options = [{"name": "ndots", "value": "5"}]
    return {"dnsPolicy": "None", "dnsConfig": {"nameservers": [dns_of(LANE)], "searches": searches, "options": options}}


class Pod:
    def __init__(self, namespace: Namespace, name: str):
        self.namespace, self.name = namespace, name

    def await_ready(self) -> "Pod":
        try:
            self.namespace.kubectl("wait", f"pod/{self.name}", "--for=condition=Ready", f"--timeout={PATIENCE_SECONDS}s")
        except Failed as failed:
            told = run(["kubectl", "-n", self.namespace.name, "describe", "pod", self.name]).out[-3000:]
            raise Failed(f"{failed}\n{told}\n{self.log()[-3000:]}") from None
        return self

    def delete(self) -> None:
        self.namespace.kubectl("delete", "pod", self.name, "--grace-period=1", "--wait=false")

    def log(self) -> str:
        """The sidecar's."""
        return run(["kubectl", "-n", self.namespace.name, "logs", self.name, "-c", "attache"]).out

    def exec(self, *command: str, timeout: float = 60) -> Done:
        """A program in the application's container. It gets nothing on its input, which `kubectl exec` loses now and then."""
        return run(["kubectl", "-n", self.namespace.name, "exec", self.name, "-c", "app", "--", *command], timeout=timeout)

    def write(self, file: str, text: str) -> None:
        done = self.exec("sh", "-c", f'echo "$1" > {file}', "sh", text)
        assert done.status == 0, done

    def python(self, script: str, timeout: float = 60) -> str:
        done = self.exec("python", "-c", script, timeout=timeout)
        if done.status != 0:
            raise Failed(f"{self.name}: python: status {done.status}\n{done.out}{done.error}\n{self.log()[-2000:]}")
        return done.out

    @property
    def seen(self) -> dict[str, Any]:
        return self.namespace.get("pod", self.name)

    @property
    def address(self) -> str:
        return self.seen["status"]["podIP"]

    def sidecar(self) -> dict[str, Any]:
        """What Kubernetes says of the sidecar's state."""
        return next(one for one in self.seen["status"]["initContainerStatuses"] if one["name"] == "attache")
