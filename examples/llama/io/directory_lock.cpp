// SPDX-License-Identifier: MIT
#include "llama/io/directory_lock.hpp"

#include <sys/file.h>

#include <fstream>
#include <sstream>
#include <string>

namespace llama {

namespace {

// "another process (1234)", as the system lists it: "7: FLOCK ADVISORY WRITE 1234 08:01:5678 0 EOF".
std::string describe_holder(const struct stat& directory) {
    const std::string inode = ":" + std::to_string(directory.st_ino);
    std::ifstream locks("/proc/locks");
    for (std::string line; std::getline(locks, line);) {
        std::istringstream words(line);
        std::string number, kind, mode, access, process, place;
        words >> number >> kind >> mode >> access >> process >> place;
        if (kind == "FLOCK" && place.ends_with(inode) && process > "0") return "another process (" + process + ")";
    }
    return "another process";
}

}  // namespace

DirectoryLock::DirectoryLock(const std::string& directory)
    : directory_(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)) {
    if (directory_.number() < 0) throw FileError(directory, std::strerror(errno));
    if (::flock(directory_.number(), LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK) return;
    throw FileError(directory, "in use: " + describe_holder(directory_.status(directory)) + " is writing it");
}

}  // namespace llama
