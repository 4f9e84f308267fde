"""64 clients on connections of their own, who take the plan's requests one after the other, and note what they saw."""

import asyncio
import json
import re
import time
from dataclasses import dataclass, field, replace

from .plan import Plan, Wish

CLIENTS = 64
# The longest that anything takes: `queue`, then the route's `total`, and what a busy machine adds.
PATIENCE = 15.0
ENDLESS = f"no end within {PATIENCE} s"
# A worker whose VM has died makes a new one within a second or two; until then it answers so, and a client comes again.
AGAIN = 0.05
TOKEN = re.compile(rb'"content": ?" a"')
TOLD = ("x-attache-budget", "x-attache-provider", "x-attache-model", "x-attache-attempts", "x-attache-attempt-log")
REMAINING = "x-ratelimit-remaining-"


@dataclass
class Seen:
    """One request as its client saw it. Times are Unix times in seconds; 0: it never came to that."""

    # Of its own, also where a wish was sent again.
    number: int
    wish: Wish
    sent: float = 0.0
    ended: float = 0.0
    # When the client hung up.
    left: float = 0.0
    status: int = 0
    # Its answer ended as HTTP says, and a stream as its protocol says.
    complete: bool = False
    # Tokens of the answer that came.
    tokens: int = 0
    told: dict[str, str] = field(default_factory=dict)
    remaining: dict[str, str] = field(default_factory=dict)
    # The message of an error.
    error: str = ""
    # What went wrong with the connection.
    broke: str = ""
    # There was no VM that could have seen it.
    turned_away: bool = False


class Left(Exception):
    """The client has had enough."""


def body(wish: Wish) -> bytes:
    found = {"model": wish.route, "messages": [{"role": "user", "content": " ".join("a" * wish.words)}]}
    if wish.cap:
        found["max_completion_tokens"] = wish.cap
    if wish.answers > 1:
        found["n"] = wish.answers
    if wish.stream:
        found["stream"] = True
    return json.dumps(found).encode()


def request(wish: Wish, number: int) -> bytes:
    sent = body(wish)
    lines = ["POST /v1/chat/completions HTTP/1.1", "host: gateway", f"x-mix: {wish.mix}", f"x-key: {wish.key}",
             f"x-proof: {number};{wish.tokens};{wish.acts};{wish.millis}", "content-type: application/json", f"content-length: {len(sent)}"]
    if wish.whole:
        lines.append("x-attache-delivery: whole")
    if wish.crash:
        lines.append(f"x-attache-crash: {wish.crash}")
    return "\r\n".join([*lines, "\r\n"]).encode() + sent


class Client:
    """One connection, opened anew where it broke."""

    def __init__(self, port: int):
        self.port, self.streams = port, None

    async def ask(self, seen: Seen) -> Seen:
        wish = seen.wish
        try:
            if self.streams is None:
                self.streams = await asyncio.open_connection("127.0.0.1", self.port, limit=1 << 20)
            reader, writer = self.streams
            seen.sent = time.time()
            writer.write(request(wish, seen.number))
            limit = wish.leaves_after / 1000 if wish.leaves_after is not None else PATIENCE
            await asyncio.wait_for(self.read(reader, seen), limit)
        except TimeoutError:
            if wish.leaves_after is None:
                seen.broke = ENDLESS
            self.leave(seen)
        except Left:
            self.leave(seen)
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError) as broke:
            seen.broke = repr(broke)
            self.close()
        seen.ended = time.time()
        return seen

    async def read(self, reader: asyncio.StreamReader, seen: Seen) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        first, *lines = head.rstrip().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        seen.status = int(first.split()[1])
        seen.told = {name: headers[name] for name in TOLD if name in headers}
        seen.remaining = {name.removeprefix(REMAINING): value for name, value in headers.items() if name.startswith(REMAINING)}
        if length := headers.get("content-length"):
            found = await reader.readexactly(int(length))
            self.whole(seen, found)
        else:
            await self.stream(reader, seen)
        if headers.get("connection") == "close":
            self.close()

    def whole(self, seen: Seen, found: bytes) -> None:
        seen.complete = True
        if seen.status == 200:
            answer = json.loads(found)
            seen.tokens = sum(choice["message"]["content"].count(" a") for choice in answer["choices"])
        else:
            try:
                seen.error = json.loads(found)["error"]["message"]
            except (ValueError, KeyError, TypeError):
                seen.error = found[:200].decode(errors="replace")
            seen.turned_away = seen.status == 503 and not seen.told

    async def stream(self, reader: asyncio.StreamReader, seen: Seen) -> None:
        held, wish = bytearray(), seen.wish
        while size := int(await reader.readline(), 16):
            held += (await reader.readexactly(size + 2))[:-2]
            seen.tokens = len(TOKEN.findall(held))
            if wish.leaves_at is not None and seen.tokens >= wish.leaves_at:
                raise Left
        await reader.readexactly(2)
        if seen.status != 200:
            return self.whole(seen, bytes(held))
        seen.complete = b"data: [DONE]" in held

    def leave(self, seen: Seen) -> None:
        seen.left = time.time()
        if self.streams:
            # Every second one with a reset.
            close = self.streams[1].transport.abort if seen.number % 2 else self.streams[1].close
            close()
        self.streams = None

    def close(self) -> None:
        if self.streams:
            self.streams[1].close()
        self.streams = None




async def carry_out(port: int, plan: Plan, progress: list[Seen]) -> None:
    """All of it; what was seen goes into `progress` as it happens."""
    wishes, numbers = iter(plan.wishes), iter(range(len(plan.wishes) + 1, 1 << 60))

    async def one() -> None:
        client = Client(port)
        for wish in wishes:
            progress.append(seen := await client.ask(Seen(wish.number, wish)))
            while seen.turned_away:
                await asyncio.sleep(AGAIN)
                progress.append(seen := await client.ask(Seen(next(numbers), replace(wish, crash=None))))
        client.close()

    await asyncio.gather(*(one() for _ in range(CLIENTS)))


async def probe(port: int, wish: Wish) -> Seen:
    """One small request, after everything."""
    client = Client(port)
    seen = await client.ask(Seen(wish.number, wish))
    client.close()
    return seen
