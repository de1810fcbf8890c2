// SPDX-License-Identifier: MIT
#include "llama/program/flop_model.hpp"

#include <algorithm>
#include <cmath>

namespace llama {

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

    double scores = 0;  // of a head
    const Index first = settings.grows() ? tokens : std::min(tokens, settings.sizes.capacity);
    scores += number(first) * number(first);
    if (const Index rest = tokens - first; rest > 0) {
        const Index capacity = settings.sizes.capacity;
        const Index chunk = settings.span() - settings.kept();  // what a compression makes room for
        const Index last = rest % chunk;
        scores += number(rest / chunk) * number(chunk) * number(capacity);
        scores += number(last) * number(capacity - chunk + last);
        count.compressions = rest / chunk + (last > 0 ? 1 : 0);
    }
    const double local_layers = number(config.count_local_layers());
    const double global_layers = layers - local_layers;
    const double local_scores = number(tokens) * number(std::min(tokens, config.local_window));
    count.attention = (scores * global_layers + local_scores * local_layers) * 4 * number(config.query_dim());
    if (traits_of(settings.policy).dct) {
        const double span = number(settings.span());
        count.compression =
            number(count.compressions) * global_layers * number(2 * config.kv_dim()) * span * std::log2(span);
    }
    return count;
}

}  // namespace llama
