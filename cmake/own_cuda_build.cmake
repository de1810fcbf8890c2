# What the project's own CUDA sources (tests, benchmarks, models on a GPU) are built with, where FREQKV_WITH_CUDA asks for
# them. They are built but not run where there is no GPU. FREQKV_HAS_CUDA says whether there are any.

set(FREQKV_HAS_CUDA FALSE)
if(NOT FREQKV_WITH_CUDA)
    return()
endif()
# Sanitizers and Clang see the same code in the tests on an emulated device, which need no nvcc.
if(FREQKV_SANITIZE OR CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
    return()
endif()

include(CheckLanguage)
check_language(CUDA)
if(NOT CMAKE_CUDA_COMPILER)
    message(FATAL_ERROR "FREQKV_WITH_CUDA is ON, but there is no nvcc: put it on the PATH, or name it by "
                        "CMAKE_CUDA_COMPILER or the environment's CUDACXX")
endif()
# A100 and H100; a machine's own GPU is CMAKE_CUDA_ARCHITECTURES=native from CMake 3.24 on.
if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
    set(CMAKE_CUDA_ARCHITECTURES 80 90)
endif()
enable_language(CUDA)
if(CMAKE_CUDA_COMPILER_VERSION VERSION_LESS 12)
    message(FATAL_ERROR "nvcc is ${CMAKE_CUDA_COMPILER_VERSION}, must be at least 12; -DFREQKV_WITH_CUDA=OFF goes without")
endif()
# CMake 3.25 does not know nvcc's flag for C++20.
if(NOT DEFINED CMAKE_CUDA20_STANDARD_COMPILE_OPTION)
    set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION "-std=c++20")
    set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION "-std=c++20")
endif()
set(CMAKE_CUDA_STANDARD 20)
set(CMAKE_CUDA_STANDARD_REQUIRED ON)
set(CMAKE_CUDA_EXTENSIONS OFF)
set(FREQKV_HAS_CUDA TRUE)

add_library(freqkv_own_cuda_build INTERFACE)
target_link_libraries(freqkv_own_cuda_build INTERFACE freqkv::cuda)
target_compile_options(freqkv_own_cuda_build INTERFACE
    -lineinfo
    -Xcompiler=-Wall,-Wextra
    $<$<BOOL:${FREQKV_WERROR}>:-Werror=all-warnings>)

# The kernels of compressions, which take nvcc most of a minute for each element type: compiled once, for all that includes
# kernels.cuh and links this.
set(FREQKV_OWN_KERNELS_DIR "${PROJECT_SOURCE_DIR}/examples/llama/cuda/kernels")
add_library(freqkv_own_kernels OBJECT EXCLUDE_FROM_ALL
    "${FREQKV_OWN_KERNELS_DIR}/kernels_bfloat16.cu"
    "${FREQKV_OWN_KERNELS_DIR}/kernels_float.cu"
    "${FREQKV_OWN_KERNELS_DIR}/kernels_half.cu")
set_target_properties(freqkv_own_kernels PROPERTIES POSITION_INDEPENDENT_CODE ON)
target_include_directories(freqkv_own_kernels PUBLIC "${FREQKV_OWN_KERNELS_DIR}")
target_link_libraries(freqkv_own_kernels PRIVATE freqkv_own_cuda_build)

# freqkv_add_cuda_executable(<name> <source>...): an executable of the project's own from CUDA sources.
function(freqkv_add_cuda_executable name)
    add_executable(${name} ${ARGN})
    target_link_libraries(${name} PRIVATE freqkv_own_cuda_build)
endfunction()
