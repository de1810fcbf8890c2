// SPDX-License-Identifier: MIT
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>

#include <nlohmann/json.hpp>

#include "edited_file.hpp"
#include "llama/formats/head_budgets.hpp"
#include "llama/io/file.hpp"

// Any file of budgets is refused, or has capacities for the heads that there are.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static const llama::Config config{
        .layers = 3, .heads = 4, .kv_heads = 2, .head_dim = 8, .local_layers = {false, true, false}, .local_window = 8};
    static const std::string valid = nlohmann::json{
        {"weights", "0123456789abcdef"},
        {"sinks", 4},
        {"recent", 16},
        {"ratio", 0.5},
        {"layers",
         {{{"capacities", {40, 60}}},
          {{"capacities", nlohmann::json::array()}},
          {{"capacities", {30, 22}}}}}}.dump();
    if (size == 0) return 0;
    const std::string content = data[0] % 4 == 0 ? std::string(reinterpret_cast<const char*>(data + 1), size - 1)
                                                 : fuzz::edited(valid, data + 1, size - 1);
    const fuzz::MemoryFile file(content);
    try {
        const llama::HeadBudgets budgets = llama::read_head_budgets(file.path(), config);
        if (budgets.capacities.size() != 3 || budgets.capacities[0].size() != 2 || !budgets.capacities[1].empty() ||
            budgets.largest_capacity() < 1) {
            std::abort();
        }
    } catch (const llama::FileError&) {
    }
    return 0;
}
