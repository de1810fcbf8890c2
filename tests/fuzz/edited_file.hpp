// SPDX-License-Identifier: MIT
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>

// Hostile files for the fuzzers. Most of a fuzzer's random files fail at their first bytes; so its input is
// read as edits of a valid file, which reach everything behind the header too.
namespace fuzz {

// `valid` with the edits that `data` holds: the bytes cut off at its end, the zeros added there (a byte
// each), then in each three bytes an offset and what stands there instead.
inline std::string edited(std::string valid, const std::uint8_t* data, std::size_t size) {
    if (size < 2) return valid;
    valid.resize(valid.size() - std::min<std::size_t>(valid.size(), data[0]));
    valid.resize(valid.size() + data[1]);
    for (std::size_t i = 2; i + 3 <= size && !valid.empty(); i += 3) {
        valid[static_cast<std::size_t>(data[i] | data[i + 1] << 8) % valid.size()] = static_cast<char>(data[i + 2]);
    }
    return valid;
}

// A file in memory that has a path.
class MemoryFile {
public:
    explicit MemoryFile(const std::string& content) : descriptor_(memfd_create("fuzz", 0)) {
        if (descriptor_ < 0 ||
            write(descriptor_, content.data(), content.size()) != static_cast<ssize_t>(content.size())) {
            std::abort();
        }
    }
    ~MemoryFile() { close(descriptor_); }
    MemoryFile(const MemoryFile&) = delete;
    MemoryFile& operator=(const MemoryFile&) = delete;

    std::string path() const { return "/proc/self/fd/" + std::to_string(descriptor_); }

private:
    int descriptor_;
};

}  // namespace fuzz
