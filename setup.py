"""Build of the compiled kernels; everything else is declared in pyproject.toml.

Every ``sklmm/_kernels/*.pyx`` becomes one extension. What Cython writes for memoryviews is compiled once, into an
extension of its own: in each of the others it would take a third of the build. Two things vary:

* ``SKLMM_CYTHON_DEBUG=1`` builds with bounds checks and the C macro ``SKLMM_DEBUG=1``, and ``SKLMM_SANITIZE=1`` with
  AddressSanitizer as well (gcc or clang; see "make sanitize"), each in a build folder of its own, so that no object of
  one kind is ever taken for another;
* OpenMP is probed by compiling and linking a small program. Without it the kernels run on one thread, and the
  build says so loudly. The C macro ``SKLMM_OPENMP`` (0 or 1) tells the kernels.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build import build
from setuptools.command.build_ext import build_ext

KERNELS = Path("sklmm", "_kernels")
MEMORYVIEWS = "sklmm._kernels._memoryviews"
SANITIZE = os.environ.get("SKLMM_SANITIZE", "0") not in ("", "0")
DEBUG = SANITIZE or os.environ.get("SKLMM_CYTHON_DEBUG", "0") not in ("", "0")
BUILD_BASE = "build/sanitize" if SANITIZE else "build/debug" if DEBUG else "build"

# With wraparound off, bounds checks also catch negative indices.
DIRECTIVES = {
    "language_level": 3,
    "boundscheck": DEBUG,
    "initializedcheck": DEBUG,
    "wraparound": False,
    "nonecheck": False,
    "cdivision": True,
}

# Contraction to fused multiply-add and errno-free maths are wanted. -ffast-math is not (NaN must stay NaN and
# sums keep their order), nor is -march (a wheel must run on every machine of its platform).
# Builds with bounds checks are for tests: they had better be quick to make.
OPTIMISATION = ["-O1"] if DEBUG else ["-O3", "-g0"]
UNIX_FLAGS = [*OPTIMISATION, "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math"]
MSVC_FLAGS = ["/O2"]
SANITIZER_FLAGS = ["-fsanitize=address"] if SANITIZE else []  # to compile and to link with

OPENMP_PROGRAM = """
#include <omp.h>
int main(void) {
    int total = 0;
    #pragma omp parallel for reduction(+:total)
    for (int i = 0; i < 8; i++) total += omp_get_num_threads() > 0;
    return total != 8;
}
"""

NO_OPENMP = """
**********************************************************************************
sklmm: the C compiler cannot build OpenMP programs, so the kernels will run on ONE
thread and n_threads will have no effect. To use several, install OpenMP
(Debian/Ubuntu: comes with gcc; macOS: brew install libomp) and build again.
**********************************************************************************
"""


def openmp_candidates(compiler_type):
    """(compile flags, link flags) worth trying, the likeliest first."""
    if compiler_type == "msvc":
        return [(["/openmp"], [])]
    candidates = [(["-fopenmp"], ["-fopenmp"])]
    if sys.platform == "darwin":  # Apple's clang needs Homebrew's runtime
        prefixes = ["/opt/homebrew/opt/libomp", "/usr/local/opt/libomp"]
        if shutil.which("brew"):
            found = subprocess.run(["brew", "--prefix", "libomp"], capture_output=True, text=True)
            prefixes = [found.stdout.strip()] * (found.returncode == 0) + prefixes
        candidates += [
            (["-Xpreprocessor", "-fopenmp", f"-I{prefix}/include"], [f"-L{prefix}/lib", "-lomp"])
            for prefix in prefixes
        ]
    return candidates


def find_openmp(compiler):
    """Flags with which `compiler` builds an OpenMP program, or None."""
    for compile_flags, link_flags in openmp_candidates(compiler.compiler_type):
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder, "probe.c")
            source.write_text(OPENMP_PROGRAM)
            try:
                objects = compiler.compile([str(source)], output_dir=folder, extra_postargs=compile_flags)
                compiler.link_executable(objects, str(Path(folder, "probe")), extra_postargs=link_flags)
            except Exception:  # each compiler class has errors of its own; any of them means "no"
                continue
        return compile_flags, link_flags
    return None


class Build(build):
    def initialize_options(self):
        super().initialize_options()
        self.build_base = BUILD_BASE


class BuildExt(build_ext):
    def finalize_options(self):
        super().finalize_options()
        if self.parallel is None:
            self.parallel = os.cpu_count()

    def build_extensions(self):
        openmp = find_openmp(self.compiler)
        if openmp is None:
            print(NO_OPENMP, file=sys.stderr, flush=True)
        compile_flags, link_flags = openmp or ([], [])
        optimisation = MSVC_FLAGS if self.compiler.compiler_type == "msvc" else UNIX_FLAGS
        for extension in self.extensions:
            extension.define_macros += [("SKLMM_OPENMP", str(int(openmp is not None)))]
            extension.extra_compile_args += optimisation + compile_flags + SANITIZER_FLAGS
            if extension.name == MEMORYVIEWS and optimisation is UNIX_FLAGS:
                extension.extra_compile_args += ["-O1"]  # no loop over numbers in there
            extension.extra_link_args += link_flags + SANITIZER_FLAGS
        super().build_extensions()


def kernels():
    from Cython.Build import cythonize

    headers = sorted(map(str, KERNELS.glob("*.h")))
    extensions = [
        Extension(
            f"sklmm._kernels.{source.stem}",
            [str(source)],
            include_dirs=[str(KERNELS)],
            depends=[*headers, "setup.py"],
            define_macros=[("SKLMM_DEBUG", str(int(DEBUG)))],
        )
        for source in sorted(KERNELS.glob("*.pyx"))
    ]
    extensions.append(Extension(MEMORYVIEWS, [MEMORYVIEWS.replace(".", "/") + ".c"], depends=["setup.py"]))
    return cythonize(
        extensions,
        compiler_directives=DIRECTIVES,
        build_dir=f"{BUILD_BASE}/cython",
        shared_utility_qualified_name=MEMORYVIEWS,
    )


setup(ext_modules=kernels(), cmdclass={"build": Build, "build_ext": BuildExt})
