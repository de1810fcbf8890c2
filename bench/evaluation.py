#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Pictures of what `freqkv-llama evaluate` found, from the directories that it wrote.

    bench/evaluation.py --out docs/results/evaluation results/full results/h2o results/window

draws what the directories have, each named by its last part: evaluation-depths.svg, a map of length and depth for each
(evaluate needle --length 512 1024 2048 --depths 8), evaluation-distances.svg, the loss on a passage that comes again
against its distance (evaluate passage), and evaluation-lengths.svg, the score of each task against its length. gnuplot
comes with `scripts/setup --results`.
"""

import argparse
import csv
import math
import statistics
import subprocess
from collections import defaultdict
from pathlib import Path

COLOURS = ["#000000", "#c0392b", "#1f618d", "#888888", "#1e8449", "#b9770e", "#6c3483", "#117a65"]
DEPTH_TASKS = ("needle", "passkey")


def read(directory: Path) -> list[dict[str, str]]:
    with (directory / "predictions.csv").open() as file:
        return list(csv.DictReader(file))


def mean_and_error(values: list[float]) -> tuple[float, float]:
    error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else 0.0
    return statistics.fmean(values), error


def cells(rows: list[dict[str, str]], keys: tuple[str, ...], value: str) -> dict[tuple[str, ...], list[float]]:
    found = defaultdict(list)
    for row in rows:
        if row.get(value):
            found[tuple(row[key] for key in keys)].append(float(row[value]))
    return found


def gnuplot(picture: Path, size: str, commands: list[str]) -> None:
    head = [f"set terminal svg size {size} font 'sans,12' background rgb 'white'", f"set output '{picture}'"]
    subprocess.run(["gnuplot"], input="\n".join(head + commands), text=True, check=True)
    print(picture)


def draw_depths(picture: Path, runs: dict[str, list[dict[str, str]]]) -> None:
    """A square for each length and depth: the share of answers that were right."""
    maps = {}
    for name, rows in runs.items():
        found = cells([row for row in rows if row["task"] in DEPTH_TASKS], ("length", "place"), "score")
        if len(found) > 1:
            maps[name] = found
    if not maps:
        return
    commands = [f"set multiplot layout 1,{len(maps)}", "set palette defined (0 '#c0392b', 0.5 '#f7dc6f', 1 '#1e8449')",
                "set cbrange [0:1]", "unset colorbox", "set key off", "set xlabel 'tokens'", "set ylabel 'depth'"]  # fmt: skip
    for name, found in maps.items():
        lengths = sorted({int(length) for length, _ in found})
        depths = sorted({float(depth) for _, depth in found})
        tics = ", ".join(f"'{length}' {i}" for i, length in enumerate(lengths))
        marks = ", ".join(f"'{depth:.2f}' {i}" for i, depth in enumerate(depths))
        data = "\n".join(f"{lengths.index(int(length))} {depths.index(float(depth))} {statistics.fmean(scores):.4f}"
                         for (length, depth), scores in found.items())  # fmt: skip
        commands += [f"$map << EOD\n{data}\nEOD", f"set title '{name}' noenhanced", f"set xtics ({tics})",
                     f"set ytics ({marks})", f"set xrange [-0.5:{len(lengths) - 0.5}]",
                     f"set yrange [{len(depths) - 0.5}:-0.5]", "plot $map using 1:2:3 with image pixels"]  # fmt: skip
    gnuplot(picture, f"{340 * len(maps)},340", commands + ["unset multiplot"])


def draw_lines(picture: Path, panels: dict[str, dict[str, dict[float, tuple[float, float]]]], x: str, y: str,
               logarithmic: bool) -> None:  # fmt: skip
    """For each panel, by its title, a line with errors for each run."""
    names = list(dict.fromkeys(name for lines in panels.values() for name in lines))
    commands = [f"set multiplot layout 1,{len(panels)}", "set grid linecolor rgb '#dddddd'", f"set xlabel '{x}'",
                f"set ylabel '{y}'", "set key below noenhanced", "set yrange [0:*]"]  # fmt: skip
    if logarithmic:
        commands.append("set logscale x 2")
    for number, (title, lines) in enumerate(panels.items()):
        curves = []
        for i, (name, points) in enumerate(lines.items()):
            block = "\n".join(f"{at} {mean} {error}" for at, (mean, error) in sorted(points.items()))
            commands.append(f"$d{number}_{i} << EOD\n{block}\nEOD")
            curves.append(f"$d{number}_{i} with yerrorlines linewidth 2 pointtype 7 pointsize 0.5 linecolor rgb "
                          f"'{COLOURS[names.index(name) % len(COLOURS)]}' title '{name}'")  # fmt: skip
        commands += [f"set title '{title}' noenhanced", "plot " + ", ".join(curves)]
    gnuplot(picture, f"{max(620, 360 * len(panels))},400", commands + ["unset multiplot"])


def draw_distances(picture: Path, runs: dict[str, list[dict[str, str]]]) -> None:
    lines = {}
    for name, rows in runs.items():
        found = cells([row for row in rows if row["task"] == "passage"], ("place",), "loss")
        if len(found) > 1:
            lines[name] = {float(place): mean_and_error(losses) for (place,), losses in found.items()}
    if lines:
        draw_lines(picture, {"a passage that comes again": lines}, "after tokens", "loss per token", True)


def draw_lengths(picture: Path, runs: dict[str, list[dict[str, str]]]) -> None:
    panels: dict[str, dict[str, dict[float, tuple[float, float]]]] = {}
    for name, rows in runs.items():
        for (task, length), scores in cells(rows, ("task", "length"), "score").items():
            if task != "passage":
                panels.setdefault(task, {}).setdefault(name, {})[float(length)] = mean_and_error([100 * s for s in scores])
    panels = {task: lines for task, lines in panels.items() if any(len(points) > 1 for points in lines.values())}
    if panels:
        draw_lines(picture, panels, "tokens", "score", True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directories", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="what the pictures' names begin with")
    options = parser.parse_args()
    runs = {directory.name: read(directory) for directory in options.directories}
    for ending, draw in (("depths", draw_depths), ("distances", draw_distances), ("lengths", draw_lengths)):
        draw(options.out.with_name(f"{options.out.name}-{ending}.svg"), runs)


if __name__ == "__main__":
    main()
