"""Conversations of many clients, and what they cost."""

import json
import random
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

CLIENTS = 32
TURNS = 3
BLOCK = 32
QUESTIONS = [
    "What is 27 + 58?",
    "Sort 93 3 71 18.",
    "Which month is 6 months before July?",
    "What is the remainder of 47 divided by 6?",
]


def post(url, path, body):
    request = urllib.request.Request(url + path, json.dumps(body).encode(), {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=120) as response:
            return json.load(response)
    except urllib.error.HTTPError as error:
        raise AssertionError(f"{path}: {error.code} {error.read().decode()}") from error


def turns(client):
    """The questions of a client, and the number of chains that answer each."""
    chance = random.Random(client)
    # Groups of clients begin alike.
    start = f"{QUESTIONS[client % 4]} " * 3
    others = [f"What is {chance.randint(10, 90)} + {chance.randint(10, 90)}? " * 2 for _ in range(TURNS - 1)]
    return [(question, chance.randint(1, 4)) for question in [start, *others]]


class Conversations:
    """All clients, each with a server for every turn. `before_turn(turn)` runs while no request is under way."""

    def __init__(self, server_of, before_turn=lambda turn: None, during_turn=lambda turn: None):
        self.answers = [[] for _ in range(CLIENTS)]
        histories = [[] for _ in range(CLIENTS)]
        with ThreadPoolExecutor(CLIENTS + 1) as pool:
            for turn in range(TURNS):
                before_turn(turn)
                disturbed = pool.submit(during_turn, turn)

                def ask(client, turn=turn):
                    question, k = turns(client)[turn]
                    history = histories[client]
                    history.append({"role": "user", "content": question})
                    body = {"messages": history, "chains": k, "temperature": 0, "max_tokens": 24}
                    answer = post(server_of(client, turn), "/v1/chat/completions", body)
                    text = answer["choices"][0]["message"]["content"]
                    history.append({"role": "assistant", "content": text})
                    self.answers[client].append(text)

                list(pool.map(ask, range(CLIENTS)))
                disturbed.result()
