#!/usr/bin/env python3
"""The providers of the proof: a process of its own that answers as each request says, and keeps a record of every attempt.

    origin.py ROWS        a port for each row (`openai` or `anthropic`); prints the ports, serves until its input ends

What a request wishes stands in its header `x-proof`, `number;tokens;acts;milliseconds`: one act for each attempt, the last for
all further ones. An answer has as many tokens as are wished, or as the body lets it have; each is the word " a", which is
one token of `o200k_base`. `GET /` on any port returns the records.

    ok       the answer, whole or as a stream, as the body asks, after so many milliseconds or over them
    mute     the same, and says nothing of its tokens
    503      an error of this status
    reset    the connection closes before any answer
    cut      it closes after half of the answer
    stall    half of the answer, and nothing more
"""

import asyncio
import json
import re
import sys
import time
from dataclasses import asdict, dataclass
from typing import Any, Iterator

WISH = re.compile(rb"\r\nx-proof: ([^\r]*)\r\n", re.IGNORECASE)
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
# A stream goes out in so many steps at most.
STEPS = 6
TOKEN = " a"


@dataclass
class Attempt:
    """What came of one request. Times are Unix times in seconds."""

    number: int
    # Which row's port it came to.
    provider: int
    act: str
    received: float
    # The model it names, the prompt's words, the answers asked for, and the limit of each (0: none).
    model: str
    words: int
    answers: int
    limit: int
    # Tokens that went out so far, of all answers; whether they were reported too.
    sent: int = 0
    reported: bool = False
    # Just before the last byte went out; 0: it never did.
    finished: float = 0.0
    # When the peer hung up on an answer that was not complete; 0: it did not.
    left: float = 0.0


class Origin:
    def __init__(self, rows: list[str]):
        self.rows = rows
        self.attempts: list[Attempt] = []
        # How many attempts each request has made.
        self.made: dict[int, int] = {}

    def act(self, number: int, acts: str) -> str:
        made = self.made[number] = self.made.get(number, 0) + 1
        listed = acts.split(",")
        return listed[min(made, len(listed)) - 1]


class Connection(asyncio.Protocol):
    """HTTP/1.1, one request after the other."""

    def __init__(self, origin: Origin, provider: int):
        self.origin, self.provider, self.row = origin, provider, origin.rows[provider]
        self.held = bytearray()
        self.attempt: Attempt | None = None
        self.timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport

    def connection_lost(self, _: Exception | None) -> None:
        if self.timer:
            self.timer.cancel()
        if self.attempt and not self.attempt.finished:
            self.attempt.left = time.time()

    def data_received(self, data: bytes) -> None:
        self.held += data
        while (end := self.held.find(b"\r\n\r\n")) >= 0:
            head = bytes(self.held[: end + 2])
            length = LENGTH.search(head)
            total = end + 4 + (int(length[1]) if length else 0)
            if len(self.held) < total:
                return
            body = bytes(self.held[end + 4 : total])
            del self.held[:total]
            self.request(head, body)

    def request(self, head: bytes, body: bytes) -> None:
        now = time.time()
        if head.startswith(b"GET"):
            return self.transport.write(whole([asdict(attempt) for attempt in self.origin.attempts]))
        number, tokens, acts, millis = WISH.search(head)[1].decode().split(";")
        asked = json.loads(body)
        limit = asked.get("max_completion_tokens") or asked.get("max_tokens") or 0
        words = len(content(asked).split())
        act = self.origin.act(int(number), acts)
        self.attempt = Attempt(int(number), self.provider, act, now, asked["model"], words, asked.get("n") or 1, limit)
        self.origin.attempts.append(self.attempt)
        each = min(int(tokens), limit) if limit else int(tokens)
        self.steps = steps(self.row, self.attempt, each, asked)
        self.pause = int(millis) / 1000 / (STEPS if asked.get("stream") else 1)
        self.timer = asyncio.get_running_loop().call_later(self.pause, self.step)

    def step(self) -> None:
        """The next piece of the answer, and later the one after it."""
        found, attempt = next(self.steps, None), self.attempt
        if found is None:
            return  # It stalls.
        tokens, piece, last = found
        attempt.sent += tokens
        if last:
            attempt.finished = time.time()
        if piece:
            self.transport.write(piece)
        if not last:
            self.timer = asyncio.get_running_loop().call_later(self.pause, self.step)
        elif attempt.act in ("reset", "cut"):
            self.transport.close()


def content(asked: dict[str, Any]) -> str:
    """The prompt's text: the one message's, plain or in parts."""
    said = asked["messages"][-1]["content"]
    return said if isinstance(said, str) else "".join(part.get("text", "") for part in said)


def steps(row: str, attempt: Attempt, each: int, asked: dict[str, Any]) -> Iterator[tuple[int, bytes, bool]]:
    """An answer's pieces: tokens in it, bytes, and whether it is the last."""
    match attempt.act:
        case "503":
            error = {"type": "server_error", "message": "busy"}
            yield 0, whole({"type": "error", "error": error} if row == "anthropic" else {"error": error}, 503), True
        case "reset":
            yield 0, b"", True
        case _ if asked.get("stream"):
            yield from streamed(row, attempt, each, asked)
        case "cut":
            answer = whole_answer(row, attempt, each)
            yield 0, answer[: len(answer) * 2 // 3], True
        case "stall":
            yield 0, b"", False
        case _:
            attempt.reported = attempt.act != "mute"
            yield each * attempt.answers, whole_answer(row, attempt, each), True


def whole(found: Any, status: int = 200) -> bytes:
    body = json.dumps(found).encode()
    head = f"HTTP/1.1 {status} -\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


def prompt(attempt: Attempt) -> int:
    """Tokens of the prompt, as OpenAI's cookbook counts a chat of one message: seven, and its words' (each is one)."""
    return 7 + attempt.words


def reason(attempt: Attempt, each: int) -> str:
    return "length" if each == attempt.limit else "stop"


def usage(row: str, attempt: Attempt, each: int) -> dict[str, int]:
    given, taken = prompt(attempt), each * attempt.answers
    if row == "anthropic":
        return {"input_tokens": given, "output_tokens": taken}
    return {"prompt_tokens": given, "completion_tokens": taken, "total_tokens": given + taken}


def whole_answer(row: str, attempt: Attempt, each: int) -> bytes:
    text, told = TOKEN * each, {"usage": usage(row, attempt, each)} if attempt.act != "mute" else {}
    if row == "anthropic":
        reasons = {"stop": "end_turn", "length": "max_tokens"}
        return whole({"id": "msg_1", "type": "message", "role": "assistant", "model": attempt.model,
                      "content": [{"type": "text", "text": text}], "stop_reason": reasons[reason(attempt, each)],
                      "stop_sequence": None, **told})
    choices = [{"index": index, "message": {"role": "assistant", "content": text, "refusal": None}, "logprobs": None,
                "finish_reason": reason(attempt, each)} for index in range(attempt.answers)]
    return whole({"id": "chatcmpl-1", "object": "chat.completion", "created": 1767225600, "model": attempt.model,
                  "choices": choices, **told})


def streamed(row: str, attempt: Attempt, each: int, asked: dict[str, Any]) -> Iterator[tuple[int, bytes, bool]]:
    begin, token, end = events(row, attempt, each, asked)
    head = b"HTTP/1.1 200 -\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    last = each if attempt.act in ("ok", "mute") else each // 2
    size = max(1, -(-each // STEPS))
    for at in range(0, last, size):
        some = min(size, last - at)
        yield some * attempt.answers, (head + chunk(begin) if at == 0 else b"") + chunk(token * some), False
    if attempt.act == "cut":
        yield 0, head if last == 0 else b"", True
    elif attempt.act != "stall":
        attempt.reported = attempt.act == "ok" and (row == "anthropic" or wants_usage(asked))
        yield 0, chunk(end) + b"0\r\n\r\n", True


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def events(row: str, attempt: Attempt, each: int, asked: dict[str, Any]) -> tuple[bytes, bytes, bytes]:
    """A stream's begin, one token of each answer, and its end."""
    if row == "anthropic":
        def event(kind: str, **members: Any) -> bytes:
            return f"event: {kind}\ndata: {json.dumps({'type': kind, **members})}\n\n".encode()

        start = {"id": "msg_1", "type": "message", "role": "assistant", "model": attempt.model, "content": [], "stop_reason": None,
                 "stop_sequence": None, "usage": {"input_tokens": prompt(attempt), "output_tokens": 1}}
        reasons = {"stop": "end_turn", "length": "max_tokens"}
        return (event("message_start", message=start) + event("content_block_start", index=0, content_block={"type": "text", "text": ""}),
                event("content_block_delta", index=0, delta={"type": "text_delta", "text": TOKEN}),
                event("content_block_stop", index=0)
                + event("message_delta", delta={"stop_reason": reasons[reason(attempt, each)], "stop_sequence": None}, usage={"output_tokens": each})
                + event("message_stop"))

    def data(delta: dict[str, Any], finish: str | None = None) -> bytes:
        return b"".join(one([{"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}]) for index in range(attempt.answers))

    def one(choices: list[Any], **members: Any) -> bytes:
        found = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1767225600, "model": attempt.model, "choices": choices, **members}
        return f"data: {json.dumps(found)}\n\n".encode()

    last = one([], usage=usage(row, attempt, each)) if attempt.act == "ok" and wants_usage(asked) else b""
    return data({"role": "assistant", "content": ""}), data({"content": TOKEN}), data({}, reason(attempt, each)) + last + b"data: [DONE]\n\n"


def wants_usage(asked: dict[str, Any]) -> bool:
    return bool((asked.get("stream_options") or {}).get("include_usage"))


async def serve(rows: list[str]) -> None:
    origin, loop = Origin(rows), asyncio.get_running_loop()
    servers = [await loop.create_server(lambda at=at: Connection(origin, at), "127.0.0.1", 0, backlog=1024) for at in range(len(rows))]
    print(*(server.sockets[0].getsockname()[1] for server in servers), flush=True)
    # Who started this ends it by closing its input, or by ending.
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1:]))
