"""What the tests of the SDKs share: the provider that stands behind the gateway, and a structured answer."""

import itertools
from dataclasses import dataclass
from typing import Any, TYPE_CHECKING

import httpx
import httpx2
from pydantic import BaseModel

import demo
import protocols
from harness import Gateway
from provider import Seen

if TYPE_CHECKING:
    from world import World


@dataclass
class Behind:
    """The gateway's address and the one provider that stands behind it in this test."""

    provider: str
    gateway: Gateway
    world: "World"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.gateway.port}"

    @property
    def model(self) -> str:
        return f"to-{self.provider}"

    @property
    def sentence(self) -> str:
        """How the demo provider's answers begin."""
        name = {"openai": "OpenAI", "anthropic": "Anthropic", "gemini": "Gemini"}[self.provider]
        return f"Hello from the {name} demo provider"

    def seen(self) -> list[Seen]:
        return self.world.provider.requests(self.provider)

    def fails(self, status: int, message: str) -> None:
        answer = {"status": status, "json": protocols.error(self.provider, status, message)}
        self.world.provider.rule(self.provider, lambda seen: answer)

    def fails_inside(self, message: str) -> None:
        """The stream begins well and then tells an error."""
        events = protocols.split(self.provider, protocols.saying(self.provider, "It begins well and then"))
        chunks = [*events[:5], protocols.stream_error(self.provider, 529, message)]
        self.world.provider.rule(self.provider, lambda seen: {"chunks": chunks})

    def breaks_off(self, how: str) -> None:
        """The stream begins well and then ends without its protocol's end."""
        events = protocols.split(self.provider, protocols.saying(self.provider, "It begins well and then does not end so"))
        ends = {"reset": [{"reset": True}], "closed": [{"close": True}], "ended": []}[how]
        self.world.provider.rule(self.provider, lambda seen: {"chunks": [*events[:4], {"delay": 0.1}, *ends]})

    def never_ends(self) -> None:
        """The stream heeds no limit."""
        events = protocols.split(self.provider, protocols.saying(self.provider, "It begins well and then it goes on and on"))
        piece = events[len(events) // 2]
        chunks = [*events[: len(events) // 2], *[step for _ in range(2000) for step in (piece, {"delay": 0.002})]]
        self.world.provider.rule(self.provider, lambda seen: {"chunks": chunks})

    def falls_silent(self, complete: bool) -> str:
        """The stream brings all of an answer, or its beginning, and neither goes on nor ends. Returns the model that ends it."""
        events = protocols.split(self.provider, protocols.saying(self.provider, f"{self.sentence}, that goes on for a while"))
        self.world.provider.rule(self.provider, lambda seen: {"chunks": [*(events if complete else events[:4]), {"stall": True}]})
        return f"told-{self.provider}"

    @property
    def route(self) -> tuple[str, str]:
        """A model whose first target is this provider, and how the answer of its second one begins."""
        after = {"openai": "anthropic", "anthropic": "gemini", "gemini": "openai"}[self.provider]
        return f"{self.provider}-then-{after}", Behind(after, self.gateway, self.world).sentence

    def results(self) -> list[str]:
        """The tool results in the last request, read in the provider's own protocol."""
        body = self.seen()[-1].json
        match self.provider:
            case "openai":
                return [message["content"] for message in body["messages"] if message["role"] == "tool"]
            case "anthropic":
                blocks = body["messages"][-1]["content"]
                return [demo.text_of(block["content"]) for block in blocks if block["type"] == "tool_result"]
            case _:
                parts = body["contents"][-1]["parts"]
                return [str(part["functionResponse"]["response"]) for part in parts if "functionResponse" in part]


TEAMS = itertools.count(1)


def limited() -> dict[str, str]:
    """Headers of a request whose answer may have 60 tokens (tests/configs/budgets.yaml)."""
    return {"x-policy": "brief", "x-team": f"sdk-{next(TEAMS)}"}


class Person(BaseModel):
    """What a structured answer must look like."""

    name: str
    age: int
    tags: list[str]


BREAKS = ["reset", "closed", "ended"]
# What an SDK lets through when a connection breaks off: its HTTP library's own error.
BROKEN = (httpx.TransportError, httpx2.TransportError)
# What the demo providers make of that schema.
PERSON = Person(name="demo", age=7, tags=["demo"])


def weather_schema() -> dict[str, Any]:
    return {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}, "required": ["city"]}
