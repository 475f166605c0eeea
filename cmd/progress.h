/*
 * A progress bar on stderr, when that is a terminal: one line, redrawn at most ten times a second,
 * gone when the work is done. Elsewhere, and under -q, silent. One bar at a time, one thread.
 */
#ifndef PROTOFS_CMD_PROGRESS_H
#define PROTOFS_CMD_PROGRESS_H

#include <stdint.h>

/* WHAT is borrowed until progress_end. TOTAL in bytes; 0 when nobody knows it. */
void progress_begin(const char *what, uint64_t total);
void progress_at(uint64_t done);
void progress_total(uint64_t total);
void progress_add(uint64_t more);
/* Removes the bar. Harmless without one. */
void progress_end(void);

/* Clears the line for a message; the next progress_at() draws the bar again. */
void progress_hide(void);

#endif
