"""What all Python clients share: where the server is, and a watch on where they connect to."""

import os
import socket

import pytest

URL = os.environ["WHIT_URL"]
SMOLLM2 = "smollm2:135m"
QWEN = "qwen2.5-coder:0.5b"

# Clients that would else ask for the prices of models, or report what was asked.
os.environ.update(
    LITELLM_LOCAL_MODEL_COST_MAP="True", LANGSMITH_TRACING="false", HF_HUB_OFFLINE="1", OLLAMA_HOST=URL
)

strangers = set()
connect = socket.socket.connect
resolve = socket.getaddrinfo


def guarded_connect(self, address):
    if isinstance(address, tuple) and address[0] not in ("127.0.0.1", "::1"):
        strangers.add(address[0])
        raise ConnectionRefusedError(f"tests connect to this machine alone, not to {address[0]}")
    return connect(self, address)


def guarded_resolve(host, *rest, **more):
    if host not in (None, "127.0.0.1", "::1", "localhost", b"127.0.0.1", b"localhost"):
        strangers.add(host)
        raise socket.gaierror(f"tests look up this machine alone, not {host}")
    return resolve(host, *rest, **more)


socket.socket.connect = guarded_connect
socket.getaddrinfo = guarded_resolve


@pytest.fixture(autouse=True)
def nobody_else_is_called():
    """Also where a client swallows the error."""
    yield
    assert not strangers, f"a client tried to reach {strangers}"
