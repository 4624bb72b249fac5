"""cmake --install and cpack: what they put somewhere runs there. BUILD is the build folder, CMAKE and
CPACK are the tools."""

import os
import pathlib
import subprocess
import shutil
import tarfile
import tempfile
import unittest

from gale_process import ROOT, TIMEOUT_S, TINY, gale

BUILD = os.environ["BUILD"]


def run(*command):
    return subprocess.run([str(word) for word in command], check=True, capture_output=True,
                          timeout=TIMEOUT_S).stdout.decode()


class Install(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.scratch = pathlib.Path(scratch.name)

    def check(self, prefix):
        program = prefix / "bin/gale"
        self.assertEqual(run(program, "--version"), gale("--version").out)
        self.assertEqual(run(program, "info", TINY), gale("info", TINY).out)
        self.assertEqual((prefix / "share/doc/gale/LICENSE").read_bytes(),
                         (ROOT / "LICENSE").read_bytes())

    def test_install(self):
        run(os.environ["CMAKE"], "--install", BUILD, "--prefix", self.scratch)
        self.check(self.scratch)

    def test_tarball(self):
        run(os.environ["CPACK"], "--config", f"{BUILD}/CPackConfig.cmake", "-B", self.scratch)
        (archive,) = self.scratch.glob("gale-*.tar.gz")
        with tarfile.open(archive) as tar:
            tar.extractall(self.scratch / "elsewhere")
        (prefix,) = (self.scratch / "elsewhere").iterdir()
        self.assertEqual(prefix.name, archive.name.removesuffix(".tar.gz"))
        self.check(prefix)

    @unittest.skipUnless(shutil.which("dpkg-deb"), "there is no dpkg-deb")
    def test_debian_package(self):
        run(os.environ["CPACK"], "-G", "DEB", "--config", f"{BUILD}/CPackConfig.cmake", "-B",
            self.scratch)
        (package,) = self.scratch.glob("gale_*.deb")
        listing = run("dpkg-deb", "--contents", package)
        for path in ("./usr/bin/gale", "./usr/share/doc/gale/LICENSE"):
            self.assertIn(path, listing)
        version = gale("version", "--json").json()["version"]
        self.assertEqual(run("dpkg-deb", "--field", package, "Package", "Version"),
                         f"Package: gale\nVersion: {version}\n")
        run("dpkg-deb", "--extract", package, self.scratch / "root")
        self.check(self.scratch / "root/usr")


if __name__ == "__main__":
    unittest.main()
