# Programs to carry to another machine: every library is linked in but glibc and the NVIDIA driver,
# which the CUDA runtime looks for when the program starts. Objects are those of any other build.
option(GALE_PORTABLE "Link everything but glibc into the programs" OFF)
if(NOT GALE_PORTABLE)
  find_package(fmt REQUIRED)
  find_package(simdjson REQUIRED)
  return()
endif()

set(CMAKE_FIND_LIBRARY_SUFFIXES .a)
set(CMAKE_SKIP_BUILD_RPATH ON)
add_link_options(-static-libstdc++ -static-libgcc -s)

# Debian has no static libraries of these two. fmt's is made from its headers.
file(CONFIGURE OUTPUT ${CMAKE_BINARY_DIR}/fmt.cc CONTENT [[
#include <fmt/format-inl.h>
FMT_BEGIN_NAMESPACE
namespace detail {
template FMT_API auto dragonbox::to_decimal(float) noexcept -> dragonbox::decimal_fp<float>;
template FMT_API auto dragonbox::to_decimal(double) noexcept -> dragonbox::decimal_fp<double>;
template FMT_API locale_ref::locale_ref(const std::locale&);
template FMT_API auto locale_ref::get<std::locale>() const -> std::locale;
template FMT_API auto thousands_sep_impl(locale_ref) -> thousands_sep_result<char>;
template FMT_API auto decimal_point_impl(locale_ref) -> char;
template FMT_API void buffer<char>::append(const char*, const char*);
template FMT_API void vformat_to(buffer<char>&, string_view,
                                 basic_format_args<buffer_context<char>>, locale_ref);
}  // namespace detail
FMT_END_NAMESPACE
]])
add_library(fmt STATIC ${CMAKE_BINARY_DIR}/fmt.cc)
target_compile_definitions(fmt INTERFACE FMT_SHARED)
target_compile_features(fmt PRIVATE cxx_std_20)
add_library(fmt::fmt ALIAS fmt)

# simdjson's source is fetched, for this kind of build only.
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
target_include_directories(simdjson PRIVATE ${simdjson}/singleheader)
target_compile_definitions(simdjson PUBLIC SIMDJSON_THREADS_ENABLED=1)
target_compile_features(simdjson PRIVATE cxx_std_17)
add_library(simdjson::simdjson ALIAS simdjson)
