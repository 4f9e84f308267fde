"""The scripted provider: a server on raw streams (HTTP/1.1, TLS, HTTP/2) that answers as a script says, faults included.

In the tests `Provider` runs in a thread of its own, listens on a free loopback port for each name, answers from that
name's script and keeps every request that it saw. `python tests/provider.py --demo` serves friendly demo providers of
the three protocols (tests/demo.py) on fixed ports for `make run`.

An answer is a mapping (YAML in tests/cases):

    status: 200                     headers: {retry-after: "1"}
    json: {...}  |  body: "text"    a whole body, with its length
    chunks: [step, ...]             a body in pieces, `transfer-encoding: chunked`
    sse: "event: …\n\n…"            the same, one chunk for each event
    framing: close                  pieces without framing: the body ends with the connection
    framing: length                 pieces that together have the `content-length` of the headers
    gzip: true | always | cut       compressed if the request accepts it, or even if not, or so and without the last third
    fault: reset | stall | close    instead of an answer

A step is a string (sent as it is), or one of {wait: NAME} (goes on when the test opens that gate), {delay: seconds},
{trickle: text, every: seconds} (byte by byte), {flood: text, times: n}, {reset: true} (RST), {close: true} (an end without
the protocol's end), {stall: true} (nothing until the other hangs up).
"""

import argparse
import asyncio
import gzip
import json
import re
import signal
import socket
import ssl
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Callable

from http1 import Head, Http1
from http2 import Http2

# Requests that are kept: more than a case makes, and a bound for the demo, which runs for long.
KEPT = 1000


@dataclass
class Seen:
    """One request as it came."""

    provider: str
    at: float
    method: str
    path: str
    headers: list[tuple[str, str]]
    body: bytes
    # When the answer was over, or the peer had hung up.
    ended: float | None = None
    # Set when the peer hung up before the answer was complete.
    hung_up: threading.Event = field(default_factory=threading.Event)

    def header(self, name: str) -> str | None:
        values = [value for key, value in self.headers if key == name]
        return ", ".join(values) if values else None

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Answer:
    """What goes back; see the module's text."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None
    steps: list[Any] = field(default_factory=list)
    framing: str = "chunked"
    gzip: bool | str = False
    fault: str | None = None

    @staticmethod
    def of(spec: "dict[str, Any] | Answer") -> "Answer":
        if isinstance(spec, Answer):
            return spec
        spec = dict(spec)
        answer = Answer(status=spec.pop("status", 200), framing=spec.pop("framing", "chunked"))
        answer.gzip, answer.fault = spec.pop("gzip", False), spec.pop("fault", None)
        answer.headers = {name.lower(): str(value) for name, value in spec.pop("headers", {}).items()}
        if "json" in spec:
            answer.body = json.dumps(spec.pop("json"), ensure_ascii=False).encode()
            answer.headers.setdefault("content-type", "application/json")
        elif "body" in spec:
            answer.body = spec.pop("body").encode()
            answer.headers.setdefault("content-type", "application/json")
        elif "sse" in spec:
            answer.steps = events(spec.pop("sse"))
        answer.steps += spec.pop("chunks", [])
        if answer.body is None and not answer.fault:
            answer.headers.setdefault("content-type", "text/event-stream")
        if spec:
            raise ValueError(f"unknown members of an answer: {', '.join(spec)}")
        return answer


def events(text: str) -> list[str]:
    """A text of server-sent events, in pieces of one event, every byte kept."""
    return [piece for piece in re.split(r"(?<=\r\n\r\n)|(?<=\n\n)", text) if piece]


async def slam(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A server that hangs up at the first bytes: in the middle of a TLS handshake."""
    await reader.read(1)
    writer.close()


class Provider:
    """One server for several providers: a port for each name. Use as a context manager.

    `tls` names those that speak TLS, and HTTP/2 where it is agreed upon; `slams` those that hang up in the handshake;
    `addresses` where each listens, unless on loopback."""

    def __init__(self, names: list[str], ports: dict[str, int] | None = None, tls: dict[str, ssl.SSLContext] | None = None,
                 slams: tuple[str, ...] = (), addresses: dict[str, str] | None = None):
        self.names, self.ports, self._tls, self._slams = names, dict(ports or {}), tls or {}, slams
        self._addresses = addresses or {}
        self._loop = asyncio.new_event_loop()
        self._scripts: dict[str, list[Answer]] = {}
        self._rules: dict[str, Callable[[Seen], Answer]] = {}
        self._gates: dict[str, asyncio.Event] = {}
        self._changed = threading.Condition()
        self._seen: deque[Seen] = deque(maxlen=KEPT)
        self._servers: list[asyncio.Server] = []
        self._exchanges: set[asyncio.Task] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, name="provider", daemon=True)

    def __enter__(self) -> "Provider":
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(10)
        return self

    def __exit__(self, *_: Any) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    async def _listen(self) -> None:
        for name in self.names:
            server = await asyncio.start_server(
                slam if name in self._slams else lambda reader, writer, name=name: self._serve(name, reader, writer),
                self._addresses.get(name, "127.0.0.1"), self.ports.get(name, 0), limit=1 << 20, backlog=512, ssl=self._tls.get(name),
            )
            self.ports[name] = server.sockets[0].getsockname()[1]
            self._servers.append(server)

    async def _stop(self) -> None:
        for server in self._servers:
            server.close()
        for task in list(self._exchanges):
            task.cancel()
        await asyncio.gather(*self._exchanges, return_exceptions=True)

    # ---- what a test says ----

    def reset(self) -> None:
        """Forgets scripts, rules, gates and requests: a new case begins."""
        with self._changed:
            self._scripts, self._rules = {}, {}
            self._seen.clear()
        self._loop.call_soon_threadsafe(self._open_all)

    def forget(self, names: list[str]) -> None:
        """The same for these names only, while other cases go on."""
        with self._changed:
            for name in names:
                self._scripts.pop(name, None)
                self._rules.pop(name, None)
            kept = [seen for seen in self._seen if seen.provider not in names]
            self._seen.clear()
            self._seen.extend(kept)

    def script(self, name: str, answers: list[Any]) -> None:
        """These answers, in this order; a request beyond them gets 500 `unscripted`."""
        with self._changed:
            self._scripts[name] = [Answer.of(answer) for answer in answers]

    def rule(self, name: str, rule: Callable[[Seen], Any]) -> None:
        """Every request is answered by `rule`, where no script is left."""
        with self._changed:
            self._rules[name] = lambda seen: Answer.of(rule(seen))

    def open(self, gate: str) -> None:
        """Lets the answers waiting at `gate` go on."""
        self._loop.call_soon_threadsafe(lambda: self._gate(gate).set())

    # ---- what a test asks ----

    def requests(self, name: str | None = None) -> list[Seen]:
        with self._changed:
            return [seen for seen in self._seen if name in (None, seen.provider)]

    def left(self) -> dict[str, int]:
        """Scripted answers that nobody fetched."""
        with self._changed:
            return {name: len(script) for name, script in self._scripts.items() if script}

    def wait_for(self, count: int, name: str | None = None, timeout: float = 10) -> list[Seen]:
        """Waits until that many requests have come."""
        deadline = time.monotonic() + timeout
        with self._changed:
            while True:
                found = [seen for seen in self._seen if name in (None, seen.provider)]
                if len(found) >= count:
                    return found
                if not self._changed.wait(deadline - time.monotonic()):
                    raise TimeoutError(f"{len(found)} of {count} requests came to {name or 'any provider'}")

    # ---- one connection ----

    def _gate(self, name: str) -> asyncio.Event:
        return self._gates.setdefault(name, asyncio.Event())

    def _open_all(self) -> None:
        for gate in self._gates.values():
            gate.set()
        self._gates = {}

    def _next(self, seen: Seen) -> Answer:
        with self._changed:
            self._seen.append(seen)
            self._changed.notify_all()
            script, rule = self._scripts.get(seen.provider), self._rules.get(seen.provider)
            if script:
                return script.pop(0)
        try:
            if rule:
                return rule(seen)
            message = "unscripted request"
        except Exception as error:  # A demo must not hang up on a request that it cannot read.
            message = f"{type(error).__name__}: {error}"
        return Answer.of({"status": 500, "json": {"error": {"message": message, "code": "unscripted"}}})

    async def _serve(self, name: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        self._exchanges.add(task)
        secure = writer.get_extra_info("ssl_object")
        speaks = Http2 if secure and secure.selected_alpn_protocol() == "h2" else Http1

        async def handle(channel: Http1, head: Head, body: bytes) -> bool:
            seen = Seen(name, time.monotonic(), *head, body)
            return await self._answer(channel, seen, self._next(seen))

        try:
            await speaks(reader, writer).serve(handle)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError, ssl.SSLError):
            pass
        finally:
            self._exchanges.discard(task)
            writer.close()

    async def _answer(self, channel: Http1, seen: Seen, answer: Answer) -> bool:
        """Sends the answer while watching for the peer's hang-up; `False`: the connection is over."""
        sending = asyncio.ensure_future(self._send(channel, seen, answer))
        watching = asyncio.ensure_future(channel.watch())
        try:
            await asyncio.wait({sending, watching}, return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                return sending.result()
            seen.hung_up.set()
            return False
        except ConnectionError:
            seen.hung_up.set()
            return False
        finally:
            seen.ended = time.monotonic()
            for task in (sending, watching):
                task.cancel()
            await asyncio.gather(sending, watching, return_exceptions=True)

    async def _send(self, channel: Http1, seen: Seen, answer: Answer) -> bool:
        if answer.fault:
            return await self._step(channel, {answer.fault: True})
        headers, body, steps, framing = dict(answer.headers), answer.body, answer.steps, answer.framing
        accepted = answer.gzip is True and "gzip" in (seen.header("accept-encoding") or "")
        if accepted or answer.gzip in ("always", "cut"):
            headers["content-encoding"] = "gzip"
            if body is None:
                body = b"".join(step if isinstance(step, bytes) else step.encode() for step in steps)
            body = gzip.compress(body)
            body = body[: len(body) * 2 // 3] if answer.gzip == "cut" else body
        if body is not None:
            steps, framing = [body], "close" if framing == "close" else "length"
            if framing == "length":
                headers.setdefault("content-length", str(len(body)))
        await channel.head(answer.status, headers, framing)
        for step in steps:
            if not await self._step(channel, step):
                return False
        return await channel.end()

    async def _step(self, channel: Http1, step: Any) -> bool:
        if isinstance(step, (str, bytes)):
            await channel.piece(step.encode() if isinstance(step, str) else step)
            return True
        match next(iter(step.items())):
            case ("delay", seconds):
                await asyncio.sleep(seconds)
                return True
            case ("wait", gate):
                await self._gate(gate).wait()
                return True
            case ("trickle", text):
                for byte in text.encode():
                    await channel.piece(bytes([byte]))
                    await asyncio.sleep(step["every"])
                return True
            case ("flood", text):
                for _ in range(step["times"]):
                    await channel.piece(text.encode())
                return True
            case ("reset", _):
                channel.reset()
            case ("stall", _):
                await asyncio.Event().wait()
            case ("close", _):
                channel.close()
            case (other, _):
                raise ValueError(f"unknown step {other}")
        return False


def refused_port() -> tuple[socket.socket, int]:
    """A port that refuses connections for as long as the socket is kept: bound, but not listening."""
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    return sock, sock.getsockname()[1]


def deaf_port() -> tuple[list[socket.socket], int]:
    """A port that neither accepts nor refuses for as long as the sockets are kept: its queue of connections is full."""
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    sock.listen(0)
    held = [sock]
    for _ in range(4):
        one = socket.socket()
        one.setblocking(False)
        one.connect_ex(sock.getsockname())
        held.append(one)
    return held, sock.getsockname()[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--demo", action="store_true", required=True, help="serve the demo providers until a signal")
    parser.parse_args()
    import demo

    # Waited for by hand: a handler of Python's own would only run between two calls.
    signals = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    with Provider(list(demo.PORTS), demo.PORTS) as provider:
        for name in demo.PORTS:
            provider.rule(name, demo.RULES[name])
        places = ", ".join(f"{name} http://127.0.0.1:{port}" for name, port in demo.PORTS.items())
        print(f"demo providers ready: {places}", flush=True)
        signal.sigwait(signals)


if __name__ == "__main__":
    # As the module that demo.py imports, so that there is one class `Answer` and not two.
    import provider as this

    this.main()
