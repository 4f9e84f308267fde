"""The official SDKs, unmodified and told nothing, in ordinary pods: they call their provider, and the sidecar answers."""

import json

import pytest

import apps
from conftest import HOSTS, MODES, key_of
from kube import Pod
from provider import Provider

OPENAI = """
import json, openai
client = openai.OpenAI(max_retries=0)
tool = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}}
hi = [{"role": "user", "content": "Hi there"}]
answer = client.chat.completions.with_raw_response.create(model="gpt-4o", messages=hi)
whole = answer.parse().choices[0].message.content
chunks = client.chat.completions.create(model="gpt-4o", messages=hi, stream=True)
stream = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
called = client.chat.completions.create(model="gpt-4o", messages=hi, tools=[tool]).choices[0].message.tool_calls[0].function
crossed = client.chat.completions.create(model="claude-haiku-4-5", messages=hi).choices[0].message.content
print(json.dumps({"whole": whole, "stream": stream, "tool": [called.name, json.loads(called.arguments)], "crossed": crossed,
                  "by": answer.headers.get("x-attache-provider")}))
"""

ANTHROPIC = """
import json, anthropic
client = anthropic.Anthropic(max_retries=0)
tool = {"name": "weather", "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}}}
ask = {"model": "claude-haiku-4-5", "max_tokens": 100, "messages": [{"role": "user", "content": "Hi there"}]}
answer = client.messages.with_raw_response.create(**ask)
whole = answer.parse().content[0].text
with client.messages.stream(**ask) as events:
    stream = "".join(events.text_stream)
called = client.messages.create(**ask, tools=[tool]).content[0]
crossed = client.messages.create(**{**ask, "model": "gemini-2.5-flash"}).content[0].text
print(json.dumps({"whole": whole, "stream": stream, "tool": [called.name, called.input], "crossed": crossed,
                  "by": answer.headers.get("x-attache-provider")}))
"""

GEMINI = """
import json
from google import genai
from google.genai import types
client = genai.Client()
tool = types.Tool(function_declarations=[types.FunctionDeclaration(name="weather", parameters={"type": "OBJECT", "properties": {"city": {"type": "STRING"}}})])
answer = client.models.generate_content(model="gemini-2.5-flash", contents="Hi there")
stream = "".join(chunk.text or "" for chunk in client.models.generate_content_stream(model="gemini-2.5-flash", contents="Hi there"))
off = types.AutomaticFunctionCallingConfig(disable=True)
called = client.models.generate_content(model="gemini-2.5-flash", contents="Hi there",
                                        config=types.GenerateContentConfig(tools=[tool], automatic_function_calling=off)).function_calls[0]
crossed = client.models.generate_content(model="gpt-4o", contents="Hi there").text
print(json.dumps({"whole": answer.text, "stream": stream, "tool": [called.name, called.args], "crossed": crossed,
                  "by": answer.sdk_http_response.headers.get("x-attache-provider")}))
"""

NODE = """
import OpenAI from "/node/node_modules/openai/index.mjs";
const client = new OpenAI({maxRetries: 0});
const messages = [{role: "user", content: "Hi there"}];
const tool = {type: "function", function: {name: "weather", parameters: {type: "object", properties: {city: {type: "string"}}}}};
const {data, response} = await client.chat.completions.create({model: "gpt-4o", messages}).withResponse();
let stream = "";
for await (const chunk of await client.chat.completions.create({model: "gpt-4o", messages, stream: true})) {
  stream += chunk.choices[0].delta.content ?? "";
}
const called = (await client.chat.completions.create({model: "gpt-4o", messages, tools: [tool]})).choices[0].message.tool_calls[0].function;
const crossed = (await client.chat.completions.create({model: "claude-haiku-4-5", messages})).choices[0].message.content;
console.log(JSON.stringify({whole: data.choices[0].message.content, stream, tool: [called.name, JSON.parse(called.arguments)], crossed,
                            by: response.headers.get("x-attache-provider")}));
"""

# SDK: what runs it, its program, the provider that it calls, whose answer crosses over.
SDKS = {
    "openai": ("python", OPENAI, "openai", "Anthropic"),
    "anthropic": ("python", ANTHROPIC, "anthropic", "Gemini"),
    "google-genai": ("python", GEMINI, "gemini", "OpenAI"),
    "openai-node": ("node", NODE, "openai", "Anthropic"),
}
TITLES = {"openai": "OpenAI", "anthropic": "Anthropic", "gemini": "Gemini"}


@pytest.mark.parametrize("sdk", SDKS)
@pytest.mark.parametrize("mode", MODES)
def test_sdk(sdk: str, mode: str, pods: dict[str, Pod], quiet: Provider) -> None:
    runner, program, name, crosses = SDKS[sdk]
    command = ["python", "-c"] if runner == "python" else ["node", "--input-type=module", "--eval"]
    done = pods[mode].exec(*command, program)
    assert done.status == 0, f"{done.out}{done.error}\n{pods[mode].log()[-3000:]}"
    told = json.loads(done.out.strip().splitlines()[-1])
    for way in ("whole", "stream"):
        assert told[way].startswith(f"Hello from the {TITLES[name]} demo provider") and told[way].endswith("Hi there"), told
    assert told["tool"] == ["weather", {"city": "demo"}]
    assert told["crossed"].startswith(f"Hello from the {crosses} demo provider")
    assert told["by"] == name
    check_providers(quiet)


@pytest.mark.parametrize("language", apps.COMPILED)
@pytest.mark.parametrize("mode", [mode for mode in MODES if mode != "baseUrl"])
def test_other_languages(language: str, mode: str, pods: dict[str, Pod], quiet: Provider) -> None:
    """Their own HTTP clients, which trust what the environment names."""
    if language not in apps.languages():
        pytest.skip(f"{', '.join(apps.COMPILED[language][0])} are needed here for a program in {language}")
    done = pods[mode].exec(*apps.COMPILED[language][2])
    assert done.status == 0 and done.out.startswith("200 openai ") and "Hello from the OpenAI demo provider" in done.out, done
    check_providers(quiet)


def check_providers(provider: Provider) -> None:
    """Each saw its own key under its own name, and nothing of ours or of the pod's."""
    assert provider.requests()
    for seen in provider.requests():
        text = json.dumps(seen.headers)
        assert key_of(seen.provider) in text and "attache" not in text and "x-envoy" not in text, seen.headers
        assert seen.header("host") == HOSTS[seen.provider]
        assert not any(key_of(other) in text for other in HOSTS if other != seen.provider)
