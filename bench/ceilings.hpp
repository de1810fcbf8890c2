// SPDX-License-Identifier: MIT
#pragma once

#include <benchmark/benchmark.h>

#include <Eigen/Core>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "freqkv/workspace.hpp"

// What the machine can do at most, measured in the same run as what is compared with it, and the main
// function of a benchmark that prints it.
namespace ceilings {

// The shortest of several runs of f, in seconds.
template <class F>
double best_seconds(int runs, F&& f) {
    double best = 1e300;
    for (int i = 0; i < runs; ++i) {
        const auto start = std::chrono::steady_clock::now();
        f();
        best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
    }
    return best;
}

// One thread reading 256 MB, in GB/s, from the kind of memory that caches are in.
inline double read_bandwidth() {
    static const double measured = [] {
        const freqkv::AlignedBuffer<float> memory(Eigen::Index{64} << 20);
        Eigen::Map<Eigen::ArrayXf> data(memory.data(), memory.size());
        data.setOnes();
        const double seconds = best_seconds(4, [&] { benchmark::DoNotOptimize(data.sum()); });
        return 4.0 * static_cast<double>(data.size()) / seconds / 1e9;
    }();
    return measured;
}

// One thread's product of two matrices in float, in GFLOP/s.
inline double sgemm_rate() {
    static const double measured = [] {
        constexpr Eigen::Index n = 768;
        const Eigen::MatrixXf a = Eigen::MatrixXf::Random(n, n);
        const Eigen::MatrixXf b = Eigen::MatrixXf::Random(n, n);
        Eigen::MatrixXf c(n, n);
        const double seconds = best_seconds(6, [&] {
            c.noalias() = a * b;
            benchmark::DoNotOptimize(c.data());
        });
        return 2.0 * static_cast<double>(n * n * n) / seconds / 1e9;
    }();
    return measured;
}

// Runs f once for each iteration; the seconds of the fastest, since what else the machine does only adds. For
// benchmarks with UseManualTime().
template <class F>
double fastest(benchmark::State& state, F&& f) {
    double best = 1e300;
    for (auto _ : state) {
        const double seconds = best_seconds(1, f);
        state.SetIterationTime(seconds);
        best = std::min(best, seconds);
    }
    return best;
}

// A benchmark whose result is wrong has no time: the program ends.
inline void require(bool right, const std::string& what) {
    if (right) return;
    std::fprintf(stderr, "wrong result: %s\n", what.c_str());
    std::exit(1);
}

inline int run(int argc, char** argv) {
    benchmark::Initialize(&argc, argv);
    if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
    benchmark::AddCustomContext("read bandwidth, one thread", std::to_string(read_bandwidth()) + " GB/s");
    benchmark::AddCustomContext("sgemm (Eigen), one thread", std::to_string(sgemm_rate()) + " GFLOP/s");
    benchmark::RunSpecifiedBenchmarks();
    benchmark::Shutdown();
    return 0;
}

}  // namespace ceilings
