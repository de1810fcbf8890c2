// SPDX-License-Identifier: MIT
#include "llama/tokenizers/byte_level_bpe.hpp"

#include <algorithm>
#include <optional>
#include <stdexcept>

#include "llama/io/in_quotes.hpp"
#include "llama/io/utf8.hpp"
#include "llama/tokenizers/nfc.hpp"

namespace llama {

namespace {

// GPT-2's alphabet: printable bytes of Latin-1 are the characters that they are there, the others, in their
// order, the characters from U+0100 on.
class ByteAlphabet {
public:
    ByteAlphabet() {
        bytes_.fill(-1);
        std::size_t next = 0x100;
        for (int byte = 0; byte < 256; ++byte) {
            const bool printable = (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte != 0xAD);
            bytes_[printable ? static_cast<std::size_t>(byte) : next++] = byte;
        }
    }

    // The bytes that a token is written for; nothing if it has a character outside of the alphabet.
    std::optional<std::string> bytes_of(std::string_view spelled) const {
        std::string bytes;
        for (std::size_t i = 0; i < spelled.size(); ++i) {
            auto character = static_cast<std::size_t>(static_cast<unsigned char>(spelled[i]));
            if (character >= 0x80) {  // two bytes of UTF-8, or outside
                if (utf8_length(spelled.substr(i)) != 2) return std::nullopt;
                character = (character & 0x1F) << 6 | (static_cast<unsigned char>(spelled[++i]) & 0x3F);
            }
            if (character >= bytes_.size() || bytes_[character] < 0) return std::nullopt;
            bytes += static_cast<char>(bytes_[character]);
        }
        return bytes;
    }

private:
    std::array<int, 0x100 + 68> bytes_;  // 68 bytes are not printable
};

std::vector<AddedToken> select(const std::vector<AddedToken>& tokens, bool normalized, bool nfc) {
    std::vector<AddedToken> selected;
    for (const AddedToken& token : tokens) {
        if (token.normalized != normalized) continue;
        selected.push_back(token);
        if (normalized && nfc) selected.back().text = to_nfc(token.text);
    }
    return selected;
}

}  // namespace

struct ByteLevelBpe::Scratch {
    RegexScratch regex;
    std::vector<std::string_view> pieces, cut;
    std::vector<Token> bytes;
    PairMerger<std::uint32_t> merger;
    std::string key;
};

ByteLevelBpe::ByteLevelBpe(ByteLevelBpeParts parts, const std::string& path)
    : Tokenizer(parts.begin_of_text, std::move(parts.end_of_text)),
      nfc_(parts.nfc),
      add_prefix_space_(parts.add_prefix_space) {
    add_tokens(parts.tokens, path);
    add_merges(parts, path);
    if (parts.ignore_merges) {
        const ByteAlphabet alphabet;
        for (std::size_t i = 0; i < parts.tokens.size(); ++i) {
            if (auto bytes = alphabet.bytes_of(parts.tokens[i])) {
                whole_pieces_.emplace(*std::move(bytes), static_cast<Token>(i));
            }
        }
    }
    add_added_tokens(parts, path);
    for (const std::string& pattern : parts.patterns) {
        try {
            splitters_.emplace_back(pattern);
        } catch (const std::invalid_argument& error) {
            throw FileError(path, "the pattern " + in_quotes(pattern) + " is of no use: " + error.what());
        }
    }
}

void ByteLevelBpe::add_tokens(const std::vector<std::string>& spelled, const std::string& path) {
    if (spelled.size() > ByteLevelBpeParts::most_tokens) {
        throw FileError(path, "a vocabulary of " + std::to_string(spelled.size()) + " tokens, at most " +
                                  std::to_string(ByteLevelBpeParts::most_tokens) + " are read");
    }
    const ByteAlphabet alphabet;
    bytes_.fill(-1);
    for (const std::string& token : spelled) {
        const auto bytes = alphabet.bytes_of(token);
        // What has other characters was added to the vocabulary as it stands.
        texts_.push_back(bytes ? *bytes : token);
        if (bytes && bytes->size() == 1) {
            Token& id = bytes_[static_cast<unsigned char>(bytes->front())];
            if (id < 0) id = static_cast<Token>(texts_.size()) - 1;
        }
    }
    const auto missing = std::find(bytes_.begin(), bytes_.end(), -1);
    if (missing != bytes_.end()) {
        throw FileError(path, "the vocabulary has no token for byte " + std::to_string(missing - bytes_.begin()) +
                                  "; a byte-level BPE needs one for each of the 256");
    }
}

void ByteLevelBpe::add_merges(const ByteLevelBpeParts& parts, const std::string& path) {
    std::unordered_map<std::string_view, Token> ids;
    ids.reserve(parts.tokens.size());
    for (std::size_t i = 0; i < parts.tokens.size(); ++i) ids.emplace(parts.tokens[i], static_cast<Token>(i));
    merges_.reserve(parts.merges.size());
    for (std::size_t rank = 0; rank < parts.merges.size(); ++rank) {
        const auto find = [&](const std::string& spelled) {
            const auto found = spelled.empty() ? ids.end() : ids.find(spelled);
            if (found != ids.end()) return found->second;
            throw FileError(path, "merge " + std::to_string(rank) + " has " + in_quotes(spelled) +
                                      ", which is not in the vocabulary");
        };
        const auto& [left, right] = parts.merges[rank];
        const Token left_id = find(left);
        const Token right_id = find(right);
        // Of equal merges the last counts, as in the original.
        merges_.insert_or_assign(key(left_id, right_id), Merge{static_cast<std::uint32_t>(rank), find(left + right)});
    }
}

void ByteLevelBpe::add_added_tokens(const ByteLevelBpeParts& parts, const std::string& path) {
    constexpr std::size_t longest = 1024;  // a search goes on for that long from every byte of a text
    for (const AddedToken& token : parts.added) {
        const std::string name = "added token " + in_quotes(token.text);
        if (token.text.empty() || token.text.size() > longest) {
            throw FileError(path, name + " has " + std::to_string(token.text.size()) + " bytes, must have 1 to " +
                                      std::to_string(longest));
        }
        const auto id = static_cast<std::size_t>(token.id);
        if (id < parts.tokens.size() && !parts.tokens[id].empty() && parts.tokens[id] != token.text) {
            throw FileError(
                path, name + " has the id " + std::to_string(id) + ", which is that of " + in_quotes(parts.tokens[id]));
        }
        if (id >= texts_.size()) texts_.resize(id + 1);
        texts_[id] = token.special ? std::string() : token.text;
    }
    added_.emplace_back(select(parts.added, false, nfc_));
    added_.emplace_back(select(parts.added, true, nfc_));
}

std::vector<Token> ByteLevelBpe::encode(std::string_view text) const {
    if (const auto offset = first_invalid_utf8(text)) {
        throw std::runtime_error("the text is not UTF-8 at byte " + std::to_string(*offset));
    }
    Scratch scratch;
    std::vector<Token> tokens;
    // Calls `between` for what lies between the added tokens.
    const auto cut = [&tokens](const AddedTokenFinder& finder, std::string_view whole, const auto& between) {
        std::size_t at = 0;
        while (const auto match = finder.find(whole, at)) {
            if (match->begin > at) between(whole.substr(at, match->begin - at));
            tokens.push_back(match->id);
            at = match->end;
        }
        if (at < whole.size()) between(whole.substr(at));
    };
    cut(added_[0], text, [&](std::string_view raw) {
        const std::string normalized = nfc_ ? to_nfc(raw) : std::string(raw);
        cut(added_[1], normalized, [&](std::string_view plain) { encode_plain(plain, scratch, tokens); });
    });
    return tokens;
}

void ByteLevelBpe::encode_plain(std::string_view text, Scratch& scratch, std::vector<Token>& tokens) const {
    std::string spaced;
    if (add_prefix_space_ && !text.starts_with(' ')) {
        spaced.append(" ").append(text);
        text = spaced;
    }
    scratch.pieces.assign(1, text);
    for (const RegexSplitter& splitter : splitters_) {
        scratch.cut.clear();
        for (const std::string_view piece : scratch.pieces) splitter.split(piece, scratch.regex, scratch.cut);
        scratch.pieces.swap(scratch.cut);
    }
    for (const std::string_view piece : scratch.pieces) encode_piece(piece, scratch, tokens);
}

void ByteLevelBpe::encode_piece(std::string_view piece, Scratch& scratch, std::vector<Token>& tokens) const {
    if (!whole_pieces_.empty()) {
        scratch.key.assign(piece);
        if (const auto found = whole_pieces_.find(scratch.key); found != whole_pieces_.end()) {
            tokens.push_back(found->second);
            return;
        }
    }
    scratch.bytes.clear();
    for (const char byte : piece) scratch.bytes.push_back(bytes_[static_cast<unsigned char>(byte)]);
    scratch.merger.merge(scratch.bytes, [&](Token left, Token right) { return find_merge(left, right); }, tokens);
}

std::string_view ByteLevelBpe::decode(Token /*previous*/, Token token) const {
    // A model may have more ids than its tokenizer.
    if (token < 0 || token >= vocabulary()) return {};
    return texts_[static_cast<std::size_t>(token)];
}

}  // namespace llama
