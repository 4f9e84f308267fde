"""A cluster that is somebody's, named by $KUBECONFIG, for the tests: what it needs, and what stands beside it.

It serves admission policies (Kubernetes 1.36, or `v1beta1` switched on), and its nodes have the two images that
`make image` and `python tests/tools/cluster/apps.py` make. The scripted providers are on this machine, under their real names: so it
has the addresses of parts.py, which pods must reach, and the tests' pods ask a DNS here. That takes root. With kind on this machine:

    for address in $(python tests/tools/cluster/given.py); do ip address add $address/32 dev lo; done
"""

import errno
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import fetch  # noqa: E402
from parts import LANES, addresses, dns, dns_of  # noqa: E402


def kubeconfig(own: Path) -> str | None:
    """$KUBECONFIG, unless that is the cluster in `own`."""
    named = os.environ.get("KUBECONFIG")
    return named if named and Path(named).resolve() != (own / "admin.kubeconfig").resolve() else None


def run(command: list[str], path: str) -> int:
    """Runs it with what the tests need; `path`: more places of programs."""
    environment = {**os.environ, "PATH": f"{os.environ['PATH']}:{path}", "ATTACHE_CLUSTER": "given"}
    if not shutil.which("kubectl", path=environment["PATH"]):
        raise fetch.Missing("kubectl: not found; the tests ask the cluster of KUBECONFIG by it; https://kubernetes.io/docs/tasks/tools")
    asked = subprocess.run(["kubectl", "get", "--raw", "/readyz"], env=environment, capture_output=True, text=True)
    if asked.returncode != 0:
        raise fetch.Missing(f"KUBECONFIG={os.environ['KUBECONFIG']}: no cluster answers: {asked.stderr.strip()}")
    if lacks := [address for address in needed() if not bound(address, 0)]:
        raise fetch.Missing(f"KUBECONFIG is set, so the tests run in that cluster; its pods must reach the scripted providers on this machine, which lacks "
                            f"{lacks[0]} and {len(lacks) - 1} more addresses: tests/tools/cluster/given.py says how it gets them. Without KUBECONFIG the tests bring up a cluster of their own")
    print(f"the tests run in the cluster of {os.environ['KUBECONFIG']}", flush=True)
    servers = [subprocess.Popen(dns(dns_of(lane), addresses(lane))) for lane in range(LANES) if bound(dns_of(lane), 53)]
    try:
        return subprocess.run(command, env=environment).returncode
    finally:
        for server in servers:
            server.terminate()
            server.wait()


def needed() -> list[str]:
    return [address for lane in range(LANES) for address in (dns_of(lane), *addresses(lane).values())]


def bound(address: str, port: int) -> bool:
    """Whether it can be: the address is this machine's, and nobody listens there."""
    with socket.socket(type=socket.SOCK_DGRAM) as trial:
        try:
            trial.bind((address, port))
        except OSError as problem:
            if problem.errno not in (errno.EADDRINUSE, errno.EADDRNOTAVAIL):
                raise
            return False
    return True


if __name__ == "__main__":
    print(*needed(), sep="\n")
