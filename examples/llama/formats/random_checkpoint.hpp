// SPDX-License-Identifier: MIT
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

#include "llama/model/checkpoint.hpp"
#include "llama/model/config.hpp"
#include "llama/model/random.hpp"

// Models of random weights, in the file formats of llama2.c: they write noise, but all of the program
// can be tried with them.
namespace llama {

enum class CheckpointFormat { legacy, version_1 };

namespace detail {

template <class Value>
void append_bytes(std::string& bytes, Value value) {
    char raw[sizeof value];
    std::memcpy(raw, &value, sizeof value);
    bytes.append(raw, sizeof value);
}

}  // namespace detail

/// The bytes of a checkpoint of this shape, with heads of dim / heads dimensions. Matrix elements are uniform with
/// variance 1 / inputs, so that activations keep their size; norms are 1. Equal seeds give equal bytes on every
/// platform.
inline std::string random_checkpoint(Config config, CheckpointFormat format, std::uint64_t seed) {
    config.head_dim = config.dim / config.heads;
    using detail::append_bytes;
    Random random(seed);
    std::string bytes;
    const bool legacy = format == CheckpointFormat::legacy;
    if (!legacy) {
        append_bytes(bytes, std::uint32_t{0x616b3432});
        append_bytes(bytes, std::int32_t{1});
    }
    const Index signed_vocabulary = legacy && !config.shared_classifier ? -config.vocabulary : config.vocabulary;
    for (const Index size :
         {config.dim, config.hidden, config.layers, config.heads, config.kv_heads, signed_vocabulary, config.context}) {
        append_bytes(bytes, static_cast<std::int32_t>(size));
    }
    if (!legacy) {
        bytes.push_back(config.shared_classifier ? 1 : 0);
        bytes.resize(256, 0);
    }
    const auto norms = [&](Index count) {
        for (Index i = 0; i < count; ++i) append_bytes(bytes, 1.0f);
    };
    const auto matrices = [&](Index count, Index rows, Index columns) {
        const double width = std::sqrt(12.0 / static_cast<double>(columns));
        for (Index i = 0; i < count * rows * columns; ++i) {
            append_bytes(bytes, static_cast<float>((random.uniform() - 0.5) * width));
        }
    };
    const auto attention = [&] {
        matrices(config.layers, config.dim, config.dim);
        matrices(config.layers, config.kv_dim(), config.dim);
        matrices(config.layers, config.kv_dim(), config.dim);
        matrices(config.layers, config.dim, config.dim);
    };
    const auto feed_forward = [&] {
        matrices(config.layers, config.hidden, config.dim);
        matrices(config.layers, config.dim, config.hidden);
        matrices(config.layers, config.hidden, config.dim);
    };
    if (legacy) {
        matrices(1, config.vocabulary, config.dim);
        norms(config.layers * config.dim);
        attention();
        norms(config.layers * config.dim);
        feed_forward();
        norms(config.dim);
        // Rotary tables: nobody reads them.
        for (Index i = 0; i < config.context * config.head_dim; ++i) append_bytes(bytes, 0.0f);
    } else {
        norms((2 * config.layers + 1) * config.dim);
        matrices(1, config.vocabulary, config.dim);
        attention();
        feed_forward();
    }
    if (!config.shared_classifier) matrices(1, config.vocabulary, config.dim);
    return bytes;
}

/// The bytes of a tokenizer of `vocabulary` >= 512 pieces: the three control tokens, the 256 bytes, the
/// printable ASCII characters, pairs of letters, and pairs after a space.
inline std::string syllable_tokenizer(Index vocabulary) {
    using detail::append_bytes;
    std::string bytes;
    Index count = 0;
    append_bytes(bytes, std::int32_t{6});  // the longest piece
    const auto add = [&](float score, std::string_view piece) {
        if (count == vocabulary) return;
        append_bytes(bytes, score);
        append_bytes(bytes, static_cast<std::int32_t>(piece.size()));
        bytes.append(piece);
        ++count;
    };
    // In the order of preference, as trained vocabularies have it.
    const auto add_ranked = [&](std::string_view piece) { add(static_cast<float>(259 - count), piece); };
    add(0, "<unk>");
    add(0, "\n<s>\n");
    add(0, "\n</s>\n");
    constexpr std::string_view digits = "0123456789ABCDEF";
    for (std::size_t byte = 0; byte < 256; ++byte) {
        add(0, std::string("<0x") + digits[byte / 16] + digits[byte % 16] + '>');
    }
    for (char c = ' '; c <= '~'; ++c) add_ranked(std::string(1, c));
    constexpr std::string_view vowels = "aeiou";
    constexpr std::string_view consonants = "bcdfghjklmnpqrstvwxyz";
    for (const bool spaced : {false, true}) {
        for (const char consonant : consonants) {
            for (const char vowel : vowels) {
                std::string piece(spaced ? 1 : 0, ' ');
                piece.push_back(consonant);
                piece.push_back(vowel);
                add_ranked(piece);
            }
        }
    }
    const Index missing = vocabulary - count;
    for (Index i = 0; i < missing; ++i) add_ranked(std::to_string(i).insert(0, 1, '#'));
    return bytes;
}

}  // namespace llama
