"""`python -m hwnas`: the command line."""

from hwnas.cli import main

if __name__ == "__main__":
    main()
