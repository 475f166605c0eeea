#include "cmd/progress.h"

#include <stdbool.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <protofs/clock.h>

#include "cmd/log.h"
#include "cmd/text.h"

enum { REDRAW_MS = 100, FIRST_DRAW_MS = 300, BAR_WIDTH_MAX = 40, LINE_WIDTH_DEFAULT = 80 };

static struct {
	const char *what; /* NULL: no bar */
	uint64_t done, total;
	uint64_t begun_ms, drawn_ms;
	bool visible;
} bar;

static uint64_t now_ms(void)
{
	const struct clock *clock = clock_system();
	return clock->now_ms(clock);
}

void progress_begin(const char *what, uint64_t total)
{
	if (!isatty(STDERR_FILENO) || !log_shows(LOG_LEVEL_WARNING))
		return;
	bar.what = what;
	bar.total = total;
	bar.done = 0;
	bar.begun_ms = now_ms();
	bar.drawn_ms = bar.begun_ms + FIRST_DRAW_MS - REDRAW_MS; /* short work shows nothing */
	bar.visible = false;
}

static int line_width(void)
{
	struct winsize size;
	if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) < 0 || size.ws_col < 20)
		return LINE_WIDTH_DEFAULT;
	return size.ws_col;
}

static void draw(uint64_t at_ms)
{
	char done[TEXT_SIZE_LENGTH], total[TEXT_SIZE_LENGTH], speed[TEXT_SIZE_LENGTH];
	uint64_t elapsed_ms = at_ms > bar.begun_ms ? at_ms - bar.begun_ms : 1;
	char line[256];

	(void)text_size(bar.done, done);
	(void)text_size(bar.total, total);
	(void)text_size((uint64_t)((double)bar.done * 1000.0 / (double)elapsed_ms), speed);
	if (bar.total == 0) {
		(void)snprintf(line, sizeof(line), "%s %s, %s/s", bar.what, done, speed);
	} else {
		double part = (double)bar.done / (double)bar.total;
		if (part > 1)
			part = 1;
		char hashes[BAR_WIDTH_MAX + 1];
		for (int i = 0; i < BAR_WIDTH_MAX; i++)
			hashes[i] = (double)i < part * BAR_WIDTH_MAX ? '#' : '.';
		hashes[BAR_WIDTH_MAX] = '\0';
		(void)snprintf(line, sizeof(line), "%s %3.0f %% %s %s of %s, %s/s", bar.what,
			       part * 100, hashes, done, total, speed);
	}
	(void)fprintf(stderr, "\r\033[K%.*s", line_width() - 1, line);
	(void)fflush(stderr);
	bar.visible = true;
	bar.drawn_ms = at_ms;
}

void progress_at(uint64_t done)
{
	if (!bar.what)
		return;
	bar.done = done;
	uint64_t at_ms = now_ms();
	if (at_ms >= bar.drawn_ms + REDRAW_MS)
		draw(at_ms);
}

void progress_total(uint64_t total)
{
	bar.total = total;
}

void progress_add(uint64_t more)
{
	progress_at(bar.done + more);
}

void progress_hide(void)
{
	if (!bar.visible)
		return;
	(void)fputs("\r\033[K", stderr);
	(void)fflush(stderr);
	bar.visible = false;
}

void progress_end(void)
{
	progress_hide();
	bar.what = NULL;
}
