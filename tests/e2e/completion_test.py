"""gale completion: what shells offer with the scripts that it prints."""

import shutil
import subprocess
import unittest

from gale_process import TIMEOUT_S, gale


@unittest.skipUnless(shutil.which("bash"), "there is no bash")
class Bash(unittest.TestCase):
    def offers(self, *words):
        """What bash completes the last of `words` to, behind gale."""
        script = gale("completion", "bash")
        self.assertEqual((script.code, script.err), (0, ""))
        call = 'COMP_WORDS=(gale "$@"); COMP_CWORD=$#; _gale; printf "%s\\n" "${COMPREPLY[@]}"'
        run = subprocess.run(["bash", "-c", script.out + call, "bash", *words],
                             capture_output=True, timeout=TIMEOUT_S, check=True)
        self.assertEqual(run.stderr, b"")
        return run.stdout.decode().split()

    def test_commands(self):
        self.assertEqual(self.offers("to"), ["tokenize"])
        self.assertEqual(self.offers("eval", "p"), ["perplexity"])
        self.assertEqual(set(self.offers("bench", "")), {"latency", "load", "serve", "speculative", "throughput"})

    def test_flags_of_the_command_given(self):
        self.assertEqual(self.offers("run", "once", "--max-m"), ["--max-model-len"])
        self.assertEqual(self.offers("eval", "perplexity", "--wi"), ["--window"])
        self.assertEqual(self.offers("info", "--wi"), [])
        self.assertEqual(self.offers("--ver"), ["--version"])

    def test_file_names_are_left_to_bash(self):
        self.assertEqual(self.offers("run", "--model", ""), [])

    def test_unknown_shell(self):
        run = gale("completion", "csh")
        self.assertEqual((run.code, run.out), (2, ""))
        self.assertIn("bash", run.err)


@unittest.skipUnless(shutil.which("zsh"), "there is no zsh")
class Zsh(unittest.TestCase):
    def offers(self, *words):
        """What the script hands to zsh, which picks those that fit."""
        script = gale("completion", "zsh")
        self.assertEqual((script.code, script.err), (0, ""))
        call = ('compdef() {}; compadd() { shift; print -l -- "$@" }; _files() { print FILES }\n'
                f'{script.out}\nwords=(gale "$@"); CURRENT=$(($# + 1)); _gale')
        run = subprocess.run(["zsh", "-f", "-c", call, "zsh", *words], capture_output=True,
                             timeout=TIMEOUT_S, check=True)
        self.assertEqual(run.stderr, b"")
        return run.stdout.decode().split()

    def test_offers(self):
        self.assertIn("tokenize", self.offers("to"))
        self.assertEqual(set(self.offers("bench", "")), {"latency", "load", "serve", "speculative", "throughput"})
        self.assertIn("--max-model-len", self.offers("run", "once", "--max-m"))
        self.assertNotIn("--max-model-len", self.offers("info", "--max-m"))
        self.assertEqual(self.offers("run", "--model", ""), ["FILES"])


@unittest.skipUnless(shutil.which("fish"), "there is no fish")
class Fish(unittest.TestCase):
    def offers(self, line):
        script = gale("completion", "fish")
        self.assertEqual((script.code, script.err), (0, ""))
        run = subprocess.run(["fish", "--no-config", "-c", f"{script.out}\ncomplete -C $argv", line],
                             capture_output=True, timeout=TIMEOUT_S, check=True)
        self.assertEqual(run.stderr, b"")
        return [offer.split("\t")[0] for offer in run.stdout.decode().splitlines()]

    def test_offers(self):
        self.assertEqual(self.offers("gale to"), ["tokenize"])
        self.assertEqual(set(self.offers("gale bench ")), {"latency", "load", "serve", "speculative", "throughput"})
        self.assertEqual(self.offers("gale run once --max-m"), ["--max-model-len"])
        self.assertEqual(self.offers("gale info --max-m"), [])


if __name__ == "__main__":
    unittest.main()
