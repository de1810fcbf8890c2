// SPDX-License-Identifier: MIT
#include "llama/formats/gguf_parts.hpp"

#include <cstdio>
#include <optional>
#include <utility>

namespace llama {

namespace {

Index required(const GgufFile& file, const char* key) {
    const std::optional<Index> value = file.find_integer(key);
    if (!value) file.fail(std::string(key) + " is missing");
    return *value;
}

// "-00001-of-00003.gguf"; parts count from 0.
std::string ending(Index part, Index count) {
    char text[64];
    const long long place = part + 1;
    std::snprintf(text, sizeof text, "-%05lld-of-%05lld.gguf", place, static_cast<long long>(count));
    return text;
}

std::string part_of(Index part, Index count) {
    return "part " + std::to_string(part + 1) + " of " + std::to_string(count);
}

// The path without ending(part, count).
std::string stem_of(const GgufFile& file, Index part, Index count) {
    const std::string end = ending(part, count);
    if (!file.path().ends_with(end)) {
        file.fail(part_of(part, count) + " of a model, whose name must end in " + end +
                  " for the others to be found beside it");
    }
    return file.path().substr(0, file.path().size() - end.size());
}

}  // namespace

GgufFile open_gguf_parts(const std::string& path) {
    GgufFile first(path);
    constexpr Index most = 65535;
    const Index count = first.find_integer("split.count").value_or(1);
    if (count < 0 || count > most) {
        first.fail("split.count is " + std::to_string(count) + ", must be at most " + std::to_string(most));
    }
    if (count <= 1) return first;
    const Index number = required(first, "split.no");
    if (number < 0 || number >= count) {
        first.fail("split.no is " + std::to_string(number) + ", must be below split.count, which is " +
                   std::to_string(count));
    }
    const std::string stem = stem_of(first, number, count);
    if (number > 0) {
        first.fail(part_of(number, count) + " of a model; give the first, " + stem + ending(0, count));
    }
    for (Index i = 1; i < count; ++i) {
        const std::string other = stem + ending(i, count);
        if (!file_exists(other))
            throw FileError(other, "missing; " + path + " is the first of " + std::to_string(count) + " parts");
        GgufFile part(other);
        for (const auto& [key, expected] : {std::pair{"split.count", count}, {"split.no", i}}) {
            if (const Index value = required(part, key); value != expected) {
                part.fail(std::string(key) + " is " + std::to_string(value) + ", must be " + std::to_string(expected) +
                          " in " + part_of(i, count));
            }
        }
        first.append(std::move(part));
    }
    const Index expected = required(first, "split.tensors.count");
    if (const auto tensors = static_cast<Index>(first.tensors().size()); tensors != expected) {
        first.fail("split.tensors.count is " + std::to_string(expected) + ", but the " + std::to_string(count) +
                   " parts have " + std::to_string(tensors) + " tensors");
    }
    return first;
}

}  // namespace llama
