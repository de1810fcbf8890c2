// SPDX-License-Identifier: MIT
#include "llama/tokenizers/sentencepiece_tokenizer.hpp"

#include <exception>
#include <set>
#include <stdexcept>
#include <utility>

#include <sentencepiece_processor.h>

// Of the library, which does not declare it in a header that is installed.
namespace sentencepiece::logging {
void SetMinLogLevel(int level);  // NOLINT(readability-identifier-naming)
}

#include "llama/io/file.hpp"
#include "llama/io/in_quotes.hpp"
#include "llama/tokenizers/sentencepiece_model.hpp"
#include "llama/tokenizers/spaces.hpp"
#include "llama/tokenizers/tokenizer_config.hpp"

namespace llama {

SentencePieceTokenizer::SentencePieceTokenizer(const std::string& path) : Tokenizer(-1, {}) {
    constexpr std::size_t most = std::size_t{64} << 20;
    const MappedFile file(path);
    const auto bytes = file.bytes();
    if (bytes.size() > most) {
        throw FileError(path, std::to_string(bytes.size()) + " bytes; a SentencePiece model of at most " +
                                  std::to_string(most) + " is read");
    }
    load({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, path);
    TokenizerConfig config = read_tokenizer_config(path);
    const Token end = processor_->eos_id();
    if (config.add_bos.value_or(true)) begin_of_text_ = processor_->bos_id();
    if (config.add_eos.value_or(false)) appended_end_ = end;
    if (end >= 0) end_of_text_.push_back(end);
    space_behind_added_ = config.space_behind_added;
    add_tokens(std::move(config.added), path);
}

SentencePieceTokenizer::SentencePieceTokenizer(std::string_view model, const std::string& path,
                                               SentencePieceSettings settings)
    : Tokenizer(settings.begin_of_text, std::move(settings.end_of_text), settings.appended_end),
      space_behind_added_(settings.space_behind_added) {
    load(model, path);
    add_tokens(std::move(settings.added), path);
}

SentencePieceTokenizer::~SentencePieceTokenizer() = default;

void SentencePieceTokenizer::load(std::string_view model, const std::string& path) {
    const SentencePieceModel checked = check_sentencepiece_model(model, path);
    drops_leading_space_ = checked.drops_leading_space;
    lines_are_independent_ = checked.lines_are_independent;
    std::string changed(model);
    // The parts of a text are the library's texts.
    puts_space_ = checked.joins_neighbours_only && checked.dummy_prefix;
    if (puts_space_) changed += without_dummy_prefix();
    processor_ = std::make_unique<sentencepiece::SentencePieceProcessor>();
    std::string refusal;
    constexpr int fatal = 3;
    sentencepiece::logging::SetMinLogLevel(fatal);  // what fails is in the status
    try {
        const auto status = processor_->LoadFromSerializedProto(changed);
        if (!status.ok()) refusal = status.error_message();
    } catch (const std::exception& error) {
        refusal = error.what();
    }
    if (!refusal.empty()) throw FileError(path, "no usable SentencePiece model: " + in_quotes(refusal));
    if (checked.joins_neighbours_only) cuts_.emplace();
    add_texts();
}

void SentencePieceTokenizer::add_texts() {
    const int size = processor_->GetPieceSize();
    texts_.reserve(static_cast<std::size_t>(size));
    for (int id = 0; id < size; ++id) {
        const std::string& piece = processor_->IdToPiece(id);
        const bool is_text = !processor_->IsControl(id) && !processor_->IsUnknown(id);
        if (processor_->IsByte(id)) {
            texts_.emplace_back(1, byte_of_token(piece).value_or('\0'));  // which the library has checked
            continue;
        }
        texts_.push_back(is_text                     ? unmark_spaces(piece)
                         : processor_->IsUnknown(id) ? processor_->DecodeIds({id})
                                                     : std::string());
        if (cuts_ && is_text) cuts_->add(piece);
    }
    if (cuts_) cuts_->finish();
}

void SentencePieceTokenizer::add_tokens(std::vector<AddedToken> added, const std::string& path) {
    constexpr std::size_t longest = 1024;
    constexpr std::size_t gap = 1024;  // memory stays in proportion to the files
    const auto size = static_cast<std::size_t>(processor_->GetPieceSize());
    const std::size_t most = size + added.size() + gap;
    for (const AddedToken& token : added) {
        const auto id = static_cast<std::size_t>(token.id);
        if (token.id < 0 || id >= most || token.text.empty() || token.text.size() > longest) {
            throw FileError(path, "added token " + in_quotes(token.text) + " has the id " + std::to_string(token.id) +
                                      " and " + std::to_string(token.text.size()) + " bytes, must be below " +
                                      std::to_string(most) + " and have 1 to " + std::to_string(longest));
        }
        if (id >= texts_.size()) texts_.resize(id + 1);
        texts_[id] = token.special ? std::string() : token.text;
    }
    // Those of the files come first: of equal texts they count.
    std::vector<AddedToken> all = std::move(added);
    std::set<std::string> listed;
    for (const AddedToken& token : all) listed.insert(token.text);
    for (int id = 0; id < static_cast<int>(size); ++id) {
        const std::string& piece = processor_->IdToPiece(id);
        const bool is_special = processor_->IsControl(id) || processor_->IsUnknown(id);
        if (is_special && piece.size() <= longest && !listed.contains(piece)) all.push_back({piece, id, true});
    }
    for (const AddedToken& token : all) {
        const bool keeps_lines = token.text.find('\n') == std::string::npos && !token.lstrip && !token.rstrip;
        lines_are_independent_ = lines_are_independent_ && keeps_lines && !token.single_word;
    }
    added_.emplace(std::move(all));
}

std::vector<Token> SentencePieceTokenizer::do_encode(std::string_view text, std::span<const TextRange> verbatim) const {
    std::vector<Token> tokens;
    const auto add = [&](Token token) { tokens.push_back(token); };
    // NOLINTNEXTLINE(bugprone-unchecked-optional-access): every constructor makes it.
    cut_at(*added_, text, verbatim, add, [&](TextRange part) {
        const std::string_view plain = text.substr(part.begin, part.end - part.begin);
        if (puts_space_ && (part.begin == 0 || space_behind_added_)) {
            encode_part(' ' + std::string(plain), tokens);
        } else {
            encode_part(plain, tokens);
        }
    });
    return tokens;
}

void SentencePieceTokenizer::encode_part(std::string_view text, std::vector<Token>& tokens) const {
    std::vector<Token> some;
    while (!text.empty()) {
        const auto any = [](std::string_view) { return true; };
        const std::string_view part = cuts_ ? cuts_->take_part(text, any) : std::exchange(text, {});
        const auto status = processor_->Encode(part, &some);
        if (!status.ok()) {
            throw std::runtime_error(std::string("the tokenizer fails on the text: ") + status.error_message());
        }
        tokens.insert(tokens.end(), some.begin(), some.end());
    }
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
