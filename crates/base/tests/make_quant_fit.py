"""Makes golden/quant_fit.bin: rows as llama.cpp's quantizers encode them, to compare our fits with.

    pip install gguf numpy && pip install --no-deps xllamacpp && python make_quant_fit.py

`xllamacpp` (0.1 and later; made with 2026.10.11549) is only the carrier of a built libggml, whose `ggml_quantize_chunk`
is called directly.

Little-endian: u32 values in a row, the row as f32, the importance weights as f32; then records: u8 weighted (0, 1), u8
name length, name, u32 bytes, the bytes that llama.cpp makes of the row.
"""

import ctypes
import importlib.util
import pathlib
import struct

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType as T

ggml = ctypes.CDLL(importlib.util.find_spec("xllamacpp.xllamacpp").origin)
ggml.ggml_quantize_chunk.restype = ctypes.c_size_t

SEARCHED = [T.Q2_K, T.Q3_K, T.Q4_K, T.Q5_K, T.Q6_K, T.IQ4_NL, T.IQ4_XS]
SEARCHED += [T.IQ2_S, T.IQ3_XXS, T.IQ3_S, T.TQ1_0, T.TQ2_0, T.MXFP4, T.NVFP4]
WEIGHTED_ONLY = [T.Q4_0, T.Q4_1, T.Q5_0, T.Q5_1]  # without weights, our bytes are the reference's
WEIGHTED_ONLY += [T.IQ1_S, T.IQ1_M, T.IQ2_XXS, T.IQ2_XS]  # llama.cpp demands weights


def pointer(array):
    return None if array is None else array.ctypes.data_as(ctypes.c_void_p)


rng = np.random.default_rng(20240711)
normal = rng.standard_normal(2048) * 0.02
tailed = rng.standard_t(4, 2048) * 0.02
x = np.concatenate([normal, tailed]).astype(np.float32)
importance = (rng.gamma(1.0, 1.0, x.size) + 1e-3).astype(np.float32)

out = struct.pack("<I", x.size) + x.tobytes() + importance.tobytes()
for weighted, dtypes in [(0, SEARCHED), (1, SEARCHED + WEIGHTED_ONLY)]:
    for dtype in dtypes:
        block_len, block_bytes = GGML_QUANT_SIZES[dtype]
        data = np.zeros(x.size // block_len * block_bytes, np.uint8)
        n = [ctypes.c_int64(n) for n in (0, 1, x.size)]
        ggml.ggml_quantize_chunk(int(dtype), pointer(x), pointer(data), *n, pointer(importance if weighted else None))
        name = dtype.name.encode()
        out += struct.pack("<BB", weighted, len(name)) + name + struct.pack("<I", data.size) + data.tobytes()
path = pathlib.Path(__file__).parent / "golden" / "quant_fit.bin"
path.write_bytes(out)
print(path, len(out))
