// SPDX-License-Identifier: MIT
#include "llama/program/check_threads.hpp"

#include <mutex>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "llama/model/thread_executor.hpp"

namespace llama {

void check_threads(int threads) {
    const auto others = static_cast<std::size_t>(make_executor(threads).concurrency()) - 1;
    std::mutex all_are_made;
    std::vector<std::thread> made;
    made.reserve(others);
    std::string error;
    {
        const std::lock_guard lock(all_are_made);
        try {
            while (made.size() < others) made.emplace_back([&] { const std::lock_guard wait(all_are_made); });
        } catch (const std::exception& refusal) {
            error = refusal.what();
        }
    }
    for (std::thread& thread : made) thread.join();
    if (!error.empty()) {
        throw std::runtime_error("--threads: " + std::to_string(others + 1) + " threads cannot be made (" + error +
                                 "), " + std::to_string(made.size() + 1) + " can");
    }
}

}  // namespace llama
