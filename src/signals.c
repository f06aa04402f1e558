/* signals.c: one handler for the whole life of the process.
 *
 *     starting   signals_open        a stop ends the process as by default; SIGHUP is remembered
 *     serving    the event loop      libevent's handler, which restores ours when its events go
 *     stopping   signals_stopping    another stop ends the process at once
 *
 * The default action would do for a stop during the start, but process 1 of a container has no
 * default actions: the kernel would drop the signal. To end there is as safe as kill -9, at any
 * instant: nobody has been answered yet, and recovery may be interrupted and repeated.
 */
#include "src/signals.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include "src/base/clock.h"
#include "src/base/server_log.h"

#define REPEAT_US 1000000 /* a signal so soon after another means the same */

const int signals_stops[SIGNALS_STOPS_COUNT] = {SIGTERM, SIGINT, SIGUSR1};

static atomic_bool hung_up;
static _Atomic uint64_t stopping_since_us; /* 0: not yet */

/* The signal may be blocked: such masks are inherited. */
static void unblock(int number)
{
    sigset_t only;
    sigemptyset(&only);
    sigaddset(&only, number);
    sigprocmask(SIG_UNBLOCK, &only, NULL);
}

/* The parent sees which signal ended the process. Process 1 cannot die of one: it exits. */
static void end_start(int number)
{
    server_log_write("stopped during the start: nothing had been answered yet\n");
    signal(number, SIG_DFL);
    unblock(number);
    kill(getpid(), number);
    _exit(128 + number);
}

/* The second request to stop. What has been written to the kernel survives without a sync. */
static void end_at_once(uint64_t since_us)
{
    if (clock_monotonic_us() - since_us < REPEAT_US)
        return;
    server_log_write("ended at once: what was answered is written, but not all of it is synced\n");
    _exit(EXIT_FAILURE);
}

static void on_stop(int number)
{
    uint64_t since_us = atomic_load(&stopping_since_us);
    if (since_us)
        end_at_once(since_us);
    else
        end_start(number);
}

static void on_hangup(int number)
{
    (void)number;
    atomic_store(&hung_up, true);
}

static void handle(int number, void (*handler)(int))
{
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART};
    sigaction(number, &action, NULL);
    unblock(number);
}

void signals_open(void)
{
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* a file at its largest size is a failed write like others */
    handle(SIGHUP, on_hangup);
    for (int i = 0; i < SIGNALS_STOPS_COUNT; i++)
        handle(signals_stops[i], on_stop);
}

bool signals_take_hangup(void)
{
    return atomic_exchange(&hung_up, false);
}

void signals_stopping(void)
{
    atomic_store(&stopping_since_us, clock_monotonic_us());
}
