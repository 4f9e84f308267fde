"""What the tests in a cluster share: the images loaded, the scripted providers behind their real names, one namespace with the chart.

`make cluster-test` runs them inside the cluster's network (tests/tools/cluster/cluster.py), where the providers' addresses are. Three
files at a time run side by side, each in a lane of its own: a process with its own providers, which its own pods find by name.
"""

import os
import sys
from pathlib import Path
from typing import Any, Iterator

import pytest
import yaml

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(Path(__file__).resolve().parent), str(TESTS), str(TESTS / "tools"), str(TESTS / "tools/cluster")]

import apps  # noqa: E402
import demo  # noqa: E402
import fetch  # noqa: E402
from certificates import Certificates  # noqa: E402
from cluster import Cluster, named_in  # noqa: E402
from kube import LANE, OWN, Namespace, Pod, pod  # noqa: E402
from parts import addresses  # noqa: E402
from provider import Provider  # noqa: E402

IMAGE = fetch.ROOT / ".attache/image.tar"
VERSION = yaml.safe_load((fetch.ROOT / "helm/Chart.yaml").read_text())["appVersion"]
# Where each demo provider really lives.
HOSTS = {"openai": "api.openai.com", "anthropic": "api.anthropic.com", "gemini": "generativelanguage.googleapis.com"}
# Two that no row of the table has: one that is nobody's provider, one that becomes one late.
OTHERS = {"other": "other.test", "late": "late.test"}
# A provider that speaks WebSocket (test_traffic.py).
SOCKET = "socket.test"
MODES = ("hosts", "iptables", "baseUrl")
# The longest begin.
FILES = ("test_tuning", "test_life", "test_papers_cluster", "test_sdks", "test_shapes", "test_traffic")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    place = {file: number for number, file in enumerate(FILES)}
    items.sort(key=lambda item: place.get(item.path.stem, len(place)))
    if "ATTACHE_CLUSTER" not in os.environ:
        for item in items:
            item.add_marker(pytest.mark.skip(reason="no cluster: `make cluster-test` brings one up"))


def pytest_sessionstart(session: pytest.Session) -> None:
    """Once, before there are lanes: the images are in the cluster."""
    if "ATTACHE_CLUSTER" not in os.environ or hasattr(session.config, "workerinput"):
        return
    if OWN:
        for archive in (IMAGE, apps.archive()):
            Cluster().load(archive)
    else:
        beforehand()


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    return Cluster()


def beforehand() -> None:
    """Of a cluster that was given: whether its nodes have the images, and whether its pods reach this machine."""
    namespace = Namespace(f"beforehand-{LANE}")
    look = 'import socket; print(socket.gethostbyname("api.openai.com"))'
    trial = pod("trial", labels={"attache/inject": "false"}, container={"command": ["python", "-c", look]}, spec={"restartPolicy": "Never"})
    image = {"name": "attache", "image": f"attache:{VERSION}", "imagePullPolicy": "Never", "args": ["--version"]}
    trial["spec"]["containers"].append(image)
    namespace.create(trial)
    try:
        namespace.kubectl("wait", "pod/trial", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=30s")
        found = namespace.kubectl("logs", "trial", "-c", "app").strip()
        assert found == addresses(LANE)["api.openai.com"], f"api.openai.com is {found} in its pods"
        ours, theirs = named_in(IMAGE), [one["imageID"] for one in namespace.get("pod", "trial")["status"]["containerStatuses"] if one["name"] == "attache"]
        assert ours["digest"] in theirs[0] or ours["configuration"] in theirs[0], f"attache:{VERSION} on its node is another: {theirs[0]}"
    except AssertionError as failed:
        told = [one["state"] for one in namespace.get("pod", "trial")["status"].get("containerStatuses", [])]
        needs = f"its nodes need the images {IMAGE} and {apps.archive()}, and its pods must reach {addresses(LANE)['api.openai.com']}"
        pytest.exit(f"KUBECONFIG={os.environ['KUBECONFIG']}: {needs}\n{failed}\n{told}", 1)
    finally:
        namespace.delete()


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"), (*HOSTS.values(), *OTHERS.values(), SOCKET))


@pytest.fixture(scope="session")
def provider(cluster: Cluster, certificates: Certificates) -> Iterator[Provider]:
    """The providers, outside of every pod, at the addresses that DNS tells for their names."""
    names = {**HOSTS, **OTHERS}
    tls = {name: certificates.server(True, "h2", "http/1.1") for name in names}
    places = {name: addresses(LANE)[host] for name, host in names.items()}
    with Provider(list(names), dict.fromkeys(names, 443), tls, addresses=places) as provider:
        yield provider


@pytest.fixture
def quiet(provider: Provider) -> Provider:
    """With no request seen; each answers as the demo's provider of its name does, the others as OpenAI's."""
    provider.reset()
    for name in (*HOSTS, *OTHERS):
        provider.rule(name, demo.RULES.get(name, demo.RULES["openai"]))
    return provider


@pytest.fixture(scope="session")
def values(certificates: Certificates) -> dict[str, Any]:
    """The chart's own defaults, with the test's image and authority, and models that cross from one provider to another."""
    routes = [
        {"models": ["gpt-*"], "targets": [{"provider": "openai"}, {"provider": "anthropic", "model": "claude-haiku-4-5"}]},
        {"models": ["claude-*"], "targets": [{"provider": "anthropic"}, {"provider": "gemini", "model": "gemini-2.5-flash"}]},
        {"models": ["gemini-*"], "targets": [{"provider": "gemini"}, {"provider": "openai", "model": "gpt-4o-mini"}]},
    ]
    # Two requests for each pod of one team; the others have no such limit.
    few = {"name": "few", "limit": {"requests": 2}, "window": {"calendar": "month"}, "match": {"routes": ["budgeted"], "facts": {"workload.label.team": ["poor"]}}}
    routes.append({"models": ["budgeted"], "targets": [{"provider": "openai", "model": "gpt-4o"}]})
    socket = {"name": "socket", "provider": "openai", "origin": f"https://{SOCKET}"}
    return {
        "gateway": {"providers": [*({"name": name} for name in HOSTS), socket], "routes": routes, "budgets": [few]},
        "test": {"image": apps.NAME, "pullPolicy": "Never"},
        "interception": {"hosts": ["*.wild.test"], "ipv6": True},
        "sidecar": {"image": {"pullPolicy": "Never"}, "pullSecrets": [{"name": "registry"}],
                    "authorities": certificates.authority.read_text(), "labels": ["team"]},
    }


@pytest.fixture(scope="session")
def team(cluster: Cluster, provider: Provider, values: dict[str, Any]) -> Iterator[Namespace]:
    """A namespace with the chart and a key for each provider."""
    namespace = Namespace(f"team-{LANE}")
    namespace.keys(**{name: key_of(name) for name in (*HOSTS, "socket")})
    namespace.installed(values)
    namespace.await_policy()
    yield namespace
    namespace.delete()


@pytest.fixture(scope="session")
def pods(team: Namespace) -> dict[str, Pod]:
    """One pod for each mode, all of them started at once."""
    for mode in MODES:
        team.create(pod(mode.lower(), annotations={"attache/mode": mode}, labels={"team": f"team-{mode.lower()}"}))
    return {mode: Pod(team, mode.lower()).await_ready() for mode in MODES}


def key_of(name: str) -> str:
    return f"secret-of-{name}"
