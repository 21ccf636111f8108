"""The provider's hosted payment page: plain HTML that works without scripts."""

from __future__ import annotations

import base64
import hashlib
from html import escape
from urllib.parse import urlsplit

from server.sandbox import wire
from server.sandbox.book import Payment

_CSS = """
:root{color-scheme:light dark;--ink:#16181d;--soft:#5d6470;--line:#e3e5ea;--card:#fff;
--back:#f3f4f7;--go:#1a56db;--bad:#b42318}
@media (prefers-color-scheme:dark){:root{--ink:#f2f3f5;--soft:#a3aab6;--line:#30343c;--card:#1b1e24;
--back:#111317;--go:#3f74f0;--bad:#f97066}}
*{box-sizing:border-box}body{margin:0;min-height:100vh;display:grid;place-items:center;padding:16px;
background:var(--back);color:var(--ink);font:16px/1.5 system-ui,sans-serif}
main{width:100%;max-width:380px;background:var(--card);border:1px solid var(--line);
border-radius:16px;padding:28px;overflow-wrap:anywhere}
.mark{display:inline-block;font-size:12px;letter-spacing:.06em;text-transform:uppercase;
color:var(--soft);border:1px dashed var(--soft);border-radius:6px;padding:2px 8px}
h1{font-size:34px;line-height:1.2;margin:18px 0 4px;font-variant-numeric:tabular-nums}
p{margin:4px 0 0;color:var(--soft)}form{margin:0}
button,a{display:block;width:100%;margin-top:12px;padding:13px;border-radius:10px;font:inherit;
font-weight:600;text-align:center;text-decoration:none;cursor:pointer;border:1px solid var(--line);
background:transparent;color:inherit}
button.go{margin-top:24px;background:var(--go);border-color:var(--go);color:#fff}
button.bad{color:var(--bad)}a{font-weight:400;color:var(--soft);border-color:transparent}
:focus-visible{outline:3px solid var(--go);outline-offset:2px}
.state{margin-top:20px;padding:12px;border-radius:10px;background:var(--back);color:var(--ink)}
"""
_CSS_HASH = base64.b64encode(hashlib.sha256(_CSS.encode()).digest()).decode()

_ENGLISH = {
    "mark": "Test payment, no real money",
    "order": "Order",
    "pay": "Pay",
    "decline": "Decline",
    "back": "Back to shop",
    "processing": "The bank is still working on it.",
    "captured": "Paid. Thank you!",
    "partially_captured": "A part of the amount was paid.",
    "declined": "The payment was declined. Nothing was taken.",
    "voided": "This payment was cancelled. Nothing was taken.",
    "expired": "This payment has expired. Nothing was taken.",
    "gone": "There is no such payment.",
}
_WORDS = {
    "en": _ENGLISH,
    "zh": {
        "mark": "测试支付，不涉及真实资金",
        "order": "订单",
        "pay": "支付",
        "decline": "拒绝",
        "back": "返回商店",
        "processing": "银行仍在处理中。",
        "captured": "支付成功，谢谢！",
        "partially_captured": "已支付部分金额。",
        "declined": "支付被拒绝，未扣款。",
        "voided": "支付已取消，未扣款。",
        "expired": "支付已过期，未扣款。",
        "gone": "没有这笔支付。",
    },
    "ja": {
        "mark": "テスト決済（実際の請求はありません）",
        "order": "注文",
        "pay": "支払う",
        "decline": "拒否する",
        "back": "ショップに戻る",
        "processing": "銀行で処理中です。",
        "captured": "お支払いが完了しました。",
        "partially_captured": "一部の金額が支払われました。",
        "declined": "支払いは拒否されました。請求はありません。",
        "voided": "支払いは取り消されました。請求はありません。",
        "expired": "支払いの期限が切れました。請求はありません。",
        "gone": "この支払いは存在しません。",
    },
    "es": {
        "mark": "Pago de prueba, sin dinero real",
        "order": "Pedido",
        "pay": "Pagar",
        "decline": "Rechazar",
        "back": "Volver a la tienda",
        "processing": "El banco aún está procesando el pago.",
        "captured": "Pagado. ¡Gracias!",
        "partially_captured": "Se pagó una parte del importe.",
        "declined": "El pago fue rechazado. No se cobró nada.",
        "voided": "El pago fue cancelado. No se cobró nada.",
        "expired": "El pago ha caducado. No se cobró nada.",
        "gone": "No existe ese pago.",
    },
}


def headers(payment: Payment | None) -> dict[str, str]:
    """Never stored, framed or leaked; forms may only end here or at the shop's own address."""
    ends = ["'self'"]
    if payment is not None and payment.return_url:
        shop = urlsplit(payment.return_url)
        ends.append(f"{shop.scheme}://{shop.netloc}")
    return {
        "Cache-Control": "no-store",
        "Content-Security-Policy": (
            f"default-src 'none'; style-src 'sha256-{_CSS_HASH}'; base-uri 'none'; "
            f"frame-ancestors 'none'; form-action {' '.join(ends)}"
        ),
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
        "X-Robots-Tag": "noindex",
    }


def render(payment: Payment | None) -> str:
    """The whole page for a payment, in its buyer's language; None when there is no such payment."""
    locale = payment.locale.partition("-")[0].lower() if payment else "en"
    words = _WORDS.get(locale, _ENGLISH)
    lang = locale if locale in _WORDS else "en"
    if payment is None or not payment.currency:
        content = f'<p class="state" role="status">{words["gone"]}</p>'
        return _document(lang, words, words["gone"], content)
    amount = f"{wire.amount_text(payment.amount_minor, payment.currency)} {payment.currency}"
    order = f"{words['order']} {escape(payment.order_number)}"
    if payment.status == "created":
        here = f"/pay/{payment.payment_id}"
        action = (
            f'<form method="post" action="{here}/pay"><button class="go">{words["pay"]} {amount}'
            f'</button></form><form method="post" action="{here}/decline">'
            f'<button class="bad">{words["decline"]}</button></form>'
        )
    else:
        action = f'<p class="state" role="status">{words[payment.status]}</p>'
    back = f'<a href="{escape(payment.return_url)}" rel="noreferrer">{words["back"]}</a>'
    return _document(lang, words, order, f"<h1>{amount}</h1><p>{order}</p>{action}{back}")


def _document(lang: str, words: dict[str, str], title: str, content: str) -> str:
    return (
        f'<!doctype html><html lang="{lang}"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{title}</title><style>{_CSS}</style></head>"
        f'<body><main><span class="mark">{words["mark"]}</span>{content}</main></body></html>'
    )
