#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Measures how long PyTorch takes on a GPU for what cuda_benchmark and cuda_attention_benchmark measure of freqkv.

Compression of a whole model's cache, by Fourier transforms. A compression is a DCT along the rows, truncation to half
of them, the inverse DCT and a rescaling. PyTorch has no DCT, so one writes it with torch.fft: the rows in Makhoul's
order, a batched Fourier transform in float32, and one multiplication for each coefficient. This is done in four ways
(complex or real transforms; along the rows as they lie, or transposed first), layer by layer, in groups, and all at
once, as far as there is memory; the fastest counts. Tables and orders are made beforehand, and the rescaling is part of
a table. The same map as one dense matrix in half precision, times the rows, is measured as well.

The data are [layers, keys and values, heads, n, 128] in half precision, as in cuda_benchmark. A head is compared with
the dense operator in double before anything is timed.

Attention by torch.nn.functional.scaled_dot_product_attention, with each backend that takes a case, on the shapes of
cuda_attention_benchmark: one token of each sequence, over caches that take turns where the device's second-level cache
might hold one; and a causal chunk of 4096 tokens. Grouped queries are told to it by enable_gqa; keys and values are
repeated where a backend does not take that. Single tokens are measured in a captured graph, too. Unlike freqkv's times,
these are of attention alone: nothing is appended or rotated. Some of a result is compared with softmax attention in
double before anything is timed.

Times are those of CUDA events. A table of each goes to standard output, progress to standard error. Exit status: 0, or
1 if something cannot be run, or 2 for a wrong command line.
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from statistics import median
from time import perf_counter
from types import ModuleType
from typing import Any

from peers import COLUMNS, CannotRun, dense_operator, import_or_none

WARM_UP = 3
QUERY_HEADS = 32
LEAST_CACHE_BYTES = 1 << 29  # of all caches that take turns
ALLOWED_ERROR = {"half": 3e-3, "bfloat16": 2e-2}  # of attention, over the largest value of a head's result
DENSE = "dense operator"  # of a route; the others are Fourier transforms


@dataclass
class AttentionCase:
    what: str  # "decode" or "prefill", which is causal
    type: str
    batch: int
    kv_heads: int
    dim: int
    tokens: int  # queries of each sequence
    entries: int  # keys of each sequence, the last of which belong to the queries


@dataclass
class MeasuredAttention(AttentionCase):
    backend: str
    heads: str  # "grouped", or "repeated" keys and values
    best_ms: float  # of one cache
    median_ms: float


@dataclass
class Measured:
    n: int
    kept: int
    layers: int
    heads: int
    route: str
    calls: str
    best_ms: float
    median_ms: float


def say(message: str) -> None:
    print(f"cuda_peers.py: {message}", file=sys.stderr, flush=True)


class FourierRoute:
    """From [..., n, 128] to [..., kept, 128], both in half."""

    allowed_error = 6e-4  # over the largest value; half precision rounds by 4.9e-4

    def __init__(self, torch: ModuleType, device: str, n: int, kept: int, real: bool, transposed: bool) -> None:
        self.torch, self.n, self.kept, self.real, self.transposed = torch, n, kept, real, transposed
        self.axis = -1 if transposed else -2

        def turns(length: int, sign: int) -> Any:  # exp(sign pi i k / 2 length) for k below kept
            angles = torch.arange(kept, dtype=torch.float64) * (sign * torch.pi / (2 * length))
            return torch.polar(torch.ones_like(angles), angles)

        def orders(length: int) -> tuple[Any, Any]:  # even rows ascending, then odd ones descending; and back
            rows = torch.arange(length)
            order = torch.cat([rows[::2], rows[1::2].flip(0)])
            return order.to(device), order.argsort().to(device)

        def along(table: Any, kind: Any) -> Any:
            return (table if transposed else table[:, None]).to(device=device, dtype=kind)

        # Orthonormal: coefficient 0 of length m has the factor sqrt(1 / m), the others sqrt(2 / m).
        first = torch.ones(kept, dtype=torch.float64)
        first[0] = 0.5**0.5
        self.order, _ = orders(n)
        _, self.back = orders(kept)
        self.forward = along(turns(n, -1) * first * (2 / n) ** 0.5, torch.complex64)
        # V[k] = exp(pi i k / 2 kept) / 2 (X[k] - i X[kept - k]) of the unnormalised coefficients X, whose factor
        # against the orthonormal ones is 2 sqrt(kept) for k = 0 and sqrt(2 kept) for the others.
        self.inverse = along(turns(kept, 1) / 2, torch.complex64)
        self.factor = along((2 * kept) ** 0.5 / first * (kept / n) ** 0.5, torch.float32)

    @property
    def name(self) -> str:
        return f"{'rfft' if self.real else 'fft'}, {'transposed' if self.transposed else 'along the rows'}"

    def __call__(self, x: Any) -> Any:
        torch, axis, kept = self.torch, self.axis, self.kept
        x = x.mT.contiguous() if self.transposed else x
        x = x.index_select(axis, self.order).float()
        spectrum = torch.fft.rfft(x, dim=axis) if self.real else torch.fft.fft(x, dim=axis)
        y = (spectrum.narrow(axis, 0, kept) * self.forward).real * self.factor

        mirrored = torch.cat([torch.zeros_like(y.narrow(axis, 0, 1)), y.narrow(axis, 1, kept - 1).flip(axis)], axis)
        if self.real:
            half = kept // 2 + 1
            there = 0 if not self.transposed else -1
            spectrum = torch.complex(y.narrow(axis, 0, half), -mirrored.narrow(axis, 0, half))
            z = torch.fft.irfft(spectrum * self.inverse.narrow(there, 0, half), n=kept, dim=axis)
        else:
            z = torch.fft.ifft(torch.complex(y, -mirrored) * self.inverse, dim=axis).real
        z = z.index_select(axis, self.back).half()
        return z.mT.contiguous() if self.transposed else z


class DenseRoute:
    """The same by one product, with sums in float32."""

    name = DENSE
    allowed_error = 2e-3  # the matrix is rounded as well

    def __init__(self, torch: ModuleType, device: str, exact: Any) -> None:
        self.operator = torch.from_numpy(exact).to(device=device, dtype=torch.float16)

    def __call__(self, x: Any) -> Any:
        return self.operator @ x


Route = FourierRoute | DenseRoute


def check(numpy: ModuleType, route: Route, exact: Any, head: Any) -> None:
    expected = exact @ head.cpu().numpy().astype(numpy.float64)
    actual = route(head[None, None])[0, 0].cpu().numpy().astype(numpy.float64)
    error = float(abs(actual - expected).max() / abs(expected).max())
    if not error < route.allowed_error:
        raise CannotRun(f"PyTorch's {route.name} is wrong at {len(head)} rows: relative error {error:.1e}")


def timed(torch: ModuleType, device: str, call: Callable[[], Any], repeats: int) -> list[float]:
    """Milliseconds of each call behind the first ones."""
    times = []
    for _ in range(WARM_UP + repeats):
        if device == "cuda":
            start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            call()
            stop.record()
            stop.synchronize()
            times.append(start.elapsed_time(stop))
        else:
            began = perf_counter()
            call()
            times.append(1e3 * (perf_counter() - began))
    return times[WARM_UP:]


def measure(torch: ModuleType, numpy: ModuleType, args: argparse.Namespace, n: int) -> list[Measured]:
    kept, views = n // 2, 2 * args.layers
    torch.manual_seed(1)
    x = torch.randn(views, args.heads, n, COLUMNS, dtype=torch.float16, device=args.device)
    exact = dense_operator(numpy, n, kept)
    routes: list[Route] = [FourierRoute(torch, args.device, n, kept, real, transposed)
                           for real in (False, True) for transposed in (False, True)]
    routes.append(DenseRoute(torch, args.device, exact))
    found = []
    for route in routes:
        check(numpy, route, exact, x[-1, -1])
        for group in sorted({2, min(8, views), views}):
            calls = "all at once" if group == views else f"{group // 2} layer{'s' * (group > 2)} at a time"
            say(f"{n} rows: {route.name}, {calls}")

            def compress(route: Route = route, group: int = group) -> None:
                for part in x.split(group):
                    route(part)

            try:
                times = timed(torch, args.device, compress, args.repeats)
            except torch.cuda.OutOfMemoryError:
                say("not enough memory")
                continue
            finally:
                if args.device == "cuda":
                    torch.cuda.empty_cache()
            found.append(Measured(n, kept, args.layers, args.heads, route.name, calls, min(times), median(times)))
    return sorted(found, key=lambda measured: measured.best_ms)


def attention_cases(smoke: bool) -> list[AttentionCase]:
    if smoke:
        decodes, prefills = [(3, 8, 256), (1, 32, 200)], [(2, 8, 128, 200), (1, 32, 64, 150)]
    else:
        decodes = [*((batch, 8, 4096) for batch in (1, 4, 16, 64)), (16, 32, 4096), (16, 8, 1024), (16, 8, 16384)]
        prefills = [(batch, kv_heads, dim, 4096) for batch in (1, 4) for kv_heads in (8, 32) for dim in (64, 128)]
    cases = []
    for kind in ALLOWED_ERROR:
        cases += [AttentionCase("decode", kind, batch, kv_heads, 128, 1, entries)
                  for batch, kv_heads, entries in decodes]  # fmt: skip
        cases += [AttentionCase("prefill", kind, batch, kv_heads, dim, tokens, tokens)
                  for batch, kv_heads, dim, tokens in prefills]  # fmt: skip
    return cases


class Attention:
    """One case, over all its caches."""

    def __init__(self, torch: ModuleType, device: str, case: AttentionCase, repeated: bool) -> None:
        self.torch, self.case = torch, case
        self.scale = 6 / case.dim**0.5  # as cuda_attention_benchmark: gives scores a deviation of 2
        kind = {"half": torch.float16, "bfloat16": torch.bfloat16}[case.type]
        torch.manual_seed(1)

        def rows(heads: int, count: int) -> Any:
            return (2 * torch.rand(case.batch, heads, count, case.dim, device=device) - 1).to(kind)

        repeats = QUERY_HEADS // case.kv_heads if repeated else 1
        bytes_of_cache = 4 * case.batch * case.kv_heads * repeats * case.entries * case.dim
        least_bytes = LEAST_CACHE_BYTES if device == "cuda" and case.what == "decode" else 1
        self.q = rows(QUERY_HEADS, case.tokens)
        self.caches = [[rows(case.kv_heads, case.entries).repeat_interleave(repeats, 1) for _ in range(2)]
                       for _ in range(-(-least_bytes // bytes_of_cache))]  # fmt: skip
        self.options: dict[str, Any] = {"scale": self.scale, "is_causal": case.what == "prefill"}
        if case.kv_heads * repeats < QUERY_HEADS:
            self.options["enable_gqa"] = True

    def attend(self, k: Any, v: Any) -> Any:
        return self.torch.nn.functional.scaled_dot_product_attention(self.q, k, v, **self.options)

    def __call__(self) -> None:
        for k, v in self.caches:
            self.attend(k, v)

    def check(self, backend: str) -> None:
        case, (k, v) = self.case, self.caches[-1]
        out = self.attend(k, v)
        for part in (0.0, 0.3, 0.7, 1.0):
            b, h, t = (round(part * (count - 1)) for count in (case.batch, QUERY_HEADS, case.tokens))
            visible = case.entries - case.tokens + t + 1
            keys, values = (x[b, h * x.shape[1] // QUERY_HEADS, :visible].cpu().double() for x in (k, v))
            weights = (keys @ self.q[b, h, t].cpu().double() * self.scale).softmax(0)
            expected = weights @ values
            error = float((out[b, h, t].cpu().double() - expected).abs().max() / expected.abs().max())
            if not error < ALLOWED_ERROR[case.type]:
                raise CannotRun(f"PyTorch's {backend} is wrong for {case}: relative error {error:.1e}")


def times_of(torch: ModuleType, args: argparse.Namespace, attention: Attention) -> list[float]:
    """Milliseconds for each cache. Single tokens are measured in a captured graph as well; the faster way counts."""
    times = timed(torch, args.device, attention, args.repeats)
    if args.device == "cuda" and attention.case.what == "decode":
        try:
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                attention()
            times = min(times, timed(torch, args.device, graph.replay, args.repeats), key=min)
        except RuntimeError as error:
            say(f"not captured: {str(error).splitlines()[0]}")
    return [each / len(attention.caches) for each in times]


def measure_attention(torch: ModuleType, args: argparse.Namespace) -> list[MeasuredAttention]:
    backends = torch.nn.attention.SDPBackend
    found = []
    for case in attention_cases(args.smoke):
        say(f"{case}")
        for backend in (backends.FLASH_ATTENTION, backends.CUDNN_ATTENTION, backends.EFFICIENT_ATTENTION):
            for repeated in [False] if case.kv_heads == QUERY_HEADS else [False, True]:
                heads = "repeated" if repeated else "grouped"
                attention = None
                try:
                    attention = Attention(torch, args.device, case, repeated)
                    with torch.nn.attention.sdpa_kernel(backend), warnings.catch_warnings():
                        warnings.simplefilter("ignore")  # why a backend does not take a case
                        attention.check(backend.name)
                        times = times_of(torch, args, attention)
                # Memory is short, the backend does not take the case, or it is wrong.
                except (RuntimeError, TypeError, CannotRun) as error:
                    say(f"{backend.name}, {heads}: {(str(error).splitlines() or [type(error).__name__])[0]}")
                    continue
                finally:
                    del attention
                    if args.device == "cuda":
                        torch.cuda.empty_cache()
                found.append(MeasuredAttention(**asdict(case), backend=backend.name, heads=heads, best_ms=min(times),
                                               median_ms=median(times)))  # fmt: skip
                break
    return found


def tables(device: str, version: str, results: list[Measured], attention: list[MeasuredAttention]) -> str:
    lines = [f"PyTorch {version}, {device}"]
    if results:
        lines += ["", "| rows | how | best, ms | median, ms | GB/s |", "|---|---|---:|---:|---:|"]
    for one in results:
        moved = 2 * one.layers * one.heads * (one.n + one.kept) * COLUMNS * 2
        lines.append(f"| {one.n} → {one.kept} | {one.route}, {one.calls} | {one.best_ms:.3g} | {one.median_ms:.3g} "
                     f"| {moved / one.best_ms / 1e6:.3g} |")
    if attention:
        lines += ["", "| attention | type | batch | KV heads | dim | entries | backend | best, ms | median, ms |",
                  "|---|---|---:|---:|---:|---:|---|---:|---:|"]  # fmt: skip
    for each in attention:
        lines.append(f"| {each.what} | {each.type} | {each.batch} | {each.kv_heads} | {each.dim} | {each.entries} "
                     f"| {each.backend}, {each.heads} | {each.best_ms:.3g} | {each.median_ms:.3g} |")
    return "\n".join(lines)


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=["compression", "attention"], help="one of both")
    parser.add_argument("--rows", type=int, nargs="+", default=[4096, 4092], metavar="N",
                        help="before a compression, which halves them [4096 4092]")
    parser.add_argument("--layers", type=int, default=32, metavar="N", help="with keys and values each [32]")
    parser.add_argument("--heads", type=int, default=32, metavar="N", help="of keys, and as many of values [32]")
    parser.add_argument("--repeats", type=int, default=20, metavar="N",
                        help=f"timed, behind {WARM_UP} that are not [20]")
    parser.add_argument("--smoke", action="store_true", help="small cases of attention, to see that they run")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda",
                        help="cpu is for trying the script out, with few layers and heads and --smoke [cuda]")
    parser.add_argument("--json", action="store_true", help="print the results as one JSON object")
    args = parser.parse_args(arguments)
    if min(args.layers, args.heads, args.repeats) < 1 or min(args.rows) < 4:
        parser.error("--layers, --heads and --repeats must be at least 1, --rows at least 4")
    return args


def main(arguments: list[str]) -> int:
    args = parse(arguments)
    try:
        numpy, torch = import_or_none("numpy"), import_or_none("torch")
        if numpy is None or torch is None:
            raise CannotRun("PyTorch or NumPy is missing: pip install torch numpy")
        if args.device == "cuda" and not torch.cuda.is_available():
            raise CannotRun(f"PyTorch {torch.__version__} finds no GPU that it can use")
        device = torch.cuda.get_device_name() if args.device == "cuda" else "processor"
        results = []
        if args.only != "attention":
            results = [one for n in args.rows for one in measure(torch, numpy, args, n)]
        attention = measure_attention(torch, args) if args.only != "compression" else []
    except CannotRun as error:
        say(str(error))
        return 1
    except RuntimeError as error:  # of PyTorch: the data alone are too large, say
        say(f"PyTorch: {str(error).splitlines()[0]}")
        return 1
    if args.json:
        print(json.dumps({"torch": torch.__version__, "device": device, "results": [asdict(one) for one in results],
                          "attention": [asdict(one) for one in attention]}, indent=2))  # fmt: skip
    else:
        print(tables(device, torch.__version__, results, attention))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
