# The whole course in a few words; `make help` lists them. Needs Python 3.11 to 3.13 and make, nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export TF_CPP_MIN_LOG_LEVEL ?= 3
# Many containers set it; then every kernel would compile TensorFlow anew, for ten seconds.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup sample data run test unit-tests notebook-tests notebook-images notebook-others series-words series-rest lint lab notebooks words lock luck-sample clean clean-runs

PRECISION ?= float32
COMMANDS := ["down", "go", "left", "no", "off", "on", "right", "stop", "up", "yes"]
NETWORKS := ["filterbank128", "strided32", "conv8_32", "strided32_tanh", "conv8_32/dropout", "conv8_32/batch norm", \
  "conv5", "conv8_64", "values32"]
SPOKEN = --out runs/words10 -p dataset speech_commands -p data_dir "$(DATA)" -p options '{"words": $(COMMANDS)}'

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

setup: $(VENV)/ready  ## create the environment from the lock

$(VENV)/ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v < (3, 14) else \
	  "The course needs Python 3.11, 3.12 or 3.13; $(PYTHON) is %d.%d. Name another one: make PYTHON=python3.12 ..." % v)'
	@echo "Creating the environment in $(VENV) (about 2.3 GB, one to three minutes) ..."
	@$(PYTHON) -m venv --clear $(VENV)
	@# Not compiled beforehand: half a minute, and what is used is compiled when it is used first.
	@$(BIN)/python -m pip install --quiet --no-compile --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	@# What Python and numba compile once, compiled now: else all processes that begin side by side would do it.
	@$(BIN)/python -c "import keras" 2>/dev/null & $(BIN)/python -c "import librosa; librosa.feature.mfcc"; wait
	@touch $@

sample: setup  ## make the synthetic sample of all datasets
	@$(BIN)/python -m helpers sample

data: setup  ## fetch ESC-10, 400 real recordings (41 MB), into data/esc10
	@$(BIN)/python -m helpers download esc10 data/esc10

run: setup  ## run the series on the sample: executed notebooks, figures, leaderboard
	@$(BIN)/python -m helpers sample
	@$(MAKE) --no-print-directory --silent -j2 $(SERIES:%=run-%)
	@$(BIN)/python -m helpers leaderboard

# Two notebooks at a time, the longest first, on one core each: networks as small as ours hardly use a second one.
ONE_CORE := OMP_NUM_THREADS=1 TF_NUM_INTRAOP_THREADS=1 TF_NUM_INTEROP_THREADS=1
# On the embedded sample, also where real recordings are at hand.
ON_SAMPLE := COURSE_SAMPLE=1
LONGEST := 07 04 03 05
SERIES := $(LONGEST) $(filter-out $(LONGEST),$(shell ls -r notebooks | grep -o '^[0-9][0-9]'))
run-05: run-03
run-06: run-05
run-10: run-07
run-11: luck-sample
run-14: run-13
run-%:
	@COURSE_BATCH=1 $(ON_SAMPLE) $(ONE_CORE) $(BIN)/python -m helpers run $*

# What notebook 11 reads, on the sample: two methods, three seeds.
luck-sample:
	@COURSE_BATCH=1 $(ON_SAMPLE) $(BIN)/python -m helpers sweep data/sweeps/luck.toml -p seed 0 1 2 \
	  -p method "extra trees" "dense net" --workers 1 --out runs/luck-sample

test: setup lint  ## all that CI runs: unit tests, notebooks, parameterised runs
	@$(BIN)/python -m helpers sample
	@$(MAKE) --no-print-directory -j3 notebook-others unit-tests notebook-images $(HALVES)

unit-tests:
	@$(ON_SAMPLE) $(ONE_CORE) $(BIN)/python -m pytest --ignore tests/test_series.py

# Notebooks run with parameters, in two halves, so that two cores end together.
HALVES := series-words series-rest
series-words: ONLY := speech_commands or folder
series-rest: ONLY := not (speech_commands or folder or left_behind)
$(HALVES):
	@$(ON_SAMPLE) $(ONE_CORE) $(BIN)/python -m pytest tests/test_series.py -k "$(ONLY)"

# The notebooks as they are, in two halves: 05 needs 03, and 06 needs 05; 10 needs 07, 14 needs 13, and 11 the sweep.
IMAGES := $(sort $(foreach name,03 04 05 06,$(wildcard notebooks/$(name)_*.ipynb)))
OTHERS := $(filter-out $(IMAGES),$(sort $(wildcard notebooks/*.ipynb)))
NBVAL = COURSE_BATCH=1 $(ON_SAMPLE) $(ONE_CORE) $(BIN)/python -m pytest --nbval-lax --nbval-current-env

notebook-tests: notebook-images notebook-others

notebook-images:
	@$(NBVAL) $(IMAGES)
	@$(BIN)/python -m pytest tests/test_series.py -k left_behind

notebook-others: luck-sample
	@$(NBVAL) $(OTHERS)

lint: setup  ## check style and docstrings
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

lab: setup  ## open JupyterLab on the notebooks
	@$(BIN)/jupyter lab --notebook-dir=notebooks

notebooks: setup  ## run the notebooks, on real recordings where `make data` has put them, and keep the outputs
	@COURSE_BATCH=1 $(ONE_CORE) $(BIN)/python -m helpers run --refresh 01 02 03 04 05 06 07 09 10 12 13 14 15 template
	@$(BIN)/python -m helpers sweep data/sweeps/luck.toml
	@$(BIN)/python -m helpers sweep data/sweeps/scenes.toml
	@COURSE_BATCH=1 $(ONE_CORE) $(BIN)/python -m helpers run --refresh 08 11

words: setup  ## the README's table on spoken words: make words DATA=path/to/speech_commands_v0.02 [PRECISION=mixed_bfloat16]
	@test -n "$(DATA)" || { echo "Say where the recordings are: make words DATA=path/to/speech_commands_v0.02"; exit 2; }
	@$(BIN)/python -m helpers run 07 $(SPOKEN) -p full True -p precision $(PRECISION) \
	  -p networks '$(NETWORKS)'
	@$(BIN)/python -m helpers run 10 $(SPOKEN) -p n_clips 24
	@$(BIN)/python -m helpers leaderboard runs/words10
	@cp runs/words10/07_raw_waveform/figures/models.png figures/words10_models.png
	@cp runs/words10/07_raw_waveform/figures/tsne.png figures/words10_tsne.png
	@cp runs/words10/10_looking_inside/figures/responses.png figures/words10_responses.png

lock:  ## renew requirements.lock from pyproject.toml (needs uv)
	@uv pip compile --universal --generate-hashes --python-version 3.11 --extra dev --upgrade --no-header pyproject.toml -o requirements.lock

clean:  ## delete what can be made again: sample, features, audits (not runs, downloaded weights, the environment)
	@rm -rf data/sample
	@find data/cache -mindepth 1 -maxdepth 1 ! -name pretrained -exec rm -rf {} + 2>/dev/null || true

clean-runs:  ## delete all recorded runs and executed notebooks
	@rm -rf runs/*
