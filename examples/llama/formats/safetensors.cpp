// SPDX-License-Identifier: MIT
#include "llama/formats/safetensors.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>

#include <nlohmann/json.hpp>

#include "llama/io/atomic_file.hpp"
#include "llama/io/in_quotes.hpp"
#include "llama/io/json_file.hpp"
#include "llama/io/json_object.hpp"
#include "llama/model/plain_weights.hpp"

namespace llama {

namespace {

constexpr std::size_t longest_header = 100'000'000;  // as in the official implementation
constexpr std::size_t most_tensors = std::size_t{1} << 18;

const nlohmann::json* find(const nlohmann::json& object, const char* key) {
    const auto found = object.find(key);
    return found == object.end() ? nullptr : &*found;
}

// Of anything but a whole number of at least 0: -1.
Index read_count(const nlohmann::json& value) { return std::max<Index>(JsonObject::as_whole(value).value_or(-1), -1); }

StoredTensor read_entry(const std::string& path, const std::string& name, const nlohmann::json& entry,
                        std::span<const std::byte> data) {
    const auto fail = [&](const std::string& reason) {
        throw FileError(path, "tensor " + in_quotes(name) + " " + reason);
    };
    const nlohmann::json* const type = entry.is_object() ? find(entry, "dtype") : nullptr;
    const nlohmann::json* const shape = entry.is_object() ? find(entry, "shape") : nullptr;
    const nlohmann::json* const offsets = entry.is_object() ? find(entry, "data_offsets") : nullptr;
    if (type == nullptr || !type->is_string()) fail("has no dtype that is a string");
    if (shape == nullptr || !shape->is_array()) fail("has no shape that is a list");
    if (offsets == nullptr || !offsets->is_array() || offsets->size() != 2) fail("has no data_offsets that are a pair");

    StoredTensor tensor{type->get<std::string>(), {}, {}};
    for (const nlohmann::json& size : *shape) {
        const Index count = read_count(size);
        if (count < 0) fail("has a size in its shape that is no whole number of at least 0");
        tensor.shape.push_back(count);
    }
    const Index begin = read_count(offsets->at(0));
    const Index end = read_count(offsets->at(1));
    if (begin < 0 || end < begin || end > static_cast<Index>(data.size())) {
        fail("has the data_offsets " + offsets->at(0).dump().substr(0, 32) + " and " +
             offsets->at(1).dump().substr(0, 32) + ", must be ascending and within the " + std::to_string(data.size()) +
             " bytes of data");
    }
    tensor.bytes = data.subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(end - begin));

    for (const WeightType usable : {WeightType::f32, WeightType::f16, WeightType::bf16}) {
        if (tensor.type != format_of(usable).name) continue;
        Index bytes = format_of(usable).bytes;
        const bool empty = std::find(tensor.shape.begin(), tensor.shape.end(), 0) != tensor.shape.end();
        for (const Index size : tensor.shape) {
            // No product is needed beyond the size of the file.
            if (!empty && size > static_cast<Index>(data.size()) / bytes) {
                fail("has the shape " + describe_shape(tensor.shape) + ", which is larger than the file");
            }
            bytes = empty ? 0 : bytes * size;
        }
        if (bytes != end - begin) {
            fail("has " + std::to_string(end - begin) + " bytes, the shape " + describe_shape(tensor.shape) + " of " +
                 tensor.type + " needs " + std::to_string(bytes));
        }
    }
    return tensor;
}

// Each tensor begins where the one before ends, and the last one ends with the file.
void check_coverage(const TensorFile& file, std::span<const std::byte> data) {
    std::vector<std::pair<std::span<const std::byte>, const std::string*>> spans;
    spans.reserve(file.tensors.size());
    for (const auto& [name, tensor] : file.tensors) spans.emplace_back(tensor.bytes, &name);
    std::sort(spans.begin(), spans.end(), [](const auto& a, const auto& b) {
        return a.first.data() != b.first.data() ? a.first.data() < b.first.data() : a.first.size() < b.first.size();
    });
    const std::byte* at = data.data();
    for (const auto& [bytes, name] : spans) {
        if (bytes.data() != at) {
            throw FileError(file.path, "tensor " + in_quotes(*name) + " begins at byte " +
                                           std::to_string(bytes.data() - data.data()) + " of the data, must be " +
                                           std::to_string(at - data.data()) + ", where the one before it ends");
        }
        at += bytes.size();
    }
    if (at != data.data() + data.size()) {
        throw FileError(file.path, "the tensors have " + std::to_string(at - data.data()) + " bytes, the file has " +
                                       std::to_string(data.size()) + " for them");
    }
}

std::map<std::string, std::string> read_metadata(const std::string& path, const nlohmann::json& entries) {
    if (!entries.is_object()) throw FileError(path, "__metadata__ is no object");
    std::map<std::string, std::string> metadata;
    for (const auto& [key, value] : entries.items()) {
        if (!value.is_string()) throw FileError(path, "__metadata__ has no string for " + in_quotes(key));
        metadata.emplace(key, value.get<std::string>());
    }
    return metadata;
}

std::string make_header(const std::string& path, std::span<const TensorToWrite* const> tensors,
                        const std::map<std::string, std::string>& metadata) {
    nlohmann::ordered_json header;
    header["__metadata__"] = metadata;
    header["__metadata__"]["format"] = "pt";
    Index end = 0;
    for (const TensorToWrite* const tensor : tensors) {
        const WeightFormat format = format_of(tensor->type);
        const Index begin = end;
        end += tensor->source.rows * tensor->source.columns * format.bytes;
        header[tensor->name] = {{"dtype", format.name}, {"shape", tensor->shape}, {"data_offsets", {begin, end}}};
    }
    std::string text = header.dump();
    text.resize((text.size() + 7) / 8 * 8, ' ');  // so that the data begin aligned
    if (text.size() > longest_header) {
        throw FileError(path, "the header would have " + std::to_string(text.size()) + " bytes, at most " +
                                  std::to_string(longest_header) + " are read");
    }
    const std::uint64_t length = text.size();
    std::string bytes(sizeof length, '\0');
    std::memcpy(bytes.data(), &length, sizeof length);
    return bytes + text;
}

void check_range(const std::string& path, const TensorToWrite& tensor, std::span<const float> numbers) {
    constexpr float least_infinite = 65520;  // the first number that is not rounded to F16's largest, 65504
    for (const float number : numbers) {
        if (std::isfinite(number) && std::abs(number) >= least_infinite) {
            throw FileError(path, "tensor " + in_quotes(tensor.name) + " has the number " + std::to_string(number) +
                                      ", F16 ends at 65504");
        }
    }
}

// Of numbers [first, first + count) of the tensor, as they are written.
void check_finite(const std::string& path, const TensorToWrite& tensor, const std::byte* numbers, Index first,
                  Index count) {
    const Index place = find_not_finite(numbers, tensor.type, count);
    if (place == count) return;
    throw FileError(path, "not written: tensor " + in_quotes(tensor.name) + " " +
                              describe_not_finite(numbers, tensor.type, place, first));
}

}  // namespace

TensorFile read_safetensors(const std::string& path) {
    TensorFile file{path, MappedFile(path), {}, {}};
    const std::span<const std::byte> bytes = file.map.bytes();
    std::uint64_t length = 0;
    if (bytes.size() < sizeof length) {
        throw FileError(path,
                        "the file ends inside the header's length, after " + std::to_string(bytes.size()) + " bytes");
    }
    std::memcpy(&length, bytes.data(), sizeof length);
    const std::size_t most = std::min(longest_header, bytes.size() - sizeof length);
    if (length > most) {
        throw FileError(path, "not safetensors, or truncated: the header's length is " + std::to_string(length) +
                                  " bytes, must be at most " + std::to_string(most));
    }
    const auto header_bytes = static_cast<std::size_t>(length);
    const std::span<const std::byte> data = bytes.subspan(sizeof length + header_bytes);
    bool has_metadata = false;
    const auto take = [&](const std::string& name, const nlohmann::json& entry) {
        if (name == "__metadata__") {
            file.metadata = read_metadata(path, entry);
            return !std::exchange(has_metadata, true);
        }
        if (file.tensors.size() == most_tensors) {
            throw FileError(path, "more than " + std::to_string(most_tensors) + " tensors");
        }
        return file.tensors.emplace(name, read_entry(path, name, entry, data)).second;
    };
    const JsonMembers members[] = {{"", JsonMembers::Of::object, take}};
    const nlohmann::json header = parse_json(bytes.subspan(sizeof length, header_bytes), path, members);
    if (!header.is_object()) throw FileError(path, "the header is no JSON object");
    check_coverage(file, data);
    return file;
}

void write_safetensors(const std::string& path, std::span<const TensorToWrite> tensors, const WriteProgress& progress,
                       const std::map<std::string, std::string>& metadata) {
    // Wide numbers first: all are aligned then.
    std::vector<const TensorToWrite*> order;
    Index total = 0;
    for (const Index width : {4, 2}) {
        for (const TensorToWrite& tensor : tensors) {
            if (format_of(tensor.type).bytes != width) continue;
            order.push_back(&tensor);
            total += tensor.source.rows * tensor.source.columns * width;
        }
    }
    constexpr Index piece = Index{1} << 20;
    std::vector<float> floats(piece);
    std::vector<std::byte> converted(static_cast<std::size_t>(piece) * sizeof(float));
    AtomicFile(path).write_pieces([&](const AtomicFile::Append& append) {
        const auto append_bytes = [&](const std::byte* data, Index bytes) {
            append({reinterpret_cast<const char*>(data), static_cast<std::size_t>(bytes)});
        };
        append(make_header(path, order, metadata));
        Index written = 0;
        for (const TensorToWrite* const tensor : order) {
            const Weights& source = tensor->source;
            const Index width = format_of(tensor->type).bytes;
            const Index numbers = source.rows * source.columns;
            for (Index first = 0; first < numbers; first += piece) {
                const Index count = std::min(piece, numbers - first);
                const std::byte* const from = source.data + first * format_of(source.type).bytes;
                if (source.type == tensor->type) {
                    check_finite(path, *tensor, from, first, count);
                    append_bytes(from, count * width);
                } else {
                    to_floats(from, source.type, count, floats.data());
                    if (tensor->type == WeightType::f16) {
                        check_range(path, *tensor, {floats.data(), static_cast<std::size_t>(count)});
                    }
                    from_floats(floats.data(), tensor->type, count, converted.data());
                    check_finite(path, *tensor, converted.data(), first, count);
                    append_bytes(converted.data(), count * width);
                }
                written += count * width;
                if (progress) progress(written, total);
            }
        }
    });
}

}  // namespace llama
