# cmake --install, and cpack's tarball and Debian package. The program looks for no file beside
# itself, so it runs from wherever it is put; with GALE_PORTABLE also where the libraries are not.
include(GNUInstallDirs)
install(TARGETS gale)
install(FILES LICENSE README.md DESTINATION ${CMAKE_INSTALL_DOCDIR})

string(TOLOWER ${CMAKE_SYSTEM_NAME} system)
set(CPACK_GENERATOR TGZ)
set(CPACK_PACKAGE_FILE_NAME gale-${PROJECT_VERSION}-${system}-${CMAKE_SYSTEM_PROCESSOR})
set(CPACK_STRIP_FILES ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_MAINTAINER "The Gale authors")
set(CPACK_DEBIAN_PACKAGE_SECTION science)
find_program(DPKG_SHLIBDEPS dpkg-shlibdeps)
if(DPKG_SHLIBDEPS)  # which packages the program's libraries come from
  set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
endif()
include(CPack)
