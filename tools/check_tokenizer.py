#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Compares the token ids of `freqkv-llama tokenize` with those of the tokenizers library, over megabytes of mixed text.

    python3 tools/check_tokenizer.py build/release/examples/llama/freqkv-llama model.gguf [tokenizer.json]
    python3 tools/check_tokenizer.py build/release/examples/llama/freqkv-llama DIRECTORY/tokenizer.json

For a GGUF file with a byte-level BPE a tokenizer.json is made of its vocabulary, merges and control tokens, unless one
is given; freqkv-llama reads both files. Needs tokenizers, and gguf for GGUF files.
"""

import argparse
import json
import pathlib
import random
import subprocess
import sys
import tempfile

import tokenizers
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers

CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def split(pattern):
    return pre_tokenizers.Split(Regex(pattern), behavior="isolated", invert=False)


def by(*steps, use_regex=False):
    return pre_tokenizers.Sequence([*steps, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=use_regex)])


LLAMA3 = by(split(rf"{CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}|{REST}"))
QWEN2 = by(split(rf"{CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}|{REST}"))
SMOLLM = by(pre_tokenizers.Digits(individual_digits=True), use_regex=True)
GPT2 = by(use_regex=True)

# What tokenizer.ggml.pre says: how texts are cut, whether a piece that is a token becomes it, whether it is composed.
FAMILIES = {
    "smollm": (SMOLLM, False, False), "starcoder": (SMOLLM, False, False), "refact": (SMOLLM, False, False),
    "gpt-2": (GPT2, False, False), "llama-bpe": (LLAMA3, True, False), "llama3": (LLAMA3, True, False),
    "smaug-bpe": (LLAMA3, False, False), "qwen2": (QWEN2, False, True), "deepseek-r1-qwen": (QWEN2, False, True),
}


def tokenizer_of_gguf(path):
    import gguf

    reader = gguf.GGUFReader(path)

    def value(key):
        return reader.fields["tokenizer.ggml." + key].contents()

    if value("model") != "gpt2":
        sys.exit(f"{path}: tokenizer.ggml.model is {value('model')}; only byte-level BPE can be compared")
    tokens, types = value("tokens"), value("token_type")
    merges = [tuple(merge.split(" ")) for merge in value("merges")]
    pre_tokenizer, ignore_merges, nfc = FAMILIES[value("pre")]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    tokenizer = tokenizers.Tokenizer(models.BPE(vocab=vocabulary, merges=merges, ignore_merges=ignore_merges))
    tokenizer.pre_tokenizer = pre_tokenizer
    if nfc:
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.decoder = decoders.ByteLevel()
    control = [token for token, kind in zip(tokens, types) if kind == 3]
    tokenizer.add_special_tokens(control)
    return tokenizer, control


def mixed_text(size, control, seed=1):
    """Prose, code, many scripts, every byte that UTF-8 has, control characters and tokens: always the same."""
    draw = random.Random(seed)
    words = ("the of and keeper lighthouse water between never nothing because Mississippi WON'T they'll I'd didn't "
             "naïve façade Straße dépêche x86_64 snake_case camelCase HTTPServer e.g. U.S.A. 3.14159 1e-10 0xDEADBEEF "
             "2024-12-31 12:59 1,000,000 50% $9.99 don’t “quoted” —dash— … www.example.org a@b.de #tag").split()
    code = ["for (int i = 0; i < n; ++i) {\n", "    if (x != nullptr) return *x;\n", "\t\tself.value[key] += 1\n", "}\n\n",
            "def f(a, b=None, *args, **kwargs):\n", "  \"json\": [1, 2.5e3, null, true],\r\n", "#include <vector>\n",
            "SELECT * FROM t WHERE a <= 'b' AND c LIKE '%d%';\n", "// ---- === ~~~~ **** ////\n", "\\begin{align} x^2_{i} &= 1 \\\\\n"]
    scripts = [(0x400, 0x4FF), (0x370, 0x3FF), (0x5D0, 0x5EA), (0x621, 0x64A), (0x905, 0x939), (0xE01, 0xE3A),
               (0x3041, 0x3096), (0x30A1, 0x30FA), (0x4E00, 0x9FA5), (0xAC00, 0xD7A3), (0x1F300, 0x1F5FF),
               (0x1F600, 0x1F64F), (0x1F900, 0x1F9FF), (0x2190, 0x22FF), (0x300, 0x36F), (0x660, 0x669), (0x2460, 0x249B),
               (0x2000, 0x206F), (0x10400, 0x1044F), (0x1D400, 0x1D7FF), (0xE000, 0xE0FF), (0xFF01, 0xFF5E)]
    joined = ["👩‍👩‍👧‍👦", "👍🏽", "🇯🇵🇫🇷", "❤️", "e\u0301", "\u1100\u1161\u11a8", "\ufeff", "\u200b", "\u00ad", "ﬁ", "Å"]

    def letters():
        low, high = draw.choice(scripts)
        return "".join(chr(draw.randint(low, high)) for _ in range(draw.randint(1, 12)))

    def anything():
        point = draw.choice([0x7F, 0x7FF, 0xFFFF, 0x10FFFF])
        text = "".join(chr(draw.randint(0, point)) for _ in range(draw.randint(1, 8)))
        return "".join(c for c in text if not 0xD800 <= ord(c) <= 0xDFFF)

    kinds = [
        (40, lambda: " ".join(draw.choices(words, k=draw.randint(3, 20)))),
        (20, lambda: "".join(draw.choices(code, k=draw.randint(1, 6)))),
        (25, lambda: draw.choice(["", " "]).join(letters() for _ in range(draw.randint(1, 6)))),
        (5, lambda: "".join(chr(draw.randint(0, 0x1F)) for _ in range(draw.randint(1, 6)))),
        (10, anything),
        (4, lambda: draw.choice(joined)),
        (4, lambda: str(draw.randint(0, 10 ** draw.randint(1, 30)))),
        (6, lambda: draw.choice([" ", "\n", "\t", "\r\n", "\u00a0", "\u3000", "\x0b", "\x1c"]) * draw.randint(1, 40)),
        (3, lambda: draw.choice("ab!-=. ") * draw.randint(1, 300)),
        (4, lambda: draw.choice(control) if control else ""),
    ]
    weights = [weight for weight, _ in kinds]
    parts, length = [], 0
    while length < size:
        part = draw.choices(kinds, weights)[0][1]() + draw.choice(["", " ", "\n", ". "])
        parts.append(part)
        length += len(part.encode())
    return "".join(parts)


def ids_of(program, tokenizer, text, directory):
    (directory / "text.txt").write_text(text, encoding="utf-8", newline="")
    out = directory / "ids.u32"
    subprocess.run([program, "tokenize", "--tokenizer", tokenizer, "--text", directory / "text.txt", "--out", out,
                    "--token-format", "u32"], check=True, stdout=subprocess.DEVNULL)
    return memoryview(out.read_bytes()).cast("I").tolist()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("program")
    parser.add_argument("tokenizer", help="GGUF file or tokenizer.json")
    parser.add_argument("json", nargs="?", help="tokenizer.json to compare a GGUF file with")
    parser.add_argument("--megabytes", type=float, default=2)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        directory = pathlib.Path(name)
        files = [arguments.tokenizer]
        if arguments.tokenizer.endswith(".gguf") and arguments.json is None:
            tokenizer, control = tokenizer_of_gguf(arguments.tokenizer)
            tokenizer.save(str(directory / "tokenizer.json"))
            files.append(directory / "tokenizer.json")
        else:
            path = arguments.json or arguments.tokenizer
            files += [arguments.json] if arguments.json else []
            tokenizer = tokenizers.Tokenizer.from_file(path)
            control = [t["content"] for t in json.loads(pathlib.Path(path).read_text())["added_tokens"]]
        text = mixed_text(arguments.megabytes * 1e6, control)
        expected = tokenizer.encode(text, add_special_tokens=False).ids
        wrong = 0
        for file in files:
            ids = ids_of(arguments.program, file, text, directory)
            # Without what the tokenizer puts around a text.
            start = next((i for i in (0, 1) if ids[i:i + len(expected)] == expected), None)
            if start is not None:
                print(f"{file}: {len(expected)} ids of {len(text.encode())} bytes are the same")
                continue
            wrong += 1
            at = next((i for i, (a, b) in enumerate(zip(ids, expected)) if a != b), min(len(ids), len(expected)))
            print(f"{file}: {len(ids)} ids, {len(expected)} expected; from {at} on {ids[at:at + 8]}, not "
                  f"{[(i, tokenizer.id_to_token(i)) for i in expected[at:at + 8]]}")
        sys.exit(wrong != 0)


if __name__ == "__main__":
    main()
