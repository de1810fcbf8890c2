// SPDX-License-Identifier: MIT
#include "llama/program/flop_model.hpp"

#include <algorithm>
#include <cmath>

namespace llama {

namespace {

struct HeadCount {
    double scores = 0;      // of each of its query heads
    double transforms = 0;  // operations for a column
    Index compressions = 0;
};

HeadCount count_head(const CacheSettings& settings, Index capacity, Index tokens) {
    const auto number = [](Index value) { return static_cast<double>(value); };
    HeadCount count;
    const Index first = settings.grows() ? tokens : std::min(tokens, capacity);
    count.scores = number(first) * number(first);
    const Index rest = tokens - first;
    if (rest == 0) return count;
    const Index span = capacity - settings.sizes.sinks - settings.sizes.recent;
    const Index chunk = span - settings.kept_of(span);  // what a compression makes room for
    const Index last = rest % chunk;
    count.scores += number(rest / chunk) * number(chunk) * number(capacity);
    count.scores += number(last) * number(capacity - chunk + last);
    count.compressions = rest / chunk + (last > 0 ? 1 : 0);
    if (traits_of(settings.policy).dct) {
        count.transforms = number(count.compressions) * number(span) * std::log2(number(span));
    }
    return count;
}

}  // namespace

FlopCount count_flops(const Config& config, const CacheSettings& settings, Index tokens) {
    const auto number = [](Index value) { return static_cast<double>(value); };
    const double layers = number(config.layers);
    const double multiply_adds = 2 * number(tokens);  // of a weight
    FlopCount count;
    count.projections =
        multiply_adds * layers * number(config.dim) * number(2 * config.query_dim() + 2 * config.kv_dim());
    count.feed_forward = multiply_adds * layers * number(config.dim) * number(config.hidden) * 3;
    const double norms = (config.output_norms ? 4 : 2) * layers + 1;
    count.elementwise = multiply_adds * (layers * number(config.hidden + 2 * (config.query_dim() + config.kv_dim())) +
                                         norms * 2 * number(config.dim));
    if (config.head_norms)
        count.elementwise += multiply_adds * layers * 2 * number(config.query_dim() + config.kv_dim());
    count.classifier = multiply_adds * number(config.dim) * number(config.vocabulary);

    const double local_layers = number(config.count_local_layers());
    const double local_scores = number(tokens) * number(std::min(tokens, config.local_window));
    const double query_flops = 4 * number(config.query_dim());  // of a score in all heads of a layer
    count.attention = local_scores * local_layers * query_flops;
    const Index kinds = settings.sizes.head_capacities.empty() ? 1 : config.kv_heads;  // of heads in a layer
    for (Index l = 0; l < config.layers; ++l) {
        if (config.kind(l).local) continue;
        for (Index h = 0; h < kinds; ++h) {
            const HeadCount head = count_head(settings, settings.sizes.capacity_of(l, h), tokens);
            count.attention += head.scores * query_flops / number(kinds);
            count.compression += head.transforms * 2 * number(config.kv_dim()) / number(kinds);
            count.compressions = std::max(count.compressions, head.compressions);
        }
    }
    return count;
}

}  // namespace llama
