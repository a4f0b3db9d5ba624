DROP INDEX CONCURRENTLY rides_one_per_key;
