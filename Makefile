# make build   bin/build, bin/run and bin/cooper: static, nothing else to install
# make demo    builds and runs a small web page, as you and from nothing
# make test    every test, as root and as an ordinary user
# make bench   whole commands timed against other builders, on a tmpfs
# make check   what make test does, without running programs
# make clean   removes what the others left in this directory

# exclude_graphdriver_btrfs, containers_image_openpgp: no C libraries of btrfs
# and gpgme. netgo, osusergo: Go's own resolver and user lookup, which static
# programs need.
TAGS := exclude_graphdriver_btrfs containers_image_openpgp netgo osusergo
# The commands carry their container runner and network process inside, see
# package run.
EMBED := $(TAGS) embedrunner
# The linker would warn of a dlopen in a PKCS#11 client that nothing here calls.
STATIC := -trimpath -buildvcs=false -ldflags '-s -w -extldflags "-static -Wl,--no-warnings"'
export CGO_ENABLED := 1
export TAGS EMBED

COMMANDS := bin/build bin/run bin/cooper
# What the commands are made of: newer than a command, it is made anew.
SOURCES := go.mod go.sum $(shell find builder cmd dockerfile layers registry run \
	-not -path '*/testdata/*' -not -name '*_test.go' -type f \
	\( -name '*.go' -o -name '*.c' -o -name '*.h' -o -name '*.json' \))

.PHONY: build test demo bench check clean
build: $(COMMANDS)

$(COMMANDS) &: $(SOURCES) Makefile | toolchain
	@echo "building bin/build, bin/run and bin/cooper"
	@go build -tags '$(TAGS)' $(STATIC) -o run/internal/spawn/runner.bin ./run/internal/runner/cmd
	@go build -tags '$(TAGS)' $(STATIC) -o run/internal/network/uplink/launch/uplink.bin ./run/internal/network/uplink/process/cmd
	@go build -tags '$(EMBED)' $(STATIC) -o bin/ ./cmd/build ./cmd/run ./cmd/cooper
	@touch $(COMMANDS)

.PHONY: toolchain
toolchain:
	@scripts/toolchain

test: build
	@scripts/test

check: toolchain
	@scripts/check

demo: build
	@scripts/demo

bench: build
	@bench/run

clean:
	rm -rf bin run/internal/spawn/runner.bin run/internal/network/uplink/launch/uplink.bin
