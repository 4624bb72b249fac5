#!/usr/bin/env python3
"""Checks that programs run where only glibc and an NVIDIA driver are.

    tools/check_portable.py [--max-mib N] PROGRAM...

Asks ldd which shared libraries each program needs; any but those that every Linux has, or that come
with the driver, is an error, and so is one that is not found here. Prints each program's size.
"""

import argparse
import pathlib
import re
import subprocess
import sys

ALLOWED = re.compile(r"linux-vdso|ld-linux-x86-64|lib(c|m|dl|rt|pthread|stdc\+\+|gcc_s|cuda)$")
NEEDED = re.compile(r"^\s*(?:\S*/)?(?P<name>[^\s/]+?)\.so[\d.]*(?: => (?P<path>not found|\S+))?", re.M)


def faults(program, output):
    """What is wrong with the libraries that ldd lists."""
    if "not a dynamic executable" in output:
        return []
    found = list(NEEDED.finditer(output))
    if not found:
        return [f"{program}: cannot read what ldd says: {output.strip()!r}"]
    return [f"{program}: needs {match['name']} ({match['path']}); link it statically, or say in "
            "tools/check_portable.py why it is everywhere"
            for match in found if not ALLOWED.match(match["name"]) or match["path"] == "not found"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--max-mib", type=float, default=24, help="largest size of a program")
    parser.add_argument("programs", nargs="+", type=pathlib.Path)
    arguments = parser.parse_args()
    bad = []
    for program in arguments.programs:
        ldd = subprocess.run(["ldd", program], capture_output=True, text=True)
        bad += faults(program, ldd.stdout + ldd.stderr)
        mib = program.stat().st_size / 2**20
        print(f"{program}: {mib:.1f} MiB")
        if mib > arguments.max_mib:
            bad.append(f"{program}: {mib:.1f} MiB, at most {arguments.max_mib:g} are allowed")
    for fault in bad:
        print(fault, file=sys.stderr)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
