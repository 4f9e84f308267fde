#!/usr/bin/env python3
"""The node: process 1 of namespaces of its own, in which it starts the parts of the cluster. `cluster.py` runs it.

    node.py HOME PROGRAMS CGROUP LANES

HOME is a folder, empty but for images of an earlier node, PROGRAMS where Kubernetes' programs lie, CGROUP the name of the
node's control group, LANES a JSON array: in each lane host names and their addresses, which its DNS tells and the node has.
When this process ends, the kernel ends everything in here, pods included, and with it go mounts, interfaces and sockets.
"""

import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Callable

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import parts  # noqa: E402
from archive import Image, write_archive  # noqa: E402
from parts import HOME, PAUSE, SOCKET, address6, dns_of  # noqa: E402

PATIENCE_SECONDS = 120
CLONE_NEWCGROUP = 0x02000000


def main(home: Path, programs: Path, cgroup: str, lanes: list[dict[str, str]]) -> None:
    # What systemd or a shell above sends; the kernel protects process 1 from signals that it does not handle.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    mount_privately(home)
    own_cgroups(cgroup)
    own_network(lanes)
    has_images = (HOME / "containerd").exists()
    parts.write_files(HOME)
    (HOME / "log").mkdir()
    commands = parts.commands(programs, lanes)
    running: dict[int, str] = {}

    def start(*names: str) -> None:
        for name in names:
            log = open(HOME / f"log/{name}.log", "wb")
            running[subprocess.Popen(commands[name], stdout=log, stderr=log, stdin=subprocess.DEVNULL).pid] = name

    def kubectl(*words: str) -> str | None:
        command = [str(programs / "kubectl"), "--kubeconfig", str(HOME / "admin.kubeconfig"), *words]
        done = subprocess.run(command, capture_output=True, text=True)
        return done.stdout if done.returncode == 0 else None

    start("etcd", "containerd", *(name for name in commands if name.startswith("dns-")), "apiserver")
    until(lambda: kubectl("get", "--raw", "/readyz"), "the API server", running)
    start("manager", "scheduler", "kubelet")
    until(SOCKET.exists, "containerd", running)
    if not has_images:
        import_pause()
    until(lambda: " Ready " in (kubectl("get", "nodes") or ""), "the node", running)
    until(lambda: kubectl("get", "serviceaccount", "default"), "the default service account", running)
    (HOME / "ready").touch()
    while True:
        reap(running)
        time.sleep(0.2)


def mount_privately(home: Path) -> None:
    """The folder below its short name; what programs write elsewhere by habit stays in it too."""
    mount = lambda *words: subprocess.run(["mount", *words], check=True)  # noqa: E731
    mount("--make-rprivate", "/")
    mount("-t", "tmpfs", "tmpfs", "/run")
    HOME.mkdir()
    mount("--bind", str(home), str(HOME))
    for habit in ("lib", "log"):
        (HOME / f"var-{habit}").mkdir()
        mount("--bind", str(HOME / f"var-{habit}"), f"/var/{habit}")
    # Pods may ask for mounts that come later to be passed on; that takes a shared root.
    mount("--make-rshared", "/")


def own_cgroups(name: str) -> None:
    """Groups of that name below the machine's become the root of what the node sees, so that all of its own lie in them."""
    mounts = [line.split()[1:4] for line in Path("/proc/self/mounts").read_text().splitlines()]
    mounts = [(Path(place), kind, options) for place, kind, options in mounts if kind in ("cgroup", "cgroup2")]
    for place, kind, _ in mounts:
        group = place / name
        group.mkdir(exist_ok=True)
        # A new set of processors (cgroup v1) is empty, and takes no process.
        for file in ("cpuset.cpus", "cpuset.mems"):
            if kind == "cgroup" and (group / file).exists():
                (group / file).write_text((place / file).read_text())
        (group / "cgroup.procs").write_text("0")
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWCGROUP) != 0:
        fail(f"no control groups of its own: {os.strerror(ctypes.get_errno())}")
    for place, kind, options in mounts:
        subprocess.run(["umount", str(place)], check=True)
        own = ",".join(word for word in options.split(",") if word not in ("rw", "relatime", "nosuid", "nodev", "noexec"))
        subprocess.run(["mount", "-t", kind, *(["-o", own] if kind == "cgroup" else []), kind, str(place)], check=True)
        if kind == "cgroup2":
            # A group of version 2 passes controllers on only while no process is in it.
            (place / "node").mkdir(exist_ok=True)
            (place / "node/cgroup.procs").write_text("0")


def own_network(lanes: list[dict[str, str]]) -> None:
    ip = lambda *words: subprocess.run(["ip", *words], check=True)  # noqa: E731
    ip("link", "set", "lo", "up")
    # A pair whose other end nobody holds: not every kernel has dummy devices.
    ip("link", "add", "node0", "type", "veth", "peer", "name", "node1")
    for address in [address for lane, hosts in enumerate(lanes) for address in (dns_of(lane), *hosts.values())]:
        ip("addr", "add", f"{address}/24", "dev", "node0")
        # As it stands: nobody is asked whether it is taken.
        ip("addr", "add", f"{address6(address)}/64", "dev", "node0", "nodad")
    ip("link", "set", "node0", "up")
    ip("link", "set", "node1", "up")
    ip("route", "add", "default", "dev", "node0")
    for switch in ("ipv4/ip_forward", "ipv6/conf/all/forwarding"):
        Path(f"/proc/sys/net/{switch}").write_text("1")


def import_pause() -> None:
    """The container that holds a pod's namespaces: it sleeps."""
    folder = HOME / "pause"
    (folder / "bin").mkdir(parents=True)
    shutil.copy("/bin/busybox", folder / "bin/busybox")
    write_archive(HOME / "pause.tar", Image(PAUSE, [folder], ["/bin/busybox", "sleep", "2147483647"]))
    command = ["ctr", "--address", str(SOCKET), "--namespace", "k8s.io", "images", "import", str(HOME / "pause.tar")]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def until(done: Callable[[], object], what: str, running: dict[int, str]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not done():
        reap(running)
        if time.monotonic() > deadline:
            fail(f"{what}: not ready after {PATIENCE_SECONDS} s")
        time.sleep(0.2)


def reap(running: dict[int, str]) -> None:
    """Takes leave of processes that ended, orphans of containers among them; without one of its parts a node is over."""
    while (ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) is not None:
        if name := running.get(ended.si_pid):
            last = (HOME / f"log/{name}.log").read_text(errors="replace").splitlines()[-5:]
            fail("\n  ".join([f"{name}: ended with status {ended.si_status}", *last]))
        os.waitpid(ended.si_pid, 0)


def fail(message: str) -> None:
    (HOME / "failed").write_text(message)
    os._exit(1)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], json.loads(sys.argv[4]))
