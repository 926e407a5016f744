"""The commands and their options, and that --help waits for nothing."""

from __future__ import annotations

import argparse
import subprocess
import sys

import pytest

from minibert.workbench.arguments import _parser, parse
from minibert.workbench.cli import _COMMANDS, main

OUTPUT = "--debug --quiet"
READING = (
    "--format --sep --names --quoting --no-quoting --encoding --text --text-pair --label --label-sep "
    "--choices --tag-scheme"
)
MACHINE = "--revision --device --precision"
TEXTS = "texts --file --format --sep --names --quoting --no-quoting --encoding --text"
TRAINING = (
    "--recipe --resume --output --save-every --keep --threads --seed --epochs --batch-size "
    "--accumulate --learning-rate --weight-decay --warmup --schedule --clip-norm "
    "--gradient-checkpointing --on-nonfinite --max-length --model --validation "
    f"--validation-fraction {MACHINE}"
)
# Every command with its options and arguments. A change here is one that users notice.
OPTIONS = {
    "data": f"files --train --validation --test --split {READING} --problem-type --drop-bad-rows --model "
    "--revision --max-length --json",
    "train": f"{TRAINING} {READING} --part --problem-type --drop-bad-rows --train --test --test-fraction "
    "--train-subset --test-subset --overlap --allow-data-faults --patience --watch --freeze --freeze-layers "
    "--layer-decay --class-weights --balanced --data-seed --seeds --fault --probe --layer "
    "--pooling",
    "pretrain": f"{TRAINING} --corpus --column --vocabulary --vocabulary-size --cased --layers "
    "--hidden-size --heads --intermediate-size --max-positions --dropout --objective --mask-share "
    "--whole-words --epoch-share",
    "recipes": "name",
    "evaluate": f"model data {READING} --part --split --output --overlap --batch-size --max-length {MACHINE} "
    "--threads --json",
    "report": "run --output --features --no-features",
    "compare": "run --examples --json",
    "predict": f"model {TEXTS} --pair --pairs --choice --choices --output --top --allow-no-answer --allow-untrained "
    f"--overlap --batch-size --max-length {MACHINE} --threads --json",
    "fill-mask": f"model {TEXTS} --output --top --revision --device --threads --json",
    "embed": f"model {TEXTS} --output --pooling --layer --prompt --normalize --no-normalize "
    f"--batch-size --max-length {MACHINE} --threads --json",
    "explain": "model text --pair --compare --output --revision",
    "probe": f"model --train --test {READING.replace('--label-sep --choices', '--drop-bad-rows')} "
    "--hidden --seed --max-length --output --revision --device --threads --json",
    "doctor": "file --json",
    "weights": "model --file --revision --verify --json",
    "tokenize": f"model {TEXTS} --pair --pairs --revision --json",
    "vocabulary": "source --output --size --cased --column",
    "convert": "source output --cased --uncased",
}


def parsers() -> dict[str, argparse.ArgumentParser]:
    [commands] = [action for action in _parser()._actions if isinstance(action, argparse._SubParsersAction)]
    return dict(commands.choices)


def test_the_commands():
    assert list(parsers()) == list(OPTIONS) == list(_COMMANDS)


@pytest.mark.parametrize("command", OPTIONS)
def test_the_options_of_a_command(command):
    actions = [action for action in parsers()[command]._actions if action.dest != "help"]
    found = {name for action in actions for name in action.option_strings or [action.dest]}
    assert found == {*OPTIONS[command].split(), *OUTPUT.split()}
    assert all(action.help for action in actions)


def test_an_option_can_be_shortened_and_only_given_ones_reach_a_run():
    options = vars(parse(["train", "--learn", "1e-3", "--fault", "last-epoch", "--no-quot"]))
    for key in ("command", "parser", "debug", "quiet"):
        del options[key]
    assert options == {"learning_rate": 1e-3, "faults": ["last-epoch"], "quoting": False}
    with pytest.raises(SystemExit):
        parse(["train", "--test-s", "3", "--va", "x"])  # --validation or --validation-fraction


def test_a_misspelt_option_is_answered_with_the_nearest(capsys):
    with pytest.raises(SystemExit) as stop:
        parse(["train", "--learning_rate=1e-3"])
    assert stop.value.code == 2 and "(did you mean --learning-rate?)" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["", *OPTIONS])
def test_help(command, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    with pytest.raises(SystemExit) as stop:
        main([*command.split(), "--help"])
    output = capsys.readouterr().out
    assert stop.value.code == 0 and "%" not in output.replace("95% ", "")
    assert f"minibert {command}" in output.partition("example")[2] or not command
    for name in [] if command else OPTIONS:
        assert f"\n    {name} " in output  # on one line with what it does
    if command == "train":
        assert "(default: 0.01)" in output and "(default: 0)" in output  # of weight decay and seed


HEAVY = ["torch", "numpy", "tokenizers", "safetensors", "huggingface_hub", "tqdm"]


@pytest.mark.parametrize(
    "arguments, code",
    [
        (["--help"], 0),
        (["--version"], 0),
        (["train", "--help"], 0),
        (["recipes"], 0),
        (["recipes", "cola"], 0),
        (["predict", "m", "a text", "--threads", "0"], 2),
        (["train", "--epoch-count", "3"], 2),
        (["translate"], 2),
        (["train", "--epochs", "0"], 2),
        (["train", "--recipe", "nothing"], 2),
        (["train", "--model", "minibert-small"], 2),
        (["pretrain"], 2),
    ],
)
def test_no_wait_for_torch(arguments, code):
    program = f"""
import sys
from minibert.workbench.cli import _COMMANDS, main
try:
    code = main({arguments})
except SystemExit as stop:
    code = stop.code
heavy = [name for name in {HEAVY} if name in sys.modules]
assert not heavy, heavy
sys.exit(code)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == code, done.stderr
