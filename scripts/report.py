"""Write an HTML page about one run or several: spectra, conditioning and loss by step; opens without a network.

python -m scripts.report --workdir=runs/a,runs/b --out=report.html
"""

from __future__ import annotations

import sys

from absl import flags as absl_flags

from scripts import flags

WORKDIR = absl_flags.DEFINE_string("workdir", "", "folder of a run, or several separated by commas (required)")
OUT = absl_flags.DEFINE_string("out", "", "file to write; report.html in the first folder by default")
PICTURE = absl_flags.DEFINE_string("picture", "", "also write a still picture to this .png, .svg or .pdf file")


def main() -> None:
    if not WORKDIR.value:
        raise absl_flags.Error("--workdir is required: the folder of a run that scripts.train made")
    from train.report import write_picture, write_report

    workdirs = [part.strip() for part in WORKDIR.value.split(",") if part.strip()]
    path, runs = write_report(workdirs, OUT.value or None)
    for warning in (warning for run in runs for warning in run.warnings):
        print(f"warning: {warning}", file=sys.stderr)
    print(f"{path} ({path.stat().st_size / 1e6:.1f} MB): open it in a browser; it needs no network")
    if PICTURE.value:
        picture = write_picture(workdirs, PICTURE.value)
        print(f"{picture} ({picture.stat().st_size / 1e3:.0f} kB)")


if __name__ == "__main__":
    flags.run(main)
