"""gale doctor: what it reports, and its exit codes."""

import unittest

from gale_process import gale


class Doctor(unittest.TestCase):
    def test_table_and_json_agree(self):
        table, record = gale("doctor"), gale("doctor", "--json")
        self.assertEqual(table.code, record.code)
        findings = record.json()
        subjects = [finding["subject"] for finding in findings]
        for subject in ("cpu", "processors", "memory", "huge pages", "cache", "hub cache"):
            self.assertIn(subject, subjects)
            self.assertRegex(table.out, rf"(?m)^(ok|warning|problem) +{subject} ")
        for finding in findings:
            self.assertEqual(finding["health"] == "ok", finding["fix"] == "", finding)
        has_problem = any(finding["health"] == "problem" for finding in findings)
        self.assertEqual(record.code, 1 if has_problem else 0)

    def test_a_device_that_was_asked_for_must_work(self):
        asked = gale("doctor", "--device", "cuda", "--json")
        if asked.out == "":
            self.assertIn("unknown device", asked.err)
            self.assertEqual(asked.code, 1)
            return
        cuda = next(finding for finding in asked.json() if finding["subject"] == "cuda")
        if cuda["health"] == "problem":
            self.assertEqual(asked.code, 1)
            self.assertRegex(asked.err, r"^gale: \d+ problems? found\n$")
        unasked = next(finding for finding in gale("doctor", "--json").json()
                       if finding["subject"] == "cuda")
        self.assertNotEqual(unasked["health"], "problem")

    def test_unknown_device(self):
        run = gale("doctor", "--device", "abacus")
        self.assertEqual((run.code, run.out), (1, ""))
        self.assertRegex(run.err, r'^gale: unknown device "abacus": this build has .*cpu.*\n$')


if __name__ == "__main__":
    unittest.main()
