# FFTW 3, double and single precision. FFTW built with autotools (as distributions do) installs no CMake
# package, and FFTW built with CMake installs one per precision, so this module looks for the files.
#
# Defines FFTW3_FOUND and the imported targets FFTW3::fftw3 (double) and FFTW3::fftw3f (single).
# CMAKE_PREFIX_PATH and FFTW3_ROOT are searched first.

find_path(FFTW3_INCLUDE_DIR NAMES fftw3.h)
find_library(FFTW3_DOUBLE_LIBRARY NAMES fftw3)
find_library(FFTW3_SINGLE_LIBRARY NAMES fftw3f)
mark_as_advanced(FFTW3_INCLUDE_DIR FFTW3_DOUBLE_LIBRARY FFTW3_SINGLE_LIBRARY)

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(FFTW3 REQUIRED_VARS FFTW3_DOUBLE_LIBRARY FFTW3_SINGLE_LIBRARY FFTW3_INCLUDE_DIR)

if(FFTW3_FOUND AND NOT TARGET FFTW3::fftw3)
    add_library(FFTW3::fftw3 UNKNOWN IMPORTED)
    set_target_properties(FFTW3::fftw3 PROPERTIES
        IMPORTED_LOCATION "${FFTW3_DOUBLE_LIBRARY}"
        INTERFACE_INCLUDE_DIRECTORIES "${FFTW3_INCLUDE_DIR}")
endif()
if(FFTW3_FOUND AND NOT TARGET FFTW3::fftw3f)
    add_library(FFTW3::fftw3f UNKNOWN IMPORTED)
    set_target_properties(FFTW3::fftw3f PROPERTIES
        IMPORTED_LOCATION "${FFTW3_SINGLE_LIBRARY}"
        INTERFACE_INCLUDE_DIRECTORIES "${FFTW3_INCLUDE_DIR}")
endif()
