// SPDX-License-Identifier: MIT
#pragma once

#include <string>

#include "llama/io/file.hpp"

namespace llama {

/// A directory that this program alone writes. The system gives it back however the program ends. Nothing is written
/// for it; on a file system without locks it does nothing.
class DirectoryLock {
public:
    /// Throws FileError if another program holds it, with the number of its process if that is known.
    explicit DirectoryLock(const std::string& directory);

private:
    Descriptor directory_;
};

}  // namespace llama
