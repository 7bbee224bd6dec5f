"""`colm serve` with the `openai` Python package.

COLM_BIN is the program (default: target/debug/colm), COLM_MODEL the model folder
(default: models/tiny-colm-air).
"""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import openai
import pytest

ROOT = Path(__file__).parents[2]
BIN = Path(os.environ.get("COLM_BIN", ROOT / "target/debug/colm")).absolute()
MODEL = Path(os.environ.get("COLM_MODEL", ROOT / "models/tiny-colm-air")).absolute()
NAME = MODEL.name
CHAINS = len(json.loads((MODEL / "config.json").read_text())["chains"])
CONTEXT = json.loads((MODEL / "config.json").read_text())["max_position_embeddings"]
RANGE = f"from 1 to {CHAINS}"
QUESTION = [{"role": "user", "content": "tell me a story of a dog"}]


def free_port():
    with socket.socket() as any_port:
        any_port.bind(("127.0.0.1", 0))
        return any_port.getsockname()[1]


def wait_until_healthy(url, server, log, seconds=120):
    for _ in range(seconds * 10):
        if server.poll() is not None:
            pytest.fail(f"colm serve ended with {server.returncode}:\n{log.read_text()}")
        try:
            return urllib.request.urlopen(f"{url}/health", timeout=5)
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.1)
    pytest.fail(f"colm serve does not answer after {seconds} s:\n{log.read_text()}")


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """The address of a running server."""
    port = free_port()
    log = tmp_path_factory.mktemp("colm") / "serve.log"
    command = [BIN, "serve", "-m", MODEL, "-p", str(port)]
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    try:
        url = f"http://127.0.0.1:{port}"
        wait_until_healthy(url, process, log)
        yield url
        # SIGTERM must end the server with status 0.
        process.terminate()
        assert process.wait(timeout=30) == 0
    finally:
        process.kill()
        process.wait()


def test_the_api_description_holds(server, tmp_path):
    """Valid and invalid requests generated from the OpenAPI document get the documented responses and no server error."""
    program = [Path(sys.executable).with_name("schemathesis"), "run", f"{server}/api-doc/openapi.json"]
    # A request that matches the schema may still fail: a prompt too long, a grammar that no text matches.
    bounds = ["--exclude-checks", "positive_data_acceptance", "--max-examples", "40", "--seed", "1"]
    done = subprocess.run(
        [*program, *bounds, "--request-timeout", "10", "--no-color"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="session")
def client(server):
    return openai.OpenAI(base_url=f"{server}/v1", api_key="none", max_retries=0, timeout=120)


def greedy(client, model=NAME, **fields):
    fields = {"messages": QUESTION, "max_tokens": 16, "temperature": 0, **fields}
    return client.chat.completions.create(model=model, **fields)


def text(answer):
    return answer.choices[0].message.content


def test_models_are_listed_for_every_chain_count(client):
    ids = [model.id for model in client.models.list()]
    assert NAME in ids
    for k in range(1, CHAINS + 1):
        assert f"{NAME}@{k}" in ids
        assert client.models.retrieve(f"{NAME}@{k}").id == f"{NAME}@{k}"


def test_chat(client):
    answer = greedy(client)
    assert answer.object == "chat.completion"
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].finish_reason in ("stop", "length")
    assert text(answer)
    assert 0 < answer.usage.completion_tokens <= 16
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


@pytest.mark.parametrize("k", range(1, CHAINS + 1))
def test_the_model_id_and_the_field_choose_the_same_chains(client, k):
    by_id = greedy(client, f"{NAME}@{k}")
    by_field = greedy(client, extra_body={"chains": k})
    assert by_id.model == by_field.model == f"{NAME}@{k}"
    assert text(by_id) == text(by_field)


def test_all_chains_answer_by_default(client):
    answers = [greedy(client), greedy(client, "default"), greedy(client, f"{NAME}@{CHAINS}")]
    assert len({text(answer) for answer in answers}) == 1
    assert {answer.model for answer in answers} == {f"{NAME}@{CHAINS}"}


@pytest.mark.parametrize("k", [1, CHAINS])
def test_a_stream_has_the_text_of_the_answer(client, k):
    fields = {"stream": True, "stream_options": {"include_usage": True}}
    chunks = list(greedy(client, extra_body={"chains": k}, **fields))
    assert len(chunks) > 1
    assert {chunk.model for chunk in chunks} == {f"{NAME}@{k}"}
    *pieces, last = chunks
    assert last.choices == [] and last.usage.completion_tokens > 0
    assert pieces[-1].choices[0].finish_reason in ("stop", "length")
    streamed = "".join(piece.choices[0].delta.content or "" for piece in pieces)
    assert streamed == text(greedy(client, f"{NAME}@{k}"))


def test_completions(client):
    fields = {"prompt": "a dog", "max_tokens": 8, "temperature": 0}
    by_id = client.completions.create(model=f"{NAME}@1", **fields)
    by_field = client.completions.create(model=NAME, extra_body={"chains": 1}, **fields)
    assert by_id.choices[0].text == by_field.choices[0].text
    assert by_id.model == by_field.model == f"{NAME}@1"
    assert 0 < by_id.usage.completion_tokens <= 8
    pieces = client.completions.create(model=f"{NAME}@1", stream=True, **fields)
    assert "".join(piece.choices[0].text for piece in pieces) == by_id.choices[0].text


@pytest.mark.parametrize("k", [1, CHAINS])
def test_json_schema_output(client, k):
    schema = {
        "type": "object",
        "properties": {
            "animal": {"type": "string", "enum": ["dog", "cat"]},
            "legs": {"type": "integer", "minimum": 0, "maximum": 9},
            "tame": {"type": "boolean"},
        },
        "required": ["animal", "legs", "tame"],
        "additionalProperties": False,
        # A small model may fill its answer with white space between the fields.
        "x-guidance": {"whitespace_flexible": False},
    }
    response_format = {"type": "json_schema", "json_schema": {"name": "pet", "schema": schema}}
    answer = greedy(client, f"{NAME}@{k}", response_format=response_format, max_tokens=64)
    assert answer.choices[0].finish_reason == "stop"
    pet = json.loads(text(answer))
    assert list(pet) == ["animal", "legs", "tame"]
    assert pet["animal"] in ("dog", "cat")
    assert type(pet["legs"]) is int and 0 <= pet["legs"] <= 9
    assert type(pet["tame"]) is bool


@pytest.mark.parametrize("chains", [0, CHAINS + 1, -1, 1.5, "1", True])
def test_invalid_chains_are_a_bad_request(client, chains):
    with pytest.raises(openai.BadRequestError) as refused:
        greedy(client, extra_body={"chains": chains})
    assert RANGE in refused.value.body["message"]
    assert json.dumps(chains) in refused.value.body["message"]
    assert refused.value.type == "invalid_request_error"
    assert refused.value.param == "chains"


def test_contradicting_chains_are_a_bad_request(client):
    with pytest.raises(openai.BadRequestError) as refused:
        greedy(client, f"{NAME}@{CHAINS}", extra_body={"chains": 1})
    assert RANGE in refused.value.body["message"]


@pytest.mark.parametrize("model", [f"{NAME}@0", f"{NAME}@{CHAINS + 1}", f"{NAME}@two", "gpt-4"])
def test_a_model_that_is_not_served_is_not_found(client, model):
    for ask in (lambda: greedy(client, model), lambda: client.models.retrieve(model)):
        with pytest.raises(openai.NotFoundError) as refused:
            ask()
        assert RANGE in refused.value.body["message"]
        assert refused.value.code == "model_not_found"


@pytest.mark.parametrize("stream", [False, True])
def test_a_prompt_beyond_the_context_fails(client, stream):
    long = [{"role": "user", "content": "a dog and 1 cat. " * CONTEXT}]
    with pytest.raises(openai.BadRequestError) as refused:
        greedy(client, messages=long, stream=stream)
    assert str(CONTEXT) in refused.value.body["message"]
    assert refused.value.code == "context_length_exceeded"


def test_wrong_types_fail(client):
    with pytest.raises(openai.BadRequestError) as refused:
        greedy(client, temperature="hot")
    assert "temperature" in refused.value.body["message"]
    assert refused.value.param == "temperature"


def test_every_choice_of_a_stream_ends(client):
    choices = {}
    for chunk in greedy(client, n=4, stream=True, temperature=1.2, seed=7):
        for choice in chunk.choices:
            choices.setdefault(choice.index, []).append(choice.finish_reason)
    assert sorted(choices) == [0, 1, 2, 3]
    for reasons in choices.values():
        assert [reason for reason in reasons if reason] == [reasons[-1]]


def test_an_equal_seed_gives_an_equal_answer(client):
    answers = [text(greedy(client, temperature=1.5, seed=seed)) for seed in (1, 1, 2, 3, 4)]
    assert answers[0] == answers[1]
    assert len(set(answers)) > 1


def test_logprobs(client):
    answer = greedy(client, logprobs=True, top_logprobs=2)
    tokens = answer.choices[0].logprobs.content
    assert "".join(token.token for token in tokens) == text(answer)
    for token in tokens:
        assert token.logprob <= 0 and token.top_logprobs[0].logprob == token.logprob
        assert bytes(token.bytes).decode(errors="replace") == token.token


def test_a_forced_call(client):
    parameters = {
        "type": "object",
        "properties": {"celsius": {"type": "boolean"}},
        "required": ["celsius"],
        "additionalProperties": False,
    }
    tool = {"type": "function", "function": {"name": "weather", "parameters": parameters}}
    answer = greedy(client, tools=[tool], tool_choice="required", max_tokens=64)
    assert answer.choices[0].finish_reason == "tool_calls"
    (call,) = answer.choices[0].message.tool_calls
    assert call.function.name == "weather"
    assert type(json.loads(call.function.arguments)["celsius"]) is bool


def test_a_streamed_call_is_reported_as_complete(client):
    """By the event that runs the tools of an application."""
    parameters = {
        "type": "object",
        "properties": {"a": {"enum": ["x", "y"]}},
        "required": ["a"],
        "additionalProperties": False,
    }
    tool = {"type": "function", "function": {"name": "f", "parameters": parameters, "strict": True}}
    with client.chat.completions.stream(
        model=NAME, messages=QUESTION, tools=[tool], tool_choice="required", temperature=0
    ) as stream:
        done = [event for event in stream if event.type == "tool_calls.function.arguments.done"]
    assert len(done) == 1
    assert json.loads(done[0].arguments)["a"] in ("x", "y")


@pytest.mark.parametrize(
    "fields",
    [{"store": True}, {"background": True}, {"previous_response_id": "resp_1"}],
)
def test_responses_are_not_kept(client, fields):
    (field,) = fields
    with pytest.raises(openai.BadRequestError) as refused:
        client.responses.create(model=NAME, input="hello", **fields)
    assert refused.value.param == field


def test_a_streamed_response(client):
    fields = {"model": NAME, "input": "tell me a story of a dog", "temperature": 0, "max_output_tokens": 16}
    whole = client.responses.create(**fields)
    with client.responses.stream(**fields) as stream:
        events = list(stream)
        final = stream.get_final_response()
    assert final.output_text == whole.output_text
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert "".join(deltas) == whole.output_text
    ids = {event.item_id for event in events if hasattr(event, "item_id")}
    assert ids == {final.output[0].id}
    numbers = [event.sequence_number for event in events if hasattr(event, "sequence_number")]
    assert numbers == sorted(numbers)
    cut = client.responses.create(**{**fields, "max_output_tokens": 2})
    assert cut.status == "incomplete"
    assert cut.incomplete_details.reason == "max_output_tokens"


def readme_block(language, text):
    """The first code block in this language, and the text after it."""
    _, found, rest = text.partition(f"\n```{language}\n")
    assert found, language
    block, _, rest = rest.partition("\n```\n")
    return block + "\n", rest


@pytest.mark.skipif(NAME != "tiny-colm-air", reason="the README asks the model tiny-colm-air")
def test_the_readme_prints_what_it_says(server):
    program, rest = readme_block("python", (ROOT / "README.md").read_text())
    assert "http://127.0.0.1:1234" in program
    program = program.replace("http://127.0.0.1:1234", server)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    printed, _ = readme_block("text", rest)
    assert done.stdout == printed
