# SPDX-License-Identifier: MIT
# A file as a C array: cmake -DIN=file -DOUT=file.c -DNAME=name -P embed.cmake
# defines `const unsigned char NAME[]`, which ends in a zero byte, and `const size_t NAME_length`,
# which does not count it.
file(READ "${IN}" bytes HEX)
string(LENGTH "${bytes}" digits)
math(EXPR length "${digits} / 2")
string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${bytes}")
string(REPEAT "0x..," 16 line)
string(REGEX REPLACE "(${line})" "\\1\n" bytes "${bytes}")
file(WRITE "${OUT}" "#include <stddef.h>
extern const unsigned char ${NAME}[];
extern const size_t ${NAME}_length;
const unsigned char ${NAME}[] = {
${bytes}0};
const size_t ${NAME}_length = ${length};
")
