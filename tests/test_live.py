"""What needs more than one exchange: keys and configuration that change under way, many streams at once, HTTP/2."""

import copy
import json
import socket
import threading
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Iterator

import h2.connection
import h2.events
import httpx
import pytest

import cases
import protocols
from world import World
from harness import PATIENCE, Gateway, Reply

WORDS = "One two three four five"


@pytest.fixture(scope="module")
def small_gateway(world: World) -> Iterator[Gateway]:
    gateway = world.fresh("small", "small-of-its-own")
    # One worker: workers take up a change one after the other, and a test must know that it is there.
    gateway.concurrency = 1
    with gateway:
        yield gateway


@pytest.fixture
def small(small_gateway: Gateway, quiet: World) -> Iterator[Gateway]:
    """A gateway whose keys and configuration a test may change; both are set right again, and the VM must live."""
    log = small_gateway.log_size()
    yield small_gateway
    quiet.provider.reset()
    small_gateway.write_key("openai", "secret-of-openai")
    restore(small_gateway, quiet)
    small_gateway.check_alive(log)


def ask(gateway: Gateway, model: str, stream: bool = False, watch: Any = None) -> Reply:
    request = cases.request_of({"protocol": "openai", "model": model, "stream": stream})
    return gateway.send(request.method, request.path, request.headers, request.body, watch)


def uses_key(gateway: Gateway, world: World, key: str) -> bool:
    answered = ask(gateway, "talk").status == 200
    return answered and world.provider.requests("openai")[-1].header("authorization") == f"Bearer {key}"


def restore(gateway: Gateway, world: World) -> None:
    """Back to the first configuration, known by the model `talk` being served again."""
    gateway.reload(gateway.values["gateway"])
    world.provider.rule("openai", lambda seen: {"json": protocols.saying("openai", "restored")})
    gateway.await_true(lambda: ask(gateway, "talk").status == 200, "the first configuration is back")


def started(gateway: Gateway, model: str, world: World, gate: str) -> tuple[Future, ThreadPoolExecutor]:
    """A stream under way: the client has its first words, the provider waits at the gate."""
    events = protocols.split("openai", protocols.saying("openai", WORDS))
    world.provider.script("openai", [{"chunks": [*events[:3], {"wait": gate}, *events[3:]]}])
    begun, pool = threading.Event(), ThreadPoolExecutor(1)

    def watch(reply: Reply) -> bool:
        begun.set()
        return True

    future = pool.submit(ask, gateway, model, True, watch)
    assert begun.wait(PATIENCE), "no first words"
    return future, pool


def test_key_rotation(small: Gateway, quiet: World) -> None:
    """A key file replaced by rename is the key of the next requests, without a restart and for no other provider."""
    quiet.provider.rule("openai", lambda seen: {"json": protocols.saying("openai", "ok")})
    quiet.provider.rule("anthropic", lambda seen: {"json": protocols.saying("anthropic", "ok")})
    process = small.process.pid
    small.write_key("openai", "rotated")

    def rotated() -> bool:
        assert ask(small, "talk").status == 200
        return quiet.provider.requests("openai")[-1].header("authorization") == "Bearer rotated"

    small.await_true(rotated, "the new key is used")
    assert ask(small, "other").status == 200
    assert quiet.provider.requests("anthropic")[-1].header("x-api-key") == "secret-of-anthropic"
    assert small.process.pid == process and small.process.poll() is None


def test_key_rotation_with_a_stream_in_flight(small: Gateway, quiet: World) -> None:
    """A stream that began with the old key goes on to its end."""
    future, pool = started(small, "talk", quiet, "rotate")
    small.write_key("openai", "rotated-again")
    quiet.provider.rule("openai", lambda seen: {"json": protocols.saying("openai", "ok")})
    small.await_true(lambda: uses_key(small, quiet, "rotated-again"), "the new key is used")
    quiet.provider.open("rotate")
    reply = future.result(PATIENCE)
    pool.shutdown()
    assert protocols.said("openai", protocols.join("openai", reply.body)) == WORDS


def test_reload_with_exchanges_in_flight(small: Gateway, quiet: World) -> None:
    """New requests see the new routes; a stream and a waiting answer of the old configuration end well."""
    future, pool = started(small, "talk", quiet, "reload")
    changed = copy.deepcopy(small.values["gateway"])
    changed["routes"] = [{"models": ["changed"], "targets": [{"provider": "anthropic", "model": "claude-new"}]}]
    quiet.provider.rule("anthropic", lambda seen: {"json": protocols.saying("anthropic", "from the new one")})
    small.reload(changed)
    reply = small.await_true(lambda: (found := ask(small, "changed")).status == 200 and found, "the new route is served")
    assert protocols.said("openai", reply.json) == "from the new one"
    assert quiet.provider.requests("anthropic")[-1].json["model"] == "claude-new"
    assert ask(small, "talk").status == 404
    quiet.provider.open("reload")
    old = future.result(PATIENCE)
    pool.shutdown()
    assert old.complete and protocols.said("openai", protocols.join("openai", old.body)) == WORDS


def test_failover_of_an_exchange_that_began_before_a_reload(small: Gateway, quiet: World) -> None:
    """An attempt that fails after the reload goes to the target that was planned before it."""
    both = copy.deepcopy(small.values["gateway"])
    del both["routes"][0]["onError"]
    both["routes"][0]["targets"].append({"provider": "anthropic", "model": "claude-haiku-4-5"})
    both["routes"].append({"models": ["both"], "targets": [{"provider": "openai"}]})
    small.reload(both)
    quiet.provider.rule("openai", lambda seen: {"json": protocols.saying("openai", "ok")})
    small.await_true(lambda: ask(small, "both").status == 200, "two targets are configured")
    quiet.provider.reset()
    error = protocols.error("openai", 500, "late")
    headers = {"content-type": "application/json"}
    quiet.provider.script("openai", [{"status": 500, "headers": headers, "chunks": [{"wait": "late"}, json.dumps(error)]}])
    quiet.provider.script("anthropic", [{"json": protocols.saying("anthropic", "as planned")}])
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(ask, small, "talk")
        quiet.provider.wait_for(1, "openai")
        small.reload({**both, "routes": [{"models": ["gone"], "targets": [{"provider": "openai"}]}]})
        small.await_true(lambda: ask(small, "both").status == 404, "the route is gone")
        quiet.provider.open("late")
        reply = future.result(PATIENCE)
    assert protocols.said("openai", reply.json) == "as planned"
    assert reply.headers["x-attache-attempts"] == "2"


def test_bad_configuration_is_refused_whole(small: Gateway, quiet: World) -> None:
    """Every fault is in the log with its path and a hint, and the configuration in force stays."""
    quiet.provider.rule("openai", lambda seen: {"json": protocols.saying("openai", "still here")})
    log, bad = small.log_size(), copy.deepcopy(small.values["gateway"])
    bad["routes"][0]["targets"][0]["provider"] = "opnai"
    bad["routes"][1]["firstToken"] = "60"
    bad["routes"].append({"models": ["new"], "targets": [{"provider": "openai"}]})
    bad["providers"][1]["credentials"] = "borrow"
    small.reload(bad)
    told = small.await_true(lambda: "faults" in (text := small.tail(log)) and text, "the faults are logged")
    for place in ("routes[0].targets[0].provider", "routes[1].firstToken", "providers[1].credentials"):
        assert place in told, f"{place} is not in the log:\n{told}"
    assert "did you mean `openai`" in told
    assert "secret-of-" not in told
    assert protocols.said("openai", ask(small, "talk").json) == "still here"
    assert ask(small, "new").status == 404


@pytest.mark.parametrize("text", ["{}", '{"providers": 5}', '{"providers": [], "routes": [], "unknown": 1}'])
def test_other_bad_configurations(text: str, small: Gateway, quiet: World) -> None:
    """A wrong shape, too, leaves the configuration in force and the VM alive."""
    quiet.provider.rule("openai", lambda seen: {"json": protocols.saying("openai", "still here")})
    log = small.log_size()
    small.reload(json.loads(text))
    small.await_true(lambda: "config:" in small.tail(log), "the fault is logged")
    assert protocols.said("openai", ask(small, "talk").json) == "still here"


@pytest.mark.parametrize("client", protocols.PROTOCOLS)
def test_64_streams_at_once(client: str, quiet: World) -> None:
    """64 streams, all open at the same time, to all three providers; each gets its own words."""
    gateway, count = quiet.gateway("default"), 64
    log = gateway.log_size()

    def rule(protocol: str) -> Any:
        def answer(seen: Any) -> dict[str, Any]:
            number = "".join(c for c in seen.body.decode().split("number ")[1][:3] if c.isdigit())
            events = protocols.split(protocol, protocols.saying(protocol, f"You are number {number}, certainly"))
            return {"chunks": [*events[:-2], {"wait": "all"}, *events[-2:]]}
        return answer

    for protocol in protocols.PROTOCOLS:
        quiet.provider.rule(protocol, rule(protocol))

    def one(number: int) -> Reply:
        target = protocols.PROTOCOLS[number % 3]
        members = protocols.minimal(client, f"I am number {number}.")
        request = cases.request_of({"protocol": client, "model": f"to-{target}", "stream": True, "members": members})
        return gateway.send(request.method, request.path, request.headers, request.body)

    with ThreadPoolExecutor(count) as pool:
        futures = [pool.submit(one, number) for number in range(count)]
        quiet.provider.wait_for(count)
        quiet.provider.open("all")
        for number, future in enumerate(futures):
            reply = future.result(PATIENCE)
            assert reply.complete and protocols.said(client, protocols.join(client, reply.body)) == f"You are number {number}, certainly"
    gateway.check_alive(log)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("client", protocols.PROTOCOLS)
def test_http2_client(client: str, stream: bool, quiet: World) -> None:
    """HTTP/2 with a body in many frames, two exchanges on one connection."""
    gateway = quiet.gateway("default")
    quiet.provider.script("anthropic", [cases.answer_of({"say": "By HTTP/2"}, "anthropic", stream)] * 2)
    request = cases.request_of({"protocol": client, "model": "to-anthropic", "stream": stream, "members": protocols.minimal(client, "x" * 200_000)})
    headers = {name: value for name, value in request.headers.items() if name != "host"}
    with httpx.Client(http1=False, http2=True, base_url=f"http://127.0.0.1:{gateway.port}", timeout=PATIENCE) as connection:
        for _ in range(2):
            answer = connection.post(request.path, headers=headers, content=request.body)
            assert answer.http_version == "HTTP/2" and answer.status_code == 200, answer.text
            whole = protocols.join(client, answer.content) if stream else answer.json()
            assert protocols.said(client, whole) == "By HTTP/2"


@pytest.mark.parametrize("model", ["to-openai", "to-anthropic"])
def test_http2_request_with_trailers(model: str, quiet: World) -> None:
    """A request that ends with trailers has no last piece of body, and is rewritten for its provider all the same."""
    gateway, name = quiet.gateway("default"), model.removeprefix("to-")
    quiet.provider.script(name, [{"json": protocols.saying(name, "as ever")}])
    request = cases.request_of({"model": model, "members": protocols.minimal("openai", "Hello")})
    client = h2.connection.H2Connection()
    client.initiate_connection()
    headers = [(":method", "POST"), (":path", request.path), (":scheme", "http"), (":authority", "gateway")]
    client.send_headers(1, headers + [("content-type", "application/json")])
    client.send_data(1, request.body)
    client.send_headers(1, [("x-checksum", "1")], end_stream=True)
    body, ended = b"", False
    with socket.create_connection(("127.0.0.1", gateway.port), PATIENCE) as connection:
        while not ended:
            connection.sendall(client.data_to_send())
            data = connection.recv(1 << 16)
            assert data, "the gateway hung up"
            for event in client.receive_data(data):
                body += event.data if isinstance(event, h2.events.DataReceived) else b""
                ended = ended or isinstance(event, (h2.events.StreamEnded, h2.events.StreamReset))
    assert protocols.said("openai", json.loads(body)) == "as ever"
    sent = quiet.provider.requests(name)[0]
    assert sent.json["model"] in ("gpt-4o-mini", "claude-haiku-4-5")
    assert int(sent.header("content-length")) == len(sent.body)


def test_connection_is_kept(quiet: World) -> None:
    """One HTTP/1.1 connection carries an answer, an error and an answer again."""
    gateway = quiet.gateway("default")
    quiet.provider.rule("openai", lambda seen: {"json": protocols.saying("openai", "kept")})
    with httpx.Client(base_url=f"http://127.0.0.1:{gateway.port}", timeout=PATIENCE) as connection:
        body = {"model": "to-openai", **protocols.minimal("openai", "Hello")}
        statuses = [connection.post("/v1/chat/completions", json=one).status_code for one in (body, {"model": 5}, body)]
    assert statuses == [200, 400, 200]


def counted(gateway: Gateway) -> Counter:
    """What every counter of the filter stands at, under its name with labels."""
    found = gateway.stats("^wasmcustom")
    return Counter({name.removeprefix("wasmcustom."): value for name, value in found.items() if value})


def test_metrics_count_attempts(quiet: World) -> None:
    """Each attempt counts once, under its own class; Prometheus sees provider, model and class as labels."""
    gateway = quiet.gateway("default")
    quiet.provider.script("openai", [cases.answer_of({"fail": 500}, "openai", False)])
    quiet.provider.script("anthropic", [cases.answer_of({"say": "counted"}, "anthropic", False)])
    before = counted(gateway)
    assert ask(gateway, "openai-then-anthropic").status == 200
    assert {name: by for name, by in (counted(gateway) - before).items() if "attempts" in name} == {
        "attache_attempts;provider=openai;model=gpt-4o-mini;class=server_error": 1,
        "attache_attempts;provider=anthropic;model=claude-haiku-4-5;class=ok": 1,
    }
    url = f"http://127.0.0.1:{gateway.admin}/stats/prometheus?filter=attache"
    text = httpx.get(url, timeout=PATIENCE).text
    lines = [line for line in text.splitlines() if "attache_attempts" in line and 'provider="anthropic"' in line]
    assert any('class="ok"' in line and 'model="claude-haiku-4-5"' in line for line in lines), text


def test_metrics_count_what_a_translation_dropped(quiet: World) -> None:
    """Two members without a place at Anthropic count as two; a provider of the client's own protocol loses nothing."""
    gateway = quiet.gateway("default")
    body = {"messages": [{"role": "user", "content": "Hi"}], "seed": 3, "frequency_penalty": 0.5}
    before = counted(gateway)
    for provider in ("anthropic", "openai"):
        quiet.provider.script(provider, [cases.answer_of({"say": "Hello"}, provider, False)])
        url = f"http://127.0.0.1:{gateway.port}/v1/chat/completions"
        assert httpx.post(url, json=body | {"model": f"to-{provider}"}, timeout=PATIENCE).status_code == 200
    lost = {name: by for name, by in (counted(gateway) - before).items() if "lost" in name}
    assert lost == {"attache_lost;client=openai-chat;provider=anthropic": 2}


@pytest.mark.parametrize("tail, until, ends", [
    ([{"stall": True}], "It", "cancelled"),
    ([{"reset": True}], None, "truncated"),
    (["data: {\"id\""], None, "truncated"),
    (["data: {x}\n\n"], None, "malformed_answer"),
    (["data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n", {"stall": True}], "[DONE]", "ok"),
], ids=["client-leaves", "provider-resets", "cut-inside-event", "unreadable", "client-leaves-after-the-end"])
def test_metrics_tell_who_ended_a_stream(tail: list[Any], until: str | None, ends: str, quiet: World) -> None:
    """A client's hang-up is not the provider's fault, a provider's cut is, and an answer that is all there is one."""
    gateway = quiet.gateway("default")
    begun = protocols.split("openai", protocols.saying("openai", "It begins well"))[:3]
    quiet.provider.script("openai", [{"chunks": [*begun, {"delay": 0.05}, *tail]}])
    before = counted(gateway)
    ask(gateway, "to-openai", True, lambda reply: until is None or until.encode() not in reply.body)
    name = "attache_attempts;provider=openai;model=gpt-4o-mini;class="
    found = gateway.await_true(lambda: [one for one in counted(gateway) - before if one.startswith(name)], "the attempt is counted")
    assert found == [name + ends]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_48_failovers_at_once(stream: bool, quiet: World) -> None:
    """48 exchanges whose first target fails at the same moment; each gets its answer from its second."""
    gateway, count = quiet.gateway("default"), 48
    log, error = gateway.log_size(), protocols.error("openai", 500, "all at once")
    failing = {"status": 500, "headers": {"content-type": "application/json"}, "chunks": [{"wait": "fail"}, json.dumps(error)]}
    quiet.provider.rule("openai", lambda seen: failing)
    quiet.provider.rule("gemini", lambda seen: cases.answer_of({"say": seen.json["contents"][0]["parts"][0]["text"]}, "gemini", stream))

    def one(number: int) -> Reply:
        members = protocols.minimal("openai", f"I am {number}")
        request = cases.request_of({"model": "openai-then-gemini", "stream": stream, "members": members})
        return gateway.send(request.method, request.path, request.headers, request.body)

    with ThreadPoolExecutor(count) as pool:
        futures = [pool.submit(one, number) for number in range(count)]
        quiet.provider.wait_for(count, "openai")
        quiet.provider.open("fail")
        for number, future in enumerate(futures):
            reply = future.result(PATIENCE)
            answer = protocols.join("openai", reply.body) if stream else reply.json
            assert protocols.said("openai", answer) == f"I am {number}" and reply.headers["x-attache-attempts"] == "2"
    gateway.check_alive(log)


def raw(gateway: Gateway, model: str, stream: bool = False) -> tuple[socket.socket, bytes, bytes]:
    """A connection, and a request's head and body, to be sent as a test likes."""
    request = cases.request_of({"model": model, "stream": stream})
    assert isinstance(request.body, bytes)
    lines = [f"POST {request.path} HTTP/1.1", *(f"{name}: {value}" for name, value in request.headers.items())]
    head = "\r\n".join([*lines, f"content-length: {len(request.body)}", "\r\n"]).encode()
    return socket.create_connection(("127.0.0.1", gateway.port), PATIENCE), head, request.body


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_client_leaves_before_the_answer(stream: bool, quiet: World) -> None:
    """A client that hangs up while it waits ends the provider's connection, and no other target is tried."""
    gateway = quiet.gateway("default")
    log = gateway.log_size()
    quiet.provider.script("openai", [{"fault": "stall"}])
    connection, head, body = raw(gateway, "openai-then-gemini", stream)
    connection.sendall(head + body)
    seen = quiet.provider.wait_for(1, "openai")[0]
    connection.close()
    assert seen.hung_up.wait(PATIENCE)
    assert quiet.provider.requests("gemini") == []
    gateway.check_alive(log)


def test_request_that_never_ends(quiet: World) -> None:
    """Half a body and a hang-up: nothing reaches a provider, and the next exchange goes well."""
    gateway = quiet.gateway("default")
    log = gateway.log_size()
    connection, head, body = raw(gateway, "to-openai")
    connection.sendall(head + body[:20])
    connection.close()
    quiet.provider.script("openai", [cases.answer_of({"say": "well"}, "openai", False)])
    assert protocols.said("openai", ask(gateway, "to-openai").json) == "well"
    assert len(quiet.provider.requests()) == 1
    gateway.check_alive(log)


def test_request_that_comes_no_further(quiet: World) -> None:
    """A body may pause, but not for ever. The client is told why, as its library would try again otherwise."""
    values = quiet.values("default") | {"queueLimitSeconds": 1}
    with Gateway(quiet.folder / "pausing", values, {}) as gateway:
        resume = threading.Event()

        def body() -> Iterator[bytes]:
            yield b'{"model": "to-openai", '
            resume.wait(PATIENCE)

        threading.Timer(9, resume.set).start()
        reply = gateway.send("POST", "/v1/messages", {}, body())
        assert reply.status == 408 and reply.headers["x-attache-attempts"] == "0", reply
        assert "body came no further" in protocols.read_error("anthropic", reply.json)["message"]


def test_expect_continue(quiet: World) -> None:
    """A client that waits for `100 Continue` before it sends the body (curl does for large ones) gets it, and its answer."""
    gateway = quiet.gateway("default")
    quiet.provider.script("anthropic", [cases.answer_of({"say": "continued"}, "anthropic", False)])
    connection, head, body = raw(gateway, "to-anthropic")
    with connection, connection.makefile("rb") as reader:
        connection.sendall(head[:-2] + b"expect: 100-continue\r\n\r\n")
        assert reader.readline().startswith(b"HTTP/1.1 100")
        assert reader.readline() == b"\r\n"
        connection.sendall(body)
        assert reader.readline().startswith(b"HTTP/1.1 200")
    assert quiet.provider.requests("anthropic")[0].header("expect") is None


def test_key_file_with_a_newline(small: Gateway, quiet: World) -> None:
    """`echo key > file` ends the file with a newline; the key is the key all the same."""
    quiet.provider.rule("openai", lambda seen: {"json": protocols.saying("openai", "ok")})
    small.write_key("openai", "with-newline\n")

    def rotated() -> bool:
        reply = ask(small, "talk")
        assert reply.status == 200, reply.body
        return "with-newline" in quiet.provider.requests("openai")[-1].header("authorization")

    small.await_true(rotated, "the new key is used")
    assert quiet.provider.requests("openai")[-1].header("authorization") == "Bearer with-newline"


def test_provider_without_a_key_file(world: World, quiet: World) -> None:
    """Without its key file a provider gets no key at all: not the client's, not another provider's."""
    gateway = world.fresh("small", "small-without-a-key")
    (gateway.keys / "openai").unlink()
    quiet.provider.rule("openai", lambda seen: {"json": protocols.saying("openai", "ok")})
    quiet.provider.rule("anthropic", lambda seen: {"json": protocols.saying("anthropic", "ok")})
    gateway.concurrency = 1
    with gateway:
        assert ask(gateway, "other").status == 200
        assert quiet.provider.requests("anthropic")[0].header("x-api-key") == "secret-of-anthropic"
        ask(gateway, "talk")
        for seen in quiet.provider.requests("openai"):
            assert not [value for _, value in seen.headers if "secret-of-" in value], seen.headers
        gateway.write_key("openai", "given-later")
        gateway.await_true(lambda: uses_key(gateway, quiet, "given-later"), "the key given later is used")
