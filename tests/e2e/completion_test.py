"""gale completion: what bash offers with the script that it prints."""

import shutil
import subprocess
import unittest

from gale_process import TIMEOUT_S, gale


@unittest.skipUnless(shutil.which("bash"), "there is no bash")
class Completion(unittest.TestCase):
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
        self.assertEqual(set(self.offers("bench", "")), {"latency", "throughput"})

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


if __name__ == "__main__":
    unittest.main()
