"""PyPI `langchain-ollama`."""

import asyncio

import pydantic
import pytest
from conftest import ASK_WEATHER, QWEN, SMOLLM2, TIME, URL, WEATHER, cosine
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_ollama import ChatOllama, OllamaEmbeddings, OllamaLLM
from ollama import ResponseError

GREEDY = {"base_url": URL, "temperature": 0, "num_predict": 12}
QUESTION = [HumanMessage(ASK_WEATHER[0]["content"])]


def test_chat():
    # It looks for the model in the list.
    model = ChatOllama(model=SMOLLM2, validate_model_on_init=True, **GREEDY)
    answer = model.invoke("Say hello.")
    assert answer.content and answer.usage_metadata["output_tokens"] <= 12
    assert "".join(part.content for part in model.stream("Say hello.")) == answer.content
    assert all(other.content for other in model.batch(["Say hello.", "Say goodbye.", "Say nothing."]))


def test_completion():
    model = OllamaLLM(model=SMOLLM2, **GREEDY)
    assert "".join(model.stream("Say hello.")) == model.invoke("Say hello.") != ""


def test_async():
    async def run():
        model = ChatOllama(model=SMOLLM2, **GREEDY)
        answer = await model.ainvoke("Say hello.")
        assert "".join([part.content async for part in model.astream("Say hello.")]) == answer.content

    asyncio.run(run())


def test_a_tool_is_called_and_its_result_read():
    model = ChatOllama(model=QWEN, **{**GREEDY, "num_predict": 64}).bind_tools([WEATHER, TIME])
    answer = model.invoke(QUESTION)
    (call,) = answer.tool_calls
    assert (call["name"], call["args"]) == ("get_weather", {"city": "Paris"})
    final = model.invoke([*QUESTION, answer, ToolMessage("21 degrees, sunny", tool_call_id=call["id"])])
    assert final.usage_metadata["input_tokens"] > answer.usage_metadata["total_tokens"]


def test_answers_become_python_objects():
    class Pet(pydantic.BaseModel):
        name: str = pydantic.Field(max_length=12)
        legs: int = pydantic.Field(ge=0, le=8)

    model = ChatOllama(model=SMOLLM2, **{**GREEDY, "num_predict": 60})
    assert isinstance(model.with_structured_output(Pet, method="json_schema").invoke("Describe a pet."), Pet)


def test_embeddings():
    model = OllamaEmbeddings(model=SMOLLM2, base_url=URL)
    near, far = model.embed_documents(["A cat lay on a rug.", "Interest rates rose in March."])
    question = model.embed_query("The cat sat on the mat.")
    assert cosine(question, near) > cosine(question, far)


def test_errors():
    with pytest.raises(ValueError, match="not found"):
        ChatOllama(model="no-such-model", validate_model_on_init=True, base_url=URL)
    with pytest.raises(ResponseError, match="not found"):
        ChatOllama(model="no-such-model", base_url=URL).invoke("Say hello.")
