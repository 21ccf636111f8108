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
label{display:block;margin-top:20px}input{display:block;width:100%;margin-top:6px;padding:13px;
border-radius:10px;border:1px solid var(--line);background:var(--back);color:inherit;font:inherit;
letter-spacing:.2em}code{font-size:22px;letter-spacing:.2em;color:var(--ink)}
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
    "who": "Is it you?",
    "ask": "Your bank wants to be sure. Type the code below; a real bank would send it to your phone.",
    "code": "One-time code",
    "wrong": "That was not the code. Please try again.",
    "prove": "Confirm",
    "refuse": "It is not me",
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
        "who": "是您本人吗？",
        "ask": "您的银行需要核实身份。请输入下方的验证码；真实银行会将其发送到您的手机。",
        "code": "一次性验证码",
        "wrong": "验证码不正确，请重试。",
        "prove": "确认",
        "refuse": "不是本人",
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
        "who": "ご本人ですか？",
        "ask": "銀行がご本人確認を求めています。下のコードを入力してください。実際の銀行では携帯電話に届きます。",
        "code": "ワンタイムコード",
        "wrong": "コードが違います。もう一度入力してください。",
        "prove": "確認する",
        "refuse": "本人ではありません",
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
        "who": "¿Es usted?",
        "ask": "Su banco quiere asegurarse. Escriba el código de abajo; un banco real lo enviaría a su teléfono.",
        "code": "Código de un solo uso",
        "wrong": "Ese no era el código. Inténtelo de nuevo.",
        "prove": "Confirmar",
        "refuse": "No soy yo",
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


def ask(payment: Payment) -> str:
    """The challenge: the payer types the code that a real bank would have sent them, or refuses."""
    locale = payment.locale.partition("-")[0].lower()
    words = _WORDS.get(locale, _ENGLISH)
    amount = f"{wire.amount_text(payment.amount_minor, payment.currency)} {payment.currency}"
    here = f"/challenge/{payment.payment_id}"
    wrong = f'<p class="state" role="alert">{words["wrong"]}</p>' if payment.wrong_codes else ""
    form = (
        f'<form method="post" action="{here}/confirm"><label>{words["code"]}'
        '<input name="code" inputmode="numeric" autocomplete="one-time-code" maxlength="12" required>'
        f'</label><button class="go">{words["prove"]}</button></form>'
        f'<form method="post" action="{here}/refuse"><button class="bad">{words["refuse"]}</button></form>'
    )
    content = (
        f"<h1>{amount}</h1><p>{words['order']} {escape(payment.order_number)}</p>"
        f"<p>{words['ask']}</p><p><code>{payment.challenge_code}</code></p>{wrong}{form}"
    )
    return _document(locale if locale in _WORDS else "en", words, words["who"], content)


def _document(lang: str, words: dict[str, str], title: str, content: str) -> str:
    return (
        f'<!doctype html><html lang="{lang}"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{title}</title><style>{_CSS}</style></head>"
        f'<body><main><span class="mark">{words["mark"]}</span>{content}</main></body></html>'
    )
