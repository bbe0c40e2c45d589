"""The core needs a runner, not a model: on hashes instead of a network it gives what they say."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from tests.integration.engine.harness import IMAGE, LaggingDetokenizer, ask, run
from tests.invariants import assert_no_pages_held
from tests.twins.forward import Mode, square
from tests.twins.toy import TOY_IDS, Job, Toy, run_toy
from vlm_dlm.decoding import MODES
from vlm_dlm.decoding.autoregressive import Autoregressive, AutoregressiveState
from vlm_dlm.engine.config import EngineConfig
from vlm_dlm.engine.core import EngineCore
from vlm_dlm.engine.pages import PageTable
from vlm_dlm.engine.rows import PackedRows
from vlm_dlm.engine.runner import Runner
from vlm_dlm.errors import BadInputError, CapacityError
from vlm_dlm.request import GenerationRequest, ImageInput, PromptInput, SamplingParams
from vlm_dlm.step import WIDE_ROOM, Pattern, Room, StepPlan, Visibility

LIMITS = EngineConfig(page_size=4, max_cache_tokens=1024)
NOTHING = -1


class ToyRunner(Runner):
    """Its keys and values are the tokens themselves; the features of an image are its hash."""

    def __init__(self, toy: Toy, num_slots: int = LIMITS.num_slots) -> None:
        self.toy = toy
        self.num_slots = num_slots
        self.max_context = 128
        self.image_token_id = IMAGE
        self.slots = [NOTHING] * num_slots
        self.encoded: list[str] = []
        self.spliced: list[float] = []

    def run(self, batch: Sequence[PackedRows]) -> list[Tensor]:
        return [self._run(rows) for rows in batch]

    def encode(self, image: ImageInput) -> Tensor:
        self.encoded.append(image.content_hash)
        return torch.full((image.num_tokens, 1), float(len(image.content_hash)))

    def copy(self, source: PageTable, target: PageTable, num_tokens: int) -> None:
        pairs = zip(source.slots_of(0, num_tokens), target.slots_of(0, num_tokens), strict=True)
        for old, new in pairs:
            self.slots[new] = self.slots[old]

    def _run(self, rows: PackedRows) -> Tensor:
        plan, cache_len = rows.plan, rows.cache_len
        if rows.features is not None:
            self.spliced += rows.features.flatten().tolist()
        cache = [self.slots[slot] for slot in rows.table.slots_of(0, cache_len)]
        assert NOTHING not in cache, "a slot that was never written"
        written = rows.table.slots_of(cache_len, rows.length)
        for slot, token in zip(written, plan.token_ids, strict=True):
            self.slots[slot] = token
        sees = plan.visibility
        if isinstance(sees, Pattern):
            visible = sees.mask()
        else:
            visible = square(rows.num_rows, Mode.C if sees is Visibility.CAUSAL else Mode.D)
        positions = [cache_len + offset for offset in plan.offsets or range(rows.num_rows)]
        logits = self.toy.rows(plan.token_ids, cache, positions, visible)
        return logits[rows.num_rows - rows.logit_rows :]


def toy_core(toy: Toy, config: EngineConfig = LIMITS) -> EngineCore:
    return EngineCore(ToyRunner(toy), TOY_IDS, LaggingDetokenizer, config)


def twin_tokens(toy: Toy, request: GenerationRequest) -> tuple[int, ...]:
    """The same in an engine of three lines."""
    prompt = list(request.prompt.token_ids)
    job = Job(request.mode, prompt, request.params, request.sampling)
    return tuple(run_toy(toy, [job])[0].tokens)


@pytest.mark.parametrize("temperature", [0.0, 0.8])
@pytest.mark.parametrize("chunk", [2, 1024])
def test_a_made_up_runner_gives_what_its_twin_gives(temperature: float, chunk: int) -> None:
    """All modes at once, prompts whole and in pieces, one of them copied from a kept one."""
    toy = Toy(salt=3)
    requests = [
        ask(f"{mode}-{i}", mode, prompt, keep_prompt=i == 0, temperature=temperature, seed=i)
        for mode in MODES
        for i, prompt in enumerate([(4, 2, 9), (4, 2, 9), (1, 1, 5, 8, 3)])
    ]
    config = EngineConfig(page_size=4, max_cache_tokens=1024, max_prompt_rows=chunk)
    core = toy_core(toy, config)
    answers = run(core, *requests)
    for request in requests:
        assert answers[request.request_id].tokens == twin_tokens(toy, request), request.request_id
    core.prompts.clear()
    assert_no_pages_held(core)


def test_the_core_splices_what_the_runner_has_encoded() -> None:
    images = (ImageInput(None, "ab", 2), ImageInput(None, "abc", 1))
    core = toy_core(Toy())
    prompt = PromptInput((4, IMAGE, IMAGE, 5, IMAGE, 6), images)
    list(core.run([GenerationRequest("a", prompt, sampling=SamplingParams(max_tokens=2))]))
    assert isinstance(core.runner, ToyRunner)
    assert core.runner.encoded == ["ab", "abc"]
    assert core.runner.spliced == [2.0, 2.0, 3.0]


def test_limits_of_the_runner_are_those_of_the_core() -> None:
    with pytest.raises(CapacityError, match="cache of 1024 tokens; this one holds 1000"):
        EngineCore(ToyRunner(Toy(), 1000), TOY_IDS, LaggingDetokenizer, LIMITS)
    with pytest.raises(BadInputError, match="length is 128 tokens"):
        toy_core(Toy()).submit(ask("a", "ar", (1,) * 100, max_tokens=29))


class Watching(Autoregressive):
    """Notes what it is told of the room."""

    def __init__(self) -> None:
        self.rooms: list[Room] = []

    def plan(self, state: AutoregressiveState, room: Room = WIDE_ROOM) -> StepPlan:
        self.rooms.append(room)
        return super().plan(state, room)


def test_a_plan_is_told_the_room_it_has() -> None:
    """Alone all rows of a forward, beside others what their last plans left."""
    core, watching = toy_core(Toy()), Watching()
    core.modes["ar"] = watching
    run(core, ask("alone", "ar", (4, 2), max_tokens=4))
    assert watching.rooms == [Room(LIMITS.max_batched_tokens, 1)] * 3
    watching.rooms.clear()
    core.submit(ask("wide", "diffusion", (4, 2), {"block_length": 60}, max_tokens=20))
    core.step()
    core.submit(ask("beside", "ar", (4, 2), max_tokens=8))
    core.step()
    assert watching.rooms == [Room(LIMITS.max_batched_tokens - 60, 2)]
    core.close()
