# SPDX-License-Identifier: MIT
"""Where experiments are made: the program, the books, and what was measured before."""

from __future__ import annotations

import json
import lzma
import subprocess
import sys
from pathlib import Path

from experiments.report import Report, write_whole

ROOT = Path(__file__).resolve().parent.parent.parent
PROGRAM = ROOT / "build/release/examples/llama/freqkv-llama"


class Lab:
    def __init__(self, work: Path, corpus: Path, report: Report, *, quick: bool = False):
        self.work, self.corpus, self.report, self.quick = work, corpus, report, quick
        work.mkdir(parents=True, exist_ok=True)

    def run(self, *arguments: str | Path, program: Path = PROGRAM) -> None:
        print(program.name, *arguments, file=sys.stderr, flush=True)
        done = subprocess.run([program, *arguments], cwd=ROOT, stdout=sys.stderr)
        if done.returncode != 0:
            raise SystemExit(f"{program.name} {arguments[0]} ended with status {done.returncode}; started again, this "
                             "goes on")  # fmt: skip

    def text(self, split: str) -> Path:
        """All of its books."""
        path = self.work / f"{split}.txt"
        if not path.exists():
            write_whole(path, "".join(self.books(split)).encode())
        return path

    def books(self, split: str) -> list[str]:
        text = lzma.decompress((self.corpus / f"{split}.txt.xz").read_bytes()).decode()
        return text.removeprefix("\x1e").split("\x1e")

    def measure(self, name: str, *arguments: str | Path, program: Path = PROGRAM) -> dict:
        """What the program writes as JSON."""
        path = self.work / "measured" / f"{name}.json"
        path.parent.mkdir(exist_ok=True)
        if not path.exists():
            resume = ["--resume"] if path.with_suffix(".json.partial").exists() else []
            self.run(*arguments, "--json", path, *resume, program=program)
        return json.loads(path.read_text())
