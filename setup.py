"""Builds the native kernels with CMake; where that fails, installs without them and says why."""

import os
import shlex
import subprocess
import sys
import sysconfig
from pathlib import Path

from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent.resolve()
REASON = "_native_build_failure.txt"
CUDA_REASON = "_cuda_build_failure.txt"


class BuildFailure(Exception):
    """Why the native kernels were not built."""


def cause(lines):
    """What went wrong, out of the output of CMake or a compiler."""
    for i, line in enumerate(lines):
        if line.startswith("CMake Error"):
            told = [line.partition(": ")[2]]
            for following in lines[i + 1 :]:
                if following and not following.startswith(" "):
                    break
                told.append(following.strip())
            return " ".join(filter(None, told))[:500]
        if "error: " in line or "Error: " in line:
            return line.strip()[:500]
    return lines[-1].strip()[:500] if lines else "no output"


def run(*command):
    """Run a build command, showing what it prints; where it fails, raise with the cause."""
    command = list(map(str, command))
    try:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, errors="replace"
        )
    except OSError as error:
        raise BuildFailure(f"{command[0]} cannot be run: {error.strerror}") from error
    lines = []
    with process:
        for line in process.stdout:
            print(line, end="", flush=True)
            lines.append(line.rstrip())
    if process.returncode:
        raise BuildFailure(cause(lines))


class CMakeBuild(build_ext):
    """Makes compvae_fast._native and, where nvcc is found, compvae_fast._cuda, in build_lib or, for an editable
    install, in the source tree.

    COMPVAE_FAST_REQUIRE_NATIVE=1 and COMPVAE_FAST_REQUIRE_CUDA=1 turn a failure to build into an error; CMAKE_ARGS
    holds further options of CMake.
    """

    def run(self):
        # setuptools hides `inplace` while it builds.
        self.destination = (ROOT if self.inplace else Path(self.build_lib).resolve()) / "compvae_fast"
        super().run()

    def build_extension(self, ext):
        if ext.name.endswith("_cuda"):
            # Made with the native module, of which it is independent once it is there.
            return
        module = self.destination / Path(self.get_ext_filename(ext.name)).name
        reason = self.destination / REASON
        self.leave_cuda("built without a working CMake and C++ compiler")
        try:
            self.build_with_cmake(module)
        except (BuildFailure, ImportError, OSError) as error:
            if os.environ.get("COMPVAE_FAST_REQUIRE_NATIVE") == "1":
                raise SystemExit(f"the native kernels were not built: {error}") from error
            self.destination.mkdir(parents=True, exist_ok=True)
            # An earlier build's module would hide that this one failed.
            module.unlink(missing_ok=True)
            reason.write_text(f"the native kernels were not built: {error}\n")
            self.warn(f"compvae_fast installs without its native kernels: {error}")
        else:
            reason.unlink(missing_ok=True)

    def build_with_cmake(self, module):
        import pybind11

        # Kept between builds, also those that pip starts, so that only what changed is compiled.
        build = ROOT / "build" / f"cmake-{sysconfig.get_platform()}-{sys.implementation.cache_tag}"
        # The cache would remember the compiler, and programs of a build environment that is gone.
        (build / "CMakeCache.txt").unlink(missing_ok=True)
        options = [
            f"-DPython_EXECUTABLE={sys.executable}",
            f"-Dpybind11_DIR={pybind11.get_cmake_dir()}",
            f"-DCMAKE_INSTALL_PREFIX={self.destination.parent}",
        ]
        try:
            import ninja
        except ImportError:
            self.announce("ninja is not installed; CMake chooses the build tool", level=2)
        else:
            options += ["-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={Path(ninja.BIN_DIR) / 'ninja'}"]
        configure = ["cmake", "-S", ROOT, "-B", build, *options, *shlex.split(os.environ.get("CMAKE_ARGS", ""))]
        why_no_cuda = ""
        try:
            run(*configure)
        except BuildFailure as error:
            # an nvcc that does not work must not keep the CPU's kernels out
            run(*configure, "-DCOMPVAE_FAST_CUDA=OFF")
            why_no_cuda = str(error)
        run("cmake", "--build", build, "--parallel")
        run("cmake", "--install", build)
        if not module.exists():
            raise BuildFailure(f"CMake left no {module.name}")
        self.build_cuda(build, why_no_cuda or (build / "cuda.txt").read_text().strip())

    def build_cuda(self, build, reason):
        if not reason:
            try:
                run("cmake", "--build", build, "--parallel", "--target", "_cuda")
                run("cmake", "--install", build, "--component", "cuda")
            except BuildFailure as error:
                reason = f"the CUDA kernels were not built: {error}"
        self.leave_cuda(reason)
        if reason and os.environ.get("COMPVAE_FAST_REQUIRE_CUDA") == "1":
            raise SystemExit(f"the CUDA kernels were not built: {reason}")

    def leave_cuda(self, reason):
        """The CUDA module as it was made, or why there is none."""
        note = self.destination / CUDA_REASON
        if not reason:
            note.unlink(missing_ok=True)
            return
        self.destination.mkdir(parents=True, exist_ok=True)
        (self.destination / Path(self.get_ext_filename("_cuda")).name).unlink(missing_ok=True)
        note.write_text(f"{reason}\n")

    def copy_extensions_to_source(self):
        # It is there already.
        pass

    def get_output_mapping(self):
        # What a strict editable install links to: the module, or the reason why there is none.
        if not self.inplace:
            return {}
        names = [REASON, CUDA_REASON, *(Path(self.get_ext_filename(ext.name)).name for ext in self.extensions)]
        made = [self.destination / name for name in names if (self.destination / name).exists()]
        return {str(Path(self.build_lib) / "compvae_fast" / path.name): str(path) for path in made}


setup(
    # kernels/ is installed as compvae_fast.kernels.
    packages=[
        *find_packages(include=["compvae_fast", "compvae_fast.*"]),
        "compvae_fast.kernels",
        *(f"compvae_fast.kernels.{package}" for package in find_packages("kernels")),
    ],
    package_dir={"compvae_fast.kernels": "kernels"},
    ext_modules=[Extension("compvae_fast._native", sources=[]), Extension("compvae_fast._cuda", sources=[])],
    cmdclass={"build_ext": CMakeBuild},
)
