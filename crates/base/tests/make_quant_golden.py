"""Makes golden/quant.bin: blocks and their values according to the `gguf` Python package.

    pip install gguf numpy && python make_quant_golden.py

Records, little-endian: u8 kind (0: decode, 1: encode), u8 name length, name, u32 bytes, u32 values, the bytes, the
values as f32. A decode record holds random bytes with sane scales and the values they stand for; an encode record
holds values and the bytes that the reference quantizer makes of them.
"""

import pathlib
import struct

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType as T
from gguf.quants import dequantize, quantize

rng = np.random.default_rng(20240711)

# Byte offsets of the f16 scales in a block; everything else may be any byte.
SCALES = {
    T.Q4_0: [0], T.Q4_1: [0, 2], T.Q5_0: [0], T.Q5_1: [0, 2], T.Q8_0: [0],
    T.Q2_K: [80, 82], T.Q3_K: [108], T.Q4_K: [0, 2], T.Q5_K: [0, 2], T.Q6_K: [208],
    T.IQ4_NL: [0], T.IQ4_XS: [0],
    T.IQ1_S: [0], T.IQ1_M: [], T.IQ2_XXS: [0], T.IQ2_XS: [0], T.IQ2_S: [0], T.IQ3_XXS: [0], T.IQ3_S: [0],
    T.TQ1_0: [52], T.TQ2_0: [64], T.MXFP4: [], T.NVFP4: [],
}
EXACT = [T.TQ1_0, T.TQ2_0, T.MXFP4]  # where the values are numbers of the format already
# Those whose reference encoder is exact and fixed.
ENCODED = [T.F16, T.BF16, T.Q4_0, T.Q4_1, T.Q5_0, T.Q5_1, T.Q8_0]


def record(kind, dtype, data, values):
    data = np.ascontiguousarray(data).view(np.uint8).ravel()
    values = np.ascontiguousarray(values, dtype=np.float32).ravel()
    name = dtype.name.encode()
    head = struct.pack("<BB", kind, len(name)) + name + struct.pack("<II", data.size, values.size)
    return head + data.tobytes() + values.tobytes()


def blocks(dtype):
    block_len, block_bytes = GGML_QUANT_SIZES[dtype]
    n = 3 if block_len == 256 else 6
    out = rng.integers(0, 256, (n, block_bytes), dtype=np.uint8)
    for at in SCALES[dtype]:
        scale = (rng.standard_normal(n) * 0.02).astype(np.float16)
        scale[0] = np.float16(3e-6)  # a subnormal scale
        out[:, at : at + 2] = scale.view(np.uint8).reshape(n, 2)
    if dtype == T.IQ1_M:  # the scale is spread over the top nibbles of the last four words
        words = out[:, 48:].view(np.uint16)
        for i in range(4):
            words[:, i] = words[:, i] & 0x0FFF | (scale_bits(n) >> (4 * i) & 15) << 12
    return out.reshape(1, -1)


def scale_bits(n):
    return np.array([0x2A3C, 0x0005, 0xA911], np.uint16)[:n]  # 0.0487, a subnormal number, -0.0396


def exact(dtype):
    """Values that the format holds exactly, zeros and single values among them."""
    if dtype == T.MXFP4:
        levels = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6], np.float32)
        x = rng.choice(np.concatenate([levels, -levels]), (6, 32)) * 2.0 ** rng.integers(-9, 3, (6, 1))
    else:
        x = rng.integers(-1, 2, (4, 256)) * np.array([[0.02734375], [1.5], [-0.000244140625], [60000]])
    x[1, 1:] = 0
    x[-1] = 0
    return x.astype(np.float32).reshape(1, -1)


def rows():
    """Thirteen blocks of 32 that a quantizer may meet."""
    x = rng.standard_normal((13, 32)).astype(np.float32) * np.float32(0.03)
    x[1] = 0
    x[2] = np.abs(x[2])
    x[3] = -np.abs(x[3])
    x[4, 7] = 1.5  # an outlier
    x[5] = 0.25  # all equal
    x[6] *= 1e-4  # subnormal f16 scales
    x[7] = np.round(x[7] * 1000) / 8  # many ties
    x[8, ::2] = 0
    x[9] = np.arange(-16, 16)
    x[10] *= 1e5
    x[12] = (np.arange(32) - 15) * 5.5  # with 127 below: steps of 1, ties at every second value
    x[12, 3] = 127
    return x.reshape(1, -1)


def floats():
    x = (rng.standard_normal(96) * 10.0 ** rng.integers(-9, 6, 96)).astype(np.float32)
    ties = np.array([1 + 2.0**-11, 1 + 3 * 2.0**-11, 1 + 2.0**-8, 1 + 3 * 2.0**-8, 65519, 65520, 2.0**-25, 2.0**-24])
    return np.concatenate([x, ties, [0, np.inf, -np.inf, 1e38, -1e38, 1e-40, 1, -1]]).astype(np.float32).reshape(1, -1)


out = b""
x = np.concatenate([rng.standard_normal(64).astype(np.float32), np.array([0, np.inf, -np.inf, 1e-40], np.float32)])
out += record(0, T.F32, x, dequantize(x, T.F32))
for dtype, low in [(T.F16, 0x7C00), (T.BF16, 0x7F80)]:
    bits = rng.integers(0, 1 << 16, 256, dtype=np.uint16)
    bits = bits[(bits & 0x7FFF) <= low]  # no NaN: their payloads are nobody's promise
    bits = np.concatenate([bits, np.array([0, 1, 0x8000, 0x8001, 0x03FF, low, 0x8000 | low], np.uint16)])
    out += record(0, dtype, bits, dequantize(bits.view(np.uint8).reshape(1, -1), dtype))
for dtype in SCALES:
    data = blocks(dtype)
    with np.errstate(over="ignore"):
        out += record(0, dtype, data, dequantize(data, dtype))
for dtype in ENCODED:
    x = floats() if dtype in (T.F16, T.BF16) else rows()
    with np.errstate(over="ignore"):
        out += record(1, dtype, quantize(x, dtype), x)
for dtype in EXACT:
    x = exact(dtype)
    out += record(1, dtype, quantize(x, dtype), x)
path = pathlib.Path(__file__).parent / "golden" / "quant.bin"
path.write_bytes(out)
print(path, len(out))
