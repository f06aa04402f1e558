/* signals.c: one handler for the whole life of the process.
 *
 *     starting   signals_open        a stop ends the process as if it had no handler; SIGHUP is remembered
 *     serving    the event loop      libevent's handler, which puts back ours when its events are removed
 *     stopping   signals_stopping    a stop that comes again ends the process at once
 *
 * A stop during the start needs a handler although the default action would do: process 1 of a container has no default
 * actions, so the kernel would drop the signal. Ending there is safe at any instant, as after kill -9: nobody has been
 * answered yet, and recovery may die and be run again.
 */
#define _GNU_SOURCE
#include "src/signals.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include "src/base/clock.h"
#include "src/base/server_log.h"

#define REPEAT_US 1000000 /* a signal that comes so soon after another means the same */

const int signals_stops[SIGNALS_STOPS_COUNT] = {SIGTERM, SIGINT, SIGUSR1};

static atomic_bool hung_up;
static _Atomic uint64_t stopping_since_us; /* 0: not yet */

/* Whoever waits for the process sees the signal that ended it; process 1 cannot die of one, and exits instead. */
static void end_start(int number)
{
    sigset_t only;
    sigemptyset(&only);
    sigaddset(&only, number);
    server_log_write("stopped during the start: nothing had been answered yet\n");
    signal(number, SIG_DFL);
    sigprocmask(SIG_UNBLOCK, &only, NULL);
    kill(getpid(), number);
    _exit(128 + number);
}

/* Has been asked to stop before, and is asked again: what is written to the kernel need not wait for its sync. */
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

/* Whoever started us may have left the signal blocked. */
static void handle(int number, void (*handler)(int))
{
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART};
    sigset_t only;
    sigemptyset(&only);
    sigaddset(&only, number);
    sigaction(number, &action, NULL);
    sigprocmask(SIG_UNBLOCK, &only, NULL);
}

void signals_open(void)
{
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* a file that may not grow is a failed write like others */
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
