"""lm-evaluation-harness with transformers (`--model hf`) gives the scores that it gives with `colm serve`.

transformers runs the code that `colm-convert --with-python` writes beside the model, because the harness does not
import the package. It has no argument for the number of chains, so the models at k chains are extracted.
"""

import math
import subprocess
import tempfile
from pathlib import Path

from harness import BIN, MODEL, evaluated, over_http, server, write_tasks


def by_transformers(folder, k):
    model = folder / f"model{k}"
    command = [BIN.with_name("colm-convert"), "extract", MODEL, model, "--chains", str(k), "--with-python"]
    subprocess.run(command, check=True, capture_output=True)
    arguments = f"pretrained={model},trust_remote_code=True,dtype=float32"
    return evaluated(folder, folder / f"hf{k}", "hf", arguments, "--device", "cpu")


def main():
    with tempfile.TemporaryDirectory() as folder, server() as url:
        folder = Path(folder)
        write_tasks(folder)
        for k in (1, 4):
            accuracy, choices = over_http(folder, url, k)
            hf_accuracy, hf_choices = by_transformers(folder, k)
            pairs = [
                (one, other)
                for task, questions in choices.items()
                for question, hf_question in zip(questions, hf_choices[task], strict=True)
                for one, other in zip(question, hf_question, strict=True)
            ]
            differences = [abs(one[0] - other[0]) for one, other in pairs]
            # NaN counts as the largest. `max` alone would skip it.
            largest = max(differences, key=lambda difference: (math.isnan(difference), difference))
            print(
                f"k = {k}: accuracy {accuracy:.3f} and {hf_accuracy:.3f}; "
                f"{len(pairs)} log-likelihoods differ by at most {largest:.1e}"
            )
            assert accuracy == hf_accuracy > 0.9
            assert len(pairs) > 100 and largest < 1e-4, (len(pairs), largest)
            assert all(one[1] == other[1] for one, other in pairs)


if __name__ == "__main__":
    main()
