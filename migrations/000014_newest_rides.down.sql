DROP INDEX CONCURRENTLY rides_newest_idx;
