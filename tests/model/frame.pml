/* SPDX-License-Identifier: MIT */
/*
 * The life of a frame, as bufpool/ drives it through the state words of the pages: two pages that
 * share FRAMES frames, and everybody who may touch them.
 *
 * What is kept: the steps in which the code touches shared memory, one each; a compare-and-swap is
 * one step. A page's bytes are two halves, so that a copy takes two steps and can be torn. What is
 * left out: waiting (a process that cannot go on is blocked by its guard), the ref and waiters
 * marks, which decide nothing, and weak memory: Spin interleaves, it does not reorder.
 *
 * Ghosts, which no process decides by: truth (what the page holds at present, bumped by the
 * writer), truth_lsn (where the log of that change ends).
 *
 * Rule breakers, each of which must be found:
 *     NO_RECHECK      the optimistic reader does not look at the word again
 *     NO_LOG_WAIT     write-back does not wait for the log
 *     FORGET_VERSION  a page's version begins at 1 whenever it is loaded
 *     NO_WRITER_MARK  two write-backs of one page do not know of each other
 *     WRITE_SHARED    the writer takes a page that is held shared
 *
 * TWO_LOADERS: another cast, for what takes two frames: two misses of one page at a time.
 */
#ifndef FRAMES
#define FRAMES 1
#endif
/* How often each does what it does. Three loads and two evictions let a frame go from one page to
 * the other and back while the optimistic reader sleeps. */
#ifndef READS
#define READS 1
#endif
#ifndef WRITES
#define WRITES 2
#endif
#ifndef LOADS
#define LOADS 3
#endif
#ifndef EVICTIONS
#define EVICTIONS 2
#endif
#ifndef WRITE_BACKS
#define WRITE_BACKS 1 /* of each of two */
#endif
#define PAGES 2

#define FREE      0
#define LOADING   254
#define EXCLUSIVE 255
#define NOBODY    255 /* frame.page: the frame holds no page */

typedef Word {
    bit present; /* 0: the word is all zeros, "absent" */
    bit dirty;
    byte latch;
    byte frame;
    byte version;
};
typedef Frame {
    bit used;    /* not in the allocator */
    bit writing; /* claimed for write-back */
    byte page;   /* frame->word, really: the word's page */
    byte lsn;
    byte generation; /* slots[].generation, which outlives the page */
    byte half[2];
};
typedef Image {
    byte half[2];
};

Word word[PAGES];
Frame frame[FRAMES];
Image disk[PAGES];
byte log_end, durable;
byte truth[PAGES], truth_lsn[PAGES];

#define readable(p) (word[p].present && word[p].latch < LOADING)
#define absent(p) (!word[p].present && frames_unused)
#define to_write(p) (readable(p) && word[p].dirty)
#define unused(f) (!frame[f].used)
#define occupied(f) (frame[f].page != NOBODY)
#define unlatched(p) (word[p].present && word[p].latch == FREE)
/* Choose a page for which the condition holds; not executable while there is none. */
#define choose(p, condition) if :: condition(0) -> p = 0 :: condition(1) -> p = 1 fi
/* Contents of a page in a version: no two pages have one in common. */
#define content(p, v) ((v) * PAGES + (p))

#if FRAMES == 1
#define choose_frame(f, condition) condition(0); f = 0
#define frames_unused unused(0)
#else
#define choose_frame(f, condition) if :: condition(0) -> f = 0 :: condition(1) -> f = 1 fi
#define frames_unused (unused(0) || unused(1))
#endif

/* ---- cp_bufpool_read -------------------------------------------------------------------------- */

proctype optimistic_reader()
{
    byte p, f, version, first, second, expected, round;

    do
    :: round < READS ->
        round++;
end_absent:
        atomic { /* cp_optimistic_begin: one load */
            choose(p, readable);
            f = word[p].frame;
            version = word[p].version;
            expected = content(p, truth[p]);
        }
        first = frame[f].half[0];
        second = frame[f].half[1];
#ifndef NO_RECHECK
        if /* cp_optimistic_validate: one load */
        :: readable(p) && word[p].frame == f && word[p].version == version -> skip
        :: else -> goto thrown_away
        fi;
#endif
        assert(first == expected);
        assert(second == expected);
thrown_away:
        first = 0; second = 0; f = 0; version = 0; expected = 0;
    :: else -> break
    od
}

/* ---- cp_bufpool_fix, shared and exclusive ------------------------------------------------------ */

#ifndef TWO_LOADERS
proctype shared_reader()
{
    byte p, f, round;

    do
    :: round < READS ->
        round++;
end_absent:
        atomic { /* the swap of try_latch */
            choose(p, readable);
            word[p].latch++;
            f = word[p].frame;
        }
        assert(frame[f].half[0] == content(p, truth[p]));
        assert(frame[f].half[1] == content(p, truth[p]));
        word[p].latch--;
        f = 0;
    :: else -> break
    od
}
#endif

proctype writer()
{
    byte p, f, round;

    do
    :: round < WRITES ->
        round++;
end_absent:
        atomic {
#ifdef WRITE_SHARED
            choose(p, readable);
#else
            choose(p, unlatched);
#endif
            word[p].latch = EXCLUSIVE;
            f = word[p].frame;
        }
        assert(frame[f].half[0] == content(p, truth[p])); /* it reads what it changes */
        assert(frame[f].half[1] == content(p, truth[p]));
        frame[f].half[0] = content(p, truth[p] + 1);
        frame[f].half[1] = content(p, truth[p] + 1);
        atomic { /* the log's end, and the ghosts with it: nobody can look before the unlatch */
            log_end++;
            truth[p]++;
            truth_lsn[p] = log_end;
        }
        frame[f].lsn = truth_lsn[p]; /* cp_bufpool_mark_dirty */
        word[p].dirty = 1;
        atomic { /* cp_bufpool_unfix */
            word[p].latch = FREE;
            word[p].version++;
        }
        f = 0;
    :: else -> break
    od
}

/* ---- a miss: cp_load__claim, read, cp_load__publish ------------------------------------------- */

proctype loader()
{
    byte p, f, round;

    do
    :: round < LOADS ->
        round++;
end_full:
        atomic { /* a frame from the allocator */
            choose(p, absent);
            choose_frame(f, unused);
            frame[f].used = 1;
        }
        if
        :: atomic {
            !word[p].present ->
            word[p].present = 1;
            word[p].latch = LOADING;
            word[p].frame = f
           }
#ifdef TWO_LOADERS
        :: else -> /* somebody else came first */
            frame[f].used = 0;
            goto next
#endif
        fi;
        frame[f].page = p;
        frame[f].half[0] = disk[p].half[0];
        frame[f].half[1] = disk[p].half[1];
        assert(frame[f].half[0] == content(p, truth[p])); /* what was evicted had been written */
        assert(frame[f].half[1] == content(p, truth[p]));
#ifdef FORGET_VERSION
        frame[f].generation = 1;
#else
        frame[f].generation++;
#endif
        atomic {
            word[p].version = frame[f].generation;
            word[p].latch = FREE;
        }
#ifdef TWO_LOADERS
next:
#endif
        f = 0;
    :: else -> break
    od
}

/* ---- cp_writeback__claim .. cp_writeback__let_go ---------------------------------------------- */

proctype write_back()
{
    byte p, f, round, image;

    do
    :: round < WRITE_BACKS ->
        round++;
end_clean:
        atomic {
            choose(p, to_write);
            word[p].latch++;
            f = word[p].frame;
        }
#ifndef NO_WRITER_MARK
        if
        :: atomic { frame[f].writing == 0 -> frame[f].writing = 1 }
        :: else -> goto joined
        fi;
        if
        :: !word[p].dirty -> goto let_go /* another writer finished while we joined */
        :: else -> skip
        fi;
#endif
#ifndef NO_LOG_WAIT
        if /* pass_gate */
        :: frame[f].lsn > durable ->
            atomic { /* make_durable */
                if /* the log's flush may be another's, and serve more than what is asked for */
                :: durable < frame[f].lsn -> durable = frame[f].lsn
                :: durable < log_end -> durable = log_end
                fi
            }
        :: else -> skip
        fi;
        assert(frame[f].lsn <= durable); /* prepare_image */
#endif
        image = frame[f].half[0];
        atomic { /* the first half reaches the disk */
            assert(truth_lsn[p] <= durable);
            disk[p].half[0] = image;
        }
        disk[p].half[1] = frame[f].half[1];
        assert(disk[p].half[0] == content(p, truth[p])); /* it held still, from end to end */
        assert(disk[p].half[1] == content(p, truth[p]));
        image = 0;
        frame[f].lsn = 0; /* finish_page */
        assert(word[p].dirty);
        word[p].dirty = 0;
let_go:
        frame[f].writing = 0;
joined:
        word[p].latch--;
        f = 0;
    :: else -> break
    od
}

/* ---- look_at, cp_evict__drop_page -------------------------------------------------------------- */

proctype evictor()
{
    byte p, f, round;

    do
    :: round < EVICTIONS ->
        round++;
end_busy:
        atomic {
            choose_frame(f, occupied);
            p = frame[f].page;
        }
        if /* the one swap that makes it ours; the frame may hold another page by now */
        :: atomic {
            word[p].present && word[p].latch == FREE && word[p].frame == f && !word[p].dirty ->
            word[p].latch = EXCLUSIVE
           }
        :: else -> goto next
        fi;
        assert(frame[f].page == p);
        frame[f].generation = word[p].version;
        frame[f].lsn = 0;
        frame[f].page = NOBODY;
        atomic {
            word[p].present = 0; word[p].latch = 0; word[p].frame = 0; word[p].version = 0;
        }
        frame[f].used = 0;
next:
        p = 0;
    :: else -> break
    od
}

init {
    byte i;

    atomic {
        for (i : 0 .. PAGES - 1) {
            disk[i].half[0] = content(i, 0);
            disk[i].half[1] = content(i, 0);
        }
        for (i : 0 .. FRAMES - 1) {
            frame[i].page = NOBODY;
        }
        run optimistic_reader();
        run writer();
        run loader();
        run write_back();
        run evictor();
#ifdef TWO_LOADERS
        run loader();
#else
        run shared_reader();
        run write_back();
#endif
    }
}
