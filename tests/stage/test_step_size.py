"""Steps get smaller when memory is short, and large again when it is not."""

from __future__ import annotations

from pipespec.stage.step_size import GOOD_STEPS, StepSize


def after_good(size: StepSize, num_steps: int) -> int:
    for _ in range(num_steps):
        size.on_good()
    return size.most


def test_a_step_without_memory_halves_what_the_next_may_have() -> None:
    size = StepSize(1000)
    size.on_out_of_memory(600, "injected")
    size.on_out_of_memory(300, "injected")
    assert (size.most, size.num_too_large) == (150, 2)


def test_good_steps_double_it_up_to_what_the_engine_takes() -> None:
    size = StepSize(1000)
    size.on_out_of_memory(600, "injected")
    assert after_good(size, GOOD_STEPS - 1) == 300
    assert after_good(size, 1) == 600
    assert after_good(size, GOOD_STEPS) == 1000
    assert after_good(size, 5 * GOOD_STEPS) == 1000


def test_good_steps_are_counted_anew_after_one_that_failed() -> None:
    size = StepSize(1000)
    size.on_out_of_memory(600, "injected")
    after_good(size, GOOD_STEPS - 1)
    size.on_out_of_memory(300, "injected")
    assert after_good(size, GOOD_STEPS - 1) == 150
