// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>

#include <array>
#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "differentiated_layer.hpp"
#include "freqkv/dct/direct.hpp"
#include "freqkv/detail/adjoint/compression_adjoint.hpp"
#include "freqkv/policy/binary_tiers.hpp"
#include "freqkv/policy/block_mean.hpp"
#include "freqkv/policy/equal_weight.hpp"
#include "freqkv/policy/full.hpp"
#include "freqkv/policy/local_window.hpp"
#include "freqkv/policy/low_pass.hpp"
#include "model_cache.hpp"
#include "naive.hpp"

// Gradients are those of finite differences.
namespace freqkv::adjoint_test {
namespace {

using testing_model::Of;

// A low-pass that keeps one entry fewer in odd heads.
struct UnevenLowPass {
    template <class C>
    auto plan(Index length, Index keep) const {
        return FrequencyCompressor<C, dct::Simd>(length, keep);
    }
    template <class T>
    Index kept(const SpanReader<T>& span, Index keep) const {
        return keep - span.head() % 2;
    }
};

static_assert(DifferentiableCodec<FrequencyCodec<>, double> && DifferentiableCodec<SelectLatest, float>);
static_assert(DifferentiableCodec<UnevenLowPass, double> && DifferentiableCodec<SelectLargest, double>);

// d f / d step along `direction`, by central differences.
template <class F>
double slope(std::vector<double>& x, const std::vector<double>& direction, F&& f) {
    constexpr double step = 1e-4;
    const std::vector<double> at = x;
    const auto moved = [&](double by) {
        for (std::size_t i = 0; i < x.size(); ++i) x[i] = at[i] + by * direction[i];
        return f();
    };
    const double result = (moved(step) - moved(-step)) / (2 * step);
    x = at;
    return result;
}

// Some elements by themselves, and all of them along two random directions.
template <class F>
void expect_gradient(const char* name, std::vector<double>& x, const std::vector<double>& gradient, F&& f) {
    // Where the gradient is 0, rounding remains.
    const double tolerance = 1e-6 * largest(gradient) + 1e-11;
    std::vector<double> direction(x.size(), 0.0);
    for (std::size_t i = 0; i < x.size(); i += x.size() / 16 + 1) {
        direction[i] = 1;
        ASSERT_NEAR(gradient[i], slope(x, direction, f), tolerance)
            << "gradient of " << name << ", element " << i << " of " << x.size();
        direction[i] = 0;
    }
    naive::Random next(11);
    for (int trial = 0; trial < 2; ++trial) {
        double along = 0;
        for (std::size_t i = 0; i < x.size(); ++i) along += gradient[i] * (direction[i] = next());
        ASSERT_NEAR(along, slope(x, direction, f), 10 * tolerance)
            << "gradient of " << name << " along a random direction";
    }
}

template <class P>
void expect_gradients(const P& policy, const Shape& shape, Index compressions, const AttentionOptions& options = {}) {
    SCOPED_TRACE(shape.name());
    Layer<double, P> layer(shape, policy, options);
    SinkedKVCache<double, P> cache(shape.options(), shape.rope<double>(), policy);
    ChunkedAttention<double>().forward(layer.queries(std::as_const(layer.q)), layer.keys(std::as_const(layer.k)),
                                       layer.values(std::as_const(layer.v)), cache, layer.results(layer.out));
    ASSERT_EQ(cache.compressions(), compressions) << "compressions in this text";
    layer.forward();
    layer.backward();
    const auto f = [&] { return layer.weighted_sum(); };
    ASSERT_NO_FATAL_FAILURE(expect_gradient("queries", layer.q, layer.d_q, f));
    ASSERT_NO_FATAL_FAILURE(expect_gradient("keys", layer.k, layer.d_k, f));
    ASSERT_NO_FATAL_FAILURE(expect_gradient("values", layer.v, layer.d_v, f));
}

// Texts of capacity 24 with a fourth of a chunk behind the latest of so many compressions.
Index text_length(const Shape& shape, double ratio, Index compressions) {
    const Index span = shape.capacity - shape.sinks - shape.recent;
    const Index freed = span - static_cast<Index>(ratio * static_cast<double>(span));
    return compressions == 0 ? shape.capacity : shape.capacity + (compressions - 1) * freed + freed / 4 + 1;
}

class GradientThroughLowPass : public testing::TestWithParam<Index> {};

TEST_P(GradientThroughLowPass, IsThatOfFiniteDifferences) {
    for (const double ratio : {0.5, 0.3}) {
        for (const Index recent : {0, 5}) {
            for (const Index sinks : {0, 4}) {
                for (const RopePairing pairing : {RopePairing::adjacent, RopePairing::half_split}) {
                    for (const Index kv_heads : {2, 4}) {
                        Shape shape{.sinks = sinks,
                                    .recent = recent,
                                    .query_heads = 4,
                                    .kv_heads = kv_heads,
                                    .pairing = pairing};
                        shape.tokens = text_length(shape, ratio, GetParam());
                        ASSERT_NO_FATAL_FAILURE(expect_gradients(LowPass<>(ratio), shape, GetParam()));
                    }
                }
            }
        }
    }
}

TEST_P(GradientThroughLowPass, IsThatOfFiniteDifferencesAtOtherSizes) {
    for (const auto& [capacity, key_dim, value_dim, rotated] :
         {std::array<Index, 4>{31, 5, 3, 4}, {70, 16, 16, 16}, {12, 1, 1, 0}, {133, 34, 18, 34}}) {
        Shape shape{.capacity = capacity,
                    .query_heads = 3,
                    .kv_heads = 1,
                    .key_dim = key_dim,
                    .value_dim = value_dim,
                    .rotated_dims = rotated};
        shape.tokens = text_length(shape, 0.5, GetParam());
        ASSERT_NO_FATAL_FAILURE(expect_gradients(LowPass<>(), shape, GetParam()));
    }
}

TEST_P(GradientThroughLowPass, IsThatOfFiniteDifferencesByAnotherTransform) {
    Shape shape;
    shape.tokens = text_length(shape, 0.5, GetParam());
    expect_gradients(LowPass<dct::Direct>(), shape, GetParam());
}

INSTANTIATE_TEST_SUITE_P(Compressions, GradientThroughLowPass, testing::Values(0, 1, 3));

TEST(Gradient, ThroughALocalWindowIsThatOfFiniteDifferences) {
    for (const Index compressions : {0, 1, 3}) {
        for (const Index recent : {0, 5}) {
            for (const RopePairing pairing : {RopePairing::adjacent, RopePairing::half_split}) {
                Shape shape{.recent = recent, .pairing = pairing};
                shape.tokens = text_length(shape, 0.5, compressions);
                ASSERT_NO_FATAL_FAILURE(expect_gradients(LocalWindow(), shape, compressions));
            }
        }
    }
}

TEST(Gradient, OfFullAttentionIsThatOfFiniteDifferences) {
    for (const Index tokens : {1, 2, 40, 150}) {
        ASSERT_NO_FATAL_FAILURE(expect_gradients(Full(), Shape{.tokens = tokens}, 0));
    }
}

TEST(Gradient, OfCappedScoresAndWindowsIsThatOfFiniteDifferences) {
    const AttentionOptions all[] = {{.score_cap = 0.5}, {.score_cap = 2}, {.window = 1},
                                    {.window = 9},      {.window = 70},   {.score_cap = 0.5, .window = 13}};
    for (const AttentionOptions& options : all) {
        SCOPED_TRACE("cap " + std::to_string(options.score_cap) + ", window " + std::to_string(options.window));
        for (const Index tokens : {1, 2, 40, 150}) {
            ASSERT_NO_FATAL_FAILURE(expect_gradients(Full(), Shape{.tokens = tokens}, 0, options));
        }
        Shape shape;
        shape.tokens = text_length(shape, 0.5, 3);
        ASSERT_NO_FATAL_FAILURE(expect_gradients(LowPass<>(), shape, 3, options));
        ASSERT_NO_FATAL_FAILURE(expect_gradients(LocalWindow(), shape, 3, options));
    }
}

// At the positions of the text, of entries that count once or as often as they stand for tokens.
class GradientOfText : public testing::TestWithParam<bool> {
protected:
    Shape shape(Index recent = 0, Index sinks = 4, RopePairing pairing = RopePairing::adjacent) const {
        return {
            .sinks = sinks, .recent = recent, .pairing = pairing, .positions = Positions::text, .weighted = GetParam()};
    }
};

TEST_P(GradientOfText, ThroughALowPassIsThatOfFiniteDifferences) {
    for (const Index compressions : {0, 1, 2, 5}) {
        for (const double ratio : {0.5, 0.3, 0.9}) {
            for (const Index recent : {0, 5}) {
                for (const Index sinks : {0, 4}) {
                    for (const RopePairing pairing : {RopePairing::adjacent, RopePairing::half_split}) {
                        Shape of_text = shape(recent, sinks, pairing);
                        of_text.tokens = text_length(of_text, ratio, compressions);
                        ASSERT_NO_FATAL_FAILURE(expect_gradients(LowPass<>(ratio), of_text, compressions));
                    }
                }
            }
        }
    }
}

TEST_P(GradientOfText, IsThatOfFiniteDifferencesAtOtherSizes) {
    for (const auto& [capacity, key_dim, value_dim, rotated] :
         {std::array<Index, 4>{31, 5, 3, 4}, {70, 16, 16, 16}, {12, 1, 1, 0}, {133, 34, 18, 34}}) {
        Shape of_text = shape();
        of_text.capacity = capacity;
        of_text.query_heads = 3;
        of_text.kv_heads = 1;
        of_text.key_dim = key_dim;
        of_text.value_dim = value_dim;
        of_text.rotated_dims = rotated;
        of_text.tokens = text_length(of_text, 0.5, 3);
        ASSERT_NO_FATAL_FAILURE(expect_gradients(LowPass<>(), of_text, 3));
    }
}

TEST_P(GradientOfText, ThroughOtherPoliciesIsThatOfFiniteDifferences) {
    for (const Index compressions : {1, 4}) {
        for (const Index recent : {0, 5}) {
            Shape of_text = shape(recent);
            of_text.tokens = text_length(of_text, 0.5, compressions);
            ASSERT_NO_FATAL_FAILURE(expect_gradients(LocalWindow(), of_text, compressions));
            ASSERT_NO_FATAL_FAILURE(expect_gradients(BlockMean(), of_text, compressions));
            ASSERT_NO_FATAL_FAILURE(expect_gradients(LowPass<dct::Direct>(), of_text, compressions));
        }
    }
    for (const Index tokens : {1, 2, 40, 150}) {
        Shape of_text = shape();
        of_text.tokens = tokens;
        ASSERT_NO_FATAL_FAILURE(expect_gradients(Full(), of_text, 0));
    }
}

TEST_P(GradientOfText, ThroughSeveralSpansIsThatOfFiniteDifferences) {
    Shape of_text = shape(3);
    of_text.tokens = 66;
    {
        SCOPED_TRACE("two spans, low-pass");
        expect_gradients(Of<TwoSpans, FrequencyCodec<>>{}, of_text, 5);
    }
    {
        SCOPED_TRACE("two spans, a selection by the data");
        expect_gradients(Of<TwoSpans, SelectLargest>{}, of_text, 5);
    }
    {
        SCOPED_TRACE("a low-pass that keeps fewer in some heads");
        expect_gradients(Of<WholeSpan, UnevenLowPass>{}, of_text, 5);
    }
    of_text.capacity = 48;
    of_text.tokens = 120;
    {
        SCOPED_TRACE("tiers");
        expect_gradients(TieredLowPass<>(2), of_text, 8);
    }
    {
        SCOPED_TRACE("equal weight");
        expect_gradients(EqualWeightLowPass<>(), of_text, 4);
    }
}

TEST_P(GradientOfText, OfRaggedHeadsIsThatOfFiniteDifferences) {
    Shape of_text = shape();
    of_text.tokens = 61;
    of_text.query_heads = 6;
    of_text.kv_heads = 3;
    of_text.head_capacities = {24, 61, 17};
    expect_gradients(LowPass<>(), of_text, 4);
    expect_gradients(LocalWindow(0.3), of_text, 3);
}

TEST_P(GradientOfText, OfCappedScoresAndWindowsIsThatOfFiniteDifferences) {
    const AttentionOptions all[] = {{.score_cap = 0.5}, {.window = 9}, {.score_cap = 0.5, .window = 13}};
    for (const AttentionOptions& options : all) {
        SCOPED_TRACE("cap " + std::to_string(options.score_cap) + ", window " + std::to_string(options.window));
        Shape of_text = shape();
        of_text.tokens = text_length(of_text, 0.5, 3);
        ASSERT_NO_FATAL_FAILURE(expect_gradients(LowPass<>(), of_text, 3, options));
        of_text.capacity = 150;  // several blocks of keys
        of_text.tokens = text_length(of_text, 0.5, 2);
        ASSERT_NO_FATAL_FAILURE(expect_gradients(LowPass<>(), of_text, 2, options));
    }
}

INSTANTIATE_TEST_SUITE_P(Entries, GradientOfText, testing::Bool(),
                         [](const auto& weighted) { return weighted.param ? "Weighted" : "CountedOnce"; });

// Each head has boundaries of its own.
TEST(Gradient, OfRaggedHeadsIsThatOfFiniteDifferences) {
    const Shape shape{.tokens = 61, .query_heads = 6, .kv_heads = 3, .head_capacities = {24, 61, 17}};
    expect_gradients(LowPass<>(), shape, 4);
    expect_gradients(LocalWindow(0.3), shape, 3);
}

TEST(Gradient, ThroughAUsersPoliciesIsThatOfFiniteDifferences) {
    const Shape shape{.tokens = 66, .recent = 3};
    {
        SCOPED_TRACE("two spans, low-pass");
        expect_gradients(Of<TwoSpans, FrequencyCodec<>>{}, shape, 5);
    }
    {
        SCOPED_TRACE("two spans, a selection by the data");
        expect_gradients(Of<TwoSpans, SelectLargest>{}, shape, 5);
    }
    {
        SCOPED_TRACE("a low-pass that keeps fewer in some heads");
        expect_gradients(Of<WholeSpan, UnevenLowPass>{}, shape, 5);
    }
}

}  // namespace
}  // namespace freqkv::adjoint_test
