#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What each policy costs a model: the loss on the beginning of texts, and on a passage that comes again.

    bench/policies.py --program build/release/examples/llama/freqkv-llama --model smollm2 --texts a.txt b.txt

writes a table in Markdown. All caches have as many entries. "again" is the loss per token of a passage of 192 tokens when
it comes again `--distance` tokens later, the mean over places in each text; a model that still has the passage before it
knows what comes. Errors are standard errors: of the mean over blocks of 256 targets, and over places. Texts are tokenized
by the model; a text is cut where what is asked for ends.
"""

import argparse
import json
import math
import statistics
import subprocess
import sys
import tempfile
from array import array
from pathlib import Path

PASSAGE = 192
LEAD = 600  # tokens before the passage comes first
BLOCK = 256


def run(arguments: list[str]) -> str:
    done = subprocess.run(arguments, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


def tokens_of(options: argparse.Namespace, text: Path, directory: Path) -> list[int]:
    out = directory / "tokens"
    run([options.program, "tokenize", "--model", options.model, "--text", str(text), "--out", str(out),
         "--token-format", "u32"])
    return array("I", out.read_bytes()).tolist()


def losses(options: argparse.Namespace, policy: str, tokens: list[int], directory: Path) -> list[float]:
    """Of tokens 1, 2, …"""
    file = directory / "ids"
    file.write_text(" ".join(map(str, tokens)))
    cache = [] if policy == "full" else ["--capacity", str(options.capacity), "--recent", str(options.recent)]
    result = run([options.program, "perplexity", "--model", options.model, "--token-file", str(file), "--policy", policy,
                  *cache, "--json", "-"])
    return json.loads(result)["nll"]


def mean_and_error(values: list[float]) -> tuple[float, float]:
    error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return statistics.fmean(values), error


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--texts", nargs="+", type=Path, required=True)
    parser.add_argument("--policies", nargs="+", default=["full", "local-window", "low-pass", "snapkv", "tova", "h2o",
                                                          "key-diff", "key-norm", "value-norm"])
    parser.add_argument("--tokens", type=int, default=8192, help="of each text")
    parser.add_argument("--score-from", type=int, default=1024, help="first target that counts")
    parser.add_argument("--capacity", type=int, default=512)
    parser.add_argument("--recent", type=int, default=256)
    parser.add_argument("--places", type=int, default=4, help="of the passage in each text; 0: no passages")
    parser.add_argument("--distance", type=int, default=1400)
    options = parser.parse_args()

    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        texts = [tokens_of(options, text, directory) for text in options.texts]
        print(f"{options.model}, {options.capacity} entries, recent {options.recent}; "
              f"targets {options.score_from} to {options.tokens} of each text\n")
        print("| policy | " + " | ".join(text.stem for text in options.texts) + " | again |")
        print("|---|" + "---:|" * (len(texts) + 1))
        for policy in options.policies:
            cells = []
            for tokens in texts:
                scored = losses(options, policy, tokens[: options.tokens], directory)[options.score_from - 1 :]
                blocks = [statistics.fmean(scored[i : i + BLOCK]) for i in range(0, len(scored) - BLOCK + 1, BLOCK)]
                perplexity = math.exp(statistics.fmean(scored))
                cells.append(f"{perplexity:.2f} ± {perplexity * mean_and_error(blocks)[1]:.2f}")
            again = []
            for tokens in texts:
                length = LEAD + PASSAGE + options.distance
                for place in range(options.places):
                    begin = options.tokens + place * length
                    part = tokens[begin : begin + length]
                    part += part[LEAD : LEAD + PASSAGE]
                    again.append(statistics.fmean(losses(options, policy, part, directory)[-PASSAGE:]))
            cells.append("{:.2f} ± {:.2f}".format(*mean_and_error(again)) if again else "")
            print(f"| {policy} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
