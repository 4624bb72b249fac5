"""Figures about models: info, perplexity, log probabilities, benchmarks."""

import json
import math
import pathlib
import struct
import tempfile
import unittest

from gale_process import EXACT, GOLDEN, ROOT, TEXT, TINY, gale


def read_safetensors(path):
    """{name: (shape, values)} of a file of f32 and i32 tensors."""
    data = path.read_bytes()
    (header_bytes,) = struct.unpack_from("<Q", data)
    tensors = {}
    for name, entry in json.loads(data[8:8 + header_bytes]).items():
        if name != "__metadata__":
            begin, end = entry["data_offsets"]
            code = {"F32": "f", "I32": "i"}[entry["dtype"]]
            values = struct.unpack_from(f"<{(end - begin) // 4}{code}", data,
                                        8 + header_bytes + begin)
            tensors[name] = (entry["shape"], values)
    return tensors


class Info(unittest.TestCase):
    def test_json_says_what_the_config_says(self):
        config = json.loads((TINY / "config.json").read_text())
        info = gale("info", TINY, "--json").json()
        for ours, theirs in [("num_layers", "num_hidden_layers"), ("hidden_size", "hidden_size"),
                             ("num_heads", "num_attention_heads"), ("head_dim", "head_dim"),
                             ("num_kv_heads", "num_key_value_heads"), ("vocab_size", "vocab_size"),
                             ("max_position", "max_position_embeddings"),
                             ("tied_embeddings", "tie_word_embeddings")]:
            self.assertEqual(info[ours], config[theirs], ours)
        self.assertEqual(info["architecture"], "Qwen3ForCausalLM")
        self.assertEqual(info["eos_token_ids"], [2])
        self.assertEqual(info["weight_bytes"], 2 * info["num_parameters"])
        sampling = info["default_sampling"]
        self.assertAlmostEqual(sampling["temperature"], 0.7, places=6)
        self.assertEqual(sampling["top_k"], 20)
        self.assertTrue(info["has_tokenizer"] and info["has_chat_template"])

    def test_presets_have_the_published_sizes(self):
        presets = gale("info", "--json").json()["presets"]
        billions = {"qwen3-0.6b": 0.596, "qwen2.5-1.5b": 1.544, "qwen3-1.7b": 1.72,
                    "llama3-8b": 8.03, "llama3-70b": 70.55}
        for preset, expected in billions.items():
            self.assertIn(preset, presets)
            info = gale("info", preset, "--json").json()
            self.assertAlmostEqual(info["num_parameters"] / 1e9, expected, delta=0.006 * expected)


class Perplexity(unittest.TestCase):
    def test_equals_transformers(self):
        for golden in GOLDEN["perplexity"]:
            window = ["--window", golden["window"], "--stride", golden["stride"]]
            for dtype, tolerance in ("f32", 1e-4), ("bf16", 1e-2):
                with self.subTest(window=window, dtype=dtype):
                    run = gale("eval", "perplexity", "--text", TEXT, "--json", *window,
                               "--dtype", dtype, "--model", TINY)
                    self.assertEqual(run.code, 0, run.err)
                    figures = run.json()
                    self.assertEqual(figures["tokens"], GOLDEN["text_tokens"])
                    self.assertEqual(figures["scored_tokens"], golden["scored_tokens"])
                    self.assertAlmostEqual(figures["nll_per_token"] / golden["nll_per_token"], 1,
                                           delta=tolerance)

    def test_window_over_the_context_is_refused(self):
        run = gale("eval", "perplexity", "--text", TEXT, "--window", 40000, *EXACT)
        self.assertEqual(run.code, 1)
        self.assertIn("2 <= window <= 32768", run.err)


class Compare(unittest.TestCase):
    def test_perplexities_are_those_of_eval_perplexity(self):
        window = ["--window", 32, "--stride", 16]
        compared = gale("eval", "compare", TINY, TINY, "--text", TEXT, "--json", *window,
                        "--device", "cpu", "--dtype", "f32", "--worst", 3)
        self.assertEqual(compared.code, 0, compared.err)
        figures = compared.json()
        for dtype, side in ("auto", "base"), ("f32", "quant"):
            alone = gale("eval", "perplexity", "--text", TEXT, "--json", *window, "--model", TINY,
                         "--dtype", dtype).json()
            self.assertEqual(figures["scored_tokens"], alone["scored_tokens"])
            self.assertAlmostEqual(figures[side]["nll_per_token"], alone["nll_per_token"], places=6)
        self.assertGreater(figures["kl"]["mean"], 0)  # bf16 against f32
        self.assertLess(figures["kl"]["max"], 1e-2)
        self.assertEqual(len(figures["worst"]), 3)
        self.assertAlmostEqual(figures["worst"][0]["kl"], figures["kl"]["max"], places=6)

    def test_table_and_errors(self):
        run = gale("eval", "compare", TINY, TINY, "--text", TEXT, "--quantize", "int4",
                   "--worst", 1)
        self.assertEqual(run.code, 0, run.err)
        self.assertEqual([line.split("  ")[0] for line in run.out.splitlines()[:3]],
                         ["perplexity", "KL divergence", "top-1 agreement"])
        run = gale("eval", "compare", TINY, TINY, "--text", TEXT, "--stride", 64, "--window", 32)
        self.assertEqual(run.code, 1)
        self.assertIn("stride <= window", run.err)
        run = gale("eval", "compare", TINY, ROOT / "models/gale-tales-10m", "--text", TEXT)
        self.assertEqual(run.code, 1)
        self.assertIn("different vocabularies", run.err)


class Logprobs(unittest.TestCase):
    def test_equal_transformers(self):
        golden = GOLDEN["logprobs"]
        run = gale("eval", "logprobs", "--tokens", ",".join(map(str, golden["tokens"])),
                   "--top", 5, "--json", *EXACT)
        self.assertEqual(run.code, 0, run.err)
        record = run.json()
        self.assertEqual([p["token"] for p in record["positions"]], golden["tokens"])
        tops = [p["top"] for p in record["positions"][1:]] + [record["next"]["top"]]
        for i, (position, expected) in enumerate(zip(record["positions"], golden["logprobs"])):
            if i == 0:
                self.assertIsNone(position["logprob"])
            else:
                self.assertAlmostEqual(position["logprob"], expected, delta=1e-3)
        for top, ids, values in zip(tops, golden["top_ids"], golden["top_logprobs"], strict=True):
            for entry, token, value in zip(top, ids, values, strict=True):
                self.assertEqual(entry["token"], token)
                self.assertAlmostEqual(entry["logprob"], value, delta=1e-3)


    def test_equal_transformers_on_models_of_odd_sizes(self):
        """From the stored logits of every golden checkpoint; those have no tokenizers."""
        goldens = sorted((ROOT / "tests/data/models").glob("*/golden.safetensors"))
        self.assertGreaterEqual(len(goldens), 4)
        for golden in goldens:
            tensors = read_safetensors(golden)
            _, tokens = tensors["prompt.1"]
            (_, vocab), logits = tensors["logits.1"]
            with self.subTest(model=golden.parent.name):
                record = gale("eval", "logprobs", "--tokens", ",".join(map(str, tokens)), "--json",
                              "--model", golden.parent, "--dtype", "f32").json()
                for i, position in enumerate(record["positions"][1:]):
                    row = logits[i * vocab:(i + 1) * vocab]
                    largest = max(row)
                    log_sum = largest + math.log(sum(math.exp(x - largest) for x in row))
                    tolerance = 2e-4 * max(map(abs, row))
                    self.assertAlmostEqual(position["logprob"], row[tokens[i + 1]] - log_sum,
                                           delta=tolerance)
                    self.assertAlmostEqual(position["top"][0]["logprob"], largest - log_sum,
                                           delta=tolerance)


class Bench(unittest.TestCase):
    SMALL = ["--prompt-tokens", 8, "--output-tokens", 4, *EXACT]

    def test_latency_figures_hang_together(self):
        report = gale("bench", "latency", "--batch-size", "2,1", "--json", *self.SMALL).json()
        self.assertEqual(report["void"], "")
        self.assertGreater(report["limits"]["product_flop_per_s"]["min"], 0)
        self.assertEqual([case["prompts"] for case in report["cases"]], [2, 1])
        for record in report["cases"]:
            for key in "first_token_s", "token_s", "total_s", "read_bytes_per_s":
                spread = record[key]
                self.assertLessEqual(0, spread["min"])
                self.assertLessEqual(spread["min"], spread["median"])
                self.assertLessEqual(spread["median"], spread["max"])
            self.assertEqual((record["repeats"], record["dtype"]), (5, "f32"))
            limit = record["decode_step_bytes"] / record["read_bytes_per_s"]["median"]
            self.assertAlmostEqual(record["decode_step_limit_s"] / limit, 1, places=3)
            rate = record["prompts"] / record["token_s"]["median"]
            self.assertAlmostEqual(record["tokens_per_s"] / rate, 1, places=3)

    def test_latency_prints_a_table_beside_the_file(self):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "figures.json"
            run = gale("bench", "latency", *self.SMALL, "--json", path)
            (case,) = json.loads(path.read_text())["cases"]
        device, header, row, limits = run.out.splitlines()
        self.assertEqual(device, case["device"])
        self.assertEqual(header.split()[:4], ["model", "batch", "in", "out"])
        self.assertEqual(row.split()[1:4], ["1", "8", "4"])
        self.assertIn("memory read", limits)
        run = gale("bench", "latency", *self.SMALL, "--json", "/no/file")
        self.assertEqual(run.code, 1)
        self.assertIn("--json: cannot write /no/file", run.err)

    def test_speculative_guesses_as_well_as_it_is_told_to(self):
        record = gale("bench", "speculative", "--speculative", "ngram", "--draft-tokens", 3,
                      "--batch-size", "1,2", "--acceptance", "0,1", "--repeats", 3, "--json",
                      "--prompt-tokens", 8, "--output-tokens", 13, *EXACT).json()
        cases = [(case["batch"], case["acceptance"], case["accepted"]) for case in record["cases"]]
        self.assertEqual(cases, [(1, 0, 0), (1, 1, 1), (2, 0, 0), (2, 1, 1)])
        for case in record["cases"]:
            self.assertGreater(case["controlled_tokens_per_s"], 0)

    def test_speculative_compares_methods_on_prompts(self):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "prompts.jsonl"
            path.write_text('{"prompt": "a b a b a b a b"}\n')
            off, ngram = gale("bench", "speculative", "--prompts", path, "--methods", "off", "ngram",
                              "--longest", "--repeats", 3, "--json", "--output-tokens", 40,
                              *EXACT).json()["cases"]
        self.assertEqual((off["method"], off["gain"], off["tokens_per_step"]), ("off", 1, 1))
        self.assertGreaterEqual(ngram["tokens_per_step"], 1)
        self.assertAlmostEqual(ngram["gain"], ngram["tokens_per_s"] / off["tokens_per_s"], places=3)
        run = gale("bench", "speculative", *EXACT)
        self.assertIn("--speculative is required", run.err)

    def test_throughput_counts_all_prompts(self):
        record = gale("bench", "throughput", "--prompts", 3, "--json", *self.SMALL).json()
        ratio = record["total_tokens_per_s"]["median"] / record["output_tokens_per_s"]["median"]
        self.assertAlmostEqual(ratio, (8 + 4) / 4, places=3)

    def test_throughput_of_drawn_lengths_holds_its_window_against_the_limits(self):
        record = gale("bench", "throughput", "--prompts", 12, "--length-spread", 0.5, "--rate", 500,
                      "--repeats", 1, "--json", *self.SMALL).json()
        value = {key: spread["median"] for key, spread in record.items() if isinstance(spread, dict)}
        self.assertLessEqual(value["steady_s"], value["total_s"])
        self.assertLessEqual(value["steady_batch"], value["max_batch"])
        self.assertTrue(0 <= value["steady_kv_use"] <= value["max_kv_use"] <= 1)
        parts = sum(value[f"limit_{part}_s"] for part in ("weights", "kv", "products"))
        self.assertAlmostEqual(parts / value["steady_s"] / value["fraction_of_limit"], 1, places=3)
        self.assertGreater(value["fraction_of_limit"], 0)

    def test_throughput_takes_lengths_from_a_trace(self):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "trace.csv"
            path.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n"
                            "2023-11-16 18:15:46.6800000,9,2\n"
                            "2023-11-16 18:15:46.7800000,20,6\n")
            trace = ["bench", "throughput", "--trace", path, "--max-prompt-tokens", 15,
                     "--repeats", 1, "--warmup", 0, "--json", *EXACT]
            record = gale(*trace, "--speed", 1).json()
            self.assertEqual(record["prompts"], 2)
            ratio = record["total_tokens_per_s"]["median"] / record["output_tokens_per_s"]["median"]
            self.assertAlmostEqual(ratio, (9 + 15 + 8) / 8, places=3)
            self.assertGreaterEqual(record["total_s"]["median"], 0.1)
            self.assertEqual(gale(*trace, "--rate", 1).code, 2)  # one or the other
            path.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\nnow,9,2\n")
            self.assertIn("trace.csv:2: expected TIMESTAMP", gale(*trace).err)

    def test_load_times_hang_together(self):
        record = gale("bench", "load", "--json", *EXACT).json()
        self.assertEqual((record["repeats"], record["warmup"]), (5, 1))
        for key in "min", "max":
            self.assertLessEqual(record["weights_s"][key], record["ready_s"][key])
            self.assertLessEqual(record["ready_s"][key], record["first_token_s"][key])

    def test_random_weights_from_a_preset_run(self):
        config = TINY / "config.json"
        run = gale("run", "--json", "--model", config, "--load-format", "dummy", stdin="x")
        self.assertEqual(run.code, 1)  # a config.json alone has no tokenizer
        self.assertIn("tokenizer", run.json()["error"]["message"] if run.out else run.err)
        bench = gale("bench", "latency", "--prompt-tokens", 4, "--output-tokens", 2, "--json",
                     "--model", config, "--load-format", "dummy")
        self.assertEqual(bench.json()["cases"][0]["weights"], "random")

    def test_random_weights_need_no_other_flag(self):
        bench = gale("bench", "latency", "--prompt-tokens", 4, "--output-tokens", 2, "--json",
                     "--dummy", TINY / "config.json")
        self.assertEqual(bench.json()["cases"][0]["weights"], "random")
        self.assertEqual(gale("bench", "latency").code, 2)
        self.assertEqual(gale("bench", "latency", "-m", TINY, "--dummy", "qwen3-0.6b").code, 2)


if __name__ == "__main__":
    unittest.main()
