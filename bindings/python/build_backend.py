"""A build backend (PEP 517) for one extension module: it calls the C compiler and writes the wheel.

`python build_backend.py` builds the extension in place, for tests.
"""

from __future__ import annotations

import base64
import hashlib
import io
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import zipfile

HERE = pathlib.Path(__file__).resolve().parent
PACKAGE = HERE / "millrace"
VERSION = re.search(r'^version = "(.+)"$', (HERE / "pyproject.toml").read_text(), re.M)[1]
METADATA = f"""Metadata-Version: 2.1
Name: millrace
Version: {VERSION}
Summary: A lock-free ring-buffer queue over shared memory for unrelated processes
License: Apache-2.0
Requires-Python: >=3.9
"""


def _headers() -> pathlib.Path:
    """The C client: in the source tree, or copied into the source distribution."""
    for place in (HERE / "include", HERE.parent.parent / "include"):
        if (place / "millrace.h").is_file():
            return place
    raise SystemExit("millrace: include/millrace.h is missing; build from the source tree, or from a source distribution")


def _compile(target: pathlib.Path) -> None:
    compiler = shlex.split(os.environ.get("CC") or "cc")
    if shutil.which(compiler[0]) is None:
        raise SystemExit(f"millrace: no C compiler: {compiler[0]} is not there; install gcc, or set CC")
    python = sysconfig.get_path("include")
    if not (pathlib.Path(python) / "Python.h").is_file():
        raise SystemExit(f"millrace: {python}/Python.h is missing; install the headers of this Python (python3-dev)")
    flags = ["-std=gnu11", "-O2", "-g", "-fPIC", "-shared", "-pthread", "-Wall", "-Wextra"]
    extra = shlex.split(os.environ.get("CFLAGS", ""))
    subprocess.run(
        [*compiler, *flags, *extra, f"-I{_headers()}", f"-I{python}", str(HERE / "src" / "_millrace.c"), "-o", str(target)], check=True
    )


def _extension_name() -> str:
    return "_millrace" + sysconfig.get_config_var("EXT_SUFFIX")


def _tag() -> str:
    python = f"cp{sys.version_info[0]}{sys.version_info[1]}"
    platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
    return f"{python}-{python}-{platform}"


def _wheel(directory: str, files: dict[str, bytes]) -> str:
    info = f"millrace-{VERSION}.dist-info"
    files[f"{info}/METADATA"] = METADATA.encode()
    files[f"{info}/WHEEL"] = f"Wheel-Version: 1.0\nGenerator: millrace\nRoot-Is-Purelib: false\nTag: {_tag()}\n".encode()
    record = []
    for name, data in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        record.append(f"{name},sha256={digest},{len(data)}\n")
    files[f"{info}/RECORD"] = "".join([*record, f"{info}/RECORD,,\n"]).encode()
    name = f"millrace-{VERSION}-{_tag()}.whl"
    with zipfile.ZipFile(os.path.join(directory, name), "w", zipfile.ZIP_DEFLATED) as wheel:
        for path, data in files.items():
            wheel.writestr(path, data)
    return name


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    with tempfile.TemporaryDirectory() as scratch:
        target = pathlib.Path(scratch) / _extension_name()
        _compile(target)
        files = {f"millrace/{p.name}": p.read_bytes() for p in sorted(PACKAGE.iterdir()) if p.suffix in (".py", ".pyi", ".typed")}
        files[f"millrace/{target.name}"] = target.read_bytes()
    return _wheel(wheel_directory, files)


def build_editable(wheel_directory, config_settings=None, metadata_directory=None):
    _compile(PACKAGE / _extension_name())
    return _wheel(wheel_directory, {"millrace.pth": f"{HERE}\n".encode()})


def build_sdist(sdist_directory, config_settings=None):
    root = f"millrace-{VERSION}"
    name = f"{root}.tar.gz"
    with tarfile.open(os.path.join(sdist_directory, name), "w:gz") as archive:
        for pattern in ("pyproject.toml", "build_backend.py", "README.md", "millrace/*.py*", "millrace/py.typed", "src/*", "tests/*.py"):
            for path in sorted(HERE.glob(pattern)):
                archive.add(path, f"{root}/{path.relative_to(HERE)}")
        for path in sorted(_headers().glob("*.h")):
            archive.add(path, f"{root}/include/{path.name}")
        info = tarfile.TarInfo(f"{root}/PKG-INFO")
        info.size = len(METADATA)
        archive.addfile(info, io.BytesIO(METADATA.encode()))
    return name


if __name__ == "__main__":
    _compile(PACKAGE / _extension_name())
    print(PACKAGE / _extension_name())
