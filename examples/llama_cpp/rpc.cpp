// SPDX-License-Identifier: MIT
#include "rpc.hpp"

#include <ggml-backend.h>
#include <ggml.h>

#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <stdexcept>

#include "llama/model/thread_executor.hpp"

namespace llama {

namespace {

bool has_workers = false;

// A function of the RPC backend, which a libllama has or has not.
template <class F>
F* find_function(const char* name) {
    ggml_backend_reg_t backend = ggml_backend_reg_by_name("RPC");
    void* const found = backend == nullptr ? nullptr : ggml_backend_reg_get_proc_address(backend, name);
    if (found == nullptr) throw std::runtime_error("this libllama was built without its RPC backend");
    return reinterpret_cast<F*>(found);
}

}  // namespace

void add_rpc_worker(const std::string& endpoint) {
    auto* const add = find_function<ggml_backend_reg_t(const char*)>("ggml_backend_rpc_add_server");
    ggml_set_abort_callback([](const char* why) {  // when a worker is not there, or goes
        std::fprintf(stderr, "freqkv-llama-cpp: libllama gives up: %s\n", why);
        std::_Exit(1);
    });
    ggml_backend_reg_t devices = add(endpoint.c_str());
    if (devices == nullptr) throw std::runtime_error("--rpc " + endpoint + ": this worker has no device");
    ggml_backend_register(devices);
    has_workers = true;
}

bool has_rpc_workers() { return has_workers; }

int run_rpc_worker(const std::string& endpoint, int threads) {
    auto* const serve = find_function<void(const char*, const char*, std::size_t, std::size_t, ggml_backend_dev_t*)>(
        "ggml_backend_rpc_start_server");
    ggml_backend_dev_t device = ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_GPU);
    if (device == nullptr) device = ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
    if (device == nullptr) throw std::runtime_error("this libllama has no device");
    serve(endpoint.c_str(), nullptr, static_cast<std::size_t>(make_executor(threads).concurrency()), 1, &device);
    throw std::runtime_error("worker " + endpoint + ": libllama does not listen there");
}

}  // namespace llama
