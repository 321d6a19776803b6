"""Describes the folder that `transformers` saved for a golden model, so that a test can write it again from the GGUF file.

Both hold the same weights, so the repository keeps them once. `<model>.hf.json` has `config.json` as it was saved, and for
each tensor of the folder where its values stand in the GGUF file and how they were moved on the way there. That is found by
comparing values, not by names: this script knows no converter. Values that the GGUF file does not have to the last bit (the
norms of Gemma, to which 1 was added) are written out. The digest of each tensor lets the test prove that it wrote what
`transformers` did.

Ways: `same`; `pairs`: rows of so many heads went from halves to pairs; `turned`: transposed; `part`: one of the matrices, or
vectors, that stand in one tensor; `beside`: rows of two tensors in turns, for each of the matrices in them; `below`:
two tensors, one below the other; `values`: hexadecimal.
"""

import hashlib
import json

import numpy as np
from gguf import GGUFReader
from safetensors import safe_open


def pairs(rows, n_heads):
    half = rows.shape[0] // n_heads // 2
    return rows.reshape(n_heads, 2, half, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)


def find(values, stored, n_heads):
    """Where in the GGUF file these values are: (name, way)."""
    ways = [({"way": "same"}, values)]
    if values.ndim == 2:
        ways.append(({"way": "turned"}, values.T))
    ways += [({"way": "pairs", "heads": n}, pairs(values, n)) for n in n_heads if values.shape[0] % (2 * n) == 0]
    for way, moved in ways:
        for name, other in stored.items():
            if other.shape == moved.shape and np.array_equal(other, moved):
                return {"from": name, **way}
    for name, other in stored.items():
        if other.shape[1:] == values.shape:
            for i, part in enumerate(other):
                if np.array_equal(part, values):
                    return {"from": name, "way": "part", "at": i}
        if values.ndim == 3 and other.shape == (values.shape[0], values.shape[1] // 2, values.shape[2]):
            for second, more in stored.items():
                if more.shape == other.shape and np.array_equal(np.concatenate([other, more], 1), values):
                    return {"from": name, "way": "beside", "and": second}
        if values.ndim == 2 and other.shape == (values.shape[0] // 2, values.shape[1]):
            for second, more in stored.items():
                if more.shape == other.shape and np.array_equal(np.concatenate([other, more]), values):
                    return {"from": name, "way": "below", "and": second}
    return {"way": "values", "hex": np.ascontiguousarray(values).tobytes().hex()}


def describe(folder, gguf_path):
    config = json.loads((folder / "config.json").read_text())
    n_heads = {config.get(key) for key in ("num_attention_heads", "num_key_value_heads")} - {None}
    stored = {tensor.name: np.array(tensor.data) for tensor in GGUFReader(gguf_path).tensors}
    tensors = {}
    with safe_open(folder / "model.safetensors", "numpy") as file:
        for name in sorted(file.keys()):
            values = file.get_tensor(name)
            assert values.dtype == np.float32, name
            tensors[name] = {"shape": list(values.shape), **find(values, stored, sorted(n_heads)),
                             "sha256": hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()[:16]}
    return {"config": config, "tensors": tensors}


def write(folder, gguf_path, path):
    """Writes the description with a line per tensor: short, and readable in a diff."""
    told = describe(folder, gguf_path)
    tensors = ",\n".join(f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in told["tensors"].items())
    path.write_text('{\n"config": ' + json.dumps(told["config"]) + ',\n"tensors": {\n' + tensors + "\n}\n}\n")
