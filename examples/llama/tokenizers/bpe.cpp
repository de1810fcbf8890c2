// SPDX-License-Identifier: MIT
#include "llama/tokenizers/bpe.hpp"

#include <algorithm>
#include <set>
#include <stdexcept>

#include "llama/io/in_quotes.hpp"
#include "llama/io/utf8.hpp"
#include "llama/tokenizers/byte_alphabet.hpp"
#include "llama/tokenizers/nfc.hpp"
#include "llama/tokenizers/spaces.hpp"

namespace llama {

namespace {

std::string replace_all(std::string_view text, std::string_view from, std::string_view to) {
    std::string replaced;
    for (std::size_t found = text.find(from); found != std::string_view::npos; found = text.find(from)) {
        replaced.append(text.substr(0, found)).append(to);
        text.remove_prefix(found + from.size());
    }
    return replaced.append(text);
}

bool holds_line_end(std::string_view text) { return text.find('\n') != std::string_view::npos; }

// Collects the tokens of what is known and unknown, one after the other, as the tokenizers library does.
class Speller {
public:
    Speller(Token unknown, bool fuse, std::vector<Token>& symbols)
        : unknown_(unknown), fuse_(fuse), symbols_(symbols) {}

    void known(Token token) {
        finish();
        symbols_.push_back(token);
    }
    // The library puts an unknown token that is before bytes behind them.
    void byte(Token token) { symbols_.push_back(token); }
    void unknown() {
        if (unknown_ < 0) return;
        if (!fuse_) finish();
        pending_ = true;
    }
    void finish() {
        if (pending_) symbols_.push_back(unknown_);
        pending_ = false;
    }

private:
    Token unknown_;
    bool fuse_;
    bool pending_ = false;
    std::vector<Token>& symbols_;
};

}  // namespace

struct Bpe::Scratch {
    RegexScratch regex;
    std::vector<std::string_view> pieces, cut;
    std::vector<Token> symbols;
    PairMerger<std::uint32_t> merger;
    std::string key;
};

Bpe::Bpe(BpeParts parts, const std::string& path)
    : Tokenizer(parts.begin_of_text, parts.end_of_text, parts.appended_end),
      byte_level_(parts.byte_level),
      edits_(parts.edits),
      mark_spaces_(parts.mark_spaces),
      prefix_space_(parts.prefix_space),
      byte_fallback_(parts.byte_fallback),
      unknown_(parts.unknown),
      fuse_unknown_(parts.fuse_unknown),
      drops_leading_space_(parts.drops_leading_space) {
    if (parts.tokens.size() > BpeParts::most_tokens) {
        throw FileError(path, "a vocabulary of " + std::to_string(parts.tokens.size()) + " tokens, at most " +
                                  std::to_string(BpeParts::most_tokens) + " are read");
    }
    add_tokens(parts);
    add_merges(parts, path);
    if (!byte_level_) add_cuts(parts);
    add_added_tokens(parts, path);
    for (const TextSplit& split : parts.splits) {
        try {
            splitters_.emplace_back(split);
        } catch (const std::invalid_argument& error) {
            throw FileError(path, "the pattern " + in_quotes(split.pattern) + " is of no use: " + error.what());
        }
    }
}

void Bpe::add_tokens(const BpeParts& parts) {
    const ByteAlphabet alphabet;
    bytes_.fill(-1);
    const auto note = [](Token& place, std::size_t id) {
        if (place < 0) place = static_cast<Token>(id);
    };
    for (std::size_t id = 0; id < parts.tokens.size(); ++id) {
        const std::string& token = parts.tokens[id];
        if (byte_level_) {
            // What has characters outside of the alphabet was added to the vocabulary as it stands.
            const auto bytes = alphabet.bytes_of(token);
            texts_.push_back(bytes ? *bytes : token);
            if (bytes && bytes->size() == 1) note(bytes_[static_cast<unsigned char>(bytes->front())], id);
            if (bytes && parts.ignore_merges) whole_pieces_.emplace(*bytes, static_cast<Token>(id));
            continue;
        }
        const std::optional<char> byte = byte_fallback_ ? byte_of_token(token) : std::nullopt;
        texts_.push_back(byte ? std::string(1, *byte) : unmark_spaces(token));
        if (byte) note(bytes_[static_cast<unsigned char>(*byte)], id);
        if (!token.empty() && utf8_length(token) == token.size()) characters_.emplace(token, static_cast<Token>(id));
        if (parts.ignore_merges) whole_pieces_.emplace(token, static_cast<Token>(id));
    }
}

void Bpe::add_merges(const BpeParts& parts, const std::string& path) {
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

// Long pieces are cut where that changes nothing. Merges of characters alone may be looked at by their texts.
void Bpe::add_cuts(const BpeParts& parts) {
    std::set<Token> others(bytes_.begin(), bytes_.end());
    others.insert(unknown_);
    const auto joins_others = [&](const auto& merge) {
        return others.contains(static_cast<Token>(merge.first >> 32)) ||
               others.contains(static_cast<Token>(merge.first & 0xFFFFFFFF));
    };
    if (!whole_pieces_.empty() || std::any_of(merges_.begin(), merges_.end(), joins_others)) return;
    cuts_.emplace();
    bool lines = splitters_.empty() && parts.splits.empty() &&
                 (characters_.contains("\n") || (byte_fallback_ && bytes_['\n'] >= 0));
    for (const auto& [left, right] : parts.merges) {
        cuts_->add(left + right);
        lines = lines && !holds_line_end(left) && !holds_line_end(right);
    }
    cuts_->finish();
    for (const TextEdit& edit : edits_) {
        lines = lines && edit.kind != TextEdit::Kind::nfc && !holds_line_end(edit.from) && !holds_line_end(edit.to);
    }
    for (const AddedToken& token : parts.added) {
        lines = lines && !holds_line_end(token.text) && !token.lstrip && !token.rstrip && !token.single_word;
    }
    lines_are_independent_ = lines;
}

void Bpe::add_added_tokens(const BpeParts& parts, const std::string& path) {
    constexpr std::size_t longest = 1024;
    std::vector<AddedToken> raw, normalized;
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
        (token.normalized ? normalized : raw).push_back(token);
        // They stand in texts that are edited, and are so themselves.
        if (token.normalized) normalized.back().text = normalize(token.text);
    }
    std::erase_if(normalized, [](const AddedToken& token) { return token.text.empty(); });
    added_.emplace_back(std::move(raw));
    added_.emplace_back(std::move(normalized));
}

std::vector<Token> Bpe::do_encode(std::string_view text, std::span<const TextRange> verbatim) const {
    if (const auto offset = first_invalid_utf8(text)) {
        throw std::runtime_error("the text is not UTF-8 at byte " + std::to_string(*offset));
    }
    Scratch scratch;
    std::vector<Token> tokens;
    const auto add = [&](Token token) { tokens.push_back(token); };
    cut_at(added_[0], text, verbatim, add, [&](TextRange part) {
        const std::string edited = normalize(text.substr(part.begin, part.end - part.begin));
        // Where a part has verbatim text, all of it is: its bytes may have moved.
        const auto reaches_in = [&](TextRange range) { return range.begin < part.end && part.begin < range.end; };
        const TextRange all{0, edited.size()};
        const bool is_verbatim = std::any_of(verbatim.begin(), verbatim.end(), reaches_in);
        cut_at(added_[1], edited, std::span(&all, is_verbatim ? 1 : 0), add, [&](TextRange plain) {
            encode_plain(edited.substr(plain.begin, plain.end - plain.begin), part.begin == 0 && plain.begin == 0,
                         scratch, tokens);
        });
    });
    return tokens;
}

std::string Bpe::normalize(std::string_view text) const {
    std::string edited(text);
    for (const TextEdit& edit : edits_) {
        if (edit.kind == TextEdit::Kind::nfc) edited = to_nfc(edited);
        if (edit.kind == TextEdit::Kind::prepend && !edited.empty()) edited.insert(0, edit.to);
        if (edit.kind == TextEdit::Kind::replace) edited = replace_all(edited, edit.from, edit.to);
    }
    return edited;
}

void Bpe::encode_plain(std::string text, bool is_first, Scratch& scratch, std::vector<Token>& tokens) const {
    if (mark_spaces_) text = replace_all(text, " ", space_mark);
    const std::string_view space = mark_spaces_ ? space_mark : " ";
    const bool spaced = prefix_space_ == PrefixSpace::always || (prefix_space_ == PrefixSpace::first && is_first);
    if (spaced && !text.starts_with(space)) text.insert(0, space);
    scratch.pieces.assign(1, text);
    for (const RegexSplitter& splitter : splitters_) {
        scratch.cut.clear();
        for (const std::string_view piece : scratch.pieces) splitter.split(piece, scratch.regex, scratch.cut);
        scratch.pieces.swap(scratch.cut);
    }
    for (std::string_view piece : scratch.pieces) {
        if (!cuts_) {
            encode_piece(piece, scratch, tokens);
            continue;
        }
        const auto is_known = [&](std::string_view character) { return find_character(character) >= 0; };
        while (!piece.empty()) encode_piece(cuts_->take_part(piece, is_known), scratch, tokens);
    }
}

void Bpe::encode_piece(std::string_view piece, Scratch& scratch, std::vector<Token>& tokens) const {
    if (!whole_pieces_.empty()) {
        scratch.key.assign(piece);
        if (const auto found = whole_pieces_.find(scratch.key); found != whole_pieces_.end()) {
            tokens.push_back(found->second);
            return;
        }
    }
    scratch.symbols.clear();
    byte_level_ ? spell_bytes(piece, scratch.symbols) : spell_characters(piece, scratch.symbols);
    scratch.merger.merge(scratch.symbols, [&](Token left, Token right) { return find_merge(left, right); }, tokens);
}

void Bpe::spell_bytes(std::string_view piece, std::vector<Token>& symbols) const {
    Speller speller(unknown_, fuse_unknown_, symbols);
    for (const char byte : piece) {
        const Token token = bytes_[static_cast<unsigned char>(byte)];
        token >= 0 ? speller.known(token) : speller.unknown();
    }
    speller.finish();
}

void Bpe::spell_characters(std::string_view piece, std::vector<Token>& symbols) const {
    Speller speller(unknown_, fuse_unknown_, symbols);
    while (!piece.empty()) {
        const std::string_view character = piece.substr(0, utf8_length(piece));
        piece.remove_prefix(character.size());
        const auto has_token = [&](char byte) { return bytes_[static_cast<unsigned char>(byte)] >= 0; };
        if (const Token token = find_character(character); token >= 0) {
            speller.known(token);
        } else if (byte_fallback_ && std::all_of(character.begin(), character.end(), has_token)) {
            for (const char byte : character) speller.byte(bytes_[static_cast<unsigned char>(byte)]);
        } else {
            speller.unknown();
        }
    }
    speller.finish();
}

Token Bpe::find_character(std::string_view character) const {
    const auto found = characters_.find(std::string(character));
    return found == characters_.end() ? -1 : found->second;
}

std::string_view Bpe::decode(Token previous, Token token) const {
    // A model may have more ids than its tokenizer.
    if (token < 0 || token >= vocabulary()) return {};
    std::string_view text = texts_[static_cast<std::size_t>(token)];
    const bool begins = previous < 0 || previous == begin_of_text();
    if (drops_leading_space_ && begins && text.starts_with(' ')) text.remove_prefix(1);
    return text;
}

}  // namespace llama
