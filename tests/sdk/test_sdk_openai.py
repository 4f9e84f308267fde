"""openai (Python), unmodified: chat, streams, tools, structured output, typed errors."""

import json

import openai
import pytest

from sdk_shared import BREAKS, BROKEN, PERSON, Behind, Person, limited, weather_schema

TOOL = {"type": "function", "function": {"name": "weather", "description": "The weather", "parameters": weather_schema()}}
HI = [{"role": "user", "content": "Hi there"}]


@pytest.fixture
def client(behind: Behind) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{behind.url}/v1", api_key="secret-of-the-client", max_retries=0)


def test_chat(client: openai.OpenAI, behind: Behind) -> None:
    answer = client.chat.completions.create(model=behind.model, messages=[{"role": "system", "content": "Be kind"}, *HI])
    assert answer.choices[0].message.content.startswith(behind.sentence)
    assert answer.choices[0].message.content.endswith("Hi there")
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.completion_tokens == 12 and answer.usage.total_tokens == answer.usage.prompt_tokens + 12


def test_stream(client: openai.OpenAI, behind: Behind) -> None:
    chunks = list(client.chat.completions.create(model=behind.model, messages=HI, stream=True))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert text.startswith(behind.sentence) and text.endswith("Hi there")
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert len(chunks) > 5 and all(chunk.usage is None for chunk in chunks)


def test_stream_with_usage(client: openai.OpenAI, behind: Behind) -> None:
    chunks = list(client.chat.completions.create(model=behind.model, messages=HI, stream=True, stream_options={"include_usage": True}))
    assert chunks[-1].choices == [] and chunks[-1].usage.completion_tokens == 12


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_tools_round_trip(stream: bool, client: openai.OpenAI, behind: Behind) -> None:
    messages = [{"role": "user", "content": "Weather?"}]
    if stream:
        with client.chat.completions.stream(model=behind.model, messages=messages, tools=[TOOL]) as events:
            message = events.get_final_completion().choices[0].message
    else:
        answer = client.chat.completions.create(model=behind.model, messages=messages, tools=[TOOL])
        assert answer.choices[0].finish_reason == "tool_calls"
        message = answer.choices[0].message
    call = message.tool_calls[0]
    assert call.function.name == "weather" and json.loads(call.function.arguments) == {"city": "demo", "days": 7}
    result = {"role": "tool", "tool_call_id": call.id, "content": "snow at last"}
    messages += [message.model_dump(exclude_none=True, exclude={"parsed"}), result]
    for entry in messages[1].get("tool_calls", []):
        entry["function"].pop("parsed_arguments", None)
    second = client.chat.completions.create(model=behind.model, messages=messages, tools=[TOOL])
    assert "snow at last" in second.choices[0].message.content
    assert len(behind.results()) == 1 and "snow at last" in behind.results()[0]


def test_structured_output(client: openai.OpenAI, behind: Behind) -> None:
    answer = client.chat.completions.parse(model=behind.model, messages=HI, response_format=Person)
    assert answer.choices[0].message.parsed == PERSON


def test_json_schema(client: openai.OpenAI, behind: Behind) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"], "additionalProperties": False}
    form = {"type": "json_schema", "json_schema": {"name": "thing", "schema": schema, "strict": True}}
    answer = client.chat.completions.create(model=behind.model, messages=HI, response_format=form)
    assert json.loads(answer.choices[0].message.content) == {"a": 7}


@pytest.mark.parametrize(("status", "kind"), [
    (400, openai.BadRequestError), (401, openai.AuthenticationError), (403, openai.PermissionDeniedError),
    (404, openai.NotFoundError), (429, openai.RateLimitError), (500, openai.InternalServerError), (503, openai.InternalServerError),
])
def test_error(status: int, kind: type[openai.APIStatusError], client: openai.OpenAI, behind: Behind) -> None:
    behind.fails(status, "in the provider's words")
    with pytest.raises(kind) as caught:
        client.chat.completions.create(model=behind.model, messages=HI)
    assert "in the provider's words" in caught.value.message and caught.value.status_code == status


def test_error_of_the_gateway(client: openai.OpenAI, behind: Behind) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="no-such-model", messages=HI)
    assert caught.value.code == "model_not_found" and "no-such-model" in caught.value.message
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model=behind.model, messages=[])
    assert "messages" in caught.value.message
    assert behind.seen() == []


def test_error_inside_a_stream(client: openai.OpenAI, behind: Behind) -> None:
    behind.fails_inside("too much just now")
    with pytest.raises(openai.APIError, match="too much just now"):
        list(client.chat.completions.create(model=behind.model, messages=HI, stream=True))




@pytest.mark.parametrize("how", BREAKS)
def test_stream_that_breaks_off(how: str, client: openai.OpenAI, behind: Behind) -> None:
    behind.breaks_off(how)
    with pytest.raises((openai.APIError, *BROKEN)):
        list(client.chat.completions.create(model=behind.model, messages=HI, stream=True))


def test_stream_that_is_held_until_complete(client: openai.OpenAI, behind: Behind) -> None:
    behind.breaks_off("reset")
    model, sentence = behind.route
    headers = {"x-attache-delivery": "whole"}
    chunks = list(client.chat.completions.create(model=model, messages=HI, stream=True, extra_headers=headers))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices).startswith(sentence)


@pytest.mark.parametrize("usage", [False, True], ids=["plain", "with-usage"])
def test_stream_that_is_stopped_at_its_budget(usage: bool, budgeted: Behind) -> None:
    client = openai.OpenAI(base_url=f"{budgeted.url}/v1", api_key="secret-of-the-client", max_retries=0)
    headers, options = limited(), {"stream_options": {"include_usage": True}} if usage else {}
    chunks = list(client.chat.completions.create(model=budgeted.model, messages=HI, stream=True, extra_headers=headers, **options))
    choices = [chunk.choices[0] for chunk in chunks if chunk.choices]
    assert "".join(choice.delta.content or "" for choice in choices).startswith("It begins well")
    assert [choice.finish_reason for choice in choices if choice.finish_reason] == ["length"]
    assert (chunks[-1].usage.completion_tokens >= 50) if usage else all(chunk.usage is None for chunk in chunks)
    with pytest.raises(openai.RateLimitError, match="budget `brief`") as caught:
        client.chat.completions.create(model=budgeted.model, messages=HI, extra_headers=headers)
    assert caught.value.code == "budget_exceeded" and int(caught.value.response.headers["retry-after"]) > 0


def test_stream_that_is_not_ended(client: openai.OpenAI, behind: Behind) -> None:
    chunks = list(client.chat.completions.create(model=behind.falls_silent(complete=True), messages=HI, stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == f"{behind.sentence}, that goes on for a while"
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"


def test_stream_that_falls_silent(client: openai.OpenAI, behind: Behind) -> None:
    with pytest.raises(openai.APIError, match="sent nothing for 1 s"):
        list(client.chat.completions.create(model=behind.falls_silent(complete=False), messages=HI, stream=True))
