"""Reads tests/cases/*.yaml, carries a case out, and says everything that is not as the case says.

A file is one case: `what` it shows, `request`, `providers` (answers and what each must receive), `client` (what it must see).
`each: [{name: value}, …]` makes a case of every entry; `${name}` in the rest is its value. See tests/README.md for the words.
"""

import base64
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Iterable

import yaml

import protocols
from harness import Gateway, Reply
from matching import Absent, Json, Loader, Pattern, differences
from provider import Provider, Seen
from setting import key_files
from world import key_of

CLIENT_KEY = "secret-of-the-client"
# The headers that carry a key, by protocol, and what a client of that protocol sends.
CREDENTIALS = {"openai": ("authorization", "Bearer "), "anthropic": ("x-api-key", ""), "gemini": ("x-goog-api-key", "")}


@dataclass
class Case:
    name: str
    spec: dict[str, Any]


def load(folder: Path) -> list[Case]:
    found = []
    for file in sorted(folder.glob("*.yaml")):
        spec = yaml.load(file.read_text(), Loader)
        each = spec.pop("each", None)
        if each is None:
            found.append(Case(file.stem, spec))
        for entry in expand(each or []):
            label = "-".join(str(value) for value in entry.values() if isinstance(value, (str, int)))
            found.append(Case(f"{file.stem}[{label}]", fill(spec, entry)))
    return found


def expand(each: Any) -> list[dict[str, Any]]:
    """A list of entries as it is; an object of lists is every combination of them."""
    if isinstance(each, list):
        return each
    entries: list[dict[str, Any]] = [{}]
    for name, values in each.items():
        entries = [entry | (value if isinstance(value, dict) else {name: value}) for entry in entries for value in values]
    return entries


def fill(value: Any, entry: dict[str, Any]) -> Any:
    """Puts the entry's values in; a text that is only `${name}` becomes the value itself."""
    if isinstance(value, str):
        for name, filling in entry.items():
            if value == f"${{{name}}}":
                others = {key: one for key, one in entry.items() if key != name}
                return fill(filling, others) if isinstance(filling, (dict, list)) else filling
            value = value.replace(f"${{{name}}}", str(filling))
        return value
    if isinstance(value, Pattern):
        return Pattern(fill(value.text, entry))
    if isinstance(value, dict):
        return {fill(name, entry): fill(member, entry) for name, member in value.items()}
    return [fill(item, entry) for item in value] if isinstance(value, list) else value


# ---- the request ----


@dataclass
class Request:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes | Iterable[bytes] | None
    protocol: str
    stream: bool


def request_of(spec: dict[str, Any]) -> Request:
    spec = dict(spec)
    protocol, model, stream = spec.pop("protocol", "openai"), spec.pop("model", "to-openai"), spec.pop("stream", False)
    members = spec.pop("members", None) or protocols.minimal(protocol, spec.pop("say", "Hello"))
    header, prefix = CREDENTIALS[protocol]
    headers = {"host": "gateway.test", "content-type": "application/json", header: prefix + CLIENT_KEY}
    if protocol == "anthropic":
        headers["anthropic-version"] = "2023-06-01"
    for name, value in spec.pop("headers", {}).items():
        headers.pop(name, None) if isinstance(value, Absent) else headers.__setitem__(name, str(value))
    path = spec.pop("path", None) or protocols.path(protocol, model, stream)
    raw = raw_body(spec, protocol, model)
    if raw is None:
        raw = json.dumps(protocols.body(protocol, model, stream, members)).encode()
    method, size = spec.pop("method", "POST"), spec.pop("chunked", 0)
    body: bytes | Iterable[bytes] | None = raw
    if size:
        body = (raw[at : at + size] for at in range(0, len(raw), size))
    if method == "GET":
        body = None
    assert not spec, f"unknown members of a request: {', '.join(spec)}"
    return Request(method, path, headers, body, protocol, stream)


def raw_body(spec: dict[str, Any], protocol: str, model: str) -> bytes | None:
    """A body that is not made of `members`: as it is written, or too large or too deep to be written."""
    if "body" in spec:
        return spec.pop("body").encode()
    if "base64" in spec:
        return base64.b64decode(spec.pop("base64"))
    if "nest" in spec:
        depth = spec.pop("nest")
        whole = json.dumps(protocols.body(protocol, model, False, protocols.minimal(protocol, "Hello") | {"deep": 0}))
        return whole.replace('"deep": 0', '"deep": ' + "[" * depth + "]" * depth).encode()
    if "size" in spec:
        members = protocols.minimal(protocol, "x" * spec.pop("size"))
        return json.dumps(protocols.body(protocol, model, False, members)).encode()
    return None


# ---- the providers ----


def answer_of(spec: Any, protocol: str, stream: bool) -> dict[str, Any]:
    """The short words for what a provider of that protocol answers, in full (tests/provider.py)."""
    spec = dict(spec)
    if "say" in spec:
        whole = protocols.saying(protocol, spec.pop("say"))
        spec |= whole_or_stream(whole, protocol, stream, spec.pop("first", None))
    elif "answer" in spec:
        spec |= whole_or_stream(spec.pop("answer"), protocol, stream, spec.pop("first", None))
    elif "repeat" in spec:
        spec |= whole_or_stream(protocols.saying(protocol, "x" * spec.pop("repeat")), protocol, stream, None)
    elif "fail" in spec:
        status = spec.pop("fail")
        spec |= {"status": status, "json": protocols.error(protocol, status, spec.pop("message", f"failing with {status}"))}
    elif "fail_inside" in spec:
        status = spec.pop("fail_inside")
        spec["chunks"] = [protocols.stream_error(protocol, status, spec.pop("message", f"failing with {status}"))]
    if size := spec.pop("pieces", None):
        whole = "".join(spec["chunks"]).encode()
        spec["chunks"] = [whole[at : at + size] for at in range(0, len(whole), size)]
    then = spec.pop("then", None)
    if isinstance(then, dict) and "tell" in then:
        then = [{"wait": "seen"}, protocols.stream_error(protocol, then["tell"], then.get("message", "told too late"))]
    if then:
        spec["chunks"] = [*spec["chunks"], *(then if isinstance(then, list) else [then])]
    return spec


def whole_or_stream(whole: dict[str, Any], protocol: str, stream: bool, first: int | None) -> dict[str, Any]:
    if not stream:
        return {"json": whole}
    events = protocols.split(protocol, whole)
    return {"chunks": events[:first]}


def protocols_of(gateway: Gateway) -> dict[str, str]:
    """Each configured provider's protocol: rows are named for theirs here."""
    return {one["name"]: one.get("provider", one["name"]) for one in gateway.values["gateway"]["providers"]}


# ---- carrying it out ----


def run(case: Case, gateway: Gateway, provider: Provider) -> None:
    spec = dict(case.spec)
    request, wanted = request_of(spec["request"]), spec.get("providers") or {}
    rows = protocols_of(gateway)
    for name, script in wanted.items():
        provider.script(name, [answer_of(answer, rows[name], request.stream) for answer in script.get("answers", [])])
    log = gateway.log_size()
    reply = gateway.send(request.method, request.path, request.headers, request.body, watcher(spec, provider))
    found = check_client(spec.get("client") or {}, request, reply, provider)
    for name in rows:
        script = wanted.get(name) or {}
        count = script.get("count", len(script.get("answers", [])))
        found += check_received(name, count, script.get("receives", []), provider, gateway)
        if hangs_up(script):
            gone = all(seen.hung_up.wait(5) for seen in provider.requests(name))
            found += [] if gone else [f"{name}: the connection was not closed after the client had left"]
    found += strangers(rows, provider)
    gateway.check_alive(log)
    assert not found, "\n".join([spec["what"], *found, "", f"client saw {reply.status} {reply.headers}", repr(reply.body[:3000])])


def hangs_up(script: dict[str, Any]) -> bool:
    return script.get("left_alone", False)


def watcher(spec: dict[str, Any], provider: Provider) -> Any:
    """Opens gates, or hangs up, when the client has seen a text: what proves that bytes come while there is more."""
    reading = list((spec.get("client") or {}).get("reading", []))

    def watch(reply: Reply) -> bool:
        while reading and reading[0]["until"].encode() in reply.body:
            step = reading.pop(0)
            if "open" in step:
                provider.open(step["open"])
            if step.get("hang_up"):
                return False
        return True

    return watch if reading else None


# ---- what the client saw ----


def check_client(want: dict[str, Any], request: Request, reply: Reply, provider: Provider) -> list[str]:
    found = differences(want.get("status", 200), reply.status, True, "status")
    found += differences(want.get("headers", {}), reply.headers, False, "header")
    found += [f"header {name} reached the client" for name in reply.headers if name.startswith("x-envoy-")]
    if reply.status == 599:
        found.append("the internal status 599 reached the client")
    for text in want.get("holds", []):
        found += [] if text.encode() in reply.body else [f"body: {text!r} is not in it"]
    for text in want.get("lacks", []):
        found += [f"body: {text!r} is in it"] if text.encode() in reply.body else []
    if "body" in want:
        found += differences(want["body"], reply.body.decode(), True, "body")
    if "json" in want:
        found += differences(want["json"], reply.json, True)
    if "says" in want or "answer" in want:
        found += check_answer(want, request, reply)
    if "error" in want:
        found += check_error(want["error"], request, reply)
    if "breaks" in want:
        found += check_break(want["breaks"], request, reply)
    hung_up = any(step.get("hang_up") for step in want.get("reading", []))
    if want.get("ends", "breaks" not in want) and not hung_up and not reply.complete:
        found.append("the answer was cut")
    return found


def check_answer(want: dict[str, Any], request: Request, reply: Reply) -> list[str]:
    try:
        if request.stream:
            kind = "application/json" if reply.body.startswith(b"[") else "text/event-stream"
            answer, found = protocols.join(request.protocol, reply.body), []
        else:
            kind, answer, found = "application/json", reply.json, []
        if kind not in reply.headers.get("content-type", ""):
            found.append(f"content-type is {reply.headers.get('content-type')}, not {kind}")
        if "says" in want:
            found += differences(want["says"], protocols.said(request.protocol, answer), True, "said")
        return found + differences(want.get("answer", {}), answer, False)
    except (AssertionError, KeyError, TypeError, ValueError, protocols.StreamFailed, protocols.StreamCut) as fault:
        return [f"the answer is not {request.protocol}: {type(fault).__name__} {fault}"]


def check_error(want: dict[str, Any], request: Request, reply: Reply) -> list[str]:
    try:
        error = protocols.read_error(request.protocol, reply.json)
    except (AssertionError, KeyError, TypeError, ValueError) as fault:
        return [f"the error is not {request.protocol}'s: {type(fault).__name__} {fault}"]
    found = [] if "application/json" in reply.headers.get("content-type", "") else ["an error that is not application/json"]
    return found + differences(want, error, False, "error")


def check_break(want: Any, request: Request, reply: Reply) -> list[str]:
    """The stream must not end as if it were complete: an error event in the client's protocol (given an object, that
    error), or else HTTP that ends before its own end."""
    try:
        protocols.join(request.protocol, reply.body)
    except protocols.StreamFailed as failed:
        error = protocols.read_error(request.protocol, failed.args[0])
        return differences(want, error, False, "error") if isinstance(want, dict) else []
    except protocols.StreamCut:
        told = not isinstance(want, dict) and not reply.complete
        return [] if told else ["the stream was cut without an error event"]
    return ["the stream ended as if it were complete"]


# ---- what the providers saw ----


def check_received(name: str, count: int, receives: list[Any], provider: Provider, gateway: Gateway) -> list[str]:
    seen = provider.requests(name)
    found = [] if len(seen) == count else [f"{name}: {len(seen)} requests came, expected {count}"]
    for index, (want, one) in enumerate(zip(receives, seen)):
        at = f"{name}[{index}]"
        found += differences(want.get("path", one.path), one.path, True, f"{at} path")
        headers = {key: value for key, value in one.headers}
        found += differences(want.get("headers", {}), headers, False, f"{at} header")
        if "body" in want:
            found += differences(want["body"], one.body.decode(), True, f"{at} body")
        if "json" in want:
            found += differences(want["json"], one.json, True, f"{at} $")
        if "normal" in want:
            found += differences(blocks(want["normal"]), blocks(one.json), True, f"{at} $")
        if "has" in want:
            found += differences(want["has"], one.json, False, f"{at} $")
    for one in seen:
        found += check_manners(one, gateway)
    return found


def blocks(body: dict[str, Any]) -> dict[str, Any]:
    """An Anthropic request with every text in its longer form: a list of one text block means the same as a string."""

    def longer(content: Any) -> Any:
        if isinstance(content, (str, Json)):
            return [{"type": "text", "text": content}]
        if isinstance(content, list):
            return [block | {"content": longer(block["content"])} if "content" in block else block for block in content]
        return content

    body = body | {"messages": [message | {"content": longer(message["content"])} for message in body["messages"]]}
    return body | ({"system": longer(body["system"])} if "system" in body else {})


def text_in(content: Any) -> str:
    """The text of a string or of a list of text blocks."""
    return content if isinstance(content, str) else "".join(block["text"] for block in content)


def check_manners(seen: Seen, gateway: Gateway) -> list[str]:
    """What holds for every request that reaches a provider, whatever the case is about."""
    config = next(one for one in gateway.values["gateway"]["providers"] if one["name"] == seen.provider)
    row, own = config.get("provider", config["name"]), config.get("credentials") == "passthrough"
    header, prefix = CREDENTIALS[row]
    secrets = [CLIENT_KEY] if own else [key_of(file) for file in key_files(config)]
    found = []
    if seen.header(header) not in [prefix + secret for secret in secrets]:
        found.append(f"{seen.provider}: {header} is {seen.header(header)!r}, not its own key")
    for name, value in seen.headers:
        if "secret-of-" in value and name != header:
            found.append(f"{seen.provider}: a key in {name}: {value}")
        if name.startswith(("x-envoy-", "x-attache-", "x-forwarded-", "forwarded", "x-real-ip")):
            found.append(f"{seen.provider}: header {name}: {value}")
    if "secret-of-" in seen.path or b"secret-of-" in seen.body:
        found.append(f"{seen.provider}: a key in the path or the body")
    authority = config["origin"].split("/")[2]
    found += differences(authority, seen.header("host"), True, f"{seen.provider} host")
    if seen.header("accept-encoding"):
        found.append(f"{seen.provider}: accept-encoding {seen.header('accept-encoding')} reached it")
    if row == "anthropic" and not seen.header("anthropic-version"):
        found.append(f"{seen.provider}: no anthropic-version")
    if seen.header("content-length") not in (None, str(len(seen.body))):
        found.append(f"{seen.provider}: content-length {seen.header('content-length')} with {len(seen.body)} bytes")
    return found


def strangers(rows: dict[str, str], provider: Provider) -> list[str]:
    return [f"{seen.provider}: a request came from another configuration" for seen in provider.requests() if seen.provider not in rows]
