"""PyPI `ollama`."""

import ollama
from conftest import SMOLLM2, URL

client = ollama.Client(host=URL)


def test_list():
    assert SMOLLM2 in [model.model for model in client.list().models]


def test_chat():
    answer = client.chat(SMOLLM2, [{"role": "user", "content": "Hello"}], options={"num_predict": 8})
    assert answer.message.content and answer.done and answer.eval_count <= 8
