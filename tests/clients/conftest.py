"""What the Python clients share: where the server is, what is asked of it, and a watch on where they connect to."""

import json
import math
import os
import socket
import time
import urllib.request

import jsonschema
import pytest

URL = os.environ["WHIT_URL"]
SMOLLM2 = "smollm2:135m"
QWEN = "qwen2.5-coder:0.5b"

# Clients that would else ask for the prices of models, or report what was asked.
os.environ.update(
    LITELLM_LOCAL_MODEL_COST_MAP="True", LANGSMITH_TRACING="false", HF_HUB_OFFLINE="1", OLLAMA_HOST=URL
)

ASK_WEATHER = [{"role": "user", "content": "What is the weather in Paris? Call the function."}]
CITY = {
    "type": "object",
    "properties": {"city": {"type": "string", "description": "Name of the city"}},
    "required": ["city"],
}
WEATHER = {
    "type": "function",
    "function": {"name": "get_weather", "description": "The weather in a city", "parameters": CITY},
}
TIME = {"type": "function", "function": {"name": "get_time", "description": "The time", "parameters": CITY}}
PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 20},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "pet": {"enum": ["cat", "dog", None]},
    },
    "required": ["name", "age", "pet"],
    "additionalProperties": False,
}
ASK_PERSON = [{"role": "user", "content": "Make up a person."}]
# Longer than the context of SmolLM2 here.
LONG = "one two three four five six seven eight nine ten " * 900


def person(text):
    """The instance that an answer bound to PERSON holds."""
    value = json.loads(text)
    jsonschema.Draft202012Validator(PERSON).validate(value)
    return value


def cosine(a, b):
    def dot(a, b):
        return sum(x * y for x, y in zip(a, b, strict=True))

    return dot(a, b) / math.sqrt(dot(a, a) * dot(b, b))


def metric(name):
    """The sum of a metric over its labels."""
    with urllib.request.urlopen(URL + "/metrics") as answer:
        lines = answer.read().decode().splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith((name + " ", name + "{")))


def within(seconds, condition):
    """Whether something comes true in time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


class Cancelled:
    """Checks that an answer which the client gave up ended on the server too."""

    def __enter__(self):
        self.before = metric("whit_cancelled_total")

    def __exit__(self, kind, *rest):
        if kind is None:
            assert within(30, lambda: metric("whit_cancelled_total") > self.before), "it goes on and on"


strangers = set()
connect = socket.socket.connect
resolve = socket.getaddrinfo
HERE = (None, "127.0.0.1", "localhost", b"127.0.0.1", b"localhost")


def guarded_connect(self, address):
    if isinstance(address, tuple) and address[0] not in HERE:
        strangers.add(address[0])
        raise ConnectionRefusedError(f"tests connect to this machine alone, not to {address[0]}")
    return connect(self, address)


def guarded_resolve(host, *rest, **more):
    if host not in HERE:
        strangers.add(host)
        raise socket.gaierror(f"tests look up this machine alone, not {host}")
    return resolve(host, *rest, **more)


socket.socket.connect = guarded_connect
socket.getaddrinfo = guarded_resolve


@pytest.fixture(autouse=True, scope="session")
def greeted():
    """A prompt read in one piece and one found in the cache go through different kernels, whose sums differ in the last
    bits; so what is compared later is in the cache from the start."""
    body = {"model": SMOLLM2, "messages": [{"role": "user", "content": "Say hello."}], "stream": False}
    urllib.request.urlopen(URL + "/api/chat", json.dumps(body | {"options": {"num_predict": 1}}).encode()).close()


@pytest.fixture(autouse=True)
def nobody_else_is_called():
    """Also where a client swallows the error."""
    yield
    assert not strangers, f"a client tried to reach {strangers}"
