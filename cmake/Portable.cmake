# Programs to carry to another machine: every library is linked in but glibc and the NVIDIA driver,
# which the CUDA runtime looks for when the program starts.
option(GALE_PORTABLE "Link everything but glibc into the programs" OFF)
set(GALE_FMT fmt::fmt)
if(NOT GALE_PORTABLE)
  find_package(simdjson REQUIRED)
  return()
endif()

set(CMAKE_FIND_LIBRARY_SUFFIXES .a)
set(CMAKE_SKIP_BUILD_RPATH ON)
add_link_options(-static-libstdc++ -static-libgcc -s)
set(GALE_FMT fmt::fmt-header-only)  # Debian has no libfmt.a

# Nor a libsimdjson.a: its source is fetched, for this kind of build only.
set(simdjson ${CMAKE_BINARY_DIR}/simdjson-3.0.1)
if(NOT EXISTS ${simdjson})
  file(DOWNLOAD https://deb.debian.org/debian/pool/main/s/simdjson/simdjson_3.0.1.orig.tar.gz
       ${simdjson}.tar.gz STATUS status
       EXPECTED_HASH SHA256=156b1bc5eb0561b2bd166b46d191fd3d95a3e709cc63761477d3b7aec2b6e9ed)
  if(NOT status MATCHES "^0;")
    message(FATAL_ERROR "GALE_PORTABLE: simdjson's source cannot be fetched: ${status}. Unpack "
                        "simdjson 3.0.1 as ${simdjson}, or build without GALE_PORTABLE")
  endif()
  file(ARCHIVE_EXTRACT INPUT ${simdjson}.tar.gz DESTINATION ${CMAKE_BINARY_DIR}
       PATTERNS "*/singleheader/simdjson.*")
endif()
add_library(simdjson STATIC ${simdjson}/singleheader/simdjson.cpp)
target_include_directories(simdjson SYSTEM PUBLIC ${simdjson}/singleheader)
target_compile_features(simdjson PUBLIC cxx_std_17)
add_library(simdjson::simdjson ALIAS simdjson)
