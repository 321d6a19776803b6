"""The parts of PyPI's `openai` that lean on what the server keeps: responses, files and batches; and `/infill`."""

import json
import urllib.request

import openai
import pydantic
import pytest
from conftest import CITY, QWEN, URL, within

client = openai.OpenAI(base_url=URL + "/v1", api_key="none", max_retries=0, timeout=60)
SETTINGS = {"model": QWEN, "temperature": 0, "max_output_tokens": 60}
WEATHER = {"type": "function", "name": "get_weather", "description": "The weather in a city", "parameters": CITY}


class Place(pydantic.BaseModel):
    name: str
    country: str


def test_a_response_is_kept_and_built_on():
    first = client.responses.create(**SETTINGS, input="My name is Ada. Say hello.")
    assert first.status == "completed" and first.output_text
    assert client.responses.retrieve(first.id) == first
    second = client.responses.create(**SETTINGS, input="What is my name?", previous_response_id=first.id)
    assert second.previous_response_id == first.id and "Ada" in second.output_text
    asked = [item.content[0].text for item in client.responses.input_items.list(second.id)]
    assert asked[0] == "What is my name?"
    client.responses.delete(first.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(first.id)


def test_what_shall_not_be_kept_is_not():
    response = client.responses.create(**SETTINGS, input="Hi.", store=False)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(response.id)


def test_a_tool_is_called_and_its_result_read():
    ask = {"input": "What is the weather in Paris? Use the tool.", "tools": [WEATHER], "tool_choice": "required"}
    with client.responses.stream(**SETTINGS, **ask) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_response()
    assert kinds[:2] == ["response.created", "response.in_progress"] and kinds[-1] == "response.completed"
    assert "response.function_call_arguments.delta" in kinds
    call = final.output[0]
    assert (call.type, call.name) == ("function_call", "get_weather")
    assert "Paris" in json.loads(call.arguments)["city"]
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "18 degrees, sunny"}
    answer = client.responses.create(
        **SETTINGS, previous_response_id=final.id, input=[result], tools=[WEATHER], tool_choice="none"
    )
    assert "18" in answer.output_text


def test_answers_become_python_objects():
    ask = {"input": "Name the capital of France.", "text_format": Place}
    assert client.responses.parse(**SETTINGS, **ask).output_parsed.name == "Paris"
    with client.responses.stream(**SETTINGS, **ask) as stream:
        texts = "".join(event.delta for event in stream if event.type == "response.output_text.delta")
        assert stream.get_final_response().output_parsed == Place.model_validate_json(texts)


def test_a_batch():
    def line(name, model, number):
        ask = [{"role": "user", "content": f"What is {number}+{number}? Only the number."}]
        body = {"model": model, "messages": ask, "max_tokens": 8, "temperature": 0}
        return json.dumps({"custom_id": name, "method": "POST", "url": "/v1/chat/completions", "body": body})

    lines = [line(f"n{number}", QWEN, number) for number in range(1, 5)] + [line("bad", "nobody", 1)]
    file = client.files.create(file=("in.jsonl", "\n".join(lines).encode()), purpose="batch")
    assert client.files.retrieve(file.id) == file and file.id in [one.id for one in client.files.list()]
    batch = client.batches.create(
        input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h", metadata={"a": "b"}
    )
    assert within(60, lambda: client.batches.retrieve(batch.id).status == "completed")
    batch = client.batches.retrieve(batch.id)
    counts = batch.request_counts
    assert (counts.total, counts.completed, counts.failed, batch.metadata) == (5, 4, 1, {"a": "b"})
    answers = {}
    for text in client.files.content(batch.output_file_id).text.splitlines():
        answer = json.loads(text)
        answers[answer["custom_id"]] = answer["response"]["body"]["choices"][0]["message"]["content"]
    assert sorted(answers) == ["n1", "n2", "n3", "n4"] and "4" in answers["n2"]
    failed = json.loads(client.files.content(batch.error_file_id).text)
    assert failed["custom_id"] == "bad" and failed["response"]["status_code"] == 404
    assert client.batches.list(limit=1).data[0].id == batch.id
    client.files.delete(file.id)
    with pytest.raises(openai.NotFoundError):
        client.files.content(file.id)


def test_the_middle_is_filled_in():
    body = {
        "model": QWEN,
        "input_prefix": "def add(first, second):\n    return ",
        "input_suffix": "\n\nprint(add(1, 2))\n",
        "n_predict": 16,
        "temperature": 0,
    }
    request = urllib.request.Request(
        URL + "/infill", json.dumps(body).encode(), {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request) as answer:
        assert json.load(answer)["content"].strip().startswith("first + second")
