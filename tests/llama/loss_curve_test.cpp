// SPDX-License-Identifier: MIT
#include "llama/training/loss_curve.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "llama/io/file.hpp"
#include "llama/temporary_directory.hpp"

namespace llama {
namespace {

using test::TemporaryDirectory;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::StartsWith;

// A loss that falls from 8 towards 1, with a validation every hundred steps.
std::vector<LossPoint> falling_losses(Index steps) {
    std::vector<LossPoint> points;
    for (Index step = 1; step <= steps; ++step) {
        const auto x = static_cast<double>(step);
        LossPoint point{step, step * 16384, 1e-3, 1 + 7 / (1 + x / 20) + 0.1 * std::sin(7 * x), 0.5, x / 4, {}};
        if (step % 100 == 0) point.validation_loss = point.loss + 0.1;
        points.push_back(point);
    }
    return points;
}

// The value of an environment variable, restored at the end of the scope.
class PathVariable {
public:
    explicit PathVariable(const std::string& value) : before_(std::getenv("PATH")) {
        ::setenv("PATH", value.c_str(), 1);
    }
    PathVariable(const PathVariable&) = delete;
    PathVariable& operator=(const PathVariable&) = delete;
    ~PathVariable() { ::setenv("PATH", before_.c_str(), 1); }

private:
    std::string before_;
};

TEST(LossCurve, TheTableHasALineForEachStepAndExactNumbers) {
    const TemporaryDirectory directory;
    const std::vector<LossPoint> points = {{1, 256, 1e-3, 8.25, 0.1 + 0.2, 0.5, {}}, {2, 512, 5e-4, 7, 2, 1, 7.5}};
    write_loss_csv(directory / "loss.csv", points);
    EXPECT_EQ(test::read_text(directory / "loss.csv"),
              "step,tokens,learning_rate,loss,gradient_norm,seconds,validation_loss\n"
              "1,256,0.001,8.25,0.30000000000000004,0.5,\n"
              "2,512,5e-04,7,2,1,7.5\n");
    EXPECT_THROW(write_loss_csv(directory / "no/loss.csv", points), FileError);
    EXPECT_THAT(directory.names(), ElementsAre("loss.csv"));
}

TEST(LossCurve, ThePictureHasAxesLossesAndValidation) {
    if (std::system("gnuplot --version > /dev/null 2>&1") != 0) GTEST_SKIP() << "gnuplot is not installed";
    const TemporaryDirectory directory;
    const std::string name = directory / "loss'; system \"touch x\"; '.svg";
    draw_loss_curve(name, falling_losses(5000));
    const std::string picture = test::read_text(name);
    EXPECT_THAT(picture, AllOf(HasSubstr("<svg"), HasSubstr("million tokens"), HasSubstr("nats per token"),
                               HasSubstr("running mean"), HasSubstr("validation"), HasSubstr("</svg>")));
    EXPECT_LT(picture.size(), 500'000u) << "long trainings are thinned";
    EXPECT_EQ(directory.names().size(), 1u) << "names of files are no commands";

    draw_loss_curve(directory / "one.svg", falling_losses(1));
    EXPECT_THAT(test::read_text(directory / "one.svg"), HasSubstr("thousand tokens"));
}

TEST(LossCurve, WithoutGnuplotAnEarlierPictureStandsAndOneLineSaysSo) {
    const TemporaryDirectory directory;
    directory.write("loss.svg", "earlier");
    const PathVariable nothing(directory.path());
    testing::internal::CaptureStderr();
    draw_loss_curve(directory / "loss.svg", falling_losses(10));
    draw_loss_curve(directory / "loss.svg", falling_losses(20));
    const std::string said = testing::internal::GetCapturedStderr();
    EXPECT_THAT(said, StartsWith("freqkv-llama: note: the losses are not drawn: gnuplot: "));
    EXPECT_EQ(said.find('\n'), said.size() - 1) << "said once: " << said;
    EXPECT_EQ(test::read_text(directory / "loss.svg"), "earlier");
}

// A line of its own on standard error, but only where it is the first.
TEST(LossCurve, AGnuplotThatHangsOrNeverEndsIsEnded) {
    for (const char* const script : {"exec sleep 1000", "exec sleep 1000 >&-", "exec cat /dev/zero"}) {
        SCOPED_TRACE(script);
        const TemporaryDirectory directory;
        const std::string gnuplot =
            directory.write("gnuplot", std::string("#!/bin/sh\nPATH=/usr/bin:/bin\n") + script + "\n");
        std::filesystem::permissions(gnuplot, std::filesystem::perms::owner_all);
        directory.write("loss.svg", "earlier");
        const PathVariable path(directory.path());
        testing::internal::CaptureStderr();
        const auto begin = std::chrono::steady_clock::now();
        draw_loss_curve(directory / "loss.svg", falling_losses(10), std::chrono::milliseconds(200));
        EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(30));
        testing::internal::GetCapturedStderr();
        EXPECT_EQ(test::read_text(directory / "loss.svg"), "earlier");
    }
}

TEST(LossCurve, NoStepsDrawNothing) {
    const TemporaryDirectory directory;
    draw_loss_curve(directory / "loss.svg", {});
    EXPECT_THAT(directory.names(), IsEmpty());
}

}  // namespace
}  // namespace llama
