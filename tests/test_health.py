"""The health of targets: circuits that open, probes, last doors, and what other workers and a reload know of them."""

import copy
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable, Iterator

import pytest

import cases
import protocols
from harness import PATIENCE, Gateway, Reply
from provider import Seen
from world import World

DOWN = {"status": 503, "json": protocols.error("openai", 503, "down")}
SPEAKS = {"steady": "anthropic"}


@pytest.fixture(scope="module")
def health(world: World) -> Iterator[Gateway]:
    """Two workers, which must know the same."""
    with world.fresh("health", "health-of-its-own") as gateway:
        yield gateway


class Switch:
    """A provider that a test makes fail and heals again, and that counts who came meanwhile."""

    def __init__(self, world: World, name: str):
        self.down, self.while_down = True, 0
        self.provider, self.name = world.provider, name
        world.provider.rule(name, self.answer)

    def answer(self, seen: Seen) -> dict[str, Any]:
        self.while_down += self.down
        return DOWN if self.down else well(self.name)(seen)


def well(name: str) -> Callable[[Seen], dict[str, Any]]:
    return lambda seen: {"json": protocols.saying(SPEAKS.get(name, "openai"), f"from {name}")}


def ask(gateway: Gateway, model: str) -> Reply:
    request = cases.request_of({"protocol": "openai", "model": model})
    return gateway.send(request.method, request.path, request.headers, request.body)


def by(reply: Reply) -> str:
    """Who answered, after checking that it did."""
    assert reply.status == 200, reply.body
    name = reply.headers["x-attache-provider"]
    assert protocols.said("openai", reply.json) == f"from {name}"
    return name


def ask_for(gateway: Gateway, model: str, seconds: float, pause: float, clients: int) -> list[str]:
    """Who answered each of many requests, several at a time."""
    end = time.monotonic() + seconds

    def one(_: int) -> list[str]:
        found = []
        while time.monotonic() < end:
            found.append(by(ask(gateway, model)))
            time.sleep(pause)
        return found

    with ThreadPoolExecutor(clients) as pool:
        return [name for found in pool.map(one, range(clients)) for name in found]


def flap(gateway: Gateway, world: World, down: float, pause: float, probes: int, back: float) -> None:
    """The first target is down for so long and then well: everybody is served, few requests try it, and it comes back."""
    switch = Switch(world, "flapping")
    world.provider.rule("steady", well("steady"))
    answered = ask_for(gateway, "flapping", down, pause, clients=4)
    assert set(answered) == {"steady"}, "somebody else answered while the first target was down"
    # Those that opened the circuit (all clients may have been on their way), and one at a time after each rest.
    assert 3 <= switch.while_down <= probes + 3 + 4, f"{switch.while_down} of {len(answered)} requests tried what was down"
    assert switch.while_down > 3 or probes == 0, "nobody looked whether it is well again"
    switch.down, healed = False, time.monotonic()
    gateway.await_true(lambda: by(ask(gateway, "flapping")) == "flapping" or time.sleep(pause), "it is asked again", back)
    assert time.monotonic() - healed < back
    assert {by(ask(gateway, "flapping")) for _ in range(20)} == {"flapping"}


def test_flapping_primary(health: Gateway, quiet: World) -> None:
    """Down for four seconds, with rests of half a second to a second (at least 80 % of it: jitter)."""
    flap(health, quiet, down=4, pause=0.02, probes=4 * 2 + 1, back=5)


@pytest.mark.slow
def test_flapping_primary_with_the_defaults(world: World, quiet: World) -> None:
    """Down for a minute; back within 30 seconds."""
    gateway = world.fresh("health", "health-by-default")
    del gateway.values["gateway"]["health"]
    with gateway:
        flap(gateway, quiet, down=60, pause=0.1, probes=12, back=30)


def test_one_probe_at_a_time(health: Gateway, quiet: World) -> None:
    """While one request waits for what may still be down, no other one does."""
    quiet.provider.rule("steady", well("steady"))
    quiet.provider.rule("silent", lambda seen: DOWN)
    health.await_true(lambda: by(ask(health, "silent")) and len(quiet.provider.requests("silent")) >= 3, "the circuit opens")
    quiet.provider.rule("silent", lambda seen: {"fault": "stall"})
    since = time.monotonic()
    answered = ask_for(health, "silent", seconds=4, pause=0.1, clients=8)
    assert set(answered) == {"steady"}
    probes = [one for one in quiet.provider.requests("silent") if one.at > since]
    assert probes, "nobody looked whether it is well again"
    for one in probes:
        assert one.hung_up.wait(PATIENCE)
        beside = [other for other in probes if other is not one and one.at <= other.at < (one.ended or one.at)]
        assert not beside, f"{len(beside) + 1} probes at once"


def test_the_last_door_stays_open(health: Gateway, quiet: World) -> None:
    """A target that is the only one is asked each time, however often it has failed, and its own error is told."""
    switch = Switch(quiet, "alone")
    for count in range(1, 6):
        reply = ask(health, "alone")
        assert reply.status == 503 and reply.json["error"]["message"] == "down", reply.body
        assert switch.while_down >= count
    switch.down = False
    assert by(ask(health, "alone")) == "alone"


def test_error_rate(health: Gateway, quiet: World) -> None:
    """Every second answer is an error, never three in a row: the share of errors opens the circuit."""
    count = iter(range(10_000))
    quiet.provider.rule("steady", well("steady"))
    quiet.provider.rule("half", lambda seen: DOWN if next(count) % 2 else well("half")(seen))
    answered = [by(ask(health, "half")) for _ in range(60)]
    assert answered[:20].count("half") == 10, answered[:20]
    asked = len(quiet.provider.requests("half"))
    assert 20 <= asked < 40, f"{asked} of 60 requests went to a target of whose answers every second was an error"


def test_health_survives_a_reload(health: Gateway, quiet: World) -> None:
    """A new configuration does not make what rests well."""
    switch = Switch(quiet, "reloaded")
    quiet.provider.rule("steady", well("steady"))
    changed = copy.deepcopy(health.values["gateway"])
    changed["health"] |= {"coolDown": "1m", "maxCoolDown": "1m"}
    changed["routes"].append({"models": ["first"], "targets": [{"provider": "steady", "model": "plain"}]})
    health.reload(changed)
    health.await_true(lambda: ask(health, "first").status == 200, "the longer rest is configured")
    health.await_true(lambda: by(ask(health, "reloaded")) and switch.while_down >= 3, "the circuit opens")
    changed["routes"][-1]["models"] = ["second"]
    health.reload(changed)
    # Each of the two workers takes the new configuration up by itself.
    health.await_true(lambda: all(ask(health, "second").status == 200 for _ in range(10)), "the new configuration is there")
    switch.down = False
    assert {by(ask(health, "reloaded")) for _ in range(20)} == {"steady"}
    health.reload(health.values["gateway"])
