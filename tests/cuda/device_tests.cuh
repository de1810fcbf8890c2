// SPDX-License-Identifier: MIT
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime_api.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "freqkv/config.hpp"
#include "freqkv/cuda/device_array.cuh"
#include "freqkv/cuda/paged_view.hpp"
#include "freqkv/cuda/status.cuh"
#include "freqkv/error.hpp"
#include "freqkv/view.hpp"
#include "kernels.cuh"
#include "message_of.hpp"
#include "naive.hpp"

// What the tests on a device share: element types and what they round, memory that knows what nobody may write, and
// keys or values in it, strided or in pages.
namespace freqkv::cuda {

using ElementTypes = testing::Types<float, __half, __nv_bfloat16>;

struct ElementNames {
    template <class T>
    static std::string GetName(int) {
        if (std::is_same_v<T, float>) return "Float";
        return std::is_same_v<T, __half> ? "Half" : "Bfloat16";
    }
};

/// What a value changes by when it is stored, relative to it: half a unit of the last of its 24, 11 or 8 bits.
template <class T>
inline constexpr double rounding = 0x1p-24;
template <>
inline constexpr double rounding<__half> = 0x1p-11;
template <>
inline constexpr double rounding<__nv_bfloat16> = 0x1p-8;

/// A value as T stores it.
template <class T>
double stored(double value) {
    return static_cast<double>(static_cast<float>(static_cast<T>(static_cast<float>(value))));
}

/// The largest difference of elements of T from what they should be, beyond what storing them rounds, relative to the
/// largest expected element. Infinite where shapes differ or something is not a number.
template <class T>
double largest_error(const naive::Rows& result, const naive::Rows& expected) {
    double difference = 0;
    double largest = 0;
    if (result.size() != expected.size()) return std::numeric_limits<double>::infinity();
    for (std::size_t r = 0; r < result.size(); ++r) {
        if (result[r].size() != expected[r].size()) return std::numeric_limits<double>::infinity();
        for (std::size_t c = 0; c < result[r].size(); ++c) {
            const double error = std::abs(result[r][c] - expected[r][c]) - rounding<T> * std::abs(expected[r][c]);
            if (!std::isfinite(error)) return std::numeric_limits<double>::infinity();
            difference = std::max(difference, error);
            largest = std::max(largest, std::abs(expected[r][c]));
        }
    }
    return difference / largest;
}

/// Throws freqkv::Error with `reason` in its message.
inline auto refuses(const std::string& reason) { return testing::ThrowsMessage<Error>(testing::HasSubstr(reason)); }

/// The message of the Error that a call throws, and that no error was left behind; "accepted" if it throws none.
template <class F>
std::string message_of(const F& call) {
    const std::string message = freqkv::test::message_of(call);
    EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess) << message;
    EXPECT_EQ(cudaGetLastError(), cudaSuccess) << message;
    return message;
}

/// Whether kernels may read what malloc() gives.
inline bool reaches_all_memory() {
    int device = 0;
    int reaches = 0;
    check("cudaGetDevice", cudaGetDevice(&device));
    check("cudaDeviceGetAttribute", cudaDeviceGetAttribute(&reaches, cudaDevAttrPageableMemoryAccess, device));
    return reaches != 0;
}

/// A copy of a view with one member changed.
template <class View, class Member, class Value>
View with(View view, Member View::* member, Value value) {
    view.*member = value;
    return view;
}

/// Memory on the device and its image on the host, which tests fill in and look into. Elements that belong to no view
/// hold a mark that must survive.
template <class T>
class Memory {
public:
    explicit Memory(Index size)
        : image_(static_cast<std::size_t>(size), mark()), claimed_(image_.size(), 0), device_(image_) {}

    /// On the device.
    T* data() const { return device_.data(); }
    Index size() const { return device_.size(); }

    T& operator[](Index place) { return image_[static_cast<std::size_t>(place)]; }
    const T& operator[](Index place) const { return image_[static_cast<std::size_t>(place)]; }

    void claim(Index place) {
        EXPECT_EQ(claimed_.at(static_cast<std::size_t>(place))++, 0) << "the test's own layout is wrong";
    }

    /// Done when it returns, for streams that wait for no other as well.
    void upload() const {
        check("cudaMemcpy", cudaMemcpy(device_.data(), image_.data(), image_.size() * sizeof(T), cudaMemcpyDefault));
        check("cudaStreamSynchronize", cudaStreamSynchronize(nullptr));
    }
    void download(cudaStream_t stream = nullptr) { image_ = device_.download(stream); }

    void expect_rest_untouched() const {
        const T wanted = mark();
        for (std::size_t i = 0; i < image_.size(); ++i) {
            if (claimed_[i] != 0) continue;
            ASSERT_EQ(std::memcmp(&image_[i], &wanted, sizeof(T)), 0) << "element " << i << " belongs to no view";
        }
    }

    bool same_bits(const Memory& other) const {
        return size() == other.size() &&
               std::memcmp(image_.data(), other.image_.data(), image_.size() * sizeof(T)) == 0;
    }

private:
    static T mark() { return static_cast<T>(-77.5F); }

    std::vector<T> image_;
    std::vector<char> claimed_;
    DeviceArray<T> device_;
};

struct Strides {
    Index head, token, dim;
};

/// Keys or values, [heads, tokens, dim], in a Memory: strided, or in pages that a block table names.
template <class T>
class Entries {
public:
    Entries(Memory<T>& memory, Index begin, Index heads, Index tokens, Index dim, const Strides& strides)
        : Entries(memory, begin, heads, tokens, dim, strides, {}, 0, 0) {}

    /// Element 0 of page 0 is at `begin`; strides are within a page.
    Entries(Memory<T>& memory, Index begin, Index heads, Index tokens, Index dim, const Strides& strides,
            std::vector<std::int32_t> table, Index page_tokens, Index page_stride)
        : memory_(&memory),
          begin_(begin),
          heads_(heads),
          tokens_(tokens),
          dim_(dim),
          strides_(strides),
          table_(std::move(table)),
          page_tokens_(page_tokens),
          page_stride_(page_stride),
          device_table_(table_) {
        each([&](Index h, Index t, Index d) { memory.claim(place(h, t, d)); });
    }

    Index heads() const { return heads_; }
    Index tokens() const { return tokens_; }
    Index dim() const { return dim_; }

    KVView<T> strided() const {
        return {memory_->data() + begin_, heads_, tokens_, dim_, strides_.head, strides_.token, strides_.dim};
    }
    PagedKVView<T> paged() const {
        PagedKVView<T> view;
        view.data = memory_->data() + begin_;
        view.block_table = device_table_.data();
        view.table_pages = static_cast<Index>(table_.size());
        view.page_tokens = page_tokens_;
        view.heads = heads_;
        view.tokens = tokens_;
        view.head_dim = dim_;
        view.page_stride = page_stride_;
        view.head_stride = strides_.head;
        view.token_stride = strides_.token;
        view.dim_stride = strides_.dim;
        return view;
    }
    template <class View>
    View as() const {
        if constexpr (std::is_same_v<View, KVView<T>>) {
            return strided();
        } else {
            return paged();
        }
    }

    /// In the image.
    void set(Index head, Index token, Index d, double value) {
        (*memory_)[place(head, token, d)] = static_cast<T>(static_cast<float>(value));
    }
    void set_row(Index head, Index token, const naive::Row& row) {
        for (Index d = 0; d < dim_; ++d) set(head, token, d, row[static_cast<std::size_t>(d)]);
    }
    naive::Row row(Index head, Index token) const {
        naive::Row result;
        for (Index d = 0; d < dim_; ++d) {
            result.push_back(static_cast<double>(static_cast<float>((*memory_)[place(head, token, d)])));
        }
        return result;
    }
    /// The first `tokens` of a head.
    naive::Rows rows(Index head, Index tokens) const {
        naive::Rows result;
        for (Index t = 0; t < tokens; ++t) result.push_back(row(head, t));
        return result;
    }
    naive::Rows rows(Index head) const { return rows(head, tokens_); }

    /// The bits of entries [first, last) of all heads, in that order.
    std::vector<std::uint32_t> bits(Index first, Index last) const {
        std::vector<std::uint32_t> result;
        for (Index h = 0; h < heads_; ++h) {
            for (Index t = first; t < last; ++t) {
                for (Index d = 0; d < dim_; ++d) {
                    std::uint32_t element = 0;
                    std::memcpy(&element, &(*memory_)[place(h, t, d)], sizeof(T));
                    result.push_back(element);
                }
            }
        }
        return result;
    }
    std::vector<std::uint32_t> bits() const { return bits(0, tokens_); }

    /// f(head, token, d) for every element.
    template <class F>
    void each(const F& f) const {
        for (Index h = 0; h < heads_; ++h) {
            for (Index t = 0; t < tokens_; ++t) {
                for (Index d = 0; d < dim_; ++d) f(h, t, d);
            }
        }
    }

private:
    Index place(Index head, Index token, Index d) const {
        const Index in_page = begin_ + head * strides_.head + d * strides_.dim;
        if (page_tokens_ == 0) return in_page + token * strides_.token;
        return in_page + table_.at(static_cast<std::size_t>(token / page_tokens_)) * page_stride_ +
               token % page_tokens_ * strides_.token;
    }

    Memory<T>* memory_;
    Index begin_, heads_, tokens_, dim_;
    Strides strides_;
    std::vector<std::int32_t> table_;
    Index page_tokens_, page_stride_;
    DeviceArray<std::int32_t> device_table_;
};

/// How one tensor lies in memory of its own.
enum class Layout {
    dense,         // [heads, tokens, dim]
    token_major,   // [tokens, heads, dim] and padding behind each token
    transposed,    // [heads, dim, tokens]
    dims_first,    // [dim, heads, tokens]
    every_second,  // no axis is dense
    backwards,     // the newest token first
    mirrored,      // every axis backwards
};
inline constexpr std::array all_layouts{Layout::dense,      Layout::token_major,  Layout::transposed,
                                        Layout::dims_first, Layout::every_second, Layout::backwards,
                                        Layout::mirrored};

inline std::string name_of(Layout layout) {
    constexpr std::array names{"dense",        "token-major", "transposed", "dimensions first",
                               "every second", "backwards",   "mirrored"};
    return names[static_cast<std::size_t>(layout)];
}

inline Strides strides_of(Layout layout, Index heads, Index tokens, Index dim) {
    switch (layout) {
        case Layout::dense:
            return {tokens * dim, dim, 1};
        case Layout::token_major:
            return {dim, heads * dim + 4, 1};
        case Layout::transposed:
            return {dim * tokens, 1, tokens};
        case Layout::dims_first:
            return {tokens, 1, heads * tokens};
        case Layout::every_second:
            return {2 * tokens * dim, 2 * dim, 2};
        case Layout::backwards:
            return {tokens * dim, -dim, 1};
        case Layout::mirrored:
            return {-tokens * dim, -dim, -1};
    }
    return {};
}

/// A tensor in memory of its own, with a margin before and behind it.
template <class T>
class Tensor : Memory<T>, public Entries<T> {
public:
    Tensor(Index heads, Index tokens, Index dim, Layout layout = Layout::dense)
        : Tensor(heads, tokens, dim, strides_of(layout, heads, tokens, dim)) {}
    Tensor(const Tensor&) = delete;
    Tensor& operator=(const Tensor&) = delete;

    /// Uniform in [-1, 1) and on the device.
    Tensor& fill(std::uint64_t seed) {
        naive::Random next(seed);
        this->each([&](Index h, Index t, Index d) { this->set(h, t, d, next()); });
        upload();
        return *this;
    }
    /// f(head, token, d), on the device.
    template <class F>
    Tensor& fill_with(const F& f) {
        this->each([&](Index h, Index t, Index d) { this->set(h, t, d, f(h, t, d)); });
        upload();
        return *this;
    }

    using Memory<T>::upload;
    using Memory<T>::download;
    using Memory<T>::expect_rest_untouched;
    bool same_bits(const Tensor& other) const { return Memory<T>::same_bits(other); }

    KVView<T> view() const { return this->strided(); }

private:
    static constexpr Index margin = 64;

    Tensor(Index heads, Index tokens, Index dim, const Strides& strides)
        : Memory<T>(margin + 1 + reach(heads, tokens, dim, strides, 1) - reach(heads, tokens, dim, strides, -1) +
                    margin),
          Entries<T>(*this, margin - reach(heads, tokens, dim, strides, -1), heads, tokens, dim, strides) {}

    // From the first element to the last one in the direction of `sign`.
    static Index reach(Index heads, Index tokens, Index dim, const Strides& strides, Index sign) {
        Index sum = 0;
        for (const Index step : {(heads - 1) * strides.head, (tokens - 1) * strides.token, (dim - 1) * strides.dim}) {
            if (step * sign > 0) sum += step;
        }
        return sum;
    }
};

/// A stream that waits for no other.
class Stream {
public:
    Stream() { check("cudaStreamCreateWithFlags", cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking)); }
    Stream(const Stream&) = delete;
    Stream& operator=(const Stream&) = delete;
    ~Stream() { (void)cudaStreamDestroy(stream_); }

    operator cudaStream_t() const { return stream_; }
    void wait() const { check("cudaStreamSynchronize", cudaStreamSynchronize(stream_)); }

private:
    cudaStream_t stream_ = nullptr;
};

/// What a call gives to a stream, to be given to it again and again.
class Graph {
public:
    template <class F>
    Graph(cudaStream_t stream, const F& call) {
        check("cudaStreamBeginCapture", cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
        call();
        cudaGraph_t graph = nullptr;
        check("cudaStreamEndCapture", cudaStreamEndCapture(stream, &graph));
        check("cudaGraphInstantiate", cudaGraphInstantiate(&executable_, graph, 0));
        check("cudaGraphDestroy", cudaGraphDestroy(graph));
    }
    Graph(const Graph&) = delete;
    Graph& operator=(const Graph&) = delete;
    ~Graph() { (void)cudaGraphExecDestroy(executable_); }

    void launch(cudaStream_t stream) const { check("cudaGraphLaunch", cudaGraphLaunch(executable_, stream)); }

private:
    cudaGraphExec_t executable_ = nullptr;
};

}  // namespace freqkv::cuda
