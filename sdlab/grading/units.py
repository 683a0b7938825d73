"""Split a quantity (unit, percent sign, currency or time of day) into value and unit; compare quantities."""

import re
from collections.abc import Callable

_NAMES = """
mm millimeter millimetre | cm centimeter centimetre | dm decimeter | m meter metre
km kilometer kilometre | in inch inches | ft foot feet | yd yard | mi mile | nm nanometer
g gram gm | kg kilogram kgs | mg milligram | lb lbs pound | oz ounce | t ton tonne
s sec second secs | min minute mins | h hr hour hrs | day | week | month | yr year | ms millisecond
l L liter litre | mL ml milliliter | gal gallon | N newton | J joule | kJ kilojoule | W watt
kW kilowatt | V volt | A amp ampere | K kelvin | C coulomb | Pa pascal | kPa | Hz hertz | mol mole
M molar | cal calorie | kcal | ohm \\Omega | rad radian | deg degree ° | cent ¢ | acre | hectare ha
$ dollar USD usd buck | € euro EUR | £ GBP | ¥ yen JPY yuan | ₹ rupee Rs rs | mi/h mph
km/h kmh kph kmph | °F | °C | % percent percentage pct | am | pm | cc | eV | atm | bar | T tesla
"""
_CANON = {
    name: group.split()[0]
    for group in _NAMES.replace("\n", "|").split("|")
    if group.split()
    for name in group.split()
}
_NO_UNITS = {
    *"and or not no none more less least most than to".split(),
    *"if for where when is are of base choose factorial half".split(),
    *"plus minus over mod modulo remainder million billion".split(),
    *"trillion thousand hundred dozen halves third thirds quarter".split(),
    *"quarters fourth tenths hundredths thousandths millionths fifths sixths sevenths eighths ninths".split(),
    *"with which between from by at about only either both all real any integer".split(),
    *"integers even odd pi factorials negative positive infinity mixed upper lower first".split(),
}  # fmt: skip
_ANY = {
    "unit",
    "sq unit",
    "square unit",
    "unit^2",
    "cubic unit",
    "unit^3",
    "th",
    "st",
    "nd",
    "rd",
    "linear unit",
}
_SCALES = {"hundred": 2, "thousand": 3, "million": 6, "billion": 9, "trillion": 12}
_SCALE = re.compile(rf"^(.*\d)\s*(?:\\text\{{\s*)?({'|'.join(_SCALES)})(?![a-z])(.*)$", re.DOTALL)
_SINGLE = set("mgshLJNWV")  # units after a number and a space; other letters are variables there
_NOUNS = set(
    "men boy boys day days box cat cats dog dogs car cars egg eggs pen pens pie pies cow cows".split()
)
_MONEY = re.compile(r"^(-?)\s*(?:US)?\s*(\\\$|\$|€|£|¥|₹|Rs\.?|USD|EUR)\s*(?=[\d.\\(-])")
_TEXT = re.compile(r"\\text\{([^{}]*)\}")
_TIME = re.compile(r"^(.*?)\s*(?:\\text\{\s*)?([aApP])\.?\s*[mM]\b\.?\s*\}?$")
_TAIL = re.compile(
    r"^(?P<value>.*?(?:[\d)}!°]|\\pi|[ixyn]|(?<=\d)\.))(?P<gap>\s*)"
    r"(?P<unit>(?!\^|\\cdot)(?:\\text\{[^{}\\]*(?:\^\{?-?\d\}?)?[^{}\\]*\}"
    r"|\\frac\{\\text\{[^{}]*\}\}\{\\text\{[^{}]*\}\}|[A-Za-z¢°%€£¥₹]|\\\$|\$|\\Omega|\\cdot(?![a-zA-Z])"
    r"|\^\{?-?\d\}?(?<=\S)|[ ./-](?!\d))+)$",
    re.DOTALL,
)  # fmt: skip


def _canonical(unit: str) -> str | None:
    """Return a unit in one spelling ("mi/h", "cm^2"), or None when the words are not a unit."""
    unit = re.sub(r"\^\{(-?\d)\}", r"^\1", unit)
    unit = re.sub(r"\\frac\{(.*?)\}\{(.*?)\}$", r"\1/\2", unit)
    unit = _TEXT.sub(r" \1 ", unit).replace("\\$", "$").replace("{", "").replace("}", "")
    unit = re.sub(r"\bper\b", "/", unit).replace("°", " ° ").replace("%", " % ")
    unit = re.sub(r"\s*\^\s*", "^", unit.replace(r"\cdot", " "))
    unit = re.sub(
        r"°\s*([FC])\b|\bdegrees?\s+([FC])(?:ahrenheit|elsius)?\b", lambda m: f"°{m[1] or m[2]}", unit
    )
    factors = []
    for factor in unit.split("/"):
        words, power = re.sub(r"(?<=[a-zA-Z])-", " ", factor).split(), ""
        if any(word.lower().strip(".") in _NO_UNITS for word in words):
            return None
        if words and words[0].lower().rstrip(".") in ("square", "sq", "cubic", "cu"):
            power = "^2" if words[0].lower().startswith("s") else "^3"
            words = words[1:] or ["unit"]
        if words and words[-1].lower() in ("squared", "cubed"):
            power = "^2" if words[-1].lower() == "squared" else "^3"
            words = words[:-1]
        names = []
        for word in words:
            if not re.fullmatch(r"[A-Za-z.¢°%$€£¥₹\\]+[CF]?(?:\^-?\d)?", word):
                return None
            name, _, exponent = word.rstrip(".").partition("^")
            name = _CANON.get(name) or (
                len(name) > 2 and (_CANON.get(name.lower()) or _CANON.get(name.lower()[:-1]))
            )
            name = (
                name
                or (len(word) > 4 and _CANON.get(word.lower().removesuffix("es")))
                or _singular(word.partition("^")[0])
            )
            if (len(name) == 1 and name not in _CANON) or (exponent and name in "%$°"):
                return None  # a variable, or (50%)^2
            names.append(f"{name}^{exponent}" if exponent else name)
        factors.append(" ".join(names) + power)
    return "/".join(factors) if all(factors[1:]) and any(factors) else None


def _singular(word: str) -> str:
    word = word.rstrip(".")
    word = word.lower() if len(word) > 2 else word
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word


def quantity(text: str) -> tuple[str, str]:
    """Split a plain text into (value, unit in one spelling or "")."""
    scaled = _SCALE.match(text)
    if scaled:
        text = rf"{scaled[1]}\times 10^{{{_SCALES[scaled[2]]}}}{scaled[3]}".strip()
        text = text.removesuffix("}") if text.count("{") < text.count("}") else text
    money = _MONEY.match(text)
    if money:
        name = money[2].rstrip(".")
        return money[1] + quantity(text[money.end() :])[0], _CANON[name.lstrip("\\")]
    time = _TIME.match(text)
    if time and re.search(r"\d\s*$", time[1]):
        return time[1].strip(), f"{time[2].lower()}m"
    match = _TAIL.match(text)
    if not match:
        return text, ""
    unit = match["unit"].strip()
    marked = unit.startswith(("\\text", "\\frac", "°", "%", "\\", "$", "¢", "€", "£", "¥", "₹"))
    name = _canonical(unit)
    if (
        not name
        or not match["value"].strip()
        or (unit == "°" and re.search(r"\\(?:sin|cos|tan|cot|sec|csc)", match["value"]))
    ):
        return text, ""
    first = re.split(r"[ /^]", name)[0]
    known = first in _CANON.values() or name in _ANY
    letters = re.split(r"[^A-Za-z]", unit, maxsplit=1)[0]
    if not marked:
        words = re.findall("[A-Za-z]+", unit)
        noun = words and min(map(len, words)) > 1 and (len(max(words, key=len)) > 3 or words[0] in _NOUNS)
        single = letters in _SINGLE if len(letters) == 1 else None
        if not (single if single is not None else known or (match["gap"] and noun)):
            return text, ""
        if (len(letters) == 1 and not match["gap"]) or not re.search(r"[\d})]$", match["value"]):
            return text, ""  # 2m may be a product
    elif len(_TEXT.sub(r"\1", unit).strip()) == 1 and not known:
        return text, ""
    return match["value"].strip(), name


def same_quantity(answer: str, truth: str, same: Callable[[str, str], bool]) -> bool | None:
    """Compare two quantities; return None when neither side has a unit.

    `same` compares the values. The units are compared by name. One side may leave out its unit, but the
    answer may not leave out a.m. or p.m. A percentage equals the number before its sign and a hundredth of
    that number, because graders of MATH accept both.
    """
    (left, left_unit), (right, right_unit) = quantity(answer), quantity(truth)
    if left == answer and right == truth:
        return None
    if left_unit in _ANY or right_unit in _ANY:
        left_unit = right_unit = ""
    if left_unit and right_unit and left_unit != right_unit:
        return False
    if right_unit in ("am", "pm") and not left_unit:
        return False
    if same(left, right):
        return True
    if left_unit == right_unit:
        return False
    if left_unit == "%":
        return same(rf"\frac{{{left}}}{{100}}", right)
    return right_unit == "%" and same(left, rf"\frac{{{right}}}{{100}}")
