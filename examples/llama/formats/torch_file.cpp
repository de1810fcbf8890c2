// SPDX-License-Identifier: MIT
#include "llama/formats/torch_file.hpp"

#include <algorithm>
#include <cstddef>
#include <string_view>

#include "llama/formats/unpickle.hpp"
#include "llama/io/in_quotes.hpp"
#include "llama/io/zip_archive.hpp"

namespace llama {

TensorFile read_torch_file(const std::string& path) {
    TensorFile file{path, MappedFile(path), {}};
    const auto archive = read_zip(file.map.bytes(), path);
    constexpr std::string_view program = "/data.pkl";
    const auto found = std::find_if(archive.begin(), archive.end(), [&](const auto& entry) {
        return entry.first.ends_with(program) && entry.first.find('/') == entry.first.size() - program.size();
    });
    if (found == archive.end()) throw FileError(path, "a zip archive, but without the data.pkl of torch.save");
    const std::string_view folder = found->first.substr(0, found->first.size() - program.size());
    const auto order = archive.find(std::string(folder) + "/byteorder");
    if (order != archive.end()) {
        const std::string_view name(reinterpret_cast<const char*>(order->second.data()), order->second.size());
        if (name != "little") throw FileError(path, "the byte order is " + in_quotes(name) + ", must be \"little\"");
    }
    constexpr std::size_t longest_program = std::size_t{4} << 20;
    if (found->second.size() > longest_program) {
        throw FileError(path, "data.pkl has " + std::to_string(found->second.size()) + " bytes; at most " +
                                  std::to_string(longest_program) + " are read");
    }
    file.tensors = unpickle_tensors(path, archive, folder, found->second);
    return file;
}

}  // namespace llama
