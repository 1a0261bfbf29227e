"""What is installed: the wheel holds the package, its licence and its types, and nothing else."""

import os
import pathlib
import subprocess
import sys
import zipfile

import pytest

import zovh_jax as zo

ROOT = pathlib.Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built as any installer builds it, with the hatchling that is installed."""
    out = tmp_path_factory.mktemp("wheel")
    build = f"from hatchling.build import build_wheel; build_wheel({str(out)!r})"
    run([sys.executable, "-c", build], cwd=ROOT)
    (path,) = out.glob("*.whl")
    return path


def run(command, **options):
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, **options)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_wheel_holds_the_package_alone(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    info = f"zovh_jax-{zo.__version__}.dist-info"
    assert {name.split("/")[0] for name in names} == {"zovh_jax", info}
    sources = {str(path.relative_to(ROOT)) for path in (ROOT / "zovh_jax").rglob("*.py")}
    assert {name for name in names if name.startswith("zovh_jax/")} == sources | {
        "zovh_jax/py.typed"
    }
    assert f"{info}/licenses/LICENSE" in names


def test_wheel_says_what_it_is(wheel):
    archive = zipfile.ZipFile(wheel)
    (path,) = [name for name in archive.namelist() if name.endswith("/METADATA")]
    metadata = archive.read(path).decode()
    for line in (
        "Name: zovh_jax",
        f"Version: {zo.__version__}",
        "License-Expression: Apache-2.0",
        "License-File: LICENSE",
        "Classifier: Typing :: Typed",
        "Requires-Python: >=3.11",
    ):
        assert f"{line}\n" in metadata, line
    assert "Apache License" in (ROOT / "LICENSE").read_text()


@pytest.mark.slow
def test_wheel_works_in_a_folder_of_its_own(wheel, tmp_path):
    """Installed away from the sources, and used there."""
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    run([*install, "--target", str(tmp_path / "site"), str(wheel)])
    code = (
        "import jax, jax.numpy as jnp, zovh_jax as zo\n"
        "g = zo.grad(lambda x: jnp.sum(x**2), num_directions=4, radius=0.1)\n"
        "assert g(jnp.ones(3), key=jax.random.key(0)).shape == (3,)\n"
        "print(zo.__file__)"
    )
    env = {**os.environ, "PYTHONPATH": str(tmp_path / "site"), "JAX_PLATFORMS": "cpu"}
    place = run([sys.executable, "-c", code], cwd=tmp_path, env=env).strip()
    assert pathlib.Path(place).is_relative_to(tmp_path / "site")
