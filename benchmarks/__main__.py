"""Measurements of the library, ours and other libraries' in one run.

python -m benchmarks                     every measurement of speed, one after the other
python -m benchmarks NAME [arguments]    one measurement; the beginning of its name is enough
python -m benchmarks NAME --help         what it takes
"""

import ast
import importlib
import pkgutil
import sys
from pathlib import Path

SPEED = ("mixing_speed", "logmel_speed", "growth", "method_cost", "training", "feeding")
"""What runs without a name."""


def available() -> dict[str, str]:
    """Every module here with a `main`, and the first line of what it says about itself."""
    folder = Path(__file__).parent
    found = {}
    for module in pkgutil.iter_modules([str(folder)]):
        tree = ast.parse((folder / f"{module.name}.py").read_text(encoding="utf-8"))
        if any(isinstance(node, ast.FunctionDef) and node.name == "main" for node in tree.body):
            found[module.name] = (ast.get_docstring(tree) or "").partition("\n")[0]
    found.pop("__main__", None)
    return found


def chosen(wanted: str, names: list[str]) -> str:
    """The one name that begins as asked.

    Raises:
        SystemExit: If none or several do.
    """
    fitting = [wanted] if wanted in names else [name for name in names if name.startswith(wanted)]
    if len(fitting) != 1:
        raise SystemExit(f"{wanted!r} names {len(fitting)} of the benchmarks; there are {', '.join(names)}")
    return fitting[0]


def main() -> None:
    """Run what the command line names."""
    found = available()
    wanted, arguments = sys.argv[1:2], sys.argv[2:]
    if wanted in (["-h"], ["--help"]):
        print(__doc__)
        for name, line in found.items():
            print(f"  {name:20} {line}")
        return
    for name in [chosen(wanted[0], list(found))] if wanted else [name for name in SPEED if name in found]:
        sys.argv = [f"python -m benchmarks {name}", *arguments]
        importlib.import_module(f"benchmarks.{name}").main()


if __name__ == "__main__":
    main()
