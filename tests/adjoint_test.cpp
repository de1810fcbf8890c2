// SPDX-License-Identifier: MIT
#include "freqkv/adjoint/chunked_attention.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "differentiated_layer.hpp"
#include "freqkv/dct/direct.hpp"
#include "freqkv/detail/adjoint/compression_adjoint.hpp"
#include "freqkv/detail/adjoint/rope_angles.hpp"
#include "freqkv/policy/binary_tiers.hpp"
#include "freqkv/policy/block_mean.hpp"
#include "freqkv/policy/full.hpp"
#include "freqkv/policy/local_window.hpp"
#include "freqkv/policy/low_pass.hpp"
#include "model_cache.hpp"
#include "naive.hpp"

namespace freqkv::adjoint_test {
namespace {

using testing::HasSubstr;
using testing::ThrowsMessage;
using testing_model::Of;

static_assert(DifferentiablePlan<FrequencyCompressor<float, dct::Simd>, float>);

// A transform whose plan has a forward() alone.
struct OneWay {
    struct Plan {
        static constexpr Index block_columns = 2;
        Index scratch_bytes() const { return 0; }
        template <class In, class Out>
        void forward(const In&, const Out&, std::byte*, Energy*) const noexcept {}
    };
    template <class C>
    Plan plan(Index, Index) const {
        return {};
    }
};
static_assert(TransformCodec<OneWay, float> && !DifferentiableCodec<OneWay, float>);

// What Rope::angles() gives for the middle of what each entry stands for.
template <class P>
std::vector<const double*> angles_of_text(const SinkedKVCache<double, P>& cache,
                                          const detail::RopeAngles<double>& angles) {
    std::vector<const double*> result;
    for (Index i = 0; i < cache.size(); ++i) {
        const TokenRange tokens = cache.entry_tokens(0, i);
        result.push_back(angles[tokens.begin + tokens.end - 1]);
    }
    return result;
}

// A list that is full for the third time, before the compression and after it, as stored, and its adjoint on random
// gradients.
template <class P>
void expect_transpose(const P& policy, Positions positions) {
    const Index capacity = 45, key_dim = 20, value_dim = 11;
    const bool of_text = positions == Positions::text;
    for (const RopePairing pairing : {RopePairing::adjacent, RopePairing::half_split}) {
        const Rope<double> steps({.head_dim = key_dim, .rotated_dims = 16, .pairing = pairing}, 10);
        const Rope<double> rope = of_text ? steps.in_half_steps(20) : steps;
        SinkedKVCache<double, P> cache({.kv_heads = 1,
                                        .key_dim = key_dim,
                                        .value_dim = value_dim,
                                        .capacity = capacity,
                                        .sinks = 3,
                                        .recent = 5,
                                        .positions = positions},
                                       rope, policy);
        naive::Random next(3);
        while (cache.compressions() < 2 || cache.size() < capacity) {
            const auto k = random<double>(key_dim, next);
            const auto v = random<double>(value_dim, next);
            cache.append(KVView<const double>(k.data(), 1, 1, key_dim),
                         KVView<const double>(v.data(), 1, 1, value_dim));
        }
        const detail::RopeAngles<double> angles(rope, 2 * cache.tokens_seen());
        const std::vector<double> keys(cache.keys(0).data, cache.keys(0).data + capacity * key_dim);
        const std::vector<double> values(cache.values(0).data, cache.values(0).data + capacity * value_dim);
        const auto text_before = angles_of_text(cache, angles);
        std::vector<Index> tokens;
        for (Index i = 0; i < capacity; ++i) tokens.push_back(cache.entry_tokens(0, i).begin);
        ASSERT_TRUE(cache.prepare()) << "the list was not full";

        const auto text_after = angles_of_text(cache, angles);
        std::vector<Index> sources;  // of a selection
        for (Index i = 0; i < cache.size(); ++i) {
            sources.push_back(std::find(tokens.begin(), tokens.end(), cache.entry_tokens(0, i).begin) - tokens.begin());
        }
        const SpanList& spans = cache.compressed_spans();
        const detail::CompressionMap map{{spans.begin(), spans.end()}, sources};
        detail::CompressionAdjoint<double, std::remove_cvref_t<decltype(policy.codec)>> adjoint(policy.codec);
        adjoint.make_plans(map.spans);
        AlignedBuffer<std::byte> scratch(adjoint.scratch_bytes());

        const auto dot = [](const auto& a, const auto& b) {
            double sum = 0;
            for (Index r = 0; r < a.rows; ++r) {
                for (Index c = 0; c < a.columns; ++c) sum += a(r, c) * b(r, c);
            }
            return sum;
        };
        const auto y = random<double>(capacity * key_dim, next);
        std::vector<double> before(y.size(), NAN);
        const MatrixView<const double> key_gradient(y.data(), cache.size(), key_dim);
        const MatrixView<double> key_result(before.data(), capacity, key_dim);
        adjoint.keys(
            map, angles, key_gradient, key_result, scratch.data(),
            of_text ? detail::TextAngles<double>{text_before.data(), text_after.data()} : detail::TextAngles<double>{});
        EXPECT_NEAR(dot(cache.keys(0), key_gradient),
                    dot(MatrixView<const double>(keys.data(), capacity, key_dim), key_result), 1e-12)
            << "<A x, y> and <x, A^T y> of the stored keys";

        const MatrixView<const double> value_gradient(y.data(), cache.size(), value_dim);
        const MatrixView<double> value_result(before.data(), capacity, value_dim);
        std::fill(before.begin(), before.end(), NAN);
        adjoint.values(map, value_gradient, value_result, scratch.data());
        EXPECT_NEAR(dot(cache.values(0), value_gradient),
                    dot(MatrixView<const double>(values.data(), capacity, value_dim), value_result), 1e-12)
            << "<A x, y> and <x, A^T y> of the values";
    }
}

TEST(CompressionAdjointTest, IsTheTranspose) {
    for (const Positions positions : {Positions::index, Positions::text}) {
        expect_transpose(LowPass<>(), positions);
        expect_transpose(LowPass<>(0.2), positions);
        expect_transpose(LocalWindow(), positions);
        expect_transpose(BlockMean(), positions);
        expect_transpose(TieredLowPass<>(3), positions);
        expect_transpose(Of<TwoSpans, FrequencyCodec<dct::Direct>>{}, positions);
        expect_transpose(Of<TwoSpans, SelectLargest>{}, positions);
    }
}

TEST(RopeAnglesTest, GoOnBehindTheTable) {
    const Rope<float> rope({.head_dim = 6}, 4);
    detail::RopeAngles<float> angles(rope, 2);
    angles.cover(9);
    const detail::RopeAngles<float> copy = angles;
    angles = detail::RopeAngles<float>(rope);
    EXPECT_EQ(copy.positions(), 9);
    float row[6];
    for (Index p = 0; p < 9; ++p) {
        const float* const expected = rope.angles(p, row);
        for (Index i = 0; i < 6; ++i) EXPECT_EQ(copy[p][i], expected[i]) << "position " << p << ", angle " << i;
    }
}

template <class C, class P>
void expect_forward_is_inference(const P& policy, const Shape& shape) {
    SCOPED_TRACE(shape.name());
    Layer<C, P> layer(shape, policy);
    layer.forward();
    SinkedKVCache<C, P> cache(shape.options(), shape.template rope<C>(), policy);
    std::vector<C> expected(layer.out.size());
    ChunkedAttention<C>().forward(layer.queries(std::as_const(layer.q)), layer.keys(std::as_const(layer.k)),
                                  layer.values(std::as_const(layer.v)), cache, layer.results(expected));
    EXPECT_EQ(layer.out, expected);
    // And again, with the memory of the text before.
    std::fill(layer.out.begin(), layer.out.end(), C{0});
    layer.forward();
    EXPECT_EQ(layer.out, expected) << "second time";
}

TEST(DifferentiableForward, IsInferenceToTheLastBit) {
    for (const Index tokens : {1, 24, 25, 35, 100, 333}) {
        const Shape shape{.tokens = tokens, .recent = 2};
        expect_forward_is_inference<float>(LowPass<>(), shape);
        expect_forward_is_inference<double>(LowPass<>(), shape);
        expect_forward_is_inference<float>(LocalWindow(), shape);
        expect_forward_is_inference<float>(Full(), shape);
        expect_forward_is_inference<float>(Of<TwoSpans, SelectLargest>{}, shape);
        for (const bool weighted : {false, true}) {
            Shape of_text = shape;
            of_text.positions = Positions::text;
            of_text.weighted = weighted;
            expect_forward_is_inference<float>(LowPass<>(), of_text);
            expect_forward_is_inference<double>(LocalWindow(), of_text);
            expect_forward_is_inference<float>(Full(), of_text);
        }
    }
}

class GradientAnywhere : public testing::TestWithParam<Positions> {
protected:
    // With weights, where these may be.
    Shape placed(Shape shape) const {
        shape.positions = GetParam();
        shape.weighted = GetParam() == Positions::text;
        return shape;
    }
};

INSTANTIATE_TEST_SUITE_P(Positions, GradientAnywhere, testing::Values(Positions::index, Positions::text),
                         [](const auto& at) { return at.param == Positions::index ? "Index" : "Text"; });

TEST_P(GradientAnywhere, DoesNotDependOnThreadsOrOnTheTextBefore) {
    const Shape shape =
        placed({.tokens = 400, .capacity = 90, .query_heads = 8, .kv_heads = 4, .head_capacities = {90, 50, 70, 44}});
    Layer<float, LowPass<>> one(shape, LowPass<>());
    one.forward();
    one.backward();
    for (const int threads : {1, 2, 3}) {
        Layer<float, LowPass<>> other(shape, LowPass<>());
        for (int again = 0; again < 2; ++again) {
            other.forward(OpenMPExecutor(threads));
            other.backward(OpenMPExecutor(threads));
            EXPECT_EQ(one.d_q, other.d_q) << threads << " threads";
            EXPECT_EQ(one.d_k, other.d_k) << threads << " threads";
            EXPECT_EQ(one.d_v, other.d_v) << threads << " threads";
        }
    }
}

TEST_P(GradientAnywhere, InFloatIsNearThatInDouble) {
    const Shape shape = placed({.tokens = 700, .capacity = 200, .key_dim = 32, .value_dim = 32, .rotated_dims = 32});
    Layer<float, LowPass<>> single(shape, LowPass<>());
    Layer<double, LowPass<>> twice(shape, LowPass<>());
    const auto copy = [](const std::vector<float>& from, std::vector<double>& to) {
        std::copy(from.begin(), from.end(), to.begin());
    };
    copy(single.q, twice.q);
    copy(single.k, twice.k);
    copy(single.v, twice.v);
    copy(single.weights, twice.weights);
    single.forward();
    single.backward();
    twice.forward();
    twice.backward();
    const auto expect_near = [](const char* name, const std::vector<float>& a, const std::vector<double>& b) {
        double difference = 0;
        for (std::size_t i = 0; i < a.size(); ++i) {
            difference = std::max(difference, std::abs(static_cast<double>(a[i]) - b[i]));
        }
        EXPECT_LT(difference, 2e-6 * largest(b)) << "gradient of " << name;
    };
    expect_near("queries", single.d_q, twice.d_q);
    expect_near("keys", single.d_k, twice.d_k);
    expect_near("values", single.d_v, twice.d_v);
}

// Scores far beyond what exp() can take, some of them where a row sees nothing.
TEST_P(GradientAnywhere, OfHugeScoresIsFinite) {
    const Shape shape = placed({.tokens = 120, .capacity = 64});
    Layer<float, LowPass<>> layer(shape, LowPass<>());
    for (float& x : layer.q) x *= 1e4F;
    layer.forward();
    layer.backward();
    for (const auto* gradient : {&layer.d_q, &layer.d_k, &layer.d_v}) {
        for (const float x : *gradient) ASSERT_TRUE(std::isfinite(x)) << x;
    }
}

// What is differentiated is what a cache computes that is fed token by token.
TEST_P(GradientAnywhere, IsOfWhatAnyChunkingComputes) {
    const Shape shape = placed({.tokens = 150, .recent = 3});
    Layer<double, LowPass<>> layer(shape, LowPass<>());
    layer.forward();
    for (const Index chunk : {1, 7, 40}) {
        SinkedKVCache<double, LowPass<>> cache(shape.options(), shape.rope<double>());
        ChunkedAttention<double> attention;
        std::vector<double> out(layer.out.size());
        for (Index t = 0; t < shape.tokens; t += chunk) {
            const Index count = std::min(chunk, shape.tokens - t);
            attention.forward(layer.queries(std::as_const(layer.q)).middle_tokens(t, count),
                              layer.keys(std::as_const(layer.k)).middle_tokens(t, count),
                              layer.values(std::as_const(layer.v)).middle_tokens(t, count), cache,
                              layer.results(out).middle_tokens(t, count));
        }
        for (std::size_t i = 0; i < out.size(); ++i) ASSERT_NEAR(out[i], layer.out[i], 1e-12) << "chunks of " << chunk;
    }
}

TEST(DifferentiableAttentionTest, NothingComesOfNothing) {
    Layer<float, LowPass<>> layer(Shape{.tokens = 0}, LowPass<>());
    layer.forward();
    layer.backward();
    EXPECT_TRUE(layer.d_q.empty());
}

TEST(DifferentiableAttentionTest, RefusesWhatDoesNotFitTheText) {
    Layer<float, LowPass<>> layer(Shape{.tokens = 30}, LowPass<>());
    const auto message = [](const char* name, const char* axis, int value, int wanted) {
        return HasSubstr(std::string(axis) + " of " + name + " is " + std::to_string(value) + ", must be " +
                         std::to_string(wanted));
    };
    EXPECT_THAT([&] { layer.backward(); }, ThrowsMessage<Error>(message("q", "tokens", 30, 0)))
        << "backward() without forward()";
    layer.forward();
    const auto backward = [&](KVView<const float> k, KVView<float> d_v) {
        layer.attention.backward(layer.queries(layer.q), k, layer.values(layer.v), layer.results(layer.out),
                                 layer.results(layer.weights), layer.queries(layer.d_q), layer.keys(layer.d_k), d_v);
    };
    const KVView<const float> keys = layer.keys(layer.k);
    EXPECT_THAT([&] { backward(keys.middle_tokens(0, 29), layer.values(layer.d_v)); },
                ThrowsMessage<Error>(message("k", "tokens", 29, 30)));
    EXPECT_THAT([&] { backward(keys, KVView<float>(layer.d_v.data(), 1, 30, 7)); },
                ThrowsMessage<Error>(message("d_v", "heads", 1, 2)));
    EXPECT_THAT([&] { backward(keys, KVView<float>(layer.d_v.data(), 2, 30, 6)); },
                ThrowsMessage<Error>(message("d_v", "head_dim", 6, 7)));
    EXPECT_TRUE(std::isnan(layer.d_q[0])) << "something was written before the error";
}

}  // namespace
}  // namespace freqkv::adjoint_test
