"""Carries a case of the wall of faults out, and says everything that is not as tests/faults says."""

import concurrent.futures
import http.client
import queue
import re
import time
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import cases as words
import protocols
import wall
import wall_answers
from harness import Gateway, Reply
from provider import Provider, Seen

# More than an exchange may ever take: the routes' `total` and what a busy machine adds.
DEADLINE = 15.0
# What comes at once comes within this many seconds; whatever is waited for takes longer, or is known from its end.
AT_ONCE = 0.9
SOON = 3.0
# Envoy waits for whole seconds, and for half of them more: not all are to come back at once.
WAITED = 2.5
# Clocks of two processes, and dates without milliseconds.
SLACK = 0.05
# A provider's connection closes within a second after its client has left; a busy machine may need some more.
LEFT = 2.0
# Characters of one thing that is not as it should be: an answer may have a hundred million.
LONGEST = 1500
TRY = re.compile(r"(?P<by>first|second|third|\*) (?P<classes>\S+)(?: after (?P<after>[\d.]+) s)?(?P<soon> soon)?(?: lasting (?P<lasting>[\d.]+) s)?")
PLACES = ["first", "second", "third"]
COUNTER = re.compile(r"attache_attempts;provider=([^;]+);.*class=([^;]+)")


@dataclass
class Try:
    """One attempt, as a scenario wants it."""

    by: str
    classes: list[str]
    # At least so long after the one before; without it at once, or `soon`.
    after: float | None
    soon: bool
    lasting: float | None

    @staticmethod
    def of(text: str) -> "Try":
        found = TRY.fullmatch(text)
        assert found, f"not a try: {text}"
        after, lasting = (float(found[name]) if found[name] else None for name in ("after", "lasting"))
        return Try(found["by"], found["classes"].split("|"), after, bool(found["soon"]), lasting)


class Wall:
    """All cases, each on a lane of its own; `result` waits for one."""

    def __init__(self, gateway: Gateway, provider: Provider, cases: list[wall.Case]):
        self.gateway, self.provider = gateway, provider
        self._lanes: queue.Queue[int] = queue.Queue()
        for lane in range(wall.LANES):
            self._lanes.put(lane)
        # One at a time: there is one set of shared providers, and room for one large answer.
        self._pools = {"shared": ThreadPoolExecutor(1), "heavy": ThreadPoolExecutor(1), "": ThreadPoolExecutor(wall.LANES)}
        self._futures: dict[wall.Case, Future] = {}
        for case in sorted(cases, key=lambda case: case.scenario.heavy):
            kind = "heavy" if case.scenario.heavy else "shared" if set(wall.SHARED) & set(case.scenario.targets) else ""
            others = list(self._futures.values()) if kind == "heavy" else []
            self._futures[case] = self._pools[kind].submit(self._run, case, others)

    def result(self, case: wall.Case) -> list[str]:
        return self._futures[case].result()

    def finish(self) -> None:
        concurrent.futures.wait(self._futures.values())

    def close(self) -> None:
        for pool in self._pools.values():
            pool.shutdown(cancel_futures=True)

    def _run(self, case: wall.Case, others: list[Future]) -> list[str]:
        # Large answers keep a machine busy: they wait until nobody can be slow because of them.
        concurrent.futures.wait(others)
        lane = self._lanes.get()
        try:
            return Run(self, case, lane).run()
        finally:
            self._lanes.put(lane)


class Run:
    """One case."""

    def __init__(self, wall_: Wall, case: wall.Case, lane: int):
        self.gateway, self.provider = wall_.gateway, wall_.provider
        self.case, self.lane, self.scenario = case, lane, case.scenario
        self.names = [case.provider(index, lane) for index in range(len(case.scenario.targets))]
        self.tries = [Try.of(one) for one in case.scenario.for_mode("tries", case.mode)]
        self.sees, self.stream = case.scenario.for_mode("sees", case.mode), case.mode != "whole"
        # Where the client is to see the beginning of what breaks off, the provider waits until it has.
        self.gate = f"seen-{case.number}" if self.sees in ("broken", "told") else None
        self.faults: list[str] = []
        self.asked = 0

    def run(self) -> list[str]:
        self.provider.forget(self.names)
        before = self.counted()
        tag = f"case-{self.case.number}-fault"
        for index, name in enumerate(self.names):
            faults = getattr(self.scenario, PLACES[index])
            rule = wall_answers.rule(self.case.speaks[index], tag, faults, self.scenario.persists, self.gate)
            self.provider.rule(name, rule)
        start = time.monotonic()
        try:
            reply = self.hang_up(tag) if self.sees == "nothing" else self.send(tag)
        except (OSError, http.client.HTTPException) as broken:
            return [f"no answer after {time.monotonic() - start:.1f} s: {type(broken).__name__} {broken}"]
        self.took = time.monotonic() - start
        self.check(self.took < DEADLINE, f"the exchange took {self.took:.1f} s")
        if reply is not None:
            self.check_client(reply, tag)
            self.check_log(reply)
        seen = sorted((one for name in self.names for one in self.provider.requests(name)), key=lambda one: one.at)
        self.check_providers(seen)
        self.check_left(seen)
        self.check_counters(before)
        self.afterwards(seen)
        if self.scenario.pause:
            time.sleep(self.scenario.pause)
            self.healthy([0])
        if self.faults and reply is not None:
            shown = {name: value for name, value in reply.headers.items() if name.startswith(("x-attache", "content-type"))}
            self.faults.append(f"client saw {reply.status} {shown} complete={reply.complete} {bytes(reply.body[-600:])!r}")
            times = [f"{one.provider} at {one.at - start:.3f} until {(one.ended or 0) - start:.3f}" for one in seen]
            self.faults.append(f"providers saw {times}, client's end at {self.took:.3f}")
        return [fault[:LONGEST] for fault in self.faults]

    def check(self, holds: Any, what: str) -> bool:
        self.faults += [] if holds else [what]
        return bool(holds)

    # ---- the client ----

    def request(self, tag: str) -> words.Request:
        members = protocols.minimal(self.case.client, f"Go on, {tag}")
        if self.scenario.prefill:
            turn = {"role": "assistant", "content": "So it begins:"}
            members.get("messages", []).append(turn)
            members.get("contents", []).append({"role": "model", "parts": [{"text": "So it begins:"}]})
        delivery = self.scenario.delivery or ("whole" if self.case.mode == "held" else None)
        headers = {"x-attache-delivery": delivery} if delivery else {}
        return words.request_of({"protocol": self.case.client, "model": self.case.model(self.lane), "stream": self.stream,
                                 "members": members, "headers": headers})

    def send(self, tag: str) -> Reply:
        request = self.request(tag)

        def watch(reply: Reply) -> bool:
            if self.gate:
                self.provider.open(self.gate)
            return True

        return self.gateway.send(request.method, request.path, request.headers, request.body, watch)

    def hang_up(self, tag: str) -> None:
        """Leaves when the stream has begun, or, where nothing can be seen, when the provider has the request."""
        if self.case.mode == "live":
            request = self.request(tag)
            self.gateway.send(request.method, request.path, request.headers, request.body, lambda reply: False)
        else:
            request = self.request(tag)
            connection = http.client.HTTPConnection("127.0.0.1", self.gateway.port, timeout=DEADLINE)
            connection.request(request.method, request.path, request.body, request.headers)
            self.provider.wait_for(1, self.names[0])
            time.sleep(0.1)
            connection.close()
        self.left = time.monotonic()

    def check_client(self, reply: Reply, tag: str) -> None:
        request = self.request(tag)
        self.faults += [f"header {name} reached the client" for name in reply.headers if name.startswith("x-envoy-")]
        if self.sees in PLACES:
            self.check_answer(request, reply, tag, PLACES.index(self.sees))
        elif self.sees == "error":
            self.check_error(request, reply)
        elif self.sees in ("broken", "told"):
            self.faults += words.check_break(True if self.sees == "broken" else {}, request, reply)
            self.check(reply.complete or self.sees == "broken", "the body was cut")
            # A stream's pieces are short, and the tag comes first.
            self.check(tag[:9].encode() in reply.body, "the stream does not begin with the answer")
        elif self.sees == "passed":
            self.check(reply.status == 200 and re.search(self.scenario.holds.encode(), reply.body), f"{self.scenario.holds} is not in the answer")
        elif self.sees == "flood":
            self.check_flood(request, reply)

    def check_flood(self, request: words.Request, reply: Reply) -> None:
        """A very long answer, read without keeping it: as often the long piece as it was sent, and around that an answer."""
        long = wall_answers.MEGABYTE.encode()
        found, wanted = reply.body.count(long), self.scenario.first[0]["flood"]
        self.check(reply.complete and found == wanted, f"complete: {reply.complete}, {found} of {wanted} long pieces came")
        reply.body = reply.body.replace(long, b"")
        self.faults += words.check_answer({"says": wall_answers.FLOOD_END}, request, reply)

    def check_answer(self, request: words.Request, reply: Reply, tag: str, place: int) -> bool:
        """A complete answer, of that target and to this request."""
        if not self.check(reply.status == 200, f"status {reply.status}: {reply.body[:500]!r}"):
            return False
        self.check(reply.complete, "the answer was cut")
        body = reply.body
        if self.case.client == "openai" and self.stream and self.scenario.without_last and b"[DONE]" not in body:
            # OpenAI's own SDK takes it as complete, too.
            reply.body = body + b"data: [DONE]\n\n"
        self.faults += words.check_answer({"says": wall_answers.text(tag, self.names[place])}, request, reply)
        provider = reply.headers.get("x-attache-provider")
        return self.check(provider == self.names[place], f"x-attache-provider is {provider}, not {self.names[place]}")

    def check_error(self, request: words.Request, reply: Reply) -> None:
        statuses = str(self.scenario.error["status"]).split("|")
        self.check(str(reply.status) in statuses, f"status {reply.status}, expected {statuses}")
        self.check(reply.complete, "the error was cut")
        self.faults += words.check_error({}, request, reply)
        says = str(self.scenario.error.get("says", ""))
        self.check(re.search(says.encode(), reply.body), f"{says!r} is not in the error")

    # ---- the attempts ----

    def matched(self, found: list[tuple[str, str]], what: str) -> bool:
        """Are these attempts (provider, class) those that the scenario wants?"""
        wanted, rest = [one for one in self.tries if one.by != "*"], [one for one in self.tries if one.by == "*"]
        fits = len(found) == len(wanted) or (rest and len(wanted) < len(found) <= len(wanted) + 2)
        for index, (name, kind) in enumerate(found):
            one = wanted[index] if index < len(wanted) else rest[0] if rest else None
            fits = fits and one and kind in one.classes and (one.by == "*" or self.names[PLACES.index(one.by)] == name)
        return self.check(fits, f"{what}: {found}, expected {self.scenario.for_mode('tries', self.case.mode)}")

    def check_log(self, reply: Reply) -> None:
        """The headers that tell of the attempts, which must agree with each other and with what was waited for."""
        log = reply.headers.get("x-attache-attempt-log")
        count = reply.headers.get("x-attache-attempts")
        failed = reply.status >= 400
        if len(self.tries) == 1 and not failed:
            self.check(log is None and count == "1", f"x-attache-attempts {count}, x-attache-attempt-log {log}")
            return
        if not self.check(log, f"no x-attache-attempt-log; x-attache-attempts is {count}"):
            return
        entries = [re.fullmatch(r"([a-z0-9.-]+);class=(\w+);ms=(\d+)", entry) for entry in log.split(", ")]
        if not self.check(all(entries), f"x-attache-attempt-log is {log}"):
            return
        self.check(count == str(len(entries)), f"x-attache-attempts {count} with {log}")
        self.matched([(entry[1], entry[2]) for entry in entries], "x-attache-attempt-log")
        for entry, one in zip(entries, self.tries):
            took = int(entry[3]) / 1000
            self.check(took < self.took + SLACK, f"an attempt took longer than the exchange: {log}")
            if one.lasting:
                self.check(one.lasting - SLACK <= took < one.lasting + AT_ONCE, f"an attempt took {took} s, expected {one.lasting} s: {log}")

    def check_providers(self, seen: list[Seen]) -> None:
        """Who got requests, in which order, and how long after the one before."""
        served = {self.names[index] for index in range(len(self.names)) if self.scenario.place(index) not in wall.PLACES}
        wanted = [self.names[PLACES.index(one.by)] for one in self.tries if one.by != "*"]
        wanted = [name for name in wanted if name in served]
        found = [one.provider for one in seen]
        more = any(one.by == "*" for one in self.tries)
        self.check(found == wanted or (more and found[: len(wanted)] == wanted), f"requests came to {found}, expected {wanted}")
        if not more and len(found) == len(self.tries):
            for one, before, now in zip(self.tries[1:], seen, seen[1:]):
                # A provider may hear of the hang-up a moment after the next one has its request.
                gap = now.at - (before.ended or now.at)
                least, most = (one.after - SLACK, one.after + WAITED) if one.after else (-1, SOON if one.soon else AT_ONCE)
                self.check(least <= gap < most, f"{now.provider} was asked {gap:.3f} s after the attempt before, expected {one.after or 'at once'}")
        for one in seen:
            self.faults += words.check_manners(one, self.gateway)

    def check_left(self, seen: list[Seen]) -> None:
        """A provider that is given up must see its connection close, and soon."""
        if not self.scenario.left_alone:
            return
        name = self.names[PLACES.index(self.scenario.left_alone)]
        one = next((one for one in seen if one.provider == name), None)
        if one and self.check(one.hung_up.wait(DEADLINE), f"{name}: the connection was never closed") and self.sees == "nothing":
            late = one.ended - self.left
            self.check(late < LEFT, f"{name}: the connection was closed {late:.1f} s after the client had left")

    def counted(self) -> Counter:
        """The counters of attempts at this lane's providers: {(provider, class): count}."""
        stats = self.gateway.stats(f"attache_attempts;provider=({'|'.join(map(re.escape, self.names))});")
        found: Counter = Counter()
        for name, value in stats.items():
            if match := COUNTER.search(name):
                found[match[1], match[2]] += value
        return found

    def check_counters(self, before: Counter) -> None:
        """Each attempt counts once, under its class."""
        if any(name.rpartition("-")[2] in wall.PLACES for name in self.names):
            return  # These are shared with other cases.
        deadline = time.monotonic() + 3
        least = len([one for one in self.tries if one.by != "*"])
        while (sum((delta := self.counted() - before).values())) < least and time.monotonic() < deadline:
            time.sleep(0.1)
        places = {name: index for index, name in enumerate(self.names)}
        order = sorted(delta.elements(), key=lambda one: (places[one[0]], one[1] == "ok"))
        if any(one.by == "*" for one in self.tries):
            self.check(least <= len(order) <= least + 2, f"counted: {order}")
        else:
            self.matched(order, "counted")

    # ---- afterwards ----

    def afterwards(self, seen: list[Seen]) -> None:
        """A healthy request succeeds; the first target is asked again when it should be, and not before."""
        if self.scenario.then == "none":
            return
        begin = seen[0].ended if seen else None
        expected = {"first": [0], "second": [1], "any": list(range(len(self.names)))}[self.scenario.then]
        self.healthy(expected)
        first = self.scenario.place(0) in ("first", *wall.SHARED)
        if not first or self.scenario.then == "first":
            return
        deadline = time.monotonic() + DEADLINE
        while self.healthy([0, 1, 2]) != 0:
            if not self.check(time.monotonic() < deadline, "the first target was not asked again"):
                return
            time.sleep(0.2)
        if self.scenario.back and begin:
            again = next(one.at for one in self.provider.requests(self.names[0]) if one.at > begin) - begin
            self.check(self.scenario.back - SLACK <= again < self.scenario.back + 5, f"asked again after {again:.2f} s, told {self.scenario.back} s")

    def healthy(self, expected: list[int]) -> int | None:
        """One more request; the place of who answered it."""
        self.asked += 1
        tag = f"case-{self.case.number}-after{self.asked}"
        reply = self.send(tag)
        name = reply.headers.get("x-attache-provider")
        place = self.names.index(name) if name in self.names else None
        wanted = [self.names[at] for at in expected if at < len(self.names)]
        if not self.check(place in expected, f"the next request: {reply.status} by {name}, expected {wanted}"):
            self.faults.append(f"it saw {bytes(reply.body[:300])!r} {reply.headers.get('x-attache-attempt-log')}")
            return 0
        self.check_answer(self.request(tag), reply, tag, place)
        return place
