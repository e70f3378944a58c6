"""Choice of device and dtype, according to the hardware."""

import pytest
import torch

from prunecast.errors import ModelError
from prunecast.measure.device import choose_device, choose_dtype, is_faster_in_bfloat16, macs_per_second

has_cuda = torch.cuda.is_available()


def test_a_named_dtype_is_used() -> None:
    assert choose_dtype("bfloat16", torch.device("mps")) is torch.bfloat16
    assert choose_dtype("float16", torch.device("cpu")) is torch.float16


@pytest.mark.parametrize("device", ["mps", "xpu", pytest.param("cuda", marks=pytest.mark.skipif(has_cuda, reason=""))])
def test_auto_dtype_is_float32_on_devices_without_known_bfloat16_support(device: str) -> None:
    assert choose_dtype("auto", torch.device(device)) is torch.float32


def test_missing_device_error_names_the_last_available_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available: torch.device("cuda"))
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 2)
    assert [choose_device(f"cuda{number}").index for number in ("", ":0", ":1")] == [None, 0, 1]
    with pytest.raises(ModelError, match="'cuda:2' is not available here: the last one is cuda:1"):
        choose_device("cuda:2")


@pytest.mark.skipif(not has_cuda, reason="needs a CUDA device")
def test_auto_dtype_on_cuda_is_bfloat16_from_compute_capability_8() -> None:
    multiplies = torch.version.hip or torch.cuda.get_device_capability()[0] >= 8
    assert choose_dtype("auto", torch.device("cuda")) is (torch.bfloat16 if multiplies else torch.float32)


@pytest.mark.parametrize(
    ("capabilities", "faster"),
    [
        ({"cpu_name": "Intel Xeon", "avx512_bf16": True, "amx_bf16": True}, True),
        ({"cpu_name": "Intel Xeon", "avx512_bf16": True, "amx_bf16": False}, False),
        ({"cpu_name": "AMD EPYC", "avx512_bf16": True, "amx_bf16": False}, True),
        ({"cpu_name": "AMD EPYC", "avx512_bf16": False, "avx2": True}, False),
        ({"architecture": "arm64", "bf16": True, "sve_bf16": False}, True),
    ],
)
def test_bfloat16_is_faster_on_processors_with_hardware_for_it(capabilities: dict[str, object], faster: bool) -> None:
    assert is_faster_in_bfloat16(capabilities) is faster


def test_the_speed_is_that_of_a_matrix_product_timed_here() -> None:
    # Any processor that torch runs on manages 100 million a second, and none 100 million million.
    assert 1e8 < macs_per_second(256, torch.float32, torch.device("cpu")) < 1e14
