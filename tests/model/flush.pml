/* SPDX-License-Identifier: MIT */
/*
 * Who flushes the log, and who wakes whom (wal/flush.c): THREADS threads append and want what they
 * appended to be durable; one leads, the others wait in one of two queues.
 *
 * What is kept: the reservation and the publication of a group as two steps; flush_lock; the two
 * queues with their futex words, a wait being one step that sleeps only when the word is as seen;
 * the leader's walk over what has been published; a write that may fail. What is left out: bytes.
 * A group is one position of the log.
 *
 * To hold: nobody returns 0 before his group is durable, there is one leader at a time, and nobody
 * sleeps for ever, which shows as an invalid end state.
 *
 * Rule breakers, each of which must be found:
 *     NO_HEIR        the leader wakes nobody of the next queue
 *     NO_HANDOVER    who was woken to lead and leaves without doing so wakes no other
 *     SLEEP_BLINDLY  a waiter sleeps although the word has changed since he looked
 *     NO_WALK        the leader takes what is reserved for published
 */
#ifndef THREADS
#define THREADS 3
#endif
#ifndef COMMITS
#define COMMITS 1 /* by each but the first thread, who makes FIRST_COMMITS */
#endif
#ifndef FIRST_COMMITS
#define FIRST_COMMITS 2
#endif
#define GROUPS (FIRST_COMMITS + (THREADS - 1) * COMMITS)
#define NONE   255

typedef Queue {
    byte word;
    byte waiters; /* waiter_count */
    byte want;
};

byte reserved, durable;
bit published[GROUPS];
bool locked; /* flush_lock */
bool leading, failed, heir_woken;
byte current, flush_target;
Queue queue[2];
byte asleep[THREADS]; /* in the futex: the queue's index, or NONE */
byte leaders;         /* ghost */

#define lock()   atomic { !locked -> locked = true }
#define unlock() locked = false

inline wake_all(q)
{
    d_step {
        queue[q].word++;
        t = 0;
        do
        :: t < THREADS -> if :: asleep[t] == q -> asleep[t] = NONE :: else fi; t++
        :: else -> break
        od;
        t = 0;
    }
}

/* One of those who sleep, whichever the kernel likes; none, when none does yet. */
inline wake_one(q)
{
    atomic {
        queue[q].word++;
        if
        :: asleep[0] == q -> asleep[0] = NONE
        :: asleep[1] == q -> asleep[1] = NONE
#if THREADS > 2
        :: asleep[2] == q -> asleep[2] = NONE
#endif
#if THREADS > 3
        :: asleep[3] == q -> asleep[3] = NONE
#endif
        :: else -> skip
        fi
    }
}

inline wake_heir()
{
    atomic {
        heir_woken = queue[1 - current].waiters != 0;
        if
        :: heir_woken -> wake_one(1 - current)
        :: else -> queue[1 - current].word++
        fi
    }
}

/* Under the lock, and again at the end. */
inline lead()
{
    assert(!leading);
    atomic {
        leading = true;
        current = 1 - current;
        want = (upto > queue[current].want -> upto : queue[current].want);
        queue[current].want = 0;
        flush_target = 0;
        unlock();
    }
    leaders++;
    assert(leaders == 1);
    at = durable;
    target = reserved; /* the walk goes no further than what is reserved when it begins */
    do
    :: atomic { at < target && published[at] -> at++ }
    :: atomic { at < target && !published[at] && at >= want -> break }
    :: atomic { at >= target -> break }
#ifdef NO_WALK
    :: atomic { at < target -> at++ }
#endif
    od;
    lock();
    atomic { flush_target = at; unlock() }
    /* write and sync: what is written must be there to be written */
    if
    :: code = 0
    :: code = 1
    fi;
    want = durable;
    do
    :: want < at -> assert(published[want]); want++
    :: else -> break
    od;
    leaders--;
    lock();
    atomic {
        leading = false;
        if
        :: code == 0 -> durable = at
        :: else -> failed = true; wake_all(1 - current)
        fi;
        wake_all(current);
#ifndef NO_HEIR
        wake_heir();
#endif
        at = 0; target = 0; want = 0;
    }
}

inline wait_in()
{
    atomic {
        seen = queue[index].word;
        if :: upto > queue[index].want -> queue[index].want = upto :: else fi;
        queue[index].waiters++;
        unlock();
    }
    atomic { /* the futex compares and sleeps in one step */
        if
#ifdef SLEEP_BLINDLY
        :: true -> asleep[id] = index
#else
        :: queue[index].word != seen -> skip
        :: else -> asleep[id] = index
#endif
        fi
    }
    asleep[id] == NONE;
    lock();
    atomic {
        queue[index].waiters--;
        if :: index != current -> heir_woken = false :: else fi;
        index = 0; seen = 0;
    }
}

proctype thread(byte id)
{
    byte round, upto, want, at, target, code, index, seen, t;

    do
    :: round < (id == 0 -> FIRST_COMMITS : COMMITS) ->
        round++;
        atomic { upto = reserved + 1; reserved++ } /* append */
        published[upto - 1] = 1;
        /* cp_wal_flush */
        if
        :: durable >= upto -> goto done
        :: else -> skip
        fi;
        lock();
        code = 0;
        do
        :: code == 0 && durable < upto ->
            if
            :: failed -> code = 1
            :: !failed && !leading -> lead()
            :: !failed && leading ->
                index = (upto <= flush_target -> current : 1 - current);
                wait_in()
            fi
        :: else -> break
        od;
#ifndef NO_HANDOVER
        if
        :: !leading && !heir_woken && queue[1 - current].waiters != 0 ->
            heir_woken = true;
            wake_one(1 - current)
        :: else -> skip
        fi;
#endif
        unlock();
        assert(code != 0 || durable >= upto);
done:
        upto = 0; code = 0;
    :: else -> break
    od
}

init {
    byte i;
    atomic {
        for (i : 0 .. THREADS - 1) {
            asleep[i] = NONE;
        }
        for (i : 0 .. THREADS - 1) {
            run thread(i);
        }
    }
}
