"""The processor in words, and questions that nobody answers."""

import time

from prunecast.doctor.machine import answer_within, processor_of


def test_a_processor_is_described_by_what_it_multiplies_with() -> None:
    amx = {"cpu_name": "Intel Xeon", "num_physical_cores": 8, "avx2": True, "avx512_f": True, "avx512_bf16": True}
    assert processor_of(amx) == "Intel Xeon, 8 cores with AVX-512 bfloat16, AVX-512, AVX2, fastest in float32"
    assert processor_of({**amx, "amx_bf16": True}) == (
        "Intel Xeon, 8 cores with AMX, AVX-512 bfloat16, AVX-512, AVX2, fastest in bfloat16"
    )
    assert processor_of({"architecture": "aarch64"}) == "aarch64 with no wide vectors, fastest in float32"


def test_an_answer_is_waited_for_but_not_for_long() -> None:
    assert answer_within(5, lambda: False) is False
    start = time.monotonic()
    assert answer_within(0.1, lambda: time.sleep(30)) is None
    assert time.monotonic() - start < 5
