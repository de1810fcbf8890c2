// SPDX-License-Identifier: MIT
#pragma once

#include <cuda_runtime_api.h>

#include <utility>

#include "freqkv/cuda/status.cuh"

namespace llama::device {

/// A stream that waits for no other.
class Stream {
public:
    Stream() {
        freqkv::cuda::check("cudaStreamCreateWithFlags", cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking));
    }
    Stream(const Stream&) = delete;
    Stream& operator=(const Stream&) = delete;
    ~Stream() {
        (void)cudaStreamSynchronize(stream_);
        (void)cudaStreamDestroy(stream_);
    }

    operator cudaStream_t() const { return stream_; }
    void wait() const { freqkv::cuda::check("cudaStreamSynchronize", cudaStreamSynchronize(stream_)); }

private:
    cudaStream_t stream_ = nullptr;
};

/// What calls gave to a stream, to be given to it again and again.
class StepGraph {
public:
    StepGraph() = default;
    StepGraph(const StepGraph&) = delete;
    StepGraph& operator=(const StepGraph&) = delete;
    ~StepGraph() { reset(); }

    explicit operator bool() const { return executable_ != nullptr; }

    /// Keeps what call() gives to the stream, which does not do it yet. What call() throws is passed on.
    template <class F>
    void capture(cudaStream_t stream, const F& call) {
        using freqkv::cuda::check;
        reset();
        check("cudaStreamBeginCapture", cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
        cudaGraph_t graph = nullptr;
        try {
            call();
        } catch (...) {
            if (cudaStreamEndCapture(stream, &graph) == cudaSuccess) (void)cudaGraphDestroy(graph);
            (void)cudaGetLastError();
            throw;
        }
        check("cudaStreamEndCapture", cudaStreamEndCapture(stream, &graph));
        const cudaError_t status = cudaGraphInstantiate(&executable_, graph, 0);
        (void)cudaGraphDestroy(graph);
        check("cudaGraphInstantiate", status);
    }

    void launch(cudaStream_t stream) const {
        freqkv::cuda::check("cudaGraphLaunch", cudaGraphLaunch(executable_, stream));
    }

    void reset() {
        if (executable_ != nullptr) (void)cudaGraphExecDestroy(std::exchange(executable_, nullptr));
    }

private:
    cudaGraphExec_t executable_ = nullptr;
};

}  // namespace llama::device
