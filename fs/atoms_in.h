/* atoms/in/: write a file, get an atom. */
#ifndef PROTOFS_FS_ATOMS_IN_H
#define PROTOFS_FS_ATOMS_IN_H

#include <stdbool.h>

struct engine_pointer;
struct fs;

/* Whether a name in atoms/in shows the atom at POINTER. */
bool atoms_in_has(struct fs *fs, const struct engine_pointer *pointer);

#endif
