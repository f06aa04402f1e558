/* clean_plan.c: which segment is taken back next, and why.
 *
 * A segment holds live values, garbage, and marks. A mark is a deletion, a TOUCH, or an expired
 * value: what it masks may still stand in an older segment, so cleaning its own segment may have to
 * carry it on. Its bytes are known as an upper bound, until its hint file is read to recount them.
 *
 * While less than the headroom is free on disk, each step does the first of these that it can:
 *
 *     a segment with nothing to keep            REMOVE, unread
 *     live values over their share, a cache     EVICT the oldest
 *     a segment with much to gain               MOVE what is kept of the one that has
 *                                               the most to gain for its age
 *     marks may be fewer than counted           RECOUNT the segment with the most of them
 *     marks over a 32nd of the limit            ROTATE: move the oldest segment, however
 *                                               little is dead in it
 *     a sixteenth of a segment to gain          MOVE
 *     clients wait, a cache                     EVICT the oldest
 *
 * Much is what a rotation (all live bytes are moved, all marks go) would not bring more cheaply.
 *
 * Garbage can always be taken back (G6). Each of these steps unlinks a segment, lowers a bound, or
 * rotates. A segment is not recounted before the log has grown by a quarter of the store. A
 * rotation moves the oldest segment behind all others; when each segment older than a mark's birth
 * has been moved once, the mark dies (clean_decide.c). Without it, a store whose oldest segments
 * are full of live values would keep the marks of all keys that ever came and went.
 *
 * A store is full when live values and marks take seven eighths of what is usable: the rest is what
 * cleaning lives on. A cache begins to evict at thirteen sixteenths, so that cleaning is cheap.
 * Room is a reason to evict only if clients want it, or if a start has too little for its first
 * segments, say because another file has taken the space of the ready ones (store_open.c).
 *
 * What fails is left alone for a while (clean_segment.failed), and another segment is chosen.
 */
#include "storage/clean/clean_plan.h"

#include <stddef.h>

#define HEADROOM_SEGMENTS 6
#define GAIN_SHARE        16 /* of a segment: less is not worth moving the rest */
#define MARKS_SHARE       32 /* of the limit: so many may lie about */
#define RECOUNT_AFTER     4  /* segments at least, or a quarter of them */
#define GARBAGE_MAX       (UINT64_C(1) << 30)

const char *clean_action_name(enum clean_action action)
{
    static const char *const names[] = {"nothing", "remove", "move", "recount",
                                        "rotate",  "evict",  "seal"};
    return names[action];
}

const char *clean_reason_name(enum clean_reason reason)
{
    static const char *const names[] = {"enough_room", "empty",       "garbage",    "marks",
                                        "over_share",  "disk_full",   "index_full", "room_wanted",
                                        "not_synced",  "backing_off", "no_space",   "no_garbage",
                                        "log_failed"};
    return names[reason];
}

void clean_plan_init(struct clean_plan *plan, const struct clean_view *view)
{
    *plan = (struct clean_plan){.view = *view};
    plan->headroom = HEADROOM_SEGMENTS * view->segment_size;
    if (view->limit < UINT64_MAX && view->limit / 16 > plan->headroom)
        plan->headroom = view->limit / 16;
}

static uint64_t min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* The marks that are not live bytes at the same time. Live values that nobody can move any more
 * count as marks: only a rotation frees what lies beside them. */
static uint64_t marks_of(const struct clean_segment *segment)
{
    uint64_t dead = segment->end > segment->live ? segment->end - segment->live : 0;
    return segment->damaged ? dead : min_u64(segment->marks, dead);
}

/* What cleaning a segment has to move. */
static uint64_t kept_of(const struct clean_segment *segment, bool oldest)
{
    return segment->live + (oldest ? 0 : marks_of(segment));
}

/* The bytes of a segment, with their share of its hint file. */
static uint64_t with_overhead(const struct clean_segment *segment, uint64_t bytes)
{
    return segment->end ? bytes + bytes * segment->overhead / segment->end : bytes;
}

static void note_victim(struct clean_plan *plan, const struct clean_segment *segment, uint64_t kept)
{
    uint64_t gain = segment->end > kept ? segment->end - kept : 0;
    double age = (double)(plan->view.next_lsn - segment->base_lsn);
    double score = (double)gain * age / (double)(segment->end + kept);
    if (gain == 0 || gain < segment->end / GAIN_SHARE || score <= plan->score)
        return;
    plan->victim = *segment;
    plan->score = score;
}

/* Whether moving costs less for what it brings than to rotate all segments. */
static bool is_cheap(const struct clean_plan *plan)
{
    const struct clean_segment *victim = &plan->victim;
    if (!victim->segment || plan->marks <= plan->view.limit / MARKS_SHARE)
        return victim->segment;
    uint64_t kept = kept_of(victim, victim->segment == plan->oldest.segment);
    return (double)(victim->end - kept) * (double)plan->live >= (double)kept * (double)plan->marks;
}

static void note_recount(struct clean_plan *plan, const struct clean_segment *segment)
{
    if (marks_of(segment) < segment->end / GAIN_SHARE)
        return;
    if (!plan->recount.segment || marks_of(segment) > marks_of(&plan->recount))
        plan->recount = *segment;
}

/* Whether the marks of a segment were not counted lately. */
static bool is_stale(const struct clean_plan *plan, const struct clean_segment *segment)
{
    uint64_t segments = plan->view.disk / plan->view.segment_size / 4;
    uint64_t after = segments > RECOUNT_AFTER ? segments : RECOUNT_AFTER;
    return !segment->recounted_lsn ||
           plan->view.next_lsn >= segment->recounted_lsn + after * plan->view.segment_size;
}

/* A sealed segment that may be taken back now. */
static void weigh(struct clean_plan *plan, const struct clean_segment *segment, bool oldest)
{
    uint64_t kept = kept_of(segment, oldest);
    /* What is damaged may hold more than is known, which somebody may want to rescue. */
    bool needless = kept == 0 && !segment->damaged;
    if (segment->live == 0 && (needless || segment->flushed)) {
        if (!plan->empty.segment)
            plan->empty = *segment;
        return;
    }
    if (segment->damaged && !oldest)
        return;
    if (kept <= plan->view.copy_room)
        note_victim(plan, segment, kept);
    else
        plan->no_space = true;
    if (!oldest && is_stale(plan, segment))
        note_recount(plan, segment);
}

void clean_plan_add(struct clean_plan *plan, const struct clean_segment *segment)
{
    bool oldest = plan->count++ == 0;
    plan->live += with_overhead(segment, segment->live);
    plan->marks += with_overhead(segment, oldest ? 0 : marks_of(segment));
    plan->used += segment->end + segment->overhead;
    if (oldest)
        plan->oldest = *segment;
    if (segment->active)
        return;
    if (!segment->ready)
        plan->unready = true;
    else if (segment->failed)
        plan->backing_off = true;
    else
        weigh(plan, segment, oldest);
}

/* What must be free: the headroom, or what somebody waits for. */
static uint64_t reach(const struct clean_plan *plan)
{
    return plan->headroom > plan->view.wanted ? plan->headroom : plan->view.wanted;
}

static bool is_low_on_space(const struct clean_plan *plan)
{
    return plan->view.disk + reach(plan) > plan->view.limit;
}

/* What live values may take. */
static uint64_t live_share(const struct clean_plan *plan)
{
    uint64_t limit = plan->view.limit;
    uint64_t usable = limit > reach(plan) ? limit - reach(plan) : 0;
    return plan->view.evicts ? usable / 16 * 13 : usable / 8 * 7;
}

static uint64_t garbage_of(const struct clean_plan *plan)
{
    return plan->used > plan->live ? plan->used - plan->live : 0;
}

/* The garbage that may lie about while the disk has room: the deader a segment, the less there is
 * to move. It is bounded by what a start has to read of hint files. */
static uint64_t tolerated_garbage(const struct clean_plan *plan)
{
    uint64_t share = min_u64(plan->view.limit / 8, GARBAGE_MAX);
    return share > 2 * plan->live ? share : 2 * plan->live;
}

static struct clean_choice choice_of(enum clean_action action, enum clean_reason reason,
                                     const struct clean_segment *segment)
{
    return (struct clean_choice){
        .action = action, .reason = reason, .segment = segment ? segment->segment : NULL};
}

/* The visited values of an evicted segment that live on: up to half of it while half of the
 * headroom is left, and fewer below that: an eighth at its last quarter, and none there when
 * clients wait. So the pace of eviction meets that of the writes before they have to wait. */
static uint64_t rescue_of(const struct clean_plan *plan)
{
    uint64_t disk = plan->view.disk;
    uint64_t free = plan->view.limit > disk ? plan->view.limit - disk : 0;
    uint64_t quarter = plan->headroom / 4;
    uint64_t end = plan->oldest.end;
    uint64_t rescue = plan->view.room_wanted ? 0 : end / 8;
    if (free > quarter) {
        double left = (double)(free - quarter) / (double)quarter;
        rescue = end / 8 + (uint64_t)((double)end * 3 / 8 * (left < 1 ? left : 1));
    }
    return min_u64(rescue, plan->view.copy_room / 2);
}

/* Evicts the oldest segment, or says why that cannot be. */
static struct clean_choice evict(const struct clean_plan *plan, enum clean_reason reason)
{
    const struct clean_segment *oldest = &plan->oldest;
    if (!oldest->segment)
        return choice_of(CLEAN_NOTHING, CLEAN_NO_GARBAGE, NULL);
    if (oldest->active)
        return plan->view.can_seal ? choice_of(CLEAN_SEAL, reason, NULL)
                                   : choice_of(CLEAN_NOTHING, CLEAN_NO_SPACE, NULL);
    if (!oldest->ready)
        return choice_of(CLEAN_NOTHING, CLEAN_NOT_SYNCED, NULL);
    if (oldest->failed)
        return choice_of(CLEAN_NOTHING, CLEAN_BACKING_OFF, NULL);
    struct clean_choice choice = choice_of(CLEAN_EVICT, reason, oldest);
    choice.rescue = rescue_of(plan);
    return choice;
}

static bool can_rotate(const struct clean_plan *plan)
{
    const struct clean_segment *oldest = &plan->oldest;
    return plan->marks > plan->view.limit / MARKS_SHARE && oldest->segment && !oldest->active &&
           oldest->ready && !oldest->failed && oldest->live <= plan->view.copy_room;
}

/* Why nothing can be done on a disk that is low on space. */
static enum clean_reason why_nothing(const struct clean_plan *plan)
{
    return plan->unready       ? CLEAN_NOT_SYNCED
           : plan->backing_off ? CLEAN_BACKING_OFF
           : plan->no_space    ? CLEAN_NO_SPACE
                               : CLEAN_NO_GARBAGE;
}

/* Takes garbage back, or says why there is none to be had. */
static struct clean_choice reclaim(const struct clean_plan *plan)
{
    if (is_cheap(plan))
        return choice_of(CLEAN_MOVE, CLEAN_GARBAGE, &plan->victim);
    if (plan->recount.segment)
        return choice_of(CLEAN_RECOUNT, CLEAN_MARKS, &plan->recount);
    if (can_rotate(plan))
        return choice_of(CLEAN_ROTATE, CLEAN_MARKS, &plan->oldest);
    if (plan->victim.segment)
        return choice_of(CLEAN_MOVE, CLEAN_GARBAGE, &plan->victim);
    return choice_of(CLEAN_NOTHING, why_nothing(plan), NULL);
}

static struct clean_choice choose_with_room(const struct clean_plan *plan)
{
    const struct clean_segment *victim = &plan->victim;
    bool oldest = victim->segment == plan->oldest.segment;
    bool wanted = plan->view.eager || garbage_of(plan) > tolerated_garbage(plan);
    if (wanted && victim->segment && kept_of(victim, oldest) <= victim->end / 4)
        return choice_of(CLEAN_MOVE, CLEAN_GARBAGE, victim);
    return choice_of(CLEAN_NOTHING, CLEAN_ENOUGH_ROOM, NULL);
}

static struct clean_choice choose_when_low(const struct clean_plan *plan)
{
    const struct clean_view *view = &plan->view;
    if (view->evicts && plan->live > live_share(plan)) {
        struct clean_choice choice =
            evict(plan, view->disk_is_limit ? CLEAN_DISK_FULL : CLEAN_OVER_SHARE);
        if (choice.action != CLEAN_NOTHING)
            return choice;
    }
    struct clean_choice choice = reclaim(plan);
    if (choice.action != CLEAN_NOTHING || !view->room_wanted)
        return choice;
    if (view->evicts && !plan->unready)
        return evict(plan, CLEAN_ROOM_WANTED);
    if (plan->oldest.active && view->can_seal) /* there is nothing else */
        return choice_of(CLEAN_SEAL, CLEAN_ROOM_WANTED, NULL);
    return choice;
}

static struct clean_choice choose(const struct clean_plan *plan)
{
    const struct clean_view *view = &plan->view;
    if (plan->empty.segment)
        return choice_of(CLEAN_REMOVE, CLEAN_EMPTY, &plan->empty);
    if (view->evicts && (view->index_full || view->index_wanted)) {
        struct clean_choice choice = evict(plan, CLEAN_INDEX_FULL);
        if (choice.action != CLEAN_NOTHING)
            return choice;
    }
    return is_low_on_space(plan) ? choose_when_low(plan) : choose_with_room(plan);
}

/* What a step that does nothing means for those who wait. */
static bool is_hopeless(const struct clean_plan *plan, const struct clean_choice *choice)
{
    bool nothing = choice->action == CLEAN_NOTHING &&
                   (choice->reason == CLEAN_NO_GARBAGE || choice->reason == CLEAN_NO_SPACE);
    return nothing && (!plan->view.evicts || plan->view.room_wanted || plan->view.index_wanted);
}

/* A store grows until live values and marks take their share. Marks that can still be worked off,
 * or need not be yet, are no reason to refuse. */
static uint64_t growth_of(const struct clean_plan *plan, const struct clean_choice *choice)
{
    if (plan->view.evicts)
        return UINT64_MAX;
    bool stays = choice->action == CLEAN_NOTHING && is_low_on_space(plan);
    uint64_t taken = plan->live + (stays ? plan->marks : 0);
    uint64_t share = live_share(plan);
    return share > taken ? share - taken : 0;
}

struct clean_choice clean_plan_choose(const struct clean_plan *plan)
{
    const struct clean_view *view = &plan->view;
    struct clean_choice choice = choose(plan);
    bool short_of_room = view->disk + plan->headroom / 2 > view->limit;
    choice.oldest = choice.segment && choice.segment == plan->oldest.segment;
    choice.urgent = view->room_wanted || short_of_room || choice.action == CLEAN_EVICT;
    choice.wants_sync = plan->unready && (is_low_on_space(plan) || plan->live > live_share(plan) ||
                                          choice.reason == CLEAN_NOT_SYNCED);
    choice.refuse = is_hopeless(plan, &choice);
    choice.growth = growth_of(plan, &choice);
    choice.nearly_full = choice.growth < view->segment_size;
    choice.lsn = view->next_lsn;
    choice.disk_is_limit = view->disk_is_limit;
    choice.backlog = is_low_on_space(plan) ? garbage_of(plan) : 0;
    return choice;
}
