# SPDX-License-Identifier: MIT
"""The experiments of docs/results.md, with SmolLM2-135M-Instruct.

All bounded caches take as many bytes: keys, values and what is kept beside them, of all layers together. What was
measured stands in docs/results/*.csv, one cell a row, with its number of samples, and is not measured again.
"""

from __future__ import annotations

import json
import math
import shutil
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from random import Random

from experiments.lab import PROGRAM, ROOT, Lab
from experiments.report import NOT_MEASURED, Cells, Report, digits, write_whole

sys.path.append(str(ROOT / "bench"))
import cache_types  # noqa: E402
import evaluation  # noqa: E402

MODEL = "smollm2"
BUDGET = 12_533_760  # 512 entries in 16 bits for each head, and what is kept beside them
TASKS = ["passkey", "needle", "niah_single_1"]  # at which the full cache is above 50
OTHER_TASKS = ["niah_multikey_2", "niah_multikey_3", "vt", "cwe", "fwe"]
BOOKS = {"Dracula": 2, "Germinal": 3}  # of test.txt.xz
CALIBRATION = 1  # of valid.txt.xz
FULL, WINDOW, LOW_PASS, MEANS = "full", "local window", "low-pass", "means of attention"
CALIBRATED = f"{MEANS}, calibrated"


@dataclass(frozen=True)
class Cache:
    """What becomes of a full cache, and how entries are stored."""

    name: str
    policy: str
    types: tuple[str, ...] = ("f16",)


CACHES = [
    Cache(FULL, "full"),
    Cache(WINDOW, "local-window --ratio 0.9 --positions text", ("f16", "q8", "q4")),
    Cache(LOW_PASS, "low-pass --ratio 0.5"),
    Cache(f"{LOW_PASS}, half exact", "low-pass --ratio 0.5 --recent {half}", ("f16", "q4")),
    Cache(MEANS, "h2o:mean=1 --recent 128 --positions text", ("f16", "q8", "q4")),
    Cache(CALIBRATED, "h2o:mean=1 --positions text --budgets", ("f16", "q8", "q4")),
    Cache("SnapKV", "snapkv --recent 128 --positions text"),
    Cache("PyramidKV", "snapkv --recent 128 --budget-by pyramid --positions text"),
    Cache("H2O", "h2o --recent 128 --positions text"),
    Cache("TOVA", "tova --recent 128 --positions text"),
    Cache("KeyDiff", "key-diff --recent 128 --positions text"),
    Cache("mean pooling", "mean --ratio 0.5 --recent {half}"),
    Cache("merging", "merge --ratio 0.5 --recent {half}"),
    Cache("SnapKV + low-pass", "snapkv+low-pass --recent 128"),
    Cache("H2O + low-pass", "h2o+low-pass --recent 128"),
    Cache("tiers of low-pass", "tiers --recent {half}"),
]
FEW = [(FULL, "f16"), (WINDOW, "f16"), (LOW_PASS, "f16"), (CALIBRATED, "q4")]

TUNING = ["--train", "q,k,v,o", "--length", "2048", "--capacity", "512", "--learning-rate", "2e-4",
          "--warmup", "5", "--schedule", "cosine", "--save-every", "5", "--seed", "1"]  # fmt: skip
TUNED = {
    LOW_PASS: "--policy low-pass --ratio 0.5 --recent 0",
    f"{LOW_PASS}, half exact": "--policy low-pass --ratio 0.5 --recent 256",
    WINDOW: "--policy local-window --ratio 0.5 --recent 0",
}


class RealModel(Lab):
    def __init__(self, work: Path, corpus: Path, report: Report, *, quick: bool = False):
        super().__init__(work, corpus, report, quick=quick)
        if report.measures:
            self.run("fetch", MODEL)
        self.budget = BUDGET // 2 if quick else BUDGET
        self.test_books = dict(list(BOOKS.items())[:1]) if quick else BOOKS
        self.caches = [(cache, kind) for cache in CACHES for kind in cache.types]
        if quick:
            self.caches = [pair for pair in self.caches if (pair[0].name, pair[1]) in FEW]

    def few(self) -> list[tuple[Cache, str]]:
        """What the longer measurements are made of."""
        return [pair for pair in self.caches if (pair[0].name, pair[1]) in FEW]

    def cells(self, name: str, keys: list[str], values: list[str]) -> Cells:
        return Cells(self.report.results / f"{name}.csv", keys, values, self.report.measures)

    def book(self, split: str, number: int) -> Path:
        """The beginning of a book, long enough for everything here."""
        path = self.work / f"{split}-{number}.txt"
        if not path.exists():
            books = self.books(split)
            write_whole(path, books[min(number, len(books) - 1)][:400_000].encode())
        return path

    def options(self, cache: Cache, kind: str) -> list[str]:
        """Of a cache of so many bytes."""
        options = ["--cache-type", kind, "--policy", *cache.policy.format(half=256 * self.budget // BUDGET).split()]
        if cache.name == CALIBRATED:
            options.append(str(self.budgets(kind)))
        elif cache.name != FULL:
            options += ["--budget", str(self.budget)]
        return options

    def budgets(self, kind: str) -> Path:
        path = self.work / f"budgets-{kind}.json"
        if not path.exists():
            self.run("calibrate", "--model", MODEL, "--text", self.book("valid", CALIBRATION), "--policy", "h2o:mean=1",
                     "--recent", "128", "--budget", str(self.budget), "--cache-type", kind, "--limit",
                     "2048" if self.quick else "16384", "--out", path)  # fmt: skip
        return path

    def evaluate(self, cache: Cache, kind: str, name: str, *arguments: str,
                 book: int = BOOKS["Dracula"]) -> tuple[dict, Path]:  # fmt: skip
        """The results as JSON, and the directory of the predictions."""
        out = self.work / "evaluated" / f"{name}, {cache.name}, {kind}"
        result = out.with_name(out.name + ".json")
        if not result.exists():
            out.parent.mkdir(exist_ok=True)
            resume = ["--resume"] if (out / "freqkv-evaluation.partial").exists() else []
            self.run("evaluate", *arguments, "--model", MODEL, "--text", self.book("test", book),
                     *self.options(cache, kind), "--exact=false", "--jobs", "2", "--out", out, "--json", result,
                     *resume)  # fmt: skip
        return json.loads(result.read_text()), out

    def tokens(self, path: Path, most: int) -> list[int]:
        ids = path.with_suffix(".ids")
        if not ids.exists():
            self.run("tokenize", "--model", MODEL, "--text", path, "--out", ids, "--token-format", "u32")
        words = memoryview(ids.read_bytes()).cast("I")
        return list(words[:most])

    def losses(self, name: str, tokens: list[int], *options: str) -> list[float]:
        """Of tokens 1, 2, …, in nats."""
        ids = self.work / "ids.txt"
        write_whole(ids, " ".join(map(str, tokens)).encode())
        return self.measure(name, "perplexity", "--model", MODEL, "--token-file", ids, "--exact=false", *options)["nll"]


def with_error(row: dict[str, str] | None, value: str, form: str = ".0f") -> str:
    return NOT_MEASURED if row is None else f"{float(row[value]):{form}} ± {float(row[value + '_error']):{form}}"


def scores(lab: RealModel, cells: Cells, cache: Cache, kind: str, task: str, length: int, samples: int) -> dict | None:
    def measure() -> dict:
        name = f"{task}, {length} tokens, {samples} samples"
        result, _ = lab.evaluate(cache, kind, name, task, "--length", str(length), "--samples", str(samples))
        found = result["results"][0]
        held = result["cache_bytes"] + result["bookkeeping_bytes"]
        values = {"score": 100 * found["score"], "score_error": 100 * found["score_error"], "bytes": held}
        return {(cache.name, kind, task, length, found["rows"]): values}

    return cells.get((cache.name, kind, task, length, samples), measure)


def task_cells(lab: RealModel) -> Cells:
    return lab.cells("tasks", ["cache", "type", "task", "length", "samples"], ["score", "score_error", "bytes"])


def abilities(lab: RealModel) -> None:
    """What the model finds with everything in reach."""
    cells, full = task_cells(lab), CACHES[0]
    samples, lengths = (2, [1024]) if lab.quick else (50, [2048, 4096])
    rows = [[task, *(with_error(scores(lab, cells, full, "f16", task, length, samples), "score") for length in lengths)]
            for task in TASKS + OTHER_TASKS]  # fmt: skip
    lab.report.write_table("abilities", ["full cache", *(f"{length} tokens" for length in lengths)], rows)


def tasks(lab: RealModel) -> None:
    """The tasks at which the full cache is of use, at equal bytes; the longer texts for a few caches."""
    cells = task_cells(lab)
    samples, lengths = (2, [1024]) if lab.quick else (50, [2048, 4096])
    rows = []
    for cache, kind in lab.caches:
        row = [f"{cache.name}, {kind}"]
        for length in lengths:
            asked = length == lengths[0] or (cache, kind) in lab.few()
            row += [with_error(scores(lab, cells, cache, kind, task, length, samples) if asked else None, "score")
                    for task in TASKS]  # fmt: skip
        rows.append(row)
    lab.report.write_table("tasks", ["cache", *(f"{task}, {length}" for length in lengths for task in TASKS)], rows)


def needles(lab: RealModel) -> None:
    """A map of lengths and depths for a few caches."""
    cells = lab.cells("needles", ["cache", "type", "length", "depth", "samples"], ["score"])
    sides = 3 if lab.quick else 8
    lengths = [(1024 if lab.quick else 4096) * (i + 1) // sides for i in range(sides)]
    samples = 1 if lab.quick else 3
    maps: dict[str, list[dict[str, str]]] = {}
    for cache, kind in lab.few():

        def measure() -> dict:
            _, out = lab.evaluate(cache, kind, f"needles, {sides} sides", "needle", "--length", *map(str, lengths),
                                  "--depths", str(sides), "--samples", str(samples))  # fmt: skip
            rows = evaluation.read(out)
            found = evaluation.cells(rows, ("length", "place"), "score")
            return {(cache.name, kind, length, f"{float(place):.3f}", samples): {"score": statistics.fmean(values)}
                    for (length, place), values in found.items()}  # fmt: skip

        for length in lengths:
            for i in range(sides):
                row = cells.get((cache.name, kind, length, f"{i / (sides - 1):.3f}", samples), measure)
                if row is not None:
                    maps.setdefault(f"{cache.name}, {kind}", []).append(
                        {"task": "needle", "length": row["length"], "place": row["depth"], "score": row["score"]})
    evaluation.draw_depths(lab.report.results / "needles.svg", maps)
    lab.report.write_picture("needles", "Needles found, by length and depth")


def passages(lab: RealModel) -> None:
    """The loss on a passage that comes again, by distance."""
    cells = lab.cells("passages", ["cache", "type", "distance", "samples"], ["loss", "loss_error"])
    distances = [256, 512, 1024] if lab.quick else [256, 512, 1024, 2048, 4096, 6000]
    samples = 2 if lab.quick else 8
    rows, lines = [], {}
    for cache, kind in lab.few():
        found = []
        for distance in distances:

            def measure() -> dict:
                result, _ = lab.evaluate(cache, kind, f"passage after {distance}, {samples} samples", "passage",
                                         "--distances", str(distance), "--samples", str(samples))  # fmt: skip
                values = {key: result["results"][0][key] for key in ("loss", "loss_error")}
                return {(cache.name, kind, distance, samples): values}

            found.append(cells.get((cache.name, kind, distance, samples), measure))
        rows.append([f"{cache.name}, {kind}", *(with_error(row, "loss", ".2f") for row in found)])
        lines[f"{cache.name}, {kind}"] = {d: (float(row["loss"]), float(row["loss_error"]))
                                          for d, row in zip(distances, found) if row is not None}  # fmt: skip
    lab.report.write_table("passages", ["passage again after", *map(str, distances)], rows)
    if lines := {name: points for name, points in lines.items() if points}:
        evaluation.draw_lines(lab.report.results / "passages.svg", {"a passage that comes again": lines}, "after tokens",
                              "loss per token", True)  # fmt: skip
    lab.report.write_picture("passages", "The loss on a passage against its distance")


def books(lab: RealModel) -> None:
    """Perplexity of two books, and how far from a full cache the predictions are."""
    cells = lab.cells("books", ["cache", "type", "book", "tokens"], ["loss", "divergence", "agreement"])
    tokens = 1024 if lab.quick else 8192
    rows = []
    for cache, kind in [pair for pair in lab.caches if pair[0].name in (FULL, WINDOW, LOW_PASS, CALIBRATED)]:
        row: list = [f"{cache.name}, {kind}"]
        for book, number in lab.test_books.items():

            def measure() -> dict:
                text = lab.book("test", number)
                name = f"{book}, {tokens} tokens, {cache.name}, {kind}"
                nll = lab.losses(name, lab.tokens(text, tokens), *lab.options(cache, kind))
                values = {"loss": statistics.fmean(nll[tokens // 8 - 1 :]), "divergence": 0, "agreement": 1}
                if cache.name != FULL:
                    result, _ = lab.evaluate(cache, kind, f"divergence, {book}, {tokens} tokens", "divergence",
                                             "--length", str(tokens), "--samples", "1", book=number)  # fmt: skip
                    values |= {key: result["results"][0][key] for key in ("divergence", "agreement")}
                return {(cache.name, kind, book, tokens): values}

            found = cells.get((cache.name, kind, book, tokens), measure)
            if found is None:
                row += 3 * [NOT_MEASURED]
            else:
                row += [digits(math.exp(float(found["loss"]))), f"{float(found['divergence']):.3f}",
                        f"{100 * float(found['agreement']):.1f} %"]  # fmt: skip
        rows.append(row)
    head = ["cache"] + [f"{book}: {what}" for book in lab.test_books for what in ("perplexity", "divergence", "same token")]
    lab.report.write_table("books", head, rows)


def kinds(lab: RealModel) -> None:
    """Perplexity of text that is all detail: code (this library's headers), and sums."""
    cells = lab.cells("kinds", ["cache", "type", "kind", "tokens"], ["loss"])
    tokens = 1024 if lab.quick else 8192
    random = Random(1)
    pairs = [(random.randrange(1000), random.randrange(1000)) for _ in range(4000)]
    texts = {"code": "\n".join(path.read_text() for path in sorted((ROOT / "include/freqkv").glob("*.hpp"))),
             "sums": "".join(f"{a} + {b} = {a + b}\n" for a, b in pairs)}  # fmt: skip
    names = (FULL, WINDOW, LOW_PASS, f"{LOW_PASS}, half exact", "SnapKV + low-pass", "H2O + low-pass", MEANS)
    rows = []
    for cache, kind in [pair for pair in lab.caches if pair[0].name in names and pair[1] == "f16"]:
        row = [f"{cache.name}, {kind}"]
        for name, text in texts.items():

            def measure() -> dict:
                path = lab.work / f"{name}.txt"
                write_whole(path, text.encode())
                nll = lab.losses(f"{name}, {tokens} tokens, {cache.name}, {kind}", lab.tokens(path, tokens),
                                 *lab.options(cache, kind))  # fmt: skip
                return {(cache.name, kind, name, tokens): {"loss": statistics.fmean(nll[tokens // 8 :])}}

            found = cells.get((cache.name, kind, name, tokens), measure)
            row.append(NOT_MEASURED if found is None else digits(math.exp(float(found["loss"]))))
        rows.append(row)
    lab.report.write_table("kinds", ["perplexity", *texts], rows)


def types(lab: RealModel) -> None:
    """Perplexity and recall against bytes, by storage type: bench/cache_types.py."""
    if not lab.report.measures:
        return lab.report.write_picture("cache-types", "Perplexity and recall against bytes")
    texts = [lab.book("test", number) for number in BOOKS.values()]
    command = [sys.executable, ROOT / "bench/cache_types.py", "--program", PROGRAM, "--model", MODEL,
               "--calibration", lab.book("valid", CALIBRATION), "--out", lab.report.results / "cache-types"]  # fmt: skip
    if lab.quick:
        runs = [["--texts", texts[0], "--tokens", "1024", "--score-from", "256", "--distance", "300", "--calibrate-on",
                 "2048", "--bytes", BUDGET, BUDGET // 2, "--types", "f16"]]  # fmt: skip
    else:
        full = ["--texts", *texts, "--tokens", "4096", "--bytes", BUDGET]
        runs = [full + [BUDGET // 2, 2 * BUDGET, "--types", "f16", "q8", "q4"], full + ["--types", "q2"]]
    for run in runs:
        subprocess.run([str(word) for word in command + run], check=True)
    lab.report.write_picture("cache-types", "Perplexity and recall against bytes")


def tuning(lab: RealModel) -> None:
    """Adapters trained through caches of 512 entries, and what they change."""
    steps, batch = (1, 1) if lab.quick else (125, 2)
    tokens = 1024 if lab.quick else 8192
    train = lab.work / "smollm2-train.u32"
    if not train.exists() and lab.report.measures:
        lab.run("tokenize", "--model", MODEL, "--text", lab.text("train"), "--out", train, "--token-format", "u32")
    cells = lab.cells("tuning", ["cache", "tuned through", "tokens trained on", "book", "tokens"], ["loss", "again"])
    rows = []
    for name, words in TUNED.items():
        trained = batch * 2048 * steps
        for adapter in (None, name):
            row: list = [name, NOT_MEASURED]
            for book, number in lab.test_books.items():

                def measure() -> dict:
                    options = [*words.split(), "--capacity", "512"]
                    if adapter is not None:
                        options += ["--adapter", str(tune(lab, name, train, steps, batch))]
                    ids = lab.tokens(lab.book("test", number), tokens + 3000)
                    label = f"{book}, {tokens} tokens, {name}, adapter {adapter}"
                    nll = lab.losses(label, ids[:tokens], *options)[len(ids[:tokens]) // 8 :]
                    part = ids[tokens : tokens + 600 + 1400]
                    part += part[600 : 600 + cache_types.policies.PASSAGE]
                    again = lab.losses(label + ", again", part, *options)[-cache_types.policies.PASSAGE :]
                    values = {"loss": statistics.fmean(nll), "again": statistics.fmean(again)}
                    return {(name, adapter or "none", trained if adapter else 0, book, tokens): values}

                found = cells.get((name, adapter or "none", trained if adapter else 0, book, tokens), measure)
                if found is None:
                    row += 2 * [NOT_MEASURED]
                else:
                    row[1] = "nothing" if adapter is None else f"{trained:,} tokens"
                    row += [digits(math.exp(float(found["loss"]))), float(found["again"])]
            rows.append(row)
    head = ["cache of 512 entries", "tuned on"] + [f"{book}{what}" for book in lab.test_books for what in ("", ": again")]
    lab.report.write_table("tuning", head, rows)


def tune(lab: RealModel, name: str, train: Path, steps: int, batch: int) -> Path:
    out = lab.work / "adapters" / f"{name}, {steps} steps"
    arguments = ["finetune", "--model", MODEL, "--token-file", train, "--token-format", "u32", "--out", out, *TUNING,
                 *TUNED[name].split(), "--batch", str(batch), "--steps", str(steps)]  # fmt: skip
    if (out / "training_state.safetensors").exists():
        arguments.append("--resume")
    elif (out / "adapter_model.safetensors").exists():
        return out
    else:
        shutil.rmtree(out, ignore_errors=True)  # stopped before there was anything to go on from
    lab.run(*arguments)
    return out


EXPERIMENTS = [abilities, types, tasks, books, passages, needles, kinds, tuning]
