// SPDX-License-Identifier: MIT
#include "llama/formats/gguf_parser.hpp"

#include <algorithm>
#include <bit>
#include <iterator>
#include <string>
#include <utility>
#include <vector>

namespace llama {

static_assert(std::endian::native == std::endian::little, "GGUF files are read as they are");

namespace {

// GGML's types of tensors, by their numbers in the file; null: none, or one that GGML has dropped.
constexpr const char* type_names[] = {
    "F32",   "F16",    "Q4_0",  "Q4_1",  nullptr, nullptr,   "Q5_0",   "Q5_1",    "Q8_0",  "Q8_1",   "Q2_K",
    "Q3_K",  "Q4_K",   "Q5_K",  "Q6_K",  "Q8_K",  "IQ2_XXS", "IQ2_XS", "IQ3_XXS", "IQ1_S", "IQ4_NL", "IQ3_S",
    "IQ2_S", "IQ4_XS", "I8",    "I16",   "I32",   "I64",     "F64",    "IQ1_M",   "BF16",  nullptr,  nullptr,
    nullptr, "TQ1_0",  "TQ2_0", nullptr, nullptr, nullptr,   "MXFP4",  "NVFP4",   "Q1_0",
};

}  // namespace

void GgufFile::Parser::parse() {
    read_header();
    const Index tensors = cursor_.take_count(least_tensor_bytes);
    const Index keys = cursor_.take_count(least_entry_bytes);
    check_count("tensors", tensors, most_tensors);
    check_count("keys of metadata", keys, most_keys);
    for (Index i = 0; i < keys; ++i) read_entry();
    read_tensors(tensors);
}

// Each takes more memory than its bytes in the file.
void GgufFile::Parser::check_count(const char* what, Index count, Index most) const {
    if (count > most) {
        file_.fail("has " + std::to_string(count) + " " + what + ", at most " + std::to_string(most) + " are read");
    }
}

void GgufFile::Parser::read_header() {
    if (text_of(cursor_.take(4)) != "GGUF") file_.fail("not a GGUF file: it does not begin with \"GGUF\"");
    const auto version = cursor_.take<std::uint32_t>();
    if (version != 0 && (version & 0xffffU) == 0) {
        file_.fail("a big-endian GGUF file, of which none are supported");
    }
    if (version != 2 && version != 3) {
        file_.fail("version " + std::to_string(version) + " of GGUF is not supported, only 2 and 3 are");
    }
    file_.version_ = static_cast<int>(version);
}

void GgufFile::Parser::read_entry() {
    cursor_.enter("a key of the metadata");
    const std::string_view key = text_of(cursor_.take_string());
    cursor_.enter("the value of " + printable(key));
    const Value value = read_value(read_type(key), key, 0);
    if (!file_.metadata_.emplace(key, value).second) file_.fail("the key " + printable(key) + " occurs twice");
}

GgufFile::Type GgufFile::Parser::read_type(std::string_view key) {
    const auto number = cursor_.take<std::uint32_t>();
    if (number > static_cast<std::uint32_t>(Type::float64)) {
        file_.fail("the type of " + printable(key) + " is " + std::to_string(number) + ", must be 0 to 12");
    }
    return static_cast<Type>(number);
}

GgufFile::Value GgufFile::Parser::read_value(Type type, std::string_view key, int depth) {
    if (type == Type::string) return {type, {}, 0, cursor_.take_string()};
    if (type == Type::array) return read_array(key, depth + 1);
    return {type, {}, 0, cursor_.take(size_of(type))};
}

GgufFile::Value GgufFile::Parser::read_array(std::string_view key, int depth) {
    if (depth > deepest_array) {
        file_.fail("the arrays of " + printable(key) + " are nested deeper than " + std::to_string(deepest_array) +
                   " levels");
    }
    const Type type = read_type(key);
    const Index count = cursor_.take_count(size_of(type));
    const std::size_t begin = cursor_.position();
    if (type == Type::string || type == Type::array) {
        for (Index i = 0; i < count; ++i) read_value(type, key, depth);
    } else {
        cursor_.take(static_cast<std::uint64_t>(count) * size_of(type));
    }
    return {Type::array, type, count, cursor_.since(begin)};
}

std::uint64_t GgufFile::Parser::size_of(Type type) {
    switch (type) {
        case Type::uint8:
        case Type::int8:
        case Type::boolean:
            return 1;
        case Type::uint16:
        case Type::int16:
            return 2;
        case Type::uint32:
        case Type::int32:
        case Type::float32:
            return 4;
        case Type::uint64:
        case Type::int64:
        case Type::float64:
        case Type::string:
            return 8;
        case Type::array:
            return 4 + 8;
    }
    return 1;
}

std::uint64_t GgufFile::Parser::read_alignment() const {
    constexpr Index most = Index{1} << 20;
    const Index alignment = file_.find_integer("general.alignment").value_or(32);
    if (alignment < 1 || alignment > most || !std::has_single_bit(static_cast<std::uint64_t>(alignment))) {
        file_.fail("general.alignment is " + std::to_string(alignment) + ", must be a power of two up to " +
                   std::to_string(most));
    }
    return static_cast<std::uint64_t>(alignment);
}

void GgufFile::Parser::read_tensors(Index count) {
    cursor_.enter("the table of tensors");
    cursor_.check_room(static_cast<std::uint64_t>(count), least_tensor_bytes);
    alignment_ = read_alignment();
    std::vector<std::pair<GgufTensor*, std::uint64_t>> offsets;
    offsets.reserve(static_cast<std::size_t>(count));
    for (Index i = 0; i < count; ++i) {
        GgufTensor tensor = read_tensor();
        const auto offset = cursor_.take<std::uint64_t>();
        const auto [entry, is_new] = file_.tensors_.emplace(tensor.name, tensor);
        if (!is_new) file_.fail("the tensor " + printable(tensor.name) + " occurs twice");
        offsets.emplace_back(&entry->second, offset);
    }
    data_begin_ = (cursor_.position() + alignment_ - 1) / alignment_ * alignment_;
    std::vector<Extent> extents;
    for (const auto& [tensor, offset] : offsets) {
        if (tensor->type) extents.push_back(place(*tensor, format_of(*tensor->type), offset));
    }
    check_overlaps(extents);
}

GgufTensor GgufFile::Parser::read_tensor() {
    GgufTensor tensor;
    tensor.name = text_of(cursor_.take_string());
    tensor.shape.fill(1);
    const auto dimensions = cursor_.take<std::uint32_t>();
    if (dimensions < 1 || dimensions > tensor.shape.size()) {
        file_.fail("the tensor " + printable(tensor.name) + " has " + std::to_string(dimensions) +
                   " dimensions, must be 1 to 4");
    }
    // A byte holds at most eight elements of any type.
    std::uint64_t left = 8 * file_.file_.bytes().size();
    for (std::uint32_t i = 0; i < dimensions; ++i) {
        const auto size = cursor_.take<std::uint64_t>();
        if (size < 1 || size > left) {
            file_.fail("dimension " + std::to_string(i) + " of " + printable(tensor.name) + " is " +
                       std::to_string(size) + ", must be at least 1 and no more than the file can hold");
        }
        left /= size;
        tensor.shape[i] = static_cast<Index>(size);
    }
    const auto number = cursor_.take<std::uint32_t>();
    const char* const name = number < std::size(type_names) ? type_names[number] : nullptr;
    tensor.type_name = name != nullptr ? name : "of the unknown type " + std::to_string(number);
    for (std::size_t i = 0; i < weight_types; ++i) {
        if (tensor.type_name == weight_formats[i].name) tensor.type = static_cast<WeightType>(i);
    }
    return tensor;
}

GgufFile::Parser::Extent GgufFile::Parser::place(GgufTensor& tensor, const WeightFormat& format,
                                                 std::uint64_t offset) const {
    const std::string name = printable(tensor.name);
    const auto& shape = tensor.shape;
    if (shape[0] % format.block != 0) {
        file_.fail(name + " has " + std::to_string(shape[0]) + " columns, must be a multiple of " +
                   std::to_string(format.block) + ", the block of " + format.name);
    }
    const auto size =
        static_cast<std::uint64_t>(shape[0] / format.block * format.bytes * shape[1] * shape[2] * shape[3]);
    const std::span<const std::byte> bytes = file_.file_.bytes();
    if (offset % alignment_ != 0) {
        file_.fail("the offset of " + name + " is " + std::to_string(offset) + ", must be a multiple of " +
                   std::to_string(alignment_));
    }
    const std::uint64_t room = bytes.size() - std::min<std::uint64_t>(data_begin_, bytes.size());
    if (offset > room || size > room - offset) {
        file_.fail("truncated: " + name + " takes " + std::to_string(size) + " bytes at offset " +
                   std::to_string(offset) + " of the tensors' data, of which the file has " + std::to_string(room));
    }
    const std::uint64_t begin = data_begin_ + offset;
    tensor.data = bytes.subspan(begin, size);
    return {begin, begin + size, tensor.name};
}

void GgufFile::Parser::check_overlaps(std::vector<Extent>& extents) const {
    std::sort(extents.begin(), extents.end(), [](const Extent& a, const Extent& b) { return a.begin < b.begin; });
    for (std::size_t i = 1; i < extents.size(); ++i) {
        if (extents[i].begin < extents[i - 1].end) {
            file_.fail("the tensors " + printable(extents[i - 1].tensor) + " and " + printable(extents[i].tensor) +
                       " overlap");
        }
    }
}

}  // namespace llama
