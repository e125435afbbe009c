import subprocess
import sys

import hwnas.cost


def test_every_public_name_exists_once_and_in_order() -> None:
    assert hwnas.cost.__all__ == sorted(set(hwnas.cost.__all__))
    assert all(hasattr(hwnas.cost, name) for name in hwnas.cost.__all__)


def test_importing_it_loads_neither_torch_nor_scipy() -> None:
    code = "import sys, hwnas.cost; print(sorted({'torch', 'scipy', 'sklearn', 'onnx'} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
