"""What clients and providers do to a gateway on purpose: requests that would be slow, answers that would fill its memory."""

import json
from typing import Any

import pytest

import protocols
from cases import Request, request_of
from provider import Answer
from world import World

EVENTS = {"content-type": "text/event-stream"}
CALLS = 40_000
# Four times the calls take four times the work, or sixteen where it grows with their square.
MORE, TOO_MUCH = 4, 9


def conversation(protocol: str, count: int) -> dict[str, Any]:
    """A model that called a tool very often, and every result, the last first."""
    ids = [f"call_{number}" for number in range(count)]
    match protocol:
        case "openai":
            calls = [{"id": one, "type": "function", "function": {"name": f"f_{one}", "arguments": "{}"}} for one in ids]
            results = [{"role": "tool", "tool_call_id": one, "content": "done"} for one in reversed(ids)]
            return {"messages": [{"role": "user", "content": "Go"}, {"role": "assistant", "tool_calls": calls}, *results]}
        case "anthropic":
            calls = [{"type": "tool_use", "id": one, "name": f"f_{one}", "input": {}} for one in ids]
            results = [{"type": "tool_result", "tool_use_id": one, "content": "done"} for one in reversed(ids)]
            turns = [("user", "Go"), ("assistant", calls), ("user", results)]
            return {"max_tokens": 9, "messages": [{"role": role, "content": content} for role, content in turns]}
    calls = [{"functionCall": {"name": f"f_{one}", "args": {}}} for one in ids]
    results = [{"functionResponse": {"name": f"f_{one}", "response": {}}} for one in reversed(ids)]
    turns = [("user", [{"text": "Go"}]), ("model", calls), ("user", results)]
    return {"contents": [{"role": role, "parts": parts} for role, parts in turns]}


def asking(protocol: str, model: str, stream: bool, members: dict[str, Any] | None = None) -> Request:
    spec = {"protocol": protocol, "model": model, "stream": stream}
    return request_of(spec | ({"members": members} if members else {}))


@pytest.mark.parametrize("provider", protocols.PROTOCOLS)
@pytest.mark.parametrize("client", protocols.PROTOCOLS)
def test_work_does_not_grow_with_the_square_of_a_request(quiet: World, client: str, provider: str) -> None:
    gateway = quiet.gateway("default")

    def work(count: int) -> float:
        quiet.provider.script(provider, [{"json": protocols.saying(provider, "Done")}])
        request = asking(client, f"to-{provider}", False, conversation(client, count))
        before = gateway.cpu()
        reply = gateway.send(request.method, request.path, request.headers, request.body)
        assert reply.status == 200, reply.body[:500]
        assert protocols.said(client, json.loads(reply.body)) == "Done"
        return gateway.cpu() - before

    few, many = work(CALLS // MORE), work(CALLS)
    assert many < TOO_MUCH * max(few, 0.02), f"{few:.2f} s of CPU for {CALLS // MORE} calls, {many:.2f} s for {CALLS}"


@pytest.mark.parametrize("provider", protocols.PROTOCOLS)
def test_a_stream_with_a_length_that_is_cut_ends_by_itself(quiet: World, provider: str) -> None:
    """The error that the gateway adds must not lie beyond the length that the provider promised: on a connection that
    stays open it would be read as the next answer."""
    gateway = quiet.gateway("default")
    events = protocols.split(provider, protocols.saying(provider, "A text that will not be whole"))
    cut = "".join(events[: len(events) // 2]).encode()
    quiet.provider.script(provider, [Answer(headers=EVENTS | {"content-length": str(len(cut))}, body=cut)])
    request = asking(provider, f"to-{provider}", True)
    reply = gateway.send(request.method, request.path, request.headers, request.body)
    assert reply.status == 200 and "content-length" not in reply.headers, reply.headers
    with pytest.raises(protocols.StreamFailed):
        protocols.join(provider, reply.body)


@pytest.mark.parametrize("place", ["first", "after a token", "after the end"])
@pytest.mark.parametrize("provider", protocols.PROTOCOLS)
def test_a_line_without_end_does_not_fill_the_memory(quiet: World, provider: str, place: str) -> None:
    """150 MB in one line: with every copy that a growing buffer makes, holding it takes more than the 200 MB allowed."""
    gateway = quiet.gateway("default")
    events = protocols.split(provider, protocols.saying(provider, "Hello there, a few words"))
    before = {"first": [], "after a token": events[:-1][:4], "after the end": events}[place]
    if provider == "gemini" and place == "after the end":
        pytest.skip("Gemini's streams end with their bytes")
    quiet.provider.script(provider, [Answer(headers=EVENTS, steps=[*before, "data: {", *[b"x" * (1 << 20)] * 150])])
    client = protocols.PROTOCOLS[(protocols.PROTOCOLS.index(provider) + 1) % 3]
    request = asking(client, f"to-{provider}", True)
    held = gateway.memory()
    log = gateway.log_size()
    reply = gateway.send(request.method, request.path, request.headers, request.body)
    gateway.check_alive(log)
    assert gateway.memory() - held < 200
    if place == "after the end":
        protocols.join(client, reply.body)
    elif reply.status == 200:
        with pytest.raises(protocols.StreamFailed):
            protocols.join(client, reply.body)


@pytest.mark.parametrize("framing", ["length", "chunks"])
def test_an_answer_too_large_to_hold(quiet: World, framing: str) -> None:
    """In the client's own protocol it is passed on unread; one that would have to be translated goes to the next target, and
    is told where there is none."""
    gateway = quiet.gateway("default")
    pieces = [b'{"id":"', *[b"x" * (1 << 20)] * 48, b'"}']
    huge = {"body": b"".join(pieces)} if framing == "length" else {"steps": pieces}
    answer = Answer(headers={"content-type": "application/json"}, **huge)
    quiet.provider.script("openai", [answer] * 3)
    quiet.provider.script("anthropic", [{"json": protocols.saying("anthropic", "From the second")}])

    def ask(client: str, model: str) -> Any:
        request = asking(client, model, False)
        return gateway.send(request.method, request.path, request.headers, request.body)

    # Without a length, one read of Envoy's may overrun its buffer, and Envoy ends the exchange before the filter can.
    reply = ask("openai", "to-openai")
    assert reply.body == b"".join(pieces) or (framing == "chunks" and reply.status == 502), reply.body[:300]
    reply = ask("anthropic", "openai-then-anthropic")
    if framing == "length" or reply.status == 200:
        assert reply.status == 200 and protocols.said("anthropic", reply.json) == "From the second", reply.body[:300]
    reply = ask("anthropic", "to-openai")
    assert reply.status == 502 and reply.json["error"]["message"], reply.body[:300]
