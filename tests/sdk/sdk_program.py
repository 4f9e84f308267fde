"""The official SDKs of other languages: a program that is asked by lines of JSON, and what must hold of what it says."""

import json
import subprocess
from dataclasses import dataclass
from typing import Any

from sdk_shared import Behind, limited, weather_schema

TOOL = {"name": "weather", "description": "The weather", "parameters": weather_schema()}
RESULT = "snow at last"
SDKS = ["openai", "anthropic", "gemini"]
# How each names what ended an answer.
COMPLETE = {"openai": "stop", "anthropic": "end_turn", "gemini": "STOP"}
LENGTH = {"openai": "length", "anthropic": "max_tokens", "gemini": "MAX_TOKENS"}
CALLED = {"openai": "tool_calls", "anthropic": "tool_use", "gemini": "STOP"}


class Program:
    """One process for the session; as a context manager."""

    def __init__(self, command: list[str]):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)

    def __enter__(self) -> "Program":
        return self

    def __exit__(self, *_: Any) -> None:
        self.process.stdin.close()
        assert self.process.wait(10) == 0

    def ask(self, **what: Any) -> dict[str, Any]:
        self.process.stdin.write(json.dumps(what) + "\n")
        line = self.process.stdout.readline()
        assert line, f"the program ended with {self.process.wait(10)}"
        return json.loads(line)


@dataclass
class Asking:
    """One SDK of a program."""

    program: Program
    sdk: str

    def says(self, behind: Behind, **what: Any) -> dict[str, Any]:
        answer = self.program.ask(**self.words(behind, what))
        assert "error" not in answer, answer
        return answer

    def fails(self, behind: Behind, **what: Any) -> dict[str, Any]:
        answer = self.program.ask(**self.words(behind, what))
        assert "error" in answer, answer
        return answer["error"]

    def words(self, behind: Behind, what: dict[str, Any]) -> dict[str, Any]:
        return {"sdk": self.sdk, "url": behind.url, "model": behind.model, **what}


def check_answer(asking: Asking, behind: Behind, stream: bool) -> None:
    answer = asking.says(behind, stream=stream)
    assert answer["text"].startswith(behind.sentence) and answer["text"].endswith("Hi there")
    assert answer["finish"] == COMPLETE[asking.sdk] and answer["output"] == 12
    assert answer["pieces"] > 5 if stream else answer["pieces"] == 0


def check_stopped(asking: Asking, budgeted: Behind) -> dict[str, Any]:
    """A stream that is stopped at its budget is a complete answer that ended at a length. Returns the error that follows."""
    headers = limited()
    answer = asking.says(budgeted, stream=True, headers=headers)
    assert answer["text"].startswith("It begins well")
    assert answer["finish"] == LENGTH[asking.sdk] and answer["output"] >= 50
    error = asking.fails(budgeted, stream=False, headers=headers)
    assert error["status"] == 429 and "budget `brief`" in error["message"]
    return error
