// SPDX-License-Identifier: MIT
#include "llama/formats/gguf_file.hpp"

#include <cstring>
#include <limits>
#include <type_traits>
#include <utility>

#include "llama/formats/gguf_parser.hpp"
#include "llama/io/byte_cursor.hpp"
#include "llama/io/visible_text.hpp"

namespace llama {

std::string printable(std::string_view name) { return visible(name, 80); }

std::string to_string(const GgufTensor::Shape& shape) {
    std::size_t dimensions = shape.size();
    while (dimensions > 1 && shape[dimensions - 1] == 1) --dimensions;
    std::string text = "[";
    for (std::size_t i = 0; i < dimensions; ++i) text += (i > 0 ? ", " : "") + std::to_string(shape[i]);
    return text + "]";
}

GgufFile::GgufFile(const std::string& path) : path_(path), file_(path) { Parser(*this).parse(); }

std::optional<Index> GgufFile::find_integer(std::string_view key) const {
    const Value* const value = find(key);
    if (value == nullptr) return {};
    const std::byte* const bytes = value->bytes.data();
    switch (value->type) {
        case Type::uint8:
            return load_number<std::uint8_t>(bytes);
        case Type::int8:
            return load_number<std::int8_t>(bytes);
        case Type::uint16:
            return load_number<std::uint16_t>(bytes);
        case Type::int16:
            return load_number<std::int16_t>(bytes);
        case Type::uint32:
            return load_number<std::uint32_t>(bytes);
        case Type::int32:
            return load_number<std::int32_t>(bytes);
        case Type::int64:
            return load_number<std::int64_t>(bytes);
        case Type::uint64: {
            const auto integer = load_number<std::uint64_t>(bytes);
            if (integer > std::numeric_limits<Index>::max()) {
                fail(printable(key) + " is " + std::to_string(integer) + ", must be below 2^63");
            }
            return static_cast<Index>(integer);
        }
        default:
            fail_type(key, *value, "an integer");
    }
}

std::optional<double> GgufFile::find_number(std::string_view key) const {
    const Value* const value = find(key);
    if (value == nullptr) return {};
    if (value->type == Type::float32) return load_number<float>(value->bytes.data());
    if (value->type == Type::float64) return load_number<double>(value->bytes.data());
    fail_type(key, *value, "FLOAT32 or FLOAT64");
}

std::optional<bool> GgufFile::find_flag(std::string_view key) const {
    const Value* const value = find(key, Type::boolean);
    if (value == nullptr) return {};
    const auto flag = load_number<std::uint8_t>(value->bytes.data());
    if (flag > 1) fail(printable(key) + " is " + std::to_string(flag) + ", must be 0 or 1");
    return flag == 1;
}

std::optional<std::vector<bool>> GgufFile::find_flags(std::string_view key) const {
    const auto bytes = find_elements<std::uint8_t>(key, Type::boolean);
    if (!bytes) return {};
    std::vector<bool> flags;
    for (const std::uint8_t flag : *bytes) {
        if (flag > 1) fail(printable(key) + " has the element " + std::to_string(flag) + ", must be 0 or 1");
        flags.push_back(flag == 1);
    }
    return flags;
}

bool GgufFile::is_array(std::string_view key) const {
    const Value* const value = find(key);
    return value != nullptr && value->type == Type::array;
}

std::optional<std::string_view> GgufFile::find_string(std::string_view key) const {
    const Value* const value = find(key, Type::string);
    if (value == nullptr) return {};
    return text_of(value->bytes);
}

std::optional<std::vector<std::string_view>> GgufFile::find_strings(std::string_view key) const {
    const Value* const value = find_array(key, Type::string);
    if (value == nullptr) return {};
    std::vector<std::string_view> strings(static_cast<std::size_t>(value->elements));
    ByteCursor cursor(path_, value->bytes);
    for (std::string_view& string : strings) string = text_of(cursor.take_string());
    return strings;
}

std::optional<std::vector<float>> GgufFile::find_floats(std::string_view key) const {
    return find_elements<float>(key, Type::float32);
}

std::optional<std::vector<std::int32_t>> GgufFile::find_int32s(std::string_view key) const {
    return find_elements<std::int32_t>(key, Type::int32);
}

const GgufTensor* GgufFile::find_tensor(std::string_view name) const {
    const auto found = tensors_.find(name);
    return found == tensors_.end() ? nullptr : &found->second;
}

void GgufFile::append(GgufFile part) {
    for (const auto& [name, tensor] : part.tensors_) {
        if (!tensors_.emplace(name, tensor).second) {
            part.fail("the tensor " + printable(name) + " is in another part of the model, too");
        }
    }
    parts_.push_back(std::move(part.file_));
}

std::vector<MappedFile> GgufFile::take_mapped_files() && {
    std::vector<MappedFile> files;
    files.push_back(std::move(file_));
    for (MappedFile& part : parts_) files.push_back(std::move(part));
    return files;
}

const char* GgufFile::name_of(Type type) {
    static constexpr const char* names[] = {"UINT8", "INT8",   "UINT16", "INT16",  "UINT32", "INT32",  "FLOAT32",
                                            "BOOL",  "STRING", "ARRAY",  "UINT64", "INT64",  "FLOAT64"};
    return names[static_cast<std::size_t>(type)];
}

const GgufFile::Value* GgufFile::find(std::string_view key) const {
    const auto found = metadata_.find(key);
    return found == metadata_.end() ? nullptr : &found->second;
}

const GgufFile::Value* GgufFile::find(std::string_view key, Type type) const {
    const Value* const value = find(key);
    if (value != nullptr && value->type != type) fail_type(key, *value, name_of(type));
    return value;
}

const GgufFile::Value* GgufFile::find_array(std::string_view key, Type element_type) const {
    const Value* const value = find(key);
    if (value != nullptr && (value->type != Type::array || value->element_type != element_type)) {
        fail_type(key, *value, std::string("an array of ") + name_of(element_type));
    }
    return value;
}

template <class T>
std::optional<std::vector<T>> GgufFile::find_elements(std::string_view key, Type element_type) const {
    static_assert(std::is_trivially_copyable_v<T>);
    const Value* const value = find_array(key, element_type);
    if (value == nullptr) return {};
    std::vector<T> elements(static_cast<std::size_t>(value->elements));
    if (!elements.empty()) std::memcpy(elements.data(), value->bytes.data(), value->bytes.size());
    return elements;
}

void GgufFile::fail_type(std::string_view key, const Value& value, const std::string& expected) const {
    const std::string actual = value.type == Type::array ? std::string("an array of ") + name_of(value.element_type)
                                                         : std::string(name_of(value.type));
    fail(printable(key) + " is " + actual + ", must be " + expected);
}

}  // namespace llama
