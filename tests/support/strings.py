"""Ten thousand and more strings to try a tokenizer on, the same every time."""

from __future__ import annotations

import random
import unicodedata
from functools import cache
from pathlib import Path

SPECIALS = (
    "<|mask|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|endoftext|>",
    "<|beginoftext|>",
    "<tool_call>",
    "<|fim_prefix|>",
)

_SENTENCES = (
    "The quick brown fox jumps over the lazy dog.",
    "Don't you'd we'll they've I'M it'S 'sup rock'n'roll o'clock",
    "Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich.",
    "Voix ambiguë d'un cœur qui préfère les jattes de kiwis",
    "Съешь же ещё этих мягких французских булок да выпей чаю",
    "Ξεσκεπάζω την ψυχοφθόρα βδελυγμία",
    "敏捷的棕色狐狸跳过懒狗。",
    "いろはにほへと ちりぬるを カタカナもある",
    "키스의 고유조건은 입술끼리 만나야 하고",
    "نص حكيم له سر قاطع وذو شأن عظيم",
    "דג סקרן שט בים מאוכזב",
    "ऋषियों को सताने वाले दुष्ट राक्षसों",
    "เป็นมนุษย์สุดประเสริฐเลิศคุณค่า",
    "Pchnąć w tę łódź jeża lub ośm skrzyń fig",
    "የኢትዮጵያ ሕዝብ",
    "Tiếng Việt có nhiều dấu thanh điệu",
    "ქართული ენა",
    "Հայերեն լեզու",
    "ᐃᓄᒃᑎᑐᑦ",
    "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𝒎𝒂𝒕𝒉 𝟘𝟙𝟚",
    "ﬁ ligature ﬀ Å Å é é",
    "1234567890 3.14159 ١٢٣ १२३ ⅷ ½ ²",
    "👩‍👩‍👧‍👦 🏳️‍🌈 👍🏽 🇩🇪🇯🇵 😀😂🥲",
    "a̐éö̲ Z͑ͫ̓ͪ̂ͫ̽͏̴̙̤̞͉͚̯̞̠͍A̴̵̜̰͔ͫ͗͢",
    "﷽ ₿ € ∑∫√ → ⟨x|y⟩",
    "def add(a, b):\n\treturn a + b  # sum\n",
    "#include <stdio.h>\r\nint main(void) { return 0; }\r\n",
    "SELECT * FROM t WHERE x >= 1 -- c",
    '{"key": [1, 2.5e-3, null], "ü": true}',
    "<div class='x'>&nbsp;</div>",
    "Input:\n1000\n0002\n4003\n0000\nOutput:\n",
    "44-15=29,79-29=50",
    "https://example.org/a?b=c&d=%20#e",
    "C:\\Users\\Name\\file.txt",
    "\x00\x01\x1b[31mred\x1b[0m\x7f",
    "\ufeffBOM \u200bzero\u200dwidth\u2060 \u00ad",
)
_SPACES = (
    " ",
    "  ",
    "   ",
    "\n",
    "\n\n",
    "\r\n",
    "\t",
    "\t\t ",
    " \n ",
    "\u00a0",
    "\u3000",
    "\u2028",
    "\u0085",
    "\v\f",
    " " * 17,
    "\n" * 9,
    "",
)
_LOOKALIKES = (
    *SPECIALS,
    "<|mask|",
    "|mask|>",
    "<|mask |>",
    "<|MASK|>",
    "<<|mask|>>",
    "<|im_start|>user\n",
    "x<|im_end|>\n",
    " <|mask|> ",
    "<|mask|><|mask|>",
    "<|im_start|><|im_end|>",
    "<|end\u200boftext|>",
    "<|extra_0|>",
    "<mask>",
    "[MASK]",
    "</s>",
    "<|expand|>",
    "<\uff5cmask\uff5c>",
    "</tool_call>",
)
_BLOCKS = (
    (0x20, 0x7F),
    (0xA0, 0x250),
    (0x300, 0x370),
    (0x370, 0x530),
    (0x590, 0x700),
    (0x900, 0xE00),
    (0xE00, 0x1100),
    (0x1100, 0x1200),
    (0x1E00, 0x2070),
    (0x2070, 0x2C00),
    (0x3040, 0x3100),
    (0x4E00, 0x9FFF),
    (0xAC00, 0xD7A4),
    (0xF900, 0xFB50),
    (0xFE00, 0xFFFE),
    (0x10000, 0x10400),
    (0x1D400, 0x1D800),
    (0x1F300, 0x1FAFF),
    (0x20000, 0x20800),
    (0xE0000, 0xE0200),
    (0, 0xD800),
    (0xE000, 0x110000),
)


@cache
def varied_strings() -> tuple[str, ...]:
    """Sentences in many scripts, code, runs of spaces, emoji, look-alikes, random characters, and mixtures of them."""
    rng = random.Random(20240)
    strings = {"", *_SENTENCES, *_SPACES, *_LOOKALIKES, *(chr(code) for code in range(0x600)), *_code()}
    strings |= {unicodedata.normalize(form, text) for text in _SENTENCES for form in ("NFC", "NFD", "NFKC", "NFKD")}
    while len(strings) < 12000:
        kind = rng.randrange(6)
        if kind == 0:  # characters of one block
            low, high = rng.choice(_BLOCKS)
            strings.add("".join(_character(rng, low, high) for _ in range(rng.randint(1, 30))))
        elif kind == 1:  # characters from anywhere
            strings.add("".join(_character(rng, *rng.choice(_BLOCKS)) for _ in range(rng.randint(1, 20))))
        elif kind == 2:  # a piece of a sentence between spaces
            text = rng.choice(_SENTENCES)
            start = rng.randrange(len(text))
            strings.add(rng.choice(_SPACES) + text[start : start + rng.randint(1, 40)] + rng.choice(_SPACES))
        elif kind == 3:  # words and spaces
            words = [word for _ in range(3) for word in rng.choice(_SENTENCES).split()]
            strings.add("".join(rng.choice(words) + rng.choice(_SPACES) for _ in range(rng.randint(2, 12))))
        elif kind == 4:  # look-alikes in a text
            strings.add(
                rng.choice(_SENTENCES)[:9] + rng.choice(_LOOKALIKES) + rng.choice((*_SPACES, *_LOOKALIKES, *_SENTENCES))
            )
        else:  # few symbols, many repetitions
            strings.add("".join(rng.choice(" \n\r\t'sdmtSé1.,<|>_-") for _ in range(rng.randint(2, 24))))
    return tuple(sorted(strings))


def without_lookalikes() -> tuple[str, ...]:
    """Those that hold no special token's text."""
    return tuple(
        text for text in varied_strings() if not any(special in text for special in (*SPECIALS, "</tool_call>"))
    )


def _code() -> list[str]:
    return Path(__file__).read_text(encoding="utf-8").splitlines(keepends=True)


def _character(rng: random.Random, low: int, high: int) -> str:
    while 0xD800 <= (code := rng.randrange(low, high)) < 0xE000:
        pass  # surrogates are not characters
    return chr(code)
