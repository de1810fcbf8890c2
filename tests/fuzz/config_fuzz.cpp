// SPDX-License-Identifier: MIT
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <string>

#include "../llama/hugging_face_files.hpp"
#include "edited_file.hpp"
#include "llama/formats/hugging_face_config.hpp"
#include "llama/io/json_file.hpp"
#include "llama/model/checkpoint.hpp"

// Any config.json is refused, or gives a shape whose weights can be counted.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static const std::string valid[] = {
        [] {
            nlohmann::json config = llama::test::small_config();
            config["rope_parameters"] = {{"rope_type", "yarn"}, {"factor", 4},      {"mscale", 1},
                                         {"rope_theta", 1e4},   {"truncate", true}, {"mscale_all_dim", 2}};
            return config.dump();
        }(),
        [] {
            nlohmann::json config = llama::test::small_config("Qwen2ForCausalLM");
            config["use_sliding_window"] = true;
            config["max_window_layers"] = 0;
            config["rope_scaling"] = {
                {"type", "llama3"}, {"factor", 8}, {"low_freq_factor", 1}, {"high_freq_factor", 4}};
            return config.dump();
        }(),
    };
    if (size == 0) return 0;
    const std::string content = data[0] % 4 == 0 ? std::string(reinterpret_cast<const char*>(data + 1), size - 1)
                                                 : fuzz::edited(valid[data[0] % 2], data + 1, size - 1);
    try {
        const auto bytes = std::as_bytes(std::span(content));
        llama::Config config = llama::parse_hugging_face_config(llama::parse_json(bytes, "x"), "x").config;
        if (llama::count_parameters(config) < 1) std::abort();
        llama::add_end_of_text(config, llama::parse_json(bytes, "x"), "x");
        for (const llama::Token token : config.end_of_text) {
            if (token < 0 || token >= config.vocabulary) std::abort();
        }
    } catch (const llama::FileError&) {
    }
    return 0;
}
