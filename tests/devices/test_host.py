"""What is read from the operating system about the processor."""

from pathlib import Path

import pytest

from hwnas.devices import host

X86 = """processor\t: 0
model name\t: Some CPU @ 2 GHz
flags\t\t: fpu avx2 fma avx512_vnni
processor\t: 1
model name\t: Some CPU @ 2 GHz
"""
PI = """processor\t: 0
Features\t: fp asimd asimddp
CPU implementer\t: 0x41
CPU part\t: 0xd0b

Model\t\t: Raspberry Pi 5
"""
SERVER = """processor\t: 0
Features\t: fp asimd i8mm sve
CPU implementer\t: 0x41
CPU part\t: 0xd40
"""


@pytest.mark.parametrize(
    ("text", "hardware"),
    [
        (X86, "Some CPU @ 2 GHz [avx2 fma avx512_vnni]"),
        (PI, "Raspberry Pi 5 [asimd asimddp]"),
        (SERVER, "implementer 0x41 part 0xd40 [asimd i8mm sve]"),
    ],
)
def test_hardware_names_processor_and_instruction_sets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, hardware: str
) -> None:
    (tmp_path / "cpuinfo").write_text(text)
    monkeypatch.setattr(host, "_CPUINFO", tmp_path / "cpuinfo")
    assert host.host_context(threads=1)["hardware"] == hardware


def test_a_system_that_hides_everything_still_has_a_context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "_CPUINFO", tmp_path / "none")
    monkeypatch.setattr(host, "_GOVERNOR", tmp_path / "none")
    context = host.host_context(threads=3)
    assert context["hardware"]
    assert context["governor"] == "unknown"
    assert context["threads"] == "3"


def test_the_governor_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "governor").write_text("performance\n")
    monkeypatch.setattr(host, "_GOVERNOR", tmp_path / "governor")
    assert host.host_context(threads=1)["governor"] == "performance"
