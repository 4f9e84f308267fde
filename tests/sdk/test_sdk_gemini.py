"""google-genai (Python), unmodified: generate_content, streams, functions, structured output, typed errors."""

import pytest
from google import genai
from google.genai import errors, types

from sdk_shared import BREAKS, BROKEN, PERSON, Behind, Person, limited, weather_schema

DECLARED = types.FunctionDeclaration(name="weather", description="The weather", parameters_json_schema=weather_schema())
TOOL = types.Tool(function_declarations=[DECLARED])


@pytest.fixture
def client(behind: Behind) -> genai.Client:
    options = types.HttpOptions(base_url=behind.url, retry_options=types.HttpRetryOptions(attempts=1))
    return genai.Client(api_key="secret-of-the-client", http_options=options)


def test_chat(client: genai.Client, behind: Behind) -> None:
    config = types.GenerateContentConfig(system_instruction="Be kind", temperature=0.5)
    answer = client.models.generate_content(model=behind.model, contents="Hi there", config=config)
    assert answer.text.startswith(behind.sentence) and answer.text.endswith("Hi there")
    assert answer.candidates[0].finish_reason == types.FinishReason.STOP
    assert answer.usage_metadata.candidates_token_count == 12


def test_stream(client: genai.Client, behind: Behind) -> None:
    chunks = list(client.models.generate_content_stream(model=behind.model, contents="Hi there"))
    text = "".join(chunk.text or "" for chunk in chunks)
    assert len(chunks) > 5 and text.startswith(behind.sentence) and text.endswith("Hi there")
    assert chunks[-1].candidates[0].finish_reason == types.FinishReason.STOP
    assert chunks[-1].usage_metadata.candidates_token_count == 12


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_tools_round_trip(stream: bool, client: genai.Client, behind: Behind) -> None:
    config = types.GenerateContentConfig(tools=[TOOL])
    contents = [types.Content(role="user", parts=[types.Part(text="Weather?")])]
    if stream:
        parts = [part for chunk in client.models.generate_content_stream(model=behind.model, contents=contents, config=config)
                 for part in (chunk.candidates[0].content.parts or [] if chunk.candidates and chunk.candidates[0].content else [])]
        first = types.Content(role="model", parts=parts)
    else:
        first = client.models.generate_content(model=behind.model, contents=contents, config=config).candidates[0].content
    call = next(part.function_call for part in first.parts if part.function_call)
    assert call.name == "weather" and call.args == {"city": "demo", "days": 7}
    answer = types.Part.from_function_response(name=call.name, response={"result": "snow at last"})
    answer.function_response.id = call.id
    contents += [first, types.Content(role="user", parts=[answer])]
    second = client.models.generate_content(model=behind.model, contents=contents, config=config)
    assert "snow at last" in second.text
    assert len(behind.results()) == 1 and "snow at last" in behind.results()[0]


def test_automatic_function_calling(client: genai.Client, behind: Behind) -> None:
    """The SDK's own loop over a Python function: it drops the call's id, so names alone must be enough."""
    asked: list[str] = []

    def weather(city: str) -> str:
        """The weather in a city."""
        asked.append(city)
        return "snow at last"

    answer = client.models.generate_content(model=behind.model, contents="Weather?", config=types.GenerateContentConfig(tools=[weather]))
    assert asked == ["demo"] and "snow at last" in answer.text


def test_structured_output(client: genai.Client, behind: Behind) -> None:
    config = types.GenerateContentConfig(response_mime_type="application/json", response_schema=Person)
    answer = client.models.generate_content(model=behind.model, contents="Hi there", config=config)
    assert answer.parsed == PERSON


def test_structured_output_json_schema(client: genai.Client, behind: Behind) -> None:
    config = types.GenerateContentConfig(response_mime_type="application/json", response_json_schema=Person.model_json_schema())
    answer = client.models.generate_content(model=behind.model, contents="Hi there", config=config)
    assert Person.model_validate_json(answer.text) == PERSON


@pytest.mark.parametrize(("status", "kind"), [
    (400, errors.ClientError), (401, errors.ClientError), (403, errors.ClientError), (404, errors.ClientError),
    (429, errors.ClientError), (500, errors.ServerError), (503, errors.ServerError),
])
def test_error(status: int, kind: type[errors.APIError], client: genai.Client, behind: Behind) -> None:
    behind.fails(status, "in the provider's words")
    with pytest.raises(kind) as caught:
        client.models.generate_content(model=behind.model, contents="Hi there")
    assert "in the provider's words" in caught.value.message and caught.value.code == status
    assert isinstance(caught.value.status, str) and caught.value.status


def test_error_of_the_gateway(client: genai.Client, behind: Behind) -> None:
    with pytest.raises(errors.ClientError) as caught:
        client.models.generate_content(model="no-such-model", contents="Hi there")
    assert caught.value.code == 404 and caught.value.status == "NOT_FOUND" and "no-such-model" in caught.value.message
    assert behind.seen() == []


def test_error_inside_a_stream(client: genai.Client, behind: Behind) -> None:
    behind.fails_inside("too much just now")
    with pytest.raises(errors.APIError, match="too much just now"):
        list(client.models.generate_content_stream(model=behind.model, contents="Hi there"))


@pytest.mark.parametrize("how", BREAKS)
def test_stream_that_breaks_off(how: str, client: genai.Client, behind: Behind) -> None:
    behind.breaks_off(how)
    with pytest.raises((errors.APIError, *BROKEN)):
        list(client.models.generate_content_stream(model=behind.model, contents="Hi there"))


def test_stream_that_is_held_until_complete(client: genai.Client, behind: Behind) -> None:
    behind.breaks_off("reset")
    model, sentence = behind.route
    config = types.GenerateContentConfig(http_options=types.HttpOptions(headers={"x-attache-delivery": "whole"}))
    chunks = list(client.models.generate_content_stream(model=model, contents="Hi there", config=config))
    assert "".join(chunk.text or "" for chunk in chunks).startswith(sentence)


def test_stream_that_is_stopped_at_its_budget(budgeted: Behind) -> None:
    headers = limited()
    options = types.HttpOptions(base_url=budgeted.url, headers=headers, retry_options=types.HttpRetryOptions(attempts=1))
    client = genai.Client(api_key="secret-of-the-client", http_options=options)
    chunks = list(client.models.generate_content_stream(model=budgeted.model, contents="Hi there"))
    assert "".join(chunk.text or "" for chunk in chunks).startswith("It begins well")
    assert chunks[-1].candidates[0].finish_reason == types.FinishReason.MAX_TOKENS
    assert chunks[-1].usage_metadata.candidates_token_count >= 50
    with pytest.raises(errors.ClientError, match="budget `brief`") as caught:
        client.models.generate_content(model=budgeted.model, contents="Hi there")
    assert caught.value.code == 429


def test_stream_that_is_not_ended(client: genai.Client, behind: Behind) -> None:
    chunks = list(client.models.generate_content_stream(model=behind.falls_silent(complete=True), contents="Hi there"))
    assert "".join(chunk.text or "" for chunk in chunks) == f"{behind.sentence}, that goes on for a while"
    assert chunks[-1].candidates[0].finish_reason == types.FinishReason.STOP


def test_stream_that_falls_silent(client: genai.Client, behind: Behind) -> None:
    with pytest.raises(errors.APIError, match="sent nothing for 1 s"):
        list(client.models.generate_content_stream(model=behind.falls_silent(complete=False), contents="Hi there"))
