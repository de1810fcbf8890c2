# Builds and runs the project beside this file outside of freqkv's own build:
#
#     cmake -DMODE=package|subdirectory -DWITH_FFTW=ON|OFF -DWORK_DIR=<dir> -DBINARY_DIR=<freqkv's build>
#           -DVERSION=<freqkv's> -DGENERATOR=<name> -DCOMPILER=<path> -P run.cmake
#
# With MODE=package, freqkv is installed into WORK_DIR from BINARY_DIR first.

cmake_policy(VERSION 3.25)

function(run)
    execute_process(COMMAND ${ARGN} COMMAND_ERROR_IS_FATAL ANY)
endfunction()

file(REMOVE_RECURSE "${WORK_DIR}")
set(options -G "${GENERATOR}" "-DCMAKE_CXX_COMPILER=${COMPILER}" -DWITH_FFTW=${WITH_FFTW}
    -DFREQKV_EXPECTED_VERSION=${VERSION})
if(MODE STREQUAL "package")
    run("${CMAKE_COMMAND}" --install "${BINARY_DIR}" --prefix "${WORK_DIR}/prefix")
    list(APPEND options "-Dfreqkv_ROOT=${WORK_DIR}/prefix")
else()
    cmake_path(GET CMAKE_CURRENT_LIST_DIR PARENT_PATH tests)
    cmake_path(GET tests PARENT_PATH source_tree)
    list(APPEND options "-DSOURCE_TREE=${source_tree}")
endif()
run("${CMAKE_COMMAND}" -S "${CMAKE_CURRENT_LIST_DIR}" -B "${WORK_DIR}/build" ${options})
run("${CMAKE_COMMAND}" --build "${WORK_DIR}/build")
run("${WORK_DIR}/build/consumer")
