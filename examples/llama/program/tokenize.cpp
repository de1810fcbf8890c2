// SPDX-License-Identifier: MIT
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "llama/formats/open_checkpoint.hpp"
#include "llama/io/format.hpp"
#include "llama/io/stopwatch.hpp"
#include "llama/model/checkpoint.hpp"
#include "llama/program/json_output.hpp"
#include "llama/program/program.hpp"
#include "llama/program/terminal.hpp"
#include "llama/tokenizers/long_text.hpp"
#include "llama/tokenizers/token_file.hpp"
#include "llama/tokenizers/tokenizer.hpp"

namespace llama {

int tokenize(const TokenizeOptions& options) {
    if (options.tokenizer.empty() && options.model.empty()) throw UsageError("give --tokenizer or --model");
    const Stopwatch stopwatch;
    std::optional<Checkpoint> checkpoint;
    if (!options.model.empty()) checkpoint = open_checkpoint(options.model);
    const std::unique_ptr<Tokenizer> tokenizer =
        checkpoint ? open_tokenizer(options.tokenizer, *checkpoint) : open_tokenizer(options.tokenizer);
    const Index vocabulary = checkpoint ? checkpoint->config.vocabulary : tokenizer->vocabulary();
    constexpr Index most = Index{std::numeric_limits<std::uint16_t>::max()} + 1;
    std::string token_format = options.token_format;
    if (token_format.empty()) token_format = vocabulary > most ? "u32" : "u16";
    if (token_format == "u16" && vocabulary > most) {
        throw FileError(options.tokenizer.empty() ? options.model : options.tokenizer,
                        "a vocabulary of " + std::to_string(vocabulary) + "; ids of 16 bits are for at most " +
                            std::to_string(most) + ", --token-format u32 for more");
    }
    const AtomicFile out(options.out);
    const JsonOutput json(options.json);
    const TextTokens text = [&] {
        StatusLine status(false);
        return read_text_files(options.texts, *tokenizer, vocabulary, options.threads,
                               [&](const std::string& path, double part) {
                                   if (status.due()) status.show(format("%3.0f %% of ", 100 * part) + path);
                               });
    }();
    if (token_format == "u32") {
        write_binary_token_file<std::uint32_t>(out, text.tokens);
    } else {
        write_binary_token_file<std::uint16_t>(out, text.tokens);
    }

    const double seconds = stopwatch.seconds();
    const double bytes_per_token = static_cast<double>(text.bytes) / static_cast<double>(text.tokens.size());
    json.write({{"bytes", text.bytes},
                {"tokens", text.tokens.size()},
                {"bytes_per_token", bytes_per_token},
                {"vocabulary", vocabulary},
                {"token_format", token_format},
                {"seconds", seconds}});
    if (!json.takes_stdout()) {
        TextOutput().write(format("%zu bytes, %zu tokens, %.3f bytes per token, %s\n", text.bytes, text.tokens.size(),
                                  bytes_per_token, token_format == "u32" ? "u32: 32 bits each" : "u16: 16 bits each"));
    }
    return 0;
}

}  // namespace llama
