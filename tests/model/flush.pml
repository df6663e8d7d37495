/* SPDX-License-Identifier: MIT */
/*
 * Who flushes the log, and who wakes whom (wal/flush.c): THREADS threads append and want what they
 * appended to be durable; one at a time leads, up to FLIGHTS writes are under way, the others wait
 * in a queue for each of these and one for the next.
 *
 * What is kept: the reservation and the publication of a group as two steps; flush_lock, what is
 * done under it being one step; the queues with their futex words, a wait being one step that
 * sleeps only when the word is as seen; waking after the lock has been let go; the walk over what has been published; a leader who gives the
 * role up before his write, or keeps it, or waits to be alone; writes that end in any order and may
 * fail. What is left out: bytes, fillers, and failures that are told to another write. A group is
 * one position of the log.
 *
 * To hold: nobody returns 0 before his group is durable, and all before it; there is one leader at
 * a time; nobody sleeps for ever, which shows as an invalid end state.
 *
 * Rule breakers, each of which must be found:
 *     NO_HEIR        a leader who is done wakes nobody of the next queue
 *     NO_HANDOVER    who was woken to lead and leaves without doing so wakes no other
 *     SLEEP_BLINDLY  a waiter sleeps although the word has changed since he looked
 *     NO_WALK        the leader takes what is reserved for published
 *     ANY_ORDER      durable moves with whichever write ends
 *     NO_LANDING     a leader who waits to be alone is not told that a write has ended
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
#define GROUPS   (FIRST_COMMITS + (THREADS - 1) * COMMITS)
#define FLIGHTS  2
#define QUEUES   (FLIGHTS + 1)
#define LANDINGS QUEUES /* the futex word behind those of the queues */
#define NONE     255

typedef Queue {
    byte word;
    byte waiters; /* waiter_count */
    byte want;
};

typedef Flight {
    byte target; /* 0: being found out */
    byte riders;
    bit landed;
};

byte reserved, taken, durable;
bit published[GROUPS], written[GROUPS]; /* written: ghost */
bool leading, failed, heir_woken;
byte first_flight, next_flight;
Flight flight[FLIGHTS];
Queue queue[QUEUES + 1]; /* the last: landings */
byte asleep[THREADS];    /* in the futex: the queue's index, or NONE */
byte leaders;            /* ghost */

#define NEXT_QUEUE   (next_flight % QUEUES)
#define RIDERS(back) flight[(next_flight + FLIGHTS - (back)) % FLIGHTS].riders
#define MAY_BEGIN(count)                                                                           \
    (!leading && (next_flight == first_flight || (next_flight - first_flight < FLIGHTS &&          \
      2 * (count) >= (next_flight - first_flight) * (RIDERS(1) + RIDERS(2)))))

inline wake_all(q)
{
    t = 0;
    do
    :: t < THREADS -> if :: asleep[t] == q -> asleep[t] = NONE :: else fi; t++
    :: else -> break
    od;
    t = 0
}

/* One of those who sleep, whichever the kernel likes; none, when none does yet. */
inline wake_one(q)
{
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

inline hand_on()
{
    if
    :: queue[NEXT_QUEUE].waiters != 0 && !heir_woken && MAY_BEGIN(queue[NEXT_QUEUE].waiters) ->
        heir_woken = true;
        wake_one(NEXT_QUEUE)
    :: else -> skip
    fi
}

/* All who wait in a queue will be woken: they are counted no longer. */
inline release(q)
{
    queue[q].word++;
    queue[q].waiters = 0;
    woken = woken | (1 << (q))
}

inline begin()
{
    leading = true;
    heir_woken = false;
    number = next_flight;
    next_flight++;
    want = queue[number % QUEUES].want;
    if :: upto > want -> want = upto :: else -> skip fi;
    queue[number % QUEUES].want = 0;
    flight[number % FLIGHTS].target = 0;
    flight[number % FLIGHTS].landed = 0;
    flight[number % FLIGHTS].riders = 1;
    leaders++;
    assert(leaders == 1)
}

/* Under the lock: is an earlier flight than the leader's own under way? Then how landings stand. */
inline look_whether_alone()
{
    t = first_flight;
    others = 0;
    do
    :: t < number -> others = others + 1 - flight[t % FLIGHTS].landed; t++
    :: else -> break
    od;
    t = 0;
    if :: failed -> others = 0 :: else -> skip fi;
    seen = queue[LANDINGS].word
}

inline land()
{
    flight[number % FLIGHTS].landed = 1;
    queue[LANDINGS].word++;
    if
    :: code != 0 ->
        failed = true;
        t = 0;
        do
        :: t < QUEUES -> release(t); t++
        :: else -> break
        od
    :: else -> skip
    fi;
#ifdef ANY_ORDER
    if :: code == 0 && at > durable -> durable = at :: else -> skip fi;
#endif
    do
    :: !failed && first_flight < next_flight && flight[first_flight % FLIGHTS].landed ->
        durable = flight[first_flight % FLIGHTS].target;
        release(first_flight % QUEUES);
        first_flight++
    :: else -> break
    od;
#ifndef NO_LANDING
    if :: leading -> wake_all(LANDINGS) :: else -> skip fi
#endif
}

inline futex_wait(q)
{
    atomic { /* compares and sleeps in one step */
        if
#ifdef SLEEP_BLINDLY
        :: true -> asleep[id] = q
#else
        :: queue[q].word != seen -> skip
        :: else -> asleep[id] = q
#endif
        fi
    }
    asleep[id] == NONE
}

proctype thread(byte id)
{
    byte round, upto, want, at, code, n, number, seen, t, others, woken;
    bit keep;

append:
    if
    :: round == (id == 0 -> FIRST_COMMITS : COMMITS) -> goto end
    :: else -> skip
    fi;
    atomic { round++; upto = reserved + 1; reserved++ }
    atomic { published[upto - 1] = 1; if :: durable >= upto -> goto done :: else -> skip fi }

decide: /* under the lock */
    atomic {
        if
        :: failed || durable >= upto ->
#ifndef NO_HANDOVER
            hand_on();
#endif
            goto done
        :: else -> skip
        fi;
        n = first_flight;
        do
        :: n < next_flight && flight[n % FLIGHTS].target < upto -> n++
        :: else -> break
        od;
        if
        :: n == next_flight && MAY_BEGIN(queue[n % QUEUES].waiters + 1) -> n = 0; begin()
        :: else ->
            seen = queue[n % QUEUES].word;
            if :: upto > queue[n % QUEUES].want -> queue[n % QUEUES].want = upto :: else fi;
            queue[n % QUEUES].waiters++;
            goto wait
        fi
    }

    /* lead: the walk, at least up to want */
    atomic { at = taken }
#ifdef NO_WALK
    atomic { at = reserved }
#else
    do
    :: at < want -> atomic { published[at] -> at++ }
    :: else -> break
    od;
    skip; /* Spin wants no jump into a d_step */
    d_step {
        do
        :: at < reserved && published[at] -> at++
        :: else -> break
        od
    }
#endif
    atomic { flight[number % FLIGHTS].target = at }
    if /* does it enter another segment? */
    :: skip
    :: atomic { look_whether_alone() }
        do
        :: others != 0 -> futex_wait(LANDINGS); atomic { look_whether_alone() }
        :: else -> seen = 0; break
        od
    fi;
    skip;
    d_step {
        want = taken;
        do
        :: want < at -> assert(published[want]); want++
        :: else -> break
        od;
        want = taken; /* what is written: [want, at) */
        taken = at
    }
    if /* does it end at a unit's end? */
    :: keep = 1
    :: atomic {
        flight[number % FLIGHTS].riders = queue[number % QUEUES].waiters + 1;
        leaders--;
        leading = false;
        hand_on()
       }
    fi;
    if /* write and sync */
    :: d_step {
        do
        :: want < at -> written[want] = 1; want++
        :: else -> break
        od
       }
    :: code = 1
    fi;
    atomic {
        if
        :: keep ->
            flight[number % FLIGHTS].riders = queue[number % QUEUES].waiters + 1;
            leaders--;
            leading = false
        :: else -> skip
        fi;
        land();
#ifndef NO_HEIR
        hand_on();
#endif
        at = 0; want = 0; keep = 0; code = 0
    }
    do /* the lock has been let go */
    :: woken != 0 ->
        d_step {
            n = 0;
            do
            :: !((woken >> n) & 1) -> n++
            :: else -> break
            od;
            wake_all(n);
            woken = woken & ~(1 << n);
            n = 0
        }
    :: else -> break
    od;
    atomic {
        if
        :: first_flight > number -> number = 0; goto done
        :: else -> number = 0; goto decide
        fi
    }

wait:
    futex_wait(n % QUEUES);
    if
    :: atomic { first_flight > n -> seen = 0; n = 0; goto done }
    :: atomic {
        first_flight <= n ->
        seen = 0
       }
    fi;
    atomic { /* under the lock */
        if
        :: first_flight > n || failed -> skip
        :: else ->
            queue[n % QUEUES].waiters--;
            if :: n == next_flight -> heir_woken = false :: else -> skip fi
        fi;
        n = 0;
        goto decide
    }

done:
    skip;
    d_step {
        assert(failed || durable >= upto);
        t = 0;
        do
        :: durable >= upto && t < upto -> assert(written[t]); t++
        :: else -> break
        od;
        upto = 0;
        t = 0
    }
    goto append;
end:
    skip
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
