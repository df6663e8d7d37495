# SPDX-License-Identifier: MIT
# Thin over CMake: each target fetches the packages it needs, configures a preset, builds and runs.
# The presets (CMakePresets.json) can be used without it.

JOBS   ?= $(shell nproc)
PREFIX ?= /usr/local
ARGS   ?=
CLAIMS ?=

BENCH = build/bench/bench/clockpool-bench
SHOWN = build/bench/results.json build/bench/claims.json build/bench/trace.json

.DEFAULT_GOAL := help
.PHONY: help build test bench asan tsan valgrind debug clang coverage fuzz format install clean

help:
	@echo 'make bench             compare the engines on this machine, try the four claims, count what'
	@echo '                       policies miss: four to five minutes; writes build/bench/report.html'
	@echo '                       (make bench ARGS="--size 8G --mem 1G" changes the comparison,'
	@echo '                       CLAIMS="--seconds 10" the claims)'
	@echo 'make test              build everything and run all tests'
	@echo 'make build             the library alone, in build/library'
	@echo 'make install PREFIX=   install the library (DESTDIR= for staging)'
	@echo 'make install-tools PREFIX='
	@echo '                       install clockpool, the command line, and its manual'
	@echo 'make debug asan tsan valgrind clang'
	@echo '                       the tests under debug assertions, AddressSanitizer and UBSan,'
	@echo '                       ThreadSanitizer (concurrent ones), valgrind (the others), clang'
	@echo 'make fuzz              hostile files, a minute each fuzzer (CP_FUZZ_SECONDS=600: longer)'
	@echo 'make coverage          the tests, then how many lines they ran'
	@echo 'make format            lay out the sources with clang-format'
	@echo 'make clean             remove build/'

build:
	@scripts/bootstrap build
	cmake --preset library
	cmake --build --preset library -j $(JOBS)

test:
	@scripts/bootstrap test
	cmake --preset release
	cmake --build --preset release -j $(JOBS)
	ctest --preset release -j $(JOBS)

# The run's own report stands until that of all three takes its place.
bench:
	@scripts/bootstrap bench
	cmake --preset bench
	cmake --build --preset bench -j $(JOBS)
	$(BENCH) run --json build/bench/results.json --html build/bench/report.html $(ARGS)
	$(BENCH) claims --quick --json build/bench/claims.json $(CLAIMS)
	$(BENCH) trace --no-curve --json build/bench/trace.json
	$(BENCH) report $(SHOWN) --output build/bench/report.html

# The other builds run the tests that make sense in them (see the test presets). clang 14's
# ThreadSanitizer cannot place its shadow where the kernel randomises 32 bits of addresses.
asan debug valgrind:
	@scripts/bootstrap ci
	cmake --preset $@
	cmake --build --preset $@ -j $(JOBS)
	ctest --preset $@ -j $(JOBS)

tsan:
	@scripts/bootstrap ci
	cmake --preset $@
	cmake --build --preset $@ -j $(JOBS)
	$$(scripts/fixed_addresses) ctest --preset $@ -j $(JOBS)

clang:
	@scripts/bootstrap ci
	cmake --preset release-clang
	cmake --build --preset release-clang -j $(JOBS)
	ctest --preset release-clang -j $(JOBS)

fuzz:
	@scripts/bootstrap ci
	cmake --preset fuzz
	cmake --build --preset fuzz -j $(JOBS)
	tests/fuzz/run build/fuzz

coverage:
	@scripts/bootstrap test
	cmake --preset coverage
	cmake --build --preset coverage -j $(JOBS)
	find build/coverage -name '*.gcda' -delete
	ctest --preset coverage -j $(JOBS)
	scripts/coverage build/coverage

format:
	@scripts/bootstrap ci
	scripts/check_format --fix

install: build
	cmake --install build/library --prefix '$(PREFIX)'

install-tools:
	@scripts/bootstrap bench
	cmake --preset bench
	cmake --build --preset bench -j $(JOBS) --target clockpool
	cmake --install build/bench --component tools --prefix '$(PREFIX)'

clean:
	rm -rf build
