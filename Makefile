# Every target sets up what it needs by itself (scripts/setup.sh; nothing is repeated when nothing changed).

# The environment is entered as a user enters it: its bin first on PATH, and the Java that set-up found.
ENTER := . .venv/bin/activate &&
# The package is compiled once, as an installed one is, and not by each of the processes that tests start.
unexport PYTHONDONTWRITEBYTECODE
# ARGS are pytest's, as in `make test ARGS=--durations=20`.

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow test-connect test-all browser screenshots faults soak systems cluster cluster-jobs
.PHONY: versions bench bench-full lint typecheck format ci wheel zip docs smoke release-check kafka kinesis notebook notebook-outputs picture clean setup pins

help: ## list these targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | while IFS="$$(printf '\t')" read -r name text; do \
		printf '  make %-12s %s\n' "$$name" "$$text"; done

demo: setup ## watch a streaming job work on generated sales
	@$(ENTER) python scripts/demo.py

test: setup ## run the fast tests, three at a time
	@$(ENTER) python -m pytest -n 3 --dist loadgroup -m "not slow" $(ARGS)

test-slow: setup ## run the tests that take long, with the systems that they need (PART=1/4 for a quarter, ROUNDS=N for more kills)
	@bash scripts/systems.sh
	@$(ENTER) python -m pytest tests sparkstream_kit tests/faults -n 3 --dist loadgroup -m slow $(ARGS)
	@$(ENTER) python -m pytest tests/systems -n 3 --dist loadfile -m slow $(ARGS)

test-connect: setup ## run the tests of what differs on Spark Connect there (ALL=1 for the fast tests beside them)
	@$(ENTER) bash scripts/test-connect.sh

test-all: setup ## run all tests there are, also those of which CI runs a part: 100 minutes
	@$(MAKE) test test-slow browser faults systems cluster-jobs
	@$(MAKE) test-connect ALL=1

browser: docs ## run the tests of the page of a run and of the site in Chromium, which is installed first
	@bash scripts/browser.sh
	@$(ENTER) python -m pytest tests/browser

faults: setup ## kill, damage and fill up what runs, and see that no row is lost: the shortest case of each
	@$(ENTER) python -m pytest tests/faults -n 3 --dist worksteal -m "not slow" $(ARGS)

soak: setup ## write 2,000 batches to each sink, and see that the driver holds no more after them (an hour or more)
	@bash scripts/systems.sh kafka mongodb spark
	@$(ENTER) BATCHES=2000 python -m pytest tests/faults/test_soak.py tests/systems/soak.py -n 2 --dist worksteal -rP -o faulthandler_timeout=0

bench: setup ## measure the kit beside other ways, on a tenth of the data: ten minutes on two cores that do nothing else
	@bash scripts/databases.sh
	@$(ENTER) python benchmarks/run.py $(NAMES)

bench-full: setup ## measure what docs/performance.md shows, and put it there
	@bash scripts/databases.sh
	@$(ENTER) python benchmarks/run.py --full --page docs/performance.md $(NAMES)

systems: setup ## run the tests against real systems, which they start: Kafka, a schema registry, Kinesis, posts, Delta Lake, Iceberg, MongoDB, Flume, HDFS, S3, a cluster
	@bash scripts/systems.sh
	@$(ENTER) python -m pytest tests/systems -n 3 --dist loadfile -m "not slow" $(ARGS)

cluster: setup zip ## start a small cluster on this machine, Spark's own with HDFS, and say what to type next
	@bash scripts/systems.sh hadoop
	@$(ENTER) python scripts/cluster.py

cluster-jobs: setup zip ## run jobs on such a cluster, with all of their data on HDFS
	@bash scripts/systems.sh hadoop
	@$(ENTER) python -m pytest tests/systems/jobs_on_a_cluster.py

kafka: setup ## run a Kafka broker and a schema registry to try things on, with sales and orders coming in
	@bash scripts/systems.sh kafka registry spark
	@$(ENTER) python scripts/server.py kafka

kinesis: setup ## run a server of Kinesis's protocol to try things on, with sales coming in
	@bash scripts/systems.sh kinesis
	@$(ENTER) python scripts/server.py kinesis

versions: setup ## run the tests on each version of Spark in conf/versions.toml (SPARK=4.3.0: on one, SPARK=next: on the newest release candidate)
	@bash scripts/versions.sh $(SPARK)

lint: setup ## check style and format with ruff
	@$(ENTER) ruff check && ruff format --check

typecheck: setup ## check the types with mypy
	@$(ENTER) mypy

format: setup ## rewrite the code in the project's style
	@$(ENTER) ruff check --fix; ruff format

ci: ## run everything that CI runs
	@bash .ci/run

wheel: build/wheel/made ## build the wheel in dist/, in seconds: with the pinned build packages alone
	@rm -rf dist
	@build/wheel/bin/hatchling build -t wheel

# An environment takes most of the time, and is kept for the next wheel.
build/wheel/made: requirements/build.txt
	@rm -rf build/wheel
	@$(or $(PYTHON),python3) -m venv build/wheel
	@build/wheel/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/build.txt
	@touch $@

zip: wheel ## build dist/sparkstream_kit.zip, for spark-submit --py-files
	@cp dist/*.whl dist/sparkstream_kit.zip
	@echo dist/sparkstream_kit.zip

docs: setup ## build the site of the documentation in build/site, with a reference from the docstrings
	@$(ENTER) python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/docs.txt
	@$(ENTER) python scripts/site.py

smoke: setup ## build the wheel and the sdist, and try each with the oldest and the newest packages that it allows
	@rm -rf dist
	@$(ENTER) hatchling build
	@$(ENTER) bash scripts/smoke.sh

release-check: setup ## do all of a release but the upload (QUICK=1: without the oldest and newest packages of make smoke)
	@$(ENTER) bash scripts/release-check.sh

notebook: setup ## open the notebooks in JupyterLab, which is installed first
	@$(ENTER) python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/lab.txt
	@$(ENTER) jupyter lab examples/first_stream.ipynb examples/event_time.ipynb

notebook-outputs: setup ## run the notebooks and keep their outputs in the files, after a change to a cell
	@$(ENTER) python scripts/notebook.py

picture: setup ## draw the README's picture of the demo
	@$(ENTER) python scripts/picture.py

screenshots: setup ## draw the README's pictures of the page of a run
	@bash scripts/browser.sh
	@$(ENTER) python scripts/screenshots.py

clean: ## remove what builds, tests and runs left (the environment stays; remove .venv by hand)
	@rm -rf build dist .pytest_cache .mypy_cache .ruff_cache spark-warehouse metastore_db derby.log
	@find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

setup: ## make .venv with the pinned packages, and find Java
	@bash scripts/setup.sh

pins: ## work the pins out again from pyproject.toml (needs uv)
	@bash scripts/setup.sh pins
