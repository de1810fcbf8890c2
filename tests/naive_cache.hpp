// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <numeric>
#include <utility>
#include <vector>

#include "naive.hpp"
#include "random_tokens.hpp"

// What a bounded cache has to do, over plain vectors.
namespace naive {

// The entries of one KV head, keys before rotation.
struct Head {
    Rows keys, values;
    std::vector<Index> compresses;   // of each entry: how many compressions it has been through
    std::vector<Index> first_token;  // of each entry: the first it stands for
    std::vector<Index> last_token;
    Row weights;  // of each entry: the tokens it stands for
    Row mass;     // of each entry: the attention it has been given, where the cache sums it
    Index tokens = 0;
    Index compressions = 0;

    std::size_t size() const { return keys.size(); }
    // The iterator to element i.
    template <class V>
    static auto at(V& elements, std::size_t i) {
        return elements.begin() + static_cast<std::ptrdiff_t>(i);
    }

    Rows keys_of(std::size_t begin, std::size_t length) const { return slice(keys, begin, length); }
    Rows values_of(std::size_t begin, std::size_t length) const { return slice(values, begin, length); }

    void append(Row key, Row value) {
        keys.push_back(std::move(key));
        values.push_back(std::move(value));
        compresses.push_back(0);
        first_token.push_back(tokens);
        last_token.push_back(tokens++);
        weights.push_back(1);
        mass.push_back(0);
    }

    void low_pass(std::size_t begin, std::size_t length, std::size_t keep) {
        const Rows new_keys = low_passed(keys_of(begin, length), keep);
        const Rows new_values = low_passed(values_of(begin, length), keep);
        std::copy(new_keys.begin(), new_keys.end(), at(keys, begin));
        std::copy(new_values.begin(), new_values.end(), at(values, begin));
        for (std::size_t i = 0; i < keep; ++i) {
            first_token[begin + i] = first_token[begin + i * length / keep];
            last_token[begin + i] = last_token[begin + ((i + 1) * length + keep - 1) / keep - 1];
        }
        const Row before(at(weights, begin), at(weights, begin + length));
        for (std::size_t i = 0; i < keep; ++i) {
            // Of the span's length, each row has the same part; of entries on its borders what lies within.
            const double first = static_cast<double>(i * length) / static_cast<double>(keep);
            const double last = static_cast<double>((i + 1) * length) / static_cast<double>(keep);
            weights[begin + i] = 0;
            for (std::size_t e = 0; e < length; ++e) {
                const double within =
                    std::min(last, static_cast<double>(e + 1)) - std::max(first, static_cast<double>(e));
                weights[begin + i] += std::max(0.0, within) * before[e];
            }
        }
        close_up(begin, length, keep);
    }

    void block_mean(std::size_t begin, std::size_t length, std::size_t keep) {
        for (std::size_t k = 0; k < keep; ++k) {
            const std::size_t first = begin + k * length / keep;
            const std::size_t count = begin + (k + 1) * length / keep - first;
            for (Rows* const rows : {&keys, &values}) {
                Row mean(rows->front().size());
                for (std::size_t i = first; i < first + count; ++i) {
                    for (std::size_t d = 0; d < mean.size(); ++d) mean[d] += (*rows)[i][d] / static_cast<double>(count);
                }
                (*rows)[begin + k] = mean;  // no later row needs what was there
            }
            // As of any transform: neighbours share the entry that both have a part of.
            first_token[begin + k] = first_token[first];
            last_token[begin + k] = last_token[begin + ((k + 1) * length + keep - 1) / keep - 1];
        }
        close_up(begin, length, keep);
    }

    // `chosen` counts from `begin`.
    void select(std::size_t begin, std::size_t length, const std::vector<std::size_t>& chosen) {
        for (std::size_t i = 0; i < chosen.size(); ++i) {
            keys[begin + i] = keys[begin + chosen[i]];
            values[begin + i] = values[begin + chosen[i]];
            first_token[begin + i] = first_token[begin + chosen[i]];
            last_token[begin + i] = last_token[begin + chosen[i]];
            compresses[begin + i] = compresses[begin + chosen[i]];
            mass[begin + i] = mass[begin + chosen[i]];
            weights[begin + i] = weights[begin + chosen[i]];
        }
        close_up(begin, length, chosen.size());
    }

    void select_latest(std::size_t begin, std::size_t length, std::size_t keep) {
        std::vector<std::size_t> chosen(keep);
        std::iota(chosen.begin(), chosen.end(), length - keep);
        select(begin, length, chosen);
    }

private:
    static Rows slice(const Rows& rows, std::size_t begin, std::size_t length) {
        return Rows(at(rows, begin), at(rows, begin + length));
    }
    void close_up(std::size_t begin, std::size_t length, std::size_t keep) {
        for (std::size_t i = begin; i < begin + keep; ++i) ++compresses[i];
        keys.erase(at(keys, begin + keep), at(keys, begin + length));
        values.erase(at(values, begin + keep), at(values, begin + length));
        compresses.erase(at(compresses, begin + keep), at(compresses, begin + length));
        first_token.erase(at(first_token, begin + keep), at(first_token, begin + length));
        last_token.erase(at(last_token, begin + keep), at(last_token, begin + length));
        mass.erase(at(mass, begin + keep), at(mass, begin + length));
        weights.erase(at(weights, begin + keep), at(weights, begin + length));
    }
};

// One layer's cache.
class Cache {
public:
    // What the policy does to the heads that are full; it is given their numbers.
    using Compress = std::function<void(Cache&, const std::vector<std::size_t>& full)>;

    Cache(Index kv_heads, Index capacity, Rotary rotary, Compress compress)
        : heads(static_cast<std::size_t>(kv_heads)),
          capacity_(static_cast<std::size_t>(capacity)),
          rotary_(std::move(rotary)),
          compress_(std::move(compress)) {}

    // A token: a key and a value for each KV head, a query for each query head. Queries may be left out.
    void append(const Rows& new_keys, const Rows& new_values, const Rows& new_queries = {}) {
        std::vector<std::size_t> full;
        for (std::size_t h = 0; h < heads.size(); ++h) {
            if (heads[h].size() == capacity_) full.push_back(h);
        }
        if (!full.empty()) {
            compress_(*this, full);
            for (const std::size_t h : full) ++heads[h].compressions;
        }
        for (std::size_t h = 0; h < heads.size(); ++h) heads[h].append(new_keys[h], new_values[h]);
        queries.resize(new_queries.size());
        for (std::size_t h = 0; h < queries.size(); ++h) queries[h].push_back(new_queries[h]);
        if (decay > 0) sum_attention();
    }

    // The softmax weights that the query of the token that is entry `position` gives to the entries before and at it.
    Row weights(std::size_t kv_head, const Row& query, std::size_t position) const {
        const Row asked = rotated(query, position_of(kv_head, position));
        Row result;
        for (std::size_t i = 0; i <= position; ++i) {
            const double score = dot(asked, stored_key(kv_head, i));
            const double weight = weighted ? heads[kv_head].weights[i] : 1;
            result.push_back(weight * std::exp(score / std::sqrt(static_cast<double>(query.size()))));
        }
        const double sum = std::accumulate(result.begin(), result.end(), 0.0);
        for (double& weight : result) weight /= sum;
        return result;
    }

    template <class Position>
    Row rotated(const Row& x, Position position) const {
        return naive::rotated(x, position, rotary_);
    }

    // Of an entry: its index, or the middle of its tokens.
    double position_of(std::size_t kv_head, std::size_t entry) const {
        if (!text_positions) return static_cast<double>(entry);
        const Head& head = heads[kv_head];
        return static_cast<double>(head.first_token[entry] + head.last_token[entry]) / 2;
    }

    Row stored_key(std::size_t kv_head, std::size_t entry) const {
        return rotated(heads[kv_head].keys[entry], position_of(kv_head, entry));
    }

    // The latest token's query, un-rotated, against all entries of a KV head; scores are multiplied by `scale`.
    Row attended(std::size_t kv_head, Row query, double scale) const {
        const Head& head = heads[kv_head];
        // naive::attended() scales by 1 / sqrt(dim) itself.
        for (double& x : query) x *= scale * std::sqrt(static_cast<double>(query.size()));
        Rows keys;
        for (std::size_t i = 0; i < head.size(); ++i) keys.push_back(stored_key(kv_head, i));
        const Row asked = rotated(query, position_of(kv_head, head.size() - 1));
        if (!weighted) return naive::attended(asked, keys, head.values);
        Row result(head.values.front().size());
        double sum = 0;
        for (std::size_t i = 0; i < head.size(); ++i) {
            const double weight =
                head.weights[i] * std::exp(dot(asked, keys[i]) / std::sqrt(static_cast<double>(asked.size())));
            for (std::size_t d = 0; d < result.size(); ++d) result[d] += weight * head.values[i][d];
            sum += weight;
        }
        for (double& x : result) x /= sum;
        return result;
    }

    // The latest token's attention: a row for each query head.
    Rows attended() const {
        Rows results;
        for (std::size_t h = 0; h < queries.size(); ++h) {
            const Row& query = queries[h].back();
            results.push_back(attended(h / group(), query, 1 / std::sqrt(static_cast<double>(query.size()))));
        }
        return results;
    }

    std::size_t group() const { return queries.size() / heads.size(); }

    std::vector<Head> heads;
    std::vector<Rows> queries;  // of each query head, all tokens
    bool text_positions = false;
    bool weighted = false;  // whether an entry counts as often as it stands for tokens
    double decay = 0;       // of the attention that entries are given; 0: it is not summed

private:
    void sum_attention() {
        for (Head& head : heads) {
            for (double& mass : head.mass) mass *= decay;
        }
        for (std::size_t h = 0; h < queries.size(); ++h) {
            Head& head = heads[h / group()];
            const Row given = weights(h / group(), queries[h].back(), head.size() - 1);
            for (std::size_t i = 0; i < given.size(); ++i) head.mass[i] += given[i];
        }
    }

    std::size_t capacity_;
    Rotary rotary_;
    Compress compress_;
};

// What becomes of `length` entries from `begin` on: &Head::low_pass or &Head::select_latest.
using CompressSpan = void (Head::*)(std::size_t begin, std::size_t length, std::size_t keep);

// All between the sinks and the recent part becomes `ratio` of it, in each head that is full.
inline Cache::Compress whole_span(Index sinks, Index recent, double ratio, CompressSpan compress) {
    return [=](Cache& cache, const std::vector<std::size_t>& full) {
        for (const std::size_t h : full) {
            Head& head = cache.heads[h];
            const std::size_t length = head.size() - static_cast<std::size_t>(sinks + recent);
            (head.*compress)(static_cast<std::size_t>(sinks), length,
                             static_cast<std::size_t>(ratio * static_cast<double>(length)));
        }
    };
}

}  // namespace naive
