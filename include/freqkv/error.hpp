// SPDX-License-Identifier: MIT
#pragma once

#include <cstdio>
#include <cstdlib>
#include <initializer_list>
#include <limits>
#include <stdexcept>
#include <string>

#include "freqkv/config.hpp"

/// Everything the library throws goes through this hook. A program built without exceptions gets a
/// message on standard error and abort(); define the macro before the first include to do otherwise.
#if !defined(FREQKV_THROW)
#if defined(__cpp_exceptions)
#define FREQKV_THROW(exception) throw exception
#else
#define FREQKV_THROW(exception)                           \
    do {                                                  \
        std::fprintf(stderr, "%s\n", (exception).what()); \
        std::abort();                                     \
    } while (false)
#endif
#endif

namespace freqkv {

/// The library refused its arguments. what() names the parameter, its value and what is allowed.
/// Thrown before anything was changed, unless the function says otherwise.
class Error : public std::invalid_argument {
public:
    using std::invalid_argument::invalid_argument;
};

/// Throws Error "freqkv: <parameter> is <value>, <allowed>".
[[noreturn, gnu::cold, gnu::noinline]] inline void refuse(const char* parameter, const std::string& value,
                                                          const std::string& allowed) {
    FREQKV_THROW(Error("freqkv: " + std::string(parameter) + " is " + value + ", " + allowed));
    std::abort();  // a user's hook may return; the library cannot go on
}

namespace detail {

// Out of line, so that a check costs its caller a comparison and a call.
template <class Value>
[[noreturn, gnu::cold, gnu::noinline]] void refuse_number(const char* parameter, Value value, const char* allowed) {
    refuse(parameter, std::to_string(value), allowed);
}

[[gnu::noinline]] inline Index product_of(const char* what, std::initializer_list<Index> counts) {
    Index product = 1;
    for (const Index count : counts) {
        if (count < 0) refuse_number(what, count, "must not be negative");
        if (count != 0 && product > std::numeric_limits<Index>::max() / count) {
            refuse(what, "over 2^63", "must fit a 64-bit count");
        }
        product *= count;
    }
    return product;
}

}  // namespace detail

/// refuse() unless `ok`. The message is put together only on failure.
template <class Value>
    requires std::is_arithmetic_v<Value>
void require(bool ok, const char* parameter, Value value, const char* allowed) {
    if (!ok) detail::refuse_number(parameter, value, allowed);
}

/// The product of non-negative counts; throws Error, naming `what`, if it does not fit an Index.
template <class... Counts>
Index checked_product(const char* what, Counts... counts) {
    return detail::product_of(what, {static_cast<Index>(counts)...});
}

}  // namespace freqkv
