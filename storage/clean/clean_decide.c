/* clean_decide.c: what becomes of a record when its segment is taken back.
 *
 * What is carried, or the dead rise (each rule is the reason for one line of `decide`;
 * tests/mutations breaks each of them)
 *   The log's last record of a key is its state, and what stands before it is masked by it. A
 *   record may be forgotten when something that stays in the log masks what it masked, or nothing
 *   older is left (it is in the oldest segment).
 *   - A value that the keydir points to is moved. It takes its expiry from the keydir, as the
 *     TOUCHes behind its old place no longer stand behind it, and keeps its CAS unique.
 *   - A value that was replaced or deleted is forgotten: the later record masks more.
 *   - A deletion is carried while its key is absent and a segment is left that begins before the
 *     deletion was born.
 *   - A value that has expired by its own expiry, and whose key is absent, has masked what is older
 *     and becomes a deletion. So does a TOUCH that has expired. (An expired value without an expiry
 *     of its own has such a TOUCH behind it.)
 *   - A TOUCH is carried while the key's value lies before it and still has its expiry; of several
 *     in a segment only the last.
 *   - What lies before a flush is forgotten; nothing is moved from before a flush to behind it.
 *
 * Born is the LSN from which on nothing can be masked: a deletion's own, or that of the expired
 * value or TOUCH that it replaces. Carrying keeps it, so one move of all segments ends the mark.
 */
#include "storage/clean/clean_job.h"

uint64_t clean_born(const struct job *job, const struct hint_entry *hinted)
{
    bool known = hinted->type == RECORD_DELETE && hinted->expire_s;
    return known ? hint_born_lsn(hinted->expire_s) : lsn_at(job, hinted);
}

/* What is done with a value that the keydir names. */
static enum action decide_live(const struct job *job, const struct keydir_entry *entry)
{
    if (!job->order.evict)
        return ACTION_MOVE;
    return store_was_visited(entry->location) && location_size(entry->location) <= job->order.rescue
               ? ACTION_MOVE
               : ACTION_LEAVE;
}

static bool is_dead(const struct store *store, const struct keydir_entry *entry)
{
    return clean_has_expired(store, entry->expire_s) ||
           store_lsn_of(store, entry->location) < atomic_load(&store->log.flush_lsn);
}

void clean_drop_dead(struct store *store, struct keydir_shard *shard, struct keydir_ref ref,
                     const struct keydir_entry *entry)
{
    if (clean_has_expired(store, entry->expire_s)) {
        store_count_expired(store, entry->location);
        store_mark_expired(store, shard, entry->location);
    }
    store_mark_dead(store, entry->location);
    keydir_remove(shard, ref);
}

/* With the key's shard locked. `entry` is NULL when the key is absent; `born` is a mark's. */
static enum action decide(const struct job *job, const struct hint_entry *hinted, uint64_t born,
                          const struct keydir_entry *entry)
{
    const struct store *store = job->store;
    uint64_t lsn = lsn_at(job, hinted);
    bool flushed = lsn < atomic_load(&store->log.flush_lsn);
    /* There may be something older that it masks. */
    bool masks = !job->order.oldest && !flushed && job->first_lsn < born;
    bool expired = clean_has_expired(store, hinted->expire_s);
    switch (hinted->type) {
    case RECORD_PUT:
        if (entry)
            return clean_names(job, hinted, entry->location) ? decide_live(job, entry)
                                                             : ACTION_FORGET;
        return expired && masks ? ACTION_TOMBSTONE : ACTION_FORGET;
    case RECORD_DELETE: return !entry && masks ? ACTION_CARRY : ACTION_FORGET;
    case RECORD_TOUCH:
        if (!masks)
            return ACTION_FORGET;
        if (!entry)
            return expired ? ACTION_TOMBSTONE : ACTION_FORGET;
        return entry->expire_s == hinted->expire_s && store_lsn_of(store, entry->location) < lsn
                   ? ACTION_CARRY
                   : ACTION_FORGET;
    default: return ACTION_FORGET; /* FLUSH: its effect hangs on its place; headers repeat it */
    }
}

void clean_lock_and_decide(const struct job *job, const struct hint_entry *hinted, uint64_t born,
                           struct decision *decision)
{
    decision->shard = store_shard_of(job->store, hinted->shard_bits);
    keydir_lock(decision->shard);
    bool present = hinted->type != RECORD_FLUSH &&
                   keydir_find(decision->shard, hinted->tag, &decision->ref, &decision->entry);
    if (present && is_dead(job->store, &decision->entry)) {
        clean_drop_dead(job->store, decision->shard, decision->ref, &decision->entry);
        present = false;
    }
    decision->action = decide(job, hinted, born, present ? &decision->entry : NULL);
}

void clean_prefetch(const struct job *job, uint64_t first)
{
    uint64_t end = first + CLEAN_GROUP < job->hint.count ? first + CLEAN_GROUP : job->hint.count;
    const struct hint_entry *entries = job->entries;
    for (uint64_t i = first; i < end; i++)
        keydir_prefetch(store_shard_of(job->store, entries[i].shard_bits), entries[i].tag);
    for (uint64_t i = first; i < end; i++) {
        const struct keydir_shard *shard = store_shard_of(job->store, entries[i].shard_bits);
        bool elsewhere;
        uint64_t location = keydir_guess(shard, entries[i].tag, &elsewhere);
        if (location_in_ram(location))
            __builtin_prefetch(location_item(location));
    }
}
