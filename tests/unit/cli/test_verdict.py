"""What `doctor` advises for machines of every size, by the arithmetic on the published VLM."""

from __future__ import annotations

import pytest

from vlm_dlm.checkpoint.config import ModelConfig
from vlm_dlm.diagnosis.needs import MemoryNeed, memory_needs
from vlm_dlm.diagnosis.verdict import Verdict, judge

VLM_8B = ModelConfig()
DISK = 500 * 10**9


def advise(cpu_gb: float, gpu_gb: float | None = None, disk_bytes: int = DISK) -> Verdict:
    devices = {"cpu": cpu_gb} if gpu_gb is None else {"cpu": cpu_gb, "cuda:0": gpu_gb}
    needs = [
        need
        for device, free_gb in devices.items()
        for need in memory_needs(VLM_8B, device, int(free_gb * 1e9))
    ]
    return judge(needs, "float32" if cpu_gb > 150 else "bfloat16", disk_bytes)


def need(dtype: str, quantize: str | None = None) -> MemoryNeed:
    needs = memory_needs(VLM_8B, "cpu", None)
    return next(one for one in needs if (one.dtype, one.quantize) == (dtype, quantize))


def test_sizes_of_the_published_vlm() -> None:
    assert need("bfloat16").weight_bytes == 17_836_068_864
    assert need("float32").weight_bytes == 35_672_137_728
    # 34 layers, keys and values, 8 heads of 128, two bytes
    assert need("bfloat16").cache_bytes_per_token == 34 * 2 * 8 * 128 * 2
    # the matrices of the layers in one byte, four of scale per row, the rest in bfloat16
    assert need("bfloat16", "int8").weight_bytes == pytest.approx(10.43e9, rel=0.002)
    assert need("bfloat16", "int4").weight_bytes < 0.72 * need("bfloat16", "int8").weight_bytes


@pytest.mark.parametrize(
    ("cpu_gb", "gpu_gb", "flags"),
    [
        (60, 79, "--device cuda --dtype bfloat16"),
        (60, 24, "--device cuda --dtype bfloat16"),
        (60, 16, "--device cuda --dtype bfloat16 --quantize int8"),
        (60, 11.5, "--device cuda --dtype bfloat16 --quantize int4"),
        (60, 6, "--device cpu --dtype bfloat16"),
        (200, None, "--device cpu --dtype float32"),
        (30, None, "--device cpu --dtype bfloat16"),
        (15, None, "--device cpu --dtype bfloat16 --quantize int8"),
        (11, None, "--device cpu --dtype bfloat16 --quantize int4"),
        (8, None, "--device cpu --dtype bfloat16"),
        (6, 6, "--device cuda --dtype bfloat16"),
    ],
)
def test_more_bits_before_fewer_and_a_gpu_before_the_cpu(
    cpu_gb: float, gpu_gb: float | None, flags: str
) -> None:
    verdict = advise(cpu_gb, gpu_gb)
    assert verdict.fits
    assert " ".join(verdict.flags) == flags


def test_a_smaller_cache_before_fewer_bits() -> None:
    verdict = advise(60, 24)
    num_tokens = int(verdict.variables["VLM_DLM_MAX_CACHE_TOKENS"])
    assert 8192 <= num_tokens < 32768
    assert num_tokens % 1024 == 0
    assert need("bfloat16").bytes_for(num_tokens) <= 0.9 * 24e9
    assert advise(60, 79).variables == {}


def test_layers_on_disk_are_called_slow_and_counted() -> None:
    verdict = advise(8)
    assert verdict.text.startswith("slow, as ")
    assert "of layers wait on disk" in verdict.text
    assert not advise(8, disk_bytes=10**9).fits


def test_what_does_not_fit_names_the_smallest_form() -> None:
    verdict = advise(4, disk_bytes=10**9)
    assert verdict.flags == ()
    assert "it does not fit, the smallest form, int4, needs 12.1 GB; free memory" in verdict.text


def test_another_gpu_is_chosen_by_its_variable() -> None:
    needs = [
        *memory_needs(VLM_8B, "cpu", 10**10),
        *memory_needs(VLM_8B, "cuda:0", 10**9),
        *memory_needs(VLM_8B, "cuda:1", 80 * 10**9),
    ]
    assert judge(needs, "bfloat16", DISK).variables == {"CUDA_VISIBLE_DEVICES": "1"}
