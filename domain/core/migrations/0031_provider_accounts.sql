-- A merchant's own account at a payment provider, and the credentials it is reached with, one row per version of them.

-- `account` is our name of it, in callback addresses, attempts and the books; it stays while `identity`, the provider's
-- own name of the account, does. What is not secret is in `shown_json`, the rest sealed and never read by people again.
-- pending → active → retired (its newest row still refunds and hears), pending → removed. Writer: payments/credentials.py.
CREATE TABLE provider_credential (
    merchant_id UUID NOT NULL REFERENCES merchant,
    id          UUID NOT NULL,
    provider    VARCHAR(32) NOT NULL,
    account     VARCHAR(64) NOT NULL CHECK (account ~ '^[0-9a-z]{26}$'),
    identity    VARCHAR(120) NOT NULL,
    state       VARCHAR(32) NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'active', 'retired', 'removed')),
    shown_json  JSONB NOT NULL,
    cipher      BYTEA NOT NULL,
    key_version SMALLINT NOT NULL,
    fingerprint BYTEA NOT NULL CHECK (octet_length(fingerprint) = 16),
    changed_by  UUID NOT NULL,
    approved_by UUID,
    version     INTEGER NOT NULL DEFAULT 1,
    created_at  TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    active_at   TIMESTAMPTZ,
    ended_at    TIMESTAMPTZ,
    PRIMARY KEY (merchant_id, id),
    CHECK (approved_by <> changed_by),
    CHECK ((active_at IS NULL) = (approved_by IS NULL)),
    CHECK ((state IN ('active', 'retired')) = (active_at IS NOT NULL)),
    CHECK ((state IN ('retired', 'removed')) = (ended_at IS NOT NULL))
) WITH (fillfactor = 80);
CREATE UNIQUE INDEX provider_credential_one ON provider_credential (merchant_id, provider) WHERE state = 'active';
CREATE UNIQUE INDEX provider_credential_asked ON provider_credential (merchant_id, provider) WHERE state = 'pending';
CREATE INDEX provider_credential_account ON provider_credential (provider, account);
CREATE TRIGGER provider_credential_guarded BEFORE UPDATE ON provider_credential FOR EACH ROW
    WHEN ((OLD.state, NEW.state) NOT IN (
              ('pending', 'active'), ('pending', 'removed'), ('active', 'active'), ('active', 'retired'))
          OR (OLD.merchant_id, OLD.id, OLD.provider, OLD.account, OLD.identity, OLD.shown_json, OLD.cipher,
              OLD.key_version, OLD.fingerprint, OLD.changed_by, OLD.created_at)
          IS DISTINCT FROM (NEW.merchant_id, NEW.id, NEW.provider, NEW.account, NEW.identity, NEW.shown_json,
                            NEW.cipher, NEW.key_version, NEW.fingerprint, NEW.changed_by, NEW.created_at))
    EXECUTE FUNCTION refuse_change();
CREATE TRIGGER provider_credential_kept BEFORE DELETE ON provider_credential
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER provider_credential_no_truncate BEFORE TRUNCATE ON provider_credential
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
