// SPDX-License-Identifier: MIT
#pragma once

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace llama {

/// A file, or what it holds, was refused. what() is "<path>: <reason>".
class FileError : public std::runtime_error {
public:
    FileError(const std::string& path, const std::string& reason) : std::runtime_error(path + ": " + reason) {}
};

/// Something has that name; false also where it cannot be looked for.
inline bool file_exists(const std::string& path) {
    struct stat status{};
    return ::stat(path.c_str(), &status) == 0;
}

/// Makes a directory unless it is there. Throws FileError.
inline void make_directory(const std::string& path) {
    struct stat status{};
    if (::mkdir(path.c_str(), 0777) == 0) return;
    const int error = errno;
    if (error == EEXIST && ::stat(path.c_str(), &status) == 0 && S_ISDIR(status.st_mode)) return;
    throw FileError(path, std::strerror(error == EEXIST ? ENOTDIR : error));
}

/// An open POSIX file descriptor.
class Descriptor {
public:
    /// Throws FileError if the file cannot be opened or is a directory.
    static Descriptor open_for_reading(const std::string& path) {
        Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
        if (file.number_ < 0) throw FileError(path, std::strerror(errno));
        if (S_ISDIR(file.status(path).st_mode)) throw FileError(path, std::strerror(EISDIR));
        return file;
    }

    explicit Descriptor(int number = -1) : number_(number) {}
    Descriptor(Descriptor&& other) noexcept : number_(std::exchange(other.number_, -1)) {}
    Descriptor& operator=(Descriptor&& other) noexcept {
        std::swap(number_, other.number_);
        return *this;
    }
    ~Descriptor() {
        if (number_ >= 0) ::close(number_);
    }

    int number() const { return number_; }

    struct stat status(const std::string& path) const {
        struct stat result{};
        if (::fstat(number_, &result) != 0) throw FileError(path, std::strerror(errno));
        return result;
    }

private:
    int number_;
};

/// The bytes of a regular file, mapped read-only: pages are read when they are first used and shared
/// with every other process that maps the file.
class MappedFile {
public:
    /// Throws FileError if the file cannot be opened or mapped, is not a regular file, or is empty.
    explicit MappedFile(const std::string& path) {
        const Descriptor file = Descriptor::open_for_reading(path);
        const struct stat status = file.status(path);
        if (!S_ISREG(status.st_mode)) throw FileError(path, "not a regular file");
        if (status.st_size == 0) throw FileError(path, "the file is empty");
        size_ = static_cast<std::size_t>(status.st_size);
        data_ = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, file.number(), 0);
        if (data_ == MAP_FAILED) throw FileError(path, std::strerror(errno));
    }

    MappedFile(MappedFile&& other) noexcept
        : data_(std::exchange(other.data_, MAP_FAILED)), size_(std::exchange(other.size_, 0)) {}
    MappedFile& operator=(MappedFile&&) = delete;
    ~MappedFile() {
        if (data_ != MAP_FAILED) ::munmap(data_, size_);
    }

    std::span<const std::byte> bytes() const { return {static_cast<const std::byte*>(data_), size_}; }

private:
    void* data_ = MAP_FAILED;
    std::size_t size_ = 0;
};

/// All bytes of a descriptor up to its end; `name` is for the message of the FileError.
inline std::vector<char> read_all(int descriptor, const std::string& name) {
    std::vector<char> content;
    std::size_t used = 0;
    while (true) {
        content.resize(used < content.size() / 2 ? content.size() : 2 * used + 65536);
        const ssize_t count = ::read(descriptor, content.data() + used, content.size() - used);
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) throw FileError(name, std::strerror(errno));
        if (count == 0) break;
        used += static_cast<std::size_t>(count);
    }
    content.resize(used);
    return content;
}

/// All bytes of a file or pipe; FileError if it cannot be read.
inline std::vector<char> read_file(const std::string& path) {
    return read_all(Descriptor::open_for_reading(path).number(), path);
}

}  // namespace llama
