-- Money at a merchant's own provider account: theirs already, so nobody pays it out (docs/decisions/0017).
ALTER TABLE ledger_account DROP CONSTRAINT ledger_account_purpose_check;
ALTER TABLE ledger_account ADD CONSTRAINT ledger_account_purpose_check CHECK (purpose IN (
    'provider_clearing', 'settlement_clearing', 'provider_fee', 'dispute_clearing', 'dispute_fee', 'bank_cash',
    'payout_clearing', 'suspense',
    'merchant_pending', 'merchant_available', 'merchant_reserved', 'merchant_disputed', 'merchant_in_transit',
    'merchant_fund_pending', 'merchant_debt', 'merchant_direct',
    'affiliate_payable', 'affiliate_debt', 'wallet', 'wallet_bonus', 'buyer_held', 'sale_clearing',
    'refund_clearing', 'tax_payable', 'lender_payable',
    'platform_commission', 'payout_fee', 'fx_spread', 'fx_liquidity', 'promo_expense', 'loss', 'rounding',
    'credit_receivable', 'credit_fee_deferred', 'credit_fee_income', 'credit_loss', 'note_receivable',
    'fund_clearing', 'fast_pool', 'fund_units_held', 'merchant_units', 'pool_units'));
