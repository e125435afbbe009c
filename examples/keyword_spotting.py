"""Keyword spotting: one second of sound becomes features over time, and a one-dimensional network tells the word.

No recordings come with hwnas, so the "words" are made here: tones in noise that rise, fall, stay or waver. What follows
is what recorded words need, too: energies of 40 mel bands every 10 ms, (40, 101) numbers for a second, as samples that
are no images. Put waveforms of your own in place of `speak`.

    python examples/keyword_spotting.py [--output FOLDER] [--tiny]

It takes a few minutes on this machine's processor; with --tiny less than a minute on a simulated device, where numbers
mean nothing. It prints the deployed network's accuracy, its latency and the limit, and what it hears in one new sound
of each word.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hwnas.deployment import Prediction, load

RATE, WORDS, BANDS = 16_000, ("rise", "fall", "stay", "waver"), 40  # samples a second
CONFIGURATION = """
data.source = "npz:{sounds}?inputs=arrays"    # numbers of any shape, channels first; never augmented
space.preset = "conv1d-keyword"
train.epochs = 5
search.n_trials = 60
limits.latency_fraction = 0.5                 # of the largest network's latency
output.folder = "{folder}"
"""
TINY = ["device.name=fake", "train.epochs=0.1", "profile.n_networks=4", "search.n_trials=4", "deploy.test_samples=30"]
TINY += ['space.precisions=["fp32"]', "space.width_mults=[0.5]", "limits.latency_fraction=0.9"]
TINY += ["deploy.torch_program=false"]

Floats = NDArray[np.float64]


def speak(word: str, rng: np.random.Generator) -> Floats:
    """A second of a word, (RATE,): a tone whose pitch says which it is, somewhere in noise."""
    t = np.arange(RATE) / RATE
    along = np.clip((t - rng.uniform(0.1, 0.4)) / 0.4, 0, 1)  # from 0 to 1 while the word is said
    octaves = {"rise": along, "fall": 1 - along, "stay": 0.5 + 0 * t, "waver": 0.5 + 0.4 * np.sin(20 * np.pi * along)}
    phase = 2 * np.pi * np.cumsum(rng.uniform(300, 900) * 2 ** octaves[word]) / RATE
    sound: Floats = rng.uniform(0.3, 1) * np.sin(phase) * ((along > 0) & (along < 1)) + rng.normal(0, 0.2, RATE)
    return sound


def features(sound: Floats) -> Floats:
    """(RATE,) -> (BANDS, 101): the logarithm of the energy in each mel band, of windows of 25 ms every 10 ms."""
    hop, length = RATE // 100, RATE // 40
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(sound, length // 2), length)[::hop]
    energies = np.abs(np.fft.rfft(windows * np.hanning(length), axis=1)) ** 2  # (101, frequencies)
    # triangles whose corners are as far from each other on the mel scale
    corners = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + RATE / 1400), BANDS + 2) / 2595) - 1)
    frequencies = np.fft.rfftfreq(length, 1 / RATE)
    bands = np.array([np.interp(frequencies, corners[i : i + 3], [0, 1, 0]) for i in range(BANDS)])
    logarithms: Floats = np.log(bands @ energies.T + 1e-3)
    return logarithms


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default="runs/keyword-spotting", metavar="FOLDER")
    parser.add_argument("--tiny", action="store_true")
    options = parser.parse_args(argv)
    options.output.mkdir(parents=True, exist_ok=True)

    rng = np.random.default_rng(0)
    labels = np.arange(200 if options.tiny else 2000) % len(WORDS)
    x = np.stack([features(speak(WORDS[label], rng)) for label in labels])  # (N, 40, 101)
    sounds = options.output / "sounds.npz"
    np.savez(sounds, x_train=x.astype(np.float32), y_train=labels, class_names=np.array(WORDS))

    configuration = options.output / "keyword-spotting.toml"
    text = CONFIGURATION.format(sounds=sounds.as_posix(), folder=(options.output / "run").as_posix())
    configuration.write_text(text, encoding="utf-8")
    command = [sys.executable, "-m", "hwnas", "run", str(configuration), "--json"]
    command += [f"--set={each}" for each in TINY] if options.tiny else []
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)  # what it tells on the way passes
    deployment = json.loads(done.stdout)["deployment"]

    with load(deployment) as network:
        manifest = network.manifest
        heard = [network.predict(features(speak(word, rng)).astype(np.float32)) for word in WORDS]
    latency, limit = manifest.measured.latency_ms.minimum, manifest.limits["latency_ms"]
    print(f"accuracy {manifest.accuracy.test_runtime:.1%}, latency {latency:.4f} ms, limit {limit:.4f} ms")
    for word, prediction in zip(WORDS, heard, strict=True):
        assert isinstance(prediction, Prediction)
        print(f"{word:>6}: heard as {prediction.class_name}, score {prediction.scores[prediction.class_name]:.2f}")
    print(f"the deployment is {deployment}")


if __name__ == "__main__":
    main()
