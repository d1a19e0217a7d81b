"""Which CPU it is, from what Linux says of three kinds of it."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest

from rtbench.measure import cpu
from rtbench.records.run import Cpu

HASWELL = """\
processor\t: 0
vendor_id\t: GenuineIntel
cpu family\t: 6
model\t\t: 60
model name\t: Intel(R) Core(TM) i7-4790 CPU @ 3.60GHz
stepping\t: 3
microcode\t: 0x28
cpu MHz\t\t: 3600.000
cache size\t: 8192 KB
flags\t\t: fpu vme sse sse2 ssse3 fma cx16 sse4_1 sse4_2 movbe popcnt avx f16c rdrand bmi1 avx2 bmi2 invpcid
bugs\t\t: cpu_meltdown spectre_v1 spectre_v2

processor\t: 1
vendor_id\t: GenuineIntel
cpu family\t: 6
model\t\t: 61
flags\t\t: fpu avx512_vnni
"""
ZEN = """\
processor\t: 0
vendor_id\t: AuthenticAMD
cpu family\t: 25
model\t\t: 17
model name\t: AMD EPYC
stepping\t: 1
cpu MHz\t\t: 2599.998
flags\t\t: fpu vme avx2 f16c avx512f avx512dq avx512_bf16 avx512_vnni avx512_bitalg
TLB size\t: 1024 4K pages

"""
NEOVERSE = """\
processor\t: 0
BogoMIPS\t: 243.75
Features\t: fp asimd evtstrm aes fphp asimdhp cpuid asimdrdm asimddp sve i8mm bf16 dgh rng
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x1
CPU part\t: 0xd40
CPU revision\t: 1

processor\t: 1
CPU implementer\t: 0x42
"""
CPUS = {
    "haswell": Cpu(
        vendor="GenuineIntel", family="6", model="60", stepping="3", microcode="0x28", flags=["avx2", "f16c"]
    ),
    "zen": Cpu(
        vendor="AuthenticAMD",
        family="25",
        model="17",
        stepping="1",
        microcode=None,
        flags=["avx2", "avx512_bf16", "avx512_vnni", "avx512f", "f16c"],
    ),
    "neoverse": Cpu(
        vendor="0x41",
        family="8",
        model="0xd40",
        stepping="0x1 1",
        microcode=None,
        flags=["asimd", "asimddp", "asimdhp", "bf16", "i8mm", "sve"],
    ),
}
TEXTS = {"haswell": HASWELL, "zen": ZEN, "neoverse": NEOVERSE}


@pytest.fixture
def says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Have the system say this of its processors, and that it is a machine of this kind."""

    def say(text: str | None, machine: str = "x86_64") -> None:
        path = tmp_path / "cpuinfo"
        if text is not None:
            path.write_text(text)
        monkeypatch.setattr(cpu, "INFO", path)
        monkeypatch.setattr(platform, "machine", lambda: machine)
        monkeypatch.setattr(platform, "processor", lambda: "")

    return say


@pytest.mark.parametrize("name", CPUS)
def test_the_first_processor_is_read(says, name):
    says(TEXTS[name])
    assert cpu.read_cpu() == CPUS[name]


def test_names_are_those_of_the_system_where_it_has_one(says):
    for text, name in ((HASWELL, "Intel(R) Core(TM) i7-4790 CPU @ 3.60GHz"), (ZEN, "AMD EPYC"), (NEOVERSE, "aarch64")):
        says(text, "aarch64")
        assert cpu.cpu_name() == name


@pytest.mark.parametrize("text", [None, "", "processor : 0\n", "no colon\n\n\n"])
def test_where_the_system_says_nothing_known_there_are_no_details(says, text):
    says(text, "riscv64")
    assert cpu.read_cpu() is None
    assert cpu.cpu_name() == "riscv64"


def test_details_are_one_sentence():
    assert str(CPUS["haswell"]) == "GenuineIntel family 6 model 60 stepping 3, microcode 0x28 (avx2 f16c)"
    assert str(CPUS["neoverse"]).startswith("0x41 family 8 model 0xd40 stepping 0x1 1 (asimd asimddp ")


@pytest.mark.parametrize(
    ("name", "machine", "lacks"),
    [
        ("haswell", "x86_64", True),
        ("haswell", "AMD64", True),
        ("zen", "x86_64", False),
        ("neoverse", "aarch64", False),
        (None, "x86_64", True),  # it may be one
        (None, "arm64", False),
    ],
)
def test_which_cpus_saturate_8_bit_weights(says, name, machine, lacks):
    says(None, machine)
    assert cpu.lacks_vnni(CPUS[name] if name else None) == lacks


@pytest.mark.parametrize("flag", ["avx_vnni", "avx512_vnni", "amx_int8"])
def test_any_of_three_instruction_sets_is_enough(says, flag):
    says(None)
    assert not cpu.lacks_vnni(CPUS["haswell"].model_copy(update={"flags": ["avx2", flag]}))
