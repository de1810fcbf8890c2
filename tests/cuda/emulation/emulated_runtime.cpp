// SPDX-License-Identifier: MIT
#include "emulated_runtime.hpp"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

// As much of the CUDA runtime as the library and its tests call, for a device that is the host: an H100 by its limits,
// with 64 GiB. Calls do what they say before they return. Memory begins as not-a-numbers.
namespace {

std::size_t device_memory = std::size_t{1} << 36;
constexpr int shared_per_block = 232448;
constexpr int shared_per_multiprocessor = 233472;

std::map<std::byte*, std::size_t>& allocations() {
    static std::map<std::byte*, std::size_t> map;
    return map;
}
std::mutex allocations_mutex;
std::atomic<int> captures = 0;  // streams that are captured, while which nothing can be allocated
thread_local cudaError_t latest = cudaSuccess;

cudaError_t fail(cudaError_t error) { return latest = error; }

// With allocations_mutex held.
std::size_t allocated() {
    std::size_t sum = 0;
    for (const auto& [begin, bytes] : allocations()) sum += bytes;
    return sum;
}

using Graph = std::vector<std::function<void()>>;
struct Stream {
    std::unique_ptr<Graph> capturing;
};
Stream* of(cudaStream_t stream) { return reinterpret_cast<Stream*>(stream); }

}  // namespace

EmulatedDevice& emulated_device() {
    static EmulatedDevice device;
    return device;
}

void emulate_free_memory(std::size_t bytes) {
    const std::lock_guard lock(allocations_mutex);
    device_memory = allocated() + bytes;
}

cudaError_t emulated_launch(const EmulatedLaunch& launch, cudaStream_t stream, std::function<void()> work) {
    const dim3& grid = launch.grid;
    if (grid.x == 0 || grid.y == 0 || grid.z == 0 || grid.x > 0x7fffffffU || grid.y > 65535 || grid.z > 65535 ||
        launch.threads == 0 || launch.threads > 1024 || launch.shared_bytes > shared_per_block) {
        return fail(cudaErrorInvalidConfiguration);
    }
    ++emulated_device().launches;
    if (stream != nullptr && of(stream)->capturing) {
        of(stream)->capturing->push_back(std::move(work));
    } else {
        work();
    }
    return cudaSuccess;
}

extern "C" {

cudaError_t cudaMalloc(void** pointer, std::size_t bytes) {
    if (emulated_device().missing != cudaSuccess) return fail(emulated_device().missing);
    if (captures > 0) return fail(cudaErrorStreamCaptureUnsupported);
    const std::lock_guard lock(allocations_mutex);
    if (bytes > device_memory - allocated() || emulated_device().allocations_left <= 0) {
        return fail(cudaErrorMemoryAllocation);
    }
    --emulated_device().allocations_left;
    if (posix_memalign(pointer, 256, bytes) != 0) return fail(cudaErrorMemoryAllocation);
    std::memset(*pointer, 0xff, bytes);
    allocations()[static_cast<std::byte*>(*pointer)] = bytes;
    return cudaSuccess;
}

cudaError_t cudaFree(void* pointer) {
    if (pointer == nullptr) return cudaSuccess;
    const std::lock_guard lock(allocations_mutex);
    if (allocations().erase(static_cast<std::byte*>(pointer)) == 0) std::abort();
    std::free(pointer);
    ++emulated_device().allocations_left;
    return cudaSuccess;
}

cudaError_t cudaMemGetInfo(std::size_t* free, std::size_t* total) {
    const std::lock_guard lock(allocations_mutex);
    *free = device_memory - allocated();
    *total = device_memory;
    return cudaSuccess;
}

cudaError_t cudaMallocHost(void** pointer, std::size_t bytes) {
    if (captures > 0) return fail(cudaErrorStreamCaptureUnsupported);
    *pointer = std::malloc(bytes);
    return *pointer == nullptr ? fail(cudaErrorMemoryAllocation) : cudaSuccess;
}

cudaError_t cudaFreeHost(void* pointer) {
    std::free(pointer);
    return cudaSuccess;
}

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* pointer) {
    *attributes = {};
    attributes->type = cudaMemoryTypeUnregistered;
    const auto* const byte = static_cast<const std::byte*>(pointer);
    const std::lock_guard lock(allocations_mutex);
    for (const auto& [begin, bytes] : allocations()) {
        if (begin <= byte && byte < begin + bytes) attributes->type = cudaMemoryTypeDevice;
    }
    return cudaSuccess;
}

cudaError_t cudaMemcpy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind /*kind*/) {
    if (bytes > 0) std::memcpy(to, from, bytes);
    return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
    if (stream != nullptr && of(stream)->capturing) return fail(cudaErrorStreamCaptureUnsupported);  // nobody does
    return cudaMemcpy(to, from, bytes, kind);
}

cudaError_t cudaMemcpy2DAsync(void* to, std::size_t to_pitch, const void* from, std::size_t from_pitch,
                              std::size_t width, std::size_t height, cudaMemcpyKind kind, cudaStream_t /*stream*/) {
    if (width > std::min(to_pitch, from_pitch)) return fail(cudaErrorInvalidPitchValue);
    for (std::size_t row = 0; row < height; ++row) {
        cudaMemcpy(static_cast<std::byte*>(to) + row * to_pitch, static_cast<const std::byte*>(from) + row * from_pitch,
                   width, kind);
    }
    return cudaSuccess;
}

cudaError_t cudaMemset(void* pointer, int value, std::size_t bytes) {
    std::memset(pointer, value, bytes);
    return cudaSuccess;
}

cudaError_t cudaDeviceSynchronize() { return cudaSuccess; }
cudaError_t cudaStreamSynchronize(cudaStream_t /*stream*/) { return cudaSuccess; }

cudaError_t cudaGetDevice(int* device) {
    if (emulated_device().missing != cudaSuccess) return fail(emulated_device().missing);
    *device = emulated_device().current;
    return cudaSuccess;
}

cudaError_t cudaGetDeviceCount(int* count) {
    *count = emulated_device().missing == cudaSuccess ? 1 : 0;
    return emulated_device().missing == cudaSuccess ? cudaSuccess : fail(emulated_device().missing);
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int /*device*/) {
    *value = attribute == cudaDevAttrMaxSharedMemoryPerBlockOptin       ? shared_per_block
             : attribute == cudaDevAttrMaxSharedMemoryPerMultiprocessor ? shared_per_multiprocessor
             : attribute == cudaDevAttrComputeCapabilityMajor           ? 9
                                                                        : 0;
    return cudaSuccess;
}

const char* cudaGetErrorName(cudaError_t error) {
    switch (error) {
        case cudaErrorMemoryAllocation:
            return "cudaErrorMemoryAllocation";
        case cudaErrorInsufficientDriver:
            return "cudaErrorInsufficientDriver";
        case cudaErrorNoDevice:
            return "cudaErrorNoDevice";
        default:
            return "cudaErrorInvalidValue";
    }
}
const char* cudaGetErrorString(cudaError_t error) {
    switch (error) {
        case cudaErrorMemoryAllocation:
            return "out of memory";
        case cudaErrorInsufficientDriver:
            return "CUDA driver version is insufficient for CUDA runtime version";
        case cudaErrorNoDevice:
            return "no CUDA-capable device is detected";
        default:
            return "invalid argument";
    }
}
cudaError_t cudaGetLastError() { return std::exchange(latest, cudaSuccess); }
cudaError_t cudaPeekAtLastError() { return latest; }

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned int /*flags*/) {
    *stream = reinterpret_cast<cudaStream_t>(new Stream);
    return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
    delete of(stream);
    return cudaSuccess;
}
cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
    const bool capturing = stream != nullptr && of(stream)->capturing;
    *status = capturing ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
    return cudaSuccess;
}
cudaError_t cudaDeviceCanAccessPeer(int* reaches, int /*device*/, int /*peer*/) {
    *reaches = 0;
    return cudaSuccess;
}
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode /*mode*/) {
    of(stream)->capturing = std::make_unique<Graph>();
    ++captures;
    return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
    *graph = reinterpret_cast<cudaGraph_t>(of(stream)->capturing.release());
    --captures;
    return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph, unsigned long long /*flags*/) {
    *executable = reinterpret_cast<cudaGraphExec_t>(new Graph(*reinterpret_cast<Graph*>(graph)));
    return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t /*stream*/) {
    for (const auto& work : *reinterpret_cast<Graph*>(executable)) work();
    return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
    delete reinterpret_cast<Graph*>(graph);
    return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
    delete reinterpret_cast<Graph*>(executable);
    return cudaSuccess;
}

}  // extern "C"
