"""Print the oldest version of each package that setup.py allows, one pip constraint per line."""

import re
import runpy

import setuptools

arguments = {}
setuptools.setup = lambda **keywords: arguments.update(keywords)
runpy.run_path("setup.py")
requirements = [*arguments["install_requires"]]
for extra in arguments["extras_require"].values():
    requirements += extra
for requirement in dict.fromkeys(requirements):
    name, oldest = re.fullmatch(r"([\w.-]+)>=([\d.]+)(?:,.*)?", requirement).groups()
    print(f"{name}=={oldest}")
