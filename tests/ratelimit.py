"""Envoy's rate-limit service and the Redis that it counts in, both real, on loopback ports; they can be killed and come back.

`ask` is a client of its one method, for
what the tests know of it by themselves.
"""

import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import h2.config
import h2.connection
import h2.events

from harness import PATIENCE, ROOT, free_port

SERVICE = Path(os.environ.get("RATELIMIT") or ROOT / ".attache/ratelimit")
DOMAIN = "attache"
UNITS = ["minute", "hour", "day", "month", "year"]
# As helm/values.yaml tells the operator.
CONFIGURATION = f"domain: {DOMAIN}\ndescriptors:\n" + "".join(
    f"  - {{key: {unit}, rate_limit: {{unit: {unit}, requests_per_unit: 4294967295}}}}\n" for unit in UNITS)


class Engine:
    """Redis and the service. Use as a context manager."""

    def __init__(self, folder: Path, persistent: bool = True, configuration: str | None = None):
        self.folder, self.persistent = folder, persistent
        self.port, self.redis_port = free_port(), free_port()
        self.service: subprocess.Popen | None = None
        self.redis: subprocess.Popen | None = None
        config = folder / "runtime/ratelimit/config"
        config.mkdir(parents=True)
        (config / "attache.yaml").write_text(CONFIGURATION if configuration is None else configuration)
        (folder / "redis").mkdir()

    def __enter__(self) -> "Engine":
        if not SERVICE.exists():
            raise FileNotFoundError(f"{SERVICE}: not built; `make ratelimit`, or name it in RATELIMIT")
        try:
            self.start_redis()
            self.start_service()
        except BaseException:
            # Who is not let in is not led out either.
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: Any) -> None:
        self.kill_service()
        self.kill_redis()

    # ---- lives and deaths ----

    def start_redis(self) -> None:
        binary = shutil.which("redis-server")
        if not binary:
            raise FileNotFoundError("redis-server: not found; `make ratelimit` says how to get it")
        keep = ["--appendonly", "yes", "--appendfsync", "always"] if self.persistent else ["--appendonly", "no"]
        command = [binary, "--port", str(self.redis_port), "--bind", "127.0.0.1", "--dir", str(self.folder / "redis"), "--save", "", *keep]
        self.redis = spawn(command, self.folder / "redis.log", {})
        await_port(self.redis_port, self.redis)
        while self.command("PING") != b"+PONG":  # It loads what it kept first.
            time.sleep(0.02)

    def start_service(self) -> None:
        settings = {
            "USE_STATSD": "false", "DISABLE_STATS": "true", "LOG_LEVEL": "warn", "REDIS_SOCKET_TYPE": "tcp",
            "REDIS_URL": f"127.0.0.1:{self.redis_port}", "REDIS_TIMEOUT": "1s",
            "RUNTIME_ROOT": str(self.folder / "runtime"), "RUNTIME_SUBDIRECTORY": "ratelimit", "RUNTIME_WATCH_ROOT": "false",
            "HOST": "127.0.0.1", "PORT": str(free_port()), "GRPC_HOST": "127.0.0.1", "GRPC_PORT": str(self.port),
            "DEBUG_HOST": "127.0.0.1", "DEBUG_PORT": str(free_port()),
        }
        self.service = spawn([str(SERVICE)], self.folder / "service.log", settings)
        await_port(self.port, self.service)

    def kill_service(self) -> None:
        self.service = kill(self.service)

    def kill_redis(self) -> None:
        self.redis = kill(self.redis)

    def freeze_service(self, frozen: bool) -> None:
        """It keeps its connections and answers nothing."""
        self.service.send_signal(signal.SIGSTOP if frozen else signal.SIGCONT)

    # ---- what is counted ----

    def command(self, *words: str) -> bytes:
        """One command to Redis; the first line of its answer, or of a bulk string its text."""
        with socket.create_connection(("127.0.0.1", self.redis_port), timeout=5) as sock:
            sock.sendall(f"*{len(words)}\r\n".encode() + b"".join(f"${len(w)}\r\n{w}\r\n".encode() for w in words))
            lines = sock.makefile("rb")
            first = lines.readline().strip()
            if first.startswith(b"*"):
                return b"\n".join(lines.read(int(lines.readline()[1:]) + 2).strip() for _ in range(int(first[1:])))
            return lines.read(int(first[1:])).strip() if first.startswith(b"$") and first != b"$-1" else first

    def counters(self) -> dict[str, int]:
        """Every counter and what it has counted."""
        names = [name for name in self.command("KEYS", "*").decode().split("\n") if name]
        return {name: int(self.command("GET", name)) for name in names}


def spawn(command: list[str], log: Path, environment: dict[str, str]) -> subprocess.Popen:
    with open(log, "ab") as output:
        return subprocess.Popen(command, stdout=output, stderr=output, env={**os.environ, **environment})


def kill(process: subprocess.Popen | None) -> None:
    """Without a warning, as a crash does."""
    if process:
        process.kill()
        process.wait()


def await_port(port: int, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            assert process.poll() is None, f"{process.args[0]} ended with {process.returncode}"
            assert time.monotonic() < deadline, f"{process.args[0]} does not listen"
            time.sleep(0.02)


# ---- a client ----


OK, OVER_LIMIT = 1, 2


def varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*encoded, number])


def member(number: int, value: int | bytes) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def members(message: bytes) -> list[tuple[int, Any]]:
    found, at = [], 0

    def number() -> int:
        nonlocal at
        value, shift = 0, 0
        while True:
            byte = message[at]
            at, value, shift = at + 1, value | (byte & 0x7F) << shift, shift + 7
            if byte < 0x80:
                return value

    while at < len(message):
        key = number()
        value: Any = number()
        if key & 7 == 2:
            value, at = message[at:at + value], at + value
        found.append((key >> 3, value))
    return found


def encode(domain: str, hits: list[tuple[str, str, int]]) -> bytes:
    message = member(1, domain.encode())
    for key, value, count in hits:
        entry = member(1, key.encode()) + member(2, value.encode())
        message += member(2, member(1, entry) + member(3, member(1, count)))
    return message


def ask(port: int, hits: list[tuple[str, str, int]], domain: str = DOMAIN) -> tuple[int, list[dict[str, Any]]]:
    """Key, value and hits of each descriptor → the gRPC status, and for each `code`, `limit`, `remaining` and `reset`."""
    status, body = call(port, encode(domain, hits))
    statuses = []
    for text in (value for number, value in members(body) if number == 2):
        fields = dict(members(text))
        limit, reset = dict(members(fields.get(2, b""))), dict(members(fields.get(4, b"")))
        statuses.append({"code": fields.get(1, 0), "limit": (limit.get(1), limit.get(2)), "remaining": fields.get(3, 0), "reset": reset.get(1)})
    return status, statuses


def call(port: int, message: bytes) -> tuple[int, bytes]:
    frames = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="latin-1"))
    frames.initiate_connection()
    path = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit"
    frames.send_headers(1, [(":method", "POST"), (":scheme", "http"), (":authority", "fleet"), (":path", path),
                            ("content-type", "application/grpc"), ("te", "trailers")])
    frames.send_data(1, b"\0" + len(message).to_bytes(4, "big") + message, end_stream=True)
    body, status = b"", -1
    with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
        while True:
            sock.sendall(frames.data_to_send())
            for event in frames.receive_data(sock.recv(1 << 16)):
                match event:
                    case h2.events.DataReceived():
                        body += event.data
                    case h2.events.ResponseReceived() | h2.events.TrailersReceived():
                        status = int(dict(event.headers).get("grpc-status", status))
                    case h2.events.StreamEnded() | h2.events.StreamReset():
                        return status, body[5:]
