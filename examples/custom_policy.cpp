// SPDX-License-Identifier: MIT
// Policies of your own: a schedule, a codec that selects, one that transforms, one that does both, put together in four
// ways and run through the same cache. docs/policies.md explains the members.
#include <algorithm>
#include <freqkv/freqkv.hpp>
#include <iostream>
#include <numeric>
#include <vector>

using namespace freqkv;

// A schedule: the older half of what may be compressed to a quarter of its entries, the newer half to three
// quarters. So what is old gives way first.
struct OlderHarder {
    SpanList plan(const CacheLayout& layout, Index /*compressions*/) const {
        const Index half = (layout.entries - layout.sinks - layout.recent) / 2;
        require(half >= 4, "capacity", layout.entries, "must be at least sinks + recent + 8");
        return {Span{layout.sinks, half, half / 4}, Span{layout.sinks + half, half, 3 * half / 4}};
    }
};

// A codec that selects: the entries with the largest values stay, in their order.
struct Loudest {
    template <class T>
    Index scratch_bytes(const SpanReader<T>& span, Index /*keep*/) const {
        return span.size() * static_cast<Index>(sizeof(Index)) +
               (span.size() + span.value_dim()) * static_cast<Index>(sizeof(Arithmetic<T>));
    }

    template <class T>
    Index select(const SpanReader<T>& span, Index keep, Index* chosen, std::byte* scratch) const {
        using C = Arithmetic<T>;
        auto* const order = reinterpret_cast<Index*>(scratch);
        auto* const loudness = reinterpret_cast<C*>(order + span.size());
        C* const value = loudness + span.size();
        for (Index i = 0; i < span.size(); ++i) {
            span.load_value(i, value);
            loudness[i] = std::inner_product(value, value + span.value_dim(), value, C{0});
        }
        std::iota(order, order + span.size(), Index{0});
        std::nth_element(order, order + keep, order + span.size(),
                         [&](Index a, Index b) { return loudness[a] > loudness[b]; });
        std::sort(order, order + keep);
        std::copy_n(order, keep, chosen);
        return keep;
    }
};

// A codec that transforms: entry i of the result is the mean of the i-th part of the span.
template <class C>
class MeanPlan {
public:
    MeanPlan(Index length, Index keep) : length_(length), keep_(keep) {}

    static constexpr Index block_columns = 16;

    Index scratch_bytes() const { return (keep_ + 1) * block_columns * static_cast<Index>(sizeof(C)); }

    template <RowSource<C> In, RowSink<C> Out>
    void forward(const In& in, const Out& out, std::byte* scratch, Energy* energy) const noexcept {
        auto* const means = reinterpret_cast<C*>(scratch);  // [keep, block_columns]
        C* const row = means + keep_ * block_columns;
        std::fill_n(means, keep_ * block_columns, C{0});
        double before = 0;
        double after = 0;
        // Everything is read before anything is written: in and out are the same memory.
        for (Index part = 0; part < keep_; ++part) {
            C* const mean = means + part * block_columns;
            const Index begin = part * length_ / keep_;
            const Index end = (part + 1) * length_ / keep_;
            for (Index i = begin; i < end; ++i) {
                in.load(i, row);
                for (Index c = 0; c < in.columns(); ++c) {
                    mean[c] += row[c] / static_cast<C>(end - begin);
                    before += static_cast<double>(row[c]) * static_cast<double>(row[c]);
                }
            }
            for (Index c = 0; c < in.columns(); ++c) {
                after += static_cast<double>(end - begin) * static_cast<double>(mean[c]) * static_cast<double>(mean[c]);
            }
        }
        for (Index i = 0; i < keep_; ++i) out.store(i, means + i * block_columns);
        if (energy != nullptr) *energy += {before, std::max(0.0, before - after)};
    }

private:
    Index length_, keep_;
};

struct Mean {
    template <class C>
    MeanPlan<C> plan(Index length, Index keep) const {
        return {length, keep};
    }
};

// A codec that does both: a quarter of what is kept are the loudest entries as they are, the others become means.
struct LoudestAndMean : Loudest, Mean {
    Index exact(Index /*length*/, Index keep) const { return keep / 4; }
};

// Put together; parts of the library and parts of your own fit with each other.
struct LoudestOfAll {
    WholeSpan schedule{0.5};
    Loudest codec;
};
struct FadingLowPass {
    OlderHarder schedule;
    FrequencyCodec<> codec;
};
struct FadingMean {
    OlderHarder schedule;
    Mean codec;
};
struct LoudestAmongMeans {
    WholeSpan schedule{0.5};
    LoudestAndMean codec;
};
static_assert(Policy<LoudestOfAll, float> && Policy<FadingLowPass, float> && Policy<FadingMean, float> &&
              Policy<LoudestAmongMeans, float>);

// Feeds 150 quiet tokens through 64 entries, of which the 90th alone is loud, and tells the largest value
// that the cache still holds.
template <class P>
double loudest_left(const char* name, const P& policy) {
    const Index tokens = 150;
    const Index dim = 16;
    SinkedKVCache<float, P> cache({.kv_heads = 1, .key_dim = dim, .capacity = 64, .sinks = 4, .recent = 8},
                                  Rope<float>({.head_dim = dim}, 64), policy);
    std::vector<float> text(static_cast<std::size_t>(tokens * dim), 0.1F);
    std::fill_n(text.begin() + 90 * dim, dim, 1.0F);
    const KVView<const float> view(text.data(), 1, tokens, dim);
    cache.append(view, view);
    float largest = 0;
    for (Index i = 0; i < cache.size(); ++i) largest = std::max(largest, cache.values(0)(i, 0));
    std::cout << name << ": after " << cache.compressions() << " compressions " << largest << " is left\n";
    return static_cast<double>(largest);
}

int main() {
    const double loudest = loudest_left("LoudestOfAll", LoudestOfAll{});
    const double low_pass = loudest_left("FadingLowPass", FadingLowPass{});
    const double mean = loudest_left("FadingMean", FadingMean{});
    const double both = loudest_left("LoudestAmongMeans", LoudestAmongMeans{});
    const double window = loudest_left("LocalWindow", LocalWindow(0.5));
    // A selection keeps a token or drops it, a transform blends it with its neighbours.
    const bool as_expected =
        loudest == 1 && both == 1 && low_pass > 0.15 && low_pass < 0.9 && mean > 0.15 && mean < 0.9 && window < 0.11;
    return as_expected ? 0 : 1;
}
