"""Makes divergence.json and divergence.base: how far `granite` lies from `ernie45`, two golden models of the engine's tests that
were given the same prompt. Everything is calculated with numpy, in f64, from the logits that `transformers` gave
(crates/engine/tests/golden/*.logits.bin); the file of reference predictions is written by the layout of llama.cpp's
tools/perplexity/perplexity.cpp. Run it in this folder: `python3 make_divergence.py [--check]`.
"""

import json
import struct
import sys
from pathlib import Path

import numpy as np

GOLDEN = Path(__file__).parent / "../../../engine/tests/golden"
N_CHUNKS = 12


def model(name):
    facts = json.loads((GOLDEN / f"{name}.json").read_text())
    logits = np.fromfile(GOLDEN / f"{name}.logits.bin", "<f4").reshape(facts["logits_shape"])
    return facts["prompt"], logits


def log_softmax(logits):
    logits = logits.astype(np.float64)
    top = logits.max(-1, keepdims=True)
    return logits - top - np.log(np.exp(logits - top).sum(-1, keepdims=True))


def mean(values):
    return float(values.mean()), float(values.std() / np.sqrt(len(values) - 1))


def main():
    (prompt, base), (other_prompt, own) = model("ernie45"), model("granite")
    assert prompt == other_prompt
    n_ctx, n_vocab = base.shape
    scored = slice(n_ctx // 2, n_ctx - 1)
    targets = np.array(prompt)[n_ctx // 2 + 1 :]
    # Every chunk is the same, so that there are enough predictions for errors to mean something.
    base_lp, own_lp = (np.tile(log_softmax(x)[scored], (N_CHUNKS, 1)) for x in (base, own))
    targets = np.tile(targets, N_CHUNKS)
    rows = np.arange(len(targets))
    kept = base_lp > -16
    kl = np.where(kept, np.exp(base_lp) * (base_lp - own_lp), 0).sum(-1)
    nll, base_nll = -own_lp[rows, targets], -base_lp[rows, targets]
    change = np.exp(-nll) - np.exp(-base_nll)
    ln, ln_error = mean(nll)
    base_ln, base_ln_error = mean(base_nll)
    covariance = ((nll * base_nll).mean() - nll.mean() * base_nll.mean()) / (len(nll) - 1)
    ratio_error = np.sqrt(ln_error**2 + base_ln_error**2 - 2 * covariance)
    ppl, base_ppl = np.exp(ln), np.exp(base_ln)
    errors = ppl * ln_error, base_ppl * base_ln_error
    square, square_error = mean(change**2)
    same_top = float((own_lp.argmax(-1) == base_lp.argmax(-1)).mean())
    parts = [0, 0.001, 0.01, 0.1, 0.5, 0.9, 0.99, 0.999, 1]
    result = {
        "prompt": prompt,
        "n_chunks": N_CHUNKS,
        "n_scored": len(nll),
        "perplexity": [ppl, errors[0]],
        "base_perplexity": [base_ppl, errors[1]],
        "correlation": covariance / (ln_error * base_ln_error),
        "ln_ratio": [ln - base_ln, ratio_error],
        "ratio": [np.exp(ln - base_ln), np.exp(ln - base_ln) * ratio_error],
        "difference": [
            ppl - base_ppl,
            np.sqrt(errors[0] ** 2 + errors[1] ** 2 - 2 * ppl * base_ppl * covariance),
        ],
        "kl": mean(kl),
        "kl_quantiles": [[part, np.quantile(kl, part)] for part in parts],
        "change": mean(change),
        "change_quantiles": [[part, np.quantile(change, part)] for part in parts],
        "change_rms": [np.sqrt(square), 0.5 / np.sqrt(square) * square_error],
        "same_top": [same_top, np.sqrt(same_top * (1 - same_top) / (len(nll) - 1))],
    }
    result = json.loads(json.dumps(result, default=float), parse_float=lambda text: float(f"{float(text):.9g}"))

    # The file holds what the chunks were before BOS takes the place of their first tokens.
    tokens = [4 + chunk if place == 0 else token for chunk in range(N_CHUNKS) for place, token in enumerate(prompt)]
    file = b"_logits_" + struct.pack("<3i", n_ctx, n_vocab, N_CHUNKS) + struct.pack(f"<{len(tokens)}i", *tokens)
    chunk = b""
    for row in base[scored]:
        top = row.max()
        least = max(row.min(), top - np.float32(16))
        ln_sum = np.float32(np.log(np.exp((row - top).astype(np.float64)).sum()))
        scale = np.float32((top - least) / np.float32(65535))
        steps = np.where(row > least, np.rint((row - least) * (np.float32(1) / scale)), 0).astype("<u2")
        chunk += struct.pack("<2f", scale, least - top - ln_sum) + steps.tobytes() + b"\0\0" * (n_vocab % 2)
    file += chunk * N_CHUNKS

    here = Path(__file__).parent
    written = {"divergence.json": (json.dumps(result, indent=1) + "\n").encode(), "divergence.base": file}
    for name, content in written.items():
        if "--check" in sys.argv:
            assert (here / name).read_bytes() == content, name
        else:
            (here / name).write_bytes(content)


main()
