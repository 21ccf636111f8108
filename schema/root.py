"""The whole contract: every noun adds its Query, Mutation and Subscription parts here."""

from schema.alarms import AlarmMutation, AlarmQuery
from schema.app_documents import AppDocumentMutation
from schema.approvals import ApprovalMutation, ApprovalQuery
from schema.audit import AuditQuery
from schema.build import build
from schema.bulk import BulkMutation, BulkQuery
from schema.catalogue import CatalogueMutation, CatalogueQuery
from schema.checkout import CheckoutMutation
from schema.claims import ClaimMutation, ClaimQuery
from schema.coupons import CouponMutation, CouponQuery
from schema.delivery import DeliveryMutation
from schema.emails import EmailMutation
from schema.exceptions import ExceptionMutation, ExceptionQuery
from schema.exports import ExportMutation, ExportQuery
from schema.manual import ManualMutation
from schema.markets import MarketQuery
from schema.members import MemberMutation, MemberQuery
from schema.merchants import MerchantQuery
from schema.mfa import MfaMutation, MfaQuery
from schema.node import NodeQuery
from schema.orders import OrderMutation, OrderQuery, OrderSubscription
from schema.partners import PartnerMutation, PartnerQuery
from schema.payouts import PayoutMutation, PayoutQuery
from schema.people import PeopleMutation, PeopleQuery
from schema.prices import PriceMutation
from schema.products import ProductMutation, ProductQuery
from schema.provider_accounts import ProviderAccountMutation, ProviderAccountQuery
from schema.shops import ShopMutation
from schema.stock import StockMutation, StockQuery
from schema.webhooks import WebhookMutation, WebhookQuery

QUERIES: list[type] = [
    AlarmQuery,
    ApprovalQuery,
    AuditQuery,
    BulkQuery,
    CatalogueQuery,
    CouponQuery,
    ClaimQuery,
    ExceptionQuery,
    ExportQuery,
    NodeQuery,
    MarketQuery,
    MemberQuery,
    MerchantQuery,
    MfaQuery,
    OrderQuery,
    PartnerQuery,
    PayoutQuery,
    ProviderAccountQuery,
    PeopleQuery,
    ProductQuery,
    StockQuery,
    WebhookQuery,
]
MUTATIONS: list[type] = [
    AlarmMutation,
    AppDocumentMutation,
    ApprovalMutation,
    BulkMutation,
    CatalogueMutation,
    ClaimMutation,
    DeliveryMutation,
    ExceptionMutation,
    CheckoutMutation,
    CouponMutation,
    EmailMutation,
    ExportMutation,
    ManualMutation,
    MfaMutation,
    OrderMutation,
    MemberMutation,
    PartnerMutation,
    PayoutMutation,
    ProviderAccountMutation,
    PeopleMutation,
    PriceMutation,
    ProductMutation,
    ShopMutation,
    StockMutation,
    WebhookMutation,
]
SUBSCRIPTIONS: list[type] = [OrderSubscription]

schema = build(QUERIES, MUTATIONS, SUBSCRIPTIONS)
