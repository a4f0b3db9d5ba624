-- GET /v1/rides: newest first. It takes the place of rides_page_idx, of which it
-- has all but the id: rides with the same time, which are those of one
-- transaction and at most some dozens, are sorted when they are read. An entry
-- is half as long. The collation is there for the same reason as that of
-- rides_one_per_key.
CREATE INDEX CONCURRENTLY rides_newest_idx ON rides (account_id COLLATE "C", created_at);
