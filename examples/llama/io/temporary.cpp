// SPDX-License-Identifier: MIT
#include "llama/io/temporary.hpp"

#include <sys/file.h>

#include <filesystem>
#include <string_view>
#include <system_error>
#include <utility>

namespace llama {

namespace {

namespace fs = std::filesystem;

constexpr std::string_view mark = ".freqkv-";
constexpr std::size_t random_letters = 6;

bool is_temporary_of(std::string_view name, std::string_view target) {
    return name.size() == target.size() + mark.size() + random_letters && name.starts_with(target) &&
           name.substr(target.size()).starts_with(mark);
}

bool is_temporary(std::string_view name) {
    const std::size_t tail = mark.size() + random_letters;
    return name.size() > tail && is_temporary_of(name, name.substr(0, name.size() - tail));
}

// Whoever is making it would hold the lock.
void remove_if_abandoned(const fs::path& path) {
    const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
    if (file.number() < 0 || ::flock(file.number(), LOCK_EX | LOCK_NB) != 0) return;
    std::error_code ignored;
    fs::remove_all(path, ignored);
}

template <class IsOurs>
void remove_abandoned(const fs::path& directory, IsOurs is_ours) {
    std::error_code error;
    fs::directory_iterator entry(directory.empty() ? "." : directory, error);
    for (; !error && entry != fs::directory_iterator(); entry.increment(error)) {
        if (is_ours(entry->path().filename().string())) remove_if_abandoned(entry->path());
    }
}

// A rename is on the disk when its directory is. Some file systems have nothing to do for that, and say so.
void sync_directory(const fs::path& directory, const std::string& target) {
    const Descriptor file(::open(directory.empty() ? "." : directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (file.number() < 0) return;  // it may be written without being readable
    if (::fsync(file.number()) != 0 && errno != EINVAL && errno != ENOTSUP)
        throw FileError(target, std::strerror(errno));
}

}  // namespace

Temporary::Temporary(std::string target, Kind kind) : target_(std::move(target)) {
    const fs::path path(target_);
    remove_abandoned(path.parent_path(),
                     [name = path.filename().string()](const auto& other) { return is_temporary_of(other, name); });
    // Between its making and its lock another program may take it for abandoned.
    do {
        make(kind);
    } while (lock_.status(name_).st_nlink == 0);
}

void Temporary::make(Kind kind) {
    name_ = target_ + std::string(mark) + std::string(random_letters, 'X');
    if (kind == Kind::file) {
        lock_ = Descriptor(::mkostemp(name_.data(), O_CLOEXEC));
    } else if (::mkdtemp(name_.data()) != nullptr) {
        lock_ = Descriptor(::open(name_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    }
    if (lock_.number() < 0) {
        const int error = errno;
        name_.clear();
        throw FileError(target_, std::strerror(error));
    }
    ::flock(lock_.number(), LOCK_EX);  // where there are no locks nothing is taken for abandoned
    const mode_t mask = ::umask(0);
    ::umask(mask);
    ::fchmod(lock_.number(), (kind == Kind::file ? 0666 : 0777) & ~mask);
}

Temporary::~Temporary() {
    std::error_code ignored;
    if (!name_.empty()) fs::remove_all(name_, ignored);
}

void Temporary::rename_to_target() {
    if (::rename(name_.c_str(), target_.c_str()) != 0) throw FileError(target_, std::strerror(errno));
    name_.clear();
    sync_directory(fs::path(target_).parent_path(), target_);
}

void remove_leftovers(const std::string& directory) { remove_abandoned(directory, is_temporary); }

}  // namespace llama
