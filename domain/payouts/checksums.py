"""Check digits of bank accounts, cards and chain addresses: whether somebody can have meant this one.

Sources: ISO 13616 and ISO 7064 (IBAN, MOD 97-10), ABA routing numbers, ISO/IEC 7812-1 annex B (Luhn), Base58Check as
TRON uses it, EIP-55 (which takes Keccak-256 as it was before FIPS 202, so hashlib's SHA-3 is another function).
"""

from __future__ import annotations

import hashlib
import re

# Length of an IBAN by country, as the registry of ISO 13616 lists them.
IBAN_LENGTHS = {
    country: int(length)
    for length, countries in {
        "15": "NO",
        "16": "BE",
        "18": "DK FI FK FO GL NL",
        "19": "MK SI",
        "20": "AT BA EE KZ LT LU MN XK",
        "21": "CH HR LI LV",
        "22": "BG BH CR DE GB GE IE ME RS VA",
        "23": "AE GI IL IQ OM SO TL",
        "24": "AD CZ ES MD PK RO SA SE SK TN VG",
        "25": "LY PT ST",
        "26": "IS TR",
        "27": "BI DJ FR GR IT MC MR SM",
        "28": "AL AZ BY CY DO GT HN HU LB NI PL SV",
        "29": "BR EG PS QA UA",
        "30": "JO KW MU YE",
        "31": "MT SC",
        "32": "LC",
        "33": "RU",
    }.items()
    for country in countries.split()
}
_IBAN = re.compile(r"[A-Z]{2}[0-9]{2}[0-9A-Z]{11,29}", re.ASCII)
_ROUTING = re.compile(r"[0-9]{9}", re.ASCII)
# Federal Reserve districts, thrift institutions, electronic and traveller's checks.
_ROUTING_PREFIXES = {*range(1, 13), *range(21, 33), *range(61, 73), 80}
_DIGITS = re.compile(r"[0-9]+", re.ASCII)
_BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_TRON_PREFIX, _TRON_CHARS = 0x41, 34
_HEX_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}", re.ASCII)


def is_iban(text: str) -> bool:
    """Whether `text`, in capitals and without spaces, has its country's length and remainder 1 modulo 97."""
    if not _IBAN.fullmatch(text) or IBAN_LENGTHS.get(text[:2]) != len(text):
        return False
    digits = "".join(str(int(char, 36)) for char in text[4:] + text[:4])
    return int(digits) % 97 == 1


def is_routing(text: str) -> bool:
    """Whether nine digits are a routing number of the ABA: a known prefix; by 3, 7, 1 they sum to a multiple of 10."""
    if not _ROUTING.fullmatch(text) or int(text[:2]) not in _ROUTING_PREFIXES:
        return False
    return sum(int(digit) * (3, 7, 1)[place % 3] for place, digit in enumerate(text)) % 10 == 0


def is_luhn(text: str) -> bool:
    """Whether digits end in their own check digit (Luhn)."""
    if not _DIGITS.fullmatch(text):
        return False
    total = 0
    for place, digit in enumerate(reversed(text)):
        value = int(digit) * (1 + place % 2)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def is_tron(text: str) -> bool:
    """Whether `text` is a TRON address: Base58Check of 21 bytes that begin with 0x41."""
    if len(text) != _TRON_CHARS or any(char not in _BASE58 for char in text):
        return False
    number = 0
    for char in text:
        number = number * 58 + _BASE58.index(char)
    if number >= 1 << 200:
        return False
    raw = number.to_bytes(25, "big")
    body, check = raw[:21], raw[21:]
    twice = hashlib.sha256(hashlib.sha256(body).digest()).digest()
    return body[0] == _TRON_PREFIX and twice[:4] == check


def is_ethereum(text: str) -> bool:
    """Whether `text` is an Ethereum address with the check in its capitals (EIP-55).

    One without letters has nothing to check and is refused like one whose letters are all of one kind.
    """
    if not _HEX_ADDRESS.fullmatch(text):
        return False
    plain = text[2:].lower()
    marks = keccak_256(plain.encode()).hex()
    right = "".join(
        char.upper() if int(mark, 16) >= 8 else char
        for char, mark in zip(plain, marks, strict=False)
    )
    return right == text[2:] and right not in (plain, plain.upper())


_RATE = 136
_MASK = (1 << 64) - 1


def _schedule() -> tuple[list[int], list[tuple[int, int, int]]]:
    """Round constants by their shift register, and (lane, next lane, turn) of the rho and pi steps."""
    constants, register = [], 1
    for _ in range(24):
        constant = 0
        for power in range(7):
            if register & 1:
                constant ^= 1 << ((1 << power) - 1)
            register = register << 1 ^ (0x171 if register & 0x80 else 0)
        constants.append(constant)
    moves, x, y = [], 1, 0
    for step in range(24):
        target = (y, (2 * x + 3 * y) % 5)
        moves.append((x + 5 * y, target[0] + 5 * target[1], (step + 1) * (step + 2) // 2 % 64))
        x, y = target
    return constants, moves


_CONSTANTS, _MOVES = _schedule()


def _turned(lane: int, by: int) -> int:
    return (lane << by | lane >> (64 - by)) & _MASK if by else lane


def _permuted(lanes: list[int]) -> list[int]:
    """Keccak-f[1600]; lane (x, y) is at x + 5 y."""
    for constant in _CONSTANTS:
        columns = [
            lanes[x] ^ lanes[x + 5] ^ lanes[x + 10] ^ lanes[x + 15] ^ lanes[x + 20]
            for x in range(5)
        ]
        mixed = [columns[(x + 4) % 5] ^ _turned(columns[(x + 1) % 5], 1) for x in range(5)]
        lanes = [lane ^ mixed[place % 5] for place, lane in enumerate(lanes)]
        moved = [lanes[0]] * 25
        for source, target, by in _MOVES:
            moved[target] = _turned(lanes[source], by)
        lanes = [
            moved[place]
            ^ (
                ~moved[place - place % 5 + (place + 1) % 5]
                & moved[place - place % 5 + (place + 2) % 5]
            )
            for place in range(25)
        ]
        lanes[0] ^= constant
    return lanes


def keccak_256(data: bytes) -> bytes:
    """Keccak-256 with the padding of the competition (0x01), as Ethereum uses it; 32 bytes."""
    padded = bytearray(data + b"\x01" + b"\0" * (_RATE - 1 - len(data) % _RATE))
    padded[-1] |= 0x80
    lanes = [0] * 25
    for start in range(0, len(padded), _RATE):
        for place in range(_RATE // 8):
            lanes[place] ^= int.from_bytes(
                padded[start + 8 * place : start + 8 * place + 8], "little"
            )
        lanes = _permuted(lanes)
    return b"".join(lane.to_bytes(8, "little") for lane in lanes[:4])
