"""The page of gale serve in headless Chromium; skipped where there is none. With SCREENSHOTS, a
folder, it leaves pictures there."""

import os
import pathlib
import time
import unittest

import chromium
from gale_process import ROOT
from serve_process import Server

MODEL = ROOT / "models/gale-tales-10m"


@unittest.skipUnless(chromium.PROGRAM, "there is no Chromium")
class Web(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server(model=MODEL, exact=False)
        cls.url = f"http://127.0.0.1:{cls.server.port}/"

    @classmethod
    def tearDownClass(cls):
        cls.server.__exit__()

    def setUp(self):
        self.page = chromium.Page(self.url)
        self.addCleanup(self.page.__exit__)
        self.page.wait("document.getElementById('model').textContent === 'gale-tales-10m'")

    def tearDown(self):
        self.assertEqual(self.page.complaints, [])

    def shoot(self, name):
        if "SCREENSHOTS" in os.environ:
            self.page.screenshot(pathlib.Path(os.environ["SCREENSHOTS"], name + ".png"))

    def set(self, name, value):
        self.page.evaluate(f"""(() => {{
            const field = document.querySelector('#settings [name={name}]');
            field.value = '{value}';
            field.dispatchEvent(new Event('input', {{bubbles: true}}));
        }})()""")

    def send(self, text):
        self.page.evaluate("document.getElementById('input').focus()")
        self.page.type(text)
        self.page.press_enter()

    def texts(self, role):
        return self.page.evaluate(f"[...document.querySelectorAll('.message.{role}')]"
                                  ".map((node) => node.textContent)")

    def wait_for_end(self):
        self.page.wait("document.getElementById('stop').hidden")

    def test_send_and_stream(self):
        self.set("temperature", 0)
        self.set("max_tokens", 120)
        self.send("Tell me a story about a heron.")
        self.page.wait("document.querySelector('.message.assistant.streaming')?.textContent")
        early = self.texts("assistant")[0]
        self.wait_for_end()
        whole = self.texts("assistant")[0]
        self.assertTrue(whole.startswith(early[:20]))
        self.assertEqual(self.texts("user"), ["Tell me a story about a heron."])
        answer = self.server.post("/v1/chat/completions", {
            "messages": [{"role": "user", "content": "Tell me a story about a heron."}],
            "temperature": 0, "max_tokens": 120}).json()["choices"][0]
        # Paragraphs become elements, so that white space differs.
        self.assertEqual("".join(whole.removesuffix("(stopped: no room for more tokens)").split()),
                         "".join(answer["message"]["content"].split()))
        self.assertIn("tokens in", self.page.evaluate("document.getElementById('figures').textContent"))
        self.shoot("chat")
        # A second turn knows the first, and both are still there after a reload.
        self.send("And then?")
        self.wait_for_end()
        self.assertEqual(len(self.texts("assistant")), 2)
        self.page.evaluate("window.isOld = true; location.reload()")
        self.page.wait("!window.isOld && document.querySelectorAll('.message').length === 4 && "
                       "document.querySelector('[name=temperature]').value === '0'")

    def test_stop(self):
        self.set("min_p", 0)
        self.page.evaluate("""(() => {  // a reply that would go on for long
            const send = window.fetch;
            window.fetch = (url, options) => send(url, options?.body ? {...options, body:
                JSON.stringify({...JSON.parse(options.body), ignore_eos: true})} : options);
        })()""")
        self.send("Tell me a story.")
        self.page.wait("document.querySelector('.message.assistant')?.textContent.length > 20")
        self.page.evaluate("document.getElementById('stop').click()")
        self.wait_for_end()
        self.assertIn("(stopped)", self.texts("assistant")[0])
        deadline = time.monotonic() + chromium.TIMEOUT_S
        while self.server.stats()['gale_num_requests_running{model_name="gale-tales-10m",engine="0"}']:
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.05)

    def test_errors_are_shown(self):
        self.set("max_tokens", 100000)
        self.send("Hello")
        self.page.wait("!document.getElementById('error').hidden")
        text = self.page.evaluate("document.getElementById('error').textContent")
        self.assertIn("maximum context length", text)
        self.shoot("error")

    def test_conversations(self):
        self.set("max_tokens", 5)
        self.send("One")
        self.wait_for_end()
        self.page.evaluate("document.getElementById('new-chat').click()")
        self.send("Two")
        self.wait_for_end()
        self.assertEqual(self.texts("user"), ["Two"])
        self.page.evaluate("document.querySelectorAll('#conversations .open')[1].click()")
        self.assertEqual(self.texts("user"), ["One"])
        self.page.evaluate("document.querySelectorAll('#conversations .delete')[1].click()")
        self.assertEqual(self.texts("user"), ["Two"])

    def test_markdown_is_never_html(self):
        source = "\\n".join([
            "# Head", "Some **bold**, *italic* and `code <b>` text.", "", "- one", "- two",
            "", "```python", "print('<script>')", "```", "| a | b |", "|---|---|", "| 1 | 2 |", "",
            "<img src=x onerror=alert(1)> [link](https://example.org) [bad](javascript:alert(1))"])
        self.page.evaluate(f"""import('/web/markdown.js').then(({{render}}) => {{
            const node = document.createElement('div');
            node.className = 'message assistant';
            node.append(...render("{source}"));
            document.getElementById('messages').append(node);
        }})""")
        count = "document.querySelectorAll('.message {}').length"
        for tag, number in (("h3", 1), ("strong", 1), ("em", 1), ("li", 2), ("pre code", 1),
                            ("td", 2), ("img", 0), ("script", 0), ("a", 1)):
            self.assertEqual(self.page.evaluate(count.format(tag)), number, tag)
        self.assertEqual(self.page.evaluate("document.querySelector('.message pre code').textContent"),
                         "print('<script>')")
        self.shoot("markdown")

    def test_metrics(self):
        self.page.evaluate("document.getElementById('tab-metrics').click()")
        for _ in range(3):
            self.server.post("/v1/completions", {"prompt": "Once", "max_tokens": 200,
                                                 "ignore_eos": True})
            time.sleep(0.6)
        self.page.wait("[...document.querySelectorAll('.chart h2 span')]"
                       ".every((node) => node.textContent !== '')")
        titles = self.page.evaluate("[...document.querySelectorAll('.chart h2')]"
                                    ".map((node) => node.firstChild.textContent)")
        self.assertEqual(len(titles), 6)
        self.page.wait("document.querySelectorAll('.chart h2 span')[1].textContent !== '0 tokens/s'")
        self.shoot("metrics")

    def test_policy_is_strict(self):
        answer = self.server.get("/")
        policy = answer.headers["Content-Security-Policy"]
        self.assertIn("default-src 'none'", policy)
        self.assertNotIn("unsafe", policy)
        self.assertNotIn("http", policy)
        self.assertEqual(self.server.get("/web/nothing.js").status, 404)
        self.assertEqual(self.server.get("/web/../../LICENSE").status, 404)


if __name__ == "__main__":
    unittest.main()
