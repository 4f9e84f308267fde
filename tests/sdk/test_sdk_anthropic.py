"""anthropic (Python), unmodified: messages, streams, tools, structured output, typed errors."""

import anthropic
import pytest

from sdk_shared import BREAKS, BROKEN, PERSON, Behind, Person, limited, weather_schema

TOOL = {"name": "weather", "description": "The weather", "input_schema": weather_schema()}
HI = [{"role": "user", "content": "Hi there"}]


@pytest.fixture
def client(behind: Behind) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=behind.url, api_key="secret-of-the-client", max_retries=0)


def test_chat(client: anthropic.Anthropic, behind: Behind) -> None:
    answer = client.messages.create(model=behind.model, max_tokens=100, system="Be kind", messages=HI)
    assert answer.content[0].text.startswith(behind.sentence) and answer.content[0].text.endswith("Hi there")
    assert answer.stop_reason == "end_turn" and answer.role == "assistant" and answer.type == "message"
    assert answer.usage.output_tokens == 12 and answer.usage.input_tokens > 0


def test_stream(client: anthropic.Anthropic, behind: Behind) -> None:
    with client.messages.stream(model=behind.model, max_tokens=100, messages=HI) as stream:
        texts = list(stream.text_stream)
        final = stream.get_final_message()
    assert len(texts) > 5 and "".join(texts) == final.content[0].text
    assert final.content[0].text.startswith(behind.sentence) and final.stop_reason == "end_turn"
    assert final.usage.output_tokens == 12 and final.usage.input_tokens > 0


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_tools_round_trip(stream: bool, client: anthropic.Anthropic, behind: Behind) -> None:
    messages: list = [{"role": "user", "content": "Weather?"}]
    if stream:
        with client.messages.stream(model=behind.model, max_tokens=100, messages=messages, tools=[TOOL]) as events:
            first = events.get_final_message()
    else:
        first = client.messages.create(model=behind.model, max_tokens=100, messages=messages, tools=[TOOL])
    assert first.stop_reason == "tool_use"
    call = first.content[-1]
    assert call.type == "tool_use" and call.name == "weather" and call.input == {"city": "demo", "days": 7}
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "snow at last"}
    messages += [{"role": "assistant", "content": first.content}, {"role": "user", "content": [result]}]
    second = client.messages.create(model=behind.model, max_tokens=100, messages=messages, tools=[TOOL])
    assert "snow at last" in second.content[0].text
    assert len(behind.results()) == 1 and "snow at last" in behind.results()[0]


def test_structured_output(client: anthropic.Anthropic, behind: Behind) -> None:
    answer = client.messages.parse(model=behind.model, max_tokens=100, messages=HI, output_format=Person)
    assert answer.parsed_output == PERSON


@pytest.mark.parametrize(("status", "kind"), [
    (400, anthropic.BadRequestError), (401, anthropic.AuthenticationError), (403, anthropic.PermissionDeniedError),
    (404, anthropic.NotFoundError), (429, anthropic.RateLimitError), (500, anthropic.InternalServerError), (503, anthropic.InternalServerError),
])
def test_error(status: int, kind: type[anthropic.APIStatusError], client: anthropic.Anthropic, behind: Behind) -> None:
    behind.fails(status, "in the provider's words")
    with pytest.raises(kind) as caught:
        client.messages.create(model=behind.model, max_tokens=100, messages=HI)
    assert "in the provider's words" in str(caught.value) and caught.value.status_code == status
    assert caught.value.body["type"] == "error"


def test_error_of_the_gateway(client: anthropic.Anthropic, behind: Behind) -> None:
    with pytest.raises(anthropic.NotFoundError) as caught:
        client.messages.create(model="no-such-model", max_tokens=100, messages=HI)
    assert caught.value.body["error"]["type"] == "not_found_error" and "no-such-model" in str(caught.value)
    with pytest.raises(anthropic.BadRequestError) as caught:
        client.messages.create(model=behind.model, max_tokens=100, messages=[])
    assert "messages" in str(caught.value)
    assert behind.seen() == []


def test_error_inside_a_stream(client: anthropic.Anthropic, behind: Behind) -> None:
    behind.fails_inside("too much just now")
    with pytest.raises(anthropic.APIStatusError, match="too much just now"):
        with client.messages.stream(model=behind.model, max_tokens=100, messages=HI) as stream:
            list(stream)


@pytest.mark.parametrize("how", BREAKS)
def test_stream_that_breaks_off(how: str, client: anthropic.Anthropic, behind: Behind) -> None:
    behind.breaks_off(how)
    with pytest.raises((anthropic.APIError, *BROKEN)):
        with client.messages.stream(model=behind.model, max_tokens=100, messages=HI) as stream:
            list(stream)


def test_stream_that_is_held_until_complete(client: anthropic.Anthropic, behind: Behind) -> None:
    behind.breaks_off("reset")
    model, sentence = behind.route
    headers = {"x-attache-delivery": "whole"}
    with client.messages.stream(model=model, max_tokens=100, messages=HI, extra_headers=headers) as stream:
        assert stream.get_final_text().startswith(sentence)


def test_stream_that_is_stopped_at_its_budget(budgeted: Behind) -> None:
    client = anthropic.Anthropic(base_url=budgeted.url, api_key="secret-of-the-client", max_retries=0)
    headers = limited()
    with client.messages.stream(model=budgeted.model, max_tokens=1000, messages=HI, extra_headers=headers) as stream:
        final = stream.get_final_message()
    assert final.stop_reason == "max_tokens" and final.content[0].text.startswith("It begins well")
    assert final.usage.output_tokens >= 50
    with pytest.raises(anthropic.RateLimitError, match="budget `brief`"):
        client.messages.create(model=budgeted.model, max_tokens=1000, messages=HI, extra_headers=headers)


def test_stream_that_is_not_ended(client: anthropic.Anthropic, behind: Behind) -> None:
    with client.messages.stream(model=behind.falls_silent(complete=True), max_tokens=100, messages=HI) as stream:
        assert stream.get_final_text() == f"{behind.sentence}, that goes on for a while" and stream.get_final_message().stop_reason == "end_turn"


def test_stream_that_falls_silent(client: anthropic.Anthropic, behind: Behind) -> None:
    with pytest.raises(anthropic.APIStatusError, match="sent nothing for 1 s"):
        with client.messages.stream(model=behind.falls_silent(complete=False), max_tokens=100, messages=HI) as stream:
            list(stream)
