-- Four eyes, whole: what was asked can be declined or taken back, an approval may cool down before it holds, and who
-- approves has been who they are for a while. And the first thing that cools down: where a merchant's money goes.

ALTER TABLE approval
    -- Until then an approval changes nothing and can still be stopped; null: it held at once.
    ADD COLUMN usable_at   TIMESTAMPTZ,
    ADD COLUMN cool_down_s INTEGER NOT NULL DEFAULT 0 CHECK (cool_down_s >= 0),
    ADD COLUMN ended_by    UUID,
    ADD COLUMN ended_at    TIMESTAMPTZ,
    ADD COLUMN note        VARCHAR(200) NOT NULL DEFAULT '',
    DROP CONSTRAINT approval_state_check,
    ADD CONSTRAINT approval_state_check
        CHECK (state IN ('open', 'approved', 'declined', 'withdrawn', 'expired', 'stopped')),
    DROP CONSTRAINT approval_check1,
    ADD CONSTRAINT approval_approved_check
        CHECK ((state IN ('approved', 'stopped')) = (approved_by IS NOT NULL AND approved_at IS NOT NULL)),
    ADD CONSTRAINT approval_cooling_check
        CHECK ((usable_at IS NOT NULL) = (state IN ('approved', 'stopped') AND cool_down_s > 0)),
    ADD CONSTRAINT approval_stopped_check CHECK (state <> 'stopped' OR usable_at IS NOT NULL),
    ADD CONSTRAINT approval_ended_check
        CHECK ((state IN ('declined', 'withdrawn', 'expired', 'stopped')) = (ended_at IS NOT NULL)),
    ADD CONSTRAINT approval_ended_by_check
        CHECK ((state IN ('declined', 'withdrawn', 'stopped')) = (ended_by IS NOT NULL)),
    ADD CONSTRAINT approval_withdrawn_check CHECK (state <> 'withdrawn' OR ended_by = asked_by),
    ADD CONSTRAINT approval_declined_check CHECK (state <> 'declined' OR ended_by <> asked_by);
CREATE INDEX approval_cooling ON approval (usable_at) WHERE state = 'approved' AND usable_at IS NOT NULL;
CREATE INDEX approval_over ON approval (expires_at) WHERE state = 'open';

-- What was asked never changes; open → approved, declined, withdrawn, expired; approved → stopped while it cools down.
DROP TRIGGER approval_request ON approval;
CREATE TRIGGER approval_request BEFORE UPDATE ON approval FOR EACH ROW
    WHEN ((OLD.state, NEW.state) NOT IN (
              ('open', 'open'), ('open', 'approved'), ('open', 'declined'), ('open', 'withdrawn'),
              ('open', 'expired'), ('approved', 'stopped'))
          OR OLD.state = 'approved' AND (OLD.usable_at IS NULL
              OR (OLD.approved_by, OLD.approved_at, OLD.usable_at)
                 IS DISTINCT FROM (NEW.approved_by, NEW.approved_at, NEW.usable_at))
          OR (OLD.kind, OLD.subject_id, OLD.merchant_id, OLD.request_json, OLD.request_hash, OLD.asked_by, OLD.asked_at,
              OLD.expires_at, OLD.cool_down_s)
          IS DISTINCT FROM (NEW.kind, NEW.subject_id, NEW.merchant_id, NEW.request_json, NEW.request_hash, NEW.asked_by,
                            NEW.asked_at, NEW.expires_at, NEW.cool_down_s))
    EXECUTE FUNCTION refuse_change();

-- When the password, a second factor or the address last changed: the holder was told then, and approves nothing for a while.
ALTER TABLE account ADD COLUMN credentials_changed_at TIMESTAMPTZ;

-- Where a merchant's money may be sent. Its details are sealed and never read again by people, `masked` is what they
-- see; `fingerprint` is keyed and tells whether two are the same. Writer: payouts/methods.py.
CREATE TABLE payout_method (
    merchant_id    UUID NOT NULL REFERENCES merchant,
    id             UUID NOT NULL,
    kind           VARCHAR(32) NOT NULL CHECK (kind IN ('iban', 'us_bank', 'cn_card', 'trc20', 'erc20')),
    ccy            VARCHAR(12) NOT NULL,
    state          VARCHAR(32) NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'cooling', 'usable', 'removed')),
    masked         VARCHAR(64) NOT NULL,
    details_cipher BYTEA NOT NULL,
    key_version    SMALLINT NOT NULL,
    fingerprint    BYTEA NOT NULL CHECK (octet_length(fingerprint) = 16),
    replaces_id    UUID,
    changed_by     UUID NOT NULL,
    approved_by    UUID,
    version        INTEGER NOT NULL DEFAULT 1,
    created_at     TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    usable_at      TIMESTAMPTZ,
    removed_at     TIMESTAMPTZ,
    PRIMARY KEY (merchant_id, id),
    FOREIGN KEY (merchant_id, replaces_id) REFERENCES payout_method,
    CHECK (approved_by <> changed_by),
    CHECK (state NOT IN ('cooling', 'usable') OR approved_by IS NOT NULL AND usable_at IS NOT NULL),
    CHECK ((approved_by IS NULL) = (usable_at IS NULL)),
    CHECK ((state = 'removed') = (removed_at IS NOT NULL))
) WITH (fillfactor = 80);
-- The same account once per currency, and one successor at a time.
CREATE UNIQUE INDEX payout_method_once ON payout_method (merchant_id, ccy, fingerprint) WHERE state <> 'removed';
CREATE UNIQUE INDEX payout_method_successor ON payout_method (merchant_id, replaces_id)
    WHERE state IN ('pending', 'cooling');
CREATE INDEX payout_method_cooling ON payout_method (usable_at) WHERE state = 'cooling';

-- Where money goes never changes under its id, and a method only moves forward, whoever writes the SQL.
CREATE TRIGGER payout_method_guarded BEFORE UPDATE ON payout_method FOR EACH ROW
    WHEN ((OLD.state, NEW.state) NOT IN (
              ('pending', 'pending'), ('pending', 'cooling'), ('pending', 'removed'), ('cooling', 'usable'),
              ('cooling', 'removed'), ('usable', 'usable'), ('usable', 'removed'))
          OR (OLD.merchant_id, OLD.id, OLD.kind, OLD.ccy, OLD.masked, OLD.details_cipher, OLD.key_version,
              OLD.fingerprint, OLD.replaces_id, OLD.changed_by, OLD.created_at)
          IS DISTINCT FROM (NEW.merchant_id, NEW.id, NEW.kind, NEW.ccy, NEW.masked, NEW.details_cipher,
                            NEW.key_version, NEW.fingerprint, NEW.replaces_id, NEW.changed_by, NEW.created_at)
          OR OLD.state <> 'pending' AND (OLD.approved_by, OLD.usable_at)
             IS DISTINCT FROM (NEW.approved_by, NEW.usable_at))
    EXECUTE FUNCTION refuse_change();
CREATE TRIGGER payout_method_kept BEFORE DELETE ON payout_method FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER payout_method_no_truncate BEFORE TRUNCATE ON payout_method
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
