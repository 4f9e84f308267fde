"""Budgets of a fleet: three Envoys, Envoy's own rate-limit service, a real Redis, and what dies among them."""

import random
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Iterator

import pytest

import cases
import protocols
from harness import Gateway, Reply
from provider import Provider, Seen
from ratelimit import Engine

PODS = 3
CLIENTS = 18
# A request waits for the service for two seconds at most; a busy machine adds some.
LONGEST = 6.0
MEMBERS = protocols.minimal("openai", "Hello") | {"max_completion_tokens": 100}
LIMIT = 300
SLICE = LIMIT * 5 // 100
TOKENS = 60_000
# Of each of many accounts.
MANY = 1000


def budget(name: str, limit: dict[str, Any], **members: Any) -> dict[str, Any]:
    """One account for each test: the header `who` says whose."""
    return {"name": name, "limit": limit, "window": {"calendar": "day"}, "scope": "fleet", "per": ["header.who"], "forgeable": True,
            "match": {"routes": [f"{name}-*"]}, **members}


BUDGETS = [budget("requests", {"requests": LIMIT}), budget("tokens", {"tokens": TOKENS}), budget("dollars", {"usd": 300}),
           budget("many", {"requests": MANY})]


def answer(seen: Seen) -> dict[str, Any]:
    """Uses what it may, or less."""
    body = seen.json
    reply = protocols.saying("openai", "Hello")
    most = body.get("max_completion_tokens") or body.get("max_tokens") or 100
    output = random.randint(0, most)
    reply["usage"] = {"prompt_tokens": 5, "completion_tokens": output, "total_tokens": output + 5}
    return {"json": reply}


@dataclass
class Fleet:
    """The pods and what they share."""

    engine: Engine
    pods: list[Gateway]
    seen: list[tuple[str, Reply]] = field(default_factory=list)
    slowest: float = 0.0

    def load(self, model: str, who: str | Callable[[], str], count: int, pods: list[Gateway] | None = None,
             until: Callable[[], bool] = lambda: False) -> Counter:
        """That many requests of many clients over all pods; how many had which status. None may hang, or break."""
        pods, numbers, lock = pods or self.pods, iter(range(count)), threading.Lock()
        statuses: Counter = Counter()

        def client(index: int) -> None:
            while True:
                with lock:
                    if next(numbers, None) is None or until():
                        return
                began = time.monotonic()
                name = who if isinstance(who, str) else who()
                reply = ask(pods[index % len(pods)], model, name)
                took = time.monotonic() - began
                with lock:
                    statuses[reply.status] += 1
                    self.seen.append((name, reply))
                    self.slowest = max(self.slowest, took)
                assert took < LONGEST, f"a request took {took:.1f} s"

        with ThreadPoolExecutor(CLIENTS) as pool:
            for done in [pool.submit(client, index) for index in range(CLIENTS)]:
                done.result()
        return statuses

    def counted(self, budget: str) -> tuple[int, int]:
        """Hits that were taken of a budget, and those that were given back."""
        counters = [(name, count) for name, count in self.engine.counters().items() if f"{{{budget}/" in name]
        taken, returned = (sum(count for name, count in counters if f"/{what}_" in name) for what in ("taken", "returned"))
        return taken, returned

    def asks(self, kind: str) -> int:
        return sum(sum(pod.stats(f"attache_fleet_asks;class={kind}$").values()) for pod in self.pods)


def ask(pod: Gateway, model: str, who: str) -> Reply:
    request = cases.request_of({"protocol": "openai", "model": model, "members": MEMBERS})
    reply = pod.send(request.method, request.path, {**request.headers, "who": who}, request.body)
    assert reply.status in (200, 429), (reply.status, reply.body)
    return reply


@contextmanager
def fleet_of(folder: Path, policy: str, count: int = PODS, **engine: Any) -> Iterator[Fleet]:
    folder.mkdir(exist_ok=True)
    (folder / "engine").mkdir()
    with ExitStack() as stack:
        provider = stack.enter_context(Provider(["llm"]))
        provider.rule("llm", answer)
        shared = stack.enter_context(Engine(folder / "engine", **engine))
        gateway = {
            "providers": [{"name": "openai", "origin": f"http://127.0.0.1:{provider.ports['llm']}"}],
            "routes": [{"models": [f"{one['name']}-*"], "targets": [{"provider": "openai", "model": "gpt-4o"}]} for one in BUDGETS],
            "fleet": {"onUnavailable": policy},
            "budgets": BUDGETS,
        }
        values = {"gateway": gateway, "fleet": {"address": f"127.0.0.1:{shared.port}"}}
        pods = [Gateway(folder / f"pod-{index}", values, {"openai": "key"}) for index in range(count)]
        fleet = Fleet(shared, [stack.enter_context(pod) for pod in pods])
        yield fleet
        for pod in pods:
            pod.check_alive(0)


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with fleet_of(tmp_path_factory.mktemp("closed"), "closed") as fleet:
        yield fleet


@pytest.fixture(scope="module")
def open_(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with fleet_of(tmp_path_factory.mktemp("open"), "open") as fleet:
        yield fleet


def test_all_pods_together_never_pass_the_limit_and_come_close_to_it(closed: Fleet) -> None:
    before = closed.asks("granted")
    statuses = closed.load("requests-1", "bound", 3 * LIMIT)
    assert LIMIT - PODS * SLICE <= statuses[200] <= LIMIT, statuses
    assert closed.asks("granted") - before < LIMIT / 4, "a slice is many requests"
    refused = [reply for _, reply in closed.seen if reply.status == 429]
    assert all("retry-after" in reply.headers for reply in refused)
    assert any("budget `requests`" in reply.json["error"]["message"] for reply in refused)
    taken, returned = closed.counted("requests")
    assert taken - returned == LIMIT, "what lies beyond the limit was given back"


def test_what_answers_did_not_use_is_there_for_others(closed: Fleet) -> None:
    """Each is charged with what its provider reported, to the token."""
    start = len(closed.seen)
    statuses = closed.load("tokens-1", "settled", 6000)
    used = sum(reply.json["usage"]["total_tokens"] for _, reply in closed.seen[start:] if reply.status == 200)
    assert statuses[429] > 0, statuses
    assert TOKENS - PODS * (TOKENS * 5 // 100) <= used <= TOKENS, (used, statuses)


def test_dollars_are_counted_in_pieces(closed: Fleet) -> None:
    assert closed.load("dollars-1", "dollars", 60) == {200: 60}
    taken, _ = closed.counted("dollars")
    assert 0 < taken < 2**32


def test_service_and_redis_die_and_come_back_and_the_bound_holds(closed: Fleet) -> None:
    """Under load, one after the other, then both; and a service that is there and says nothing, while the configuration changes.
    Nothing hangs."""
    over, engine, marks = threading.Event(), closed.engine, []
    closed.slowest = 0.0

    def trouble() -> None:
        try:
            marks.append(len(closed.seen))
            for die, live in [(engine.kill_service, engine.start_service), (engine.kill_redis, engine.start_redis),
                              (lambda: engine.freeze_service(True), lambda: engine.freeze_service(False))]:
                time.sleep(3.0)
                die()
                time.sleep(0.5)
                for pod in closed.pods:
                    pod.reload(pod.values["gateway"] | {"health": {"consecutiveFailures": random.randint(1, 1000)}})
                time.sleep(0.5)
                live()
                marks.append(len(closed.seen))
            time.sleep(3.0)
            engine.kill_redis()
            engine.kill_service()
            time.sleep(1.0)
            engine.start_redis()
            engine.start_service()
            marks.append(len(closed.seen))
            time.sleep(6.0)
        finally:
            over.set()

    thread = threading.Thread(target=trouble)
    thread.start()
    begin = time.monotonic()
    closed.load("many-1", lambda: f"trouble-{int((time.monotonic() - begin) / 2)}", 10**9, until=over.is_set)
    thread.join()
    seen = closed.seen[marks[0]:]
    admitted = Counter(name for name, reply in seen if reply.status == 200)
    print(f"{admitted.total()} of {len(seen)} requests admitted; by account, of {MANY}: {dict(admitted)}; the slowest took {closed.slowest:.2f} s")
    assert max(admitted.values()) <= MANY, admitted
    assert sum(count >= MANY - PODS * MANY * 5 // 100 for count in admitted.values()) >= 3, "the bound was met, not only kept"
    assert any(b"does not answer" in reply.body for _, reply in seen), "the service was missed"
    for start, end in zip(marks, [*marks[1:], len(closed.seen)]):
        assert any(reply.status == 200 for _, reply in closed.seen[start:end]), "it came back each time"
    for pod in closed.pods:
        log = pod.tail(0)
        assert "rate-limit service does not answer" in log and "answers again" in log


def test_while_the_service_is_down_each_pod_has_the_limit_and_tells_it_afterwards(open_: Fleet) -> None:
    open_.engine.kill_service()
    down = open_.load("requests-1", "open", 5 * LIMIT)
    assert LIMIT < down[200] <= PODS * LIMIT, down
    open_.engine.start_service()
    pod = open_.pods[0]
    pod.await_true(lambda: all("answers again" in one.tail(0) for one in open_.pods), "the pods have found it")
    # The pods tell what they have spent within a second or two, and it is more than there is.
    pod.await_true(lambda: "requests/requests" in str(open_.engine.counters()), "they have told it")
    assert open_.load("requests-1", "open", 60).get(200, 0) <= PODS * LIMIT - down[200]


def test_what_a_pod_does_not_use_it_gives_back(open_: Fleet) -> None:
    """One pod takes, and is silent; half a minute later another one can have all of it but what was spent."""
    assert open_.load("requests-1", "idle", 12, pods=open_.pods[:1]) == {200: 12}
    time.sleep(13)
    rest = open_.load("requests-1", "idle", 2 * LIMIT, pods=open_.pods[1:2])
    assert rest[200] == LIMIT - 12, rest


def test_a_redis_that_forgets_is_told_again(tmp_path: Path) -> None:
    with fleet_of(tmp_path / "forgets", "closed", persistent=False) as fleet:
        first = fleet.load("requests-1", "forgets", LIMIT * 2 // 3)
        assert first == {200: LIMIT * 2 // 3}
        fleet.engine.kill_redis()
        fleet.engine.start_redis()
        pod = fleet.pods[0]
        pod.await_true(lambda: all(fleet.load("dollars-1", "other", 3, pods=[one])[200] for one in fleet.pods), "the service is back")
        second = fleet.load("requests-1", "forgets", 2 * LIMIT)
        assert first[200] + second[200] <= LIMIT + PODS * SLICE, (first, second)
        assert any("has lost what it counted" in one.tail(0) for one in fleet.pods)


def test_a_service_without_our_units_is_found_out(tmp_path: Path) -> None:
    with fleet_of(tmp_path / "bare", "closed", count=1, configuration="domain: attache\n") as fleet:
        assert fleet.load("requests-1", "bare", 20) == {429: 20}
        pod = fleet.pods[0]
        pod.await_true(lambda: "its configuration lacks our units" in pod.tail(0), "the log says so")
