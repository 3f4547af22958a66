# make demo   fit, summarise and score a multilevel model of real data
# make test   run the test suite against the installed package
# make sanitize  run the tests of the kernels on kernels built with AddressSanitizer (gcc), in .venv-sanitize
# make bench  time fits against scikit-learn's plain logistic or linear regression and installed peers (BENCH="--quick")
# make lint   ruff
#
# Everything happens in a virtual environment, $(VENV), made with $(PYTHON) (3.11 or newer) on first use. The package
# is installed into it, and installed again whenever one of its sources has changed.

PYTHON ?= python3
VENV ?= .venv
BENCH ?=
PYTEST ?=
PIP = $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check
SOURCES := setup.py pyproject.toml $(shell find sklmm -name '*.py' -o -name '*.pyx' -o -name '*.pxd' -o -name '*.h' \
  -o -name '*.gz' -o -name '*.rst')

# Python must not find the source tree, whose kernels are not built, in place of the installed package.
export PYTHONSAFEPATH := 1

.PHONY: demo test sanitize bench lint clean

demo: $(VENV)/.package
	$(VENV)/bin/python examples/contraception.py

# As many processes as cores, and one thread each where a test asks for no number of threads.
test: $(VENV)/.test
	OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive $(VENV)/bin/python -m pytest -n auto $(PYTEST)

sanitize:
	@PYTHON=$(PYTHON) .ci/sanitize

bench: $(VENV)/.package
	PYTHONSAFEPATH= $(VENV)/bin/python benchmarks $(BENCH)

lint: $(VENV)/.lint
	$(VENV)/bin/ruff check .

$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "sklmm needs Python 3.11 or newer; name one, for example: make demo PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

# Building without isolation, with the tools pyproject.toml asks for: what has not changed is not compiled again.
$(VENV)/.tools: $(VENV)/.created pyproject.toml
	@$(VENV)/bin/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], \
	  sep="\n")' > $(VENV)/build-requires.txt
	$(PIP) -r $(VENV)/build-requires.txt
	@touch $@

$(VENV)/.package: $(VENV)/.tools $(SOURCES)
	@[ -e $@ ] || echo "Compiling the kernels, once: about 80 s of processor time (measured), over all processors"
	$(PIP) --no-build-isolation .
	@touch $@

# The package is there already, so this only adds what its "test" extra names.
$(VENV)/.test: $(VENV)/.package
	$(PIP) 'sklmm[test]'
	@touch $@

$(VENV)/.lint: $(VENV)/.created
	$(PIP) ruff
	@touch $@

clean:
	rm -rf build dist *.egg-info $(VENV)
	rm -f sklmm/_kernels/*.so sklmm/_kernels/*.c
