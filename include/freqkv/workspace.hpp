// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstring>
#include <memory>
#include <new>
#include <type_traits>
#include <utility>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include "freqkv/config.hpp"
#include "freqkv/error.hpp"

namespace freqkv {

/// A fixed-size array aligned for any vector register and for the cache line. Elements are left
/// uninitialised, so that memory that is never used is never touched. On Linux, arrays of 2 MiB and more ask
/// for huge pages: a processor then reads a cache of keys and values a quarter faster.
template <class T>
class AlignedBuffer {
    static_assert(std::is_trivially_copyable_v<T>, "AlignedBuffer<T> holds plain values only");

public:
    static constexpr std::size_t alignment = 64;

    AlignedBuffer() = default;

    /// Throws Error if the size in bytes does not fit, std::bad_alloc if there is no memory.
    explicit AlignedBuffer(Index size)
        : data_(allocate(checked_product("buffer size in bytes", size, sizeof(T)))), size_(size) {}

    AlignedBuffer(const AlignedBuffer& other) : AlignedBuffer(other.size_) {
        if (size_ > 0) std::memcpy(static_cast<void*>(data()), other.data(), static_cast<std::size_t>(bytes()));
    }
    AlignedBuffer(AlignedBuffer&& other) noexcept { swap(other); }
    AlignedBuffer& operator=(AlignedBuffer other) noexcept {
        swap(other);
        return *this;
    }
    ~AlignedBuffer() = default;

    T* data() const { return data_.get(); }
    Index size() const { return size_; }
    Index bytes() const { return size_ * static_cast<Index>(sizeof(T)); }

private:
    static constexpr std::size_t huge_page = std::size_t{1} << 21;

    struct Free {
        std::align_val_t aligned{};
        void operator()(T* p) const { ::operator delete(static_cast<void*>(p), aligned); }
    };
    using Memory = std::unique_ptr<T, Free>;

    static Memory allocate(Index size) {
        const auto bytes = static_cast<std::size_t>(size);
        if (bytes == 0) return {};
        const std::align_val_t aligned{bytes < huge_page ? alignment : huge_page};
        void* const memory = ::operator new(bytes, aligned);
#if defined(__linux__)
        // A hint, and for whole pages only, so that no memory is taken that was not asked for.
        if (bytes >= huge_page) madvise(memory, bytes / huge_page * huge_page, MADV_HUGEPAGE);
#endif
        return Memory(static_cast<T*>(memory), Free{aligned});
    }

    void swap(AlignedBuffer& other) noexcept {
        std::swap(data_, other.data_);
        std::swap(size_, other.size_);
    }

    Memory data_;
    Index size_ = 0;
};

/// Scratch memory that grows to the largest request and then stays. Caches that are not used at the
/// same time (the layers of one model) share one. Its content means nothing between calls; a copy
/// has the size but not the content.
class Workspace {
public:
    Workspace() = default;
    Workspace(const Workspace& other) : buffer_(other.buffer_.size()), beside_(other.beside_.size()) {}
    Workspace(Workspace&&) noexcept = default;
    Workspace& operator=(const Workspace& other) { return *this = Workspace(other); }
    Workspace& operator=(Workspace&&) noexcept = default;
    ~Workspace() = default;

    /// At least `count` regions of `bytes` each; invalidates what earlier calls returned. Region i
    /// begins at the result + i * stride(bytes). Throws Error or std::bad_alloc, without change.
    std::byte* reserve(Index count, Index bytes) {
        const Index needed = checked_product("workspace size in bytes", count, stride(bytes));
        if (needed > buffer_.size()) buffer_ = AlignedBuffer<std::byte>(needed);
        return buffer_.data();
    }

    /// A region of `bytes` of its own, which stays as it is while reserve() is called; invalidates what the latest
    /// reserve_beside() returned. Throws as reserve().
    std::byte* reserve_beside(Index bytes) {
        if (bytes > beside_.size()) beside_ = AlignedBuffer<std::byte>(bytes);
        return beside_.data();
    }

    /// `bytes` rounded up so that regions do not share a cache line.
    static constexpr Index stride(Index bytes) {
        constexpr auto line = static_cast<Index>(AlignedBuffer<std::byte>::alignment);
        return (bytes + line - 1) / line * line;
    }

    /// Bytes held.
    Index bytes() const { return buffer_.bytes() + beside_.bytes(); }

private:
    AlignedBuffer<std::byte> buffer_;
    AlignedBuffer<std::byte> beside_;
};

/// Cuts typed, cache-line-aligned pieces off a region of a Workspace.
class WorkspaceCursor {
public:
    explicit WorkspaceCursor(std::byte* begin) : at_(begin) {}

    template <class T>
    T* take(Index count) {
        auto* piece = reinterpret_cast<T*>(at_);
        at_ += size<T>(count);
        return piece;
    }

    /// What take<T>(count) uses, in bytes.
    template <class T>
    static constexpr Index size(Index count) {
        return Workspace::stride(count * static_cast<Index>(sizeof(T)));
    }

private:
    std::byte* at_;
};

}  // namespace freqkv
