// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <map>
#include <span>
#include <string>
#include <string_view>

namespace llama {

/// The files of a zip archive (zip64, too) by their names, as spans of it. Throws FileError for a broken archive
/// and for files that are compressed or encrypted; checksums are not looked at. `path` is for messages.
std::map<std::string_view, std::span<const std::byte>> read_zip(std::span<const std::byte> archive,
                                                                const std::string& path);

}  // namespace llama
