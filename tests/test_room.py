"""A candidate runs beside others where there is room for it, and else alone."""

from contextlib import ExitStack

import pytest
from filelock import Timeout

from nas_lib.evaluation import devices
from nas_lib.evaluation.candidate import with_room
from nas_lib.evaluation.devices import Claim, claimed
from nas_lib.records import Evaluation, Proposal


def evaluation(reason: str = "") -> Evaluation:
    proposal = Proposal(round=0, slot=0, genotype={}, hash="h", epochs=1)
    return Evaluation(proposal=proposal, status="failed" if reason else "ok", reason=reason)


def claim_of_two(stack: ExitStack) -> Claim:
    return stack.enter_context(claimed(("cuda:0",), slots=2))


def is_alone() -> bool:
    """Whether the door of the device is held."""
    try:
        with devices._lock("cuda:0", "door").acquire(timeout=0):
            return False
    except Timeout:
        return True


@pytest.mark.usefixtures("two_gpus")
@pytest.mark.parametrize(("needed", "alone"), [(10, False), (11, True)])
def test_what_does_not_fit_beside_the_others_runs_alone(needed: int, alone: bool) -> None:
    how = []

    def run() -> Evaluation:
        how.append(is_alone())
        return evaluation()

    with ExitStack() as stack:
        assert with_room(claim_of_two(stack), needed=lambda: needed, free=lambda: 10, run=run).ok
    assert how == [alone]


@pytest.mark.usefixtures("two_gpus")
@pytest.mark.parametrize("second", ["", "out of memory"])
def test_out_of_memory_beside_others_is_tried_once_more_alone(second: str) -> None:
    reasons = ["out of memory", second]
    how = []

    def run() -> Evaluation:
        how.append(is_alone())
        return evaluation(reasons[len(how) - 1])

    with ExitStack() as stack:
        claim = claim_of_two(stack)
        companion = stack.enter_context(ExitStack())
        claim_of_two(companion)

        def leaving() -> Evaluation:
            result = run()
            companion.close()
            return result

        result = with_room(claim, needed=lambda: 1, free=lambda: 10, run=leaving)
    assert how == [False, True]
    assert result.reason == second
    assert result.wall_clock["retried"] == "out of memory beside other jobs"


@pytest.mark.usefixtures("two_gpus")
@pytest.mark.parametrize("slots", [1, 2])
def test_out_of_memory_with_the_device_to_itself_is_the_result(slots: int) -> None:
    runs = []

    def run() -> Evaluation:
        runs.append(1)
        return evaluation("out of memory")

    with claimed(("cuda:0",), slots=slots) as claim:
        result = with_room(claim, needed=lambda: 1, free=lambda: 10, run=run)
    assert (len(runs), result.reason) == (1, "out of memory")


@pytest.mark.usefixtures("two_gpus")
def test_another_failure_is_not_tried_again() -> None:
    runs = []

    def run() -> Evaluation:
        runs.append(1)
        return evaluation("diverged")

    with ExitStack() as stack:
        claim = claim_of_two(stack)
        claim_of_two(stack)
        with_room(claim, needed=lambda: 1, free=lambda: 10, run=run)
    assert len(runs) == 1
