"""Derivatives of NumPy code in float64, in two ways that share nothing: reverse mode and complex steps."""

import itertools

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

_order = itertools.count()


class Traced(NDArrayOperatorsMixin):
    """An array that remembers which arrays it was computed from, and how gradients flow back to them.

    It has those operations of an array that the model uses; any other fails.
    """

    def __init__(self, value, sources=()):
        self.value = np.asarray(value, dtype=np.float64)
        # Pairs of a Traced and the function from the gradient of this array to that of the other.
        self.sources = sources
        self.order = next(_order)

    @property
    def shape(self):
        return self.value.shape

    @property
    def T(self):  # noqa: N802
        return Traced(self.value.T, [(self, lambda g: g.T)])

    def __getitem__(self, index):
        def back(g):
            gradient = np.zeros_like(self.value)
            np.add.at(gradient, index, g)
            return gradient

        return Traced(self.value[index], [(self, back)])

    def max(self, **kwargs):
        """A constant: the model only subtracts it from all arguments of a softmax, which does not change the result."""
        return self.value.max(**kwargs)

    def sum(self, **kwargs):
        # `keepdims` lets the gradient broadcast.
        return Traced(self.value.sum(**kwargs), [(self, lambda g: np.broadcast_to(g, self.shape))])

    def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
        if method != "__call__" or kwargs or ufunc not in DERIVATIVES:
            return NotImplemented
        values = [x.value if isinstance(x, Traced) else np.asarray(x) for x in inputs]
        result = ufunc(*values)
        sources = []
        for x, derivative in zip(inputs, DERIVATIVES[ufunc]):
            if isinstance(x, Traced):
                sources.append((x, lambda g, x=x, d=derivative: _fit(d(g, result, *values), x.shape)))
        return Traced(result, sources)

    def __array_function__(self, function, types, args, kwargs):
        if function not in FUNCTIONS:
            return NotImplemented
        return FUNCTIONS[function](*args, **kwargs)


#: For each function of NumPy the gradient of each argument, from that of the result g, the result y and the arguments.
DERIVATIVES = {
    np.add: (lambda g, y, a, b: g, lambda g, y, a, b: g),
    np.subtract: (lambda g, y, a, b: g, lambda g, y, a, b: -g),
    np.multiply: (lambda g, y, a, b: g * b, lambda g, y, a, b: g * a),
    np.true_divide: (lambda g, y, a, b: g / b, lambda g, y, a, b: -g * y / b),
    np.matmul: (lambda g, y, a, b: g @ b.T, lambda g, y, a, b: a.T @ g),
    np.negative: (lambda g, y, a: -g,),
    np.exp: (lambda g, y, a: g * y,),
    np.log: (lambda g, y, a: g / a,),
    np.sqrt: (lambda g, y, a: g / (2 * y),),
}


def _fit(gradient, shape):
    """The gradient of an array of this shape that was broadcast."""
    while gradient.ndim > len(shape):
        gradient = gradient.sum(0)
    for axis, width in enumerate(shape):
        if width == 1:
            gradient = gradient.sum(axis, keepdims=True)
    return gradient


def _mean(x, axis, keepdims):
    return x.sum(axis=axis, keepdims=keepdims) / x.shape[axis]


def _concatenate(parts, axis):
    parts = [part if isinstance(part, Traced) else Traced(part) for part in parts]
    ends = np.cumsum([part.shape[axis] for part in parts])[:-1]
    joined = np.concatenate([part.value for part in parts], axis=axis)
    return Traced(joined, [(part, lambda g, i=i: np.split(g, ends, axis)[i]) for i, part in enumerate(parts)])


def _split(x, count, axis):
    width = x.shape[axis] // count
    before = (slice(None),) * axis
    return [x[(*before, slice(i * width, (i + 1) * width))] for i in range(count)]


def _where(condition, x, other):
    """`x` where the condition holds, else the constant `other`."""
    return Traced(np.where(condition, x.value, other), [(x, lambda g: np.where(condition, g, 0))])


FUNCTIONS = {
    np.concatenate: _concatenate,
    np.mean: _mean,
    np.ones_like: lambda x: np.ones_like(x.value),
    np.split: _split,
    np.where: _where,
}


def gradients(function, inputs):
    """The value of `function`, a number, and its gradient for every array in the dict `inputs`. An array that has no
    effect has no gradient."""
    leaves = {name: Traced(value) for name, value in inputs.items()}
    result = function(leaves)
    waiting, found = {result.order: (result, np.ones_like(result.value))}, {}
    while waiting:
        # The last array that was computed: all gradients that flow into it have arrived.
        order = max(waiting)
        array, gradient = waiting.pop(order)
        found[order] = gradient
        for source, back in array.sources:
            _, sum_so_far = waiting.get(source.order, (source, 0))
            waiting[source.order] = (source, sum_so_far + back(gradient))
    own = {name: found[leaf.order] for name, leaf in leaves.items() if leaf.order in found}
    return float(result.value), own


def directional_derivative(function, inputs, direction):
    """The derivative of `function` at `inputs` along `direction`: Im f(x + i h d) / h, which rounds nothing away."""
    h = 1e-30
    moved = {name: value.astype(np.float64) + 1j * h * direction[name] for name, value in inputs.items()}
    return float(np.imag(function(moved)) / h)
