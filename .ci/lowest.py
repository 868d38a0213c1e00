"""Print the lowest version of each bound in pyproject.toml, as constraints for pip."""

import tomllib
from pathlib import Path

from packaging.requirements import Requirement

project = tomllib.loads(Path("pyproject.toml").read_text("utf-8"))["project"]
for line in project["dependencies"] + project["optional-dependencies"]["test"]:
    wanted = Requirement(line)
    (lowest,) = (each.version for each in wanted.specifier if each.operator == ">=")
    print(f"{wanted.name}=={lowest}" + (f"; {wanted.marker}" if wanted.marker else ""))
