"""What each kind of token costs, as each provider tells it: for clients of every protocol, whole and streaming."""

from typing import Any, Iterator

import pytest

import protocols
from harness import Gateway
from test_budgets import PAIRS, answered, ask, capped, remaining, team
from world import World

LIMIT = 0.01
# 1000 tokens of a prompt, 600 of them from a cache, and 200 of an answer.
USAGE: dict[str, dict[str, Any]] = {
    "openai": {"usage": {"prompt_tokens": 1000, "completion_tokens": 200, "total_tokens": 1200, "prompt_tokens_details": {"cached_tokens": 600},
                         "completion_tokens_details": {"reasoning_tokens": 50}}},
    "anthropic": {"usage": {"input_tokens": 100, "cache_creation_input_tokens": 300, "cache_read_input_tokens": 600,
                            "cache_creation": {"ephemeral_5m_input_tokens": 200, "ephemeral_1h_input_tokens": 100}, "output_tokens": 200}},
    "gemini": {"usageMetadata": {"promptTokenCount": 1000, "cachedContentTokenCount": 600, "candidatesTokenCount": 150, "thoughtsTokenCount": 50,
                                 "totalTokenCount": 1200, "promptTokensDetails": [{"modality": "AUDIO", "tokenCount": 40}, {"modality": "TEXT", "tokenCount": 960}]}},
}
# gpt-4o-mini, claude-haiku-4-5 and gemini-2.5-flash, in dollars for a million tokens (catalogue.json).
COST = {
    "openai": 400 * 0.15 + 600 * 0.075 + 200 * 0.6,
    "anthropic": 100 * 1 + 200 * 1.25 + 100 * 2 + 600 * 0.1 + 200 * 5,
    "gemini": 360 * 0.3 + 40 * 1 + 600 * 0.03 + 200 * 2.5,
}


@pytest.fixture(scope="module")
def budgets(world: World) -> Iterator[Gateway]:
    with world.fresh("budgets", "budgets-for-prices") as gateway:
        yield gateway


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("client, provider", PAIRS)
def test_each_kind_of_token_has_its_price(client: str, provider: str, stream: bool, budgets: Gateway, quiet: World) -> None:
    for name in protocols.PROTOCOLS:
        quiet.provider.rule(name, lambda seen, name=name: answered(name, seen))
    mine, answer = team(), protocols.saying(provider, "One two three") | USAGE[provider]
    quiet.provider.script(provider, [{"chunks": protocols.split(provider, answer)} if stream else {"json": answer}])
    reply = ask(budgets, f"to-{provider}", "dollars", mine, client, stream, members=capped(client, 300))
    assert reply.status == 200 and reply.complete
    left = lambda team_: remaining(ask(budgets, f"to-{provider}", "dollars", team_, members=capped("openai", 1)), "usd")  # noqa: E731
    # What the look holds for itself is off both.
    assert round(left(team()) - left(mine), 12) == round(COST[provider] / 1e6, 12)
