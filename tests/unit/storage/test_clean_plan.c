/* test_clean_plan.c: the cleaner's choice always leads on: it frees space, chooses something else,
 * or says why there is nothing to do (G6, G7).
 *
 * Two kinds of tests. Adversarial snapshots, a million of them, check what must hold of each choice
 * by itself. A simulation plays a store of segments, live values and marks, at whose brim a few
 * kinds of clients work, and checks that none of them is ever refused while garbage is left. It
 * takes each step the cleaner's way; what the real one does with bytes is test_cleaner's.
 */
#include "storage/store.h"
#include "tests/unit/storage/support/basics.h"
#include "tests/unit/storage/support/random.h"

#include <stdio.h>
#include <stdlib.h>

#include "storage/clean/clean_plan.h"
#include "storage/log/segment.h"

static struct rng rng;

static int set_up(void **state)
{
    (void)state;
    rng.state = number_from_env("SEED", 1);
    return 0;
}

/* Snapshots. */

#define SNAPSHOT_MAX 40

struct snapshot {
    struct clean_view view;
    struct clean_segment segments[SNAPSHOT_MAX];
    struct segment handles[SNAPSHOT_MAX];
    uint32_t count;
};

static uint64_t below(uint64_t limit)
{
    return limit ? rng_next(&rng) % limit : 0;
}

/* Often all or nothing: there the rules meet. */
static uint64_t part_of(uint64_t bytes)
{
    switch (rng_below(&rng, 5)) {
    case 0: return 0;
    case 1: return bytes;
    case 2: return bytes / 16;
    default: return below(bytes + 1);
    }
}

static void draw_segment(struct snapshot *snapshot, uint32_t i, uint64_t size, uint64_t *lsn)
{
    bool active = i + 1 == snapshot->count;
    uint64_t end = SEGMENT_HEADER_SIZE + part_of(size - SEGMENT_HEADER_SIZE);
    snapshot->segments[i] = (struct clean_segment){
        .segment = &snapshot->handles[i],
        .base_lsn = *lsn,
        .end = end,
        .overhead = part_of(end / 2),
        .live = part_of(end - SEGMENT_HEADER_SIZE),
        .marks = part_of(end),
        .recounted_lsn = rng_one_in(&rng, 2) ? 0 : *lsn + below(size * 20),
        .active = active,
        .ready = !active && !rng_one_in(&rng, 6),
        .failed = rng_one_in(&rng, 8),
        .damaged = rng_one_in(&rng, 10),
        .flushed = rng_one_in(&rng, 20),
    };
    *lsn += end;
}

static void draw_snapshot(struct snapshot *snapshot)
{
    uint64_t size = (uint64_t)STORE_SEGMENT_SIZE_MIN << rng_below(&rng, 8), lsn = size, disk = 0;
    snapshot->count = 1 + rng_below(&rng, SNAPSHOT_MAX);
    for (uint32_t i = 0; i < snapshot->count; i++) {
        draw_segment(snapshot, i, size, &lsn);
        disk += snapshot->segments[i].end + snapshot->segments[i].overhead;
    }
    snapshot->view = (struct clean_view){
        .limit = rng_one_in(&rng, 10) ? UINT64_MAX : part_of(disk * 2),
        .disk = disk,
        .segment_size = size,
        .copy_room = part_of(4 * size),
        .wanted = rng_one_in(&rng, 5) ? below(8 * size) : 0,
        .next_lsn = lsn,
        .evicts = rng_one_in(&rng, 2),
        .disk_is_limit = rng_one_in(&rng, 3),
        .room_wanted = rng_one_in(&rng, 2),
        .index_full = rng_one_in(&rng, 6),
        .can_seal = rng_one_in(&rng, 2),
        .eager = rng_one_in(&rng, 4),
    };
    snapshot->view.index_wanted = snapshot->view.index_full && rng_one_in(&rng, 2);
}

static struct clean_choice choose(const struct snapshot *snapshot)
{
    struct clean_plan plan;
    clean_plan_init(&plan, &snapshot->view);
    for (uint32_t i = 0; i < snapshot->count; i++)
        clean_plan_add(&plan, &snapshot->segments[i]);
    return clean_plan_choose(&plan);
}

static const struct clean_segment *chosen(const struct snapshot *snapshot,
                                          const struct clean_choice *choice)
{
    return &snapshot->segments[choice->segment - snapshot->handles];
}

/* Holds for each choice that names a segment. */
static void check_segment(const struct snapshot *snapshot, const struct clean_choice *choice)
{
    const struct clean_segment *segment = chosen(snapshot, choice);
    assert_true(segment->ready && !segment->active && !segment->failed);
    assert_true(choice->oldest == (choice->segment == &snapshot->handles[0]));
    bool moves = choice->action == CLEAN_MOVE || choice->action == CLEAN_ROTATE;
    if (moves) {
        assert_true(segment->live <= snapshot->view.copy_room);
        assert_true(!segment->damaged || choice->oldest);
    }
    if (choice->action == CLEAN_EVICT || choice->action == CLEAN_ROTATE)
        assert_true(choice->oldest);
    if (choice->action == CLEAN_EVICT)
        assert_true(snapshot->view.evicts && choice->rescue <= segment->end / 2);
    if (choice->action == CLEAN_REMOVE)
        assert_true(segment->live == 0);
    if (choice->action == CLEAN_RECOUNT)
        assert_true(segment->marks > 0 && segment->recounted_lsn <= snapshot->view.next_lsn);
}

static void check_nothing(const struct snapshot *snapshot, const struct clean_choice *choice)
{
    const struct clean_view *view = &snapshot->view;
    if (choice->reason == CLEAN_ENOUGH_ROOM)
        assert_true(view->disk <= view->limit);
    if (choice->reason == CLEAN_NOT_SYNCED)
        assert_true(choice->wants_sync);
    if (choice->refuse)
        assert_true(choice->reason == CLEAN_NO_GARBAGE || choice->reason == CLEAN_NO_SPACE);
}

static void test_each_choice_can_be_carried_out(void **state)
{
    (void)state;
    struct snapshot snapshot;
    uint64_t seen[CLEAN_REASONS] = {0};
    uint64_t rounds = SLOW_BUILD ? 100000 : 1000000;
    for (uint64_t i = 0; i < rounds; i++) {
        draw_snapshot(&snapshot);
        struct clean_choice choice = choose(&snapshot);
        seen[choice.reason]++;
        if (choice.segment)
            check_segment(&snapshot, &choice);
        else if (choice.action == CLEAN_SEAL)
            assert_true(snapshot.view.can_seal);
        else
            check_nothing(&snapshot, &choice);
        assert_true(!choice.refuse || choice.action == CLEAN_NOTHING);
    }
    for (int reason = 0; reason < CLEAN_LOG_FAILED; reason++)
        assert_true(seen[reason] > 0); /* the snapshots are as different as they should be */
}

/* Garbage in one place that can be had is never passed over for a refusal, whatever the other
 * segments are like. */
static void test_garbage_is_taken_back_before_anything_is_refused(void **state)
{
    (void)state;
    struct snapshot snapshot;
    for (uint64_t i = 0; i < (SLOW_BUILD ? 50000 : 300000); i++) {
        draw_snapshot(&snapshot);
        uint32_t k = rng_below(&rng, snapshot.count);
        struct clean_segment *segment = &snapshot.segments[k];
        segment->active = segment->failed = segment->damaged = false;
        segment->ready = true;
        segment->end = snapshot.view.segment_size;
        segment->live = below(segment->end / 2);
        segment->marks = below(segment->end / 4);
        snapshot.view.copy_room = snapshot.view.segment_size;
        snapshot.view.limit = snapshot.view.disk;
        struct clean_choice choice = choose(&snapshot);
        assert_true(choice.action != CLEAN_NOTHING && !choice.refuse);
    }
}

/* Second choice: what has failed is left alone, and another is taken. */
static void test_a_segment_that_failed_is_not_chosen_and_another_is(void **state)
{
    (void)state;
    struct snapshot snapshot = {.count = 3};
    for (uint32_t i = 0; i < 3; i++)
        snapshot.segments[i] = (struct clean_segment){.segment = &snapshot.handles[i],
                                                      .base_lsn = (i + 1) * UINT64_C(65536),
                                                      .end = 65536,
                                                      .live = 1000,
                                                      .active = i == 2,
                                                      .ready = i < 2};
    snapshot.view = (struct clean_view){.limit = 1,
                                        .segment_size = 65536,
                                        .copy_room = 65536,
                                        .disk = 3 * 65536,
                                        .next_lsn = 4 * 65536};
    assert_ptr_equal(choose(&snapshot).segment, &snapshot.handles[0]);
    snapshot.segments[0].failed = true;
    assert_ptr_equal(choose(&snapshot).segment, &snapshot.handles[1]);
    snapshot.segments[1].failed = true;
    struct clean_choice choice = choose(&snapshot);
    assert_true(choice.action == CLEAN_NOTHING && choice.reason == CLEAN_BACKING_OFF);
    assert_false(choice.refuse);
}

/* Simulation. */

#define SIM_SEGMENT  (UINT64_C(64) << 10)
#define SIM_SEGMENTS 64
#define SIM_SPARES   3
#define SIM_STEPS    400 /* in a row, for one client: more is no progress */

enum sim_type { SIM_PUT, SIM_DELETE, SIM_TOUCH };

struct sim_record {
    enum sim_type type;
    uint32_t key, size, expire_s;
    uint64_t lsn, born;
};

struct sim_segment {
    struct segment handle; /* for its address */
    uint64_t base_lsn, end, live, marks, recounted_lsn;
    struct sim_record *records;
    uint32_t count, room;
    struct sim_segment *next;
};

struct sim_key {
    struct sim_segment *segment; /* NULL: absent */
    uint64_t lsn;
    uint32_t size, expire_s;
};

struct sim {
    struct sim_segment *first, *active;
    uint32_t segments, key_count, now_s;
    struct sim_key *keys;
    uint64_t next_lsn, written;
    uint64_t counts[CLEAN_SEAL + 1];
};

static void sim_roll(struct sim *sim)
{
    struct sim_segment *segment = calloc(1, sizeof *segment);
    assert_non_null(segment);
    segment->base_lsn = sim->next_lsn;
    segment->end = SEGMENT_HEADER_SIZE;
    sim->next_lsn += SEGMENT_HEADER_SIZE;
    if (sim->active)
        sim->active->next = segment;
    else
        sim->first = segment;
    sim->active = segment;
    sim->segments++;
}

static struct sim *sim_new(uint32_t key_count)
{
    struct sim *sim = calloc(1, sizeof *sim);
    assert_non_null(sim);
    sim->key_count = key_count;
    sim->keys = calloc(key_count, sizeof *sim->keys);
    assert_non_null(sim->keys);
    sim->now_s = 1;
    sim_roll(sim);
    return sim;
}

static void sim_free(struct sim *sim)
{
    struct sim_segment *next;
    for (struct sim_segment *segment = sim->first; segment; segment = next) {
        next = segment->next;
        free(segment->records);
        free(segment);
    }
    free(sim->keys);
    free(sim);
}

static uint32_t mark_size(uint32_t size)
{
    return size < SEGMENT_MASK_PUT ? size : SEGMENT_MASK_PUT;
}

static struct sim_segment *sim_append(struct sim *sim, struct sim_record record)
{
    if (sim->active->end + record.size > SIM_SEGMENT)
        sim_roll(sim);
    struct sim_segment *segment = sim->active;
    if (segment->count == segment->room) {
        segment->room = segment->room ? 2 * segment->room : 64;
        segment->records = realloc(segment->records, segment->room * sizeof *segment->records);
        assert_non_null(segment->records);
    }
    record.lsn = sim->next_lsn;
    if (record.type == SIM_DELETE && !record.born)
        record.born = record.lsn;
    segment->records[segment->count++] = record;
    segment->end += record.size;
    sim->next_lsn += record.size;
    sim->written += record.size;
    if (record.type != SIM_PUT)
        segment->marks += record.size;
    return segment;
}

/* The key's value is dead; a mark is left if it has expired. */
static void sim_drop(struct sim *sim, uint32_t key, bool expired)
{
    struct sim_key *entry = &sim->keys[key];
    entry->segment->live -= entry->size;
    if (expired)
        entry->segment->marks += mark_size(entry->size);
    entry->segment = NULL;
}

static bool sim_expired(const struct sim *sim, uint32_t expire_s)
{
    return expire_s && expire_s <= sim->now_s;
}

static void sim_point(struct sim *sim, uint32_t key, struct sim_segment *segment, uint32_t size,
                      uint32_t expire_s)
{
    sim->keys[key] = (struct sim_key){
        .segment = segment, .lsn = sim->next_lsn - size, .size = size, .expire_s = expire_s};
    segment->live += size;
}

enum sim_need { SIM_FORGET, SIM_MOVE, SIM_CARRY, SIM_BURY };

/* As in clean_segment.c. */
static enum sim_need sim_need(struct sim *sim, const struct sim_record *record, bool oldest)
{
    struct sim_key *entry = &sim->keys[record->key];
    if (entry->segment && sim_expired(sim, entry->expire_s))
        sim_drop(sim, record->key, true);
    uint64_t born = record->type == SIM_DELETE ? record->born : record->lsn;
    bool masks = !oldest && sim->first->base_lsn < born;
    bool expired = sim_expired(sim, record->expire_s);
    if (record->type == SIM_PUT && entry->segment)
        return entry->lsn == record->lsn ? SIM_MOVE : SIM_FORGET;
    if (!masks)
        return SIM_FORGET;
    if (record->type == SIM_DELETE)
        return entry->segment ? SIM_FORGET : SIM_CARRY;
    if (!entry->segment)
        return expired ? SIM_BURY : SIM_FORGET;
    return entry->expire_s == record->expire_s && entry->lsn < record->lsn ? SIM_CARRY : SIM_FORGET;
}

static void sim_unlink(struct sim *sim, struct sim_segment *segment)
{
    struct sim_segment **link = &sim->first;
    while (*link != segment)
        link = &(*link)->next;
    *link = segment->next;
    sim->segments--;
    free(segment->records);
    free(segment);
}

static void sim_clean(struct sim *sim, struct sim_segment *segment)
{
    bool oldest = segment == sim->first;
    for (uint32_t i = 0; i < segment->count; i++) {
        struct sim_record record = segment->records[i];
        struct sim_key entry = sim->keys[record.key];
        switch (sim_need(sim, &record, oldest)) {
        case SIM_FORGET: break;
        case SIM_MOVE:
            sim_drop(sim, record.key, false);
            record.expire_s = entry.expire_s;
            sim_point(sim, record.key, sim_append(sim, record), record.size, record.expire_s);
            break;
        case SIM_CARRY: sim_append(sim, record); break;
        case SIM_BURY:
            sim_append(sim, (struct sim_record){.type = SIM_DELETE,
                                                .key = record.key,
                                                .size = mark_size(record.size),
                                                .born = record.lsn});
            break;
        }
    }
    sim_unlink(sim, segment);
}

static void sim_recount(struct sim *sim, struct sim_segment *segment)
{
    uint64_t marks = 0;
    for (uint32_t i = 0; i < segment->count; i++) {
        enum sim_need need = sim_need(sim, &segment->records[i], false);
        if (need == SIM_CARRY || need == SIM_BURY)
            marks += mark_size(segment->records[i].size);
    }
    segment->marks = marks;
    segment->recounted_lsn = sim->next_lsn;
}

/* The rules that a test may take out. */
static bool no_rotation, no_recount;

static struct clean_choice sim_choose(const struct sim *sim)
{
    struct clean_view view = {
        .limit = SIM_SEGMENTS * SIM_SEGMENT,
        .disk = (sim->segments + SIM_SPARES) * SIM_SEGMENT,
        .segment_size = SIM_SEGMENT,
        .copy_room = SIM_SPARES * (SIM_SEGMENT - SEGMENT_HEADER_SIZE),
        .next_lsn = sim->next_lsn,
        .room_wanted = sim->segments + SIM_SPARES > SIM_SEGMENTS,
    };
    struct clean_plan plan;
    clean_plan_init(&plan, &view);
    for (struct sim_segment *segment = sim->first; segment; segment = segment->next) {
        struct clean_segment facts = {.segment = &segment->handle,
                                      .base_lsn = segment->base_lsn,
                                      .end = segment->end,
                                      .live = segment->live,
                                      .marks = segment->marks,
                                      .recounted_lsn =
                                          no_recount ? UINT64_MAX / 2 : segment->recounted_lsn,
                                      .active = segment == sim->active,
                                      .ready = segment != sim->active};
        clean_plan_add(&plan, &facts);
    }
    return clean_plan_choose(&plan);
}

/* One step. False: there is nothing to do. */
static bool sim_step(struct sim *sim)
{
    struct clean_choice choice = sim_choose(sim);
    struct sim_segment *segment = (struct sim_segment *)choice.segment;
    if (choice.action == CLEAN_ROTATE && no_rotation)
        return false;
    sim->counts[choice.action]++;
    switch (choice.action) {
    case CLEAN_REMOVE: sim_unlink(sim, segment); return true;
    case CLEAN_MOVE:
    case CLEAN_ROTATE: sim_clean(sim, segment); return true;
    case CLEAN_RECOUNT: sim_recount(sim, segment); return true;
    default: return false;
    }
}

/* Makes room for one more record, as the server does for a client that waits. */
static bool sim_room(struct sim *sim)
{
    for (int steps = 0; sim->segments + SIM_SPARES > SIM_SEGMENTS; steps++)
        if (steps > SIM_STEPS || !sim_step(sim))
            return false;
    return true;
}

static void sim_put(struct sim *sim, uint32_t key, uint32_t size, uint32_t expire_s)
{
    if (sim->keys[key].segment)
        sim_drop(sim, key, false);
    struct sim_record record = {.type = SIM_PUT, .key = key, .size = size, .expire_s = expire_s};
    sim_point(sim, key, sim_append(sim, record), size, expire_s);
}

static void sim_delete(struct sim *sim, uint32_t key)
{
    if (!sim->keys[key].segment)
        return;
    sim_append(sim, (struct sim_record){.type = SIM_DELETE, .key = key, .size = 56});
    sim_drop(sim, key, false);
}

static void sim_touch(struct sim *sim, uint32_t key, uint32_t expire_s)
{
    if (!sim->keys[key].segment)
        return;
    sim_append(
        sim, (struct sim_record){.type = SIM_TOUCH, .key = key, .size = 56, .expire_s = expire_s});
    sim->keys[key].expire_s = expire_s;
}

static void sim_expire(struct sim *sim)
{
    for (uint32_t key = 0; key < sim->key_count; key++)
        if (sim->keys[key].segment && sim_expired(sim, sim->keys[key].expire_s))
            sim_drop(sim, key, true);
}

/* Clients. The first `fixed` keys stay; others come and go. */
struct sim_load {
    struct sim *sim;
    uint32_t fixed, other;
};

static uint32_t next_other(struct sim_load *load)
{
    uint32_t key = load->fixed + load->other;
    load->other = (load->other + 1) % (load->sim->key_count - load->fixed);
    return key;
}

static void work_queue(struct sim_load *load)
{
    uint32_t key = next_other(load);
    sim_put(load->sim, key, 160, 0);
    sim_delete(load->sim, key);
}

static void work_expiring(struct sim_load *load)
{
    sim_put(load->sim, next_other(load), 160, load->sim->now_s + 5);
}

static void work_touches(struct sim_load *load)
{
    sim_touch(load->sim, next_other(load) % load->fixed, 1000000 + load->sim->now_s % 3);
}

static void work_some_touches(struct sim_load *load)
{
    sim_touch(load->sim, rng_below(&rng, load->fixed / 50 + 1), 1000000 + load->sim->now_s);
}

static void work_overwrites(struct sim_load *load)
{
    sim_put(load->sim, rng_below(&rng, load->fixed), 160, 0);
}

static void work_mixed(struct sim_load *load)
{
    switch (rng_below(&rng, 5)) {
    case 0: work_queue(load); break;
    case 1: work_expiring(load); break;
    case 2: work_touches(load); break;
    case 3: work_some_touches(load); break;
    default: work_overwrites(load); break;
    }
}

/* Plays a load on a store of which `live_percent` are static and live. Returns how many
 * operations were done before one was refused, or all; *written is set to the bytes of the log. */
static uint64_t play(void (*work)(struct sim_load *load), uint32_t live_percent,
                     uint64_t operations, uint64_t *written)
{
    uint32_t fixed = (uint32_t)((SIM_SEGMENTS - 5) * SIM_SEGMENT * live_percent / 100 / 160);
    struct sim_load load = {.sim = sim_new(fixed + 20000), .fixed = fixed};
    struct sim *sim = load.sim;
    uint64_t done = 0;
    for (uint32_t key = 0; key < fixed; key++)
        sim_put(sim, key, 160, 0);
    while (done < operations && sim_room(sim)) {
        work(&load);
        sim->now_s = 1 + (uint32_t)(++done / 200);
        if (done % 200 == 0)
            sim_expire(sim);
    }
    *written = sim->written;
    sim_free(sim);
    return done;
}

#define OPERATIONS (SLOW_BUILD ? 60000 : 300000)

static void test_no_client_is_refused_while_there_is_garbage(void **state)
{
    (void)state;
    void (*const works[])(struct sim_load *) = {work_queue,        work_expiring,   work_touches,
                                                work_some_touches, work_overwrites, work_mixed};
    const uint32_t percents[] = {10, 50, 75, 84};
    uint64_t written;
    for (size_t i = 0; i < sizeof works / sizeof *works; i++)
        for (size_t k = 0; k < sizeof percents / sizeof *percents; k++)
            if (play(works[i], percents[k], OPERATIONS, &written) != OPERATIONS)
                give_up("work %d with %d %% live is refused", (int)i, (int)percents[k]);
}

/* Without the rule the same load does get stuck: so the test above does look at what it is for. */
static void test_without_rotation_a_static_half_keeps_all_marks(void **state)
{
    (void)state;
    uint64_t written;
    no_rotation = true;
    uint64_t done = play(work_queue, 50, OPERATIONS, &written);
    no_rotation = false;
    assert_true(done < OPERATIONS);
}

/* Nearly all TOUCHes of a few keys are superseded: who counts finds them dead, and has nothing
 * to move. */
static void test_recounts_spare_rotations(void **state)
{
    (void)state;
    uint64_t with, without;
    assert_true(play(work_some_touches, 84, OPERATIONS, &with) == OPERATIONS);
    no_recount = true;
    assert_true(play(work_some_touches, 84, OPERATIONS, &without) == OPERATIONS);
    no_recount = false;
    assert_true(with < without / 2);
}

#define TEST(name) cmocka_unit_test_setup(test_##name, set_up)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(each_choice_can_be_carried_out),
        TEST(garbage_is_taken_back_before_anything_is_refused),
        TEST(a_segment_that_failed_is_not_chosen_and_another_is),
        TEST(no_client_is_refused_while_there_is_garbage),
        TEST(without_rotation_a_static_half_keeps_all_marks),
        TEST(recounts_spare_rotations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
