// SPDX-License-Identifier: MIT
#include "llama/evaluation/probes.hpp"

#include <algorithm>
#include <cstddef>
#include <numeric>
#include <string>
#include <utility>

#include "freqkv/error.hpp"
#include "llama/evaluation/draws.hpp"
#include "llama/model/random.hpp"

namespace llama {

namespace {

// `count` different places of [0, places): the i-th is drawn in proportion to 1 / (i + 1) from those that are left.
std::vector<Index> draw_near_places(Index count, Index places, Random& random) {
    std::vector<double> sums;
    sums.reserve(static_cast<std::size_t>(places));
    double sum = 0;
    for (Index i = 0; i < places; ++i) sums.push_back(sum += 1 / static_cast<double>(i + 1));
    std::vector<bool> taken(sums.size());
    std::vector<Index> result;
    while (static_cast<Index>(result.size()) < count) {
        const auto found = std::upper_bound(sums.begin(), sums.end() - 1, random.uniform() * sum);
        const auto place = static_cast<std::size_t>(found - sums.begin());
        if (taken[place]) continue;
        taken[place] = true;
        result.push_back(static_cast<Index>(place));
    }
    return result;
}

}  // namespace

Probe make_recall_probe(const RecallShape& shape, std::span<const Token> allowed, std::uint64_t seed) {
    constexpr Index most = most_tokens / 8;
    freqkv::require(shape.pairs >= 1 && shape.pairs <= most, "pairs", shape.pairs, "must be at least 1");
    freqkv::require(shape.reassigned >= 0 && shape.reassigned <= shape.pairs, "reassigned", shape.reassigned,
                    "must be 0 to the pairs");
    const Index assignments = shape.pairs + shape.reassigned;
    freqkv::require(shape.tokens >= 2 * (assignments + shape.pairs) && shape.tokens <= most_tokens, "tokens",
                    shape.tokens, "must be at least 4 pairs + 2 reassigned");
    freqkv::require(allowed.size() > static_cast<std::size_t>(assignments + shape.pairs), "allowed tokens",
                    allowed.size(), "must be more than 2 pairs + reassigned");
    std::vector<Token> drawn(allowed.begin(), allowed.end());
    std::sort(drawn.begin(), drawn.end());
    const auto twice = std::adjacent_find(drawn.begin(), drawn.end());
    if (twice != drawn.end()) freqkv::refuse("an allowed token", std::to_string(*twice), "must be allowed once");

    Random random(seed);
    drawn.assign(allowed.begin(), allowed.end());
    shuffle(drawn, random);
    const std::span<const Token> all(drawn);
    const std::span<const Token> keys = all.first(static_cast<std::size_t>(shape.pairs));
    const std::span<const Token> values = all.subspan(keys.size(), static_cast<std::size_t>(assignments));
    const std::span<const Token> filler = all.subspan(keys.size() + values.size());

    // Which key each assignment is of: each once, and then those that are reassigned.
    std::vector<std::size_t> assigned(keys.size());
    std::iota(assigned.begin(), assigned.end(), std::size_t{0});
    std::vector<std::size_t> again = assigned;
    shuffle(again, random);
    assigned.insert(assigned.end(), again.begin(), again.begin() + static_cast<std::ptrdiff_t>(shape.reassigned));

    Probe probe;
    std::vector<Index> latest(keys.size());  // where the key's value stands
    for (std::size_t a = 0; a < assigned.size(); ++a) {
        probe.tokens.push_back(keys[assigned[a]]);
        latest[assigned[a]] = static_cast<Index>(probe.tokens.size());
        probe.tokens.push_back(values[a]);
    }
    const Index begin = 2 * assignments;
    while (static_cast<Index>(probe.tokens.size()) < shape.tokens) probe.tokens.push_back(draw_from(random, filler));
    const std::vector<Index> places = draw_near_places(shape.pairs, (shape.tokens - begin) / 2, random);
    std::vector<std::pair<Index, Index>> targets;  // and their distances
    for (std::size_t k = 0; k < keys.size(); ++k) {
        const Index target = begin + 2 * places[k] + 1;
        probe.tokens[static_cast<std::size_t>(target) - 1] = keys[k];
        probe.tokens[static_cast<std::size_t>(target)] = probe.tokens[static_cast<std::size_t>(latest[k])];
        targets.emplace_back(target, target - latest[k]);
    }
    std::sort(targets.begin(), targets.end());
    for (const auto& [target, distance] : targets) {
        probe.targets.push_back(target);
        probe.distances.push_back(distance);
    }
    return probe;
}

Probe make_passage_probe(const PassageShape& shape, std::span<const Token> text) {
    const auto size = static_cast<Index>(text.size());
    freqkv::require(shape.begin >= 0 && shape.begin <= size, "begin", shape.begin, "must be 0 to the text's tokens");
    freqkv::require(shape.length >= 2, "length", shape.length, "must be at least 2");
    freqkv::require(shape.distance >= shape.length, "distance", shape.distance, "must be at least the length");
    freqkv::require(shape.distance <= size - shape.begin, "distance", shape.distance,
                    "must not reach beyond the text's end");
    const auto begin = static_cast<std::size_t>(shape.begin);
    const auto before = text.first(begin + static_cast<std::size_t>(shape.distance));
    const auto passage = text.subspan(begin, static_cast<std::size_t>(shape.length));
    Probe probe;
    probe.tokens.assign(before.begin(), before.end());
    probe.tokens.insert(probe.tokens.end(), passage.begin(), passage.end());
    for (Index i = 1; i < shape.length; ++i) probe.targets.push_back(shape.begin + shape.distance + i);
    probe.distances.assign(probe.targets.size(), shape.distance);
    return probe;
}

}  // namespace llama
