# cmake --install, and cpack's tarball. The program looks for no file beside itself, so both run from
# wherever they are put; a build with GALE_PORTABLE also on machines without the libraries.
include(GNUInstallDirs)
install(TARGETS gale)
install(FILES LICENSE README.md DESTINATION ${CMAKE_INSTALL_DOCDIR})

string(TOLOWER ${CMAKE_SYSTEM_NAME} system)
set(CPACK_GENERATOR TGZ)
set(CPACK_PACKAGE_FILE_NAME gale-${PROJECT_VERSION}-${system}-${CMAKE_SYSTEM_PROCESSOR})
set(CPACK_STRIP_FILES ON)
include(CPack)
