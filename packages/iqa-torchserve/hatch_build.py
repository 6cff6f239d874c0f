"""Puts the handler files into the distribution, though they stand at the repository's root."""

from pathlib import Path

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class HandlersHook(BuildHookInterface):
    def initialize(self, version, build_data):
        if version == "editable":
            return  # the package finds the repository's own files
        root = Path(self.root)
        # A wheel is built either in the repository or from an unpacked sdist.
        folder = next(f for f in (root / "handlers", root.parents[1] / "handlers") if f.is_dir())
        target = "handlers" if self.target_name == "sdist" else "iqa_torchserve/handlers"
        for file in ("full_reference.py", "model-config.yaml"):
            build_data["force_include"][str(folder / file)] = f"{target}/{file}"
