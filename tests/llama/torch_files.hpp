// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "hugging_face_files.hpp"

// Files as torch.save makes them of a dictionary of tensors, put together byte by byte.
namespace llama::test {

struct ZipEntry {
    std::string name;
    std::string content;
    std::uint16_t method = 0;
    std::uint16_t flags = 0;
};

// `wide`: sizes, offsets and the end in their zip64 forms.
inline std::string make_zip(const std::vector<ZipEntry>& entries, bool wide = false) {
    const auto u16 = [](std::size_t value) { return to_bytes(static_cast<std::uint16_t>(value)); };
    const auto u32 = [](std::size_t value) { return to_bytes(static_cast<std::uint32_t>(value)); };
    const auto u64 = [](std::size_t value) { return to_bytes(static_cast<std::uint64_t>(value)); };
    std::string zip;
    std::string directory;
    for (const ZipEntry& entry : entries) {
        const std::size_t at = zip.size();
        const std::size_t size = entry.content.size();
        const std::string middle = u16(entry.flags) + u16(entry.method) + u32(0) + u32(0);  // time, checksum
        zip += u32(0x04034b50) + u16(20) + middle + u32(size) + u32(size) + u16(entry.name.size()) + u16(3) +
               entry.name + "pad" + entry.content;
        const std::string wide_field = wide ? u16(1) + u16(24) + u64(size) + u64(size) + u64(at) : "";
        const std::size_t shown = wide ? 0xffffffff : size;
        directory += u32(0x02014b50) + u16(20) + u16(20) + middle + u32(shown) + u32(shown) + u16(entry.name.size()) +
                     u16(wide_field.size()) + u16(0) + u16(0) + u16(0) + u32(0) + u32(wide ? 0xffffffff : at) +
                     entry.name + wide_field;
    }
    const std::size_t begin = zip.size();
    zip += directory;
    if (wide) {
        const std::size_t end = zip.size();
        zip += u32(0x06064b50) + u64(44) + u16(45) + u16(45) + u32(0) + u32(0) + u64(entries.size()) +
               u64(entries.size()) + u64(directory.size()) + u64(begin);
        zip += u32(0x07064b50) + u32(0) + u64(end) + u32(1);
    }
    return zip + u32(0x06054b50) + u16(0) + u16(0) + u16(entries.size()) + u16(entries.size()) + u32(directory.size()) +
           u32(wide ? 0xffffffff : begin) + u16(0);
}

// Instructions of the pickle language.
namespace pickle {

inline std::string text(const std::string& value) {
    return "X" + to_bytes(static_cast<std::uint32_t>(value.size())) + value;
}
inline std::string whole(std::int64_t value) { return "J" + to_bytes(static_cast<std::int32_t>(value)); }
inline std::string function(const std::string& module, const std::string& name) {
    return "c" + module + "\n" + name + "\n";
}
inline std::string tuple(const std::vector<std::string>& parts) {
    std::string all = "(";
    for (const std::string& part : parts) all += part;
    return all + "t";
}
inline std::string wholes(const std::vector<Index>& values) {
    std::vector<std::string> parts;
    for (const Index value : values) parts.push_back(whole(value));
    return tuple(parts);
}
inline std::string ordered_dictionary() { return function("collections", "OrderedDict") + ")R"; }

struct Tensor {
    std::string storage = "FloatStorage";
    std::string key = "0";
    Index numbers = 0;
    Index offset = 0;
    std::vector<Index> shape;
    std::vector<Index> strides;

    std::string text() const {
        return function("torch._utils", "_rebuild_tensor_v2") +
               tuple({tuple({pickle::text("storage"), function("torch", storage), pickle::text(key),
                             pickle::text("cpu"), whole(numbers)}) +
                          "Q",
                      whole(offset), wholes(shape), wholes(strides), "\x89", ordered_dictionary()}) +
               "R";
    }
};

// A program that leaves a dictionary.
inline std::string program(const std::vector<std::pair<std::string, std::string>>& items) {
    std::string all = "\x80\x02}q";
    all += '\0';
    all += "(";
    for (const auto& [name, value] : items) all += text(name) + value;
    return all + "u.";
}

}  // namespace pickle

inline std::string make_torch_file(const TestTensors& tensors, bool wide = false) {
    std::vector<std::pair<std::string, std::string>> items;
    std::vector<ZipEntry> entries{{"archive/data.pkl", ""}, {"archive/byteorder", "little"}};
    for (const auto& [name, tensor] : tensors) {
        pickle::Tensor item;
        item.storage = tensor.type == "F32" ? "FloatStorage" : tensor.type == "F16" ? "HalfStorage" : "BFloat16Storage";
        item.key = std::to_string(items.size());
        item.numbers = static_cast<Index>(tensor.values.size());
        item.shape = tensor.shape;
        Index stride = 1;
        for (std::size_t i = tensor.shape.size(); i-- > 0; stride *= tensor.shape[i]) {
            item.strides.insert(item.strides.begin(), stride);
        }
        items.emplace_back(name, item.text());
        entries.push_back({"archive/data/" + item.key, tensor.bytes()});
    }
    entries[0].content = pickle::program(items);
    return make_zip(entries, wide);
}

}  // namespace llama::test
