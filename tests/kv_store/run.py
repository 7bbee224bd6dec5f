"""Several servers, Redis and nginx: `make store-test`. Needs redis-server and nginx (Debian: redis-server, nginx-light).

COLM_BIN is the program (default: target/debug/colm). Every answer must equal that of a server without a store that gets
one request at a time.
"""

import random
import shutil
import sys
import time
import unittest

from conversations import BLOCK, CLIENTS, TURNS, Conversations, post
from processes import Colm, Nginx, Redis

# The writes of a turn are done before the next one.
PAUSE = 1.0
# Few blocks: conversations push each other out.
SMALL = ["--kv-cache-mb", "2"]
# The models are so small that computing may be faster.
READ = "--kv-store-always-read"


class Replicas(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        with Colm("--no-prefix-cache", "--max-seqs", "1", "--kv-cache-mb", "16") as alone:
            cls.expected = Conversations(lambda *_: alone.url).answers
        with Colm("--kv-cache-mb", "128") as everything:
            assert Conversations(lambda *_: everything.url, lambda _: time.sleep(PAUSE)).answers == cls.expected
            cls.computed = everything.computed_tokens()

    def check(self, server_of, **disturbances):
        self.assertEqual(Conversations(server_of, **disturbances).answers, self.expected)

    def two(self, store, *arguments):
        replicas = [Colm(*SMALL, READ, "--kv-store", store, *arguments) for _ in range(2)]
        for replica in replicas:
            self.addCleanup(replica.kill)
        return replicas

    def test_each_turn_at_another_replica(self):
        with Redis() as redis:
            replicas = self.two(redis.url)
            self.check(
                lambda client, turn: replicas[(client + turn) % 2].url,
                before_turn=lambda _: time.sleep(PAUSE),
            )
            computed = sum(replica.computed_tokens() for replica in replicas)
            self.assertLessEqual(computed, self.computed + CLIENTS * TURNS * BLOCK)
            self.assertGreater(sum(replica.metric("kv_store_loaded_blocks_total") for replica in replicas), 0)

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

            self.check(lambda client, turn: replicas[(client + turn) % 2].url, during_turn=restart)
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
                lambda client, turn: replicas[(client + turn) % 2].url,
                before_turn=lambda turn: (time.sleep(PAUSE), flip(turn)),
            )
            damaged = sum(replica.metric("kv_store_damaged_blocks_total") for replica in replicas)
            self.assertGreater(damaged, 0)

    def test_two_models_in_one_store(self):
        with Colm("--no-prefix-cache", "--max-seqs", "1", "--kv-cache-mb", "16", model="tiny-colm") as alone:
            expected = Conversations(lambda *_: alone.url).answers
        with Redis() as redis:
            other = Colm(*SMALL, READ, "--kv-store", redis.url, model="tiny-colm")
            self.addCleanup(other.kill)
            replicas = self.two(redis.url)
            self.check(lambda client, turn: replicas[(client + turn) % 2].url)
            self.assertEqual(Conversations(lambda *_: other.url).answers, expected)

    def test_prefill_apart_from_decode(self):
        with Redis() as redis:
            store = ["--kv-cache-mb", "16", READ, "--kv-store", redis.url]
            prefill = Colm("--role", "prefill", "--max-chains", "1", *store)
            self.addCleanup(prefill.kill)
            decode = Colm("--role", "decode", "--prefill", prefill.url, "--prefill-threshold", "64", *store)
            self.addCleanup(decode.kill)

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
