"""Ids of SentencePiece itself for a unigram vocabulary in a GGUF, into ids.json beside this file.

    pip install sentencepiece gguf && python make.py $WHIT_TEST_DATA/vocab/ggml-vocab-nomic-bert-moe.gguf

The GGUF's pieces, scores, kinds and character map are put back into a SentencePiece model (sentencepiece_model.proto), which
the library then runs on texts of every script, with spaces and signs that its normalizer rewrites.
"""

import json
import pathlib
import random
import struct
import sys

import gguf
import sentencepiece

fields = gguf.GGUFReader(sys.argv[1]).fields


def value(name):
    return fields[f"tokenizer.ggml.{name}"].contents()


def varint(n):
    out = b""
    while n > 0x7F:
        out += bytes([n & 0x7F | 0x80])
        n >>= 7
    return out + bytes([n])


def field(number, payload):
    if isinstance(payload, bytes):
        return varint(number << 3 | 2) + varint(len(payload)) + payload
    if isinstance(payload, float):
        return varint(number << 3 | 5) + struct.pack("<f", payload)
    return varint(number << 3) + varint(payload)


pieces = zip(value("tokens"), value("scores"), value("token_type"))
proto = b"".join(
    field(1, field(1, text.encode()) + field(2, float(score)) + field(3, int(kind))) for text, score, kind in pieces
)
unigram = 1
proto += field(2, field(3, unigram) + field(40, int(value("unknown_token_id"))))
charsmap = bytes(byte & 0xFF for byte in value("precompiled_charsmap"))
spaces = field(3, int(value("add_space_prefix"))) + field(4, int(value("remove_extra_whitespaces"))) + field(5, 1)
proto += field(3, field(2, charsmap) + spaces)
processor = sentencepiece.SentencePieceProcessor(model_proto=proto)

random.seed(1)
kinds = [
    lambda: "".join(random.choices("abcdefghijklmnopqrstuvwxyzABCDEFGHIJ", k=random.randint(1, 9))),
    lambda: random.choice(["Hello", "the", "Straße", "données", "привет", "мир", "日本語", "東京都", "안녕하세요", "नमस्ते", "مرحبا", "שלום", "สวัสดี"]),
    lambda: " " * random.randint(1, 3),
    lambda: random.choice("\t\n\u00a0\u3000\u200b\u00ad\u2028\ufeff\r"),
    lambda: "".join(random.choices("0123456789", k=random.randint(1, 5))),
    lambda: "".join(random.choices("!?.,;:-()[]{}<>@#%&*+=/\\|~^_'\"`", k=random.randint(1, 3))),
    lambda: "".join(random.choices("àéîöüñßçÅİǅſ\u0301\u0308\u0327", k=random.randint(1, 3))),
    lambda: "".join(random.choices("ﬁﬂ①⑳㍿㈱ｱｶﾞ｡½²™…Ⅷℌ", k=random.randint(1, 3))),
    lambda: "".join(random.choices("😀👍🏽👨‍👩‍👧🇩🇪❤️🪀𝒳𐺀", k=random.randint(1, 3))),
    lambda: chr(random.choice([*range(0x20, 0xD800), *range(0xE000, 0x11000)])),
]
texts = ["", " ", "  a  b  ", "Hello World!", "▁", "a▁b", "<s>", "<mask>", "x" * 60, "字" * 30]
texts += ["".join(random.choice(kinds)() for _ in range(random.randint(1, 12))) for _ in range(290)]
rows = [json.dumps([text, processor.encode(text)], ensure_ascii=True) for text in texts]
path = pathlib.Path(__file__).parent / "ids.json"
path.write_text("[\n" + ",\n".join(rows) + "\n]\n")
