"""Node's, Go's and Java's official SDKs, unmodified: answers, streams, tools, typed errors, streams that break off or are stopped."""

from typing import Iterator

import pytest

from sdk_program import LANGUAGES, SDKS, STATUSES, Asking, Program
from sdk_shared import BREAKS, Behind, limited, weather_schema

TOOL = {"name": "weather", "description": "The weather", "parameters": weather_schema()}
RESULT = "snow at last"
# How each names what ended an answer.
COMPLETE = {"openai": "stop", "anthropic": "end_turn", "gemini": "STOP"}
LENGTH = {"openai": "length", "anthropic": "max_tokens", "gemini": "MAX_TOKENS"}
CALLED = {"openai": "tool_calls", "anthropic": "tool_use", "gemini": "STOP"}


@pytest.fixture(scope="module", params=LANGUAGES)
def program(request: pytest.FixtureRequest) -> Iterator[Program]:
    with Program(LANGUAGES[request.param]) as program:
        yield program


@pytest.fixture(params=SDKS)
def asking(program: Program, request: pytest.FixtureRequest) -> Asking:
    return Asking(program, request.param)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_answer(stream: bool, asking: Asking, behind: Behind) -> None:
    answer = asking.says(behind, stream=stream)
    assert answer["text"].startswith(behind.sentence) and answer["text"].endswith("Hi there")
    assert answer["finish"] == COMPLETE[asking.sdk] and answer["output"] == 12
    assert answer["pieces"] > 5 if stream else answer["pieces"] == 0


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_tools_round_trip(stream: bool, asking: Asking, behind: Behind) -> None:
    answer = asking.says(behind, stream=stream, tool=TOOL, result=RESULT)
    assert answer["call"] == {"name": "weather", "arguments": {"city": "demo", "days": 7}}
    assert answer["finish"] == CALLED[asking.sdk] and RESULT in answer["after"]
    assert len(behind.results()) == 1 and RESULT in behind.results()[0]


@pytest.mark.parametrize("status", STATUSES)
def test_error(status: int, asking: Asking, behind: Behind) -> None:
    behind.fails(status, "in the provider's words")
    error = asking.fails(behind, stream=False)
    assert error["status"] == status and "in the provider's words" in error["message"]
    assert asking.language.kind(asking.sdk, status) in error["kinds"]


def test_error_of_the_gateway(asking: Asking, behind: Behind) -> None:
    error = asking.fails(behind, model="no-such-model", stream=False)
    assert error["status"] == 404 and "no-such-model" in error["message"] and asking.language.kind(asking.sdk, 404) in error["kinds"]
    assert behind.seen() == []


def test_error_inside_a_stream(asking: Asking, behind: Behind) -> None:
    behind.fails_inside("too much just now")
    error = asking.fails(behind, stream=True)
    assert asking.is_told(error) and "too much just now" in error["message"], error


@pytest.mark.parametrize("how", BREAKS)
def test_stream_that_breaks_off(how: str, asking: Asking, behind: Behind) -> None:
    behind.breaks_off(how)
    error = asking.fails(behind, stream=True)
    assert asking.is_told(error), error


def test_stream_that_is_stopped_at_its_budget(asking: Asking, budgeted: Behind) -> None:
    """It is a complete answer that ended at a length; the request that follows is refused."""
    headers = limited()
    answer = asking.says(budgeted, stream=True, headers=headers)
    assert answer["text"].startswith("It begins well")
    assert answer["finish"] == LENGTH[asking.sdk] and answer["output"] >= 50
    error = asking.fails(budgeted, stream=False, headers=headers)
    assert error["status"] == 429 and "budget `brief`" in error["message"]
    assert asking.language.kind(asking.sdk, 429) in error["kinds"]
    if asking.sdk not in asking.language.tells_no_wait:
        assert "retryDelay" in error["message"] if asking.sdk == "gemini" else int(error["retryAfter"]) > 0
