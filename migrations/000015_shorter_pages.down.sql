CREATE INDEX CONCURRENTLY rides_page_idx ON rides (account_id COLLATE "C", created_at DESC, id COLLATE "C" DESC);
