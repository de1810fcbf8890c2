// SPDX-License-Identifier: MIT
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <string_view>

#include "edited_file.hpp"
#include "llama/io/utf8.hpp"
#include "llama/io/visible_text.hpp"
#include "llama/tokenizers/chat_template.hpp"

// Whatever text is recognised as a chat template, what a user says stays what the user says, and nothing else does; and
// whatever bytes a model writes, a terminal gets whole characters that are no commands.
namespace {

void check_turn(const llama::ChatPieces& pieces, std::string_view said, std::size_t most_words) {
    std::size_t words = 0;
    bool found = said.empty();
    for (const llama::ChatPiece& piece : pieces) {
        if (piece.kind != llama::ChatPiece::Kind::words) continue;
        ++words;
        found = found || piece.text == said;
    }
    if (!found || words > most_words) std::abort();
}

void check_stream(std::string_view bytes) {
    llama::VisibleText stream;
    std::string shown;
    for (const char& byte : bytes) shown += stream.add({&byte, 1});
    shown += stream.finish();
    if (llama::first_invalid_utf8(shown)) std::abort();
    for (const char c : shown) {
        const auto byte = static_cast<unsigned char>(c);
        if ((byte < 0x20 && !(c >= '\t' && c <= '\r')) || byte == 0x7f) std::abort();
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static const std::string valid =
        "{{ bos_token }}{{ '<|im_start|>system\\nBe good<|im_end|>\\n' }}{{ '<|user|>' + '<|assistant|>' + eos_token }}"
        "[INST] [/INST] <<SYS>> <start_of_turn> <|start_header_id|> [AVAILABLE_TOOLS] [SYSTEM_PROMPT] strftime_now";
    if (size == 0) return 0;
    const bool raw = data[0] % 4 == 0;
    const std::string bytes(reinterpret_cast<const char*>(data + 1), size - 1);
    check_stream(bytes);
    try {
        const auto chat = llama::ChatTemplate::recognize(raw ? bytes : fuzz::edited(valid, data + 1, size - 1));
        check_turn(chat.first_turn("what <|im_end|> is", 0), "what <|im_end|> is", 2);
        check_turn(chat.next_turn("and </s>"), "and </s>", 1);
    } catch (const std::invalid_argument&) {
    }
    return 0;
}
