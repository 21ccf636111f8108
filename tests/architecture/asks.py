"""How every root field is asked for the role × field matrix: a new one needs a line here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from domain.core import clock
from domain.core.events import Place
from resolvers.following import cursor_of
from tests.architecture.world import IMPORT_KEY, PASSWORD, Caller, World

Arguments = Callable[[World, Caller], dict[str, Any]]
PRICE = {"prices": [{"amount": "10.50", "currency": "USD"}]}
RENAMED = {"names": [{"language": "en", "text": "Another"}]}

# How each root field is asked. After a space: which kind of node, or which case.
QUERIES: Mapping[str, Arguments] = {
    "Query.bulkJobs": lambda w, c: {"merchantId": w.merchant, "first": 5},
    "Query.node blk": lambda w, c: {"id": w.job},
    "Query.approvals": lambda w, c: {"first": 5},
    "Query.approvals merchant": lambda w, c: {"merchantId": w.merchant, "first": 5},
    "Query.securityAlerts": lambda w, c: {"first": 5},
    "Query.securityAlerts merchant": lambda w, c: {"merchantId": w.merchant, "first": 5},
    "Query.providerAccountKinds": lambda w, c: {},
    "Query.providerAccounts": lambda w, c: {"merchantId": w.merchant},
    "Query.payoutMethods": lambda w, c: {"merchantId": w.merchant},
    "Query.goodReports": lambda w, c: {"first": 5},
    "Query.merchantCoupons": lambda w, c: {"merchantId": w.merchant, "first": 5},
    "Query.merchantProduct": lambda w, c: {"id": w.product},
    "Query.merchantProducts": lambda w, c: {"merchantId": w.merchant, "first": 2},
    "Query.stockLots": lambda w, c: {"variantId": w.variant, "first": 2},
    "Query.merchant": lambda w, c: {"id": w.merchant},
    "Query.node mer": lambda w, c: {"id": w.merchant},
    "Query.node cpn": lambda w, c: {"id": w.coupon},
    "Query.cardImport": lambda w, c: {"key": IMPORT_KEY},
    "Query.market": lambda w, c: {"country": "HK"},
    "Query.merchantBalances": lambda w, c: {"merchantId": w.merchant},
    "Query.merchantStatement": lambda w, c: {
        "merchantId": w.merchant,
        "purpose": "merchant_available",
        "currency": "USD",
    },
    "Query.merchantWebhookEndpoints": lambda w, c: {"merchantId": w.merchant},
    "Query.node whe": lambda w, c: {"id": w.endpoint},
    "Query.node whd": lambda w, c: {"id": w.delivery},
    "Query.moneyExceptions": lambda w, c: {"first": 5},
    "Query.order": lambda w, c: {"id": w.order, "accessKey": c.access_key},
    "Query.order unpaid": lambda w, c: {
        "id": w.unpaid,
        "accessKey": w.unpaid_key if c.name == "buyer" else c.access_key,
    },
    "Query.orders": lambda w, c: {"merchantId": w.merchant, "first": 4},
    "Query.shop": lambda w, c: {"handle": w.shop.handle},
    "Query.viewer": lambda w, c: {},
    "Query.mfa": lambda w, c: {},
    "Query.goodsExports": lambda w, c: {"merchantId": w.merchant, "first": 5},
    "Query.auditLog": lambda w, c: {"merchantId": w.merchant, "first": 100},
    "Query.apps": lambda w, c: {"merchantId": w.merchant},
    "Query.appGrants": lambda w, c: {"merchantId": w.merchant, "first": 5},
    "Query.node app": lambda w, c: {"id": w.app},
    "Query.nodes ord imp": lambda w, c: {"ids": [w.order, w.card_import]},
    "Query.node ord": lambda w, c: {"id": w.order},
    "Query.node imp": lambda w, c: {"id": w.card_import},
    "Query.node shp": lambda w, c: {"id": w.shop_id},
    "Query.node prd": lambda w, c: {"id": w.product},
    "Query.node var": lambda w, c: {"id": w.variant},
    "Subscription.merchantEvents": lambda w, c: {
        "merchantId": w.merchant,
        "after": cursor_of(w.shop.merchant_id, Place(0, 0, 0), clock.now()),
    },
    "Subscription.orderEvents": lambda w, c: {"orderId": w.order, "accessKey": c.access_key},
}
# Each is asked for something that its own rules refuse after the right was looked at, so that nothing changes.
MUTATIONS: Mapping[str, Arguments] = {
    "Mutation.bulkExport": lambda w, c: {"merchantId": w.merchant, "query": "{ viewer { email } }"},
    "Mutation.bulkImport": lambda w, c: {
        "merchantId": w.merchant,
        "mutation": "mutation { signOut { ended } }",
        "uploadId": "upl_?",
    },
    "Mutation.cancelBulkJob": lambda w, c: {"jobId": "blk_?"},
    "Mutation.approveManualPayment": lambda w, c: {"approvalId": w.approval, "requestHash": "00"},
    "Mutation.acknowledgeAlert": lambda w, c: {"alertId": w.alert, "note": ""},
    "Mutation.plantHoneyKeys": lambda w, c: {"lotId": w.lot, "count": 0},
    "Mutation.traceKey": lambda w, c: {"merchantId": w.merchant, "content": ""},
    "Mutation.proposeProviderAccount": lambda w, c: {
        "merchantId": w.merchant,
        "provider": "?",
        "fields": [],
    },
    "Mutation.proposeProviderAccountRemoval": lambda w, c: {
        "providerAccountId": w.provider_account,
        "expectedVersion": 99,
    },
    "Mutation.approveChange": lambda w, c: {"approvalId": w.change, "requestHash": "00"},
    "Mutation.declineApproval": lambda w, c: {"approvalId": w.change, "note": "x" * 201},
    "Mutation.proposePayoutMethod": lambda w, c: {
        "merchantId": w.merchant,
        "kind": "IBAN",
        "currency": "EUR",
        "account": "?",
    },
    "Mutation.proposePayoutMethodRemoval": lambda w, c: {
        "payoutMethodId": w.payout_method,
        "expectedVersion": 99,
    },
    "Mutation.approveManualRefund": lambda w, c: {"approvalId": w.approval, "requestHash": "00"},
    "Mutation.proposeManualRefund": lambda w, c: {
        "orderId": w.order,
        "amount": {"amount": "1.00", "currency": "EUR"},
        "reason": "bank",
        "evidence": "line 9",
    },
    "Mutation.signUp": lambda w, c: {"email": "?", "password": PASSWORD},
    "Mutation.verifyEmail": lambda w, c: {"token": "?", "password": PASSWORD},
    "Mutation.requestPasswordReset": lambda w, c: {"email": "?"},
    "Mutation.resetPassword": lambda w, c: {"token": "?", "newPassword": PASSWORD},
    "Mutation.changePassword": lambda w, c: {"currentPassword": "?", "newPassword": PASSWORD},
    "Mutation.changeEmail": lambda w, c: {"email": "?", "password": PASSWORD},
    "Mutation.confirmEmail": lambda w, c: {"token": "?", "password": PASSWORD},
    "Mutation.undoEmailChange": lambda w, c: {"token": "?", "newPassword": PASSWORD},
    "Mutation.revokeSession": lambda w, c: {"id": "ses_?"},
    "Mutation.forgetDevices": lambda w, c: {},
    "Mutation.revokeOtherSessions": lambda w, c: {},  # everybody has one
    "Mutation.proposeGoodsExport": lambda w, c: {
        "variantId": w.variant,
        "count": 0,
        "reason": "",
    },
    "Mutation.approveGoodsExport": lambda w, c: {"approvalId": w.approval, "requestHash": "00"},
    "Mutation.enrolMfa": lambda w, c: {"password": "?"},
    "Mutation.confirmMfa": lambda w, c: {"code": "?"},
    "Mutation.verifyMfa": lambda w, c: {"code": "?"},
    "Mutation.disableMfa": lambda w, c: {},
    "Mutation.renewRecoveryCodes": lambda w, c: {},
    "Mutation.completeSignIn": lambda w, c: {"signInToken": "?", "code": "000000"},
    "Mutation.signInWithPasskey": lambda w, c: {"passkey": {}},
    "Mutation.startPasskey": lambda w, c: {"signInToken": "?"},
    "Mutation.verifyPasskey": lambda w, c: {"passkey": {}},
    "Mutation.startPasskeyRegistration": lambda w, c: {"password": "?"},
    "Mutation.finishPasskeyRegistration": lambda w, c: {"credential": {}, "name": "key"},
    "Mutation.removePasskey": lambda w, c: {"id": "pky_?"},
    "Mutation.inviteMember": lambda w, c: {
        "merchantId": w.merchant,
        "email": "?",
        "role": "OWNER",
    },
    "Mutation.withdrawInvitation": lambda w, c: {"merchantId": w.merchant, "invitationId": "inv_?"},
    "Mutation.acceptInvitation": lambda w, c: {"token": "?"},
    "Mutation.changeMemberRole": lambda w, c: {
        "merchantId": w.merchant,
        "accountId": "acc_?",
        "role": "OWNER",
    },
    "Mutation.removeMember": lambda w, c: {"merchantId": w.merchant, "accountId": "acc_?"},
    "Mutation.deliverGoods": lambda w, c: {
        "orderId": w.order,
        "lineId": w.line,
        "contents": ["late"],
    },
    "Mutation.importCards": lambda w, c: {
        "variantId": w.variant,
        "text": "CARD-1",
    },
    "Mutation.pay": lambda w, c: {
        "orderId": w.order,
        "accessKey": c.access_key or "none",
        "method": "sandbox",
    },
    "Mutation.proposeManualPayment": lambda w, c: {
        "orderId": w.order,
        "reason": "bank",
        "evidence": "line 8",
    },
    "Mutation.requestRefund": lambda w, c: {
        "orderId": w.order,
        "amount": {"amount": "9999.00", "currency": "USD"},
    },
    "Mutation.reviewHeldOrder": lambda w, c: {
        "orderId": w.order,
        "verdict": "RELEASE",
        "reason": "looked",
    },
    "Mutation.signIn": lambda w, c: {"email": f"{c.name}@nobody.test", "password": "wrong"},
    "Mutation.startCheckout": lambda w, c: {
        "shop": "no-such-shop",
        "lines": [],
        "contact": {"email": "b@example.com"},
    },
    "Mutation.buyAgain": lambda w, c: {
        "orderId": w.order,
        "accessKey": c.access_key or "none",
        "savedMethodId": w.saved,
    },
    "Mutation.forgetMethod": lambda w, c: {
        "orderId": w.order,
        "accessKey": c.access_key or "none",
        "savedMethodId": w.saved,
    },
    "Mutation.reportGood": lambda w, c: {
        "orderId": w.order,
        "accessKey": c.access_key or "none",
        "lineId": w.line,
        "reason": "again",
    },
    "Mutation.closeMoneyException": lambda w, c: {
        "id": w.exception,
        "verdict": "RESOLVED",
        "note": "",
    },
    "Mutation.replaceGood": lambda w, c: {"reportId": w.report, "verdict": "CONFIRM", "note": ""},
    "Mutation.createShop": lambda w, c: {"merchantId": w.merchant, "handle": "?", "names": []},
    "Mutation.updateShop": lambda w, c: {"shopId": w.shop_id, "expectedVersion": 99, **RENAMED},
    "Mutation.createProduct": lambda w, c: {"shopId": w.shop_id, "texts": []},
    "Mutation.updateProduct": lambda w, c: {
        "productId": w.product,
        "expectedVersion": 99,
        "state": "HIDDEN",
    },
    "Mutation.createVariant": lambda w, c: {
        "productId": w.product,
        "titles": [],
        "delivery": "STOCK",
        "prices": [],
    },
    "Mutation.updateVariant": lambda w, c: {
        "variantId": w.variant,
        "expectedVersion": 99,
        "state": "HIDDEN",
    },
    "Mutation.setPrices": lambda w, c: {"variantId": w.variant, "expectedVersion": 99, **PRICE},
    "Mutation.updatePrices": lambda w, c: {
        "merchantId": w.merchant,
        "errorPolicy": "SKIP_BAD",
        "rows": [{"variantId": w.variant, "expectedVersion": 99, **PRICE}],
    },
    "Mutation.setReusableContent": lambda w, c: {
        "variantId": w.variant,
        "expectedVersion": 99,
        "content": "https://example.com",
    },
    "Mutation.createCoupon": lambda w, c: {
        "merchantId": w.merchant,
        "code": "?",
        "kind": "PERCENT",
    },
    "Mutation.updateCoupon": lambda w, c: {
        "couponId": w.coupon,
        "expectedVersion": 99,
        "useLimit": 1,
    },
    "Mutation.endCoupon": lambda w, c: {"couponId": w.coupon, "expectedVersion": 99},
    "Mutation.createWebhookEndpoint": lambda w, c: {"merchantId": w.merchant, "url": "?"},
    "Mutation.updateWebhookEndpoint": lambda w, c: {
        "endpointId": w.endpoint,
        "expectedVersion": 99,
    },
    "Mutation.rotateWebhookSecret": lambda w, c: {"endpointId": w.endpoint, "expectedVersion": 99},
    "Mutation.deleteWebhookEndpoint": lambda w, c: {
        "endpointId": w.endpoint,
        "expectedVersion": 99,
    },
    "Mutation.webhookTest": lambda w, c: {"endpointId": w.endpoint},  # nobody carries it here
    "Mutation.webhookDryRun": lambda w, c: {"orderId": w.order, "sequence": 1, "selection": "?"},
    "Mutation.redeliverWebhook": lambda w, c: {"endpointId": w.endpoint, "deliveryId": "whd_?"},
    "Mutation.createApp": lambda w, c: {
        "merchantId": w.merchant,
        "manifest": {"name": "", "scopes": []},
    },
    "Mutation.updateApp": lambda w, c: {
        "appId": w.app,
        "expectedVersion": 99,
        "manifest": {
            "name": "Till",
            "scopes": ["orders:read"],
            "redirectUris": ["https://till.example/cb"],
        },
    },
    "Mutation.rotateAppSecret": lambda w, c: {"appId": w.app},
    "Mutation.registerAppDocuments": lambda w, c: {"appId": w.app, "documents": []},
    "Mutation.removeAppDocuments": lambda w, c: {"appId": w.app, "ids": []},
    "Mutation.deleteApp": lambda w, c: {"appId": w.gone},
    "Mutation.grantApp": lambda w, c: {"appId": w.app, "scopes": ["everything"]},
    "Mutation.revokeAppGrant": lambda w, c: {"grantId": w.ended},
    "Mutation.withdrawCards": lambda w, c: {"lotId": w.lot, "count": 1, "reason": ""},
    "Mutation.restoreCards": lambda w, c: {"lotId": w.lot, "count": 1, "reason": ""},
}
SIGN_OUT = "Mutation.signOut"  # would end the caller's session; Unauthenticated is its only refusal
