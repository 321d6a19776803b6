#!/usr/bin/env python3
"""Makes the golden encoders: tiny random models that give vectors of texts, or scores of pairs.

As `make_families.py`: `transformers` is the reference, and llama.cpp's own converter writes the GGUF file from the folder that
`transformers` saved. Three things it cannot do are done here: MPNet has no GGUF form in the field, so its names are ours;
the pooler of `BertForSequenceClassification`, which the converter drops although the score goes through it, is added under
the names that it gives the same layer of RoBERTa's head; and keys of NomicBert's and ModernBERT's configurations are written
that their authors' files have and `transformers` leaves out.

    python3 -m venv v && v/bin/pip install torch transformers gguf numpy sentencepiece
    v/bin/python make_encoders.py --llama-cpp PATH [--only NAME,..] [--check]
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
import make_families as families
import make_golden as base
from make_golden import HERE, N_SPECIAL, N_VOCAB, no

MIN_EFFECT = 0.05  # largest change of any number of the answer when one feature is removed
LENGTHS = (40, 1, 17, 3, 33)  # tokens of the inputs; for pairs: of both texts, the first of which has a third

SMALL = dict(vocab_size=N_VOCAB, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, bos_token_id=0, eos_token_id=1, pad_token_id=2)
BERT = dict(intermediate_size=64, max_position_embeddings=64, type_vocab_size=2, layer_norm_eps=1e-12, hidden_act="gelu")
MODERN = dict(intermediate_size=32, num_hidden_layers=4, max_position_embeddings=64, local_attention=8, hidden_activation="gelu",
              layer_types=["full_attention", "sliding_attention", "sliding_attention", "full_attention"],
              rope_parameters={"full_attention": base.rope(1.6e5), "sliding_attention": base.rope(1e4)})


def biases(*names):
    return {f"{name} bias": no(f"{name}.bias") for name in names}


def norms(*names):
    return {name: no(f"{name}.weight") for name in names}


def swapped(key):
    """The first two rows of a table exchanged."""
    return lambda weights: {k: torch.cat([v[1:2], v[:1], v[2:]]) if k.endswith(key) else v for k, v in weights.items()}


BERT_PARTS = {
    "positions": no("position_embeddings.weight"), "gelu": dict(hidden_act="silu"),
    **norms("embeddings.LayerNorm", "attention.output.LayerNorm", "layer.1.output.LayerNorm"),
    **biases("query", "value", "attention.output.dense", "intermediate.dense", "layer.0.output.dense", "embeddings.LayerNorm"),
}
MODERN_PARTS = {
    "local layers": dict(layer_types=["full_attention"] * 4), "first layer global": dict(layer_types=["sliding_attention"] * 3 + ["full_attention"]),
    "window, two more": dict(local_attention=10), "window, two less": dict(local_attention=6),
    "global base": dict(rope_parameters={**MODERN["rope_parameters"], "full_attention": base.rope(1e4)}),
    "local base": dict(rope_parameters={**MODERN["rope_parameters"], "sliding_attention": base.rope(1.6e5)}),
    "gate": dict(hidden_activation="silu"), **norms("embeddings.norm", "layers.1.attn_norm", "mlp_norm", "final_norm"),
}

# As FAMILIES of make_families.py. `pairs`: the inputs are pairs of texts, and the answer is a score.
ENCODERS = {
    "bert": dict(
        family="Bert", class_name="BertModel", kwargs=dict(add_pooling_layer=False), config=BERT,
        without={"type": swapped("token_type_embeddings.weight"), **BERT_PARTS}),
    "bert-rank": dict(
        family="Bert", class_name="BertForSequenceClassification", pairs=True, config=dict(**BERT, num_labels=1),
        extra={"bert.pooler.dense.weight": "cls.weight", "bert.pooler.dense.bias": "cls.bias"},
        without={"types": swapped("token_type_embeddings.weight"), "head": no("pooler.dense.weight"), "score": no("classifier.weight"),
                 **biases("pooler.dense", "classifier")}),
    "xlmr-rank": dict(
        family="XLMRoberta", class_name="XLMRobertaForSequenceClassification", pairs=True,
        config=dict(**{**BERT, "type_vocab_size": 1, "max_position_embeddings": 67}, num_labels=1),
        without={"positions": no("position_embeddings.weight"), "head": no("classifier.dense.weight"), **biases("classifier.dense", "out_proj")}),
    "nomic-bert": dict(
        family="NomicBert", class_name="NomicBertModel",
        config=dict(intermediate_size=64, type_vocab_size=2, layer_norm_eps=1e-12, max_position_embeddings=2048, rope_parameters=base.rope(1e3)),
        written=dict(n_positions=8192, max_trained_positions=2048, activation_function="swiglu", causal=False, qkv_proj_bias=False,
                     mlp_fc1_bias=False, mlp_fc2_bias=False, prenorm=False, rotary_emb_fraction=1.0, rotary_emb_interleaved=False,
                     rotary_emb_scale_base=None, rotary_emb_base=1000, n_inner=64, n_embd=32, n_head=2, n_layer=2, layer_norm_epsilon=1e-12),
        without={"rope base": dict(rope_parameters=base.rope(1e5)), "gate": dict(hidden_act="relu"), "type": no("token_type_embeddings.weight"),
                 **norms("post_attention_layernorm", "post_mlp_layernorm")}),
    "modern-bert": dict(family="ModernBert", class_name="ModernBertModel", config=MODERN, written=dict(layer_norm_eps=1e-5), without=MODERN_PARTS),
    "modern-bert-rank": dict(
        family="ModernBert", class_name="ModernBertForSequenceClassification", pairs=True,
        config=dict(**{**MODERN, "num_hidden_layers": 1, "layer_types": ["full_attention"]}, num_labels=1, classifier_pooling="mean"),
        written=dict(layer_norm_eps=1e-5),
        without={"mean": dict(classifier_pooling="cls"), "head": no("head.dense.weight"), "head norm": no("head.norm.weight"),
                 "classifier bias": no("classifier.bias")}),
    "mpnet": dict(
        family="MPNet", class_name="MPNetModel", kwargs=dict(add_pooling_layer=False),
        config=dict(intermediate_size=64, max_position_embeddings=66, layer_norm_eps=1e-12, hidden_act="gelu", relative_attention_num_buckets=32),
        without={"positions": no("position_embeddings.weight"), "bias by distance": no("relative_attention_bias.weight"),
                 "buckets": swapped("relative_attention_bias.weight"), **norms("attention.LayerNorm", "layer.1.output.LayerNorm"),
                 **biases("attn.q", "attn.o", "intermediate.dense")}),
}
MPNET_NAMES = {"embeddings.word_embeddings": "token_embd", "embeddings.position_embeddings": "position_embd",
               "embeddings.LayerNorm": "token_embd_norm", "encoder.relative_attention_bias": "attn_rel_b"}
MPNET_BLOCK_NAMES = {"attention.attn.q": "attn_q", "attention.attn.k": "attn_k", "attention.attn.v": "attn_v", "attention.attn.o": "attn_output",
                     "attention.LayerNorm": "attn_output_norm", "intermediate.dense": "ffn_up", "output.dense": "ffn_down",
                     "output.LayerNorm": "layer_output_norm"}


def draw_weights(shapes, seed):
    rng = np.random.RandomState(seed)
    weights = {}
    for name in sorted(shapes):
        shape = shapes[name]
        noise = rng.standard_normal(shape)
        if len(shape) == 1 and name.endswith(".weight"):  # norms
            value = 1.0 + 0.3 * noise
        elif name.endswith(".bias"):
            value = 0.5 * noise
        elif "embeddings" in name:
            value = 0.5 * noise
        elif "relative_attention_bias" in name:
            value = 1.5 * noise
        else:  # (n_out, n_in)
            gain = 2.0 if any(part in name for part in ("query", "key", "q_proj", "k_proj", "Wqkv", "attn.q", "attn.k")) else 1.6
            value = gain * noise / np.sqrt(shape[1])
        weights[name] = torch.from_numpy(value.astype(np.float32))
    return weights


def reference(spec, changes=None):
    config_class = getattr(transformers, f"{spec['family']}Config")
    config = config_class(**{**SMALL, **spec["config"], **(changes or {})})
    config._attn_implementation = "eager"
    return getattr(transformers, spec["class_name"])(config, **spec.get("kwargs", {})).eval()


def put(model, weights):
    model.load_state_dict(weights, strict=False)
    return model


@torch.no_grad()
def answer(spec, model, inputs):
    """What the reference makes of the inputs: the states of all tokens, or the scores; one array for each input."""
    answers = []
    for ids, second in inputs:
        given = dict(input_ids=torch.tensor([ids]))
        if spec["family"] in ("Bert", "NomicBert"):
            given["token_type_ids"] = torch.tensor([[int(place >= second) for place in range(len(ids))]])
        out = model(**given)
        answers.append((out.logits[0] if spec.get("pairs") else out.last_hidden_state[0]).float().numpy())
    return answers


def find(name, spec):
    """The first seed whose features all show."""
    model = reference(spec)
    shapes = {k: tuple(v.shape) for k, v in model.named_parameters()}
    for seed in range(1000):
        weights = draw_weights(shapes, seed)
        put(model, weights)
        rng = np.random.RandomState(seed + 1)
        lengths = [n for n in LENGTHS if not spec.get("pairs") or n > 1]
        inputs = [(rng.randint(N_SPECIAL, N_VOCAB, n).tolist(), n // 3 if spec.get("pairs") else n) for n in lengths]
        answers = answer(spec, model, inputs)
        effects = {}
        for label, change in spec["without"].items():
            other = put(reference(spec), change(weights)) if callable(change) else put(reference(spec, change), weights)
            effects[label] = round(max(float(np.abs(a - b).max()) for a, b in zip(answers, answer(spec, other, inputs))), 4)
        if min(effects.values()) < MIN_EFFECT:
            print(f"{name}: seed {seed} passed over, {effects}", file=sys.stderr)
            continue
        return model, weights, inputs, answers, dict(effects=effects, seed=seed)
    raise SystemExit(f"{name}: no seed fits")


def write_mpnet(path, name, config, weights):
    """BERT's names, and one of ours. The first two positions are for padding: the rest count from 0."""
    import gguf
    writer = gguf.GGUFWriter(path, "mpnet")
    writer.add_name(name)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings - 2)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_layer_norm_eps(config.layer_norm_eps)
    writer.add_causal_attention(False)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    stub_vocabulary(writer)
    for key, value in weights.items():
        stem, _, kind = key.rpartition(".")
        if stem in MPNET_NAMES:
            new = MPNET_NAMES[stem]
        else:
            _, _, block, rest = stem.split(".", 3)
            new = f"blk.{block}.{MPNET_BLOCK_NAMES[rest]}"
        value = value.numpy()
        if new == "position_embd":
            value = value[2:]
        writer.add_tensor(f"{new}.{kind}", np.ascontiguousarray(value))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def stub_vocabulary(writer):
    tokens, types, merges = base.vocabulary()
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges(merges)
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    writer.add_pad_token_id(2)
    writer.add_add_bos_token(False)


def make(folder, scratch, only):
    logging.disable(logging.WARNING)
    for name, spec in ENCODERS.items():
        if only and name not in only:
            continue
        model, weights, inputs, answers, found = find(name, spec)
        saved = scratch / name
        model.save_pretrained(saved)
        path = saved / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **spec.get("written", {})}))
        if spec["family"] == "NomicBert":
            # The converter asks it for the kind of vocabulary.
            (saved / "tokenizer.json").write_text(json.dumps({"model": {"type": "WordPiece"}}))
        if spec["family"] == "MPNet":
            write_mpnet(folder / f"{name}.gguf", name, model.config, weights)
        else:
            extra = {new: weights[old] for old, new in spec.get("extra", {}).items()}
            families.convert(saved, folder / f"{name}.gguf", name, spec.get("keys", {}), extra)
        hf_folder.write(saved, folder / f"{name}.gguf", folder / f"{name}.hf.json")
        what = "scores" if spec.get("pairs") else "states"
        np.concatenate(answers).astype("<f4").tofile(folder / f"{name}.{what}.bin")
        base.dump(folder / f"{name}.json", {
            "model": f"{name}.gguf", what: f"{name}.{what}.bin", "inputs": [ids for ids, _ in inputs],
            **({"second": [second for _, second in inputs]} if spec.get("pairs") else {}), **found,
            "made_with": {"transformers": transformers.__version__, "torch": torch.__version__.split("+")[0]}})
        print(f"{name}: seed {found['seed']}, weakest effect {min(found['effects'].values())}, "
              f"{(folder / f'{name}.gguf').stat().st_size} bytes", flush=True)


def check(only):
    """Fails when the files beside this script are not what it makes (answers: within rounding of another CPU)."""
    with tempfile.TemporaryDirectory() as other:
        other = pathlib.Path(other)
        make(other, other / "hf", only)
        for path in sorted(other.glob("*.gguf")):
            assert path.read_bytes() == (HERE / path.name).read_bytes(), f"{path.name} differs"
        for path in sorted(other.glob("*.bin")):
            new, old = (np.fromfile(f / path.name, "<f4") for f in (other, HERE))
            assert np.abs(new - old).max() < 1e-4, f"{path.name} differs"
    print("the golden files are what this script makes")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="make the golden encoders of this folder")
    parser.add_argument("--llama-cpp", required=True, help="folder of llama.cpp's sources")
    parser.add_argument("--only", help="names, by commas")
    parser.add_argument("--check", action="store_true", help="compare with the files that stand here; write nothing")
    arguments = parser.parse_args()
    families.use_sources(arguments.llama_cpp)
    torch.set_num_threads(1)
    chosen = arguments.only.split(",") if arguments.only else None
    if arguments.check:
        check(chosen)
    else:
        with tempfile.TemporaryDirectory() as scratch:
            make(HERE, pathlib.Path(scratch), chosen)
