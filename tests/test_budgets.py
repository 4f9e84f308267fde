"""Budgets through a real Envoy: what clients of each protocol are told, what providers are asked, what is charged."""

import http.client
import itertools
import json
import threading
import time
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Callable, Iterator

import httpx
import pytest

import cases
import protocols
from harness import PATIENCE, Gateway, Reply
from provider import Seen, deaf_port
from world import World

LIMIT = 5000
TEAMS = itertools.count(1)
# Where each protocol's request says how long an answer may be.
LIMITS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "openai": lambda body: body.get("max_completion_tokens"),
    "anthropic": lambda body: body.get("max_tokens"),
    "gemini": lambda body: body.get("generationConfig", {}).get("maxOutputTokens"),
}
PAIRS = [(client, provider) for client in protocols.PROTOCOLS for provider in protocols.PROTOCOLS]


@pytest.fixture(scope="module")
def budgets(world: World) -> Iterator[Gateway]:
    gateway, (silent, deaf) = world.fresh("budgets", "budgets-of-its-own"), deaf_port()
    # A provider that cannot be reached: neither connected nor refused.
    settings = gateway.values["gateway"]
    settings["providers"].append({"name": "deaf", "provider": "openai", "origin": f"http://127.0.0.1:{deaf}"})
    settings["routes"].append({"models": ["to-deaf"], "targets": [{"provider": "deaf", "model": "gpt-4o-mini"}]})
    with gateway:
        yield gateway
    for sock in silent:
        sock.close()


@pytest.fixture
def gateway(budgets: Gateway, quiet: World) -> Iterator[Gateway]:
    log = budgets.log_size()
    for name in protocols.PROTOCOLS:
        quiet.provider.rule(name, lambda seen, name=name: answered(name, seen))
    yield budgets
    budgets.check_alive(log)


def answered(protocol: str, seen: Seen, text: str = "One two three") -> dict[str, Any]:
    """A good answer, whole or streamed as the request asks."""
    whole = protocols.saying(protocol, text)
    streams = "streamGenerateContent" in seen.path or (protocol != "gemini" and seen.json.get("stream"))
    return {"chunks": protocols.split(protocol, whole)} if streams else {"json": whole}


def team() -> str:
    return f"team-{next(TEAMS)}"


def ask(gateway: Gateway, model: str, policy: str, team: str, protocol: str = "openai", stream: bool = False,
        members: dict[str, Any] | None = None, watch: Any = None, text: str = "Hello") -> Reply:
    request = cases.request_of({"protocol": protocol, "model": model, "stream": stream,
                                "members": protocols.minimal(protocol, text) | (members or {}),
                                "headers": {"x-team": team, "x-policy": policy}})
    return gateway.send(request.method, request.path, request.headers, request.body, watch)


def under_way(gateway: Gateway, quiet: World, pool: ThreadPoolExecutor, gate: str, team: str, *, protocol: str = "openai", model: str = "queued",
              policy: str = "at-once", members: dict[str, Any] | None = None, usage: dict[str, Any] | None = None,
              then: list[dict[str, Any]] | None = None) -> "Future[Reply]":
    """A stream that has begun, and holds what it holds until the gate opens. `then`: what else the provider answers."""
    begun = threading.Event()
    events = protocols.split("openai", protocols.saying("openai", "One two") | (usage or {}))
    quiet.provider.script("openai", [{"chunks": [*events[:3], {"wait": gate}, *events[3:]]}, *(then or [])])
    first = pool.submit(ask, gateway, model, policy, team, protocol, True, members, lambda _: begun.set() or True)
    assert begun.wait(PATIENCE)
    return first


def capped(protocol: str, tokens: int) -> dict[str, Any]:
    """The members that limit an answer."""
    match protocol:
        case "openai":
            return {"max_completion_tokens": tokens}
        case "anthropic":
            return {"max_tokens": tokens}
    return {"generationConfig": {"maxOutputTokens": tokens}}


def remaining(reply: Reply, unit: str = "tokens") -> float:
    return float(reply.headers[f"x-ratelimit-remaining-{unit}"])


def spent(gateway: Gateway, policy: str, team_: str, model: str = "to-openai") -> float:
    """Tokens that the team has spent: what a small request of its own sees held is taken off, as a new team's shows it."""
    members = capped("openai", 1)
    hold = LIMIT - remaining(ask(gateway, model, policy, team(), members=members))
    probe = ask(gateway, model, policy, team_, members=members)
    return LIMIT - remaining(probe) - (hold if probe.status == 200 else 0)


@pytest.mark.parametrize("protocol", protocols.PROTOCOLS)
def test_what_does_not_fit_is_refused_in_the_clients_words(protocol: str, gateway: Gateway, quiet: World) -> None:
    mine = team()
    first = ask(gateway, "to-openai", "reject", mine, protocol, members=capped(protocol, 100))
    assert first.status == 200 and first.headers["x-ratelimit-limit-tokens"] == str(LIMIT)
    assert LIMIT - 100 - 60 < remaining(first) < LIMIT - 100
    seen = len(quiet.provider.requests())
    second = ask(gateway, "to-openai", "reject", mine, protocol, members=capped(protocol, 4985))
    assert second.status == 429 and second.headers["x-attache-attempts"] == "0"
    error = protocols.read_error(protocol, second.json)
    assert "budget `rejecting`" in error["message"] and f"of {LIMIT} tokens" in error["message"], error
    assert 0 < int(second.headers["retry-after"]) <= 31 * 86400 and second.headers["x-should-retry"] == "false"
    assert second.headers["x-attache-budget"] == "rejecting;reject"
    assert len(quiet.provider.requests()) == seen, "no provider was asked"
    # What the first one did not use came back: it was charged with the 12 tokens that the provider reported.
    assert spent(gateway, "reject", mine) == 12


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("client, provider", PAIRS)
def test_an_answer_is_limited_to_what_is_left(client: str, provider: str, stream: bool, gateway: Gateway, quiet: World) -> None:
    mine = team()
    members = {} if client != "anthropic" else capped("anthropic", 16_000)
    reply = ask(gateway, f"to-{provider}", "clamp", mine, client, stream, members=members)
    assert reply.status == 200 and reply.complete
    asked = LIMITS[provider](quiet.provider.requests(provider)[-1].json)
    name, clamp = reply.headers["x-attache-budget"].split(";clamp=")
    assert name == "clamping" and asked == int(clamp), "the provider is told what is left"
    assert LIMIT - 120 < asked < LIMIT, asked
    assert remaining(reply) == 0, "all of it is held until the answer is there"
    assert spent(gateway, "clamp", mine) == 12


def test_a_shorter_wish_of_the_client_stands(gateway: Gateway, quiet: World) -> None:
    reply = ask(gateway, "to-openai", "clamp", team(), members={"max_tokens": 50})
    body = quiet.provider.requests("openai")[-1].json
    assert body["max_tokens"] == 50 and "max_completion_tokens" not in body
    assert "x-attache-budget" not in reply.headers


@pytest.mark.parametrize("protocol", protocols.PROTOCOLS)
def test_the_next_gets_what_the_first_left(protocol: str, gateway: Gateway, quiet: World) -> None:
    mine, gate = team(), f"first-{protocol}"
    with ThreadPoolExecutor(1) as pool:
        first = under_way(gateway, quiet, pool, gate, mine, protocol=protocol, model="to-openai", policy="clamp", members=capped(protocol, 3000))
        second = ask(gateway, "to-openai", "clamp", mine, protocol, members=capped(protocol, 3000))
        clamp = int(second.headers["x-attache-budget"].partition("=")[2])
        assert 1700 < clamp < 2000, clamp
        refused = ask(gateway, "to-openai", "clamp", mine, protocol, text="word " * 4000, members=capped(protocol, 3000))
        assert refused.status == 429
        quiet.provider.open(gate)
        assert first.result(PATIENCE).status == 200
    assert spent(gateway, "clamp", mine) == 24


def test_a_budget_that_watches_only_says_what_it_would_have_done(gateway: Gateway, quiet: World) -> None:
    before = counted(gateway, "watching", "shadow")
    mine = team()
    for _ in range(3):
        reply = ask(gateway, "to-openai", "shadow", mine, members=capped("openai", 8))
        assert reply.status == 200
    assert reply.headers["x-attache-budget"] == "watching;shadow"
    assert counted(gateway, "watching", "shadow") > before


def counted(gateway: Gateway, budget: str, kind: str) -> int:
    stats = gateway.stats("attache_budget")
    return sum(value for name, value in stats.items() if f"budget={budget};" in name and name.endswith(f"class={kind}"))


def test_dollars_are_exact_and_those_of_the_model_that_answered(gateway: Gateway, quiet: World) -> None:
    mine, usage = team(), {"prompt_tokens": 1000, "completion_tokens": 200, "total_tokens": 1200, "prompt_tokens_details": {"cached_tokens": 600}}
    answer = protocols.saying("openai", "x") | {"usage": usage}
    quiet.provider.script("openai", [{"json": answer}])
    assert ask(gateway, "cheap", "dollars", mine, members=capped("openai", 300)).status == 200
    # gpt-4o-mini: 0.15, 0.075 and 0.6 dollars for a million tokens (catalogue.json).
    cost = (400 * 0.15 + 600 * 0.075 + 200 * 0.6) / 1e6
    hold = 0.01 - remaining(ask(gateway, "cheap", "dollars", team(), members=capped("openai", 1)), "usd")
    left = remaining(ask(gateway, "cheap", "dollars", mine, members=capped("openai", 1)), "usd")
    assert round(0.01 - left - hold, 12) == round(cost, 12)


def test_nothing_is_free_in_silence(gateway: Gateway, quiet: World) -> None:
    refused = ask(gateway, "unpriced", "dollars", team())
    error = protocols.read_error("openai", refused.json)
    assert refused.status == 429 and error["code"] == "price_unknown" and "`my-own-model`" in error["message"], error
    assert "retry-after" not in refused.headers and refused.headers["x-should-retry"] == "false"
    reply = ask(gateway, "partly-priced", "dollars", team())
    assert reply.status == 200 and reply.headers["x-attache-model"] == "gpt-4o-mini"


def test_another_model_serves_what_does_not_fit(gateway: Gateway, quiet: World) -> None:
    mine = team()
    first = ask(gateway, "dear", "none", mine, members=capped("openai", 900))
    assert first.headers["x-attache-model"] == "gpt-4o" and "x-attache-budget" not in first.headers
    second = ask(gateway, "dear", "none", mine, members=capped("openai", 1200))
    assert second.status == 200 and second.headers["x-attache-model"] == "gpt-4o-mini"
    assert second.headers["x-attache-budget"] == "sparing;downgrade"
    assert quiet.provider.requests("openai")[-1].json["model"] == "gpt-4o-mini"


def test_a_request_waits_for_the_next_window(gateway: Gateway, quiet: World) -> None:
    mine, begin = team(), time.monotonic()
    replies = [ask(gateway, "queued", "window", mine) for _ in range(3)]
    assert [reply.status for reply in replies] == [200] * 3
    assert 2 <= time.monotonic() - begin < 8, "one in each window of two seconds"
    assert len(quiet.provider.requests("openai")) == 3


@pytest.mark.parametrize("protocol", protocols.PROTOCOLS)
def test_a_request_waits_until_another_is_over(protocol: str, gateway: Gateway, quiet: World) -> None:
    mine, gate = team(), f"at-once-{protocol}"
    with ThreadPoolExecutor(4) as pool:
        first = under_way(gateway, quiet, pool, gate, mine, protocol=protocol)
        # A body of some size: it must come through as it was, however long it waited.
        text = "0123456789" * 30_000
        others = [pool.submit(ask, gateway, "queued", "at-once", mine, protocol, False, None, None, text) for _ in range(3)]
        time.sleep(0.5)
        assert len(quiet.provider.requests("openai")) == 1 and not any(other.done() for other in others)
        quiet.provider.open(gate)
        assert first.result(PATIENCE).complete
        assert [other.result(PATIENCE).status for other in others] == [200] * 3
    sent = quiet.provider.requests("openai")[1:]
    assert len(sent) == 3 and all(text in seen.body.decode() for seen in sent)
    # No two at a time.
    spans = sorted((seen.at, seen.ended or 0) for seen in quiet.provider.requests("openai"))
    assert all(end <= begin + 0.01 for (_, end), (begin, _) in zip(spans, spans[1:])), spans


def test_many_that_wait_are_served_one_after_the_other(gateway: Gateway, quiet: World) -> None:
    """One at a time, and none waits longer than its 10 seconds."""
    mine, many, gate = team(), 250, "many"
    with ThreadPoolExecutor(many + 1) as pool:
        first = under_way(gateway, quiet, pool, gate, mine)
        waiting = counted(gateway, "at-once", "queue")
        others = [pool.submit(ask, gateway, "queued", "at-once", mine) for _ in range(many)]
        gateway.await_true(lambda: counted(gateway, "at-once", "queue") == waiting + many, "they wait")
        quiet.provider.open(gate)
        assert Counter(other.result(PATIENCE).status for other in (first, *others)) == {200: many + 1}


def test_who_waits_for_what_counts_no_tokens_is_not_counted(gateway: Gateway, quiet: World) -> None:
    """That would take a worker from all its clients: some 0.4 s for each of these."""
    mine, gate = team(), "not-counted"
    with ThreadPoolExecutor(4) as pool:
        first = under_way(gateway, quiet, pool, gate, mine)
        waiting, before = counted(gateway, "at-once", "queue"), gateway.cpu()
        others = [pool.submit(ask, gateway, "queued", "at-once", mine, text=" " * 5_000_000) for _ in range(3)]
        gateway.await_true(lambda: counted(gateway, "at-once", "queue") == waiting + 3, "they wait")
        assert gateway.cpu() - before < 0.6
        quiet.provider.open(gate)
        assert [one.result(PATIENCE).status for one in (first, *others)] == [200] * 4


def test_those_who_wait_take_no_more_memory_than_there_is_for_them(gateway: Gateway, quiet: World) -> None:
    mine, gate = team(), "large-and-waiting"
    with ThreadPoolExecutor(13) as pool:
        first = under_way(gateway, quiet, pool, gate, mine)
        others = [pool.submit(ask, gateway, "queued", "at-once", mine, text="x" * (30 << 20)) for _ in range(12)]
        # Two workers, each with room for four of them.
        gateway.await_true(lambda: sum(other.done() for other in others) >= 4, "at least four are turned away")
        turned = [other.result() for other in others if other.done()]
        assert all("too many requests wait" in protocols.read_error("openai", reply.json)["message"] for reply in turned)
        assert ask(gateway, "queued", "none", mine).status == 200, "others are served"
        quiet.provider.open(gate)
        assert first.result(PATIENCE).complete
        assert {other.result(PATIENCE).status for other in others} == {200, 429}


def test_who_hangs_up_while_waiting_leaves_nothing_behind(gateway: Gateway, quiet: World) -> None:
    mine, gate = team(), "hang-up-waiting"
    with ThreadPoolExecutor(2) as pool:
        first = under_way(gateway, quiet, pool, gate, mine)
        hang_up(gateway, "queued", "at-once", mine)
        quiet.provider.open(gate)
        first.result(PATIENCE)
    assert ask(gateway, "queued", "at-once", mine).status == 200
    assert len(quiet.provider.requests("openai")) == 2


def test_who_waits_for_one_budget_and_then_exceeds_another_is_told_so(gateway: Gateway, quiet: World) -> None:
    """The other would have another model serve it, but it is planned already."""
    mine, gate = team(), "wait-and-exceed"
    spends = lambda tokens: {"usage": {"prompt_tokens": 8, "completion_tokens": tokens, "total_tokens": 8 + tokens}}  # noqa: E731
    with ThreadPoolExecutor(2) as pool:
        then = [{"json": protocols.saying("openai", "x") | spends(400)}]
        first = under_way(gateway, quiet, pool, gate, mine, model="dear", members=capped("openai", 600), usage=spends(600), then=then)
        waiting = counted(gateway, "at-once", "queue")
        second = pool.submit(ask, gateway, "dear", "at-once", mine, members=capped("openai", 300))
        gateway.await_true(lambda: counted(gateway, "at-once", "queue") > waiting, "it waits")
        assert ask(gateway, "dear", "none", mine, members=capped("openai", 400)).headers["x-attache-model"] == "gpt-4o"
        quiet.provider.open(gate)
        assert first.result(PATIENCE).complete
        refused = second.result(PATIENCE)
    assert refused.status == 429 and refused.headers["x-attache-budget"] == "sparing;reject"


def hang_up(gateway: Gateway, model: str, policy: str, team: str, members: dict[str, Any] | None = None, after: float = 0.3) -> None:
    """Sends a request, and leaves before there is an answer."""
    request = cases.request_of({"protocol": "openai", "model": model, "headers": {"x-team": team, "x-policy": policy},
                                "members": protocols.minimal("openai", "Hello") | (members or {})})
    connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=PATIENCE)
    connection.request(request.method, request.path, request.body, request.headers)
    time.sleep(after)
    connection.close()


def test_who_leaves_between_two_attempts_holds_nothing_also_when_the_configuration_changes(gateway: Gateway, quiet: World) -> None:
    """Nobody answered, so nobody settled it: that is done a second later, by whoever is there then."""
    mine = team()
    quiet.provider.script("openai", [{"status": 503, "json": protocols.error("openai", 503, "busy")}])
    hang_up(gateway, "queued", "one-at-once", mine)
    quiet.provider.wait_for(1, "openai")
    changed = json.loads(json.dumps(gateway.values["gateway"]))
    changed["routes"].append({"models": ["something-else"], "targets": [{"provider": "openai"}]})
    gateway.reload(changed)
    gateway.await_true(lambda: ask(gateway, "something-else", "none", mine).status == 200, "the new configuration holds")
    gateway.await_true(lambda: ask(gateway, "queued", "one-at-once", mine).status == 200, "its place is free")
    gateway.reload(gateway.values["gateway"])
    gateway.await_true(lambda: ask(gateway, "something-else", "none", mine).status == 404, "the first one is back")


def test_who_hangs_up_is_charged_for_what_was_generated(gateway: Gateway, quiet: World) -> None:
    mine, words = team(), "word " * 200
    events = protocols.split("openai", protocols.saying("openai", words))
    quiet.provider.script("openai", [{"chunks": [*events[:-3], {"stall": True}]}])
    reply = ask(gateway, "to-openai", "clamp", mine, stream=True, watch=lambda reply: reply.body.count(b"word") < 100)
    assert not reply.complete
    quiet.provider.requests("openai")[-1].hung_up.wait(PATIENCE)
    generated = gateway.await_true(lambda: (found := spent(gateway, "clamp", mine)) < LIMIT / 2 and found, "it is settled")
    assert 100 <= generated <= 260, generated


def test_who_leaves_before_a_whole_answer_is_charged_for_what_was_made_meanwhile(gateway: Gateway, quiet: World) -> None:
    """Nobody sees it: as much as such a model makes in such a time, a hundred tokens a second where nothing was learned."""
    for limit, expected in ((2000, (8 + 140, 8 + 350)), (50, (58, 58))):
        mine = team()
        quiet.provider.script("openai", [{"fault": "stall"}])
        hang_up(gateway, "to-openai", "reject", mine, members=capped("openai", limit), after=1.5)
        quiet.provider.requests("openai")[-1].hung_up.wait(PATIENCE)
        made = gateway.await_true(lambda: (found := spent(gateway, "reject", mine)) < 1000 and found, "it is settled")
        assert expected[0] <= made <= expected[1], made


def test_who_leaves_before_the_provider_was_reached_is_charged_nothing(gateway: Gateway, quiet: World) -> None:
    mine = team()
    hang_up(gateway, "to-deaf", "reject", mine, members=capped("openai", 2000), after=1.0)
    # Each look is a request of its own, which is charged too.
    time.sleep(0.5)
    assert spent(gateway, "reject", mine) == 0


def test_what_no_answer_has_is_not_charged(gateway: Gateway, quiet: World) -> None:
    mine = team()
    wild = {"usage": {"prompt_tokens": 1e30, "completion_tokens": 1e30, "total_tokens": 1e30}}
    quiet.provider.script("openai", [{"json": protocols.saying("openai", " a" * 40) | wild}])
    reply = ask(gateway, "to-openai", "reject", mine, members=capped("openai", 100))
    assert reply.status == 200 and reply.json["usage"]["prompt_tokens"] == 1e30, "the client gets it as it came"
    assert spent(gateway, "reject", mine) == 8 + 40
    doubted = gateway.stats("attache_doubted")
    assert {name.rpartition("type=")[2] for name, value in doubted.items() if value and "provider=openai" in name} >= {"input", "output"}, doubted


def test_each_provider_has_its_own_account(gateway: Gateway, quiet: World) -> None:
    mine = team()
    failing = {"status": 503, "json": protocols.error("openai", 503, "busy")}
    quiet.provider.rule("openai", lambda seen: failing)
    reply = ask(gateway, "either", "each", mine, members=capped("openai", 2000))
    assert reply.status == 200 and reply.headers["x-attache-provider"] == "anthropic"
    # The one that failed holds nothing any more and was charged nothing; the one that answered was charged.
    quiet.provider.rule("openai", lambda seen: answered("openai", seen))
    again = ask(gateway, "either", "each", mine, members=capped("openai", 2000))
    assert again.headers["x-attache-provider"] == "openai" and 2900 < remaining(again) < 3000
    # Where the second one's account has no room, it is passed over.
    quiet.provider.rule("openai", lambda seen: failing)
    usage = {"usage": {"input_tokens": 5, "output_tokens": 2900}}
    quiet.provider.script("anthropic", [{"json": protocols.saying("anthropic", "x") | usage}])
    assert ask(gateway, "either", "each", mine, members=capped("openai", 2900)).headers["x-attache-provider"] == "anthropic"
    refused = ask(gateway, "either", "each", mine, members=capped("openai", 2500))
    assert refused.status == 503, "the first one's own error"
    assert refused.headers["x-attache-attempts"] == "1", "who is passed over is not asked"
    assert "anthropic;class=budget_exceeded" in refused.headers["x-attache-attempt-log"]
    assert ask(gateway, "either", "each", mine, members=capped("openai", 1500)).headers["x-attache-provider"] == "anthropic"


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_provider_whose_account_is_full_is_not_asked_first(stream: bool, gateway: Gateway, quiet: World) -> None:
    mine = team()
    usage = {"openai": {"usage": {"prompt_tokens": 5, "completion_tokens": 4800, "total_tokens": 4805}},
             "anthropic": {"usage": {"input_tokens": 5, "output_tokens": 4800}}}
    for provider in ("openai", "anthropic"):
        quiet.provider.script(provider, [{"json": protocols.saying(provider, "x") | usage[provider]}])
        assert ask(gateway, "either", "each", mine, members=capped("openai", 4800)).headers["x-attache-provider"] == provider
        if provider == "openai":
            asked = len(quiet.provider.requests("openai"))
            reply = ask(gateway, "either", "each", mine, stream=stream, members=capped("openai", 300))
            assert (reply.status, reply.headers["x-attache-provider"], reply.headers["x-attache-attempts"]) == (200, "anthropic", "1")
            assert reply.headers["x-attache-budget"] == "each-provider;pass"
            assert len(quiet.provider.requests("openai")) == asked
    refused = ask(gateway, "either", "each", mine, members=capped("openai", 400))
    assert refused.status == 429 and refused.headers["x-attache-budget"] == "each-provider;reject"
    assert refused.headers["x-attache-attempts"] == "0"


def test_a_budget_that_only_some_targets_match_refuses_all_the_same(gateway: Gateway, quiet: World) -> None:
    """`reject` is no way to have another provider spend what the budget's own may not."""
    mine = team()
    usage = {"usage": {"prompt_tokens": 5, "completion_tokens": 4950, "total_tokens": 4955}}
    quiet.provider.script("openai", [{"json": protocols.saying("openai", "x") | usage}])
    assert ask(gateway, "either", "of-openai", mine, members=capped("openai", 4800)).status == 200
    refused = ask(gateway, "either", "of-openai", mine, members=capped("openai", 300))
    assert refused.status == 429 and refused.headers["x-attache-budget"] == "of-openai;reject"


def test_a_budget_that_only_a_later_target_matches_holds_there(gateway: Gateway, quiet: World) -> None:
    mine, usage = team(), {"usage": {"input_tokens": 5, "output_tokens": 2900}}
    quiet.provider.rule("openai", lambda seen: {"status": 503, "json": protocols.error("openai", 503, "busy")})
    quiet.provider.rule("anthropic", lambda seen: {"json": protocols.saying("anthropic", "x") | usage})
    replies = [ask(gateway, "either", "of-anthropic", mine, members=capped("openai", 2900)) for _ in range(2)]
    assert [reply.status for reply in replies] == [200, 503], "the first one's own error, where the other may not be asked"
    assert "anthropic;class=budget_exceeded" in replies[1].headers["x-attache-attempt-log"]
    assert len(quiet.provider.requests("anthropic")) == 1


def test_what_only_watches_slows_no_client_down(gateway: Gateway, quiet: World) -> None:
    reply = ask(gateway, "to-openai", "shadow", team(), members=capped("openai", 100))
    assert reply.status == 200 and reply.headers["x-attache-budget"] == "watching;shadow"
    assert not [name for name in reply.headers if name.startswith("x-ratelimit")]


def test_keys_that_clients_make_up_are_bounded(gateway: Gateway, quiet: World) -> None:
    replies = [ask(gateway, "narrow", "none", team(), members={"user": f"user-{number}"}) for number in range(5)]
    assert [reply.status for reply in replies] == [200, 200, 200, 429, 429]
    assert "maxKeys" in protocols.read_error("openai", replies[3].json)["message"]
    assert ask(gateway, "narrow", "none", team(), members={"user": "user-1"}).status == 200
    assert counted(gateway, "few", "reject") == counted(gateway, "few", "full") == 2


@pytest.mark.parametrize("protocol, member", [("openai", "metadata"), ("anthropic", "metadata"), ("gemini", "labels")])
def test_a_feature_that_the_body_names(protocol: str, member: str, gateway: Gateway, quiet: World) -> None:
    mine = team()
    def feature(name: str) -> int:
        return ask(gateway, "to-openai", "feature", mine, protocol, members={member: {"feature": name}}).status

    assert [feature("search"), feature("search"), feature("chat")] == [200, 429, 200]


def test_thresholds_are_told_once(gateway: Gateway, quiet: World) -> None:
    mine, log = team(), gateway.log_size()
    answer = protocols.saying("openai", "x") | {"usage": {"prompt_tokens": 10, "completion_tokens": 1300, "total_tokens": 1310}}
    quiet.provider.rule("openai", lambda seen: {"json": answer})
    before = {part: counted(gateway, "rejecting", f"reached_{part}") for part in (50, 80, 100)}
    for _ in range(3):
        assert ask(gateway, "to-openai", "reject", mine, members=capped("openai", 1300)).status == 200
    told = {part: counted(gateway, "rejecting", f"reached_{part}") - before[part] for part in (50, 80, 100)}
    assert told == {50: 1, 80: 0, 100: 0}
    line = f"budget rejecting of {mine}: 50 % of its limit is reached"
    gateway.await_true(lambda: line in gateway.tail(log), "the log says so")
    assert gateway.tail(log).count(line) == 1


def test_budgets_outlive_a_new_configuration(gateway: Gateway, quiet: World) -> None:
    mine = team()
    ask(gateway, "to-openai", "reject", mine, members=capped("openai", 100))
    changed = json.loads(json.dumps(gateway.values["gateway"]))
    changed["budgets"][0]["limit"] = {"tokens": 3000}
    gateway.reload(changed)
    seen = lambda: ask(gateway, "to-openai", "reject", mine, members=capped("openai", 1))  # noqa: E731
    reply = gateway.await_true(lambda: (reply := seen()).headers["x-ratelimit-limit-tokens"] == "3000" and reply, "the new limit holds")
    assert remaining(reply) < 3000 - 12
    gateway.reload(gateway.values["gateway"])
    gateway.await_true(lambda: seen().headers["x-ratelimit-limit-tokens"] == str(LIMIT), "the first one is back")


@pytest.mark.parametrize("http", ["1.1", "2"])
@pytest.mark.parametrize("client, provider", PAIRS)
def test_a_stream_is_stopped_at_its_limit(client: str, provider: str, http: str, gateway: Gateway, quiet: World) -> None:
    """A provider that heeds no limit: the answer ends as one that is cut for length, complete, and the provider is left."""
    mine = team()
    words = [f"word{number} " for number in range(40)]
    # So much is spent that some 100 tokens are left, and the provider would go on for ever.
    spending = protocols.saying(provider, "x") | usage_of(provider, 4700)
    quiet.provider.script(provider, [{"json": spending}])
    assert ask(gateway, f"to-{provider}", "clamp", mine, client, members=capped(client, 4900)).status == 200
    events = protocols.split(provider, protocols.saying(provider, "".join(words)))
    begin, piece = events[: len(events) // 2], events[len(events) // 2]
    quiet.provider.script(provider, [{"chunks": [*begin, *[step for _ in range(3000) for step in (piece, {"delay": 0.002})]]}])
    request = cases.request_of({"protocol": client, "model": f"to-{provider}", "stream": True,
                                "members": protocols.minimal(client, "Hello") | capped(client, 4900),
                                "headers": {"x-team": mine, "x-policy": "clamp"}})
    with httpx.Client(http2=http == "2", http1=http == "1.1", timeout=PATIENCE) as connection:
        # It raises where the body does not end as HTTP says.
        reply = connection.post(f"http://127.0.0.1:{gateway.port}{request.path}", content=request.body, headers=request.headers)
    assert reply.status_code == 200 and reply.http_version == f"HTTP/{http}"
    answer = protocols.join(client, reply.content)
    assert finish(client, answer) == {"openai": "length", "anthropic": "max_tokens", "gemini": "MAX_TOKENS"}[client]
    assert protocols.said(client, answer).startswith("word0 ")
    assert quiet.provider.requests(provider)[-1].hung_up.wait(PATIENCE), "the provider is left"
    left = LIMIT - gateway.await_true(lambda: (found := spent(gateway, "clamp", mine)) and found, "it is settled")
    assert 0 <= left < 100, left


def usage_of(protocol: str, output: int) -> dict[str, Any]:
    match protocol:
        case "openai":
            return {"usage": {"prompt_tokens": 5, "completion_tokens": output, "total_tokens": output + 5}}
        case "anthropic":
            return {"usage": {"input_tokens": 5, "output_tokens": output}}
    return {"usageMetadata": {"promptTokenCount": 5, "candidatesTokenCount": output, "totalTokenCount": output + 5}}


def finish(protocol: str, answer: dict[str, Any]) -> str:
    match protocol:
        case "openai":
            return answer["choices"][0]["finish_reason"]
        case "anthropic":
            return answer["stop_reason"]
    return answer["candidates"][0]["finishReason"]
