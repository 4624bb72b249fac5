# Targets: one library per folder of src/, tests beside their sources.

find_package(Threads REQUIRED)
find_package(tl-expected REQUIRED)

add_library(gale_flags INTERFACE)
target_compile_features(gale_flags INTERFACE cxx_std_20)
set(cxx $<COMPILE_LANGUAGE:CXX>)
set(cuda $<COMPILE_LANGUAGE:CUDA>)
set(werror $<BOOL:${GALE_WERROR}>)
target_compile_options(gale_flags INTERFACE
  "$<${cxx}:-Wall;-Wextra;-Wshadow;-fno-math-errno>" $<$<AND:${cxx},${werror}>:-Werror>
  $<${cuda}:-Xcompiler=-Wall,-Wextra,-Wshadow> $<$<AND:${cuda},${werror}>:-Werror=all-warnings>)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  # At -O3, GCC 12 sees overlaps that are none where strings are concatenated (GCC bug 105651).
  target_compile_options(gale_flags INTERFACE $<${cxx}:-Wno-restrict>)
endif()
target_include_directories(gale_flags INTERFACE ${PROJECT_SOURCE_DIR}/include
                                                ${PROJECT_SOURCE_DIR}/src)
target_link_libraries(gale_flags INTERFACE fmt::fmt tl::expected Threads::Threads)

# gale_library(NAME SOURCES a.cc ... [DEPS other ...]): the static library gale_NAME.
function(gale_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS" ${ARGN})
  add_library(gale_${name} STATIC ${ARG_SOURCES})
  target_link_libraries(gale_${name} PUBLIC gale_flags ${ARG_DEPS})
endfunction()

# gale_registry(NAME SOURCES ... [DEPS ...]): as gale_library, but an OBJECT library, so that the
# linker keeps the static initializers that register what is in it.
function(gale_registry name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS" ${ARGN})
  add_library(gale_${name}_objects OBJECT ${ARG_SOURCES})
  target_link_libraries(gale_${name}_objects PUBLIC gale_flags ${ARG_DEPS})
  add_library(gale_${name} INTERFACE)
  target_link_libraries(gale_${name} INTERFACE gale_${name}_objects ${ARG_DEPS})
  target_sources(gale_${name} INTERFACE $<TARGET_OBJECTS:gale_${name}_objects>)
endfunction()

# Where tests find tests/data; "." makes programs that run from the root of any checkout.
set(GALE_TEST_ROOT ${PROJECT_SOURCE_DIR} CACHE STRING "Root of the tree, for test programs")

# gale_test(NAME SOURCES foo_test.cc ... [DEPS gale_x ...]): a GoogleTest program, run by ctest.
function(gale_test name)
  if(NOT GALE_TESTS)
    return()
  endif()
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE ${ARG_DEPS} gale_flags GTest::gmock GTest::gtest_main)
  target_compile_definitions(${name} PRIVATE GALE_SOURCE_DIR="${GALE_TEST_ROOT}")
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR}/tests)  # tests/support
  add_test(NAME ${name} COMMAND ${name})
  set_tests_properties(${name} PROPERTIES TIMEOUT 300)
  if(GALE_TEST_ROOT STREQUAL ".")
    set_tests_properties(${name} PROPERTIES WORKING_DIRECTORY ${PROJECT_SOURCE_DIR})
  endif()
endfunction()

# gale_gpu_test(NAME ARG...): runs the test program NAME with these arguments as NAME_cuda, which is
# skipped where there is no GPU. gpu_tests.txt lists them for scripts/gpu_check.sh.
function(gale_gpu_test name)
  if(NOT TARGET ${name} OR NOT GALE_HAS_CUDA)
    return()
  endif()
  add_test(NAME ${name}_cuda COMMAND ${name} ${ARGN})
  set_tests_properties(${name}_cuda PROPERTIES TIMEOUT 300 SKIP_REGULAR_EXPRESSION "device cuda:")
  if(GALE_TEST_ROOT STREQUAL ".")
    set_tests_properties(${name}_cuda PROPERTIES WORKING_DIRECTORY ${PROJECT_SOURCE_DIR})
  endif()
  list(JOIN ARGN " " arguments)
  set_property(GLOBAL APPEND PROPERTY GALE_GPU_TESTS "$<TARGET_FILE:${name}> ${arguments}")
endfunction()

# gale_fuzzer(NAME SOURCES ... [DEPS ...]): a libFuzzer target, with clang and GALE_FUZZERS only.
function(gale_fuzzer name)
  if(NOT GALE_FUZZERS)
    return()
  endif()
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE ${ARG_DEPS} gale_flags)
  target_link_options(${name} PRIVATE -fsanitize=fuzzer)
endfunction()
