"""What the demo providers answer: OpenAI Chat Completions, Anthropic Messages and Gemini generateContent.

Each answer has the members that the protocol's official SDK requires (openai `types/chat/chat_completion*.py`, anthropic
`types/message.py` and `raw_*_event.py`, google-genai `types.py`) and the framing of the real service. The words are made
here: a sentence that names the provider, the model and what was asked.
"""

import json
import re
from typing import Any, Callable

from provider import Answer, Seen

PORTS = {"openai": 18081, "anthropic": 18082, "gemini": 18083}
# The pause between two words of a stream, in seconds: slow enough to see, quick enough to wait for.
PAUSE = 0.05
CREATED = 1_767_225_600
# The tokens of every answer that is not cut short.
OUTPUT = 12


def sentence(provider: str, model: str, asked: str, result: str | None) -> str:
    if result is not None:
        return f"Hello from the {provider} demo provider ({model}). The tool said: {result}"
    return f"Hello from the {provider} demo provider ({model}). You said: {asked}"


def example(schema: Any, depth: int = 0) -> Any:
    """Some value that a JSON schema allows."""
    if not isinstance(schema, dict) or depth > 8:
        return "demo"
    for key in ("const", "default"):
        if key in schema:
            return schema[key]
    if schema.get("enum"):
        return schema["enum"][0]
    for key in ("anyOf", "oneOf", "allOf"):
        if schema.get(key):
            return example(schema[key][0], depth + 1)
    kind = schema.get("type", "object" if "properties" in schema else "string")
    match (kind[0] if isinstance(kind, list) else kind).lower():
        case "object":
            return {name: example(member, depth + 1) for name, member in (schema.get("properties") or {}).items()}
        case "array":
            return [example(schema.get("items", {}), depth + 1)]
        case "integer" | "number":
            return 7
        case "boolean":
            return True
        case "null":
            return None
        case _:
            return "demo"


def text_of(content: Any) -> str:
    """The text in a string, in a list of typed blocks or in a list of Gemini parts."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return " ".join(filter(None, (text_of(block.get("text") or "") for block in content if isinstance(block, dict))))
    return ""


def words(text: str) -> list[str]:
    return re.findall(r"\S+\s*", text) or [text]


def kept(text: str, limit: int | None) -> tuple[str, bool]:
    """As much of a sentence as the client allows; `True`: that is not all."""
    cut = limit is not None and limit < len(words(text))
    return "".join(words(text)[:limit]) if cut else text, cut


def paced(frames: list[str]) -> Answer:
    steps: list[Any] = []
    for frame in frames:
        steps += [frame, {"delay": PAUSE}]
    return Answer(headers={"content-type": "text/event-stream"}, steps=steps[:-1])


def count(text: str) -> int:
    """Tokens, about."""
    return max(1, len(text) // 4)


# ---- OpenAI Chat Completions ----


def openai(seen: Seen) -> Any:
    if not seen.path.split("?")[0].endswith("/v1/chat/completions"):
        return openai_error(404, "invalid_request_error", f"Invalid URL ({seen.method} {seen.path})", None)
    if not (seen.header("authorization") or "").startswith("Bearer "):
        return openai_error(401, "invalid_request_error", "You didn't provide an API key.", "invalid_api_key")
    body = seen.json
    model, messages = body["model"], body["messages"]
    last, tools = messages[-1], body.get("tools")
    called = last["role"] != "tool" and tools and body.get("tool_choice") != "none"
    call, text, cut, limit = None, None, False, body.get("max_completion_tokens") or body.get("max_tokens")
    if called:
        function = tools[0]["function"]
        arguments = json.dumps(example(function.get("parameters") or {"type": "object"}))
        call = {"id": "call_demo1", "type": "function", "function": {"name": function["name"], "arguments": arguments}}
    elif (form := body.get("response_format") or {}).get("type") == "json_schema":
        text = json.dumps(example(form["json_schema"]["schema"]))
    else:
        result = text_of(last["content"]) if last["role"] == "tool" else None
        text, cut = kept(sentence("OpenAI", model, text_of(last.get("content")), result), limit)
    usage = {"prompt_tokens": count(seen.body.decode()), "completion_tokens": limit if cut else OUTPUT}
    usage["total_tokens"] = sum(usage.values())
    finish = "tool_calls" if call else "length" if cut else "stop"
    if body.get("stream"):
        told = usage if (body.get("stream_options") or {}).get("include_usage") else None
        return paced(openai_frames(model, text, call, finish, told))
    message = {"role": "assistant", "content": text, "refusal": None}
    if call:
        message["tool_calls"] = [call]
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish}
    return {"json": {"id": "chatcmpl-demo", "object": "chat.completion", "created": CREATED, "model": model,
                     "choices": [choice], "usage": usage}}


def openai_frames(model: str, text: str | None, call: dict | None, ends: str, usage: dict | None) -> list[str]:
    def chunk(delta: dict, finish: str | None = None) -> dict:
        return head | {"choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}]}

    head = {"id": "chatcmpl-demo", "object": "chat.completion.chunk", "created": CREATED, "model": model}
    if usage:
        head["usage"] = None
    chunks = [chunk({"role": "assistant", "content": None if call else "", "refusal": None})]
    if call:
        function = call["function"]
        chunks.append(chunk({"tool_calls": [{"index": 0, **call, "function": {**function, "arguments": ""}}]}))
        half = len(function["arguments"]) // 2
        for piece in (function["arguments"][:half], function["arguments"][half:]):
            chunks.append(chunk({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}))
    else:
        chunks += [chunk({"content": word}) for word in words(text)]
    chunks.append(chunk({}, ends))
    if usage:
        chunks.append(head | {"choices": [], "usage": usage})
    return [f"data: {json.dumps(each)}\n\n" for each in chunks] + ["data: [DONE]\n\n"]


def openai_error(status: int, kind: str, message: str, code: str | None) -> dict:
    return {"status": status, "json": {"error": {"message": message, "type": kind, "param": None, "code": code}}}


# ---- Anthropic Messages ----


def anthropic(seen: Seen) -> Any:
    if not seen.path.split("?")[0].endswith("/v1/messages"):
        return anthropic_error(404, "not_found_error", f"{seen.path}: not found")
    if not seen.header("x-api-key") and not seen.header("authorization"):
        return anthropic_error(401, "authentication_error", "x-api-key header is required")
    if not seen.header("anthropic-version"):
        return anthropic_error(400, "invalid_request_error", "anthropic-version: header is required")
    body = seen.json
    if "max_tokens" not in body:
        return anthropic_error(400, "invalid_request_error", "max_tokens: Field required")
    model, last, tools = body["model"], body["messages"][-1], body.get("tools")
    results = [block for block in last["content"] if isinstance(block, dict) and block["type"] == "tool_result"]
    called, cut = not results and tools and (body.get("tool_choice") or {}).get("type") != "none", False
    if called:
        name, schema = tools[0]["name"], tools[0].get("input_schema") or {}
        block = {"type": "tool_use", "id": "toolu_demo1", "name": name, "input": example(schema)}
    elif form := (body.get("output_config") or {}).get("format"):
        block = {"type": "text", "text": json.dumps(example(form["schema"]))}
    else:
        result = text_of(results[0].get("content", "")) if results else None
        text, cut = kept(sentence("Anthropic", model, text_of(last["content"]), result), body["max_tokens"])
        block = {"type": "text", "text": text}
    usage = {"input_tokens": count(seen.body.decode()), "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0,
             "output_tokens": body["max_tokens"] if cut else OUTPUT}
    message = {"id": "msg_demo", "type": "message", "role": "assistant", "model": model, "content": [block],
               "stop_reason": "tool_use" if called else "max_tokens" if cut else "end_turn", "stop_sequence": None, "usage": usage}
    return paced(anthropic_frames(message)) if body.get("stream") else {"json": message}


def anthropic_frames(message: dict) -> list[str]:
    usage, block = message["usage"], message["content"][0]
    start = message | {"content": [], "stop_reason": None, "usage": usage | {"output_tokens": 1}}
    if block["type"] == "tool_use":
        text = json.dumps(block["input"])
        empty, half = block | {"input": {}}, len(text) // 2
        deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in ("", text[:half], text[half:])]
    else:
        empty = block | {"text": ""}
        deltas = [{"type": "text_delta", "text": word} for word in words(block["text"])]
    frames = [{"type": "message_start", "message": start},
              {"type": "content_block_start", "index": 0, "content_block": empty}, {"type": "ping"}]
    frames += [{"type": "content_block_delta", "index": 0, "delta": delta} for delta in deltas]
    frames += [{"type": "content_block_stop", "index": 0},
               {"type": "message_delta", "delta": {"stop_reason": message["stop_reason"], "stop_sequence": None}, "usage": usage},
               {"type": "message_stop"}]
    return [f"event: {frame['type']}\ndata: {json.dumps(frame)}\n\n" for frame in frames]


def anthropic_error(status: int, kind: str, message: str) -> dict:
    return {"status": status, "json": {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_demo"}}


# ---- Gemini generateContent, streamGenerateContent ----


def gemini(seen: Seen) -> Any:
    found = re.search(r"/models/([^/:]+):(generateContent|streamGenerateContent)(\?.*)?$", seen.path)
    if not found:
        return gemini_error(404, "NOT_FOUND", f"{seen.path} is not found")
    if not seen.header("x-goog-api-key") and "key=" not in (found[3] or ""):
        # A missing key is 403 there, where the others say 401.
        return gemini_error(403, "PERMISSION_DENIED", "Method doesn't allow unregistered callers. Please use API Key.")
    body, model = seen.json, found[1]
    last = body["contents"][-1]["parts"]
    results = [part["functionResponse"] for part in last if "functionResponse" in part]
    config = body.get("generationConfig") or {}
    functions = [one for tool in body.get("tools", []) for one in tool.get("functionDeclarations", [])]
    mode = ((body.get("toolConfig") or {}).get("functionCallingConfig") or {}).get("mode")
    cut, limit = False, config.get("maxOutputTokens")
    schema = config.get("responseJsonSchema") or config.get("responseSchema")
    if functions and not results and mode != "NONE":
        # google-genai writes `parameters_json_schema`; the API takes both spellings, as protobuf's JSON does.
        names = ("parametersJsonSchema", "parameters_json_schema", "parameters")
        declared = next((functions[0][name] for name in names if name in functions[0]), {"type": "object"})
        parts = [{"functionCall": {"name": functions[0]["name"], "args": example(declared)}}]
    elif schema:
        parts = [{"text": json.dumps(example(schema))}]
    else:
        result = json.dumps(results[0]["response"]) if results else None
        text, cut = kept(sentence("Gemini", model, text_of(last), result), limit)
        parts = [{"text": word} for word in words(text)]
    usage = {"promptTokenCount": count(seen.body.decode()), "candidatesTokenCount": limit if cut else OUTPUT}
    usage["totalTokenCount"] = sum(usage.values())
    tail = {"usageMetadata": usage, "modelVersion": model, "responseId": "demo"}
    if found[2] == "generateContent":
        if "text" in parts[0]:
            parts = [{"text": "".join(part["text"] for part in parts)}]
        candidate = {"content": {"parts": parts, "role": "model"}, "finishReason": "MAX_TOKENS" if cut else "STOP", "index": 0}
        return {"json": {"candidates": [candidate]} | tail}
    frames = []
    for part in parts:
        candidate = {"content": {"parts": [part], "role": "model"}, "index": 0}
        frames.append({"candidates": [candidate | ({"finishReason": "MAX_TOKENS" if cut else "STOP"} if part is parts[-1] else {})]} | tail)
    if "alt=sse" in (found[3] or ""):
        return paced([f"data: {json.dumps(frame)}\r\n\r\n" for frame in frames])
    # Without `alt=sse` the stream is one JSON array.
    answer = paced([("[" if frame is frames[0] else ",\r\n") + json.dumps(frame) for frame in frames])
    answer.steps.append("]")
    answer.headers = {"content-type": "application/json"}
    return answer


def gemini_error(status: int, name: str, message: str) -> dict:
    return {"status": status, "json": {"error": {"code": status, "message": message, "status": name}}}


RULES: dict[str, Callable[[Seen], Any]] = {"openai": openai, "anthropic": anthropic, "gemini": gemini}
