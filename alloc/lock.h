/* SPDX-License-Identifier: MIT */
/*
 * The one kind of lock of this module: held for tens of nanoseconds, so a waiter spins for about as
 * long before it sleeps. With plain mutexes the sleeping and waking cost two threads ten times the
 * work done under the lock (bench_alloc; figures in README.md).
 */
#ifndef CLOCKPOOL_ALLOC_LOCK_H
#define CLOCKPOOL_ALLOC_LOCK_H

#include <pthread.h>

#include <clockpool/base/thread.h>

#define CP_ALLOC_LOCK_SPINS 200u /* about 5 us of pauses, some twenty operations of a holder */

static inline void cp_alloc_lock(pthread_mutex_t *lock)
{
    for (unsigned spin = 0; spin < CP_ALLOC_LOCK_SPINS; spin++) {
        if (pthread_mutex_trylock(lock) == 0)
            return;
        cp_cpu_relax();
    }
    pthread_mutex_lock(lock);
}

#endif
