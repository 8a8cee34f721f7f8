"""The ``pipespec`` command: its subcommands, and the border where errors become one line and an exit code.

Exit codes: 0 done; 1 it failed while running; 2 it was asked wrongly (usage or settings); 130 and 143 for Ctrl-C and
SIGTERM. Subcommands import what they need when they run, so that ``--help`` answers at once.
"""

from __future__ import annotations

import signal
import sys
import traceback
from collections.abc import Sequence
from types import FrameType

import click

from pipespec import __version__
from pipespec.cli.api_keys import api_keys
from pipespec.cli.bench import bench
from pipespec.cli.chat import chat
from pipespec.cli.demo import demo
from pipespec.cli.deploy import deploy
from pipespec.cli.down import down
from pipespec.cli.generate import generate
from pipespec.cli.keys import keys
from pipespec.cli.models import models
from pipespec.cli.plan import plan
from pipespec.cli.profile import profile
from pipespec.cli.serve import serve
from pipespec.cli.top import top
from pipespec.cli.trace import trace
from pipespec.cli.up import supervise, up
from pipespec.ops.errors import PipespecError, RequestError, SettingsError

FAILED = 1
ASKED_WRONGLY = 2


class Terminated(KeyboardInterrupt):
    """SIGTERM or SIGHUP: unwinds like Ctrl-C, so that nothing is left behind."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_code = 128 + number


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="pipespec")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def cli(*, debug: bool) -> None:
    """Serve large language models with asynchronous hierarchical speculative decoding."""
    del debug  # read by `run`, which has to know it when the parsing itself fails


for _command in (
    up,
    down,
    generate,
    chat,
    demo,
    models,
    keys,
    profile,
    plan,
    trace,
    top,
    bench,
    deploy,
    api_keys,
    serve,
    supervise,
):
    cli.add_command(_command)


def main() -> None:
    """Run the command line and exit."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:  # nohup ignores SIGHUP; that stays
            signal.signal(number, _terminate)
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run one command; its exit code."""
    debug = "--debug" in arguments[:1]
    try:
        result = cli.main(args=list(arguments), prog_name="pipespec", standalone_mode=False)
    except click.Abort as abort:  # what click makes of Ctrl-C
        cause = abort.__cause__
        return cause.exit_code if isinstance(cause, Terminated) else 128 + signal.SIGINT
    except Exception as error:  # noqa: BLE001 - the process border: everything becomes a line
        if debug:
            traceback.print_exception(error)
        return _explain(error)
    return result if isinstance(result, int) else 0


def _explain(error: Exception) -> int:
    """Say on stderr what went wrong; the exit code."""
    match error:
        case click.UsageError():
            command = error.ctx.command_path if error.ctx else "pipespec"
            _say(f"{error.format_message()} (see {command} --help)")
            return ASKED_WRONGLY
        case click.ClickException():
            _say(error.format_message())
            return FAILED
        case SettingsError() | RequestError(param=str()):  # a request field is at fault
            _say(str(error))
            return ASKED_WRONGLY
        case PipespecError():
            _say(str(error))
            return FAILED
        case _:
            _say(f"{type(error).__name__}: {error} (`pipespec --debug` shows where)")
            return FAILED


def _say(message: str) -> None:
    click.echo(f"error: {message}", err=True)


def _terminate(number: int, _frame: FrameType | None) -> None:
    raise Terminated(number)
