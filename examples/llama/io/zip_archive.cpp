// SPDX-License-Identifier: MIT
#include "llama/io/zip_archive.hpp"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <optional>

#include "llama/io/file.hpp"
#include "llama/io/in_quotes.hpp"

namespace llama {

namespace {

using Bytes = std::span<const std::byte>;

constexpr std::uint32_t local_signature = 0x04034b50;
constexpr std::uint32_t central_signature = 0x02014b50;
constexpr std::uint32_t end_signature = 0x06054b50;
constexpr std::uint32_t end64_signature = 0x06064b50;
constexpr std::uint32_t locator64_signature = 0x07064b50;

constexpr std::size_t local_bytes = 30;
constexpr std::size_t central_bytes = 46;
constexpr std::size_t end_bytes = 22;
constexpr std::size_t end64_bytes = 56;
constexpr std::size_t locator64_bytes = 20;

class ZipReader {
public:
    ZipReader(Bytes archive, const std::string& path) : archive_(archive), path_(path) {}

    std::map<std::string_view, Bytes> read() const {
        std::uint64_t at = find_directory();
        std::map<std::string_view, Bytes> files;
        while (at <= archive_.size() - sizeof(std::uint32_t) &&
               load<std::uint32_t>(at, "directory") == central_signature) {
            const std::uint64_t entry = at;
            take(at, central_bytes, "directory");
            const std::string_view name = take_name(at, load<std::uint16_t>(entry + 28, "directory"));
            const Bytes extra = take(at, load<std::uint16_t>(entry + 30, "directory"), "directory");
            take(at, load<std::uint16_t>(entry + 32, "directory"), "directory");
            if (!files.emplace(name, read_file_of(entry, name, extra)).second)
                fail(in_quotes(name) + " is there twice");
        }
        return files;
    }

private:
    // Bytes at `at`, which is moved behind them.
    Bytes take(std::uint64_t& at, std::uint64_t count, const char* where) const {
        if (at > archive_.size() || count > archive_.size() - at) {
            fail(std::string("broken zip archive: the ") + where + " goes past the end of the file");
        }
        const Bytes bytes = archive_.subspan(static_cast<std::size_t>(at), static_cast<std::size_t>(count));
        at += count;
        return bytes;
    }

    std::string_view take_name(std::uint64_t& at, std::uint64_t count) const {
        const Bytes bytes = take(at, count, "directory");
        return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
    }

    template <class Number>
    Number load(std::uint64_t at, const char* where) const {
        Number number{};
        std::memcpy(&number, take(at, sizeof(Number), where).data(), sizeof(Number));
        return number;
    }

    // Where the directory begins, as the record at the end of the file says.
    std::uint64_t find_directory() const {
        if (archive_.size() < end_bytes) fail("no zip archive, as torch.save writes it since version 1.6");
        constexpr std::size_t longest_comment = 65535;
        const std::size_t last = archive_.size() - end_bytes;
        for (std::size_t back = 0; back <= std::min(last, longest_comment); ++back) {
            const std::size_t end = last - back;
            if (load<std::uint32_t>(end, "end record") != end_signature) continue;
            if (load<std::uint16_t>(end + 20, "end record") != back) continue;
            const auto directory = load<std::uint32_t>(end + 16, "end record");
            if (end < locator64_bytes) return directory;
            const std::size_t locator = end - locator64_bytes;
            if (load<std::uint32_t>(locator, "zip64 locator") != locator64_signature) return directory;
            const auto end64 = load<std::uint64_t>(locator + 8, "zip64 locator");
            std::uint64_t at = end64;
            take(at, end64_bytes, "zip64 end record");
            if (load<std::uint32_t>(end64, "zip64 end record") != end64_signature) {
                fail("broken zip archive: no zip64 end record where its locator says");
            }
            return load<std::uint64_t>(end64 + 48, "zip64 end record");
        }
        fail("no zip archive, as torch.save writes it since version 1.6, or truncated");
    }

    Bytes read_file_of(std::uint64_t entry, std::string_view name, Bytes extra) const {
        if ((load<std::uint16_t>(entry + 8, "directory") & 1) != 0) fail(in_quotes(name) + " is encrypted");
        const auto method = load<std::uint16_t>(entry + 10, "directory");
        if (method != 0) {
            fail(in_quotes(name) + " is compressed by method " + std::to_string(method) + ", must be stored (0)");
        }
        std::uint64_t compressed = load<std::uint32_t>(entry + 20, "directory");
        std::uint64_t size = load<std::uint32_t>(entry + 24, "directory");
        std::uint64_t at = load<std::uint32_t>(entry + 42, "directory");
        // What does not fit 32 bits stands in the zip64 field, in this order.
        Bytes wide = find_zip64(extra);
        for (std::uint64_t* const value : {&size, &compressed, &at}) {
            if (*value != 0xffffffff) continue;
            if (wide.size() < sizeof *value) fail(in_quotes(name) + " lacks its zip64 sizes");
            std::memcpy(value, wide.data(), sizeof *value);
            wide = wide.subspan(sizeof *value);
        }
        if (compressed != size) {
            fail(in_quotes(name) + " has " + std::to_string(compressed) + " bytes stored for " + std::to_string(size));
        }
        const std::uint64_t local = at;
        take(at, local_bytes, "header of a file");
        if (load<std::uint32_t>(local, "header of a file") != local_signature) {
            fail("broken zip archive: " + in_quotes(name) + " does not begin where the directory says");
        }
        if (take_name(at, load<std::uint16_t>(local + 26, "header of a file")) != name) {
            fail("broken zip archive: " + in_quotes(name) + " has another name in its own header");
        }
        take(at, load<std::uint16_t>(local + 28, "header of a file"), "header of a file");
        return take(at, size, "content of a file");
    }

    static Bytes find_zip64(Bytes extra) {
        while (extra.size() >= 4) {
            std::uint16_t field[2];  // kind, bytes
            std::memcpy(field, extra.data(), sizeof field);
            extra = extra.subspan(sizeof field);
            const Bytes content = extra.first(std::min<std::size_t>(field[1], extra.size()));
            if (field[0] == 1) return content;
            extra = extra.subspan(content.size());
        }
        return {};
    }

    [[noreturn]] void fail(const std::string& reason) const { throw FileError(path_, reason); }

    Bytes archive_;
    const std::string& path_;
};

}  // namespace

std::map<std::string_view, std::span<const std::byte>> read_zip(std::span<const std::byte> archive,
                                                                const std::string& path) {
    return ZipReader(archive, path).read();
}

}  // namespace llama
