#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Writes Markdown tables of what scripts/gpu has left in its report directory: what was wanted and what was measured.

Read are machine.tsv, steps.tsv, and the results of cuda_benchmark, cuda_attention_benchmark, cuda_llama_benchmark and
cuda_peers.py in files of these names. What is not there has not been measured, and a target that has not been measured
is not met.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

PART_OF_COPY = {4096: 0.5, 4092: 0.35}  # rows, and the part of the copy bandwidth that is wanted
TIMES_OF_PYTORCH = 5
LAYERS = 32  # of the whole cache
DECODE_PART_OF_COPY = 0.75
PREFILL_PART_OF_MATRIX = 0.4
LONG_OVER_SHORT = 0.95  # tokens per second of the Llama behind the long text over those behind the short one
TYPES = ("half", "bfloat16")
MEASURED_ON = ("device", "compute capability", "multiprocessors", "second-level cache",
               "CUDA of the driver, of the program", "copy bandwidth", "date")  # of cuda_benchmark's context
MATRIX_RATE = "bfloat16 matrix rate"  # of cuda_attention_benchmark's
SANITIZERS = ("memcheck", "racecheck", "synccheck", "initcheck")
DENSE = "dense operator"  # as in cuda_peers.py

Row = list[str]


def markdown(title: str, columns: Row, rows: list[Row]) -> str:
    if not rows:
        return ""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join([f"### {title}", "", *("| " + " | ".join(line) + " |" for line in lines), "", ""])


def shown(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def read_lines(path: Path) -> list[Row]:
    return [line.split("\t") for line in path.read_text().splitlines()] if path.is_file() else []


def read_json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except ValueError:
        print(f"cuda_summary.py: {path.name} is cut off, or no JSON", file=sys.stderr)
        return {}


class Case:
    """One of cuda_benchmark's: "compress<half>/heads:32/n:4096/columns_per_block:0/energies:0/…"."""

    def __init__(self, entry: dict[str, Any]) -> None:
        self.kind, *axes = entry["name"].split("/")
        self.axes = {name: int(value) for name, _, value in (axis.partition(":") for axis in axes) if value}
        self.axes.pop("iterations", None)
        self.entry = entry
        self.reason: str = entry.get("error_message", "")

    def of(self, counter: str) -> float | None:
        return None if self.reason else self.entry.get(counter)

    @property
    def name(self) -> str:
        kind = self.kind.replace("<", ", ").removesuffix(">")  # Markdown would take it for HTML
        axes = [f"{axis} {value}" for axis, value in self.axes.items() if axis in ("heads", "n", "tokens")]
        return ", ".join([kind, *axes, *["with energies"] * self.axes.get("energies", 0)])


def cases_of(benchmark: dict[str, Any]) -> list[Case]:
    return [Case(entry) for entry in benchmark.get("benchmarks", []) if entry.get("run_type") != "aggregate"]


def find(cases: list[Case], kind: str, **axes: int) -> Case | None:
    return next((case for case in cases if case.kind == kind and case.axes == axes), None)


def long_over_short(llama: list[dict[str, Any]]) -> float | None:
    """Tokens per second of the bounded cache behind 64K tokens over those behind 4K."""
    rates = {one["tokens_before"]: one["tokens_per_s"] for one in llama if one["policy"] != "full"}
    return rates[65536] / rates[4096] if {4096, 65536} <= rates.keys() else None


def targets(cases: list[Case], attention: list[Case], peers: list[dict[str, Any]], llama: list[dict[str, Any]],
            steps: list[Row]) -> list[Row]:  # fmt: skip
    rows = []

    def number(what: str, wanted: float, measured: float | None) -> None:
        met = measured is not None and measured >= wanted
        rows.append([what, f"≥ {wanted}", shown(measured), "yes" if met else "no"])

    whole: dict[int, Case] = {}
    for n, part in PART_OF_COPY.items():
        case = find(cases, "compress<half>", heads=32, n=n, columns_per_block=0, energies=0)
        if case and case.of("layers") == LAYERS:
            whole[n] = case
        number(f"LLaMA-2-7B's cache, half, {n} → {n // 2}: part of the copy bandwidth", part,
               whole[n].of("of_copy") if n in whole else None)
    for n in PART_OF_COPY:
        theirs = [one["best_ms"] for one in peers
                  if (one["n"], one["layers"], one["heads"]) == (n, LAYERS, 32) and one["route"] != DENSE]
        measured = min(theirs) / whole[n].entry["best_ms"] if theirs and n in whole else None
        number(f"the same, {n} → {n // 2}: time of PyTorch's Fourier transforms over freqkv's", TIMES_OF_PYTORCH,
               measured)
    for kind in TYPES:
        case = find(attention, f"decode<{kind}>", batch=16, kv_heads=8, entries=4096, graph=1)
        number(f"attention of one token, {kind}, 16 sequences of 4096 entries, 32 query and 8 KV heads of 128, in a "
               "graph: part of the copy bandwidth", DECODE_PART_OF_COPY, case and case.of("of_copy"))  # fmt: skip
    for tokens, before in ((4096, 0), (2048, 2048)):
        for kind in TYPES:
            case = find(attention, f"prefill<{kind}>", batch=1, kv_heads=8, dim=128, tokens=tokens, before=before)
            number(f"attention of a causal chunk, {kind}, {tokens} tokens onto {before} entries, the same heads: part "
                   "of the matrix rate", PREFILL_PART_OF_MATRIX, case and case.of("of_matrix"))  # fmt: skip
    number("reference Llama: tokens/s behind 64K tokens over those behind 4K", LONG_OVER_SHORT, long_over_short(llama))
    checks = [("tests on the device", "tests"), *((f"{tool} on these", f"{tool},.*") for tool in SANITIZERS)]
    for what, pattern in checks:
        results = [result for name, result, *_ in steps if re.fullmatch(pattern, name)]
        measured = "not run" if not results else "failed" if "failed" in results else "passed"
        rows.append([what, "passed", measured, "yes" if measured == "passed" else "no"])
    return rows


def measured_cases(cases: list[Case]) -> list[Row]:
    rows = []
    for case in cases:
        if case.axes.get("columns_per_block"):
            continue
        if case.reason:
            rows.append([case.name, case.reason, *[""] * 6])
        else:
            counters = ("GB/s", "of_copy", "best_ms", "median_ms", "host_us", "layers", "columns")
            rows.append([case.name, *(shown(case.of(name)) if name in case.entry else "" for name in counters)])
    return rows


def columns_per_block(cases: list[Case]) -> tuple[Row, list[Row]]:
    swept = sorted({columns for case in cases if (columns := case.axes.get("columns_per_block"))})
    rows = []
    for case in cases:
        if "columns_per_block" not in case.axes or case.axes["columns_per_block"] or case.axes["energies"]:
            continue
        others = [find(cases, case.kind, **(case.axes | {"columns_per_block": columns})) for columns in swept]
        if not any(others):
            continue
        cells = ["" if other is None or other.of("of_copy") is None else shown(other.of("of_copy")) for other in others]
        chosen = case.of("columns")
        rows.append([case.name, *cells, "" if chosen is None else shown(chosen)])
    return ["part of the copy bandwidth", *(str(columns) for columns in swept), "chosen by itself"], rows


def fastest_peer(peers: list[dict[str, Any]], case: Case, what: str) -> dict[str, Any] | None:
    """PyTorch's fastest backend on the same shape."""
    axes = case.axes
    wanted = (what, case.kind.split("<")[1].removesuffix(">"), axes["batch"], axes["kv_heads"], axes.get("dim", 128),
              axes.get("tokens", 1), axes.get("entries", axes.get("tokens", 0) + axes.get("before", 0)))  # fmt: skip
    same = [one for one in peers if wanted == tuple(one[key] for key in ("what", "type", "batch", "kv_heads", "dim",
                                                                         "tokens", "entries"))]  # fmt: skip
    return min(same, key=lambda one: one["best_ms"], default=None)


def measured_attention(cases: list[Case], peers: list[dict[str, Any]], what: str, axes: Row,
                       counters: Row) -> list[Row]:  # fmt: skip
    rows = []
    for case in cases:
        if not case.kind.startswith(f"{what}<"):
            continue
        row = [case.kind.split("<")[1].removesuffix(">"), *(str(case.axes.get(axis, "")) for axis in axes)]
        peer = fastest_peer(peers, case, what)
        if case.reason:
            rows.append([*row, case.reason, *[""] * (len(counters) + 1)])
            continue
        # Decoding passes over several caches.
        best = case.entry["best_ms"] / case.entry.get("caches", 1)
        times = ["", ""] if peer is None else [shown(peer["best_ms"] / best), f"{peer['backend']}, {peer['heads']}"]
        rows.append([*row, *(shown(case.of(name)) for name in counters), *times])
    return rows


def measured_llama(results: list[dict[str, Any]]) -> list[Row]:
    return [[one["model"], one["policy"], str(one["tokens_before"]), str(one["tokens"]), shown(one["tokens_per_s"]),
             ", ".join(shown(rate) for rate in one["tokens_per_s_of_cycles"]), str(one["entries"]),
             str(one["compressions"]), str(one["cache_bytes"] >> 20)] for one in results]  # fmt: skip


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("report", type=Path, metavar="DIR", help="the report directory of scripts/gpu")
    report = parser.parse_args(arguments).report
    if not report.is_dir():
        parser.error(f"{report}: no such directory")
    benchmark, pytorch = read_json(report / "cuda_benchmark.json"), read_json(report / "cuda_peers.json")
    attention_benchmark = read_json(report / "cuda_attention_benchmark.json")
    pytorch_attention = read_json(report / "cuda_attention_peers.json")
    llama = read_json(report / "cuda_llama_benchmark.json").get("results", [])
    machine, steps = read_lines(report / "machine.tsv"), read_lines(report / "steps.tsv")
    context = attention_benchmark.get("context", {}) | benchmark.get("context", {})
    machine += [[name, context[name]] for name in (*MEASURED_ON, MATRIX_RATE) if name in context]
    if pytorch or pytorch_attention:
        machine.append(["PyTorch", (pytorch or pytorch_attention)["torch"]])
    cases, attention = cases_of(benchmark), cases_of(attention_benchmark)
    peers, attention_peers = pytorch.get("results", []), pytorch_attention.get("attention", [])

    print(markdown("Machine", ["what", "value"], machine)
          + markdown("Targets", ["target", "wanted", "measured", "met"],
                     targets(cases, attention, peers, llama, steps))
          + markdown("Compression on the device",
                     ["case", "GB/s", "of copy", "best, ms", "median, ms", "call returns after, µs", "layers",
                      "columns of a block"], measured_cases(cases))
          + markdown("Complex columns that share a block", *columns_per_block(cases))
          + markdown("PyTorch", ["rows", "how", "best, ms", "median, ms"],
                     [[f"{one['n']} → {one['kept']}", f"{one['route']}, {one['calls']}", shown(one["best_ms"]),
                       shown(one["median_ms"])] for one in peers])
          + markdown("Attention of one token of each sequence, 32 query heads of 128",
                     ["type", "sequences", "KV heads", "entries", "graph", "GB/s", "of copy", "one layer, µs",
                      "caches by turns", "best, ms", "median, ms", "call returns after, µs",
                      "PyTorch's time over this", "PyTorch's way"],
                     measured_attention(attention, attention_peers, "decode", ["batch", "kv_heads", "entries", "graph"],
                                        ["GB/s", "of_copy", "layer_us", "caches", "best_ms", "median_ms", "host_us"]))
          + markdown("Attention of a causal chunk, 32 query heads",
                     ["type", "sequences", "KV heads", "dimensions", "tokens", "entries before", "TFLOP/s",
                      "of the matrix rate", "best, ms", "median, ms", "call returns after, µs",
                      "PyTorch's time over this", "PyTorch's way"],
                     measured_attention(attention, attention_peers, "prefill",
                                        ["batch", "kv_heads", "dim", "tokens", "before"],
                                        ["TFLOP/s", "of_matrix", "best_ms", "median_ms", "host_us"]))
          + markdown("Attention of PyTorch",
                     ["what", "type", "sequences", "KV heads", "dimensions", "tokens", "entries", "backend",
                      "best, ms", "median, ms"],
                     [[*(str(one[key]) for key in ("what", "type", "batch", "kv_heads", "dim", "tokens", "entries")),
                       f"{one['backend']}, {one['heads']}", shown(one["best_ms"]), shown(one["median_ms"])]
                      for one in attention_peers])
          + markdown("Tokens per second of the reference Llama, weights and cache in half, one sequence",
                     ["model", "policy", "tokens before", "tokens", "tokens/s", "of each cycle of compressions",
                      "entries at the end", "compressions", "MiB of caches"], measured_llama(llama))
          + markdown("Steps", ["step", "result", "seconds"], steps), end="")  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
