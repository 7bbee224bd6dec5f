"""Cases with the gradients of the losses at every k."""

import numpy as np

from cases import VOCAB, common
from differentiation import directional_derivative, gradients
from files import chain_layout, json_bytes, safetensors_bytes
from model import Model
from weights import random_weights

#: Two sequences of unequal lengths: for each token whether it is predicted. The first of a sequence never is.
PREDICTED = [[0, 1, 1, 1, 1, 1, 1, 1, 1], [0, 0, 0, 1, 1, 0, 1]]


def loss_at(config, sequences, k):
    """The function from weights to the mean over all predicted tokens of -ln p(token | those before it)."""
    model = Model(config, {})

    def loss(weights):
        model.weights = weights
        total = 0
        for tokens, predicted in zip(sequences, PREDICTED):
            logits = model.logits(tokens, k)
            shifted = logits - logits.max(axis=1, keepdims=True)
            log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
            after = [t for t in range(len(tokens)) if predicted[t]]
            total = total - log_p[[t - 1 for t in after], [tokens[t] for t in after]].sum()
        return total / sum(map(sum, PREDICTED))

    return loss


def gradient_case_files(seed, fields):
    config = {**fields, **{name: value for name, value in common().items() if name not in fields}}
    weights = random_weights(config, seed)
    rng = np.random.default_rng(2000 + seed)
    sequences = [[int(t) for t in rng.integers(1, VOCAB, len(predicted))] for predicted in PREDICTED]
    direction = {name: rng.standard_normal(tensor.shape) for name, tensor in weights.items()}
    nll, tensors = {}, {}
    for k in range(1, len(config["chains"]) + 1):
        loss = loss_at(config, sequences, k)
        nll[str(k)], found = gradients(loss, weights)
        slope = sum((found[name] * direction[name]).sum() for name in found)
        other = directional_derivative(loss, weights, direction)
        assert abs(slope - other) < 1e-12 * max(1, abs(other)), (slope, other)
        tensors.update((f"{k}.{name}", gradient) for name, gradient in found.items())
    expected = {"tokens": sequences, "predicted": [list(map(bool, row)) for row in PREDICTED], "nll": nll}
    return {
        "config.json": json_bytes(config),
        "expected.json": json_bytes(expected),
        "gradients.safetensors": safetensors_bytes(tensors),
        **chain_layout(config, weights),
    }
