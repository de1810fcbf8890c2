// SPDX-License-Identifier: MIT
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "freqkv/chunked_attention.hpp"
#include "freqkv/cuda/chunked_attention.cuh"
#include "freqkv/cuda/device_array.cuh"
#include "freqkv/cuda/rope.cuh"
#include "freqkv/cuda/sinked_kv_cache.cuh"
#include "freqkv/packed.hpp"
#include "freqkv/policy/full.hpp"
#include "freqkv/policy/key_diff.hpp"
#include "freqkv/policy/local_window.hpp"
#include "freqkv/policy/low_pass.hpp"
#include "freqkv/policy/norms.hpp"
#include "freqkv/rope.hpp"
#include "freqkv/sinked_kv_cache.hpp"
#include "kernels.cuh"
#include "random_tokens.hpp"

// Packed caches of a device beside the host's, on the emulated device. Keys are rotated by other arithmetic on a
// device, and the search for a scale adds in another order, so that a few levels and scales differ by one step;
// everything else is the same to the bit.
namespace freqkv::cuda {
namespace {

constexpr Index packed_heads = 2;
constexpr Index packed_group = 2;
constexpr Index packed_dim = 64;
constexpr Index packed_tokens = 700;

// What two texts of entries have in common.
struct Agreement {
    Index groups = 0, equal_groups = 0;
    double energy = 0, difference = 0;  // of unpacked rows

    void add(double want, double have) {
        energy += want * want;
        difference += (want - have) * (want - have);
    }
    double part_of_equal() const {
        return groups == 0 ? 1 : static_cast<double>(equal_groups) / static_cast<double>(groups);
    }
    double loss() const { return difference / energy; }
};

template <int Bits>
Agreement agreement(const PackedRows<Bits>& have, const PackedView<const Packed<Bits>>& want, Index head) {
    Agreement found;
    const auto compare_exact = [&](const std::vector<Half>& rows, const MatrixView<const Half>& of_host) {
        for (Index i = 0; i < of_host.rows * of_host.columns; ++i) {
            const Half x = rows[static_cast<std::size_t>(head * of_host.rows * of_host.columns + i)];
            found.add(static_cast<double>(static_cast<float>(of_host.data[i])),
                      static_cast<double>(static_cast<float>(x)));
        }
    };
    compare_exact(have.first, want.first);
    compare_exact(have.latest, want.latest);
    const Index groups = row_length<Packed<Bits>>(want.columns());
    for (Index r = 0; r < want.packed.rows; ++r) {
        const Packed<Bits>* const row = have.packed.data() + (head * want.packed.rows + r) * groups;
        std::vector<float> a(static_cast<std::size_t>(want.columns())), b(a.size());
        freqkv::detail::unpack_transformed(row, want.columns(), a.data());
        freqkv::detail::unpack_transformed(want.packed.row(r), want.columns(), b.data());
        for (std::size_t d = 0; d < a.size(); ++d) {
            found.add(static_cast<double>(b[d]), static_cast<double>(a[d]));
        }
        for (Index g = 0; g < groups; ++g) {
            ++found.groups;
            if (std::memcmp(row + g, want.packed.row(r) + g, sizeof(Packed<Bits>)) == 0) ++found.equal_groups;
        }
    }
    return found;
}

struct Tolerance {
    double equal_keys = 0.98;                   // of the groups
    double key_loss = 3e-4, value_loss = 1e-8;  // of their energy
    double result = 2e-2;                       // the largest difference
};
// A transform spreads a level that differs over other entries.
constexpr Tolerance of_transforms{0.4, 3e-3, 1e-8, 5e-2};

// One text in a cache on the device and in one on the host, with the results of attention.
template <int Bits, class P>
void expect_the_hosts_packed(const P& policy, Index capacity, Index chunk, bool rotated,
                             const Tolerance& tolerance = {}) {
    using T = Packed<Bits>;
    constexpr Index query_heads = packed_heads * packed_group;
    const RopeOptions rope{.head_dim = packed_dim, .base = 5000, .pairing = RopePairing::half_split};
    RopeOptions none = rope;
    none.rotated_dims = 0;
    const CacheOptions options{.kv_heads = packed_heads,
                               .query_heads = query_heads,
                               .key_dim = packed_dim,
                               .capacity = capacity,
                               .sinks = 4,
                               .recent = 10};
    freqkv::CacheOptions of_host;
    of_host.kv_heads = packed_heads;
    of_host.query_heads = query_heads;
    of_host.key_dim = packed_dim;
    of_host.capacity = capacity;
    of_host.sinks = 4;
    of_host.recent = 10;
    const naive::RandomTokens<float> q(query_heads, packed_tokens, packed_dim, 1);
    const naive::RandomTokens<float> k(packed_heads, packed_tokens, packed_dim, 2);
    const naive::RandomTokens<float> v(packed_heads, packed_tokens, packed_dim, 3);

    freqkv::SinkedKVCache<T, P> expected(of_host, freqkv::Rope<float>(rotated ? rope : none, packed_tokens), policy);
    std::vector<float> want(static_cast<std::size_t>(query_heads * packed_tokens * packed_dim));
    const auto token_major = [](auto* data, Index heads, Index tokens) {
        return KVView<std::remove_pointer_t<decltype(data)>>::token_major(data, heads, tokens, packed_dim);
    };
    freqkv::ChunkedAttention<float> attention_of_host;
    attention_of_host.forward(q.view(), k.view(), v.view(), expected,
                              token_major(want.data(), query_heads, packed_tokens));

    SinkedKVCache<T, P> cache(options, rotated ? std::optional<Rope>(rope) : std::nullopt, policy);
    ChunkedAttention<float> attention(0, Chunks::token_by_token);
    std::vector<float> have;
    for (Index done = 0; done < packed_tokens; done += chunk) {
        const Index count = std::min(chunk, packed_tokens - done);
        const auto upload = [&](const naive::RandomTokens<float>& from, Index heads) {
            const float* const begin = from.view().data + done * heads * packed_dim;
            return DeviceArray<float>(
                std::span<const float>(begin, static_cast<std::size_t>(count * heads * packed_dim)));
        };
        const DeviceArray<float> queries = upload(q, query_heads), keys = upload(k, packed_heads),
                                 values = upload(v, packed_heads), out(count * query_heads * packed_dim);
        const auto view = [&](const DeviceArray<float>& array, Index heads) {
            return token_major(static_cast<const float*>(array.data()), heads, count);
        };
        const SequenceTokens part{0, count};
        attention.forward(view(queries, query_heads), view(keys, packed_heads), view(values, packed_heads), cache,
                          token_major(out.data(), query_heads, count), std::span<const SequenceTokens>(&part, 1));
        const std::vector<float> results = out.download();
        have.insert(have.end(), results.begin(), results.end());
    }

    const SavedSequence<T> saved = cache.save(0);
    ASSERT_EQ(saved.size, expected.size());
    EXPECT_EQ(saved.tokens_seen, expected.tokens_seen());
    EXPECT_EQ(saved.compressions, expected.compressions());
    EXPECT_EQ(saved.packed, expected.keys(0).packed.rows);
    EXPECT_EQ(std::max(saved.compressed_at, saved.packed_at), expected.earliest_truncation());
    EXPECT_GT(saved.packed, 0);
    for (Index h = 0; h < packed_heads; ++h) {
        const Agreement of_keys = agreement(saved.keys, expected.keys(h), h);
        const Agreement of_values = agreement(saved.values, expected.values(h), h);
        EXPECT_LE(of_keys.loss(), tolerance.key_loss) << "keys of head " << h;
        EXPECT_LE(of_values.loss(), tolerance.value_loss) << "values of head " << h;
        EXPECT_GE(of_keys.part_of_equal(), tolerance.equal_keys) << "keys of head " << h;
        EXPECT_GE(of_values.part_of_equal(), 0.99) << "values of head " << h;
    }
    double largest = 0;
    for (std::size_t i = 0; i < want.size(); ++i) {
        largest = std::fmax(largest, std::abs(static_cast<double>(have[i]) - static_cast<double>(want[i])));
    }
    EXPECT_LE(largest, tolerance.result);
}

template <class B>
class DevicePackedIsTheHosts : public testing::Test {};
using TypesOfPacked = testing::Types<Packed<8>, Packed<4>, Packed<2>>;
TYPED_TEST_SUITE(DevicePackedIsTheHosts, TypesOfPacked);

TYPED_TEST(DevicePackedIsTheHosts, UnderFull) {
    for (const bool rotated : {false, true}) {
        SCOPED_TRACE(rotated ? "rotated" : "not rotated");
        expect_the_hosts_packed<TypeParam::bits>(Full{}, packed_tokens, 100, rotated);
    }
}

TYPED_TEST(DevicePackedIsTheHosts, UnderLocalWindow) {
    for (const bool rotated : {false, true}) {
        for (const Index chunk : {33, 700}) {
            SCOPED_TRACE((rotated ? "rotated, chunk " : "not rotated, chunk ") + std::to_string(chunk));
            expect_the_hosts_packed<TypeParam::bits>(LocalWindow(0.6), 250, chunk, rotated);
        }
    }
}

TYPED_TEST(DevicePackedIsTheHosts, UnderLowPass) {
    expect_the_hosts_packed<TypeParam::bits>(LowPass<>(0.6), 250, 700, true, of_transforms);
}

TYPED_TEST(DevicePackedIsTheHosts, UnderScores) {
    expect_the_hosts_packed<TypeParam::bits>(ValueNorm(0.6), 250, 700, true);
    expect_the_hosts_packed<TypeParam::bits>(KeyDiff(0.6), 250, 700, false);
}

}  // namespace
}  // namespace freqkv::cuda
