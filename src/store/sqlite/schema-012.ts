// Migration 12: ACME accounts that anybody can have are counted, and go again, as long as they have no certificate. `waiting_of` is the
// registration of such an account; the first intent takes the account out of the index. What goes is found by all of its keys.

export const schema012 = `
ALTER TABLE acme_account ADD COLUMN waiting_of INTEGER;
UPDATE acme_account SET waiting_of = (SELECT registration_id FROM instance i WHERE i.seq = acme_account.instance)
  WHERE kid IS NULL AND NOT EXISTS (SELECT 1 FROM certificate c WHERE c.instance = acme_account.instance);
CREATE INDEX acme_account_waiting ON acme_account(waiting_of, created_at) WHERE waiting_of IS NOT NULL;
CREATE INDEX acme_key_account ON acme_key(account);
`
