-- Replaced by rides_newest_idx, which the version before uses as well.
DROP INDEX CONCURRENTLY rides_page_idx;
