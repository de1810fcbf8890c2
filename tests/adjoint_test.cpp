// SPDX-License-Identifier: MIT
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "freqkv/adjoint/chunked_attention.hpp"
#include "freqkv/dct/direct.hpp"
#include "freqkv/detail/adjoint/compression_adjoint.hpp"
#include "freqkv/detail/adjoint/rope_angles.hpp"
#include "freqkv/policy/full.hpp"
#include "freqkv/policy/local_window.hpp"
#include "freqkv/policy/low_pass.hpp"
#include "model_cache.hpp"
#include "naive.hpp"

using namespace freqkv;
using testing::HasSubstr;
using testing::ThrowsMessage;
using testing_model::Of;

namespace {

// The first half of what may be compressed becomes a third, the latter half but two entries between them a half.
struct TwoSpans {
    SpanList plan(const CacheLayout& layout, Index /*compressions*/) const {
        const Index half = (layout.entries - layout.sinks - layout.recent) / 2;
        return {{layout.sinks, half, half / 3}, {layout.sinks + half + 2, half - 2, (half - 2) / 2}};
    }
};

// Keeps the entries with the largest keys.
struct SelectLargest {
    template <class T>
    Index scratch_bytes(const SpanReader<T>& span, Index) const {
        return (span.size() + 2 * span.key_dim()) * static_cast<Index>(sizeof(double));
    }
    template <class T>
    Index select(const SpanReader<T>& span, Index keep, Index* chosen, std::byte* scratch) const {
        auto* const sizes = reinterpret_cast<double*>(scratch);
        auto* const key = reinterpret_cast<typename SpanReader<T>::C*>(sizes + span.size());
        for (Index i = 0; i < span.size(); ++i) {
            span.load_key(i, key, key + span.key_dim());
            sizes[i] = 0;
            for (Index d = 0; d < span.key_dim(); ++d) sizes[i] += static_cast<double>(key[d] * key[d]);
        }
        Index count = 0;
        for (Index i = 0; i < span.size(); ++i) {
            const auto larger = std::count_if(sizes, sizes + span.size(), [&](double size) { return size > sizes[i]; });
            if (larger < keep) chosen[count++] = i;
        }
        return count;
    }
};

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

static_assert(DifferentiablePlan<FrequencyCompressor<float, dct::Simd>, float>);
static_assert(DifferentiableCodec<FrequencyCodec<>, double> && DifferentiableCodec<SelectLatest, float>);
static_assert(DifferentiableCodec<UnevenLowPass, double> && DifferentiableCodec<SelectLargest, double>);

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

struct Shape {
    Index tokens = 0;
    Index capacity = 24;
    Index sinks = 4;
    Index recent = 0;
    Index query_heads = 4;
    Index kv_heads = 2;
    Index key_dim = 10;
    Index value_dim = 7;
    Index rotated_dims = 8;
    RopePairing pairing = RopePairing::adjacent;
    std::vector<Index> head_capacities{};

    CacheOptions options() const {
        return {.kv_heads = kv_heads,
                .query_heads = query_heads,
                .key_dim = key_dim,
                .value_dim = value_dim,
                .capacity = capacity,
                .sinks = sinks,
                .recent = recent,
                .head_capacities = head_capacities};
    }
    // The table ends before the cache does.
    template <class C>
    Rope<C> rope() const {
        return Rope<C>({.head_dim = key_dim, .rotated_dims = rotated_dims, .base = 100, .pairing = pairing},
                       capacity / 2);
    }
    std::string name() const {
        return std::to_string(tokens) + " tokens, capacity " + std::to_string(capacity) + ", sinks " +
               std::to_string(sinks) + ", recent " + std::to_string(recent) + ", heads " + std::to_string(query_heads) +
               "/" + std::to_string(kv_heads) +
               (pairing == RopePairing::adjacent ? ", adjacent pairs" : ", pairs in two halves");
    }
};

template <class C>
std::vector<C> random(Index count, naive::Random& next) {
    std::vector<C> x(static_cast<std::size_t>(count));
    for (C& element : x) element = static_cast<C>(next());
    return x;
}

// One text through a layer, forward and backward. Every kind of view has strides of its own.
template <class C, class P>
class Layer {
public:
    Layer(const Shape& shape, const P& policy)
        : shape_(shape), attention(shape.options(), shape.template rope<C>(), policy) {
        naive::Random next(7);
        q = random<C>(shape.query_heads * shape.tokens * shape.key_dim, next);
        k = random<C>(shape.kv_heads * shape.tokens * shape.key_dim, next);
        v = random<C>(shape.kv_heads * shape.tokens * shape.value_dim, next);
        weights = random<C>(shape.query_heads * shape.tokens * shape.value_dim, next);
        out.resize(weights.size());
        d_q.resize(q.size(), NAN);
        d_k.resize(k.size(), NAN);
        d_v.resize(v.size(), NAN);
    }

    // Token-major.
    template <class X>
    auto queries(X& x) const {
        return view_of(x.data()).token_major(x.data(), shape_.query_heads, shape_.tokens, shape_.key_dim);
    }
    template <class X>
    auto results(X& x) const {
        return view_of(x.data()).token_major(x.data(), shape_.query_heads, shape_.tokens, shape_.value_dim);
    }
    // Head-major.
    template <class X>
    auto keys(X& x) const {
        return decltype(view_of(x.data()))(x.data(), shape_.kv_heads, shape_.tokens, shape_.key_dim);
    }
    // Heads innermost.
    template <class X>
    auto values(X& x) const {
        return decltype(view_of(x.data()))(x.data(), shape_.kv_heads, shape_.tokens, shape_.value_dim, 1,
                                           shape_.kv_heads, shape_.kv_heads * shape_.tokens);
    }

    template <Executor E = SerialExecutor>
    void forward(const E& executor = {}) {
        attention.forward(queries(q), keys(k), values(v), results(out), executor);
    }
    template <Executor E = SerialExecutor>
    void backward(const E& executor = {}) {
        attention.backward(queries(q), keys(k), values(v), results(out), results(weights), queries(d_q), keys(d_k),
                           values(d_v), executor);
    }
    // What is differentiated.
    double weighted_sum() {
        forward();
        double sum = 0;
        for (std::size_t i = 0; i < out.size(); ++i) sum += static_cast<double>(out[i] * weights[i]);
        return sum;
    }

    Shape shape_;
    DifferentiableAttention<C, P> attention;
    std::vector<C> q, k, v, weights, out, d_q, d_k, d_v;

private:
    template <class T>
    static KVView<T> view_of(T*) {
        return {};
    }
};

double largest(const std::vector<double>& x) {
    double result = 0;
    for (const double element : x) result = std::max(result, std::abs(element));
    return result;
}

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
void expect_gradients(const P& policy, const Shape& shape, Index compressions) {
    SCOPED_TRACE(shape.name());
    Layer<double, P> layer(shape, policy);
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

}  // namespace

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

TEST_P(GradientThroughLowPass, OfOtherSizesIsToo) {
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

TEST_P(GradientThroughLowPass, ByAnotherTransformIsToo) {
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

namespace {

// A full list before a compression and after it, as stored, and its adjoint on random gradients.
template <class P>
void expect_transpose(const P& policy) {
    const Index capacity = 45, key_dim = 20, value_dim = 11;
    for (const RopePairing pairing : {RopePairing::adjacent, RopePairing::half_split}) {
        const Rope<double> rope({.head_dim = key_dim, .rotated_dims = 16, .pairing = pairing}, 10);
        SinkedKVCache<double, P> cache(
            {.kv_heads = 1, .key_dim = key_dim, .value_dim = value_dim, .capacity = capacity, .sinks = 3, .recent = 5},
            rope, policy);
        naive::Random next(3);
        const auto k = random<double>(capacity * key_dim, next);
        const auto v = random<double>(capacity * value_dim, next);
        cache.append(KVView<const double>(k.data(), 1, capacity, key_dim),
                     KVView<const double>(v.data(), 1, capacity, value_dim));
        const std::vector<double> keys(cache.keys(0).data, cache.keys(0).data + capacity * key_dim);
        ASSERT_TRUE(cache.prepare()) << "the list was not full";

        std::vector<Index> sources;
        for (Index i = 0; i < cache.size(); ++i) sources.push_back(cache.entry_tokens(0, i).begin);
        const SpanList& spans = cache.compressed_spans();
        const CompressionMap map{{spans.begin(), spans.end()}, sources};
        CompressionAdjoint<double, std::remove_cvref_t<decltype(policy.codec)>> adjoint(policy.codec);
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
        adjoint.keys(map, RopeAngles<double>(rope, capacity), key_gradient, key_result, scratch.data());
        EXPECT_NEAR(dot(cache.keys(0), key_gradient),
                    dot(MatrixView<const double>(keys.data(), capacity, key_dim), key_result), 1e-12)
            << "<A x, y> and <x, A^T y> of the stored keys";

        const MatrixView<const double> value_gradient(y.data(), cache.size(), value_dim);
        const MatrixView<double> value_result(before.data(), capacity, value_dim);
        std::fill(before.begin(), before.end(), NAN);
        adjoint.values(map, value_gradient, value_result, scratch.data());
        EXPECT_NEAR(dot(cache.values(0), value_gradient),
                    dot(MatrixView<const double>(v.data(), capacity, value_dim), value_result), 1e-12)
            << "<A x, y> and <x, A^T y> of the values";
    }
}

}  // namespace

TEST(CompressionAdjointTest, IsTheTranspose) {
    expect_transpose(LowPass<>());
    expect_transpose(LowPass<>(0.2));
    expect_transpose(LocalWindow());
    expect_transpose(Of<TwoSpans, FrequencyCodec<dct::Direct>>{});
    expect_transpose(Of<TwoSpans, SelectLargest>{});
}

TEST(RopeAnglesTest, GoOnBehindTheTable) {
    const Rope<float> rope({.head_dim = 6}, 4);
    RopeAngles<float> angles(rope, 2);
    angles.cover(9);
    const RopeAngles<float> copy = angles;
    angles = RopeAngles<float>(rope);
    EXPECT_EQ(copy.positions(), 9);
    float row[6];
    for (Index p = 0; p < 9; ++p) {
        const float* const expected = rope.angles(p, row);
        for (Index i = 0; i < 6; ++i) EXPECT_EQ(copy[p][i], expected[i]) << "position " << p << ", angle " << i;
    }
}

namespace {

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

}  // namespace

TEST(DifferentiableForward, IsInferenceToTheLastBit) {
    for (const Index tokens : {1, 24, 25, 35, 100, 333}) {
        const Shape shape{.tokens = tokens, .recent = 2};
        expect_forward_is_inference<float>(LowPass<>(), shape);
        expect_forward_is_inference<double>(LowPass<>(), shape);
        expect_forward_is_inference<float>(LocalWindow(), shape);
        expect_forward_is_inference<float>(Full(), shape);
        expect_forward_is_inference<float>(Of<TwoSpans, SelectLargest>{}, shape);
    }
}

TEST(Gradient, DoesNotDependOnThreadsOrOnTheTextBefore) {
    const Shape shape{
        .tokens = 400, .capacity = 90, .query_heads = 8, .kv_heads = 4, .head_capacities = {90, 50, 70, 44}};
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

TEST(Gradient, InFloatIsNearThatInDouble) {
    const Shape shape{.tokens = 700, .capacity = 200, .key_dim = 32, .value_dim = 32, .rotated_dims = 32};
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
TEST(Gradient, OfHugeScoresIsFinite) {
    const Shape shape{.tokens = 120, .capacity = 64};
    Layer<float, LowPass<>> layer(shape, LowPass<>());
    for (float& x : layer.q) x *= 1e4F;
    layer.forward();
    layer.backward();
    for (const auto* gradient : {&layer.d_q, &layer.d_k, &layer.d_v}) {
        for (const float x : *gradient) ASSERT_TRUE(std::isfinite(x)) << x;
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
