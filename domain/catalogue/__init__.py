"""The shelf and the stock: what a shop sells at which price, and who gets which key.

`cart` reads everything a price needs, `price` decides it; `reserve`, `allocate`, `claim_sold`,
`release` and `revoke` move keys; `goods` reveals them under audit; `import_cards` brings them in.
"""

from domain.catalogue.actions import (
    Limits,
    PriceList,
    Source,
    add_product,
    add_variant,
    describe_product,
    set_prices,
    shelve,
)
from domain.catalogue.coupons import (
    CouponTerms,
    add_coupon,
    give_back_coupons,
    keep_coupons,
    redeem,
)
from domain.catalogue.goods import goods, reseal
from domain.catalogue.holds import extend, fold, release, sweep
from domain.catalogue.imports import (
    ImportRefused,
    LineProblem,
    LotTerms,
    Report,
    import_cards,
    report_of,
)
from domain.catalogue.keys import (
    CodeKnown,
    LowStock,
    export_keys,
    lock_keys,
    low_stock,
    put,
    refilled,
    replace,
    revoke,
    set_reusable,
    unlock_keys,
)
from domain.catalogue.lines import FileUnreadable, Format
from domain.catalogue.models import (
    Actor,
    Good,
    ShelfState,
    ShopProduct,
    ShopTier,
    ShopVariant,
    Text,
)
from domain.catalogue.queries import (
    cart,
    count_products,
    owner_of,
    products,
    products_by_id,
    variants_by_id,
    variants_of,
)
from domain.catalogue.rules import (
    Cart,
    CouponInvalid,
    CouponKind,
    Delivery,
    HoldLimit,
    HoldLimits,
    NewPrice,
    OutOfStock,
    PriceChanged,
    Priced,
    Tier,
    price,
)
from domain.catalogue.stock import Ask, allocate, available, claim_sold, reserve, sell
from domain.catalogue.supply import Supply, Taken, find_supply, hand_over
from domain.catalogue.supply import ask as ask_supplier
from domain.catalogue.supply import of_order as supplies_of
from domain.catalogue.supply import owe as owe_supply
from domain.catalogue.supply import take as take_supply
from domain.catalogue.uploads import SIZE_MAX as UPLOAD_MAX
from domain.catalogue.uploads import Upload, UploadRefused, prune
from domain.catalogue.uploads import content as upload_content
from domain.catalogue.uploads import forget as forget_upload
from domain.catalogue.uploads import receive as receive_upload

__all__ = [
    "UPLOAD_MAX",
    "Actor",
    "Ask",
    "Cart",
    "CodeKnown",
    "CouponInvalid",
    "CouponKind",
    "CouponTerms",
    "Delivery",
    "FileUnreadable",
    "Format",
    "Good",
    "HoldLimit",
    "HoldLimits",
    "ImportRefused",
    "Limits",
    "LineProblem",
    "LotTerms",
    "LowStock",
    "NewPrice",
    "OutOfStock",
    "PriceChanged",
    "PriceList",
    "Priced",
    "Report",
    "ShelfState",
    "ShopProduct",
    "ShopTier",
    "ShopVariant",
    "Source",
    "Supply",
    "Taken",
    "Text",
    "Tier",
    "Upload",
    "UploadRefused",
    "add_coupon",
    "add_product",
    "add_variant",
    "allocate",
    "ask_supplier",
    "available",
    "cart",
    "claim_sold",
    "count_products",
    "describe_product",
    "export_keys",
    "extend",
    "find_supply",
    "fold",
    "forget_upload",
    "give_back_coupons",
    "goods",
    "hand_over",
    "import_cards",
    "keep_coupons",
    "lock_keys",
    "low_stock",
    "owe_supply",
    "owner_of",
    "price",
    "products",
    "products_by_id",
    "prune",
    "put",
    "receive_upload",
    "redeem",
    "refilled",
    "release",
    "replace",
    "report_of",
    "reseal",
    "reserve",
    "revoke",
    "sell",
    "set_prices",
    "set_reusable",
    "shelve",
    "supplies_of",
    "sweep",
    "take_supply",
    "unlock_keys",
    "upload_content",
    "variants_by_id",
    "variants_of",
]
