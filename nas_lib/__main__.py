"""`python -m nas_lib`: one sub-command per step of the workflow."""

from nas_lib.cli import main

main()
