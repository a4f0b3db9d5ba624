-- One ride per key, also after the key's tombstone is gone: it refuses a second
-- life of the key. It takes the place of rides_account_id_key_key.
--
-- Nothing is ever looked up by it, because a ride's id is that of its key. The
-- collation says so: with it, account_id = $1 doesn't match the index, and a
-- statement that names a ride by account and id can only use the primary key.
-- Otherwise Postgres may think that an account has one ride, find both indexes
-- equally good, and walk all rides of the account. What is equal in one
-- collation is equal in the other.
CREATE UNIQUE INDEX CONCURRENTLY rides_one_per_key ON rides (account_id COLLATE "C", key COLLATE "C");
