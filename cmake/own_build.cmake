# What the project's own executables (tests, examples, benchmarks) are built with. Nothing here reaches
# freqkv::freqkv or a consumer.

include(CheckCXXCompilerFlag)

find_package(Eigen3 3.4 REQUIRED)
find_package(OpenMP COMPONENTS CXX)

add_library(freqkv_own_build INTERFACE)
target_link_libraries(freqkv_own_build INTERFACE freqkv::freqkv Eigen3::Eigen)
if(TARGET freqkv::fftw)
    target_link_libraries(freqkv_own_build INTERFACE freqkv::fftw)
    target_compile_definitions(freqkv_own_build INTERFACE FREQKV_HAS_FFTW)
endif()
if(OpenMP_CXX_FOUND)
    target_link_libraries(freqkv_own_build INTERFACE OpenMP::OpenMP_CXX)
endif()

# Eigen's products stay on one thread: the library's results do not depend on the number of threads.
target_compile_definitions(freqkv_own_build INTERFACE EIGEN_DONT_PARALLELIZE)

target_compile_options(freqkv_own_build INTERFACE
    -Wall -Wextra -Wpedantic -Wconversion -Wshadow
    $<$<BOOL:${FREQKV_WERROR}>:-Werror>
    # GCC 12 raises them inside its own AVX-512 intrinsics once Eigen inlines them; Clang watches instead.
    $<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized> $<$<CXX_COMPILER_ID:GNU>:-Wno-uninitialized>
    # GCC 12 sees copies of 2^63 bytes in a literal + a std::string.
    $<$<CXX_COMPILER_ID:GNU>:-Wno-restrict>)

if(FREQKV_NATIVE)
    check_cxx_compiler_flag(-march=native FREQKV_HAS_MARCH_NATIVE)
    if(FREQKV_HAS_MARCH_NATIVE)
        target_compile_options(freqkv_own_build INTERFACE -march=native)
        # Clang 19 warns of what it makes itself of -march=native on a processor with AVX10.
        check_cxx_compiler_flag(-Wno-invalid-feature-combination FREQKV_HAS_FEATURE_COMBINATION_WARNING)
        if(FREQKV_HAS_FEATURE_COMBINATION_WARNING AND CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
            target_compile_options(freqkv_own_build INTERFACE -Wno-invalid-feature-combination)
        endif()
    endif()
endif()

if(FREQKV_SANITIZE)
    set(sanitize -fsanitize=${FREQKV_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer)
    # What is checked at every access beside its address takes two thirds of the time to compile a kernel.
    if(FREQKV_SANITIZE STREQUAL "address,undefined")
        list(APPEND sanitize -fno-sanitize=null,alignment,object-size,vptr,pointer-overflow)
    endif()
    target_compile_options(freqkv_own_build INTERFACE ${sanitize})
    target_link_options(freqkv_own_build INTERFACE ${sanitize})
endif()
if(FREQKV_SANITIZE STREQUAL "thread")
    target_sources(freqkv_own_build INTERFACE  # of executables alone: in a library, it would be defined twice
        "$<$<STREQUAL:$<TARGET_PROPERTY:TYPE>,EXECUTABLE>:${CMAKE_CURRENT_LIST_DIR}/thread_sanitizer_options.cpp>")
    # LLVM's OpenMP runtime is not instrumented; Archer, which comes with it, tells the sanitizer where OpenMP
    # synchronises. The runtime finds it among the libraries of the program.
    if(OpenMP_CXX_FOUND)
        file(REAL_PATH "${CMAKE_CXX_COMPILER}" compiler)
        cmake_path(GET compiler PARENT_PATH compiler_dir)
        find_library(FREQKV_ARCHER NAMES archer HINTS "${compiler_dir}/../lib" REQUIRED)
        target_link_options(freqkv_own_build INTERFACE -Wl,--no-as-needed)
        target_link_libraries(freqkv_own_build INTERFACE "${FREQKV_ARCHER}")
    endif()
endif()

# freqkv_add_executable(<name> <source>...): an executable of the project's own.
function(freqkv_add_executable name)
    add_executable(${name} ${ARGN})
    target_link_libraries(${name} PRIVATE freqkv_own_build)
endfunction()
