"""Makes the golden files under golden/ with the reference implementation, the PyPI package `gguf`.

    pip install gguf==0.19.0 && python3 make_golden.py          writes golden/*
    python3 make_golden.py --list FILE.gguf                     prints the listing of any file

every_value.gguf holds every metadata type and every tensor format that the reference writes and Whit reads;
every_value.txt is its listing, as the reference's reader sees it. parts-*.gguf are one model split in three.

Floats are listed as their bits, strings and tensor data as hexadecimal, so that nothing depends on formatting.
"""

import pathlib
import struct
import sys

import numpy as np
from gguf import GGMLQuantizationType as Q
from gguf import GGUFReader, GGUFValueType as T, GGUFWriter
from gguf.constants import GGML_QUANT_SIZES

HERE = pathlib.Path(__file__).parent / "golden"

NAMES = {
    T.UINT8: "u8", T.INT8: "i8", T.UINT16: "u16", T.INT16: "i16", T.UINT32: "u32", T.INT32: "i32",
    T.FLOAT32: "f32", T.BOOL: "bool", T.STRING: "string", T.ARRAY: "array", T.UINT64: "u64", T.INT64: "i64",
    T.FLOAT64: "f64",
}


def show(value, kind):
    if kind == T.STRING:
        return "x" + value.encode().hex()
    if kind == T.FLOAT32:
        return "%08x" % struct.unpack("<I", struct.pack("<f", value))
    if kind == T.FLOAT64:
        return "%016x" % struct.unpack("<Q", struct.pack("<d", value))
    return str(value).lower()


def listing(path):
    reader = GGUFReader(path)
    yield "version %d" % reader.fields["GGUF.version"].contents()
    yield "alignment %d" % reader.alignment
    for field in reader.fields.values():
        if field.name.startswith("GGUF."):
            continue
        kind = field.types[-1]
        contents = field.contents()
        values = contents if field.types[0] == T.ARRAY else [contents]
        kinds = "/".join(NAMES[t] for t in field.types)
        yield " ".join([field.name, kinds] + [show(v, kind) for v in values])
    for t in reader.tensors:
        ne = ",".join(str(n) for n in t.shape.tolist())
        data = t.data.tobytes()
        yield f"{t.name} {t.tensor_type.name} ne={ne} offset={t.data_offset} {data.hex()}"


def every_value(path):
    w = GGUFWriter(None, "llama")
    w.add_uint8("scalar.u8", 255)
    w.add_int8("scalar.i8", -128)
    w.add_uint16("scalar.u16", 65535)
    w.add_int16("scalar.i16", -32768)
    w.add_uint32("scalar.u32", 4294967295)
    w.add_int32("scalar.i32", -2147483648)
    w.add_float32("scalar.f32", 1e-6)
    w.add_bool("scalar.true", True)
    w.add_bool("scalar.false", False)
    w.add_string("scalar.string", "naïve ▁🦙\n\0end")
    w.add_uint64("scalar.u64", 18446744073709551615)
    w.add_int64("scalar.i64", -9223372036854775808)
    w.add_float64("scalar.f64", 0.1)
    for name, sub, values in [
        ("u8", T.UINT8, [0, 1, 255]),
        ("i8", T.INT8, [-128, 0, 127]),
        ("u16", T.UINT16, [0, 65535]),
        ("i16", T.INT16, [-32768, 32767]),
        ("u32", T.UINT32, [0, 4294967295]),
        ("i32", T.INT32, [-2147483648, 2147483647]),
        ("f32", T.FLOAT32, [0.0, -0.0, 1.5, float("inf")]),
        ("bool", T.BOOL, [True, False, True]),
        ("string", T.STRING, ["", "a", "▁the", "<0x0A>"]),
        ("u64", T.UINT64, [0, 9223372036854775807]),
        ("i64", T.INT64, [-9223372036854775808, 9223372036854775807]),
        ("f64", T.FLOAT64, [0.1, -1e300]),
    ]:
        w.add_key_value("array." + name, values, T.ARRAY, sub_type=sub)
    w.add_key_value("array.nested", [[1, 2], [3], [-4, 5, 6]], T.ARRAY)
    w.add_key_value("array.nested_strings", [["a"], ["b", "c"]], T.ARRAY)

    rng = np.random.default_rng(1)
    w.add_tensor("matrix", np.arange(6, dtype=np.float32).reshape(2, 3))
    w.add_tensor("vector", np.array([1, -2, 3], dtype=np.float16))
    w.add_tensor("cube", np.arange(24, dtype=np.float32).reshape(4, 3, 2))
    w.add_tensor("four", np.arange(16, dtype=np.float16).reshape(1, 4, 2, 2))
    for q in [Q.BF16, Q.Q4_0, Q.Q4_1, Q.Q5_0, Q.Q5_1, Q.Q8_0, Q.Q2_K, Q.Q3_K, Q.Q4_K, Q.Q5_K, Q.Q6_K, Q.IQ4_NL, Q.IQ4_XS]:
        data = rng.integers(0, 256, size=(1, GGML_QUANT_SIZES[q][1]), dtype=np.uint8)
        w.add_tensor(q.name.lower(), data, raw_dtype=q)
    write(w, path)


def parts(path):
    w = GGUFWriter(None, "llama", split_max_tensors=2)
    w.add_uint32("llama.block_count", 1)
    for i in range(5):
        w.add_tensor(f"t{i}", np.full((1 + i, 4), i, dtype=np.float32))
    write(w, path)


def write(w, path):
    w.write_header_to_file(path)
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--list"]:
        print("\n".join(listing(sys.argv[2])))
        sys.exit()
    HERE.mkdir(exist_ok=True)
    every_value(HERE / "every_value.gguf")
    (HERE / "every_value.txt").write_text("\n".join(listing(HERE / "every_value.gguf")) + "\n")
    parts(HERE / "parts.gguf")
