// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "llama/model/config.hpp"

// Tests of a memory by tokens, without words: what was read before says what comes next.
namespace llama {

struct Probe {
    std::vector<Token> tokens;     ///< without BOS
    std::vector<Index> targets;    ///< ascending positions whose token is to be predicted from those before
    std::vector<Index> distances;  ///< of each target: the tokens since what has to be remembered was read
};

/// Keys and values that are read once and asked for later.
struct RecallShape {
    Index tokens = 0;      ///< of the probe
    Index pairs = 0;       ///< keys
    Index reassigned = 0;  ///< keys among them that get a second value, which is the one to be remembered
};

/// Associative recall in context, after MQAR (Arora et al. 2023, arXiv 2312.04927) and, with keys that are reassigned,
/// the forgetting MQAR of the same authors' zoology: first all pairs of a key and its value, then the reassigned keys
/// with their new values, then filler in which each key comes again once, with its latest value behind it as a target.
/// Of the places for that, the one that is i-th nearest is drawn in proportion to 1/i (there i^-0.99).
///
/// Keys, values and filler are distinct tokens of `allowed`, which has to have none of them twice and at least
/// 2 pairs + reassigned + 1 of them; a filler token may come more than once. The probe has at least
/// 4 pairs + 2 reassigned tokens. Throws freqkv::Error otherwise. The same on every platform.
Probe make_recall_probe(const RecallShape& shape, std::span<const Token> allowed, std::uint64_t seed);

/// A passage of a text that comes again.
struct PassageShape {
    Index begin = 0;     ///< where it stands in the text
    Index length = 0;    ///< its tokens, at least 2
    Index distance = 0;  ///< from a token to the same one when it comes again, at least `length`
};

/// The text up to `begin` + `distance`, and then the passage again. All its tokens there but the first are targets:
/// nothing says that it comes again before the first was read. Throws freqkv::Error if the text is shorter.
Probe make_passage_probe(const PassageShape& shape, std::span<const Token> text);

}  // namespace llama
