"""What every verb promises: data on standard output, talk on standard error, JSON also for errors, documented exit codes.

Exit codes: 0 done; 1 a fault was found or the work failed; 2 the command line is wrong; 3 not found; 4 not allowed in this state;
5 the configuration has faults; 6 something is not available now, try again.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec

import typer
from rich.console import Console

from prioritizer.errors import ConfigError, NotAllowed, NotFound, PrioritizerError, Transient
from prioritizer.redaction.exceptions import trace_of

if TYPE_CHECKING:
    from prioritizer.selfcheck.check import Proof

P = ParamSpec("P")
talk = Console(stderr=True)
out = Console(width=None if sys.stdout.isatty() else 160)
EXTRA_MODULES = dict.fromkeys(("torch", "timm", "onnx", "safetensors", "tomlkit", "sklearn", "scipy"), "train") | {
    "psycopg": "postgres",
    "authlib": "oidc",
}
EXIT_CODES: tuple[tuple[type[PrioritizerError], int], ...] = ((ConfigError, 5), (NotFound, 3), (NotAllowed, 4), (Transient, 6))


def exit_code(error: PrioritizerError) -> int:
    """The documented exit code of an error."""
    return next((code for kind, code in EXIT_CODES if isinstance(error, kind)), 1)


def verb(command: Callable[P, None]) -> Callable[P, None]:
    """The border of every verb: an expected error becomes a sentence and an exit code, an unexpected one a report."""

    @wraps(command)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except PrioritizerError as error:
            _tell_error(error.code, str(error), bool(kwargs.get("as_json")))
            raise typer.Exit(exit_code(error)) from error
        except ModuleNotFoundError as error:
            if error.name not in EXTRA_MODULES:
                raise
            said = f"{error.name} is not installed; this verb needs: pip install 'prioritizer[{EXTRA_MODULES[error.name]}]'"
            _tell_error("PRI-1002", said, bool(kwargs.get("as_json")))
            raise typer.Exit(5) from error
        except KeyboardInterrupt:
            raise typer.Exit(130) from None
        except BrokenPipeError:
            os._exit(141)
        except (typer.Exit, typer.Abort, typer.BadParameter):
            raise
        except Exception as error:
            if os.environ.get("PRIORITIZER_TRACE"):
                raise
            said = f"a fault of prioritizer itself ({trace_of(error)}); PRIORITIZER_TRACE=1 shows its text"
            _tell_error("PRI-9999", said, bool(kwargs.get("as_json")))
            raise typer.Exit(1) from error

    return guarded


def _tell_error(code: str, said: str, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"error": {"code": code, "said": said}}))
    else:
        talk.print(f"{code}: {said}", style="bold red", markup=False, highlight=False, soft_wrap=True)


def print_json(value: Any) -> None:
    """One JSON document on standard output; moments in ISO 8601."""
    print(json.dumps(value, default=str, indent=1))


def print_proofs(found: Iterable[Proof], *, as_json: bool) -> None:
    """One line a proof as it comes, with the mend below; exit 1 when any failed."""
    from dataclasses import asdict

    proofs = []
    for proof in found:
        proofs.append(proof)
        if not as_json:
            mark = "FAULT  " if not proof.ok else "warning" if proof.warning else "ok     "
            style = "bold red" if not proof.ok else "yellow" if proof.warning else None
            out.print(f"{mark} {proof.what}: {proof.said}", style=style, markup=False, highlight=False, soft_wrap=True)
            if proof.mend and (not proof.ok or proof.warning):
                out.print(f"        -> {proof.mend}", markup=False, highlight=False, soft_wrap=True)
    if as_json:
        print_json([asdict(proof) for proof in proofs])
    if not all(proof.ok for proof in proofs):
        raise typer.Exit(1)
