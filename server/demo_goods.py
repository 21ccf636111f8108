"""What the demo shops sell: words in four languages, prices in six currencies, how many keys.

Every price ends in a full ten minor units, so that no quantity of it meets a sandbox amount by
chance; only the sandbox product's prices end in 01 … 07, in every currency.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from domain.catalogue import Delivery

Words = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class DemoVariant:
    """`prices` as "USD 4.90 …", the first is the base; `tiers` quantity → per cent off."""

    titles: Words
    prices: str
    keys: int = 0
    prefix: str = "KAMI"
    delivery: Delivery = Delivery.STOCK
    content: str = ""
    tiers: Mapping[int, int] | None = None
    max_quantity: int = 100
    low_stock_at: int | None = None


@dataclass(frozen=True, slots=True)
class DemoProduct:
    """A product in the order of the shelf."""

    titles: Words
    descriptions: Words
    variants: tuple[DemoVariant, ...]


def words(en: str, zh: str, ja: str, es: str) -> Words:
    """The same in all four languages."""
    return {"en": en, "zh": zh, "ja": ja, "es": es}


_COINS = DemoProduct(
    words("Star Coins top-up", "星币充值卡", "スターコイン チャージ", "Recarga de Star Coins"),
    words(
        "Top up your Star Coins in seconds. The code arrives here and by mail; redeem it in the"
        " game under Shop, Redeem.",
        "几秒内完成星币充值。兑换码会显示在订单页，在游戏内“商店 → 兑换”中使用。",
        "スターコインをすぐにチャージできます。コードは注文ページに表示されます。ゲーム内の「ショップ」"
        "から「引き換え」で入力してください。",
        "Recargue sus Star Coins en segundos. El código aparece en su pedido; canjéelo en el juego,"
        " en Tienda, Canjear.",
    ),
    (
        DemoVariant(
            words("500 Star Coins", "500 星币", "500 スターコイン", "500 Star Coins"),
            "USD 4.90 CNY 35.00 EUR 4.50 HKD 38.00 SGD 6.60 JPY 750",
            keys=2_000,
            prefix="STAR",
            low_stock_at=50,
        ),
        DemoVariant(
            words("1,200 Star Coins", "1,200 星币", "1,200 スターコイン", "1.200 Star Coins"),
            "USD 9.90 CNY 69.90 EUR 9.20 HKD 77.00 SGD 13.30 JPY 1480",
            keys=300,
            prefix="STAR",
            tiers={10: 5, 50: 10},
            low_stock_at=30,
        ),
    ),
)

_OFFICE = DemoProduct(
    words(
        "Nimbus Office licence",
        "Nimbus 办公套件授权",
        "Nimbus オフィス ライセンス",
        "Licencia de Nimbus Office",
    ),
    words(
        "Documents, tables and slides for Windows, macOS and Linux. One licence key, activated"
        " online, with updates for the whole term.",
        "适用于 Windows、macOS 和 Linux 的文档、表格与演示。一个授权码，在线激活，授权期内免费更新。",
        "Windows・macOS・Linux 対応の文書、表計算、スライド。ライセンスキーをオンラインで有効化し、"
        "期間中は更新も含まれます。",
        "Documentos, tablas y presentaciones para Windows, macOS y Linux. Una clave que se activa"
        " en línea, con actualizaciones durante todo el plazo.",
    ),
    (
        DemoVariant(
            words("1 device, 1 year", "1 台设备，1 年", "1台・1年", "1 dispositivo, 1 año"),
            "USD 39.90 CNY 288.00 EUR 36.90 HKD 312.00 SGD 53.90 JPY 5980",
            keys=200,
            prefix="NMBS",
            tiers={5: 5, 20: 15},
        ),
        DemoVariant(
            words("5 devices, 1 year", "5 台设备，1 年", "5台・1年", "5 dispositivos, 1 año"),
            "USD 79.90 CNY 568.00 EUR 73.90 HKD 624.00 SGD 107.90 JPY 11980",
            keys=100,
            prefix="NMBS",
        ),
    ),
)

_VOUCHER = DemoProduct(
    words(
        "Lumen Music gift voucher",
        "Lumen 音乐礼品卡",
        "Lumen ミュージック ギフト券",
        "Tarjeta regalo de Lumen Music",
    ),
    words(
        "Music without adverts, for you or as a present. The voucher is valid for two years.",
        "无广告畅听音乐，自用或送礼皆宜。礼品卡两年内有效。",
        "広告なしで音楽を楽しめます。ご自分用にも贈り物にも。有効期間は2年です。",
        "Música sin anuncios, para usted o para regalar. La tarjeta es válida durante dos años.",
    ),
    (
        DemoVariant(
            words("1 month", "1 个月", "1か月", "1 mes"),
            "USD 10.90 CNY 78.00 EUR 9.90 HKD 84.00 SGD 14.90 JPY 1680",
            keys=200,
            prefix="LMEN",
        ),
        DemoVariant(
            words("12 months", "12 个月", "12か月", "12 meses"),
            "USD 99.00 CNY 698.00 EUR 92.00 HKD 768.00 SGD 132.00 JPY 14800",
            keys=80,
            prefix="LMEN",
        ),
    ),
)

_GAME = DemoProduct(
    words(
        "Aurora Drift game key",
        "《极光漂移》激活码",
        "オーロラドリフト ゲームキー",
        "Clave de Aurora Drift",
    ),
    words(
        "Night races under the northern lights. Activates on PC in every region.",
        "在极光下驰骋的夜间竞速。PC 平台激活，全球可用。",
        "オーロラの下を走り抜けるナイトレース。PC 版、全地域で有効化できます。",
        "Carreras nocturnas bajo la aurora boreal. Se activa en PC en todas las regiones.",
    ),
    (
        DemoVariant(
            words("Standard edition", "标准版", "通常版", "Edición estándar"),
            "USD 24.90 CNY 178.00 EUR 22.90 HKD 194.00 SGD 33.90 JPY 3780",
            keys=150,
            prefix="AURD",
        ),
        DemoVariant(
            words(
                "Scarce first edition",
                "首发限量版（Scarce）",
                "初回限定版（Scarce）",
                "Primera edición limitada (Scarce)",
            ),
            "USD 49.90 CNY 358.00 EUR 45.90 HKD 390.00 SGD 67.90 JPY 7480",
            keys=20,
            prefix="AURL",
            low_stock_at=5,
        ),
    ),
)

_ESIM = DemoProduct(
    words("Wander travel eSIM", "Wander 旅行 eSIM", "Wander トラベル eSIM", "eSIM de viaje Wander"),
    words(
        "Data on arrival: scan the code, switch it on, no contract. Works for 30 days.",
        "落地即用：扫码、开启，无需合约。有效期 30 天。",
        "到着してすぐ使えるデータ通信。コードを読み取って有効にするだけ、契約は不要です。30日間有効。",
        "Datos al llegar: escanee el código y actívelo, sin contrato. Dura 30 días.",
    ),
    (
        DemoVariant(
            words("Asia, 5 GB", "亚洲，5 GB", "アジア 5 GB", "Asia, 5 GB"),
            "USD 12.50 CNY 89.90 EUR 11.50 HKD 98.00 SGD 16.90 JPY 1880",
            keys=120,
            prefix="WNDA",
        ),
        DemoVariant(
            words("Europe, 10 GB", "欧洲，10 GB", "ヨーロッパ 10 GB", "Europa, 10 GB"),
            "USD 18.90 CNY 135.00 EUR 17.50 HKD 148.00 SGD 25.50 JPY 2840",
            keys=120,
            prefix="WNDE",
        ),
    ),
)

_GUIDE = DemoProduct(
    words(
        "Card shop handbook",
        "自动发卡店铺手册",
        "カードショップ運営ハンドブック",
        "Manual de tiendas de claves",
    ),
    words(
        "Everything about running a shop that never sleeps, as a download. Every buyer gets the"
        " same link, so it never runs out.",
        "关于全天候自动发货店铺的一切，下载即读。所有买家获得同一链接，永不售罄。",
        "眠らないショップの運営ノウハウをダウンロードで。全員に同じリンクをお届けするので、売り切れません。",
        "Todo sobre llevar una tienda que nunca duerme, para descargar. Cada comprador recibe el"
        " mismo enlace, así que nunca se agota.",
    ),
    (
        DemoVariant(
            words("PDF and EPUB", "PDF 与 EPUB", "PDF・EPUB", "PDF y EPUB"),
            "USD 7.50 CNY 53.00 EUR 6.90 HKD 58.00 SGD 9.90 JPY 1120",
            delivery=Delivery.REUSABLE,
            content="https://downloads.kami.test/handbook\nUnlock with: paper-lantern-garden",
        ),
    ),
)

_AVATAR = DemoProduct(
    words("Hand-drawn avatar", "手绘头像定制", "手描きアバター", "Avatar dibujado a mano"),
    words(
        "Drawn for you by a person, usually within a day. You are told when it is ready.",
        "由画师为您手绘，通常一天内完成，完成后会通知您。",
        "イラストレーターがあなたのために描きます。通常1日以内に完成し、できあがり次第お知らせします。",
        "Lo dibuja una persona para usted, normalmente en un día. Le avisamos cuando esté listo.",
    ),
    (
        DemoVariant(
            words("One portrait", "头像一张", "1点", "Un retrato"),
            "USD 29.00 CNY 208.00 EUR 26.90 HKD 226.00 SGD 38.90 JPY 4380",
            delivery=Delivery.MANUAL,
            max_quantity=3,
        ),
    ),
)

# The sandbox provider reads its part from the last two digits of the amount (docs, sandbox).
_OUTCOMES = (
    words("declined", "支付被拒", "決済拒否", "rechazado"),
    words(
        "times out after charging",
        "扣款后超时",
        "課金後にタイムアウト",
        "sin respuesta tras cobrar",
    ),
    words("calls back twice", "并行回调两次", "通知が二重に届く", "avisa dos veces"),
    words("reports another amount", "回调金额不符", "別の金額を通知", "informa de otro importe"),
    words("pays too late", "逾期到账", "期限後の入金", "paga demasiado tarde"),
    words("pays in part", "部分付款", "一部だけ入金", "paga una parte"),
    words(
        "calls back before it answers",
        "回调早于应答",
        "応答より先に通知",
        "avisa antes de responder",
    ),
)


def _outcome(number: int, outcome: Words) -> DemoVariant:
    return DemoVariant(
        {language: f"Sandbox .0{number}: {text}" for language, text in outcome.items()},
        f"USD 12.0{number} CNY 86.0{number} EUR 11.0{number} HKD 94.0{number}"
        f" SGD 16.0{number} JPY 180{number}",
        keys=60,
        prefix=f"SBX{number}",
        max_quantity=10,
    )


_SANDBOX = DemoProduct(
    words("Sandbox outcomes", "沙盒支付结果", "サンドボックスの結果", "Resultados del sandbox"),
    words(
        "For trying things out: the last two digits of the amount decide what the sandbox payment"
        " provider does.",
        "仅供测试：金额的最后两位数字决定沙盒支付渠道的行为。",
        "お試し用です。金額の下2桁で、サンドボックス決済の動きが決まります。",
        "Para hacer pruebas: las dos últimas cifras del importe deciden qué hace el proveedor de"
        " pagos de pruebas.",
    ),
    tuple(_outcome(number, outcome) for number, outcome in enumerate(_OUTCOMES, start=1)),
)

DEMO = (_COINS, _OFFICE, _VOUCHER, _GAME, _ESIM, _GUIDE, _AVATAR, _SANDBOX)

_GEMS = DemoProduct(
    words("Moon Gems", "月光宝石", "ムーンジェム", "Gemas lunares"),
    words(
        "Gems for your garden on the moon, as a redeem code.",
        "月球花园专用宝石兑换码。",
        "月の庭で使えるジェムの引き換えコードです。",
        "Gemas para su jardín en la luna, en un código canjeable.",
    ),
    (
        DemoVariant(
            words("100 gems", "100 颗", "100個", "100 gemas"),
            "EUR 3.90 USD 4.20 CNY 30.00 HKD 33.00 SGD 5.70 JPY 640",
            keys=200,
            prefix="MOON",
        ),
    ),
)

DEMO_T1 = (_GEMS,)
