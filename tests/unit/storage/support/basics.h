/* basics.h: what every test of storage/ needs. */
#ifndef CACHECASK_TESTS_UNIT_STORAGE_SUPPORT_BASICS_H
#define CACHECASK_TESTS_UNIT_STORAGE_SUPPORT_BASICS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

/* 1 in a build with the address or thread sanitizer, in which tests do less of the same. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SLOW_BUILD 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SLOW_BUILD 1
#endif
#endif
#ifndef SLOW_BUILD
#define SLOW_BUILD 0
#endif

/* Ends the program, when a helper cannot do its work: a test need not look at its result. */
_Noreturn __attribute__((format(printf, 1, 2))) void give_up(const char *format, ...);

/* A number from the environment, or `otherwise`. */
uint64_t number_from_env(const char *name, uint64_t otherwise);

#define SOON_MS 60000 /* waiting longer for a background thread is a failure */

/* Waits until `done` returns true; false when it does not within SOON_MS. */
bool wait_until(bool (*done)(void *context), void *context);

#endif
