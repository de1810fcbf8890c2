// SPDX-License-Identifier: MIT
#pragma once

#include <string>

#include "llama/io/file.hpp"

namespace llama {

/// A new file or directory beside its target, whose name it takes when it is complete; gone at the end of its scope if
/// it never is. It is called <target>.freqkv-XXXXXX and locked while it is made: so what a killed program left can be
/// told from what another one is making.
class Temporary {
public:
    enum class Kind { file, directory };

    /// Removes what killed programs left for the same target. Throws FileError about the target.
    Temporary(std::string target, Kind kind);
    Temporary(const Temporary&) = delete;
    Temporary& operator=(const Temporary&) = delete;
    ~Temporary();

    const std::string& name() const { return name_; }
    int descriptor() const { return lock_.number(); }

    /// Gives it the target's name, for good: a power cut does not bring an earlier file back. Throws FileError.
    void rename_to_target();

private:
    void make(Kind kind);

    std::string target_;
    std::string name_;  // empty: it has the target's
    Descriptor lock_;
};

/// Removes what killed programs left in a directory for any target.
void remove_leftovers(const std::string& directory);

}  // namespace llama
