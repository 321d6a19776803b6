"""PyPI `ollama`, plain and async."""

import asyncio

import ollama
import pytest
from conftest import (
    ASK_PERSON, ASK_WEATHER, LONG, PERSON, QWEN, SMOLLM2, TIME, URL, WEATHER, Cancelled, cosine, person, within
)

client = ollama.Client(host=URL)
HELLO = [{"role": "user", "content": "Say hello."}]
GREEDY = {"temperature": 0, "num_predict": 12}


def error(call):
    with pytest.raises(ollama.ResponseError) as raised:
        call()
    return raised.value


def test_models_are_listed_and_shown():
    listed = {model.model: model for model in client.list().models}
    assert set(listed) >= {SMOLLM2, QWEN}
    assert listed[SMOLLM2].details.family == "llama" and listed[SMOLLM2].size > 90_000_000
    assert len(listed[SMOLLM2].digest) == 64
    shown = client.show(QWEN)
    assert shown.modelinfo["general.architecture"] == "qwen2"
    assert shown.modelinfo["qwen2.context_length"] == 32768
    assert set(shown.capabilities) >= {"completion", "tools", "insert"}
    assert "tools" in shown.template
    assert "tools" not in client.show(SMOLLM2).capabilities


def test_chat():
    answer = client.chat(SMOLLM2, HELLO, options=GREEDY)
    assert answer.message.role == "assistant" and answer.message.content
    assert answer.done and answer.done_reason in ("stop", "length")
    assert 0 < answer.eval_count <= 12 and answer.prompt_eval_count > 10
    assert answer.total_duration >= answer.eval_duration > 0


def test_chat_streamed_says_the_same():
    whole = client.chat(SMOLLM2, HELLO, options=GREEDY)
    parts = list(client.chat(SMOLLM2, HELLO, options=GREEDY, stream=True))
    assert "".join(part.message.content for part in parts) == whole.message.content
    assert [part.done for part in parts] == [False] * (len(parts) - 1) + [True]
    assert len(parts) > 3 and parts[-1].eval_count == whole.eval_count


def test_a_conversation_goes_on():
    first = client.chat(SMOLLM2, HELLO, options=GREEDY)
    more = [*HELLO, first.message, {"role": "user", "content": "And again."}]
    assert client.chat(SMOLLM2, more, options=GREEDY).prompt_eval_count > first.prompt_eval_count


def test_generate():
    answer = client.generate(SMOLLM2, "Once upon a time", raw=True, options=GREEDY)
    parts = list(client.generate(SMOLLM2, "Once upon a time", raw=True, options=GREEDY, stream=True))
    assert "".join(part.response for part in parts) == answer.response
    assert len(answer.context) == answer.prompt_eval_count + answer.eval_count


def test_fill_in_the_middle():
    answer = client.generate(QWEN, "def add(a, b):\n    return ", suffix="\n\nprint(add(1, 2))\n", options=GREEDY)
    assert answer.response.strip().startswith("a + b")


def test_an_empty_prompt_loads_and_unloads():
    assert client.generate(SMOLLM2).done_reason == "load"
    assert SMOLLM2 in [model.model for model in client.ps().models]
    assert client.generate(SMOLLM2, keep_alive=0).done_reason == "unload"
    assert within(10, lambda: SMOLLM2 not in [model.model for model in client.ps().models])


def test_a_tool_is_called_and_its_result_read():
    answer = client.chat(QWEN, ASK_WEATHER, tools=[WEATHER], options={"temperature": 0, "num_predict": 64})
    (call,) = answer.message.tool_calls
    assert call.function.name == "get_weather" and call.function.arguments == {"city": "Paris"}
    messages = [*ASK_WEATHER, answer.message, {"role": "tool", "tool_name": "get_weather", "content": "21 degrees, sunny"}]
    final = client.chat(QWEN, messages, tools=[WEATHER], options=GREEDY)
    assert final.prompt_eval_count > answer.prompt_eval_count + answer.eval_count


def test_a_python_function_is_a_tool():
    def get_weather(city: str) -> str:
        """The weather in a city.

        Args:
            city: Name of the city
        """
        return city

    parts = client.chat(QWEN, ASK_WEATHER, tools=[get_weather, TIME], stream=True,
                        options={"temperature": 0, "num_predict": 64})
    calls = [call for part in parts for call in part.message.tool_calls or []]
    assert [(call.function.name, call.function.arguments) for call in calls] == [("get_weather", {"city": "Paris"})]


def test_answers_follow_a_schema():
    options = {"temperature": 0.8, "seed": 3, "num_predict": 100}
    person(client.chat(SMOLLM2, ASK_PERSON, format=PERSON, options=options).message.content)
    person(client.generate(SMOLLM2, "Make up a person.", format=PERSON, options=options).response)
    parts = client.chat(QWEN, ASK_PERSON, format=PERSON, options=options, stream=True)
    person("".join(part.message.content for part in parts))


def test_embeddings():
    one = client.embed(SMOLLM2, "The cat sat on the mat.")
    (vector,) = one.embeddings
    assert len(vector) == 576 and abs(cosine(vector, vector) - 1) < 1e-6
    assert abs(sum(x * x for x in vector) - 1) < 1e-3
    several = client.embed(SMOLLM2, ["The cat sat on the mat.", "A cat lay on a rug.", "Interest rates rose in March."])
    first, near, far = several.embeddings
    # In a batch the sums differ in their last bits.
    assert cosine(first, vector) > 0.99 and cosine(first, near) > cosine(first, far)
    assert several.prompt_eval_count > one.prompt_eval_count
    short = client.embed(SMOLLM2, "The cat sat on the mat.", dimensions=64).embeddings[0]
    assert len(short) == 64 and abs(sum(x * x for x in short) - 1) < 1e-3
    # The older endpoint does not scale its vector to length 1.
    old = client.embeddings(SMOLLM2, "The cat sat on the mat.").embedding
    assert len(old) == 576 and cosine(old, vector) > 0.99
    assert error(lambda: client.embed("no-such-model", "x")).status_code == 404


def test_log_probabilities():
    answer = client.chat(SMOLLM2, HELLO, options=GREEDY, logprobs=True, top_logprobs=3)
    text = "".join(entry.token for entry in answer.logprobs)
    assert text == answer.message.content
    for entry in answer.logprobs:
        tops = [top.logprob for top in entry.top_logprobs]
        assert len(tops) == 3 and tops == sorted(tops, reverse=True) and tops[0] <= 0


def test_a_seed_fixes_the_answer():
    def ask(seed):
        options = {"temperature": 1.5, "seed": seed, "num_predict": 16}
        return client.generate(SMOLLM2, "A story:", raw=True, options=options).response

    ask(0)
    assert ask(1) == ask(1)
    assert len({ask(seed) for seed in range(4)}) > 1


def test_stop():
    def ask(**more):
        return client.generate(SMOLLM2, "Once upon a time", raw=True, options={**GREEDY, **more})

    free = ask().response
    word = free.split()[4]
    stopped = ask(stop=["never said", word])
    assert stopped.response == free.partition(word)[0] and stopped.done_reason == "stop"


def test_thinking_is_for_models_that_think():
    refused = error(lambda: client.chat(SMOLLM2, HELLO, think=True))
    assert refused.status_code == 400 and "does not support thinking" in refused.error
    answer = client.chat(SMOLLM2, HELLO, think=False, options=GREEDY)
    assert answer.message.content and answer.message.thinking is None


@pytest.mark.parametrize("stream", [False, True])
def test_errors(stream):
    def chat(model=SMOLLM2, **more):
        answer = client.chat(model, more.pop("messages", HELLO), stream=stream, **more)
        return list(answer) if stream else answer

    unknown = error(lambda: chat("no-such-model"))
    assert unknown.status_code == 404 and "no-such-model" in unknown.error
    for wrong in (
        {"options": {"temperature": "hot"}},
        {"format": {"type": "nothing"}},
        {"format": {"type": "object", "minProperties": 2, "maxProperties": 1}},
        {"tools": [WEATHER]},
        {"messages": [{"role": "user", "content": "x", "images": [b"x"]}]},
    ):
        assert error(lambda: chat(**wrong)).status_code == 400, wrong
    long = error(lambda: chat(messages=[{"role": "user", "content": LONG}]))
    assert long.status_code == 400 and "tokens is longer than the context of" in long.error


def test_a_model_is_made_copied_and_deleted():
    client.create(model="pirate", from_=SMOLLM2, system="You are a pirate.", parameters={"temperature": 0})
    assert "pirate" in client.show("pirate").modelfile
    client.copy("pirate", "corsair")
    assert client.chat("corsair", HELLO, options=GREEDY).message.content
    for name in ("pirate", "corsair"):
        client.delete(name)
        assert error(lambda: client.show(name)).status_code == 404


def test_a_stream_that_is_dropped_ends():
    with Cancelled():
        answer = client.generate(SMOLLM2, "1 2 3", raw=True, options={"num_predict": 3000}, stream=True)
        next(answer)
        answer.close()


def test_async():
    async def run():
        client = ollama.AsyncClient(host=URL)
        answers = await asyncio.gather(*(client.chat(SMOLLM2, HELLO, options=GREEDY) for _ in range(4)))
        assert all(answer.message.content for answer in answers)
        whole = await client.chat(SMOLLM2, HELLO, options=GREEDY)
        parts = [part async for part in await client.chat(SMOLLM2, HELLO, options=GREEDY, stream=True)]
        assert "".join(part.message.content for part in parts) == whole.message.content
        with pytest.raises(ollama.ResponseError):
            await client.chat("no-such-model", HELLO)

    asyncio.run(run())
