"""Write the API pages to docs/api: every module, public names of the packages included although they load lazily."""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path

import pdoc

PACKAGES = ("gru4rec", "tuning", "cluster", "serving")


def main() -> None:
    modules = list(PACKAGES)
    for name in PACKAGES:
        package = importlib.import_module(name)
        for public in getattr(package, "__all__", ()):
            setattr(package, public, getattr(package, public))
        modules += [module.name for module in pkgutil.walk_packages(package.__path__, f"{name}.")]
    pdoc.render.configure(docformat="numpy")
    pdoc.pdoc(*modules, output_directory=Path(__file__).parent / "api")


if __name__ == "__main__":
    main()
