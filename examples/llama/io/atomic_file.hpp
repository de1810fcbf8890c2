// SPDX-License-Identifier: MIT
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include "llama/io/file.hpp"
#define AtomicFile NewAtomicFile
#define write_once new_write_once

namespace llama {

/// Where a path leads through symbolic links, also if nothing is there yet; empty for an open file of this process
/// (/dev/stdout). Throws FileError.
std::string follow_links(const std::string& path);

/// Writes a file all at once or not at all: the content goes to a file beside it, which takes its name when it is
/// complete and on the disk. A symbolic link stays, and the file that it points to is written. What is no regular file
/// (a terminal, a pipe, /dev/null) is written directly.
class AtomicFile {
public:
    /// Adds a piece to the file.
    using Append = std::function<void(std::string_view)>;

    /// Throws FileError now if `path` cannot be written later. Nothing is left behind, and what killed programs left of
    /// such a file is removed.
    explicit AtomicFile(std::string path);

    /// Throws FileError; the earlier content of the file, if any, then still stands.
    void write(std::string_view content) const;

    /// The same for content that is too large to be held at once: `produce` appends one piece after the other.
    /// The file stays as it was, too, if `produce` throws.
    void write_pieces(const std::function<void(const Append&)>& produce) const;

private:
    void write_all(int descriptor, std::string_view content) const;

    std::string path_;
    std::string target_;  // behind symbolic links; empty: written directly
};

/// Writes a file that is not to change any more: with the same content it may be there already, with another it is
/// refused.
void write_once(const std::string& path, std::string_view content);

}  // namespace llama
