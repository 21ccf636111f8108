"""Which words we use: messages by error code or message id, money and dates, in every language.

The lowest room of the house: it knows no business. A key is an error code (`OUT_OF_STOCK`) or a
message id (`mail.paid.subject`); a language is one of `LANGUAGES`, and every function takes any BCP
47 tag and finds the nearest one. A message is ICU MessageFormat: plurals and selects follow CLDR.
"""

from i18n.catalogue import keys, placeholders, text
from i18n.formats import country, currency, date, language, money, number
from i18n.languages import DEFAULT, LANGUAGES, TAGS, nearest, negotiate

__all__ = [
    "DEFAULT",
    "LANGUAGES",
    "TAGS",
    "country",
    "currency",
    "date",
    "keys",
    "language",
    "money",
    "nearest",
    "negotiate",
    "number",
    "placeholders",
    "text",
]
