#!/usr/bin/env python3
"""Chaos: very many requests at once over three providers, one of which is broken at any time, in a random way.

Every request has a number, which its answer repeats; the client knows every byte of the right text. What may happen: a right
and complete answer, or an error that says so. What may not: a wrong answer, one that is cut and looks complete, an exchange
without end, a VM that dies, memory that grows. Prints what happened; ends with 1 if anything did that may not. Seeded: the
same seed breaks the same things in the same order, though not at the same moment.
"""

import argparse
import asyncio
import random
import re
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cases
import protocols
import wall_answers
from harness import Gateway, Reply
from provider import Provider, Seen
from world import key_of

LIMITS = {"firstToken": "2s", "idle": "2s", "answer": "2s", "total": "8s", "waitLimit": "1s"}
# What is broken is to be met, and often, before it is kept away from.
HEALTH = {"consecutiveFailures": 40, "errorRate": 95, "coolDown": "200ms", "maxCoolDown": "400ms"}
# The routes' `total`, and what a busy machine adds.
DEADLINE = 12.0
MODES = ["whole", "live", "held"]
# How many requests reach providers until something else breaks: most that are under way meet one fault, not two.
SPELL = (100, 400)
# Samples of Envoy's memory in a run.
SAMPLES = 60


def breaks(dice: random.Random) -> dict[str, Any]:
    """A way to fail, in tests/faults' words."""
    share = f"{dice.randrange(1, 20)}/20"
    cut = {"say": {"part": share}}
    return dice.choice([
        {"fail": dice.choice([500, 502, 503, 504, 529])},
        {"fail": 429}, {"fail": 429, "headers": {"retry-after": dice.choice(["1", "3"])}},
        {"fault": "reset"}, {"fault": "close"}, {"fault": "stall"},
        {"fail": 503, "status": 200}, {"fail_inside": 529}, {"empty": True},
        {"headers": {"content-type": "text/html"}, "body": "<html><h1>Back soon</h1></html>"},
        {"say": {}, "gzip": "cut"}, {"say": {}, "gzip": "always"},
        cut, cut | {"then": [{"reset": True}]}, cut | {"then": [{"close": True}]}, cut | {"framing": "close"},
        cut | {"say": {"part": share, "inside": True}, "then": [{"close": True}]},
        cut | {"then": [{"stall": True}]}, cut | {"then": [{"fail_inside": 529}]},
        cut | {"then": ["data: {\"half\": \n\n", {"say": {"from": share}}]},
        {"say": {"part": "0"}, "then": [{"delay": 0.5}, {"say": {}}]},
    ])


class Weather:
    """Which provider is broken now, and how."""

    def __init__(self, seed: int):
        self.dice, self.lock, self.left = random.Random(seed), threading.Lock(), 0
        self.broken, self.fault = "", {}
        self.met: Counter = Counter()

    def now(self, provider: str) -> dict[str, Any]:
        """What this provider does to the request that has just come."""
        with self.lock:
            if self.left == 0:
                self.left = self.dice.randrange(*SPELL)
                self.broken, self.fault = self.dice.choice(protocols.PROTOCOLS), breaks(self.dice)
            self.left -= 1
            if provider != self.broken:
                return {"say": {}}
            self.met[str(self.fault)] += 1
            return self.fault

    def answer(self, protocol: str) -> Any:
        def rule(seen: Seen) -> dict[str, Any]:
            found = wall_answers.TAG.search(seen.body.decode())
            text = right(found.group() if found else "no case", protocol)
            return wall_answers.Script(protocol, wall_answers.streams(seen), text, None).answer(self.now(protocol))

        return rule


def right(tag: str, provider: str) -> str:
    """The only right answer; some are long."""
    number = int(tag.split("-")[1])
    return wall_answers.text(tag, provider) + f" {wall_answers.STORY}" * (200 if number % 17 == 0 else number % 4)


@dataclass
class Report:
    outcomes: Counter = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    # Seconds, and whose they are.
    took: list[tuple[float, str]] = field(default_factory=list)
    attempts: Counter = field(default_factory=Counter)
    # Of errors where an answer was to be expected: the classes of their attempts.
    errors: Counter = field(default_factory=Counter)
    memory: list[int] = field(default_factory=list)
    died: str | None = None
    met: Counter = field(default_factory=Counter)

    def grown(self) -> tuple[float, float]:
        """Megabytes held in the second third of the run and in the last."""
        third = len(self.memory) // 3
        return statistics.median(self.memory[third : 2 * third]), statistics.median(self.memory[2 * third :])

    def faults(self) -> list[str]:
        found = list(self.wrong)
        middle, end = self.grown()
        # V8 collects its garbage when it likes; a leak of a kilobyte for each request would show all the same.
        if end > middle * 1.1 + 10:
            found.append(f"memory grew from {middle} MB to {end} MB")
        kept = [name for name in self.outcomes if name[0] != "live"]
        lost = sum(self.outcomes[name] for name in kept if name[1] != "answered")
        if lost > sum(self.outcomes[name] for name in kept) / 100:
            found.append(f"{lost} whole answers were not given though two providers were well")
        return found + ([self.died] if self.died else [])

    def text(self) -> str:
        lines = [f"{sum(self.met.values())} requests met faults of {len(self.met)} kinds"]
        lines += [f"{mode:5} {outcome:12} {count:6}" for (mode, outcome), count in sorted(self.outcomes.items())]
        took = sorted(self.took)
        lines.append(f"seconds: p50 {took[len(took) // 2][0]:.3f}, p99 {took[len(took) * 99 // 100][0]:.3f}")
        lines.append("the longest: " + ", ".join(f"{seconds:.3f} ({whose})" for seconds, whose in took[-3:]))
        lines.append("attempts: " + ", ".join(f"{count} with {name}" for name, count in sorted(self.attempts.items())))
        lines += [f"error after {log}: {count}" for log, count in self.errors.most_common(8)]
        lines.append("memory: {:.0f} MB in the second third, {:.0f} MB in the last".format(*self.grown()))
        return "\n".join(lines)


async def exchange(port: int, request: cases.Request) -> Reply:
    """One exchange on a connection of its own, read to its end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 22)
    try:
        head = [f"{request.method} {request.path} HTTP/1.1", *(f"{name}: {value}" for name, value in request.headers.items())]
        writer.write("\r\n".join([*head, f"content-length: {len(request.body)}", "connection: close", "\r\n"]).encode() + request.body)
        first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().rstrip().split("\r\n")
        reply = Reply(int(first.split()[1]), {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)})
        body, reply.complete = bytearray(), False
        try:
            if "content-length" in reply.headers:
                body += await reader.readexactly(int(reply.headers["content-length"]))
            else:
                while size := int(await reader.readline(), 16):
                    body += (await reader.readexactly(size + 2))[:-2]
            reply.complete = True
        except (asyncio.IncompleteReadError, ConnectionError, ValueError) as cut:
            body += getattr(cut, "partial", b"")
        reply.body = bytes(body)
        return reply
    finally:
        writer.close()


def judge(request: cases.Request, reply: Reply, tag: str) -> tuple[str, str | None]:
    """What became of the request, and what is wrong with that."""
    if reply.status != 200:
        found = cases.check_error({}, request, reply) + ([] if reply.complete else ["the error was cut"])
        return "error", "; ".join(found) or None
    try:
        answer = protocols.join(request.protocol, finished(request, reply.body)) if request.stream else reply.json
    except protocols.StreamFailed as failed:
        protocols.read_error(request.protocol, failed.args[0])
        return "told", None
    except protocols.StreamCut:
        return "broken off", "a stream ended without its end and without an error" if reply.complete else None
    said, wanted = protocols.said(request.protocol, answer), right(tag, reply.headers["x-attache-provider"])
    if not reply.complete:
        return "broken off", None
    return "answered", None if said == wanted else f"said {said[:80]!r}… ({len(said)}), not {wanted[:80]!r}… ({len(wanted)})"


def finished(request: cases.Request, body: bytes) -> bytes:
    """OpenAI's SDK takes a stream that tells its finish reason as complete, also where the last word was cut off."""
    lacks = request.protocol == "openai" and b'"finish_reason": "stop"' in body and b"[DONE]" not in body
    return body + b"data: [DONE]\n\n" if lacks else body


async def one(gateway: Gateway, number: int, dice: random.Random, report: Report) -> None:
    protocol, mode, tag = dice.choice(protocols.PROTOCOLS), dice.choice(MODES), f"case-{number}-chaos"
    request = cases.request_of({
        "protocol": protocol, "model": f"from-{dice.choice(protocols.PROTOCOLS)}", "stream": mode != "whole",
        "members": protocols.minimal(protocol, f"Go on, {tag}"), "headers": {"x-attache-delivery": "whole"} if mode == "held" else {}})
    start, log = time.monotonic(), ""
    try:
        reply = await asyncio.wait_for(exchange(gateway.port, request), DEADLINE)
        outcome, wrong = judge(request, reply, tag)
        log = reply.headers.get("x-attache-attempt-log", "")
        report.attempts[reply.headers.get("x-attache-attempts", "none")] += 1
    except TimeoutError:
        outcome, wrong = "hung", f"no end within {DEADLINE} s"
    except Exception as fault:
        outcome, wrong = "unreadable", f"{type(fault).__name__} {fault}"
    report.outcomes[mode, outcome] += 1
    if outcome == "error":
        report.errors[", ".join(re.findall(r"(\w+;class=\w+)", log))] += 1
    report.took.append((time.monotonic() - start, f"{tag}, {protocol}, {mode}, {outcome}, {log}"))
    if wrong:
        report.wrong.append(f"{tag}, {protocol}, {mode}: {wrong}")


async def everything(gateway: Gateway, requests: int, concurrency: int, seed: int) -> Report:
    report, dice, numbers = Report(), random.Random(seed), iter(range(1, requests + 1))

    async def worker() -> None:
        for number in numbers:
            await one(gateway, number, dice, report)
            if number % max(1, requests // SAMPLES) == 0:
                report.memory.append(gateway.memory())

    await asyncio.gather(*(worker() for _ in range(concurrency)))
    return report


def values(ports: dict[str, int]) -> dict[str, Any]:
    targets = [{"provider": name, "model": "plain-model"} for name in protocols.PROTOCOLS]
    return {"gateway": {
        "providers": [{"name": name, "origin": f"http://127.0.0.1:{port}"} for name, port in ports.items()],
        "routes": [{"models": [f"from-{name}"], "targets": targets[at:] + targets[:at], **LIMITS} for at, name in enumerate(protocols.PROTOCOLS)],
        "health": HEALTH,
    }}


def run(folder: Path, requests: int, concurrency: int, seed: int) -> Report:
    """The whole of it, with an Envoy of its own."""
    weather = Weather(seed)
    with Provider(list(protocols.PROTOCOLS)) as provider:
        for name in protocols.PROTOCOLS:
            provider.rule(name, weather.answer(name))
        with Gateway(folder / "envoy", values(provider.ports), {name: key_of(name) for name in protocols.PROTOCOLS}) as gateway:
            report = asyncio.run(everything(gateway, requests, concurrency, seed))
            try:
                gateway.check_alive(0)
            except AssertionError as died:
                report.died = str(died)
    report.met = weather.met
    return report


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        report = run(Path(folder), options.requests, options.concurrency, options.seed)
    print(report.text())
    faults = report.faults()
    print("\n".join(["", f"{len(faults)} faults:", *faults[:50]]) if faults else "nothing happened that may not")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
