"""Makes requests.json: what lm-evaluation-harness (`pip install lm-eval`) asks a model about a few documents of each task set: every
context with every continuation, or what is to be written and where it stops; without examples, with three, and in a
conversation. Run it in this folder: `python3 make_requests.py DOCUMENTS.json [--check]`, where DOCUMENTS.json has for each task
a list of documents as they are published; the documents are kept in requests.json, so that `--check` needs no other file.
"""

import json
import sys
from pathlib import Path

import datasets
import jinja2
import lm_eval.tasks
from lm_eval.api.task import ConfigurableTask
from lm_eval.tasks._yaml_loader import load_yaml

HERE = Path(__file__).parent
# That of SmolLM2-Instruct.
TEMPLATE = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
YAML = {
    "hellaswag": "hellaswag/hellaswag.yaml",
    "arc_easy": "arc/arc_easy.yaml",
    "arc_challenge": "arc/arc_challenge.yaml",
    "piqa": "piqa/piqa.yaml",
    "winogrande": "winogrande/default.yaml",
    "boolq": "super_glue/boolq/default.yaml",
    "openbookqa": "openbookqa/openbookqa.yaml",
    "mmlu": "mmlu/default/mmlu_abstract_algebra.yaml",
    "gsm8k": "gsm8k/gsm8k.yaml",
    "lambada_openai": "lambada/lambada_openai.yaml",
    "truthfulqa_mc1": "truthfulqa/truthfulqa_mc1.yaml",
    "truthfulqa_mc2": "truthfulqa/truthfulqa_mc2.yaml",
}
# name, examples, conversation, examples as turns of their own
WAYS = [("plain", 0, False, False), ("examples", 3, False, False), ("chat", 3, True, True), ("one_message", 3, True, False)]


def config(name):
    return load_yaml(Path(lm_eval.tasks.__file__).parent / YAML[name], resolve_func=True)


def render(messages, add_generation_prompt=True):
    template = jinja2.Environment(trim_blocks=True, lstrip_blocks=True).from_string(TEMPLATE)
    return template.render(messages=messages, add_generation_prompt=add_generation_prompt)


def requests(name, documents, examples, chat, multiturn):
    data = datasets.Dataset.from_list(documents)
    splits = {split: data for split in ("train", "validation", "test", "dev")}
    task = ConfigurableTask(config={**config(name), "custom_dataset": lambda **_: datasets.DatasetDict(splits)})
    task.set_config("num_fewshot", examples)
    task.set_fewshot_seed(1234)
    task.build_all_requests(
        rank=0,
        world_size=1,
        apply_chat_template=chat,
        fewshot_as_multiturn=multiturn,
        chat_template=render if chat else None,
        tokenizer_name="",
    )
    asked = [[] for _ in documents]
    for instance in task.instances:
        context, more = instance.args
        if isinstance(more, dict):
            more = {"until": more["until"], "max_gen_toks": more.get("max_gen_toks", 256)}
        asked[instance.doc_id].append([context, more])
    # Each context once, and of each request the place of its context.
    out = []
    for document in asked:
        contexts = list(dict.fromkeys(context for context, _ in document))
        out.append({"contexts": contexts, "asked": [[contexts.index(context), more] for context, more in document]})
    return out


def main():
    path = HERE / "requests.json"
    check = "--check" in sys.argv
    if check:
        documents = {name: task["documents"] for name, task in json.loads(path.read_text())["tasks"].items()}
    else:
        documents = json.loads(Path(sys.argv[1]).read_text())
    tasks = {}
    for name, rows in documents.items():
        ways = {way: requests(name, rows, *rest) for way, *rest in WAYS}
        tasks[name] = {"documents": rows, **ways}
    text = json.dumps({"template": TEMPLATE, "tasks": tasks}, ensure_ascii=False, indent=0) + "\n"
    if check:
        assert path.read_text() == text
    else:
        path.write_text(text)


main()
