# SPDX-License-Identifier: MIT
"""The experiment of docs/engines.md: SmolLM2-135M-Instruct on an unmodified libllama, by freqkv-llama-cpp."""

from __future__ import annotations

import math
import os
import re
import statistics
import subprocess
import sys
from pathlib import Path

from experiments.lab import PROGRAM, ROOT
from experiments.real_model import BOOKS, MODEL, RealModel, with_error
from experiments.report import digits

ON_LIBLLAMA = ROOT / "build/release/examples/llama_cpp/freqkv-llama-cpp"
CAPACITY = 1024
TOKENS = 65_536  # of a book
POLICIES = {
    "low-pass": "low-pass --ratio 0.5",
    "key-diff": "key-diff --ratio 0.5 --recent 128",
    "context shift": "local-window --ratio 0.5",
    "local window": "local-window --ratio 0.9",
}


def libllama(lab: RealModel) -> None:
    """A long book, passkeys and rates with a bounded cache in llama.cpp."""
    book(lab)
    rates(lab)
    passkeys(lab)


def float_model(lab: RealModel) -> Path:
    """The same weights in F32, with which both programs compute alike: quantised ones llama.cpp multiplies with 8-bit
    activations."""
    path = lab.work / "smollm2-f32.gguf"
    if path.exists():
        return path
    try:
        import gguf
    except ImportError:
        raise SystemExit("gguf is missing, of llama.cpp's authors; pip install gguf numpy") from None
    found = subprocess.run([PROGRAM, "fetch", MODEL], check=True, capture_output=True, text=True).stdout
    reader = gguf.GGUFReader(re.search(r" is in (.*\.gguf)", found)[1])
    unfinished = path.with_suffix(".new")
    writer = gguf.GGUFWriter(unfinished, reader.fields["general.architecture"].contents())
    for field in reader.fields.values():
        if not field.name.startswith(("GGUF.", "general.architecture", "general.file_type")):
            array = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
            writer.add_key_value(field.name, field.contents(), field.types[0], sub_type=array)
    for tensor in reader.tensors:
        shape = [int(size) for size in reversed(tensor.shape)]
        writer.add_tensor(tensor.name, gguf.quants.dequantize(tensor.data, tensor.tensor_type).reshape(shape))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    unfinished.rename(path)
    return path


def run(program: Path, *arguments: str | Path) -> tuple[str, int]:
    """What it says on standard error, and the most memory that it had, in bytes."""
    print(program.name, *arguments, file=sys.stderr, flush=True)
    with subprocess.Popen([program, *map(str, arguments)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                          text=True, errors="replace") as process:  # fmt: skip
        said = process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(f"{program.name} {arguments[0]}: {said.strip()}")
    return said, usage.ru_maxrss * 1024


def book(lab: RealModel) -> None:
    """Perplexity of a long text; the first rows with weights in F32, in both programs."""
    cells = lab.cells("libllama-book", ["program", "weights", "policy", "type", "tokens"], ["loss", "bytes", "seconds"])
    kinds = [(PROGRAM, "F32", "low-pass", "f32"), (ON_LIBLLAMA, "F32", "low-pass", "f32"),
             (ON_LIBLLAMA, "F32", "low-pass", "f16"), *((ON_LIBLLAMA, "Q4_1", policy, "f16") for policy in POLICIES)]  # fmt: skip
    rows = []
    for program, weights, policy, kind in kinds:

        def measure() -> dict:
            name = f"{program.name}, {weights}, {policy}, {kind}, {TOKENS} tokens"
            model = MODEL if weights == "Q4_1" else float_model(lab)
            told = lab.measure(name, "perplexity", "--model", model, "--text", lab.book("test", BOOKS["Dracula"]), "--limit",
                               str(TOKENS), "--capacity", str(CAPACITY), "--cache-type", kind, "--policy",
                               *POLICIES[policy].split(), program=program)  # fmt: skip
            values = {"loss": statistics.fmean(told["nll"][CAPACITY:]),
                      "bytes": told["cache_bytes"] + told["bookkeeping_bytes"], "seconds": told["seconds"]}  # fmt: skip
            return {(program.name, weights, policy, kind, TOKENS): values}

        found = cells.get((program.name, weights, policy, kind, TOKENS), measure)
        if found is not None:
            rows.append([program.name, weights, f"{policy}, {kind}", f"{math.exp(float(found['loss'])):.4f}",
                         f"{float(found['bytes']) / 2**20:.1f}"])  # fmt: skip
    lab.report.write_table("libllama-book", ["program", "weights", "cache", "perplexity", "MiB"], rows)


def passkeys(lab: RealModel) -> None:
    cells = lab.cells("libllama-passkey", ["policy", "type", "length", "samples"], ["score", "score_error"])
    lengths = {4 * CAPACITY: 10, 16 * CAPACITY: 3}
    rows = []
    for policy, words in POLICIES.items():
        row = [policy]
        for length, samples in lengths.items():

            def measure() -> dict:
                told = lab.measure(f"libllama, passkey, {policy}, {length} tokens, {samples} samples", "evaluate",
                                   "passkey", "--model", MODEL, "--length", str(length), "--samples", str(samples),
                                   "--capacity", str(CAPACITY), "--cache-type", "f16", "--policy", *words.split(),
                                   program=ON_LIBLLAMA)  # fmt: skip
                result = told["results"][0]
                values = {"score": 100 * result["score"], "score_error": 100 * result["score_error"]}
                return {(policy, "f16", length, samples): values}

            row.append(with_error(cells.get((policy, "f16", length, samples), measure), "score"))
        rows.append(row)
    head = [f"passkey, {CAPACITY} entries", *(f"{length} tokens, {samples} samples" for length, samples in lengths.items())]
    lab.report.write_table("libllama-passkey", head, rows)


def rates(lab: RealModel) -> None:
    """Of reading a text and of writing behind it, and the memory of the process."""
    cells = lab.cells("libllama-rates", ["cache", "length"], ["reading", "writing", "bytes"])
    rows = []
    for length in (8192, 32_768):
        for cache, words in (("full", "full"), ("low-pass, 1024", f"low-pass --capacity {CAPACITY}")):

            def measure() -> dict:
                prompt = lab.work / f"prompt-{length}.txt"
                text = lab.book("test", BOOKS["Dracula"]).read_text()
                prompt.write_text(text[: len(text) * length // len(lab.tokens(lab.book("test", BOOKS["Dracula"]), 10**9))])
                said, bytes_ = run(ON_LIBLLAMA, "generate", "--model", MODEL, "--prompt-file", prompt, "--tokens", "64",
                                   "--ignore-eos", "--cache-type", "f16", "--policy", *words.split())  # fmt: skip
                told = re.search(r"(\d+) tokens in ([\d.]+) s .* after a prompt of (\d+) \(([\d.]+) s\)", said)
                values = {"reading": int(told[3]) / float(told[4]), "writing": int(told[1]) / float(told[2]),
                          "bytes": bytes_}
                return {(cache, length): values}

            found = cells.get((cache, length), measure)
            if found is not None:
                rows.append([f"{cache}", f"{length:,}", digits(float(found["reading"])), digits(float(found["writing"])),
                             f"{float(found['bytes']) / 2**20:.0f}"])  # fmt: skip
    head = ["cache", "tokens read", "read a second", "then written a second", "MiB of the process"]
    lab.report.write_table("libllama-rates", head, rows)
