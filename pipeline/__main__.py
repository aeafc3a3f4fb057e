"""Run `python -I -m pipeline`: the same command as `storestow`."""

from pipeline.commands.cli import main

if __name__ == "__main__":
    main()
