"""Tests of the data workers. Run: `python3 -m unittest test_data` (needs `numpy` and `tokenizers`)."""

import importlib.util
import json
import tempfile
import unittest
from pathlib import Path

import sources

INSTALLED = all(importlib.util.find_spec(name) for name in ("numpy", "tokenizers"))
TOKENIZER = Path(__file__).parents[2] / "models" / "gale-tales-10m" / "tokenizer.json"


@unittest.skipUnless(INSTALLED, "numpy and tokenizers are not installed")
class FeedTest(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = Path(folder.name)
        for group in sources.GROUPS:
            path = self.root / group.pattern.replace("*", "a")
            path.parent.mkdir(exist_ok=True)
            path.write_text("The cat sat by the lake and looked at the moon. " * 250 + sources.END_OF_TEXT + "Two.")
        self.questions = self.root / sources.QUESTIONS
        self.questions.write_text(json.dumps({
            "section": "The cat sat.", "qas": [{"question": "Who sat?", "answer": "the cat"}]}))

    def feed(self):
        import data
        feed = data.Feed(self.root, TOKENIZER, self.root / "ids", rows=2, workers=2)
        self.addCleanup(feed.close)
        return feed

    def test_blocks_have_their_shape_and_text_is_learned_whole(self) -> None:
        ids, learned = next(self.feed())
        self.assertEqual((ids.shape, learned.shape), ((2, 2049), (2, 2049)))
        self.assertLess(int(ids.max()), 8192)
        self.assertTrue(learned.any())

    def test_an_exception_in_a_worker_ends_the_run_with_its_traceback(self) -> None:
        self.questions.write_text("{}\n")  # no passage: the workers cannot begin
        with self.assertRaisesRegex(RuntimeError, "(?s)data worker failed.*Traceback.*KeyError: 'section'"):
            next(self.feed())

    def test_a_killed_worker_ends_the_run(self) -> None:
        feed = self.feed()
        next(feed)
        feed.processes[1].kill()
        with self.assertRaisesRegex(RuntimeError, "ended with exit code -9"):
            for _ in range(10_000):
                next(feed)


if __name__ == "__main__":
    unittest.main()
