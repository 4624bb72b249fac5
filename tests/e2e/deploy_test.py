"""What deploy/ says against a running server, and by the tools' own lints where they are installed."""

import json
import re
import shutil
import subprocess
import unittest

from gale_process import GALE, ROOT
from serve_process import Server

DEPLOY = ROOT / "deploy"


def run(*command, stdin=None):
    return subprocess.run(command, input=stdin, capture_output=True, text=True)


class Metrics(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        with Server("--api-key", "sk-a") as server:
            key = {"Authorization": "Bearer sk-a"}
            server.post("/v1/completions", {"prompt": "a", "max_tokens": 3, "ignore_eos": True,
                                            "n": 2}, **key)
            server.post("/v1/completions", "nonsense", **key)
            cls.page = server.get("/metrics", **key).text()
        lines = [line for line in cls.page.splitlines() if not line.startswith("#")]
        cls.values = {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in lines}

    def value(self, name, **labels):
        wanted = {f'{key}="{value}"' for key, value in labels.items()}
        found = [value for sample, value in self.values.items()
                 if sample.partition("{")[0] == name
                 and wanted <= set(sample.partition("{")[2].rstrip("}").split(","))]
        self.assertEqual(len(found), 1, (name, labels))
        return found[0]

    def test_counts_what_happened(self):
        self.assertEqual(self.value("gale_generation_tokens_total"), 6)
        self.assertEqual(self.value("gale_request_success_total", finished_reason="length"), 1)
        self.assertEqual(self.value("gale_num_requests_running"), 0)
        self.assertEqual(self.value("gale_kv_cache_usage_perc"), 0)
        self.assertEqual(self.value("gale_time_to_first_token_seconds_count"), 1)
        self.assertEqual(self.value("gale_inter_token_latency_seconds_count"), 4)
        self.assertEqual(self.value("gale_request_params_n_bucket", le="2"), 1)
        self.assertEqual(self.value("gale_request_params_n_bucket", le="1"), 0)
        self.assertEqual(self.value("gale_key_generation_tokens_total", key="key1"), 6)
        for status in ("200", "400"):
            self.assertEqual(self.value("http_requests_total", handler="/v1/completions",
                                        method="POST", status=status), 1)

    def test_dashboard_asks_for_what_there_is(self):
        dashboard = json.loads((DEPLOY / "grafana-dashboard.json").read_text())
        exported = {sample.partition("{")[0] for sample in self.values}
        asked = set()
        for panel in dashboard["panels"]:
            for target in panel["targets"]:
                expression = target["expr"].replace("${prefix}", "gale_")
                asked |= set(re.findall(r"\b(?:gale|http)_\w+", expression))
        self.assertGreater(len(asked), 10)
        self.assertEqual(asked - exported, set())

    @unittest.skipUnless(shutil.which("promtool"), "promtool is not installed")
    def test_promtool(self):
        checked = run("promtool", "check", "metrics", stdin=self.page)
        # Names that are vLLM's are kept, whatever the linter thinks of them.
        complaints = [line for line in (checked.stdout + checked.stderr).splitlines()
                      if line and "iteration_tokens_total" not in line]
        self.assertEqual(complaints, [])


class Files(unittest.TestCase):
    @unittest.skipUnless(shutil.which("systemd-analyze"), "systemd-analyze is not installed")
    def test_unit(self):
        checked = run("systemd-analyze", "verify", "--man=no", str(DEPLOY / "gale.service"))
        complaints = [line for line in checked.stderr.splitlines()
                      if "gale.service" in line and "not executable" not in line]
        self.assertEqual(complaints, [])

    @unittest.skipUnless(shutil.which("helm"), "helm is not installed")
    def test_chart(self):
        checked = run("helm", "lint", "--strict", str(DEPLOY / "helm/gale"))
        self.assertEqual(checked.returncode, 0, checked.stdout)

    @unittest.skipUnless(shutil.which("hadolint"), "hadolint is not installed")
    def test_dockerfile(self):
        checked = run("hadolint", "--ignore", "DL3008", str(DEPLOY / "Dockerfile"))
        self.assertEqual(checked.returncode, 0, checked.stdout)

    def test_flags_are_gales(self):
        shown = run(GALE, "serve", "--help").stdout
        for name in ("Dockerfile", "gale.service", "helm/gale/templates/deployment.yaml"):
            text = (DEPLOY / name).read_text()
            for flag in re.findall(r"(?<![\w-])--(?:host|api-key-file|drain-timeout)\b", text):
                self.assertIn(flag, shown)


if __name__ == "__main__":
    unittest.main()
