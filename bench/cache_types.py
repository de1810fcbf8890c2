#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What a byte of cache is worth in each storage type: perplexity, and the loss on a passage that comes again.

    bench/cache_types.py --program build/release/examples/llama/freqkv-llama --model smollm2 \\
        --texts a.txt b.txt --calibration c.txt --out docs/results/cache-types

writes cache-types.csv and, by gnuplot, cache-types.svg. A row is a policy in a type at a number of bytes (keys, values and
what is kept beside them, of all layers); rows that the file has already are not measured again, so an interrupted run goes
on. Texts, targets and passages are those of policies.py; here 2 places of the passage in each text. gnuplot comes with
`scripts/setup --results`.
"""

import argparse
import csv
import json
import math
import statistics
import subprocess
import tempfile
from pathlib import Path

import policies

TYPES = ["f16", "q8", "q4", "q2"]
HEAD = ["policy", "type", "bytes", "perplexity", "again"]
POLICIES = {
    "means of attention, calibrated": "h2o:mean=1 --budgets {budgets} --positions text",
    "local window": "local-window --budget {bytes} --positions text",
    "low-pass": "low-pass --budget {bytes} --recent {half} --ratio 0.5",  # of the entries in 16 bits
}
COLOURS = {"local window": "#888888", "low-pass": "#1f618d", "means of attention, calibrated": "#c0392b"}


def budgets(options: argparse.Namespace, size: int, type_: str, directory: Path) -> Path:
    out = directory / f"{size}-{type_}.json"
    policies.run([options.program, "calibrate", "--model", options.model, "--text", str(options.calibration),
                  "--policy", "h2o:mean=1", "--recent", options.recent, "--budget", str(size),
                  "--limit", str(options.calibrate_on), "--cache-type", type_, "--out", str(out)])  # fmt: skip
    return out


def full_bytes(options: argparse.Namespace, tokens: list[int], directory: Path) -> int:
    """Of a cache that holds a whole text."""
    file = directory / "ids"
    file.write_text(" ".join(map(str, tokens[: policies.BLOCK])))
    told = json.loads(policies.run([options.program, "perplexity", "--model", options.model, "--token-file", str(file),
                                    "--policy", "full", "--cache-type", "f16", "--json", "-"]))  # fmt: skip
    return (told["cache_bytes"] + told["bookkeeping_bytes"]) * options.tokens // policies.BLOCK


def measure(options: argparse.Namespace, policy: str, texts: list[list[int]], directory: Path) -> tuple[float, float]:
    """Perplexity over the beginnings of all texts, and the loss per token of the passages."""
    whole = []
    for tokens in texts:
        whole += policies.losses(options, policy, tokens[: options.tokens], directory)[options.score_from - 1 :]
    again = []
    length = policies.LEAD + options.distance + policies.PASSAGE
    for tokens in texts:
        for place in range(2):
            begin = options.tokens + place * length
            part = tokens[begin : begin + policies.LEAD + options.distance]
            part += part[policies.LEAD : policies.LEAD + policies.PASSAGE]
            again += policies.losses(options, policy, part, directory)[-policies.PASSAGE :]
    return math.exp(statistics.fmean(whole)), statistics.fmean(again)


def draw(out: Path, rows: list[dict[str, str]], full: dict[str, str]) -> None:
    """Two pictures side by side, with a line for each policy and type that has more than one size."""
    lines = {}
    for row in rows:
        lines.setdefault((row["policy"], row["type"]), []).append(row)
    commands = ["set terminal svg size 1080,400 font 'sans,12' background rgb 'white'", f"set output '{out}.svg'",
                "set multiplot layout 1,2", "set logscale x 2", "set grid linecolor rgb '#dddddd'", "set key off",
                "set xlabel 'MiB of keys, values and bookkeeping'"]  # fmt: skip
    dashes = {"f16": 1, "q8": 4, "q4": 2, "q2": 3}
    points = {"f16": 7, "q8": 5, "q4": 9, "q2": 13}
    for column, label in (("perplexity", "perplexity"), ("again", "loss per token of a passage that comes again")):
        data, curves = [], []
        for (policy, type_), of in lines.items():
            of = sorted(of, key=lambda row: int(row["bytes"]))
            block = "\n".join(f"{int(row['bytes']) / 2**20} {row[column]}" for row in of)
            data.append(f"$d{len(data)} << EOD\n{block}\nEOD")
            curves.append(f"$d{len(data) - 1} with linespoints linewidth 2 linecolor rgb '{COLOURS[policy]}' "
                          f"dashtype {dashes[type_]} pointtype {points[type_]} pointsize 0.7 title '{policy}, {type_}'")  # fmt: skip
        curves.append(f"{full[column]} with lines linecolor rgb '#000000' dashtype 3 "
                      f"title 'full cache, {int(full['bytes']) / 2**20:.0f} MiB'")  # fmt: skip
        left = 0.07 if column == "perplexity" else 0.43  # the key stands to the right of both
        commands += data + [f"set ylabel '{label}'", f"set lmargin at screen {left}",
                            f"set rmargin at screen {left + 0.29}"]  # fmt: skip
        if column == "again":
            commands += ["set key outside right top spacing 1.1 font ',10' noenhanced", "set yrange [0:4]"]
        commands.append("plot " + ", ".join(curves))
    subprocess.run(["gnuplot"], input="\n".join(commands + ["unset multiplot"]), text=True, check=True)


def draw_one_size(out: Path, rows: list[dict[str, str]], full: dict[str, str]) -> None:
    """Where there is no more than one size yet: perplexity to the right, the loss on a passage upwards."""
    size = int(rows[0]["bytes"]) / 2**20
    commands = ["set terminal svg size 760,400 font 'sans,12' background rgb 'white'", f"set output '{out}.svg'",
                "set grid linecolor rgb '#dddddd'", "set key outside right top spacing 1.2 noenhanced",
                "set xlabel 'perplexity'", "set ylabel 'loss per token of a passage that comes again'", "set yrange [0:4.3]",
                "set offsets graph 0.05, graph 0.1, 0, 0", f"set title 'caches of {size:.0f} MiB'"]  # fmt: skip
    curves = []
    for number, policy in enumerate(dict.fromkeys(row["policy"] for row in rows)):
        of = [row for row in rows if row["policy"] == policy]
        points = "\n".join(f"{row['perplexity']} {row['again']} {row['type']}" for row in of)
        commands.append(f"$d{number} << EOD\n{points}\nEOD")
        curves.append(f"$d{number} using 1:2 with points pointtype 7 linecolor rgb '{COLOURS[policy]}' title '{policy}'")
        curves.append(f"$d{number} using 1:2:3 with labels left offset 0.6,0.4 notitle")
    whole = int(full["bytes"]) / 2**20
    commands.append(f"$full << EOD\n{full['perplexity']} {full['again']}\nEOD")
    curves.append("$full using 1:2 with points pointtype 2 linecolor rgb '#000000' "
                  f"title 'full cache, {whole:.0f} MiB'")  # fmt: skip
    subprocess.run(["gnuplot"], input="\n".join(commands + ["plot " + ", ".join(curves)]), text=True, check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--texts", nargs="+", type=Path, required=True)
    parser.add_argument("--calibration", type=Path, required=True, help="another text, by which heads get their shares")
    parser.add_argument("--calibrate-on", type=int, default=16384, metavar="N", help="its first tokens only")
    parser.add_argument("--out", type=Path, required=True, help="without its ending")
    parser.add_argument("--bytes", type=int, nargs="+", default=[12533760, 25067520, 6266880],
                        help="of all layers; the first: 512 entries for each head in 16 bits")  # fmt: skip
    parser.add_argument("--types", nargs="+", choices=TYPES, default=TYPES)
    parser.add_argument("--tokens", type=int, default=8192, help="of each text")
    parser.add_argument("--score-from", type=int, default=1024, help="first target that counts")
    parser.add_argument("--distance", type=int, default=1400, help="from where the passage begins to where it begins again")
    options = parser.parse_args()
    options.capacity, options.recent, options.ratio, options.rounded = "8192", "128", "0.9", True

    table = options.out.with_suffix(".csv")
    rows = list(csv.DictReader(table.open())) if table.exists() else []
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        texts = [policies.tokens_of(options, text, directory) for text in options.texts]
        cells = [("full", "f16", full_bytes(options, texts[0], directory), "full --cache-type f16")]
        for size in options.bytes:
            cells += [(name, type_, size, f"{words} --cache-type {type_}") for name, words in POLICIES.items()
                      for type_ in options.types]  # fmt: skip
        for policy, type_, size, words in cells:
            if any((row["policy"], row["type"], row["bytes"]) == (policy, type_, str(size)) for row in rows):
                continue
            if "{budgets}" in words:
                words = words.format(budgets=budgets(options, size, type_, directory))
            found = measure(options, words.format(bytes=size, half=256 * size // options.bytes[0]), texts, directory)
            rows.append(dict(zip(HEAD, [policy, type_, str(size), *(f"{value:.4f}" for value in found)])))
            print(*rows[-1].values(), flush=True)
            with table.open("w", newline="") as file:
                writer = csv.DictWriter(file, HEAD, lineterminator="\n")
                writer.writeheader()
                writer.writerows(rows)
    full = next(row for row in rows if row["policy"] == "full")
    bounded = [row for row in rows if row["policy"] != "full"]
    (draw if len({row["bytes"] for row in bounded}) > 1 else draw_one_size)(options.out, bounded, full)


if __name__ == "__main__":
    main()
