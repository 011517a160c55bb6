"""A built-in corpus of babbled speech, so that everything runs without a licence or a download.

The Blizzard 2013 recordings are given out by registration only.  This module
speaks a few minutes of invented syllables with a small source-filter
synthesiser and stores them as the original's data program stored Blizzard.  It
is a stand-in for trying the programs, not for results.

How speech is made here, in the order of the functions below::

    say_phrase      words of random syllables, syllables of consonants and vowels
        |           -> a list of `Piece`s: a sound, how long, how loud, its accent
    draw_tracks     -> what the mouth does every 5 ms: pitch, formants, loudnesses
        |
    glottal_source  -> puffs of air between the vocal folds, and breath noise
        |
    vocal_tract     the tube from the larynx to the lips: resonances ("formants")
    hiss            noise made at a narrow place in the mouth (s, f, the burst of t)
        |
    filter_frames   -> source times filter, frame by frame, overlapped and added
        |
    speak           -> level and recording noise, as int16

Spectrum of the source times transfer function of the tract is the whole idea
(Fant, 1960); the layout follows Klatt's synthesiser (J. Acoust. Soc. Am. 67,
1980), the pitch contour Fujisaki's phrase and accent components, and the vowels
are the average formants of women's voices by Peterson and Barney (1952), since
the reader of Blizzard is a woman.

To listen::

    python -m datasets.demo_blizzard demo.wav --seconds 10
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import math
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.random import PCG64, Generator
from numpy.typing import NDArray
from scipy.fft import irfft, rfft
from scipy.io import wavfile
from scipy.ndimage import gaussian_filter1d

from cle_port.cache import cache_dir
from cle_port.command_line import Parser, check_ending, ended
from cle_port.errors import UserError
from cle_port.files import unwritable, write
from cle_port.progress import progress_bar
from datasets.blizzard import row_ranges, save_statistics, statistics_path
from datasets.hdf5_rows import Moments, RowWriter

STAND_IN_NOTICE = (
    "Data: synthetic babble, a stand-in for Blizzard that shows the program at work, no results.\n"
    "Real speech: python -m datasets.blizzard build RECORDINGS OUT, then add --data_path OUT."
)
VERSION = 1
FILE_NAME = "blizzard_unseg_tbptt"  # the original's name of the corpus in training order
SUMS = "SHA256SUMS"
SAMPLE_RATE = 16000  # Hz
ABANDONED_SECONDS = 24 * 3600  # after which an unfinished corpus is nobody's
LONGEST = 60.0  # minutes; the samples are held in memory

FRAME = 80  # samples between two settings of the synthesiser: 5 ms
FFT_SIZE = 800  # a frame of 2 * FRAME and 40 ms in which its resonances die away
SPEECH_LEVEL = -21.0  # dB, root mean square of the voiced part, full scale = 0
NOISE_LEVEL = -55.0  # dB, of the microphone and the room
PEAK = 0.9  # of full scale, never exceeded by the speech

Array = NDArray[np.float64]
Spectra = NDArray[np.complex128]


# ----------------------------------------------------------------------------------------
# The sounds
# ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sound:
    """A stretch of speech in which the mouth holds, or moves between, one or two positions.

    Parameters
    ----------
    duration : float
        Usual length, s.
    formants : tuple of float, optional
        First three resonances of the vocal tract at the start, Hz.  None: the
        mouth is on its way from the sound before to the one after.
    glide_to : tuple of float, optional
        The same at the end, of a diphthong.
    voice : float
        Amplitude of the glottal pulses; 1 is that of a stressed vowel.
    breath : float
        Amplitude of noise made in the larynx, which passes the whole tract.
    hiss : float
        Amplitude of noise made in the mouth, whose spectrum is one hump.
    hiss_centre, hiss_width : float
        Centre and bandwidth of that hump, Hz.
    nasal : float
        1 with the way through the nose open, else 0.
    """

    duration: float
    formants: tuple[float, ...] | None = None
    glide_to: tuple[float, ...] | None = None
    voice: float = 0.0
    breath: float = 0.0
    hiss: float = 0.0
    hiss_centre: float = 3000.0
    hiss_width: float = 2000.0
    nasal: float = 0.0


def _vowel(*formants: float) -> tuple[Sound, ...]:
    start, end = formants[:3], formants[3:] or None
    return (Sound(0.17 if end else 0.12, start, end, voice=1.0, breath=0.15),)


def _voiced(duration: float, *formants: float, voice: float, nasal: float = 0.0) -> Sound:
    return Sound(duration, formants, voice=voice, nasal=nasal, breath=0.08)


def _fricative(
    duration: float, place: str, hiss: float, centre: float, width: float, voice: float = 0.0
) -> tuple[Sound, ...]:
    return (
        Sound(
            duration,
            _PLACES[place],
            voice=voice,
            hiss=hiss,
            hiss_centre=centre,
            hiss_width=width,
        ),
    )


def _plosive(
    place: str, hiss: float, centre: float, width: float, voiced: bool
) -> tuple[Sound, ...]:
    """A closed mouth, the burst when it opens and, where voiceless, a puff of breath."""
    mouth = _PLACES[place]
    closure = Sound(0.055 if voiced else 0.07, mouth, voice=0.10 if voiced else 0.0)
    burst = Sound(0.010, mouth, hiss=hiss, hiss_centre=centre, hiss_width=width)
    puff = Sound(0.035, None, breath=1.2, hiss=0.1 * hiss, hiss_centre=centre, hiss_width=width)
    return (closure, burst) if voiced else (closure, burst, puff)


# Where the tongue or the lips close, as the formants they pull the neighbouring vowels to.
_PLACES = {
    "lips": (280.0, 950.0, 2500.0),
    "teeth": (290.0, 1400.0, 2750.0),
    "ridge": (290.0, 1950.0, 2950.0),
    "palate": (290.0, 2100.0, 2800.0),
    "velum": (290.0, 2300.0, 2650.0),
}

VOWELS: dict[str, tuple[Sound, ...]] = {
    "iy": _vowel(310, 2790, 3310),
    "ih": _vowel(430, 2480, 3070),
    "eh": _vowel(610, 2330, 2990),
    "ae": _vowel(860, 2050, 2850),
    "aa": _vowel(850, 1220, 2810),
    "ao": _vowel(590, 920, 2710),
    "uh": _vowel(470, 1160, 2680),
    "uw": _vowel(370, 950, 2670),
    "ah": _vowel(760, 1400, 2780),
    "er": _vowel(500, 1640, 1960),
    "ay": _vowel(850, 1300, 2800, 400, 2500, 3050),
    "ey": _vowel(560, 2300, 2950, 340, 2750, 3250),
    "ow": _vowel(580, 1050, 2700, 400, 850, 2650),
    "aw": _vowel(840, 1400, 2800, 420, 950, 2650),
}

CONSONANTS: dict[str, tuple[Sound, ...]] = {
    "m": (_voiced(0.075, 280, 1100, 2400, voice=0.6, nasal=1.0),),
    "n": (_voiced(0.070, 280, 1800, 2700, voice=0.6, nasal=1.0),),
    "ng": (_voiced(0.080, 280, 2250, 2800, voice=0.55, nasal=1.0),),
    "l": (_voiced(0.065, 360, 1300, 2900, voice=0.7),),
    "r": (_voiced(0.065, 380, 1250, 1850, voice=0.7),),
    "w": (_voiced(0.065, 330, 750, 2500, voice=0.65),),
    "y": (_voiced(0.060, 290, 2650, 3250, voice=0.65),),
    "s": _fricative(0.110, "ridge", 3.0, 6300, 1800),
    "sh": _fricative(0.110, "palate", 3.4, 3400, 1400),
    "f": _fricative(0.095, "lips", 1.0, 5000, 6000),
    "th": _fricative(0.085, "teeth", 0.8, 6500, 4000),
    "z": _fricative(0.075, "ridge", 2.1, 6300, 1800, voice=0.3),
    "v": _fricative(0.060, "lips", 0.6, 5000, 6000, voice=0.4),
    "h": (Sound(0.065, None, breath=1.4),),
    "p": _plosive("lips", 2.4, 900, 1500, voiced=False),
    "t": _plosive("ridge", 4.8, 4600, 2500, voiced=False),
    "k": _plosive("velum", 4.8, 2200, 900, voiced=False),
    "b": _plosive("lips", 1.8, 800, 1500, voiced=True),
    "d": _plosive("ridge", 3.0, 4300, 2500, voiced=True),
    "g": _plosive("velum", 3.0, 2000, 900, voiced=True),
}

# A consonant stands in the list as often as it is spoken; "" means none, "s t" is a cluster.
ONSETS = [*"bdddgmmnnnllrrwysshhfvzptttkk", "sh", "th", "s t", "p l", "k r", "t r", "g l", "", ""]
CODAS = [*"nnnmlrssztdk", "ng", *[""] * 17]
PAUSE = Sound(0.0, None)
INHALATION = Sound(0.0, (550.0, 1600.0, 2700.0), breath=0.4)


# ----------------------------------------------------------------------------------------
# What is said: phrases of words of syllables
# ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Piece:
    """One `Sound` as it is spoken.

    Parameters
    ----------
    sound : Sound
        What is spoken.
    frames : int
        For how many frames of 5 ms.
    loudness : float
        dB, relative to a stressed syllable.
    accent : float
        By how much, in natural logarithm, the pitch rises around this piece.
    """

    sound: Sound
    frames: int
    loudness: float = 0.0
    accent: float = 0.0


def say_phrase(rng: Generator) -> list[Piece]:
    """Make up what is spoken in one breath, and the pauses around it.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of chance.

    Returns
    -------
    list of Piece
        Two to six words between two pauses, the second of which may hold an
        inhalation.
    """
    n_words = int(rng.integers(2, 7))
    pieces = [Piece(PAUSE, _in_frames(rng.uniform(0.03, 0.10)))]
    for word in range(n_words):
        pieces += _say_word(rng, is_last=word == n_words - 1)
        if rng.random() < 0.15:  # a hesitation
            pieces.append(Piece(PAUSE, _in_frames(rng.uniform(0.04, 0.12))))
    pieces.append(Piece(PAUSE, _in_frames(rng.uniform(0.12, 0.35))))
    if rng.random() < 0.5:
        pieces.append(Piece(INHALATION, _in_frames(rng.uniform(0.15, 0.30))))
        pieces.append(Piece(PAUSE, _in_frames(rng.uniform(0.03, 0.08))))
    return pieces


def _say_word(rng: Generator, is_last: bool) -> list[Piece]:
    n_syllables = int(rng.choice([1, 2, 3], p=[0.4, 0.4, 0.2]))
    stressed = int(rng.integers(min(n_syllables, 2)))
    pieces: list[Piece] = []
    for syllable in range(n_syllables):
        pieces += _say_syllable(
            rng,
            is_stressed=syllable == stressed,
            is_last=is_last and syllable == n_syllables - 1,
        )
    return pieces


def _say_syllable(rng: Generator, is_stressed: bool, is_last: bool) -> list[Piece]:
    loudness = rng.normal(0.0 if is_stressed else -4.0, 1.0)
    accent = rng.uniform(0.08, 0.25) if is_stressed else 0.0
    # Readers speak unstressed syllables faster and draw out the last one.
    tempo = rng.normal(1.0, 0.08) * (1.15 if is_stressed else 0.8) * (1.4 if is_last else 1.0)

    def spoken(sounds: Sequence[Sound], tempo: float, accent: float = 0.0) -> list[Piece]:
        return [
            Piece(
                sound,
                _in_frames(sound.duration * tempo * rng.uniform(0.85, 1.15)),
                loudness,
                accent,
            )
            for sound in sounds
        ]

    onset, coda = rng.choice(ONSETS), rng.choice(CODAS)
    pieces: list[Piece] = []
    for name in onset.split():
        pieces += spoken(CONSONANTS[name], 1.0)
    pieces += spoken(VOWELS[str(rng.choice(list(VOWELS)))], tempo, accent)
    for name in coda.split():
        pieces += spoken(CONSONANTS[name], 0.5 + 0.5 * tempo)
    return pieces


def _in_frames(seconds: float) -> int:
    return max(1, round(seconds * SAMPLE_RATE / FRAME))


# ----------------------------------------------------------------------------------------
# What the mouth does: slowly varying tracks
# ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Tracks:
    """Settings of the synthesiser at every frame of 5 ms, each an array over the N frames.

    Parameters
    ----------
    pitch : ndarray, (N,)
        Frequency of the glottal pulses, Hz.
    formants : ndarray, (N, 3)
        Lowest three resonances of the tract, Hz.
    nasal : ndarray, (N,)
        How far the way through the nose is open, 0 to 1.
    voice, breath, hiss : ndarray, (N,)
        Amplitudes of the three sources.
    hiss_centre, hiss_width : ndarray, (N,)
        Spectrum of the hiss, Hz.
    """

    pitch: Array
    formants: Array
    nasal: Array
    voice: Array
    breath: Array
    hiss: Array
    hiss_centre: Array
    hiss_width: Array


def draw_tracks(pieces: Sequence[Piece], rng: Generator) -> Tracks:
    """Turn pieces into smooth movements.

    The targets are steps; what is heard as speech is that the mouth cannot
    follow steps.  Tongue and lips take some 50 ms, which lets each sound colour
    its neighbours; the vocal folds and the jet of air are several times faster.

    Parameters
    ----------
    pieces : sequence of Piece
        One phrase.
    rng : numpy.random.Generator
        Source of chance.

    Returns
    -------
    Tracks
    """
    frames = [piece.frames for piece in pieces]

    def steps(values: Sequence[float]) -> Array:
        return np.repeat(np.asarray(values, dtype=np.float64), frames)

    n = sum(frames)
    unsteadiness = 8.0 * _smooth(rng.standard_normal(n), 0.05)  # about 1 dB once smoothed
    loudness = _smooth(steps([piece.loudness for piece in pieces]), 0.03) + unsteadiness
    gain = 10 ** (loudness / 20) * np.linspace(1.0, 0.75, n)  # the lungs run empty

    def amplitude(name: str, seconds: float) -> Array:
        return gain * _smooth(steps([getattr(piece.sound, name) for piece in pieces]), seconds)

    return Tracks(
        pitch=_pitch_contour(pieces, rng),
        formants=_smooth(_formant_targets(pieces), 0.016),
        nasal=_smooth(steps([piece.sound.nasal for piece in pieces]), 0.008),
        voice=amplitude("voice", 0.009),
        breath=amplitude("breath", 0.008),
        hiss=amplitude("hiss", 0.003),
        # Not smoothed: a burst of 10 ms must have its own colour.
        hiss_centre=steps([piece.sound.hiss_centre for piece in pieces]),
        hiss_width=steps([piece.sound.hiss_width for piece in pieces]),
    )


def _smooth(track: Array, seconds: float) -> Array:
    return gaussian_filter1d(track, seconds * SAMPLE_RATE / FRAME, axis=0, mode="nearest")


def _formant_targets(pieces: Sequence[Piece]) -> Array:
    """Formants before smoothing, (N, 3); where a sound has none, on the line between others."""
    targets = np.full((sum(piece.frames for piece in pieces), 3), np.nan)
    start = 0
    for piece in pieces:
        if piece.sound.formants is not None:
            end = piece.sound.glide_to or piece.sound.formants
            targets[start : start + piece.frames] = np.linspace(
                piece.sound.formants, end, piece.frames
            )
        start += piece.frames
    known = np.flatnonzero(np.isfinite(targets[:, 0]))
    everywhere = np.arange(len(targets))
    return np.stack([np.interp(everywhere, known, targets[known, k]) for k in range(3)], axis=1)


def _pitch_contour(pieces: Sequence[Piece], rng: Generator) -> Array:
    """Pitch in Hz, (N,): a falling line, a hill per stressed syllable, a fall or rise at the end.

    Hills add up on the logarithmic scale, as in Fujisaki's model.
    """
    n = sum(piece.frames for piece in pieces)
    time = np.arange(n) * FRAME / SAMPLE_RATE
    log_pitch = np.log(rng.uniform(195.0, 225.0)) - 0.25 * time / time[-1]
    centres = np.cumsum([piece.frames for piece in pieces]) * FRAME / SAMPLE_RATE
    for piece, centre in zip(pieces, centres):
        log_pitch += piece.accent * np.exp(-0.5 * ((time - centre + 0.06) / 0.08) ** 2)
    ending = rng.choice([-0.15, -0.15, 0.12])  # two statements to one question
    spoken = np.flatnonzero([piece.sound.voice > 0 for piece in pieces])[-1]
    log_pitch += ending / (1 + np.exp(-(time - centres[spoken] + 0.12) / 0.04))
    drift = gaussian_filter1d(rng.standard_normal(n), 8.0, mode="nearest")
    return np.exp(log_pitch + 0.03 * drift)


# ----------------------------------------------------------------------------------------
# Source
# ----------------------------------------------------------------------------------------


def glottal_source(tracks: Tracks, rng: Generator) -> Array:
    """What enters the vocal tract: pulses of the vocal folds and the noise of breath.

    Parameters
    ----------
    tracks : Tracks
        Settings at N frames, of which pitch, voice and breath are used.
    rng : numpy.random.Generator
        Source of chance.

    Returns
    -------
    ndarray, (N * FRAME,)
        Sound pressure, that is the slope of the flow of air.
    """
    pitch = _to_samples(tracks.pitch)
    # No two periods are alike: lengths differ by 0.8 % ("jitter"), heights by 5 % ("shimmer").
    period = np.cumsum(pitch / SAMPLE_RATE).astype(np.int64)
    jitter = 1 + 0.008 * rng.standard_normal(period[-1] + 1)
    shimmer = 1 + 0.05 * rng.standard_normal(period[-1] + 1)
    phase = np.cumsum(pitch * jitter[period] / SAMPLE_RATE)

    flow = rosenberg_pulse(phase % 1.0)
    # The lips radiate the slope of the flow.  A difference of the continuous flow, rather than
    # the formula of its slope, averages over a sample, so that the jump at closure hardly aliases.
    pulses = np.diff(flow, prepend=0.0) * SAMPLE_RATE / pitch
    # Folds never close abruptly: 6 dB per octave less above 4 kHz.
    pole = math.exp(-2 * math.pi * 4000.0 / SAMPLE_RATE)
    pulses = _smoothed(pulses * shimmer[period], 1 - pole, pole)

    voice = _to_samples(tracks.voice)
    breath = _to_samples(tracks.breath) * rng.standard_normal(len(phase))
    # Air rushes while the folds are open; without voice they stay open.
    rush = np.where(voice > 0.05, 0.3 + 0.7 * flow, 1.0)
    return voice * pulses + breath * rush


def _smoothed(x: Array, gain: float, pole: float) -> Array:
    """Filter with one pole: y[n] = gain * x[n] + pole * y[n - 1]."""
    # Every training run imports this module, few need half a second of importing for this.
    from scipy.signal import lfilter

    return lfilter([gain], [1, -pole], x)


def rosenberg_pulse(phase: Array, open_quotient: float = 0.6) -> Array:
    """Flow of air through the vocal folds over one period.

    Rosenberg's polynomial pulse, ``27/4 (u^2 - u^3)`` with ``u = phase /
    open_quotient``: a slow opening, a quicker closing, nothing while closed.

    Parameters
    ----------
    phase : ndarray
        Position in the period, 0 to 1, any shape.
    open_quotient : float
        Part of the period during which the folds are open.

    Returns
    -------
    ndarray
        Flow, 0 to 1, of the shape of `phase`.
    """
    u = np.minimum(phase / open_quotient, 1.0)
    return 6.75 * u**2 * (1 - u)


def _to_samples(track: Array) -> Array:
    """Straight lines between the frames' middles, (N,) to (N * FRAME,)."""
    middles = (np.arange(len(track)) + 0.5) * FRAME
    return np.interp(np.arange(len(track) * FRAME), middles, track)


# ----------------------------------------------------------------------------------------
# Filter
# ----------------------------------------------------------------------------------------

_Z = np.exp(-2j * np.pi * np.arange(FFT_SIZE // 2 + 1) / FFT_SIZE)  # z^-1 on the unit circle


def vocal_tract(formants: Array, nasal: Array) -> Spectra:
    """Transfer function of the tube from larynx to lips: resonators in a row.

    Parameters
    ----------
    formants : ndarray, (N, 3)
        Lowest resonances, Hz.
    nasal : ndarray, (N,)
        How far the way through the nose is open, 0 to 1: it adds a resonance
        and swallows what lies above it.

    Returns
    -------
    ndarray of complex, (N, FFT_SIZE // 2 + 1)
        At the frequencies of `scipy.fft.rfft`; 1 at frequency 0.
    """
    denominator = np.ones((len(formants), len(_Z)), dtype=np.complex128)
    for k, bandwidth in enumerate([80.0 + 60.0 * nasal, 100.0 + 60.0 * nasal, 130.0 + 0.0 * nasal]):
        denominator *= _pole_pair(formants[:, k], bandwidth)
    denominator *= _HIGH_FORMANTS
    # Pole and zero of the nose; with the nose shut they lie on each other and cancel.
    denominator *= _pole_pair(280.0, 100.0)
    denominator /= _pole_pair(280.0 + 320.0 * nasal, 100.0)
    return denominator[:, :1] / denominator


def hiss_spectrum(centre: Array, width: Array) -> Spectra:
    """Transfer function that shapes white noise into one hump, with nothing at 0 and 8 kHz.

    Parameters
    ----------
    centre, width : ndarray, (N,)
        Middle and bandwidth of the hump, Hz.

    Returns
    -------
    ndarray of complex, (N, FFT_SIZE // 2 + 1)
        About 1 at the centre.
    """
    radius = np.exp(-np.pi * width / SAMPLE_RATE)
    return 0.5 * (1 - radius[:, None] ** 2) * (1 - _Z**2) / _pole_pair(centre, width)


def _pole_pair(centre: Array | float, bandwidth: Array | float) -> Spectra:
    """Denominator ``1 - b z^-1 - c z^-2`` of a resonator, (N, FFT_SIZE // 2 + 1), N may be 1."""
    radius = np.exp(-np.pi * np.atleast_1d(bandwidth) / SAMPLE_RATE)
    b = 2 * radius * np.cos(2 * np.pi * np.atleast_1d(centre) / SAMPLE_RATE)
    return 1 - b[:, None] * _Z + (radius**2)[:, None] * _Z**2


# Above the third formant the tract of one speaker hardly changes.
_HIGH_FORMANTS = _pole_pair(4200.0, 250.0) * _pole_pair(5200.0, 350.0) * _pole_pair(6600.0, 600.0)


def filter_frames(sources: Sequence[Array], responses: Sequence[Spectra]) -> Array:
    """Send each source through its own time-varying filter and add the results.

    The source is cut into frames of 10 ms under a Hann window that overlap by
    half and so add up to the source again; each frame is filtered as a whole
    with the filter of its moment, resonances ringing on into later frames.
    What is heard is a smooth cross-fade from each filter to the next.

    Parameters
    ----------
    sources : sequence of ndarray, (N * FRAME,)
        Signals.
    responses : sequence of ndarray of complex, (N, FFT_SIZE // 2 + 1)
        Transfer function of each source's filter at each frame.

    Returns
    -------
    ndarray, (N * FRAME,)
    """
    n = len(responses[0])
    window = np.hanning(2 * FRAME + 1)[:-1]
    spectrum = np.zeros((n, FFT_SIZE // 2 + 1), dtype=np.complex128)
    for source, response in zip(sources, responses):
        frames = sliding_window_view(np.pad(source, FRAME // 2), 2 * FRAME)[::FRAME]
        spectrum += rfft(frames * window, FFT_SIZE) * response
    blocks = irfft(spectrum, FFT_SIZE).reshape(n, FFT_SIZE // FRAME, FRAME)
    output = np.zeros((n + FFT_SIZE // FRAME, FRAME))
    for k in range(FFT_SIZE // FRAME):  # the k-th 5 ms of every filtered frame
        output[k : k + n] += blocks[:, k]
    return output[:n].ravel()


# ----------------------------------------------------------------------------------------
# Speech
# ----------------------------------------------------------------------------------------


def speak_phrase(rng: Generator) -> Array:
    """Make up a phrase and speak it.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of chance.

    Returns
    -------
    ndarray, (samples,)
        Sound at 16 kHz, full scale = 1, without recording noise.
    """
    pieces = say_phrase(rng)
    tracks = draw_tracks(pieces, rng)
    source = glottal_source(tracks, rng)
    hiss = _to_samples(tracks.hiss) * rng.standard_normal(len(source))
    sound = filter_frames(
        [source, hiss],
        [
            vocal_tract(tracks.formants, tracks.nasal),
            hiss_spectrum(tracks.hiss_centre, tracks.hiss_width),
        ],
    )
    is_voiced = _to_samples(tracks.voice) > 0.2
    level = SPEECH_LEVEL + rng.normal(0.0, 1.0)
    sound *= 10 ** (level / 20) / np.sqrt(np.mean(sound[is_voiced] ** 2))
    return sound * min(1.0, PEAK / np.abs(sound).max())


def speak(n_samples: int, seed: int = 0, quiet: bool = True) -> NDArray[np.int16]:
    """Babble.

    Parameters
    ----------
    n_samples : int
        Length, in samples at 16 kHz.
    seed : int
        Not negative; the same seed says the same.  A longer recording begins
        with the shorter one of the same seed.
    quiet : bool
        Show no progress bar.

    Returns
    -------
    ndarray of int16, (n_samples,)

    Notes
    -----
    All chance comes from ``Generator(PCG64(seed))``.  Machines may differ in
    the last bit of exp, cos and the Fourier transform; rounding to int16
    hides that but for about one sample in 10^9, by 1.  A release of NumPy that
    changes how its generator makes normal numbers would change the corpus.
    """
    rng = Generator(PCG64(seed))
    samples = np.empty(n_samples, dtype=np.int16)
    done = 0
    with progress_bar(
        n_samples // SAMPLE_RATE, "Speaking the demo corpus", unit="s", quiet=quiet
    ) as bar:
        while done < n_samples:
            sound = speak_phrase(rng)
            sound += _recording_noise(len(sound), rng)
            part = np.rint(32767 * sound[: n_samples - done]).astype(np.int16)
            samples[done : done + len(part)] = part
            done += len(part)
            bar.update(done // SAMPLE_RATE - bar.n)
    return samples


def _recording_noise(n: int, rng: Generator) -> Array:
    """Half the power the hiss of the microphone, white; half the rumble of the room, low."""
    level = 10 ** (NOISE_LEVEL / 20) / math.sqrt(2)
    pole = 0.9
    rumble = _smoothed(rng.standard_normal(n), math.sqrt(1 - pole**2), pole)
    return level * (rng.standard_normal(n) + rumble)


# ----------------------------------------------------------------------------------------
# The corpus on disk
# ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Settings:
    """What the corpus is made of; see `build`."""

    seed: int = 0
    minutes: float = 3.5
    seq_len: int = 1600
    n_streams: int = 32

    @property
    def n_blocks(self) -> int:
        """Rows of one stream."""
        return int(self.minutes * 60 * SAMPLE_RATE) // (self.seq_len * self.n_streams)

    def check(self) -> None:
        """Raise `UserError` for settings of which no corpus can be made."""
        for name in ("seed", "seq_len", "n_streams"):
            value = getattr(self, name)
            if not isinstance(value, int | np.integer) or value < (name != "seed"):
                least = "0" if name == "seed" else "1"
                raise UserError(f"{name} must be a whole number of at least {least}, not {value!r}")
        if not 0 < self.minutes <= LONGEST:  # also NaN
            raise UserError(f"minutes must be above 0 and at most {LONGEST:g}, not {self.minutes}")
        if self.n_blocks < 2:
            needed = 2 * self.seq_len * self.n_streams / (60 * SAMPLE_RATE)
            raise UserError(
                f"{self.minutes:g} minutes are too short for training and validation rows of "
                f"{self.n_streams} streams by {self.seq_len} samples: "
                f"ask for at least {math.ceil(100 * needed) / 100:g} minutes"
            )


def build(
    folder: str | Path,
    *,
    seed: int = Settings.seed,
    minutes: float = Settings.minutes,
    seq_len: int = Settings.seq_len,
    n_streams: int = Settings.n_streams,
    quiet: bool = False,
) -> Path:
    """Speak a corpus and write it in the layout of the original's Blizzard file.

    One long recording is cut into `n_streams` parts.  Row ``i * n_streams + j``
    is the i-th piece of part j, so that a batch of `n_streams` rows is followed
    by the batch that continues each of them: what truncated backpropagation
    through time needs to carry its state on.

    Parameters
    ----------
    folder : str or Path
        Where ``blizzard_unseg_tbptt.h5`` (int16 ``data``, (rows, seq_len)),
        ``blizzard_unseg_tbptt_normal.npz`` (float64 scalars ``X_mean`` and
        ``X_std`` of the training rows of `datasets.blizzard.row_ranges`) and
        ``SHA256SUMS`` of both are written, replacing what is there.  Created if
        need be.
    seed : int
        See `speak`.
    minutes : float
        Length at most; what does not fill a row of every stream is left out.
    seq_len : int
        Samples in a row; a multiple of the frame size, 40 in the demo.
    n_streams : int
        Parallel streams: the batch size that the corpus is made for.  The
        last rows, which are those for validation, are the ends of all streams.
    quiet : bool
        Show no progress bar.

    Returns
    -------
    Path
        `folder`.

    Raises
    ------
    UserError
        If a setting is out of range or the folder cannot be written.

    Notes
    -----
    Counterpart of the layout: ``datasets/grep_blizzard_hdf5.py``,
    ``fetch_blizzard_tbptt``.  Statistics: the true ones of all training rows,
    where ``Blizzard_tbptt.load`` estimates them from the first rows.
    """
    settings = Settings(seed, minutes, seq_len, n_streams)
    settings.check()
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _require_writable(folder)
        recording = speak(settings.n_blocks * seq_len * n_streams, seed, quiet)
        streams = recording.reshape(n_streams, settings.n_blocks, seq_len)
        _write_corpus(folder, streams.swapaxes(0, 1).reshape(-1, seq_len), n_streams)
    except OSError as error:
        raise unwritable(folder, error) from error
    return folder


def ensure(*, quiet: bool = False) -> Path:
    """Folder with the demo corpus in its default size, made on first use.

    Parameters
    ----------
    quiet : bool
        Show no progress bar.

    Returns
    -------
    Path
        Folder inside `cle_port.cache.cache_dir` with the files of `build`.
        Its name changes with this module, so that a corpus made by other code
        is never taken for this one; damaged files are made anew.

    Raises
    ------
    UserError
        If the cache folder cannot be written.

    Notes
    -----
    Two programs at once may both build; each does so in a folder of its own
    and the last to finish finds the other's corpus in place and keeps that.
    """
    shelf = cache_dir("demo_blizzard")
    final = shelf / f"v{VERSION}-{_fingerprint(Settings())}"
    if _is_intact(final):
        return final
    for left in shelf.glob(".tmp-*"):  # by a program that was killed
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > ABANDONED_SECONDS:
                shutil.rmtree(left, ignore_errors=True)
    try:
        workshop = Path(tempfile.mkdtemp(prefix=".tmp-", dir=shelf))
        try:
            fresh = build(workshop / "corpus", quiet=quiet)
            if not _is_intact(final):
                with contextlib.suppress(FileNotFoundError):
                    final.rename(workshop / "damaged")
                fresh.rename(final)
        finally:
            shutil.rmtree(workshop, ignore_errors=True)
    except OSError as error:
        # Another program may have put its corpus there between the look and the renaming.
        if not _is_intact(final):
            raise unwritable(final, error) from error
    return final


def _fingerprint(settings: Settings) -> str:
    """Digest of the settings and of this file, without which data and code could part ways."""
    code = Path(__file__).read_bytes()
    return hashlib.sha256(code + json.dumps(asdict(settings)).encode()).hexdigest()[:12]


def _write_corpus(folder: Path, rows: NDArray[np.int16], n_streams: int) -> None:
    sums = folder / SUMS
    sums.unlink(missing_ok=True)  # of files that are about to be replaced
    hdf5 = folder / f"{FILE_NAME}.h5"
    seq_len = rows.shape[1]
    with RowWriter(
        hdf5, seq_len, batch_size=n_streams, seq_len=seq_len, sample_rate=SAMPLE_RATE
    ) as writer:
        writer.append(rows)
        writer.finish()
        writer.commit()
    train = Moments()
    train.add(rows[: row_ranges(len(rows), n_streams, n_streams).train_end])
    save_statistics(folder, FILE_NAME, train.mean, train.std)
    # Last, so that where the sums stand the files stand; `sha256sum -c` reads them too.
    lines = [
        f"{_sha256(path)}  {path.name}\n" for path in (hdf5, statistics_path(folder, FILE_NAME))
    ]
    write(sums, "".join(lines).encode())


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _require_writable(folder: Path) -> None:
    """Fail before the work of speaking, not after it."""
    with tempfile.TemporaryFile(dir=folder):
        pass


def _is_intact(folder: Path) -> bool:
    try:
        lines = (folder / SUMS).read_text(encoding="ascii").splitlines()
        sums = [line.split() for line in lines]
        return len(sums) == 2 and all(_sha256(folder / name) == digest for digest, name in sums)
    except (OSError, ValueError):
        return False


# ----------------------------------------------------------------------------------------
# Command
# ----------------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m datasets.demo_blizzard",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description=(
            "Write babbled speech to a wav file (16 kHz, mono, 16 bit), to hear what the\n"
            "programs learn from when they are given no data. A synthesiser invents words and\n"
            "speaks them: glottal pulses and noise through moving resonances of the mouth.\n"
            "The corpus the programs use is made by itself on first use, this command is not\n"
            "needed for it; it begins with the same words as seed 0."
        ),
        epilog=(
            "examples:\n"
            "  python -m datasets.demo_blizzard demo.wav\n"
            "  python -m datasets.demo_blizzard other.wav --seconds 30 --seed 7\n\n"
            f"{STAND_IN_NOTICE}"
        ),
    )
    parser.add_argument(
        "out", metavar="OUT.wav", type=Path, help="file to write, replaced if there"
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=10.0,
        metavar="S",
        help=f"length, up to {60 * LONGEST:g} (default: %(default)g)",
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        metavar="N",
        help="whole number, not negative; another says other words (default: %(default)s)",
    )
    return parser


def _write_wav(path: Path, seconds: float, seed: int) -> None:
    if not 1 / SAMPLE_RATE <= seconds <= 60 * LONGEST:  # also NaN
        raise UserError(f"--seconds must be above 0 and at most {60 * LONGEST:g}, not {seconds:g}")
    if seed < 0:
        raise UserError(f"--seed must not be negative, not {seed}; take 0 or any positive number")
    check_ending("OUT", path, ".wav")
    try:
        _require_writable(path.parent)
        content = io.BytesIO()
        wavfile.write(content, SAMPLE_RATE, speak(round(seconds * SAMPLE_RATE), seed, quiet=False))
    except OSError as error:
        raise unwritable(path, error) from error
    write(path, content.getvalue())
    print(f"{path}: {seconds:g} s of babble, 16 kHz mono, seed {seed}")


def main(args: Sequence[str] | None = None) -> int:
    """Run ``python -m datasets.demo_blizzard``.

    Parameters
    ----------
    args : sequence of str, optional
        Arguments; None takes those of the process.

    Returns
    -------
    int
        Exit status: 0, or 2 after an error of the user's.
    """

    def command() -> int:
        options = _parser().parse_args(args)
        _write_wav(options.out, options.seconds, options.seed)
        return 0

    return ended(command)


if __name__ == "__main__":
    sys.exit(main())
