// SPDX-License-Identifier: MIT
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>

#include <nlohmann/json.hpp>

#include "edited_file.hpp"
#include "llama/formats/random_checkpoint.hpp"
#include "llama/io/file.hpp"
#include "llama/tokenizers/llama2c_tokenizer.hpp"
#include "llama/training/instruction_records.hpp"

// Any file is refused, or gives examples that are as long as they may be and whose tokens the model has.
namespace {

constexpr llama::Index vocabulary = 512;

std::string valid_records() {
    nlohmann::json records = nlohmann::json::array();
    for (const char* const question : {"name a bee", "what is 7 + 5?", "", "a\n### Input:\nb"}) {
        records.push_back({{"instruction", question}, {"input", "to be or not"}, {"output", "be\xc3\xa9"}});
        records.push_back({{"instruction", question}, {"output", std::string(40, 'o')}, {"file", nullptr}});
    }
    records.push_back({{"instruction", "nothing"}, {"output", ""}});
    return records.dump();
}

void check(const llama::InstructionRecords& records, llama::Index length) {
    for (llama::Index i = 0; i < 2 * records.examples_per_epoch(); ++i) {
        const llama::Example example = records.example(i);
        const auto size = static_cast<llama::Index>(example.tokens.size());
        if (example.first_target < 1 || example.targets() < 1 || size > length + 1) std::abort();
        for (const llama::Token token : example.tokens) {
            if (token < 0 || token >= vocabulary) std::abort();
        }
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static const std::string valid = valid_records();
    static const fuzz::MemoryFile pieces(llama::syllable_tokenizer(vocabulary));
    static const llama::Llama2cTokenizer tokenizer(pieces.path(), vocabulary);
    if (size < 2) return 0;
    const llama::Index length = 1 + data[1] % 128;
    const fuzz::MemoryFile file(data[0] % 2 == 0 ? std::string(reinterpret_cast<const char*>(data + 2), size - 2)
                                                 : fuzz::edited(valid, data + 2, size - 2));
    try {
        check(llama::InstructionRecords(file.path(), tokenizer, vocabulary, length, size, 1), length);
    } catch (const llama::FileError&) {
    }
    return 0;
}
