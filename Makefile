# fastpull. `make` lists the targets.

GO         ?= go
# Both are asked for once, so that all files of a release have the same. The time is the one
# that the files bear.
ifndef VERSION
VERSION    := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
endif
COMMITTED  := $(or $(SOURCE_DATE_EPOCH),$(shell git log -1 --format=%ct 2>/dev/null))
LDFLAGS     = -s -w -X github.com/fastpull/fastpull/cli.version=$(VERSION)
BUILD       = CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)'
STATICCHECK = honnef.co/go/tools/cmd/staticcheck@v0.8.2
GOLANGCI    = github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
ACTIONLINT  = github.com/rhysd/actionlint/cmd/actionlint@v1.7.12
PLATFORMS   = linux/amd64 linux/arm64 linux/arm linux/386 linux/riscv64 linux/ppc64le linux/s390x linux/loong64
FUZZTIME   ?= 10m
# What the image is called; `fastpull push` brings it there, or with --to elsewhere.
IMAGE_NAME ?= ghcr.io/fastpull/fastpull

# What end-to-end tests need beside Go, as Debian calls it. The race detector
# needs a C compiler.
PACKAGES    = docker.io docker-registry pigz gcc libc6-dev e2fsprogs strace debootstrap \
              debian-archive-keyring umoci isal libdeflate-tools zopfli 7zip podman buildah fuse-overlayfs \
              skopeo iproute2 rpm lintian groff-base curl wget

# Packages with tests that are run without the race detector (package internal/need).
UNRACED     = $$(grep -rl --include='*_test.go' '^func TestUnraced' . | xargs -n 1 dirname | sort -u)

# Packages whose tests take longest begin first, that none is left alone at the end.
LONGEST     = ./unpack ./decode ./inflate ./overlay ./cli ./pull ./doctor
# Those below e2e are run by the target e2e, with all their tests.
UNIT        = $(LONGEST) $$($(GO) list ./... | grep -v /e2e)

# Tests with a tag beside e2e need what takes long to build, or what the user has to name.
ALL_TAGS    = e2e,kubelet,spegel

# Where all tests are to run, one that would be skipped fails.
ALL         = FASTPULL_TEST_ALL=1

# End-to-end tests of a program for another processor, under an emulator.
EMULATED    = ^(TestForms|TestExitCodes|TestBundleIsRead|TestLoad|TestPush|TestContainerd|TestPodman)$$

# End-to-end tests start daemons and mount things.
ROOT       := $(shell [ "$$(id -u)" = 0 ] || echo 'sudo --preserve-env=PATH,HOME,GOPATH,GOCACHE,GOPROXY,GOFLAGS,CI')

.DEFAULT_GOAL := help
.PHONY: help build demo check docs test test-old test-kubelet test-spegel test-cross unit e2e lint lint-all deps bench fuzz dist dist-check image tidy clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 12

build: ## build ./fastpull, one static binary
	$(BUILD) -o fastpull .

demo: build ## pull an image and look at it: a sample one, or IMAGE=host:5000/img
	$(GO) run ./e2e/demo -fastpull ./fastpull $(if $(IMAGE),-image $(IMAGE)) $(DEMO)

test: deps lint unit e2e ## everything: installs what it needs, takes some minutes, needs root
	@echo 'all tests passed'

check: lint ## what a change is held to before a commit: no root, no packages, two minutes
	$(GO) test -short -vet=off -skip '^TestUnraced' ./...
	cd packaging && $(GO) test -short -vet=off ./...

docs: ## write the tables of flags in docs, from the commands
	$(GO) test ./cli -run '^TestFlagsAreDocumented$$' -count=1 -args -docs.update

unit: ## unit tests, with the race detector (some need root)
	@# A program with the detector sleeps a second at its end if it is not told otherwise. On a busy
	@# machine a package takes longer than the ten minutes that go test gives it by default.
	$(ROOT) env $(ALL) CGO_ENABLED=1 GORACE=atexit_sleep_ms=20 $(GO) test -race -tags exclude_graphdriver_btrfs -vet=off -timeout 30m -p 4 -skip '^TestUnraced' $(UNIT)
	$(ROOT) env $(ALL) $(GO) test -vet=off -run '^TestUnraced' $(UNRACED)
	cd packaging && $(ROOT) env $(ALL) $(GO) test -vet=off ./...

e2e: ## the program against a real registry and a real dockerd (needs root)
	@# Engines are compiled before any test has a deadline. Those that take longest begin first.
	@# Tests wait more than they work. The program is linked once, in a place that tests of plain
	@# users can reach.
	dir=$$(mktemp -d) && trap 'rm -rf $$dir' EXIT && chmod 755 $$dir && \
	CGO_ENABLED=0 $(GO) build -o $$dir/fastpull . && \
	$(ROOT) env $(ALL) $(GO) test -tags e2e -vet=off -timeout 90m -count=1 ./e2e/engines && \
	$(ROOT) env $(ALL) FASTPULL_OLD_KERNEL=$(FASTPULL_OLD_KERNEL) FASTPULL_BIN=$$dir/fastpull $(GO) test -tags e2e -vet=off -timeout 20m -count=1 -p 2 -parallel 4 -skip '^TestPrograms$$' \
		./e2e/dockerroot ./e2e/registry ./e2e/destinations ./e2e/... ./daemon ./inflate

test-old: ## end-to-end tests where fastpull finds no system call newer than Linux 4.19 (needs root)
	$(MAKE) e2e FASTPULL_OLD_KERNEL=1

test-kubelet: ## the pod of the DaemonSet, run by a kubelet (needs root; the first time takes ten minutes)
	@$(MAKE) -s deps PACKAGES='$(PACKAGES) libseccomp-dev'
	$(ROOT) env $(ALL) $(GO) test -tags e2e,kubelet -vet=off -timeout 60m -count=1 -run '^TestKubelet$$' ./e2e/fleet

test-spegel: ## two nodes whose images go from one to the other by Spegel (needs root, and FASTPULL_SPEGEL=/path/to/spegel)
	@test -x "$(FASTPULL_SPEGEL)" || { echo 'build Spegel 0.7 (https://spegel.dev), and name the program: make test-spegel FASTPULL_SPEGEL=/path/to/spegel'; exit 1; }
	$(ROOT) env $(ALL) FASTPULL_SPEGEL=$(abspath $(FASTPULL_SPEGEL)) $(GO) test -tags e2e,spegel -vet=off -timeout 60m -count=1 -run '^TestSpegel$$' ./e2e/fleet

test-cross: ## vet for 32 bits; the decoder's tests for other machines, under qemu-user, and other builds
	GOARCH=386 CGO_ENABLED=0 $(GO) vet ./...
	GOARCH=386 CGO_ENABLED=0 $(GO) vet -tags e2e ./e2e/... ./daemon ./inflate
	@$(MAKE) -s deps PACKAGES=qemu-user-static
	GOARCH=arm64 CGO_ENABLED=0 $(GO) test -short -exec qemu-aarch64-static ./inflate
	GOARCH=s390x CGO_ENABLED=0 $(GO) test -short -exec qemu-s390x-static ./inflate
	GOARCH=386 CGO_ENABLED=0 $(GO) test ./inflate
	$(GO) test -tags purego ./inflate
	@# The whole program, as on an arm64 host.
	dir=$$(mktemp -d) && trap 'rm -rf $$dir' EXIT && chmod 755 $$dir && \
	GOARCH=arm64 CGO_ENABLED=0 $(GO) build -o $$dir/fastpull . && \
	$(ROOT) env $(ALL) FASTPULL_BIN=$$dir/fastpull FASTPULL_EMULATOR=qemu-aarch64-static $(GO) test -tags e2e -vet=off -timeout 20m -count=1 \
		-run '$(EMULATED)' ./e2e/destinations ./e2e/archive ./e2e/containerd ./e2e/podman

# staticcheck succeeds, with a warning, where no package can be loaded. That is so where
# the build cache has files of another user, as of a test that ran as root.
staticcheck = echo "staticcheck $(1)"; out=$$($(GO) run $(STATICCHECK) $(1) 2>&1); code=$$?; [ -z "$$out" ] || echo "$$out"; \
	case "$$out" in *'matched no packages'*) echo 'nothing was checked: go list -export ./... says why'; exit 1;; esac; exit $$code

lint: ## gofmt, vet, staticcheck
	@test -z "$$(gofmt -l .)" || { echo 'not gofmt:'; gofmt -l .; exit 1; }
	$(GO) vet ./...
	$(GO) vet -tags $(ALL_TAGS) ./e2e/... ./daemon ./inflate
	@$(call staticcheck,./...)
	@$(call staticcheck,-tags $(ALL_TAGS) ./e2e/... ./daemon ./inflate)
	cd e2e/bench/peers && $(GO) vet ./...
	@cd e2e/bench/peers && $(call staticcheck,./...)
	cd packaging && $(GO) vet ./...
	@cd packaging && $(call staticcheck,./...)

lint-all: lint ## lint, golangci-lint, and the workflows and scripts (the first time takes minutes)
	$(GO) run $(GOLANGCI) run --timeout 15m
	$(GO) run $(ACTIONLINT)
	@if command -v shellcheck >/dev/null; then shellcheck .ci/run deploy/ci/*.sh; else echo 'shellcheck is not installed: scripts were not checked'; fi

deps: ## install the Debian packages that tests need, where they are missing
	@missing=; for p in $(PACKAGES); do dpkg -s $$p >/dev/null 2>&1 || missing="$$missing $$p"; done; \
	if [ -n "$$missing" ]; then \
		echo "installing$$missing"; \
		$(ROOT) apt-get update -q >/dev/null && $(ROOT) env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $$missing >/dev/null; \
	fi

bench: build deps ## figures against docker, containerd, tar and others (needs root and time; BENCH='-run store -n 5')
	$(GO) build -o dist/bench ./e2e/bench
	$(ROOT) dist/bench -fastpull ./fastpull $(BENCH)

fuzz: ## fuzz what reads foreign bytes, FUZZTIME (10m) each
	@for p in $$($(GO) list ./...); do \
		for f in $$($(GO) test -list '^Fuzz' $$p | grep '^Fuzz'); do \
			echo "$$p $$f"; $(ROOT) $(GO) test -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 20x $$p || exit 1; \
		done; \
	done

dist: ## all of a release, in dist/: static binaries, packages, SBOMs, licences, checksums
	@rm -rf dist && mkdir dist
	@for p in $(PLATFORMS); do \
		out=dist/fastpull-$${p%/*}-$${p#*/}; echo $$out; \
		GOOS=$${p%/*} GOARCH=$${p#*/} $(BUILD) -o $$out . || exit 1; \
	done
	@$(MAKE) -s image VERSION='$(VERSION)'
	cd packaging && SOURCE_DATE_EPOCH=$(COMMITTED) $(GO) run . -version $(VERSION) ../dist
	@cd dist && sha256sum fastpull* THIRD_PARTY_LICENSES.txt > SHA256SUMS

dist-check: ## make dist, and again from a clone without a build cache, and compare
	@test -z "$$(git status --porcelain)" || { echo 'commit first: what is not committed is not in the clone'; exit 1; }
	@$(MAKE) dist
	@dir=$$(mktemp -d) && trap 'rm -rf $$dir' EXIT && git clone -q . $$dir/again && \
	GOCACHE=$$dir/cache $(MAKE) -C $$dir/again dist PLATFORMS='$(PLATFORMS)' VERSION='$(VERSION)' && \
	diff dist/SHA256SUMS $$dir/again/dist/SHA256SUMS && echo "both builds are equal: $$(wc -l < dist/SHA256SUMS) files"

image: ## an OCI image of fastpull for two platforms, in dist/fastpull-image.tar, without a daemon
	@mkdir -p dist
	@for a in amd64 arm64; do GOOS=linux GOARCH=$$a $(BUILD) -o dist/fastpull-linux-$$a . || exit 1; done
	$(GO) run ./deploy/image -o dist/fastpull-image.tar -name $(IMAGE_NAME):$(VERSION) -version $(VERSION) \
		-revision "$$(git rev-parse HEAD 2>/dev/null)" -created $(COMMITTED) \
		linux/amd64=dist/fastpull-linux-amd64 linux/arm64=dist/fastpull-linux-arm64

tidy: ## go.mod of the program, and of packaging, which requires what the program does
	$(GO) mod tidy
	cd packaging && $(GO) mod tidy

clean: ## remove what was built
	rm -rf fastpull dist
