"""The command `tocsin`. Each command is a module in this folder and is imported when it is called."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
import sys
import traceback
from collections.abc import Sequence
from typing import Any, NoReturn

import click

from tocsin import __version__
from tocsin.cli import memory
from tocsin.domain.errors import Refused
from tocsin.domain.settings import Unusable
from tocsin.settings import debugging

BAD_USAGE = 2
FAILED = 1
INTERRUPTED = 130

PACKAGE = __name__.rpartition(".")[0]


class Commands(click.Group):
    """The commands in this folder: in each module, `command` or the function named like the module (`_` is `-`)."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        modules = pkgutil.iter_modules(importlib.import_module(PACKAGE).__path__)
        found = (each.name.replace("_", "-") for each in modules)
        return sorted(name for name in found if self.get_command(ctx, name))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        name = cmd_name.replace("-", "_")
        if "_" in cmd_name or not name.isidentifier() or importlib.util.find_spec(f"{PACKAGE}.{name}") is None:
            return None
        with memory.without_rich():
            module = importlib.import_module(f"{PACKAGE}.{name}")
        command = getattr(module, "command", None) or getattr(module, name, None)
        return command if isinstance(command, click.Command) and command is not self else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and self.get_command(ctx, args[0]) is None and not args[0].startswith("-"):
            raise click.UsageError(f"there is no command {args[0]!r}; use one of: {', '.join(self.list_commands(ctx))}")
        return super().resolve_command(ctx, args)


@click.command(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="tocsin")
def tocsin() -> None:
    """Monitors servers and websites, and never loses a notification."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run one command. Errors are one line on standard error: exit 2 for bad usage, 1 for a failure."""
    try:
        ended: Any = tocsin.main(args=arguments, prog_name="tocsin", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        _end(BAD_USAGE, f"no command given; use one of: {_choices(error.ctx)}")
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx else "tocsin"
        _end(BAD_USAGE, f"{error.format_message()} (see: {path} --help)")
    except click.ClickException as error:
        _end(error.exit_code, error.format_message())
    except Unusable as error:
        _end(BAD_USAGE, str(error))
    except Refused as error:
        _end(FAILED, error.message)
    except (click.Abort, KeyboardInterrupt):
        _end(INTERRUPTED, "interrupted")
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(FAILED)
    except Exception as error:
        if debugging():
            traceback.print_exc()
        hint = "" if debugging() or isinstance(error, OSError) else "; TOCSIN_DEBUG=1 shows where this came from"
        _end(FAILED, f"{_kind(error)}{error}{hint}")
    sys.exit(ended if isinstance(ended, int) else 0)


def _kind(error: Exception) -> str:
    return "" if isinstance(error, OSError) and error.strerror else f"{type(error).__name__}: "


def _choices(ctx: click.Context | None) -> str:
    if ctx is None or not isinstance(ctx.command, click.Group):
        return "tocsin --help"
    return f"{', '.join(ctx.command.list_commands(ctx))} (see: {ctx.command_path} --help)"


def _end(status: int, message: str) -> NoReturn:
    click.echo(f"tocsin: {' '.join(message.split())}", err=True)
    sys.exit(status)
