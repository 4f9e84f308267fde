"""The official SDKs of other languages: for each language a program, which is asked by lines of JSON, and what its SDKs throw."""

import json
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import ROOT
from sdk_shared import Behind

HERE = Path(__file__).parent
SDKS = ["openai", "anthropic", "gemini"]
STATUSES = [400, 401, 403, 404, 429, 500, 503]


@dataclass
class Language:
    """How its program is started, and by which class a program in it would catch an error of each SDK: any, and one of a status."""

    command: list[str]
    any: dict[str, str]
    of_status: dict[str, dict[int, str]]
    # What it says of a stream that fails where that is not one of those classes: another class, or a message's pattern.
    failing: list[str]
    # Whose errors bring, of a wait that the gateway asks for, neither the header nor the detail.
    tells_no_wait: list[str]

    def kind(self, sdk: str, status: int) -> str:
        return self.of_status.get(sdk, {}).get(status, self.any[sdk])


NODE = dict(zip(STATUSES, [
    "BadRequestError", "AuthenticationError", "PermissionDeniedError", "NotFoundError", "RateLimitError", "InternalServerError", "InternalServerError",
]))
JAVA = dict(zip(STATUSES, [
    "BadRequestException", "UnauthorizedException", "PermissionDeniedException", "NotFoundException", "RateLimitException",
    "InternalServerException", "InternalServerException",
]))
JAVA_GEMINI = {status: "ClientException" if status < 500 else "ServerException" for status in STATUSES}
JAVA_CLASSPATH = f"{ROOT / '.attache/java-sdks/target/classes'}:{ROOT / '.attache/java-sdks/lib'}/*"

LANGUAGES = {
    # openai, @anthropic-ai/sdk, @google/genai: Google's has one class for everything.
    "node": Language(
        ["node", str(HERE / "node/ask.cjs"), str(ROOT / ".attache/node-sdks")],
        {"openai": "APIError", "anthropic": "APIError", "gemini": "ApiError"},
        {"openai": NODE, "anthropic": NODE},
        failing=["terminated"], tells_no_wait=[],
    ),
    # openai-go, anthropic-sdk-go, google.golang.org/genai: one class each, which openai-go's errors inside a stream are not of.
    "go": Language(
        [str(ROOT / ".attache/go-sdks")],
        {"openai": "openai.Error", "anthropic": "anthropic.Error", "gemini": "genai.APIError"},
        {},
        failing=["unexpected EOF", "received error while streaming: .*"], tells_no_wait=[],
    ),
    # com.openai:openai-java, com.anthropic:anthropic-java, com.google.genai:google-genai.
    "java": Language(
        ["java", "-cp", JAVA_CLASSPATH, "Sdks"],
        {"openai": "OpenAIException", "anthropic": "AnthropicException", "gemini": "ApiException"},
        {"openai": JAVA, "anthropic": JAVA, "gemini": JAVA_GEMINI},
        failing=["GenAiIOException"], tells_no_wait=["gemini"],
    ),
}


class Program:
    """One process for all the tests of a language; as a context manager."""

    def __init__(self, language: Language):
        self.language = language
        self.process = subprocess.Popen(language.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)

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

    @property
    def language(self) -> Language:
        return self.program.language

    def says(self, behind: Behind, **what: Any) -> dict[str, Any]:
        answer = self.program.ask(**self.words(behind, what))
        assert "error" not in answer, answer
        return answer

    def fails(self, behind: Behind, **what: Any) -> dict[str, Any]:
        answer = self.program.ask(**self.words(behind, what))
        assert "error" in answer, answer
        return answer["error"]

    def is_told(self, error: dict[str, Any]) -> bool:
        """The SDK, or its HTTP library, says that a stream failed."""
        said = [*error["kinds"], error["message"]]
        return self.language.any[self.sdk] in said or any(re.fullmatch(pattern, word) for pattern in self.language.failing for word in said)

    def words(self, behind: Behind, what: dict[str, Any]) -> dict[str, Any]:
        return {"sdk": self.sdk, "url": behind.url, "model": behind.model, **what}
