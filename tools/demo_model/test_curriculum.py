"""Tests of the curriculum generator and the cards. Run: `python3 test_curriculum.py` (no packages needed)."""

import json
import random
import re
import tempfile
import unittest
from pathlib import Path

import cards
import curriculum
import tasks
from curriculum import drills, exercises, invented, lexicon, passages, stories, tools
from curriculum.chat import Chat, prompt_text, render, reply_text
from curriculum.lexicon import Lexicon
from curriculum.text import article, expand, plural

SEEDS = range(300)


def drawn(function, split: str, seed: int, wild: float = 0.0):
    rng = curriculum.rng_for(split, seed)
    return function(rng, Lexicon(rng, split, wild))


class CurriculumTest(unittest.TestCase):
    def test_same_seed_same_document(self) -> None:
        self.assertEqual([curriculum.document(seed) for seed in SEEDS],
                         [curriculum.document(seed) for seed in SEEDS])
        self.assertGreater(len({str(curriculum.document(seed)) for seed in SEEDS}), 0.95 * len(SEEDS))

    def test_documents_are_clean(self) -> None:
        for seed in SEEDS:
            text = "".join(part for part, _ in curriculum.document(seed))
            self.assertTrue(text.endswith(curriculum.END_OF_TEXT))
            self.assertNotRegex(text, r"\{[a-z_]+\}|a\(n\)|<[a-z ]+\|", f"seed {seed}: a template shows")
            self.assertNotRegex(text, r"[^.]  [^-]", f"seed {seed}: two spaces")

    def test_stories_answer_their_questions(self) -> None:
        for seed in SEEDS:
            story = drawn(stories.tell, "train", seed)
            self.assertGreater(len(story.facts), 5)
            for fact in story.facts:
                # An answer is a phrase of the text, but for an article, `to`, or a pronoun put before it.
                core = re.sub(r"^(an?|the|to|he|she|it) ", "", fact.answer.lower())
                if not fact.answer.startswith(("he ", "she ")):
                    self.assertIn(core, story.text.lower(), f"seed {seed}: {fact}")
                self.assertTrue(all(question.endswith("?") for question in fact.questions))

    def test_sums_are_right(self) -> None:
        for function in (exercises.two_digit_sum, exercises.calculation, exercises.word_problem):
            for split in ("train", "eval"):
                for seed in SEEDS:
                    _, answer = drawn(function, split, seed)
                    a, sign, b, result = re.match(r"(\d+) ([-+*]) (\d+) = (\d+)", answer).groups()
                    a, b = int(a), int(b)
                    self.assertEqual(int(result), {"+": a + b, "-": a - b, "*": a * b}[sign])

    def test_json_is_valid_and_holds_the_wanted_keys(self) -> None:
        for seed in SEEDS:
            chat = drawn(passages.json_chat, "train", seed)
            value = json.loads(reply_text(chat.messages[-1]))
            for key in value:
                self.assertIn(key, chat.messages[-2]["content"])
            self.assertIsInstance(json.loads(reply_text(
                drawn(passages.json_list_chat, "train", seed).messages[-1])), list)

    def test_calls_fit_a_listed_tool(self) -> None:
        for source in (tools.any_tool, tools.held_out_tool):
            for seed in SEEDS:
                chat = drawn(lambda rng, lex: tools.call_chat(rng, lex, source=source), "eval", seed)
                schemas = {tool["function"]["name"]: tool["function"] for tool in chat.tools}
                self.assertEqual(len(schemas), len(chat.tools))
                for message in chat.messages:
                    for call in message.get("tool_calls", ()):
                        self.assertEqual(list(call["arguments"]),
                                         schemas[call["name"]]["parameters"]["required"])

    def test_splits_are_disjoint(self) -> None:
        for seed in SEEDS:
            self.assertFalse(lexicon.is_held_out(drawn(lambda _, lex: lex.person(), "train", seed)))
            self.assertTrue(lexicon.is_held_out(drawn(lambda _, lex: lex.person(), "eval", seed)))
        pairs = [{drawn(exercises.two_digit_sum, split, seed)[1] for seed in range(2000)}
                 for split in ("train", "eval")]
        self.assertFalse(pairs[0] & pairs[1])
        self.assertFalse({tool.name for tool in tools.CATALOGUE} &
                         {tool.name for tool in tools.HELD_OUT_CATALOGUE})

    def test_every_task_in_every_split_accepts_its_own_answer(self) -> None:
        for name, draw, accepts in tasks.TASKS:
            for split, wild in tasks.SPLITS.values():
                for seed in range(25):
                    answer = reply_text(drawn(draw, split, seed, wild).messages[-1])
                    self.assertTrue(accepts(answer, answer), f"{name}, {split}, seed {seed}: {answer}")
                    self.assertFalse(accepts(answer + "x", answer), f"{name}: a wrong answer passes")

    def test_drills_ask_for_what_they_show(self) -> None:
        for seed in SEEDS:
            chat = drawn(drills.drill_chat, "train", seed, 0.5)
            question, answer = (message["content"] for message in chat.messages[-2:])
            if re.match("Spell|How|Write .* letter|Which word|Put these", question):
                continue
            if not re.match("(Hello|Goodbye|Have|Nice|This)", answer):  # what a greeting adds
                for word in re.findall(r"\w+", answer):
                    self.assertIn(word, question, f"seed {seed}")

    def test_invented_tools_say_every_parameter_and_never_one_held_out(self) -> None:
        held_out = {tool.name for tool in tools.HELD_OUT_CATALOGUE}
        for source in (invented.natural_tool, invented.invented_tool):
            for seed in SEEDS:
                tool = drawn(source, "train", seed, 0.3)
                self.assertNotIn(tool.name, held_out)
                self.assertTrue(tool.parameters)
                said = re.findall(r"\{(\w+)\}", tool.requests[0])
                self.assertEqual(sorted(said), sorted(tool.parameters), f"seed {seed}: {tool.requests[0]}")

    def test_training_writes_no_held_out_name_or_city(self) -> None:
        values = {value for value in lexicon.GIRLS + lexicon.BOYS + lexicon.CITIES if lexicon.is_held_out(value)}
        self.assertGreater(len(values), 30)
        for seed in range(600):
            text = "".join(part for part, learned in curriculum.document(seed) if learned)
            self.assertFalse(values & set(re.findall(r"\w+", text)), f"seed {seed}")

    def test_a_vocabulary_widens_the_words(self) -> None:
        words, pieces = list(lexicon.WILD_WORDS), list(lexicon.PIECES)
        try:
            lexicon.learn_vocabulary(["ĠSusanna", "Ġof", "qqthe", "Q", "Ġ12", "12"])
            self.assertEqual(set(lexicon.WILD_WORDS) - set(words), {"Susanna"})
            self.assertEqual(set(lexicon.PIECES) - set(pieces), {"qqthe"})
        finally:
            lexicon.WILD_WORDS[:], lexicon.PIECES[:] = words, pieces

    def test_cards_state_what_was_measured_and_what_was_not(self) -> None:
        figures = {"cases": 300, "floors": tasks.FLOORS, "stopped": {"unseen": 0.999},
                   "exact": {"unseen": {"passage questions": 0.97, "two-digit sums": 1.0, "tool calls": 0.941},
                             "known": {"tool calls": 0.98}},
                   "bits_per_byte": {"held-out tales": 1.25},
                   "training": {"device": "GPU", "main": {"steps": 9, "tokens": 2e6, "seconds": 3.0, "last_loss": 1.5,
                                                          "repeated_blocks": 0.0}}}
        with tempfile.TemporaryDirectory() as folder:
            cards.write(figures, Path(folder))
            main, draft = ((Path(folder) / name).read_text() for name in ("main.md", "draft.md"))
        self.assertIn("| tool calls | 94.1 % | 98.0 % | 95 % |", main)
        self.assertIn("Not reached: tool calls.", main)
        self.assertIn("| held-out tales | 1.250 bits per byte |", main)
        self.assertIn("(not measured)", draft)
        self.assertNotIn("$", main + draft)

    def test_only_the_assistant_is_learned(self) -> None:
        chat = Chat().user("Hello!").assistant("Hi!")
        self.assertEqual([text for text, learned in render(chat) if learned], ["Hi!<|im_end|>"])
        self.assertEqual(prompt_text(chat), "<|im_start|>user\nHello!<|im_end|>\n<|im_start|>assistant\n")

    def test_small_english(self) -> None:
        self.assertEqual([article(word) for word in ("apple", "kite", "hour", "unicorn")],
                         ["an", "a", "an", "a"])
        self.assertEqual([plural(word) for word in ("berry", "box", "day", "mouse", "spinning top")],
                         ["berries", "boxes", "days", "mice", "spinning tops"])
        self.assertEqual(expand("{hero} saw a(n) {thing}. it <was> red.", random.Random(1),
                                {"hero": "Mia", "thing": "orange"}), "Mia saw an orange. It was red.")

    def test_plain_rendering_equals_the_template(self) -> None:
        try:
            from jinja2 import Environment
        except ImportError:
            self.skipTest("jinja2 is not installed")
        environment = Environment(trim_blocks=True, lstrip_blocks=True)
        environment.filters["tojson"] = lambda value: json.dumps(value, ensure_ascii=False)
        template = environment.from_string(
            (Path(__file__).parent / "chat_template.jinja").read_text(encoding="utf-8"))
        for function, _ in curriculum.CHATS:
            for seed in range(30):
                chat = drawn(function, "train", seed)
                self.assertEqual(template.render(messages=chat.messages, tools=chat.tools),
                                 "".join(text for text, _ in render(chat)))


if __name__ == "__main__":
    unittest.main()
