#!/usr/bin/env python3
"""A real one-node Kubernetes on a bare machine, in namespaces of its own: Linux, root.

    cluster.py up                   builds and installs what is missing, then starts it
    cluster.py down                 ends it, and leaves nothing
    cluster.py within COMMAND …     runs COMMAND in its network, with KUBECONFIG set; starts it, and ends it if it started it.
                                    With KUBECONFIG set before, runs COMMAND beside that cluster (given.py)
    cluster.py kubectl …            the same for kubectl, in a cluster that is up
    cluster.py load ARCHIVE …       imports images
    cluster.py why-not              says in one line why it cannot run here; status 0 if it can

All of it lies in .attache/cluster. One process outside holds everything: when it ends, however that happens, the kernel
ends the cluster.
"""

import ctypes
import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import apps  # noqa: E402
import fetch  # noqa: E402
import given  # noqa: E402
from parts import LANES, SOCKET, addresses  # noqa: E402

ROOT = fetch.ROOT
FOLDER = ROOT / ".attache/cluster"
PROGRAMS = ROOT / ".attache/kubernetes"
IMAGE = ROOT / ".attache/image.tar"
# A program, and the Debian package that has it.
PACKAGES = {
    "etcd": "etcd-server", "containerd": "containerd", "runc": "runc", "dnsmasq": "dnsmasq-base", "iptables": "iptables",
    "ip": "iproute2", "/bin/busybox": "busybox-static", "/usr/lib/cni/bridge": "containernetworking-plugins",
}
# Several clones may have a cluster each.
CGROUP = "attache-" + hashlib.sha256(str(ROOT).encode()).hexdigest()[:8]
START_SECONDS = 180
PR_SET_PDEATHSIG = 1


class Cluster:
    """What is outside of it: the process that holds it, and ways in."""

    @property
    def holder(self) -> int | None:
        """The process, if it is still the one that was started."""
        try:
            pid, started = (FOLDER / "holder").read_text().split()
        except (OSError, ValueError):
            return None
        return int(pid) if start_time(int(pid)) == started else None

    @property
    def init(self) -> int | None:
        """Process 1 of the namespaces, as it is called out here."""
        holder = self.holder
        try:
            return int(Path(f"/proc/{holder}/task/{holder}/children").read_text().split()[0]) if holder else None
        except (OSError, IndexError):
            return None

    def up(self, tied: bool = False) -> bool:
        """Starts it, unless it is up; `tied`: it ends with this process. Whether it was started."""
        if self.holder:
            return False
        self.down()
        fetch.kubernetes(PROGRAMS)
        install()
        FOLDER.mkdir(parents=True)
        images = fetch.CACHE / f"images-{apps.key()}"
        with fetch.locked(images):
            if images.exists():
                copy_images(images, FOLDER / "containerd")
        command = ["unshare", "--net", "--pid", "--mount", "--ipc", "--fork", "--kill-child=SIGKILL", "--mount-proc", sys.executable,
                   str(Path(__file__).with_name("node.py")), str(FOLDER), str(PROGRAMS.resolve()), CGROUP, json.dumps([addresses(lane) for lane in range(LANES)])]
        with open(FOLDER / "node.log", "wb") as log:
            holder = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True,
                                      preexec_fn=die_with_parent if tied else None)
        (FOLDER / "holder").write_text(f"{holder.pid} {start_time(holder.pid)}")
        deadline = time.monotonic() + START_SECONDS
        while not (FOLDER / "ready").exists():
            if holder.poll() is not None or time.monotonic() > deadline:
                why = FOLDER / "failed"
                told = (why if why.exists() else FOLDER / "node.log").read_text(errors="replace")[-2000:].strip()
                raise fetch.Missing(f"the cluster did not start; {FOLDER}/log has more\n  {told}")
            time.sleep(0.1)
        for archive in filter(Path.exists, (apps.archive(), IMAGE)):
            self.load(archive)
        self._keep(images)
        return True

    def _keep(self, images: Path) -> None:
        """The next node finds them loaded, or most of their layers."""
        with fetch.locked(images):
            if not images.exists():
                draft = Path(tempfile.mkdtemp(dir=fetch.CACHE, prefix=".images-"))
                copy_images(FOLDER / "containerd", draft / "containerd")
                (draft / "containerd").rename(images)
                draft.rmdir()

    def down(self) -> None:
        if holder := self.holder:
            processes = [pid for pid in (holder, self.init) if pid]
            os.kill(holder, signal.SIGKILL)
            # Process 1 ends after its holder, and after everything in its namespaces.
            while any(state(pid) not in (None, "Z") for pid in processes):
                time.sleep(0.02)
        remove_cgroups()
        if FOLDER.exists():
            shutil.rmtree(FOLDER)

    def enter(self, *namespaces: str) -> list[str]:
        if not (init := self.init):
            raise fetch.Missing("no cluster is up; `cluster.py up` starts one")
        return ["nsenter", f"--target={init}", *(f"--{name}" for name in namespaces)]

    def environment(self) -> dict[str, str]:
        path = f"{PROGRAMS}:{(ROOT / '.attache')}:{os.environ['PATH']}"
        return {**os.environ, "KUBECONFIG": str(FOLDER / "admin.kubeconfig"), "PATH": path, "ATTACHE_CLUSTER": "own"}

    def kubectl(self, *words: str) -> list[str]:
        return [*self.enter("net"), str(PROGRAMS / "kubectl"), "--kubeconfig", str(FOLDER / "admin.kubeconfig"), *words]

    def ctr(self, *words: str) -> list[str]:
        return [*self.enter("mount", "net", "pid"), f"--wd={os.getcwd()}", "ctr", "--address", str(SOCKET), "--namespace", "k8s.io", *words]

    def load(self, archive: Path) -> None:
        """Unless it is there."""
        image = named_in(archive)
        loaded = subprocess.run(self.ctr("images", "ls", f"name=={image['name']}"), capture_output=True, text=True).stdout
        if image["digest"] in loaded:
            return
        done = subprocess.run(self.ctr("images", "import", str(archive.resolve())), capture_output=True, text=True)
        if done.returncode != 0:
            raise fetch.Missing(f"{archive}: not imported: {done.stderr.strip()}")


def named_in(archive: Path) -> dict[str, str]:
    """Name and digest of the image, as containerd tells them, and the digest of its configuration."""
    with tarfile.open(archive) as tar:
        read = lambda name: json.loads((tar.extractfile(name) or io.BytesIO()).read())  # noqa: E731
        (manifest,), (docker,) = read("index.json")["manifests"], read("manifest.json")
    return {"name": manifest["annotations"]["io.containerd.image.name"], "digest": manifest["digest"],
            "configuration": docker["Config"].rpartition("/")[2]}


def copy_images(source: Path, target: Path) -> None:
    """containerd's folder. Layers are never written to, so links do where the disk is the same; its books are copied."""
    for how in ("-al", "-a"):
        if subprocess.run(["cp", how, str(source), str(target)], capture_output=True).returncode == 0:
            break
        shutil.rmtree(target, ignore_errors=True)
    else:
        raise fetch.Missing(f"{target}: the images could not be copied there")
    for book in target.rglob("*.db"):
        if "fs" not in book.relative_to(target).parts:
            text = book.read_bytes()
            book.unlink()
            book.write_bytes(text)


def why_not() -> str | None:
    """One line, where no cluster can run."""
    if given.kubeconfig(FOLDER):
        return None
    if sys.platform != "linux":
        return "it takes Linux"
    if os.geteuid() != 0:
        return "it takes root, for namespaces, mounts and control groups"
    done = subprocess.run(["unshare", "--net", "--pid", "--mount", "--fork", "--mount-proc", "mount", "-t", "tmpfs", "tmpfs", "/run"],
                          capture_output=True, text=True)
    if done.returncode != 0:
        return f"this machine lets nobody make namespaces and mounts ({done.stderr.strip()})"
    if not os.access("/sys/fs/cgroup", os.W_OK):
        return "control groups cannot be made here"
    if not (PROGRAMS.exists() or shutil.which("go")):
        return "Go is missing, which builds Kubernetes"
    if lacks := [program for program in apps.TOOLS if not shutil.which(program)]:
        return f"{', '.join(lacks)} missing, of which the applications in the pods are made"
    if missing() and not shutil.which("apt-get"):
        return f"{', '.join(missing())} missing, and this is not Debian"
    return None


def missing() -> list[str]:
    return [program for program in PACKAGES if not shutil.which(program)]


def install() -> None:
    packages = sorted(PACKAGES[program] for program in missing())
    if not packages:
        return
    fetch.say(f"Debian packages {', '.join(packages)}")
    environment = {"DEBIAN_FRONTEND": "noninteractive"}
    fetch.run(["apt-get", "update", "-qq"], **environment)
    # None of the services that they bring is ours.
    fetch.run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages], **environment, RUNLEVEL="1")


def remove_cgroups() -> None:
    """What the containers of an earlier node left: groups without processes."""
    for top in [*Path("/sys/fs/cgroup").glob(f"*/{CGROUP}"), *Path("/sys/fs/cgroup").glob(CGROUP)]:
        for folder in sorted([top, *top.rglob("*/")], key=lambda path: len(path.parts), reverse=True):
            for _ in range(50):
                try:
                    folder.rmdir()
                    break
                except FileNotFoundError:
                    break
                except OSError:  # A process of it is not quite gone.
                    time.sleep(0.02)


def start_time(pid: int) -> str | None:
    """When the process started, by the kernel's clock: a number is given again, the pair is not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return None


def state(pid: int) -> str | None:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return None


def die_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def main(words: list[str]) -> int:
    cluster = Cluster()
    match words:
        case ["up"]:
            cluster.up()
            tool = f"{sys.executable} {Path(__file__).relative_to(ROOT)}"
            print(f"it is up; `{tool} kubectl get pods -A` asks it, `{tool} within bash` is a shell in it; `make cluster-down` ends it")
        case ["down"]:
            cluster.down()
        case ["within", *command] if command and given.kubeconfig(FOLDER):
            return given.run(command, f"{PROGRAMS}:{ROOT / '.attache'}")
        case ["within", *command] if command:
            started = cluster.up(tied=True)
            try:
                return subprocess.run([*cluster.enter("net"), *command], env=cluster.environment()).returncode
            finally:
                if started:
                    cluster.down()
        case ["kubectl", *command]:
            return subprocess.run(cluster.kubectl(*command)).returncode
        case ["load", *archives] if archives:
            for archive in archives:
                cluster.load(Path(archive))
        case ["why-not"]:
            if reason := why_not():
                print(reason)
                return 1
        case _:
            print((__doc__ or "").strip(), file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except fetch.Missing as problem:
        print(problem, file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
