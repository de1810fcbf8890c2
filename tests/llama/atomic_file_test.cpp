// SPDX-License-Identifier: MIT
#include "llama/io/atomic_file.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <unistd.h>

#include <filesystem>
#include <stdexcept>
#include <string>

#include "llama/io/directory_lock.hpp"
#include "llama/io/file.hpp"
#include "llama/io/temporary.hpp"
#include "llama/refusal.hpp"
#include "llama/temporary_directory.hpp"

namespace llama {
namespace {

namespace fs = std::filesystem;

using test::read_text;
using test::refusal_of;
using test::TemporaryDirectory;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class Atomic : public testing::Test {
protected:
    std::string file(const std::string& name) const { return directory_ / name; }
    TemporaryDirectory directory_;
};

TEST_F(Atomic, FileIsReplacedOrStays) {
    const AtomicFile target(file("a"));
    EXPECT_THAT(directory_.names(), IsEmpty());
    target.write("one");
    target.write("two");
    EXPECT_EQ(read_text(file("a")), "two");
    EXPECT_THROW(target.write_pieces([](const auto& append) {
        append("th");
        throw std::runtime_error("no more");
    }),
                 std::runtime_error);
    EXPECT_EQ(read_text(file("a")), "two");
    EXPECT_THAT(directory_.names(), ElementsAre("a"));
}

TEST_F(Atomic, FileBehindLinksIsWrittenAndTheLinksStay) {
    fs::create_directory(file("elsewhere"));
    fs::create_symlink("elsewhere/target", file("link"));
    fs::create_symlink(file("link"), file("link to it"));
    for (const char* const content : {"new", "newer"}) {  // where nothing is yet, and where something is
        AtomicFile(file("link to it")).write(content);
        EXPECT_EQ(read_text(file("elsewhere/target")), content);
        EXPECT_TRUE(fs::is_symlink(file("link")));
        EXPECT_TRUE(fs::is_symlink(file("link to it")));
    }
    fs::create_symlink("b", file("a"));
    fs::create_symlink("a", file("b"));
    EXPECT_THAT(refusal_of([&] { AtomicFile{file("a")}; }), HasSubstr("a: Too many levels of symbolic links"));
    fs::create_symlink("nowhere/target", file("c"));
    EXPECT_THAT(refusal_of([&] { AtomicFile{file("c")}; }), HasSubstr("nowhere/target: No such file"));
}

TEST_F(Atomic, FileOfADescriptorIsAddedTo) {
    const Descriptor open_file(::open(directory_.write("log", "before ").c_str(), O_WRONLY));
    const std::string path = "/proc/self/fd/" + std::to_string(open_file.number());
    AtomicFile(path).write("after");
    EXPECT_EQ(read_text(file("log")), "before after");
}

TEST_F(Atomic, FileTakesAwayWhatAKilledProgramLeft) {
    const std::string left = directory_.write("a.freqkv-abcdef", "half");
    const std::string others[] = {"a.freqkv-abc", "a.backup", "a.freqkv-abcdefg", "b.freqkv-abcdef", "freqkv-abcdef"};
    for (const std::string& name : others) directory_.write(name, "mine");
    const std::string made = directory_.write("a.freqkv-uvwxyz", "at work");
    {
        const Descriptor at_work(::open(made.c_str(), O_RDONLY));
        ASSERT_EQ(::flock(at_work.number(), LOCK_EX), 0);
        AtomicFile{file("a")};
    }
    EXPECT_FALSE(fs::exists(left));
    EXPECT_TRUE(fs::exists(made)) << "another program was making it";
    for (const std::string& name : others) EXPECT_TRUE(fs::exists(file(name))) << name;
    remove_leftovers(directory_.path());
    EXPECT_THAT(directory_.names(), ElementsAre("a.backup", "a.freqkv-abc", "a.freqkv-abcdefg", "freqkv-abcdef"));
}

TEST_F(Atomic, TemporaryKeepsItsLockUntilItsEnd) {
    for (const auto kind : {Temporary::Kind::file, Temporary::Kind::directory}) {
        {
            const Temporary temporary(file("a"), kind);
            const Temporary beside(file("a"), kind);
            remove_leftovers(directory_.path());
            EXPECT_TRUE(fs::exists(temporary.name()));
            EXPECT_TRUE(fs::exists(beside.name()));
        }
        EXPECT_THAT(directory_.names(), IsEmpty());
    }
}

TEST_F(Atomic, DirectoryTakesItsNameAtOnce) {
    Temporary temporary(file("a"), Temporary::Kind::directory);
    directory_.write(fs::path(temporary.name()).filename().string() + "/content", "x");
    fs::create_directory(file("a"));
    temporary.rename_to_target();
    EXPECT_THAT(directory_.names(), ElementsAre("a"));
    EXPECT_EQ(read_text(file("a/content")), "x");
}

TEST_F(Atomic, DirectoryLockSaysWhoHasIt) {
    {
        const DirectoryLock lock(directory_.path());
        const std::string refusal = refusal_of([&] { DirectoryLock{directory_.path()}; });
        EXPECT_THAT(refusal, HasSubstr(directory_.path() + ": in use: another process"));
        // Where the system lists it, which in some containers it does not.
        if (!read_text("/proc/locks").empty() && refusal.find('(') != std::string::npos) {
            EXPECT_THAT(refusal, HasSubstr("(" + std::to_string(::getpid()) + ")"));
        }
    }
    EXPECT_EQ(refusal_of([&] { DirectoryLock{directory_.path()}; }), "accepted");
    EXPECT_THAT(directory_.names(), IsEmpty());
}

}  // namespace
}  // namespace llama
