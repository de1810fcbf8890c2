// SPDX-License-Identifier: MIT
#pragma once

#define XXH_INLINE_ALL  // NOLINT(readability-identifier-naming)
#include <xxhash.h>

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <type_traits>

#include "freqkv/config.hpp"
#include "freqkv/error.hpp"

namespace freqkv::detail {

static_assert(std::endian::native == std::endian::little, "freqkv: snapshots are little-endian");

// Hands bytes on to the sink, and behind each section their hash.
template <class Sink>
class SnapshotWriter {
public:
    explicit SnapshotWriter(Sink& sink) : sink_(sink) { XXH3_64bits_reset(&hash_); }

    template <class T>
    void write(const T* data, Index count) {
        static_assert(std::is_trivially_copyable_v<T>);
        const std::size_t bytes = static_cast<std::size_t>(count) * sizeof(T);
        if (bytes == 0) return;
        XXH3_64bits_update(&hash_, data, bytes);
        sink_(reinterpret_cast<const std::byte*>(data), bytes);
    }
    template <class T>
        requires std::is_arithmetic_v<T>
    void write(T number) {
        write(&number, 1);
    }
    void end_section() {
        const std::uint64_t hash = XXH3_64bits_digest(&hash_);
        sink_(reinterpret_cast<const std::byte*>(&hash), sizeof hash);
        XXH3_64bits_reset(&hash_);
    }

private:
    Sink& sink_;
    XXH3_state_t hash_;
};

// Reads from memory, and throws Error instead of reading beyond it.
class SnapshotReader {
public:
    explicit SnapshotReader(std::span<const std::byte> bytes) : bytes_(bytes) {}

    Index left() const { return static_cast<Index>(bytes_.size()) - at_; }

    const std::byte* take(Index bytes) {
        require(bytes >= 0 && bytes <= left(), "what is left of the snapshot, in bytes,", left(),
                "must be as much as it says");
        const std::byte* const from = bytes_.data() + at_;
        at_ += bytes;
        return from;
    }
    template <class T>
    T take_number() {
        T number;
        std::memcpy(&number, take(sizeof number), sizeof number);
        return number;
    }
    void end_section() {
        const std::uint64_t hash = XXH3_64bits(bytes_.data() + section_, static_cast<std::size_t>(at_ - section_));
        if (take_number<std::uint64_t>() != hash)
            refuse("checksum of the snapshot", "wrong", "must be that of its bytes");
        section_ = at_;
    }

private:
    std::span<const std::byte> bytes_;
    Index at_ = 0;
    Index section_ = 0;  // where it begins
};

}  // namespace freqkv::detail
