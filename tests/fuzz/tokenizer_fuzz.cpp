// SPDX-License-Identifier: MIT
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "edited_file.hpp"
#include "llama/formats/random_checkpoint.hpp"
#include "llama/tokenizers/llama2c_tokenizer.hpp"

// No tokenizer file makes the reader touch memory that is not there; with one that is accepted, any text can
// be encoded, to ids within the vocabulary, and decoded again.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    constexpr llama::Index vocabulary = 512;
    static const std::string valid = llama::syllable_tokenizer(vocabulary);
    const std::size_t text_size = size < 40 ? 0 : 32;
    const std::string_view text(reinterpret_cast<const char*>(data), text_size);
    const fuzz::MemoryFile file(fuzz::edited(valid, data + text_size, size - text_size));
    try {
        const llama::Llama2cTokenizer tokenizer(file.path(), vocabulary);
        llama::Token previous = tokenizer.begin_of_text();
        for (const llama::Token token : tokenizer.encode(text)) {
            if (token < 0 || token >= vocabulary) std::abort();
            volatile std::size_t length = tokenizer.decode(previous, token).size();
            static_cast<void>(length);
            previous = token;
        }
    } catch (const llama::FileError&) {
    }
    return 0;
}
