// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>

#include <Eigen/Core>
#include <atomic>
#include <cstdlib>
#include <new>
#include <utility>
#include <vector>

#include "freqkv/freqkv.hpp"
#include "random_tokens.hpp"
#if defined(FREQKV_HAS_FFTW)
#include "freqkv/dct/fftw.hpp"
#endif

// Counts every allocation that goes through operator new.
namespace {
std::atomic<long> allocations{0};
std::atomic<long> live_bytes{0};

void* count_new(std::size_t size, std::size_t alignment) {
    ++allocations;
    live_bytes += static_cast<long>(size);
    // The size is kept in front of the block.
    const std::size_t header = alignment < 16 ? 16 : alignment;
    void* const block = std::aligned_alloc(header, (size + header + header - 1) / header * header);
    if (block == nullptr) throw std::bad_alloc();
    *static_cast<std::size_t*>(block) = size;
    return static_cast<char*>(block) + header;
}

void count_delete(void* pointer, std::size_t alignment) {
    if (pointer == nullptr) return;
    void* const block = static_cast<char*>(pointer) - (alignment < 16 ? 16 : alignment);
    live_bytes -= static_cast<long>(*static_cast<std::size_t*>(block));
    std::free(block);
}
}  // namespace

void* operator new(std::size_t size) { return count_new(size, 1); }
void* operator new(std::size_t size, std::align_val_t a) { return count_new(size, static_cast<std::size_t>(a)); }
void operator delete(void* p) noexcept { count_delete(p, 1); }
void operator delete(void* p, std::size_t) noexcept { count_delete(p, 1); }
void operator delete(void* p, std::align_val_t a) noexcept { count_delete(p, static_cast<std::size_t>(a)); }
void operator delete(void* p, std::size_t, std::align_val_t a) noexcept {
    count_delete(p, static_cast<std::size_t>(a));
}

using namespace freqkv;

namespace {

template <class T, class P>
long allocations_in_steady_state(P policy, bool through_attention, Positions positions = Positions::index) {
    const Index heads = 2, query_heads = 4, dim = 64, capacity = 300, tokens = 1500;
    const naive::RandomTokens<float> q(query_heads, tokens, dim, 1);
    const naive::RandomTokens<float> k(heads, tokens, dim, 2);
    std::vector<float> out(static_cast<std::size_t>(query_heads * dim));
    const bool of_text = positions == Positions::text;
    const Rope<Arithmetic<T>> rope({.head_dim = dim}, capacity);
    SinkedKVCache<T, P> cache({.kv_heads = heads,
                               .query_heads = query_heads,
                               .key_dim = dim,
                               .capacity = capacity,
                               .positions = positions,
                               .weighted = of_text},
                              of_text ? rope.in_half_steps(tokens) : rope, policy);
    ChunkedAttention<float> attention;
    long at_first_compression = -1;
    for (Index t = 0; t < tokens; ++t) {
        if (through_attention) {
            attention.forward(q.view().middle_tokens(t, 1), k.view().middle_tokens(t, 1), k.view().middle_tokens(t, 1),
                              cache, KVView<float>(out.data(), query_heads, 1, dim));
        } else if constexpr (cache.query_window == 0 && !cache.has_attention_mass) {
            cache.append(k.view().middle_tokens(t, 1), k.view().middle_tokens(t, 1));
        }
        if (cache.compressions() == 1 && at_first_compression < 0) at_first_compression = allocations;
    }
    EXPECT_GT(cache.compressions(), 3) << "the text is too short to see the steady state";
    return allocations - at_first_compression;
}

template <class T>
void expect_no_allocation() {
    for (const bool through_attention : {false, true}) {
        EXPECT_EQ(0, (allocations_in_steady_state<T>(LowPass<>(), through_attention)));
        EXPECT_EQ(0, (allocations_in_steady_state<T>(LocalWindow(), through_attention)));
        EXPECT_EQ(0, (allocations_in_steady_state<T>(KeyDiff(), through_attention)));
        EXPECT_EQ(0, (allocations_in_steady_state<T>(Merge(), through_attention)));
#if defined(FREQKV_HAS_FFTW)
        EXPECT_EQ(0, (allocations_in_steady_state<T>(LowPass<dct::Fftw>(), through_attention)));
#endif
    }
    EXPECT_EQ(0, (allocations_in_steady_state<T>(SnapKV<16>(), true)));
    EXPECT_EQ(0, (allocations_in_steady_state<T>(HeavyHitters(), true)));
    EXPECT_EQ(0, (allocations_in_steady_state<T>(ExactAndLowPass<AccumulatedAttention>(), true)));
    EXPECT_EQ(0, (allocations_in_steady_state<T>(ExactAndLowPass<ResidualEnergy>(), true)));
    EXPECT_EQ(0, (allocations_in_steady_state<T>(TieredLowPass<>(), true)));
    EXPECT_EQ(0, (allocations_in_steady_state<T>(BlockMean(), true)));
    EXPECT_EQ(0, (allocations_in_steady_state<T>(LowPass<>(), true, Positions::text)));
    EXPECT_EQ(0, (allocations_in_steady_state<T>(HeavyHitters(), true, Positions::text)));
    EXPECT_EQ(0, (allocations_in_steady_state<T>(Merge(), true, Positions::text)));
}

}  // namespace

TEST(Allocation, NoneForPackedEntries) {
    EXPECT_EQ(0, (allocations_in_steady_state<Packed<8>>(LowPass<>(), false)));
    EXPECT_EQ(0, (allocations_in_steady_state<Packed<4>>(LowPass<>(), true)));
    EXPECT_EQ(0, (allocations_in_steady_state<Packed<4>>(HeavyHitters(), true, Positions::text)));
    EXPECT_EQ(0, (allocations_in_steady_state<Packed<2>>(SnapKV<16>(), true)));
}

TEST(Allocation, TheCounterCounts) {
    const long before = allocations;
    std::vector<int> two(2);
    two.resize(1000);
    EXPECT_EQ(allocations - before, 2);
}

TEST(Allocation, NonePerTokenAfterTheFirstCompressionFloat) { expect_no_allocation<float>(); }
TEST(Allocation, NonePerTokenAfterTheFirstCompressionDouble) { expect_no_allocation<double>(); }
TEST(Allocation, NonePerTokenAfterTheFirstCompressionHalf) { expect_no_allocation<Eigen::half>(); }
TEST(Allocation, NonePerTokenAfterTheFirstCompressionBFloat16) { expect_no_allocation<Eigen::bfloat16>(); }

namespace {

// Forward and backward of one text, the third time.
template <class P>
long allocations_of_a_repeated_text(P policy, Positions positions = Positions::index) {
    const Index heads = 2, query_heads = 4, dim = 16, capacity = 100, tokens = 700;
    const naive::RandomTokens<float> q(query_heads, tokens, dim, 1);
    const naive::RandomTokens<float> k(heads, tokens, dim, 2);
    naive::RandomTokens<float> out(query_heads, tokens, dim, 3), d_q = out, d_k = k, d_v = k;
    const bool of_text = positions == Positions::text;
    // The table ends before the cache does, or the text.
    const Rope<float> rope({.head_dim = dim}, capacity / 2);
    DifferentiableAttention<float, P> attention({.kv_heads = heads,
                                                 .query_heads = query_heads,
                                                 .key_dim = dim,
                                                 .capacity = capacity,
                                                 .positions = positions,
                                                 .weighted = of_text},
                                                of_text ? rope.in_half_steps(capacity) : rope, policy);
    long before = 0;
    for (int i = 0; i < 3; ++i) {
        before = allocations;
        attention.forward(q.view(), k.view(), k.view(), out.view());
        attention.backward(q.view(), k.view(), k.view(), out.view(), q.view(), d_q.view(), d_k.view(), d_v.view());
    }
    return allocations - before;
}

}  // namespace

TEST(Allocation, NoneForGradientsOfALaterTextOfTheSameLength) {
    EXPECT_EQ(0, allocations_of_a_repeated_text(LowPass<>()));
    EXPECT_EQ(0, allocations_of_a_repeated_text(LocalWindow()));
    EXPECT_EQ(0, allocations_of_a_repeated_text(Full()));
    EXPECT_EQ(0, allocations_of_a_repeated_text(LowPass<>(), Positions::text));
    EXPECT_EQ(0, allocations_of_a_repeated_text(LocalWindow(), Positions::text));
}

namespace {

// What is kept for backward() grows by the entries of each compression, and bytes() knows of all.
template <class P>
void expect_memory_of_gradients_is_reported(Positions positions) {
    const Index heads = 4, dim = 64, capacity = 512, tokens = 4000;
    naive::RandomTokens<float> k(heads, tokens, dim, 3);
    naive::RandomTokens<float> out = k, d_q = k, d_k = k, d_v = k;
    const auto text = std::as_const(k).view();
    const bool of_text = positions == Positions::text;
    const long before = live_bytes;
    const Rope<float> rope({.head_dim = dim}, of_text ? 1 : capacity);
    DifferentiableAttention<float, P> attention(
        {.kv_heads = heads, .key_dim = dim, .capacity = capacity, .positions = positions, .weighted = of_text},
        of_text ? rope.in_half_steps(capacity) : rope);
    attention.forward(text, text, text, out.view());
    attention.backward(text, text, text, out.view(), text, d_q.view(), d_k.view(), d_v.view());
    const double held = static_cast<double>(live_bytes - before);
    EXPECT_NEAR(held, static_cast<double>(attention.bytes()), 0.01 * held) << "bytes that bytes() does not know of";
}

}  // namespace

TEST(Allocation, MemoryOfGradientsIsReported) {
    expect_memory_of_gradients_is_reported<LocalWindow>(Positions::index);
    expect_memory_of_gradients_is_reported<BlockMean>(Positions::text);  // whose plans hold nothing
}

// memory() against the bytes that the cache really took.
TEST(Allocation, MemoryReportsWhatIsHeld) {
    const Index heads = 4, dim = 64, capacity = 2000;
    const naive::RandomTokens<float> k(heads, 3000, dim, 3);
    const long before = live_bytes;
    SinkedKVCache<Eigen::half, LocalWindow> cache({.kv_heads = heads, .key_dim = dim, .capacity = capacity},
                                                  Rope<float>({.head_dim = dim}, capacity));
    cache.append(k.view(), k.view());
    const double held = static_cast<double>(live_bytes - before);
    const double reported = static_cast<double>(cache.memory().total());
    EXPECT_NEAR(held, reported, 0.01 * held) << "bytes that memory() does not know of";
    EXPECT_NEAR(static_cast<double>(cache.memory().entries()), 2.0 * heads * capacity * dim * 2, 0.5);
}
