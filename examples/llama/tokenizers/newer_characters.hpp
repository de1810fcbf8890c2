// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <optional>
#include <string>
#include <string_view>

// Characters that are newer than Unicode 14, which PCRE2 10.42 has, and older than the tokenizers library's
// version, 16.
namespace llama {

namespace newer_characters {

/// Their kinds are general categories; of letters, ideographs are one of their own.
enum class Kind : std::uint8_t { lu, ll, lm, lo, han, mn, mc, nd, no, pd, po, sm, so, cf };

struct Range {
    char32_t first, last;
    Kind kind;
};

/// An older character of each kind, of 3 and of 4 bytes; none: no newer one has that many.
struct StandIn {
    std::string_view of_3_bytes, of_4_bytes;
};
inline constexpr std::array<StandIn, 14> stand_ins{{
    {"\xea\x99\x80", "\xf0\x90\x90\x80"},  // U+A640, U+10400
    {"\xea\x99\x81", "\xf0\x90\x90\xa8"},  // U+A641, U+10428
    {"", "\xf0\x96\xad\x80"},              // U+16B40
    {"", "\xf0\x90\x91\x90"},              // U+10450
    {"", "\xf0\xa0\x80\x80"},              // U+20000
    {"\xe0\xb8\xb1", "\xf0\x91\x80\xb8"},  // U+0E31, U+11038
    {"\xe0\xa4\x83", "\xf0\x91\x80\x80"},  // U+0903, U+11000
    {"", "\xf0\x9d\x9f\x8e"},              // U+1D7CE
    {"", "\xf0\x90\x84\x87"},              // U+10107
    {"", "\xf0\x90\xba\xad"},              // U+10EAD
    {"\xe2\x80\xa0", "\xf0\x91\x81\x87"},  // U+2020, U+11047
    {"", "\xf0\x9d\x9b\x81"},              // U+1D6C1
    {"\xe2\x98\x80", "\xf0\x9f\x98\x80"},  // U+2600, U+1F600
    {"", "\xf0\x9d\x85\xb3"},              // U+1D173
}};

using enum Kind;

/// As tools/newer_characters.py prints them.
inline constexpr Range ranges[] = {
    {0x0897, 0x0897, mn},    {0x0CF3, 0x0CF3, mc},    {0x0ECE, 0x0ECE, mn},   {0x1B4E, 0x1B4F, po},
    {0x1B7F, 0x1B7F, po},    {0x1C89, 0x1C89, lu},    {0x1C8A, 0x1C8A, ll},   {0x2427, 0x2429, so},
    {0x2FFC, 0x2FFF, so},    {0x31E4, 0x31E5, so},    {0x31EF, 0x31EF, so},   {0xA7CB, 0xA7CC, lu},
    {0xA7CD, 0xA7CD, ll},    {0xA7DA, 0xA7DA, lu},    {0xA7DB, 0xA7DB, ll},   {0xA7DC, 0xA7DC, lu},
    {0x105C0, 0x105F3, lo},  {0x10D40, 0x10D49, nd},  {0x10D4A, 0x10D4D, lo}, {0x10D4E, 0x10D4E, lm},
    {0x10D4F, 0x10D4F, lo},  {0x10D50, 0x10D65, lu},  {0x10D69, 0x10D6D, mn}, {0x10D6E, 0x10D6E, pd},
    {0x10D6F, 0x10D6F, lm},  {0x10D70, 0x10D85, ll},  {0x10D8E, 0x10D8F, sm}, {0x10EC2, 0x10EC4, lo},
    {0x10EFC, 0x10EFF, mn},  {0x1123F, 0x11240, lo},  {0x11241, 0x11241, mn}, {0x11380, 0x11389, lo},
    {0x1138B, 0x1138B, lo},  {0x1138E, 0x1138E, lo},  {0x11390, 0x113B5, lo}, {0x113B7, 0x113B7, lo},
    {0x113B8, 0x113BA, mc},  {0x113BB, 0x113C0, mn},  {0x113C2, 0x113C2, mc}, {0x113C5, 0x113C5, mc},
    {0x113C7, 0x113CA, mc},  {0x113CC, 0x113CD, mc},  {0x113CE, 0x113CE, mn}, {0x113CF, 0x113CF, mc},
    {0x113D0, 0x113D0, mn},  {0x113D1, 0x113D1, lo},  {0x113D2, 0x113D2, mn}, {0x113D3, 0x113D3, lo},
    {0x113D4, 0x113D5, po},  {0x113D7, 0x113D8, po},  {0x113E1, 0x113E2, mn}, {0x116D0, 0x116E3, nd},
    {0x11B00, 0x11B09, po},  {0x11BC0, 0x11BE0, lo},  {0x11BE1, 0x11BE1, po}, {0x11BF0, 0x11BF9, nd},
    {0x11F00, 0x11F01, mn},  {0x11F02, 0x11F02, lo},  {0x11F03, 0x11F03, mc}, {0x11F04, 0x11F10, lo},
    {0x11F12, 0x11F33, lo},  {0x11F34, 0x11F35, mc},  {0x11F36, 0x11F3A, mn}, {0x11F3E, 0x11F3F, mc},
    {0x11F40, 0x11F40, mn},  {0x11F41, 0x11F41, mc},  {0x11F42, 0x11F42, mn}, {0x11F43, 0x11F4F, po},
    {0x11F50, 0x11F59, nd},  {0x11F5A, 0x11F5A, mn},  {0x1342F, 0x1342F, lo}, {0x13439, 0x1343F, cf},
    {0x13440, 0x13440, mn},  {0x13441, 0x13446, lo},  {0x13447, 0x13455, mn}, {0x13460, 0x143FA, lo},
    {0x16100, 0x1611D, lo},  {0x1611E, 0x16129, mn},  {0x1612A, 0x1612C, mc}, {0x1612D, 0x1612F, mn},
    {0x16130, 0x16139, nd},  {0x16D40, 0x16D42, lm},  {0x16D43, 0x16D6A, lo}, {0x16D6B, 0x16D6C, lm},
    {0x16D6D, 0x16D6F, po},  {0x16D70, 0x16D79, nd},  {0x18CFF, 0x18CFF, lo}, {0x1B132, 0x1B132, lo},
    {0x1B155, 0x1B155, lo},  {0x1CC00, 0x1CCEF, so},  {0x1CCF0, 0x1CCF9, nd}, {0x1CD00, 0x1CEB3, so},
    {0x1D2C0, 0x1D2D3, no},  {0x1DF25, 0x1DF2A, ll},  {0x1E030, 0x1E06D, lm}, {0x1E08F, 0x1E08F, mn},
    {0x1E4D0, 0x1E4EA, lo},  {0x1E4EB, 0x1E4EB, lm},  {0x1E4EC, 0x1E4EF, mn}, {0x1E4F0, 0x1E4F9, nd},
    {0x1E5D0, 0x1E5ED, lo},  {0x1E5EE, 0x1E5EF, mn},  {0x1E5F0, 0x1E5F0, lo}, {0x1E5F1, 0x1E5FA, nd},
    {0x1E5FF, 0x1E5FF, po},  {0x1F6DC, 0x1F6DC, so},  {0x1F774, 0x1F776, so}, {0x1F77B, 0x1F77F, so},
    {0x1F7D9, 0x1F7D9, so},  {0x1F8B2, 0x1F8BB, so},  {0x1F8C0, 0x1F8C1, so}, {0x1FA75, 0x1FA77, so},
    {0x1FA87, 0x1FA89, so},  {0x1FA8F, 0x1FA8F, so},  {0x1FAAD, 0x1FAAF, so}, {0x1FABB, 0x1FABF, so},
    {0x1FAC6, 0x1FAC6, so},  {0x1FACE, 0x1FACF, so},  {0x1FADA, 0x1FADC, so}, {0x1FADF, 0x1FADF, so},
    {0x1FAE8, 0x1FAE9, so},  {0x1FAF7, 0x1FAF8, so},  {0x1FBCB, 0x1FBEF, so}, {0x2B739, 0x2B739, han},
    {0x2EBF0, 0x2EE5D, han}, {0x31350, 0x323AF, han},
};

}  // namespace newer_characters

/// The character of Unicode 14 that newer ones of its category and its number of bytes are taken for; empty: the
/// character is none of these.
inline std::string_view older_character(std::string_view character) {
    using namespace newer_characters;
    if (character.size() < 3) return {};
    char32_t code = static_cast<unsigned char>(character[0]) & (character.size() == 3 ? 0x0F : 0x07);
    for (const char byte : character.substr(1)) code = code << 6 | (static_cast<unsigned char>(byte) & 0x3F);
    const auto* const found = std::lower_bound(std::begin(ranges), std::end(ranges), code,
                                               [](const Range& range, char32_t c) { return range.last < c; });
    if (found == std::end(ranges) || code < found->first) return {};
    const StandIn& stand_in = stand_ins[static_cast<std::size_t>(found->kind)];
    return character.size() == 3 ? stand_in.of_3_bytes : stand_in.of_4_bytes;
}

/// A UTF-8 text with older characters for all newer ones; nothing if it has none.
inline std::optional<std::string> with_older_characters(std::string_view text) {
    std::optional<std::string> older;
    for (std::size_t at = 0; at < text.size();) {
        const auto lead = static_cast<unsigned char>(text[at]);
        const std::size_t length = lead < 0xE0 ? 1 : lead < 0xF0 ? 3 : 4;
        const std::string_view stand_in = length == 1 ? std::string_view() : older_character(text.substr(at, length));
        if (!stand_in.empty()) {
            if (!older) older.emplace(text);
            older->replace(at, length, stand_in);
        }
        at += length;
    }
    return older;
}

}  // namespace llama
