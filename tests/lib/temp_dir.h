/* A directory for one test. */
#ifndef PROTOFS_TESTS_LIB_TEMP_DIR_H
#define PROTOFS_TESTS_LIB_TEMP_DIR_H

enum { TEMP_DIR_SIZE = 64 };

/* Makes one and writes its path to PATH. A test that gets none stops. */
void temp_dir_make(char path[static TEMP_DIR_SIZE]);
/* With all that is in it. */
void temp_dir_remove(const char *path);

#endif
