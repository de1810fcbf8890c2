// SPDX-License-Identifier: MIT
#include "llama/io/atomic_file.hpp"

#include <filesystem>
#include <system_error>
#include <utility>
#include <vector>

#include "llama/io/file.hpp"
#include "llama/io/temporary.hpp"

namespace llama {

namespace fs = std::filesystem;

std::string follow_links(const std::string& path) {
    constexpr int most = 40;  // as the kernel
    fs::path target(path);
    for (int links = 0; links < most; ++links) {
        std::error_code error;
        if (fs::symlink_status(target, error).type() != fs::file_type::symlink) return target.string();
        const fs::path next = fs::read_symlink(target, error);
        if (error) throw FileError(path, error.message());
        target = target.parent_path() / next;
        if (target.string().starts_with("/proc/")) return {};
    }
    throw FileError(path, std::strerror(ELOOP));
}

AtomicFile::AtomicFile(std::string path) : path_(std::move(path)) {
    struct stat status{};
    if (::stat(path_.c_str(), &status) == 0) {
        if (S_ISDIR(status.st_mode)) throw FileError(path_, std::strerror(EISDIR));
        if (::access(path_.c_str(), W_OK) != 0) throw FileError(path_, std::strerror(errno));
        if (!S_ISREG(status.st_mode)) return;
    }
    target_ = follow_links(path_);
    if (!target_.empty()) Temporary probe(target_, Temporary::Kind::file);
}

void AtomicFile::write(std::string_view content) const {
    write_pieces([content](const Append& append) { append(content); });
}

void AtomicFile::write_pieces(const std::function<void(const Append&)>& produce) const {
    if (target_.empty()) {
        const Descriptor file(::open(path_.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC));
        if (file.number() < 0) throw FileError(path_, std::strerror(errno));
        produce([&](std::string_view piece) { write_all(file.number(), piece); });
        return;
    }
    Temporary temporary(target_, Temporary::Kind::file);
    produce([&](std::string_view piece) { write_all(temporary.descriptor(), piece); });
    if (::fsync(temporary.descriptor()) != 0) throw FileError(path_, std::strerror(errno));
    temporary.rename_to_target();
}

void AtomicFile::write_all(int descriptor, std::string_view content) const {
    while (!content.empty()) {
        const ssize_t count = ::write(descriptor, content.data(), content.size());
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) throw FileError(path_, std::strerror(errno));
        content.remove_prefix(static_cast<std::size_t>(count));
    }
}

void write_once(const std::string& path, std::string_view content) {
    if (!file_exists(path)) return AtomicFile(path).write(content);
    const std::vector<char> there = read_file(path);
    if (std::string_view(there.data(), there.size()) != content) {
        throw FileError(path, "exists with another content; give a new or an empty directory");
    }
}

}  // namespace llama
