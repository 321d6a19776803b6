"""PyPI `anthropic`, plain and async."""

import asyncio

import anthropic
import pytest
from conftest import ASK_PERSON, ASK_WEATHER, CITY, LONG, PERSON, QWEN, SMOLLM2, URL, Cancelled, person

client = anthropic.Anthropic(base_url=URL, api_key="any", max_retries=0)
HELLO = [{"role": "user", "content": "Say hello."}]
WEATHER = {"name": "get_weather", "description": "The weather in a city", "input_schema": CITY}
TIME = {"name": "get_time", "description": "The time", "input_schema": CITY}


# This client has no word for it any more, though the API has.
GREEDY = {"temperature": 0}


def create(model=SMOLLM2, messages=HELLO, **more):
    return client.messages.create(model=model, messages=messages, **{"max_tokens": 12, "extra_body": GREEDY, **more})


def error(kind, call):
    with pytest.raises(kind) as raised:
        call()
    return raised.value


def test_messages():
    answer = create()
    assert answer.content[0].type == "text" and answer.content[0].text
    assert answer.stop_reason in ("end_turn", "max_tokens") and answer.usage.output_tokens <= 12


def test_a_stream_says_the_same():
    with client.messages.stream(model=SMOLLM2, messages=HELLO, extra_body=GREEDY, max_tokens=12) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    whole = create()
    assert text == final.content[0].text == whole.content[0].text
    assert (final.stop_reason, final.usage.output_tokens) == (whole.stop_reason, whole.usage.output_tokens)


def test_the_order_of_events():
    kinds = [event.type for event in create(stream=True)]
    kinds = [kind for kind in kinds if kind not in ("content_block_delta", "ping")]
    assert kinds == ["message_start", "content_block_start", "content_block_stop", "message_delta", "message_stop"]


def test_system_and_stop_sequences():
    create(system="Be kind.")
    free = create(system="Be kind.").content[0].text
    word = free.split()[2]
    answer = create(system="Be kind.", stop_sequences=["never said", word])
    assert (answer.stop_reason, answer.stop_sequence) == ("stop_sequence", word)
    assert answer.content[0].text == free.partition(word)[0]


def test_tokens_are_counted():
    counted = client.messages.count_tokens(model=SMOLLM2, messages=HELLO).input_tokens
    usage = create().usage
    assert counted == usage.input_tokens + usage.cache_read_input_tokens


@pytest.mark.parametrize("choice", [{"type": "auto"}, {"type": "any"}, {"type": "tool", "name": "get_weather"}])
def test_a_tool_is_called_and_its_result_read(choice):
    asked = {"tools": [WEATHER, TIME], "max_tokens": 64}
    answer = create(QWEN, ASK_WEATHER, tool_choice=choice, **asked)
    (call,) = [block for block in answer.content if block.type == "tool_use"]
    assert answer.stop_reason == "tool_use" and (call.name, call.input) == ("get_weather", {"city": "Paris"})
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "21 degrees, sunny"}
    messages = [*ASK_WEATHER, {"role": "assistant", "content": answer.content}, {"role": "user", "content": [result]}]
    used = answer.usage
    read = create(QWEN, messages, tools=[WEATHER, TIME]).usage
    assert read.input_tokens + read.cache_read_input_tokens > used.input_tokens + used.cache_read_input_tokens + used.output_tokens


def test_a_tool_call_streamed():
    choice = {"type": "any"}
    with client.messages.stream(
        model=QWEN, messages=ASK_WEATHER, tools=[WEATHER], tool_choice=choice, extra_body=GREEDY, max_tokens=64
    ) as stream:
        pieces = [event.partial_json for event in stream if event.type == "input_json"]
        (used,) = stream.get_final_message().content
    assert (used.name, used.input) == ("get_weather", {"city": "Paris"}) and len(pieces) > 1


def test_answers_follow_a_schema():
    format = {"type": "json_schema", "schema": PERSON}
    asked = {"messages": ASK_PERSON, "max_tokens": 100, "output_config": {"format": format}}
    person(create(**asked).content[0].text)
    with client.messages.stream(model=QWEN, **asked) as stream:
        person("".join(stream.text_stream))
    wrong = {"format": {"type": "json_schema", "schema": {"type": "nothing"}}}
    error(anthropic.BadRequestError, lambda: create(output_config=wrong))


def test_thinking_is_no_error():
    # A model that does not think takes no notice.
    assert create(thinking={"type": "enabled", "budget_tokens": 1024}, max_tokens=2000, stop_sequences=["e"]).content


def test_models():
    assert SMOLLM2 in {model.id for model in client.models.list()}


@pytest.mark.parametrize("stream", [False, True])
def test_errors(stream):
    unknown = error(anthropic.NotFoundError, lambda: create("no-such-model", stream=stream))
    assert unknown.body["error"]["type"] == "not_found_error"
    for wrong in (
        {"extra_body": {"temperature": 1.5}},
        {"max_tokens": 0},
        {"tool_choice": {"type": "any"}},
        {"messages": []},
        {"messages": [{"role": "robot", "content": "x"}]},
    ):
        error(anthropic.BadRequestError, lambda: create(stream=stream, **wrong))
    long = error(anthropic.BadRequestError, lambda: create(messages=[{"role": "user", "content": LONG}], stream=stream))
    assert "tokens is longer than the context of" in long.message


def test_a_stream_that_is_closed_ends():
    with Cancelled():
        with client.messages.stream(model=SMOLLM2, messages=HELLO, max_tokens=3000) as stream:
            next(iter(stream.text_stream))


def test_async():
    async def run():
        client = anthropic.AsyncAnthropic(base_url=URL, api_key="any", max_retries=0)
        asked = {"model": SMOLLM2, "messages": HELLO, "extra_body": GREEDY, "max_tokens": 12}
        whole = await client.messages.create(**asked)
        async with client.messages.stream(**asked) as stream:
            assert "".join([text async for text in stream.text_stream]) == whole.content[0].text

    asyncio.run(run())
