# SPDX-License-Identifier: MIT
"""The experiments of docs/small-model.md, with the model in examples/llama/models.

Losses are always those of the same targets: texts of every length end at the same tokens of the test books, and the last
of their tokens count.
"""

from __future__ import annotations

import csv
import json
import math
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from experiments.lab import ROOT, Lab
from experiments.report import Report, write_whole

MODELS = Path("examples/llama/models")  # relative to ROOT, for adapters name their model
BASE = MODELS / "books-3m"

WINDOW = 256  # tokens that the model was trained on at once, and entries of a bounded cache
WINDOWS = [1, 2, 4, 8, 16, 64]
LONGEST = WINDOWS[-1] * WINDOW
STRIDE = LONGEST  # between the ends of two windows: 47 of them in the test texts
SCORED = 252  # targets of each window; two turns of a cache at ratio 0.5, so that all its states count alike

VOCABULARY = [
    "--model_type=bpe", "--vocab_size=4096", "--byte_fallback=true", "--character_coverage=0.9999",
    "--normalization_rule_name=identity", "--remove_extra_whitespaces=false", "--split_digits=true",
    "--unk_id=0", "--bos_id=-1", "--eos_id=1", "--pad_id=-1",
    "--input_sentence_size=400000", "--shuffle_input_sentence=true", "--max_sentence_length=16384", "--num_threads=2",
]  # fmt: skip
PRE_TRAINING = ["--tie", "--layers", "6", "--batch", "32", "--steps", "3000", "--learning-rate", "0.003"]
PRE_TRAINING += ["--valid-every", "250"]
RATE = ["--learning-rate", "0.0003", "--schedule", "cosine"]
FINE_TUNING = ["--length", str(4 * WINDOW), "--batch", "8", "--steps", "200", *RATE]
LONG_FINE_TUNING = ["--length", str(16 * WINDOW), "--batch", "2", "--steps", "100", *RATE]


@dataclass(frozen=True)
class Cache:
    """What becomes of a full cache."""

    policy: str
    ratio: float = 0.5
    recent: int = 0

    def options(self) -> list[str]:
        options = ["--policy", self.policy]
        if self.ratio != 0.5:
            options += ["--ratio", str(self.ratio)]
        if self.recent > 0:
            options += ["--recent", str(self.recent)]
        return options

    def name(self) -> str:
        return "-".join(option.removeprefix("--") for option in self.options()[1:])


FULL, LOCAL, LOW_PASS = Cache("full"), Cache("local-window"), Cache("low-pass")
UNSCALED = Cache("low-pass-unscaled")
RECENT = [LOW_PASS] + [Cache("low-pass", recent=WINDOW // part) for part in (8, 4, 2)]
SHIPPED = {LOW_PASS: MODELS / "books-3m-low-pass", LOCAL: MODELS / "books-3m-local-window"}


@dataclass(frozen=True)
class Measured:
    """The losses of the windows of one length."""

    losses: list[float] = field(repr=False)  # means of each window
    seconds: float

    @property
    def perplexity(self) -> float:
        return math.exp(sum(self.losses) / len(self.losses))


def compare(a: Measured, b: Measured) -> str:
    """By how much a's perplexity is above b's, with its standard error over the windows that both have."""
    differences = [x - y for x, y in zip(a.losses, b.losses, strict=True)]
    mean = sum(differences) / len(differences)
    variance = sum((d - mean) ** 2 for d in differences) / (len(differences) - 1)
    return f"{100 * (math.exp(mean) - 1):+.1f} ± {100 * math.exp(mean) * math.sqrt(variance / len(differences)):.1f} %"


class SmallModel(Lab):
    """Trains and measures what was not trained and measured before."""

    def __init__(self, work: Path, corpus: Path, report: Report, *, anew: bool = False):
        super().__init__(work, corpus, report)
        self.anew = anew  # makes what is shipped, and does not use it

    def tokens(self, split: str) -> Path:
        path = self.work / f"{split}.u16"
        if not path.exists():
            self.run("tokenize", "--tokenizer", self.tokenizer(), "--text", self.text(split), "--out", path)
        return path

    def tokenizer(self) -> Path:
        if not self.anew:
            return BASE / "tokenizer.model"
        path = self.work / "tokenizer.model"
        if not path.exists():
            # The model remembers these names, so they are relative.
            command = ["spm_train", f"--input={self.text('train').name}", "--model_prefix=tokenizer", *VOCABULARY]
            subprocess.run(command, cwd=self.work, check=True)
        return path

    def train(self, out: Path, *command: str | Path) -> Path:
        """Runs a training to its end, or the rest of it."""
        arguments = [*command, "--token-file", self.tokens("train"), "--valid", self.tokens("valid"), "--out", out]
        if (out / "training_state.safetensors").exists():
            arguments.append("--resume")
        elif len(read_losses(out)) == int(command[command.index("--steps") + 1]):
            return out
        else:
            shutil.rmtree(out, ignore_errors=True)  # stopped before there was anything to go on from
        self.run(*arguments)
        return out

    def adapter(self, cache: Cache, tuning: list[str] = FINE_TUNING) -> Path:
        name = cache.name()
        if tuning != FINE_TUNING:
            name += "-long"
        elif cache in SHIPPED and not self.anew:
            return ROOT / SHIPPED[cache]
        return self.train(self.work / "adapters" / name, "finetune", "--model", BASE, *cache.options(), *tuning)

    def perplexity(self, cache: Cache, windows: int, tuned: Cache | None = None) -> Measured:
        """Of the last targets of texts of so many windows, read through `cache` with the adapter made for `tuned`."""
        length = windows * WINDOW
        arguments = ["perplexity", "--model", BASE, *cache.options(), "--token-file", self.tokens("test")]
        arguments += ["--token-format", "u16", "--window", str(length), "--stride", str(STRIDE)]
        arguments += ["--skip", str(LONGEST - length), "--score-last", str(SCORED)]
        if tuned is not None:
            arguments += ["--adapter", self.adapter(tuned)]
        made_for = tuned.name() if tuned else "none"
        result = self.measure(f"{cache.name()}, adapter {made_for}, {windows} windows", *arguments)
        return Measured(result["nll"], result["seconds"])


def read_losses(training: Path) -> list[float]:
    """Of each step; none of a training that saved nothing."""
    path = training / "loss.csv"
    if not path.exists():
        return []
    with path.open() as file:
        return [float(row["loss"]) for row in csv.DictReader(file)]


WINDOW_AXIS = ["set logscale x 2", "set xrange [0.9:72]", "set xtics (" + ", ".join(f"'{w}' {w}" for w in WINDOWS) + ")"]


# The experiments


def context(lab: SmallModel) -> None:
    """Perplexity against the length of the text (the paper's Table 1), and a full cache after fine-tuning through
    the compressed one (its Figure 5)."""
    best = RECENT[2]
    variants = {
        "full cache": (FULL, None),
        "full cache (tuned)": (FULL, FULL),
        "local window": (LOCAL, None),
        "local window (tuned)": (LOCAL, LOCAL),
        "FreqKV": (LOW_PASS, None),
        "FreqKV (tuned)": (LOW_PASS, LOW_PASS),
        f"FreqKV + recent {best.recent}": (best, None),
        f"FreqKV + recent {best.recent} (tuned)": (best, best),
    }
    measured = {name: [lab.perplexity(cache, w, tuned) for w in WINDOWS] for name, (cache, tuned) in variants.items()}
    rows = [[name, *(m.perplexity for m in list_)] for name, list_ in measured.items()]
    head = ["cache"] + [f"{w}x" for w in WINDOWS]
    lab.report.write_csv("context", ["windows", *measured], [[w, *(m[i].perplexity for m in measured.values())]
                                                  for i, w in enumerate(WINDOWS)])  # fmt: skip
    lab.report.write_table("context", head, rows)
    lab.report.draw("context", "length of the text, in windows of 256 tokens", "perplexity", *WINDOW_AXIS, "set logscale y")
    bounded = [i + 2 for i, (cache, _) in enumerate(variants.values()) if cache != FULL]
    lab.report.draw("context-bounded", "length of the text, in windows of 256 tokens", "perplexity", *WINDOW_AXIS,
                    source="context", columns=bounded)  # fmt: skip

    four, longest = WINDOWS.index(4), len(WINDOWS) - 1
    claims = [
        ["FreqKV at 4x: tuned against not tuned", compare(measured["FreqKV (tuned)"][four], measured["FreqKV"][four])],
        ["FreqKV (tuned): 64x against 4x", compare(measured["FreqKV (tuned)"][longest], measured["FreqKV (tuned)"][four])],
    ]
    for name in ("FreqKV", f"FreqKV + recent {best.recent}"):
        against = compare(measured[f"{name} (tuned)"][four], measured["local window (tuned)"][four])
        claims.append([f"{name} against the local window at 4x, both tuned", against])
    lab.report.write_table("claims", ["", "perplexity"], claims)

    five = {
        "compressed": [lab.perplexity(LOW_PASS, w, LOW_PASS) for w in WINDOWS],
        "full": [lab.perplexity(FULL, w, LOW_PASS) for w in WINDOWS],
    }
    lab.report.write_csv("full-cache", ["windows", *(f"{k} cache" for k in five)],
              [[w, *(m[i].perplexity for m in five.values())] for i, w in enumerate(WINDOWS)])  # fmt: skip
    lab.report.write_table("full-cache", head, [[f"{k} cache", *(m.perplexity for m in v)] for k, v in five.items()])
    lab.report.draw("full-cache", "length of the text, in windows of 256 tokens", "perplexity", *WINDOW_AXIS,
                    "set logscale y")  # fmt: skip


def ratio(lab: SmallModel) -> None:
    """Perplexity and time against the ratio (the paper's Figure 4)."""
    rows = []
    for value in (0.1, 0.25, 0.5, 0.75):
        cache = Cache("low-pass", ratio=value)
        plain = [lab.perplexity(cache, w) for w in (4, 16)]
        tuned = [lab.perplexity(cache, w, cache) for w in (4, 16)]
        rows.append([str(value), *(m.perplexity for m in plain + tuned), tuned[1].seconds])
    head = ["ratio", "4x", "16x", "4x (tuned)", "16x (tuned)", "seconds for 16x"]
    lab.report.write_csv("ratio", head, rows)
    lab.report.write_table("ratio", head, rows)
    lab.report.draw("ratio", "part of the span that a compression keeps", "perplexity", "set xrange [0:0.85]",
                    columns=[2, 3, 4, 5])  # fmt: skip
    lab.report.draw("ratio-time", "part of the span that a compression keeps", "seconds", "set xrange [0:0.85]",
                    "set yrange [0:]", source="ratio", columns=[6])  # fmt: skip


def recent(lab: SmallModel) -> None:
    """Perplexity against the size of the recent part."""
    rows = []
    for cache in RECENT:
        plain = [lab.perplexity(cache, w) for w in (4, 64)]
        tuned = [lab.perplexity(cache, w, cache) for w in (4, 64)]
        rows.append([str(cache.recent), *(m.perplexity for m in plain + tuned)])
    head = ["recent entries of 256", "4x", "64x", "4x (tuned)", "64x (tuned)"]
    lab.report.write_csv("recent", head, rows)
    lab.report.write_table("recent", head, rows)
    lab.report.draw("recent", "recent entries of 256 that are kept exact", "perplexity", "set xrange [-5:140]")


def rescaling(lab: SmallModel) -> None:
    """Training loss with and without the factor that restores the amplitude (the paper's Figure 6), on texts with 7 and
    with 31 compressions."""
    names = ["with the factor", "without"]
    table = []
    for tuning, file in ((FINE_TUNING, "rescaling"), (LONG_FINE_TUNING, "rescaling-long")):
        losses = [read_losses(lab.adapter(cache, tuning)) for cache in (LOW_PASS, UNSCALED)]
        lab.report.write_csv(file, ["step", *names], [[i + 1, *pair] for i, pair in enumerate(zip(*losses, strict=True))])
        lab.report.draw(file, "step", "training loss", style="lines linewidth 1.5")
        for name, list_ in zip(names, losses, strict=True):
            parts = (list_[:1], list_[:10], list_[-50:])
            length = tuning[tuning.index("--length") + 1]
            table.append([f"{length} tokens, {name}", *(f"{sum(part) / len(part):.3f}" for part in parts)])
    lab.report.write_table("rescaling", ["training loss", "first step", "first 10 steps", "last 50 steps"], table)


def decoding(lab: SmallModel) -> None:
    """Time of one token after the other against the length (the paper's Figure 3)."""
    rows = []
    for windows in WINDOWS + [128]:
        tokens = windows * WINDOW
        row: list = [tokens]
        for cache in (FULL, LOW_PASS):
            arguments = ["perplexity", "--model", BASE, *cache.options(), "--token-file", lab.tokens("test")]
            arguments += ["--token-format", "u16", "--limit", str(tokens), "--prefill-chunk", "1"]
            result = lab.measure(f"decoding, {cache.name()}, {tokens} tokens", *arguments)
            row += [result["seconds"], result["cache_bytes"] / 2**20]
        rows.append(row)
    lab.report.write_csv("decoding", ["tokens", "full cache", "FreqKV"], [[r[0], r[1], r[3]] for r in rows])
    lab.report.draw("decoding", "tokens", "seconds")
    head = ["tokens", "full cache: seconds", "MiB", "FreqKV: seconds", "MiB"]
    lab.report.write_table("decoding", head, [[f"{r[0]:,}", *(f"{x:.2f}" for x in r[1:])] for r in rows])


def training(lab: SmallModel) -> None:
    """Time and memory of fine-tuning against the length of its texts (the paper's Table 2), on one thread."""
    steps, step_tokens = 2, LONGEST
    rows = []
    for windows in WINDOWS:
        length = windows * WINDOW
        row: list = [length]
        for cache in (FULL, LOW_PASS):
            name = f"training, {cache.name()}, {length} tokens"
            out = lab.work / "timed"
            shutil.rmtree(out, ignore_errors=True)
            result = lab.measure(name, "finetune", "--model", BASE, *cache.options(), "--token-file",
                                 lab.tokens("valid"), "--length", str(length), "--batch", str(step_tokens // length),
                                 "--steps", str(steps), "--threads", "1", "--out", out)  # fmt: skip
            row += [result["seconds"] / steps, result["peak_memory_bytes"] / 2**20]
        rows.append(row)
    head = ["tokens of a text", "full cache: seconds", "MiB", "FreqKV: seconds", "MiB"]
    lab.report.write_csv("training", ["tokens", "full cache", "FreqKV"], [[r[0], r[1], r[3]] for r in rows])
    lab.report.write_csv("training-memory", ["tokens", "full cache", "FreqKV"], [[r[0], r[2], r[4]] for r in rows])
    lab.report.write_table("training", head, [[f"{r[0]:,}", f"{r[1]:.2f}", f"{r[2]:.0f}", f"{r[3]:.2f}", f"{r[4]:.0f}"]
                                   for r in rows])  # fmt: skip
    lab.report.draw("training", "tokens of a text", f"seconds for {step_tokens} tokens", "set logscale x 2")


def endless(lab: SmallModel) -> None:
    """Loss along a million tokens that are read as one text, with some 8,000 compressions."""
    tokens, stretch = 1_000_000, 125_000
    ids = lab.work / "endless.u16"
    write_whole(ids, lab.tokens("test").read_bytes() + lab.tokens("valid").read_bytes())
    losses = {}
    best = RECENT[2]
    for cache, name in ((LOCAL, "local window"), (LOW_PASS, "FreqKV"), (best, f"FreqKV + recent {best.recent}")):
        result = lab.measure(f"endless, {cache.name()}", "perplexity", "--model", BASE, *cache.options(), "--token-file",
                             ids, "--token-format", "u16", "--limit", str(tokens))  # fmt: skip
        nll = result["nll"]
        losses[name] = [sum(part) / len(part) for part in (nll[i : i + stretch] for i in range(0, len(nll), stretch))]
    ends = [min((i + 1) * stretch, tokens) for i in range(len(losses["FreqKV"]))]
    lab.report.write_csv("endless", ["tokens", *losses], [[end, *row] for end, *row in zip(ends, *losses.values())])
    head = ["cache", *(f"to {end // 1000}k" for end in ends)]
    rows = [[name, *(math.exp(x) for x in of)] for name, of in losses.items()]
    behind = [b - a for a, b in zip(losses["local window"], losses["FreqKV"])]
    rows.append(["FreqKV over the window, nats", *(f"{x:+.3f}" for x in behind)])
    lab.report.write_table("endless", head, rows)


def interpolation(lab: SmallModel) -> None:
    """Caches of two windows, whose positions the model has not seen, with rotary frequencies stretched to fit them."""
    rows = []
    scalings = {"as trained": None, "interpolated": {"rope_type": "linear", "factor": 2.0},
                "YaRN": {"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": WINDOW}}  # fmt: skip
    for name, scaling in scalings.items():
        model = lab.work / "stretched" / name
        if not model.exists():
            shutil.copytree(ROOT / BASE, model)
            config = json.loads((model / "config.json").read_text())
            config["rope_scaling"] = scaling
            (model / "config.json").write_text(json.dumps(config))
        for size in (WINDOW, 2 * WINDOW):
            row = [f"{name}, {size} entries"]
            for cache in (LOCAL, LOW_PASS, Cache("low-pass", recent=size // 4)):
                result = lab.measure(f"{name}, {size} entries, {cache.name()}", "perplexity", "--model", model,
                                     *cache.options(), "--capacity", str(size), "--token-file", lab.tokens("test"),
                                     "--token-format", "u16", "--window", str(16 * WINDOW), "--stride", str(STRIDE),
                                     "--skip", str(LONGEST - 16 * WINDOW), "--score-last", str(SCORED))  # fmt: skip
                row.append(Measured(result["nll"], result["seconds"]).perplexity)
            rows.append(row)
    head = ["rotary frequencies", "local window", "FreqKV", "FreqKV + a recent quarter"]
    lab.report.write_table("interpolation", head, rows)


def model(lab: SmallModel) -> None:
    """The tokenizer, the pre-trained model and its two adapters."""
    maker = SmallModel(lab.work / "model", lab.corpus, lab.report, anew=True)
    base = maker.train(maker.work / "base", "train", "--tokenizer", maker.tokenizer(), *PRE_TRAINING)
    install(base, BASE)
    for cache, place in SHIPPED.items():
        install(maker.adapter(cache), place)
    for outdated in ("measured", "adapters"):
        shutil.rmtree(lab.work / outdated, ignore_errors=True)


def install(training: Path, place: Path) -> None:
    (ROOT / place).mkdir(parents=True, exist_ok=True)
    for path in training.iterdir():
        if path.suffix in (".safetensors", ".json", ".model", ".csv"):
            shutil.copy(path, ROOT / place / path.name)


EXPERIMENTS = [context, ratio, recent, endless, interpolation, rescaling, decoding, training]


