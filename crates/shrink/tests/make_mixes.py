"""Makes golden/mixes.txt: which format llama-quantize gives each tensor of some small models, for every file type.

    pip install gguf numpy && python make_mixes.py PATH/TO/llama-quantize

Made with llama.cpp as in the sdist of PyPI `llama-cpp-python==0.3.36` (`llama-quantize --dry-run`, which only says what it would do).

A line: model, file type, `-` or `imatrix`, then for each kind of tensor `kind=` and its formats from the first layer on, repetitions
as `n*format`. The models are described in `MODELS`, the tests make the same ones.
"""

import pathlib
import re
import subprocess
import sys
import tempfile

import gguf
import numpy as np

TYPES = """Q8_0 Q6_K Q5_K_M Q5_K_S Q5_1 Q5_0 Q4_K_M Q4_K_S Q4_1 Q4_0 IQ4_NL IQ4_XS Q3_K_L Q3_K_M Q3_K_S Q2_K Q2_K_S
IQ3_M IQ3_S IQ3_XS IQ3_XXS IQ2_M IQ2_S IQ2_XS IQ2_XXS IQ1_M IQ1_S TQ2_0 TQ1_0 MXFP4_MOE F16 BF16 F32""".split()

# name: architecture, layers, width, feed-forward width, query heads, key-value heads, experts, output tensor, fused q, k, v
MODELS = {
    "grouped": ("llama", 24, 256, 256, 8, 2, 0, True, False),
    "tied": ("llama", 19, 256, 256, 4, 4, 0, False, False),
    "narrow": ("llama", 17, 96, 256, 3, 1, 0, False, False),
    "odd": ("llama", 9, 48, 64, 3, 3, 0, True, False),
    "eight": ("llama", 10, 256, 256, 8, 2, 8, True, False),
    "four": ("llama", 10, 256, 256, 4, 4, 4, True, False),
    "fused": ("gpt2", 12, 256, 256, 4, 4, 0, False, True),
}


def tensors(model):
    _, n_layers, width, n_ff, n_heads, n_kv_heads, n_experts, has_output, is_fused = MODELS[model]
    n_kv = width // n_heads * n_kv_heads
    yield "token_embd.weight", (32, width)
    yield "output_norm.weight", (width,)
    if has_output:
        yield "output.weight", (32, width)
    for i in range(n_layers):
        yield f"blk.{i}.attn_norm.weight", (width,)
        if is_fused:
            yield f"blk.{i}.attn_qkv.weight", (3 * width, width)
        else:
            yield f"blk.{i}.attn_q.weight", (width, width)
            yield f"blk.{i}.attn_k.weight", (n_kv, width)
            yield f"blk.{i}.attn_v.weight", (n_kv, width)
        yield f"blk.{i}.attn_output.weight", (width, width)
        yield f"blk.{i}.ffn_norm.weight", (width,)
        if n_experts:
            yield f"blk.{i}.ffn_gate_inp.weight", (n_experts, width)
        of, experts = ("_exps", (n_experts,)) if n_experts else ("", ())
        if not is_fused:
            yield f"blk.{i}.ffn_gate{of}.weight", (*experts, n_ff, width)
        yield f"blk.{i}.ffn_up{of}.weight", (*experts, n_ff, width)
        yield f"blk.{i}.ffn_down{of}.weight", (*experts, width, n_ff)


def write(model, path):
    architecture, n_layers, width, n_ff, n_heads, n_kv_heads, n_experts, *_ = MODELS[model]
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_block_count(n_layers)
    writer.add_context_length(64)
    writer.add_embedding_length(width)
    writer.add_feed_forward_length(n_ff)
    writer.add_head_count(n_heads)
    writer.add_head_count_kv(n_kv_heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_layer_norm_eps(1e-5)
    writer.add_vocab_size(32)
    if n_experts:
        writer.add_expert_count(n_experts)
        writer.add_expert_used_count(2)
    for name, shape in tensors(model):
        writer.add_tensor(name, np.zeros(shape, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_imatrix(path):
    writer = gguf.GGUFWriter(path, "none")
    writer.add_string("general.type", "imatrix")
    writer.add_array("imatrix.datasets", ["none"])
    writer.add_uint32("imatrix.chunk_count", 1)
    writer.add_uint32("imatrix.chunk_size", 512)
    writer.add_tensor("none.weight.in_sum2", np.ones((1, 256), np.float32))
    writer.add_tensor("none.weight.counts", np.ones((1, 1), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def kind(name):
    return re.sub(r"^blk\.\d+\.|\.weight$", "", name)


def shortened(formats):
    out = []
    for one in formats:
        if out and out[-1][1] == one:
            out[-1][0] += 1
        else:
            out.append([1, one])
    return ",".join(one if n == 1 else f"{n}*{one}" for n, one in out)


def main():
    quantize = sys.argv[1]
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        imatrix = f"{folder}/imatrix.gguf"
        write_imatrix(imatrix)
        for model in MODELS:
            path = f"{folder}/{model}.gguf"
            write(model, path)
            for kind_of_file in TYPES:
                for flags in [[], ["--imatrix", imatrix]]:
                    run = [quantize, "--dry-run", *flags, path, kind_of_file, "1"]
                    done = subprocess.run(run, capture_output=True, text=True)
                    said = done.stdout + done.stderr
                    assert done.returncode == 0, said
                    found = {}
                    for line in said.splitlines():
                        if not (hit := re.search(r"\]\s+(\S+)\s+- \[.*type =\s+(\S+), size =.*MiB(?: \((\S+)\))?", line)):
                            continue
                        name, before, after = hit.groups()
                        layer = int(m.group(1)) if (m := re.match(r"blk\.(\d+)\.", name)) else 0
                        found.setdefault(kind(name), {})[layer] = (after or before).upper()
                    words = [model, kind_of_file, "imatrix" if flags else "-"]
                    words += [f"{k}={shortened([v[i] for i in sorted(v)])}" for k, v in sorted(found.items()) if "norm" not in k]
                    lines.append(" ".join(words))
    path = pathlib.Path(__file__).parent / "golden" / "mixes.txt"
    path.write_text("\n".join(lines) + "\n")
    print(path, len(lines))


main()
