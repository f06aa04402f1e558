/* selftest.h: the tool's own arithmetic, checked by the tool. */
#ifndef CACHECASK_BENCH_SELFTEST_H
#define CACHECASK_BENCH_SELFTEST_H

#include <stdbool.h>

/* Prints what it checks; true when all of it holds. Takes about a second. */
bool selftest_run(void);

#endif
