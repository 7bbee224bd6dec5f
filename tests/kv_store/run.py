"""Several servers, Redis and nginx: `make store-test`. Needs redis-server and nginx (Debian: redis-server, nginx-light).

COLM_BIN is the program (default: target/debug/colm). Every answer must equal that of a server without a store that gets
one request at a time.
"""

import random
import shutil
import sys
import tempfile
import time
import unittest

from conversations import BLOCK, CLIENTS, TURNS, Conversations, post
from processes import Colm, Nginx, Redis, kv_store

# The writes of a turn are done before the next one.
PAUSE = 1.0
# Few blocks: conversations push each other out.
SMALL = ["--kv-cache-mb", "1", "--max-seqs", "32"]
# The models are so small that computing may be faster.
READ = "--kv-store-always-read"


def in_turn(replicas):
    """Sends each client to another of two replicas with every turn."""
    return lambda client, turn: replicas[(client + turn) % 2].url


class Expected:
    """What a model answers alone, and the prompt tokens that one server computes if all of them fit in its memory."""

    def __init__(self, model, *arguments):
        with Colm("--no-prefix-cache", "--max-seqs", "1", "--kv-cache-mb", "16", *arguments, model=model) as alone:
            self.answers = Conversations(lambda *_: alone.url).answers
        with Colm("--kv-cache-mb", "128", *arguments, model=model) as everything:
            found = Conversations(lambda *_: everything.url, lambda _: time.sleep(PAUSE))
            assert found.answers == self.answers
            self.computed = everything.computed_tokens()


class Replicas(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.air = Expected("tiny-colm-air")

    def check(self, server_of, expected=None, **disturbances):
        self.assertEqual(Conversations(server_of, **disturbances).answers, (expected or self.air).answers)

    def colm(self, *arguments, **options):
        server = Colm(*arguments, **options)
        self.addCleanup(server.kill)
        return server

    def two(self, store, *arguments, **options):
        return [self.colm(*SMALL, READ, "--kv-store", store, *arguments, **options) for _ in range(2)]

    def each_turn_at_another_replica(self, store, model, expected):
        replicas = self.two(store, model=model)
        self.check(
            in_turn(replicas),
            expected,
            before_turn=lambda _: time.sleep(PAUSE),
        )
        computed = sum(replica.computed_tokens() for replica in replicas)
        self.assertLessEqual(computed, expected.computed + CLIENTS * TURNS * BLOCK)
        self.assertGreater(sum(replica.metric("kv_store_loaded_blocks_total") for replica in replicas), 0)
        self.preemptions += sum(replica.metric("num_preemptions_total") for replica in replicas)

    def test_each_turn_at_another_replica(self):
        self.preemptions = 0
        for model in ["tiny-colm-air", "tiny-colm"]:
            expected = self.air if model == "tiny-colm-air" else Expected(model)
            with self.subTest(model, store="redis"), Redis() as redis:
                self.each_turn_at_another_replica(redis.url, model, expected)
            with self.subTest(model, store="file"), tempfile.TemporaryDirectory() as folder:
                self.each_turn_at_another_replica(f"file://{folder}", model, expected)
        self.assertGreater(self.preemptions, 0, "the pools were not small enough")

    def test_behind_nginx_while_a_replica_is_killed(self):
        with Redis() as redis:
            replicas = self.two(redis.url)
            with Nginx(replicas) as proxy:

                def kill(turn):
                    if turn == 1:
                        time.sleep(0.05)
                        replicas[0].kill()

                self.check(lambda *_: proxy.url, during_turn=kill)

    def test_redis_is_killed_and_comes_back_empty(self):
        with Redis() as redis:
            replicas = self.two(redis.url)
            restarted = []

            def restart(turn):
                if turn == 1:
                    time.sleep(0.05)
                    redis.kill()
                elif turn == 2:
                    restarted.append(Redis(redis.port))

            self.check(in_turn(replicas), during_turn=restart)
            with restarted[0]:
                # The circuit breaker tries again after a few seconds.
                end = time.monotonic() + 60
                while restarted[0].command("DBSIZE") == 0:
                    self.assertLess(time.monotonic(), end, "nothing is stored any more")
                    question = f"What is {random.randint(10, 99)} + {random.randint(10, 99)}? " * 8
                    post(replicas[0].url, "/v1/completions", {"prompt": question, "max_tokens": 1})
                    time.sleep(0.2)

    def test_flipped_bits(self):
        with Redis() as redis:
            replicas = self.two(redis.url)
            chance = random.Random(0)

            def flip(turn):
                if turn == 0:
                    return
                for key in redis.command("KEYS", "*"):
                    at = chance.randrange(redis.command("STRLEN", key))
                    byte = redis.command("GETRANGE", key, at, at)[0] ^ (1 << chance.randrange(8))
                    redis.command("SETRANGE", key, at, bytes([byte]))

            self.check(
                in_turn(replicas),
                before_turn=lambda turn: (time.sleep(PAUSE), flip(turn)),
            )
            damaged = sum(replica.metric("kv_store_damaged_blocks_total") for replica in replicas)
            self.assertGreater(damaged, 0)

    def test_stat_and_check_of_redis(self):
        with Redis() as redis:
            redis.command("SET", "of-another-program", "1")
            redis.command("SET", "colm-kv/not-a-block", "1")
            server = self.colm("--kv-store", redis.url)
            post(server.url, "/v1/completions", {"prompt": "What is 27 + 58? " * 20, "max_tokens": 1})
            time.sleep(PAUSE)
            keys = [key for key in redis.command("KEYS", "colm-kv/*") if key.endswith(b".kv")]
            self.assertGreater(len(keys), 2)
            length = sum(redis.command("STRLEN", key) for key in keys)
            self.assertEqual(kv_store("stat", redis.url), (0, f"blocks: {len(keys)}\nbytes: {length}\n"))
            all_good = f"{len(keys)} blocks, 0 damaged, 0 deleted\n"
            self.assertEqual(kv_store("check", redis.url), (0, all_good))
            redis.command("SETRANGE", keys[0], length // len(keys) // 2, b"damaged!")
            status, output = kv_store("check", redis.url)
            self.assertEqual(status, 1, output)
            name = keys[0].decode().removeprefix("colm-kv/").removesuffix(".kv")
            self.assertTrue(output.startswith(f"{name}: "), output)
            self.assertTrue(output.endswith(f"{len(keys)} blocks, 1 damaged, 0 deleted\n"), output)
            status, output = kv_store("check", redis.url, "--delete")
            self.assertEqual(status, 0, output)
            self.assertIsNone(redis.command("GET", keys[0]))
            self.assertEqual(redis.command("DBSIZE"), len(keys) - 1 + 2)

    def test_other_models_and_dtypes_in_one_store(self):
        others = [
            ("tiny-colm", []),
            ("tiny-colm-air", ["--kv-cache-dtype", "bf16"]),
            ("tiny-colm-air", ["--isq", "q8_0"]),
        ]
        with Redis() as redis:
            replicas = self.two(redis.url)
            self.check(in_turn(replicas))
            for model, arguments in others:
                with self.subTest(model, arguments=arguments):
                    expected = Expected(model, *arguments)
                    self.check(in_turn(self.two(redis.url, *arguments, model=model)), expected)
            self.check(in_turn(replicas))

    def test_prefill_apart_from_decode(self):
        with Redis() as redis:
            store = ["--kv-cache-mb", "16", READ, "--kv-store", redis.url]
            prefill = self.colm("--role", "prefill", "--max-chains", "1", *store)
            decode = self.colm("--role", "decode", "--prefill", prefill.url, "--prefill-threshold", "64", *store)

            def kill(turn):
                if turn == TURNS - 1:
                    time.sleep(0.05)
                    prefill.kill()

            self.check(lambda *_: decode.url, during_turn=kill)
            self.assertGreater(decode.metric("kv_store_loaded_blocks_total"), 0)


if __name__ == "__main__":
    for program, package in [("redis-server", "redis-server"), ("nginx", "nginx-light")]:
        if shutil.which(program) is None:
            sys.exit(f"{program} is missing: apt-get install {package}")
    unittest.main(verbosity=2)
