#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What each policy costs a model: the loss on the beginning of texts, and on a passage that comes again.

    bench/policies.py --program build/release/examples/llama/freqkv-llama --model smollm2 --texts a.txt b.txt

writes a table in Markdown. All caches have as many entries. "again" is the loss per token of a passage of 192 tokens when
it comes again so many tokens later, the mean over places in each text; a model that still has the passage before it
knows what comes. Errors are standard errors: of the mean over blocks of 256 targets, and over places. Texts are tokenized
by the model; a text is cut where what is asked for ends. In brackets is the difference to local-window in nats per
token, where that stands before, with the standard error of the paired difference. With --rounds there is a column of tokens per second, written
behind a full cache; let nothing else run then.
"""

import argparse
import json
import math
import re
import statistics
import subprocess
import sys
import tempfile
from array import array
from collections.abc import Callable
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
    result = run([options.program, "perplexity", "--model", options.model, "--token-file", str(file), "--json", "-",
                  f"--exact={str(not options.rounded).lower()}", *cache_options(options, policy)])  # fmt: skip
    return json.loads(result)["nll"]


def cache_options(options: argparse.Namespace, policy: str) -> list[str]:
    name, *more = policy.split()
    sizes = {} if name == "full" else {"--capacity": options.capacity, "--recent": options.recent,
                                       "--ratio": options.ratio}  # fmt: skip
    if name.startswith("tiers"):
        del sizes["--ratio"]
    if "--budgets" in more or "--budget" in more:
        sizes.pop("--capacity", None)
    own = [f"{word}" for size, value in sizes.items() if size not in more for word in (size, value)]
    return ["--policy", name, *own, *more]


def writing_rates(options: argparse.Namespace, text: Path, directory: Path) -> dict[str, float]:
    """Tokens per second behind a full cache; all policies take turns, and the best turn of each counts."""
    prompt = directory / "prompt"
    prompt.write_text(text.read_text()[: 6 * options.capacity])
    best: dict[str, float] = {}
    for _ in range(options.rounds):
        for policy in options.policies:
            done = subprocess.run([options.program, "generate", "--model", options.model, "--prompt-file", str(prompt),
                                   "--tokens", str(2 * options.capacity), "--temperature", "0", "--ignore-eos",
                                   *cache_options(options, policy)], capture_output=True, check=True)  # fmt: skip
            tokens, seconds = re.search(rb"(\d+) tokens in ([\d.]+) s", done.stderr).groups()
            best[policy] = max(best.get(policy, 0), float(tokens) / float(seconds))
    return best


def mean_and_error(values: list[float]) -> tuple[float, float]:
    error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return statistics.fmean(values), error


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--texts", nargs="+", type=Path, required=True)
    parser.add_argument("--policies", nargs="+", help="each with options of its own behind it: 'h2o --recent 64'", default=["full", "local-window", "low-pass", "snapkv", "tova", "h2o",
                                                          "key-diff", "key-norm", "value-norm"])
    parser.add_argument("--tokens", type=int, default=8192, help="of each text")
    parser.add_argument("--score-from", type=int, default=1024, help="first target that counts")
    parser.add_argument("--capacity", type=int, default=512)
    parser.add_argument("--recent", type=int, default=128)
    parser.add_argument("--ratio", type=float, default=0.9)
    parser.add_argument("--places", type=int, default=4, help="of the passage in each text; 0: no passages")
    parser.add_argument("--distances", type=int, nargs="+", default=[1400], help="from where the passage begins to where it begins again")
    parser.add_argument("--rounded", action="store_true", help="with the program's --exact=false: twice as fast")
    parser.add_argument("--rounds", type=int, default=0, help="turns of writing that are timed [0]")
    options = parser.parse_args()

    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        texts = [tokens_of(options, text, directory) for text in options.texts]
        print(f"{options.model}, {options.capacity} entries, recent {options.recent}, ratio {options.ratio}; "
              f"targets {options.score_from} to {options.tokens} of each text\n")
        columns = [text.stem for text in options.texts] + [f"again after {d}" for d in options.distances if options.places]
        rates = writing_rates(options, options.texts[0], directory)
        print("| policy | " + " | ".join(columns) + (" | tokens/s |" if rates else " |"))
        print("|---|" + "---:|" * (len(columns) + bool(rates)))
        window: dict[str, list[float]] = {}  # the losses of local-window in each column, once they are known
        for policy in options.policies:
            cells = []

            def add(column: str, values: list[float], show: Callable[[float, float], str]) -> None:
                cell = show(*mean_and_error(values))
                if column in window:
                    cell += " ({:+.3f} ± {:.3f})".format(*mean_and_error([a - b for a, b in zip(values, window[column])]))
                elif policy.split()[0] == "local-window":
                    window[column] = values
                cells.append(cell)

            for column, tokens in zip(columns, texts):
                scored = losses(options, policy, tokens[: options.tokens], directory)[options.score_from - 1 :]
                blocks = [statistics.fmean(scored[i : i + BLOCK]) for i in range(0, len(scored) - BLOCK + 1, BLOCK)]
                add(column, blocks, lambda mean, error: f"{math.exp(mean):.2f} ± {math.exp(mean) * error:.2f}")
            for column, distance in zip(columns[len(texts) :], options.distances):
                again = []
                length = LEAD + distance + PASSAGE
                for tokens in texts:
                    for place in range(options.places):
                        begin = options.tokens + place * length
                        part = tokens[begin : begin + LEAD + distance]
                        part += part[LEAD : LEAD + PASSAGE]
                        again.append(statistics.fmean(losses(options, policy, part, directory)[-PASSAGE:]))
                add(column, again, lambda mean, error: f"{mean:.2f} ± {error:.2f}")
            if rates:
                cells.append(f"{rates[policy]:.1f}")
            print(f"| {policy} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
