/* SPDX-License-Identifier: MIT */
/*
 * Crash states by replaying a trace: what is durable is kept as bytes per file and a list of names,
 * what is pending as a list of units in the order of their events.
 *
 * Choosing a state lays an overlay over the durable part: a pointer per sector, valid where its
 * stamp is that of the present choice, so that a choice costs as much as the units that it keeps.
 * The hash of an image is a sum over paths, of a mix of path, size and a sum over non-zero sectors;
 * a choice replaces summands.
 */
#include "states_internal.h"

#include <clockpool/base/bits.h>
#include <clockpool/base/checksum.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ROOT_DIRECTORY                                                                             \
    UINT32_C(0x80000000) /* objects: files by number, directories from here on                     \
                          */
#define NO_OBJECT UINT32_MAX
#define NO_CUT    UINT64_MAX

static void *grow(void *memory, uint64_t bytes)
{
    void *grown = realloc(memory, bytes > 0 ? bytes : 1);
    if (grown == NULL)
        abort();
    return grown;
}

static uint64_t sector_hash(uint64_t sector, const uint8_t *bytes)
{
    static const uint8_t zeros[CRASH_SECTOR_BYTES];
    if (memcmp(bytes, zeros, CRASH_SECTOR_BYTES) == 0)
        return 0;
    return crash_mix(sector + 1, cp_checksum(bytes, CRASH_SECTOR_BYTES, 0));
}

/* ---- names ------------------------------------------------------------------------------------
 */

static struct entry *find_entry(const struct names *names, uint32_t directory, const char *name,
                                uint32_t name_bytes)
{
    for (uint32_t i = 0; i < names->count; i++) {
        struct entry *entry = &names->entries[i];
        if (entry->directory == directory && entry->name_bytes == name_bytes &&
            memcmp(entry->name, name, name_bytes) == 0)
            return entry;
    }
    return NULL;
}

static void remove_entry(struct names *names, uint32_t directory, const char *name,
                         uint32_t name_bytes)
{
    struct entry *entry = find_entry(names, directory, name, name_bytes);
    if (entry != NULL)
        *entry = names->entries[--names->count];
}

static void set_entry(struct names *names, const struct entry *wanted)
{
    struct entry *entry = find_entry(names, wanted->directory, wanted->name, wanted->name_bytes);
    if (entry == NULL) {
        if (names->count == names->capacity) {
            names->capacity = names->capacity * 2 + 16;
            names->entries = grow(names->entries, names->capacity * sizeof *names->entries);
        }
        entry = &names->entries[names->count++];
    }
    *entry = *wanted;
}

static void copy_names(struct names *to, const struct names *from)
{
    if (to->capacity < from->count) {
        to->capacity = from->count * 2;
        to->entries = grow(to->entries, to->capacity * sizeof *to->entries);
    }
    if (from->count > 0)
        memcpy(to->entries, from->entries, from->count * sizeof *to->entries);
    to->count = from->count;
}

static void apply_name(struct names *names, const struct unit *unit)
{
    struct entry wanted = {unit->directory, unit->object, unit->name, unit->name_bytes};
    if (unit->kind == UNIT_RENAME) {
        const struct entry *from =
            find_entry(names, unit->from_directory, unit->from_name, unit->from_name_bytes);
        if (from == NULL || from->object != unit->object)
            return; /* the name it had before is not there: nothing to rename */
        remove_entry(names, unit->from_directory, unit->from_name, unit->from_name_bytes);
    }
    if (unit->kind == UNIT_REMOVE)
        remove_entry(names, unit->directory, unit->name, unit->name_bytes);
    else
        set_entry(names, &wanted);
}

/* Split a path into its directory's object and its last name. False: a directory is missing. */
static bool resolve(const struct names *names, const char *path, uint32_t *out_directory,
                    const char **out_name, uint32_t *out_name_bytes)
{
    uint32_t directory = ROOT_DIRECTORY;
    for (;;) { /* ends: at the last part of the path */
        const char *slash = strchr(path, '/');
        if (slash == NULL) {
            *out_directory = directory;
            *out_name = path;
            *out_name_bytes = (uint32_t)strlen(path);
            return true;
        }
        const struct entry *entry = find_entry(names, directory, path, (uint32_t)(slash - path));
        if (entry == NULL || entry->object < ROOT_DIRECTORY)
            return false;
        directory = entry->object;
        path = slash + 1;
    }
}

static uint32_t resolve_object(const struct names *names, const char *path)
{
    uint32_t directory, name_bytes;
    const char *name;
    if (path[0] == '\0')
        return ROOT_DIRECTORY;
    if (!resolve(names, path, &directory, &name, &name_bytes))
        return NO_OBJECT;
    const struct entry *entry = find_entry(names, directory, name, name_bytes);
    return entry != NULL ? entry->object : NO_OBJECT;
}

/* ---- the durable part -------------------------------------------------------------------------
 */

static void reach(struct file *file, uint64_t size)
{
    uint64_t sectors = (size + CRASH_SECTOR_BYTES - 1) / CRASH_SECTOR_BYTES;
    if (sectors <= file->sectors)
        return;
    sectors = (sectors + 63) / 64 * 64;
    uint64_t old = file->sectors, more = sectors - old;
    file->bytes = grow(file->bytes, sectors * CRASH_SECTOR_BYTES);
    memset(file->bytes + old * CRASH_SECTOR_BYTES, 0, more * CRASH_SECTOR_BYTES);
    file->hashes = grow(file->hashes, sectors * sizeof *file->hashes);
    memset(file->hashes + old, 0, more * sizeof *file->hashes);
    file->over = grow(file->over, sectors * sizeof *file->over);
    file->over_hashes = grow(file->over_hashes, sectors * sizeof *file->over_hashes);
    file->stamps = grow(file->stamps, sectors * sizeof *file->stamps);
    memset(file->stamps + old, 0, more * sizeof *file->stamps);
    file->sectors = sectors;
}

static void rehash(struct file *file, uint64_t sector)
{
    file->hash_sum -= file->hashes[sector];
    file->hashes[sector] = sector_hash(sector, file->bytes + sector * CRASH_SECTOR_BYTES);
    file->hash_sum += file->hashes[sector];
}

static void make_durable(struct crash_states *states, const struct unit *unit)
{
    if (unit->kind >= UNIT_SET) {
        apply_name(&states->durable, unit);
        return;
    }
    struct file *file = &states->files[unit->file];
    if (unit->kind == UNIT_SECTOR) {
        memcpy(file->bytes + unit->sector * CRASH_SECTOR_BYTES + unit->from, unit->data,
               unit->bytes);
        rehash(file, unit->sector);
        if (unit->size > file->size)
            file->size = unit->size;
    } else if (unit->size > file->size) {
        file->size = unit->size;
    } else if (unit->exact) {
        memset(file->bytes + unit->size, 0, file->size - unit->size);
        uint64_t end = (file->size + CRASH_SECTOR_BYTES - 1) / CRASH_SECTOR_BYTES;
        for (uint64_t i = unit->size / CRASH_SECTOR_BYTES; i < end; i++)
            rehash(file, i);
        file->size = unit->size;
    }
}

/* Does a unit write over all of an earlier one? */
static bool supersedes(const struct unit *later, const struct unit *earlier)
{
    return earlier->kind == UNIT_SECTOR && later->kind == UNIT_SECTOR &&
           earlier->file == later->file && earlier->sector == later->sector &&
           later->from <= earlier->from &&
           later->from + later->bytes >= earlier->from + earlier->bytes;
}

/* Make durable all units that chosen says, in order, and drop what they have overwritten. */
static void settle(struct crash_states *states,
                   bool (*chosen)(const struct unit *unit, const void *ctx), const void *ctx)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < states->unit_count; i++) {
        struct unit unit = states->units[i];
        if (!chosen(&unit, ctx)) {
            states->units[kept++] = unit;
            continue;
        }
        make_durable(states, &unit);
        states->changed = true;
        uint32_t still = 0;
        for (uint32_t j = 0; j < kept; j++) {
            if (!supersedes(&unit, &states->units[j]))
                states->units[still++] = states->units[j];
        }
        kept = still;
    }
    if (kept != states->unit_count) {
        states->unit_count = kept;
        states->first_new = 0;
        states->views_valid = false;
    }
}

/* ---- events -----------------------------------------------------------------------------------
 */

static struct unit *add_unit(struct crash_states *states, enum unit_kind kind, uint64_t event)
{
    if (states->unit_count == states->unit_capacity) {
        states->unit_capacity = states->unit_capacity * 2 + 256;
        states->units = grow(states->units, states->unit_capacity * sizeof *states->units);
    }
    struct unit *unit = &states->units[states->unit_count++];
    memset(unit, 0, sizeof *unit);
    unit->kind = (uint8_t)kind;
    unit->event = event;
    states->changed = true;
    return unit;
}

static void add_size(struct crash_states *states, uint64_t index, uint32_t file_number,
                     uint64_t size, bool exact, bool ended)
{
    struct file *file = &states->files[file_number];
    if (exact ? size == file->written_size : size <= file->written_size)
        return;
    reach(file, size);
    file->written_size = size;
    struct unit *unit = add_unit(states, UNIT_SIZE, index);
    unit->file = file_number;
    unit->size = size;
    unit->exact = exact;
    unit->ended = ended;
    unit->ended_at = index;
}

static void begin_write(struct crash_states *states, uint64_t index,
                        const struct crash_event *event)
{
    const uint8_t *data = crash_trace_data(states->trace, event);
    struct file *file = &states->files[event->file];
    uint64_t end = event->offset + event->size, room = file->written_size;
    uint64_t fresh = file->first_unwritten;
    if (event->size == 0)
        return;
    add_size(states, index, event->file, end, false, false);
    if (end > fresh * CRASH_SECTOR_BYTES)
        file->first_unwritten = (end + CRASH_SECTOR_BYTES - 1) / CRASH_SECTOR_BYTES;
    for (uint64_t at = event->offset; at < end;) {
        uint64_t sector = at / CRASH_SECTOR_BYTES;
        uint64_t stop = (sector + 1) * CRASH_SECTOR_BYTES;
        if (stop > end)
            stop = end;
        const uint8_t *bytes = data + (at - event->offset);
        const uint64_t begin = at;
        at = stop;
        /* Zeros where a file had room and nothing was ever written: no unit, nothing differs. */
        if (sector >= fresh && stop <= room && cp_is_zero(bytes, stop - begin))
            continue;
        struct unit *unit = add_unit(states, UNIT_SECTOR, index);
        unit->file = event->file;
        unit->sector = sector;
        unit->from = (uint16_t)(begin - sector * CRASH_SECTOR_BYTES);
        unit->bytes = (uint16_t)(stop - begin);
        unit->size = stop;
        unit->data = bytes;
        if (unit->bytes == CRASH_SECTOR_BYTES)
            unit->hash = sector_hash(sector, bytes);
    }
}

struct of_write {
    uint64_t begin;
    uint32_t file;
};

static bool in_dsync_write(const struct unit *unit, const void *ctx)
{
    const struct of_write *write = ctx;
    if (unit->kind == UNIT_SECTOR)
        return unit->event == write->begin;
    /* The size that is needed to read it back comes with it. */
    return unit->kind == UNIT_SIZE && unit->file == write->file && unit->event <= write->begin;
}

static void end_write(struct crash_states *states, uint64_t index, const struct crash_event *event)
{
    const struct crash_event *begin = crash_trace_event(states->trace, event->begin);
    for (uint32_t i = states->unit_count; i-- > 0;) {
        struct unit *unit = &states->units[i];
        if (unit->event < event->begin)
            break;
        if (unit->event == event->begin) {
            unit->ended = true;
            unit->ended_at = index;
        }
    }
    struct of_write write = {event->begin, begin->file};
    if ((begin->flags & CRASH_DSYNC) != 0)
        settle(states, in_dsync_write, &write);
}

static bool in_flush(const struct unit *unit, const void *ctx)
{
    const struct of_write *flush = ctx;
    return unit->kind <= UNIT_SIZE && unit->file == flush->file && unit->ended &&
           unit->ended_at < flush->begin && !unit->orphan;
}

static void end_flush(struct crash_states *states, const struct crash_event *event)
{
    const struct crash_event *begin = crash_trace_event(states->trace, event->begin);
    struct of_write flush = {event->begin, begin->file};
    if (event->code == 0) {
        settle(states, in_flush, &flush);
        return;
    }
    for (uint32_t i = 0; i < states->unit_count; i++) {
        struct unit *unit = &states->units[i];
        if (unit->kind == UNIT_SECTOR && in_flush(unit, &flush))
            unit->orphan = true;
    }
}

static bool in_directory(const struct unit *unit, const void *ctx)
{
    return unit->kind >= UNIT_SET && unit->directory == *(const uint32_t *)ctx;
}

static void change_name(struct crash_states *states, uint64_t index,
                        const struct crash_event *event)
{
    struct unit unit = {.event = index, .ended = true, .object = event->file};
    const char *path = crash_trace_text(states->trace, event->path);
    unit.kind = event->kind == CRASH_UNLINK   ? UNIT_REMOVE
                : event->kind == CRASH_RENAME ? UNIT_RENAME
                                              : UNIT_SET;
    if (!resolve(&states->now, path, &unit.directory, &unit.name, &unit.name_bytes))
        return;
    if (event->kind == CRASH_MKDIR)
        unit.object = ROOT_DIRECTORY + ++states->directory_count;
    if (event->kind == CRASH_RENAME) {
        unit.from_directory = unit.directory;
        unit.from_name = unit.name;
        unit.from_name_bytes = unit.name_bytes;
        unit.object = resolve_object(&states->now, path);
        if (unit.object == NO_OBJECT ||
            !resolve(&states->now, crash_trace_text(states->trace, event->to), &unit.directory,
                     &unit.name, &unit.name_bytes))
            return;
    }
    apply_name(&states->now, &unit);
    *add_unit(states, UNIT_SET, index) = unit;
}

/* Take in the event at the present point. */
static void step(struct crash_states *states)
{
    uint64_t index = states->point++;
    const struct crash_event *event = crash_trace_event(states->trace, index);
    states->changed = false;
    switch ((enum crash_event_kind)event->kind) {
    case CRASH_CREATE:
    case CRASH_MKDIR:
    case CRASH_RENAME:
    case CRASH_UNLINK:
        change_name(states, index, event);
        break;
    case CRASH_WRITE_BEGIN:
        begin_write(states, index, event);
        break;
    case CRASH_WRITE_END:
        end_write(states, index, event);
        break;
    case CRASH_RESIZE:
        add_size(states, index, event->file, event->size, true, true);
        break;
    case CRASH_ALLOCATE:
        add_size(states, index, event->file, event->size, false, true);
        break;
    case CRASH_FLUSH_BEGIN:
        break;
    case CRASH_FLUSH_END:
        end_flush(states, event);
        break;
    case CRASH_DIRECTORY_SYNC: {
        uint32_t directory =
            resolve_object(&states->now, crash_trace_text(states->trace, event->path));
        settle(states, in_directory, &directory);
        break;
    }
    case CRASH_MARK:
        if (event->mark == CRASH_MARK_DURABLE || event->mark == CRASH_MARK_CREATED ||
            event->mark == CRASH_MARK_COPIED) {
            states->first_new = 0;  /* more is asked of states that were tried already */
            states->changed = true; /* what comes next may take them away, or nothing comes */
        }
        break;
    }
}

struct crash_states *crash_states_create(const struct crash_trace *trace, uint64_t seed)
{
    struct crash_states *states = grow(NULL, sizeof *states);
    memset(states, 0, sizeof *states);
    states->trace = trace;
    states->seed = seed;
    states->file_count = crash_trace_file_count(trace);
    states->files = calloc(states->file_count + 1, sizeof *states->files);
    states->changed_files = calloc(states->file_count + 1, sizeof *states->changed_files);
    if (states->files == NULL || states->changed_files == NULL)
        abort();
    crash_states_seek(states, crash_trace_baseline_length(trace));
    return states;
}

static void free_paths(struct crash_states *states)
{
    for (uint32_t i = 0; i < states->view_count; i++)
        free(states->view_paths[i]);
    states->view_count = 0;
}

void crash_states_destroy(struct crash_states *states)
{
    if (states == NULL)
        return;
    for (uint32_t i = 0; i < states->file_count; i++) {
        struct file *file = &states->files[i];
        free(file->bytes);
        free(file->hashes);
        free(file->over);
        free(file->over_hashes);
        free(file->stamps);
    }
    free_paths(states);
    free(states->view_paths);
    free(states->views);
    free(states->files);
    free(states->changed_files);
    free(states->now.entries);
    free(states->durable.entries);
    free(states->chosen.entries);
    free(states->units);
    free(states->touched);
    free(states->scratch);
    free(states);
}

void crash_states_seek(struct crash_states *states, uint64_t point)
{
    while (states->point < point && states->point < crash_trace_length(states->trace))
        step(states);
}

void crash_states_shear(struct crash_states *states)
{
    states->shear = true;
}

uint64_t crash_states_point(const struct crash_states *states)
{
    return states->point;
}

bool crash_states_next(struct crash_states *states)
{
    while (states->point < crash_trace_length(states->trace)) {
        step(states);
        if (states->changed)
            return true;
    }
    return false;
}

uint32_t crash_states_pending(const struct crash_states *states)
{
    return states->unit_count;
}

/* ---- choosing ---------------------------------------------------------------------------------
 */

static struct file *choose_file(struct crash_states *states, uint32_t number)
{
    struct file *file = &states->files[number];
    if (file->stamp != states->stamp) {
        file->stamp = states->stamp;
        file->chosen_size = file->size;
        file->cut = NO_CUT;
        states->changed_files[states->changed_file_count++] = number;
    }
    return file;
}

static void reserve_scratch(struct crash_states *states)
{
    uint32_t needed = 2 * states->unit_count + 16;
    if (needed <= states->scratch_capacity)
        return;
    states->scratch_capacity = needed;
    states->scratch = grow(states->scratch, (uint64_t)needed * CRASH_SECTOR_BYTES);
}

void crash_states__begin(struct crash_states *states)
{
    reserve_scratch(states);
    states->stamp++; /* wraps after 2^32 choices: stamps are cleared then */
    if (states->stamp == 0) {
        for (uint32_t i = 0; i < states->file_count; i++) {
            states->files[i].stamp = 0;
            if (states->files[i].sectors > 0)
                memset(states->files[i].stamps, 0,
                       states->files[i].sectors * sizeof *states->files[i].stamps);
        }
        states->stamp = 1;
    }
    states->changed_file_count = 0;
    states->touched_count = 0;
    states->scratch_count = 0;
    if (states->names_chosen)
        states->views_valid = false;
    states->names_chosen = false;
}

/* Where the overlay's units of scratch lie may move, so they are addressed by number. */
static uint8_t *scratch_sector(struct crash_states *states)
{
    if (states->scratch_count == states->scratch_capacity)
        abort(); /* reserve_scratch has counted: a unit composes one sector */
    return states->scratch + (uint64_t)states->scratch_count++ * CRASH_SECTOR_BYTES;
}

static const uint8_t *sector_bytes(const struct crash_states *states, const struct file *file,
                                   uint64_t sector)
{
    static const uint8_t zeros[CRASH_SECTOR_BYTES];
    if (sector >= file->sectors)
        return zeros;
    if (file->stamp == states->stamp) {
        if (file->stamps[sector] == states->stamp)
            return file->over[sector];
        if (file->cut != NO_CUT && sector * CRASH_SECTOR_BYTES >= file->cut)
            return zeros;
    }
    return file->bytes + sector * CRASH_SECTOR_BYTES;
}

static void lay_over(struct crash_states *states, uint32_t number, uint64_t sector,
                     const uint8_t *bytes, uint64_t hash)
{
    struct file *file = &states->files[number];
    if (file->stamps[sector] != states->stamp) {
        if (states->touched_count == states->touched_capacity) {
            states->touched_capacity = states->touched_capacity * 2 + 256;
            states->touched =
                grow(states->touched, states->touched_capacity * sizeof *states->touched);
        }
        states->touched[states->touched_count++] = (struct touched){number, sector};
        file->stamps[sector] = states->stamp;
    }
    file->over[sector] = bytes;
    file->over_hashes[sector] = hash;
}

static void choose_sector(struct crash_states *states, const struct unit *unit)
{
    struct file *file = choose_file(states, unit->file);
    const uint8_t *bytes = unit->data;
    uint64_t hash = unit->hash;
    if (unit->bytes != CRASH_SECTOR_BYTES) {
        uint8_t *composed = scratch_sector(states);
        memcpy(composed, sector_bytes(states, file, unit->sector), CRASH_SECTOR_BYTES);
        memcpy(composed + unit->from, unit->data, unit->bytes);
        hash = sector_hash(unit->sector, composed);
        bytes = composed;
    }
    lay_over(states, unit->file, unit->sector, bytes, hash);
    if (unit->size > file->chosen_size)
        file->chosen_size = unit->size;
}

static void choose_size(struct crash_states *states, const struct unit *unit)
{
    struct file *file = choose_file(states, unit->file);
    if (unit->size >= file->chosen_size) {
        file->chosen_size = unit->size;
        return;
    }
    if (!unit->exact)
        return;
    uint64_t sector = unit->size / CRASH_SECTOR_BYTES, tail = unit->size % CRASH_SECTOR_BYTES;
    if (tail != 0) {
        uint8_t *composed = scratch_sector(states);
        memcpy(composed, sector_bytes(states, file, sector), tail);
        memset(composed + tail, 0, CRASH_SECTOR_BYTES - tail);
        lay_over(states, unit->file, sector, composed, sector_hash(sector, composed));
        sector++;
    }
    uint64_t cut = sector * CRASH_SECTOR_BYTES;
    for (uint32_t i = 0; i < states->touched_count; i++) {
        const struct touched *at = &states->touched[i];
        if (at->file == unit->file && at->sector >= sector)
            file->stamps[at->sector] = 0;
    }
    if (cut < file->cut)
        file->cut = cut;
    file->chosen_size = unit->size;
}

static void choose_name(struct crash_states *states, const struct unit *unit)
{
    if (!states->names_chosen) {
        copy_names(&states->chosen, &states->durable);
        states->names_chosen = true;
        states->views_valid = false;
    }
    apply_name(&states->chosen, unit);
}

void crash_states__keep(struct crash_states *states, uint32_t index)
{
    const struct unit *unit = &states->units[index];
    if (unit->kind == UNIT_SECTOR)
        choose_sector(states, unit);
    else if (unit->kind == UNIT_SIZE)
        choose_size(states, unit);
    else
        choose_name(states, unit);
}

/* Only a first part of the sector has been written: 8 to 504 bytes, by seed. */
void crash_states__keep_sheared(struct crash_states *states, uint32_t index)
{
    struct unit unit = states->units[index];
    uint64_t number = crash_mix(crash_mix(states->seed, states->point), index);
    if (unit.kind != UNIT_SECTOR || unit.bytes <= 8) {
        crash_states__keep(states, index);
        return;
    }
    unit.bytes = (uint16_t)(8 + number % (unit.bytes / 8u - 1) * 8);
    choose_sector(states, &unit);
}

/* Sums of the changed files; each sector once, though it may have been touched again after a cut.
 */
static void sum_up(struct crash_states *states)
{
    for (uint32_t i = 0; i < states->changed_file_count; i++) {
        struct file *file = &states->files[states->changed_files[i]];
        file->chosen_sum = file->hash_sum;
        uint64_t end = (file->size + CRASH_SECTOR_BYTES - 1) / CRASH_SECTOR_BYTES;
        for (uint64_t s = file->cut / CRASH_SECTOR_BYTES; file->cut != NO_CUT && s < end; s++)
            file->chosen_sum -= file->hashes[s];
    }
    for (uint32_t i = 0; i < states->touched_count; i++) {
        const struct touched *at = &states->touched[i];
        struct file *file = &states->files[at->file];
        if (file->stamps[at->sector] != states->stamp)
            continue;
        bool was_cut = file->cut != NO_CUT && at->sector * CRASH_SECTOR_BYTES >= file->cut;
        /* A sector that was cut and touched again stands in the list twice. */
        bool again = false;
        for (uint32_t j = 0; was_cut && j < i && !again; j++)
            again = states->touched[j].file == at->file && states->touched[j].sector == at->sector;
        if (again)
            continue;
        file->chosen_sum += file->over_hashes[at->sector];
        if (!was_cut)
            file->chosen_sum -= file->hashes[at->sector];
    }
}

/* ---- paths ------------------------------------------------------------------------------------
 */

static void add_view(struct crash_states *states, const char *parent, const struct entry *entry)
{
    const size_t above = strlen(parent), slash = above > 0;
    char *path = grow(NULL, above + slash + entry->name_bytes + 1);
    memcpy(path, parent, above);
    memcpy(path + above, "/", slash);
    memcpy(path + above + slash, entry->name, entry->name_bytes);
    path[above + slash + entry->name_bytes] = '\0';
    if (states->view_count == states->view_capacity) {
        states->view_capacity = states->view_capacity * 2 + 16;
        states->views = grow(states->views, states->view_capacity * sizeof *states->views);
        states->view_paths =
            grow(states->view_paths, states->view_capacity * sizeof *states->view_paths);
    }
    states->view_paths[states->view_count] = path;
    states->views[states->view_count++] = (struct crash_file_view){
        .path = path, .file = entry->object, .directory = entry->object >= ROOT_DIRECTORY};
}

/* All that can be reached from the root, directories before what is in them. */
static void build_views(struct crash_states *states)
{
    const struct names *names = states->names_chosen ? &states->chosen : &states->durable;
    free_paths(states);
    for (uint32_t done = 0; done <= states->view_count; done++) { /* ends: names form a tree */
        bool root = done == 0;
        uint32_t directory = root ? ROOT_DIRECTORY : states->views[done - 1].file;
        if (!root && !states->views[done - 1].directory)
            continue;
        for (uint32_t i = 0; i < names->count && states->view_count < names->count; i++) {
            if (names->entries[i].directory == directory)
                add_view(states, root ? "" : states->view_paths[done - 1], &names->entries[i]);
        }
    }
    states->views_valid = true;
}

void crash_states__finish(struct crash_states *states)
{
    sum_up(states);
    if (!states->views_valid)
        build_views(states);
    uint64_t hash = 1;
    for (uint32_t i = 0; i < states->view_count; i++) {
        struct crash_file_view *view = &states->views[i];
        uint64_t path = cp_checksum(view->path, strlen(view->path), 1);
        if (view->directory) {
            hash += crash_mix(path, 0);
            continue;
        }
        const struct file *file = &states->files[view->file];
        bool changed = file->stamp == states->stamp;
        view->size = changed ? file->chosen_size : file->size;
        hash +=
            crash_mix(crash_mix(path, view->size + 1), changed ? file->chosen_sum : file->hash_sum);
    }
    states->hash = hash;
}

uint64_t crash_states_hash(const struct crash_states *states)
{
    return states->hash;
}

uint32_t crash_states_files(struct crash_states *states, const struct crash_file_view **out_files)
{
    *out_files = states->views;
    return states->view_count;
}

const uint8_t *crash_states_bytes(const struct crash_states *states, uint32_t number,
                                  uint64_t offset, uint32_t size, uint8_t *buffer)
{
    const struct file *file = &states->files[number];
    uint64_t first = offset / CRASH_SECTOR_BYTES;
    uint32_t count = (size + CRASH_SECTOR_BYTES - 1) / CRASH_SECTOR_BYTES;
    bool together = first + count <= file->sectors;
    if (together && file->stamp == states->stamp) {
        together = file->cut == NO_CUT || offset + size <= file->cut;
        for (uint32_t i = 0; i < count && together; i++)
            together = file->stamps[first + i] != states->stamp;
    }
    if (together)
        return file->bytes + offset;
    for (uint32_t i = 0; i < count; i++)
        memcpy(buffer + (uint64_t)i * CRASH_SECTOR_BYTES, sector_bytes(states, file, first + i),
               CRASH_SECTOR_BYTES);
    return NULL;
}
