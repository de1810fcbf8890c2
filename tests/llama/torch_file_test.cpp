// SPDX-License-Identifier: MIT
#include "llama/formats/torch_file.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <vector>

#include "llama/refusal.hpp"
#include "llama/temporary_directory.hpp"
#include "llama/torch_files.hpp"

namespace llama {
namespace {

namespace pickle = test::pickle;
using test::make_torch_file;
using test::make_zip;
using test::TemporaryDirectory;
using test::TestTensors;
using test::ZipEntry;
using testing::HasSubstr;

std::string refusal(const std::string& content) {
    static const TemporaryDirectory directory;
    return test::refusal_of([&] { read_torch_file(directory.write("x.bin", content)); });
}

// An archive with a program and one storage of six floats.
std::string program_refusal(const std::string& program) {
    return refusal(make_zip({{"x/data.pkl", program}, {"x/data/0", std::string(24, '\0')}}));
}

std::string tensor_refusal(const pickle::Tensor& tensor) {
    return program_refusal(pickle::program({{"w", tensor.text()}}));
}

const pickle::Tensor matrix{"FloatStorage", "0", 6, 0, {2, 3}, {3, 1}};

TestTensors some_tensors() {
    TestTensors tensors;
    tensors["a"] = {"F32", {2, 3}, {1, 2, 3, 4, 5, 6}};
    tensors["b"] = {"BF16", {2}, {-1, 0.5}};
    tensors["c"] = {"F16", {1, 1, 3}, {1, 2, 3}};
    tensors["nothing"] = {"F32", {0, 4}, {}};
    return tensors;
}

TEST(TorchFile, ADictionaryOfTensorsIsRead) {
    for (const bool wide : {false, true}) {
        SCOPED_TRACE(wide ? "zip64" : "zip");
        const TestTensors tensors = some_tensors();
        const TemporaryDirectory directory;
        const TensorFile file = read_torch_file(directory.write("x.bin", make_torch_file(tensors, wide)));
        ASSERT_EQ(file.tensors.size(), tensors.size());
        for (const auto& [name, tensor] : tensors) {
            const StoredTensor& stored = file.tensors.at(name);
            EXPECT_EQ(stored.type, tensor.type) << name;
            EXPECT_EQ(stored.shape, tensor.shape) << name;
            const std::string bytes(reinterpret_cast<const char*>(stored.bytes.data()), stored.bytes.size());
            EXPECT_EQ(bytes, tensor.bytes()) << name;
        }
    }
}

TEST(TorchFile, WhatStateDictionariesCarryAlongIsRead) {
    const std::string versions = "}" + pickle::text("_metadata") + "}" + pickle::text("version") + "K\x01ssb";
    EXPECT_EQ(program_refusal("\x80\x02" + pickle::ordered_dictionary() + "(" + pickle::text("w") + matrix.text() +
                              "u" + versions + "."),
              "accepted");
    const std::string parameter = pickle::function("torch._utils", "_rebuild_parameter") + matrix.text() + "\x88" +
                                  pickle::ordered_dictionary() + "\x87R";
    EXPECT_EQ(program_refusal(pickle::program({{"w", parameter}})), "accepted");
}

TEST(TorchFile, AViewIntoAStorageIsWithinIt) {
    pickle::Tensor tensor = matrix;
    tensor.shape = {3};
    tensor.strides = {1};
    tensor.offset = 3;
    EXPECT_EQ(tensor_refusal(tensor), "accepted");
    for (const Index offset : {Index{4}, Index{-1}, Index{2147483647}}) {
        tensor.offset = offset;
        EXPECT_THAT(tensor_refusal(tensor), HasSubstr("larger than its storage")) << offset;
    }
    tensor = matrix;
    tensor.shape = {2, 4};
    tensor.strides = {4, 1};
    EXPECT_THAT(tensor_refusal(tensor), HasSubstr("larger than its storage"));
    tensor.shape = {2147483647, 2147483647, 2147483647};
    tensor.strides = {1, 2147483647, 1};
    EXPECT_NE(tensor_refusal(tensor), "accepted");
    tensor.shape = {-2, -3};
    EXPECT_NE(tensor_refusal(tensor), "accepted");
    tensor = matrix;
    tensor.strides = {1, 2};
    EXPECT_THAT(tensor_refusal(tensor), HasSubstr("row-major"));
    tensor.strides = {1};
    EXPECT_THAT(tensor_refusal(tensor), HasSubstr("number of strides"));
    tensor = matrix;
    tensor.numbers = 5;
    EXPECT_THAT(tensor_refusal(tensor), HasSubstr("\"x/data/0\" has 24 bytes, must have 5 numbers of F32"));
    tensor = matrix;
    tensor.key = "../0";
    EXPECT_THAT(tensor_refusal(tensor), HasSubstr("no \"x/data/../0\" in the archive"));
}

TEST(TorchFile, NothingIsExecuted) {
    const std::string call = pickle::function("os", "system") + "(" + pickle::text("echo hostile") + "tR.";
    EXPECT_THAT(program_refusal("\x80\x02" + call), HasSubstr("asks for \"os.system\", which is not executed"));
    for (const auto& [module, name] :
         std::vector<std::pair<std::string, std::string>>{{"builtins", "eval"},
                                                          {"torch", "LongStorage"},
                                                          {"torch", "FloatStorage.x"},
                                                          {"torch._utils", "_rebuild_tensor"},
                                                          {"collections", "defaultdict"}}) {
        EXPECT_THAT(program_refusal("\x80\x02" + pickle::function(module, name) + ")R."),
                    HasSubstr("asks for \"" + module + "." + name + "\""));
    }
    EXPECT_THAT(program_refusal("\x80\x02" + pickle::function("torch", "FloatStorage") + ")R."),
                HasSubstr("called in an unknown way"));
    // Names in other instructions: STACK_GLOBAL, INST, OBJ, NEWOBJ, EXT1, PERSID, FRAME
    for (const char code : {'\x93', 'i', 'o', '\x81', '\x82', 'P', '\x95', 'a', 'l', '0', '2', 'I', 'S', 'd'}) {
        EXPECT_THAT(program_refusal(std::string("\x80\x02}") + code + std::string(16, '\n')),
                    HasSubstr("at byte 3 is none that a dictionary of tensors needs"))
            << code;
    }
}

TEST(TorchFile, ProgramsThatMakeNoSenseAreRefused) {
    const std::string proto("\x80\x02");
    for (const std::string& program : {std::string(),
                                       std::string("."),
                                       std::string("\x80\x04."),
                                       proto,
                                       proto + ".",
                                       proto + "N.",
                                       proto + "}(.",
                                       proto + "(u.",
                                       proto + "u.",
                                       proto + "}(Nu.",
                                       proto + "}NNs.",
                                       proto + "}s.",
                                       proto + "t.",
                                       proto + "\x87.",
                                       proto + "R.",
                                       proto + ")R.",
                                       proto + "Q.",
                                       proto + ")Q.",
                                       proto + "b.",
                                       proto + "}b.",
                                       proto + "N}b.",
                                       proto + "h\x05.",
                                       proto + "q.",
                                       proto + "X\xff\xff\xff\xff.",
                                       proto + "X\xff\xff\xff\x7f.",
                                       proto + "cos\nsys",
                                       proto + "\x8a\x09"
                                               "123456789.",
                                       proto + "\x8a\xff.",
                                       proto + "}" + pickle::text("w") + "Ns."}) {
        EXPECT_NE(program_refusal(program), "accepted") << testing::PrintToString(program);
    }
    const std::string whole = pickle::program({{"w", matrix.text()}});
    ASSERT_EQ(program_refusal(whole), "accepted");
    for (std::size_t size = 0; size < whole.size(); ++size) {
        EXPECT_NE(program_refusal(whole.substr(0, size)), "accepted") << size << " bytes";
    }
    EXPECT_THAT(program_refusal(std::string((4 << 20) + 1, ')')), HasSubstr("at most 4194304 are read"));
}

// They may be asked for a million times.
TEST(TorchFile, LongNamesAreRefused) {
    const std::string name(1'000'000, 'n');
    EXPECT_THAT(program_refusal("\x80\x02}(" + pickle::text(name) + "Nu."),
                HasSubstr("a name of 1000000 bytes, at most 1024"));
    pickle::Tensor tensor = matrix;
    tensor.key = std::string(60'000, '0');
    EXPECT_THAT(tensor_refusal(tensor), HasSubstr("a name of 60000 bytes, at most 1024"));
    EXPECT_EQ(program_refusal(pickle::program({{std::string(1024, 'n'), matrix.text()}})), "accepted");
}

TEST(TorchFile, ValuesTakeMemoryInProportionToTheProgram) {
    const auto repeated = [](const std::string& instruction, int count) {
        std::string program = "\x80\x02";
        for (int i = 0; i < count; ++i) program += instruction;
        return program_refusal(program + ".");
    };
    EXPECT_THAT(repeated("N", 3'000'000), HasSubstr("more than 65536 values on its stack"));
    EXPECT_THAT(repeated("}", 3'000'000), HasSubstr("more than 65536 values on its stack"));
    EXPECT_THAT(repeated("(((((((()t", 300'000), HasSubstr("more than 65536 values on its stack"));
    // Each tuple has the one before and a few more: 15 bytes of memory a byte, and none on the stack.
    std::string program = "\x80\x02)";
    for (int i = 0; i < 1'000'000; ++i) program += "N\x86";
    EXPECT_THAT(program_refusal(program + "."), HasSubstr("its values would take more than"));
}

TEST(TorchFile, AnArchiveCutAnywhereIsRefused) {
    for (const bool wide : {false, true}) {
        const std::string whole = make_torch_file(some_tensors(), wide);
        for (std::size_t size = 0; size < whole.size(); ++size) {
            EXPECT_NE(refusal(whole.substr(0, size)), "accepted") << size << " of " << whole.size() << " bytes";
        }
    }
}

TEST(TorchFile, ArchivesThatLieAreRefused) {
    const std::string program = pickle::program({{"w", matrix.text()}});
    const std::string storage(24, '\0');
    EXPECT_EQ(refusal(make_zip({{"x/data.pkl", program}, {"x/data/0", storage}})), "accepted");
    EXPECT_THAT(refusal(make_zip({{"x/data.pkl", program, 8}, {"x/data/0", storage}})),
                HasSubstr("\"x/data.pkl\" is compressed by method 8"));
    EXPECT_THAT(refusal(make_zip({{"x/data.pkl", program, 0, 1}, {"x/data/0", storage}})), HasSubstr("encrypted"));
    EXPECT_THAT(refusal(make_zip({{"x/data.pkl", program}, {"x/data/0", storage}, {"x/data/0", storage}})),
                HasSubstr("\"x/data/0\" is there twice"));
    EXPECT_THAT(refusal(make_zip({{"data.pkl", program}})), HasSubstr("without the data.pkl"));
    EXPECT_THAT(refusal(make_zip({{"a/x/data.pkl", program}})), HasSubstr("without the data.pkl"));
    EXPECT_THAT(refusal(make_zip({{"x/data.pkl", program}, {"x/byteorder", "big"}, {"x/data/0", storage}})),
                HasSubstr("byte order is \"big\""));
    EXPECT_THAT(refusal("\x80\x02old format"), HasSubstr("no zip archive"));

    // Each number of the directory and of the end records, as large as it can be.
    for (const bool wide : {false, true}) {
        const std::string whole = make_torch_file(some_tensors(), wide);
        for (std::size_t at = whole.find("PK\x01\x02"); at + 8 <= whole.size(); at += 2) {
            std::string broken = whole;
            broken.replace(at, 4, 4, '\xfe');
            refusal(broken);  // reads nothing outside, accepted or not
            broken.replace(at, 8, 8, '\xff');
            refusal(broken);
        }
    }
}

}  // namespace
}  // namespace llama
