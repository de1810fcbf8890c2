// SPDX-License-Identifier: MIT
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <type_traits>
#include <vector>

#include "freqkv/config.hpp"
#include "freqkv/dct/direct.hpp"
#include "freqkv/dct/simd.hpp"
#include "freqkv/error.hpp"
#include "freqkv/view.hpp"
#include "naive.hpp"
#if defined(FREQKV_HAS_FFTW)
#include "freqkv/dct/fftw.hpp"
#endif
#if defined(FREQKV_TEST_DEVICE)
#include "cuda/device_backend.hpp"
#endif

// What the tests of the transform and of the compressor share: the types they run over, matrices of
// those types, and the golden transforms.

template <class T_, class Backend_>
struct TransformCase {
    using T = T_;
    using Backend = Backend_;
};

// The backends of the host or, in tests/cuda, the device. AnyBackend is for tests that need just one.
struct DeviceBackend;
#if defined(FREQKV_TEST_DEVICE)
using AnyBackend = DeviceBackend;
using TransformCases = testing::Types<TransformCase<float, DeviceBackend>>;
#else
using AnyBackend = freqkv::dct::Direct;
#if defined(FREQKV_HAS_FFTW)
using TransformCases =
    testing::Types<TransformCase<float, freqkv::dct::Direct>, TransformCase<double, freqkv::dct::Direct>,
                   TransformCase<float, freqkv::dct::Simd>, TransformCase<double, freqkv::dct::Simd>,
                   TransformCase<float, freqkv::dct::Fftw>, TransformCase<double, freqkv::dct::Fftw>>;
#else
using TransformCases =
    testing::Types<TransformCase<float, freqkv::dct::Direct>, TransformCase<double, freqkv::dct::Direct>,
                   TransformCase<float, freqkv::dct::Simd>, TransformCase<double, freqkv::dct::Simd>>;
#endif
#endif

struct TransformCaseNames {
    template <class Case>
    static std::string GetName(int) {
        using Backend = typename Case::Backend;
        const std::string type = std::is_same_v<typename Case::T, float> ? "Float" : "Double";
        if (std::is_same_v<Backend, DeviceBackend>) return "Device" + type;
        if (std::is_same_v<Backend, freqkv::dct::Direct>) return "Direct" + type;
        return (std::is_same_v<Backend, freqkv::dct::Simd> ? "Simd" : "Fftw") + type;
    }
};

// Whether a backend is tested at this length.
template <class Backend>
bool takes(freqkv::Index n) {
    if constexpr (std::is_same_v<Backend, DeviceBackend>) {
        return Backend::takes(n);
    } else {
        return !std::is_same_v<Backend, freqkv::dct::Direct> || n <= 8192;  // n^2 operations
    }
}

inline double at(const naive::Rows& rows, freqkv::Index row, freqkv::Index column) {
    return rows[static_cast<std::size_t>(row)][static_cast<std::size_t>(column)];
}

// A dense matrix with its memory.
template <class T>
struct Matrix {
    freqkv::Index rows, columns;
    std::vector<T> values;

    Matrix(freqkv::Index rows_, freqkv::Index columns_)
        : rows(rows_), columns(columns_), values(static_cast<std::size_t>(rows_ * columns_)) {}

    explicit Matrix(const naive::Rows& from)
        : Matrix(static_cast<freqkv::Index>(from.size()), static_cast<freqkv::Index>(from.front().size())) {
        for (freqkv::Index r = 0; r < rows; ++r) {
            for (freqkv::Index c = 0; c < columns; ++c) view()(r, c) = static_cast<T>(at(from, r, c));
        }
    }

    freqkv::MatrixView<T> view() { return {values.data(), rows, columns}; }
    freqkv::MatrixView<const T> view() const { return {values.data(), rows, columns}; }

    naive::Rows as_rows() const {
        naive::Rows result(static_cast<std::size_t>(rows), naive::Row(static_cast<std::size_t>(columns)));
        for (std::size_t r = 0; r < result.size(); ++r) {
            for (std::size_t c = 0; c < result[r].size(); ++c) {
                result[r][c] = static_cast<double>(values[r * result[r].size() + c]);
            }
        }
        return result;
    }
};

// A view with any strides and the memory around it, filled with a mark that no result has.
template <class T>
struct Strided {
    std::vector<T> memory;
    freqkv::MatrixView<T> view;

    Strided(freqkv::Index rows, freqkv::Index columns, freqkv::Index row_stride, freqkv::Index column_stride)
        : memory(
              static_cast<std::size_t>((rows - 1) * std::abs(row_stride) + (columns - 1) * std::abs(column_stride) + 1),
              mark) {
        T* first = memory.data();
        if (row_stride < 0) first -= (rows - 1) * row_stride;
        if (column_stride < 0) first -= (columns - 1) * column_stride;
        view = {first, rows, columns, row_stride, column_stride};
    }

    std::ptrdiff_t untouched() const { return std::count(memory.begin(), memory.end(), mark); }
    std::ptrdiff_t gaps() const {
        return static_cast<std::ptrdiff_t>(memory.size()) - static_cast<std::ptrdiff_t>(view.rows * view.columns);
    }

    static constexpr T mark = T(12345);
};

inline naive::Rows random_rows(freqkv::Index rows, freqkv::Index columns, std::uint64_t seed) {
    naive::Random random(seed);
    naive::Rows result(static_cast<std::size_t>(rows), naive::Row(static_cast<std::size_t>(columns)));
    for (auto& row : result) {
        for (auto& value : row) value = random();
    }
    return result;
}

// The largest difference, relative to the largest expected element; infinite where shapes differ or a value
// is not a number.
template <class T>
double largest_difference(const Matrix<T>& result, const naive::Rows& expected) {
    if (static_cast<std::size_t>(result.rows) != expected.size() ||
        static_cast<std::size_t>(result.columns) != expected.front().size()) {
        return std::numeric_limits<double>::infinity();
    }
    double difference = 0;
    double largest = 0;
    for (freqkv::Index r = 0; r < result.rows; ++r) {
        for (freqkv::Index c = 0; c < result.columns; ++c) {
            const auto value = static_cast<double>(result.view()(r, c));
            if (!std::isfinite(value)) return std::numeric_limits<double>::infinity();
            difference = std::max(difference, std::abs(value - at(expected, r, c)));
            largest = std::max(largest, std::abs(at(expected, r, c)));
        }
    }
    return difference / largest;
}

// Throws freqkv::Error with `reason` in its message.
inline auto refuses(const std::string& reason) {
    return testing::ThrowsMessage<freqkv::Error>(testing::HasSubstr(reason));
}

// One entry of golden/dct.json: an input, its orthonormal DCT-II, and its compression to `keep` rows.
struct GoldenDct {
    freqkv::Index keep;
    naive::Rows x, dct, low_pass;
};

// All of them; none where the file is not there.
inline std::vector<GoldenDct> golden_dcts() {
    std::ifstream file(FREQKV_SHARED_DIR "/golden/dct.json");
    std::vector<GoldenDct> result;
    if (!file) return result;
    for (const auto& entry : nlohmann::json::parse(file)) {
        result.push_back({entry.at("keep").get<freqkv::Index>(), entry.at("x").get<naive::Rows>(),
                          entry.at("dct").get<naive::Rows>(), entry.at("low_pass").get<naive::Rows>()});
    }
    return result;
}
