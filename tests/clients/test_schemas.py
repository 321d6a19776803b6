"""Answers bound to JSON schemas of others: the cases of JSON-Schema-Test-Suite (out of `jsonschema`'s source package), and the
inputs of a generator of Python models (out of `datamodel-code-generator`'s). Each answer is held against the reference
validator; what cannot be enforced has to be refused."""

import collections
import concurrent.futures
import decimal
import json
import os
import pathlib
import urllib.error
import urllib.request

import jsonschema
import regex
from conftest import SMOLLM2, URL

# JSON Schema's patterns know classes such as \p{Letter}, Python's own do not.
jsonschema._keywords.re = jsonschema._utils.re = regex

FOLDER = pathlib.Path(os.environ["WHIT_SCHEMAS"])
ENOUGH = 200
# Of the models, which are many, as many as the time allows.
EVERY = 6


def schemas():
    for path in sorted((FOLDER / "suite").glob("*.json")):
        for case in json.loads(path.read_text()):
            yield f"{path.stem}: {case['description']}", case["schema"]
    for path in sorted((FOLDER / "models").glob("*.json"))[::EVERY]:
        try:
            yield path.name, json.loads(path.read_text())
        except json.JSONDecodeError:
            continue  # Some are there to be wrong.


def post(path, body):
    request = urllib.request.Request(URL + path, json.dumps(body).encode(), {"content-type": "application/json"})
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def token(text):
    tokens = post("/api/tokenize", {"model": SMOLLM2, "text": text, "parse_special": True})[1]["tokens"]
    return tokens[0] if len(tokens) == 1 else None


def hurry():
    """Bias to end wherever the schema allows it, and else to close what is open: a model this small goes on for ever."""
    bias = {token(text): 4 for text in ('"', "}", "]", '"}', '"]')}
    bias[token("<|im_end|>")] = 100
    return {str(id): bias for id, bias in bias.items() if id is not None}


def exact(text):
    """Numbers as they are written: with doubles, 1.1012 is no multiple of 0.0001."""
    return json.loads(text, parse_float=decimal.Decimal)


def verdict(schema, status, body):
    if status != 200:
        text = body["error"]["message"]
        return "refused" if status == 400 and len(text) > 30 else f"status {status}: {text}"
    (choice,) = body["choices"]
    if choice["finish_reason"] == "length":
        return "cut off"
    schema = exact(json.dumps(schema))
    kind = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
    try:
        kind(schema).validate(exact(choice["message"]["content"]))
    except (ValueError, jsonschema.ValidationError) as error:
        return f"{choice['message']['content']}: {error}"
    return "valid"


def test_schemas(capsys):
    bias = hurry()

    def ask(case):
        name, schema = case
        format = {"type": "json_schema", "json_schema": {"name": "example", "schema": schema}}
        body = {
            "model": SMOLLM2, "messages": [{"role": "user", "content": "An example, please."}], "max_tokens": 200,
            "temperature": 0.8, "seed": 1, "logit_bias": bias, "response_format": format,
        }
        return name, verdict(schema, *post("/v1/chat/completions", body))

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        verdicts = dict(pool.map(ask, schemas()))
    count = collections.Counter(verdicts.values())
    with capsys.disabled():
        print("\nschemas:", ", ".join(f"{count[what]} {what}" for what in ("valid", "refused", "cut off")))
    fine = ("valid", "refused", "cut off")
    assert not [(name, what) for name, what in verdicts.items() if what not in fine]
    assert count["valid"] >= ENOUGH and count["cut off"] <= len(verdicts) // 50
    # Of these, no value is valid.
    for name in ("boolean_schema: boolean schema 'false'", "allOf: allOf with boolean schemas, some false"):
        assert verdicts[name] == "refused"
