# The CUDA language, for src/backend/cuda only. Sets GALE_HAS_CUDA; without it the CPU is built.
set(GALE_CUDA AUTO CACHE STRING "The CUDA back end: AUTO (when nvcc is found), ON or OFF")
option(GALE_CUDA_ALL_ARCHS "Compile for sm_80, sm_86 and sm_89 beside sm_90a" OFF)

set(GALE_HAS_CUDA OFF)
if(GALE_CUDA STREQUAL "OFF")
  message(STATUS "CUDA back end: off (GALE_CUDA=OFF)")
  return()
endif()

find_program(GALE_NVCC nvcc HINTS ENV CUDA_PATH PATHS /usr/local/cuda PATH_SUFFIXES bin)
if(NOT GALE_NVCC)
  if(GALE_CUDA STREQUAL "AUTO")
    message(STATUS "CUDA back end: off, no nvcc in PATH or /usr/local/cuda/bin")
    return()
  endif()
  message(FATAL_ERROR "GALE_CUDA=${GALE_CUDA}: no nvcc in PATH or /usr/local/cuda/bin; install the "
                      "CUDA 13 toolkit, point CMAKE_CUDA_COMPILER at it, or set GALE_CUDA=OFF")
endif()

# -real: machine code only, no PTX to compile at start.
if(NOT CMAKE_CUDA_ARCHITECTURES)
  set(CMAKE_CUDA_ARCHITECTURES 90a-real)
  if(GALE_CUDA_ALL_ARCHS)
    list(PREPEND CMAKE_CUDA_ARCHITECTURES 80-real 86-real 89-real)
  endif()
endif()
if(NOT CMAKE_CUDA_COMPILER)
  set(CMAKE_CUDA_COMPILER ${GALE_NVCC})
endif()
enable_language(CUDA)
find_package(CUDAToolkit REQUIRED)
set(CMAKE_CUDA_STANDARD 20)
set(CMAKE_CUDA_EXTENSIONS OFF)
# CMake 3.25 knows nvcc's dialects up to C++17 only.
if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)
  set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION "-std=c++20")
  set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION "-std=c++20")
  list(APPEND CMAKE_CUDA_COMPILE_FEATURES cuda_std_20)
endif()
if(CCACHE)
  set(CMAKE_CUDA_COMPILER_LAUNCHER ${CCACHE})
endif()
set(GALE_HAS_CUDA ON)

# Headers of cuBLASLt, from the toolkit or from Python's package nvidia-cublas. The library itself is
# looked for when a program runs (src/backend/cuda/cublas_lt.h).
execute_process(COMMAND python3 -c "import nvidia; print(*nvidia.__path__, sep=';')"
                OUTPUT_VARIABLE python_packages OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
find_path(GALE_CUBLASLT_INCLUDE cublasLt.h HINTS ${CUDAToolkit_INCLUDE_DIRS}
          PATHS ${python_packages} PATH_SUFFIXES cu${CUDAToolkit_VERSION_MAJOR}/include)
if(GALE_CUBLASLT_INCLUDE)
  message(STATUS "cuBLASLt: headers in ${GALE_CUBLASLT_INCLUDE}")
else()
  message(STATUS "cuBLASLt: off, no cublasLt.h; pip install nvidia-cublas, or set GALE_CUBLASLT_INCLUDE")
endif()
message(STATUS "CUDA back end: on, nvcc ${CMAKE_CUDA_COMPILER_VERSION}, for ${CMAKE_CUDA_ARCHITECTURES}")
