#!/usr/bin/env python3
"""Makes the golden models of this folder: tiny random models, their states, their logits and their greedy continuations.

`transformers` is the reference. For each entry of MODELS this script builds the reference model with weights from a
seeded generator, writes the same weights as a GGUF file the way llama.cpp's converter lays them out (names, metadata
keys, the q/k row permutation of `llama`, the norm offset of `gemma3`, `rope_freqs.weight` for Llama 3 scaling), and
records what the reference answers. The formats are described in README.md.

Left out on purpose: tokenizing (the vocabulary is a stub that loaders accept; prompts are ids), quantized weights (row
lengths are multiples of 32, except in `qwen2-gqa7`, so a test may quantize these files itself), and gemma3's 27B rule
for the attention scale (it depends on the layer count being 62; here the scale is head_dim^-0.5).

    python3 -m venv v && v/bin/pip install torch transformers gguf numpy safetensors
    v/bin/python make_golden.py            # write the files beside this script
    v/bin/python make_golden.py --check    # make them anew elsewhere and compare with those that stand here

A seed is accepted when every greedy step is won by MIN_MARGIN, the text is not one loop, and every feature that a
model is here for moves the logits by MIN_EFFECT when it is taken away. So a loader that ignores a feature goes red.
"""

import argparse
import json
import pathlib
import sys
import tempfile

import gguf
import numpy as np
import torch
import transformers
import hf_folder
from transformers import Gemma3ForCausalLM, Gemma3TextConfig, LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

HERE = pathlib.Path(__file__).resolve().parent
N_VOCAB = 64
N_SPECIAL = 4  # ids below are control tokens: never in a prompt, never in a continuation
N_GREEDY = 24
MIN_MARGIN = 0.05  # top-1 minus top-2 logit, at every greedy step
MIN_EFFECT = 0.1  # largest change of any logit when one feature is removed
MIN_DISTINCT = 10  # different tokens among the N_GREEDY

SMALL = dict(vocab_size=N_VOCAB, hidden_size=32, intermediate_size=32, max_position_embeddings=512,
             bos_token_id=0, eos_token_id=1, pad_token_id=2)


def rope(theta, **scaling):
    """`rope_parameters` of one kind of layer; without `rope_type` the plain rotation."""
    return {"rope_type": "default", "rope_theta": theta, **scaling}


LLAMA3 = dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=64)
LINEAR4 = dict(rope_type="linear", factor=4.0)
LINEAR8 = dict(rope_type="linear", factor=8.0)
YARN4 = dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=64)


def no(*names):
    """A change of the weights: the named parameters (by ending) to zero."""
    return lambda weights: {k: v * 0 if k.endswith(names) else v for k, v in weights.items()}


def gemma_rope(full=None, local=None):
    return dict(rope_parameters={"full_attention": full or rope(1e6, **LINEAR8), "sliding_attention": local or rope(1e4)})


# Per model: the reference classes, the configuration, the prompt's length, keys that the file leaves out as older
# converters did, and `without`: changes of the configuration (dict) or of the weights (function), each of which must show.
MODELS = {
    "llama-gqa-llama3": dict(
        classes=(LlamaConfig, LlamaForCausalLM), n_prompt=24,
        config=dict(num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=16, rms_norm_eps=1e-5,
                    tie_word_embeddings=True, rope_parameters=rope(1e4, **LLAMA3)),
        without={
            "llama3 scaling": dict(rope_parameters=rope(1e4)),
            "llama3 scaling, all dims alike": dict(rope_parameters=rope(1e4, rope_type="linear", factor=8.0)),
            "rope base": dict(rope_parameters=rope(5e5, **LLAMA3)),
        }),
    "llama-untied-linear-bias": dict(
        classes=(LlamaConfig, LlamaForCausalLM), n_prompt=24,
        omit=("attention.key_length", "attention.value_length"),
        config=dict(num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1, head_dim=16, rms_norm_eps=1e-6,
                    tie_word_embeddings=False, attention_bias=True, mlp_bias=True,
                    rope_parameters=rope(5e5, **LINEAR4)),
        without={
            "linear scaling": dict(rope_parameters=rope(5e5)),
            "rope base": dict(rope_parameters=rope(1e4, **LINEAR4)),
            "untied output": lambda w: {**w, "lm_head.weight": w["model.embed_tokens.weight"]},
            **{f"{n} bias": no(f"{n}_proj.bias") for n in ("q", "k", "v", "o", "gate", "up", "down")},
        }),
    "qwen2-gqa7": dict(
        # Seven heads on one: llama.cpp wants n_heads * head_dim = hidden here, hence the odd 56 (this one cannot be quantized).
        classes=(Qwen2Config, Qwen2ForCausalLM), n_prompt=24, omit=("attention.key_length", "attention.value_length"),
        config=dict(num_hidden_layers=1, hidden_size=56, num_attention_heads=7, num_key_value_heads=1, head_dim=8, rms_norm_eps=1e-6,
                    tie_word_embeddings=True, use_sliding_window=False, rope_parameters=rope(1e6)),
        without={
            "rope base": dict(rope_parameters=rope(1e4)),
            **{f"{n} bias": no(f"{n}_proj.bias") for n in ("q", "k", "v")},
        }),
    "qwen2-yarn": dict(
        classes=(Qwen2Config, Qwen2ForCausalLM), n_prompt=24, omit=("attention.key_length", "attention.value_length"),
        config=dict(num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1, head_dim=16, rms_norm_eps=1e-6,
                    max_position_embeddings=256, tie_word_embeddings=True, use_sliding_window=False, rope_parameters=rope(1e6, **YARN4)),
        without={
            "yarn": dict(rope_parameters=rope(1e6)),
            "yarn ramp": dict(rope_parameters=rope(1e6, **LINEAR4)),
            "yarn attention factor": dict(rope_parameters=rope(1e6, **YARN4, attention_factor=1.0)),
        }),
    "gemma3-global-linear": dict(
        classes=(Gemma3TextConfig, Gemma3ForCausalLM), n_prompt=40,
        config=dict(num_hidden_layers=7, num_attention_heads=2, num_key_value_heads=1, head_dim=16, rms_norm_eps=1e-6,
                    query_pre_attn_scalar=16, sliding_window=8, layer_types=["sliding_attention"] * 5 + ["full_attention", "sliding_attention"],
                    tie_word_embeddings=True, **gemma_rope()),
        without={
            "window, one more": dict(sliding_window=9),
            "window, one less": dict(sliding_window=7),
            "window": dict(sliding_window=512),
            "global layer": dict(layer_types=["sliding_attention"] * 7),
            "global layer is the sixth": dict(layer_types=["full_attention"] + ["sliding_attention"] * 5 + ["full_attention"]),
            "linear scaling": gemma_rope(full=rope(1e6)),
            "linear scaling on global layers alone": gemma_rope(local=rope(1e4, **LINEAR8)),
            "global rope base": gemma_rope(full=rope(1e4, **LINEAR8)),
            "local rope base": gemma_rope(local=rope(1e6)),
            "attention scale": dict(query_pre_attn_scalar=32),
            "tanh gelu": dict(hidden_activation="silu"),
            **{n: no(f"{n}.weight") for n in ("q_norm", "k_norm", "input_layernorm", "post_attention_layernorm",
                                              "pre_feedforward_layernorm", "post_feedforward_layernorm", "model.norm")},
        }),
    "gemma3-pattern2-softcap": dict(
        classes=(Gemma3TextConfig, Gemma3ForCausalLM), n_prompt=40, sliding_window_pattern=2,
        omit=("rope.freq_base_swa",),
        config=dict(num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1, head_dim=32, rms_norm_eps=1e-6,
                    query_pre_attn_scalar=32, sliding_window=8, layer_types=["sliding_attention", "full_attention"],
                    tie_word_embeddings=True, final_logit_softcapping=6.0, **gemma_rope(full=rope(1e6))),
        without={
            "softcap": dict(final_logit_softcapping=None),
            "pattern": dict(layer_types=["sliding_attention"] * 2),
            "window, one more": dict(sliding_window=9),
            "local rope base by default": gemma_rope(full=rope(1e6), local=rope(1e6)),
        }),
}


def draw_weights(shapes, gemma, seed):
    """Weights by parameter name, from NumPy's frozen legacy generator, so that they do not depend on any version."""
    rng = np.random.RandomState(seed)
    weights = {}
    for name in sorted(shapes):
        shape = shapes[name]
        noise = rng.standard_normal(shape)
        if name.endswith("norm.weight"):
            # gemma3 stores the distance from 1. Query and key norms above 1 keep attention from being flat.
            # Post-norms above 1 let the blocks outweigh the embedding, or a tied model repeats its input.
            center = 3.0 if gemma and "layernorm" in name and "post_" in name else 1.0
            center = 1.5 if name.endswith(("q_norm.weight", "k_norm.weight")) else center
            value = center - gemma + 0.3 * noise
        elif name.endswith(".bias"):
            value = 0.5 * noise
        elif "embed_tokens" in name or "lm_head" in name:
            value = 0.4 * noise
        else:  # (n_out, n_in): the output keeps the input's size; q and k are larger so that positions matter
            gain = 2.0 if name.endswith(("q_proj.weight", "k_proj.weight")) else 1.6
            value = gain * noise / np.sqrt(shape[1])
        weights[name] = torch.from_numpy(value.astype(np.float32))
    return weights


def reference(spec, changes=None):
    config_class, model_class = spec["classes"]
    config = config_class(**{**SMALL, **spec["config"], **(changes or {})})
    config._attn_implementation = "eager"
    return model_class(config).eval()


def put(model, weights):
    tied = {k: v for k, v in weights.items()}
    if model.config.tie_word_embeddings:
        tied["lm_head.weight"] = tied["model.embed_tokens.weight"]
    model.load_state_dict(tied, strict=True)
    return model


@torch.no_grad()
def logits_of(model, ids):
    """f32 logits of every position: (n_ids, n_vocab)."""
    return model(torch.tensor([ids]), use_cache=False).logits[0].float()


@torch.no_grad()
def states_of(model, ids):
    """f32 hidden states of every position, after the last norm: (n_ids, hidden)."""
    return model.base_model(torch.tensor([ids]), use_cache=False).last_hidden_state[0].float()


def greedy(model, prompt):
    """The continuation and the smallest lead of a winner over its runner-up."""
    ids, margin = list(prompt), float("inf")
    for _ in range(N_GREEDY):
        top = logits_of(model, ids)[-1].topk(2)
        margin = min(margin, float(top.values[0] - top.values[1]))
        ids.append(int(top.indices[0]))
        if margin < MIN_MARGIN:
            break
    return ids[len(prompt):], margin


def find(name, spec):
    """The first seed whose model is decided enough to be a golden one."""
    model = reference(spec)
    gemma = model.config.model_type.startswith("gemma") and model.config.model_type not in ("gemma3n_text", "gemma4_text")
    shapes = {k: tuple(v.shape) for k, v in model.named_parameters()}  # tied weights come once
    shapes |= {k: tuple(v.shape) for k, v in model.named_buffers() if k in model.state_dict()}
    for seed in range(10_000):
        weights = draw_weights(shapes, gemma, seed)
        put(model, weights)
        prompt = np.random.RandomState(seed + 1).randint(N_SPECIAL, N_VOCAB, spec["n_prompt"]).tolist()
        tokens, margin = greedy(model, prompt)
        if margin < MIN_MARGIN or min(tokens) < N_SPECIAL or len(set(tokens)) < MIN_DISTINCT:
            continue
        logits = logits_of(model, prompt)
        effects = {}
        for label, change in spec["without"].items():
            if callable(change):
                other = put(reference(spec), change(weights))
            else:
                other = put(reference(spec, change), weights)
            effects[label] = round(float((logits_of(other, prompt) - logits).abs().max()), 4)
        if min(effects.values()) < MIN_EFFECT:
            print(f"{name}: seed {seed} passed over, {effects}", file=sys.stderr)
            continue
        answer = dict(prompt=prompt, greedy=tokens, min_margin=round(margin, 4), effects=effects, seed=seed)
        return model.config, weights, logits.numpy(), states_of(model, prompt).numpy(), answer
    raise SystemExit(f"{name}: no seed fits")


def permute(rows, n_heads):
    """`llama` alone: rows of a head from halves (rotate x[i] with x[i + d/2]) to pairs (x[2i] with x[2i + 1])."""
    half = rows.shape[0] // n_heads // 2
    return rows.reshape(n_heads, 2, half, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)


BLOCK_NAMES = {
    "input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
}
# gemma3 has four norms per block; what the others call post_attention_layernorm is the norm before the feed-forward.
POST_NORMS = {"post_attention_layernorm": "ffn_norm"}
POST_NORMS_GEMMA = {"post_attention_layernorm": "post_attention_norm", "pre_feedforward_layernorm": "ffn_norm",
                    "post_feedforward_layernorm": "post_ffw_norm"}
TOP_NAMES = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}


def gguf_name(name, gemma):
    stem, _, kind = name.rpartition(".")
    if stem in TOP_NAMES:
        return f"{TOP_NAMES[stem]}.{kind}"
    _, _, block, rest = stem.split(".", 3)
    return f"blk.{block}.{({**BLOCK_NAMES, **(POST_NORMS_GEMMA if gemma else POST_NORMS)})[rest]}.{kind}"


def llama3_factors(config):
    """`rope_freqs.weight`, (head_dim / 2,): what each frequency is divided by. Meta's rule, as the converter writes it."""
    p = config.rope_parameters
    wavelength = 2 * np.pi * p["rope_theta"] ** (np.arange(0, config.head_dim, 2) / config.head_dim)
    turns = p["original_max_position_embeddings"] / wavelength
    smooth = np.clip((turns - p["low_freq_factor"]) / (p["high_freq_factor"] - p["low_freq_factor"]), 0, 1)
    return (1 / ((1 - smooth) / p["factor"] + smooth)).astype(np.float32)


def vocabulary():
    """A byte-level BPE stub: control tokens, single characters, and three merges."""
    control = ["<|bos|>", "<|eos|>", "<|pad|>", "<|unused|>"]
    merges = ["t h", "th e", "Ġ the"]
    characters = list("ĊĠabcdefghijklmnopqrstuvwxyz0123456789.,;:!?'\"()-+*/=_#@&")
    tokens = control + characters + [m.replace(" ", "") for m in merges]
    types = [gguf.TokenType.CONTROL] * len(control) + [gguf.TokenType.NORMAL] * (len(tokens) - len(control))
    assert len(tokens) == N_VOCAB == len(set(tokens))
    return tokens, types, merges


def write_gguf(path, name, spec, config, weights):
    """One F32 GGUF file; keys in the order in which the converter adds them."""
    arch = {"llama": "llama", "qwen2": "qwen2", "gemma3_text": "gemma3"}[config.model_type]
    gemma = arch == "gemma3"
    omit = spec.get("omit", ())
    ropes = config.rope_parameters
    full, local = (ropes["full_attention"], ropes["sliding_attention"]) if gemma else (ropes, None)

    writer = gguf.GGUFWriter(path, arch)
    writer.add_type("model")
    writer.add_name(name)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    if full["rope_type"] in ("linear", "yarn"):
        writer.add_rope_scaling_type(gguf.RopeScalingType(full["rope_type"]))
        writer.add_rope_scaling_factor(full["factor"])
    if full["rope_type"] == "yarn":
        writer.add_rope_scaling_orig_ctx_len(full["original_max_position_embeddings"])
    writer.add_rope_freq_base(full["rope_theta"])
    if local and "rope.freq_base_swa" not in omit:
        writer.add_rope_freq_base_swa(local["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    if "attention.key_length" not in omit:
        writer.add_key_length(config.head_dim)
        writer.add_value_length(config.head_dim)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    if arch == "llama":
        writer.add_vocab_size(config.vocab_size)
        writer.add_rope_dimension_count(config.head_dim)
    if gemma:
        if config.final_logit_softcapping:
            writer.add_final_logit_softcapping(config.final_logit_softcapping)
        writer.add_sliding_window(config.sliding_window)
        if "sliding_window_pattern" in spec:
            writer.add_sliding_window_pattern(spec["sliding_window_pattern"])

    tokens, types, merges = vocabulary()
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges(merges)
    writer.add_bos_token_id(config.bos_token_id)
    writer.add_eos_token_id(config.eos_token_id)
    writer.add_pad_token_id(config.pad_token_id)
    writer.add_add_bos_token(False)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)

    tensors = {}
    if full["rope_type"] == "llama3":
        tensors["rope_freqs.weight"] = llama3_factors(config)
    for key, value in weights.items():
        value = value.numpy()
        if arch == "llama" and "q_proj" in key:
            value = permute(value, config.num_attention_heads)
        if arch == "llama" and "k_proj" in key:
            value = permute(value, config.num_key_value_heads)
        if gemma and key.endswith("norm.weight"):
            value = value + np.float32(1)
        tensors[gguf_name(key, gemma)] = np.ascontiguousarray(value)
    for key, value in tensors.items():
        writer.add_tensor(key, value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def dump(path, answer):
    """JSON with one line per key: short, and readable in a diff."""
    lines = ",\n".join(f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in answer.items())
    path.write_text("{\n" + lines + "\n}\n")


def make(folder):
    for name, spec in MODELS.items():
        config, weights, logits, states, answer = find(name, spec)
        write_gguf(folder / f"{name}.gguf", name, spec, config, weights)
        with tempfile.TemporaryDirectory() as saved:
            put(reference(spec), weights).save_pretrained(saved)
            hf_folder.write(pathlib.Path(saved), folder / f"{name}.gguf", folder / f"{name}.hf.json")
        logits.astype("<f4").tofile(folder / f"{name}.logits.bin")
        states.astype("<f4").tofile(folder / f"{name}.states.bin")
        dump(folder / f"{name}.json", {
            "model": f"{name}.gguf", "n_vocab": N_VOCAB, "logits": f"{name}.logits.bin", "logits_shape": list(logits.shape),
            **answer, "made_with": {"transformers": transformers.__version__, "torch": torch.__version__.split("+")[0]}})
        size = sum((folder / f"{name}{end}").stat().st_size for end in (".gguf", ".hf.json", ".logits.bin", ".states.bin", ".json"))
        print(f"{name}: seed {answer['seed']}, margin {answer['min_margin']}, weakest effect "
              f"{min(answer['effects'].values())}, |logit| max {np.abs(logits).max():.2f}, "
              f"{len(set(answer['greedy']))} distinct, {size} bytes")


def check():
    """Fails when the files beside this script are not what it makes (logits and states: within rounding of another CPU)."""
    with tempfile.TemporaryDirectory() as other:
        other = pathlib.Path(other)
        make(other)
        for name in MODELS:
            for file in (f"{name}.gguf", f"{name}.hf.json"):
                assert (other / file).read_bytes() == (HERE / file).read_bytes(), f"{file} differs"
            for what in ("logits", "states"):
                new, old = (np.fromfile(f / f"{name}.{what}.bin", "<f4") for f in (other, HERE))
                assert np.abs(new - old).max() < 1e-4, f"{name}: {what} differ"
            new, old = (json.loads((f / f"{name}.json").read_text()) for f in (other, HERE))
            assert new["greedy"] == old["greedy"] and new["prompt"] == old["prompt"], f"{name}: tokens differ"
    print("the golden files are what this script makes")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="make the golden models of this folder")
    parser.add_argument("--check", action="store_true", help="compare with the files that stand here; write nothing")
    torch.set_num_threads(1)
    check() if parser.parse_args().check else make(HERE)
