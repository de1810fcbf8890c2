// SPDX-License-Identifier: MIT
#include "llama/tokenizers/sentencepiece_tokenizer.hpp"

#include <charconv>
#include <exception>
#include <stdexcept>
#include <utility>

#include <sentencepiece_processor.h>

#include "llama/io/file.hpp"
#include "llama/io/in_quotes.hpp"
#include "llama/tokenizers/sentencepiece_model.hpp"

namespace llama {

namespace {

// The text of a piece, in which U+2581 stands for a space.
std::string with_spaces(std::string_view piece) {
    constexpr std::string_view mark = "\xe2\x96\x81";
    std::string text;
    for (std::size_t at = 0; at < piece.size();) {
        if (piece.substr(at).starts_with(mark)) {
            text += ' ';
            at += mark.size();
        } else {
            text += piece[at++];
        }
    }
    return text;
}

// The byte of "<0xHH>", which the library has checked.
std::string byte_of(std::string_view piece) {
    unsigned value = 0;
    std::from_chars(piece.data() + 3, piece.data() + 5, value, 16);
    return {static_cast<char>(value)};
}

}  // namespace

SentencePieceTokenizer::SentencePieceTokenizer(const std::string& path) : Tokenizer(-1, {}) {
    constexpr std::size_t most = std::size_t{64} << 20;
    const MappedFile file(path);
    const auto bytes = file.bytes();
    if (bytes.size() > most) {
        throw FileError(path, std::to_string(bytes.size()) + " bytes; a SentencePiece model of at most " +
                                  std::to_string(most) + " is read");
    }
    load({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, path);
    begin_of_text_ = processor_->bos_id();
    if (const Token end = processor_->eos_id(); end >= 0) end_of_text_.push_back(end);
}

SentencePieceTokenizer::SentencePieceTokenizer(std::string_view model, const std::string& path, Token begin_of_text,
                                               std::vector<Token> end_of_text)
    : Tokenizer(begin_of_text, std::move(end_of_text)) {
    load(model, path);
}

SentencePieceTokenizer::~SentencePieceTokenizer() = default;

void SentencePieceTokenizer::load(std::string_view model, const std::string& path) {
    const SentencePieceModel checked = check_sentencepiece_model(model, path);
    drops_leading_space_ = checked.drops_leading_space;
    lines_are_independent_ = checked.lines_are_independent;
    processor_ = std::make_unique<sentencepiece::SentencePieceProcessor>();
    std::string refusal;
    try {
        const auto status = processor_->LoadFromSerializedProto(model);
        if (!status.ok()) refusal = status.error_message();
    } catch (const std::exception& error) {
        refusal = error.what();
    }
    if (!refusal.empty()) throw FileError(path, "no usable SentencePiece model: " + in_quotes(refusal));

    const int size = processor_->GetPieceSize();
    texts_.reserve(static_cast<std::size_t>(size));
    for (int id = 0; id < size; ++id) {
        const std::string& piece = processor_->IdToPiece(id);
        texts_.push_back(processor_->IsControl(id)   ? std::string()
                         : processor_->IsByte(id)    ? byte_of(piece)
                         : processor_->IsUnknown(id) ? processor_->DecodeIds({id})
                                                     : with_spaces(piece));
    }
}

std::vector<Token> SentencePieceTokenizer::do_encode(std::string_view text,
                                                     std::span<const TextRange> /*verbatim*/) const {
    std::vector<Token> tokens;
    const auto status = processor_->Encode(text, &tokens);
    if (!status.ok())
        throw std::runtime_error(std::string("the tokenizer fails on the text: ") + status.error_message());
    return tokens;
}

std::string_view SentencePieceTokenizer::decode(Token previous, Token token) const {
    // A model may have more ids than its tokenizer.
    if (token < 0 || token >= vocabulary()) return {};
    std::string_view text = texts_[static_cast<std::size_t>(token)];
    const bool begins = previous < 0 || previous == begin_of_text();
    if (begins && drops_leading_space_ && text.starts_with(' ')) text.remove_prefix(1);
    return text;
}

}  // namespace llama
