/* SPDX-License-Identifier: MIT */
/*
 * A fuzzer without the fuzzing: run it over the files of a directory, in any build. What a fuzzer
 * once found stays a test this way.
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void run_file(const char *path)
{
    static uint8_t bytes[65536];
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        perror(path);
        exit(1);
    }
    size_t size = fread(bytes, 1, sizeof bytes, file);
    fclose(file);
    /* Of the right size, so that a sanitizer sees a read behind the end. */
    uint8_t *copy = malloc(size + 1);
    if (copy == NULL)
        exit(1);
    memcpy(copy, bytes, size);
    if (getenv("CP_TEST_VERBOSE") != NULL)
        fprintf(stderr, "%s\n", path);
    (void)LLVMFuzzerTestOneInput(copy, size);
    free(copy);
}

int main(int argc, char **argv)
{
    unsigned count = 0;
    if (argc < 2) {
        fprintf(stderr, "usage: %s DIRECTORY\n", argv[0]);
        return 2;
    }
    (void)LLVMFuzzerInitialize(&argc, &argv);
    struct dirent **entries;
    int found = scandir(argv[1], &entries, NULL, alphasort);
    for (int i = 0; i < found; i++) {
        char path[1024];
        if (entries[i]->d_name[0] != '.') {
            snprintf(path, sizeof path, "%s/%s", argv[1], entries[i]->d_name);
            run_file(path);
            count++;
        }
        free(entries[i]);
    }
    if (found >= 0)
        free(entries);
    printf("%u inputs of %s\n", count, argv[1]);
    return count > 0 ? 0 : 1;
}
