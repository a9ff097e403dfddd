"""The tests that need a GPU, shared out over processes: Triton's compiler takes one core, and a kernel that loses its
process the device fails what comes after it there. Usage: -m gpu_check.tests REPORT [options of pytest]; process i
leaves REPORT-i.xml."""

import os
import subprocess
import sys
import tempfile

PROCESSES = max(1, min(8, (os.cpu_count() or 1) // 2))


def main(report: str, *options: str) -> None:
    """Ends with the number of processes in which a test failed."""
    shares = []
    for i in range(PROCESSES):
        told = tempfile.TemporaryFile("w+")
        command = [sys.executable, "-m", "pytest", "tests/gpu", "-v", "-m", "gpu", "-p", "no:cacheprovider",
                   f"--share={i}/{PROCESSES}", f"--junitxml={report}-{i}.xml", *options]
        shares.append((subprocess.Popen(command, stdout=told, stderr=subprocess.STDOUT), told))
    try:
        for process, _ in shares:
            process.wait()
    finally:  # stopped, each still writes its report
        codes = [process.wait() for process, _ in shares]
        for i, (_, told) in enumerate(shares):
            told.seek(0)
            print(f"process {i}:\n{told.read()}")
        print(f"ended with {codes}")
    sys.exit(sum(code != 0 for code in codes))


if __name__ == "__main__":
    main(*sys.argv[1:])
