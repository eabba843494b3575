"""Spaces of genes and the problems of the laboratory: what equal means, and golden values of published tables."""

from pathlib import Path
from typing import Any

import moocore
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from nas_lib.problems import ProblemError
from nas_lib.problems.known import NASBench201, NASBenchMacro, OFAMobileNetV3
from nas_lib.problems.synthetic import Cell, Grid
from nas_lib.problems.table import Table
from nas_lib.spaces.genes import Condition, Gene, GeneSpace

DEPTH = GeneSpace(
    "depth",
    (
        Gene(name="depth", options=(1, 2, 3)),
        Gene(name="second", options=("a", "b", "c"), active=Condition(gene="depth", options=(2, 3))),
        Gene(name="third", options=("a", "b"), active=Condition(gene="second", options=("c",))),
    ),
)
"""9 architectures: depth 1; depths 2 and 3 with a, b, c-a, c-b."""
seeds = st.integers(0, 2**32 - 1)


def rows(*values: list[int]) -> np.ndarray:
    return np.array(values, dtype=np.int64)


# --- genes -----------------------------------------------------------------------------------------


def test_genes_without_effect_do_not_make_architectures_differ() -> None:
    shallow = rows([0, 0, 0], [0, 2, 1])
    assert DEPTH.active(shallow).tolist() == [[True, False, False], [True, False, False]]
    assert len(set(DEPTH.keys(shallow))) == 1
    assert len(set(DEPTH.keys(rows([1, 2, 0], [1, 2, 1], [1, 1, 1])))) == 3
    assert DEPTH.same({"genes": [1, "c", "b"]}, {"genes": [1, "a", "a"]})
    assert not DEPTH.same({"genes": [2, "c", "b"]}, {"genes": [2, "c", "a"]})
    assert DEPTH.describe({"genes": [2, "b", "b"]}) == "depth 2, second b"


def test_every_architecture_is_listed_once() -> None:
    assert DEPTH.listed is not None
    assert len(DEPTH.listed) == 9
    assert len(set(DEPTH.keys(DEPTH.listed))) == 9
    assert (
        GeneSpace(
            "large", (Gene(name="x", options=tuple(range(400))), Gene(name="y", options=tuple(range(400))))
        ).listed
        is None
    )


def test_one_hot_columns_of_genes_without_effect_are_empty() -> None:
    assert DEPTH.one_hot(rows([0, 2, 1], [1, 2, 1])).astype(int).tolist() == [
        [1, 0, 0, 0, 0, 0, 0, 0],
        [0, 1, 0, 0, 0, 1, 0, 1],
    ]


@settings(max_examples=30, deadline=None)
@given(seeds)
def test_genotypes_survive_encoding_and_option_numbers(seed: int) -> None:
    rng = np.random.default_rng(seed)
    genotype = DEPTH.sample(rng)
    assert DEPTH.genotype(DEPTH.numbers([genotype])[0]) == genotype
    point = DEPTH.encode(genotype)
    assert point.shape == (len(DEPTH.dimensions()),)
    assert DEPTH.same(DEPTH.decode(point, rng), genotype)
    noisy = np.clip(point + rng.uniform(-0.2, 0.2, len(point)), 0, 1)
    assert DEPTH.canonical(noisy[None])[0].tolist() == DEPTH.encode(DEPTH.decode(noisy, rng)).tolist()


def test_the_nearest_row_is_taken_where_not_all_combinations_exist() -> None:
    genes = (Gene(name="width", options=(1, 2, 4, 8)), Gene(name="kind", options=("a", "b", "c")))
    space = GeneSpace("some", genes, rows([0, 0], [3, 0], [1, 2]))
    # One step of width is a third of its range, another kind is 1 away.
    assert space.existing(rows([1, 0], [2, 0], [3, 2], [1, 2])).tolist() == [[0, 0], [3, 0], [1, 2], [1, 2]]
    drawn = {tuple(row) for row in space.draw(50, np.random.default_rng(0)).tolist()}
    assert drawn == {(0, 0), (3, 0), (1, 2)}


def test_rows_to_pass_over_are_passed_over_while_there_are_others() -> None:
    space = GeneSpace("some", (Gene(name="width", options=(1, 2, 4, 8)),), rows([0], [1], [3]))
    assert space.existing(rows([0]), without=space.keys(rows([0]))).tolist() == [[1]]
    assert space.existing(rows([0]), without=space.keys(rows([0], [1]))).tolist() == [[3]]
    assert space.existing(rows([0]), without=space.keys(rows([0], [1], [3]))).tolist() == [[0]]


@st.composite
def spaces(draw: st.DrawFn) -> GeneSpace:
    """Of 2 to 5 genes with 1 to 4 options, some active with the first options of an earlier gene, some with gaps."""
    genes: list[Gene] = []
    for place in range(draw(st.integers(2, 5))):
        options = tuple(range(draw(st.integers(1, 4))))
        active = None
        if place > 0 and draw(st.booleans()):
            source = draw(st.sampled_from(genes))
            active = Condition(gene=source.name, options=source.options[: draw(st.integers(1, len(source.options)))])
        genes.append(Gene(name=f"g{place}", options=options, ordered=draw(st.booleans()), active=active))
    whole = GeneSpace("any", tuple(genes))
    if draw(st.booleans()):
        return whole
    return GeneSpace("some", tuple(genes), whole.draw(draw(st.integers(1, 20)), np.random.default_rng(draw(seeds))))


def any_rows(space: GeneSpace, seed: int) -> np.ndarray:
    return np.asarray(np.random.default_rng(seed).integers(space.counts, size=(30, len(space.genes))))


@settings(max_examples=50, deadline=None)
@given(spaces(), seeds)
def test_the_canonical_form_is_final_and_equal_exactly_where_keys_are(space: GeneSpace, seed: int) -> None:
    found = any_rows(space, seed)
    plain, keys = space.plain(found), space.keys(found)
    assert space.plain(plain).tolist() == plain.tolist()
    # The same genes have an effect, and these have the same options.
    meant = [tuple(row) for row in np.where(space.active(found), found, -1).tolist()]
    assert [[one == other for one in meant] for other in meant] == [[one == other for one in keys] for other in keys]


@settings(max_examples=50, deadline=None)
@given(spaces(), seeds)
def test_what_exists_stays_what_it_is_and_survives_encoding(space: GeneSpace, seed: int) -> None:
    listed = space.listed
    assert listed is not None
    assert space.existing(listed).tolist() == listed.tolist()
    assert set(space.keys(space.existing(any_rows(space, seed)))) <= set(space.keys(listed))
    rng = np.random.default_rng(seed)
    for row in listed[rng.integers(len(listed), size=5)]:
        genotype = space.genotype(row)
        assert space.numbers([genotype])[0].tolist() == row.tolist()
        assert space.decode(space.encode(genotype), rng) == genotype


@settings(max_examples=30, deadline=None)
@given(spaces(), seeds)
def test_the_nearest_row_is_at_the_least_distance(space: GeneSpace, seed: int) -> None:
    listed, asked = space.listed, space.plain(any_rows(space, seed))
    assert listed is not None
    ordered = np.array([gene.is_ordered for gene in space.genes])

    def distance(one: np.ndarray, other: np.ndarray) -> np.ndarray:
        apart = np.abs(one - other)
        return np.asarray(np.where(ordered, apart / np.maximum(space.counts - 1, 1), apart > 0).sum(axis=-1))

    found = distance(asked, space.existing(asked))
    least = np.array([distance(row, listed).min() for row in asked])
    assert found == pytest.approx(least, abs=1e-5)


# --- tables ----------------------------------------------------------------------------------------


def written(folder: Path, **changes: Any) -> Path:
    columns = {
        "kernel_1": [3, 5, 3, 5, 3],
        "kernel_2": [3, 3, 5, 5, 3],
        "kind": ["x", "y", "x", "y", "x"],
        "accuracy": [70.0, 75.0, 72.0, 80.0, 74.0],
        "size": [1.0, 2.0, 2.0, 4.0, 1.0],
    } | changes
    pd.DataFrame(columns).to_csv(folder / "mine.csv", index=False)
    return folder / "mine.csv"


NOT_BEFORE = r"the gene kernel_1 depends on 'kernel_2', allowed are the genes before it: kind"
NO_OPTION = r"the gene kernel_1 depends on kind being 'z', allowed are 'x', 'y'"


def table_of(path: Path, **changes: Any) -> Table:
    content = {
        "path": path,
        "genes": ["kernel_*", "kind"],
        "objectives": [{"column": "accuracy", "maximise": True}, {"column": "size", "exact": True}],
    }
    return Table.model_validate(content | changes)


def test_a_table_of_ones_own_needs_only_its_columns(tmp_path: Path) -> None:
    problem = table_of(written(tmp_path)).problem()
    assert problem.name == "mine"
    assert [gene.name for gene in problem.space.genes] == ["kernel_1", "kernel_2", "kind"]
    assert [gene.is_ordered for gene in problem.space.genes] == [True, True, False]
    assert problem.objectives == ("accuracy", "size")
    first = problem.space.numbers([{"genes": [3, 3, "x"]}])
    assert problem.evaluate(first).tolist() == [[-72.0, 1.0]]  # the mean of the two rows that are the same architecture
    assert problem.exact["size"](first).tolist() == [1.0]
    assert problem.front is not None
    assert sorted(problem.front.tolist()) == [[-80.0, 4.0], [-75.0, 2.0], [-72.0, 1.0]]
    assert problem.reference.tolist() == pytest.approx([-71.2, 4.3])  # a tenth of the front's range beyond its worst


def test_references_are_given_as_in_the_column(tmp_path: Path) -> None:
    objectives = [{"column": "accuracy", "maximise": True, "reference": 60}, {"column": "size", "reference": 5}]
    assert table_of(written(tmp_path), objectives=objectives).problem().reference.tolist() == [-60, 5]


def test_a_complete_table_is_a_whole_space_and_one_with_gaps_is_its_rows(tmp_path: Path) -> None:
    whole = table_of(written(tmp_path), genes=["kernel_*"]).problem()
    assert whole.space.rows is None
    gaps = table_of(written(tmp_path)).problem()
    assert gaps.space.rows is not None
    assert len(gaps.space.rows) == 4


def test_a_reference_point_is_judged_by_means_of_equal_rows(tmp_path: Path) -> None:
    repeated = {"kernel_1": 3, "kernel_2": 3, "kind": ["x", "x", "y", "y", "y"]}
    path = written(tmp_path, **repeated, accuracy=[70, 80, 60, 60, 60], size=[1, 3, 5, 5, 5])
    assert table_of(path).problem().front == pytest.approx(np.array([[-75.0, 2.0]]))  # no row is as good as its mean
    objectives = [{"column": "accuracy", "maximise": True, "reference": 76}, "size"]
    with pytest.raises(ProblemError, match=r"no architecture is better .* best values are accuracy 75, size 2"):
        table_of(path, objectives=objectives).problem()


def test_a_gene_may_be_empty_where_it_has_no_effect(tmp_path: Path) -> None:
    genes = ["kind", {"columns": "kernel_1", "active": {"gene": "kind", "options": ["x"]}}]
    genes += [{"columns": "kernel_2", "active": {"gene": "kernel_1", "options": [5]}}]
    empty = {"kernel_1": [3, None, 5, None, 5], "kernel_2": [None, None, 3, None, 7]}
    problem = table_of(written(tmp_path, **empty), genes=genes).problem()
    assert [gene.options for gene in problem.space.genes] == [("x", "y"), (3, 5), (3, 7)]
    assert problem.space.rows is None  # y, x 3, x 5 3 and x 5 7 are all there are
    assert problem.evaluate(problem.space.numbers([{"genes": ["y", 5, 7]}])).tolist() == [[-77.5, 3.0]]
    empty["kernel_2"] = [None, None, 3, None, None]
    message = r"the gene kernel_2 is empty in row 5, allowed are .*, or nothing where it has no effect"
    with pytest.raises(ProblemError, match=message):
        table_of(written(tmp_path, **empty), genes=genes).problem()


def test_maximised_objectives_are_called_negated(tmp_path: Path) -> None:
    assert table_of(written(tmp_path)).problem().units == {"accuracy": "negated"}


def test_an_index_of_a_parquet_table_is_a_column_unless_there_is_one_of_its_name(tmp_path: Path) -> None:
    frame = pd.read_csv(written(tmp_path))
    for place, index in enumerate([frame.set_index("kind"), frame.set_index("kind", drop=False)]):
        index.to_parquet(tmp_path / f"{place}.parquet")
        assert table_of(tmp_path / f"{place}.parquet").problem().space.size == 4


def test_parquet_tables_are_read_too(tmp_path: Path) -> None:
    frame = pd.read_csv(written(tmp_path))
    frame.to_parquet(tmp_path / "mine.parquet")
    assert table_of(tmp_path / "mine.parquet").problem().space.size == 4


@pytest.mark.parametrize(
    ("changes", "settings", "message"),
    [
        (
            {},
            {"genes": ["kernels"]},
            r"no column 'kernels' \(did you mean 'kernel_2'\?\); it has kernel_1, kernel_2, kind, accuracy, size",
        ),
        ({"kind": ["x", None, "x", "y", "x"]}, {}, r"mine.csv: the gene kind is empty in row 2"),
        ({"size": ["s", "m", "l", "m", "s"]}, {}, r"mine.csv: the objective size is 's' in row 1, allowed are numbers"),
        ({"size": [None] * 5}, {}, r"mine.csv: no row has a number in accuracy, size"),
        ({"size": ["1,5"] * 5}, {}, r"the objective size is '1,5' in row 1, allowed are numbers"),
        (
            {"size": [1, 1e200, 1, 1, 1]},
            {},
            r"the objective size is 1e\+200 in row 2, allowed are numbers, with a decimal point, up to 1e\+100",
        ),
        ({"size": [None, 1, 1, 1, 1], "kind": ["x", "y", None, "y", "y"]}, {}, r"the gene kind is empty in row 3"),
        ({"kernel_1": [3, 5, np.inf, 3, 5]}, {}, r"the gene kernel_1 is infinite in row 3, allowed are finite numbers"),
        ({"kind": range(5)}, {"genes": ["k*", "kind"]}, r"the gene kind is named by 'k\*' and 'kind', allowed is one"),
        ({}, {"objectives": ["acc*"]}, r"no column 'acc\*'"),
        ({}, {"genes": ["kind", {"columns": "kernel_1", "active": {"gene": "kernel_2", "options": [3]}}]}, NOT_BEFORE),
        ({}, {"genes": ["kind", {"columns": "kernel_1", "active": {"gene": "kind", "options": ["z"]}}]}, NO_OPTION),
        (
            {},
            {"objectives": [{"column": "size", "reference": 1}]},
            r"no architecture is better .* \(size 1\), .* best values are size 1",
        ),
        ({"kernel_1": 3, "kernel_2": 3, "kind": "x"}, {}, r"all rows are the same architecture, allowed are two"),
        ({"kind": None}, {"genes": ["kind"]}, r"the gene kind is empty in row 1"),
    ],
)
def test_a_wrong_table_is_one_clear_line(
    tmp_path: Path, changes: dict[str, Any], settings: dict[str, Any], message: str
) -> None:
    table = table_of(written(tmp_path, **changes), **settings)
    with pytest.raises(ProblemError, match=message) as found:
        table.problem()
    assert "\n" not in str(found.value)


def test_a_gene_has_at_most_a_thousand_options(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    pd.DataFrame({"kind": range(1001), "accuracy": 1.0, "size": 1.0}).to_csv(path, index=False)
    with pytest.raises(ProblemError, match=r"the gene kind has 1,001 options, allowed are 1,000"):
        table_of(path, genes=["kind"]).problem()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"objectives": ["size", "size"]}, "the objective size occurs twice, allowed are different columns"),
        ({"genes": ["kind", "size"]}, "size is a gene and an objective, allowed is one of them"),
        ({"objectives": ["round"]}, "an objective is called round, allowed are names other than round, slot"),
        ({"title": "Mine!"}, "String should match pattern"),
    ],
)
def test_what_is_wrong_without_the_file_is_found_without_it(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        table_of(Path("nowhere.csv"), **settings)


def test_a_pattern_leaves_the_objectives_out(tmp_path: Path) -> None:
    problem = table_of(written(tmp_path), genes=["*"]).problem()
    assert [gene.name for gene in problem.space.genes] == ["kernel_1", "kernel_2", "kind"]


@pytest.mark.parametrize(
    ("column", "options", "ordered"),
    [
        ([True, False, True, False, True], (False, True), False),
        ([3.0, 5.0, 3.0, 5.0, 3.0], (3, 5), True),
        ([0.5, 1, 2, 2, 2], (0.5, 1.0, 2.0), True),
        ([1, "x", 2.5, 1, 1], ("1", "2.5", "x"), False),
        (["None", "conv", "NA", "conv", "nan"], ("NA", "None", "conv", "nan"), False),
    ],
)
def test_options_are_numbers_or_truth_values_if_all_are_and_else_text(
    tmp_path: Path, column: list[object], options: tuple[object, ...], ordered: bool
) -> None:
    (gene,) = table_of(written(tmp_path, kind=column), genes=["kind"]).problem().space.genes
    assert (gene.options, [type(option) for option in gene.options]) == (options, [type(option) for option in options])
    assert gene.is_ordered is ordered


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbfkind,accuracy,size\r\nx,70,1\r\ny,80,2\r\n",
        b"kind;accuracy;size\nx;70;1\ny;80;2\n",
        b"kind\taccuracy\tsize\nx\t70\t1\ny\t80\t2\n",
        b"kind, accuracy, size\nx, 70, 1\ny, 80, 2\nz, , 3\n",
        b"kind ,accuracy,size\nx ,70 ,1\nx,70,1\ny,80,2\n",
    ],
    ids=["byte order mark and CRLF", "semicolons", "tabs", "blanks and a gap", "blanks after values"],
)
def test_files_of_other_programs_are_read(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "mine.csv").write_bytes(content)
    problem = table_of(tmp_path / "mine.csv", genes=["kind"]).problem()
    assert problem.space.genes[0].options == ("x", "y")
    assert problem.evaluate(rows([0], [1])).tolist() == [[-70, 1], [-80, 2]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot be read as a table"),
        (b"kind,accuracy,size\n", "has no rows"),
        (b"kind,accuracy,size\ngro\xdf,70,1\n", "has the byte 0xdf, allowed is UTF-8"),
        (b"kind,accuracy,size\nx,70,1,9\ny,80,2,9\n", r"more values than the head has columns \(3\)"),
        (b"kind,kind,accuracy,size\nx,y,70,1\n", "the column 'kind' occurs twice"),
    ],
)
def test_a_file_that_is_no_table_is_one_clear_line(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "mine.csv").write_bytes(content)
    with pytest.raises(ProblemError, match=f"mine.csv: .*{message}") as found:
        table_of(tmp_path / "mine.csv", genes=["kind"]).problem()
    assert "\n" not in str(found.value)


def test_a_missing_table_says_where_it_belongs_and_whence(tmp_path: Path) -> None:
    with pytest.raises(ProblemError, match=r"nas-bench-macro_cifar10.json.gz: is missing; put it there by hand, from"):
        NASBenchMacro(folder=tmp_path).problem()
    with pytest.raises(ProblemError, match=r"nowhere.csv: is missing"):
        table_of(tmp_path / "nowhere.csv").problem()


# --- published tables: golden values of the reference ----------------------------------------------


def test_nas_bench_macro_has_its_published_rows_and_front(shared_data: Path) -> None:
    problem = NASBenchMacro(folder=shared_data).problem()
    keys = ["00000000", "02012100", "11111111", "22222222", "22212220"]
    found = problem.evaluate(rows(*[[int(digit) for digit in key] for key in keys]))
    assert 100 - found[:, 0] == pytest.approx([45.3633, 89.1967, 91.93, 92.9533, 93.1267], abs=5e-5)
    assert found[:, 1] == pytest.approx([7.71328, 47.327744, 53.246464, 105.660928, 85.164544])
    assert problem.reference == pytest.approx([10.54000346, 105.76658893])
    assert problem.front is not None
    assert len(problem.front) == 35
    assert moocore.hypervolume(problem.front, ref=problem.reference) == pytest.approx(227.00048, abs=5e-5)


def test_nas_bench_201_has_its_published_front(shared_data: Path) -> None:
    problem = NASBench201(folder=shared_data).problem()
    assert problem.space.size == 5**6
    assert problem.reference == pytest.approx([12.43, 20.3935], abs=5e-4)
    assert problem.front is not None
    assert len(problem.front) == 39
    assert moocore.hypervolume(problem.front, ref=problem.reference) == pytest.approx(94.371, abs=5e-3)
    parameters = NASBench201(folder=shared_data, cost="parameters").problem()
    best = parameters.space.numbers([{"genes": ["nor_conv_3x3"] * 6}])
    assert parameters.evaluate(best)[0, 1] == pytest.approx(1.5315, abs=5e-4)


def test_the_ofa_replica_gives_the_logged_networks_back(shared_data: Path) -> None:
    problem = OFAMobileNetV3(folder=shared_data).problem()
    frame = pd.read_csv(shared_data / "ofa-mbv3-dynas/ofa-mbv3-dynas.csv.gz")
    names = [gene.name for gene in problem.space.genes]
    numbers = problem.space.numbers([{"genes": row} for row in frame[names].to_numpy().tolist()])
    assert len(set(problem.space.keys(numbers))) == 2162
    found = problem.evaluate(numbers)
    assert np.abs(found[:, 1] - frame["macs"] / 1e6).max() < 1e-3
    assert np.abs(found[:, 0] - (100 - frame["top1"])).mean() < 0.05
    assert problem.exact["macs"](numbers).tolist() == found[:, 1].tolist()


# --- synthetic problems ----------------------------------------------------------------------------


def test_zdt1_and_dtlz2_have_their_known_values() -> None:
    zdt = Grid(function="zdt1", genes=3, options=5).problem()
    assert zdt.evaluate(rows([1, 0, 0], [4, 4, 4])).tolist() == pytest.approx(
        [pytest.approx([0.25, 0.5]), pytest.approx([1.0, 10 - np.sqrt(10)])]
    )
    dtlz = Grid(function="dtlz2", genes=4, options=5, objectives=3).problem()
    centre = dtlz.evaluate(rows([0, 0, 2, 2], [4, 0, 2, 2], [2, 4, 2, 2], [0, 0, 0, 2]))
    assert centre == pytest.approx(np.array([[1, 0, 0], [0, 0, 1], [0, 0.5**0.5, 0.5**0.5], [1.25, 0, 0]]), abs=1e-12)


@pytest.mark.parametrize(
    "grid",
    [Grid(function=name, genes=4, options=5) for name in ("zdt1", "zdt2", "zdt3", "dtlz2")]
    + [Grid(function="dtlz2", genes=4, options=6, objectives=3)],
    ids=lambda grid: grid.title,
)
def test_the_front_of_a_grid_is_that_of_all_its_points(grid: Grid) -> None:
    problem = grid.problem()
    assert problem.space.listed is not None
    assert problem.front is not None
    everything = problem.evaluate(problem.space.listed)
    expected = everything[moocore.is_nondominated(everything, keep_weakly=False)]
    assert moocore.hypervolume(problem.front, ref=problem.reference) == pytest.approx(
        moocore.hypervolume(expected, ref=problem.reference)
    )


def test_an_edge_of_the_cell_counts_only_while_its_partner_has_another_operation_than_the_first() -> None:
    problem = Cell(genes=4, options=3).problem()
    off, on = rows([0, 1, 0, 1], [0, 1, 2, 1]), rows([1, 1, 0, 1], [1, 1, 2, 1])
    assert problem.evaluate(off[:1]).tolist() == problem.evaluate(off[1:]).tolist()
    assert problem.evaluate(on[:1]).tolist() != problem.evaluate(on[1:]).tolist()


def test_genes_of_the_cell_interact_and_its_cost_does_not() -> None:
    problem = Cell(genes=6, options=3).problem()
    listed = problem.space.listed
    assert listed is not None
    one_hot, values = problem.space.one_hot(listed), problem.evaluate(listed)
    residuals = [np.linalg.lstsq(one_hot, column, rcond=None)[0] for column in values.T]
    unexplained = [
        np.var(column - one_hot @ weights) / np.var(column) for column, weights in zip(values.T, residuals, strict=True)
    ]
    assert unexplained[0] > 0.2
    assert unexplained[1] < 1e-20
    assert problem.exact["cost"](listed) == pytest.approx(values[:, 1])
