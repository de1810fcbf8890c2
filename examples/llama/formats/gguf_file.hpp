// SPDX-License-Identifier: MIT
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "llama/io/file.hpp"
#include "llama/model/weights.hpp"

namespace llama {

/// One tensor of a GGUF file.
struct GgufTensor {
    using Shape = std::array<Index, 4>;

    std::string_view name;
    Shape shape{};                   ///< columns first; dimensions that the file does not list are 1
    std::optional<WeightType> type;  ///< none: one of GGML's types that is not read here
    std::string type_name;
    std::span<const std::byte> data;  ///< empty without a type
};

/// A GGUF file, version 2 or 3, little-endian: the metadata, and where the tensors lie. The file is mapped; what
/// is returned points into it.
///
/// The constructor checks all of the structure: no count, size or offset of an accepted file leads out of it, and
/// no two tensors whose sizes are known share a byte. What the metadata mean is up to the reader of a key.
class GgufFile {
public:
    /// Throws FileError naming what is wrong with the file.
    explicit GgufFile(const std::string& path);

    const std::string& path() const { return path_; }
    int version() const { return version_; }

    /// The value of a key; none if the file does not have it. A value of another type is refused with FileError.
    std::optional<Index> find_integer(std::string_view key) const;  ///< of any width, signed or not
    std::optional<double> find_number(std::string_view key) const;  ///< FLOAT32 or FLOAT64
    std::optional<bool> find_flag(std::string_view key) const;
    std::optional<std::vector<bool>> find_flags(std::string_view key) const;  ///< an array of BOOL
    std::optional<std::string_view> find_string(std::string_view key) const;
    std::optional<std::vector<std::string_view>> find_strings(std::string_view key) const;
    std::optional<std::vector<float>> find_floats(std::string_view key) const;         ///< an array of FLOAT32
    std::optional<std::vector<std::int32_t>> find_int32s(std::string_view key) const;  ///< an array of INT32

    /// Whether the file has the key, with an array as its value.
    bool is_array(std::string_view key) const;

    /// Null if the file does not have it.
    const GgufTensor* find_tensor(std::string_view name) const;
    const std::map<std::string_view, GgufTensor>& tensors() const { return tensors_; }

    /// Takes the tensors of a further part of the model. Throws FileError if one is there already.
    void append(GgufFile part);

    /// What the tensors' data point into: the file itself, then the further parts.
    std::vector<MappedFile> take_mapped_files() &&;

    /// Throws FileError.
    [[noreturn]] void fail(const std::string& reason) const { throw FileError(path_, reason); }

private:
    class Parser;

    // By their numbers in the file.
    enum class Type : std::uint32_t {
        uint8,
        int8,
        uint16,
        int16,
        uint32,
        int32,
        float32,
        boolean,
        string,
        array,
        uint64,
        int64,
        float64,
    };

    struct Value {
        Type type{};
        Type element_type{};               // of an array
        Index elements = 0;                // of an array
        std::span<const std::byte> bytes;  // of a string without its length; of an array all elements
    };

    static const char* name_of(Type type);

    const Value* find(std::string_view key) const;
    const Value* find(std::string_view key, Type type) const;
    const Value* find_array(std::string_view key, Type element_type) const;
    template <class T>
    std::optional<std::vector<T>> find_elements(std::string_view key, Type element_type) const;
    [[noreturn]] void fail_type(std::string_view key, const Value& value, const std::string& expected) const;

    std::string path_;
    MappedFile file_;
    std::vector<MappedFile> parts_;  // that were appended
    int version_ = 0;
    std::map<std::string_view, Value> metadata_;
    std::map<std::string_view, GgufTensor> tensors_;
};

/// A name out of a file as a message can show it: one line, printable, not long.
std::string printable(std::string_view name);

/// "[4096, 32000]", without the ones at the end.
std::string to_string(const GgufTensor::Shape& shape);

}  // namespace llama
