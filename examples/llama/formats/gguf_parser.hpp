// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "llama/formats/gguf_file.hpp"
#include "llama/io/byte_cursor.hpp"

namespace llama {

/// Fills a GgufFile from its bytes, front to back.
class GgufFile::Parser {
public:
    explicit Parser(GgufFile& file) : file_(file), cursor_(file.path_, file.file_.bytes()) {}

    void parse();

private:
    // Of a tensor in bytes of the file.
    struct Extent {
        std::uint64_t begin;
        std::uint64_t end;
        std::string_view tensor;
    };

    // Length of the name, number of dimensions, one dimension, type, offset.
    static constexpr std::uint64_t least_tensor_bytes = 8 + 4 + 8 + 4 + 8;
    // Length of the key, type, value.
    static constexpr std::uint64_t least_entry_bytes = 8 + 4 + 1;
    static constexpr int deepest_array = 8;
    static constexpr Index most_tensors = Index{1} << 17;
    static constexpr Index most_keys = Index{1} << 16;

    void check_count(const char* what, Index count, Index most) const;
    void read_header();
    void read_entry();
    Type read_type(std::string_view key);
    Value read_value(Type type, std::string_view key, int depth);
    Value read_array(std::string_view key, int depth);
    // In bytes; the least size of strings and arrays.
    static std::uint64_t size_of(Type type);
    std::uint64_t read_alignment() const;
    void read_tensors(Index count);
    GgufTensor read_tensor();
    Extent place(GgufTensor& tensor, const WeightFormat& format, std::uint64_t offset) const;
    void check_overlaps(std::vector<Extent>& extents) const;

    GgufFile& file_;
    ByteCursor cursor_;
    std::uint64_t alignment_ = 0;   // of each tensor's data
    std::uint64_t data_begin_ = 0;  // what the tensors' offsets count from
};

}  // namespace llama
