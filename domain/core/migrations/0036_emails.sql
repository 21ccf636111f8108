-- People move to another e-mail address: the links of a change, and what an account keeps of the address it left.

-- An order belongs to the account that held its address, proved, when it was placed or first after. `left_at` ends such
-- a time: what was placed with `email` until then stays with `account_id`, what comes later is the next holder's (E19).
-- `undone_at`: the change was taken back, so the address was never left. Writer: identity/emails.py.
CREATE TABLE address_left (
    no         BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account_id UUID NOT NULL REFERENCES account,
    email      VARCHAR(320) NOT NULL CHECK (email = lower(email)),
    left_at    TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    undone_at  TIMESTAMPTZ
);
CREATE INDEX address_left_email ON address_left (email, left_at) WHERE undone_at IS NULL;
CREATE INDEX address_left_account ON address_left (account_id) WHERE undone_at IS NULL;

-- email: to the new address; email_undo: to the one of before. `session_id` asked for the change and outlives it.
ALTER TABLE account_link
    ADD COLUMN session_id UUID,
    DROP CONSTRAINT account_link_kind_check,
    ADD CONSTRAINT account_link_kind_check CHECK (kind IN ('verify', 'reset', 'invitation', 'email', 'email_undo'));
