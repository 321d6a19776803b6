"""Makes golden/packed/: small quantized matrices of every layout that `whit_files::packed` reads, with the values that the
layout's own program gives, where it runs on a CPU, and else those of its definition.

    pip install torch==2.15.0 safetensors==0.8.0 bitsandbytes==0.50.2 mlx==0.32.4 mlx-cpu==0.32.4 termcolor
    pip install --no-deps autoawq==0.2.9 hqq==0.2.8.post1 compressed-tensors==0.20.0
    python3 make_packed.py

Each case is a safetensors file with the tensors of a module `m`, and `expected (n_out, n_in)` as f32; EXL3's holds the first eight
rows. cases.json has the configurations and the formats that blocks are expected in.

Reference of the values: bitsandbytes, mlx, hqq and AutoAWQ themselves; torch's float8 for FP8; compressed-tensors packs, and the
values are its definition's. GPTQ, EXL2 and EXL3 have no reference for CPUs: their values are computed here from their definition,
(q - z) * scale and the formulas in exl2.rs and exl3.rs, of numbers that are packed here.
"""

import importlib.util
import json
import pathlib
import sys

import numpy as np
import torch
from safetensors.torch import save_file

HERE = pathlib.Path(__file__).parent / "golden" / "packed"
N_OUT, N_IN, GROUP = 32, 64, 32
CASES = {}
rng = np.random.default_rng(7)
torch.manual_seed(7)


def module_of(package, path):
    """A file of a package, without the imports of the package itself."""
    folder = importlib.util.find_spec(package).submodule_search_locations[0]
    spec = importlib.util.spec_from_file_location(path.replace("/", "_"), pathlib.Path(folder) / path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def case(name, config, dtype, tensors, expected, exact=False, rows=None):
    expected = torch.as_tensor(np.asarray(expected, dtype=np.float32)).contiguous()
    tensors = {key if key == "expected" else f"m.{key}": torch.as_tensor(value).contiguous() for key, value in tensors.items()}
    save_file({**tensors, "expected": expected}, HERE / f"{name}.safetensors")
    CASES[name] = {"config": config, "dtype": dtype, "exact": exact, "shape": rows or list(expected.shape)}


def stream(codes, bits):
    """Integers along the last axis as words of 32 bits, the first in the lowest bits."""
    bit = (codes[..., None].astype(np.uint64) >> np.arange(bits, dtype=np.uint64)) & 1
    bit = bit.reshape(*codes.shape[:-1], -1, 32)
    return (bit << np.arange(32, dtype=np.uint64)).sum(-1).astype(np.uint32).view(np.int32)


def f16(*shape, scale=0.02):
    return (rng.random(shape) * scale + scale / 4).astype(np.float16)


def gptq(name, bits, symmetric, version=1, order=False, dtype="Q4_0", exact=True):
    n_groups = N_IN // GROUP
    q = rng.integers(0, 2**bits, (N_OUT, N_IN))
    z = np.full((n_groups, N_OUT), 2 ** (bits - 1)) if symmetric else rng.integers(0, 2**bits, (n_groups, N_OUT))
    scales = f16(n_groups, N_OUT)
    g_idx = np.arange(N_IN) // GROUP
    if order:
        g_idx = rng.permutation(g_idx)
    stored = z if version == 2 else (z - 1) % 2**bits
    tensors = {
        "qweight": stream(q, bits).T.copy(), "qzeros": stream(stored, bits), "scales": scales,
        "g_idx": g_idx.astype(np.int32),
    }
    config = {"quant_method": "gptq", "bits": bits, "group_size": GROUP, "desc_act": order, "sym": symmetric}
    if version == 2:
        config["checkpoint_format"] = "gptq_v2"
    expected = (q - z[g_idx].T).astype(np.float32) * scales[g_idx].T.astype(np.float32)
    case(name, config, dtype, tensors, expected, exact)


def awq():
    packing = module_of("awq", "utils/packing_utils.py")
    qweight = torch.randint(-(2**31), 2**31 - 1, (N_IN, N_OUT // 8), dtype=torch.int32)
    qzeros = torch.randint(-(2**31), 2**31 - 1, (N_IN // GROUP, N_OUT // 8), dtype=torch.int32)
    scales = torch.as_tensor(f16(N_IN // GROUP, N_OUT))
    expected = packing.dequantize_gemm(qweight, qzeros, scales.float(), 4, GROUP).T
    config = {"quant_method": "awq", "bits": 4, "group_size": GROUP, "zero_point": True, "version": "gemm"}
    case("awq", config, "Q5_0", {"qweight": qweight, "qzeros": qzeros, "scales": scales}, expected, True)


def compressed(bits, dtype):
    pack = module_of("compressed_tensors", "compressors/pack_quantized/helpers.py").pack_to_int32
    q = torch.randint(-(2 ** (bits - 1)), 2 ** (bits - 1), (N_OUT, N_IN), dtype=torch.int8)
    scales = torch.as_tensor(f16(N_OUT, N_IN // GROUP)).bfloat16()
    tensors = {
        "weight_packed": pack(q, bits), "weight_scale": scales, "weight_shape": torch.tensor([N_OUT, N_IN]),
    }
    expected = q.float() * scales.float().repeat_interleave(GROUP, dim=1)
    config = {"quant_method": "compressed-tensors", "format": "pack-quantized"}
    case(f"compressed{bits}", config, dtype, tensors, expected, True)


def mlx(bits, dtype):
    import mlx.core as mx

    w = mx.array(rng.standard_normal((N_OUT, N_IN)).astype(np.float32) * 0.05).astype(mx.float16)
    q, scales, biases = mx.quantize(w, group_size=GROUP, bits=bits)
    # The same integers, multiplied in f32.
    expected = mx.dequantize(q, scales.astype(mx.float32), biases.astype(mx.float32), group_size=GROUP, bits=bits)
    tensors = {"weight": np.array(q), "scales": np.array(scales), "biases": np.array(biases)}
    case(f"mlx{bits}", {"bits": bits, "group_size": GROUP}, dtype, tensors, np.array(expected))


def hqq(bits, axis, dtype):
    from hqq.core.quantize import Quantizer
    from hqq.core.utils import encode_safetensor_type as encode

    w = torch.randn(N_OUT, N_IN) * 0.05
    w_q, meta = Quantizer.quantize(
        w, nbits=bits, group_size=GROUP, axis=axis, optimize=False, round_zero=False, device="cpu",
        compute_dtype=torch.float32, channel_wise=True, view_as_float=False,
    )
    meta["scale"], meta["zero"] = (meta[key].half().float() for key in ("scale", "zero"))
    expected = Quantizer.dequantize(w_q, meta)
    tensors = {"W_q": w_q}
    for key, value in meta.items():
        if value is not None:
            tensors[key] = encode(value)
    tensors["scale"], tensors["zero"] = meta["scale"].half(), meta["zero"].half()
    tensors["view_as_float"] = encode(False)
    config = {"quant_method": "hqq", "quant_config": {}}
    case(f"hqq{bits}-axis{axis}", config, dtype, tensors, expected)


def bits_and_bytes():
    import bitsandbytes.functional as F

    w = torch.randn(N_OUT, N_IN) * 0.05
    for name, kind, nested in [("nf4", "nf4", False), ("nf4-nested", "nf4", True), ("fp4", "fp4", False)]:
        q, state = F.quantize_4bit(w, blocksize=64, quant_type=kind, compress_statistics=nested)
        tensors = {"weight": q, **{f"weight.{key}": value for key, value in state.as_dict(packed=True).items()}}
        config = {"quant_method": "bitsandbytes", "load_in_4bit": True}
        case(name, config, "Q8_0", tensors, F.dequantize_4bit(q, state))
    largest = w.abs().amax(dim=1)
    q = torch.round(w * (127 / largest[:, None])).to(torch.int8)
    expected = F.int8_vectorwise_dequant(q, largest)
    tensors = {"weight": q, "SCB": largest, "weight_format": torch.tensor(0, dtype=torch.uint8)}
    case("int8", {"quant_method": "bitsandbytes", "load_in_8bit": True}, "Q8_0", tensors, expected)


def fp8():
    w = (torch.randn(N_OUT, N_IN) * 40).to(torch.float8_e4m3fn)
    case("fp8", {"quant_method": "fp8"}, "BF16", {"weight": w, "weight_scale": torch.tensor(0.013)}, w.float() * 0.013)
    scales = torch.rand(N_OUT, 1) * 0.02
    config = {"quant_method": "compressed-tensors"}
    case("fp8-rows", config, "BF16", {"weight": w, "weight_scale": scales}, w.float() * scales)
    scales = torch.rand(N_OUT // 16, N_IN // 32) * 0.02
    config = {"quant_method": "fp8", "weight_block_size": [16, 32]}
    spread = scales.repeat_interleave(16, 0).repeat_interleave(32, 1)
    case("fp8-squares", config, "BF16", {"weight": w, "weight_scale_inv": scales}, w.float() * spread)


def exl2():
    runs = [(8, 32), (5, 64), (3, 32)]
    n_in = sum(n for _, n in runs)
    order = rng.permutation(n_in)
    s = rng.integers(0, 16, (len(runs), N_OUT))
    largest = f16(len(runs), scale=0.2)
    words, groups, expected, row = [], [], np.zeros((N_OUT, n_in), np.float32), 0
    for g, (bits, n) in enumerate(runs):
        q = rng.integers(0, 2**bits, (n, N_OUT))
        groups += [bits, sum(len(part) for part in words)]
        words.append(stream(q.T, bits).T)
        scale = ((s[g] + 1) ** 2).astype(np.float32) * np.float32(largest[g]) / np.float32(256)
        for i in range(n):
            expected[:, order[row + i]] = (q[i] - 2 ** (bits - 1)).astype(np.float32) * scale
        row += n
    inverse = np.argsort(order)
    tensors = {
        "q_weight": np.concatenate(words), "q_scale": stream(s, 4), "q_scale_max": largest,
        "q_groups": np.array(groups, np.int16), "q_invperm": inverse.astype(np.int32),
    }
    case("exl2", {"quant_method": "exl2", "bits": 4.25}, "Q8_0", tensors, expected)


def exl3(name, bits, book):
    side = 128
    tiles = side // 16
    trellis = rng.integers(-(2**15), 2**15, (tiles, tiles, 16 * bits)).astype(np.int16)
    w = np.zeros((side, side))
    for a in range(tiles):
        for b in range(tiles):
            words = trellis[a, b].view(np.uint32)
            bit = ((words[:, None] >> np.arange(31, -1, -1, dtype=np.uint32)) & 1).reshape(-1)
            for t in range(256):
                at = ((t + 1) * bits - 16 + np.arange(16)) % len(bit)
                state = int(sum(int(x) << (15 - i) for i, x in enumerate(bit[at])))
                if book == "mul1":
                    x = state * 0x83DCD12D & 0xFFFFFFFF
                    factor, offset = np.array([0x1EEE, 0xC931], np.uint16).view(np.float16).astype(float)
                    value = np.float16((sum(x >> 8 * i & 255 for i in range(4)) + 1024) * factor + offset)
                else:
                    x = state * 0xCBAC1FED if book == "mcg" else state * 89226354 + 64248484
                    x = x & 0x8FFF8FFF ^ 0x3B603B60
                    low, high = np.array([x & 0xFFFF, x >> 16 & 0xFFFF], np.uint16).view(np.float16)
                    value = low + high
                lane, e = t // 8, t % 8
                k, n = 2 * (lane % 4) + [0, 1, 8, 9][e % 4], lane // 4 + 8 * (e // 4)
                w[16 * a + k, 16 * b + n] = value
    h = np.array([[1.0]])
    while len(h) < side:
        h = np.block([[h, h], [h, -h]])
    h /= np.sqrt(side)
    suh, svh = (rng.standard_normal(side) * 0.1).astype(np.float16), (rng.standard_normal(side) * 0.1).astype(np.float16)
    whole = suh.astype(float)[:, None] * (h @ w @ h) * svh.astype(float)
    tensors = {"trellis": trellis, "suh": suh, "svh": svh}
    if book:
        tensors[book] = np.array(1, np.int32)
    case(name, {"quant_method": "exl3", "bits": bits}, "Q8_0", tensors, whole.T[:8], rows=[side, side])


def main():
    HERE.mkdir(parents=True, exist_ok=True)
    gptq("gptq4", 4, True)
    gptq("gptq4-zeros", 4, False, dtype="Q5_0")
    gptq("gptq4-v2", 4, False, version=2, dtype="Q5_0")
    gptq("gptq3-zeros", 3, False)
    gptq("gptq2", 2, True, version=2)
    gptq("gptq8", 8, True, dtype="Q8_0")
    gptq("gptq4-order", 4, True, order=True, dtype="Q8_0", exact=False)
    awq()
    compressed(4, "Q4_0")
    compressed(8, "Q8_0")
    for bits, dtype in [(2, "Q4_1"), (3, "Q4_1"), (4, "Q4_1"), (5, "Q5_1"), (6, "Q8_0"), (8, "Q8_0")]:
        mlx(bits, dtype)
    hqq(4, 1, "Q4_1")
    hqq(3, 1, "Q4_1")
    hqq(2, 0, "Q8_0")
    hqq(8, 1, "Q8_0")
    bits_and_bytes()
    fp8()
    exl2()
    exl3("exl3", 3, None)
    exl3("exl3-mcg", 4, "mcg")
    exl3("exl3-mul1", 2, "mul1")
    (HERE / "cases.json").write_text(json.dumps(CASES, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
