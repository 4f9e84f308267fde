"""The sidecar's process, as the machine sees it: the image has no shell to ask it from inside."""

import os
import signal
from pathlib import Path

import pytest

from kube import OWN, Pod, until


def processes() -> dict[int, dict[str, str]]:
    """Every Envoy that is a sidecar, with its environment."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if (folder / "comm").read_text().strip() != "envoy":
                continue
            pairs = (folder / "environ").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        environment = dict(pair.split("=", 1) for pair in pairs if "=" in pair)
        if "ATTACHE_NAMESPACE" in environment:
            found[int(folder.name)] = environment
    return found


def process_of(pod: Pod) -> int:
    whose = lambda environment: (environment["ATTACHE_NAMESPACE"], environment.get("HOSTNAME"))  # noqa: E731
    found = [pid for pid, environment in processes().items() if whose(environment) == (pod.namespace.name, pod.name)]
    if not found and not OWN:
        pytest.skip("the nodes of the cluster that was given are not this machine")
    (pid,) = found
    return pid


def environment_of(pod: Pod) -> dict[str, str]:
    return processes()[process_of(pod)]


def memory_of(pod: Pod) -> int:
    """Resident, in MB."""
    status = Path(f"/proc/{process_of(pod)}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) >> 10


def kill(pod: Pod) -> None:
    """SIGKILL, and waits until Kubernetes has started another."""
    before = pod.sidecar()["restartCount"]
    os.kill(process_of(pod), signal.SIGKILL)
    until(lambda: pod.sidecar()["restartCount"] == before + 1 and pod.sidecar()["ready"], f"{pod.name}: a new Envoy is ready")
