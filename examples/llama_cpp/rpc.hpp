// SPDX-License-Identifier: MIT
#pragma once

#include <string>

// llama.cpp's way beyond one machine: workers hold a part of the layers each, with their caches, and compute them.
namespace llama {

/// A model that is loaded behind this lies with the worker at `endpoint`, HOST:PORT, and those that were added before.
/// Throws std::runtime_error if this libllama was built without the RPC backend; ends the process with status 1, as
/// libllama would, if nobody answers.
void add_rpc_worker(const std::string& endpoint);

bool has_rpc_workers();

/// Is such a worker, until it is ended by a signal: of the first GPU that there is, or else the processor. There is no
/// password; whoever reaches `endpoint` can use it.
int run_rpc_worker(const std::string& endpoint, int threads);

}  // namespace llama
