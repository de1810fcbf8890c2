#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Compares what transformers computes with a merged model with the expected logits of a fixture."""

import argparse
import json
import sys
from pathlib import Path

import torch
import transformers

import fixture_model as fixture

LIMIT = 1e-4


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path, help="of the merged model")
    parser.add_argument("expected", type=Path, help="tests/fixtures/models/<case>.json")
    arguments = parser.parse_args()

    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()

    expected = json.loads(arguments.expected.read_text())
    logits = fixture.logits_of(fixture.load(arguments.directory), expected["tokens"])[expected["positions"]]
    wanted = torch.tensor(expected["logits"])
    if logits.shape != wanted.shape:
        print(f"{arguments.directory}: logits of shape {list(logits.shape)}, must be {list(wanted.shape)}")
        return 1
    largest = fixture.difference(logits, wanted)
    print(f"largest difference of a logit: {largest:.2e}, allowed: {LIMIT:.0e}")
    return 0 if largest <= LIMIT else 1  # a NaN fails, too


if __name__ == "__main__":
    sys.exit(main())
