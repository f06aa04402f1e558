/* strict_bool.h: true and false that are no numbers, for tests/check_static.
 *
 * To C11 they are ints like any other, so nobody hears of a call that still says `false` where a
 * parameter has become a size. As pointers they convert to bool, and to a number only with an
 * error.
 */
#ifndef CACHECASK_TESTS_STRICT_BOOL_H
#define CACHECASK_TESTS_STRICT_BOOL_H

#include <stdbool.h>

struct no_number;

#undef true
#undef false
#define true ((struct no_number *)1)
#define false ((struct no_number *)0)

#endif
