/* SPDX-License-Identifier: MIT */
/*
 * USDT probes of the provider "clockpool", for bpftrace, perf and SystemTap: one no-op instruction
 * each where <sys/sdt.h> was there at build time (CP_USDT), nothing otherwise. docs/probes.md lists
 * them with their arguments.
 */
#ifndef CLOCKPOOL_BASE_PROBE_H
#define CLOCKPOOL_BASE_PROBE_H

#ifdef CP_USDT
#include <sys/sdt.h>
#define CP_PROBE1(name, a)       DTRACE_PROBE1(clockpool, name, a)
#define CP_PROBE2(name, a, b)    DTRACE_PROBE2(clockpool, name, a, b)
#define CP_PROBE3(name, a, b, c) DTRACE_PROBE3(clockpool, name, a, b, c)
#else
#define CP_PROBE1(name, a)       ((void)(a))
#define CP_PROBE2(name, a, b)    ((void)(a), (void)(b))
#define CP_PROBE3(name, a, b, c) ((void)(a), (void)(b), (void)(c))
#endif

#endif
