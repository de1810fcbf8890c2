// SPDX-License-Identifier: MIT
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint_sum.hpp"
#include "edited_file.hpp"
#include "llama/formats/gguf_checkpoint.hpp"
#include "llama/gguf_writer.hpp"
#include "llama/temporary_directory.hpp"
#include "llama/tokenizers/gguf_tokenizer.hpp"

// No file makes the reader touch memory that is not there: it is refused, or every weight and every token can be
// read.
namespace {

using llama::WeightType;
using llama::test::small_gguf;

std::string model(std::uint32_t version, WeightType type, const char* architecture, bool bias) {
    const bool wide = llama::format_of(type).block > 1;
    auto file = small_gguf({.architecture = architecture,
                            .type = type,
                            .tied = bias,
                            .bias = bias,
                            .dim = wide ? 256U : 16U,
                            .hidden = wide ? 256U : 24U,
                            .layers = 1,
                            .vocabulary = 5});
    file.version = version;
    file.set("tokenizer.ggml.merges", std::vector<std::string>{"a b", "c d"});
    file.set("tokenizer.ggml.token_type", std::vector<std::int32_t>{2, 3, 3, 4, 1});
    file.set("tokenizer.ggml.add_bos_token", true);
    file.set("tokenizer.ggml.add_eos_token", true);
    file.set("tokenizer.ggml.eot_token_id", std::uint32_t{2});
    if (bias) {
        file.set("tokenizer.ggml.model", std::string_view("gpt2"));
        file.set("tokenizer.ggml.pre", std::string_view("qwen2"));
        file.set("tokenizer.ggml.merges", std::vector<std::string>{"a b"});
        file.set("tokenizer.ggml.tokens", std::vector<std::string>{"<s>", "a", "b", "ab", "c"});
    }
    return file.bytes();
}

template <class Read>
void read_or_refuse(Read read) {
    try {
        read();
    } catch (const std::runtime_error&) {  // a FileError, or the text's own fault
    }
}

}  // namespace

// The second of two parts is edited, the first is valid.
void read_parts(const std::uint8_t* data, std::size_t size) {
    static const llama::test::TemporaryDirectory directory;
    static const auto parts = llama::test::split(small_gguf({.layers = 1, .vocabulary = 5}), 2);
    static const std::string first = directory.write("m-00001-of-00002.gguf", parts[0].bytes());
    static const std::string second = parts[1].bytes();
    directory.write("m-00002-of-00002.gguf", fuzz::edited(second, data, size));
    volatile double sink = 0;
    read_or_refuse([&] { sink = fuzz::sum(llama::read_gguf(first)); });
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static const std::string valid[] = {
        model(3, WeightType::f32, "llama", false),
        model(2, WeightType::f16, "qwen2", true),
        model(3, WeightType::q4_k, "llama", false),
    };
    static const std::string q3_k = model(3, WeightType::q3_k, "llama", false);  // reads around what it unpacks
    constexpr std::size_t models = std::size(valid);
    if (size == 0) return 0;
    if (data[0] >= 0xf8) {
        read_parts(data + 1, size - 1);
        return 0;
    }
    // Beside edits of a model, the input itself.
    const std::size_t choice = data[0] % (models + 1);
    const std::string raw(reinterpret_cast<const char*>(data + 1), size - 1);
    const fuzz::MemoryFile file(data[0] >= 0xf0    ? fuzz::edited(q3_k, data + 1, size - 1)
                                : choice == models ? raw
                                                   : fuzz::edited(valid[choice], data + 1, size - 1));
    volatile double sink = 0;
    read_or_refuse([&] { sink = fuzz::sum(llama::read_gguf(file.path())); });
    read_or_refuse([&] {
        const auto tokenizer = llama::make_gguf_tokenizer(llama::read_gguf_vocabulary(file.path()), file.path());
        sink = static_cast<double>(tokenizer->encode("a b<s> \x04\n").size());
    });
    return 0;
}
