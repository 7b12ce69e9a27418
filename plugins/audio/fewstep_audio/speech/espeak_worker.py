"""The process that speaks: a script of the standard library alone, started by ``fewstep_audio.speech.espeak``.

espeak-ng is not deterministic when one process speaks twice, because its synthesizer keeps state. So the library is
set up once, and every utterance is spoken by a fork of that untouched state, which then ends.

    python -I -S espeak_worker.py LIBRARY DATA < jobs > utterances

Standard input: lines, each a JSON list of {text, voice, pitch, range, rate}. Standard output: the rate in eight
hexadecimal digits; then, for each job, eight hexadecimal digits and a JSON line of that many bytes ({samples, phones:
[[name, first sample], ...]} or {error}), then the samples as 16-bit integers in the machine's byte order.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
from typing import Any

SYNCHRONOUS = 2
PHONEME_EVENTS, IPA_NAMES, DO_NOT_EXIT = 1, 2, 1 << 15
RATE, PITCH, RANGE = 1, 3, 4
UTF8, PHONEME = 1, 7
FAILED = 3


class _Name(ctypes.Union):
    _fields_ = [("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8)]


class _Event(ctypes.Structure):
    """``espeak_EVENT`` of speak_lib.h; ``sample`` counts from the start of the utterance."""

    _fields_ = [
        ("type", ctypes.c_int),
        ("identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _Name),
    ]


_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.POINTER(_Event))


def load(library: str, data: str) -> tuple[ctypes.CDLL, int]:
    """The initialized library and its sampling rate in Hz."""
    lib = ctypes.CDLL(library)
    rate = lib.espeak_Initialize(SYNCHRONOUS, 0, os.fsencode(data), PHONEME_EVENTS | IPA_NAMES | DO_NOT_EXIT)
    if rate <= 0:
        raise OSError(f"espeak-ng does not start with the data in {data} (code {rate})")
    return lib, rate


def speak(lib: ctypes.CDLL, job: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    """One utterance: what the header says, and its samples."""
    sound: list[bytes] = []
    phones: list[tuple[str, int]] = []

    def heard(samples: int | None, count: int, events: Any) -> int:
        if samples and count > 0:
            sound.append(ctypes.string_at(samples, 2 * count))
        index = 0
        while events[index].type:
            if events[index].type == PHONEME:
                phones.append((events[index].id.string.decode("utf-8", "replace"), events[index].sample))
            index += 1
        return 0

    callback = _Callback(heard)
    lib.espeak_SetSynthCallback(callback)
    if lib.espeak_SetVoiceByName(job["voice"].encode()):
        return {"error": f"espeak-ng has no voice {job['voice']!r}"}, b""
    for parameter, name in ((RATE, "rate"), (PITCH, "pitch"), (RANGE, "range")):
        lib.espeak_SetParameter(parameter, job[name], 0)
    # Breath is noise, and the library seeds it with the clock.
    lib.espeak_ng_SetRandSeed(ctypes.c_long(1))
    text = job["text"].encode()
    code = lib.espeak_Synth(text, len(text) + 1, 0, 1, 0, UTF8, None, None)
    if code:
        return {"error": f"espeak-ng cannot speak this (code {code})"}, b""
    pcm = b"".join(sound)
    return {"samples": len(pcm) // 2, "phones": phones}, pcm


def in_a_fork(lib: ctypes.CDLL, job: dict[str, Any]) -> None:
    """Speak in a child that starts from the untouched library and write what it said."""
    child = os.fork()
    if child == 0:
        code = FAILED
        try:
            header, pcm = speak(lib, job)
            line = json.dumps(header).encode()
            sys.stdout.buffer.write(b"%08x" % len(line) + line + pcm)
            sys.stdout.buffer.flush()
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    if status:
        raise OSError(f"espeak-ng failed on {job['text']!r} (status {status})")


def main() -> None:
    """Speak the jobs of every line, one fork each, until there are no more lines."""
    lib, rate = load(sys.argv[1], sys.argv[2])
    sys.stdout.buffer.write(b"%08x" % rate)
    sys.stdout.buffer.flush()
    while line := sys.stdin.buffer.readline():
        for job in json.loads(line):
            in_a_fork(lib, job)


if __name__ == "__main__":
    main()
