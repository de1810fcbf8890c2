// SPDX-License-Identifier: MIT
#pragma once

#include <benchmark/benchmark.h>
#include <cuda_runtime_api.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <limits>
#include <string>
#include <vector>

#include "freqkv/config.hpp"
#include "freqkv/cuda/detail/device/device_block.cuh"
#include "freqkv/cuda/detail/device/launch_kernel.cuh"
#include "freqkv/cuda/device_array.cuh"
#include "freqkv/cuda/status.cuh"
#include "freqkv/error.hpp"

// What benchmarks on a GPU have in common. Each checks a case before it times it; a case that is wrong, or that throws,
// is not timed, and makes the program's exit status 1.
namespace device_bench {

namespace cuda = freqkv::cuda;
using freqkv::Index;

inline constexpr int iterations = 20;

// --- what is wrong, and what cannot be measured

inline bool something_failed = false;

inline void fail(benchmark::State& state, const std::string& reason) {
    something_failed = true;
    state.SkipWithError(reason.c_str());
}

inline void skip(benchmark::State& state, const std::string& reason) {
    state.SkipWithError(("skipped: " + reason).c_str());
}

/// A case that throws does not keep the others from running. Lengths that the device's shared memory has no room for
/// are left out.
template <auto run>
void guarded(benchmark::State& state) {
    try {
        run(state);
    } catch (const freqkv::Error& error) {
        // Every other refusal is a fault.
        const std::string reason = error.what();
        reason.find("too large for the device") != std::string::npos ? skip(state, reason) : fail(state, reason);
    } catch (const std::exception& error) {
        fail(state, error.what());
    }
}

inline Index free_bytes() {
    std::size_t free = 0, total = 0;
    cuda::check("cudaMemGetInfo", cudaMemGetInfo(&free, &total));
    const Index others = Index{256} << 20;  // plans, reports and what the driver takes
    return std::max<Index>(static_cast<Index>(free) - others, 0);
}

inline std::string mebibytes(Index bytes) { return std::to_string(bytes >> 20) + " MiB"; }

/// Whether so much memory is free; if not, the case is skipped.
inline bool has_memory(benchmark::State& state, Index bytes) {
    const Index free = free_bytes();
    if (bytes <= free) return true;
    skip(state, mebibytes(bytes) + " of device memory are needed, " + mebibytes(free) + " are free");
    return false;
}

// --- time

class Event {
public:
    Event() { cuda::check("cudaEventCreate", cudaEventCreate(&event_)); }
    Event(const Event&) = delete;
    Event& operator=(const Event&) = delete;
    ~Event() { (void)cudaEventDestroy(event_); }

    void record(cudaStream_t stream) const { cuda::check("cudaEventRecord", cudaEventRecord(event_, stream)); }
    double seconds_since(const Event& start) const {
        cuda::check("cudaEventSynchronize", cudaEventSynchronize(event_));
        float milliseconds = 0;
        cuda::check("cudaEventElapsedTime", cudaEventElapsedTime(&milliseconds, start.event_, event_));
        return 1e-3 * static_cast<double>(milliseconds);
    }

private:
    cudaEvent_t event_ = nullptr;
};

/// Seconds of one run() on `stream`, without prepare().
template <class Run, class Prepare>
double seconds_of(const Run& run, const Prepare& prepare, cudaStream_t stream = nullptr) {
    const Event start, stop;
    prepare();
    start.record(stream);
    run();
    stop.record(stream);
    return stop.seconds_since(start);
}

/// The best of several.
template <class Run>
double fastest(const Run& run, int times = 3 + iterations) {
    double best = std::numeric_limits<double>::infinity();
    for (int i = 0; i < times; ++i) best = std::min(best, seconds_of(run, [] {}));
    return best;
}

/// Times of a case: those of the device, and that in which the call returns.
struct Times {
    double best = 0;
    double median = 0;
    double host = std::numeric_limits<double>::infinity();
};

/// Runs all iterations of `state`, and sets what every case reports: best_ms, median_ms and host_us.
template <class Run, class Prepare>
Times measure_times(benchmark::State& state, const Run& run, const Prepare& prepare, cudaStream_t stream = nullptr) {
    Times times;
    for (int i = 0; i < 3; ++i) {
        prepare();
        cuda::check("cudaDeviceSynchronize", cudaDeviceSynchronize());
        const auto start = std::chrono::steady_clock::now();
        run();
        times.host =
            std::min(times.host, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
    }
    std::vector<double> seconds;
    for (auto _ : state) {
        seconds.push_back(seconds_of(run, prepare, stream));
        state.SetIterationTime(seconds.back());
    }
    std::sort(seconds.begin(), seconds.end());
    times.best = seconds.front();
    times.median = seconds[seconds.size() / 2];
    state.counters["best_ms"] = 1e3 * times.best;
    state.counters["host_us"] = 1e6 * times.host;
    state.counters["median_ms"] = 1e3 * times.median;
    return times;
}

/// For cases that are timed by events.
inline void timed(benchmark::internal::Benchmark* bench) {
    bench->UseManualTime()->Iterations(iterations)->Unit(benchmark::kMillisecond);
}

// --- the device's copy

/// Of 1 GiB to another place.
class Copy {
public:
    static constexpr Index size = Index{1} << 30;
    static constexpr double bytes = 2.0 * size;  // read and written

    Copy() : from_(size), to_(size) { cuda::check("cudaMemset", cudaMemset(from_.data(), 1, size)); }

    void operator()() const {
        cuda::check("cudaMemcpyAsync",
                    cudaMemcpyAsync(to_.data(), from_.data(), size, cudaMemcpyDeviceToDevice, nullptr));
    }

private:
    cuda::DeviceArray<char> from_, to_;
};

/// In bytes per second, the best of several.
inline double copy_bandwidth() {
    static const double measured = Copy::bytes / fastest(Copy());
    return measured;
}

/// As measure_times(), with what a case that is bound by memory reports beside: GB/s and of_copy.
template <class Run, class Prepare>
Times measure_bytes(benchmark::State& state, double bytes, const Run& run, const Prepare& prepare,
                    cudaStream_t stream = nullptr) {
    const Times times = measure_times(state, run, prepare, stream);
    state.counters["GB/s"] = bytes / times.best / 1e9;
    state.counters["of_copy"] = bytes / times.best / copy_bandwidth();
    return times;
}

// --- data

inline constexpr int fill_threads = 256;
inline constexpr int fill_elements = 8192;  // of a block

/// Numbers in [first, first + 2), each by its place and the seed alone.
template <class T>
__global__ void fill_kernel(T* values, Index count, float first, std::uint64_t seed) {
    using namespace freqkv::cuda::detail;
    const Index begin = static_cast<Index>(blockIdx.x) * fill_elements;
    const int elements = count - begin < fill_elements ? static_cast<int>(count - begin) : fill_elements;
    DeviceBlock().each(elements, [&] FREQKV_INLINE_LAMBDA(int i) {
        auto bits = (static_cast<std::uint64_t>(begin + i + 1) + (seed << 40)) * 0x9E3779B97F4A7C15U;
        bits = (bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9U;
        bits = (bits ^ (bits >> 27)) * 0x94D049BB133111EBU;
        values[begin + i] = static_cast<T>(static_cast<float>(bits >> 40) * 0x1p-23F + first);
    });
}

template <class T>
cuda::DeviceArray<T> random_values(Index count, float first, std::uint64_t seed = 0) {
    cuda::DeviceArray<T> values(count);
    const Index blocks = (count + fill_elements - 1) / fill_elements;
    cuda::detail::launch_kernel("cudaLaunchKernel of fill_kernel", &fill_kernel<T>,
                                dim3(static_cast<unsigned int>(blocks)), fill_threads, 0, nullptr, values.data(), count,
                                first, seed);
    return values;
}

/// Not-a-numbers of any type, so that what nobody writes shows.
template <class T>
void spoil(const cuda::DeviceArray<T>& array) {
    cuda::check("cudaMemset", cudaMemset(array.data(), 0xFF, static_cast<std::size_t>(array.size()) * sizeof(T)));
}

template <class T>
std::vector<T> download(const T* data, Index count) {
    std::vector<T> values(static_cast<std::size_t>(count));
    cuda::check("cudaMemcpy", cudaMemcpy(values.data(), data, values.size() * sizeof(T), cudaMemcpyDeviceToHost));
    return values;
}

template <class T>
double to_double(const T& value) {
    return static_cast<double>(static_cast<float>(value));
}

// --- the program

inline std::string version(int number) {
    return std::to_string(number / 1000) + "." + std::to_string(number % 1000 / 10);
}

inline void describe_device() {
    cudaDeviceProp device{};
    cuda::check("cudaGetDeviceProperties", cudaGetDeviceProperties(&device, 0));
    int driver = 0, runtime = 0;
    cuda::check("cudaDriverGetVersion", cudaDriverGetVersion(&driver));
    cuda::check("cudaRuntimeGetVersion", cudaRuntimeGetVersion(&runtime));
    benchmark::AddCustomContext("device", device.name);
    benchmark::AddCustomContext("compute capability",
                                std::to_string(device.major) + "." + std::to_string(device.minor));
    benchmark::AddCustomContext("memory", mebibytes(static_cast<Index>(device.totalGlobalMem)));
    benchmark::AddCustomContext("second-level cache", mebibytes(device.l2CacheSize));
    benchmark::AddCustomContext("multiprocessors", std::to_string(device.multiProcessorCount));
    benchmark::AddCustomContext("CUDA of the driver, of the program", version(driver) + ", " + version(runtime));
    benchmark::AddCustomContext("copy bandwidth", std::to_string(copy_bandwidth() / 1e9) + " GB/s");
}

/// Runs the cases of a program that has registered them, and returns its exit status. describe() may add to what is
/// said of the device.
template <class Describe>
int run(int& argc, char** argv, const Describe& describe) {
    benchmark::Initialize(&argc, argv);
    if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
    int devices = 0;
    const cudaError_t status = cudaGetDeviceCount(&devices);
    if (status != cudaSuccess || devices == 0) {
        std::fprintf(stderr, "there is no CUDA device (%s)\n", cudaGetErrorString(status));
        return 1;
    }
    try {
        if (free_bytes() < 2 * Copy::size) {
            std::fprintf(stderr, "the copy alone needs %s of device memory, %s are free\n",
                         mebibytes(2 * Copy::size).c_str(), mebibytes(free_bytes()).c_str());
            return 1;
        }
        describe_device();
        describe();
    } catch (const std::exception& error) {
        std::fprintf(stderr, "%s\n", error.what());
        return 1;
    }
    benchmark::RunSpecifiedBenchmarks();
    benchmark::Shutdown();
    return something_failed ? 1 : 0;
}

}  // namespace device_bench
