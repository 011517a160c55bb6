"""Synthetic babble: a small source-filter synthesiser that speaks invented syllables.

Stages of the synthesis, in the order of the functions below::

    say_phrase      words of random syllables, made of consonants and vowels
        |           -> a list of `Piece`s: sound, length, loudness, accent
    draw_tracks     -> settings of the mouth every 5 ms: pitch, formants, amplitudes
        |
    glottal_source  -> pulses of air from the vocal folds, and breath noise
        |
    vocal_tract     resonances ("formants") of the tube from the larynx to the lips
    hiss            noise from a narrow place in the mouth (s, f, the burst of t)
        |
    filter_frames   -> source times filter for each frame, with overlap-add
        |
    speak           -> level and recording noise, as int16

The synthesiser multiplies the spectrum of the source with the transfer function
of the tract (Fant, 1960).  Its layout follows Klatt's synthesiser (J. Acoust.
Soc. Am. 67, 1980), and its pitch contour the phrase and accent components of
Fujisaki.  Its vowels have the average formants of women's voices by Peterson and
Barney (1952), because a woman reads the Blizzard recordings.

No counterpart in the original.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.random import PCG64, Generator
from numpy.typing import NDArray
from scipy.fft import irfft, rfft
from scipy.ndimage import gaussian_filter1d

from cle_port.console.progress import progress_bar
from datasets.grep_blizzard_hdf5 import SAMPLE_RATE

FRAME = 80  # samples between two settings of the synthesiser: 5 ms
FFT_SIZE = 800  # samples: a frame of 2 * FRAME, and 40 ms for its resonances to decay
SPEECH_LEVEL = -21.0  # dB re full scale, root mean square of the voiced part
NOISE_LEVEL = -55.0  # dB re full scale, noise of the microphone and the room
PEAK = 0.9  # of full scale, the largest magnitude of the speech
# The voice chants on one note, and hardly moves from it.  A frame of 200 samples holds two of its
# periods, so one frame looks like the next: a small model learns within minutes to hold a note.
PITCH = (157.0, 163.0)  # Hz, where phrases begin
LIVELINESS = 0.05  # of the changes of pitch in speech
SOFTNESS = 600.0  # Hz, above which the spectrum of the voice falls

Array = NDArray[np.float64]
Spectra = NDArray[np.complex128]


# ----------------------------------------------------------------------------------------
# The sounds
# ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sound:
    """A segment of speech: the mouth holds one position, or glides from one to another.

    Parameters
    ----------
    duration : float
        Typical length, s.
    formants : tuple of float, optional
        First three resonances of the vocal tract at the start, Hz.  With None
        the mouth moves from the previous sound to the next one.
    glide_to : tuple of float, optional
        The resonances at the end of a diphthong, Hz.
    voice : float
        Amplitude of the glottal pulses; a stressed vowel has 1.
    breath : float
        Amplitude of noise from the larynx, which passes the whole tract.
    hiss : float
        Amplitude of noise from the mouth, whose spectrum has a single peak.
    hiss_centre, hiss_width : float
        Centre and bandwidth of that peak, Hz.
    nasal : float
        1 if the passage through the nose is open, else 0.
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
    return (Sound(0.17 if end else 0.12, start, end, voice=1.0, breath=0.05),)


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
    """Return a closed mouth, the burst at its opening and, if voiceless, a puff of breath."""
    mouth = _PLACES[place]
    closure = Sound(0.055 if voiced else 0.07, mouth, voice=0.10 if voiced else 0.0)
    burst = Sound(0.010, mouth, hiss=hiss, hiss_centre=centre, hiss_width=width)
    puff = Sound(0.035, None, breath=1.2, hiss=0.1 * hiss, hiss_centre=centre, hiss_width=width)
    return (closure, burst) if voiced else (closure, burst, puff)


# Places where the tongue or the lips close: the formants, Hz, toward which each place pulls the
# neighbouring vowels.
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

# Repetition sets the frequency of a consonant; "" means none, and "s t" is a cluster.
ONSETS = [*"bdddgmmnnnllrrwysshhfvzptttkk", "sh", "th", "s t", "p l", "k r", "t r", "g l", "", ""]
CODAS = [*"nnnmlrssztdk", "ng", *[""] * 17]
PAUSE = Sound(0.0, None)
INHALATION = Sound(0.0, (550.0, 1600.0, 2700.0), breath=0.4)


# ----------------------------------------------------------------------------------------
# Phrases, words and syllables
# ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Piece:
    """One `Sound` of an actual phrase.

    Parameters
    ----------
    sound : Sound
    frames : int
        Length in frames of 5 ms.
    loudness : float
        dB, relative to a stressed syllable.
    accent : float
        Rise of the natural logarithm of the pitch around this piece.
    """

    sound: Sound
    frames: int
    loudness: float = 0.0
    accent: float = 0.0


def say_phrase(rng: Generator) -> list[Piece]:
    """Invent a phrase, spoken in one breath, and the pauses around it.

    Parameters
    ----------
    rng : numpy.random.Generator
        Random number generator.

    Returns
    -------
    list of Piece
        A pause, two to six words, and a pause that may include an inhalation.
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
    # Readers shorten unstressed syllables and lengthen the last one.
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
# Smooth movements of the mouth
# ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Tracks:
    """Settings of the synthesiser at each of N frames of 5 ms.

    Parameters
    ----------
    pitch : ndarray, (N,)
        Frequency of the glottal pulses, Hz.
    formants : ndarray, (N, 3)
        Lowest three resonances of the tract, Hz.
    nasal : ndarray, (N,)
        Opening of the passage through the nose, 0 to 1.
    voice, breath, hiss : ndarray, (N,)
        Amplitudes of the three sources.
    hiss_centre, hiss_width : ndarray, (N,)
        Centre and bandwidth of the hiss, Hz.
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
    """Turn the pieces of a phrase into smooth movements.

    The settings of the pieces form steps, but a mouth cannot follow steps, and
    steps do not sound like speech.  Tongue and lips need about 50 ms, so each
    sound affects its neighbours.  The vocal folds and the flow of air react
    several times faster.

    Parameters
    ----------
    pieces : sequence of Piece
        One phrase.
    rng : numpy.random.Generator
        Random number generator.

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
    gain = 10 ** (loudness / 20) * np.linspace(1.0, 0.75, n)  # the lungs run out of air

    def amplitude(name: str, seconds: float) -> Array:
        return gain * _smooth(steps([getattr(piece.sound, name) for piece in pieces]), seconds)

    return Tracks(
        pitch=_pitch_contour(pieces, rng),
        formants=_smooth(_formant_targets(pieces), 0.016),
        nasal=_smooth(steps([piece.sound.nasal for piece in pieces]), 0.008),
        voice=amplitude("voice", 0.009),
        breath=amplitude("breath", 0.008),
        hiss=amplitude("hiss", 0.003),
        # Not smoothed, so that a burst of 10 ms keeps its own spectrum.
        hiss_centre=steps([piece.sound.hiss_centre for piece in pieces]),
        hiss_width=steps([piece.sound.hiss_width for piece in pieces]),
    )


def _smooth(track: Array, seconds: float) -> Array:
    return gaussian_filter1d(track, seconds * SAMPLE_RATE / FRAME, axis=0, mode="nearest")


def _formant_targets(pieces: Sequence[Piece]) -> Array:
    """Return the formants before smoothing, (N, 3), with linear interpolation where undefined."""
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
    """Return the pitch in Hz, (N,): a falling line, accents, and a fall or rise at the end.

    Each stressed syllable adds an accent to the logarithm of the pitch, as in
    Fujisaki's model.
    """
    n = sum(piece.frames for piece in pieces)
    time = np.arange(n) * FRAME / SAMPLE_RATE
    log_pitch = -0.25 * time / time[-1]
    centres = np.cumsum([piece.frames for piece in pieces]) * FRAME / SAMPLE_RATE
    for piece, centre in zip(pieces, centres):
        log_pitch += piece.accent * np.exp(-0.5 * ((time - centre + 0.06) / 0.08) ** 2)
    ending = rng.choice([-0.15, -0.15, 0.12])  # two statements per question
    spoken = np.flatnonzero([piece.sound.voice > 0 for piece in pieces])[-1]
    log_pitch += ending / (1 + np.exp(-(time - centres[spoken] + 0.12) / 0.04))
    drift = gaussian_filter1d(rng.standard_normal(n), 8.0, mode="nearest")
    return rng.uniform(*PITCH) * np.exp(LIVELINESS * (log_pitch + 0.03 * drift))


# ----------------------------------------------------------------------------------------
# Source
# ----------------------------------------------------------------------------------------


def glottal_source(tracks: Tracks, rng: Generator) -> Array:
    """Synthesise the input of the vocal tract: pulses of the vocal folds and breath noise.

    Parameters
    ----------
    tracks : Tracks
        Settings at N frames; the function uses pitch, voice and breath.
    rng : numpy.random.Generator
        Random number generator.

    Returns
    -------
    ndarray, (N * FRAME,)
        Sound pressure, which is the derivative of the flow of air.
    """
    pitch = _to_samples(tracks.pitch)
    # Periods vary: their lengths by 0.2 % ("jitter"), their amplitudes by 5 % ("shimmer").
    period = np.cumsum(pitch / SAMPLE_RATE).astype(np.int64)
    jitter = 1 + 0.002 * rng.standard_normal(period[-1] + 1)
    shimmer = 1 + 0.05 * rng.standard_normal(period[-1] + 1)
    phase = np.cumsum(pitch * jitter[period] / SAMPLE_RATE)

    flow = rosenberg_pulse(phase % 1.0)
    # The lips radiate the derivative of the flow.  A finite difference averages the derivative
    # over one sample, so its jump at closure causes little aliasing.
    pulses = np.diff(flow, prepend=0.0) * SAMPLE_RATE / pitch
    # Folds close gradually, in a soft voice more so: lower the spectrum by 6 dB per octave.
    pole = math.exp(-2 * math.pi * SOFTNESS / SAMPLE_RATE)
    pulses = _smoothed(pulses * shimmer[period], 1 - pole, pole)

    voice = _to_samples(tracks.voice)
    breath = _to_samples(tracks.breath) * rng.standard_normal(len(phase))
    # Breath noise needs open folds; without voice they stay open.
    rush = np.where(voice > 0.05, 0.3 + 0.7 * flow, 1.0)
    return voice * pulses + breath * rush


def _smoothed(x: Array, gain: float, pole: float) -> Array:
    """Apply a one-pole filter: y[n] = gain * x[n] + pole * y[n - 1]."""
    # The import takes half a second.  Every training run loads this module, but few need it.
    from scipy.signal import lfilter

    return lfilter([gain], [1, -pole], x)


def rosenberg_pulse(phase: Array, open_quotient: float = 0.6) -> Array:
    """Compute the flow of air through the vocal folds over one period.

    The flow is Rosenberg's polynomial pulse, ``27/4 (u^2 - u^3)`` with ``u =
    phase / open_quotient``: the folds open slowly, close faster, and stay closed.

    Parameters
    ----------
    phase : ndarray
        Position in the period, 0 to 1, any shape.
    open_quotient : float
        Fraction of the period with open folds.

    Returns
    -------
    ndarray
        Flow, 0 to 1, with the shape of `phase`.
    """
    u = np.minimum(phase / open_quotient, 1.0)
    return 6.75 * u**2 * (1 - u)


def _to_samples(track: Array) -> Array:
    """Interpolate linearly between the centres of frames, (N,) to (N * FRAME,)."""
    middles = (np.arange(len(track)) + 0.5) * FRAME
    return np.interp(np.arange(len(track) * FRAME), middles, track)


# ----------------------------------------------------------------------------------------
# Filter
# ----------------------------------------------------------------------------------------

_Z = np.exp(-2j * np.pi * np.arange(FFT_SIZE // 2 + 1) / FFT_SIZE)  # z^-1 on the unit circle


def vocal_tract(formants: Array, nasal: Array) -> Spectra:
    """Compute the transfer function of the tract: resonators in series.

    Parameters
    ----------
    formants : ndarray, (N, 3)
        Lowest resonances, Hz.
    nasal : ndarray, (N,)
        Opening of the passage through the nose, 0 to 1.  It adds a resonance and
        weakens the frequencies above it.

    Returns
    -------
    ndarray of complex, (N, FFT_SIZE // 2 + 1)
        At the frequencies of `scipy.fft.rfft`; 1 at frequency 0.
    """
    denominator = np.ones((len(formants), len(_Z)), dtype=np.complex128)
    for k, bandwidth in enumerate([80.0 + 60.0 * nasal, 100.0 + 60.0 * nasal, 130.0 + 0.0 * nasal]):
        denominator *= _pole_pair(formants[:, k], bandwidth)
    denominator *= _HIGH_FORMANTS
    # Pole and zero of the nose; with the nose closed they cancel each other.
    denominator *= _pole_pair(280.0, 100.0)
    denominator /= _pole_pair(280.0 + 320.0 * nasal, 100.0)
    return denominator[:, :1] / denominator


def hiss_spectrum(centre: Array, width: Array) -> Spectra:
    """Compute the transfer function of the hiss: one peak, and zeros at 0 and 8 kHz.

    Parameters
    ----------
    centre, width : ndarray, (N,)
        Centre and bandwidth of the peak, Hz.

    Returns
    -------
    ndarray of complex, (N, FFT_SIZE // 2 + 1)
        About 1 at the centre.
    """
    radius = np.exp(-np.pi * width / SAMPLE_RATE)
    return 0.5 * (1 - radius[:, None] ** 2) * (1 - _Z**2) / _pole_pair(centre, width)


def _pole_pair(centre: Array | float, bandwidth: Array | float) -> Spectra:
    """Return the denominator ``1 - b z^-1 - c z^-2`` of a resonator, (N or 1, len(_Z))."""
    radius = np.exp(-np.pi * np.atleast_1d(bandwidth) / SAMPLE_RATE)
    b = 2 * radius * np.cos(2 * np.pi * np.atleast_1d(centre) / SAMPLE_RATE)
    return 1 - b[:, None] * _Z + (radius**2)[:, None] * _Z**2


# The resonances above the third formant hardly change within one speaker.
_HIGH_FORMANTS = _pole_pair(4200.0, 250.0) * _pole_pair(5200.0, 350.0) * _pole_pair(6600.0, 600.0)


def filter_frames(sources: Sequence[Array], responses: Sequence[Spectra]) -> Array:
    """Apply a time-varying filter to each source and add the results.

    The function cuts each source into frames of 10 ms under a Hann window.  The
    frames overlap by half, so they add up to the source.  The function filters
    each frame with the filter of its time; resonances continue into later
    frames.  The output fades smoothly from each filter to the next.

    Parameters
    ----------
    sources : sequence of ndarray, (N * FRAME,)
        Signals.
    responses : sequence of ndarray of complex, (N, FFT_SIZE // 2 + 1)
        Transfer function for each source and frame.

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
    """Invent a phrase and speak it.

    Parameters
    ----------
    rng : numpy.random.Generator
        Random number generator.

    Returns
    -------
    ndarray, (samples,)
        Sound at 16 kHz, full scale 1, without recording noise.
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
    """Synthesise a recording of babble.

    Parameters
    ----------
    n_samples : int
        Length in samples at 16 kHz.
    seed : int
        Seed, not negative.  With the same seed, a longer recording begins with
        the shorter one.
    quiet : bool
        Show no progress bar.

    Returns
    -------
    ndarray of int16, (n_samples,)

    Notes
    -----
    All random numbers come from ``Generator(PCG64(seed))``.  Machines may differ
    in the last bit of exp, cos and the Fourier transform.  After rounding to
    int16 about one sample in 10^9 differs, by 1.  A NumPy release with another
    algorithm for normal random numbers would change the corpus.
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
    """Return white microphone noise and low-frequency room noise, each with half the power."""
    level = 10 ** (NOISE_LEVEL / 20) / math.sqrt(2)
    pole = 0.9
    rumble = _smoothed(rng.standard_normal(n), math.sqrt(1 - pole**2), pole)
    return level * (rng.standard_normal(n) + rumble)
