// SPDX-License-Identifier: MIT
#include "freqkv/snapshot.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "every_policy.hpp"
#include "freqkv/freqkv.hpp"
#include "message_of.hpp"
#include "model_cache.hpp"
#include "same_entries.hpp"

namespace freqkv {
namespace {

using test::expect_identical;
using testing::HasSubstr;
using testing_model::append;
using testing_model::cache_options;
using testing_model::make_cache;
using testing_model::Text;

using Bytes = std::vector<std::byte>;

template <class Caches>
Bytes saved(const Caches& caches) {
    Bytes bytes;
    save_snapshot(caches,
                  [&](const std::byte* data, std::size_t size) { bytes.insert(bytes.end(), data, data + size); });
    return bytes;
}

template <class C>
class EverySnapshot : public testing::Test {};

// Policies that leave each something else beside the entries, in floats and in bits; others have no more.
using test::PolicyCase;
using Cases = testing::Types<PolicyCase<float, LowPass<>>, PolicyCase<float, SnapKV<>>, PolicyCase<float, HeavyHitters>,
                             PolicyCase<float, TieredLowPass<>>, PolicyCase<Half, Merge>,
                             PolicyCase<Packed<8>, ExactAndLowPass<ResidualEnergy>>,
                             PolicyCase<Packed<4>, HeavyHitters>, PolicyCase<Packed<2>, SnapKV<>>>;
TYPED_TEST_SUITE(EverySnapshot, Cases);

TYPED_TEST(EverySnapshot, GoesOnAsTheCacheThatWasSaved) {
    const Text text = Text::random(500);
    for (const Index seen : {0, 1, 50, 80, 81, 300}) {
        SCOPED_TRACE("saved behind token " + std::to_string(seen));
        auto original = TypeParam::cache(text);
        append(original, text, 0, seen);
        const Bytes bytes = saved(original);
        auto restored = TypeParam::cache(text);
        append(restored, text, 100, 130);  // of which nothing may be left
        load_snapshot(restored, bytes);
        ASSERT_NO_FATAL_FAILURE(expect_identical(original, restored));
        EXPECT_EQ(saved(restored), bytes);
        if (seen > 20) {
            const Index fewer = std::max(original.earliest_truncation(), seen - 3);
            EXPECT_EQ(restored.earliest_truncation(), original.earliest_truncation());
            original.truncate(fewer);
            restored.truncate(fewer);
        }
        append(original, text, seen, 500 - seen);
        append(restored, text, seen, 500 - seen);
        ASSERT_NO_FATAL_FAILURE(expect_identical(original, restored));
    }
}

using LowPassCache = SinkedKVCache<float, LowPass<>>;

LowPassCache low_pass(const Text& text, double ratio = 0.5) {
    return make_cache<float>(text, cache_options(text, 80, 3, 20), LowPass<>(ratio));
}

TEST(Snapshot, IsRefusedWithEachByteChangedAndAtEachLength) {
    const Text text = Text::random(30);
    auto cache = make_cache<float>(text, cache_options(text, 12, 1, 0), SnapKV<8>());
    append(cache, text, 0, 30);
    const auto expected = cache;
    const Bytes good = saved(cache);
    for (std::size_t i = 0; i < good.size(); ++i) {
        Bytes bad = good;
        bad[i] ^= std::byte{1} << (i % 8);
        EXPECT_THROW(load_snapshot(cache, bad), Error) << "byte " << i;
        EXPECT_THROW(load_snapshot(cache, std::span(good).first(i)), Error) << "of " << i << " bytes";
    }
    Bytes longer = good;
    longer.push_back(std::byte{0});
    EXPECT_THROW(load_snapshot(cache, longer), Error);
    expect_identical(expected, cache);
}

TEST(Snapshot, OfOtherCachesIsRefusedWithASentence) {
    const Text text = Text::random(100);
    LowPassCache cache = low_pass(text);
    const auto refusal = [&](const Bytes& bytes) { return test::message_of([&] { load_snapshot(cache, bytes); }); };
    EXPECT_THAT(refusal(saved(low_pass(text, 0.75))),
                HasSubstr("\"policy whole span 0.75: low frequencies\", must be as "
                          "this one: \"policy whole span 0.5: low frequencies\""));
    EXPECT_THAT(refusal(saved(make_cache<float>(text, cache_options(text, 80, 3, 20), LocalWindow()))),
                HasSubstr("\"policy whole span 0.5: latest\""));
    EXPECT_THAT(refusal(saved(make_cache<Half>(text, cache_options(text, 80, 3, 20), LowPass<>()))),
                HasSubstr("\"elements half\", must be as this one: \"elements float, 32 bits\""));
    EXPECT_THAT(refusal(saved(make_cache<float>(text, cache_options(text, 81, 3, 20), LowPass<>()))),
                HasSubstr("\"capacities 81 81\""));
    EXPECT_THAT(refusal(saved(make_cache<float>(text, cache_options(text, 80, 4, 20), LowPass<>()))),
                HasSubstr("\"sinks 4\""));
    RopeOptions rotation = testing_model::rope_options(text);
    rotation.base = 501;
    EXPECT_THAT(refusal(saved(LowPassCache(cache_options(text, 80, 3, 20), Rope<float>(rotation, 80), LowPass<>()))),
                HasSubstr("\"rotation adjacent pairs 3, frequencies"));
    EXPECT_THAT(refusal(saved(std::vector{cache, cache})), HasSubstr("number of caches of the snapshot is 2"));
    Bytes newer = saved(cache);
    newer[6] = std::byte{2};
    EXPECT_THAT(refusal(newer), HasSubstr("version of the snapshot is 2, must be 1"));
    EXPECT_THAT(refusal(Bytes(100)), HasSubstr("must be \"FREQKV\""));
}

// With the right checksum: what a file could say to have memory written that is not the cache's.
TEST(Snapshot, WithNumbersThatDoNotFitIsRefused) {
    const Text text = Text::random(100);
    auto cache = make_cache<Packed<4>>(text, cache_options(text, 200, 3, 20), LowPass<>());
    append(cache, text, 0, 100);
    const auto expected = cache;
    const Bytes good = saved(cache);
    const std::size_t begin = 16;  // of the section, and of its settings' length
    std::uint64_t settings = 0;
    std::memcpy(&settings, good.data() + begin, sizeof settings);
    const std::size_t counts = begin + 8 + settings;
    // What refuses must be the number, not the checksum.
    const auto refusal = [&](std::size_t i, std::int64_t number) {
        Bytes changed = good;
        std::memcpy(changed.data() + counts + 8 * i, &number, sizeof number);
        const std::uint64_t hash = XXH3_64bits(changed.data(), changed.size() - 8);
        std::memcpy(changed.data() + changed.size() - 8, &hash, sizeof hash);
        return test::message_of([&] { load_snapshot(cache, changed); });
    };
    EXPECT_EQ(refusal(0, expected.size()), "accepted");
    for (std::size_t i = 0; i < 7; ++i) {
        for (const std::int64_t number : {std::int64_t{-1}, std::int64_t{1} << 40, INT64_MAX, INT64_MIN}) {
            const std::string message = refusal(i, number);
            EXPECT_NE(message, "accepted") << "number " << i << " is " << number;
            EXPECT_THAT(message, testing::Not(HasSubstr("checksum"))) << "number " << i << " is " << number;
        }
    }
    expect_identical(expected, cache);
}

TEST(Snapshot, OfAGrowingCacheMakesRoom) {
    const Text text = Text::random(700);
    const auto compare = [&](auto original, auto restored) {
        append(original, text, 0, 600);
        load_snapshot(restored, saved(original));
        append(original, text, 600, 100);
        append(restored, text, 600, 100);
        expect_identical(original, restored);
    };
    const CacheOptions options = cache_options(text, 16, 3, 0);
    compare(make_cache<float>(text, options, Full()), make_cache<float>(text, options, Full()));
    compare(make_cache<Packed<8>>(text, options, Full()), make_cache<Packed<8>>(text, options, Full()));
}

TEST(Snapshot, OfTextPositionsAndWeightsGoesOn) {
    const Text text = Text::random(500);
    CacheOptions options = cache_options(text, 80, 3, 20);
    options.positions = Positions::text;
    options.weighted = true;
    auto original = make_cache<float>(text, options, LowPass<>());
    append(original, text, 0, 300);
    auto restored = make_cache<float>(text, options, LowPass<>());
    load_snapshot(restored, saved(original));
    std::vector<float> expected, found;
    testing_model::attend(original, text, 300, 200, expected);
    testing_model::attend(restored, text, 300, 200, found);
    EXPECT_EQ(expected, found);
    expect_identical(original, restored);
}

// Either all caches of a model or none.
TEST(Snapshot, OfALayerThatIsDamagedChangesNoOther) {
    const Text text = Text::random(100);
    std::vector<LowPassCache> layers(3, low_pass(text));
    for (LowPassCache& layer : layers) append(layer, text, 0, 90);
    Bytes bytes = saved(layers);
    std::vector<LowPassCache> others(3, low_pass(text));
    load_snapshot(others, bytes);
    for (std::size_t l = 0; l < layers.size(); ++l) expect_identical(layers[l], others[l]);

    for (LowPassCache& layer : others) append(layer, text, 90, 10);
    const std::vector<LowPassCache> before = others;
    bytes[bytes.size() - 100] ^= std::byte{1};
    EXPECT_THROW(load_snapshot(others, bytes), Error);
    for (std::size_t l = 0; l < layers.size(); ++l) expect_identical(before[l], others[l]);
}

TEST(Snapshot, ThrowsWhatItsSinkThrows) {
    const Text text = Text::random(10);
    EXPECT_THROW(save_snapshot(low_pass(text), [](const std::byte*, std::size_t) { throw std::runtime_error("full"); }),
                 std::runtime_error);
}

// A schedule of a program's own, and its name.
struct HalfOfIt : WholeSpan {};
std::string describe(const HalfOfIt& /*schedule*/) { return "half of it"; }
struct OwnPolicy {
    HalfOfIt schedule;
    SelectLatest codec;
};

TEST(Snapshot, NamesAPolicyOfOnesOwn) {
    const Text text = Text::random(100);
    const auto own = make_cache<float>(text, cache_options(text, 80, 3, 20), OwnPolicy());
    auto other = make_cache<float>(text, cache_options(text, 80, 3, 20), LocalWindow());
    EXPECT_THAT(test::message_of([&] { load_snapshot(other, saved(own)); }),
                HasSubstr("\"policy half of it: latest\""));
}

}  // namespace
}  // namespace freqkv
