"""Problems of the laboratory: search spaces whose every architecture has known objectives.

To add a problem: one file, and one line in `ProblemSettings`; a table of your own needs no code (`table`).
"""

from typing import Annotated

from pydantic import Field

from nas_lib.problems.known import NASBench201, NASBenchMacro, OFAMobileNetV3
from nas_lib.problems.nas_bench_nlp import NASBenchNLP
from nas_lib.problems.problem import Problem, ProblemError
from nas_lib.problems.synthetic import Cell, Grid
from nas_lib.problems.table import Table

__all__ = ["Problem", "ProblemError", "ProblemSettings"]

ProblemSettings = Annotated[
    Table | NASBenchMacro | NASBench201 | NASBenchNLP | OFAMobileNetV3 | Grid | Cell, Field(discriminator="name")
]
