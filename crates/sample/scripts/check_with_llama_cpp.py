#!/usr/bin/env python3
"""Checks tests/golden/distributions.json against llama.cpp itself: its own samplers, called through ctypes.

    python3 crates/sample/scripts/check_with_llama_cpp.py /path/to/libllama.so

The signatures are those of llama.h in llama-cpp-python 0.3.36.
"""

import ctypes
import json
import math
import pathlib
import sys


class TokenData(ctypes.Structure):
    _fields_ = [("id", ctypes.c_int32), ("logit", ctypes.c_float), ("p", ctypes.c_float)]


class TokenDataArray(ctypes.Structure):
    _fields_ = [("data", ctypes.POINTER(TokenData)), ("size", ctypes.c_size_t), ("selected", ctypes.c_int64),
                ("sorted", ctypes.c_bool)]


lib = ctypes.CDLL(sys.argv[1])
F, I, N = ctypes.c_float, ctypes.c_int32, ctypes.c_size_t
for name, types in [("penalties", [I, I, F, F, F]), ("top_k", [I]), ("typical", [F, N]), ("top_p", [F, N]), ("min_p", [F, N]),
                    ("temp", [F]), ("dist", [ctypes.c_uint32])]:
    function = getattr(lib, f"llama_sampler_init_{name}")
    function.restype, function.argtypes = ctypes.c_void_p, types
lib.llama_sampler_apply.argtypes = [ctypes.c_void_p, ctypes.POINTER(TokenDataArray)]
lib.llama_sampler_accept.argtypes = [ctypes.c_void_p, I]
lib.llama_sampler_free.argtypes = [ctypes.c_void_p]

OFF = dict(logit_bias=[], repeat_last_n=64, repeat_penalty=1.0, presence_penalty=0.0, frequency_penalty=0.0,
           top_k=0, typical_p=1.0, top_p=1.0, min_p=0.0, temperature=1.0)


def chain(case):
    c = dict(OFF, **case["settings"])
    logits = list(case["logits"])
    for token, bias in c["logit_bias"]:
        logits[token] += bias
    allowed = set(case["allowed"] if case["allowed"] is not None else range(len(logits)))
    data = [TokenData(i, logit, 0) for i, logit in enumerate(logits) if i in allowed]
    buffer = (TokenData * len(data))(*data)
    array = TokenDataArray(buffer, len(data), -1, False)
    last_n = len(case["history"]) if c["repeat_last_n"] < 0 else c["repeat_last_n"]
    stages = [("penalties", (len(logits), last_n, c["repeat_penalty"], c["frequency_penalty"], c["presence_penalty"]))]
    if c["temperature"] > 0:
        stages += [("top_k", (c["top_k"],)), ("typical", (c["typical_p"], 0)), ("top_p", (c["top_p"], 0)),
                   ("min_p", (c["min_p"], 0))]
    stages += [("temp", (c["temperature"],)), ("dist", (1,))]
    for name, values in stages:
        sampler = getattr(lib, f"llama_sampler_init_{name}")(*values)
        if name == "penalties":
            for token in case["history"]:
                lib.llama_sampler_accept(sampler, token)
        lib.llama_sampler_apply(sampler, array)
        lib.llama_sampler_free(sampler)
    left = [(array.data[i].id, array.data[i].p) for i in range(array.size)]
    return sorted(((i, p) for i, p in left if p > 0), key=lambda e: -e[1])


def main():
    golden = pathlib.Path(__file__).resolve().parent.parent / "tests/golden/distributions.json"
    cases = json.loads(golden.read_text())
    wrong = 0
    for number, case in enumerate(cases):
        got = chain(case)
        same = sorted(i for i, _ in got) == case["ids"]
        same &= all(math.isclose(p, q, rel_tol=1e-4, abs_tol=1e-7) for (_, p), q in zip(got, case["probabilities"]))
        if not same:
            wrong += 1
            print(f"case {number} {case['settings']}: llama.cpp {got[:6]}, {len(got)} left; file {case['ids'][:6]}, "
                  f"{len(case['ids'])} left, {case['probabilities'][:6]}")
    print(f"{len(cases) - wrong} of {len(cases)} cases agree")
    return wrong != 0


if __name__ == "__main__":
    sys.exit(main())
