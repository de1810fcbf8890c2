#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Measures freqkv beside its peers, in one run on this machine, and prints Markdown tables of ratios.

  compression   SciPy's dct, the dense operator through NumPy's BLAS, FFTW's strided r2r plans
  attention     PyTorch's scaled_dot_product_attention
  llama         freqkv-llama against a program with the command line of llama2.c
  all           the three of them

Build the benchmarks first (cmake --preset release && cmake --build --preset release) and install the peers
(pip install -r bench/requirements.txt). PyTorch is optional: without it its cells say "not installed".

Everything runs on one thread unless a table has a column for threads. freqkv and its peers take turns,
--rounds times, and the best of each counts, so other work on the machine disturbs little. Results are
checked against double precision before they are timed. Tables go to standard output, progress to standard
error. Exit status: 0 if everything ran (a missed target is no error), 1 if something could not be run, 2 for
a wrong command line.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import math
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from timeit import repeat
from typing import Any, NoReturn

from peers import CannotRun, compression_peers, import_or_none, torch_seconds

BACKEND = "Simd"  # of the benchmark compress<float, BACKEND>
LENGTHS = {4092: 0.01, 4096: 0.005}  # rows, and the part of decoding that compression may take
CPP_TYPE = {"float32": "float", "float16": "Eigen::half", "bfloat16": "Eigen::bfloat16"}
LONG_CAPACITY, LONG_TOKENS = 512, 16 * 254  # a whole number of compressions of a cache of 512
BIG_MODEL = {"dim": 512, "hidden": 1376, "layers": 8, "heads": 8, "kv-heads": 8, "vocabulary": 4096}  # 118 MB

REPOSITORY = Path(__file__).resolve().parent.parent
MODELS = REPOSITORY.parent / "shared" / "models"

# Some peers run in this process, on one thread; what it starts gets the environment as it was.
ENVIRONMENT = dict(os.environ)
os.environ.update({f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL", "BLIS")})

Cell = str | float | None  # None: not measured
Runs = dict[str, list[dict[str, Any]]]  # what a benchmark's JSON says, by name, one entry per round


@dataclass
class Table:
    title: str
    columns: list[str]
    rows: list[list[Cell]] = field(default_factory=list)

    def markdown(self) -> str:
        lines = [self.columns, ["---"] * len(self.columns), *([shown(cell) for cell in row] for row in self.rows)]
        return "\n".join([f"### {self.title}", "", *("| " + " | ".join(line) + " |" for line in lines), ""])


@dataclass
class Report:
    """What a run gathers, one section after the other."""

    tables: list[Table]
    ceilings: dict[str, float] = field(default_factory=dict)
    targets: list[list[Cell]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def target(self, name: str, sign: str, wanted: float, measured: float | None) -> None:
        met = measured is not None and (measured >= wanted if sign == "≥" else measured <= wanted)
        self.targets.append([name, f"{sign} {wanted}", measured, "yes" if met else "no"])

    @contextmanager
    def problems_noted(self) -> Iterator[None]:
        try:
            yield
        except CannotRun as error:
            self.problems.append(str(error))
            say(str(error))


def shown(cell: Cell) -> str:
    if isinstance(cell, float):
        return f"{cell:.0f}" if abs(cell) >= 100 else f"{cell:.3g}"
    return "not measured" if cell is None else cell


def say(message: str) -> None:
    print(f"compare.py: {message}", file=sys.stderr, flush=True)


def ratio(numerator: Cell, denominator: Cell) -> float | None:
    if isinstance(numerator, (int, float)) and isinstance(denominator, (int, float)) and denominator:
        return numerator / denominator
    return None


# --- programs


def run(command: list[Any], text: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    name = Path(command[0]).name
    try:
        done = subprocess.run([str(word) for word in command], input=text, capture_output=True, encoding="utf-8",
                              errors="replace", env=ENVIRONMENT | environment)
    except OSError as error:
        raise CannotRun(f"{name} cannot be started: {error.strerror}") from None
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["it says nothing"])[-1]
        raise CannotRun(f"{name} ends with status {done.returncode}: {last}")
    return done


def program(build: Path, path: str) -> Path:
    if not (build / path).is_file():
        raise CannotRun(f"{build / path} is missing: cmake --preset release && cmake --build --preset release")
    return build / path


def run_benchmark(executable: Path, pattern: str, runs: Runs, ceilings: dict[str, float]) -> None:
    output = run([executable, "--benchmark_format=json", f"--benchmark_filter={pattern}"]).stdout
    result = json.loads(output or '{"context": {}, "benchmarks": []}')  # nothing matches the pattern
    for name, value in result["context"].items():
        if name.endswith(", one thread"):
            number, unit = value.split()
            name = f"{name.removesuffix(', one thread')}, {unit}"
            ceilings[name] = max(float(number), ceilings.get(name, 0))
    for benchmark in result["benchmarks"]:
        runs.setdefault(benchmark["name"], []).append(benchmark)


def counters(runs: Runs, name: str, counter: str) -> list[float]:
    return [entry[counter] for entry in runs.get(name, []) if counter in entry]


# --- compression


def measure_compression(args: argparse.Namespace, report: Report) -> None:
    transform, cache = (program(args.build, f"bench/{name}_bench") for name in ("transform", "cache"))
    say("compression: checking the peers")
    peers: dict[int, dict[str, Callable[[], Any]]] = {}
    with report.problems_noted():
        peers = {n: compression_peers(n) for n in LENGTHS}
    runs: Runs = {}
    peer_ms: dict[tuple[str, int], list[float]] = {}
    for turn in range(args.rounds):
        say(f"compression: round {turn + 1} of {args.rounds}")
        run_benchmark(transform, f"^(strided_r2r|compress<float, {BACKEND}>|compress_layer)/", runs, report.ceilings)
        for n, calls in peers.items():
            for name, call in calls.items():
                peer_ms.setdefault((name, n), []).append(1e3 * min(repeat(call, number=1, repeat=10)))
        run_benchmark(cache, ".", runs, report.ceilings)

    table = Table("Compression of one head of 128 columns, float32", ["how"])
    copy, ours, scipy, dense, fftw = hows = ("memcpy of the input, in the caches", f"freqkv, {BACKEND}",
                                             "SciPy dct, idct", "dense operator, BLAS", "FFTW r2r plans, strided")
    table.rows = [[how] for how in hows]
    for n, part_of_decode in LENGTHS.items():
        own, r2r = f"compress<float, {BACKEND}>/n:{n}/manual_time", f"strided_r2r/n:{n}/manual_time"
        copies = [best / times for name in (own, r2r)
                  for best, times in zip(counters(runs, name, "best_ms"), counters(runs, name, "x_memcpy"))]
        found = {copy: copies, ours: counters(runs, own, "best_ms"), scipy: peer_ms.get((scipy, n), []),
                 dense: peer_ms.get((dense, n), []), fftw: counters(runs, r2r, "best_ms")}
        ms = {how: min(times, default=None) for how, times in found.items()}
        table.columns += [f"{n} → {n // 2}, ms", "times freqkv's"]
        for how, row in zip(hows, table.rows):
            row += [ms[how] if peers or how not in (scipy, dense) else "not installed", ratio(ms[how], ms[ours])]
        for best in found[dense]:
            blas = "sgemm (NumPy's BLAS), GFLOP/s"
            report.ceilings[blas] = max(n * (n // 2) * 128 * 2e-6 / best, report.ceilings.get(blas, 0))
        one, two = (min(counters(runs, f"compress_layer/n:{n}/threads:{threads}/manual_time", "best_ms"), default=None)
                    for threads in (1, 2))
        parts = [part for name in runs if f":{n}" in name for part in counters(runs, name, "of_decode")]
        report.target(f"compression {n}, SciPy's time over freqkv's", "≥", 2, ratio(ms[scipy], ms[ours]))
        report.target(f"compression {n}, FFTW's time over freqkv's", "≥", 6, ratio(ms[fftw], ms[ours]))
        report.target(f"compression {n}, freqkv's time over memcpy's", "≤", 15, ratio(ms[ours], ms[copy]))
        report.target(f"compression {n}, 8 heads, efficiency of 2 threads", "≥", 0.85, ratio(ratio(one, two), 2))
        report.target(f"compression {n}, part of the time of decoding", "≤", part_of_decode,
                      median(parts) if parts else None)
    report.tables.append(table)


# --- attention


def measure_attention(args: argparse.Namespace, report: Report) -> None:
    bench = program(args.build, "bench/attention_bench")
    torch = import_or_none("torch")
    cases = [("decode", storage, kv_heads, 1) for kv_heads in (32, 8) for storage in CPP_TYPE]
    cases += [("prefill", storage, 8, 2046) for storage in ("float32", "float16")]
    runs: Runs = {}
    theirs: dict[tuple[str, str, int, int], Cell] = {case: math.inf if torch else "not installed" for case in cases}
    for turn in range(args.rounds):
        say(f"attention: round {turn + 1} of {args.rounds}")
        run_benchmark(bench, "^(decode|prefill)<", runs, report.ceilings)
        for case, best in theirs.items():
            if torch and isinstance(best, float):
                try:
                    theirs[case] = min(1e3 * torch_seconds(torch, *case[1:]), best)
                except (RuntimeError, TypeError) as error:  # this type, or grouped queries
                    theirs[case] = "not supported"
                    say(f"PyTorch, {case[1]}, {case[2]} KV heads: {str(error).splitlines()[0]}")

    table = Table("Attention, 32 query heads of 128, 4096 entries; prefill: the last 2046 of them are queries",
                  ["", "storage", "KV heads", "freqkv, ms", "of read", "of sgemm", "PyTorch, ms", "times freqkv's"])
    names = {case: f"{case[0]}<{CPP_TYPE[case[1]]}>/kv_heads:{case[2]}/manual_time" for case in cases}
    ms = {case: min(counters(runs, name, "fastest_ms"), default=None) for case, name in names.items()}
    for case, name in names.items():
        kind, storage, kv_heads, _ = case
        # Bests over bests: a rate and its ceiling may come from different rounds.
        of_read = ratio(max(counters(runs, name, "GB/s"), default=None), report.ceilings.get("read bandwidth, GB/s"))
        of_sgemm = ratio(max(counters(runs, name, "GFLOP/s"), default=None),
                         report.ceilings.get("sgemm (Eigen), GFLOP/s"))
        table.rows.append([kind, storage, str(kv_heads), ms[case], of_read if kind == "decode" else "", of_sgemm,
                           theirs[case], ratio(theirs[case], ms[case])])
        label = f"{kind}, {storage}, {kv_heads} KV heads"
        if kind == "prefill":
            report.target(f"{label}, part of sgemm", "≥", 0.6, of_sgemm)
        elif kv_heads == 8:
            roofline = max(of_read / 0.8, of_sgemm / 0.6) if of_read and of_sgemm else None
            report.target(f"{label}, rate over the smaller of 0.8 read and 0.6 sgemm", "≥", 1, roofline)
        elif storage == "float32":
            report.target(f"{label}, part of read bandwidth", "≥", 0.8, of_read)
        else:
            report.target(f"{label}, float32's time over this", "≥", 1.6, ratio(ms[cases[0]], ms[case]))
    report.tables.append(table)


# --- llama


def generate(args: argparse.Namespace, model: tuple[Path, Path], tokens: int, threads: int, *more: str,
             prompt: str = "") -> tuple[float, str, int]:
    """Tokens per second, the text, and the tokens of the prompt."""
    done = run([program(args.build, "examples/llama/freqkv-llama"), "generate", "--model", model[0], "--tokenizer",
                model[1], "--tokens", tokens, "--threads", threads, "--prompt", "-", *more], prompt)
    said = re.search(r"(\d+) tokens in ([\d.]+) s \(([\d.]+) tokens/s\) after a prompt of (\d+)", done.stderr)
    if not said or int(said[1]) < 2:
        raise CannotRun("freqkv-llama says no \"N tokens in S s (X tokens/s) after a prompt of P\"")
    count, seconds = int(said[1]), float(said[2])
    # Whole tokens per second are coarse where these are few. The first token costs no forward pass.
    rate = count / seconds if seconds >= 1 else float(said[3])
    return rate * (count - 1) / count, done.stdout, int(said[4])


def generate_with_peer(args: argparse.Namespace, model: tuple[Path, Path], threads: int) -> tuple[float, str]:
    command = [args.peer, model[0], "-z", model[1], "-t", "0", "-n", args.tokens]
    done = run(command, OMP_NUM_THREADS=str(threads))
    said = re.search(r"achieved tok/s: (\d+\.?\d*)", done.stderr)
    if not said or not float(said[1]) > 0:
        raise CannotRun(f"{args.peer.name} prints no \"achieved tok/s: X\"")
    return float(said[1]), done.stdout


def compare_models(args: argparse.Namespace, models: list[tuple[Path, Path]], report: Report) -> None:
    table = Table(f"Greedy decoding of {args.tokens} tokens, tokens per second",
                  ["model", "threads", "freqkv-llama, best", "median", "llama2.c, best", "median", "best over best",
                   "median over median", "same text"])
    for model in models:
        for threads in args.threads:
            say(f"llama: {model[0].name}, threads {threads}")
            own, other = [], []
            for _ in range(args.rounds):
                own.append(generate(args, model, args.tokens, threads))
                other += [generate_with_peer(args, model, threads)] if args.peer else []
            rates, others = [rate for rate, *_ in own], [rate for rate, _ in other]
            row: list[Cell] = [f"{model[0].stem}, {model[0].stat().st_size / 1e6:.0f} MB", str(threads), max(rates),
                               median(rates), *["no --peer"] * 5]
            if args.peer:
                # Without the bytes that are no ASCII text: the programs differ in which of those they print.
                texts = {re.sub(r"[^ -~]", "", text) for text in (own[0][1], other[0][1])}
                best = ratio(max(rates), max(others))
                row[4:] = [max(others), median(others), best, ratio(median(rates), median(others)),
                           "yes" if len(texts) == 1 else "no"]
                report.target(f"{model[0].stem}, threads {threads}, tokens/s over llama2.c's", "≥", 1, best)
            table.rows.append(row)
    report.tables.append(table)


def compare_lengths(args: argparse.Namespace, model: tuple[Path, Path], report: Report) -> None:
    sentence = "Once upon a time there was a little girl. "
    options = (1, "--capacity", str(LONG_CAPACITY), "--ignore-eos")
    _, _, trial = generate(args, model, 2, *options, prompt=100 * sentence)
    prompts = [round(100 * length / trial) * sentence for length in (4096, 65536)]
    turns = []
    for turn in range(args.rounds):
        say(f"llama: long texts, round {turn + 1} of {args.rounds}")
        turns.append([generate(args, model, LONG_TOKENS, *options, prompt=prompt) for prompt in prompts])
    table = Table(f"{LONG_TOKENS} tokens after a long text, cache of {LONG_CAPACITY}, one thread, tokens per second",
                  ["model", "tokens before", "best", "median"])
    for column in zip(*turns):
        rates = [rate for rate, _, _ in column]
        table.rows.append([model[0].stem, str(column[0][2]), max(rates), median(rates)])
    report.tables.append(table)
    short, long = (row[2] for row in table.rows)
    report.target("tokens/s at 64K of context over that at 4K", "≥", 0.95, ratio(long, short))


def measure_llama(args: argparse.Namespace, report: Report) -> None:
    with tempfile.TemporaryDirectory() as folder:

        def make_model(name: str, sizes: dict[str, int]) -> tuple[Path, Path]:
            model = Path(folder, f"{name}.bin"), Path(folder, f"{name}-tokenizer.bin")
            run([program(args.build, "examples/llama/make-random-checkpoint"), *model,
                 *(f"--{size}={value}" for size, value in sizes.items())])
            return model

        models = [(args.model, args.tokenizer) if args.model.is_file() else make_model("random-small", {})]
        if args.random:
            models.append(make_model("random", BIG_MODEL))
        with report.problems_noted():
            compare_models(args, models, report)
        if args.long:
            compare_lengths(args, models[0], report)


# --- the run

SECTIONS = {"compression": measure_compression, "attention": measure_attention, "llama": measure_llama}


def machine(args: argparse.Namespace) -> Table:
    def first(pattern: str, *files: Path) -> str:
        text = "".join(file.read_text(errors="replace") for file in files if file.is_file())
        found = re.search(pattern, text, re.MULTILINE)
        return found[1].strip() if found else "unknown"

    caches = [" ".join(first("(.*)", entry / what) for what in ("level", "type", "size"))
              for entry in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*"))]
    compiler = list(args.build.glob("CMakeFiles/*/CMakeCXXCompiler.cmake"))
    identity = [first(rf'set\(CMAKE_CXX_COMPILER_{word} "(.*)"\)', *compiler) for word in ("ID", "VERSION")]
    identity.append(first(r"^CMAKE_BUILD_TYPE:\w+=(.*)$", args.build / "CMakeCache.txt"))
    rows: list[list[Cell]] = [["processor", first(r"^model name\s*:(.*)$", Path("/proc/cpuinfo"))],
                              ["cores, load at the start", f"{os.cpu_count()}, {os.getloadavg()[0]:.1f}"],
                              ["caches (level, type, size)", ", ".join(caches)],
                              ["compiler, version, build type", ", ".join(identity)]]
    libraries = ["numpy", "scipy"] * ("compression" in args.sections) + ["torch"] * ("attention" in args.sections)
    for name in libraries:
        module = import_or_none(name)
        rows.append([name, module.__version__ if module else "not installed"])
        if module and name == "numpy":
            blas = module.show_config(mode="dicts")["Build Dependencies"]["blas"]
            rows.append(["NumPy's BLAS", f"{blas['name']} {blas['version']}"])
    if "compression" in args.sections:
        try:
            version = (ctypes.c_char * 64).in_dll(ctypes.CDLL("libfftw3f.so.3"), "fftwf_version").value.decode()
        except (OSError, ValueError):
            version = "not installed"
        rows.append(["FFTW", version])
    if "llama" in args.sections:
        rows.append(["llama2.c", args.peer.name if args.peer else "no --peer"])
    return Table("Machine", ["what", "value"], rows)


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"compare.py: {message} (--help explains)\n")


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=[*SECTIONS, "all"])
    parser.add_argument("--build", type=Path, metavar="DIR", default=REPOSITORY / "build" / "release",
                        help="build tree [build/release]")
    parser.add_argument("--rounds", type=int, metavar="N", default=5, help="turns of freqkv and its peers [5]")
    parser.add_argument("--json", action="store_true", help="print the tables as one JSON object")
    llama = parser.add_argument_group("llama and all")
    llama.add_argument("--peer", type=Path, metavar="PATH", help="llama2.c's program (gcc -O3 -march=native -fopenmp "
                       "run.c -lm -o run); it is run as PATH MODEL -z TOKENIZER -t 0 -n N with OMP_NUM_THREADS set")
    llama.add_argument("--model", type=Path, metavar="FILE", help="llama2.c checkpoint [../shared/models/"
                       "stories260K.bin; where that is missing, one of its shape with random weights]")
    llama.add_argument("--tokenizer", type=Path, metavar="FILE", help="its tokenizer; to be given with --model")
    llama.add_argument("--tokens", type=int, metavar="N", default=512,
                       help="to generate; llama2.c ends at the model's context [512]")
    llama.add_argument("--threads", type=int, metavar="T", nargs="+", default=[1, 2], help="[1 2]")
    llama.add_argument("--random", action="store_true", help="also a model of 118 MB with random weights [in all]")
    llama.add_argument("--long", action="store_true", help="also freqkv-llama at 64K of context against 4K [in all]")
    args = parser.parse_args(arguments)
    if min(args.rounds, *args.threads) < 1 or args.tokens < 2:
        parser.error("--rounds and --threads must be at least 1, --tokens at least 2")
    if (args.model is None) != (args.tokenizer is None):
        parser.error("--model and --tokenizer belong together")
    for option in ("peer", "model", "tokenizer"):
        path = getattr(args, option)
        if path and not path.is_file():
            parser.error(f"--{option} {path}: no such file")
    args.peer = args.peer and args.peer.resolve()
    args.model, args.tokenizer = args.model or MODELS / "stories260K.bin", args.tokenizer or MODELS / "tok512.bin"
    args.sections = list(SECTIONS) if args.command == "all" else [args.command]
    args.random, args.long = args.random or args.command == "all", args.long or args.command == "all"
    return args


def main(arguments: list[str]) -> int:
    args = parse(arguments)
    report = Report([machine(args)])
    for section in args.sections:
        with report.problems_noted():
            SECTIONS[section](args, report)
    ceilings = Table("Ceilings, one thread, the best of the run", ["ceiling", "measured"])
    ceilings.rows = [[name, value] for name, value in report.ceilings.items()]
    targets = Table("Targets", ["target", "wanted", "measured", "met"], report.targets)
    tables = [table for table in (report.tables[0], ceilings, *report.tables[1:], targets) if table.rows]
    if args.json:
        print(json.dumps({"tables": [asdict(table) for table in tables], "problems": report.problems}, indent=2))
    else:
        print("\n".join(table.markdown() for table in tables), end="")
    return 1 if report.problems else 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
