"""The linear layers against float64, for one launcher."""

import random

import torch

import reference
from library import MAX_SKINNY_ROWS, Matrix, Rows

DECODE = "colm_chain_linear_decode"


class LinearCheck:
    def __init__(self, check, launcher):
        self.check, self.launcher = check, launcher
        self.kernel = launcher.removeprefix("colm_")

    def layer(self, widths, rows, outputs, gated, bias, residual):
        check, matrices = self.check, []
        for chain, out in enumerate(outputs):
            inputs = sum(widths[: chain + 1])
            some = lambda wanted, *shape: check.tensor(*shape) if wanted else None
            scale = inputs**-0.5
            matrices.append(Matrix(
                weight=check.tensor(out, inputs) * scale,
                up=check.tensor(out, inputs) * scale if gated else None,
                bias=some(bias, out),
                up_bias=some(bias and gated, out),
                residual=some(residual, rows.counts[chain], out)))
        return matrices

    def compare(self, widths, rows, kinds):
        """`kinds`: per layer (outputs per chain, gated, bias, residual)."""
        check = self.check
        x = [check.tensor(count, width) for count, width in zip(rows.counts, widths)]
        layers = [self.layer(widths, rows, *kind) for kind in kinds]
        results = [(chain, matrix) for layer in layers for chain, matrix in enumerate(layer)]
        expected = [reference.linear(x, rows, matrix, chain) for chain, matrix in results]
        launch = check.kernels.linear(x, rows, layers, self.launcher)
        names = ["gated", "bias", "residual"]
        options = [name for name, wanted in zip(names, kinds[0][1:]) if wanted]
        case = f"rows {rows.counts}, {len(layers)} layers, {' '.join(options) or 'plain'}"
        if check.twice(self.kernel, case, launch, [matrix.y for _, matrix in results]):
            for (chain, matrix), formula in zip(results, expected):
                check.note(self.kernel, matrix.y, formula, f"{case}, chain {chain + 1}")

    def nested(self, counts):
        rows = [sorted(random.sample(range(counts[0]), counts[0]))]
        for count in counts[1:]:
            rows.append(sorted(random.sample(rows[-1], count)))
        return Rows.nested(rows, self.check.device)

    def run(self):
        small = self.check.small
        unit = 32 if small else 512
        widths, outputs = [unit, unit, unit // 2, 8], [unit, 2 * unit + 8, 24, unit // 2]
        if self.launcher == DECODE:
            self.few_rows(widths, outputs)
        else:
            self.many_rows(widths, outputs, [150, 40, 7, 1] if small else [1500, 1500, 300, 3])

    def many_rows(self, widths, outputs, counts):
        for rows in [Rows.same(4, counts[1]), self.nested(counts)]:
            self.compare(widths, rows, [(outputs, False, False, False)])
            self.compare(widths, rows, [(outputs, False, True, True)])
            self.compare(widths, rows, [(outputs, True, False, False)])
            self.compare(widths, rows, [(outputs, True, True, True)])
            # Air's queries, keys and values.
            self.compare(widths, rows, [(outputs, False, True, False)] + [(outputs[:1], False, True, False)] * 2)

    def few_rows(self, widths, outputs):
        for count in [1, 5] if self.check.small else [1, 2, 3, 4, 5, 6, 7, 8, 9, 31, 32]:
            same = Rows.same(4, count)
            self.compare(widths, same, [(outputs, False, True, True)])
            self.compare(widths, same, [(outputs, True, False, False)])
        self.compare(widths, self.nested([8, 4, 2, 1]), [(outputs, False, False, True)])
        self.own_bits(widths, outputs)

    def own_bits(self, widths, outputs):
        """A row has the same bits alone and in a decode batch."""
        check = self.check
        x = [check.tensor(MAX_SKINNY_ROWS, width) for width in widths]
        rows = Rows.same(4, MAX_SKINNY_ROWS)
        layer = self.layer(widths, rows, outputs, False, True, False)
        check.kernels.linear(x, rows, [layer])()
        for row in random.sample(range(MAX_SKINNY_ROWS), 3):
            alone = [Matrix(matrix.weight, bias=matrix.bias) for matrix in layer]
            check.kernels.linear([t[row : row + 1].clone() for t in x], Rows.same(4, 1), [alone])()
            for one, matrix in zip(alone, layer):
                if not torch.equal(one.y[0], matrix.y[row]):
                    check.results.broken(self.kernel, check.dtype_name, f"row {row} alone",
                                         "a row's bits depend on the other rows of the batch")
