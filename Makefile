# Each target does its own set-up first; a step whose inputs have not changed is skipped.
SHELL := /bin/bash
export PATH := $(CURDIR)/node_modules/.bin:$(PATH)

.PHONY: help setup image run test check clean node_modules

help: ## what there is
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1\t\2/p' Makefile

setup: node_modules ## everything that run and test need: tools, QEMU, the guest image
	@node scripts/setup.ts

image: setup ## the guest image; prints where it is
	@node --print 'JSON.parse(fs.readFileSync("dist/artefacts.json")).root'

run: setup ## the demonstration: two VMs, one cache volume, the second build all from cache
	@node scripts/demo.ts

test: setup check ## check, then all tests: units, a real buildkitd, real VMs
	@node scripts/test.ts

check: node_modules ## formatter, linter, types
	@node scripts/generate.ts
	@biome check .
	@tsc

clean: ## what was made in the checkout (the artefact cache in ~/.cache/buildvisor stays)
	rm -rf dist common/generated

node_modules:
	@cmp -s package-lock.json node_modules/.installed-lock || { npm ci && cp package-lock.json node_modules/.installed-lock; }
