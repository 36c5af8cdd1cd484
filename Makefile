# Every target makes what it needs by itself, under .venv/: only Python >= 3.10 and a package index are assumed.
.PHONY: help demo test lint docs bench bench-ecs bench-lambda bench-r clean

help:  ## list the targets
	@sed -nE 's/^([a-z-]+):  ## (.*)/make \1\t\2/p' Makefile | expand -t 18

demo:  ## cross-validate models on three executors, in an AWS on loopback, and in R (a minute; ARGS="--on lambda")
	@scripts/demo.sh $(ARGS)

test:  ## lint, types, floors, snippets; then the tests on the oldest and newest Python found
	@scripts/test.sh

lint:  ## ruff, mypy, import contract
	@scripts/lint.sh

docs:  ## the documentation as a site, in build/site (ARGS=serve: on http://127.0.0.1:8000)
	@scripts/docs.sh $(ARGS)

bench:  ## the benchmarks, beside ProcessPoolExecutor, loky and joblib
	@scripts/bench.sh

bench-ecs:  ## ECSExecutor and Lithops on an emulated AWS with a simulated fleet (half an hour; ARGS=--quick)
	@scripts/bench_ecs.sh $(ARGS)

bench-lambda:  ## LambdaExecutor, Lithops and boto3 on an emulated AWS (twenty minutes; ARGS=--quick)
	@scripts/bench_lambda.sh $(ARGS)

bench-r:  ## R calls beside rpy2, CSV files and fresh Rscripts (ten minutes; ARGS=--quick)
	@scripts/bench_r.sh $(ARGS)

clean:  ## remove environments, caches and builds
	rm -rf .venv build dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
