#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Prints the rows of examples/llama/tokenizers/newer_characters.hpp: the characters that the tokenizers library knows and
Unicode 14 does not, with their categories. Needs tokenizers, and a Python whose unicodedata is of Unicode 14 (3.11)."""

import itertools
import unicodedata

from tokenizers import Regex, pre_tokenizers

CATEGORIES = "Lu Ll Lt Lm Lo Mn Mc Me Nd Nl No Pc Pd Ps Pe Pi Pf Po Sm Sc Sk So Cf".split()
IDEOGRAPHS = [(0x2A700, 0x2EE5D), (0x31350, 0x3347F)]


def main():
    assert unicodedata.unidata_version.startswith("14."), unicodedata.unidata_version
    points = [p for p in itertools.chain(range(0xD800), range(0xE000, 0x33480), range(0xE0000, 0xE01F0))
              if unicodedata.category(chr(p)) == "Cn"]
    found = {}
    for category in CATEGORIES:
        split = pre_tokenizers.Split(Regex(rf"\p{{{category}}}"), "removed", invert=True)
        for part, _ in split.pre_tokenize_str("\0".join(map(chr, points))):
            found.update((ord(character), category) for character in part)
    rows = []
    for point, category in sorted(found.items()):
        kind = "han" if any(low <= point <= high for low, high in IDEOGRAPHS) else category.lower()
        if rows and rows[-1][1] == point - 1 and rows[-1][2] == kind:
            rows[-1][1] = point
        else:
            rows.append([point, point, kind])
    for first, last, kind in rows:
        print(f"    {{0x{first:04X}, 0x{last:04X}, {kind}}},")


if __name__ == "__main__":
    main()
