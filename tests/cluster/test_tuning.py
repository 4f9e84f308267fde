"""Everything that changes while pods run: routes, providers, keys, certificates; and what does not, when the change is bad.

The tests of this file share a namespace of their own, and each goes on where the one before ended.
"""

import copy
import json
import re
import threading
import time
from typing import Any, Iterator

import pytest
import yaml

import demo
from cluster import Cluster
from conftest import HOSTS, key_of
from kube import HELM_3, Namespace, Pod, checked, pod, run, until
from provider import Provider
from test_life import streaming

STREAMS = 32
HI = '[{"role": "user", "content": "Hi there"}]'
MANY = f"""
import asyncio, json, openai
async def one(client):
    text = ""
    async for chunk in await client.chat.completions.create(model="gpt-4o", messages={HI}, stream=True):
        text += chunk.choices[0].delta.content or ""
    return text
async def main():
    client = openai.AsyncOpenAI(max_retries=0, timeout=300)
    print(json.dumps(await asyncio.gather(*(one(client) for _ in range({STREAMS})), return_exceptions=False)))
asyncio.run(main())
"""
WHOLE = "".join(f"{number} " for number in range(60))


@pytest.fixture(scope="module")
def tuned(cluster: Cluster, provider: Provider, values: dict[str, Any]) -> Iterator[Namespace]:
    namespace = Namespace("tuned")
    namespace.keys(**{name: key_of(name) for name in (*HOSTS, "socket")})
    namespace.installed(values)
    namespace.await_policy()
    yield namespace
    namespace.delete()


@pytest.fixture(scope="module")
def first_trust(tuned: Namespace) -> dict[str, Any]:
    """The authority and the certificate as the first installation made them."""
    return trust_of(tuned)


def trust_of(tuned: Namespace) -> dict[str, Any]:
    return {name: tuned.get("secret", name)["data"] for name in ("attache-ca-1", "attache-tls-1")}


@pytest.fixture(scope="module")
def app(tuned: Namespace, first_trust: dict[str, Any]) -> Pod:
    return tuned.start("app")


def who(app: Pod, model: str = "gpt-4o") -> str:
    """Which provider answers, by the header."""
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "Hi there"}]})
    done = app.exec("curl", "--silent", "--include", "--max-time", "20", "--header", "content-type: application/json", "--data", body,
                    "https://api.openai.com/v1/chat/completions")
    found = re.search(r"^x-attache-provider: (\S+)", done.out, re.MULTILINE)
    return found[1] if found else f"nobody: {done.out[-300:]}{done.error}"


def unharmed(app: Pod) -> None:
    assert app.sidecar()["restartCount"] == 0 and app.sidecar()["ready"]


def edit(tuned: Namespace, change: Any) -> None:
    """As `kubectl edit configmap` does it: the gateway's configuration, as it stands there."""
    found = tuned.get("configmap", "attache")
    document = yaml.safe_load(found["data"]["gateway.yaml"])
    held = document["resources"][0]["typed_config"]["config"]["configuration"]
    whole = json.loads(held["value"])
    change(whole["gateway"])
    held["value"] = json.dumps(whole)
    tuned.kubectl("patch", "configmap", "attache", "--patch", json.dumps({"data": {"gateway.yaml": yaml.safe_dump(document)}}))


def statistics(app: Pod, name: str) -> list[str]:
    page = app.exec("curl", "--silent", f"http://{app.address}:9902/stats/prometheus").out
    return [line for line in page.splitlines() if name in line and not line.startswith("#")]


def in_force(app: Pod) -> tuple[int, int]:
    """The configuration's sum, and since when: on the page that Prometheus reads."""
    page = app.exec("curl", "--silent", f"http://{app.address}:9902/stats/prometheus").out
    numbers = re.findall(r"^attache_configuration_(hash|time_seconds)\{\} (\d+)$", page, re.MULTILINE)
    found = {name: int(number) for name, number in numbers}
    return found["hash"], found["time_seconds"]


class Streams:
    """Very many streams at once, in one application, half told; the rest comes when they are looked at."""

    def __init__(self, app: Pod, provider: Provider):
        words = streaming(1)["chunks"]
        half = [*words[: len(words) // 2], {"wait": "the rest"}, *words[len(words) // 2 :]]
        provider.rule("openai", lambda seen: {"chunks": half} if seen.json.get("stream") else demo.openai(seen))
        self.said: list[str] | str = "nothing"
        self._provider = provider
        self._thread = threading.Thread(target=self._run, args=(app,))
        self._thread.start()
        until(lambda: len([one for one in provider.requests("openai") if one.json.get("stream")]) == STREAMS, "all streams have begun")

    def _run(self, app: Pod) -> None:
        done = app.exec("python", "-c", MANY, timeout=300)
        self.said = json.loads(done.out) if done.status == 0 else done.error

    def check(self) -> None:
        assert self._thread.is_alive()
        self._provider.open("the rest")
        self._thread.join(120)
        assert self.said == [WHOLE] * STREAMS, f"{len(self.said)}: {str(self.said)[:2000]}"


def test_an_edit_takes_effect_under_32_streams(tuned: Namespace, app: Pod, quiet: Provider) -> None:
    streams, (before, since) = Streams(app, quiet), in_force(app)
    edit(tuned, lambda gateway: gateway["routes"][0]["targets"].reverse())
    until(lambda: who(app) == "anthropic", "the new order of targets")
    after, now = in_force(app)
    assert after != before and since < now <= time.time()
    streams.check()
    unharmed(app)


def test_a_bad_edit_changes_nothing_and_shows(tuned: Namespace, app: Pod, quiet: Provider) -> None:
    def spoil(gateway: dict[str, Any]) -> None:
        gateway["routes"][0]["targets"][0]["provider"] = "anthropc"
        gateway["routes"][1]["firstToken"] = 60

    before, force = tuned.get("configmap", "attache")["data"]["gateway.yaml"], in_force(app)
    edit(tuned, spoil)
    told = until(lambda: re.search(r"config: 2 faults.*?did you mean `anthropic`\?.*", app.log(), re.DOTALL), "the faults are in the log")
    assert "routes[1].firstToken: expected a duration" in told[0]
    refused = statistics(app, "extension_config_discovery_http_filter_attache_config_fail")
    assert any(line.split()[-1] != "0" for line in refused), refused
    assert who(app) == "anthropic" and in_force(app) == force
    unharmed(app)
    tuned.kubectl("patch", "configmap", "attache", "--patch", json.dumps({"data": {"gateway.yaml": before}}))


def test_a_key_is_rotated(tuned: Namespace, app: Pod, quiet: Provider) -> None:
    tuned.keys(**{name: key_of(name) for name in ("openai", "gemini", "socket")}, anthropic="the-next-key")
    until(lambda: rotated(app, quiet), "the new key")
    unharmed(app)


def rotated(app: Pod, provider: Provider) -> bool:
    who(app)
    return provider.requests("anthropic")[-1].header("x-api-key") == "the-next-key"


def test_a_bad_upgrade_changes_nothing(tuned: Namespace, app: Pod, values: dict[str, Any], quiet: Provider) -> None:
    before = {name: tuned.get("configmap", name)["metadata"]["resourceVersion"] for name in ("attache", "attache-trust")}
    bad = copy.deepcopy(values)
    bad["gateway"]["routes"][1]["models"] += ["twice", "twice"]
    bad["gateway"]["routes"][0]["waitLimit"] = "25h"
    done = tuned.install(bad)
    assert done.status != 0
    # The filter's own words, of the image that would have run it.
    assert "config: 2 faults" in done.error and "routes[0].waitLimit: expected a duration" in done.error, done
    bad["gateway"]["routes"][0]["targets"][0]["provider"] = "opnai"
    done = tuned.install(bad)
    assert done.status != 0 and "gateway.routes[0].targets[0].provider: unknown provider `opnai`; did you mean `openai`?" in done.error
    done = tuned.install({**values, "interception": {"mode": "magic"}})
    assert done.status != 0 and "'/interception/mode': value must be one of 'hosts'" in done.error
    assert before == {name: tuned.get("configmap", name)["metadata"]["resourceVersion"] for name in before}
    assert not json.loads(tuned.kubectl("get", "jobs", "-o", "json"))["items"]
    unharmed(app)


def test_a_provider_is_added_live(tuned: Namespace, app: Pod, values: dict[str, Any], quiet: Provider) -> None:
    # Helm 4 applies on the server's side, which asks before it takes back what `kubectl edit` has changed; Helm 3 takes it back.
    again, forced = tuned.install(values), [] if HELM_3 else ["--force-conflicts"]
    assert again.status == 0 if HELM_3 else "conflict" in again.error, again
    if not HELM_3:
        edit(tuned, lambda gateway: gateway["routes"][0]["targets"].reverse())
    until(lambda: who(app) == "openai", "the values' own order of targets")
    quiet.forget(["openai"])
    streams = Streams(app, quiet)
    more, keys = copy.deepcopy(values), {name: key_of(name) for name in (*HOSTS, "socket")}
    # Names that nothing knows of before; each Secret and each release is changed once for it, and not again.
    for first, name in (("provider", "late"), ("key", "later"), ("provider", "last")):
        more["gateway"]["providers"].append({"name": name, "provider": "openai", "origin": "https://late.test"})
        more["gateway"]["routes"].append({"models": [f"{name}-*"], "targets": [{"provider": name}]})
        keys[name] = f"secret-of-{name}"
        if first == "key":
            tuned.keys(**keys)
        tuned.installed(more, *forced)
        if first == "provider":
            tuned.keys(**keys)
        until(lambda: who(app, f"{name}-1") == name and quiet.requests("late")[-1].header("authorization") == f"Bearer {keys[name]}", f"{name}: its key")  # noqa: B023
        if name == "late":
            streams.check()
    unharmed(app)


def test_a_good_upgrade_and_its_rollback(tuned: Namespace, app: Pod, values: dict[str, Any], quiet: Provider) -> None:
    other = copy.deepcopy(values)
    other["gateway"]["routes"][0]["targets"].reverse()
    tuned.installed(other)
    until(lambda: who(app) == "anthropic", "the upgrade")
    history = json.loads(tuned.helm("history", "attache", "-o", "json").out)
    done = tuned.helm("rollback", "attache", str(history[0]["revision"]))
    assert done.status == 0, done
    until(lambda: who(app) == "openai", "the rollback")
    unharmed(app)


def test_the_authority_stays_and_is_rotated_by_a_value(tuned: Namespace, app: Pod, first_trust: dict[str, Any], values: dict[str, Any], quiet: Provider) -> None:
    """The first installation's, through all upgrades and the rollback since, and beside the next one."""
    assert trust_of(tuned) == first_trust
    tuned.installed({**values, "trust": {"generation": 2}})
    assert trust_of(tuned) == first_trust
    bundle = tuned.get("configmap", "attache-trust")["data"]
    assert bundle["authority.pem"].count("BEGIN CERTIFICATE") == 2
    assert all(one in bundle["bundle.pem"] for one in re.findall(r"-----BEGIN.*?-----END CERTIFICATE-----", bundle["authority.pem"], re.DOTALL))
    # The pod that was there goes on with what it has; a new one has the new certificate.
    assert who(app) == "openai"
    # A policy is in force a second or two after it was made.
    until(lambda: certificate_of(tuned.create(pod("trial"), "--dry-run=server")) == "attache-tls-2", "the policy is in force")
    younger = tuned.start("younger")
    assert certificate_of(younger.seen) == "attache-tls-2" and certificate_of(app.seen) == "attache-tls-1"
    assert who(younger) == "openai"
    unharmed(app)
    younger.delete()


def certificate_of(made: dict[str, Any]) -> str:
    (name,) = [one["secret"]["secretName"] for one in made["spec"]["volumes"] if one["name"] == "attache-tls"]
    return name


@pytest.fixture(scope="module")
def second(tuned: Namespace) -> Iterator[Namespace]:
    namespace = Namespace("second")
    namespace.keys(**{name: key_of(name) for name in HOSTS})
    yield namespace
    namespace.delete()


def test_a_release_serves_several_namespaces(tuned: Namespace, second: Namespace, values: dict[str, Any], quiet: Provider) -> None:
    tuned.installed({**values, "trust": {"generation": 2}, "injection": {"namespaces": ["tuned", "second"]}})
    second.await_policy()
    made = second.start("app")
    assert who(made) == "openai"
    made.delete()


def test_helm_test_asks_where_the_release_serves(tuned: Namespace, second: Namespace, values: dict[str, Any], quiet: Provider) -> None:
    """In another namespace than its own, by the policy, and by the template where there is none; the certificate stays as it is."""
    shown = second.get("secret", "attache-tls-2")["data"]
    for enabled in (True, False):
        tuned.installed({**values, "trust": {"generation": 2}, "injection": {"namespaces": ["second"], "enabled": enabled}})
        done = tuned.helm("test", "attache")
        assert done.status == 0 and "Succeeded" in done.out, done
    assert second.get("secret", "attache-tls-2")["data"] == shown and not quiet.requests()


def test_uninstall_leaves_nothing(tuned: Namespace, second: Namespace, app: Pod) -> None:
    """In neither of the namespaces that it served, nor of the cluster's own objects."""
    done = tuned.helm("uninstall", "attache")
    assert done.status == 0, done
    label = "app.kubernetes.io/instance=attache"
    kinds = {scope: checked(["kubectl", "api-resources", "--verbs=list", f"--namespaced={scope}", "-o", "name"]).split() for scope in ("true", "false")}
    listed = lambda kinds, *words: run(["kubectl", "get", ",".join(kinds), "-o", "name", "-l", label, *words])  # noqa: E731
    for namespace in (tuned, second):
        done = listed(kinds["true"], "-n", namespace.name)
        # Of the pods that it served none has its labels: they are the applications' own.
        assert done.status == 0 and not done.out, done
        own = json.loads(namespace.kubectl("get", "configmaps,secrets,jobs", "-o", "json"))["items"]
        assert sorted(one["metadata"]["name"] for one in own) == ["attache-keys", "kube-root-ca.crt"]
    done = listed(kinds["false"])
    # Another release's policies have its namespace in their names.
    assert done.status == 0 and not [name for name in done.out.split() if f"/attache-{tuned.name}." in name], done
