// SPDX-License-Identifier: MIT
#include "llama/tokenizers/token_kinds.hpp"

#include <utf8proc.h>

#include <algorithm>
#include <cstddef>
#include <string>
#include <utility>

namespace llama {

namespace {

enum class CharacterClass : std::uint8_t { upper, lower, digit, connector, space, symbol, punctuation, other };

struct TextCharacter {
    utf8proc_int32_t code = -1;
    CharacterClass is = CharacterClass::other;
    std::size_t begin = 0, bytes = 0;

    bool letter() const { return is == CharacterClass::upper || is == CharacterClass::lower; }
    bool any_of(std::u32string_view list) const { return list.find(static_cast<char32_t>(code)) != list.npos; }
};

CharacterClass class_of(utf8proc_int32_t code) {
    constexpr std::u32string_view symbols = U"#%&*/@[\\]{}";
    if (symbols.find(static_cast<char32_t>(code)) != symbols.npos) return CharacterClass::symbol;
    if ((code >= 0x09 && code <= 0x0D) || code == 0x85) return CharacterClass::space;
    switch (utf8proc_category(code)) {
        case UTF8PROC_CATEGORY_LU:
        case UTF8PROC_CATEGORY_LT:
            return CharacterClass::upper;
        case UTF8PROC_CATEGORY_LL:
        case UTF8PROC_CATEGORY_LM:
        case UTF8PROC_CATEGORY_LO:
        case UTF8PROC_CATEGORY_MN:
        case UTF8PROC_CATEGORY_MC:
        case UTF8PROC_CATEGORY_ME:
            return CharacterClass::lower;
        case UTF8PROC_CATEGORY_ND:
        case UTF8PROC_CATEGORY_NL:
        case UTF8PROC_CATEGORY_NO:
            return CharacterClass::digit;
        case UTF8PROC_CATEGORY_PC:
            return CharacterClass::connector;
        case UTF8PROC_CATEGORY_ZS:
        case UTF8PROC_CATEGORY_ZL:
        case UTF8PROC_CATEGORY_ZP:
            return CharacterClass::space;
        case UTF8PROC_CATEGORY_SM:
        case UTF8PROC_CATEGORY_SC:
        case UTF8PROC_CATEGORY_SK:
        case UTF8PROC_CATEGORY_SO:
            return CharacterClass::symbol;
        case UTF8PROC_CATEGORY_PD:
        case UTF8PROC_CATEGORY_PS:
        case UTF8PROC_CATEGORY_PE:
        case UTF8PROC_CATEGORY_PI:
        case UTF8PROC_CATEGORY_PF:
        case UTF8PROC_CATEGORY_PO:
            return CharacterClass::punctuation;
        default:
            return CharacterClass::other;
    }
}

// What is no UTF-8 is a character of one byte.
std::vector<TextCharacter> characters_of(std::string_view text) {
    std::vector<TextCharacter> characters;
    characters.reserve(text.size());
    for (std::size_t at = 0; at < text.size(); at += characters.back().bytes) {
        TextCharacter next;
        next.begin = at;
        const auto bytes = utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(text.data() + at),
                                            static_cast<utf8proc_ssize_t>(text.size() - at), &next.code);
        next.bytes = bytes > 0 ? static_cast<std::size_t>(bytes) : 1;
        if (bytes > 0) next.is = class_of(next.code);
        characters.push_back(next);
    }
    return characters;
}

// Goes through a text, from word to word.
class KindFinder {
public:
    explicit KindFinder(std::string_view text) : text_(text), characters_(characters_of(text)), kinds_(text.size()) {}

    std::vector<TokenKind> find() && {
        for (std::size_t i = 0; i < characters_.size();) {
            const std::size_t end = word_end(i);
            if (end > i) {
                mark(i, end, kind_of_word(i, end));
                sentence_begins_ = false;
                line_ends_ = 0;
                i = end;
            } else {
                pass(i++);
            }
        }
        return std::move(kinds_);
    }

private:
    CharacterClass is(std::size_t i) const {
        return i < characters_.size() ? characters_[i].is : CharacterClass::other;
    }
    bool is_letter(std::size_t i) const { return i < characters_.size() && characters_[i].letter(); }
    bool in_word(std::size_t i) const { return is_letter(i) || is(i) == CharacterClass::digit; }

    // Behind the word that begins at `i`; `i` if none does. Apostrophes are parts of words between letters, stops and
    // commas between digits, connectors between either.
    std::size_t word_end(std::size_t i) const {
        if (!in_word(i)) return i;
        std::size_t end = i + 1;
        while (end < characters_.size()) {
            const TextCharacter& c = characters_[end];
            std::size_t next = end;
            while (is(next) == CharacterClass::connector) ++next;
            if (in_word(next)) {
                end = next + 1;
            } else if ((c.any_of(U"'’") && is_letter(end - 1) && is_letter(end + 1)) ||
                       (c.any_of(U".,") && is(end - 1) == CharacterClass::digit &&
                        is(end + 1) == CharacterClass::digit)) {
                end += 2;
            } else {
                break;
            }
        }
        return end;
    }

    TokenKind kind_of_word(std::size_t begin, std::size_t end) const {
        if (is(begin) == CharacterClass::digit) return TokenKind::number;
        bool code = end < characters_.size() && (characters_[end].any_of(U"(") || text_at(end).starts_with("::"));
        for (std::size_t i = begin + 1; i < end; ++i) {
            const CharacterClass c = is(i);
            code = code || c == CharacterClass::digit || c == CharacterClass::connector ||
                   (c == CharacterClass::upper && is(begin) == CharacterClass::lower);
        }
        if (code) return TokenKind::code;
        const bool capitalised = is(begin) == CharacterClass::upper && is_letter(begin + 1);
        const bool in_sentence = !sentence_begins_ && begin > 0 && is(begin - 1) == CharacterClass::space;
        return capitalised && in_sentence ? TokenKind::name : TokenKind::word;
    }

    void pass(std::size_t i) {
        const TextCharacter& c = characters_[i];
        line_ends_ = c.code == '\n' ? line_ends_ + 1 : c.is == CharacterClass::space ? line_ends_ : 0;
        if (c.any_of(U".!?:…") || line_ends_ > 1) sentence_begins_ = true;
        if (c.is == CharacterClass::symbol) {
            mark(i, i + 1, TokenKind::symbol);
        } else {
            const bool mark_of_text = c.is == CharacterClass::punctuation || c.is == CharacterClass::connector;
            mark(i, i + 1, mark_of_text ? TokenKind::punctuation : TokenKind::other);
        }
    }

    std::string_view text_at(std::size_t i) const { return text_.substr(characters_[i].begin); }

    void mark(std::size_t begin, std::size_t end, TokenKind kind) {
        const std::size_t last = characters_[end - 1].begin + characters_[end - 1].bytes;
        for (std::size_t b = characters_[begin].begin; b < last; ++b) kinds_[b] = kind;
    }

    std::string_view text_;
    std::vector<TextCharacter> characters_;
    std::vector<TokenKind> kinds_;
    bool sentence_begins_ = true;
    int line_ends_ = 0;  // since the latest character that is no white space
};

}  // namespace

const char* to_string(TokenKind kind) {
    switch (kind) {
        case TokenKind::word:
            return "words";
        case TokenKind::name:
            return "names";
        case TokenKind::number:
            return "numbers";
        case TokenKind::code:
            return "code";
        case TokenKind::symbol:
            return "symbols";
        case TokenKind::punctuation:
            return "punctuation";
        case TokenKind::other:
            break;
    }
    return "other";
}

std::vector<TokenKind> kinds_of_bytes(std::string_view text) { return KindFinder(text).find(); }

std::vector<TokenKind> kinds_of_tokens(std::span<const Token> tokens, const Tokenizer& tokenizer) {
    std::string text;
    std::vector<std::size_t> ends;
    ends.reserve(tokens.size());
    Token previous = tokenizer.begin_of_text();
    for (const Token token : tokens) {
        text += tokenizer.decode(previous, token);
        ends.push_back(text.size());
        previous = token;
    }
    const std::vector<TokenKind> of_bytes = kinds_of_bytes(text);
    std::vector<TokenKind> kinds;
    kinds.reserve(tokens.size());
    std::size_t begin = 0;
    for (const std::size_t end : ends) {
        const auto first = of_bytes.begin() + static_cast<std::ptrdiff_t>(begin);
        const auto last = of_bytes.begin() + static_cast<std::ptrdiff_t>(end);
        const auto found = std::find_if(first, last, [](TokenKind kind) { return kind != TokenKind::other; });
        kinds.push_back(found == last ? TokenKind::other : *found);
        begin = end;
    }
    return kinds;
}

}  // namespace llama
