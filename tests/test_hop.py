"""The hop within Envoy: many streams at once that the filter ends, clients of HTTP/2, a reload under way, nothing left behind."""

import copy
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

import cases
import protocols
from harness import PATIENCE, Gateway, Reply
from world import World

WORDS = "It begins well and then it goes on for a while"
# A stream that has begun, and then brings nothing.
SILENT = {"say": WORDS, "first": 4, "then": {"stall": True}}


def ask(gateway: Gateway, client: str, model: str, watch: Any = None) -> Reply:
    request = cases.request_of({"protocol": client, "model": model, "stream": True})
    return gateway.send(request.method, request.path, request.headers, request.body, watch)


def told(client: str, body: bytes) -> str:
    """The message of the error in which the stream ends."""
    with pytest.raises(protocols.StreamFailed) as failed:
        protocols.join(client, body)
    return protocols.read_error(client, failed.value.args[0])["message"]


def await_empty(gateway: Gateway) -> None:
    """No connection and no request is left in the hop, on either of its sides."""
    names = r"^(http\.hop\.downstream_(cx|rq)_active|cluster\.(hop|bare\..*)\.upstream_(cx|rq)_active)$"
    gateway.await_true(lambda: not any(gateway.stats(names).values()), f"nothing is left: {gateway.stats(names)}")


def through(gateway: Gateway) -> int:
    return gateway.stats(r"^http\.hop\.downstream_rq_total$")["http.hop.downstream_rq_total"]


def test_64_streams_at_once(quiet: World) -> None:
    """Every one ends well with its error, every provider is left, and only streams that ask for it take the hop."""
    gateway, count = quiet.gateway("default"), 64
    log, before = gateway.log_size(), through(gateway)
    for provider in protocols.PROTOCOLS:
        quiet.provider.rule(provider, lambda seen, speaks=provider: cases.answer_of(SILENT, speaks, True))
    pairs = [(protocols.PROTOCOLS[number % 3], protocols.PROTOCOLS[number // 3 % 3]) for number in range(count)]
    with ThreadPoolExecutor(count) as pool:
        futures = [(client, pool.submit(ask, gateway, client, f"told-{provider}")) for client, provider in pairs]
        for client, future in futures:
            reply = future.result(PATIENCE)
            assert reply.complete and "sent nothing for 1 s" in told(client, reply.body), reply.body
    seen = quiet.provider.requests()
    assert len(seen) == count and all(one.hung_up.wait(5) for one in seen)
    assert through(gateway) == before + count
    quiet.provider.rule("openai", lambda seen: cases.answer_of({"say": "without it"}, "openai", True))
    assert ask(gateway, "openai", "to-openai").complete and through(gateway) == before + count
    await_empty(gateway)
    gateway.check_alive(log)


@pytest.mark.parametrize("client", protocols.PROTOCOLS)
def test_http2_clients(client: str, quiet: World) -> None:
    """Three streams on one HTTP/2 connection, one after the other: broken off, each would be an exception here."""
    gateway = quiet.gateway("default")
    quiet.provider.script("openai", [cases.answer_of(SILENT, "openai", True)] * 2 + [cases.answer_of({"say": WORDS, "then": {"stall": True}}, "openai", True)])
    request = cases.request_of({"protocol": client, "model": "told-openai", "stream": True})
    headers = {name: value for name, value in request.headers.items() if name != "host"}
    with httpx.Client(http1=False, http2=True, base_url=f"http://127.0.0.1:{gateway.port}", timeout=PATIENCE) as connection:
        answers = [connection.post(request.path, headers=headers, content=request.body) for _ in range(3)]
    assert {(answer.http_version, answer.status_code) for answer in answers} == {("HTTP/2", 200)}
    assert all("sent nothing for 1 s" in told(client, answer.content) for answer in answers[:2])
    assert protocols.said(client, protocols.join(client, answers[2].content)) == WORDS
    assert all(seen.hung_up.wait(5) for seen in quiet.provider.requests("openai"))
    await_empty(gateway)


def test_clients_that_leave(quiet: World) -> None:
    """A client that leaves in the middle takes its provider along, whoever speaks what, and leaves nothing in the hop."""
    gateway = quiet.gateway("default")
    for provider in protocols.PROTOCOLS:
        quiet.provider.rule(provider, lambda seen, speaks=provider: cases.answer_of(SILENT, speaks, True))
    for client in protocols.PROTOCOLS:
        for provider in protocols.PROTOCOLS:
            reply = ask(gateway, client, f"ended-{provider}", lambda reply: b"It" not in reply.body)
            assert not reply.complete
    assert len(quiet.provider.requests()) == 9 and all(seen.hung_up.wait(5) for seen in quiet.provider.requests())
    await_empty(gateway)


def test_a_large_body(quiet: World) -> None:
    """20 MB go through the hop with their length, as they came and rewritten."""
    gateway, text = quiet.gateway("default"), "x" * 20_000_000
    for client, model in (("anthropic", "ended/claude"), ("openai", "ended-anthropic")):
        quiet.provider.script("anthropic", [cases.answer_of({"say": "Long"}, "anthropic", True)])
        request = cases.request_of({"protocol": client, "model": model, "stream": True, "members": protocols.minimal(client, text)})
        reply = gateway.send(request.method, request.path, request.headers, request.body)
        assert reply.complete and protocols.said(client, protocols.join(client, reply.body)) == "Long"
    for seen in quiet.provider.requests("anthropic"):
        assert int(seen.header("content-length")) == len(seen.body) and text.encode() in seen.body


def test_a_stream_under_way_while_the_configuration_changes(world: World, quiet: World) -> None:
    """A stream that began before a reload is ended after it, by the limits that it began with."""
    with world.fresh("default", "hop-of-its-own") as gateway, ThreadPoolExecutor(1) as pool:
        quiet.provider.rule("openai", lambda seen: cases.answer_of(SILENT, "openai", True))
        future = pool.submit(ask, gateway, "openai", "told-openai", lambda reply: begun.append(reply) or True)
        begun: list[Reply] = []
        gateway.await_true(lambda: begun, "the stream has begun")
        changed = copy.deepcopy(gateway.values["gateway"])
        changed["routes"] = [{"models": ["changed"], "targets": [{"provider": "openai", "model": "gpt-4o-mini"}], "idle": "1s"}]
        gateway.reload(changed)
        gateway.await_true(lambda: ask(gateway, "openai", "ended/none").status == 404, "the new configuration is in force")
        reply = future.result(PATIENCE)
        assert reply.complete and "sent nothing for 1 s" in told("openai", reply.body)
        # Without `silence: told` such a stream breaks off, and takes no hop.
        reply, before = ask(gateway, "openai", "changed"), through(gateway)
        assert not reply.complete and through(gateway) == before
        await_empty(gateway)
        gateway.check_alive(0)
