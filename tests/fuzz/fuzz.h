/* fuzz.h: what the fuzzers share.
 *
 * Each is a program of its own around libFuzzer: it is given any bytes, does with them what a
 * client, a disk or an operator might make us do, and checks what must hold whatever they are
 * (FUZZ_CHECK). The sanitizers see the rest; so that they see a read that goes one byte too far,
 * bytes are looked at in a block of exactly their length (struct block).
 *
 * The last byte of an input is no data: it chooses among the ways to run it (fuzz_take_choice). At
 * the end it leaves a seed readable, and one that is cut or joined is still one.
 */
#ifndef CACHECASK_TESTS_FUZZ_FUZZ_H
#define CACHECASK_TESTS_FUZZ_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Called by libFuzzer; the second once, before the first input. */
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);
int LLVMFuzzerInitialize(int *argc, char ***argv);

/* As assert, but never compiled out, and it says which rule was broken. */
#define FUZZ_CHECK(condition)                                                                      \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, #condition);         \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

/* Takes the last byte. */
static inline uint8_t fuzz_take_choice(const uint8_t *bytes, size_t *len)
{
    return *len > 0 ? bytes[--*len] : 0;
}

/* Random enough to cut a stream, and the same every time. */
static inline uint32_t fuzz_roll(uint32_t *dice)
{
    *dice = *dice * 1664525 + 1013904223;
    return *dice >> 16;
}

/* Of more bytes than these, single ones would take too long. */
#define FUZZ_SINGLE_MAX 600

/* How many of `left` bytes (not 0) come next: all with `cuts` 0, single ones with 1 if they are
 * not many, else any number, mostly a small one. */
static inline size_t fuzz_piece(uint32_t cuts, uint32_t *dice, size_t left)
{
    if (cuts == 0)
        return left;
    bool single = cuts == 1 && left <= FUZZ_SINGLE_MAX;
    size_t piece = single ? 1 : 1 + fuzz_roll(dice) % (fuzz_roll(dice) % 4 ? 16 : 600);
    return piece < left ? piece : left;
}

/* A copy that begins and ends where its bytes do. */
struct block {
    char *start;
    char *data;
};

static inline struct block block_of(const void *data, size_t len)
{
    struct block block;
    block.start = malloc(len ? len : 1);
    FUZZ_CHECK(block.start != NULL);
    block.data = len ? block.start : block.start + 1; /* of no bytes not one can be read */
    if (len)
        memcpy(block.data, data, len);
    return block;
}

static inline void block_free(struct block block)
{
    free(block.start);
}

/* Bytes that grow: what one way of running an input has come to, to be compared with another. */
struct summary {
    char *data;
    size_t len, room;
};

static inline void summary_add(struct summary *summary, const void *data, size_t len)
{
    if (summary->room - summary->len < len) {
        summary->room = (summary->len + len) * 2;
        summary->data = realloc(summary->data, summary->room);
        FUZZ_CHECK(summary->data != NULL);
    }
    if (len)
        memcpy(summary->data + summary->len, data, len);
    summary->len += len;
}

static inline void summary_add_number(struct summary *summary, uint64_t number)
{
    summary_add(summary, &number, sizeof number);
}

static inline bool summary_equals(const struct summary *a, const struct summary *b)
{
    return a->len == b->len && (a->len == 0 || memcmp(a->data, b->data, a->len) == 0);
}

static inline void summary_release(struct summary *summary)
{
    free(summary->data);
    *summary = (struct summary){0};
}

#endif
