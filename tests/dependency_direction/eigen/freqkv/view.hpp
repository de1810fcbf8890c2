// SPDX-License-Identifier: MIT
#pragma once

#include <Eigen/Core>
