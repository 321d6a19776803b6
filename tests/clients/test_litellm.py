"""PyPI `litellm`, by each of its ways to a server like this."""

import asyncio
import json

import litellm
import pytest
from conftest import ASK_PERSON, ASK_WEATHER, PERSON, QWEN, SMOLLM2, TIME, URL, WEATHER, cosine, person

HELLO = [{"role": "user", "content": "Say hello."}]
# Its name for the provider, and where that expects the server.
WAYS = {
    "ollama": URL,
    "ollama_chat": URL,
    "openai": URL + "/v1",
    "anthropic": URL,
}
every_way = pytest.mark.parametrize("way", WAYS)


def asked(way, model=SMOLLM2, messages=HELLO, **more):
    more = {"temperature": 0, "max_tokens": 12, **more}
    return {"model": f"{way}/{model}", "messages": messages, "api_base": WAYS[way], "api_key": "any", "num_retries": 0, **more}


@every_way
def test_plain_and_streamed(way):
    litellm.completion(**asked(way))  # So that the prompt is in the cache, see `greeted`.
    answer = litellm.completion(**asked(way))
    text = answer.choices[0].message.content
    assert text and answer.usage.completion_tokens <= 12
    chunks = litellm.completion(**asked(way, stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == text


@every_way
def test_async(way):
    async def run():
        answer = await litellm.acompletion(**asked(way))
        stream = await litellm.acompletion(**asked(way, stream=True))
        parts = [chunk.choices[0].delta.content or "" async for chunk in stream]
        assert "".join(parts) == answer.choices[0].message.content

    asyncio.run(run())


@pytest.mark.parametrize("way", ["ollama_chat", "openai", "anthropic"])
def test_tools(way):
    answer = litellm.completion(**asked(way, QWEN, ASK_WEATHER, tools=[WEATHER, TIME], max_tokens=64))
    (call,) = answer.choices[0].message.tool_calls
    assert call.function.name == "get_weather" and json.loads(call.function.arguments) == {"city": "Paris"}


@pytest.mark.parametrize("way", ["ollama", "ollama_chat", "openai"])
def test_answers_follow_a_schema(way):
    format = {"type": "json_schema", "json_schema": {"name": "person", "schema": PERSON}}
    answer = litellm.completion(**asked(way, messages=ASK_PERSON, response_format=format, max_tokens=100))
    person(answer.choices[0].message.content)


@pytest.mark.parametrize("way", ["ollama", "openai"])
def test_embeddings(way):
    texts = ["The cat sat on the mat.", "A cat lay on a rug.", "Interest rates rose in March."]
    # litellm knows of no encodings but OpenAI's, and asks OpenAI's for none by default.
    encoding = {"encoding_format": "float"} if way == "openai" else {}
    place = {"api_base": WAYS[way], "api_key": "any", **encoding}
    answer = litellm.embedding(model=f"{way}/{SMOLLM2}", input=texts, **place)
    first, near, far = (entry["embedding"] for entry in answer.data)
    assert cosine(first, near) > cosine(first, far)


@every_way
def test_errors(way):
    # It knows what Ollama's 404 is no better than what a broken connection is.
    kind = litellm.exceptions.APIConnectionError if way.startswith("ollama") else litellm.NotFoundError
    with pytest.raises(kind) as raised:
        litellm.completion(**asked(way, "no-such-model"))
    assert "no-such-model" in str(raised.value)
