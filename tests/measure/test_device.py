"""The number format of a model: what the hardware multiplies."""

import pytest
import torch

from prunecast.errors import ModelError
from prunecast.measure.device import choose_device, choose_dtype, is_faster_in_bfloat16

has_cuda = torch.cuda.is_available()


def test_a_format_that_is_named_is_taken() -> None:
    assert choose_dtype("bfloat16", torch.device("mps")) is torch.bfloat16
    assert choose_dtype("float16", torch.device("cpu")) is torch.float16


@pytest.mark.parametrize("device", ["mps", "xpu", pytest.param("cuda", marks=pytest.mark.skipif(has_cuda, reason=""))])
def test_where_nothing_is_known_to_multiply_bfloat16_it_is_not_chosen(device: str) -> None:
    assert choose_dtype("auto", torch.device(device)) is torch.float32


def test_a_device_that_is_not_there_is_an_error_that_says_which_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available: torch.device("cuda"))
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 2)
    assert [choose_device(f"cuda{number}").index for number in ("", ":0", ":1")] == [None, 0, 1]
    with pytest.raises(ModelError, match="'cuda:2' is not available here: the last one is cuda:1"):
        choose_device("cuda:2")


@pytest.mark.skipif(not has_cuda, reason="needs a CUDA device")
def test_cuda_devices_before_compute_capability_8_only_emulate_bfloat16() -> None:
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
def test_a_processor_is_faster_in_bfloat16_by_a_unit_of_its_own(capabilities: dict[str, object], faster: bool) -> None:
    assert is_faster_in_bfloat16(capabilities) is faster
