"""lm-evaluation-harness with `colm serve`: loglikelihood tasks over the completions endpoint.

The text must have the log-likelihood that `colm perplexity` says.
"""

import json
import math
import subprocess
import tempfile
from pathlib import Path

from harness import BIN, MODEL, REST, START, over_http, server, write_tasks


def by_perplexity(folder, k):
    """The log-likelihood of the text after its first token, which is START."""
    text = folder / "text.txt"
    text.write_text(START + REST)
    command = [BIN, "perplexity", "-m", MODEL, "-f", text, "--chains", str(k), "--json"]
    (row,) = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    return -row["nll"] * row["tokens"]


def main():
    with tempfile.TemporaryDirectory() as folder, server() as url:
        folder = Path(folder)
        write_tasks(folder)
        for k in (1, 4):
            accuracy, choices = over_http(folder, url, k)
            (((loglikelihood, _),),) = choices["colm_text"]
            expected = by_perplexity(folder, k)
            print(
                f"k = {k}: accuracy {accuracy:.3f}, log-likelihood {loglikelihood:.6f}, "
                f"colm perplexity says {expected:.6f}"
            )
            assert accuracy > 0.9, accuracy
            assert math.isclose(loglikelihood, expected, abs_tol=1e-4)


if __name__ == "__main__":
    main()
