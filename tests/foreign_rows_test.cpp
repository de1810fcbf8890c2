// SPDX-License-Identifier: MIT
#include "foreign_rows.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <limits>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "freqkv/freqkv.hpp"
#include "message_of.hpp"
#include "naive.hpp"

// compress_in_place() on quantised rows of other engines.
namespace freqkv::foreign_rows_test {
namespace {

using test::message_of;
using testing::ElementsAre;
using testing::HasSubstr;

static_assert(ForeignRows<BlockView<ggml::Q8_0>> && ForeignRows<BlockView<ggml::Q4_0>>);
static_assert(ForeignRows<ScaledView<float>> && ForeignRows<ScaledView<Eigen::half>>);
static_assert(ForeignRows<HadamardView<BlockView<ggml::Q8_0>>>);
static_assert(!ForeignRows<KVView<float>> && !ForeignRows<MatrixView<ggml::Q8_0>>);

template <class L>
class ForeignRowsOf : public testing::Test {};
using Formats = testing::Types<BlockLayer<ggml::Q8_0>, BlockLayer<ggml::Q4_0>, ScaledLayer<float>, ScaledLayer<Half>,
                               ScaledLayer<BFloat16>>;
TYPED_TEST_SUITE(ForeignRowsOf, Formats);

// A layer's rows as they were before they were transformed, as floats.
class FloatLayer {
public:
    template <class L>
    FloatLayer(const L& layer, Index hadamard) {
        const auto [heads, tokens, head_dim] = layer.view.shape();
        data_.resize(static_cast<std::size_t>(heads * tokens * head_dim));
        view = {data_.data(), heads, tokens, head_dim};
        for (Index h = 0; h < heads; ++h) {
            for (Index t = 0; t < tokens; ++t) {
                const naive::Row row = hadamard_of(layer.decoded(h, t), hadamard);
                for (Index d = 0; d < head_dim; ++d) {
                    view.head(h)(t, d) = static_cast<float>(row[static_cast<std::size_t>(d)]);
                }
            }
        }
    }
    FloatLayer copy() const { return *this; }
    FloatLayer& operator=(const FloatLayer&) = delete;

    KVView<float> view;

    naive::Row row(Index h, Index t) const {
        const float* const row = view.head(h).row(t);
        return {row, row + view.head_dim};
    }
    bool same_row(Index h, Index t, const FloatLayer& other, Index other_t) const {
        const float* const row = view.head(h).row(t);
        return std::equal(row, row + view.head_dim, other.view.head(h).row(other_t));
    }

private:
    FloatLayer(const FloatLayer& other) : view(other.view), data_(other.data_) { view.data = data_.data(); }

    std::vector<float> data_;
};

// Expects `layer`, which was `before`, to be what `computed` says, which was `read` before its compression: a row that
// is still one of the old ones to the last bit, any other quantised by the format's definition.
template <class L>
void expect_as_computed(const L& layer, const L& before, const FloatLayer& computed, const FloatLayer& read,
                        Index hadamard, std::span<const Index> sizes, Index* moved) {
    for (Index h = 0; h < computed.view.heads; ++h) {
        for (Index i = 0; i < sizes[static_cast<std::size_t>(h)]; ++i) {
            SCOPED_TRACE("head " + std::to_string(h) + ", entry " + std::to_string(i));
            Index origin = i;
            while (origin < read.view.tokens && !computed.same_row(h, i, read, origin)) ++origin;
            if (origin < read.view.tokens) {
                ++*moved;
                ASSERT_EQ(layer.bits(h, i), before.bits(h, origin));
            } else {
                ASSERT_NO_FATAL_FAILURE(layer.expect_quantised_from(h, i, hadamard_of(computed.row(h, i), hadamard)));
            }
        }
    }
    ASSERT_NO_FATAL_FAILURE(layer.expect_rest_untouched());
}

struct HowStored {
    RowLayout layout = RowLayout::token_major;
    Index key_hadamard = 1;
    Index value_hadamard = 1;
    bool rotated = true;
    bool with_gaps = false;  // positions
};

// Compresses quantised rows, and beside it as floats what they stand for.
template <class L, class P>
void expect_by_definition(const P& policy, Index key_dim, Index value_dim, const HowStored& how) {
    const Index tokens = 60;
    const L keys_before({.tokens = tokens, .head_dim = key_dim}, how.layout, 1);
    const L values_before({.tokens = tokens, .head_dim = value_dim}, how.layout, 2);
    L keys({.tokens = tokens, .head_dim = key_dim}, how.layout, 1);
    L values({.tokens = tokens, .head_dim = value_dim}, how.layout, 2);
    const FloatLayer read_keys(keys, how.key_hadamard), read_values(values, how.value_hadamard);
    FloatLayer computed_keys = read_keys.copy(), computed_values = read_values.copy();

    std::optional<Rope<float>> rope;
    if (how.rotated) rope = Rope<float>({.head_dim = key_dim, .pairing = RopePairing::half_split}, tokens);
    std::vector<Index> positions;
    if (how.with_gaps) {
        for (Index t = 0; t < tokens; ++t) positions.push_back(t < 3 ? t : 2 * t - 3);
    }
    const InPlaceOptions options{.sinks = 5, .recent = 9, .positions = positions};
    InPlaceCompressor<float, P> compressor(policy, rope), reference(policy, rope);
    const Index size = compressor.compress(HadamardView(keys.view, how.key_hadamard),
                                           HadamardView(values.view, how.value_hadamard), options);
    ASSERT_EQ(size, reference.compress(computed_keys.view, computed_values.view, options));
    ASSERT_THAT(compressor.sizes(), testing::ElementsAreArray(reference.sizes()));

    Index moved_keys = 0, moved_values = 0;
    {
        SCOPED_TRACE("keys");
        ASSERT_NO_FATAL_FAILURE(expect_as_computed(keys, keys_before, computed_keys, read_keys, how.key_hadamard,
                                                   reference.sizes(), &moved_keys));
    }
    SCOPED_TRACE("values");
    ASSERT_NO_FATAL_FAILURE(expect_as_computed(values, values_before, computed_values, read_values, how.value_hadamard,
                                               reference.sizes(), &moved_values));
    // Sinks and the recent part of both heads; keys that turn are others.
    ASSERT_GE(moved_values, 2 * (5 + 9));
    ASSERT_GE(moved_keys, how.rotated ? 2 * 3 : 2 * (5 + 9));
}

TYPED_TEST(ForeignRowsOf, AreCompressedAsWhatTheyStandForWhateverTheSizeAndStrides) {
    const auto expect_of = [](Index key_dim, Index value_dim, RowLayout layout) {
        for (const bool rotated : {false, true}) {
            SCOPED_TRACE("head_dim " + std::to_string(key_dim) + ", layout " +
                         std::to_string(static_cast<int>(layout)) + (rotated ? ", rotated" : ""));
            const HowStored how{.layout = layout, .rotated = rotated, .with_gaps = key_dim == 64};
            ASSERT_NO_FATAL_FAILURE(expect_by_definition<TypeParam>(LowPass<>(0.5), key_dim, value_dim, how));
            ASSERT_NO_FATAL_FAILURE(expect_by_definition<TypeParam>(LocalWindow(0.5), key_dim, value_dim, how));
        }
    };
    for (const RowLayout layout : all_row_layouts) expect_of(64, 32, layout);
    std::size_t i = 0;
    for (const Index dim : {32, 96, 128, 160, 192, 256}) expect_of(dim, dim, all_row_layouts[i++ % 4]);
}

// Of sizes that llama.cpp transforms and of others.
TYPED_TEST(ForeignRowsOf, AreCompressedAsWhatTheyStandForWhenTransformed) {
    for (const Index key_dim : {64, 128, 192, 256}) {
        for (const Index value_dim : {64, 128}) {
            SCOPED_TRACE("key_dim " + std::to_string(key_dim) + ", value_dim " + std::to_string(value_dim));
            const HowStored how{.key_hadamard = ggml::key_hadamard(key_dim),
                                .value_hadamard = ggml::value_hadamard(value_dim),
                                .with_gaps = key_dim == 64};
            ASSERT_NO_FATAL_FAILURE(expect_by_definition<TypeParam>(LowPass<>(0.5), key_dim, value_dim, how));
            ASSERT_NO_FATAL_FAILURE(expect_by_definition<TypeParam>(LocalWindow(0.5), key_dim, value_dim, how));
        }
    }
    ASSERT_NO_FATAL_FAILURE(
        expect_by_definition<TypeParam>(LowPass<>(0.5), 96, 32, {.key_hadamard = 32, .value_hadamard = 2}));
}

TYPED_TEST(ForeignRowsOf, AreCompressedUnderEveryPolicyThatForeignCachesTake) {
    const auto expect_under = [](const auto& policy) {
        for (const Index hadamard : {1, 64}) {
            for (const bool rotated : {false, true}) {
                SCOPED_TRACE("Hadamard " + std::to_string(hadamard) + (rotated ? ", rotated" : ""));
                const HowStored how{.key_hadamard = hadamard, .value_hadamard = hadamard, .rotated = rotated};
                ASSERT_NO_FATAL_FAILURE((expect_by_definition<TypeParam>(policy, 64, 64, how)));
            }
        }
    };
    expect_under(KeyDiff());
    expect_under(KeyNorm());
    expect_under(ValueNorm());
    expect_under(BlockMean());
    expect_under(Merge());
    expect_under(ExactAndLowPass<ResidualEnergy>());
    expect_under(TieredLowPass<>());
    expect_under(EqualWeightLowPass<>());
}

// The whole of what the types can hold.
template <class B, class Codes>
void expect_read_by_definition(Codes codes_of) {
    constexpr Index count = 256;
    for (const float scale : {1.0F, -0.37F, 6e-8F, 65504.0F, 0.0F}) {
        std::vector<B> row(count / 32);
        for (std::size_t b = 0; b < row.size(); ++b) {
            row[b].scale = Half(scale);
            codes_of(row[b], b);
        }
        std::vector<float> read(count);
        BlockView<B>(row.data(), 1, 1, count, 0, 0).load(0, 0, read.data());
        for (std::size_t d = 0; d < count; ++d) {
            EXPECT_EQ(read[d], element(row[d / 32], d % 32)) << "element " << d << ", scale " << scale;
        }
    }
}

TEST(GgmlBlocks, AreReadByDefinition) {
    expect_read_by_definition<ggml::Q8_0>([](ggml::Q8_0& block, std::size_t b) {
        for (std::size_t j = 0; j < 32; ++j)
            block.levels[j] = static_cast<std::int8_t>(static_cast<int>(32 * b + j) - 128);
    });
    expect_read_by_definition<ggml::Q4_0>([](ggml::Q4_0& block, std::size_t b) {
        for (std::size_t j = 0; j < 16; ++j) block.codes[j] = static_cast<std::uint8_t>(16 * b * 2 + j * 17);
    });
}

TYPED_TEST(ForeignRowsOf, AreWrittenByDefinition) {
    const Index dim = 64;
    TypeParam layer({.heads = 1, .tokens = 1, .head_dim = dim}, RowLayout::token_major, 1);
    naive::Random next(5);
    const auto expect_written = [&](const naive::Row& x) {
        std::vector<float> row(x.begin(), x.end());
        layer.view.store(0, 0, row.data());
        layer.expect_quantised_from(0, 0, naive::Row(x.begin(), x.end()));
    };
    for (int i = 0; i < 200; ++i) {
        naive::Row row(dim);
        for (double& x : row) x = static_cast<float>(next() * std::pow(2.0, i % 20 - 10));
        expect_written(row);
    }
    expect_written(naive::Row(dim, 0.0));
    expect_written(naive::Row(dim, -3.0));
    naive::Row alternating(dim, 2.0);
    for (std::size_t d = 0; d < alternating.size(); d += 2) alternating[d] = -2;
    expect_written(alternating);
    naive::Row one(dim, 0.0);
    one[dim - 1] = -1e-3;
    expect_written(one);
}

// What no cache holds may be written as anything, but not by undefined behaviour (which a sanitizer sees).
TYPED_TEST(ForeignRowsOf, BearNumbersThatAreNone) {
    TypeParam layer({.heads = 1, .tokens = 1, .head_dim = 32}, RowLayout::token_major, 1);
    for (const float odd : {std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity(),
                            std::numeric_limits<float>::quiet_NaN(), 1e38F, 1e-44F}) {
        for (const bool all : {false, true}) {
            std::vector<float> row(32, all ? odd : 0.5F);
            row[9] = odd;
            layer.view.store(0, 0, row.data());
        }
    }
}

// So a key that turns by an angle of nothing, or a row that is written again, does not drift.
TEST(GgmlBlocks, AreWrittenAgainToTheSameBits) {
    const auto expect_same_again = []<class B>(const B&) {
        naive::Random next(8);
        for (int i = 0; i < 500; ++i) {
            std::vector<float> row(32);
            for (float& x : row) x = static_cast<float>(3 * next());
            B first, second;
            BlockView<B>(&first, 1, 1, 32, 0, 0).store(0, 0, row.data());
            BlockView<B>(&first, 1, 1, 32, 0, 0).load(0, 0, row.data());
            BlockView<B>(&second, 1, 1, 32, 0, 0).store(0, 0, row.data());
            ASSERT_EQ(std::memcmp(&first, &second, sizeof(B)), 0);
        }
    };
    expect_same_again(ggml::Q8_0{});
    expect_same_again(ggml::Q4_0{});
}

TEST(GgmlBlocks, AreTransformedInBlocksOfLlamaCpp) {
    const Index sizes[]{64, 80, 96, 128, 192, 256, 576};
    std::vector<Index> keys, values;
    for (const Index size : sizes) {
        keys.push_back(ggml::key_hadamard(size));
        values.push_back(ggml::value_hadamard(size));
    }
    EXPECT_THAT(keys, ElementsAre(64, 1, 1, 128, 64, 256, 64));
    EXPECT_THAT(values, ElementsAre(64, 1, 1, 64, 64, 64, 64));
}

// llama.cpp with --cache-type-k q8_0 and its default for values, without flash attention: [dim, cells].
TEST(ForeignRowsOfTwoKinds, AreCompressedTogether) {
    const LayerShape shape{.heads = 3, .tokens = 50, .head_dim = 64};
    BlockLayer<ggml::Q8_0> keys(shape, RowLayout::token_major, 1);
    const BlockLayer<ggml::Q8_0> keys_before(shape, RowLayout::token_major, 1);
    const FloatLayer read_keys(keys, 64);
    FloatLayer computed_keys = read_keys.copy();
    const Index cells = 55;
    std::vector<Eigen::half> memory(static_cast<std::size_t>(cells * 3 * 64), Eigen::half(7.0F));
    const KVView<Eigen::half> values(memory.data(), 3, 50, 64, 64 * cells, 1, cells);
    std::vector<Eigen::half> copy = memory;
    naive::Random next(4);
    for (Index h = 0; h < 3; ++h) {
        for (Index t = 0; t < 50; ++t) {
            for (Index d = 0; d < 64; ++d) values.head(h)(t, d) = Eigen::half(static_cast<float>(next()));
        }
    }
    copy = memory;
    const KVView<Eigen::half> expected(copy.data(), 3, 50, 64, 64 * cells, 1, cells);
    std::vector<float> wide(std::size_t{3} * 50 * 64);
    const KVView<float> as_float(wide.data(), 3, 50, 64);
    for (Index h = 0; h < 3; ++h) {
        for (Index t = 0; t < 50; ++t) {
            for (Index d = 0; d < 64; ++d) as_float.head(h)(t, d) = static_cast<float>(values.head(h)(t, d));
        }
    }

    const Rope<float> rope({.head_dim = 64}, 50);
    const Index size = compress_in_place(HadamardView(keys.view, 64), values, rope, {.sinks = 4, .recent = 8});
    InPlaceCompressor<float> reference(LowPass<>(), rope);
    ASSERT_EQ(size, reference.compress(computed_keys.view, as_float, {.sinks = 4, .recent = 8}));
    Index moved = 0;
    ASSERT_NO_FATAL_FAILURE(
        expect_as_computed(keys, keys_before, computed_keys, read_keys, 64, reference.sizes(), &moved));
    for (Index h = 0; h < 3; ++h) {
        for (Index t = 0; t < size; ++t) {
            for (Index d = 0; d < 64; ++d) {
                const auto wanted = static_cast<double>(as_float.head(h)(t, d));
                ASSERT_NEAR(static_cast<double>(values.head(h)(t, d)), wanted, std::abs(wanted) * 0x1p-10 + 1e-6);
            }
        }
    }
    for (Index h = 0; h < 3; ++h) {
        for (Index d = 0; d < 64; ++d) {
            for (Index t = 50; t < cells; ++t) ASSERT_EQ(values.head(h)(t, d), Eigen::half(7.0F));
        }
    }
    // The other way about.
    EXPECT_EQ(compress_in_place(expected, keys.view, std::optional<Rope<float>>{}, {.sinks = 4, .recent = 8}), size);
}

struct Backwards {
    Index concurrency() const { return 3; }
    template <class F>
    void for_each(Index count, F&& f) const {
        for (Index task = count - 1; task >= 0; --task) f(task, task % 3);
    }
};

TYPED_TEST(ForeignRowsOf, DoNotDependOnThreads) {
    const LayerShape shape{.heads = 5, .tokens = 50, .head_dim = 64};
    const Rope<float> rope({.head_dim = 64}, 50);
    const auto expect_same_under = [&](const auto& policy, const auto& executor) {
        TypeParam keys(shape, RowLayout::token_major, 1), values(shape, RowLayout::token_major, 2);
        TypeParam other_keys(shape, RowLayout::token_major, 1), other_values(shape, RowLayout::token_major, 2);
        InPlaceCompressor<float, std::remove_cvref_t<decltype(policy)>> compressor(policy, rope);
        compressor.compress(keys.view, values.view);
        compressor.compress(other_keys.view, other_values.view, {}, executor);
        EXPECT_EQ(keys.all(), other_keys.all());
        EXPECT_EQ(values.all(), other_values.all());
    };
    expect_same_under(LowPass<>(), Backwards{});
    expect_same_under(Merge(), Backwards{});
#if defined(_OPENMP)
    expect_same_under(LowPass<>(), OpenMPExecutor(3));
    expect_same_under(KeyDiff(), OpenMPExecutor(3));
#endif
}

// Filled and compressed three times, as an engine does, beside the same in float. `bound` is of the energy.
template <class L, class P>
void expect_near_floats(const P& policy, Index hadamard, double bound) {
    const LayerShape shape{.tokens = 60};
    L keys(shape, RowLayout::token_major, 1), values(shape, RowLayout::token_major, 2);
    FloatLayer float_keys(keys, 1), float_values(values, 1);
    const HadamardView stored_keys(keys.view, hadamard), stored_values(values.view, hadamard);
    const Rope<float> rope({.head_dim = 64}, 60);
    InPlaceCompressor<float, P> compressor(policy, rope), reference(policy, rope);
    naive::Random next(3);
    Index size = 0;
    for (int compression = 0; compression < 3; ++compression) {
        for (Index h = 0; h < shape.heads; ++h) {
            for (Index t = size; t < shape.tokens; ++t) {
                for (auto [rows, floats] : {std::pair{&stored_keys, &float_keys}, {&stored_values, &float_values}}) {
                    float* const row = floats->view.head(h).row(t);
                    for (Index d = 0; d < 64; ++d) {
                        row[d] = static_cast<float>(std::sin(0.05 * static_cast<double>(t * (d + 1))) + 0.3 * next());
                    }
                    std::vector<float> copy(row, row + 64);
                    rows->store(h, t, copy.data());
                }
            }
        }
        size = compressor.compress(stored_keys, stored_values, {.sinks = 4, .recent = 8});
        ASSERT_EQ(size, reference.compress(float_keys.view, float_values.view, {.sinks = 4, .recent = 8}));
        for (const auto& [rows, floats] : {std::pair{&stored_keys, &float_keys}, {&stored_values, &float_values}}) {
            double squares = 0, all = 0;
            for (Index h = 0; h < shape.heads; ++h) {
                for (Index t = 0; t < size; ++t) {
                    std::vector<float> row(64);
                    rows->load(h, t, row.data());
                    const naive::Row wanted = floats->row(h, t);
                    for (std::size_t d = 0; d < 64; ++d) {
                        squares += (row[d] - wanted[d]) * (row[d] - wanted[d]);
                        all += wanted[d] * wanted[d];
                    }
                }
            }
            EXPECT_LT(squares, bound * all) << "compression " << compression;
        }
    }
}

TYPED_TEST(ForeignRowsOf, StayNearWhatFloatsBecome) {
    const double bound = std::is_same_v<TypeParam, BlockLayer<ggml::Q4_0>> ? 0.04 : 3e-4;
    for (const Index hadamard : {1, 64}) {
        SCOPED_TRACE("Hadamard " + std::to_string(hadamard));
        expect_near_floats<TypeParam>(LowPass<>(0.5), hadamard, bound);
        expect_near_floats<TypeParam>(LocalWindow(0.5), hadamard, bound);
    }
}

// Throws for the second head, when the first has been chosen from.
struct SecondHeadFails {
    template <class T>
    Index select(const SpanReader<T>& span, Index keep, Index* chosen, std::byte* scratch) const {
        if (span.head() == 1) throw std::runtime_error("no choice");
        return SelectLatest{}.select(span, keep, chosen, scratch);
    }
};
struct FailingWindow {
    WholeSpan schedule;
    SecondHeadFails codec;
};

TYPED_TEST(ForeignRowsOf, AreUnchangedWhereThePolicyThrows) {
    TypeParam keys({}, RowLayout::padded, 1), values({}, RowLayout::padded, 2);
    const Bytes keys_before = keys.all(), values_before = values.all();
    InPlaceCompressor<float, FailingWindow> compressor;
    EXPECT_THROW(compressor.compress(keys.view, values.view), std::runtime_error);
    EXPECT_THAT(compressor.sizes(), ElementsAre());
    EXPECT_EQ(keys.all(), keys_before);
    EXPECT_EQ(values.all(), values_before);
}

TEST(ForeignRowsErrors, NameWhatIsWrongAndChangeNothing) {
    const LayerShape shape{.tokens = 20, .head_dim = 64};
    BlockLayer<ggml::Q8_0> blocks(shape, RowLayout::token_major, 1);
    ScaledLayer<Half> scaled(shape, RowLayout::token_major, 2);
    const Bytes blocks_before = blocks.all(), scaled_before = scaled.all();
    InPlaceCompressor<float> compressor(LowPass<>(0.5), Rope<float>({.head_dim = 64}, 20));
    const auto message = [&](const auto& keys, const auto& values, const InPlaceOptions& options = {}) {
        std::string text = message_of([&] { compressor.compress(keys, values, options); });
        EXPECT_EQ(blocks.all(), blocks_before) << text;
        EXPECT_EQ(scaled.all(), scaled_before) << text;
        EXPECT_THAT(compressor.sizes(), ElementsAre());
        return text;
    };
    const auto with = [](auto view, auto member, auto value) {
        view.*member = value;
        return view;
    };
    using Blocks = BlockView<ggml::Q8_0>;
    const Blocks keys = blocks.view;
    EXPECT_EQ(message(keys, with(keys, &Blocks::head_dim, 40)),
              "freqkv: head_dim of values is 40, must be a multiple of the 32 elements of a block");
    EXPECT_EQ(message(with(keys, &Blocks::head_dim, 63), keys),
              "freqkv: head_dim of keys is 63, must be that of the rope");
    EXPECT_EQ(message(with(keys, &Blocks::data, nullptr), keys), "freqkv: data of keys is 0, must not be null");
    EXPECT_EQ(message(keys, with(keys, &Blocks::tokens, 19)), "freqkv: tokens of values is 19, must be those of keys");
    EXPECT_EQ(message(keys, with(keys, &Blocks::heads, 1)), "freqkv: heads of values is 1, must be those of keys");
    EXPECT_EQ(message(with(keys, &Blocks::heads, 0), keys), "freqkv: heads of keys is 0, must be at least 1");
    EXPECT_THAT(message(keys, keys, {.sinks = 20}), HasSubstr("sinks is 20"));
    EXPECT_EQ(message(HadamardView(keys, 48), keys),
              "freqkv: Hadamard block of keys is 48, must be a power of two that divides head_dim");
    EXPECT_EQ(message(HadamardView(keys, 0), keys),
              "freqkv: Hadamard block of keys is 0, must be a power of two that divides head_dim");
    EXPECT_EQ(message(keys, HadamardView(keys, 128)),
              "freqkv: Hadamard block of values is 128, must be a power of two that divides head_dim");
    EXPECT_EQ(message(keys, HadamardView(with(keys, &Blocks::data, nullptr), 64)),
              "freqkv: data of values is 0, must not be null");
    EXPECT_EQ(message(keys, KVView<Half>(nullptr, 2, 20, 64)), "freqkv: data of values is 0, must not be null");
    using Scaled = ScaledView<Half>;
    const Scaled values = scaled.view;
    EXPECT_EQ(message(keys, with(values, &Scaled::levels, KVView<std::int8_t>(nullptr, 2, 20, 64))),
              "freqkv: data of values is 0, must not be null");
    EXPECT_EQ(message(keys, with(values, &Scaled::scales, MatrixView<Half>(nullptr, 20, 2))),
              "freqkv: data of scales of values is 0, must not be null");
    EXPECT_EQ(message(keys, with(values, &Scaled::scales, MatrixView<Half>(values.scales.data, 2, 20))),
              "freqkv: rows of scales of values is 2, must be the tokens");
    EXPECT_EQ(message(keys, with(values, &Scaled::scales, MatrixView<Half>(values.scales.data, 20, 1))),
              "freqkv: columns of scales of values is 1, must be the heads");
    EXPECT_THAT(message(keys, values, {.sinks = 4, .recent = 15}),
                HasSubstr("capacity is 20, must be at least sinks + recent + 2"));
    EXPECT_EQ(compressor.compress(keys, values, {.sinks = 4, .recent = 2}), 4 + 7 + 2);
    EXPECT_THAT(compressor.sizes(), ElementsAre(13, 13));
}

TEST(ForeignRowsScratch, IsWhatTheDocumentationSays) {
    const LayerShape shape{.heads = 3, .tokens = 64, .head_dim = 96};
    BlockLayer<ggml::Q8_0> keys(shape, RowLayout::token_major, 1);
    BlockLayer<ggml::Q4_0> values(shape, RowLayout::token_major, 2);
    const FloatLayer float_keys(keys, 1), float_values(values, 1);
    InPlaceCompressor<float> compressor, reference;
    compressor.compress(keys.view, values.view);
    reference.compress(float_keys.view, float_values.view);
    EXPECT_EQ(compressor.scratch_bytes() - reference.scratch_bytes(), 3 * 64 * (4 * (96 + 96) + 8));
}

TEST(ForeignRowsReports, AreThoseOfTheRowsAsFloats) {
    const LayerShape shape{.tokens = 50};
    BlockLayer<ggml::Q8_0> keys(shape, RowLayout::token_major, 1), values(shape, RowLayout::token_major, 2);
    const FloatLayer float_keys(keys, 1), float_values(values, 1);
    std::vector<double> energies[2];
    const auto options = [](std::vector<double>& to) {
        InPlaceOptions result{.layer = 7};
        result.observer = {[](void* context, const CompressionReport& report) {
                               auto& list = *static_cast<std::vector<double>*>(context);
                               list.insert(list.end(),
                                           {static_cast<double>(report.layer), report.keys.total, report.keys.discarded,
                                            report.values.total, report.values.discarded});
                           },
                           &to};
        return result;
    };
    InPlaceCompressor<float, KeyDiff> compressor;
    compressor.compress(keys.view, values.view, options(energies[0]));
    compressor.compress(float_keys.view, float_values.view, options(energies[1]));
    EXPECT_EQ(energies[0].size(), 2U * 5);
    EXPECT_EQ(energies[0], energies[1]);
}

// A view of the engine's own: two elements to a float, of which the integer part is the one.
struct PairedRows {
    std::vector<float>* memory = nullptr;
    Index tokens = 0;

    RowsShape shape() const { return {1, tokens, 2}; }
    void check(const char*) const {}
    void load(Index, Index token, float* row) const noexcept {
        row[0] = std::floor(at(token));
        row[1] = at(token) - row[0];
    }
    void store(Index, Index token, const float* row) const noexcept { at(token) = std::round(row[0]) + row[1]; }
    void move(Index, Index from, Index to) const noexcept { at(to) = at(from); }

    float& at(Index token) const { return (*memory)[static_cast<std::size_t>(token)]; }
};
static_assert(ForeignRows<PairedRows>);

TEST(ForeignRowsOfAnEngine, AreCompressed) {
    std::vector<float> keys(20), values(20);
    for (std::size_t t = 0; t < 20; ++t) {
        keys[t] = static_cast<float>(t) + 0.25F;
        values[t] = static_cast<float>(t) + 0.5F;
    }
    EXPECT_EQ(compress_in_place(PairedRows{&keys, 20}, PairedRows{&values, 20}, {}, {.sinks = 2, .recent = 4},
                                LocalWindow(0.5)),
              2 + 7 + 4);
    keys.resize(13);
    EXPECT_THAT(keys,
                ElementsAre(0.25, 1.25, 9.25, 10.25, 11.25, 12.25, 13.25, 14.25, 15.25, 16.25, 17.25, 18.25, 19.25));
}

}  // namespace
}  // namespace freqkv::foreign_rows_test
