// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "freqkv/config.hpp"
#include "llama/io/file.hpp"

namespace llama {

using freqkv::Index;

/// A number at any address, little-endian as the machine.
template <class T>
T load_number(const std::byte* from) {
    T value;
    std::memcpy(&value, from, sizeof value);
    return value;
}

inline std::string_view text_of(std::span<const std::byte> bytes) {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// Reads the bytes of a file forward, and never past their end: that is a FileError with `path`.
class ByteCursor {
public:
    ByteCursor(const std::string& path, std::span<const std::byte> bytes) : path_(path), bytes_(bytes) {}

    /// What is being read, for the message of a file that ends there.
    void enter(std::string what) { what_ = std::move(what); }

    std::span<const std::byte> take(std::uint64_t count) {
        check_room(count, 1);
        const auto taken = bytes_.subspan(at_, static_cast<std::size_t>(count));
        at_ += taken.size();
        return taken;
    }

    template <class T>
    T take() {
        return load_number<T>(take(sizeof(T)).data());
    }

    /// Bytes behind their number, which is 64 bits.
    std::span<const std::byte> take_string() { return take(take<std::uint64_t>()); }

    /// A number of things that take at least `least_bytes` each, so that no count is beyond the file's size.
    Index take_count(std::uint64_t least_bytes) {
        const auto count = take<std::uint64_t>();
        check_room(count, least_bytes);
        return static_cast<Index>(count);
    }

    std::size_t position() const { return at_; }
    std::span<const std::byte> since(std::size_t begin) const { return bytes_.subspan(begin, at_ - begin); }

    /// Throws FileError unless `count` things of `least_bytes` or more fit in what is left.
    void check_room(std::uint64_t count, std::uint64_t least_bytes) const {
        const std::uint64_t left = bytes_.size() - at_;
        if (count <= left / least_bytes) return;
        const std::string unit =
            least_bytes == 1 ? " bytes" : " elements of at least " + std::to_string(least_bytes) + " bytes";
        throw FileError(path_, "the file ends inside " + what_ + ": it asks for " + std::to_string(count) + unit +
                                   ", " + std::to_string(left) + " bytes are left");
    }

private:
    const std::string& path_;
    std::span<const std::byte> bytes_;
    std::size_t at_ = 0;
    std::string what_ = "the header";
};

}  // namespace llama
