#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Writes tests/fixtures/scores.json: replies, and what the benchmarks' own scripts give them.

    python tools/score_fixtures.py LONGBENCH RULER KVPRESS

The arguments are clones of THUDM/LongBench (made with 2e00731), NVIDIA/RULER (c3f5e3b) and NVIDIA/kvpress (8bb29b9),
which has InfiniteBench's scores; needs rouge==1.0.1, fuzzywuzzy==0.18.0, python-Levenshtein==0.27.5 and tqdm (made with
Python 3.11). The replies are this project's own.
"""

import importlib.util
import json
import re
import sys
import types
from pathlib import Path


def load(path: Path) -> types.ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem + path.parent.name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# Of each metric: a reply, the references, the classes.
MATCHES = [
    ("The numbers are 4821330 and 1180254.", ["4821330", "1180254"]),
    ("The numbers are 4821330 and 118025.", ["4821330", "1180254"]),
    ("", ["7"]),
    ("anything", [""]),
    (" \t\n ", ["\n"]),
    ("VAR abcde\x00VAR\x1fFGHIJ", ["ABCDE", "var\nfghij", "KLMNO"]),
    ("\x01\x02 one line\x0b\x0canother \x7f\x1c", ["line\n\nanother", "one line", "another \x7f", " one"]),
    ("STRASSE, ÉCOLE, ΑΒΓΔ, ЖЗ", ["straße", "école", "αβγδ", "жз"]),
    ("der Fluß \u00a0\u2003", ["fluß", "fluß\u00a0", "FLUSS"]),
    ("ǅ Ⅷ Ⓐ Ａ", ["ǆ", "ⅷ", "ⓐ", "ａ", "x"]),
    ("1. apple 2. pear 3. fig", ["Apple", "PEAR", "fig", "plum", "apple"]),
    ("the answer is no", ["NO", "no"]),
]
ANSWERS = [
    ("The cat sat on the mat.", ["a cat sat on a mat"]),
    ("the the the a an", ["the"]),
    ("", [""]),
    ("", ["answer"]),
    ("answer", [""]),
    ("?!... --- \"'", ["!"]),
    ("yes yes yes no", ["yes yes", "no"]),
    ("Paris, France", ["paris", "France Paris", "London"]),
    ("U.S.A.", ["USA", "the u s a"]),
    ("well-known state_of_the_art", ["wellknown stateoftheart"]),
    ("a—b an’s the…end", ["b", "s end", "—b"]),
    ("a\u0301 b", ["b", "\u0301"]),
    ("Über ÉTÉ naïve", ["über été", "NAÏVE"]),
    ("one\u00a0two\u2003three\x1cfour\x85five", ["one two three four five", "one two"]),
    ("AN Island And a Theatre", ["island and theatre"]),
    ("$1,200.50 in 1999", ["120050 1999", "1,200.50"]),
    ("１２ ½ Ⅷ x² a_b", ["x²", "１２ ab"]),
]
SUMMARIES = [
    ("The cat sat on the mat.", ["The cat sat on the mat."]),
    ("The cat sat. It slept.", ["The cat slept. It sat."]),
    ("police killed the gunman", ["police kill the gunman", "the gunman kill police"]),
    ("a b c d e f g", ["g f e d c b a", "a c e g", "b d"]),
    ("", ["something"]),
    ("something", [""]),
    ("...", ["something."]),
    (" ", [" . "]),
    ("Words. ", ["Words.\n"]),
    ("word word word word", ["word word"]),
    ("x y x y x z. y x. x", ["y x y z x. x y", "z. z. x y z"]),
    ("Case matters Here", ["case matters here"]),
    ("v1.2 is out. v1.3 is not.", ["v1.2 is out, v1.3 is not."]),
    ("It was the best of times. It was the worst of times. It was the age of wisdom",
     ["It was the age of foolishness. It was the best of times", "the worst of times was the best of times"]),
    ("naïve café — über", ["café naïve über —", "naive cafe"]),
    ("first line\nsecond\tline\u00a0here", ["first second here. line"]),
    ("a b a c a d b c. c a b d. d", ["c b a d. a c b a. b d c a"]),
    ("a a b", ["a b a"]),  # one of several longest common subsequences
    ("a b a", ["a a b"]),
    ("a b a c c", ["c a a c b"]),
    ("g f e d c b a", ["a b c d e f g"]),
]
CLASSES = ["city", "city or state", "state", "other location", "location", "Type of city", "date"]
CLASSIFICATIONS = [
    ("city", ["city"], CLASSES),
    ("city or state", ["city or state"], CLASSES),
    ("city or state", ["city"], CLASSES),
    ("It is the city, on that date.", ["date"], CLASSES),
    ("other location", ["other location"], CLASSES),
    ("other location and city or state", ["location"], CLASSES),
    ("CITY", ["city"], CLASSES),
    ("", ["city"], CLASSES),
    ("city", ["village"], CLASSES),
    ("Type of city or state", ["Type of city"], CLASSES),
    ("city", ["city", "date"], CLASSES),
    ("a b c abc", ["abc"], ["a", "b", "c", "abc"]),
    ("a b c abc", ["abc"], ["abc", "a", "a", "b", "c"]),
    ("anything", ["x"], ["", "x"]),
    ("été", ["été"], ["ét", "été", "é"]),
]
COUNTS = [
    ("7", ["7"]),
    ("There are 7 of 30.", ["7"]),
    ("7 7 8", ["7"]),
    ("07", ["7"]),
    ("seven", ["7"]),
    ("", ["7"]),
    ("17", ["7"]),
    ("3.14", ["14", "3"]),
    ("-5", ["5"]),
    ("٧ and 7", ["7"]),
    ("7²", ["7"]),
    ("1,000", ["1000", "1"]),
    ("７", ["7", "７"]),
]
RETRIEVALS = [
    ("Paragraph 12", ["Paragraph 12"]),
    ("12", ["Paragraph 12"]),
    ("Paragraph 1", ["Paragraph 12"]),
    ("Paragraph 3 or Paragraph 12", ["Paragraph 12"]),
    ("Paragraphs 12, 12 and 4", ["Paragraph 12"]),
    ("", ["Paragraph 12"]),
    ("none", ["Paragraph 12"]),
    ("012", ["Paragraph 12"]),
    ("Paragraph 12\n\nParagraph 13\n\nParagraph 14\n\n", ["Paragraph 12"]),
    ("30 paragraphs; 2", ["See Paragraph x, Paragraph 2, Paragraph 30"]),
    ("２ 2", ["Paragraph ２"]),
    ("5", ["Paragraph 4", "Paragraph 5"]),
]
CODES = [
    ("return x + y", ["return x + y"]),
    ("\n\nreturn x", ["return x + y"]),
    ("```python\nreturn x\n```", ["return x"]),
    ("# comment\n// comment\n    return a", ["    return a"]),
    ("", [""]),
    ("", ["x"]),
    ("x", [""]),
    ("# only a comment", ["x"]),
    ("# a comment\n\nx", ["x"]),
    ("abcdefgh", ["abcdefgx", "hgfedcba"]),
    ("a", ["aaaaaaaaaaaaaaa", "b"]),
    ("ab", ["a" + "x" * 13]),
    ("xay", ["ab" * 6 + "c"]),
    ("int \u00e4 = '\u00df';", ["int a = 's';"]),
    ("\U0001d11e\U0001d11ex", ["\U0001d11ex"]),
    ("for (int i = 0; i < n; ++i) {\n    f(i);", ["for (std::size_t i = 0; i < n; i++) {"]),
    ("  indented", ["indented"]),
    ("the quick brown fox", ["quick the fox brown"]),
    ("self.a = self.b = None", ["self.b = self.a", "self.b = None"]),
]
NUMBERS = [
    ("The pass key is 71432. Remember it.", ["71432"]),
    ("71432 is the pass key, 5 is not.", ["71432"]),
    ("Keys 5 and 71432", ["71432"]),
    ("071432", ["71432"]),
    ("714 32", ["71432"]),
    ("", ["71432"]),
    ("no number", ["71432"]),
    ("7143", ["71432"]),
    ("x71432y", ["71432"]),
    ("-71432.5", ["71432"]),
    ("٧ 71432", ["71432"]),
    ("first\n\n71432\n9", ["71432"]),
]


def main(longbench: str, ruler: str, kvpress: str) -> None:
    sys.modules["jieba"] = types.ModuleType("jieba")  # for Chinese alone
    own = load(Path(longbench) / "LongBench" / "metrics.py")
    matches = load(Path(ruler) / "scripts" / "eval" / "synthetic" / "constants.py")
    infinite = load(Path(kvpress) / "evaluation" / "benchmarks" / "infinite_bench" / "calculate_metrics.py")

    def printable(reply):  # what RULER scores of a reply
        return re.sub("[\x00-\x1f]", "\n", reply.strip()).strip()

    def string_match(function):
        return lambda reply, references: function([printable(reply)], [references]) / 100

    def best(function):
        return lambda reply, references, classes=(): max(
            float(function(reply, reference, all_classes=list(classes))) for reference in references
        )

    metrics = {
        "string_match_all": (string_match(matches.string_match_all), MATCHES),
        "string_match_part": (string_match(matches.string_match_part), MATCHES),
        "token_f1": (best(own.qa_f1_score), ANSWERS),
        "rouge_l": (best(own.rouge_score), SUMMARIES),
        "classification": (best(own.classification_score), CLASSIFICATIONS),
        "count": (best(own.count_score), COUNTS),
        "retrieval": (best(own.retrieval_score), RETRIEVALS),
        "code_similarity": (best(own.code_sim_score), CODES),
        "exact_number": (
            lambda reply, references: float(infinite.get_score_one_passkey(reply, references, "")),
            NUMBERS,
        ),
    }
    fixtures = [
        {"metric": name, "reply": case[0], "references": case[1], "classes": (*case, [])[2], "score": function(*case)}
        for name, (function, cases) in metrics.items()
        for case in cases
    ]
    text = ",\n".join(json.dumps(fixture) for fixture in fixtures)
    path = Path(__file__).parent.parent / "tests" / "fixtures" / "scores.json"
    path.write_text("[\n" + text + "\n]\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
