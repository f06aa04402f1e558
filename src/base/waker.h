/* waker.h: how one thread makes another look at what has happened. */
#ifndef CACHECASK_SRC_BASE_WAKER_H
#define CACHECASK_SRC_BASE_WAKER_H

/* wake() may be called by any thread, and returns at once. */
struct waker {
    void (*wake)(void *context);
    void *context;
};

static inline void waker_wake(const struct waker *waker)
{
    waker->wake(waker->context);
}

#endif
