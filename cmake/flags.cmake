# SPDX-License-Identifier: MIT
# Compiler flags of the project's own code, as one interface target.
add_library(cp_flags INTERFACE)
target_compile_definitions(cp_flags INTERFACE _GNU_SOURCE)
target_compile_options(cp_flags INTERFACE
  -Wall -Wextra -Werror -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith
  -Wcast-qual -Wwrite-strings -Wundef -Wvla -Wconversion -Wno-sign-conversion -fno-common
  # Assertions name files; no path of the building machine belongs in a library.
  -fmacro-prefix-map=${PROJECT_SOURCE_DIR}/=)
if(CLOCKPOOL_DEBUG)
  target_compile_definitions(cp_flags INTERFACE CP_DEBUG=1)
endif()
if(CLOCKPOOL_VALGRIND)
  target_compile_definitions(cp_flags INTERFACE CP_VALGRIND=1)
endif()
if(CLOCKPOOL_COVERAGE)
  # Counters of concurrent tests must not be lost, and a forked child writes its own.
  add_compile_options(--coverage -fprofile-update=atomic)
  add_link_options(--coverage)
endif()
if(CLOCKPOOL_SANITIZE)
  # Everything that is linked needs the runtime, so these are global.
  add_compile_options(-fsanitize=${CLOCKPOOL_SANITIZE} -fno-omit-frame-pointer)
  add_link_options(-fsanitize=${CLOCKPOOL_SANITIZE})
  if(CLOCKPOOL_SANITIZE MATCHES "undefined")
    add_compile_options(-fno-sanitize-recover=all)
  endif()
  if(CLOCKPOOL_SANITIZE MATCHES "thread")
    # The code has fences beside the atomic accesses that order the data; gcc warns about each.
    if(CMAKE_C_COMPILER_ID STREQUAL "GNU")
      add_compile_options(-Wno-tsan)
    endif()
  endif()
endif()
