// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>
TEST(Base, Version) {}
