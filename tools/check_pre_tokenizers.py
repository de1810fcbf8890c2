#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Compares where freqkv-llama and the tokenizers library cut texts, for every character and each of the patterns that
models come with.

    python3 tools/check_pre_tokenizers.py build/release/examples/llama/freqkv-llama [PATTERN...]

Every character stands alone, doubled, and between letters, digits, spaces, signs and ends of lines. The tokenizers have
a token for each byte and for every two that meet at the edge of a character, so that the ids show where pieces end.
Needs tokenizers. Ends each line with the characters that differ.
"""

import argparse
import itertools
import json
import pathlib
import subprocess
import tempfile
import unicodedata

import tokenizers
from tokenizers import Regex, models, normalizers, pre_tokenizers

CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
REST = r"\s*[\r\n]+|\s+(?!\S)|\s+"
UPPER, LOWER = r"\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}", r"\p{Ll}\p{Lm}\p{Lo}\p{M}"
CASED = [rf"[^\r\n\p{{L}}\p{{N}}]?[{UPPER}]*[{LOWER}]+", rf"[^\r\n\p{{L}}\p{{N}}]?[{UPPER}]+[{LOWER}]*"]
SIGNS = r" ?[^\s\p{L}\p{N}]+"

SEPARATOR = "<|>"
CONTEXTS = ["{0}", "{0}{0}", "a{0}a", "A{0}b", "1{0}1", " {0} ", "  {0}  ", "!{0}!", "'{0}", "\n{0}\n", "a {0}", "{0} a"]


def splits(*patterns):
    steps = [pre_tokenizers.Split(Regex(pattern), behavior="isolated", invert=False) for pattern in patterns]
    return pre_tokenizers.Sequence([*steps, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


PATTERNS = {
    "gpt2": pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
    "smollm": pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True),
                                       pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)]),
    "llama3": splits(rf"{CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}|{SIGNS}[\r\n]*|{REST}"),
    "qwen2": splits(rf"{CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}|{SIGNS}[\r\n]*|{REST}"),
    "tekken": splits("|".join([*CASED, r"\p{N}", rf"{SIGNS}[\r\n/]*", REST])),
    "gpt4o": splits("|".join([f"{part}{CONTRACTIONS}?" for part in CASED] + [r"\p{N}{1,3}", rf"{SIGNS}[\r\n/]*", REST])),
    "default": splits(r"[\p{P}\$\+<=>\^~\|]+", rf"'s|'t|'re|'ve|'m|'ll|'d| ?\p{{L}}+| ?\p{{N}}+|{SIGNS}|\s+(?!\S)|\s+",
                      r"\p{N}+", "[0-9][0-9][0-9]"),
}


PATTERNS["qwen2, NFC"] = PATTERNS["qwen2"]


def byte_alphabet():
    printable = [b for b in range(256) if 0x21 <= b <= 0x7E or (b >= 0xA1 and b != 0xAD)]
    others = itertools.count(0x100)
    return [chr(b) if b in printable else chr(next(others)) for b in range(256)]


def tokenizer_with(pre_tokenizer, nfc):
    letters = byte_alphabet()
    plain = sorted({byte for context in CONTEXTS for byte in context.format("").encode()})
    begins = [*range(0x80), *range(0xC2, 0xF5)]
    ends = [*range(0x80), *range(0x80, 0xC0)]
    pairs = dict.fromkeys([*itertools.product(plain, begins), *itertools.product(ends, plain),
                           *itertools.product(range(0x80, 0xC0), range(0xC2, 0xF5))])
    merges = [(letters[a], letters[b]) for a, b in pairs]
    vocabulary = {token: i for i, token in enumerate([*letters, *(a + b for a, b in merges)])}
    tokenizer = tokenizers.Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizer
    if nfc:
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.add_special_tokens([SEPARATOR])
    return tokenizer


def characters():
    """All that may be assigned; the planes beyond have none but private ones."""
    for point in itertools.chain(range(0x33480), range(0xE0000, 0xE01F0), range(0xF0000, 0xF0010)):
        if not 0xD800 <= point <= 0xDFFF:
            yield chr(point)


def sections(ids, separator):
    """What lies between the separators."""
    section = []
    for token in ids:
        if token == separator:
            yield section
            section = []
        else:
            section.append(token)
    yield section


def ranges(points):
    points = sorted(points)
    for _, group in itertools.groupby(enumerate(points), lambda item: item[1] - item[0]):
        group = [point for _, point in group]
        yield (f"{group[0]:04X}" if len(group) == 1 else f"{group[0]:04X}-{group[-1]:04X}",
               unicodedata.category(chr(group[0])))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("program")
    parser.add_argument("patterns", nargs="*", default=list(PATTERNS))
    arguments = parser.parse_args()
    cases = [(character, context.format(character)) for character in characters() for context in CONTEXTS]
    text = SEPARATOR.join(case for _, case in cases)
    with tempfile.TemporaryDirectory() as name:
        directory = pathlib.Path(name)
        (directory / "text.txt").write_text(text, encoding="utf-8", newline="")
        for pattern in arguments.patterns:
            tokenizer = tokenizer_with(PATTERNS[pattern], "NFC" in pattern)
            tokenizer.save(str(directory / "tokenizer.json"))
            subprocess.run([arguments.program, "tokenize", "--tokenizer", directory / "tokenizer.json", "--text",
                            directory / "text.txt", "--out", directory / "ids", "--token-format", "u32"], check=True,
                           stdout=subprocess.DEVNULL)
            ids = memoryview((directory / "ids").read_bytes()).cast("I")
            got = sections(ids, tokenizer.token_to_id(SEPARATOR))
            different = set()
            step = 20000
            for first in range(0, len(cases), step):
                batch = cases[first:first + step]
                expected = tokenizer.encode_batch_fast([case for _, case in batch], add_special_tokens=False)
                for (character, _), want in zip(batch, expected):
                    if next(got) != want.ids:
                        different.add(ord(character))
            print(f"{pattern}: {len(cases)} texts, {len(different)} characters differ:", *(f"{r} ({c})" for r, c in ranges(different)))


if __name__ == "__main__":
    main()
