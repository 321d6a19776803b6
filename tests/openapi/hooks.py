"""What schemathesis cannot know of this server: which models it has, and what the parts of a stream are.

Left to themselves, requests would name models that are not there, and never get past that.
"""

import json
import os
import zlib

import jsonschema_rs
import requests
import schemathesis

# The first is there from the start; the second is the same with a chat template.
MODELS = ["tiny", "chatty"]
TEMPLATE = (
    "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    "{% if tools %}tools{% endif %}{% if add_generation_prompt %}assistant: {% endif %}"
)


@schemathesis.hook
def after_load_schema(context, schema):
    response = requests.post(
        os.environ["WHIT_URL"] + "/api/create",
        headers={"x-api-key": os.environ["WHIT_KEY"]},
        json={"model": MODELS[1], "from": MODELS[0], "template": TEMPLATE, "stream": False},
        timeout=60,
    )
    response.raise_for_status()


@schemathesis.hook
def before_call(context, case, kwargs):
    body = case.body
    if not isinstance(body, dict):
        return
    # The same request is changed in the same way each time.
    chosen = zlib.crc32(json.dumps(body, sort_keys=True).encode()) % 8
    for name in ("model", "source", "from"):
        # What changes models changes others.
        changes = name == "model" and case.path in ("/api/create", "/api/delete", "/api/pull", "/api/push")
        # One in eight names what it likes, which is not there.
        if isinstance(body.get(name), str) and not changes and chosen < 7:
            body[name] = MODELS[chosen % 2]
    # Without words the model would only be loaded.
    if case.path == "/api/generate" and body.get("prompt", "") in (None, "") and chosen < 5:
        body["prompt"] = "the"
    if case.path == "/api/chat" and body.get("messages", []) in (None, []) and chosen < 5:
        body["messages"] = [{"role": "user", "content": "the"}]


@schemathesis.check
def parts_of_streams(context, response, case):
    """Every line and every event is what the document says of it, or an error of that API."""
    media = response.headers.get("content-type", [""])[0].split(";")[0]
    if response.status_code != 200 or media not in ("application/x-ndjson", "text/event-stream"):
        return
    raw = case.operation.schema.raw_schema
    content = case.operation.definition.raw["responses"]["200"]["content"]
    schema = content[media]["schema"]
    text = response.content.decode()
    if media == "text/event-stream":
        schema = schema["properties"]["data"]["contentSchema"]
        lines = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]
        lines = [line for line in lines if line != "[DONE]"]
    else:
        lines = text.splitlines()
    assert lines, "the stream is empty"
    error = case.operation.definition.raw["responses"]["500"]["content"]["application/json"]["schema"]
    schema = {"anyOf": [schema, error], "components": raw["components"]}
    validator = jsonschema_rs.validator_for(schema)
    for line in lines:
        for problem in validator.iter_errors(json.loads(line)):
            raise AssertionError(f"{problem.message}\n\n{line}")
