"""openai, @anthropic-ai/sdk and @google/genai (Node), unmodified: chat, streams, tools, typed errors, streams that are stopped."""

from pathlib import Path
from typing import Iterator

import pytest

from harness import ROOT
from sdk_program import CALLED, RESULT, SDKS, TOOL, Asking, Program, check_answer, check_stopped
from sdk_shared import BREAKS, Behind

PACKAGES = ROOT / ".attache/node-sdks"
# What a program would catch. Google's has one class for everything.
CLASSES = {
    400: "BadRequestError", 401: "AuthenticationError", 403: "PermissionDeniedError", 404: "NotFoundError",
    429: "RateLimitError", 500: "InternalServerError", 503: "InternalServerError",
}
ANY = {"openai": "APIError", "anthropic": "APIError", "gemini": "ApiError"}


@pytest.fixture(scope="module")
def program() -> Iterator[Program]:
    with Program(["node", str(Path(__file__).with_name("node") / "ask.cjs"), str(PACKAGES)]) as program:
        yield program


@pytest.fixture(params=SDKS)
def asking(program: Program, request: pytest.FixtureRequest) -> Asking:
    return Asking(program, request.param)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_answer(stream: bool, asking: Asking, behind: Behind) -> None:
    check_answer(asking, behind, stream)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_tools_round_trip(stream: bool, asking: Asking, behind: Behind) -> None:
    answer = asking.says(behind, stream=stream, tool=TOOL, result=RESULT)
    assert answer["call"] == {"name": "weather", "arguments": {"city": "demo", "days": 7}}
    assert answer["finish"] == CALLED[asking.sdk] and RESULT in answer["after"]
    assert len(behind.results()) == 1 and RESULT in behind.results()[0]


@pytest.mark.parametrize("status", CLASSES)
def test_error(status: int, asking: Asking, behind: Behind) -> None:
    behind.fails(status, "in the provider's words")
    error = asking.fails(behind, stream=False)
    assert error["status"] == status and "in the provider's words" in error["message"]
    assert (ANY["gemini"] if asking.sdk == "gemini" else CLASSES[status]) in error["kinds"]


def test_error_of_the_gateway(asking: Asking, behind: Behind) -> None:
    error = asking.fails(behind, model="no-such-model", stream=False)
    assert error["status"] == 404 and "no-such-model" in error["message"] and ANY[asking.sdk] in error["kinds"]
    assert behind.seen() == []


def test_error_inside_a_stream(asking: Asking, behind: Behind) -> None:
    behind.fails_inside("too much just now")
    error = asking.fails(behind, stream=True)
    assert ANY[asking.sdk] in error["kinds"] and "too much just now" in error["message"]


@pytest.mark.parametrize("how", BREAKS)
def test_stream_that_breaks_off(how: str, asking: Asking, behind: Behind) -> None:
    behind.breaks_off(how)
    error = asking.fails(behind, stream=True)
    # What is told is the SDK's own error; of a connection that broke off Node says this.
    assert ANY[asking.sdk] in error["kinds"] or error["message"] == "terminated"


def test_stream_that_is_stopped_at_its_budget(asking: Asking, budgeted: Behind) -> None:
    error = check_stopped(asking, budgeted)
    if asking.sdk == "gemini":
        assert "ApiError" in error["kinds"] and "retryDelay" in error["message"]
    else:
        assert "RateLimitError" in error["kinds"] and int(error["retryAfter"]) > 0
