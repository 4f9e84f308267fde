"""Beginning and end: the sidecar is there before the application and after it, and its own death is a short one."""

import json
import re
import subprocess
import threading
from typing import Any, Iterator

import pytest

from certificates import Certificates
from cluster import Cluster
from kube import APPS, FEW, HELM, MODEST, Namespace, Pod, pod, run, until
from provider import Provider
from sidecar import kill, process_of

HI = '[{"role": "user", "content": "Hi there"}]'
ONCE = f"""
import openai
print(openai.OpenAI(max_retries=0).chat.completions.create(model="gpt-4o", messages={HI}).choices[0].message.content)
"""
# Goes on through SIGTERM until its stream is over, as a server does that finishes its requests.
FINISHES = f"""
import openai, signal
signal.signal(signal.SIGTERM, lambda *_: print("TERM", flush=True))
chunks = openai.OpenAI(max_retries=0).chat.completions.create(model="gpt-4o", messages={HI}, stream=True)
text = ""
for chunk in chunks:
    if not text:
        print("BEGUN", flush=True)
    text += chunk.choices[0].delta.content or ""
print("TEXT", text, flush=True)
"""
# Four at a time until SIGTERM; then finishes what it began and tells how it went.
LOAD = f"""
import openai, signal, threading, pathlib
over, counts, why = threading.Event(), [0, 0], []
signal.signal(signal.SIGTERM, lambda *_: over.set())
client = openai.OpenAI(max_retries=0)
def work():
    while not over.is_set():
        try:
            answer = client.chat.completions.create(model="gpt-4o", messages={HI})
            assert answer.choices[0].message.content.endswith("Hi there")
            counts[0] += 1
        except Exception as error:
            counts[1] += 1
            why.append(repr(error)[:200])
        pathlib.Path("/tmp/ready").touch()
        over.wait(0.05)
threads = [threading.Thread(target=work) for _ in range(4)]
for thread in threads: thread.start()
while not over.wait(0.1): pass
for thread in threads: thread.join()
print("COUNTS", *counts, why[:3], flush=True)
"""
WORDS = 60


def streaming(seconds: float) -> Any:
    """A long answer, a word at a time."""
    def chunk(delta: dict[str, str], finish: str | None = None) -> str:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return "data: " + json.dumps({"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o", "choices": [choice]}) + "\n\n"

    steps: list[Any] = []
    for number in range(WORDS):
        steps += [chunk({"content": f"{number} "}), {"delay": seconds / WORDS}]
    return {"chunks": [*steps, chunk({}, "stop"), "data: [DONE]\n\n"]}


def said(text: str) -> bool:
    return text == "".join(f"{number} " for number in range(WORDS))


def test_a_job_ends_with_its_main_container(team: Namespace, quiet: Provider) -> None:
    """And its first line of code reaches the provider: the sidecar was ready before."""
    template = pod("job", container={"command": ["python", "-c", ONCE]})
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "job"},
           "spec": {"backoffLimit": 0, "template": {"metadata": template["metadata"] | {"name": None},
                                                    "spec": template["spec"] | {"restartPolicy": "Never"}}}}
    team.create(job)
    team.kubectl("wait", "job/job", "--for=condition=Complete", "--timeout=90s")
    assert "Hello from the OpenAI demo provider" in team.kubectl("logs", "job/job", "-c", "app")
    team.kubectl("delete", "job", "job")


def test_init_containers_are_served(team: Namespace, quiet: Provider) -> None:
    first = {"name": "first", "image": APPS, "imagePullPolicy": "Never", "command": ["python", "-c", ONCE]}
    made = team.start("inits", spec={"initContainers": [first]})
    assert "Hello from the OpenAI demo provider" in team.kubectl("logs", "inits", "-c", "first")
    made.delete()


def test_a_stream_in_flight_ends_well_when_its_pod_ends(team: Namespace, quiet: Provider) -> None:
    quiet.rule("openai", lambda seen: streaming(6))
    team.create(pod("ending", container={"command": ["python", "-c", FINISHES]}, spec={"terminationGracePeriodSeconds": 30, "restartPolicy": "Never"}))
    follow = followed(team, "ending")
    until(lambda: "BEGUN" in follow.text, "the stream has begun")
    team.kubectl("delete", "pod", "ending", "--wait=false")
    follow.thread.join(40)
    lines = follow.text.splitlines()
    assert "TERM" in lines, follow.text
    (text,) = [line.removeprefix("TEXT ") for line in lines if line.startswith("TEXT ")]
    assert said(text + "" if text.endswith(" ") else text + " "), follow.text


def test_envoy_killed(team: Namespace, quiet: Provider) -> None:
    """Its container starts again, alone; the application's next call works."""
    victim = team.start("victim")
    victim.python(ONCE)
    before = process_of(victim)
    kill(victim)
    assert process_of(victim) != before
    assert "Hello from the OpenAI demo provider" in victim.python(ONCE)
    (app,) = victim.seen["status"]["containerStatuses"]
    assert app["restartCount"] == 0 and victim.sidecar()["restartCount"] == 1
    assert victim.sidecar()["lastState"]["terminated"]["exitCode"] == 137
    victim.delete()


def test_a_rolling_restart_under_load_loses_nothing(team: Namespace, quiet: Provider) -> None:
    quiet.rule("openai", lambda seen: {"json": answer()})
    ready = {"exec": {"command": ["cat", "/tmp/ready"]}, "periodSeconds": 1}
    template = pod("load", labels={"app": "load"}, container={"command": ["python", "-c", LOAD], "readinessProbe": ready},
                   spec={"terminationGracePeriodSeconds": 30})
    deployment = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "load"},
                  "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "load"}},
                           "template": {"metadata": template["metadata"] | {"name": None}, "spec": template["spec"]}}}
    team.create(deployment)
    team.kubectl("rollout", "status", "deployment/load", "--timeout=120s")
    followers = {name: followed(team, name) for name in names(team)}
    team.kubectl("rollout", "restart", "deployment/load")
    team.kubectl("rollout", "status", "deployment/load", "--timeout=120s")
    followers |= {name: followed(team, name) for name in names(team) - set(followers)}
    assert len(followers) == 4
    team.kubectl("delete", "deployment", "load", "--wait=false")
    totals = [0, 0]
    for name, follower in followers.items():
        follower.thread.join(60)
        found = [line.split() for line in follower.text.splitlines() if line.startswith("COUNTS")]
        assert found, f"{name} told nothing:\n{follower.text}"
        assert found[0][2] == "0", follower.text
        totals = [totals[0] + int(found[0][1]), totals[1] + int(found[0][2])]
    print(f"rolling restart: {totals[0]} requests, {totals[1]} failed")
    assert totals[0] > 50 and totals[1] == 0


def answer() -> dict[str, Any]:
    message = {"role": "assistant", "content": "You said: Hi there", "refusal": None}
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    return {"id": "1", "object": "chat.completion", "created": 1, "model": "gpt-4o", "usage": usage,
            "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}]}


def names(team: Namespace) -> set[str]:
    found = json.loads(team.kubectl("get", "pods", "-l", "app=load", "-o", "json"))["items"]
    return {one["metadata"]["name"] for one in found if "deletionTimestamp" not in one["metadata"]}


class followed:  # noqa: N801 - reads as a participle
    """An application's output for as long as it runs, and after its pod is gone."""

    def __init__(self, team: Namespace, name: str):
        until(lambda: run(["kubectl", "-n", team.name, "logs", name, "-c", "app"]).status == 0, f"{name} runs")
        self.text = ""
        command = ["kubectl", "-n", team.name, "logs", "--follow", name, "-c", "app"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self) -> None:
        for line in self.process.stdout or []:
            self.text += line
        self.process.wait()


@pytest.fixture(scope="module")
def restricted(cluster: Cluster, provider: Provider, certificates: Certificates, values: dict[str, Any]) -> Iterator[Namespace]:
    """Pod Security's strictest profile; and a certificate that is not the chart's, as cert-manager would put it there."""
    namespace = Namespace("restricted", {"pod-security.kubernetes.io/enforce": "restricted"})
    namespace.keys(openai="secret-of-openai", anthropic="secret-of-anthropic", gemini="secret-of-gemini")
    key, end, chain = (certificates.folder / "stranger-server.pem").read_text().partition("-----END PRIVATE KEY-----\n")
    namespace.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "own"}, "type": "kubernetes.io/tls",
                     "stringData": {"tls.key": key + end, "tls.crt": chain}})
    trust = {"secret": "own", "authority": (certificates.folder / "stranger-authority.pem").read_text()}
    # The names that the certificate is for.
    namespace.installed({**values, "trust": trust, "interception": {}})
    namespace.await_policy()
    yield namespace
    namespace.delete()


@pytest.fixture(scope="module")
def modest(restricted: Namespace) -> Pod:
    return restricted.start("modest", container={"securityContext": MODEST})


def test_a_restricted_namespace(restricted: Namespace, modest: Pod, quiet: Provider) -> None:
    """Its profile takes the hook, and pods with the sidecar; `iptables` it does not."""
    assert "Hello from the OpenAI demo provider" in modest.python(ONCE)
    told = restricted.refused("create", "-f", "-", given=json.dumps(
        pod("proud", annotations={"attache/mode": "iptables"}, container={"securityContext": MODEST})))
    assert "violates PodSecurity" in told and "NET_ADMIN" in told


def test_a_certificate_of_ones_own(restricted: Namespace, modest: Pod, quiet: Provider) -> None:
    """The sidecar shows it, applications trust its authority, and the chart makes none."""
    assert [one["secret"]["secretName"] for one in modest.seen["spec"]["volumes"] if one["name"] == "attache-tls"] == ["own"]
    assert "Hello from the OpenAI demo provider" in modest.python(ONCE)
    found = json.loads(restricted.kubectl("get", "secrets", "-o", "json"))["items"]
    assert sorted(one["metadata"]["name"] for one in found if one["type"] != "helm.sh/release.v1") == ["attache-keys", "own"]


def test_the_notes_work_as_printed(restricted: Namespace, modest: Pod, quiet: Provider) -> None:
    """Every command, with names put where it says KEY, NAME and POD; the last line but for `helm test` is the metrics'."""
    modest.python(ONCE)
    notes = restricted.helm("get", "notes", "attache").out
    commands = [line.strip() for line in notes.splitlines() if line.startswith(("   kubectl", "   helm"))]
    assert [" ".join(command.split()[:5]) for command in commands] == [
        "kubectl -n restricted create secret", "kubectl -n restricted patch deployment", "kubectl label namespace restricted attache/inject=true",
        "helm test attache -n restricted", "kubectl -n restricted get --raw"]
    container = {"name": "app", "image": APPS, "securityContext": MODEST}
    restricted.apply({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "app"}, "spec": {
        "replicas": 0, "selector": {"matchLabels": {"app": "app"}}, "template": {"metadata": {"labels": {"app": "app"}}, "spec": {"containers": [container]}}}})
    restricted.kubectl("delete", "secret", "attache-keys")
    for command in commands:
        command = re.sub(r"\bPOD\b", "modest", re.sub(r"\bNAME\b", "app", re.sub(r"\bKEY\b", "secret", command))).replace("helm test", f"{HELM[0]} test")
        done = run(["sh", "-c", command], timeout=240)
        assert done.status == 0, (command, done)
    assert 'attache_attempts{provider="openai"' in done.out, done
    assert set(restricted.get("secret", "attache-keys")["data"]) == {"openai", "anthropic", "gemini", "socket"}
    assert restricted.get("deployment", "app")["spec"]["template"]["metadata"]["labels"]["attache/inject"] == "true"


@pytest.fixture
def counted(cluster: Cluster, values: dict[str, Any]) -> Iterator[Namespace]:
    """A quota on everything, of which each container must therefore say something."""
    namespace = Namespace("counted")
    hard = {"requests.cpu": "4", "limits.cpu": "16", "requests.memory": "4Gi", "limits.memory": "16Gi"}
    namespace.apply({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "all"}, "spec": {"hard": hard}})
    yield namespace
    namespace.delete()


def test_a_quota_on_processor_time(counted: Namespace, values: dict[str, Any]) -> None:
    """The hook's pod, an application's with both of ours, and `helm test`'s; beside it, a status that listens as in a cluster of IPv6."""
    sidecar = {**values["sidecar"], "resources": {"limits": {"cpu": "2"}}, "status": {"address": "::"}}
    counted.installed({**values, "sidecar": sidecar})
    counted.await_policy()
    made = counted.start("app", annotations={"attache/mode": "iptables"}, container={"resources": FEW})
    assert [one["resources"]["limits"]["cpu"] for one in made.seen["spec"]["initContainers"]] == ["2", "2"]
    done = counted.helm("test", "attache")
    assert done.status == 0, done
