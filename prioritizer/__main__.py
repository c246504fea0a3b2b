"""`python -m prioritizer` is the command line."""

from prioritizer.cli import app

if __name__ == "__main__":
    app()
