"""gale chat, over a pipe and in a terminal."""

import os
import pty
import select
import subprocess
import time
import unittest

from gale_process import EXACT, GALE, TIMEOUT_S, gale

CHAT = ["chat", "--greedy", *EXACT]
SHORT = ["--ignore-eos", "--max-tokens", 12]


class OverAPipe(unittest.TestCase):
    def test_history_is_kept_and_forgotten(self):
        hello = gale(*CHAT, *SHORT, stdin="Hello\n").out
        again = gale(*CHAT, *SHORT, stdin="Hello\nHello\n").out
        reset = gale(*CHAT, *SHORT, stdin="Hello\n/reset\nHello\n").out
        self.assertTrue(hello.endswith("\n"))
        self.assertTrue(again.startswith(hello))
        self.assertNotEqual(again, hello + hello)
        self.assertEqual(reset, hello + hello)

    def test_system_message(self):
        flag = gale(*CHAT, *SHORT, "--system", "Be kind.", stdin="Hello").out
        command = gale(*CHAT, *SHORT, stdin="/system Be kind.\nHello").out
        none = gale(*CHAT, *SHORT, "--system", "Be kind.", stdin="/system\nHello\n").out
        self.assertEqual(flag, command)
        self.assertEqual(none, gale(*CHAT, *SHORT, stdin="Hello\n").out)
        self.assertNotEqual(flag, none)

    def test_commands(self):
        run = gale(*CHAT, *SHORT, stdin="/help\n/nonsense\n\n/quit\nHello\n")
        self.assertEqual((run.code, run.out), (0, ""))
        self.assertIn("/reset", run.err)
        self.assertIn("gale: unknown command /nonsense; /help lists them\n", run.err)

    def test_over_long_conversation(self):
        run = gale(*CHAT, *SHORT, "--max-model-len", 64, stdin="Hi\n" + "long " * 40 + "\n/quit\n")
        self.assertEqual(run.code, 0)
        self.assertRegex(run.err, r"the conversation takes \d+ tokens, the context holds 64; "
                                  r"the message was left out\. /reset starts afresh\.\n")

    def test_refused_message_is_left_out(self):
        hello = gale(*CHAT, *SHORT, stdin="Hello\n").out
        run = gale(*CHAT, *SHORT, stdin=b"\xff\xfe\nHello\n")
        self.assertEqual((run.code, run.out), (0, hello))
        self.assertIn("; the message was left out. /reset starts afresh.\n", run.err)

    def test_full_context_is_said(self):
        run = gale(*CHAT, "--ignore-eos", "--max-model-len", 64, stdin="Hi\n")
        self.assertRegex(run.err, r"reply cut off after \d+ tokens \(the context is full\)\n")


class InATerminal(unittest.TestCase):
    def setUp(self):
        terminal, child_side = pty.openpty()
        self.terminal = terminal
        self.process = subprocess.Popen(
            [GALE, *map(str, CHAT), "--ignore-eos"], stdin=child_side, stdout=child_side,
            stderr=child_side, start_new_session=True,
            preexec_fn=lambda: __import__("fcntl").ioctl(0, __import__("termios").TIOCSCTTY, 0))
        os.close(child_side)
        self.seen = ""
        self.addCleanup(self.end)

    def end(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self.terminal)

    def wait_for(self, text):
        """Reads until `text` has come; what is behind it stays for the next call."""
        deadline = time.monotonic() + TIMEOUT_S
        while text not in self.seen:
            ready, _, _ = select.select([self.terminal], [], [], deadline - time.monotonic())
            self.assertTrue(ready, f"no {text!r} in {self.seen!r}")
            self.seen += os.read(self.terminal, 4096).decode("utf-8", "replace")
        self.seen = self.seen[self.seen.index(text) + len(text):]

    def type(self, text):
        os.write(self.terminal, text.encode())

    def test_loading_shows_a_bar_and_wipes_it(self):
        self.wait_for("loading [")
        self.wait_for("\r\x1b[K")
        self.wait_for("> ")
        self.assertNotIn("loading", self.seen)
        self.type("/quit\n")
        self.assertEqual(self.process.wait(TIMEOUT_S), 0)

    def test_ctrl_c_stops_the_reply_and_only_twice_leaves(self):
        self.wait_for("> ")
        self.type("Hello\n")
        self.wait_for("Hello\r\n")
        while len(self.seen) < 20:
            self.seen += os.read(self.terminal, 4096).decode("utf-8", "replace")
        self.type("\x03")
        self.wait_for("gale: reply stopped\r\n> ")
        self.type("\x03")
        self.wait_for("gale: Ctrl-C again leaves\r\n> ")
        self.assertIsNone(self.process.poll())
        self.type("/help\n")
        self.wait_for("/system TEXT")
        self.wait_for("> ")
        self.type("\x03")
        self.wait_for("gale: Ctrl-C again leaves\r\n> ")
        self.type("\x03")
        self.assertEqual(self.process.wait(TIMEOUT_S), 0)


if __name__ == "__main__":
    unittest.main()
