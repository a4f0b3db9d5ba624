-- GET /v1/rides: newest first. It takes the place of rides_newest_idx, and has
-- the collation for the same reason as rides_one_per_key: only the statement
-- that asks for a page says account_id COLLATE "C" = $1.
CREATE INDEX CONCURRENTLY rides_page_idx ON rides (account_id COLLATE "C", created_at DESC, id COLLATE "C" DESC);
