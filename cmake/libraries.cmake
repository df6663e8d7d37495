# SPDX-License-Identifier: MIT
# The static and the shared library, and what an installation needs to be found by others.
include(CMakePackageConfigHelpers)

foreach(kind static shared)
  string(TOUPPER ${kind} kind_upper)
  add_library(clockpool_${kind} ${kind_upper} $<TARGET_OBJECTS:clockpool_objects>)
  add_library(clockpool::${kind} ALIAS clockpool_${kind})
  set_target_properties(clockpool_${kind} PROPERTIES OUTPUT_NAME clockpool EXPORT_NAME ${kind})
  target_include_directories(clockpool_${kind} PUBLIC
    $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include>
    $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
  target_link_libraries(clockpool_${kind} PUBLIC Threads::Threads
                        PRIVATE PkgConfig::URING PkgConfig::XXHASH)
endforeach()
# Before 1.0 a minor release may break the binary interface, so it is part of the soname.
set_target_properties(clockpool_shared PROPERTIES
  VERSION ${PROJECT_VERSION} SOVERSION ${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR})
# nodelete: threads of the host that have used it return their slots when they end, by code in here.
target_link_options(clockpool_shared PRIVATE -Wl,-z,noexecstack -Wl,-z,relro -Wl,-z,nodelete -Wl,--as-needed)
if(NOT CLOCKPOOL_SANITIZE)
  # A sanitizer's runtime is found in the program, not in the library.
  target_link_options(clockpool_shared PRIVATE -Wl,-z,defs)
endif()

install(TARGETS clockpool_static clockpool_shared EXPORT clockpool-targets
        ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(DIRECTORY ${PROJECT_SOURCE_DIR}/include/clockpool
        DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.h")
install(EXPORT clockpool-targets NAMESPACE clockpool::
        DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/clockpool)
install(FILES ${PROJECT_SOURCE_DIR}/LICENSE ${PROJECT_SOURCE_DIR}/README.md
              ${PROJECT_SOURCE_DIR}/CHANGELOG.md
        DESTINATION ${CMAKE_INSTALL_DOCDIR})

configure_package_config_file(${PROJECT_SOURCE_DIR}/cmake/clockpool-config.cmake.in
  ${PROJECT_BINARY_DIR}/clockpool-config.cmake
  INSTALL_DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/clockpool)
write_basic_package_version_file(${PROJECT_BINARY_DIR}/clockpool-config-version.cmake
  COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/clockpool-config.cmake
              ${PROJECT_BINARY_DIR}/clockpool-config-version.cmake
        DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/clockpool)

# The prefix is found from where the .pc file lies, so an installed tree can be moved or staged.
file(RELATIVE_PATH CP_PC_TO_PREFIX "/prefix/${CMAKE_INSTALL_LIBDIR}/pkgconfig" "/prefix")
string(REGEX REPLACE "/$" "" CP_PC_TO_PREFIX "${CP_PC_TO_PREFIX}")
configure_file(${PROJECT_SOURCE_DIR}/cmake/clockpool.pc.in ${PROJECT_BINARY_DIR}/clockpool.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/clockpool.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
