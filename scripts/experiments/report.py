# SPDX-License-Identifier: MIT
"""Where results go: CSV files and pictures into a directory, tables into a page or to standard output."""

from __future__ import annotations

import csv
import io
import re
import subprocess
from collections.abc import Callable
from pathlib import Path


NOT_MEASURED = "–"


def write_whole(path: Path, content: bytes) -> None:
    temporary = path.with_name(path.name + ".new")
    temporary.write_bytes(content)
    temporary.rename(path)


def digits(value: float) -> str:
    return f"{value:.2f}" if value < 1000 else f"{value:,.0f}"


class Report:
    def __init__(self, results: Path, page: Path | None, measures: bool = True):
        self.results, self.page, self.measures = results, page, measures
        results.mkdir(parents=True, exist_ok=True)

    def write_csv(self, name: str, head: list[str], rows: list[list]) -> None:
        with (self.results / f"{name}.csv").open("w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(head)
            writer.writerows(rows)

    def write_table(self, name: str, head: list[str], rows: list[list]) -> None:
        """Replaces what stands between the marks of that name in the page. Rows without a measured cell are left out."""
        cells = [[cell if isinstance(cell, str) else digits(cell) for cell in row] for row in rows]
        cells = [row for row in cells if set(row[1:]) - {NOT_MEASURED, ""}]
        lines = ["| " + " | ".join(row) + " |" for row in [head, ["---"] + ["---:"] * (len(head) - 1), *cells]]
        if self.page is None:
            print(f"\n{name}\n" + "\n".join(lines), flush=True)
        else:
            self.put(f"table {name}", "\n".join(lines) if cells else "Not measured yet.")

    def write_picture(self, name: str, what: str) -> None:
        """Shows a picture between the marks of that name in the page, if there is one."""
        if self.page is not None:
            there = (self.results / f"{name}.svg").exists()
            self.put(f"picture {name}", f"![{what}](results/{name}.svg)" if there else "Not measured yet.")

    def put(self, name: str, text: str) -> None:
        begin, end = f"<!-- {name} -->\n", "<!-- end -->"
        pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
        page, count = pattern.subn(lambda _: begin + text + "\n" + end, self.page.read_text())
        if count != 1:
            raise SystemExit(f"{self.page} has no place for the {name}")
        self.page.write_text(page)

    def draw(self, name: str, x: str, y: str, *settings: str, source: str | None = None,
             columns: list[int] | None = None,
             style: str = "linespoints linewidth 2 pointtype 7 pointsize 0.5") -> None:  # fmt: skip
        """A line for each of the columns of a CSV file [all behind the first]. Their names may have no comma."""
        path = self.results / f"{source or name}.csv"
        with path.open() as file:
            columns = columns or list(range(2, len(next(csv.reader(file))) + 1))
        pairs = ["#444444", "#aaaaaa", "#c0392b", "#e59866", "#1f618d", "#5dade2", "#117a65", "#58d68d"]
        colours = ["#444444", "#1f618d"] if len(columns) <= 2 else [pairs[column - 2] for column in columns]
        curves = [f"'{path}' using 1:{column} with {style} linecolor rgb '{colour}' title columnheader({column})"
                  for column, colour in zip(columns, colours)]  # fmt: skip
        commands = [
            "set terminal svg size 760,440 font 'sans,13' background rgb 'white'",
            f"set output '{self.results / name}.svg'",
            "set datafile separator ','",
            "set key outside right top noenhanced spacing 1.2",
            "set grid linecolor rgb '#dddddd'",
            f"set xlabel '{x}'",
            f"set ylabel '{y}'",
            *settings,
            "plot " + ", ".join(curves),
        ]
        subprocess.run(["gnuplot"], input="\n".join(commands), text=True, check=True)


class Cells:
    """A CSV file of what was measured, one cell a row. What it has already is not measured again."""

    def __init__(self, path: Path, keys: list[str], values: list[str], measures: bool = True):
        self.path, self.keys, self.values, self.measures = path, keys, values, measures
        self.rows: dict[tuple[str, ...], dict[str, str]] = {}
        if path.exists():
            with path.open() as file:
                for row in csv.DictReader(file):
                    self.rows[tuple(row[key] for key in keys)] = row

    def get(self, key: tuple, measure: Callable[[], dict[tuple, dict]]) -> dict[str, str] | None:
        """The cell of that key. `measure` gives it, and may give others, too. None if nothing is to be measured."""
        name = tuple(str(part) for part in key)
        if name not in self.rows and not self.measures:
            return None
        if name not in self.rows:
            for found, values in measure().items():
                parts = [str(part) for part in found]
                self.rows[tuple(parts)] = dict(zip(self.keys, parts)) | {k: f"{v:.6g}" for k, v in values.items()}
            text = io.StringIO()
            writer = csv.DictWriter(text, self.keys + self.values, lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.rows.values())
            write_whole(self.path, text.getvalue().encode())
        return self.rows[name]
