/* Which modules a mount has. The order is that of their start; they stop in reverse. */
#include "fs/core.h"

const struct module *const fs_modules[FS_MODULES] = {
	[FS_MODULE_TOP] = &module_top,     [FS_MODULE_SPACE] = &module_space,
	[FS_MODULE_WAL] = &module_wal,     [FS_MODULE_WAL_IN] = &module_wal_in,
	[FS_MODULE_ATOMS] = &module_atoms, [FS_MODULE_ATOMS_IN] = &module_atoms_in,
	[FS_MODULE_ROOTS] = &module_roots, [FS_MODULE_CTL] = &module_ctl,
};
