"""The parts of a one-node cluster: their files and command lines, all below /run/attache, where only the node sees them."""

import json
from pathlib import Path

import fetch
from authority import Authority

# Inside the node this is the cluster's folder, whatever its path outside: sockets take no long ones.
HOME = Path("/run/attache")
# The node's own network; nothing of it is seen outside.
NODE = "10.88.6.1"
NETWORK = "10.88.6.{}"
NETWORK6 = "fd00:88:6::{}"
PODS = "10.88.7.0/24"
PODS6 = "fd00:88:7::/64"
SERVICES = "10.96.0.0/16"
SERVER = "https://127.0.0.1:6443"
PAUSE = "local/pause:1"
SOCKET = HOME / "containerd.sock"
# Several tests at once, each with providers of its own: so many times the hosts have addresses, and a DNS that tells them.
LANES = 3


def addresses(lane: int) -> dict[str, str]:
    """Every host of the provider table, and a few that no provider has, each with an address of the node's in that lane."""
    table = json.loads((fetch.ROOT / "helm/files/providers.json").read_text())
    hosts = sorted({row["origin"].partition("://")[2].partition("/")[0] for row in table.values() if row["origin"].startswith("https")})
    return {host: NETWORK.format(number) for number, host in enumerate([*hosts, "other.test", "late.test", "socket.test"], start=11 + 20 * lane)}


def address6(address: str) -> str:
    """The IPv6 address of the same host; no DNS tells it."""
    return NETWORK6.format(address.rpartition(".")[2])


def dns_of(lane: int) -> str:
    return NETWORK.format(1 + lane)


def write_files(home: Path) -> None:
    """Everything that the parts read."""
    authority = Authority(home / "pki")
    authority.issue("apiserver", "kube-apiserver", None, ["127.0.0.1", NODE, "10.96.0.1", "kubernetes.default.svc"])
    authority.issue("admin", "admin", "system:masters", [])
    authority.issue("kubelet", "system:node:node0", "system:nodes", ["node0", NODE])
    authority.issue("manager", "system:kube-controller-manager", None, [])
    authority.issue("scheduler", "system:kube-scheduler", None, [])
    for name in ("admin", "kubelet", "manager", "scheduler"):
        (home / f"{name}.kubeconfig").write_text(authority.kubeconfig(name, SERVER))
    (home / "cni").mkdir()
    (home / "cni/pods.conflist").write_text(json.dumps(pod_network()))
    (home / "containerd.toml").write_text(CONTAINERD)
    (home / "resolv.conf").write_text(f"nameserver {NODE}\n")
    # JSON is YAML.
    (home / "kubelet.yaml").write_text(json.dumps(kubelet()))


def pod_network() -> dict:
    ipam = {"type": "host-local", "ranges": [[{"subnet": PODS}], [{"subnet": PODS6}]], "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]}
    bridge = {"type": "bridge", "bridge": "pods0", "isGateway": True, "hairpinMode": True, "ipam": ipam}
    return {"cniVersion": "0.4.0", "name": "pods", "plugins": [bridge]}


CONTAINERD = f"""
version = 2
root = "{HOME}/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.internal.v1.opt"]
[grpc]
  address = "{SOCKET}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE}"
  disable_apparmor = true
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{HOME}/cni"
"""


def kubelet() -> dict:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "containerRuntimeEndpoint": f"unix://{SOCKET}",
        "cgroupDriver": "cgroupfs",
        "failCgroupV1": False,
        "failSwapOn": False,
        "authentication": {"x509": {"clientCAFile": f"{HOME}/pki/ca.crt"}, "webhook": {"enabled": False}, "anonymous": {"enabled": False}},
        "authorization": {"mode": "AlwaysAllow"},
        "clusterDNS": [NODE],
        "clusterDomain": "cluster.local",
        "resolvConf": f"{HOME}/resolv.conf",
        # How often mounted ConfigMaps are looked at; a minute as shipped.
        "syncFrequency": "1s",
        "cgroupsPerQOS": False,
        "enforceNodeAllocatable": [],
        "localStorageCapacityIsolation": False,
        # The node shares its disk and memory with everything else on the machine.
        "evictionHard": {"memory.available": "50Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        "volumePluginDir": f"{HOME}/volume-plugins",
        "podLogsDir": "/var/log/pods",
    }


def commands(programs: Path, lanes: list[dict[str, str]]) -> dict[str, list[str]]:
    """Part to command line, in the order in which they start. For each lane the hosts' addresses."""
    pki = HOME / "pki"
    return {
        **{f"dns-{lane}": dns(dns_of(lane), addresses) for lane, addresses in enumerate(lanes)},
        "etcd": [
            "etcd", f"--data-dir={HOME}/etcd", "--listen-client-urls=http://127.0.0.1:2379",
            "--advertise-client-urls=http://127.0.0.1:2379", "--listen-peer-urls=http://127.0.0.1:2380", "--unsafe-no-fsync",
        ],
        "containerd": ["containerd", "--config", f"{HOME}/containerd.toml"],
        "apiserver": [
            f"{programs}/kube-apiserver", "--etcd-servers=http://127.0.0.1:2379", f"--advertise-address={NODE}",
            f"--tls-cert-file={pki}/apiserver.crt", f"--tls-private-key-file={pki}/apiserver.key", f"--client-ca-file={pki}/ca.crt",
            "--service-account-issuer=https://cluster", f"--service-account-key-file={pki}/sa.pub",
            f"--service-account-signing-key-file={pki}/sa.key", "--authorization-mode=Node,RBAC",
            f"--service-cluster-ip-range={SERVICES}", "--allow-privileged=true",
            # As a cluster before 1.36 may serve admission policies, beside what this one serves.
            "--runtime-config=admissionregistration.k8s.io/v1beta1=true",
            f"--kubelet-client-certificate={pki}/admin.crt", f"--kubelet-client-key={pki}/admin.key",
            # The node's name is in no DNS.
            "--kubelet-preferred-address-types=InternalIP",
        ],
        "manager": [
            f"{programs}/kube-controller-manager", f"--kubeconfig={HOME}/manager.kubeconfig",
            f"--service-account-private-key-file={pki}/sa.key", f"--root-ca-file={pki}/ca.crt",
            "--use-service-account-credentials=true", "--leader-elect=false",
            # As shipped it asks 20 times a second, and takes seconds to begin.
            "--kube-api-qps=200", "--kube-api-burst=400",
        ],
        "scheduler": [f"{programs}/kube-scheduler", f"--kubeconfig={HOME}/scheduler.kubeconfig", "--leader-elect=false"],
        "kubelet": [
            f"{programs}/kubelet", f"--kubeconfig={HOME}/kubelet.kubeconfig", f"--config={HOME}/kubelet.yaml",
            f"--root-dir={HOME}/kubelet", "--hostname-override=node0", f"--node-ip={NODE}", f"--cert-dir={HOME}/kubelet-pki",
        ],
    }


def dns(listen: str, addresses: dict[str, str]) -> list[str]:
    return [
        "dnsmasq", "--keep-in-foreground", "--no-resolv", "--no-hosts", "--conf-file=/dev/null", "--pid-file=",
        "--user=root", f"--listen-address={listen}", "--bind-interfaces",
        # All names are its own. The search path of a pod goes through here: it must hear that there is no such name.
        "--local=/#/", *(f"--host-record={name},{address}" for name, address in addresses.items()),
    ]
