"""The three protocols as the tests know them: minimal requests, answers and errors, and streams ↔ whole answers.

Written apart from the filter's codecs, from the official SDKs' types (openai `types/chat`, anthropic `types`, google-genai
`types.py`) and recorded traffic, so that a codec's misreading does not hide itself. `join` is strict: a stream that breaks
its protocol's order of events fails the test.
"""

import json
import re
from typing import Any

PROTOCOLS = ["openai", "anthropic", "gemini"]
TEXT = {"openai": "gpt-4o-mini", "anthropic": "claude-haiku-4-5", "gemini": "gemini-2.5-flash"}


# ---- requests ----


def path(protocol: str, model: str, stream: bool) -> str:
    match protocol:
        case "openai":
            return "/v1/chat/completions"
        case "anthropic":
            return "/v1/messages"
        case "gemini":
            return f"/v1beta/models/{model}:" + ("streamGenerateContent?alt=sse" if stream else "generateContent")
    raise ValueError(protocol)


def body(protocol: str, model: str, stream: bool, members: dict[str, Any]) -> dict[str, Any]:
    """`members` with the model and the wish for a stream where this protocol keeps them in the body."""
    if protocol == "gemini":
        return dict(members)
    return {"model": model, **members, **({"stream": True} if stream else {})}


def minimal(protocol: str, text: str) -> dict[str, Any]:
    """The members of a smallest request."""
    match protocol:
        case "openai":
            return {"messages": [{"role": "user", "content": text}]}
        case "anthropic":
            return {"max_tokens": 100, "messages": [{"role": "user", "content": text}]}
        case "gemini":
            return {"contents": [{"role": "user", "parts": [{"text": text}]}]}
    raise ValueError(protocol)


# ---- answers ----


def saying(protocol: str, text: str, model: str | None = None) -> dict[str, Any]:
    """A whole answer that says `text`."""
    model = model or TEXT[protocol]
    match protocol:
        case "openai":
            message = {"role": "assistant", "content": text, "refusal": None}
            choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
            return {"id": "chatcmpl-1", "object": "chat.completion", "created": 1767225600, "model": model,
                    "choices": [choice], "usage": {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}}
        case "anthropic":
            return {"id": "msg_1", "type": "message", "role": "assistant", "model": model,
                    "content": [{"type": "text", "text": text}], "stop_reason": "end_turn", "stop_sequence": None,
                    "usage": {"input_tokens": 5, "output_tokens": 7}}
        case "gemini":
            return {"candidates": [{"content": {"parts": [{"text": text}], "role": "model"}, "finishReason": "STOP", "index": 0}],
                    "usageMetadata": {"promptTokenCount": 5, "candidatesTokenCount": 7, "totalTokenCount": 12},
                    "modelVersion": model, "responseId": "r1"}
    raise ValueError(protocol)


def said(protocol: str, answer: dict[str, Any]) -> str:
    """The text of a whole answer."""
    match protocol:
        case "openai":
            return answer["choices"][0]["message"].get("content") or ""
        case "anthropic":
            return "".join(block.get("text", "") for block in answer["content"] if block["type"] == "text")
        case "gemini":
            parts = answer["candidates"][0]["content"]["parts"]
            return "".join(part.get("text", "") for part in parts if not part.get("thought"))
    raise ValueError(protocol)


# ---- errors ----

# What each status is called: openai platform.openai.com/docs/guides/error-codes, anthropic docs `api/errors`, google.rpc.Code.
ANTHROPIC_TYPES = {400: "invalid_request_error", 401: "authentication_error", 403: "permission_error", 404: "not_found_error",
                   413: "request_too_large", 422: "invalid_request_error", 429: "rate_limit_error", 500: "api_error",
                   503: "api_error", 504: "timeout_error", 529: "overloaded_error"}
GEMINI_STATUS = {400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND",
                 413: "INVALID_ARGUMENT", 422: "INVALID_ARGUMENT", 429: "RESOURCE_EXHAUSTED", 500: "INTERNAL",
                 503: "UNAVAILABLE", 504: "DEADLINE_EXCEEDED", 529: "UNAVAILABLE"}


def error(protocol: str, status: int, message: str) -> dict[str, Any]:
    """The body of an error as the provider of this protocol writes it."""
    match protocol:
        case "openai":
            kind = "server_error" if status >= 500 else "requests" if status == 429 else "invalid_request_error"
            code = "rate_limit_exceeded" if status == 429 else None
            return {"error": {"message": message, "type": kind, "param": None, "code": code}}
        case "anthropic":
            return {"type": "error", "error": {"type": ANTHROPIC_TYPES[status], "message": message}, "request_id": "req_1"}
        case "gemini":
            return {"error": {"code": status, "message": message, "status": GEMINI_STATUS[status]}}
    raise ValueError(protocol)


def stream_error(protocol: str, status: int, message: str) -> str:
    """An error as an event of a stream that began with 200."""
    name = "event: error\n" if protocol == "anthropic" else ""
    # It ends as the events before it do: Go's google.golang.org/genai (api_client.go, scan) reads no stream of both ends.
    end = "\r\n\r\n" if protocol == "gemini" else "\n\n"
    return f"{name}data: {json.dumps(error(protocol, status, message))}{end}"


def read_error(protocol: str, value: Any) -> dict[str, Any]:
    """Checks the shape of an error body and gives {type, code, message, status} as far as the protocol has them."""
    assert isinstance(value, dict), value
    fault = value["error"]
    assert isinstance(fault["message"], str) and fault["message"], value
    match protocol:
        case "openai":
            # openai-python `_exceptions.py` reads message, type, param, code; Azure's content filter has no type.
            assert (isinstance(fault["type"], str) or fault["code"] == "content_filter") and "param" in fault and "code" in fault, value
            return {"type": fault["type"], "code": fault["code"], "param": fault["param"], "message": fault["message"]}
        case "anthropic":
            assert value["type"] == "error" and isinstance(fault["type"], str), value
            return {"type": fault["type"], "message": fault["message"]}
        case "gemini":
            # google-genai `errors.py` reads code, message, status.
            assert isinstance(fault["code"], int) and isinstance(fault["status"], str), value
            return {"code": fault["code"], "status": fault["status"], "message": fault["message"], "details": fault.get("details")}
    raise ValueError(protocol)


# ---- streams ----


class StreamFailed(Exception):
    """The stream told an error; the argument is its JSON."""


class StreamCut(Exception):
    """The stream ended without its protocol's end."""


def split(protocol: str, answer: dict[str, Any], usage: bool = True) -> list[str]:
    """A whole answer as its provider would stream it, one string for each event."""
    return {"openai": split_openai, "anthropic": split_anthropic, "gemini": split_gemini}[protocol](answer, usage)


def join(protocol: str, stream: bytes) -> dict[str, Any]:
    """A stream as the whole answer that it spells, after checking every event's place."""
    return {"openai": join_openai, "anthropic": join_anthropic, "gemini": join_gemini}[protocol](stream)


def pieces(text: str, size: int = 9) -> list[str]:
    size = max(size, len(text) // 60)
    return [text[at : at + size] for at in range(0, len(text), size)]


def frames(stream: bytes) -> list[tuple[str | None, str]]:
    """Server-sent events as (event, data); comments are left out."""
    found = []
    for block in re.split(r"\r\n\r\n|\n\n", stream.decode()):
        name, data = None, []
        for line in re.split(r"\r\n|\n", block):
            field, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if field == "event":
                name = value
            elif field == "data":
                data.append(value)
        if data:
            found.append((name, "\n".join(data)))
    return found


def split_openai(answer: dict[str, Any], usage: bool) -> list[str]:
    def chunk(delta: dict, finish: str | None = None) -> dict:
        return head | {"choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}]}

    head = {name: answer[name] for name in ("id", "created", "model")} | {"object": "chat.completion.chunk"}
    counted = usage and answer.get("usage")
    if counted:
        head["usage"] = None
    choice = answer["choices"][0]
    message = choice["message"]
    chunks = [chunk({"role": "assistant", "content": "" if message.get("content") is not None else None, "refusal": None})]
    for member in ("reasoning_content", "content", "refusal"):
        chunks += [chunk({member: piece}) for piece in pieces(message.get(member) or "")]
    for index, call in enumerate(message.get("tool_calls") or []):
        chunks.append(chunk({"tool_calls": [{"index": index, **call, "function": {**call["function"], "arguments": ""}}]}))
        for piece in pieces(call["function"]["arguments"]):
            chunks.append(chunk({"tool_calls": [{"index": index, "function": {"arguments": piece}}]}))
    chunks.append(chunk({}, choice["finish_reason"]))
    if counted:
        chunks.append(head | {"choices": [], "usage": answer["usage"]})
    return [f"data: {json.dumps(each, ensure_ascii=False)}\n\n" for each in chunks] + ["data: [DONE]\n\n"]


def join_openai(stream: bytes) -> dict[str, Any]:
    found = frames(stream)
    chunks = [json.loads(data) for _, data in found if data != "[DONE]"]
    for chunk in chunks:
        if "error" in chunk:
            raise StreamFailed(chunk)
    if not found or found[-1][1] != "[DONE]":
        raise StreamCut(stream[-200:])
    message: dict[str, Any] = {"role": None, "content": None}
    finish, usage, calls = None, None, []
    for chunk in chunks:
        assert chunk["object"] == "chat.completion.chunk" and isinstance(chunk["created"], int), chunk
        assert (chunk["id"], chunk["model"]) == (chunks[0]["id"], chunks[0]["model"]), chunk
        assert usage is None, f"a chunk after usage: {chunk}"
        usage = chunk.get("usage")
        for choice in chunk["choices"]:
            assert choice["index"] == 0 and finish is None, f"a choice after the finish: {chunk}"
            finish = choice["finish_reason"]
            delta = choice["delta"]
            if delta.get("role"):
                message["role"] = delta["role"]
            assert message["role"] == "assistant", f"no role before {chunk}"
            for member in ("content", "refusal", "reasoning_content"):
                if delta.get(member) is not None:
                    message[member] = (message.get(member) or "") + delta[member]
            for detail in delta.get("reasoning_details") or []:
                add_detail(message.setdefault("reasoning_details", []), detail)
            for part in delta.get("tool_calls") or []:
                if part["index"] == len(calls):
                    assert part["id"] and part["type"] == "function" and part["function"]["name"], part
                    calls.append({"id": part["id"], "type": "function", "function": {"name": part["function"]["name"], "arguments": ""}})
                calls[part["index"]] |= {name: part[name] for name in ("extra_content",) if name in part}
                calls[part["index"]]["function"]["arguments"] += part["function"].get("arguments") or ""
    assert finish, "no finish_reason"
    if calls:
        message["tool_calls"] = calls
    whole = {"id": chunks[0]["id"], "object": "chat.completion", "created": chunks[0]["created"], "model": chunks[0]["model"],
             "choices": [{"index": 0, "message": message, "finish_reason": finish}]}
    return whole | ({"usage": usage} if usage else {})


def add_detail(details: list[dict[str, Any]], detail: dict[str, Any]) -> None:
    """OpenRouter's rule: pieces of one index are one detail, texts joined, the rest as it comes."""
    known = next((one for one in details if one.get("index") == detail.get("index")), None)
    if known is None:
        details.append(dict(detail))
        return
    for name, value in detail.items():
        known[name] = (known.get(name) or "") + value if name in ("text", "summary") and value is not None else value


def split_anthropic(answer: dict[str, Any], _: bool) -> list[str]:
    usage = answer["usage"]
    start = {**answer, "content": [], "stop_reason": None, "usage": usage | {"output_tokens": 1}}
    events: list[dict] = [{"type": "message_start", "message": start}]
    for index, block in enumerate(answer["content"]):
        match block["type"]:
            case "text":
                head, deltas = block | {"text": ""}, [{"type": "text_delta", "text": piece} for piece in pieces(block["text"])]
            case "thinking":
                head = {"type": "thinking", "thinking": "", "signature": ""}
                deltas = [{"type": "thinking_delta", "thinking": piece} for piece in pieces(block["thinking"])]
                deltas.append({"type": "signature_delta", "signature": block["signature"]})
            case "tool_use":
                head, texts = block | {"input": {}}, ["", *pieces(json.dumps(block["input"]))]
                deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in texts]
            case _:
                head, deltas = block, []
        events.append({"type": "content_block_start", "index": index, "content_block": head})
        if index == 0:
            events.append({"type": "ping"})
        events += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
        events.append({"type": "content_block_stop", "index": index})
    delta = {"stop_reason": answer["stop_reason"], "stop_sequence": answer["stop_sequence"]}
    events += [{"type": "message_delta", "delta": delta, "usage": usage}, {"type": "message_stop"}]
    return [f"event: {event['type']}\ndata: {json.dumps(event, ensure_ascii=False)}\n\n" for event in events]


def join_anthropic(stream: bytes) -> dict[str, Any]:
    found = frames(stream)
    events = [json.loads(data) for _, data in found]
    for (name, _), event in zip(found, events):
        assert name == event["type"], f"event: {name} with {event}"
        if event["type"] == "error":
            raise StreamFailed(event)
    if not events or events[-1]["type"] != "message_stop":
        raise StreamCut(stream[-200:])
    assert events[0]["type"] == "message_start" and events[0]["message"]["content"] == [], events[0]
    message, open_block, arguments, finished = events[0]["message"], None, "", False
    assert message["type"] == "message" and message["role"] == "assistant" and message["usage"], message
    for event in events[1:-1]:
        match event["type"]:
            case "ping":
                continue
            case "content_block_start":
                assert open_block is None and event["index"] == len(message["content"]) and not finished, event
                open_block, arguments = dict(event["content_block"]), ""
            case "content_block_delta":
                assert open_block is not None and event["index"] == len(message["content"]), event
                arguments += extend(open_block, event["delta"])
            case "content_block_stop":
                assert open_block is not None and event["index"] == len(message["content"]), event
                if open_block["type"] == "tool_use":
                    open_block["input"] = json.loads(arguments or "{}")
                message["content"].append(open_block)
                open_block = None
            case "message_delta":
                assert open_block is None and not finished, event
                message |= {name: event["delta"].get(name) for name in ("stop_reason", "stop_sequence")}
                message["usage"] = message["usage"] | {key: value for key, value in event["usage"].items() if value is not None}
                finished = True
            case _:
                raise AssertionError(f"unknown event {event}")
    assert finished and message["stop_reason"], "no message_delta with a stop_reason"
    return message


def extend(block: dict[str, Any], delta: dict[str, Any]) -> str:
    """Adds a delta to an open Anthropic block; gives the piece of arguments in it."""
    match (block["type"], delta["type"]):
        case ("text", "text_delta"):
            block["text"] += delta["text"]
        case ("thinking", "thinking_delta"):
            block["thinking"] += delta["thinking"]
        case ("thinking", "signature_delta"):
            block["signature"] = delta["signature"]
        case ("tool_use", "input_json_delta"):
            return delta["partial_json"]
        case other:
            raise AssertionError(f"{other[1]} in a {other[0]} block")
    return ""


def split_gemini(answer: dict[str, Any], _: bool) -> list[str]:
    candidate = answer["candidates"][0]
    parts: list[dict] = []
    for part in candidate["content"]["parts"]:
        texts = pieces(part["text"]) if part.get("text") else []
        rest = {name: value for name, value in part.items() if name != "text"}
        # A signature comes with the last piece, `thought` with each.
        early = {name: value for name, value in rest.items() if name == "thought"}
        parts += [{"text": text} | early for text in texts[:-1]]
        parts.append(({"text": texts[-1]} if texts else {name: part[name] for name in ("text",) if name in part}) | rest)
    found = []
    for index, part in enumerate(parts):
        last = index == len(parts) - 1
        ending = {name: candidate[name] for name in ("finishReason",) if last}
        one = {"candidates": [{"content": {"parts": [part], "role": "model"}, "index": 0} | ending]}
        one |= {name: value for name, value in answer.items() if name != "candidates"}
        if not last:
            one["usageMetadata"] = {"promptTokenCount": answer["usageMetadata"]["promptTokenCount"]}
        found.append(f"data: {json.dumps(one, ensure_ascii=False)}\r\n\r\n")
    return found


def join_gemini(stream: bytes) -> dict[str, Any]:
    text = stream.decode()
    chunks = json.loads(text) if text.startswith("[") else [json.loads(data) for _, data in frames(stream)]
    whole: dict[str, Any] = {}
    parts: list[dict] = []
    finish = None
    for chunk in chunks:
        if "error" in chunk:
            raise StreamFailed(chunk)
        assert finish is None or not chunk.get("candidates"), f"a candidate after the finish: {chunk}"
        whole |= {name: value for name, value in chunk.items() if name != "candidates"}
        for candidate in chunk.get("candidates", []):
            assert candidate.get("index", 0) == 0, chunk
            finish = candidate.get("finishReason") or finish
            for part in candidate.get("content", {}).get("parts", []):
                if part == {"text": ""}:
                    continue  # Gemini itself ends streams so.
                merges = parts and "text" in part and "text" in parts[-1] and part.get("thought") == parts[-1].get("thought")
                if merges and "thoughtSignature" not in parts[-1]:
                    parts[-1] |= part | {"text": parts[-1]["text"] + part["text"]}
                else:
                    parts.append(part)
    if finish is None:
        raise StreamCut(text[-200:])
    return whole | {"candidates": [{"content": {"parts": parts, "role": "model"}, "finishReason": finish, "index": 0}]}
