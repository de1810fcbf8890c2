# Install rules and the CMake package. The library is headers only, so the package is the same for every
# architecture and goes to share/.

include(CMakePackageConfigHelpers)

set(package_dir "${CMAKE_INSTALL_DATADIR}/cmake/freqkv")

install(TARGETS freqkv freqkv_cuda freqkv_snapshot EXPORT freqkvTargets FILE_SET HEADERS FILE_SET nvcc_headers)
install(TARGETS freqkv_fftw EXPORT freqkv_fftwTargets FILE_SET HEADERS)
foreach(export freqkvTargets freqkv_fftwTargets)
    install(EXPORT ${export} NAMESPACE freqkv:: DESTINATION "${package_dir}")
endforeach()

configure_package_config_file(cmake/freqkvConfig.cmake.in freqkvConfig.cmake INSTALL_DESTINATION "${package_dir}")
# Before 1.0 a minor version may break its users.
write_basic_package_version_file(freqkvConfigVersion.cmake COMPATIBILITY SameMinorVersion ARCH_INDEPENDENT)
install(FILES
    "${PROJECT_BINARY_DIR}/freqkvConfig.cmake"
    "${PROJECT_BINARY_DIR}/freqkvConfigVersion.cmake"
    cmake/FindFFTW3.cmake
    DESTINATION "${package_dir}")
install(FILES LICENSE DESTINATION "${CMAKE_INSTALL_DATADIR}/doc/freqkv")
