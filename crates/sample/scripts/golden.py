#!/usr/bin/env python3
"""Writes tests/golden/distributions.json: what a sampler chain must leave, computed with numpy in float64.

An independent, plain implementation of the semantics that llama.cpp documents and implements for its samplers
(llama-sampler.cpp): every stage sorts everything. It shares no code with the crate.

    pip install numpy && python3 crates/sample/scripts/golden.py
"""

import json
import pathlib

import numpy as np


def softmax(logits):
    e = np.exp(logits - logits.max())
    return e / e.sum()


def penalize(logits, history, c):
    last_n = c["repeat_last_n"]
    window = history if last_n < 0 else history[len(history) - min(last_n, len(history)):]
    for token in set(window):
        count = window.count(token)
        logits[token] = logits[token] * c["repeat_penalty"] if logits[token] <= 0 else logits[token] / c["repeat_penalty"]
        logits[token] -= count * c["frequency_penalty"] + c["presence_penalty"]


def chain(logits, history, allowed, c):
    logits = np.array(logits, dtype=np.float64)
    for token, bias in c["logit_bias"]:
        logits[token] += bias
    penalize(logits, history, c)
    ids = np.array([i for i in range(len(logits)) if allowed is None or i in allowed])
    ids = ids[np.argsort(-logits[ids], kind="stable")]
    if c["temperature"] == 0:
        return [(int(ids[0]), 1.0)]
    if c["top_k"] > 0:
        ids = ids[: c["top_k"]]
    if c["typical_p"] < 1:
        p = softmax(logits[ids])
        entropy = -(p * np.log(p)).sum()
        order = np.argsort(np.abs(-np.log(p) - entropy), kind="stable")
        n = int(np.argmax(np.cumsum(p[order]) > c["typical_p"])) + 1
        ids = ids[order[:n]]
        ids = ids[np.argsort(-logits[ids], kind="stable")]
    if c["top_p"] < 1:
        n = int(np.argmax(np.cumsum(softmax(logits[ids])) >= c["top_p"])) + 1
        ids = ids[:n]
    if c["min_p"] > 0:
        ids = ids[logits[ids] >= logits[ids].max() + np.log(c["min_p"])]
    p = softmax(logits[ids] / c["temperature"])
    return [(int(i), float(q)) for i, q in zip(ids, p)]


OFF = dict(logit_bias=[], repeat_last_n=64, repeat_penalty=1.0, presence_penalty=0.0, frequency_penalty=0.0,
           top_k=0, typical_p=1.0, top_p=1.0, min_p=0.0, temperature=1.0)
DEFAULT = dict(OFF, top_k=40, top_p=0.9, temperature=0.8)

SETTINGS = [
    OFF, DEFAULT,
    dict(OFF, temperature=0.0), dict(OFF, temperature=0.3), dict(OFF, temperature=1.7),
    dict(OFF, top_k=1), dict(OFF, top_k=3), dict(OFF, top_k=100), dict(OFF, top_k=100000),
    dict(OFF, top_p=0.1), dict(OFF, top_p=0.5), dict(OFF, top_p=0.95), dict(OFF, top_p=0.999), dict(OFF, top_p=0.0),
    dict(OFF, min_p=0.05), dict(OFF, min_p=0.4), dict(OFF, min_p=1.0),
    dict(OFF, typical_p=0.2), dict(OFF, typical_p=0.7), dict(OFF, typical_p=0.95),
    dict(OFF, top_p=0.9, min_p=0.1), dict(OFF, typical_p=0.9, top_p=0.7, min_p=0.02, top_k=30, temperature=0.6),
    dict(DEFAULT, repeat_penalty=1.3), dict(DEFAULT, presence_penalty=0.9), dict(DEFAULT, frequency_penalty=0.4),
    dict(DEFAULT, repeat_penalty=1.1, presence_penalty=0.2, frequency_penalty=0.3, repeat_last_n=4),
    dict(DEFAULT, repeat_penalty=1.5, repeat_last_n=0), dict(DEFAULT, repeat_penalty=1.5, repeat_last_n=-1),
    dict(DEFAULT, logit_bias=[[1, 4.0], [5, -100.0], [2, 0.5], [2, 0.5]]),
    dict(OFF, temperature=0.0, logit_bias=[[7, 50.0]]),
    dict(OFF, temperature=0.0, repeat_penalty=2.0, frequency_penalty=3.0, presence_penalty=3.0),
]


def main():
    rng = np.random.default_rng(20260101)
    cases = []
    # Sizes around the edges of a block of 32, and spreads from flat to peaked.
    for n_vocab, spread in [(9, 1.0), (33, 2.0), (100, 4.0), (150, 0.2)]:
        for settings in SETTINGS:
            # No two alike: which of equals stays is the crate's own choice, and has tests of its own.
            logits = []
            while len(logits) < n_vocab:
                x = round(float(rng.normal(0, spread)), 3)
                if x not in logits:
                    logits.append(x)
            history = [int(x) for x in rng.integers(0, min(n_vocab, 12), 10)]
            allowed = None
            if rng.random() < 0.3:
                allowed = sorted(int(x) for x in rng.choice(n_vocab, n_vocab * 2 // 3, replace=False))
            expected = chain(logits, history, None if allowed is None else set(allowed), settings)
            changed = {k: v for k, v in settings.items() if v != OFF[k]}
            cases.append(dict(settings=changed, history=history, allowed=allowed, logits=logits,
                              ids=sorted(i for i, _ in expected),
                              probabilities=[float(f"{p:.6g}") for _, p in expected[:12]]))
    here = pathlib.Path(__file__).resolve().parent.parent
    lines = ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases)
    (here / "tests/golden/distributions.json").write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    main()
