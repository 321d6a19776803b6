#!/usr/bin/env python3
"""Makes the golden models of the families that llama.cpp's own converter turns into GGUF.

As `make_golden.py`, whose random weights, acceptance of seeds and file formats it shares, but the GGUF file is written by
the converter itself (`conversion/` of llama.cpp's sources, which the source package of PyPI's `llama-cpp-python` holds),
from a folder that `transformers` saved: so names, keys and layouts are the field's, not ours. Only the vocabulary is the
stub of `make_golden.py`. Of the folder, which is what a user would have downloaded, a description is kept (`hf_folder.py`).

    python3 -m venv v && v/bin/pip install torch transformers gguf numpy safetensors sentencepiece
    v/bin/python make_families.py --llama-cpp PATH [--only NAME,..] [--check]
"""

import argparse
import json
import logging
import pathlib
import sys
import tempfile

import numpy as np
import torch
import transformers

import hf_folder
import make_golden as base
from make_golden import HERE, N_VOCAB, SMALL, no, rope

LONG = dict(rope_type="longrope", original_max_position_embeddings=64,
            short_factor=[1.0, 1.1, 1.25, 1.5, 1.75, 2.0, 2.25, 2.5], long_factor=[1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0])
MINISTRAL = dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=16, beta_fast=4.0, beta_slow=1.0, mscale=1.0,
                 mscale_all_dim=1.0, llama_4_scaling_beta=0.5)
HALVES = ("input_layernorm", "post_attention_layernorm", "model.norm")
SANDWICH = ("input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm", "post_feedforward_layernorm", "model.norm")
LAYER_NORMS = dict(layer_norm_eps=1e-5)
KINDS = ["sliding_attention", "full_attention"]


def two_ropes(full=None, local=None):
    return dict(rope_parameters={"full_attention": full or rope(5e5), "sliding_attention": local or rope(5e5)})


def norms(*names):
    return {name: no(f"{name}.weight") for name in names}


def swap(one, other):
    """Exchanges two parameters, by ending."""
    def change(weights):
        exchange = lambda k: k[:-len(one)] + other if k.endswith(one) else k[:-len(other)] + one if k.endswith(other) else k
        return {k: weights[exchange(k)] for k in weights}
    return change


def biases(*names):
    return {f"{name} bias": no(f"{name}.bias") for name in names}


GEMMA4_ROPE = {"full_attention": rope(1e6, rope_type="proportional", partial_rotary_factor=0.25), "sliding_attention": rope(1e4)}


def gemma4_rope(**full):
    return dict(rope_parameters={**GEMMA4_ROPE, "full_attention": {**GEMMA4_ROPE["full_attention"], **full}})


def taps(which):
    """One of the taps of short convolutions to zero."""
    keep = torch.tensor([float(i != which) for i in range(3)])
    return lambda weights: {k: v * keep if k.endswith("conv.conv.weight") else v for k, v in weights.items()}


def scalars(weights):
    return {k: torch.ones_like(v) if k.endswith("layer_scalar") else v for k, v in weights.items()}


# As MODELS of make_golden.py; `family` names the classes of transformers, `ctx` the longest context that the answer is for.
FAMILIES = {
    "qwen3": dict(
        family="Qwen3", n_prompt=24,
        config=dict(num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=16, rms_norm_eps=1e-6,
                    tie_word_embeddings=True, use_sliding_window=False, rope_parameters=rope(1e6)),
        without={"rope base": dict(rope_parameters=rope(1e4)), **norms("q_norm", "k_norm", *HALVES)}),
    "mistral-window": dict(
        family="Mistral", n_prompt=40,
        config=dict(num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=16, rms_norm_eps=1e-5,
                    sliding_window=8, tie_word_embeddings=False, rope_parameters=rope(1e4)),
        # The converter leaves it out, and the field runs the first Mistral without its window; the key means what it says.
        keys={"llama.attention.sliding_window": 8},
        without={"window": dict(sliding_window=None), "window, one more": dict(sliding_window=9),
                 "window, one less": dict(sliding_window=7), **norms(*HALVES)}),
    "ministral3": dict(
        # Three steps of 16 positions, in each of which attention is sharper than in the one before.
        family="Ministral3", n_prompt=40,
        config=dict(num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=16, rms_norm_eps=1e-5,
                    sliding_window=None, tie_word_embeddings=False, rope_parameters=rope(1e4, **MINISTRAL)),
        without={"growing scores": dict(rope_parameters=rope(1e4, **{**MINISTRAL, "llama_4_scaling_beta": 0.0})),
                 "yarn ramp": dict(rope_parameters=rope(1e4, **{**MINISTRAL, "rope_type": "linear"})),
                 "yarn's magnitude": dict(rope_parameters=rope(1e4, **{**MINISTRAL, "mscale_all_dim": 0.0})),
                 "steps": dict(rope_parameters=rope(1e4, **{**MINISTRAL, "original_max_position_embeddings": 20})), **norms(*HALVES)}),
    "smollm3-nope": dict(
        family="SmolLM3", n_prompt=24,
        config=dict(num_hidden_layers=5, num_attention_heads=2, num_key_value_heads=1, rms_norm_eps=1e-6, hidden_size=32,
                    tie_word_embeddings=True, use_sliding_window=False, no_rope_layer_interval=4, rope_parameters=rope(5e6)),
        without={"fourth layer without rope": dict(no_rope_layers=[1] * 5),
                 "fourth, not first": dict(no_rope_layers=[0, 1, 1, 1, 0]), "rope base": dict(rope_parameters=rope(1e4))}),
    "granite": dict(
        family="Granite", n_prompt=24,
        config=dict(num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, rms_norm_eps=1e-5, hidden_size=32,
                    embedding_multiplier=3.0, attention_multiplier=0.2, residual_multiplier=0.5, logits_scaling=0.5,
                    tie_word_embeddings=False, rope_parameters=rope(1e4)),
        without={"embedding factor": dict(embedding_multiplier=1.0), "attention factor": dict(attention_multiplier=8 ** -0.5),
                 "residual factor": dict(residual_multiplier=1.0), "logit divisor": dict(logits_scaling=1.0), **norms(*HALVES)}),
    "phi3-longrope-short": dict(
        family="Phi3", n_prompt=24, ctx=64,
        config=dict(num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1, rms_norm_eps=1e-5, hidden_size=32,
                    max_position_embeddings=256, original_max_position_embeddings=64, tie_word_embeddings=False, sliding_window=None,
                    rope_parameters=rope(1e4, **LONG)),
        without={"longrope": dict(rope_parameters=rope(1e4)),
                 "attention factor": dict(rope_parameters=rope(1e4, **LONG, attention_factor=1.0)), **norms(*HALVES)}),
    "phi3-longrope-long": dict(
        # Beyond the original 64 positions; the prompt alone makes the reference choose the long factors.
        family="Phi3", n_prompt=72,
        config=dict(num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=2, rms_norm_eps=1e-5, hidden_size=32,
                    max_position_embeddings=256, original_max_position_embeddings=64, tie_word_embeddings=True, sliding_window=None,
                    rope_parameters=rope(1e4, **LONG)),
        without={"longrope": dict(rope_parameters=rope(1e4))}),
    "phi3-partial-window": dict(
        # Phi-4-mini's part of a head, Phi-3-mini's window.
        family="Phi3", n_prompt=40,
        config=dict(num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1, rms_norm_eps=1e-5, hidden_size=32,
                    max_position_embeddings=256, original_max_position_embeddings=256, tie_word_embeddings=True, sliding_window=8,
                    rope_parameters=rope(1e4, partial_rotary_factor=0.75)),
        without={"part of a head": dict(rope_parameters=rope(1e4, partial_rotary_factor=1.0)),
                 "window, one more": dict(sliding_window=9), "window, one less": dict(sliding_window=7)}),
    "gemma": dict(
        family="Gemma", n_prompt=24,
        config=dict(num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1, head_dim=32, rms_norm_eps=1e-6,
                    tie_word_embeddings=True, rope_parameters=rope(1e4)),
        without={"tanh gelu": dict(hidden_act="silu", hidden_activation="silu"), "rope base": dict(rope_parameters=rope(1e6)), **norms(*HALVES)}),
    "gemma2": dict(
        family="Gemma2", n_prompt=40,
        config=dict(num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1, head_dim=16, rms_norm_eps=1e-6,
                    query_pre_attn_scalar=16, sliding_window=8, attn_logit_softcapping=2.0, final_logit_softcapping=6.0,
                    layer_types=["sliding_attention", "full_attention"], tie_word_embeddings=True, rope_parameters=rope(1e4)),
        without={"score cap": dict(attn_logit_softcapping=None), "logit cap": dict(final_logit_softcapping=None),
                 "window, one more": dict(sliding_window=9), "window, one less": dict(sliding_window=7),
                 "first layer local": dict(layer_types=["full_attention", "sliding_attention"]),
                 "tanh gelu": dict(hidden_activation="silu"), **norms(*SANDWICH)}),
    "olmo2": dict(
        family="Olmo2", n_prompt=24,
        config=dict(num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, rms_norm_eps=1e-6, hidden_size=32,
                    tie_word_embeddings=False, rope_parameters=rope(5e5)),
        without={"rope base": dict(rope_parameters=rope(1e4)),
                 **norms("q_norm", "k_norm", "post_attention_layernorm", "post_feedforward_layernorm", "model.norm")}),
    "stablelm": dict(
        family="StableLm", n_prompt=24,
        config=dict(num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=2, hidden_size=32, use_qkv_bias=True,
                    use_parallel_residual=False, qk_layernorm=False, tie_word_embeddings=False, **LAYER_NORMS,
                    rope_parameters=rope(1e4, partial_rotary_factor=0.25)),
        without={"part of a head": dict(rope_parameters=rope(1e4, partial_rotary_factor=0.5)), **norms(*HALVES),
                 **biases("q_proj", "k_proj", "v_proj", "input_layernorm", "post_attention_layernorm", "model.norm")}),
    "stablelm-12b": dict(
        family="StableLm", n_prompt=24,
        config=dict(num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, hidden_size=32, use_qkv_bias=False,
                    use_parallel_residual=True, qk_layernorm=True, tie_word_embeddings=False, **LAYER_NORMS,
                    rope_parameters=rope(1e4, partial_rotary_factor=0.25)),
        without={**norms("q_layernorm.norms.1", "k_layernorm.norms.0", "input_layernorm"),
                 "norms exchanged": swap("q_layernorm.norms.0.weight", "q_layernorm.norms.1.weight")}),
    "qwen3-moe": dict(
        family="Qwen3Moe", n_prompt=24,
        config=dict(num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=16, rms_norm_eps=1e-6, hidden_size=32,
                    num_experts=4, num_experts_per_tok=2, moe_intermediate_size=32, norm_topk_prob=True, tie_word_embeddings=False,
                    rope_parameters=rope(1e6)),
        without={"sum of 1": dict(norm_topk_prob=False), "one expert more": dict(num_experts_per_tok=3),
                 "one expert less": dict(num_experts_per_tok=1), **norms("q_norm", "k_norm"), "choice": no("mlp.gate.weight")}),
    "olmoe": dict(
        family="Olmoe", n_prompt=24,
        config=dict(num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=2, rms_norm_eps=1e-5, hidden_size=32,
                    num_experts=4, num_experts_per_tok=2, norm_topk_prob=False, tie_word_embeddings=False, rope_parameters=rope(1e4)),
        without={"no sum of 1": dict(norm_topk_prob=True), "one expert more": dict(num_experts_per_tok=3), **norms("q_norm", "k_norm")}),
    "granite-moe": dict(
        family="GraniteMoe", n_prompt=24,
        config=dict(num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, rms_norm_eps=1e-5, hidden_size=32,
                    num_local_experts=4, num_experts_per_tok=2, embedding_multiplier=3.0, attention_multiplier=0.2,
                    residual_multiplier=0.5, logits_scaling=0.5, tie_word_embeddings=False, rope_parameters=rope(1e4)),
        without={"one expert more": dict(num_experts_per_tok=3), "residual factor": dict(residual_multiplier=1.0)}),
    "mixtral": dict(
        family="Mixtral", n_prompt=24,
        config=dict(num_hidden_layers=1, num_attention_heads=4, num_key_value_heads=2, head_dim=8, rms_norm_eps=1e-5, hidden_size=32,
                    num_local_experts=4, num_experts_per_tok=2, sliding_window=None, tie_word_embeddings=False, rope_parameters=rope(1e6)),
        without={"one expert more": dict(num_experts_per_tok=3), "choice": no("mlp.gate.weight")}),
    "phi2": dict(
        family="Phi", n_prompt=24,
        config=dict(num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=2, hidden_size=32, intermediate_size=128,
                    tie_word_embeddings=False, qk_layernorm=False, **LAYER_NORMS, rope_parameters=rope(1e4, partial_rotary_factor=0.5)),
        without={"part of a head": dict(rope_parameters=rope(1e4, partial_rotary_factor=1.0)), **norms("input_layernorm", "final_layernorm"),
                 **biases("q_proj", "k_proj", "v_proj", "dense", "fc1", "fc2", "input_layernorm", "final_layernorm", "lm_head")}),
    "gpt2": dict(
        family="GPT2", class_name="GPT2LMHeadModel", n_prompt=24,
        config=dict(n_layer=2, n_head=2, n_embd=32, n_positions=128, n_ctx=128, tie_word_embeddings=True),
        without={"positions": no("wpe.weight"), "tanh gelu": dict(activation_function="relu"), **norms("ln_1", "ln_2", "ln_f"),
                 **biases("c_attn", "attn.c_proj", "c_fc", "mlp.c_proj", "ln_1", "ln_2", "ln_f")}),
    "gemma4": dict(
        # As the sizes named E: small embeddings for each layer, the last layers without keys and values of their own, and wider.
        family="Gemma4Text", class_name="Gemma4ForCausalLM", n_prompt=40,
        config=dict(num_hidden_layers=5, hidden_size=32, num_attention_heads=2, num_key_value_heads=1, head_dim=8, global_head_dim=16, rms_norm_eps=1e-6,
                    sliding_window=8, layer_types=[*KINDS, KINDS[0], *KINDS], num_kv_shared_layers=2, use_double_wide_mlp=True,
                    vocab_size_per_layer_input=N_VOCAB, hidden_size_per_layer_input=8, final_logit_softcapping=8.0,
                    tie_word_embeddings=True, rope_parameters=GEMMA4_ROPE),
        without={"window, one more": dict(sliding_window=9), "window, one less": dict(sliding_window=7), "logit cap": dict(final_logit_softcapping=None),
                 "part of a head": gemma4_rope(partial_rotary_factor=1.0), "global rope base": gemma4_rope(rope_theta=1e4),
                 "factors": scalars, **norms("q_norm", "k_norm", "per_layer_projection_norm", "post_per_layer_input_norm", *SANDWICH),
                 "token's own": no("embed_tokens_per_layer.weight"), "stream's part": no("per_layer_model_projection.weight")}),
    "gemma4-wide": dict(
        # As the largest: values that are the keys, fewer heads in global layers, nothing shared.
        family="Gemma4Text", class_name="Gemma4ForCausalLM", n_prompt=40,
        config=dict(num_hidden_layers=2, hidden_size=32, num_attention_heads=4, num_key_value_heads=2, num_global_key_value_heads=1, head_dim=8, global_head_dim=16,
                    rms_norm_eps=1e-6, sliding_window=8, layer_types=KINDS, attention_k_eq_v=True, hidden_size_per_layer_input=0,
                    tie_word_embeddings=True, rope_parameters=GEMMA4_ROPE),
        without={"window, one more": dict(sliding_window=9), "window, one less": dict(sliding_window=7), **norms("q_norm", "k_norm")}),
    "gemma3n": dict(
        family="Gemma3nText", class_name="Gemma3nForCausalLM", n_prompt=40,
        config=dict(num_hidden_layers=4, hidden_size=32, num_attention_heads=2, num_key_value_heads=1, head_dim=16, rms_norm_eps=1e-6,
                    intermediate_size=[32] * 4, sliding_window=8, layer_types=KINDS * 2, num_kv_shared_layers=2, laurel_rank=8,
                    activation_sparsity_pattern=[0.75, 0.0, 0.0, 0.5], vocab_size_per_layer_input=N_VOCAB, hidden_size_per_layer_input=8,
                    final_logit_softcapping=8.0, tie_word_embeddings=True,
                    rope_parameters={"full_attention": rope(1e6), "sliding_attention": rope(1e4)}),
        without={"window, one more": dict(sliding_window=9), "window, one less": dict(sliding_window=7), "outliers": dict(activation_sparsity_pattern=[0.0] * 4),
                 "outliers, fewer": dict(activation_sparsity_pattern=[0.75, 0.0, 0.0, 0.6]), "token's own": no("embed_tokens_per_layer.weight"),
                 "stream's part": no("per_layer_model_projection.weight"), "factor": no("correct_output_scale"),
                 "streams in": no("altup_projections.2.weight"), "streams out": no("altup_unembed_projections.2.weight"),
                 "prediction": no("prediction_coefs.weight"), "correction": no("correction_coefs.weight"), "laurel": no("linear_right.weight"),
                 **norms("q_norm", "k_norm", "post_laurel_norm", "router_norm", "post_per_layer_input_norm", *SANDWICH)}),
    "lfm2": dict(
        family="Lfm2", n_prompt=40,
        # 48 becomes a feed-forward part of 32.
        config=dict(num_hidden_layers=4, hidden_size=32, num_attention_heads=4, num_key_value_heads=2, norm_eps=1e-5, intermediate_size=48,
                    block_multiple_of=32, conv_L_cache=3, layer_types=["conv", "full_attention", "conv", "conv"], tie_word_embeddings=True,
                    rope_parameters=rope(1e6)),
        without={"token's own": taps(2), "token before": taps(1), "token before that": taps(0), "rope base": dict(rope_parameters=rope(1e4)),
                 **norms("q_layernorm", "k_layernorm", "operator_norm", "ffn_norm", "embedding_norm")}),
    "granite4": dict(
        # A dense size of Granite 4, whose type of model is that of the sizes with state spaces and experts.
        family="GraniteMoeHybrid", n_prompt=24,
        config=dict(num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, rms_norm_eps=1e-5, shared_intermediate_size=32,
                    layer_types=["attention"] * 2, num_local_experts=0, num_experts_per_tok=0, position_embedding_type="rope",
                    mamba_n_heads=8, mamba_d_head=8, mamba_d_state=8, embedding_multiplier=3.0, attention_multiplier=0.2,
                    residual_multiplier=0.5, logits_scaling=0.5, tie_word_embeddings=False, rope_parameters=rope(1e4)),
        without={"rotation": dict(position_embedding_type=None), "residual factor": dict(residual_multiplier=1.0), **norms(*HALVES)}),
    "olmo3": dict(
        family="Olmo3", n_prompt=40,
        config=dict(num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, rms_norm_eps=1e-6, max_position_embeddings=256,
                    sliding_window=8, layer_types=KINDS, tie_word_embeddings=False, **two_ropes(full=rope(5e5, **base.YARN4))),
        without={"window, one more": dict(sliding_window=9), "window, one less": dict(sliding_window=7), "kinds": dict(layer_types=KINDS[::-1]),
                 "yarn": two_ropes(), "yarn on the global layer alone": two_ropes(*[rope(5e5, **base.YARN4)] * 2),
                 **norms("q_norm", "k_norm", "post_attention_layernorm", "post_feedforward_layernorm", "model.norm")}),
    "exaone4": dict(
        family="Exaone4", n_prompt=24,
        config=dict(num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, rms_norm_eps=1e-5, sliding_window=None,
                    layer_types=["full_attention"] * 2, tie_word_embeddings=True, rope_parameters=rope(1e4, **base.LLAMA3)),
        without={"llama3 scaling": dict(rope_parameters=rope(1e4)), "rotation": dict(sliding_window=512),
                 **norms("q_norm", "k_norm", "post_attention_layernorm", "post_feedforward_layernorm", "model.norm")}),
    "exaone4-window": dict(
        family="Exaone4", n_prompt=40,
        config=dict(num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, rms_norm_eps=1e-5, sliding_window=8,
                    layer_types=KINDS, tie_word_embeddings=False, rope_parameters=rope(1e4)),
        without={"window, one more": dict(sliding_window=9), "window, one less": dict(sliding_window=7), "kinds": dict(layer_types=KINDS[::-1]),
                 "rope base": dict(rope_parameters=rope(1e6))}),
    "glm4": dict(
        family="Glm4", n_prompt=24,
        config=dict(num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=16, rms_norm_eps=1e-6, attention_bias=True,
                    tie_word_embeddings=False, rope_parameters=rope(1e4, partial_rotary_factor=0.5)),
        without={"part of a head": dict(rope_parameters=rope(1e4, partial_rotary_factor=1.0)), **biases("q_proj", "k_proj", "v_proj"),
                 **norms("post_self_attn_layernorm", "post_mlp_layernorm", *HALVES)}),
    "ernie45": dict(
        family="Ernie4_5", n_prompt=24,
        config=dict(num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=16, rms_norm_eps=1e-5, use_bias=False,
                    tie_word_embeddings=False, rope_parameters=rope(5e5)),
        without={"rope base": dict(rope_parameters=rope(1e4)), **norms(*HALVES)}),
    "hunyuan": dict(
        family="HunYuanDenseV1", n_prompt=24,
        config=dict(num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=16, rms_norm_eps=1e-5,
                    max_position_embeddings=32768, tie_word_embeddings=False, rope_parameters=rope(1e4, rope_type="dynamic", alpha=1000.0, factor=1.0)),
        without={"stretch of the base": dict(rope_parameters=rope(1e4)), **norms("query_layernorm", "key_layernorm", *HALVES)}),
    "arcee": dict(
        family="Arcee", n_prompt=24,
        config=dict(num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=8, rms_norm_eps=1e-5, intermediate_size=64,
                    max_position_embeddings=256, tie_word_embeddings=False, rope_parameters=rope(1e4, **base.YARN4)),
        without={"square": dict(hidden_act="relu"), "yarn": dict(rope_parameters=rope(1e4)), **norms(*HALVES)}),
    "starcoder2": dict(
        family="Starcoder2", n_prompt=40,
        config=dict(num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, norm_epsilon=1e-5, intermediate_size=64,
                    sliding_window=8, use_bias=True, tie_word_embeddings=True, rope_parameters=rope(1e5)),
        # As Mistral's, the converter leaves it out.
        keys={"starcoder2.attention.sliding_window": 8},
        without={"window": dict(sliding_window=None), "window, one more": dict(sliding_window=9), "window, one less": dict(sliding_window=7),
                 **norms(*HALVES), **biases("q_proj", "k_proj", "v_proj", "o_proj", "c_fc", "c_proj", *HALVES)}),
    "cohere2": dict(
        family="Cohere2", n_prompt=40,
        config=dict(num_hidden_layers=4, num_attention_heads=2, num_key_value_heads=1, layer_norm_eps=1e-5, sliding_window=8, logit_scale=0.5,
                    rotary_pct=1.0, tie_word_embeddings=True, rope_parameters=rope(5e4)),
        without={"window, one more": dict(sliding_window=9), "window, one less": dict(sliding_window=7), "logit factor": dict(logit_scale=1.0),
                 "fourth layer global": dict(layer_types=["sliding_attention"] * 4), "rope base": dict(rope_parameters=rope(1e6)),
                 **norms("input_layernorm", "model.norm")}),
}


def draw_weights(shapes, gemma, seed):
    """As in make_golden.py, for the parameter names of all families."""
    rng = np.random.RandomState(seed)
    weights = {}
    for name in sorted(shapes):
        shape = shapes[name]
        noise = rng.standard_normal(shape)
        stem = name.rsplit(".", 1)[0]
        if name.endswith("layer_scalar"):
            value = 1 + 0.3 * noise
        elif len(shape) == 1 and name.endswith(".weight"):  # norms
            post = "post_feedforward" in name or "post_attention_layernorm" in name and gemma
            center = 6.0 if gemma and post else 1.5 if stem.endswith(("q_norm", "k_norm")) else 1.0
            value = center - gemma + 0.3 * noise
        elif name.endswith(".bias"):
            value = 0.5 * noise
        elif stem.endswith(("embed_tokens", "embed_tokens_per_layer", "lm_head", "wte", "wpe")):
            value = 0.4 * noise
        else:  # (.., n_out, n_in), but for GPT-2's (n_in, n_out)
            n_in = shape[0] if stem.endswith(("c_attn", "c_proj", "c_fc")) else shape[-1]
            gain = 2.0 if stem.endswith(("q_proj", "k_proj", "qkv_proj", "c_attn")) else 1.6
            value = gain * noise / np.sqrt(n_in)
        weights[name] = torch.from_numpy(value.astype(np.float32))
    return weights


def put(model, weights):
    """Tied output projections come once among the parameters."""
    missing, unexpected = model.load_state_dict(weights, strict=False)
    assert not unexpected and all(name.startswith("lm_head") for name in missing), (missing, unexpected)
    if model.config.tie_word_embeddings:
        model.tie_weights()
    return model


def use_sources(llama_cpp):
    """The converter wants the gguf package of its own sources, not the published one."""
    for module in [module for module in sys.modules if module.split(".")[0] == "gguf"]:
        del sys.modules[module]
    sys.path[:0] = [llama_cpp, str(pathlib.Path(llama_cpp) / "gguf-py")]


def convert(folder, path, name, keys, extra=None):
    """The converter's own class for the model in `folder`, with the stub vocabulary, and tensors that it leaves out."""
    from conversion.base import ModelBase, gguf
    config = json.loads((folder / "config.json").read_text())
    import conversion
    architecture = config["architectures"][0]
    model_class = conversion.get_model_class(architecture)
    # A front for several, of which this is the one.
    model_class = getattr(model_class, "Ministral3Model", model_class)

    def set_vocab(self):
        tokens, types, merges = base.vocabulary()
        self.gguf_writer.add_tokenizer_model("gpt2")
        self.gguf_writer.add_tokenizer_pre("gpt-2")
        self.gguf_writer.add_token_list(tokens)
        self.gguf_writer.add_token_types(types)
        self.gguf_writer.add_token_merges(merges)
        self.gguf_writer.add_bos_token_id(0)
        self.gguf_writer.add_eos_token_id(1)
        self.gguf_writer.add_pad_token_id(2)
        self.gguf_writer.add_add_bos_token(False)
        for key, value in keys.items():
            self.gguf_writer.add_uint32(key, value)

    def generate_extra_tensors(self):
        yield from model_class.generate_extra_tensors(self)
        yield from (extra or {}).items()

    def map_tensor_name(self, name, *more, **named):
        return name if name in (extra or {}) else model_class.map_tensor_name(self, name, *more, **named)

    def modify_tensors(self, data, name, block):
        # StableLM's returns a generator where it means to hand its tensors on.
        returned = yield from model_class.modify_tensors(self, data, name, block)
        yield from returned or ()

    def get_attn_layers(self):
        # GraniteHybrid's knows the name of version 4 of transformers alone.
        return [i for i, kind in enumerate(self.hparams["layer_types"]) if kind in ("attention", "full_attention")]

    own = {"set_vocab": set_vocab, "modify_tensors": modify_tensors, "model_arch": model_class.model_arch, "generate_extra_tensors": generate_extra_tensors,
           "map_tensor_name": map_tensor_name}
    if hasattr(model_class, "get_attn_layers"):
        own["get_attn_layers"] = get_attn_layers
    stub = type("Stub", (model_class,), own)
    with torch.inference_mode():
        converter = stub(folder, gguf.LlamaFileType.ALL_F32, path, model_name=name, eager=True)
        converter.write()


def make(folder, only):
    logging.disable(logging.WARNING)
    base.draw_weights, base.put = draw_weights, put
    for name, spec in FAMILIES.items():
        if only and name not in only:
            continue
        family = spec["family"]
        model_class = getattr(transformers, spec.get("class_name", f"{family}ForCausalLM"))
        spec["classes"] = (getattr(transformers, f"{family}Config"), model_class)
        config, weights, logits, states, answer = base.find(name, spec)
        model = put(base.reference(spec), weights)
        with tempfile.TemporaryDirectory() as saved:
            saved = pathlib.Path(saved) / name
            model.save_pretrained(saved)
            # Of which some converters count the tokens.
            (saved / "tokenizer.json").write_text(json.dumps({"model": {"vocab": dict.fromkeys(base.vocabulary()[0], 0)}, "added_tokens": []}))
            convert(saved, folder / f"{name}.gguf", name, spec.get("keys", {}))
            hf_folder.write(saved, folder / f"{name}.gguf", folder / f"{name}.hf.json")
        logits.astype("<f4").tofile(folder / f"{name}.logits.bin")
        states.astype("<f4").tofile(folder / f"{name}.states.bin")
        base.dump(folder / f"{name}.json", {
            "model": f"{name}.gguf", "n_vocab": N_VOCAB, "logits": f"{name}.logits.bin", "logits_shape": list(logits.shape),
            **({"ctx": spec["ctx"]} if "ctx" in spec else {}), **answer, "made_with": {"transformers": transformers.__version__, "torch": torch.__version__.split("+")[0]}})
        print(f"{name}: seed {answer['seed']}, margin {answer['min_margin']}, weakest effect {min(answer['effects'].values())}, "
              f"{(folder / f'{name}.gguf').stat().st_size} bytes", flush=True)


def check(only):
    """Fails when the files beside this script are not what it makes (logits and states: within rounding of another CPU)."""
    with tempfile.TemporaryDirectory() as other:
        other = pathlib.Path(other)
        make(other, only)
        for path in sorted(other.glob("*.gguf")):
            name = path.stem
            for file in (path, other / f"{name}.hf.json"):
                assert file.read_bytes() == (HERE / file.name).read_bytes(), f"{file.name} differs"
            for what in ("logits", "states"):
                new, old = (np.fromfile(f / f"{name}.{what}.bin", "<f4") for f in (other, HERE))
                assert np.abs(new - old).max() < 1e-4, f"{name}: {what} differ"
    print("the golden files are what this script makes")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="make the golden models of this folder")
    parser.add_argument("--llama-cpp", required=True, help="folder of llama.cpp's sources")
    parser.add_argument("--only", help="names, by commas")
    parser.add_argument("--check", action="store_true", help="compare with the files that stand here; write nothing")
    arguments = parser.parse_args()
    use_sources(arguments.llama_cpp)
    torch.set_num_threads(1)
    chosen = arguments.only.split(",") if arguments.only else None
    check(chosen) if arguments.check else make(HERE, chosen)
