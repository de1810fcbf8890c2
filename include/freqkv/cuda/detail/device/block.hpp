// SPDX-License-Identifier: MIT
#pragma once

#include <concepts>

#include "freqkv/config.hpp"
#include "freqkv/cuda/detail/device/float_pair.hpp"
#include "freqkv/detail/lanes/unrolled.hpp"
#include "freqkv/energy.hpp"

// What kernels are written against: a block of threads, and the memory that its threads share. On a device these are
// the classes of device_block.cuh. The host's tests run the same code with blocks that make the calls one by one, in
// several orders, and check every access.
namespace freqkv::cuda::detail {

/// Where a point is in shared memory: a slot, and V's worth of columns.
struct Place {
    int slot;
    int pack;
};

/// Call i of all for `slots` times 2^log_packs places.
FREQKV_INLINE Place place_of(int i, int log_packs) { return {i >> log_packs, i & ((1 << log_packs) - 1)}; }

/// Where places are in shared memory, counted in Complex<V>. With gaps, a slot is skipped behind every 16, so that the
/// first passes of a power of two, whose threads are 16 slots apart, meet different banks. Then still all points of a
/// butterfly are the same step apart: FftView::takes_gaps says for which transforms.
struct SharedLayout {
    int log_packs = 0;
    bool gaps = false;

    FREQKV_INLINE int index(int slot, int pack) const { return (slot + (slot >> (gaps ? 4 : 31))) << log_packs | pack; }
    FREQKV_INLINE int index(Place at) const { return index(at.slot, at.pack); }
    /// From a slot that a butterfly begins at to the one `span` behind it.
    FREQKV_INLINE int step(int span) const { return index(span, 0); }
};

/// N elements that are read or written at once.
template <class T, int N>
struct alignas(N * sizeof(T)) Elements {
    T values[N];
};

/// Bytes of a block's shared memory that kernels take by themselves: DeviceBlock::sum() does.
inline constexpr Index static_shared_bytes = 512;

// What the concepts below call a block's functions with.
namespace block_archetype {

struct Call {
    FREQKV_HOST_DEVICE void operator()(int i) const;
};
struct PlaceCall {
    FREQKV_HOST_DEVICE void operator()(Place at) const;
};
struct Read {
    FREQKV_HOST_DEVICE int operator()(Place at) const;
};
struct Write {
    FREQKV_HOST_DEVICE void operator()(Place at, int value) const;
};
struct Test {
    FREQKV_HOST_DEVICE bool operator()(int i) const;
};
struct Measure {
    FREQKV_HOST_DEVICE Energy operator()(int i) const;
};
struct Once {
    FREQKV_HOST_DEVICE void operator()() const;
};

}  // namespace block_archetype

/// A block of threads, as a handle: copies are the same block. Its functions share calls out among the threads, in any
/// order and at once. each() and transfer() return when all calls are done and what they wrote can be read; so no call
/// may touch what another call of the same function writes.
///
///   each(count, f)                      f(0) ... f(count - 1)
///   each(slots, log_packs, f)           f(Place) for each slot and each of 2^log_packs packs; the places of one thread
///                                       are of one pack
///   transfer(slots, log_packs, r, w)    w(at, r(at)) for the same places; several calls of r may go ahead of w
///   count(n, f)                         how many of f(0) ... f(n - 1) are true, on every thread
///   sum(count, f)                       the sum of the Energy of f(0) ... f(count - 1), on one thread
///   once(f)                             f() on that thread
template <class B>
concept ThreadBlock = std::copyable<B> && requires(const B& block, int count, int log_packs) {
    block.each(count, block_archetype::Call{});
    block.each(count, log_packs, block_archetype::PlaceCall{});
    block.transfer(count, log_packs, block_archetype::Read{}, block_archetype::Write{});
    { block.count(count, block_archetype::Test{}) } -> std::same_as<int>;
    { block.sum(count, block_archetype::Measure{}) } -> std::same_as<Energy>;
    block.once(block_archetype::Once{});
};

/// Shared memory for points of V, as a handle; an index comes from its layout.
template <class M, class V>
concept SharedPoints = std::copyable<M> && requires(const M& memory, int index, const Complex<V>& value) {
    { memory.layout } -> std::convertible_to<SharedLayout>;
    { memory.load(index) } -> std::convertible_to<Complex<V>>;
    memory.store(index, value);
};

/// Shared memory for floats, as a handle; load<N>(i) reads N of them at once, for i a multiple of N.
template <class M>
concept SharedFloats = std::copyable<M> && requires(const M& memory, int index, float value) {
    { memory.load(index) } -> std::convertible_to<float>;
    { memory.template load<2>(index) } -> std::convertible_to<Elements<float, 2>>;
    memory.store(index, value);
};

}  // namespace freqkv::cuda::detail
