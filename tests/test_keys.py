"""Several keys of one provider: how requests spread over them, and what becomes of one that is refused, spent or told to rest."""

from collections import Counter
from typing import Any, Callable, Iterator

import pytest

import cases
import protocols
from harness import Gateway, Reply
from provider import Seen
from world import World

REFUSED = {"status": 401, "json": protocols.error("openai", 401, "Incorrect API key provided")}
SPENT = {"status": 429, "json": {"error": {"message": "You exceeded your current quota, please check your plan and billing details.",
                                           "type": "insufficient_quota", "param": None, "code": "insufficient_quota"}}}
LATER = {"status": 429, "headers": {"retry-after": "60"}, "json": protocols.error("openai", 429, "Rate limit reached")}


@pytest.fixture(scope="module")
def keyed(world: World) -> Iterator[Gateway]:
    with world.fresh("keys", "keys-of-its-own") as gateway:
        yield gateway


def ask(gateway: Gateway, model: str, text: str = "Hello") -> Reply:
    request = cases.request_of({"protocol": "openai", "model": model, "say": text})
    return gateway.send(request.method, request.path, request.headers, request.body)


def key_of(seen: Seen) -> str:
    """`a` or `b`, from the secret that came."""
    return (seen.header("authorization") or "").rpartition(".")[2]


def answers(faults: dict[str, Any]) -> Callable[[Seen], dict[str, Any]]:
    """What the provider says to each of its keys; well to those that are not named."""
    return lambda seen: faults.get(key_of(seen), {"json": protocols.saying("openai", f"with key {key_of(seen)}")})


def conversation_of(gateway: Gateway, world: World, model: str, key: str) -> str:
    """A text whose conversation begins with that key."""
    world.provider.rule("keyed", answers({}))
    for number in range(200):
        assert ask(gateway, model, f"conversation {number}").status == 200
        if key_of(world.provider.requests("keyed")[-1]) == key:
            return f"conversation {number}"
    raise AssertionError(f"no conversation of 200 began with key {key}")


@pytest.mark.parametrize("model, fault, kind", [
    ("refused-key", REFUSED, "authentication"), ("spent-key", SPENT, "quota_spent"), ("resting-key", LATER, "rate_limit"),
], ids=["refused", "spent", "told-to-rest"])
def test_another_key_answers_and_the_first_rests(model: str, fault: dict[str, Any], kind: str, keyed: Gateway, quiet: World) -> None:
    text, log = conversation_of(keyed, quiet, model, "a"), keyed.log_size()
    quiet.provider.reset()
    quiet.provider.rule("keyed", answers({"a": fault}))
    reply = ask(keyed, model, text)
    assert protocols.said("openai", reply.json) == "with key b"
    first, second = reply.headers["x-attache-attempt-log"].split(", ")
    assert first.startswith(f"{model}.a;class={kind};ms=") and second.startswith(f"{model}.b;class=ok;ms=")
    assert reply.headers["x-attache-provider"] == model
    for number in range(20):
        assert protocols.said("openai", ask(keyed, model, f"another {number}").json) == "with key b"
    assert Counter(key_of(seen) for seen in quiet.provider.requests("keyed")) == {"a": 1, "b": 21}
    counters = keyed.stats(f"attache_attempts;provider={model};key=a")
    assert [value for name, value in counters.items() if f"class={kind}" in name] == [1]
    # An operator must hear of it.
    keyed.await_true(lambda: f"{model}.a" in keyed.tail(log), "the log names the key")


def test_requests_spread_by_weight(keyed: Gateway, quiet: World) -> None:
    """Three to one, over many conversations; each keeps its key."""
    quiet.provider.rule("keyed", answers({}))
    for number in range(200):
        ask(keyed, "weighed-key", f"conversation {number}")
    first = [key_of(seen) for seen in quiet.provider.requests("keyed")]
    assert 120 <= first.count("a") <= 180 and first.count("a") + first.count("b") == 200, Counter(first)
    quiet.provider.reset()
    quiet.provider.rule("keyed", answers({}))
    for number in range(200):
        ask(keyed, "weighed-key", f"conversation {number}")
    assert [key_of(seen) for seen in quiet.provider.requests("keyed")] == first


def test_bad_keys_only(keyed: Gateway, quiet: World) -> None:
    """With no key left, the next target answers; with no target left either, the client is told."""
    quiet.provider.rule("keyed", answers({"a": REFUSED, "b": REFUSED}))
    quiet.provider.rule("behind-keys", lambda seen: {"json": protocols.saying("anthropic", "from behind")})
    reply = ask(keyed, "bad-keys")
    assert protocols.said("openai", reply.json) == "from behind" and reply.headers["x-attache-attempts"] == "3"
    assert protocols.said("openai", ask(keyed, "bad-keys").json) == "from behind"
    assert Counter(key_of(seen) for seen in quiet.provider.requests("keyed")) == {"a": 1, "b": 1}
