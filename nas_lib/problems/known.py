"""Published benchmarks as problems. Their files are read from the data folder; see docs/laboratory.md."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from nas_lib.problems.problem import Problem, ProblemError, Values
from nas_lib.problems.table import read_frame, tabular
from nas_lib.settings import Settings
from nas_lib.spaces.genes import Condition, Gene, GeneSpace, Numbers
from nas_lib.spaces.graphs import Drawn, Graphs, Present, chain, operations_on_edges, row
from nas_lib.tasks.download import data_folder
from nas_lib.tasks.images import DataFolder

MILLION = 1e6
UNITS = {"error": "%", "flops": "M", "parameters": "M", "macs": "M", "latency": "ms"}


def there(folder: Path | None, file: str, source: str) -> Path:
    """The path of a table in the data folder. Raises ProblemError: it is missing."""
    path = data_folder(folder) / file
    if not path.exists():
        raise ProblemError(f"{path}: is missing; put it there by hand, from {source}")
    return path


class NASBenchMacro(Settings):
    """NAS-Bench-Macro: 8 blocks of 3 kinds each, 6,561 networks trained on CIFAR-10 (Su et al. 2021, arXiv 2103.11922).

    Error (%) is that of the test images, the only one published; FLOPs in millions are exact.
    """

    name: Literal["nas-bench-macro"] = "nas-bench-macro"
    folder: DataFolder = None

    @property
    def title(self) -> str:
        """Name in tables and folders."""
        return self.name

    def file(self) -> Path:
        """The table. Raises ProblemError: it is missing."""
        return there(
            self.folder,
            "nas-bench-macro/nas-bench-macro_cifar10.json.gz",
            "the repository xiusu/NAS-Bench-Macro (data/nas-bench-macro_cifar10.json, compressed)",
        )

    def problem(self) -> Problem:
        """The problem. Raises ProblemError."""
        path = self.file()
        try:
            table = json.loads(gzip.decompress(path.read_bytes()))
            rows = np.array([[int(digit) for digit in key] for key in table], dtype=np.int64)
            values = np.array([[100 - row["mean_acc"], row["flops"] / MILLION] for row in table.values()])
        except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
            raise ProblemError(f"{path}: cannot be read as NAS-Bench-Macro ({error})") from None
        blocks = ("identity", "mb3x3-e3", "mb5x5-e6")
        genes = tuple(Gene(name=f"block{place}", options=blocks) for place in range(rows.shape[1]))
        reference = [float(np.percentile(values[:, 0], 75)), float(values[:, 1].max() * 1.001)]
        return tabular(self.name, genes, rows, values, ("error", "flops"), reference, ("flops",), UNITS, _macro_graphs)


STAGE_STARTS = np.array([True, False, True, False, False, True, False, False])
"""Which blocks of NAS-Bench-Macro begin a stage: they halve the image, so `identity` is no identity there."""


def _macro_graphs(numbers: Numbers, _: Present) -> Graphs:
    """Blocks in a row, labelled by stage, operation and whether they begin it; identities are left out.

    Of the 6,561 rows 3,969 differ as graphs; those that do not have the same published values.
    """
    stages = np.cumsum(STAGE_STARTS) - 1
    return row(3 * (2 * stages + STAGE_STARTS) + numbers, STAGE_STARTS | (numbers > 0))


class NASBench201(Settings):
    """NAS-Bench-201, CIFAR-10: a cell of 6 edges with 5 operations, 15,625 networks (Dong and Yang 2020).

    Error (%) of the test images after 200 epochs, latency in milliseconds on a Xeon Gold 6226, parameters in millions.
    """

    name: Literal["nas-bench-201"] = "nas-bench-201"
    cost: Literal["latency", "parameters"] = "latency"
    """The second objective. Parameters are exact."""
    folder: DataFolder = None

    @property
    def title(self) -> str:
        """Name in tables and folders."""
        return self.name if self.cost == "latency" else f"{self.name}-{self.cost}"

    def file(self) -> Path:
        """The table. Raises ProblemError: it is missing."""
        return there(self.folder, "nas-bench-201/cifar10.csv.gz", "the sources named in docs/laboratory.md")

    def problem(self) -> Problem:
        """The problem. Raises ProblemError."""
        path = self.file()
        frame = read_frame(path)
        try:
            edges = frame["arch_str"].str.findall(r"([a-z0-9_]+)~").tolist()
            cost = frame["latency_gold_6226_ms" if self.cost == "latency" else "params_M"]
            values = np.stack([100 - frame["test_acc_200"], cost], axis=1).astype(float)
            rows = np.array([[OPERATIONS.index(operation) for operation in row] for row in edges], dtype=np.int64)
        except (KeyError, ValueError, AttributeError) as error:
            raise ProblemError(f"{path}: cannot be read as NAS-Bench-201 ({error})") from None
        genes = tuple(Gene(name=f"edge{source}-{target}", options=OPERATIONS) for source, target in EDGES)
        reference = [float(np.percentile(values[:, 0], 75)), float(values[:, 1].max() * 1.001)]
        exact = ("parameters",) if self.cost == "parameters" else ()
        graph = operations_on_edges(EDGES, [OPERATIONS] * len(EDGES), without="none")
        return tabular(self.title, genes, rows, values, ("error", self.cost), reference, exact, UNITS, graph)


OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
"""Source and target node of each edge, in the order of the architecture string."""

STAGES, BLOCKS = 5, 4
"""Of the Once-for-All MobileNetV3; block j of a stage has an effect while its depth is above j."""


class OFAMobileNetV3(Settings):
    """A replica of the Once-for-All MobileNetV3 supernet, from 2,223 networks that DyNAS-T logged.

    Error (%) is a support vector regression on the logged top-1 (its hold-out rank correlation is 0.96), MACs in
    millions are exact: both count only blocks within the depth of their stage.
    """

    name: Literal["ofa-mobilenet-v3"] = "ofa-mobilenet-v3"
    folder: DataFolder = None

    @property
    def title(self) -> str:
        """Name in tables and folders."""
        return self.name

    def file(self) -> Path:
        """The table. Raises ProblemError: it is missing."""
        return there(self.folder, "ofa-mbv3-dynas/ofa-mbv3-dynas.csv.gz", "the sources named in docs/laboratory.md")

    def problem(self) -> Problem:
        """The problem. Raises ProblemError."""
        from sklearn.linear_model import Ridge
        from sklearn.svm import SVR

        path = self.file()
        frame = read_frame(path)
        space = GeneSpace(self.name, genes := tuple(_ofa_genes()), graph=_ofa_graph(genes))
        try:
            genotypes = [{"genes": row} for row in frame[[gene.name for gene in space.genes]].to_numpy().tolist()]
            numbers = space.numbers(genotypes)
            error, macs = 100 - frame["top1"].to_numpy(float), frame["macs"].to_numpy(float) / MILLION
        except KeyError as missing:
            raise ProblemError(f"{path}: cannot be read as the log of DyNAS-T ({missing})") from None
        accuracy = SVR(kernel="rbf", gamma="auto", C=50, epsilon=0).fit(space.one_hot(numbers), error)
        linear = Ridge(alpha=1e-6).fit(_pairs(space, numbers), macs)

        def cost(numbers: Numbers) -> Values:
            return np.asarray(linear.predict(_pairs(space, numbers)), dtype=float)

        def evaluate(numbers: Numbers) -> Values:
            return np.stack([accuracy.predict(space.one_hot(numbers)), cost(numbers)], axis=1)

        return Problem(
            name=self.name,
            space=space,
            objectives=("error", "macs"),
            evaluate=evaluate,
            reference=np.array([28.0, 500.0]),
            exact={"macs": cost},
            units=UNITS,
        )


def _ofa_genes() -> Sequence[Gene]:
    depths = [Gene(name=f"d_{stage}", options=(2, 3, 4)) for stage in range(STAGES)]
    blocks = []
    for kind, options in (("ks", (3, 5, 7)), ("e", (3, 4, 6))):
        for block in range(STAGES * BLOCKS):
            stage, place = divmod(block, BLOCKS)
            enough = tuple(depth for depth in (2, 3, 4) if depth > place)
            active = None if len(enough) == len((2, 3, 4)) else Condition(gene=f"d_{stage}", options=enough)
            blocks.append(Gene(name=f"{kind}_{block}", options=options, active=active))
    return depths + blocks


def _ofa_graph(genes: Sequence[Gene]) -> Drawn:
    """What a network does in a row, as far as the depth of each stage goes: expansion and kernel of every block."""
    kernels = range(STAGES, STAGES + STAGES * BLOCKS)
    order = [gene for kernel in kernels for gene in (kernel + STAGES * BLOCKS, kernel)]
    return chain([len(gene.options) for gene in genes], order)


def _pairs(space: GeneSpace, numbers: Numbers) -> Values:
    """One column per block and pair of kernel and expansion, all 0 for one without effect: MACs are linear in it."""
    plain, active = space.plain(numbers), space.active(numbers)
    count = STAGES * BLOCKS
    kernels, expansions = plain[:, STAGES : STAGES + count], plain[:, STAGES + count :]
    columns = np.zeros((len(numbers), count, 9))
    rows, blocks = np.nonzero(active[:, STAGES : STAGES + count])
    columns[rows, blocks, 3 * kernels[rows, blocks] + expansions[rows, blocks]] = 1.0
    return columns.reshape(len(numbers), -1)
