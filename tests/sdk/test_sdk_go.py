"""openai-go, anthropic-sdk-go and google.golang.org/genai, unmodified: answers, streams, and streams that are stopped."""

from typing import Iterator

import pytest

from harness import ROOT
from sdk_program import SDKS, Asking, Program, check_answer, check_stopped
from sdk_shared import Behind

OWN = {"openai": "openai.Error", "anthropic": "anthropic.Error", "gemini": "genai.APIError"}


@pytest.fixture(scope="module")
def program() -> Iterator[Program]:
    with Program([str(ROOT / ".attache/go-sdks")]) as program:
        yield program


@pytest.fixture(params=SDKS)
def asking(program: Program, request: pytest.FixtureRequest) -> Asking:
    return Asking(program, request.param)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_answer(stream: bool, asking: Asking, behind: Behind) -> None:
    check_answer(asking, behind, stream)


def test_stream_that_is_stopped_at_its_budget(asking: Asking, budgeted: Behind) -> None:
    error = check_stopped(asking, budgeted)
    assert error["kinds"] == [OWN[asking.sdk]]
    assert asking.sdk == "gemini" or int(error["retryAfter"]) > 0
