"""Makes golden/imatrix-*.gguf and golden/imatrix-*.dat: sums of squares of what goes into each linear of tiny golden models, as
`transformers` computes them, in the forms in which llama.cpp's `llama-imatrix` writes them.

    pip install torch transformers gguf numpy safetensors && python make_imatrix.py

The models and their prompts are those of crates/engine/tests/golden; a prompt is cut into chunks of CHUNK tokens, and what is left
over is not used.
"""

import json
import pathlib
import struct
import sys

import gguf
import numpy as np
import torch
import transformers

HERE = pathlib.Path(__file__).resolve().parent
MODELS = HERE.parent.parent / "engine" / "tests" / "golden"
sys.path.insert(0, str(MODELS))
import make_families  # noqa: E402
import make_golden  # noqa: E402

CHUNK = 7
LINEARS = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "mlp.gate": "ffn_gate_inp",
}


def add(sums, name, rows, expert=0, n_experts=1):
    rows = rows.detach().double().reshape(-1, rows.shape[-1])
    squares, counts = sums.setdefault(name, (np.zeros((n_experts, rows.shape[1])), np.zeros(n_experts)))
    squares[expert] += (rows**2).sum(0).numpy()
    counts[expert] += len(rows)


def watch(model, sums):
    for path, module in model.named_modules():
        parts = path.split(".")
        if "layers" not in parts[:-1]:
            continue
        at = parts.index("layers") + 1
        layer, kind = parts[at], ".".join(parts[at + 1 :])
        if kind in LINEARS:
            name = f"blk.{layer}.{LINEARS[kind]}.weight"
            module.register_forward_pre_hook(lambda m, args, name=name: add(sums, name, args[0]))
        if kind == "mlp.experts":
            module.register_forward_pre_hook(lambda m, args, layer=layer: experts(m, args, layer, sums))


def experts(module, args, layer, sums):
    x, chosen = args[0].reshape(-1, args[0].shape[-1]), args[1]
    n = module.gate_up_proj.shape[0]
    for expert in range(n):
        rows = x[(chosen == expert).any(-1)]
        gate, up = (rows @ module.gate_up_proj[expert].T).chunk(2, dim=-1)
        add(sums, f"blk.{layer}.ffn_gate_exps.weight", rows, expert, n)
        add(sums, f"blk.{layer}.ffn_up_exps.weight", rows, expert, n)
        add(sums, f"blk.{layer}.ffn_down_exps.weight", module.act_fn(gate) * up, expert, n)


def write_gguf(path, sums, n_chunks):
    writer = gguf.GGUFWriter(path, "")
    writer.kv_data[0].clear()
    writer.add_string("general.type", "imatrix")
    writer.add_array("imatrix.datasets", ["prompt"])
    writer.add_uint32("imatrix.chunk_count", n_chunks)
    writer.add_uint32("imatrix.chunk_size", CHUNK)
    for name, (squares, counts) in sorted(sums.items()):
        writer.add_tensor(f"{name}.in_sum2", squares.astype(np.float32))
        writer.add_tensor(f"{name}.counts", counts.astype(np.float32).reshape(-1, 1))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_dat(path, sums, n_chunks):
    out = struct.pack("<i", len(sums))
    for name, (squares, counts) in sorted(sums.items()):
        n_calls = int(-(-counts.max() // CHUNK))
        means = np.where(counts[:, None] > 0, squares / np.maximum(counts[:, None], 1), 1.0)
        values = (means * n_calls).astype("<f4").ravel()
        out += struct.pack("<i", len(name)) + name.encode() + struct.pack("<ii", n_calls, values.size) + values.tobytes()
    out += struct.pack("<ii", n_chunks, len(b"prompt")) + b"prompt"
    path.write_bytes(out)


def golden_model(name, seed):
    """The model of that name, with the weights that its seed gives."""
    if name in make_golden.MODELS:
        source, spec = make_golden, make_golden.MODELS[name]
    else:
        source, spec = make_families, make_families.FAMILIES[name]
        family = spec["family"]
        spec["classes"] = (getattr(transformers, f"{family}Config"), getattr(transformers, f"{family}ForCausalLM"))
    model = make_golden.reference(spec)
    model.config._experts_implementation = "eager"
    shapes = {k: tuple(v.shape) for k, v in model.named_parameters()}
    return source.put(model, source.draw_weights(shapes, False, seed))


for model_name in ["llama-gqa-llama3", "qwen3-moe"]:
    told = json.loads((MODELS / f"{model_name}.json").read_text())
    prompt, model = told["prompt"], golden_model(model_name, told["seed"])
    sums = {}
    watch(model, sums)
    n_chunks = len(prompt) // CHUNK
    with torch.no_grad():
        for i in range(n_chunks):
            model(torch.tensor([prompt[i * CHUNK : (i + 1) * CHUNK]]))
    for ending, write in [("gguf", write_gguf), ("dat", write_dat)]:
        path = HERE / "golden" / f"imatrix-{model_name}.{ending}"
        write(path, sums, n_chunks)
        print(path, path.stat().st_size, sorted(sums)[:3], len(sums))
