// SPDX-License-Identifier: MIT
#pragma once

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "llama/io/mappings.hpp"
#include "llama/io/visible_text.hpp"

namespace llama {

/// A file, or what it holds, was refused. what() is "<path>: <reason>", the path as visible() shows it.
class FileError : public std::runtime_error {
public:
    FileError(const std::string& path, const std::string& reason)
        : std::runtime_error(visible(path, PATH_MAX) + ": " + reason) {}
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
    enum class Kind : std::uint8_t { regular, regular_or_pipe };

    /// Throws FileError if the file cannot be opened or is of another kind. Does not wait for who will write into a
    /// pipe: what nobody has opened for writing is empty.
    static Descriptor open_for_reading(const std::string& path, Kind kind = Kind::regular) {
        Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
        if (file.number_ < 0) throw FileError(path, std::strerror(errno));
        const mode_t mode = file.status(path).st_mode;
        if (S_ISDIR(mode)) throw FileError(path, std::strerror(EISDIR));
        const bool pipe = kind == Kind::regular_or_pipe && S_ISFIFO(mode);
        if (!S_ISREG(mode) && !pipe) throw FileError(path, "not a regular file");
        const int flags = ::fcntl(file.number_, F_GETFL);
        if (flags < 0 || ::fcntl(file.number_, F_SETFL, flags & ~O_NONBLOCK) != 0) {
            throw FileError(path, std::strerror(errno));
        }
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
        if (status.st_size == 0) throw FileError(path, "the file is empty");
        size_ = static_cast<std::size_t>(status.st_size);
        data_ = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, file.number(), 0);
        if (data_ == MAP_FAILED) throw FileError(path, std::strerror(errno));
        Mappings::add(data_, size_, path);
    }

    MappedFile(MappedFile&& other) noexcept
        : data_(std::exchange(other.data_, MAP_FAILED)), size_(std::exchange(other.size_, 0)) {}
    MappedFile& operator=(MappedFile&&) = delete;
    ~MappedFile() {
        if (data_ == MAP_FAILED) return;
        Mappings::remove(data_);
        ::munmap(data_, size_);
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

/// All bytes of a regular file; FileError if it cannot be read.
inline std::vector<char> read_file(const std::string& path) {
    return read_all(Descriptor::open_for_reading(path).number(), path);
}

/// All bytes of a text, which a user may pass through a pipe, too; FileError if it cannot be read.
inline std::vector<char> read_text_file(const std::string& path) {
    return read_all(Descriptor::open_for_reading(path, Descriptor::Kind::regular_or_pipe).number(), path);
}

/// Writes a file all at once or not at all: the content goes to a file beside it, which takes its name
/// when it is complete. What is no regular file (a terminal, a pipe, /dev/null) is written directly.
class AtomicFile {
public:
    /// Adds a piece to the file.
    using Append = std::function<void(std::string_view)>;

    /// Throws FileError now if `path` cannot be written later. Nothing is left behind.
    explicit AtomicFile(std::string path) : path_(std::move(path)) {
        struct stat status{};
        if (::stat(path_.c_str(), &status) == 0) {
            if (S_ISDIR(status.st_mode)) throw FileError(path_, std::strerror(EISDIR));
            if (::access(path_.c_str(), W_OK) != 0) throw FileError(path_, std::strerror(errno));
            direct_ = !S_ISREG(status.st_mode);
        }
        if (!direct_) Temporary probe(path_);
    }

    /// Throws FileError; the earlier content of the file, if any, then still stands.
    void write(std::string_view content) const {
        write_pieces([content](const Append& append) { append(content); });
    }

    /// The same for content that is too large to be held at once: `produce` appends one piece after the other.
    /// The file stays as it was, too, if `produce` throws.
    void write_pieces(const std::function<void(const Append&)>& produce) const {
        if (direct_) {
            const Descriptor file(::open(path_.c_str(), O_WRONLY | O_CLOEXEC));
            if (file.number() < 0) throw FileError(path_, std::strerror(errno));
            produce([&](std::string_view piece) { write_all(file.number(), piece); });
            return;
        }
        Temporary temporary(path_);
        produce([&](std::string_view piece) { write_all(temporary.number(), piece); });
        if (::fsync(temporary.number()) != 0) throw FileError(path_, std::strerror(errno));
        temporary.rename_to(path_);
    }

private:
    // A new file in the directory of the target, gone at the end of its scope unless it was renamed.
    class Temporary {
    public:
        explicit Temporary(const std::string& target) : name_(target + ".XXXXXX") {
            file_ = Descriptor(::mkstemp(name_.data()));
            if (file_.number() < 0) throw FileError(target, std::strerror(errno));
            const mode_t mask = ::umask(0);
            ::umask(mask);
            ::fchmod(file_.number(), 0666 & ~mask);
        }
        Temporary(const Temporary&) = delete;
        Temporary& operator=(const Temporary&) = delete;
        ~Temporary() {
            if (!name_.empty()) ::unlink(name_.c_str());
        }

        int number() const { return file_.number(); }

        void rename_to(const std::string& target) {
            if (::rename(name_.c_str(), target.c_str()) != 0) throw FileError(target, std::strerror(errno));
            name_.clear();
        }

    private:
        std::string name_;
        Descriptor file_;
    };

    void write_all(int descriptor, std::string_view content) const {
        while (!content.empty()) {
            const ssize_t count = ::write(descriptor, content.data(), content.size());
            if (count < 0 && errno == EINTR) continue;
            if (count < 0) throw FileError(path_, std::strerror(errno));
            content.remove_prefix(static_cast<std::size_t>(count));
        }
    }

    std::string path_;
    bool direct_ = false;
};

/// Writes a file that is not to change any more: with the same content it may be there already, with another it is
/// refused.
inline void write_once(const std::string& path, std::string_view content) {
    if (!file_exists(path)) return AtomicFile(path).write(content);
    const std::vector<char> there = read_file(path);
    if (std::string_view(there.data(), there.size()) != content) {
        throw FileError(path, "exists with another content; give a new or an empty directory");
    }
}

}  // namespace llama
