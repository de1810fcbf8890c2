// SPDX-License-Identifier: MIT
#pragma once

#include <chrono>
#include <optional>
#include <span>
#include <string>

#include "llama/model/config.hpp"

namespace llama {

/// One step of a training.
struct LossPoint {
    Index step = 0;    ///< from 1
    Index tokens = 0;  ///< seen up to and with this step
    double learning_rate = 0;
    double loss = 0;           ///< mean of the step's tokens, in nats
    double gradient_norm = 0;  ///< before it was clipped
    double seconds = 0;        ///< of work since the training began
    std::optional<double> validation_loss{};

    friend bool operator==(const LossPoint&, const LossPoint&) = default;
};

/// Writes the points as comma-separated values below a line with their names. Throws FileError.
void write_loss_csv(const std::string& path, std::span<const LossPoint> points);

/// Draws losses against tokens as an SVG picture, with gnuplot, if that is there; else one line on standard error says
/// that it is not, the first time. Whatever else goes wrong is a line on standard error, too: a training does not end
/// for want of a picture, nor waits for one longer than `patience`.
void draw_loss_curve(const std::string& path, std::span<const LossPoint> points,
                     std::chrono::milliseconds patience = std::chrono::seconds(10));

}  // namespace llama
