"""What the providers behind the wall of faults answer: tests/faults' words, in full (tests/provider.py)."""

import email.utils
import json
import re
import time
from fractions import Fraction
from typing import Any, Callable

import cases
import protocols
from provider import Seen

# A request's own number, which its answer repeats: an answer that is not this request's, or not whole, shows.
TAG = re.compile(r"case-\d+-\w+")
STORY = "Once upon a time a provider said many words, one after the other, and each was true; the last of them was the end."
# What a whole answer is cut into where a stream has its events.
SLICES = 30
HEARTBEAT = {"openai": ": PROCESSING\n\n", "anthropic": "event: ping\ndata: {\"type\": \"ping\"}\n\n",
             "gemini": "data: {\"candidates\": [{\"content\": {\"parts\": [{\"text\": \"\"}],\"role\": \"model\"},\"index\": 0}]}\r\n\r\n"}
MEGABYTE = "x" * (1 << 20)
FLOOD_END = "y"


def text(tag: str, provider: str) -> str:
    return f"{tag} by {provider}: {STORY}"


def streams(seen: Seen) -> bool:
    return ":streamGenerateContent" in seen.path or (":generateContent" not in seen.path and seen.json.get("stream", False))


def rule(protocol: str, tag: str, faults: list[Any], persists: bool, gate: str | None) -> Callable[[Seen], dict[str, Any]]:
    """Answers the request `tag` with these faults, one after the other, and everything else well."""
    left = list(faults)

    def answer(seen: Seen) -> dict[str, Any]:
        found = TAG.search(seen.body.decode())
        asked = found.group() if found else "no case"
        spec: dict[str, Any] = {"say": {}}
        if asked == tag and left:
            spec = left[0] if persists and len(left) == 1 else left.pop(0)
        return Script(protocol, streams(seen), text(asked, seen.provider), gate).answer(spec)

    return answer


class Script:
    """One answer of a provider of this protocol that says `text`."""

    def __init__(self, protocol: str, stream: bool, text: str, gate: str | None):
        self.protocol, self.stream, self.gate = protocol, stream, gate
        whole = protocols.saying(protocol, text)
        raw = json.dumps(whole)
        size = -(-len(raw) // SLICES)
        self.units = protocols.split(protocol, whole) if stream else [raw[at : at + size] for at in range(0, len(raw), size)]

    def answer(self, spec: dict[str, Any]) -> dict[str, Any]:
        spec = dict(spec["per"][self.protocol] if "per" in spec else spec)
        spec["headers"] = {name: filled(value) for name, value in spec.get("headers", {}).items()}
        then, chunks = spec.pop("then", []), spec.pop("chunks", [])
        if "fail" in spec or "fail_inside" in spec:
            spec = cases.answer_of(spec, self.protocol, self.stream)
            return spec | {"chunks": [*spec["chunks"], *self.steps(then)]} if "chunks" in spec else spec
        if "body" in spec or "json" in spec or "fault" in spec:
            return spec
        if flood := spec.pop("flood", None):
            chunks = self.flood(flood)
        if spec.pop("empty", False):
            spec |= {} if self.stream else {"body": ""}
        if reason := spec.pop("blocked", None):
            chunks = self.blocked(reason)
        chunks = [*chunks, *self.steps([{name: spec.pop(name) for name in ("say", "trickle", "heartbeats", "every") if name in spec}, *then])]
        if not self.stream:
            spec["headers"].setdefault("content-type", "application/json")
        return spec if "body" in spec else spec | {"chunks": chunks}

    def steps(self, then: list[Any]) -> list[Any]:
        found: list[Any] = []
        for step in then:
            match step:
                case "seen":
                    found += [{"wait": self.gate}] if self.gate else []
                case {"say": part}:
                    found += self.part(**part)
                case {"trickle": part}:
                    found.append({"trickle": "".join(self.part(**({} if part is True else part))), "every": 1})
                case {"drip": part, "every": pause}:
                    found += [step for unit in self.part(**part) for step in (unit, {"delay": pause})]
                case {"heartbeats": count, "every": pause}:
                    found += [HEARTBEAT[self.protocol], {"delay": pause}] * count
                case {"fail_inside": status}:
                    found.append(protocols.stream_error(self.protocol, status, f"failing with {status}"))
                case {}:
                    found += [step] if step else []
                case _:
                    found.append(step)
        return found

    def part(self, part: str = "1", inside: bool = False, events: int | None = None, without_last: bool = False, **since: str) -> list[str]:
        """Units of the answer: a share of them, perhaps with half of the next one, or what follows such a share."""
        count = len(self.units)
        begin, end = int(count * Fraction(since.get("from", 0))), int(count * Fraction(part))
        end = events if events is not None else end - 1 if without_last else end
        half = [self.units[end][: len(self.units[end]) // 2]] if inside else []
        return self.units[begin:end] + half

    def flood(self, megabytes: int) -> list[Any]:
        """An answer of that size, which nobody has to keep."""
        short, long = "x" * 9, {"flood": "", "times": megabytes}
        if not self.stream:
            before, after = json.dumps(protocols.saying(self.protocol, short + FLOOD_END)).split(short)
            return [before, long | {"flood": MEGABYTE}, after]
        units = protocols.split(self.protocol, protocols.saying(self.protocol, short + FLOOD_END))
        return [long | {"flood": unit.replace(short, MEGABYTE)} if short in unit else unit for unit in units]

    def blocked(self, reason: str) -> list[Any]:
        """Gemini's word for a prompt that it does not answer (google-genai `GenerateContentResponsePromptFeedback`)."""
        assert self.protocol == "gemini"
        body = json.dumps({"promptFeedback": {"blockReason": reason}, "usageMetadata": {"promptTokenCount": 5, "totalTokenCount": 5},
                           "modelVersion": "plain-model"})
        return [f"data: {body}\r\n\r\n" if self.stream else body]


def filled(value: str) -> str:
    """`${in 2 s}`: a moment as an HTTP date (RFC 9110, section 5.6.7)."""
    found = re.fullmatch(r"\$\{in (\d+) s\}", value)
    return email.utils.formatdate(time.time() + int(found[1]), usegmt=True) if found else value
