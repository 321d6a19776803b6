"""PyPI `openai`, plain and async."""

import asyncio
import json

import openai
import pydantic
import pytest
from conftest import (
    ASK_PERSON, ASK_WEATHER, LONG, PERSON, QWEN, SMOLLM2, TIME, URL, WEATHER, Cancelled, cosine, person
)

client = openai.OpenAI(base_url=URL + "/v1", api_key="any", max_retries=0)
HELLO = [{"role": "user", "content": "Say hello."}]


def chat(model=SMOLLM2, messages=HELLO, **more):
    return client.chat.completions.create(model=model, messages=messages, **{"temperature": 0, "max_tokens": 12, **more})


def error(kind, call):
    with pytest.raises(kind) as raised:
        call()
    return raised.value


def test_models():
    assert {model.id for model in client.models.list()} >= {SMOLLM2, QWEN}
    assert client.models.retrieve(QWEN).id == QWEN
    error(openai.NotFoundError, lambda: client.models.retrieve("no-such-model"))


def test_chat():
    answer = chat()
    (choice,) = answer.choices
    assert choice.message.content and choice.finish_reason in ("stop", "length")
    usage = answer.usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens and usage.completion_tokens <= 12


def test_chat_streamed_says_the_same():
    chunks = list(chat(stream=True, stream_options={"include_usage": True}))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1])
    whole = chat()
    assert text == whole.choices[0].message.content
    assert chunks[-2].choices[0].finish_reason == whole.choices[0].finish_reason
    assert chunks[-1].choices == [] and chunks[-1].usage.completion_tokens == whole.usage.completion_tokens


def test_a_prompt_is_read_once():
    # Longer than a page of the cache.
    messages = [{"role": "system", "content": "Be brief and kind. " * 30}, *HELLO]
    first, second = chat(messages=messages), chat(messages=messages)
    assert second.usage.prompt_tokens_details.cached_tokens > first.usage.prompt_tokens / 2


def test_several_choices():
    answer = chat(n=3, temperature=1.5, seed=5)
    texts = {choice.message.content for choice in answer.choices}
    assert [choice.index for choice in answer.choices] == [0, 1, 2] and len(texts) > 1
    chunks = [chunk.choices[0] for chunk in chat(n=2, stream=True)]
    assert {chunk.index for chunk in chunks} == {0, 1}
    assert sum(chunk.finish_reason is not None for chunk in chunks) == 2


def test_completions():
    asked = {"model": SMOLLM2, "prompt": "Once upon a time", "temperature": 0, "max_tokens": 16}
    answer = client.completions.create(**asked, logprobs=2)
    (choice,) = answer.choices
    assert "".join(choice.logprobs.tokens) == choice.text and len(choice.logprobs.top_logprobs[0]) >= 2
    parts = client.completions.create(**asked, stream=True)
    assert "".join(part.choices[0].text for part in parts) == choice.text
    word = choice.text.split()[3]
    (stopped,) = client.completions.create(**asked, stop=[word]).choices
    assert stopped.text == choice.text.partition(word)[0] and stopped.finish_reason == "stop"
    several = client.completions.create(**{**asked, "prompt": ["one two", "a b c"], "max_tokens": 2})
    assert [choice.index for choice in several.choices] == [0, 1]


def test_tools():
    def call(**more):
        (choice,) = chat(QWEN, ASK_WEATHER, tools=[WEATHER, TIME], max_tokens=64, **more).choices
        return choice

    for choice in ("required", "auto"):
        answer = call(tool_choice=choice)
        assert answer.finish_reason == "tool_calls"
        (made,) = answer.message.tool_calls
        assert made.function.name == "get_weather" and json.loads(made.function.arguments) == {"city": "Paris"}
    named = call(tool_choice={"type": "function", "function": {"name": "get_time"}})
    assert named.message.tool_calls[0].function.name == "get_time"
    assert not call(tool_choice="none").message.tool_calls
    # A model that was never taught tools still has to call.
    forced = chat(SMOLLM2, ASK_WEATHER, tools=[WEATHER], tool_choice="required", max_tokens=64).choices[0]
    assert isinstance(json.loads(forced.message.tool_calls[0].function.arguments)["city"], str)


def test_a_tool_call_streamed_and_answered():
    asked = {"tools": [WEATHER], "max_tokens": 64}
    options = {"include_usage": True}
    with client.chat.completions.stream(
        model=QWEN, messages=ASK_WEATHER, temperature=0, stream_options=options, **asked
    ) as stream:
        done = stream.get_final_completion()
    message = done.choices[0].message
    (made,) = message.tool_calls
    assert made.function.name == "get_weather" and json.loads(made.function.arguments) == {"city": "Paris"}
    result = {"role": "tool", "tool_call_id": made.id, "content": "21 degrees, sunny"}
    messages = [*ASK_WEATHER, {"role": "assistant", "tool_calls": [made.model_dump()]}, result]
    assert chat(QWEN, messages, tools=[WEATHER]).usage.prompt_tokens > done.usage.total_tokens


def test_answers_follow_a_schema():
    format = {"type": "json_schema", "json_schema": {"name": "person", "schema": PERSON, "strict": True}}
    answer = chat(messages=ASK_PERSON, response_format=format, temperature=0.8, seed=1, max_tokens=100)
    person(answer.choices[0].message.content)
    chunks = chat(QWEN, ASK_PERSON, response_format=format, max_tokens=100, stream=True)
    person("".join(chunk.choices[0].delta.content or "" for chunk in chunks))
    anything = chat(QWEN, ASK_PERSON, response_format={"type": "json_object"}, max_tokens=200).choices[0]
    assert anything.finish_reason == "length" or json.loads(anything.message.content) is not None


def test_answers_become_python_objects():
    class Pet(pydantic.BaseModel):
        name: str = pydantic.Field(max_length=12)
        legs: int = pydantic.Field(ge=0, le=8)

    asked = [{"role": "user", "content": "Describe a pet."}]
    answer = client.chat.completions.parse(model=QWEN, messages=asked, response_format=Pet, max_tokens=60)
    assert 0 <= answer.choices[0].message.parsed.legs <= 8


def test_log_probabilities():
    choice = chat(logprobs=True, top_logprobs=2).choices[0]
    assert "".join(entry.token for entry in choice.logprobs.content) == choice.message.content
    for entry in choice.logprobs.content:
        # Greedy: the token is the likeliest.
        assert len(entry.top_logprobs) == 2 and entry.top_logprobs[0].token == entry.token


def test_bias():
    likeliest = chat(max_tokens=1).choices[0].message.content
    body = {"model": SMOLLM2, "text": likeliest}
    (token,) = client.post(URL + "/api/tokenize", body=body, cast_to=object)["tokens"]
    assert chat(max_tokens=1, logit_bias={str(token): -100}).choices[0].message.content != likeliest


def test_a_seed_fixes_the_answer():
    assert len({chat(temperature=1.5, seed=7).choices[0].message.content for _ in range(3)}) == 1


def test_stop():
    free = chat().choices[0].message.content
    word = free.split()[2]
    (stopped,) = chat(stop=[word]).choices
    assert stopped.message.content == free.partition(word)[0] and stopped.finish_reason == "stop"


def test_reasoning_effort():
    # A model that does not think takes no notice.
    assert chat(reasoning_effort="low", max_completion_tokens=12).choices[0].message.content


def test_embeddings():
    texts = ["The cat sat on the mat.", "A cat lay on a rug.", "Interest rates rose in March."]
    # By default the client asks for base64.
    packed = client.embeddings.create(model=SMOLLM2, input=texts)
    first, near, far = (entry.embedding for entry in packed.data)
    assert [entry.index for entry in packed.data] == [0, 1, 2] and len(first) == 576
    assert cosine(first, near) > cosine(first, far) and packed.usage.prompt_tokens > 15
    plain = client.embeddings.create(model=SMOLLM2, input=texts, encoding_format="float")
    assert all(cosine(a.embedding, b.embedding) > 0.9999 for a, b in zip(packed.data, plain.data))
    assert len(client.embeddings.create(model=SMOLLM2, input="x", dimensions=32).data[0].embedding) == 32
    error(openai.NotFoundError, lambda: client.embeddings.create(model="no-such-model", input="x"))
    error(openai.BadRequestError, lambda: client.embeddings.create(model=SMOLLM2, input=[]))


def test_a_prompt_is_scored():
    """What evaluation harnesses ask for."""
    asked = {"model": SMOLLM2, "prompt": "The capital of France is Paris", "echo": True, "logprobs": 1, "temperature": 0}
    (choice,) = client.completions.create(**asked, max_tokens=1).choices
    values = choice.logprobs.token_logprobs
    assert choice.text.startswith(asked["prompt"]) and "".join(choice.logprobs.tokens) == choice.text
    assert values[0] is None and all(value <= 0 for value in values[1:])


def test_responses():
    asked = {"model": QWEN, "input": "Say hello.", "temperature": 0, "max_output_tokens": 16}
    answer = client.responses.create(**asked)
    assert answer.output_text and answer.usage.output_tokens <= 16
    events = list(client.responses.create(**asked, stream=True))
    assert events[0].type == "response.created"
    assert events[-1].type in ("response.completed", "response.incomplete")
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert text == answer.output_text


@pytest.mark.parametrize("stream", [False, True])
def test_errors(stream):
    unknown = error(openai.NotFoundError, lambda: chat("no-such-model", stream=stream))
    assert unknown.code == "model_not_found"
    format = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "nothing"}}}
    for wrong in (
        {"temperature": 3},
        {"max_tokens": 0},
        {"top_logprobs": 50, "logprobs": True},
        {"tool_choice": "required"},
        {"response_format": format},
        {"logit_bias": {"x": 1}},
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}]},
    ):
        error(openai.BadRequestError, lambda: chat(stream=stream, **wrong))
    long = error(openai.BadRequestError, lambda: chat(messages=[{"role": "user", "content": LONG}], stream=stream))
    assert long.code == "context_length_exceeded" and "tokens is longer than the context of" in long.message


def test_what_does_not_fit_can_be_dropped():
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": LONG}, *HELLO]
    answer = chat(messages=messages, extra_body={"overflow": "drop_oldest"})
    assert answer.choices[0].message.content and answer.dropped["messages"] == 1


def test_a_stream_that_is_closed_ends():
    with Cancelled():
        stream = chat(messages=HELLO, max_tokens=3000, stream=True, extra_body={"ignore_eos": True})
        next(stream)
        stream.close()


def test_async():
    async def run():
        client = openai.AsyncOpenAI(base_url=URL + "/v1", api_key="any", max_retries=0)
        asked = {"model": SMOLLM2, "messages": HELLO, "temperature": 0, "max_tokens": 12}
        answers = await asyncio.gather(*(client.chat.completions.create(**asked) for _ in range(4)))
        assert all(answer.choices[0].message.content for answer in answers)
        whole = await client.chat.completions.create(**asked)
        stream = await client.chat.completions.create(**asked, stream=True)
        assert "".join([chunk.choices[0].delta.content or "" async for chunk in stream]) == whole.choices[0].message.content
        with pytest.raises(openai.NotFoundError):
            await client.chat.completions.create(**{**asked, "model": "no-such-model"})

    asyncio.run(run())
